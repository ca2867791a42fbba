//! The tray: what stays resident. It follows the daemon, draws what it says, and passes clicks on.

use std::{future::Future, sync::Arc};

use anyhow::{Context as _, Result};
use overside_config::{Home, SettingsFile};
use overside_io::clock;
use overside_model::{Moment, Problem};
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    clipboard::Clipboard,
    connection::Connection,
    link::Seen,
    menu::{Action, Refused, Scene},
    notice::{Change, Notices, Told, file::NoticeFile},
    now::Now,
    programs,
    words::Words,
};

/// What selects Overside's context again, where another one was chosen by hand.
const USE_CONTEXT: &str = "docker context use overside";

#[cfg_attr(target_os = "linux", path = "tray/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "tray/native.rs")]
mod platform;

/// An icon's name, and its pixels in each size: written by src-tauri/build.rs.
type Pixmaps = (&'static str, &'static [(u32, &'static [u8])]);

include!(concat!(env!("OUT_DIR"), "/pixmaps.rs"));

/// One icon in one size.
#[derive(Debug, Clone, Copy)]
pub struct Pixmap {
    /// Width and height in pixels.
    pub size: u32,
    /// Red, green, blue and alpha of each pixel, row by row.
    pub rgba: &'static [u8],
}

/// The icon `name` of icons/tray in every size, the smallest first.
pub fn icon(name: &str) -> impl Iterator<Item = Pixmap> {
    let sizes = PIXMAPS.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, sizes)| *sizes);
    sizes.iter().map(|&(size, rgba)| Pixmap { size, rgba })
}

/// Where a platform draws the tray.
trait Panel {
    /// Draws the scene as it is now in place of the last one. Where there is no tray yet, remembers it for later.
    fn show(&mut self, scene: Scene) -> impl Future<Output = ()>;

    /// Does about notifications what is to be done, and keeps what will have been told then.
    fn tell(&mut self, change: Change, told: Option<&Told>);
}

/// What the user does with what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// Chooses something in the menu or in a notification.
    Chosen(Action),
    /// Has closed the notification, or a server that ended has.
    NoticeClosed,
    /// Nothing on this desktop can show a question with its answers.
    AskInWindow,
}

/// Runs the tray of `home` until it is quit. `with_window` opens the window at once.
///
/// # Errors
/// Where the platform cannot run a tray at all; one that merely has nowhere to be drawn waits for it.
pub fn run(home: &Home, with_window: bool) -> Result<()> {
    platform::run(home, with_window)
}

/// The tray's life: returns when it is quit. `events` brings what the user does.
async fn control(home: &Home, mut panel: impl Panel, mut events: mpsc::UnboundedReceiver<Event>, with_window: bool) {
    // Before anybody can see that this runs.
    let mut quit = std::pin::pin!(quit_signal());
    let connection = Connection::open(home);
    let clipboard = Arc::new(Clipboard::default());
    // Until the daemon tells what applies, under the organisation's policy.
    let mut language = SettingsFile::new(home.settings_file()).load().unwrap_or_default().language;
    let mut links = connection.links();
    let seen = Seen { link: links.borrow_and_update().clone(), at: clock::now() };
    let mut scene = Scene { seen, refused: None, words: Arc::new(Words::chosen(language)) };
    let mut notices = Notices::after(NoticeFile::of(home).load().told);
    // Each ends with its window.
    let mut windows: JoinSet<()> = JoinSet::new();
    let mut requests: JoinSet<Result<(), Refused>> = JoinSet::new();

    if with_window {
        open_window(&mut windows, &[]);
    }
    let mut shown = None;
    loop {
        let now = Now::read();
        let view = scene.view(&now);
        if shown.as_ref() != Some(&view) {
            panel.show(scene.clone()).await;
            shown = Some(view);
        }
        tokio::select! {
            changed = links.changed() => {
                if changed.is_err() {
                    break;
                }
                let before = scene.seen.link.face();
                scene.seen = Seen { link: links.borrow_and_update().clone(), at: clock::now() };
                if scene.seen.link.face() != before {
                    scene.refused = None;
                }
                if let Some(chosen) = scene.seen.link.status().map(|status| status.desktop.language)
                    && chosen != language
                {
                    language = chosen;
                    scene.words = Arc::new(Words::chosen(language));
                }
                let told = notices.told().cloned();
                let change = notices.see(&scene.seen, &Now::read(), &scene.words);
                if change != Change::Nothing || notices.told() != told.as_ref() {
                    panel.tell(change, notices.told());
                }
            }
            Some(event) = events.recv() => match event {
                Event::NoticeClosed => {
                    notices.closed();
                    panel.tell(Change::Nothing, notices.told());
                }
                Event::AskInWindow => open_window(&mut windows, &["--prompt"]),
                Event::Chosen(Action::Quit) => break,
                Event::Chosen(Action::OpenWindow) => open_window(&mut windows, &[]),
                Event::Chosen(Action::OpenSettings) => open_window(&mut windows, &["--page", "settings"]),
                Event::Chosen(Action::OpenMounts) => open_window(&mut windows, &["--page", "mounts"]),
                Event::Chosen(action) => {
                    scene.refused = None;
                    let (connection, clipboard) = (connection.clone(), clipboard.clone());
                    requests.spawn(async move {
                        let result = carry_out(action, &connection, &clipboard).await;
                        result.map_err(|problem| Refused { action, problem })
                    });
                }
            },
            Some(answer) = requests.join_next() => {
                scene.refused = answer.ok().and_then(Result::err);
            }
            Some(_closed) = windows.join_next() => {}
            () = reached(scene.next_change(now.moment)) => {}
            () = &mut quit => break,
        }
    }
    // Ends what waits for the windows, and with it the windows.
    windows.shutdown().await;
}

/// Waits for a moment; for ever where there is none to wait for.
async fn reached(moment: Option<Moment>) {
    match moment {
        Some(moment) => clock::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Does what was chosen.
async fn carry_out(action: Action, connection: &Connection, clipboard: &Clipboard) -> Result<(), Problem> {
    let client = connection.client();
    match action {
        Action::Enable => client.enable().await.map(drop),
        Action::Disable { force } => client.disable(force).await.map(drop),
        Action::Idle => client.idle().await.map(drop),
        Action::Later => client.later().await.map(drop),
        Action::Resume => client.resume().await.map(drop),
        Action::Retry => client.retry().await.map(drop),
        Action::StartDaemon => connection.start_daemon().await,
        Action::RestartDaemon => {
            client.shutdown().await?;
            connection.start_daemon().await
        }
        Action::CopyContext => clipboard.put(USE_CONTEXT).await,
        Action::OpenWindow | Action::OpenSettings | Action::OpenMounts | Action::Quit => Ok(()),
    }
}

/// Opens the window. Where one is open already, the new process brings it to the front, on the page that is asked for, and
/// ends.
fn open_window(windows: &mut JoinSet<()>, arguments: &[&str]) {
    match spawn_window(arguments) {
        Ok(mut window) => {
            windows.spawn(async move {
                // It says by itself, on stderr, why it could not open.
                let ended = window.wait().await;
                tracing::debug!(?ended, "the window closed");
            });
        }
        Err(error) => tracing::warn!(%error, "the window cannot be opened"),
    }
}

fn spawn_window(arguments: &[&str]) -> Result<Child> {
    let program = programs::beside("overside-window")?;
    let mut command = Command::new(&program);
    command.args(arguments).kill_on_drop(true).spawn().with_context(|| format!("cannot start {}", program.display()))
}

/// Waits until this process is asked to end, be it before this is polled for the first time.
#[cfg(unix)]
fn quit_signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// Waits until this process is asked to end.
#[cfg(not(unix))]
async fn quit_signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
