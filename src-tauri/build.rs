//! Unpacks the tray's icons, which are PNGs in the repository and bare pixels in the program, and lets Tauri prepare itself.

use std::{env, fmt::Write as _, fs::File, io::BufReader, path::Path};

use anyhow::{Context as _, Result, ensure};

/// In pixels: panels ask for 16 to 24, at twice the density for 32 and 48.
const SIZES: [u32; 5] = [16, 22, 24, 32, 48];

fn main() -> Result<()> {
    let out = env::var("OUT_DIR")?;
    let mut table = String::from("static PIXMAPS: &[Pixmaps] = &[\n");
    for face in faces()? {
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

/// The names in icons/tray, in their order: each has a file in every size.
fn faces() -> Result<Vec<String>> {
    let smallest = format!("-{}.png", SIZES[0]);
    let mut faces = Vec::new();
    for file in fs_err::read_dir("icons/tray")? {
        faces.extend(file?.file_name().to_str().and_then(|name| name.strip_suffix(&smallest)).map(str::to_owned));
    }
    faces.sort();
    Ok(faces)
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
