//! One session a user: a second computer is told where it is, and may take it over.

use std::process::{Command, Stdio};

use overside_model::{
    ErrorCode,
    agent::{EnvironmentFacts, Message, Operation, Owner, Report, TakeOver},
};
use tokio::io::AsyncWriteExt as _;

use crate::{
    client::Client,
    environment::{AGENT, Home, Running, key},
    leftovers::Traces,
};

fn owner(computer: &str) -> Owner {
    Owner {
        home: format!("home of {computer}"),
        computer: computer.to_owned(),
        started_at: "2026-11-25T08:00:00Z".into(),
    }
}

/// What `overside-agent take-over` answers.
async fn take_over(running: &Running, line: &str) -> Report {
    let mut child = tokio::process::Command::new(AGENT)
        .arg("take-over")
        .arg(&running.directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().nth(1).expect("an answer after the greeting")).unwrap()
}

async fn facts(running: &Running, to: &TakeOver) -> EnvironmentFacts {
    match take_over(running, &serde_json::to_string(to).unwrap()).await {
        Report::Ready(facts) => facts,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_computer_is_told_where_the_session_is_and_takes_it_over_with_what_runs_in_it() {
    let home = Home::new();
    let mut spec = home.spec();
    spec.owner = Some(owner("attic"));
    let mut running = home.start_with(&spec).await;
    let traces = Traces::of(&running);
    let attic = Client::connect(&running, &home).await;
    let docker = attic.docker(home.path());
    docker.import_busybox().await;
    docker.run(&["run", "-d", "--name", "kept", "bb", "sleep", "1000"]).await;
    let mut attics = attic.agent().await;
    attics.done(Operation::Freeze).await;

    let mut second = home.spec();
    second.owner = Some(owner("office"));
    let problem = home.try_start(&second, &mut Command::new(AGENT)).await.err().expect("a refusal");
    assert_eq!(problem.code, ErrorCode::SessionElsewhere);
    assert!(problem.message.contains("is on attic, since 2026-11-25T08:00:00Z"), "{problem}");
    assert!(!second.directory.exists(), "nothing of the refused one is left");

    let office = key(2);
    let to = TakeOver { client_key: office.public_key().to_openssh().unwrap(), owner: owner("office") };
    assert_eq!(facts(&running, &to).await, *running.facts());
    assert_eq!(attics.message().await, Some(Message::TakenOver { computer: "office".into() }));
    // The first computer's connection ends, and it does not get in again.
    assert_eq!(attics.message().await, None);
    assert!(Client::try_connect(&running, &home.key).await.is_none());

    let client = Client::try_connect(&running, &office).await.expect("the new owner is let in");
    let mut agent = client.agent().await;
    agent.done(Operation::Thaw).await;
    let place = home.path().join("office");
    fs_err::create_dir(&place).unwrap();
    assert!(client.docker(&place).run(&["ps"]).await.contains("kept"));

    // Back again: it is a session like any other.
    let back = TakeOver { client_key: home.key.public_key().to_openssh().unwrap(), owner: owner("attic") };
    facts(&running, &back).await;
    assert_eq!(agent.message().await, Some(Message::TakenOver { computer: "attic".into() }));
    let attic = Client::connect(&running, &home).await;
    attic.agent().await.done(Operation::Delete).await;
    drop((attic, attics, agent, client));
    running.ended().await;
    traces.assert_gone();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_takes_nothing_over() {
    let home = Home::new();
    let mut spec = home.spec();
    spec.owner = Some(owner("attic"));
    let running = home.start_with(&spec).await;
    let no_key = TakeOver { client_key: "ssh-ed25519 none".into(), owner: owner("office") };
    for line in ["", "{}", "Welcome!", &serde_json::to_string(&no_key).unwrap(), &"x".repeat(100_000)] {
        let answer = take_over(&running, line).await;
        assert!(matches!(answer, Report::Failed(_)), "{answer:?}");
    }
    assert!(Client::try_connect(&running, &home.key).await.is_some());
    let gone = home.path().join("e-nowhere");
    let output = Command::new(AGENT).arg("take-over").arg(gone).stdin(Stdio::null()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("environment-lost"), "{output:?}");
}
