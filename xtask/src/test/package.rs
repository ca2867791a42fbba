//! The packages, installed on a Debian that has nothing else: `tests/package`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use super::Session;
use crate::{command, modern_docker, package, workspace};

/// The Debian release that the package is to run on.
const RELEASE: &str = "bookworm";

impl Session<'_> {
    pub(super) fn package(&mut self) {
        let workspace = self.workspace;
        if let Err(error) = package::build_all(&mut self.steps, workspace) {
            return self.fault("packages", &error);
        }
        let debian = match self.steps.loud("clean Debian", clean_debian) {
            Ok(debian) => debian,
            Err(error) => return self.fault("clean Debian", &error),
        };
        let variables = [("OVERSIDE_TEST_DEBIAN", debian), ("OVERSIDE_TEST_PACKAGES", package::place(workspace))];
        self.tests("packages on a clean Debian", &["overside-package-tests"], &[], &variables);
    }
}

/// The directory of the packed root, which is made once, and of what apt fetches.
fn clean_debian() -> Result<PathBuf> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a package is installed by root only, also on a Debian of its own: run this part as root");
    }
    let place = workspace::cache()?.join(format!("debian-{RELEASE}"));
    let packed = place.join("root.tar");
    if !packed.exists() {
        fs_err::create_dir_all(&place)?;
        let fresh = place.join(".root.tar");
        pack(&fresh)?;
        fs_err::rename(fresh, packed)?;
    }
    Ok(place)
}

fn pack(file: &Path) -> Result<()> {
    let mut debian = Command::new("mmdebstrap");
    debian.args(["--variant=apt", "--quiet", "--format=tar", RELEASE]).arg(file).arg(modern_docker::mirror()?);
    command::capture(&mut debian).map(drop)
}
