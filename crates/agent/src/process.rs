//! Processes by identity rather than by number: ids are reused quickly.

use fs_err as fs;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process that is not mistaken for a later one with the same id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Its id.
    pub(crate) pid: u32,
    /// Its start, in clock ticks since the boot.
    started: u64,
    /// The boot: start times of different boots say nothing of each other.
    boot: String,
}

impl Identity {
    /// Who has this id now; `None` if nobody.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self { pid, started: start_time(&stat)?, boot: boot.trim().to_owned() })
    }

    /// Whether the process still runs (a zombie does not).
    pub(crate) fn alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Kills it if it is still the same.
    pub(crate) fn kill(&self) {
        kill_if(self.pid, || self.alive());
    }
}

/// Kills the process if `still` holds once it can no longer be replaced by another.
pub(crate) fn kill_if(pid: u32, still: impl FnOnce() -> bool) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if let Ok(held) = pidfd_open(pid, PidfdFlags::empty())
        && still()
    {
        let _ = pidfd_send_signal(held, Signal::KILL);
    }
}

/// Field 22 of `/proc/<pid>/stat`. The second is the program's name in parentheses and may contain anything.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_mislead() {
        let stat = "12 (a) b 7 (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21";
        assert_eq!(start_time(stat), Some(777));
        assert_eq!(start_time("12 (a) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777"), None, "a zombie");
    }

    #[test]
    fn a_process_is_itself_and_no_other() {
        let own = Identity::of(std::process::id()).unwrap();
        assert!(own.alive());
        let other = Identity { started: own.started + 1, ..own };
        assert!(!other.alive());
        other.kill();
    }
}
