//! Paths that clients name: which of them mean files of the laptop, and where those are in the environment.
//!
//! An engine cleans paths by their text alone (Go's `path.Clean`) before it looks at anything; so do we.

use overside_model::agent::{ENGINE_SOCKET, LAPTOP_FILES};

use crate::Refusal;

/// Names by which tools know the engine's socket, as they are after cleaning. Windows tools double the first slash, which keeps
/// the path from being rewritten.
const KNOWN_SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];

/// Docker's pipe on Windows, with slashes and in lower case.
const ENGINE_PIPE: &str = "//./pipe/docker_engine";

/// Directories that mean the environment's own, themselves only: nobody wants a whole laptop brought over, and a laptop's
/// sockets cannot be.
const OWN: [&str; 3] = ["/", "/run", "/var/run"];

/// Directories that mean the environment's own, with all that is in them: the kernel's, and the engine's.
const OWN_WITH_ALL: [&str; 9] = [
    "/proc",
    "/sys",
    "/dev",
    "/lib/modules",
    "/usr/lib/modules",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/run/containerd",
    "/var/run/containerd",
];

/// What all of the engine's files below /run begin with.
const ENGINES_RUN: [&str; 2] = ["/run/docker", "/var/run/docker"];

/// The machine that clients run on, as far as the meaning of paths depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Laptop<'a> {
    /// The socket (or pipe) that the client is connected to, which means the engine, too. May be empty.
    pub own_socket: &'a str,
    /// It has drives and backslashes.
    pub windows: bool,
}

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The engine's socket.
    Engine,
    /// A path of the environment's own: this one.
    Environment(String),
    /// A file or directory of the laptop, by its clean path in the laptop's own spelling.
    Laptop(String),
    /// Nothing absolute: the engine refuses it.
    Relative,
}

impl Laptop<'_> {
    /// What a client means by this path.
    ///
    /// # Errors
    /// If it can only be of a kind that cannot be brought into an environment.
    pub(crate) fn meaning(self, path: &str) -> Result<Meaning, Refusal> {
        if !self.own_socket.is_empty() && path == self.own_socket {
            return Ok(Meaning::Engine);
        }
        if self.windows { self.windows_meaning(path) } else { Ok(unix_meaning(path)) }
    }

    fn windows_meaning(self, path: &str) -> Result<Meaning, Refusal> {
        let slashed = path.replace('\\', "/");
        let refused = |reason| Err(Refusal::NoSuchKind { path: path.to_owned(), reason });
        if slashed.to_ascii_lowercase().starts_with("//./pipe/") {
            let own = self.own_socket.replace('\\', "/");
            let is_engine = [ENGINE_PIPE, own.as_str()].iter().any(|known| slashed.eq_ignore_ascii_case(known));
            return if is_engine { Ok(Meaning::Engine) } else { refused("a named pipe stays on its own machine") };
        }
        let plain = slashed.strip_prefix("//?/").unwrap_or(&slashed);
        if plain.len() < slashed.len() && drive(plain).is_none() {
            return refused("only paths with a drive are files of this machine");
        }
        if let Some((letter, rest)) = drive(plain).or_else(|| posix_drive(plain)) {
            if rest.contains(':') {
                return refused("a colon stands only after a drive");
            }
            let clean = clean(&format!("/{rest}")).replace('/', "\\");
            return Ok(Meaning::Laptop(format!("{}:{clean}", letter.to_ascii_uppercase())));
        }
        match unix_meaning(plain) {
            Meaning::Laptop(_) if plain.starts_with("//") => {
                refused("network shares are not brought into the environment; copy it to a drive, or map it to one")
            }
            Meaning::Laptop(_) => refused("files of this machine have a drive in their path, as in C:\\work"),
            meaning => Ok(meaning),
        }
    }

    /// A path as the laptop's system tells it, in the form that [`HostBind`](crate::HostBind) has. Windows tells where a link
    /// leads with a prefix (`\\?\C:\work`), which would be a directory of its own in the environment. None for what lies on no
    /// drive.
    pub fn plain(self, path: &str) -> Option<String> {
        if !self.windows {
            return Some(path.to_owned());
        }
        match self.windows_meaning(path) {
            Ok(Meaning::Laptop(path)) => Some(path),
            _ => None,
        }
    }

    /// Where a file of the laptop is in the environment. The path is a clean, absolute one, as [`HostBind`](crate::HostBind)
    /// has it.
    pub fn place_of(self, path: &str) -> String {
        if self.windows {
            let mut place = path.replace('\\', "/");
            // The drive's colon.
            place.retain(|character| character != ':');
            format!("{LAPTOP_FILES}/{}", place.trim_end_matches('/'))
        } else {
            format!("{LAPTOP_FILES}{}", path.trim_end_matches('/'))
        }
    }

    /// The laptop's path of a place in the environment, in the laptop's own spelling; None for what is elsewhere.
    pub fn path_of(self, place: &str) -> Option<String> {
        let rest = place.strip_prefix(LAPTOP_FILES).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        if !self.windows {
            return Some(if rest.is_empty() { "/".to_owned() } else { rest.to_owned() });
        }
        let (letter, rest) = posix_drive(rest)?;
        Some(format!("{letter}:\\{}", rest.replace('/', "\\")))
    }
}

fn unix_meaning(path: &str) -> Meaning {
    if !path.starts_with('/') {
        return Meaning::Relative;
    }
    let clean = clean(path);
    if KNOWN_SOCKETS.contains(&clean.as_str()) {
        return Meaning::Engine;
    }
    let is_own = OWN.contains(&clean.as_str())
        || OWN_WITH_ALL.iter().any(|own| below(&clean, own).is_some())
        || ENGINES_RUN.iter().any(|own| clean.starts_with(own));
    if is_own { Meaning::Environment(clean) } else { Meaning::Laptop(clean) }
}

/// `C:/x`, as its drive and what follows the slash.
fn drive(path: &str) -> Option<(char, &str)> {
    let letter = path.chars().next().filter(char::is_ascii_alphabetic)?;
    Some((letter, path[1..].strip_prefix(":/")?))
}

/// `/c/x` or `//c/x`, as its drive and what follows the slash.
fn posix_drive(path: &str) -> Option<(char, &str)> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_prefix('/').unwrap_or(path);
    let letter = path.chars().next().filter(char::is_ascii_alphabetic)?;
    let rest = &path[1..];
    if rest.is_empty() { Some((letter, "")) } else { Some((letter, rest.strip_prefix('/')?)) }
}

/// An absolute path without empty and dotted segments.
pub(crate) fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

/// What leads from a directory to a path in it; empty for the directory itself. Both are clean.
pub(crate) fn below<'a>(path: &'a str, directory: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(directory.trim_end_matches('/'))?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
}

/// The engine's socket inside the environment.
pub(crate) const ENGINE: &str = ENGINE_SOCKET;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNIX: Laptop<'static> = Laptop { own_socket: "/home/me/.overside/docker.sock", windows: false };
    const WINDOWS: Laptop<'static> = Laptop { own_socket: r"\\.\pipe\overside-me-docker", windows: true };

    fn laptop(path: &str) -> Result<Meaning, Refusal> {
        Ok(Meaning::Laptop(path.to_owned()))
    }

    #[test]
    fn the_engines_socket_is_meant_under_all_of_its_names() {
        for path in ["/var/run/docker.sock", "/run/docker.sock", "//var/run/docker.sock", UNIX.own_socket] {
            assert_eq!(UNIX.meaning(path), Ok(Meaning::Engine), "{path}");
        }
        for path in [
            "/var/run/docker.sock",
            "//var/run/docker.sock",
            r"\\.\pipe\docker_engine",
            "//./pipe/docker_engine",
            "//./PIPE/Docker_Engine",
            WINDOWS.own_socket,
            "//./pipe/overside-me-docker",
        ] {
            assert_eq!(WINDOWS.meaning(path), Ok(Meaning::Engine), "{path}");
        }
    }

    #[test]
    fn what_monitors_mount_of_a_machine_is_the_environments() {
        // node-exporter, cAdvisor, Promtail, Falco, Traefik.
        for path in [
            "/",
            "/proc",
            "/sys/",
            "/sys/fs/cgroup",
            "/var/run",
            "/var/lib/docker/",
            "/var/lib/docker/containers",
            "/dev/disk/",
            "/dev",
            "/lib/modules",
            "/run/docker/netns",
            "/run/containerd/containerd.sock",
            "/home/../proc/1",
        ] {
            assert_eq!(UNIX.meaning(path), Ok(Meaning::Environment(clean(path))), "{path}");
        }
        assert_eq!(WINDOWS.meaning("//proc"), Ok(Meaning::Environment("/proc".to_owned())));
        for path in ["/procedures", "/home/me/sys", "/etc/localtime", "/lib/modulesx", "/run/media/me/usb", "/var/log"]
        {
            assert_eq!(UNIX.meaning(path), laptop(path), "{path}");
        }
        assert_eq!(UNIX.meaning("/proc/../home/me/./src//"), laptop("/home/me/src"));
        assert_eq!(UNIX.meaning("/var/run/docker.sock/../../../etc"), laptop("/etc"));
    }

    #[test]
    fn what_a_link_leads_to_has_its_place_where_a_bind_of_the_same_has_it() {
        let plain = WINDOWS.plain(r"\\?\C:\work\a b").unwrap();
        assert_eq!(plain, r"C:\work\a b");
        assert_eq!(WINDOWS.place_of(&plain), format!("{LAPTOP_FILES}/C/work/a b"));
        for elsewhere in [r"\\?\UNC\server\share\x", r"\\server\share\x", r"\\?\Volume{1}\x"] {
            assert_eq!(WINDOWS.plain(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(UNIX.plain("/proc/x").as_deref(), Some("/proc/x"));
    }

    #[test]
    fn a_windows_path_is_understood_in_all_of_its_forms() {
        for path in [
            r"C:\Users\me\a b",
            "C:/Users/me/a b",
            "c:/Users/x/../me//a b/",
            r"\\?\C:\Users\me\a b",
            "/c/Users/me/a b",
            "//c/Users/me/a b",
        ] {
            assert_eq!(WINDOWS.meaning(path), laptop(r"C:\Users\me\a b"), "{path}");
        }
        for path in [r"D:\", "/d", "//d/", "d:/", r"\\?\D:\", r"D:\x\..\..\.."] {
            assert_eq!(WINDOWS.meaning(path), laptop(r"D:\"), "{path}");
        }
        for path in ["src", r".\src", "../src", "C:src", "C:", "~"] {
            assert_eq!(WINDOWS.meaning(path), Ok(Meaning::Relative), "{path}");
        }
    }

    #[test]
    fn what_is_no_file_of_this_machine_is_refused_with_a_sentence() {
        for path in [
            r"\\server\share\x",
            "//server/share",
            r"\\?\UNC\server\share",
            r"\\?\Volume{0}\x",
            r"\\.\pipe\other",
            "/home/me",
            r"C:\x:stream",
            "C:/x/d:/y",
        ] {
            let refused = WINDOWS.meaning(path);
            assert!(
                matches!(&refused, Err(Refusal::NoSuchKind { path: named, .. }) if named == path),
                "{path}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_place_tells_which_file_it_is() {
        assert_eq!(UNIX.place_of("/home/me/p"), "/.overside/laptop/home/me/p");
        assert_eq!(UNIX.path_of("/.overside/laptop").as_deref(), Some("/"));
        assert_eq!(UNIX.path_of("/.overside/laptops/x"), None);
        assert_eq!(WINDOWS.place_of(r"C:\x\y"), "/.overside/laptop/C/x/y");
        assert_eq!(WINDOWS.place_of(r"C:\"), "/.overside/laptop/C");
        assert_eq!(WINDOWS.path_of("/.overside/laptop/C").as_deref(), Some(r"C:\"));
        assert_eq!(WINDOWS.path_of("/.overside/laptop/home/x"), None);
    }

    proptest! {
        #[test]
        fn the_way_there_and_back_leads_to_the_same_file(path in "(/|C:[/\\\\])[a-z/\\\\. :é]{0,24}", windows: bool) {
            let laptop = Laptop { own_socket: "", windows };
            if let Ok(Meaning::Laptop(path)) = laptop.meaning(&path) {
                prop_assert_eq!(laptop.path_of(&laptop.place_of(&path)), Some(path.clone()));
                prop_assert_eq!(laptop.meaning(&path), Ok(Meaning::Laptop(path)));
            }
        }

        #[test]
        fn no_path_makes_the_parser_panic(path in "\\PC*", windows: bool) {
            let laptop = Laptop { own_socket: "x", windows };
            let _ = laptop.meaning(&path);
            let _ = laptop.path_of(&path);
        }
    }
}
