//! Debian packages: which are missing, and installing them in one call without starting a service.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{command, steps::Steps};

/// A package that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Package {
    /// Every supported release has it.
    Always(&'static str),
    /// Releases that do not have it have its content elsewhere.
    WhereKnown(&'static str),
}
use Package::{Always, WhereKnown};

/// What an environment on this machine is made of.
pub(crate) const RUNNER: &[Package] = &[
    Always("ca-certificates"),
    Always("docker.io"),
    WhereKnown("docker-cli"),
    Always("git"),
    Always("iproute2"),
    Always("iptables"),
    Always("pigz"),
    Always("procps"),
    Always("slirp4netns"),
    Always("tini"),
    Always("uidmap"),
    Always("xz-utils"),
];

/// What compiling needs. Rust itself is there, or this would not run.
pub(crate) const BUILD: &[Package] = &[Always("build-essential"), Always("pkg-config")];

/// What compiling and opening the desktop app needs.
pub(crate) const DESKTOP: &[Package] =
    &[Always("libayatana-appindicator3-dev"), Always("librsvg2-dev"), Always("libwebkit2gtk-4.1-dev")];

/// What the tests of the engine need.
pub(crate) const ENGINE_TESTS: &[Package] = &[
    Always("apache2-utils"),
    Always("bind9-dnsutils"),
    Always("busybox-static"),
    Always("dbus"),
    Always("dnsmasq-base"),
    Always("gnome-keyring"),
    Always("openssh-client"),
    Always("openssh-server"),
    Always("nghttp2-client"),
    Always("nginx-light"),
    Always("postgresql"),
    Always("python3"),
    Always("python3-websockets"),
    Always("redis-server"),
    Always("redis-tools"),
    Always("sudo"),
];

/// What the tests of the desktop app need. The font is for those who look at the screenshots in Chinese.
pub(crate) const DESKTOP_TESTS: &[Package] = &[
    Always("dbus"),
    Always("dbus-user-session"),
    Always("dunst"),
    Always("fonts-wqy-microhei"),
    Always("imagemagick"),
    Always("webkit2gtk-driver"),
    Always("xauth"),
    Always("xclip"),
    Always("xdotool"),
    Always("xfce4-notifyd"),
    Always("xfce4-panel"),
    Always("xvfb"),
];

/// What foreign clients are installed with.
pub(crate) const CONFORMANCE: &[Package] =
    &[Always("docker-registry"), Always("openssh-client"), Always("python3"), Always("python3-venv")];

/// What measures published ports.
pub(crate) const LOAD: &[Package] = &[Always("curl"), Always("wrk")];

/// What bind mounts are measured beside.
pub(crate) const COPIES: &[Package] = &[Always("rsync"), Always("inotify-tools")];

/// What mounts file systems that are not like Linux's.
pub(crate) const FILE_SYSTEMS: &[Package] = &[Always("exfat-fuse"), Always("exfatprogs"), Always("ntfs-3g")];

/// What builds agents for other kinds of machines.
pub(crate) const FOREIGN: &[Package] = &[Always("gcc-aarch64-linux-gnu"), Always("libc6-dev-arm64-cross")];

/// What runs them here.
pub(crate) const EMULATION: &[Package] = &[Always("qemu-user-static")];

/// What makes the packages, besides dpkg's own tools.
pub(crate) const PACKAGING: &[Package] = &[Always("dpkg-dev"), Always("rpm")];

/// What the packages are tried on.
pub(crate) const PACKAGE_TESTS: &[Package] = &[Always("debian-archive-keyring"), Always("mmdebstrap")];

/// What runs Windows programs, and links them.
pub(crate) const WINE: &[Package] = &[Always("gcc-mingw-w64-x86-64"), Always("wine64")];

/// The same with a compiler that is new enough and has the source of its standard library.
pub(crate) const WINE_AND_RUST: &[Package] = &[
    Always("cargo-web"),
    Always("gcc-mingw-w64-x86-64"),
    Always("rust-web-src"),
    Always("rustc-web"),
    Always("wine64"),
];

/// Services that some of these packages would start, now or at the next boot.
const SERVICES: &[(&str, &[&str])] = &[
    ("docker-registry", &["docker-registry.service"]),
    ("docker.io", &["docker.service", "docker.socket"]),
    ("gnome-keyring", &["gnome-keyring-daemon.service", "gnome-keyring-daemon.socket"]),
    ("openssh-server", &["ssh.service", "ssh.socket"]),
];

/// Installs what is missing, as one step. Asks for a password (through sudo) only then.
pub(crate) fn ensure(steps: &mut Steps, sets: &[&[Package]]) -> Result<()> {
    let wanted: Vec<Package> = sets.concat();
    let missing = missing(&wanted)?;
    if missing.is_empty() {
        return steps.quiet("Debian packages: all there", || Ok(()));
    }
    steps.loud(&format!("Debian packages: {}", missing.join(" ")), || install(&missing))
}

/// The packages that are not installed, of those that the machine's package lists know.
fn missing(wanted: &[Package]) -> Result<Vec<&'static str>> {
    if !command::works("dpkg-query", &["--version"]) {
        bail!("this machine has no dpkg; `cargo xtask` installs packages on Debian and Ubuntu only");
    }
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${binary:Package} ${db:Status-Status}\n"])
        .output()
        .context("cannot run dpkg-query")?;
    let installed = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_installed = |name: &str| {
        installed
            .lines()
            .any(|line| line.strip_suffix(" installed").is_some_and(|package| package.split(':').next() == Some(name)))
    };
    Ok(wanted
        .iter()
        .filter_map(|package| match *package {
            Always(name) => (!is_installed(name)).then_some(name),
            WhereKnown(name) => (!is_installed(name) && is_known(name)).then_some(name),
        })
        .collect())
}

fn is_known(name: &str) -> bool {
    Command::new("apt-cache")
        .args(["show", "--no-all-versions", name])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
}

fn install(names: &[&'static str]) -> Result<()> {
    let newly_disabled: Vec<&str> = SERVICES
        .iter()
        .filter(|(package, _)| names.contains(package))
        .flat_map(|(_, units)| units.iter().copied())
        .collect();
    command::stream(
        as_root("sh")?
            .args(["-euc", INSTALL, "install", &names.join(" "), &newly_disabled.join(" ")])
            .stdin(Stdio::null()),
    )
    .with_context(|| format!("these packages are needed and could not be installed: {}", names.join(" ")))
}

/// `$1`: packages, `$2`: units that are not to start by themselves. Debian's way to forbid maintainer scripts to start
/// services is a policy-rc.d that answers 101; one that the administrator put there stays as it is.
const INSTALL: &str = r#"
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
apt-get --quiet --quiet update
# A release that has docker's client in a package of its own is known only after the update.
more=
case " $1 " in *" docker.io "*) if apt-cache show docker-cli > /dev/null 2>&1; then more=docker-cli; fi ;; esac
apt-get --quiet --yes --no-install-recommends --option Dpkg::Use-Pty=0 install $1 $more
if [ -n "$2" ] && [ -d /run/systemd/system ]; then
    for unit in $2; do
        if systemctl cat "$unit" > /dev/null 2>&1; then scope=--system; else scope=--global; fi
        systemctl "$scope" disable --quiet "$unit" || true
    done
fi
"#;

/// A command that runs as root: itself where we are root, through sudo elsewhere.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    if nix::unistd::geteuid().is_root() {
        return Ok(Command::new(program));
    }
    if !command::works("sudo", &["--version"]) {
        bail!("packages must be installed, which needs root, and this machine has no sudo: run this as root once");
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_every_debian_has_is_not_missing() {
        assert_eq!(missing(&[Always("dpkg")]).unwrap(), Vec::<&str>::new());
    }

    #[test]
    fn a_package_that_no_list_knows_is_wanted_only_if_it_must_be_there() {
        let wanted = [Always("overside-no-such-package"), WhereKnown("overside-no-such-package-either")];
        assert_eq!(missing(&wanted).unwrap(), ["overside-no-such-package"]);
    }
}
