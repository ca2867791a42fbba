use overside_model::{AwakeReason, ErrorCode, Progress, Prompt, SessionId, SessionStatus, Usage, Work, WorkKind};

use super::*;

const TOLD: Duration = Duration::from_secs(1000);

/// So long after the status was told.
fn later(seconds: u64) -> Now {
    let wall = "2026-11-25T14:30:00+01:00[Europe/Berlin]".parse::<jiff::Zoned>().unwrap();
    let passed = Duration::from_secs(seconds);
    Now { moment: Moment::from_boot(TOLD) + passed, wall: wall.checked_add(passed).unwrap() }
}

fn quiet(state: State) -> Status {
    Status { usage: Usage { today_seconds: 3900, limit_seconds: 28800 }, ..Status::quiet(state) }
}

/// A session that had begun a quarter of an hour before.
fn session() -> Option<SessionStatus> {
    let started_at = "2026-11-25T13:15:00Z".to_owned();
    Some(SessionStatus { id: SessionId::from_random(1), started_at, environment: None, notes: Vec::new() })
}

fn awake(kind: &str, detail: &str) -> AwakeReason {
    AwakeReason { kind: kind.to_owned(), detail: detail.to_owned() }
}

fn running() -> Status {
    Status { session: session(), awake_because: vec![awake("container", "web (nginx)")], ..quiet(State::Running) }
}

fn asked(reason: PromptReason) -> Status {
    let prompt = Some(Prompt { reason, answer_within_seconds: 110 });
    Status { session: session(), idle_in_seconds: Some(110), prompt, ..quiet(State::Running) }
}

fn suspended(seconds: u64) -> Status {
    Status { session: session(), grace_remaining_seconds: Some(seconds), ..quiet(State::Suspended) }
}

fn failed() -> Status {
    let problem = Problem::new(ErrorCode::EngineMissing, "this machine has no dockerd", "Install docker.io.");
    Status { error: Some(problem), ..quiet(State::Failed) }
}

fn scene(link: Link, tag: &str) -> Scene {
    let seen = Seen { link, at: Moment::from_boot(TOLD) };
    Scene { seen, refused: None, words: Arc::new(Words::of(tag)) }
}

fn here(status: Status) -> Scene {
    scene(Link::Here { status: Box::new(status) }, "en")
}

fn away(code: ErrorCode) -> Link {
    Link::Away { problem: Problem::new(code, "what it says makes no sense", "Restart it.") }
}

/// Mounts that wait for a decision.
pub(crate) fn halting(paths: &[&str]) -> Vec<MountStatus> {
    let mount = |path: &&str| MountStatus {
        path: (*path).to_owned(),
        state: MountState::Halted,
        read_only: false,
        files: 3,
        bytes: 3,
        left_files: 0,
        left_bytes: 0,
        conflicts: Vec::new(),
        problems: Vec::new(),
        problem: Some(Problem::new(ErrorCode::MountFailed, "is empty", "")),
    };
    paths.iter().map(mount).collect()
}

/// A menu as a list of texts: `(…)` cannot be chosen, `-` is a line.
fn texts(scene: &Scene, now: &Now) -> Vec<String> {
    let text = |item: Item| match item {
        Item::Text(text) => format!("({text})"),
        Item::Separator => "-".to_owned(),
        Item::Choice { label, .. } => label,
    };
    scene.view(now).menu.into_iter().map(text).collect()
}

/// What is told and offered, without what every menu has.
fn middle(scene: &Scene, now: &Now) -> Vec<String> {
    let mut texts = texts(scene, now);
    let common = texts.split_off(texts.len() - 6);
    assert_eq!(
        common,
        [
            "-",
            "Copy “docker context use overside”",
            "Open Overside",
            "Settings…",
            "-",
            "Quit this app (the daemon keeps running)"
        ]
    );
    texts
}

#[test]
fn a_stopped_overside_offers_to_be_turned_on() {
    let wanted = ["(Overside: Off)", "(Today: 1h 5m of 8h)", "-", "Turn on"];
    assert_eq!(middle(&here(quiet(State::Stopped)), &later(0)), wanted);
}

#[test]
fn states_without_a_choice_of_their_own_offer_to_be_turned_off() {
    for (state, title) in [
        (State::Idle, "(Overside: Idle)"),
        (State::Starting, "(Overside: Starting)"),
        (State::Stopping, "(Overside: Stopping)"),
    ] {
        let wanted = [title, "(Today: 1h 5m of 8h)", "-", "Turn off"];
        assert_eq!(middle(&here(quiet(state)), &later(0)), wanted);
    }
}

#[test]
fn a_running_session_tells_its_time_and_what_keeps_it_awake() {
    let wanted = |session, today| {
        vec!["(Overside: Running)", "(Awake for: Container web (nginx))", session, today, "-", "Idle now", "Turn off"]
    };
    let scene = here(running());
    assert_eq!(middle(&scene, &later(0)), wanted("(Session: 15m)", "(Today: 1h 5m of 8h)"));
    // Nobody has told anything since: the menu is of the moment in which it is opened.
    assert_eq!(middle(&scene, &later(3600)), wanted("(Session: 1h 15m)", "(Today: 2h 5m of 8h)"));
}

#[test]
fn a_mount_that_waits_for_a_decision_is_told_and_shown() {
    let menu = middle(&here(Status { mounts: halting(&["/src"]), ..running() }), &later(0));
    assert!(menu.iter().any(|row| row == "(Needs your decision: /src)"), "{menu:?}");
    assert!(menu.iter().any(|row| row == "Show mounts"), "{menu:?}");
}

#[test]
fn what_keeps_it_awake_is_told_in_three_rows_at_most() {
    let reasons = ["a", "b", "c", "d", "e"].map(|name| awake("stream", name));
    let menu = middle(&here(Status { awake_because: reasons.to_vec(), ..running() }), &later(0));
    assert_eq!(
        menu[1..5],
        ["(Awake for: Open stream a)", "(Awake for: Open stream b)", "(Awake for: Open stream c)", "(and 2 more)"]
    );
}

#[test]
fn a_session_that_nothing_keeps_awake_tells_when_it_is_suspended() {
    let status = Status { awake_because: Vec::new(), idle_in_seconds: Some(290), ..running() };
    assert_eq!(middle(&here(status.clone()), &later(0))[1], "(Suspends in 5m)");
    assert_eq!(middle(&here(status), &later(60))[1], "(Suspends in 4m)");
}

#[test]
fn a_prompt_is_shown_by_icon_title_and_both_answers() {
    for (reason, why) in [
        (PromptReason::Inactivity, "(Nothing has happened for a while.)"),
        (PromptReason::LongSession, "(This session has been running for a long time.)"),
    ] {
        let scene = here(asked(reason));
        let wanted = [
            "(Overside: Still needed?)",
            why,
            "(Suspends in 2m)",
            "(Session: 15m)",
            "(Today: 1h 5m of 8h)",
            "-",
            "Ask me again later",
            "Idle now",
            "Turn off",
        ];
        assert_eq!(middle(&scene, &later(0)), wanted);
        let view = scene.view(&later(0));
        assert_eq!((view.icon, view.attention), ("prompt", true));
        assert_eq!(view.detail, format!("{} Suspends in 2m", &why[1..why.len() - 1]));
    }
    assert!(!here(running()).view(&later(0)).attention);
}

#[test]
fn a_suspended_environment_shows_its_minutes_in_the_icon() {
    for (seconds, passed, icon) in [
        (3600, 0, "suspended"),
        (541, 0, "suspended"),
        (540, 0, "suspended-9"),
        (300, 0, "suspended-5"),
        (300, 59, "suspended-5"),
        (300, 60, "suspended-4"),
        (300, 299, "suspended-1"),
        (300, 400, "suspended-1"),
        (0, 0, "suspended-1"),
    ] {
        assert_eq!(here(suspended(seconds)).view(&later(passed)).icon, icon, "{seconds} s, after {passed} s");
    }
}

#[test]
fn a_suspended_environment_can_be_resumed_and_names_what_would_be_lost() {
    let work = |name: &str, kept: bool| Work {
        kind: WorkKind::Volume,
        name: name.to_owned(),
        kept_in: kept.then(|| "/home/kept.zip".to_owned()),
    };
    let at_risk = vec![work("kept", true), work("a", false), work("b", false), work("c", false), work("d", false)];
    let wanted = [
        "(Overside: Suspended)",
        "(Deleted in 5m)",
        "(Not saved: a, b, c and 1 more)",
        "(Session: 15m)",
        "(Today: 1h 5m of 8h)",
        "-",
        "Resume",
        "Turn off",
    ];
    assert_eq!(middle(&here(Status { at_risk, ..suspended(284) }), &later(0)), wanted);
}

#[test]
fn what_counts_down_changes_once_a_minute_and_nothing_else_changes_by_itself() {
    let changes = |status: Status, passed: u64| {
        let change = here(status).next_change(later(passed).moment)?;
        Some(change.since(later(0).moment).as_secs())
    };
    assert_eq!(changes(suspended(284), 0), Some(44));
    assert_eq!(changes(suspended(284), 44), Some(104));
    assert_eq!(changes(suspended(284), 224), None);
    assert_eq!(changes(asked(PromptReason::Inactivity), 0), Some(50));
    assert_eq!(changes(running(), 0), None);
    assert_eq!(scene(Link::Connecting, "en").next_change(later(0).moment), None);
}

#[test]
fn a_start_tells_its_step() {
    let at = |step: &str| {
        let progress = Some(Progress { step: step.to_owned(), detail: "doing something new".to_owned() });
        middle(&here(Status { progress, ..quiet(State::Starting) }), &later(0)).swap_remove(1)
    };
    assert_eq!(at("network"), "(Set up its network)");
    assert_eq!(at("of-another-version"), "(doing something new)");
}

#[test]
fn a_failed_start_says_why_and_what_to_do() {
    let wanted = [
        "(Overside: Failed)",
        "(this machine has no dockerd)",
        "(Install docker.io.)",
        "(Today: 1h 5m of 8h)",
        "-",
        "Try again",
        "Turn off",
    ];
    assert_eq!(middle(&here(failed()), &later(0)), wanted);
}

#[test]
fn without_a_daemon_there_is_little_to_say() {
    let common = ["-", "Open Overside", "Settings…", "-", "Quit this app (the daemon keeps running)"];
    let menu = |link: Link| texts(&scene(link, "en"), &later(0));
    let wanted = [&["(Overside: Not connected)", "-", "Start the daemon"], &common[..]].concat();
    assert_eq!(menu(away(ErrorCode::DaemonUnreachable)), wanted);
    assert_eq!(menu(Link::Connecting), [&["(Overside: Connecting)", "-"], &common[..]].concat());
    let said = ["(what it says makes no sense)", "(Restart it.)"];
    assert_eq!(menu(away(ErrorCode::DaemonIncompatible))[1..3], said);
}

#[test]
fn a_daemon_of_another_version_can_be_restarted_while_it_has_no_environment() {
    let told = |status: Status| {
        let menu = middle(&here(Status { version: "0.0.9".to_owned(), ..status }), &later(0));
        assert!(menu.contains(&format!("(The daemon is of version 0.0.9, this app of {VERSION})")), "{menu:?}");
        menu.contains(&"Restart the daemon".to_owned())
    };
    assert!(told(quiet(State::Idle)));
    assert!(!told(running()));
}

#[test]
fn a_refused_turning_off_says_why_and_can_be_forced() {
    let problem = Problem::new(ErrorCode::WorkWouldBeLost, "2 containers are running", "Save them.");
    let refused = |action| Scene {
        refused: Some(Refused { action, problem: problem.clone() }),
        ..here(Status { session: None, awake_because: Vec::new(), ..running() })
    };
    let off = middle(&refused(Action::Disable { force: false }), &later(0));
    assert_eq!(off[4..], ["Turn off", "(2 containers are running)", "(Save them.)", "Turn off anyway"]);
    // What else is refused is not helped by turning off.
    let idle = middle(&refused(Action::Idle), &later(0));
    assert_eq!(idle[4..], ["Turn off", "(2 containers are running)", "(Save them.)"]);
}

#[test]
fn a_problem_is_told_in_the_users_language() {
    let told = |code, work: Vec<Work>, tag| {
        let problem = Problem::new(code, "no route to office", "").about(work);
        let status = Status { error: Some(problem), session: None, ..quiet(State::Failed) };
        texts(&scene(Link::Here { status: Box::new(status) }, tag), &later(0))[1..3].to_vec()
    };
    let next = format!("({})", short("Check the network, and that the machine is on and its SSH server answers."));
    assert_eq!(told(ErrorCode::RunnerUnreachable, vec![], "en"), ["(no route to office)", &*next]);
    let next = "(请检查网络，并确认该机器已开机、SSH 服务有响应。)";
    assert_eq!(told(ErrorCode::RunnerUnreachable, vec![], "zh"), ["(无法连接运行器)", next]);
    let work = vec![Work { kind: WorkKind::Volume, name: "data".to_owned(), kept_in: None }];
    assert_eq!(told(ErrorCode::WorkWouldBeLost, work, "zh"), ["(有工作成果将会丢失)", "(尚未保存：data)"]);
}

#[test]
fn a_long_or_broken_text_does_not_make_a_wide_menu() {
    assert_eq!(short(&"é".repeat(72)), "é".repeat(72));
    assert_eq!(short(&"é".repeat(73)), format!("{}…", "é".repeat(71)));
    assert_eq!(short("two\nlines"), "two lines");
}

#[test]
fn no_text_of_the_tray_is_missing_in_any_language() {
    let kinds = ["call", "stream", "container"].map(|kind| awake(kind, "x"));
    let kinds_more = ["build", "connection"].map(|kind| awake(kind, "x"));
    let steps = ["agent", "check", "namespaces", "network", "engine", "connect"];
    let mut links = vec![Link::Connecting, away(ErrorCode::DaemonUnreachable)];
    let mut statuses = vec![
        quiet(State::Stopped),
        quiet(State::Idle),
        Status { awake_because: kinds.to_vec(), ..running() },
        Status { awake_because: kinds_more.to_vec(), idle_in_seconds: Some(90), ..running() },
        asked(PromptReason::Inactivity),
        asked(PromptReason::LongSession),
        suspended(400),
        quiet(State::Stopping),
        failed(),
        Status { version: String::new(), ..quiet(State::Idle) },
    ];
    statuses.extend(steps.map(|step| {
        let progress = Some(Progress { step: step.to_owned(), detail: "step.".to_owned() });
        Status { progress, ..quiet(State::Starting) }
    }));
    links.extend(statuses.into_iter().map(|status| Link::Here { status: Box::new(status) }));
    for (link, tag) in links.iter().flat_map(|link| [(link, "en"), (link, "zh-CN")]) {
        let problem = Problem::new(ErrorCode::RequestRefused, "refused", "");
        let refused = Some(Refused { action: Action::Disable { force: false }, problem });
        let view = Scene { refused, ..scene(link.clone(), tag) }.view(&later(0));
        let labels = view.menu.iter().filter_map(|item| match item {
            Item::Text(label) | Item::Choice { label, .. } => Some(label),
            Item::Separator => None,
        });
        for shown in labels.chain([&view.title, &view.detail]) {
            let a_key = ["menu.", "state.", "problem.", "awake.", "step.", "time.hours", "time.minutes"]
                .iter()
                .any(|key| shown.contains(key));
            assert!(!a_key && !shown.contains('{'), "{tag}: {shown}");
        }
        assert!(crate::tray::icon(view.icon).next().is_some(), "no icon {}", view.icon);
    }
    assert!(SUSPENDED.iter().chain(&["suspended"]).all(|name| crate::tray::icon(name).next().is_some()));
}
