//! A session's D-Bus, and a keyring on it.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    TempHome,
    process::{LIMIT, Running, run},
};

/// A bus that nothing starts itself on: it has no directories of services, so that nothing of the developer's machine is
/// there. Dropped, it is gone.
pub struct SessionBus {
    address: String,
    _process: Running,
}

impl SessionBus {
    /// Starts the bus of a home, whose later programs are to find it by [`Self::address`] in `DBUS_SESSION_BUS_ADDRESS`.
    ///
    /// # Errors
    /// `dbus-daemon` is missing.
    pub fn start(home: &TempHome) -> Result<Self> {
        let config = home.scratch().join("bus.conf");
        fs_err::write(
            &config,
            format!(
                "<busconfig><type>session</type><listen>unix:path={}</listen><policy context='default'>\
                 <allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/></policy></busconfig>",
                home.scratch().join("bus").display(),
            ),
        )?;
        let process = Running::spawn(
            Command::new("dbus-daemon").args(["--nofork", "--print-address=1", "--config-file"]).arg(&config),
        )?;
        let address = process.wait_for("\n", LIMIT)?.trim().to_owned();
        Ok(Self { address, _process: process })
    }

    /// Where it is, as D-Bus names it.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// A Secret Service: GNOME's, unlocked, with a keyring that lies in the home. Nothing on the bus could ask a person for its
/// password. Dropped, it is gone.
pub struct Keyring(#[expect(dead_code, reason = "it runs for as long as this lives")] Running);

impl Keyring {
    /// Starts it on the home's bus.
    ///
    /// # Errors
    /// `gnome-keyring-daemon` is missing, or does not come up.
    pub fn start(home: &TempHome) -> Result<Self> {
        let mut watch = home.command("dbus-monitor");
        watch.args(["--session", "type='signal',member='NameOwnerChanged',arg0='org.freedesktop.secrets'"]);
        let watch = Running::spawn(&mut watch)?;
        watch.wait_for("NameAcquired", LIMIT)?;
        let mut command = home.command("gnome-keyring-daemon");
        let mut process = Running::spawn(command.args(["--foreground", "--unlock", "--components=secrets"]))?;
        // The keyring's password: an empty one.
        process.write("\n")?;
        process.close_stdin();
        watch.wait_for("org.freedesktop.secrets", LIMIT).context("no keyring comes up")?;
        Ok(Self(process))
    }

    /// Locks it.
    ///
    /// # Errors
    /// It refuses.
    pub fn lock(&self, home: &TempHome) -> Result<()> {
        let mut send = home.command("dbus-send");
        send.args(["--session", "--print-reply", "--dest=org.freedesktop.secrets", "/org/freedesktop/secrets"]);
        send.args(["org.freedesktop.Secret.Service.Lock", "array:objpath:/org/freedesktop/secrets/aliases/default"]);
        run(&mut send, LIMIT)?.success()?;
        Ok(())
    }
}
