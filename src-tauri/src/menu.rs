//! What the tray shows, as values: tests compare them, and each platform only draws them.

use overside_model::{Problem, State};

use crate::{link::Link, words::Words};

/// Longest text of an error in a menu, in characters. The window shows all of it.
const MAX_PROBLEM: usize = 72;

/// What a click asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Turn on.
    Enable,
    /// Turn off.
    Disable {
        /// Also where that deletes what still runs.
        force: bool,
    },
    /// Start again after a failure.
    Retry,
    /// Start the daemon.
    StartDaemon,
    /// Open the window, or bring it to the front.
    OpenWindow,
    /// End the desktop app. The daemon goes on.
    Quit,
}

/// One row of the menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Words that cannot be chosen.
    Text(String),
    /// A line.
    Separator,
    /// Something to choose.
    Choice {
        /// What is written.
        label: String,
        /// What it does.
        action: Action,
    },
}

/// All of the tray.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The icon's name in icons/tray.
    pub icon: &'static str,
    /// One line: program and state.
    pub title: String,
    /// What the state means, one or two sentences.
    pub detail: String,
    /// The menu, from the top.
    pub menu: Vec<Item>,
}

/// Draws the link to the daemon, and the `refusal` of what was last chosen in the menu.
pub fn view(link: &Link, refusal: Option<&Problem>, words: &Words) -> View {
    let face = link.face();
    let title = words.fill("menu.state", "state", words.text(&format!("state.{face}")));
    let choice = |key: &str, action| Item::Choice { label: words.text(key).to_owned(), action };

    let mut menu = vec![Item::Text(title.clone())];
    menu.extend(failure(link).map(|problem| Item::Text(short(&problem.message))));
    menu.push(Item::Separator);
    match link {
        Link::Connecting => {}
        Link::Away { .. } => menu.push(choice("menu.start-daemon", Action::StartDaemon)),
        Link::Here { status } => {
            if status.state == State::Failed {
                menu.push(choice("menu.retry", Action::Retry));
            }
            menu.push(match status.state {
                State::Stopped => choice("menu.enable", Action::Enable),
                _ => choice("menu.disable", Action::Disable { force: false }),
            });
        }
    }
    if let Some(refusal) = refusal {
        menu.push(Item::Text(short(&refusal.message)));
        if link.state().is_some_and(|state| state != State::Stopped) {
            menu.push(choice("problem.force", Action::Disable { force: true }));
        }
    }
    menu.push(choice("menu.settings", Action::OpenWindow));
    menu.push(Item::Separator);
    menu.push(choice("menu.quit", Action::Quit));

    View {
        icon: if face == "connecting" { "away" } else { face },
        title,
        detail: words.text(&format!("state.{face}.detail")).to_owned(),
        menu,
    }
}

fn failure(link: &Link) -> Option<&Problem> {
    match link {
        Link::Here { status } => status.error.as_ref(),
        // That none answers is what the title says; why one could not be started is news.
        Link::Connecting | Link::Away { .. } => None,
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= MAX_PROBLEM {
        return text.to_owned();
    }
    text.chars().take(MAX_PROBLEM - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use overside_model::{ErrorCode, Status, Usage};

    use super::*;

    fn here(state: State, error: Option<Problem>) -> Link {
        let status = Status {
            state,
            runner: "local".to_owned(),
            socket: "/home/docker.sock".to_owned(),
            session: None,
            progress: None,
            awake_because: Vec::new(),
            ignored_pollers: Vec::new(),
            idle_in_seconds: None,
            grace_remaining_seconds: None,
            prompt: None,
            usage: Usage { today_seconds: 0, limit_seconds: 28800 },
            ports: Vec::new(),
            mounts: Vec::new(),
            error,
        };
        Link::Here { status: Box::new(status) }
    }

    fn problem(code: ErrorCode, message: &str) -> Problem {
        Problem::new(code, message, "")
    }

    fn text(text: &str) -> Item {
        Item::Text(text.to_owned())
    }

    fn choice(label: &str, action: Action) -> Item {
        Item::Choice { label: label.to_owned(), action }
    }

    fn english(link: &Link) -> Vec<Item> {
        view(link, None, &Words::of("en")).menu
    }

    fn with_ends(title: &str, middle: impl IntoIterator<Item = Item>) -> Vec<Item> {
        let mut menu = vec![text(title), Item::Separator];
        menu.extend(middle);
        menu.push(choice("Settings…", Action::OpenWindow));
        menu.push(Item::Separator);
        menu.push(choice("Quit this app (the daemon keeps running)", Action::Quit));
        menu
    }

    #[test]
    fn the_menu_of_a_stopped_overside_offers_to_turn_it_on() {
        let wanted = with_ends("Overside: Off", [choice("Turn on", Action::Enable)]);
        assert_eq!(english(&here(State::Stopped, None)), wanted);
    }

    #[test]
    fn every_other_state_offers_to_turn_it_off() {
        for (state, title) in [
            (State::Idle, "Overside: Idle"),
            (State::Starting, "Overside: Starting"),
            (State::Running, "Overside: Running"),
            (State::Suspended, "Overside: Suspended"),
            (State::Stopping, "Overside: Stopping"),
        ] {
            let wanted = with_ends(title, [choice("Turn off", Action::Disable { force: false })]);
            assert_eq!(english(&here(state, None)), wanted);
        }
    }

    #[test]
    fn a_failed_start_says_why_and_offers_to_try_again() {
        let link = here(State::Failed, Some(problem(ErrorCode::EngineMissing, "this machine has no dockerd")));
        let wanted = vec![
            text("Overside: Failed"),
            text("this machine has no dockerd"),
            Item::Separator,
            choice("Try again", Action::Retry),
            choice("Turn off", Action::Disable { force: false }),
            choice("Settings…", Action::OpenWindow),
            Item::Separator,
            choice("Quit this app (the daemon keeps running)", Action::Quit),
        ];
        assert_eq!(english(&link), wanted);
    }

    #[test]
    fn without_a_daemon_the_menu_offers_to_start_it() {
        let away = Link::Away { problem: problem(ErrorCode::DaemonUnreachable, "no daemon is running") };
        let wanted = with_ends("Overside: Not connected", [choice("Start the daemon", Action::StartDaemon)]);
        assert_eq!(english(&away), wanted);
        assert_eq!(english(&Link::Connecting), with_ends("Overside: Connecting", []));
    }

    #[test]
    fn a_refused_turning_off_says_why_and_can_be_forced() {
        let refusal = problem(ErrorCode::RequestRefused, "2 containers are running");
        let menu = view(&here(State::Running, None), Some(&refusal), &Words::of("en")).menu;
        let wanted = with_ends(
            "Overside: Running",
            [
                choice("Turn off", Action::Disable { force: false }),
                text("2 containers are running"),
                choice("Turn off anyway", Action::Disable { force: true }),
            ],
        );
        assert_eq!(menu, wanted);
    }

    #[test]
    fn a_long_error_does_not_make_a_wide_menu() {
        assert_eq!(short(&"é".repeat(72)), "é".repeat(72));
        assert_eq!(short(&"é".repeat(73)), format!("{}…", "é".repeat(71)));
    }

    #[test]
    fn no_text_of_the_tray_is_missing_in_any_language() {
        let refusal = problem(ErrorCode::RequestRefused, "refused");
        let mut links = vec![Link::Connecting, Link::Away { problem: refusal.clone() }];
        links.extend(
            [
                State::Stopped,
                State::Idle,
                State::Starting,
                State::Running,
                State::Suspended,
                State::Stopping,
                State::Failed,
            ]
            .map(|state| here(state, None)),
        );
        for (link, tag) in links.iter().flat_map(|link| [(link, "en"), (link, "zh-CN")]) {
            let view = view(link, Some(&refusal), &Words::of(tag));
            let labels = view.menu.iter().filter_map(|item| match item {
                Item::Text(label) | Item::Choice { label, .. } => Some(label),
                Item::Separator => None,
            });
            for shown in labels.chain([&view.title, &view.detail]) {
                let a_key = ["menu.", "state.", "problem."].iter().any(|prefix| shown.starts_with(prefix));
                assert!(!a_key && !shown.contains('{'), "{tag}: {shown}");
            }
            assert!(crate::tray::icon(view.icon).next().is_some(), "no icon {}", view.icon);
        }
    }
}
