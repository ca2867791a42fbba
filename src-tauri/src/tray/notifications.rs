//! Notifications by D-Bus, as the desktop's own server shows them.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt as _;
use tokio::{sync::mpsc, time::timeout};
use zbus::{Connection, fdo::DBusProxy, proxy::CacheProperties, zvariant::Value};

use super::{Event, icon};
use crate::{
    menu::Action,
    notice::{
        Change, Notice, Subject, Told,
        file::{Kept, NoticeFile, Place},
    },
};

const SERVER: &str = "org.freedesktop.Notifications";
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The side of the picture in a notification, in pixels.
const PICTURE: u32 = 48;

/// What a click on the notification itself is called in the protocol.
const DEFAULT: &str = "default";

#[zbus::proxy(
    interface = "org.freedesktop.Notifications",
    default_service = "org.freedesktop.Notifications",
    default_path = "/org/freedesktop/Notifications"
)]
trait Server {
    fn get_capabilities(&self) -> zbus::Result<Vec<String>>;

    #[expect(clippy::too_many_arguments, reason = "the protocol's")]
    fn notify(
        &self,
        app_name: &str,
        replaces_id: u32,
        app_icon: &str,
        summary: &str,
        body: &str,
        actions: &[&str],
        hints: HashMap<&str, Value<'_>>,
        expire_timeout: i32,
    ) -> zbus::Result<u32>;

    fn close_notification(&self, id: u32) -> zbus::Result<()>;

    #[zbus(signal)]
    fn action_invoked(&self, id: u32, action_key: String);

    #[zbus(signal)]
    fn notification_closed(&self, id: u32, reason: u32);
}

/// What is to be done, and what will have been told then.
pub(super) type Order = (Change, Option<Told>);

/// Carries out the orders until there are no more; then takes away what is shown, since nobody would hear its buttons.
pub(super) async fn announce(
    file: NoticeFile,
    mut orders: mpsc::UnboundedReceiver<Order>,
    events: mpsc::UnboundedSender<Event>,
) {
    let Kept { told, place } = file.load();
    let mut board = Board { file, told, inherited: place.is_some(), place, events };
    let mut session: Option<Session> = None;
    loop {
        let answer = async {
            match &mut session {
                Some(session) => session.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => {
                let Some((change, told)) = order else { break };
                if change != Change::Nothing && session.is_none() {
                    session = Session::open().await;
                }
                board.told = told;
                board.carry_out(change, session.as_ref()).await;
            }
            answer = answer => match answer {
                Some(answer) => board.hear(answer),
                // The bus is gone. The next one is looked for when there is something to tell.
                None => session = None,
            }
        }
    }
    board.told = board.told.take().map(Told::closed);
    board.carry_out(Change::Withdraw, session.as_ref()).await;
}

/// The one place for notifications.
struct Board {
    file: NoticeFile,
    told: Option<Told>,
    place: Option<Place>,
    /// Another process has put up what is there.
    inherited: bool,
    events: mpsc::UnboundedSender<Event>,
}

impl Board {
    async fn carry_out(&mut self, change: Change, session: Option<&Session>) {
        match change {
            Change::Nothing => {}
            Change::Withdraw => self.withdraw(session).await,
            Change::Show(notice) => self.show(&notice, session).await,
        }
        let kept = Kept { told: self.told.clone(), place: self.place.clone() };
        if let Err(error) = self.file.save(&kept) {
            tracing::debug!(%error, "what was told is not kept");
        }
    }

    async fn show(&mut self, notice: &Notice, session: Option<&Session>) {
        let capabilities = match session {
            Some(session) => session.capabilities().await,
            None => None,
        };
        let (Some(session), Some(capabilities)) = (session, capabilities) else {
            tracing::info!("there is no notification server");
            return self.ask_otherwise(notice);
        };
        let can = |name: &str| capabilities.iter().any(|known| known == name);
        let old = self.place.take();
        let current = session.owner().await;
        let inherited = std::mem::take(&mut self.inherited);
        let old = old.filter(|old| Some(&old.server) == current.as_ref());
        if inherited && old.is_none() {
            // It went with the server that showed it.
            return self.send(Event::NoticeClosed);
        }
        if !can("actions") && matches!(notice.subject, Subject::Prompt { .. }) {
            if let Some(old) = old {
                session.close(old.id).await;
            }
            return self.ask_otherwise(notice);
        }
        let id = session.notify(notice, old.map_or(0, |old| old.id), can("actions"), can("body-markup")).await;
        // Where it was started for this, its name is known only now.
        let server = session.owner().await;
        self.place = id.zip(server).map(|(id, server)| Place { server, id });
    }

    async fn withdraw(&mut self, session: Option<&Session>) {
        self.inherited = false;
        if let (Some(session), Some(place)) = (session, self.place.take())
            && session.owner().await.as_ref() == Some(&place.server)
        {
            session.close(place.id).await;
        }
    }

    /// A question must be asked somehow; the rest can be read in tray and window.
    fn ask_otherwise(&self, notice: &Notice) {
        if matches!(notice.subject, Subject::Prompt { .. }) {
            self.send(Event::AskInWindow);
        }
    }

    fn hear(&mut self, answer: Answer) {
        let here = |id| self.place.as_ref().is_some_and(|place| place.id == id);
        match answer {
            Answer::Chosen { id, key } if here(id) => {
                if let Some(action) = action_of(&key) {
                    self.send(Event::Chosen(action));
                }
            }
            Answer::Closed { id } if here(id) => {
                self.place = None;
                self.send(Event::NoticeClosed);
            }
            Answer::Chosen { .. } | Answer::Closed { .. } => {}
        }
    }

    fn send(&self, event: Event) {
        // Fails only while the program ends.
        let _ = self.events.send(event);
    }
}

/// What the server says.
enum Answer {
    Chosen { id: u32, key: String },
    Closed { id: u32 },
}

/// A connection to the session bus, and an ear for the server on it.
struct Session {
    server: ServerProxy<'static>,
    bus: DBusProxy<'static>,
    chosen: ActionInvokedStream,
    closed: NotificationClosedStream,
}

impl Session {
    /// None where there is no bus.
    async fn open() -> Option<Self> {
        let opened = async {
            let connection = Connection::session().await?;
            let server = ServerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
            let bus = DBusProxy::new(&connection).await?;
            let (chosen, closed) =
                (server.receive_action_invoked().await?, server.receive_notification_closed().await?);
            Ok::<_, zbus::Error>(Self { server, bus, chosen, closed })
        };
        match timeout(PATIENCE, opened).await {
            Ok(Ok(session)) => Some(session),
            Ok(Err(error)) => {
                tracing::debug!(%error, "there is no session bus for notifications");
                None
            }
            Err(_) => None,
        }
    }

    /// None where no server answers.
    async fn capabilities(&self) -> Option<Vec<String>> {
        timeout(PATIENCE, self.server.get_capabilities()).await.ok()?.ok()
    }

    /// The server's own name on the bus.
    async fn owner(&self) -> Option<String> {
        let name = zbus::names::BusName::try_from(SERVER).ok()?;
        let owner = timeout(PATIENCE, self.bus.get_name_owner(name)).await.ok()?.ok()?;
        Some(owner.to_string())
    }

    async fn notify(&self, notice: &Notice, replaces: u32, buttons: bool, markup: bool) -> Option<u32> {
        let mut actions = vec![DEFAULT, ""];
        for (action, label) in notice.buttons.iter().filter(|_| buttons) {
            actions.extend([key_of(*action), label]);
        }
        let escaped;
        let body = if markup {
            escaped = notice.body.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            &escaped
        } else {
            &notice.body
        };
        let mut hints = HashMap::from([("urgency", Value::U8(if notice.urgent { 2 } else { 1 }))]);
        if let Some(picture) = picture(notice.icon) {
            hints.insert("image-data", picture);
        }
        let expires = if notice.urgent { 0 } else { -1 };
        let actions = if buttons { &actions[..] } else { &[] };
        let call = self.server.notify("Overside", replaces, "", &notice.title, body, actions, hints, expires);
        match timeout(PATIENCE, call).await {
            Ok(Ok(id)) => Some(id),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a notification is not shown");
                None
            }
            Err(_) => None,
        }
    }

    async fn close(&self, id: u32) {
        // One that is gone already is as good.
        let _ = timeout(PATIENCE, self.server.close_notification(id)).await;
    }

    /// None once the bus is gone.
    async fn next(&mut self) -> Option<Answer> {
        tokio::select! {
            // Servers close what was chosen in: the choice came first, and is heard first.
            biased;
            signal = self.chosen.next() => {
                let arguments = signal?.args().ok().map(|signal| (signal.id, signal.action_key.clone()));
                let (id, key) = arguments.unwrap_or_default();
                Some(Answer::Chosen { id, key })
            }
            signal = self.closed.next() => {
                let id = signal?.args().map(|signal| signal.id).unwrap_or_default();
                Some(Answer::Closed { id })
            }
        }
    }
}

/// A picture as the protocol has it: width, height, row length, alpha, bits, channels, pixels.
fn picture(name: &str) -> Option<Value<'static>> {
    let pixmap = icon(name).find(|pixmap| pixmap.size == PICTURE)?;
    let side = i32::try_from(pixmap.size).ok()?;
    Some(Value::from((side, side, side * 4, true, 8_i32, 4_i32, pixmap.rgba.to_vec())))
}

/// What can be chosen in a notification, and its name in the protocol.
const KEYS: [(Action, &str); 6] = [
    (Action::Later, "later"),
    (Action::Idle, "idle"),
    (Action::Resume, "resume"),
    (Action::Retry, "retry"),
    (Action::OpenMounts, "mounts"),
    (Action::OpenWindow, DEFAULT),
];

fn key_of(action: Action) -> &'static str {
    KEYS.iter().find(|(known, _)| *known == action).map_or(DEFAULT, |(_, key)| key)
}

fn action_of(key: &str) -> Option<Action> {
    KEYS.iter().find(|(_, known)| *known == key).map(|(action, _)| *action)
}
