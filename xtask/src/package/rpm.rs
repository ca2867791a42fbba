//! The package for Fedora, openSUSE and their kin, made by rpmbuild, which finds out by itself what the programs need.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{
    DESCRIPTION, NAME, Release, SUMMARY,
    tree::{Item, PROGRAM_DIRECTORY},
};
use crate::command;

/// As for Debian. Distributions have their own names for an engine.
const RECOMMENDED: &[&str] = &["(moby-engine or docker-ce or docker)", "iptables", "slirp4netns", "shadow-utils"];

/// The directories that only this package has.
const OWN_DIRECTORIES: &[&str] = &[PROGRAM_DIRECTORY, "usr/share/doc/overside", "usr/share/licenses/overside"];

/// Makes the package out of the tree that is laid out in `root`.
pub(super) fn build(release: &Release, items: &[Item], root: &Path, place: &Path) -> Result<PathBuf> {
    let work = tempfile::tempdir()?;
    let spec = work.path().join("overside.spec");
    fs_err::write(&spec, specification(release, items, root))?;
    let file = format!("{NAME}-{}-1.{}.rpm", release.version, std::env::consts::ARCH);
    let mut builder = Command::new("rpmbuild");
    builder.args(["-bb", "--quiet"]);
    for (name, value) in [
        ("_topdir", work.path().display().to_string()),
        ("_rpmdir", place.display().to_string()),
        ("_build_name_fmt", file.clone()),
        // What was built is packed as it is; debug information would be another package.
        ("__os_install_post", "%{nil}".to_owned()),
        ("debug_package", "%{nil}".to_owned()),
        ("_build_id_links", "none".to_owned()),
        ("_binary_payload", "w6.xzdio".to_owned()),
        // Says nothing about where it was made.
        ("_buildhost", "localhost".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
    ] {
        builder.arg("--define").arg(format!("{name} {value}"));
    }
    builder.envs(release.committed.iter().map(|seconds| ("SOURCE_DATE_EPOCH", seconds)));
    command::capture(builder.arg(&spec))?;
    Ok(place.join(file))
}

fn specification(release: &Release, items: &[Item], root: &Path) -> String {
    let mut spec =
        format!("Name: {NAME}\nVersion: {}\nRelease: 1\nSummary: {SUMMARY}\nLicense: Apache-2.0\n", release.version);
    // Writing to a string cannot fail.
    for name in RECOMMENDED {
        let _ = writeln!(spec, "Recommends: {name}");
    }
    let _ = writeln!(spec, "\n%description\n{}", DESCRIPTION.join("\n"));
    let _ = writeln!(
        spec,
        "\n%install\ncp --archive {}/. %{{buildroot}}\n\n%files\n%defattr(-, root, root)",
        root.display()
    );
    for directory in OWN_DIRECTORIES {
        let _ = writeln!(spec, "%dir /{directory}");
    }
    for item in items {
        let kind = match item.path.as_str() {
            path if path.starts_with("usr/share/licenses/") => "%license ",
            path if path.starts_with("usr/share/doc/") => "%doc ",
            _ => "",
        };
        let _ = writeln!(spec, "{kind}/{}", item.path);
    }
    spec
}
