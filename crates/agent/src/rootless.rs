//! What an ordinary user needs: subordinate ids, and the programs that hand them out.

use std::{
    io::Read,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use fs_err as fs;
use overside_model::Problem;
use rustix::{
    process::{getgid, getuid},
    thread::{Gid, Uid, UnshareFlags, set_thread_res_gid, set_thread_res_uid},
};

use crate::{
    problem::{During, unsuitable},
    record,
    subordinate::{IdRange, RANGE, range_of_user},
};

/// The user's own id as the environment's root, and subordinate ids above it.
#[derive(Debug)]
pub(crate) struct UserIds {
    uid: (u32, IdRange),
    gid: (u32, IdRange),
    newuidmap: PathBuf,
    newgidmap: PathBuf,
}

impl UserIds {
    /// Finds them, or names each piece that is missing with its remedy.
    pub(crate) fn find() -> Result<Self, Problem> {
        let missing = missing();
        if !missing.is_empty() {
            let (what, remedies): (Vec<String>, Vec<String>) = missing.into_iter().unzip();
            return Err(unsuitable(
                format!("an ordinary user cannot run an engine here: {}", what.join("; ")),
                format!("As root: {}", remedies.join("; ")),
            ));
        }
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        let name = user_name(uid);
        let find = |file| -> Result<IdRange, Problem> {
            let text = fs::read_to_string(file).during("looking for subordinate ids")?;
            range_of_user(&text, name.as_deref(), uid).ok_or_else(|| unsuitable(format!("no entry in {file}"), ""))
        };
        let program = |name| find_program(name).ok_or_else(|| unsuitable(format!("no {name}"), ""));
        Ok(Self {
            uid: (uid, find("/etc/subuid")?),
            gid: (gid, find("/etc/subgid")?),
            newuidmap: program("newuidmap")?,
            newgidmap: program("newgidmap")?,
        })
    }

    /// Gives the ids to the user namespace of a process.
    pub(crate) fn give(&self, pid: u32) -> Result<(), Problem> {
        for (program, (own, range)) in [(&self.newgidmap, self.gid), (&self.newuidmap, self.uid)] {
            let numbers = [pid, 0, own, 1, 1, range.first, range.count].map(|number| number.to_string());
            let output = Command::new(program)
                .args(numbers)
                .env_clear()
                .stdin(Stdio::null())
                .output()
                .during(format_args!("running {}", program.display()))?;
            if !output.status.success() {
                return Err(unsuitable(
                    format!("{} failed: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim()),
                    "Reinstall it, with its set-user-id bit or file capabilities: `apt-get install --reinstall uidmap`",
                ));
            }
        }
        Ok(())
    }
}

/// Each missing piece and its remedy.
pub(crate) fn missing() -> Vec<(String, String)> {
    let mut missing = Vec::new();
    let mut lack = |what: &str, remedy: String| missing.push((what.to_owned(), remedy));
    let uid = getuid().as_raw();
    let name = user_name(uid);
    let user = name.clone().unwrap_or_else(|| uid.to_string());
    if find_program("newuidmap").is_none() || find_program("newgidmap").is_none() {
        lack("no newuidmap and newgidmap", "`apt-get install uidmap`".to_owned());
    }
    for (file, option) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
        let text = fs::read_to_string(file).unwrap_or_default();
        let range = range_of_user(&text, name.as_deref(), uid);
        if range.is_none_or(|range| range.count < RANGE - 1) {
            lack(&format!("{user} has too few ids in {file}"), format!("`usermod {option} 100000-165535 {user}`"));
        }
    }
    let tun = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    if let Err(error) = tun {
        lack(
            &format!("/dev/net/tun cannot be opened ({})", error.kind()),
            "`modprobe tun; chmod 0666 /dev/net/tun`".to_owned(),
        );
    }
    for (file, bad, remedy) in [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "`sysctl -w kernel.unprivileged_userns_clone=1`"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
        ),
        ("/proc/sys/user/max_user_namespaces", "0", "`sysctl -w user.max_user_namespaces=15000`"),
    ] {
        if fs::read_to_string(file).is_ok_and(|value| value.trim() == bad) {
            lack(&format!("user namespaces are turned off ({file} is {bad})"), remedy.to_owned());
        }
    }
    missing
}

fn find_program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin"]
        .iter()
        .map(|path| Path::new(path).join(name))
        .find(|file| file.is_file())
}

/// The user's name, from the file only: a static program must not ask the name service.
fn user_name(uid: u32) -> Option<String> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let number = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    })
}

/// Removes a directory whose files belong to subordinate ids: as the root of a user namespace that has them.
pub(crate) fn remove(directory: &Path) -> Result<(), Problem> {
    if fs::symlink_metadata(directory).is_err() {
        return Ok(());
    }
    let ids = UserIds::find()?;
    let (wire, theirs) = crate::wire::pair()?;
    let mut child = Command::new("/proc/self/exe")
        .arg("remove")
        .arg(directory)
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .during("starting the removal")?;
    let given = wait_and_give(&wire, &ids, child.id());
    // Without its ids the child gives up when the wire closes.
    drop(wire);
    let status = child.wait().during("waiting for the removal")?;
    given?;
    if status.success() { Ok(()) } else { record::remove(directory) }
}

fn wait_and_give(wire: &std::os::fd::OwnedFd, ids: &UserIds, pid: u32) -> Result<(), Problem> {
    rustix::io::read(wire, &mut [0_u8; 1]).during("waiting for the removal")?;
    ids.give(pid)?;
    rustix::io::write(wire, b"m").map(drop).during("waiting for the removal")
}

/// The hidden subcommand `remove`: the other half of [`remove`].
pub(crate) fn remove_main(directory: &Path) -> ExitCode {
    match remove_inside(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("overside-agent: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn remove_inside(directory: &Path) -> Result<(), Problem> {
    #[expect(unsafe_code, reason = "unshare is unsafe for sharing descriptors with threads; there are no threads here")]
    // SAFETY: this process has one thread, and FILES is not among the flags.
    let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) };
    unshared.during("making a user namespace")?;
    let wire = std::io::stdin().as_fd().try_clone_to_owned().during("reading from the agent")?;
    rustix::io::write(&wire, b"u").during("telling the agent")?;
    fs::File::from_parts(wire.into(), "the agent").read_exact(&mut [0]).during("waiting for ids")?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).during("becoming root")?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).during("becoming root")?;
    record::remove(directory)
}
