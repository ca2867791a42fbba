//! Unpacks the tray's icons, which are PNGs in the repository and bare pixels in the program, and lets Tauri prepare itself.

use std::{env, fmt::Write as _, fs::File, io::BufReader, path::Path};

use anyhow::{Context as _, Result, ensure};

const FACES: [&str; 18] = [
    "away",
    "failed",
    "idle",
    "prompt",
    "running",
    "starting",
    "stopped",
    "stopping",
    "suspended",
    "suspended-1",
    "suspended-2",
    "suspended-3",
    "suspended-4",
    "suspended-5",
    "suspended-6",
    "suspended-7",
    "suspended-8",
    "suspended-9",
];
/// In pixels: panels ask for 16 to 24, at twice the density for 32 and 48.
const SIZES: [u32; 5] = [16, 22, 24, 32, 48];

fn main() -> Result<()> {
    let out = env::var("OUT_DIR")?;
    let mut table = String::from("static PIXMAPS: &[Pixmaps] = &[\n");
    for face in FACES {
        write!(table, "    ({face:?}, &[")?;
        for size in SIZES {
            let rgba = Path::new(&out).join(format!("{face}-{size}.rgba"));
            fs_err::write(&rgba, pixels(&format!("icons/tray/{face}-{size}.png"), size)?)?;
            write!(table, "({size}, include_bytes!({rgba:?})), ")?;
        }
        table.push_str("]),\n");
    }
    table.push_str("];\n");
    fs_err::write(Path::new(&out).join("pixmaps.rs"), table)?;

    println!("cargo:rerun-if-changed=icons/tray");
    println!("cargo:rerun-if-changed=src-tauri/capabilities");
    // Embedded by `generate_context!`, which leaves no trace for cargo where a file is new.
    println!("cargo:rerun-if-changed=ui/dist");
    tauri_build::try_build(tauri_build::Attributes::new().capabilities_path_pattern("src-tauri/capabilities/**/*"))
}

/// The red, green, blue and alpha bytes of a square PNG.
fn pixels(path: &str, size: u32) -> Result<Vec<u8>> {
    let mut decoder = png::Decoder::new(BufReader::new(File::open(path).with_context(|| path.to_owned())?));
    decoder.set_transformations(png::Transformations::ALPHA | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info()?;
    let mut buffer = vec![0; reader.output_buffer_size().context("an image of no size")?];
    let info = reader.next_frame(&mut buffer)?;
    ensure!((info.width, info.height) == (size, size), "{path} is not {size} pixels wide and high");
    ensure!(info.color_type == png::ColorType::Rgba, "{path} has no colours");
    buffer.truncate(info.buffer_size());
    Ok(buffer)
}
