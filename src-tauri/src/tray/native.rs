//! The tray by Tauri's tray-icon, on the main thread as these systems want it. No web view is made.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use overside_config::Home;
use tauri::{
    AppHandle, RunEvent,
    image::Image,
    menu::{Menu, MenuBuilder, MenuItemBuilder},
    tray::{TrayIconBuilder, TrayIconEvent},
};
use tokio::sync::mpsc;

use super::{Event, Panel, control, icon};
use crate::{
    menu::{Action, Item, Scene, View},
    notice::{
        Change, Notice, Subject, Told,
        file::{Kept, NoticeFile},
    },
    now::Now,
};

const TRAY: &str = "overside";
/// Scaled down by the system where its bar is lower.
const SIDE: u32 = 32;

pub(super) fn run(home: &Home, with_window: bool) -> Result<()> {
    let (event, events) = mpsc::unbounded_channel();
    let file = NoticeFile::of(home);
    let home = home.clone();
    let app = tauri::Builder::default()
        .setup(move |app| {
            #[cfg(target_os = "macos")]
            app.set_activation_policy(tauri::ActivationPolicy::Accessory);
            let scene: Arc<Mutex<Option<Scene>>> = Arc::default();
            let drawn = scene.clone();
            TrayIconBuilder::with_id(TRAY)
                .show_menu_on_left_click(true)
                .on_tray_icon_event(move |icon, event| {
                    // Times in the menu are of the moment in which the pointer came to open it.
                    if let TrayIconEvent::Enter { .. } = event {
                        redraw(icon.app_handle(), &drawn);
                    }
                })
                .build(app)?;
            let handle = app.handle().clone();
            let click = event.clone();
            app.on_menu_event(move |_, chosen| {
                if let Some(action) = action_of(chosen.id().as_ref()) {
                    // Fails only while the program ends.
                    let _ = click.send(Event::Chosen(action));
                }
            });
            tauri::async_runtime::spawn(async move {
                control(&home, Native { app: handle.clone(), scene, file, event }, events, with_window).await;
                handle.exit(0);
            });
            Ok(())
        })
        .build(tauri::generate_context!())
        .context("cannot start the tray")?;
    app.run(|_, event| {
        if let RunEvent::ExitRequested { api, code: None, .. } = event {
            // No window is no reason to end.
            api.prevent_exit();
        }
    });
    Ok(())
}

struct Native {
    app: AppHandle,
    /// What was last shown.
    scene: Arc<Mutex<Option<Scene>>>,
    file: NoticeFile,
    event: mpsc::UnboundedSender<Event>,
}

impl Panel for Native {
    async fn show(&mut self, scene: Scene) {
        *self.scene.lock().unwrap_or_else(PoisonError::into_inner) = Some(scene);
        let (app, scene) = (self.app.clone(), self.scene.clone());
        let drawn = self.app.run_on_main_thread(move || redraw(&app, &scene));
        if let Err(error) = drawn {
            tracing::debug!(%error, "the tray is gone");
        }
    }

    /// Questions are asked in a window of our own: notifications of these systems need a signed or installed program to carry
    /// buttons. The rest is in the icon and the menu.
    fn tell(&mut self, change: Change, told: Option<&Told>) {
        if let Change::Show(Notice { subject: Subject::Prompt { .. }, .. }) = change {
            // Fails only while the program ends.
            let _ = self.event.send(Event::AskInWindow);
        }
        if let Err(error) = self.file.save(&Kept { told: told.cloned(), place: None }) {
            tracing::debug!(%error, "what was told is not kept");
        }
    }
}

/// Draws the last scene as it is now. On the main thread.
fn redraw(app: &AppHandle, scene: &Mutex<Option<Scene>>) {
    let view = scene.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|scene| scene.view(&Now::read()));
    if let Some(Err(error)) = view.map(|view| draw(app, &view)) {
        tracing::warn!(%error, "the tray cannot be drawn");
    }
}

fn draw(app: &AppHandle, view: &View) -> tauri::Result<()> {
    let Some(tray) = app.tray_by_id(TRAY) else { return Ok(()) };
    if let Some(pixmap) = icon(view.icon).find(|pixmap| pixmap.size == SIDE) {
        tray.set_icon(Some(Image::new(pixmap.rgba, SIDE, SIDE)))?;
    }
    tray.set_tooltip(Some(&view.title))?;
    tray.set_menu(Some(menu(app, &view.menu)?))
}

fn menu(app: &AppHandle, items: &[Item]) -> tauri::Result<Menu<tauri::Wry>> {
    let mut menu = MenuBuilder::new(app);
    for item in items {
        menu = match item {
            Item::Separator => menu.separator(),
            Item::Text(label) => menu.item(&MenuItemBuilder::new(label).enabled(false).build(app)?),
            Item::Choice { label, action } => menu.item(&MenuItemBuilder::with_id(id_of(*action), label).build(app)?),
        };
    }
    menu.build()
}

const ACTIONS: [(Action, &str); 14] = [
    (Action::Enable, "enable"),
    (Action::Disable { force: false }, "disable"),
    (Action::Disable { force: true }, "force"),
    (Action::Idle, "idle"),
    (Action::Later, "later"),
    (Action::Resume, "resume"),
    (Action::Retry, "retry"),
    (Action::StartDaemon, "start-daemon"),
    (Action::RestartDaemon, "restart-daemon"),
    (Action::CopyContext, "copy-context"),
    (Action::OpenWindow, "window"),
    (Action::OpenSettings, "settings"),
    (Action::OpenMounts, "mounts"),
    (Action::Quit, "quit"),
];

fn id_of(action: Action) -> &'static str {
    ACTIONS.iter().find(|(known, _)| *known == action).map_or("", |(_, id)| id)
}

fn action_of(id: &str) -> Option<Action> {
    ACTIONS.iter().find(|(_, known)| *known == id).map(|(action, _)| *action)
}
