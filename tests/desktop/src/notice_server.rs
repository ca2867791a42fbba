//! A notification server that only remembers what it was given: with buttons or without.

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, Sender, channel},
};

use anyhow::{Context as _, Result};
use zbus::{
    blocking::{Connection, connection},
    zvariant::OwnedValue,
};

use crate::{Desk, SOON};

const PATH: &str = "/org/freedesktop/Notifications";
const INTERFACE: &str = "org.freedesktop.Notifications";

/// What a server is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// To show something.
    Show(Shown),
    /// To take it away.
    Close(u32),
}

/// One notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its number.
    pub id: u32,
    /// The number of the one that it took the place of, or 0.
    pub replaces: u32,
    /// The title.
    pub title: String,
    /// The text.
    pub body: String,
    /// The buttons' labels; the click on the notification itself is not among them.
    pub buttons: Vec<String>,
    /// It asks to stay until it is answered.
    pub urgent: bool,
    keys: Vec<String>,
}

/// A notification server on a desktop's bus. Dropped, it is gone.
pub struct NoticeServer {
    connection: Connection,
    asked: Receiver<Asked>,
}

struct Server {
    asked: Sender<Asked>,
    capabilities: &'static [&'static str],
    last: u32,
}

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Server {
    fn get_capabilities(&self) -> Vec<String> {
        self.capabilities.iter().map(|name| (*name).to_owned()).collect()
    }

    #[expect(clippy::too_many_arguments, reason = "the protocol's")]
    fn notify(
        &mut self,
        _app_name: &str,
        replaces_id: u32,
        _app_icon: &str,
        summary: String,
        body: String,
        actions: Vec<String>,
        hints: HashMap<String, OwnedValue>,
        _expire_timeout: i32,
    ) -> u32 {
        if replaces_id == 0 {
            self.last += 1;
        }
        let id = if replaces_id == 0 { self.last } else { replaces_id };
        let (keys, buttons) = actions
            .chunks_exact(2)
            .filter(|pair| pair[0] != "default")
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .unzip();
        let urgent = hints.get("urgency").and_then(|value| u8::try_from(value).ok()) == Some(2);
        let shown = Shown { id, replaces: replaces_id, title: summary, body, buttons, urgent, keys };
        // Nobody listens any more while the test ends.
        let _ = self.asked.send(Asked::Show(shown));
        id
    }

    fn close_notification(&self, id: u32) {
        let _ = self.asked.send(Asked::Close(id));
    }
}

impl NoticeServer {
    /// Comes to the desktop's bus.
    ///
    /// # Errors
    /// There is one already.
    pub fn start(desk: &Desk, buttons: bool) -> Result<Self> {
        let capabilities: &[&str] = if buttons { &["actions", "body", "body-markup"] } else { &["body"] };
        let (sender, asked) = channel();
        let connection = connection::Builder::address(desk.bus_address())?
            .serve_at(PATH, Server { asked: sender, capabilities, last: 0 })?
            .name(INTERFACE)?
            .build()?;
        Ok(Self { connection, asked })
    }

    /// Waits for the next thing that it is asked for.
    ///
    /// # Errors
    /// It is asked for nothing.
    pub fn asked(&self) -> Result<Asked> {
        self.asked.recv_timeout(SOON).context("the notification server is asked for nothing")
    }

    /// Waits for a notification.
    ///
    /// # Errors
    /// It is asked for nothing, or for something else.
    pub fn shown(&self) -> Result<Shown> {
        match self.asked()? {
            Asked::Show(shown) => Ok(shown),
            other @ Asked::Close(_) => anyhow::bail!("not a notification: {other:?}"),
        }
    }

    /// What it was asked for and nobody has looked at yet.
    pub fn rest(&self) -> Vec<Asked> {
        self.asked.try_iter().collect()
    }

    /// Clicks a button.
    ///
    /// # Errors
    /// There is no such button.
    pub fn click(&self, shown: &Shown, label: &str) -> Result<()> {
        let button = shown.buttons.iter().position(|button| button == label);
        let key = button.and_then(|button| shown.keys.get(button)).with_context(|| format!("no button {label:?}"))?;
        self.connection.emit_signal(None::<&str>, PATH, INTERFACE, "ActionInvoked", &(shown.id, key))?;
        // As most servers do.
        self.close(shown)
    }

    /// Closes a notification, as a user does.
    ///
    /// # Errors
    /// The bus is gone.
    pub fn close(&self, shown: &Shown) -> Result<()> {
        Ok(self.connection.emit_signal(None::<&str>, PATH, INTERFACE, "NotificationClosed", &(shown.id, 2_u32))?)
    }
}
