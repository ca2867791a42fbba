//! dunst, a notification server as people have it, driven by its own `dunstctl`.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use overside_testkit::{Running, run};

use crate::{Desk, SOON};

/// dunst on a desktop. Dropped, it is gone.
pub struct Dunst<'a> {
    desk: &'a Desk,
    wanted: PathBuf,
    shown: PathBuf,
    _server: Running,
}

impl<'a> Dunst<'a> {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// It is missing, or does not start.
    pub fn start(desk: &'a Desk) -> Result<Self> {
        let place = desk.home().scratch();
        // It offers a notification's buttons in a menu program of one's own.
        let (menu, wanted) = (place.join("menu"), place.join("wanted"));
        program(&menu, &format!("exec grep --fixed-strings --file={}", wanted.display()))?;
        // And tells what it shows to another one.
        let (record, shown) = (place.join("record"), place.join("shown"));
        program(&record, &format!("echo \"$2\" >> {}", shown.display()))?;
        fs_err::write(&shown, "")?;
        let config = place.join("dunstrc");
        let all = format!("[all]\n    summary = \"*\"\n    script = {}\n", record.display());
        fs_err::write(&config, format!("[global]\n    dmenu = {}\n\n{all}", menu.display()))?;
        let server = Running::spawn(desk.home().command("dunst").arg("-config").arg(&config))?;
        let dunst = Self { desk, wanted, shown, _server: server };
        desk.wait_until("dunst serves", || Ok(dunst.control(&["count"]).is_ok()))?;
        Ok(dunst)
    }

    /// Waits until one notification is on the screen, and the last one that came has this title.
    ///
    /// # Errors
    /// There is none.
    pub fn wait_until_shown(&self, title: &str) -> Result<()> {
        self.desk.wait_until(&format!("dunst shows {title:?}"), || {
            let last = fs_err::read_to_string(&self.shown)?.lines().last() == Some(title);
            Ok(last && self.control(&["count", "displayed"])?.trim() == "1")
        })
    }

    /// Waits until nothing is on the screen.
    ///
    /// # Errors
    /// Something stays.
    pub fn wait_until_empty(&self) -> Result<()> {
        self.desk.wait_until("dunst shows nothing", || Ok(self.control(&["count", "displayed"])?.trim() == "0"))
    }

    /// Chooses a button of what is shown, as a person does in the menu that dunst opens.
    ///
    /// # Errors
    /// `dunstctl` fails.
    pub fn choose(&self, label: &str) -> Result<()> {
        fs_err::write(&self.wanted, label)?;
        self.control(&["context"]).map(drop)
    }

    fn control(&self, arguments: &[&str]) -> Result<String> {
        let outcome = run(self.desk.home().command("dunstctl").args(arguments), SOON)?;
        Ok(outcome.success().context("dunstctl")?.out())
    }
}

fn program(path: &Path, script: &str) -> Result<()> {
    fs_err::write(path, format!("#!/bin/sh\n{script}\n"))?;
    Ok(fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}
