//! The subcommand `in-docker`: any other subcommand as root, in a container on the host's own Docker.
//!
//! For users who may use that Docker and can neither become root nor make namespaces. The container has the host's files,
//! processes, network and cgroups, and of root's rights those that an environment takes; in it the agent does what it does
//! as root anywhere, so that limits, freezing, lease and clean-up are the same. Its image is an empty one: what runs is the
//! program that runs this. Container and image go with the subcommand's end; an image whose remover was killed goes with
//! the next one.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Read, Write, stderr, stdout},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use fs_err as fs;
use overside_model::{Problem, agent::Report};
use rustix::{
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount},
    process::{chdir, getuid, pivot_root, setsid},
};

use crate::{
    problem::{During, last_lines, unsuitable},
    serve,
};

/// Where Docker's packages have their engine listen.
const SOCKET: &str = "unix:///var/run/docker.sock";
/// Where the container has the host's files, until it has moved there.
const HOST: &str = "/host";
/// Marks containers and images with the user that they are for.
const LABEL: &str = "overside.user";
/// What is given to the container beyond Docker's usual: making namespaces, and a look at those of a process that has changed
/// its user, without which the environment gets no network.
const RIGHTS: [&str; 2] = ["SYS_ADMIN", "SYS_PTRACE"];
/// Seconds that the agent has to delete its environment when the host's Docker ends its container.
const TO_END: &str = "30";
/// Pauses before each attempt to remove what was made.
const REMOVE_AGAIN: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

/// Runs another subcommand in a container: same input, output and exit status.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let serving = arguments == ["serve"];
    if serving {
        // As the agent itself does: a login that ends takes nothing along. Started for this, it leads no process group.
        let _ = setsid();
    }
    match run(arguments, serving) {
        Ok(code) => ExitCode::from(code),
        Err(problem) if serving => serve::fail(problem),
        Err(problem) => {
            eprintln!("overside-agent: {}", problem.sentence());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String], serving: bool) -> Result<u8, Problem> {
    let own = std::env::current_exe().and_then(fs::canonicalize).during("finding the agent's own program")?;
    let user = format!("{LABEL}={}", getuid().as_raw());
    let name = format!("overside-{}-{}", getuid().as_raw(), std::process::id());
    import(&name, &user)?;
    let ended = start(&name, &user, &own, arguments, serving)
        .and_then(|container| if serving { relay(container) } else { wait(container) });
    remove(&name);
    let old = format!("--filter=label={user}");
    let _ = docker().args(["image", "prune", "--all", "--force", "--filter=until=1m", &old]).output();
    ended
}

/// Removes container and image. A busy engine may fail to remove a container by itself, and then refuses its image; what cannot
/// be removed at all is removed the next time, with what others have left.
fn remove(name: &str) {
    for pause in REMOVE_AGAIN {
        thread::sleep(pause);
        let _ = docker().args(["rm", "--force", "--volumes", name]).output();
        if docker().args(["image", "rm", "--force", name]).output().is_ok_and(|output| output.status.success()) {
            return;
        }
    }
}

/// The host's own client, with nothing of the user's configuration: its context may be another engine, even ours.
fn docker() -> Command {
    let mut docker = Command::new("docker");
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin:/usr/local/bin"));
    docker.env_clear().env("PATH", path).env("DOCKER_CONFIG", "/nonexistent");
    docker.args(["--host", SOCKET]).stdin(Stdio::null());
    docker
}

/// Makes an image of nothing.
fn import(name: &str, user: &str) -> Result<(), Problem> {
    let mut docker = docker();
    docker.args(["import", "--change", &format!("LABEL {user}"), "-", name]);
    let mut child = spawn(docker.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    if let Some(mut archive) = child.stdin.take() {
        // The end of an archive. A client that has failed already has said why.
        let _ = archive.write_all(&[0; 1024]);
    }
    let output = child.wait_with_output().during("waiting for docker")?;
    if output.status.success() { Ok(()) } else { Err(refused(&String::from_utf8_lossy(&output.stderr))) }
}

fn start(name: &str, user: &str, own: &Path, arguments: &[String], serving: bool) -> Result<Child, Problem> {
    let mut docker = docker();
    docker.args(["run", "--rm", "--interactive", "--name", name, "--label", user, "--log-driver=none"]);
    docker.args(["--pid=host", "--network=host", "--userns=host", "--cgroupns=host", "--stop-timeout", TO_END]);
    docker.args(RIGHTS.map(|right| format!("--cap-add={right}")));
    docker
        .args(["seccomp=unconfined", "apparmor=unconfined", "label=disable"].map(|of| format!("--security-opt={of}")));
    docker.args(["--device=/dev/net/tun", "--volume", &format!("/:{HOST}"), name]);
    docker.arg(Path::new(HOST).join(own.strip_prefix("/").unwrap_or(own))).arg("in-container").args(arguments);
    docker.stdin(Stdio::inherit());
    if serving {
        docker.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    spawn(&mut docker)
}

fn spawn(docker: &mut Command) -> Result<Child, Problem> {
    docker.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => unsuitable("the host has no docker command", ""),
        _ => unsuitable(format!("docker cannot be run: {error}"), ""),
    })
}

fn refused(said: &str) -> Problem {
    unsuitable(format!("the host's Docker refuses: {}", last_lines(said, 1)), "")
}

/// Waits for a subcommand whose output is our own.
fn wait(mut container: Child) -> Result<u8, Problem> {
    let status = container.wait().during("waiting for docker")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Passes an agent's reports on up to the one that ends its start, lets go of our own output as the agent does of its, and
/// waits for the container's end.
fn relay(mut container: Child) -> Result<u8, Problem> {
    let errors = container.stderr.take().map(|mut from| {
        thread::spawn(move || {
            let mut said = Vec::new();
            let _ = from.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        })
    });
    let begun = container.stdout.take().is_some_and(|out| pass_on(BufReader::new(out)).unwrap_or(false));
    if begun {
        let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null").during("letting go of the login")?;
        for replaced in
            [rustix::stdio::dup2_stdin(&null), rustix::stdio::dup2_stdout(&null), rustix::stdio::dup2_stderr(&null)]
        {
            replaced.during("letting go of the login")?;
        }
    }
    let code = wait(container)?;
    if !begun {
        let said = errors.and_then(|errors| errors.join().ok()).unwrap_or_default();
        let _ = stderr().write_all(said.as_bytes());
    }
    Ok(code)
}

/// Copies lines; true after the one that says how the start ended, false where there was none.
fn pass_on(mut from: impl BufRead) -> io::Result<bool> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        let mut out = stdout().lock();
        out.write_all(&line)?;
        out.flush()?;
        if matches!(serde_json::from_slice(&line), Ok(Report::Ready(_) | Report::Failed(_))) {
            return Ok(true);
        }
    }
}

/// The container's other half, the hidden subcommand `in-container`: moves into the host's files.
pub(crate) fn enter_host() -> Result<(), Problem> {
    let doing = "changing from the container into the host's files";
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).during(doing)?;
    chdir(HOST).during(doing)?;
    // The container's own root comes to lie on the new one, where it is taken off.
    pivot_root(".", ".").during(doing)?;
    unmount(".", UnmountFlags::DETACH).during(doing)?;
    chdir("/").during(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_passed_on_up_to_the_one_that_ends_the_start() {
        let failed = r#"{"report":"failed","code":"internal","message":"m","hint":""}"#;
        let step = r#"{"report":"step","step":"check","detail":""}"#;
        assert!(pass_on(format!("banner\n{step}\n{failed}\nmore\n").as_bytes()).unwrap());
        assert!(!pass_on(format!("{step}\n").as_bytes()).unwrap());
    }
}
