//! Pictures of the whole screen and of the window, kept to be looked at.

use std::{io::Cursor, path::PathBuf};

use anyhow::{Context as _, Result};
use overside_testkit::run;

use crate::{Desk, SOON};

impl Desk {
    /// Saves what the screen shows as `screenshots/NAME.png` in the target directory, once it shows a colour.
    ///
    /// # Errors
    /// It does not, or `import` (ImageMagick) is missing.
    pub fn picture(&self, name: &str, colour: [u8; 3]) -> Result<PathBuf> {
        let screen = || -> Result<Vec<u8>> {
            let mut import = self.home().command("import");
            Ok(run(import.args(["-window", "root", "png:-"]), SOON)?.success()?.stdout)
        };
        self.wait_until(&format!("the screen shows {colour:?}"), || has(&screen()?, colour))?;
        save(name, &screen()?)
    }
}

/// Writes a picture among the screenshots.
pub(crate) fn save(name: &str, png: &[u8]) -> Result<PathBuf> {
    // target/<profile>/deps/<test>
    let test = std::env::current_exe()?;
    let place = test.ancestors().nth(3).context("a test lies outside a target directory")?.join("screenshots");
    fs_err::create_dir_all(&place)?;
    let file = place.join(format!("{name}.png"));
    fs_err::write(&file, png)?;
    Ok(file)
}

/// Whether a picture has a pixel of a colour.
fn has(png: &[u8], colour: [u8; 3]) -> Result<bool> {
    let mut decoder = png::Decoder::new(Cursor::new(png));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().context("a picture of no size")?];
    let info = reader.next_frame(&mut pixels)?;
    let samples = info.color_type.samples();
    Ok(samples >= 3 && pixels.chunks_exact(samples).any(|pixel| pixel.starts_with(&colour)))
}
