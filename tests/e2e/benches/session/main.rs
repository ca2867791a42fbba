//! Measurements of the whole chain, for `cargo xtask bench`: prints one Markdown section.

mod cold_start;
mod far;
mod footprint;
mod mounts;
mod ports;
mod table;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    // Cargo adds an argument of its own.
    match std::env::args().skip(1).find(|argument| argument != "--bench").as_deref() {
        Some("cold-start") => cold_start::measure(),
        Some("far") => far::measure(),
        Some("footprint") => footprint::measure(),
        Some("mounts") => mounts::measure(),
        Some("ports") => ports::measure(),
        other => bail!("{other:?} cannot be measured; there are cold-start, far, footprint, mounts and ports"),
    }
}
