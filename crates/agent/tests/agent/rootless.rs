//! An environment of an ordinary user.

use std::{
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
};

use fs_err as fs;
use overside_model::{
    ErrorCode,
    agent::{Isolation, LeaseTerms, Operation},
};

use crate::{
    client::Client,
    environment::{AGENT, Home},
    leftovers::Traces,
};

const USER: u32 = 4_321;

/// A command that runs the agent as an ordinary user, in a mount namespace with files of its own that make it one.
fn as_user(home: &Home, subordinate: &str) -> Command {
    let files = home.path().join("etc");
    fs::create_dir(&files).unwrap();
    let own = home.path().join("home");
    fs::create_dir(&own).unwrap();
    chown(&own, Some(USER), Some(USER)).unwrap();
    fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(files.join("passwd"), format!("root:x:0:0::/root:/bin/sh\nrunner:x:{USER}:{USER}::/:/bin/sh\n")).unwrap();
    fs::write(files.join("group"), format!("root:x:0:\nrunner:x:{USER}:\n")).unwrap();
    fs::write(files.join("subuid"), subordinate).unwrap();
    fs::write(files.join("subgid"), subordinate).unwrap();
    let program = home.path().join("overside-agent");
    fs::copy(AGENT, &program).unwrap();
    let script = "cd \"$1\" && for f in passwd group subuid subgid; do [ -e /etc/$f ] || touch /etc/$f; mount --bind etc/$f /etc/$f; done \
                  && mknod tun c 10 200 && chmod 666 tun && mount --bind tun /dev/net/tun && shift \
                  && exec setpriv --reuid \"$1\" --regid \"$1\" --clear-groups --inh-caps=-all \"$2\" \"$3\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(home.path()).arg(USER.to_string()).arg(program);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_user_has_an_environment_that_hides_the_users_files_too() {
    let home = Home::new();
    assert!(
        Path::new("/usr/bin/newuidmap").exists(),
        "the tests of the agent need newuidmap: `apt-get install uidmap`"
    );
    let mut spec = home.spec();
    spec.directory = home.path().join("home/e");
    spec.lease = LeaseTerms { grace_ms: 60_000, lost_contact_ms: 60_000 };
    let mut program = as_user(&home, "runner:1200000000:65536\n");
    fs::write(home.path().join("home/users-marker"), "secret").unwrap();
    let mut running =
        home.try_start(&spec, &mut program).await.unwrap_or_else(|problem| panic!("{}", problem.sentence()));
    assert_eq!(running.facts().isolation, Isolation::Rootless);
    assert!(running.facts().notes.iter().any(|note| note.contains("not limited")), "{:?}", running.facts().notes);
    let traces = Traces::of(&running);
    let client = Client::connect(&running, &home).await;
    let docker = client.docker(home.path());
    docker.import_busybox().await;
    assert_eq!(docker.run(&["run", "--rm", "bb", "echo", "hello"]).await, "hello\n");
    let found = docker
        .run(&["run", "--rm", "-v", "/:/host", "bb", "sh", "-c", "find /host -name users-marker 2>/dev/null; :"])
        .await;
    assert_eq!(found, "", "the user's files are visible");
    docker.run(&["run", "-d", "--name", "sleeper", "bb", "sleep", "1000"]).await;
    let mut agent = client.agent().await;
    agent.done(Operation::Freeze).await;
    agent.done(Operation::Thaw).await;
    assert!(docker.run(&["ps"]).await.contains("sleeper"));
    agent.done(Operation::Delete).await;
    traces.assert_gone();
    drop((agent, client));
    running.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_subordinate_ids_is_told_how_to_get_them() {
    let home = Home::new();
    let mut spec = home.spec();
    spec.directory = home.path().join("home/e");
    let problem = home.try_start(&spec, &mut as_user(&home, "other:1:1\n")).await.err().expect("no ids");
    assert_eq!(problem.code, ErrorCode::RunnerUnsuitable);
    assert!(problem.message.contains("/etc/subuid"), "{}", problem.message);
    assert!(problem.hint.contains("usermod --add-subuids"), "{}", problem.hint);
    assert!(!spec.directory.exists());
}
