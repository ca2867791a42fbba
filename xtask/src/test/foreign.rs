//! The agents for other kinds of machines, under QEMU's emulation of a user's programs.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{Session, tally};
use crate::{
    artifacts::{self, Profile},
    command,
};

/// A test that needs its process's start time from a thread: QEMU tells the thread's.
const NOT_EMULATED: &str = "of_two_that_start_at_once";

impl Session<'_> {
    pub(super) fn foreign(&mut self) {
        let workspace = self.workspace;
        let built =
            self.steps.loud("agents for other machines", || artifacts::build_foreign_agents(workspace, Profile::Dev));
        match built {
            Ok(agents) => {
                self.check("their greeting", || agents.iter().try_for_each(|agent| greets(agent)));
                for mut tests in artifacts::foreign_agent_tests(workspace) {
                    self.guard.apply(&mut tests);
                    tests.args(self.filter).args(["--", "--skip", NOT_EMULATED]);
                    self.counted("their own tests", &mut tests, tally::libtest);
                }
            }
            Err(error) => self.fault("agents for other machines", &error),
        }
    }
}

/// Whether an agent says who it is, and then does what it is asked for.
fn greets(agent: &Path) -> Result<()> {
    let name = agent.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let machine = name.rsplit('-').next().context("an agent is for no machine")?;
    let run = |arguments: &[&str]| -> Result<String> {
        let mut emulator = Command::new(format!("qemu-{machine}-static"));
        let output = command::capture(emulator.arg(agent).args(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let greeting = run(&["list", "/nonexistent"])?;
    ensure!(greeting.contains(r#""magic":"overside-agent""#), "{name} greets with {greeting:?}");
    ensure!(greeting.lines().count() == 1, "{name} finds environments where there are none: {greeting:?}");
    let version = run(&["version"])?;
    ensure!(version.starts_with("overside-agent "), "{name} calls itself {version:?}");
    Ok(())
}
