//! An environment from its start to its end.

use std::{
    path::PathBuf,
    process::{Child, Command},
    time::Instant,
};

use fs_err as fs;
use overside_model::agent::{Isolation, Message, Operation};

use crate::{
    client::Client,
    environment::{Home, LONG, Running},
    leftovers::Traces,
};

/// Files in places of the machine that no container may ever see; removed with the test.
struct Markers(Vec<PathBuf>);

impl Markers {
    fn make(name: &str) -> Self {
        let places =
            ["/root", "/home", "/etc", "/var", "/var/lib", "/opt", "/srv", "/tmp", "/usr/local", "/mnt", "/run"];
        let files: Vec<PathBuf> = places.iter().map(|place| PathBuf::from(place).join(name)).collect();
        Self(files.into_iter().filter(|file| fs::write(file, "secret").is_ok()).collect())
    }
}

impl Drop for Markers {
    fn drop(&mut self) {
        for file in &self.0 {
            let _ = fs::remove_file(file);
        }
    }
}

/// A process of the machine.
struct Witness(Child);

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_runs_containers_freezes_thaws_and_is_deleted_without_a_trace() {
    let home = Home::new();
    let mut running = home.start().await;
    let facts = running.facts().clone();
    assert_eq!(facts.isolation, Isolation::Namespaces);
    assert!(facts.engine_version.starts_with(|c: char| c.is_ascii_digit()), "{}", facts.engine_version);
    let traces = Traces::of(&running);
    let client = Client::connect(&running, &home).await;
    let docker = client.docker(home.path());
    docker.import_busybox().await;
    assert_eq!(docker.run(&["run", "--rm", "bb", "echo", "hello"]).await, "hello\n");
    let limited = docker
        .run(&[
            "run",
            "--rm",
            "-m",
            "64m",
            "--init",
            "bb",
            "sh",
            "-c",
            "cat /sys/fs/cgroup/memory*/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; :",
        ])
        .await;
    assert_eq!(limited.trim(), "67108864", "a container has its own limits");

    docker.run(&["run", "-d", "--name", "ticker", "bb", "sh", "-c", "while :; do echo tick; sleep 0.05; done"]).await;
    let mut agent = client.agent().await;
    agent.done(Operation::Freeze).await;
    agent.done(Operation::Freeze).await;
    let states: Vec<String> = traces.living().iter().map(|pid| state(*pid)).collect();
    assert!(!states.is_empty() && states.iter().all(|state| !state.contains('R')), "{states:?}");
    agent.done(Operation::Ping).await;
    agent.done(Operation::Thaw).await;
    agent.done(Operation::Thaw).await;
    let logs = docker.run(&["logs", "ticker"]).await;
    assert!(logs.contains("tick"));

    agent.done(Operation::Freeze).await;
    let begun = Instant::now();
    agent.done(Operation::Delete).await;
    println!("deleted in {:?}", begun.elapsed());
    traces.assert_gone();
    drop((client, agent));
    running.ended().await;
}

fn state(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_with_every_mount_sees_no_file_and_no_process_of_the_machine() {
    let home = Home::new();
    let name = format!("overside-marker-{}", std::process::id());
    let markers = Markers::make(&name);
    assert!(markers.0.len() > 5);
    let _witness = Witness(Command::new("sleep").arg("98765").spawn().unwrap());
    let running = home.start().await;
    let client = Client::connect(&running, &home).await;
    let docker = client.docker(home.path());
    docker.import_busybox().await;
    let search = format!("find /host -name {name} 2>/dev/null; :");
    let found = docker.run(&["run", "--rm", "-v", "/:/host", "bb", "sh", "-c", &search]).await;
    assert_eq!(found, "", "markers of the machine are visible");
    let through_proc = docker
        .run(&[
            "run",
            "--rm",
            "--pid=host",
            "--cap-add=SYS_PTRACE",
            "bb",
            "sh",
            "-c",
            &search.replace("/host", "/proc/1/root/"),
        ])
        .await;
    assert_eq!(through_proc, "", "markers are visible through the first process");
    let processes = docker.run(&["run", "--rm", "--pid=host", "bb", "ps"]).await;
    assert!(processes.contains("dockerd") && !processes.contains("98765"), "{processes}");
    let written = docker
        .try_run(&[
            "run",
            "--rm",
            "--privileged",
            "-v",
            "/:/host",
            "bb",
            "sh",
            "-c",
            "mount -o remount,rw /host/usr/bin/dockerd; touch /host/usr/bin/dockerd",
        ])
        .await;
    assert!(!written.status.success(), "the machine's dockerd can be written to");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_environments_live_side_by_side_and_one_survives_the_other() {
    let home = Home::new();
    let (first, mut second) = tokio::join!(home.start(), home.start());
    let (first_traces, second_traces) = (Traces::of(&first), Traces::of(&second));
    assert_ne!(first_traces.first_uid(), second_traces.first_uid());
    let (one, two) = (Client::connect(&first, &home).await, Client::connect(&second, &home).await);
    let (one_home, two_home) = (home.path().join("one"), home.path().join("two"));
    fs::create_dir(&one_home).unwrap();
    fs::create_dir(&two_home).unwrap();
    let (docker_one, docker_two) = (one.docker(&one_home), two.docker(&two_home));
    tokio::join!(docker_one.import_busybox(), docker_two.import_busybox());
    // The same name and the same port in both.
    let arguments = ["run", "-d", "--name", "same", "-p", "8080:80", "bb", "sleep", "1000"];
    tokio::join!(docker_one.run(&arguments), docker_two.run(&arguments));
    two.agent().await.done(Operation::Delete).await;
    second_traces.assert_gone();
    drop(two);
    second.ended().await;
    assert!(docker_one.run(&["ps"]).await.contains("same"));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_of_the_agent_nothing_runs_and_cleanup_leaves_nothing() {
    let home = Home::new();
    let mut running = home.start().await;
    let traces = Traces::of(&running);
    let client = Client::connect(&running, &home).await;
    let docker = client.docker(home.path());
    docker.import_busybox().await;
    docker.run(&["run", "-d", "bb", "sleep", "1000"]).await;
    // The hardest case: frozen processes do not die of signals until they are thawed.
    client.agent().await.done(Operation::Freeze).await;
    assert!(!running.cleanup(&[]), "cleanup refuses while the agent lives");
    running.kill().await;
    assert!(running.cleanup(&[]));
    traces.assert_gone();
    assert!(running.cleanup(&[]), "cleaning what is clean succeeds");
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_cleanup_ends_a_living_agent_first() {
    let home = Home::new();
    let mut running = home.start().await;
    let traces = Traces::of(&running);
    assert!(running.cleanup(&["--force"]));
    traces.assert_gone();
    running.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_is_announced_and_its_environment_deleted() {
    let home = Home::new();
    let mut running = home.start().await;
    let traces = Traces::of(&running);
    let client = Client::connect(&running, &home).await;
    let mut agent = client.agent().await;
    agent.done(Operation::Ping).await;
    let comm = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let engine = traces.living().into_iter().find(|pid| comm(pid) == "dockerd\n").expect("a dockerd");
    let engine = rustix::process::Pid::from_raw(i32::try_from(engine).unwrap()).unwrap();
    rustix::process::kill_process(engine, rustix::process::Signal::KILL).unwrap();
    match agent.message().await {
        Some(Message::EngineEnded { detail }) => assert!(detail.contains("signal: 9"), "{detail}"),
        other => panic!("{other:?}"),
    }
    drop((agent, client));
    running.ended().await;
    traces.assert_gone();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_to_the_agent_deletes_the_environment() {
    let home = Home::new();
    let mut running = home.start().await;
    let traces = Traces::of(&running);
    let agent = rustix::process::Pid::from_raw(i32::try_from(running.facts().agent_pid).unwrap()).unwrap();
    rustix::process::kill_process(agent, rustix::process::Signal::TERM).unwrap();
    running.ended().await;
    traces.assert_gone();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_dies_is_started_again_and_the_environment_lives_on() {
    let home = Home::new();
    let running = home.start().await;
    let client = Client::connect(&running, &home).await;
    let docker = client.docker(home.path());
    docker.import_busybox().await;
    let before = slirp_of(&running);
    let pid = rustix::process::Pid::from_raw(i32::try_from(before).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let begun = Instant::now();
    while slirp_of(&running) == before {
        assert!(begun.elapsed() < LONG, "slirp4netns is not started again");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let gateway = docker.run(&["run", "--rm", "--network=host", "bb", "cat", "/proc/net/route"]).await;
    assert!(gateway.contains("tap0"), "{gateway}");
}

/// The process that was recorded last.
fn slirp_of(running: &Running) -> u32 {
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(running.directory.join("environment.json")).unwrap()).unwrap();
    let last = record["processes"].as_array().unwrap().last().unwrap()["pid"].as_u64();
    u32::try_from(last.unwrap()).unwrap()
}
