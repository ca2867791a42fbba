//! Which files of the machine the engine needs, and nothing else: what the environment will see of the machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use fs_err as fs;
use overside_model::{ErrorCode, Problem};
use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

use crate::{
    elf::{Executable, inspect, listed_libraries},
    problem::{During, unsuitable},
};

/// Where Docker's packages put their programs.
const STANDARD_PATH: [&str; 7] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/libexec/docker"];

/// Without these there is no engine.
const REQUIRED: [&str; 4] = ["dockerd", "containerd", "containerd-shim-runc-v2", "runc"];

/// What dockerd calls where it is there: published ports, the firewall, `--init`, `docker top`, builds from git, images.
const OPTIONAL: [&str; 18] = [
    "docker-proxy",
    "docker-init",
    "docker-containerd-shim",
    "containerd-shim",
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
    "nft",
    "ip",
    "ps",
    "git",
    "xz",
    "pigz",
    "unpigz",
    "fuse-overlayfs",
];

/// Directories that a library path may lie in without being covered by what the environment mounts over its tree.
const VISIBLE: [&str; 6] = ["lib", "lib32", "lib64", "usr", "nix", "gnu"];
/// Where libraries from anywhere else go.
pub(crate) const LIBRARIES: &str = "/usr/lib/overside";
/// Where programs go.
const PROGRAMS: &str = "/usr/bin";

/// The certificate authorities of the machine; the first that exists.
const CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Plug-ins of iptables, at the path that was compiled into it.
const XTABLES: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu/xtables",
    "/usr/lib/aarch64-linux-gnu/xtables",
    "/usr/lib64/xtables",
    "/usr/lib/xtables",
    "/lib64/xtables",
    "/lib/xtables",
];
/// Helpers of git.
const GIT: [&str; 4] =
    ["/usr/lib/git-core", "/usr/libexec/git-core", "/usr/local/libexec/git-core", "/usr/local/lib/git-core"];

/// What of the machine appears in the environment, read-only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Programs {
    /// Path in the environment → file or directory of the machine.
    pub(crate) binds: BTreeMap<PathBuf, PathBuf>,
    /// Path in the environment → target of a symbolic link.
    pub(crate) links: BTreeMap<PathBuf, PathBuf>,
    /// Directories that the loader must be told of.
    pub(crate) library_path: Vec<PathBuf>,
}

impl Programs {
    /// Finds everything in `path`, or in the standard directories.
    pub(crate) fn find(path: Option<&[PathBuf]>) -> Result<Self, Problem> {
        let standard: Vec<PathBuf> = STANDARD_PATH.iter().map(PathBuf::from).collect();
        let path = path.unwrap_or(&standard);
        let looked_in = || path.iter().map(|directory| directory.display().to_string()).collect::<Vec<_>>().join(", ");
        let mut programs = Self::default();
        let mut listings = Vec::new();
        for name in REQUIRED {
            let Some(file) = look_up(path, name) else {
                return Err(Problem::new(
                    ErrorCode::EngineMissing,
                    format!("no {name} on this machine (looked in {})", looked_in()),
                    "Install Docker's engine: `apt-get install docker.io` (Debian, Ubuntu) or https://docs.docker.com/engine/install",
                ));
            };
            programs.add(name, &file, &mut listings)?;
        }
        for name in OPTIONAL {
            if let Some(file) = look_up(path, name) {
                programs.add(name, &file, &mut listings)?;
            }
        }
        if !programs.has("iptables") && !programs.has("nft") {
            return Err(unsuitable(
                format!("no iptables on this machine (looked in {})", looked_in()),
                "Install it: `apt-get install iptables`",
            ));
        }
        if programs.has("git") {
            for directory in GIT.iter().map(Path::new).filter(|directory| directory.is_dir()) {
                programs.binds.insert(directory.to_owned(), directory.to_owned());
                let helper = directory.join("git-remote-https");
                if helper.exists() {
                    listings.extend(list(&helper)?);
                }
            }
        }
        for directory in XTABLES.iter().map(Path::new).filter(|directory| directory.is_dir()) {
            // One of these may be another by a link; the programs know only one of the names.
            programs.binds.insert(directory.to_owned(), directory.to_owned());
        }
        if let Some(file) = CERTIFICATES.iter().map(Path::new).find(|file| file.exists()) {
            programs.binds.insert(CERTIFICATES[0].into(), file.to_owned());
        }
        for listing in listings {
            programs.add_libraries(listing)?;
        }
        programs.add_name_service();
        Ok(programs)
    }

    /// Whether a program was found.
    pub(crate) fn has(&self, name: &str) -> bool {
        let path = Path::new(PROGRAMS).join(name);
        self.binds.contains_key(&path) || self.links.contains_key(&path)
    }

    /// dockerd's version, as it tells it itself, such as `20.10.24+dfsg1`; empty if it does not.
    pub(crate) fn engine_version(&self) -> Result<String, Problem> {
        let Some(dockerd) = self.binds.get(&Path::new(PROGRAMS).join("dockerd")) else { return Ok(String::new()) };
        let output = Command::new(dockerd).arg("--version").env_clear().stdin(Stdio::null()).output();
        let output = output.during(format_args!("running {} --version", dockerd.display()))?;
        Ok(told_version(&String::from_utf8_lossy(&output.stdout)).to_owned())
    }

    /// A program under its name; where it is a link (Debian's alternatives), its file under the file's own name as well,
    /// because such programs look at the name that they were called by.
    fn add(&mut self, name: &str, file: &Path, listings: &mut Vec<Listing>) -> Result<(), Problem> {
        let real = fs::canonicalize(file).during(format_args!("looking at {}", file.display()))?;
        let real_name = real.file_name().unwrap_or_default().to_owned();
        let target = Path::new(PROGRAMS).join(&real_name);
        let known = self.binds.get(&target);
        if known.is_some_and(|known| *known != real) || real_name == name {
            self.binds.insert(Path::new(PROGRAMS).join(name), real.clone());
        } else {
            self.links.insert(Path::new(PROGRAMS).join(name), PathBuf::from(real_name));
            if known.is_some() {
                return Ok(());
            }
            self.binds.insert(target, real.clone());
        }
        listings.extend(list(&real)?);
        Ok(())
    }

    fn add_libraries(&mut self, listing: Listing) -> Result<(), Problem> {
        let Listing { file, loader, child } = listing;
        let output = child.wait_with_output().during(format_args!("listing the libraries of {}", file.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if text.contains("=> not found") || !output.status.success() {
            let missing: Vec<&str> = text.lines().filter(|line| line.contains("not found")).map(str::trim).collect();
            return Err(unsuitable(
                format!("{} cannot be loaded: {}", file.display(), missing.join(", ")),
                "Reinstall the package that it belongs to",
            ));
        }
        // The loader is asked for by its own path, and has to be exactly there.
        self.binds.insert(loader.clone(), loader);
        for library in listed_libraries(&text) {
            self.add_library(Path::new(library));
        }
        Ok(())
    }

    fn add_library(&mut self, library: &Path) {
        let Some(name) = library.file_name() else { return };
        let first = library.components().nth(1).map(|component| component.as_os_str());
        let visible = first.is_some_and(|first| VISIBLE.iter().any(|name| first == *name));
        let target = if visible { library.to_owned() } else { Path::new(LIBRARIES).join(name) };
        if let Some(directory) = target.parent().map(Path::to_owned)
            && !found_by_default(&directory)
            && !self.library_path.contains(&directory)
        {
            self.library_path.push(directory);
        }
        self.binds.entry(target).or_insert_with(|| library.to_owned());
    }

    /// glibc before 2.34 loads these by itself when a program resolves names.
    fn add_name_service(&mut self) {
        let directories: BTreeSet<PathBuf> = (self.binds.keys())
            .filter(|path| path.file_name().is_some_and(|name| name == "libc.so.6"))
            .filter_map(|path| path.parent().map(Path::to_owned))
            .collect();
        for directory in directories {
            for name in ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"] {
                let library = directory.join(name);
                if library.exists() {
                    self.add_library(&library);
                }
            }
        }
    }
}

/// Whether loaders look here without being told: `/lib`, `/usr/lib64`, `/lib/x86_64-linux-gnu`.
fn found_by_default(directory: &Path) -> bool {
    let below = directory.strip_prefix("/usr").or_else(|_| directory.strip_prefix("/")).unwrap_or(directory);
    let mut parts = below.components().map(|part| part.as_os_str().to_string_lossy());
    let (first, second, third) = (parts.next(), parts.next(), parts.next());
    let library = first.is_some_and(|first| ["lib", "lib64", "lib32"].contains(&&*first));
    library && third.is_none() && second.is_none_or(|second| second.contains("-linux-"))
}

fn look_up(path: &[PathBuf], name: &str) -> Option<PathBuf> {
    path.iter()
        .map(|directory| directory.join(name))
        .find(|file| file.is_file() && access(file, Access::EXEC_OK).is_ok())
}

/// The 28 of `Docker version 28.5.2+dfsg4, build 3ef3c07`.
fn told_version(text: &str) -> &str {
    text.split_whitespace().nth(2).unwrap_or_default().trim_end_matches(',')
}

/// The first number of a version; 0 if it has none.
pub(crate) fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The loader at work on one program.
struct Listing {
    file: PathBuf,
    loader: PathBuf,
    child: Child,
}

/// Begins to list the libraries of a program; all loaders work at the same time. `None` if it needs no libraries.
fn list(file: &Path) -> Result<Option<Listing>, Problem> {
    let mut head = Vec::new();
    let open = File::open(file).during(format_args!("reading {}", file.display()))?;
    open.take(16 * 1024).read_to_end(&mut head).during(format_args!("reading {}", file.display()))?;
    let Executable::Dynamic(loader) = inspect(&head) else { return Ok(None) };
    let child = Command::new(loader)
        .arg("--list")
        .arg(file)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .during(format_args!("running {loader}"))?;
    Ok(Some(Listing { file: file.to_owned(), loader: loader.into(), child }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_dockerd_is_named_with_the_remedy() {
        let empty = tempfile::tempdir().unwrap();
        let problem = Programs::find(Some(&[empty.path().to_owned()])).unwrap_err();
        assert_eq!(problem.code, ErrorCode::EngineMissing);
        assert!(problem.message.contains(&empty.path().display().to_string()), "{}", problem.message);
        assert!(problem.hint.contains("apt-get install docker.io"));
    }

    #[test]
    fn libraries_from_hidden_directories_move_and_the_loader_is_told() {
        let mut programs = Programs::default();
        programs.add_library(Path::new("/lib/x86_64-linux-gnu/libc.so.6"));
        programs.add_library(Path::new("/tmp/lab/lib/libodd.so.1"));
        programs.add_library(Path::new("/usr/local/lib/liblocal.so.1"));
        assert_eq!(programs.binds[Path::new("/usr/lib/overside/libodd.so.1")], Path::new("/tmp/lab/lib/libodd.so.1"));
        assert_eq!(programs.library_path, [Path::new("/usr/lib/overside"), Path::new("/usr/local/lib")]);
    }

    #[test]
    fn the_version_of_dockerd_is_read_from_what_it_prints() {
        let told = told_version("Docker version 28.5.2+dfsg4, build 3ef3c07c883be49a2e8097bcf6d2952fce1d70eb\n");
        assert_eq!((told, major(told)), ("28.5.2+dfsg4", 28));
        assert_eq!(major(told_version("nonsense")), 0);
    }

    #[test]
    fn a_program_behind_links_keeps_both_names() {
        let home = tempfile::tempdir().unwrap();
        let real = home.path().join("xtables-nft-multi");
        fs::write(&real, "#!/bin/sh\n").unwrap();
        for name in ["iptables", "ip6tables"] {
            std::os::unix::fs::symlink(&real, home.path().join(name)).unwrap();
        }
        let mut programs = Programs::default();
        for name in ["iptables", "ip6tables"] {
            programs.add(name, &home.path().join(name), &mut Vec::new()).unwrap();
        }
        assert_eq!(programs.binds.len(), 1);
        assert_eq!(programs.links[Path::new("/usr/bin/ip6tables")], Path::new("xtables-nft-multi"));
        assert!(programs.has("iptables"));
    }
}
