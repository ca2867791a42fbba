//! Who is behind a process id, as far as the system tells it to everybody.

/// Most programs of a chain that are looked at.
#[cfg(target_os = "linux")]
const MOST: usize = 8;

/// Most descriptors that a process asks for. What it starts inherits them, and some programs close every one that there
/// could be, so that this is no more than needed.
#[cfg(unix)]
const MOST_DESCRIPTORS: u64 = 10_240;

/// Lets this process have thousands of descriptors, where it may: every connection to a published port needs one.
#[cfg(unix)]
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    if limit.current.is_some_and(|current| current < most) {
        // Fewer do for fewer connections.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit });
    }
}

/// Windows has no such limit.
#[cfg(not(unix))]
pub const fn raise_descriptor_limit() {}

/// The names of a process and of those that started it, nearest first; empty where it has ended or the system does not tell.
/// The names are the programs' own choice: fit to be shown, not to be trusted.
#[cfg(target_os = "linux")]
pub fn ancestry(pid: u32) -> Vec<String> {
    let mut names = Vec::new();
    let mut pid = pid;
    while pid > 1 && names.len() < MOST {
        let Ok(stat) = fs_err::read_to_string(format!("/proc/{pid}/stat")) else { break };
        let Some((name, parent)) = name_and_parent(&stat) else { break };
        names.push(name.chars().filter(|character| !character.is_control()).collect());
        pid = parent;
    }
    names
}

/// The system tells no names here; clients are known by what they say of themselves.
#[cfg(not(target_os = "linux"))]
pub fn ancestry(_pid: u32) -> Vec<String> {
    Vec::new()
}

/// `PID (NAME) STATE PARENT …`; the name may hold anything, brackets too.
#[cfg(target_os = "linux")]
fn name_and_parent(stat: &str) -> Option<(&str, u32)> {
    let (head, rest) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once(" (")?;
    Some((name, rest.split(' ').nth(1)?.parse().ok()?))
}

#[cfg(all(test, target_os = "linux"))]
mod linux_tests {
    use super::*;

    #[test]
    fn a_process_is_named_with_those_that_started_it() {
        let names = ancestry(std::process::id());
        // The kernel keeps fifteen bytes of a name.
        assert!(
            names.first().is_some_and(|name| name.starts_with("overside_io") || name.contains("process")),
            "{names:?}"
        );
        assert!(names.len() > 1);
        assert!(ancestry(u32::MAX).is_empty());
    }

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_whole() {
        assert_eq!(name_and_parent("7 (a) (b) S 42 7 7 0"), Some(("a) (b", 42)));
        assert_eq!(name_and_parent("nonsense"), None);
    }
}
