//! Environments whose client is gone.

use std::time::{Duration, Instant};

use overside_model::agent::{LeaseTerms, Operation};

use crate::{client::Client, environment::Home, leftovers::Traces};

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_that_nobody_ever_connects_to_deletes_itself_after_its_grace() {
    let home = Home::new();
    let mut spec = home.spec();
    spec.lease = LeaseTerms { grace_ms: 700, lost_contact_ms: 600_000 };
    let mut running = home.start_with(&spec).await;
    let traces = Traces::of(&running);
    running.ended().await;
    traces.assert_gone();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_container_keeps_an_environment_without_contact_until_contact_counts_as_lost() {
    let home = Home::new();
    let mut running = home.start().await;
    let traces = Traces::of(&running);
    let client = Client::connect(&running, &home).await;
    let docker = client.docker(home.path());
    docker.import_busybox().await;
    docker.run(&["run", "-d", "bb", "sleep", "1000"]).await;
    client.agent().await.done(Operation::Lease(LeaseTerms { grace_ms: 100, lost_contact_ms: 2_500 })).await;
    let lost = Instant::now();
    client.disconnect().await;
    running.ended().await;
    assert!(lost.elapsed() >= Duration::from_millis(2_500), "deleted after {:?}", lost.elapsed());
    traces.assert_gone();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_environment_without_contact_lives_for_its_grace_only() {
    let home = Home::new();
    let mut running = home.start().await;
    let traces = Traces::of(&running);
    let client = Client::connect(&running, &home).await;
    let docker = client.docker(home.path());
    docker.import_busybox().await;
    docker.run(&["run", "-d", "bb", "sleep", "1000"]).await;
    let mut agent = client.agent().await;
    agent.done(Operation::Lease(LeaseTerms { grace_ms: 1_000, lost_contact_ms: 600_000 })).await;
    agent.done(Operation::Freeze).await;
    let lost = Instant::now();
    client.disconnect().await;
    running.ended().await;
    assert!(lost.elapsed() >= Duration::from_millis(1_000), "deleted after {:?}", lost.elapsed());
    traces.assert_gone();
}

#[tokio::test(flavor = "multi_thread")]
async fn contact_holds_an_environment_and_a_second_connection_takes_over_from_the_first() {
    let home = Home::new();
    let mut spec = home.spec();
    spec.lease = LeaseTerms { grace_ms: 1_500, lost_contact_ms: 1_500 };
    let mut running = home.start_with(&spec).await;
    let first = Client::connect(&running, &home).await;
    let second = Client::connect(&running, &home).await;
    first.disconnect().await;
    // Longer than the lease: the second connection alone holds the environment.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    second.agent().await.done(Operation::Ping).await;
    second.disconnect().await;
    running.ended().await;
}
