//! Living with an environment until its end: a client's order, the lease, a signal, or the engine's own death.

use std::{sync::Arc, time::Duration};

use overside_io::clock;
use overside_model::Problem;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::timeout,
};

use super::{
    environment::Environment,
    owner::{self, Change},
    start::Running,
};
use crate::{
    lease::{Verdict, judge},
    problem::{During, last_lines},
    wire::Event,
};

/// How long clients may take to read the last answer before the agent ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// SIGTERM as a stream.
pub(super) fn termination() -> Result<Signal, Problem> {
    signal(SignalKind::terminate()).during("receiving signals")
}

/// Returns when the environment is deleted and the agent may end.
pub(super) async fn run(running: Running) {
    let Running {
        mut parts,
        environment,
        mut deletions,
        mut events,
        listener,
        server,
        owner,
        engine_log,
        mut terminated,
    } = running;
    let keys = server.keys();
    let serving = tokio::spawn(server.run(listener));
    let (change, mut changes) = mpsc::channel(1);
    let (listener, facts) = owner;
    let waiting = tokio::spawn(owner::serve(listener, facts, change));
    let mut answer = None;
    // One clock for the whole life: events from inside must not start it anew.
    let mut lease = std::pin::pin!(lease_over(&environment));
    loop {
        tokio::select! {
            order = deletions.recv() => {
                tracing::info!("deleting the environment: its client wants it");
                answer = order;
            }
            () = &mut lease => tracing::info!("deleting the environment: its lease is over"),
            _ = terminated.recv() => tracing::info!("deleting the environment: the agent was told to end"),
            Some(Change { to, key, answer }) = changes.recv() => {
                tracing::info!(computer = to.owner.computer, "the session goes on on another computer");
                let before = parts.record.owner.replace(to.owner.clone());
                let saved = parts.save();
                if saved.is_ok() {
                    keys.send_replace(Arc::new(key));
                    environment.hand_over(to.owner.computer);
                } else {
                    parts.record.owner = before;
                }
                // Whoever asked may have gone; the session is theirs all the same.
                let _ = answer.send(saved);
                continue;
            }
            event = events.recv() => match event {
                Some((Event::EngineEnded(status), _)) => {
                    tracing::warn!(status, "deleting the environment: dockerd has ended");
                    // Its last lines may still be in the pipe.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    environment.end(format!("dockerd ended ({status}): {}", last_lines(&engine_log.text(), 12)));
                }
                None => {
                    tracing::warn!("deleting the environment: its first process has ended");
                    environment.end("the environment's first process ended".to_owned());
                }
                Some(_) => continue,
            },
            () = network_ended(&mut parts) => match parts.restart_network().await {
                Ok(()) => {
                    tracing::warn!("slirp4netns has ended and was started again");
                    continue;
                }
                Err(problem) => {
                    tracing::warn!(%problem, "deleting the environment: slirp4netns has ended");
                    environment.end(format!("the environment's network ended: {problem}"));
                }
            },
        }
        break;
    }
    environment.begin_end().await;
    let result = parts.end().await;
    if let Err(problem) = &result {
        tracing::error!(%problem, "deleting the environment");
    }
    if let Some(answer) = answer {
        let _ = answer.send(result.clone());
    }
    while let Ok(later) = deletions.try_recv() {
        let _ = later.send(result.clone());
    }
    waiting.abort();
    serving.abort();
    let mut contacts = environment.contacts();
    let _ = timeout(FAREWELL, contacts.wait_for(|count| *count == 0)).await;
}

async fn network_ended(parts: &mut crate::parts::Parts) {
    match &mut parts.network {
        Some(network) => network.ended().await,
        None => std::future::pending().await,
    }
}

/// Time for a client to come for the first time, in addition to the lease.
const TO_CONNECT: Duration = Duration::from_secs(30);

/// Returns when the environment has been without contact for too long. The clock goes on while the machine sleeps.
async fn lease_over(environment: &Arc<Environment>) {
    let mut contacts = environment.contacts();
    let mut terms = environment.terms();
    // The lease runs from the start: a provider that never connects leaves nothing behind. But it gets the time to connect,
    // however short the lease is.
    let mut allowance = TO_CONNECT;
    loop {
        if contacts.wait_for(|count| *count == 0).await.is_err() {
            return;
        }
        let since = clock::now() + std::mem::take(&mut allowance);
        loop {
            let busy = environment.busy().await;
            let current = *terms.borrow_and_update();
            let Verdict::Until(moment) = judge(current, since, clock::now(), busy) else {
                return;
            };
            tokio::select! {
                () = clock::sleep_until(moment) => {}
                _ = terms.changed() => {}
                _ = contacts.wait_for(|count| *count > 0) => break,
            }
        }
    }
}
