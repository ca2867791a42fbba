//! The package for Debian and Ubuntu, made by dpkg's tools.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    DESCRIPTION, NAME, Release, SUMMARY,
    tree::{Content, Item},
};
use crate::command;

/// What environments on this machine are made of, and what shows the app's notifications and icon. Another machine's
/// environments need none of it.
const RECOMMENDED: &str =
    "docker.io | docker-ce, docker-cli | docker-ce-cli | docker.io, iptables, pigz, slirp4netns, uidmap";

/// Makes the package out of the tree that is laid out in `root`.
pub(super) fn build(release: &Release, items: &[Item], root: &Path, place: &Path) -> Result<PathBuf> {
    let output = command::capture(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let control = control(&release.version, &architecture, &needed(items, root)?, size(items, root)?);
    let directory = root.join("DEBIAN");
    fs_err::create_dir_all(&directory)?;
    fs_err::write(directory.join("control"), control)?;
    let package = place.join(format!("{NAME}_{}_{architecture}.deb", release.version));
    let mut builder = Command::new("dpkg-deb");
    builder.args(["--root-owner-group", "-Zxz", "--build"]).arg(root).arg(&package);
    command::capture(builder.envs(release.committed.iter().map(|seconds| ("SOURCE_DATE_EPOCH", seconds))))?;
    Ok(package)
}

/// The libraries' packages that the programs need, as dpkg knows them.
fn needed(items: &[Item], root: &Path) -> Result<String> {
    // The tool wants to stand in a source package.
    let source = tempfile::tempdir()?;
    fs_err::create_dir(source.path().join("debian"))?;
    fs_err::write(
        source.path().join("debian/control"),
        format!("Source: {NAME}\n\nPackage: {NAME}\nArchitecture: any\n"),
    )?;
    let mut tool = Command::new("dpkg-shlibdeps");
    tool.arg("-O").current_dir(source.path());
    for item in items.iter().filter(|item| matches!(item.content, Content::Program(_))) {
        tool.arg(root.join(&item.path));
    }
    let output = command::capture(&mut tool)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.trim().strip_prefix("shlibs:Depends=").with_context(|| format!("dpkg-shlibdeps says {text:?}"))?.to_owned())
}

/// Of all files, in KiB.
fn size(items: &[Item], root: &Path) -> Result<u64> {
    items
        .iter()
        .try_fold(0, |sum, item| Ok(sum + fs_err::symlink_metadata(root.join(&item.path))?.len().div_ceil(1024)))
}

fn control(version: &str, architecture: &str, needed: &str, kib: u64) -> String {
    let line = |line: &&str| if line.is_empty() { " .".to_owned() } else { format!(" {line}") };
    let description = DESCRIPTION.iter().map(line).collect::<Vec<_>>().join("\n");
    format!(
        "Package: {NAME}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: The Overside developers\n\
         Section: admin\nPriority: optional\nInstalled-Size: {kib}\nDepends: {needed}\nRecommends: {RECOMMENDED}\n\
         Description: {SUMMARY}\n{description}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_has_the_form_that_dpkg_reads() {
        let text = control("0.1.0~rc.1", "amd64", "libc6", 7);
        let (_, description) = text.split_once("Description: ").unwrap();
        assert!(description.lines().skip(1).all(|line| line.starts_with(' ') && line.len() < 80), "{description}");
        assert!(description.contains("\n .\n"));
    }
}
