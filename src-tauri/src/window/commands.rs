//! What the page can ask for: the control API's calls, one by one, and nothing else. `Backend` in
//! ui/src/lib/backend/backend.ts is the other side.

use overside_desktop::{connection::Connection, link::Link, words::user_language};
use overside_model::Problem;
use serde::Serialize;
use serde_json::{Map, Value};
use tauri::{State, ipc::Channel};

type Answer<T = ()> = Result<T, Problem>;

/// What the page needs to know of this program.
#[derive(Debug, Serialize)]
pub(crate) struct Shell {
    language: String,
}

#[tauri::command]
pub(crate) fn shell() -> Shell {
    Shell { language: user_language() }
}

/// Sends the link through `channel`: the present one first, then each change, until the page is gone.
#[tauri::command]
pub(crate) async fn follow(channel: Channel<Link>, connection: State<'_, Connection>) -> Answer {
    let mut links = connection.links();
    tauri::async_runtime::spawn(async move {
        loop {
            let link = links.borrow_and_update().clone();
            if channel.send(link).is_err() || links.changed().await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

#[tauri::command]
pub(crate) async fn start_daemon(connection: State<'_, Connection>) -> Answer {
    connection.start_daemon().await
}

#[tauri::command]
pub(crate) async fn enable(connection: State<'_, Connection>) -> Answer {
    connection.client().enable().await.map(drop)
}

#[tauri::command]
pub(crate) async fn disable(force: bool, connection: State<'_, Connection>) -> Answer {
    connection.client().disable(force).await.map(drop)
}

#[tauri::command]
pub(crate) async fn retry(connection: State<'_, Connection>) -> Answer {
    connection.client().retry().await.map(drop)
}

#[tauri::command]
pub(crate) async fn settings(connection: State<'_, Connection>) -> Answer<Map<String, Value>> {
    connection.client().settings().await
}

#[tauri::command]
pub(crate) async fn set_setting(name: String, value: Value, connection: State<'_, Connection>) -> Answer {
    connection.client().set_setting(&name, value).await
}
