//! The pages, used as a person would, on a daemon that is whatever the test says.

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use overside_control::Command;
use overside_desktop_tests::{Desk, Page, SOON, Scripted};
use overside_model::{
    AwakeReason, EnvironmentId, ErrorCode, IgnoredPoller, MountState, MountStatus, PortStatus, Problem, Prompt,
    PromptReason, Protocol, SessionId, SessionStatus, State, Status, Usage, Work, WorkKind,
};
use rustix::process::Signal;
use serde_json::json;

const CHINESE: &[(&str, &str)] = &[("LANG", "zh_CN.UTF-8"), ("GTK_THEME", "Adwaita:dark")];

fn session() -> Option<SessionStatus> {
    Some(SessionStatus {
        id: SessionId::from_random(0x1234_5678_9abc),
        started_at: (Timestamp::now() - SignedDuration::from_secs(754)).to_string(),
        environment: Some(EnvironmentId::from_random(0x9f3c_21ab_77de)),
        notes: vec!["The environment has 4 CPUs instead of 8: the runner has no more.".to_owned()],
    })
}

fn usage() -> Usage {
    Usage { today_seconds: 7530, limit_seconds: 8 * 3600 }
}

fn running() -> Status {
    let awake = |kind: &str, detail: &str| AwakeReason { kind: kind.to_owned(), detail: detail.to_owned() };
    Status {
        session: session(),
        usage: usage(),
        awake_because: vec![awake("container", "web (nginx)"), awake("stream", "GET /containers/web/logs")],
        ignored_pollers: vec![IgnoredPoller { program: "docker (code)".to_owned(), calls: 132 }],
        ports: ports(),
        mounts: mounts(),
        ..Status::quiet(State::Running)
    }
}

/// One of each kind: in use, silent, datagrams, a long name and address, and one that is taken on the laptop.
fn ports() -> Vec<PortStatus> {
    let port = |protocol, address: &str, container: &str, container_port| PortStatus {
        protocol,
        address: address.to_owned(),
        container: container.to_owned(),
        container_port,
        connections: 0,
        bytes_in: 0,
        bytes_out: 0,
        problem: None,
    };
    let used = |port, connections, bytes_in, bytes_out| PortStatus { connections, bytes_in, bytes_out, ..port };
    let taken = "listen tcp4 127.0.0.1:5432: bind: address already in use".to_owned();
    vec![
        used(port(Protocol::Tcp, "0.0.0.0:8080", "web", 80), 12, 48_213, 7_340_032),
        port(Protocol::Tcp, "[::]:8080", "web", 80),
        used(port(Protocol::Udp, "127.0.0.1:5353", "names", 53), 1, 380, 1210),
        port(Protocol::Tcp, "[fd00:1122:3344:5566:7788:99aa:bbcc:ddee]:30720", "shop-frontend-development-1", 3000),
        PortStatus { problem: Some(taken), ..port(Protocol::Tcp, "127.0.0.1:5432", "db", 5432) },
    ]
}

/// One of each kind: alike, on its way, with two versions of a file, and one that asks.
fn mounts() -> Vec<MountStatus> {
    let mount = |path: &str, state, files, bytes| MountStatus {
        path: path.to_owned(),
        state,
        read_only: false,
        files,
        bytes,
        left_files: 0,
        left_bytes: 0,
        conflicts: Vec::new(),
        problems: Vec::new(),
        problem: None,
    };
    let empty = Problem::new(
        ErrorCode::MountFailed,
        "/mnt/disk/photos is empty on this machine, and is not synced until you decide",
        "`overside mounts restore /mnt/disk/photos` brings it back from the other side, `overside mounts accept \
         /mnt/disk/photos` deletes it there, too.",
    );
    vec![
        MountStatus { read_only: true, ..mount("/home/ada/shop/nginx.conf", MountState::Synced, 1, 1_204) },
        MountStatus {
            left_files: 8_120,
            left_bytes: 41_300_000,
            ..mount("/home/ada/shop/frontend", MountState::Syncing, 31_207, 212_400_000)
        },
        MountStatus {
            conflicts: vec!["src/main.rs.overside-conflict-1f9c02ab".to_owned()],
            ..mount("/home/ada/shop/backend", MountState::Synced, 412, 3_100_000)
        },
        MountStatus { problem: Some(empty), ..mount("/mnt/disk/photos", MountState::Halted, 0, 0) },
    ]
}

fn asked(reason: PromptReason) -> Status {
    Status {
        session: session(),
        usage: usage(),
        idle_in_seconds: Some(117),
        prompt: Some(Prompt { reason, answer_within_seconds: 117 }),
        ..Status::quiet(State::Running)
    }
}

fn suspended() -> Status {
    let work = |kind, name: &str, kept_in: Option<&str>| Work {
        kind,
        name: name.to_owned(),
        kept_in: kept_in.map(str::to_owned),
    };
    Status {
        session: session(),
        usage: usage(),
        grace_remaining_seconds: Some(284),
        at_risk: vec![
            work(WorkKind::RunningContainer, "web", None),
            work(WorkKind::Volume, "data", None),
            work(WorkKind::Image, "shop:latest", Some("/home/ada/Documents/overside-20261125-101502.zip")),
        ],
        ..Status::quiet(State::Suspended)
    }
}

/// A window on a scripted daemon.
fn window(desk: &Desk, status: Status) -> Result<(Scripted, Page)> {
    let state = status.state.name();
    let daemon = Scripted::start(desk, status)?;
    let page = Page::open(desk)?;
    page.wait_for_state(state)?;
    Ok((daemon, page))
}

#[test]
fn a_prompt_is_answered_in_place() {
    for (button, expected) in [("Ask me again later", Command::Later), ("Idle now", Command::Idle)] {
        let desk = Desk::new().unwrap();
        let (daemon, page) = window(&desk, asked(PromptReason::Inactivity)).unwrap();
        page.wait_for("document.querySelector('[data-prompt] [role=timer]').textContent === '1:55'").unwrap();
        page.press(button).unwrap();
        page.wait_for("!document.querySelector('[data-prompt]')").unwrap();
        assert_eq!(daemon.asked(), [expected]);
    }
}

#[test]
fn work_is_saved_from_the_prompt_and_the_page_says_where() {
    let desk = Desk::new().unwrap();
    let (_daemon, page) = window(&desk, asked(PromptReason::LongSession)).unwrap();
    page.press("Save work").unwrap();
    page.wait_for("document.querySelector('[data-prompt] [role=status]').innerText.includes('.zip')").unwrap();
    let said = page.text("[data-prompt] [role=status]").unwrap();
    // There is no folder for documents in this home.
    let home = desk.home().scratch().join("user");
    assert!(said.contains(&home.display().to_string()) && said.contains("data"), "{said}");
    page.screenshot("kept-light-en").unwrap();
}

#[test]
fn a_suspended_environment_is_resumed_from_the_window() {
    let desk = Desk::new().unwrap();
    let (daemon, page) = window(&desk, suspended()).unwrap();
    page.screenshot("at-risk-light-en").unwrap();
    page.press("Resume").unwrap();
    page.wait_for_state("running").unwrap();
    assert_eq!(daemon.asked(), [Command::Resume]);
}

#[test]
fn a_locked_value_cannot_be_changed_and_its_reason_stands_beside_it() {
    let policy = json!({
        "settings": { "size.memory": { "value": "4GiB", "locked": true }, "notifications": { "value": false, "locked": true } },
        "longest-idle-timeout": "15m",
    });
    let desk = Desk::with_policy(&policy.to_string(), &[]).unwrap();
    let daemon = desk.start_daemon().unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    page.go_to("settings").unwrap();
    page.wait_for("document.querySelector('#size-memory').value === '4GiB'").unwrap();
    page.wait_for(
        "document.querySelector('#size-memory').disabled && document.querySelector('#notifications').disabled",
    )
    .unwrap();
    let reason = page.text("#size-memory-rule").unwrap();
    assert!(reason.contains("/etc/overside/policy.json") && reason.contains("sets size.memory"), "{reason}");

    // What is only limited is changed within the limit.
    page.clear("#idle-timeout-value").unwrap();
    page.keys("#idle-timeout-value", "1h\u{e007}").unwrap();
    page.wait_for("document.querySelector('#idle-timeout-problem').innerText.includes('at most 15m')").unwrap();
    // Said once, though the rule is the same.
    page.wait_for("!document.querySelector('#idle-timeout-rule')").unwrap();
    page.screenshot("limited-light-en").unwrap();
    page.clear("#idle-timeout-value").unwrap();
    page.keys("#idle-timeout-value", "15m\u{e007}").unwrap();
    page.wait_for("!document.querySelector('#idle-timeout-problem')").unwrap();
    page.scroll_to("#settings-size").unwrap();
    page.screenshot("locked-light-en").unwrap();
    drop(page);
    daemon.signal(Signal::TERM).unwrap();
    daemon.finish(SOON).unwrap();
}

#[test]
fn a_runner_is_tested_hop_by_hop_and_one_that_fails_has_its_next_step() {
    let desk = Desk::new().unwrap();
    let (_daemon, page) = window(&desk, Status::quiet(State::Idle)).unwrap();
    page.go_to("settings").unwrap();
    page.wait_for("document.querySelector('[data-runner=office]')").unwrap();
    page.click("[data-runner=office] button").unwrap();
    page.wait_for("document.querySelector('[data-hop=tcp]').dataset.status === 'failed'").unwrap();
    assert!(page.text("[data-hop=tcp]").unwrap().contains("Start the SSH server there."));
    page.scroll_to("#settings-runner").unwrap();
    page.screenshot("runner-light-en").unwrap();
    page.click("[data-runner=office] input").unwrap();
    page.wait_for("document.querySelector('[data-runner=office] input').checked").unwrap();
}

#[test]
fn a_machine_is_added_by_ssh_and_what_only_its_user_knows_is_asked_in_place() {
    let desk = Desk::new().unwrap();
    let (daemon, page) = window(&desk, Status { first_use: true, ..Status::quiet(State::Stopped) }).unwrap();
    page.press("Add a machine by SSH…").unwrap();
    page.wait_for("document.querySelector('[aria-labelledby=offered] button')").unwrap();
    page.press("build-box").unwrap();
    page.screenshot("add-runner-light-en").unwrap();
    page.press("Add and test").unwrap();
    page.wait_for("document.querySelector('[data-question=host-key]').innerText.includes('SHA256:')").unwrap();
    page.screenshot("host-key-light-en").unwrap();
    page.press("It is: trust it").unwrap();
    page.wait_for("document.querySelector('[data-question=passphrase]')").unwrap();
    page.keys("[data-question] [type=password]", "open\u{e007}").unwrap();
    page.wait_for("document.querySelector('[data-question] [role=alert]')").unwrap();
    page.screenshot("passphrase-light-en").unwrap();
    page.click("[data-question] [type=checkbox]").unwrap();
    page.keys("[data-question] [type=password]", "sesame\u{e007}").unwrap();
    page.wait_for("document.querySelector('[data-runner=build-box] input').checked").unwrap();
    assert_eq!(daemon.setting("runner").unwrap(), "build-box");
    // What cannot be kept is said, and opens the key all the same.
    page.wait_for("document.querySelector('[data-code=keyring-unavailable]').innerText.includes('ssh-add')").unwrap();
    page.screenshot("added-light-en").unwrap();
}

#[test]
fn who_comes_for_the_first_time_is_led_to_the_first_command() {
    let desk = Desk::new().unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    page.wait_for("document.querySelector('[data-runner=local]')").unwrap();
    page.screenshot("first-run-light-en").unwrap();
    page.click("[data-runner=local] button").unwrap();
    page.wait_for("document.querySelectorAll('[data-hop]').length > 0").unwrap();
    page.screenshot("first-run-tested-light-en").unwrap();
    page.press("Turn on").unwrap();
    page.wait_for_state("idle").unwrap();
    page.wait_for("document.querySelector('code').textContent === 'docker run --rm hello-world'").unwrap();
    page.press("Copy").unwrap();
    page.wait_for("document.body.innerText.includes('Copied.')").unwrap();
    page.screenshot("first-command-light-en").unwrap();
}

#[test]
fn another_language_holds_at_once_and_the_next_time() {
    let desk = Desk::new().unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    page.go_to("settings").unwrap();
    page.wait_for("document.querySelector('#language').value === 'system'").unwrap();
    page.keys("#language", "简").unwrap();
    page.wait_for("document.documentElement.lang === 'zh-CN'").unwrap();
    page.wait_for("document.querySelector('#state').textContent === '已关闭'").unwrap();
    drop(page);
    let page = Page::open(&desk).unwrap();
    page.wait_for("document.documentElement.lang === 'zh-CN'").unwrap();
}

#[test]
fn the_window_comes_back_as_large_as_it_was_left() {
    let desk = Desk::new().unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for_state("stopped").unwrap();
    page.resize(900, 500).unwrap();
    let file = desk.home().overside_home().join("window.json");
    desk.wait_until("the size is saved", || Ok(file.exists())).unwrap();
    // The driver ends the program without a word, as the end of the tray does.
    drop(page);
    let page = Page::open(&desk).unwrap();
    page.wait_for("innerWidth === 900 && innerHeight === 500").unwrap();
    drop(page);

    // What somebody else wrote into the file does not make the window unusable.
    fs_err::write(&file, r#"{"width": 3, "height": -7}"#).unwrap();
    let page = Page::open(&desk).unwrap();
    page.wait_for("innerWidth === 380 && innerHeight === 420").unwrap();
    page.screenshot("smallest-light-en").unwrap();
}

/// Takes a picture of every page, where it shows something.
fn pictures(variables: &[(&str, &str)], suffix: &str) -> Result<()> {
    let desk = Desk::with(variables)?;
    let (daemon, page) = window(&desk, running())?;
    daemon.lock("size.cpus", &json!(2))?;
    let picture = |name: &str| {
        page.screenshot(&format!("{name}-{suffix}"))?;
        page.has_no_barrier().with_context(|| format!("on {name}"))
    };
    picture("session")?;
    daemon.show(asked(PromptReason::Inactivity));
    page.wait_for("document.querySelector('[data-prompt=inactivity]')")?;
    picture("prompt")?;
    daemon.show(suspended());
    page.wait_for_state("suspended")?;
    picture("suspended-work")?;
    daemon.show(Status { first_use: true, ..Status::quiet(State::Stopped) });
    page.wait_for("document.querySelector('#first-run')")?;
    picture("first-run")?;
    daemon.show(Status { first_use: true, ..Status::quiet(State::Idle) });
    page.wait_for("document.querySelector('code').textContent.startsWith('docker')")?;
    picture("first-command")?;
    daemon.show(running());
    page.wait_for_state("running")?;
    for name in ["usage", "ports", "mounts", "diagnose", "settings"] {
        page.go_to(name)?;
        picture(name)?;
    }
    page.click("[data-runner=office] button")?;
    page.wait_for("document.querySelector('[data-hop=tcp]').dataset.status === 'failed'")?;
    page.scroll_to("#settings-runner")?;
    picture("settings-runner")?;
    page.scroll_to("#settings-size")?;
    picture("settings-locked")?;
    page.scroll_to("#settings-computer")?;
    picture("settings-below")?;
    page.scroll_to("#settings-mounts")?;
    picture("settings-mounts")?;
    page.scroll_to("main")?;
    page.keys("#idle-timeout", "\u{e014}")?;
    page.wait_for("document.querySelector('#idle-timeout-value').value === '10m'")?;
    picture("settings-slid")?;
    Ok(())
}

#[test]
fn every_page_is_shown_in_english_and_light() {
    pictures(&[], "light-en").unwrap();
}

#[test]
fn every_page_is_shown_in_chinese_and_dark() {
    pictures(CHINESE, "dark-zh").unwrap();
}
