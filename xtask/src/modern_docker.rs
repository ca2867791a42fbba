//! A second, newer Docker for the tests: client, buildx, Compose and engine from Debian sid, unpacked into our cache.
//!
//! Nothing of it is installed: apt gets lists and a cache of its own, and `dpkg -x` only unpacks. The programs need no
//! more than the C library of Debian 12; runc and tini would, so the machine's are used.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{command, workspace};

const PACKAGES: &[&str] = &["docker.io", "docker-cli", "docker-buildx", "docker-compose", "containerd"];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Programs, relative to where the packages are unpacked.
const PROGRAMS: &[&str] = &[
    "usr/sbin/dockerd",
    "usr/sbin/docker-proxy",
    "usr/bin/docker",
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/bin/ctr",
];

/// The directory that holds `bin/` and `config/cli-plugins/`; fetched once, and named by the client's version.
pub(crate) fn ensure() -> Result<PathBuf> {
    let home = workspace::cache()?.join("modern-docker");
    if let Some(there) = newest(&home)? {
        return Ok(there);
    }
    fs_err::create_dir_all(&home)?;
    let fresh = tempfile::Builder::new().prefix(".fetching-").tempdir_in(&home)?;
    unpack(fresh.path())?;
    let output = command::capture(Command::new(fresh.path().join("bin/docker")).arg("--version"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .strip_prefix("Docker version ")
        .and_then(|rest| rest.split([',', '+']).next())
        .with_context(|| format!("the fetched docker says {text:?}"))?;
    let place = home.join(version);
    fs_err::rename(fresh.keep(), &place)?;
    Ok(place)
}

fn newest(home: &Path) -> Result<Option<PathBuf>> {
    if !home.is_dir() {
        return Ok(None);
    }
    let entries = fs_err::read_dir(home)?.collect::<std::io::Result<Vec<_>>>()?;
    let complete = entries.iter().map(|entry| entry.path()).filter(|path| path.join("bin/docker").exists());
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    Ok(complete.filter(|path| !hidden(path)).max())
}

fn unpack(place: &Path) -> Result<()> {
    let mirror = mirror()?;
    let apt = place.join("apt");
    for directory in ["apt/lists/partial", "apt/cache/archives/partial", "debs", "root", "bin", "config/cli-plugins"] {
        fs_err::create_dir_all(place.join(directory))?;
    }
    fs_err::write(apt.join("sources.list"), format!("deb [signed-by={KEYRING}] {mirror} sid main\n"))?;
    let apt_get = || {
        let mut command = Command::new("apt-get");
        for (option, value) in [
            ("Dir::Etc::sourcelist", apt.join("sources.list").display().to_string()),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::State::Lists", apt.join("lists").display().to_string()),
            ("Dir::Cache", apt.join("cache").display().to_string()),
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".to_owned()),
        ] {
            command.arg("--option").arg(format!("{option}={value}"));
        }
        command.args(["--quiet", "--quiet"]).current_dir(place.join("debs"));
        command
    };
    command::capture(apt_get().arg("update"))?;
    command::capture(apt_get().arg("download").args(PACKAGES))?;
    for package in fs_err::read_dir(place.join("debs"))? {
        command::capture(Command::new("dpkg").arg("-x").arg(package?.path()).arg(place.join("root")))?;
    }
    for program in PROGRAMS {
        let name = Path::new(program).file_name().context("a program has no name")?;
        symlink(Path::new("../root").join(program), place.join("bin").join(name))
            .with_context(|| format!("cannot link {program}"))?;
    }
    for plugin in fs_err::read_dir(place.join("root/usr/libexec/docker/cli-plugins"))? {
        let plugin = plugin?;
        fs_err::copy(plugin.path(), place.join("config/cli-plugins").join(plugin.file_name()))?;
    }
    fs_err::remove_dir_all(place.join("debs"))?;
    fs_err::remove_dir_all(apt)?;
    Ok(())
}

/// The Debian mirror that this machine already uses.
pub(crate) fn mirror() -> Result<String> {
    if !Path::new(KEYRING).exists() {
        bail!("a newer Docker for the tests comes from Debian's archive, whose keyring this machine does not have");
    }
    let mut sources = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs_err::read_dir("/etc/apt/sources.list.d") {
        sources.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    sources.sort();
    sources
        .iter()
        .filter_map(|source| fs_err::read_to_string(source).ok())
        .find_map(|text| mirror_in(&text))
        .context("apt's sources on this machine name no Debian mirror")
}

/// The first address of a Debian archive in a sources file of either format.
fn mirror_in(text: &str) -> Option<String> {
    text.lines()
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .flat_map(str::split_whitespace)
        .find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_found_in_both_formats_of_sources() {
        let new = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n";
        let old = "# comment\ndeb [arch=amd64] https://mirror.example/debian/ bookworm main\n";
        assert_eq!(mirror_in(new).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(mirror_in(old).as_deref(), Some("https://mirror.example/debian/"));
    }

    #[test]
    fn another_archive_is_no_debian_mirror() {
        assert_eq!(mirror_in("deb https://packages.example/apt cloud main\nURIs: http://x.example/ubuntu/\n"), None);
    }
}
