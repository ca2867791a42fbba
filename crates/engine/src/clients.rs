//! Which program makes a call, as a person would name it.

use overside_io::process;
use overside_proxy::Caller;
use overside_session::Client;

/// Docker's own clients: who uses them is more telling.
const DOCKER: [&str; 5] = ["docker", "docker-compose", "docker-buildx", "compose", "buildx"];
/// Programs that only start others.
const STARTERS: [&str; 12] =
    ["sh", "bash", "zsh", "dash", "fish", "ash", "ksh", "env", "sudo", "timeout", "xargs", "nice"];
/// Longest name that is shown, in characters.
const MOST: usize = 64;

/// The client behind a call. A process is asked for first; what a client says of itself is second best.
pub(crate) fn client(caller: &Caller) -> Client {
    let names = caller.process.map(process::ancestry).unwrap_or_default();
    let agent = caller.user_agent.as_deref().and_then(|agent| agent.split(['/', ' ', '(']).next());
    named(names, agent.filter(|agent| !agent.is_empty()))
}

fn named(mut names: Vec<String>, agent: Option<&str>) -> Client {
    let short = |name: &str| name.chars().filter(|character| !character.is_control()).take(MOST).collect::<String>();
    let Some(own) = names.first().cloned() else {
        let program = short(agent.unwrap_or("unknown"));
        return Client { names: vec![program.clone()], program };
    };
    let is = |list: &[&str], name: &String| list.contains(&name.as_str());
    let user = names.iter().find(|name| !is(&DOCKER, name) && !is(&STARTERS, name));
    let starter = names.iter().find(|name| !is(&DOCKER, name));
    let program = match user.or(starter).filter(|_| is(&DOCKER, &own)) {
        Some(user) => format!("{own} ({user})"),
        None => own,
    };
    names.extend(agent.map(short));
    Client { program: short(&program), names }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(names: &[&str], agent: Option<&str>) -> String {
        named(names.iter().map(|name| (*name).to_owned()).collect(), agent).program
    }

    #[test]
    fn dockers_own_client_is_named_with_who_uses_it() {
        assert_eq!(program(&["docker", "bash", "code", "systemd"], Some("Docker-Client")), "docker (code)");
        assert_eq!(program(&["docker-compose", "docker", "sh", "watcher.sh"], None), "docker-compose (watcher.sh)");
        assert_eq!(program(&["docker", "bash"], None), "docker (bash)");
        assert_eq!(program(&["docker"], None), "docker");
    }

    #[test]
    fn any_other_program_has_its_own_name_and_without_a_process_what_it_says_of_itself() {
        assert_eq!(program(&["python3", "bash"], Some("docker-sdk-python")), "python3");
        assert_eq!(program(&[], Some("docker-sdk-python")), "docker-sdk-python");
        assert_eq!(program(&[], None), "unknown");
    }

    #[test]
    fn the_user_may_name_any_program_of_the_chain() {
        let client = named(vec!["docker".into(), "bash".into(), "code".into()], Some("Docker-Client"));
        assert_eq!(client.names, ["docker", "bash", "code", "Docker-Client"]);
    }

    #[test]
    fn a_name_is_never_long_and_has_no_control_characters() {
        let name = program(&[], Some(&format!("\u{1b}[31m{}", "x".repeat(500))));
        assert!(name.len() <= MOST && !name.contains('\u{1b}'));
    }
}
