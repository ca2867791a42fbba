//! What the page can ask for: the control API's calls, one by one, and nothing else. `Backend` in
//! ui/src/lib/backend/backend.ts is the other side.

use std::path::Path;

use overside_config::{Home, SettingsFile, write_atomically};
use overside_desktop::{connection::Connection, link::Link, words::user_language};
use overside_model::{
    Diagnosis, ErrorCode, Hop, KeepOrder, MountDecision, Problem, Question, RunnerEntry, RunnerStatus, SessionQuery,
    UsageDays, UsageSessions, Work,
};
use serde::Serialize;
use serde_json::{Map, Value};
use tauri::{State, ipc::Channel};
use tokio::sync::watch;

use crate::{diagnosis, documents};

type Answer<T = ()> = Result<T, Problem>;

/// What the page needs to know of this program.
#[derive(Debug, Serialize)]
pub(crate) struct Shell {
    /// The desktop's language.
    language: String,
    /// The setting `language` as the file has it, so that the first word is in it. The daemon's word comes later, and counts.
    chosen: &'static str,
    /// The window is there for one question.
    asks: bool,
    /// The app's version, which the daemon's is compared with.
    version: &'static str,
}

/// Whether the window is there for one question.
pub(crate) struct Asks(pub(crate) bool);

#[tauri::command]
pub(crate) fn shell(home: State<'_, Home>, asks: State<'_, Asks>) -> Shell {
    let settings = SettingsFile::new(home.settings_file()).load().unwrap_or_default();
    Shell {
        language: user_language(),
        chosen: settings.language.name(),
        asks: asks.0,
        version: env!("CARGO_PKG_VERSION"),
    }
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

/// The page that the window was asked to show, by whoever opened it or would have opened another.
pub(crate) struct Pages(watch::Sender<Option<String>>);

impl Pages {
    pub(crate) fn of(page: Option<String>) -> Self {
        Self(watch::Sender::new(page))
    }

    pub(crate) fn go_to(&self, page: Option<String>) {
        self.0.send_replace(page);
    }
}

/// Sends the page that is asked for through `channel`, and each one that is asked for later, until the page is gone.
#[tauri::command]
pub(crate) async fn pages(channel: Channel<Option<String>>, pages: State<'_, Pages>) -> Answer {
    let mut asked = pages.0.subscribe();
    tauri::async_runtime::spawn(async move {
        loop {
            let page = asked.borrow_and_update().clone();
            if channel.send(page).is_err() || asked.changed().await.is_err() {
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
pub(crate) async fn decide_mount(decision: MountDecision, connection: State<'_, Connection>) -> Answer {
    connection.client().decide_mount(&decision).await
}

#[tauri::command]
pub(crate) async fn idle(connection: State<'_, Connection>) -> Answer {
    connection.client().idle().await.map(drop)
}

#[tauri::command]
pub(crate) async fn resume(connection: State<'_, Connection>) -> Answer {
    connection.client().resume().await.map(drop)
}

#[tauri::command]
pub(crate) async fn later(connection: State<'_, Connection>) -> Answer {
    connection.client().later().await.map(drop)
}

/// Saves everything that exists nowhere else to a new file among the user's documents; returns what it saved.
#[tauri::command]
pub(crate) async fn keep(connection: State<'_, Connection>) -> Answer<Vec<Work>> {
    let file = documents::archive()?;
    connection.client().keep(&KeepOrder { file, volumes: None, images: None }).await
}

#[tauri::command]
pub(crate) async fn runners(connection: State<'_, Connection>) -> Answer<Vec<RunnerStatus>> {
    connection.client().runners().await
}

#[tauri::command]
pub(crate) async fn test_runner(name: String, connection: State<'_, Connection>) -> Answer<Vec<Hop>> {
    connection.client().test_runner(&name).await
}

#[tauri::command]
pub(crate) async fn addresses(connection: State<'_, Connection>) -> Answer<Vec<String>> {
    connection.client().addresses().await
}

#[tauri::command]
pub(crate) async fn add_runner(name: String, address: String, connection: State<'_, Connection>) -> Answer {
    connection.client().add_runner(&RunnerEntry { name, address, price_per_hour: None }).await.map(drop)
}

/// Returns why something of Overside's is left on it, if it is.
#[tauri::command]
pub(crate) async fn remove_runner(name: String, connection: State<'_, Connection>) -> Answer<Option<Problem>> {
    connection.client().remove_runner(&name).await
}

#[tauri::command]
pub(crate) async fn runner_question(name: String, connection: State<'_, Connection>) -> Answer<Option<Question>> {
    connection.client().runner_question(&name).await
}

/// Returns why a passphrase is not kept that was to be.
#[tauri::command]
pub(crate) async fn answer_runner(
    name: String,
    answer: overside_model::Answer,
    connection: State<'_, Connection>,
) -> Answer<Option<Problem>> {
    connection.client().answer_runner(&name, &answer).await
}

#[tauri::command]
pub(crate) async fn settings(connection: State<'_, Connection>) -> Answer<Map<String, Value>> {
    connection.client().settings().await
}

#[tauri::command]
pub(crate) async fn set_setting(name: String, value: Value, connection: State<'_, Connection>) -> Answer {
    connection.client().set_setting(&name, value).await
}

#[tauri::command]
pub(crate) async fn usage_days(days: u32, connection: State<'_, Connection>) -> Answer<UsageDays> {
    connection.client().usage_days(days).await
}

#[tauri::command]
pub(crate) async fn usage_sessions(query: SessionQuery, connection: State<'_, Connection>) -> Answer<UsageSessions> {
    connection.client().usage_sessions(&query).await
}

/// Writes every session as CSV to a new file among the user's downloads; returns its path.
#[tauri::command]
pub(crate) async fn save_usage(connection: State<'_, Connection>) -> Answer<String> {
    let file = documents::download("overside-usage-%Y%m%d-%H%M%S.csv")?;
    let csv = connection.client().usage_csv().await?;
    write_atomically(Path::new(&file), &csv).map_err(|error| {
        Problem::new(
            ErrorCode::Internal,
            error.to_string(),
            "Save it to a file of your choice with `overside usage --csv FILE`.",
        )
    })?;
    Ok(file)
}

/// What `overside diagnose` finds; it needs no daemon. With `bundle`, a bundle is written among the user's downloads.
#[tauri::command]
pub(crate) async fn diagnose(bundle: bool) -> Answer<Diagnosis> {
    let file = bundle.then(|| documents::download("overside-diagnosis-%Y%m%d-%H%M%S.zip")).transpose()?;
    diagnosis::diagnose(file.as_deref()).await
}
