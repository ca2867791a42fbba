//! The window's size, from the moment when the user leaves it to the next time.

use std::{mem::replace, time::Duration};

use overside_config::{WindowFile, WindowSize};
use tauri::{WebviewWindow, WindowEvent};
use tokio::{sync::watch, time::timeout};

/// How long a size stands before it is saved: a pull at the frame is one write.
const SETTLED: Duration = Duration::from_millis(300);

/// Saves the size whenever it has changed. Not only in the end, which the window does not see where the desktop's session
/// or the tray ends it.
pub(crate) fn remember(window: &WebviewWindow, file: WindowFile, opened: WindowSize) {
    let (last, sizes) = watch::channel(opened);
    tauri::async_runtime::spawn(save_settled(file.clone(), sizes));
    let observed = window.clone();
    window.on_window_event(move |event| match event {
        WindowEvent::Resized(_) => {
            last.send_if_modified(|last| {
                let now = size(&observed, *last);
                replace(last, now) != now
            });
        }
        WindowEvent::Destroyed if *last.borrow() != opened => save(&file, *last.borrow()),
        _ => {}
    });
}

async fn save_settled(file: WindowFile, mut sizes: watch::Receiver<WindowSize>) {
    while sizes.changed().await.is_ok() {
        while let Ok(Ok(())) = timeout(SETTLED, sizes.changed()).await {}
        save(&file, *sizes.borrow_and_update());
    }
}

fn save(file: &WindowFile, size: WindowSize) {
    if let Err(error) = file.save(size) {
        tracing::warn!(%error, "the window's size cannot be remembered");
    }
}

/// The present size. What fills the screen goes on to return to the size before.
fn size(window: &WebviewWindow, before: WindowSize) -> WindowSize {
    let maximized = window.is_maximized().unwrap_or(false);
    let (true, Ok(inner), Ok(factor)) = (!maximized, window.inner_size(), window.scale_factor()) else {
        return WindowSize { maximized, ..before };
    };
    let inner = inner.to_logical(factor);
    WindowSize { width: inner.width, height: inner.height, maximized }
}
