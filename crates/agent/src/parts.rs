//! The living parts of an environment that its agent holds, and their end.

use std::{os::fd::OwnedFd, path::PathBuf, process::Child, time::Duration};

use overside_model::Problem;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::task::spawn_blocking;

use crate::{
    network::Network,
    problem::{During, internal},
    process::Identity,
    record::Record,
    sole,
};

/// How long the kernel may take to end every process of the environment.
const PATIENCE: Duration = Duration::from_secs(10);

/// What has to be ended and removed.
#[derive(Debug)]
pub(crate) struct Parts {
    directory: PathBuf,
    /// What is on record; [`Parts::save`] after every change.
    pub(crate) record: Record,
    child: Option<Child>,
    /// The first process of the environment: its end is the end of every other.
    init: Option<OwnedFd>,
    pub(crate) network: Option<Network>,
}

impl Parts {
    /// Nothing but a directory yet.
    pub(crate) const fn new(directory: PathBuf, record: Record) -> Self {
        Self { directory, record, child: None, init: None, network: None }
    }

    /// Writes the record.
    pub(crate) fn save(&self) -> Result<(), Problem> {
        self.record.write(&self.directory)
    }

    /// Takes the process that holds the namespaces from outside.
    pub(crate) fn take_child(&mut self, child: Child) -> Result<(), Problem> {
        self.record.processes.extend(Identity::of(child.id()));
        self.child = Some(child);
        self.save()
    }

    /// Its process id.
    pub(crate) fn child_pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Takes the environment's first process. Told before anything untrusted runs; later claims are ignored.
    pub(crate) fn take_init(&mut self, pid: u32) -> Result<(), Problem> {
        if self.init.is_none() {
            self.init = Some(hold(pid).during("holding the environment's first process")?);
            self.record.processes.extend(Identity::of(pid));
        }
        Ok(())
    }

    /// Takes the environment's network.
    pub(crate) fn take_network(&mut self, network: Network) -> Result<(), Problem> {
        self.record.processes.extend(network.pid().and_then(Identity::of));
        self.network = Some(network);
        self.save()
    }

    /// Starts the network again after its end.
    pub(crate) async fn restart_network(&mut self) -> Result<(), Problem> {
        match self.network.take() {
            Some(network) => {
                let network = network.restart().await?;
                self.take_network(network)
            }
            None => Err(internal("there is no network to start again")),
        }
    }

    /// Ends and removes everything. Blocks.
    pub(crate) fn undo(&mut self) {
        if let Err(problem) = self.end_processes().and_then(|()| self.erase()) {
            tracing::error!(%problem, "the failed start left something behind");
        }
    }

    /// Ends and removes everything; returns when nothing is left.
    pub(crate) async fn end(mut self) -> Result<(), Problem> {
        let network = self.network.take();
        let removed = spawn_blocking(move || {
            self.end_processes()?;
            Ok(self)
        });
        let parts: Self = removed.await.unwrap_or_else(|_| Err(internal("ending the environment was interrupted")))?;
        if let Some(network) = network {
            network.stop().await;
        }
        spawn_blocking(move || parts.erase())
            .await
            .unwrap_or_else(|_| Err(internal("removing the environment was interrupted")))
    }

    /// Removes what is left when no process is, and with the last environment the directory of all of them. Blocks.
    fn erase(&self) -> Result<(), Problem> {
        self.record.erase(&self.directory)?;
        if let Some(environments) = self.directory.parent() {
            sole::leave(environments);
        }
        Ok(())
    }

    /// Kills the environment and waits until the kernel has buried all of it. Blocks.
    fn end_processes(&mut self) -> Result<(), Problem> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // On version 1 a frozen process does not even die.
        if let Some(cgroups) = &self.record.cgroups
            && let Err(problem) = cgroups.thaw()
        {
            tracing::warn!(%problem, "thawing before the end");
        }
        match &self.init {
            Some(init) => {
                let _ = pidfd_send_signal(init, Signal::KILL);
            }
            None => child.kill().during("ending the environment")?,
        }
        // The child outlives the first process, which outlives every process of the environment.
        let held = hold(child.id()).during("waiting for the environment's end")?;
        if !readable(&held, PATIENCE)? {
            child.kill().during("ending the environment")?;
        }
        child.wait().map(drop).during("waiting for the environment's end")
    }
}

fn hold(pid: u32) -> std::io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Waits for a process to end; false when it does not in time.
fn readable(held: &OwnedFd, patience: Duration) -> Result<bool, Problem> {
    let timeout = Timespec { tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(held, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).during("waiting for the environment's end"),
        }
    }
}
