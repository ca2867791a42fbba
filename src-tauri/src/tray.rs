//! The tray: what stays resident. It follows the daemon, draws what it says, and passes clicks on.

use std::future::Future;

use anyhow::{Context as _, Result};
use overside_config::Home;
use overside_model::Problem;
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    connection::Connection,
    menu::{Action, View, view},
    programs,
    words::{Words, user_language},
};

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
    /// Draws the view in place of the last one. Where there is no tray yet, remembers it for later.
    fn show(&mut self, view: View) -> impl Future<Output = ()>;
}

/// Runs the tray of `home` until it is quit. `with_window` opens the window at once.
///
/// # Errors
/// Where the platform cannot run a tray at all; one that merely has nowhere to be drawn waits for it.
pub fn run(home: &Home, with_window: bool) -> Result<()> {
    platform::run(home, with_window)
}

/// The tray's life: returns when it is quit. `clicks` brings what is chosen in the menu.
async fn control(
    connection: Connection,
    mut panel: impl Panel,
    mut clicks: mpsc::UnboundedReceiver<Action>,
    with_window: bool,
) {
    let words = Words::of(&user_language());
    let mut links = connection.links();
    let mut refusal: Option<Problem> = None;
    // Each ends with its window.
    let mut windows: JoinSet<()> = JoinSet::new();
    let mut requests: JoinSet<Result<(), Problem>> = JoinSet::new();
    let mut quit = std::pin::pin!(quit_signal());

    if with_window {
        open_window(&mut windows);
    }
    let mut shown = None;
    loop {
        let wanted = view(&links.borrow_and_update(), refusal.as_ref(), &words);
        if shown.as_ref() != Some(&wanted) {
            panel.show(wanted.clone()).await;
            shown = Some(wanted);
        }
        tokio::select! {
            changed = links.changed() => {
                if changed.is_err() {
                    break;
                }
                let before = shown.as_ref().map(|view| view.icon);
                if before != Some(view(&links.borrow(), None, &words).icon) {
                    refusal = None;
                }
            }
            Some(action) = clicks.recv() => match action {
                Action::Quit => break,
                Action::OpenWindow => open_window(&mut windows),
                request => {
                    refusal = None;
                    let connection = connection.clone();
                    requests.spawn(async move { carry_out(request, &connection).await });
                }
            },
            Some(answer) = requests.join_next() => {
                refusal = answer.ok().and_then(Result::err);
            }
            Some(_closed) = windows.join_next() => {}
            () = &mut quit => break,
        }
    }
    // Ends what waits for the windows, and with it the windows.
    windows.shutdown().await;
}

/// Asks the daemon for what was chosen.
async fn carry_out(action: Action, connection: &Connection) -> Result<(), Problem> {
    let client = connection.client();
    match action {
        Action::Enable => client.enable().await.map(drop),
        Action::Disable { force } => client.disable(force).await.map(drop),
        Action::Retry => client.retry().await.map(drop),
        Action::StartDaemon => connection.start_daemon().await,
        Action::OpenWindow | Action::Quit => Ok(()),
    }
}

/// Opens the window. Where one is open already, the new process brings it to the front and ends.
fn open_window(windows: &mut JoinSet<()>) {
    match spawn_window() {
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

fn spawn_window() -> Result<Child> {
    let program = programs::beside("overside-window")?;
    Command::new(&program).kill_on_drop(true).spawn().with_context(|| format!("cannot start {}", program.display()))
}

/// Waits until this process is asked to end.
#[cfg(unix)]
async fn quit_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Waits until this process is asked to end.
#[cfg(not(unix))]
async fn quit_signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
