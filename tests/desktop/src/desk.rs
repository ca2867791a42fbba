//! A display, a session bus and a home: what a desktop session is made of.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use overside_model::State;
use overside_testkit::{Outcome, Running, SessionBus, TempHome, product, run};

/// What anything on the desktop may take. Generous: it only tells a hang from a slow machine.
pub const SOON: Duration = Duration::from_secs(20);

/// One user's desktop for one test. Dropped, it makes sure that nothing of the app is left.
pub struct Desk {
    // In the order in which they are dropped: the home first, since it looks for what still runs.
    home: TempHome,
    display_name: String,
    bus: SessionBus,
    _display: Running,
}

impl Desk {
    /// A desktop in English with light colours.
    ///
    /// # Errors
    /// `Xvfb` or `dbus-daemon` is missing.
    pub fn new() -> Result<Self> {
        Self::with(&[])
    }

    /// A desktop whose programs get some more environment variables.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(variables: &[(&str, &str)]) -> Result<Self> {
        Self::on(TempHome::new()?, variables)
    }

    /// A desktop on a machine with an organisation's policy, and with some more environment variables. Its daemon is to be started by [`Self::start_daemon`]. Needs
    /// root.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_policy(policy: &str, variables: &[(&str, &str)]) -> Result<Self> {
        Self::on(TempHome::new()?.with_policy(policy)?, variables)
    }

    fn on(mut home: TempHome, variables: &[(&str, &str)]) -> Result<Self> {
        // The server chooses a free number and tells it, once it can be used.
        let display = Running::spawn(Command::new("Xvfb").args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            "1280x1024x24",
            "-nolisten",
            "tcp",
        ]))?;
        let number = display.wait_for("\n", SOON)?;

        let bus = SessionBus::start(&home)?;

        let display_name = format!(":{}", number.trim());
        home = home
            .with("DISPLAY", &display_name)
            .with("DBUS_SESSION_BUS_ADDRESS", bus.address())
            .with("LANG", "en_US.UTF-8")
            .with("GTK_THEME", "Adwaita")
            // Its bus is started by a service, which this bus has none of.
            .with("NO_AT_BRIDGE", "1");
        for (name, value) in variables {
            home = home.with(*name, *value);
        }
        Ok(Self { home, display_name, bus, _display: display })
    }

    /// The user's home.
    pub const fn home(&self) -> &TempHome {
        &self.home
    }

    /// The display's name.
    pub fn display(&self) -> &str {
        &self.display_name
    }

    /// The session bus.
    pub fn bus_address(&self) -> &str {
        self.bus.address()
    }

    /// One of Overside's programs on this desktop.
    ///
    /// # Errors
    /// It is not built.
    pub fn program(&self, name: &str) -> Result<Command> {
        Ok(self.home.command(product(name)?))
    }

    /// Starts the tray.
    ///
    /// # Errors
    /// It is not built.
    pub fn start_tray(&self) -> Result<Running> {
        Running::spawn(self.program("overside-desktop")?.arg("--background"))
    }

    /// Starts the daemon.
    ///
    /// # Errors
    /// It is not built, or ended instead.
    pub fn start_daemon(&self) -> Result<Running> {
        let daemon = Running::spawn(&mut self.home.overside(&["daemon"])?)?;
        daemon.wait_for_error("Overside listens on", SOON)?;
        Ok(daemon)
    }

    /// Runs `overside` with arguments.
    ///
    /// # Errors
    /// It does not end.
    pub fn overside(&self, arguments: &[&str]) -> Result<Outcome> {
        run(&mut self.home.overside(arguments)?, SOON)
    }

    /// The daemon's state, as `overside status` tells it.
    ///
    /// # Errors
    /// There is no daemon.
    pub fn state(&self) -> Result<State> {
        let outcome = self.overside(&["status", "--format", "json"])?.success()?;
        let status: overside_model::Status = serde_json::from_slice(&outcome.stdout).context("not a status")?;
        Ok(status.state)
    }

    /// What would be pasted; nothing where nobody has copied.
    ///
    /// # Errors
    /// `xclip` is missing.
    pub fn clipboard(&self) -> Result<String> {
        Ok(run(self.home.command("xclip").args(["-selection", "clipboard", "-out"]), SOON)?.out())
    }

    /// Waits until something holds that announces itself to nobody, such as a process that ends.
    ///
    /// # Errors
    /// It does not within [`SOON`]; says what.
    pub fn wait_until(&self, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + SOON;
        while !holds()? {
            anyhow::ensure!(Instant::now() < deadline, "not within {SOON:?}: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}
