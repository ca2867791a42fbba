//! `overside-window`: the window. The process ends when the window closes, so that no web view stays behind.

#![cfg_attr(all(windows, not(debug_assertions)), windows_subsystem = "windows")]

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use overside_config::{Home, WindowFile, WindowSize};
use overside_desktop::{connection::Connection, instance, link::Link, log};
use tauri::{AppHandle, Manager as _, WebviewUrl, WebviewWindowBuilder, webview::PageLoadEvent};
use tokio::sync::watch;

#[path = "window/commands.rs"]
mod commands;
#[path = "window/diagnosis.rs"]
mod diagnosis;
#[path = "window/display.rs"]
mod display;
#[path = "window/documents.rs"]
mod documents;
#[path = "window/size.rs"]
mod size;

const WINDOW: &str = "main";
/// Width and height of the window that only asks.
const QUESTION: (f64, f64) = (480.0, 180.0);
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
    let arguments: Vec<String> = std::env::args().collect();
    // Only a question and its answers, where the desktop's notifications have no buttons.
    let asks = arguments.iter().any(|argument| argument == "--prompt");
    let role = if asks { "prompt" } else { "window" };
    // The first plugin: a second instance passes its turn to the first one and ends in it.
    let single = tauri_plugin_single_instance::Builder::new()
        .dbus_id(instance::bus_name(&home, role))
        .callback(|app, arguments, _directory| {
            if let Some(pages) = app.try_state::<commands::Pages>() {
                pages.go_to(page(&arguments));
            }
            bring_to_front(app);
        })
        .build();
    tauri::Builder::default()
        .plugin(single)
        .setup(move |app| {
            // After the plugin, so that of two windows that start at once the bus chooses one. Taken by another here, there
            // is a window, but no session bus by which it could be told.
            let lock = instance::take_within(&home, role, CLOSING)?;
            app.manage(lock.ok_or("Overside's window is open already")?);
            let connection = tauri::async_runtime::block_on(async { Connection::open(&home) });
            app.manage(commands::Pages::of(page(&arguments)));
            let file = WindowFile::new(home.window_file());
            let size = file.load();
            app.manage(home);
            app.manage(commands::Asks(asks));
            let window = WebviewWindowBuilder::new(app, WINDOW, WebviewUrl::default())
                .title("Overside")
                // Not before there is something to see: an empty web view is a white flash.
                .visible(false)
                .on_page_load(|window, page| {
                    if page.event() == PageLoadEvent::Finished
                        && let Err(error) = window.show()
                    {
                        tracing::warn!(%error, "the window cannot be shown");
                    }
                });
            if asks {
                let small = window.inner_size(QUESTION.0, QUESTION.1).resizable(false).maximizable(false);
                small.always_on_top(true).center().build()?;
                tauri::async_runtime::spawn(close_when_answered(app.handle().clone(), connection.links()));
            } else {
                let window = window
                    .inner_size(size.width, size.height)
                    .min_inner_size(WindowSize::LEAST.width, WindowSize::LEAST.height)
                    .maximized(size.maximized)
                    .build()?;
                size::remember(&window, file, size);
            }
            app.manage(connection);
            Ok(())
        })
        .invoke_handler(tauri::generate_handler![
            commands::shell,
            commands::follow,
            commands::pages,
            commands::start_daemon,
            commands::enable,
            commands::disable,
            commands::retry,
            commands::decide_mount,
            commands::idle,
            commands::resume,
            commands::later,
            commands::keep,
            commands::runners,
            commands::test_runner,
            commands::addresses,
            commands::add_runner,
            commands::remove_runner,
            commands::runner_question,
            commands::answer_runner,
            commands::settings,
            commands::set_setting,
            commands::usage_days,
            commands::usage_sessions,
            commands::save_usage,
            commands::diagnose,
        ])
        .run(tauri::generate_context!())
        .context("cannot open the window")
}

/// The page that the window is asked to show: `--page NAME`.
fn page(arguments: &[String]) -> Option<String> {
    let option = arguments.iter().position(|argument| argument == "--page")?;
    arguments.get(option + 1).cloned()
}

/// Waits until there is no question any more, and ends.
async fn close_when_answered(app: AppHandle, mut links: watch::Receiver<Link>) {
    let answered = |link: &Link| match link {
        Link::Connecting => false,
        Link::Here { status } => status.prompt.is_none(),
        Link::Away { .. } => true,
    };
    // Fails only while the program ends.
    let _ = links.wait_for(answered).await;
    app.exit(0);
}

fn bring_to_front(app: &AppHandle) {
    let Some(window) = app.get_webview_window(WINDOW) else { return };
    if let Err(error) = window.unminimize().and_then(|()| window.show()).and_then(|()| window.set_focus()) {
        tracing::warn!(%error, "the window cannot be brought to the front");
    }
}
