//! The ports that containers with the environment's own network listen on (`docker run --network host`), on this machine.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use overside_model::{
    ErrorCode, Problem, Publication,
    agent::{LISTENERS, Listener, MAX_LISTENERS_LINE},
};
use overside_ports::Target;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    sync::watch,
};

use crate::environment::Environment;

/// The containers with the environment's network, by their first processes.
pub(crate) type Hosts = BTreeMap<u32, String>;

/// Keeps their ports up to date until the environment is gone.
pub(crate) async fn follow(environment: &Weak<Environment>, mut hosts: watch::Receiver<Arc<Hosts>>) {
    loop {
        let wanted = hosts.borrow_and_update().clone();
        let Some(mut state) = environment.upgrade().map(|environment| environment.link.state()) else { return };
        state.mark_unchanged();
        let watch = async {
            if wanted.is_empty() {
                set(environment, BTreeMap::new()).await;
            } else if let Err(problem) = read(environment, &wanted).await {
                // What was known stays: it is read anew when the tunnel is back.
                tracing::debug!(%problem, "cannot follow the listeners of containers");
            } else {
                tracing::debug!("the agent tells no more listeners");
            }
            let _ = state.changed().await;
        };
        tokio::select! {
            changed = hosts.changed() => if changed.is_err() { return },
            () = watch => {}
        }
    }
}

async fn set(environment: &Weak<Environment>, listeners: BTreeMap<Publication, Target>) {
    if let Some(environment) = environment.upgrade() {
        environment.containers.set_listeners(listeners).await;
    }
}

/// Until the agent or the tunnel ends it.
async fn read(environment: &Weak<Environment>, hosts: &Hosts) -> Result<(), Problem> {
    let Some(present) = environment.upgrade() else { return Ok(()) };
    let mut stream = present.link.open(LISTENERS).await?;
    drop(present);
    let broken = |error: &dyn std::fmt::Display| Problem::new(ErrorCode::TunnelLost, format!("{error}"), "");
    let pids: Vec<u32> = hosts.keys().copied().collect();
    let question = serde_json::to_string(&pids).map_err(|error| broken(&error))? + "\n";
    stream.write_all(question.as_bytes()).await.map_err(|error| broken(&error))?;
    stream.flush().await.map_err(|error| broken(&error))?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let length = (&mut lines).take(MAX_LISTENERS_LINE).read_until(b'\n', &mut line).await;
        if length.map_err(|error| broken(&error))? == 0 {
            return Ok(());
        }
        let listeners: Vec<Listener> = serde_json::from_slice(&line).map_err(|error| broken(&error))?;
        set(environment, publications(&listeners, hosts)).await;
    }
}

/// Where they are on this machine, each with the container that it leads to.
fn publications(listeners: &[Listener], hosts: &Hosts) -> BTreeMap<Publication, Target> {
    let entry = |listener: &Listener| {
        // A program in further namespaces of its own cannot be told to be of one of several.
        let named = listener.container.and_then(|pid| hosts.get(&pid)).or_else(|| hosts.values().next());
        let target = Target { container: named.cloned().unwrap_or_default(), container_port: listener.port };
        listener.on_laptop().into_iter().map(move |publication| (publication, target.clone()))
    };
    listeners.iter().flat_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use overside_model::Protocol;

    use super::*;

    #[test]
    fn listeners_are_named_by_their_container_and_any_by_the_first() {
        let hosts = Hosts::from([(7, "web".to_owned()), (9, "db".to_owned())]);
        let listener = |address: &str, port, container| Listener {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            port,
            container,
        };
        let shown = publications(
            &[listener("0.0.0.0", 80, Some(9)), listener("::", 81, None), listener("172.17.0.1", 82, Some(7))],
            &hosts,
        );
        let shown: Vec<String> =
            shown.iter().map(|(at, target)| format!("{at} {}:{}", target.container, target.container_port)).collect();
        assert_eq!(shown, ["tcp:127.0.0.1:80 db:80", "tcp:127.0.0.1:81 web:81", "tcp:[::1]:81 web:81"]);
    }
}
