//! The agent's program on the host: found in the cache by its hash, or brought there.

use std::path::{Path, PathBuf};

use overside_model::{ErrorCode, Problem};
use overside_tunnel::outer::Outer;
use sha2::{Digest as _, Sha256};

use super::{ANSWER, said, silent, within};
use crate::shell::script;

/// Looks for the program `$1` with the hash `$2`, and notes that it is in use. One that is another user's is none.
const FIND: &str = concat!(
    directories!(),
    "f=\"$d/$1\"; if [ -f \"$f\" ] && [ -x \"$f\" ] && [ -O \"$f\" ] && [ -O \"$d\" ]; then s=$(sha256sum <\"$f\"); ",
    "if [ \"${s%% *}\" = \"$2\" ]; then touch \"$f\" 2>/dev/null; chmod 755 \"$f\" 2>/dev/null; echo; echo \"overside-found $f\"; exit 0; fi; fi; done; echo; echo overside-missing"
);

/// Takes the program from standard input: written beside, checked, then renamed, so that nobody ever runs half of it. What was
/// not used for a month goes. Others may run it, were they to reach it: the environment's root is another user where it has a user
/// namespace, and it starts itself again there.
const PLACE: &str = concat!(
    "umask 077; ",
    directories!(),
    "t=\"$d/.$1.$$\"; mkdir -p \"$d\" 2>/dev/null; if [ -L \"$d\" ]; then continue; fi; ",
    "if [ -O \"$d\" ] && (printf \"#\\041/bin/sh\" >\"$t\") 2>/dev/null && chmod 755 \"$t\" && \"$t\" 2>/dev/null; then ",
    "if cat >\"$t\"; then s=$(sha256sum <\"$t\"); ",
    "if [ \"${s%% *}\" = \"$2\" ]; then mv -f \"$t\" \"$d/$1\"; ",
    "find \"$d\" -name \"overside-agent-*\" -mtime +30 -exec rm -f {} + 2>/dev/null; ",
    "echo; echo \"overside-found $d/$1\"; exit 0; fi; fi; ",
    "rm -f \"$t\"; echo; echo overside-broken; exit 1; fi; rm -f \"$t\" 2>/dev/null; done; echo; echo overside-nowhere; exit 1"
);

/// Removes what [`PLACE`] has made.
const FORGET: &str = concat!(
    "set -- a b \"$(id -u)\"; ",
    directories!(),
    "if [ -O \"$d\" ]; then rm -f \"$d\"/overside-agent-* \"$d\"/.overside-agent-*; rmdir \"$d\" 2>/dev/null; fi; done; ",
    "docker -H unix:///var/run/docker.sock image prune -af --filter \"label=overside.user=$3\" >/dev/null 2>&1; true"
);

/// The program's path on the host, of whose machine `uname -m` says `machine`.
pub(super) async fn ensure(outer: &Outer, agent: &Path, machine: &str, uid: u32) -> Result<String, Problem> {
    let program = local(agent, machine)?;
    let read = tokio::task::spawn_blocking(move || {
        let bytes = fs_err::read(&program).map_err(|error| missing(error.to_string()))?;
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((bytes, hash))
    });
    let (bytes, hash) = read.await.unwrap_or_else(|error| Err(missing(error.to_string())))?;
    let name = format!("overside-agent-{}-{}", env!("CARGO_PKG_VERSION"), &hash[..16]);
    let uid = uid.to_string();
    let find = script("", FIND, &[&name, &hash, &uid])?;
    let found = within(ANSWER, "looking for the agent", outer.run(&find, b"")).await?;
    if let Some(path) = path(&found.stdout) {
        return Ok(path);
    }
    tracing::info!(name, bytes = bytes.len(), "bringing the agent to the host");
    let place = script("", PLACE, &[&name, &hash, &uid])?;
    // No limit but the connection's own: a slow line takes its time.
    let placed = outer.run(&place, &bytes).await?;
    if let Some(path) = path(&placed.stdout) {
        return Ok(path);
    }
    let text = String::from_utf8_lossy(&placed.stdout);
    let errors = String::from_utf8_lossy(&placed.stderr);
    if errors.contains("No space left") || errors.contains("quota") {
        return Err(Problem::new(
            ErrorCode::DiskFull,
            format!("the host has no room for the agent ({} MiB)", bytes.len().div_ceil(1 << 20)),
            "Free disk space in the user's home directory there, then try again.",
        ));
    }
    if text.contains("overside-nowhere") {
        return Err(Problem::new(
            ErrorCode::RunnerUnsuitable,
            "the user has no directory on the host that programs can be kept in and run from",
            "Make ~/.cache or /var/tmp writable there, on a file system that is mounted without `noexec`.",
        ));
    }
    if placed.status.is_none() {
        return Err(silent("bringing the agent there"));
    }
    Err(Problem::new(
        ErrorCode::RunnerUnsuitable,
        format!("the agent could not be brought to the host: {}", said(&placed)),
        "Check that the host has sha256sum, and room in the user's home directory.",
    ))
}

/// Removes every version of it.
pub(super) async fn forget(outer: &Outer) -> Result<(), Problem> {
    let ran = within(ANSWER, "removing the agent", outer.run(&script("", FORGET, &[])?, b"")).await?;
    if ran.status == Some(0) {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::RunnerUnsuitable,
        format!("the agent could not be removed from the host: {}", said(&ran)),
        "Remove ~/.cache/overside there by hand.",
    ))
}

fn path(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let path = text.lines().find_map(|line| line.trim_end().strip_prefix("overside-found ")).map(str::to_owned);
    path.filter(|path| path.starts_with('/'))
}

/// The program for a kind of machine: `overside-agent-MACHINE` beside the agent, or the agent itself.
fn local(agent: &Path, machine: &str) -> Result<PathBuf, Problem> {
    let (machine, elf) = match machine {
        "x86_64" | "amd64" => ("x86_64", 0x3e),
        "aarch64" | "arm64" => ("aarch64", 0xb7),
        other => {
            return Err(Problem::new(
                ErrorCode::RunnerUnsuitable,
                format!("the host is a machine of the kind {other}, for which there is no agent"),
                "Use a host of the kind x86_64 or aarch64.",
            ));
        }
    };
    let named = agent.with_file_name(format!("overside-agent-{machine}"));
    let fits = |path: &Path| machine_of(path) == Some(elf);
    [named.clone(), agent.to_owned()]
        .into_iter()
        .find(|path| fits(path))
        .ok_or_else(|| missing(format!("the host is of the kind {machine}, and {} is not there", named.display())))
}

/// What machine an ELF program is for: `e_machine`, little-endian.
fn machine_of(path: &Path) -> Option<u16> {
    let mut head = [0; 20];
    std::io::Read::read_exact(&mut fs_err::File::open(path).ok()?, &mut head).ok()?;
    head.starts_with(b"\x7fELF").then(|| u16::from_le_bytes([head[18], head[19]]))
}

fn missing(reason: String) -> Problem {
    Problem::new(
        ErrorCode::AgentMissing,
        format!("there is no agent to bring to the host: {reason}"),
        "Reinstall Overside, or set OVERSIDE_AGENT to the program's path.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_for_a_machine_is_found_by_what_it_is_and_not_only_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let elf = |machine: u8| [b"\x7fELF".to_vec(), vec![0; 14], vec![machine, 0], vec![0; 44]].concat();
        let agent = directory.path().join("overside-agent");
        fs_err::write(&agent, elf(0x3e)).unwrap();
        assert_eq!(local(&agent, "x86_64"), Ok(agent.clone()));
        assert_eq!(local(&agent, "aarch64").unwrap_err().code, ErrorCode::AgentMissing);
        let other = directory.path().join("overside-agent-aarch64");
        fs_err::write(&other, elf(0xb7)).unwrap();
        assert_eq!(local(&agent, "arm64"), Ok(other));
        assert_eq!(local(&agent, "riscv64").unwrap_err().code, ErrorCode::RunnerUnsuitable);
    }
}
