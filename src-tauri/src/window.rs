//! `overside-window`: the window. The process ends when the window closes, so that no web view stays behind.

#![cfg_attr(all(windows, not(debug_assertions)), windows_subsystem = "windows")]

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use overside_config::Home;
use overside_desktop::{connection::Connection, instance, log};
use tauri::{AppHandle, Manager as _, WebviewUrl, WebviewWindowBuilder, webview::PageLoadEvent};

#[path = "window/commands.rs"]
mod commands;
#[path = "window/display.rs"]
mod display;

const WINDOW: &str = "main";
/// How long a window that has left the bus may take to end.
const CLOSING: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    log::to_stderr();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overside-window: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    // Tauri panics without a display.
    display::check()?;
    let home = Home::from_environment()?;
    // The first plugin: a second instance passes its turn to the first one and ends in it.
    let single = tauri_plugin_single_instance::Builder::new()
        .dbus_id(instance::bus_name(&home))
        .callback(|app, _arguments, _directory| bring_to_front(app))
        .build();
    tauri::Builder::default()
        .plugin(single)
        .setup(move |app| {
            // After the plugin, so that of two windows that start at once the bus chooses one. Taken by another here, there
            // is a window, but no session bus by which it could be told.
            let lock = instance::take_within(&home, "window", CLOSING)?;
            app.manage(lock.ok_or("Overside's window is open already")?);
            app.manage(tauri::async_runtime::block_on(async { Connection::open(&home) }));
            WebviewWindowBuilder::new(app, WINDOW, WebviewUrl::default())
                .title("Overside")
                .inner_size(480.0, 680.0)
                .min_inner_size(380.0, 420.0)
                // Not before there is something to see: an empty web view is a white flash.
                .visible(false)
                .on_page_load(|window, page| {
                    if page.event() == PageLoadEvent::Finished
                        && let Err(error) = window.show()
                    {
                        tracing::warn!(%error, "the window cannot be shown");
                    }
                })
                .build()?;
            Ok(())
        })
        .invoke_handler(tauri::generate_handler![
            commands::shell,
            commands::follow,
            commands::start_daemon,
            commands::enable,
            commands::disable,
            commands::retry,
            commands::settings,
            commands::set_setting,
        ])
        .run(tauri::generate_context!())
        .context("cannot open the window")
}

fn bring_to_front(app: &AppHandle) {
    let Some(window) = app.get_webview_window(WINDOW) else { return };
    if let Err(error) = window.unminimize().and_then(|()| window.show()).and_then(|()| window.set_focus()) {
        tracing::warn!(%error, "the window cannot be brought to the front");
    }
}
