//! The tray by Tauri's tray-icon, on the main thread as these systems want it. No web view is made.

use anyhow::{Context as _, Result};
use overside_config::Home;
use tauri::{
    AppHandle, RunEvent,
    image::Image,
    menu::{Menu, MenuBuilder, MenuItemBuilder},
    tray::TrayIconBuilder,
};
use tokio::sync::mpsc;

use super::{Panel, control, icon};
use crate::{
    connection::Connection,
    menu::{Action, Item, View},
};

const TRAY: &str = "overside";
/// Scaled down by the system where its bar is lower.
const SIDE: u32 = 32;

pub(super) fn run(home: &Home, with_window: bool) -> Result<()> {
    let (click, clicks) = mpsc::unbounded_channel();
    let home = home.clone();
    let app = tauri::Builder::default()
        .setup(move |app| {
            #[cfg(target_os = "macos")]
            app.set_activation_policy(tauri::ActivationPolicy::Accessory);
            TrayIconBuilder::with_id(TRAY).show_menu_on_left_click(true).build(app)?;
            let handle = app.handle().clone();
            app.on_menu_event(move |_, event| {
                if let Some(action) = action_of(event.id().as_ref()) {
                    // Fails only while the program ends.
                    let _ = click.send(action);
                }
            });
            tauri::async_runtime::spawn(async move {
                control(Connection::open(&home), Native(handle.clone()), clicks, with_window).await;
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

struct Native(AppHandle);

impl Panel for Native {
    async fn show(&mut self, view: View) {
        let app = self.0.clone();
        let drawn = self.0.run_on_main_thread(move || {
            if let Err(error) = draw(&app, &view) {
                tracing::warn!(%error, "the tray cannot be drawn");
            }
        });
        if let Err(error) = drawn {
            tracing::debug!(%error, "the tray is gone");
        }
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

const ACTIONS: [(Action, &str); 7] = [
    (Action::Enable, "enable"),
    (Action::Disable { force: false }, "disable"),
    (Action::Disable { force: true }, "force"),
    (Action::Retry, "retry"),
    (Action::StartDaemon, "start-daemon"),
    (Action::OpenWindow, "window"),
    (Action::Quit, "quit"),
];

fn id_of(action: Action) -> &'static str {
    ACTIONS.iter().find(|(known, _)| *known == action).map_or("", |(_, id)| id)
}

fn action_of(id: &str) -> Option<Action> {
    ACTIONS.iter().find(|(_, known)| *known == id).map(|(action, _)| *action)
}
