//! Follows the daemon: finds it, starts it where there is none, notices that it is gone, finds it again.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use overside_config::Home;
use overside_control::Client;
use overside_model::{ErrorCode, Problem};
use tokio::sync::{Notify, watch};

use crate::{daemon::DaemonProgram, link::Link};

/// How often a daemon that is gone is looked for, at first and after a while.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(5);

/// The way to one home's daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    client: Client,
    program: Arc<DaemonProgram>,
    links: watch::Receiver<Link>,
    nudge: Arc<Notify>,
}

impl Connection {
    /// Begins to follow the daemon of `home`, on the current tokio runtime and until it ends. A daemon is started once if
    /// there is none. One that goes away later is only looked for: whoever ended it had a reason.
    pub fn open(home: &Home) -> Self {
        let (sender, links) = watch::channel(Link::Connecting);
        let connection = Self {
            client: Client::new(home.control_socket()),
            program: Arc::new(DaemonProgram::of(home)),
            links,
            nudge: Arc::default(),
        };
        tokio::spawn(follow(connection.clone(), sender));
        connection
    }

    /// The control API's client.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The link as it changes.
    pub fn links(&self) -> watch::Receiver<Link> {
        self.links.clone()
    }

    /// Starts the daemon and returns once it answers.
    ///
    /// # Errors
    /// What the daemon said when it ended at once, or why it cannot be started.
    pub async fn start_daemon(&self) -> Result<(), Problem> {
        let started = self.program.start(&self.client).await;
        self.nudge.notify_one();
        started
    }
}

fn ended() -> Problem {
    Problem::new(ErrorCode::DaemonUnreachable, "the Overside daemon ended", "Start it again.")
}

async fn follow(connection: Connection, links: watch::Sender<Link>) {
    let looks = ExponentialBuilder::default().with_min_delay(FIRST_LOOK).with_max_delay(LAST_LOOK).without_max_times();
    let mut delays = looks.build();
    let mut may_start = true;
    // Why the daemon could not be started says more than that none answers.
    let mut failed_start = None;
    loop {
        let problem = match connection.client.watch().await {
            Ok(mut statuses) => loop {
                match statuses.next().await {
                    Ok(Some(status)) => {
                        delays = looks.build();
                        links.send_replace(Link::Here { status: Box::new(status) });
                    }
                    Ok(None) => break ended(),
                    Err(problem) => break problem,
                }
                (may_start, failed_start) = (false, None);
            },
            Err(problem) if may_start && problem.code == ErrorCode::DaemonUnreachable => {
                may_start = false;
                match connection.program.start(&connection.client).await {
                    Ok(()) => continue,
                    Err(problem) => {
                        tracing::warn!(error = problem.sentence(), "the daemon could not be started");
                        failed_start = Some(problem.clone());
                        problem
                    }
                }
            }
            Err(problem) => problem,
        };
        links.send_if_modified(|link| {
            let away = Link::Away { problem: failed_start.clone().unwrap_or(problem) };
            let changed = *link != away;
            *link = away;
            changed
        });
        tokio::select! {
            () = tokio::time::sleep(delays.next().unwrap_or(LAST_LOOK)) => {}
            () = connection.nudge.notified() => delays = looks.build(),
        }
    }
}
