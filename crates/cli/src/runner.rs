//! `overside runner`.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, stderr, stdin},
};

use overside_config::{Home, RunnersFile, SettingsFile};
use overside_control::Client;
use overside_model::{
    Answer, ErrorCode, Hop, HopStatus, HostKey, Problem, Question, RunnerEntry, RunnerStatus, Settings,
};

use crate::{
    arguments::{Format, RunnerCommand},
    launch,
};

/// Runs one of the subcommands. All but the list need the daemon, which knows the keys and speaks to the runners.
pub(crate) async fn run(command: RunnerCommand, home: &Home, client: &Client) -> Result<(), Problem> {
    if !matches!(command, RunnerCommand::Ls { .. } | RunnerCommand::Default { name: None }) {
        launch::ensure_daemon(home, client, launch::TIMEOUT).await?;
    }
    match command {
        RunnerCommand::Ls { format } => {
            let runners = runners(home, client).await?;
            match format {
                Format::Json => println!("{}", serde_json::to_string(&runners).unwrap_or_default()),
                Format::Pretty => print!("{}", table(&runners)),
            }
            Ok(())
        }
        RunnerCommand::Add { name, address, price_per_hour, accept_host_key, keep_passphrase } => {
            client.add_runner(&RunnerEntry { name: name.clone(), address, price_per_hour }).await?;
            if let Err(problem) = answer_questions(client, &name, &accept_host_key, keep_passphrase).await
                && is_ours_to_answer(&problem)
            {
                // Nothing was decided, and nothing stays.
                client.remove_runner(&name).await?;
                return Err(problem);
            }
            let hops = client.test_runner(&name).await?;
            eprint!("{}", self::hops(&hops));
            eprintln!("The runner {name} is added. Use it with `overside runner default {name}`.");
            outcome(&name, &hops)
        }
        RunnerCommand::Rm { name } => {
            if let Some(left) = client.remove_runner(&name).await? {
                match left.code {
                    ErrorCode::KeyringUnavailable => eprintln!("{}", left.sentence()),
                    _ => eprintln!("Overside's cached agent may be left on {name}: {}", left.sentence()),
                }
            }
            eprintln!("The runner {name} is removed.");
            Ok(())
        }
        RunnerCommand::Test { name, format, accept_host_key, keep_passphrase } => {
            let name = or_selected(name, home, client).await?;
            if let Err(problem) = answer_questions(client, &name, &accept_host_key, keep_passphrase).await
                && !accept_host_key.is_empty()
                && is_ours_to_answer(&problem)
            {
                return Err(problem);
            }
            let hops = client.test_runner(&name).await?;
            match format {
                Format::Json => println!("{}", serde_json::to_string(&hops).unwrap_or_default()),
                Format::Pretty => print!("{}", self::hops(&hops)),
            }
            outcome(&name, &hops)
        }
        RunnerCommand::Default { name: Some(name) } => client.set_setting("runner", name.into()).await,
        RunnerCommand::Default { name: None } => {
            println!("{}", or_selected(None, home, client).await?);
            Ok(())
        }
        RunnerCommand::Unlock { name, keep_passphrase } => {
            let name = or_selected(name, home, client).await?;
            answer_questions(client, &name, &[], keep_passphrase).await?;
            eprintln!("Nothing is in the way to {name} that only you know.");
            Ok(())
        }
    }
}

/// The daemon's runners, or without one those of the files.
async fn runners(home: &Home, client: &Client) -> Result<Vec<RunnerStatus>, Problem> {
    match client.runners().await {
        Err(problem) if problem.code == ErrorCode::DaemonUnreachable => {}
        result => return result,
    }
    let selected = SettingsFile::new(home.settings_file()).load()?.runner;
    let local = RunnerStatus {
        name: Settings::default().runner,
        provider: "local".to_owned(),
        address: None,
        selected: false,
        removable: false,
    };
    let added = RunnersFile::new(home.runners_file()).load()?.into_iter().map(|entry| RunnerStatus {
        name: entry.name,
        provider: entry.address.split_once("://").map(|(scheme, _)| scheme.to_owned()).unwrap_or_default(),
        address: Some(entry.address),
        selected: false,
        removable: true,
    });
    let here = cfg!(target_os = "linux").then_some(local);
    let marked = |runner: RunnerStatus| RunnerStatus { selected: runner.name == selected, ..runner };
    Ok(here.into_iter().chain(added).map(marked).collect())
}

async fn or_selected(name: Option<String>, home: &Home, client: &Client) -> Result<String, Problem> {
    if let Some(name) = name {
        return Ok(name);
    }
    let selected = runners(home, client).await?.into_iter().find(|runner| runner.selected);
    match selected {
        Some(runner) => Ok(runner.name),
        None => Ok(SettingsFile::new(home.settings_file()).load()?.runner),
    }
}

/// Asks the person at the terminal, or the arguments, until nothing is in the way any more.
async fn answer_questions(client: &Client, name: &str, accepted: &[String], keep: bool) -> Result<(), Problem> {
    while let Some(question) = client.runner_question(name).await? {
        match question {
            Question::HostKey(key) => {
                client.answer_runner(name, &Answer::HostKey(accept(key, name, accepted)?)).await?;
            }
            Question::Passphrase { key } => unlock(client, name, key, keep).await?,
        }
    }
    Ok(())
}

/// Whether the problem is that a question was not answered, rather than that nobody is there to ask it.
fn is_ours_to_answer(problem: &Problem) -> bool {
    matches!(problem.code, ErrorCode::HostKeyUnknown | ErrorCode::KeyLocked | ErrorCode::Cancelled)
}

fn at_terminal() -> bool {
    stdin().is_terminal() && stderr().is_terminal()
}

/// Opens a key; its passphrase may be kept for the next time, if one says so before (`keep`) or when asked.
async fn unlock(client: &Client, name: &str, key: String, keep: bool) -> Result<(), Problem> {
    let passphrase = passphrase(&key)?;
    let answer = |remember| Answer::Passphrase { key: key.clone(), passphrase: passphrase.clone(), remember };
    client.answer_runner(name, &answer(false)).await?;
    if (keep || agreed("The key opens. Keep its passphrase in the system's keyring? [y/N] "))
        && let Some(problem) = client.answer_runner(name, &answer(true)).await?
    {
        eprintln!("{}\nThe key stays open for as long as the daemon runs.", problem.sentence());
    }
    Ok(())
}

/// Whether the person at the terminal says yes. An input that cannot be read is no consent.
fn agreed(question: &str) -> bool {
    eprint!("{question}");
    let mut answer = String::new();
    let _ = stdin().read_line(&mut answer);
    matches!(answer.trim(), "y" | "Y" | "yes")
}

fn accept(key: HostKey, name: &str, accepted: &[String]) -> Result<HostKey, Problem> {
    if accepted.contains(&key.fingerprint) {
        return Ok(key);
    }
    let HostKey { host, algorithm, fingerprint } = &key;
    if !accepted.is_empty() || !at_terminal() {
        return Err(Problem::new(
            ErrorCode::HostKeyUnknown,
            format!("{host} shows the {algorithm} key {fingerprint}, which nobody has accepted yet"),
            format!("If it is the right one, add `--accept-host-key {fingerprint}` (runner {name})."),
        ));
    }
    let question = format!(
        "{host} is not known yet. It shows the {algorithm} key\n  {fingerprint}\nCompare it with what the host's owner \
         says. Is it the right one? [y/N] "
    );
    if agreed(&question) {
        return Ok(key);
    }
    Err(Problem::new(ErrorCode::Cancelled, "the host key was not accepted, and nothing was changed", ""))
}

fn passphrase(key: &str) -> Result<String, Problem> {
    let locked = |message: String| {
        let hint = format!("Add it to your SSH agent with `ssh-add {key}`, or run this in a terminal.");
        Problem::new(ErrorCode::KeyLocked, message, hint)
    };
    if !at_terminal() {
        return Err(locked(format!("the key {key} is encrypted, and there is no terminal to ask for its passphrase")));
    }
    let _unseen = Unseen::from_now_on();
    rpassword::prompt_password(format!("Passphrase of {key}: "))
        .map_err(|error| locked(format!("the passphrase of {key} cannot be read: {error}")))
}

/// The terminal shows nothing that is typed while this lives. The prompt's own library hides the input only after it
/// has asked, so that what is typed (or pasted) at once would be seen.
#[cfg(unix)]
struct Unseen(Option<(std::fs::File, rustix::termios::Termios)>);

#[cfg(unix)]
impl Unseen {
    fn from_now_on() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let hide = || {
            let terminal = std::fs::File::open("/dev/tty").ok()?;
            let before = tcgetattr(&terminal).ok()?;
            let mut hidden = before.clone();
            hidden.local_modes.remove(LocalModes::ECHO);
            tcsetattr(&terminal, OptionalActions::Now, &hidden).ok()?;
            Some((terminal, before))
        };
        Self(hide())
    }
}

#[cfg(unix)]
impl Drop for Unseen {
    fn drop(&mut self) {
        if let Some((terminal, before)) = &self.0 {
            let _ = rustix::termios::tcsetattr(terminal, rustix::termios::OptionalActions::Now, before);
        }
    }
}

/// A console of Windows: what is typed ahead is shown by nobody before it is read.
#[cfg(not(unix))]
struct Unseen;

#[cfg(not(unix))]
impl Unseen {
    fn from_now_on() -> Self {
        Self
    }
}

fn outcome(name: &str, hops: &[Hop]) -> Result<(), Problem> {
    let failed = hops.iter().find(|hop| hop.status == HopStatus::Failed);
    match failed {
        None => Ok(()),
        Some(hop) => Err(Problem::new(
            ErrorCode::RunnerUnreachable,
            format!("{name} cannot be used: {} ({})", hop.detail, hop.name),
            hop.hint.clone(),
        )),
    }
}

fn table(runners: &[RunnerStatus]) -> String {
    let width = |of: fn(&RunnerStatus) -> usize, least: usize| runners.iter().map(of).max().unwrap_or(0).max(least);
    let (name, provider) = (width(|runner| runner.name.len(), 4), width(|runner| runner.provider.len(), 4));
    let mut text = format!("  {:name$}  {:provider$}  ADDRESS\n", "NAME", "KIND");
    for runner in runners {
        let mark = if runner.selected { '*' } else { ' ' };
        let address = runner.address.as_deref().unwrap_or("this machine");
        let _ = writeln!(text, "{mark} {:name$}  {:provider$}  {address}", runner.name, runner.provider);
    }
    text
}

fn hops(hops: &[Hop]) -> String {
    let width = hops.iter().map(|hop| hop.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for hop in hops {
        let status = match hop.status {
            HopStatus::Passed => "ok",
            HopStatus::Noted => "note",
            HopStatus::Failed => "FAILED",
            HopStatus::Skipped => "-",
        };
        let took = hop.took_ms.map(|took| format!(" ({took} ms)")).unwrap_or_default();
        let line = format!("{status:6}  {:width$}  {}{took}", hop.name, hop.detail);
        let _ = writeln!(text, "{}", line.trim_end());
        if !hop.hint.is_empty() {
            let _ = writeln!(text, "{:6}  {:width$}  {}", "", "", hop.hint);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_shown_with_what_to_do_and_without_trailing_spaces() {
        let shown = hops(&[
            Hop { took_ms: Some(3), ..Hop::passed("dns", "10.0.0.1") },
            Hop::failed("tcp", Problem::new(ErrorCode::RunnerUnreachable, "refused", "Start sshd.")),
            Hop::skipped("login", ""),
        ]);
        let expected =
            "ok      dns    10.0.0.1 (3 ms)\nFAILED  tcp    refused\n               Start sshd.\n-       login\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_fingerprint_that_was_not_given_is_not_accepted() {
        let key = HostKey { host: "h".into(), algorithm: "ssh-ed25519".into(), fingerprint: "SHA256:right".into() };
        assert!(accept(key.clone(), "office", &["SHA256:right".into()]).is_ok());
        let problem = accept(key, "office", &["SHA256:wrong".into()]).unwrap_err();
        assert_eq!(problem.code, ErrorCode::HostKeyUnknown);
        assert!(problem.hint.contains("--accept-host-key SHA256:right"), "{problem:?}");
    }
}
