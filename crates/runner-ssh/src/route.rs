//! From an address to the hosts that a connection goes over, each with what the user's SSH configuration says of it.

use std::{path::PathBuf, time::Duration};

use overside_model::{ErrorCode, Problem};
use overside_tunnel::outer::{AgentPlace, Host, Strictness};

use crate::{
    address::Address,
    places,
    ssh_config::{Asker, Options, hosts},
};

/// More jump hosts than this are a loop.
const JUMPS: usize = 8;
/// Longest time for a TCP connection, where the configuration has none.
const CONNECT: Duration = Duration::from_secs(10);
/// Keys that OpenSSH tries where the configuration names none.
const IDENTITIES: &[&str] = &["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"];

/// The hosts in order, the destination last.
///
/// # Errors
/// [`ErrorCode::InvalidSettings`] for a configuration that cannot be used, or asks for what Overside cannot do.
pub(crate) fn of(address: &Address) -> Result<Vec<Host>, Problem> {
    let home = dirs::home_dir().ok_or_else(|| {
        let message = "this user has no home directory, and no SSH keys therefore";
        Problem::new(ErrorCode::InvalidSettings, message, "Set HOME.")
    })?;
    let surroundings = Surroundings { local_user: places::user().unwrap_or_default(), system: places::system(), home };
    surroundings.route(address, JUMPS)
}

/// The hosts that the user's SSH configuration has sections for.
pub(crate) fn configured() -> Vec<String> {
    let Some(home) = dirs::home_dir() else { return Vec::new() };
    let file = home.join(".ssh/config");
    let asker = Asker { home, local_user: places::user().unwrap_or_default(), user: None };
    hosts(&asker, &file).unwrap_or_default()
}

/// What there is of SSH on this computer.
struct Surroundings {
    home: PathBuf,
    local_user: String,
    system: PathBuf,
}

impl Surroundings {
    fn route(&self, address: &Address, jumps_left: usize) -> Result<Vec<Host>, Problem> {
        let options = self.options(address)?;
        let destination = self.host(address, &options)?;
        let mut hosts = match jumps(&options, &destination)? {
            None => Vec::new(),
            Some(_) if jumps_left == 0 => {
                let message = format!("the jump hosts of {} lead in a circle", destination.name);
                return Err(unusable(message, "Correct ProxyJump in your SSH configuration."));
            }
            Some(jumps) => {
                let mut hosts = Vec::new();
                for (index, jump) in jumps.iter().enumerate() {
                    // The first one is reached as its own configuration says; the others through the one before.
                    if index == 0 {
                        hosts.extend(self.route(jump, jumps_left - 1)?);
                    } else {
                        hosts.push(self.host(jump, &self.options(jump)?)?);
                    }
                }
                hosts
            }
        };
        hosts.push(destination);
        Ok(hosts)
    }

    fn options(&self, address: &Address) -> Result<Options, Problem> {
        let asker = Asker { home: self.home.clone(), local_user: self.local_user.clone(), user: address.user.clone() };
        Options::read(&address.host, &asker, &self.home.join(".ssh/config"), &self.system)
    }

    fn host(&self, address: &Address, options: &Options) -> Result<Host, Problem> {
        let number = |keyword: &str| match options.word(keyword) {
            None => Ok(None),
            Some(word) => word.parse::<u16>().map(Some).map_err(|_| {
                unusable(format!("{keyword} of {} is {word:?}", address.host), "Correct it in your SSH configuration.")
            }),
        };
        let name = address.host.clone();
        let real = options.word("hostname").map(|text| text.replace("%h", &name).replace("%%", "%"));
        let host = Host {
            address: real.unwrap_or_else(|| name.clone()),
            port: address.port.or(number("port")?).unwrap_or(22),
            user: address.user.as_deref().or(options.word("user")).unwrap_or(&self.local_user).to_owned(),
            key_alias: options.word("hostkeyalias").map(str::to_owned),
            known_hosts: Vec::new(),
            strictness: match options.word("stricthostkeychecking").map(str::to_ascii_lowercase).as_deref() {
                Some("yes" | "true") => Strictness::Refuse,
                Some("no" | "off" | "false" | "accept-new") => Strictness::AcceptNew,
                _ => Strictness::Ask,
            },
            identities: Vec::new(),
            certificates: Vec::new(),
            identities_only: options.is_yes("identitiesonly"),
            agent: AgentPlace::Usual,
            connect_timeout: number("connecttimeout")?.map_or(CONNECT, |seconds| Duration::from_secs(seconds.into())),
            name,
        };
        if host.user.is_empty() {
            return Err(unusable(format!("the user for {} is not known", host.name), "Give it: ssh://USER@HOST."));
        }
        let expand = |text: &str| self.expand(text, &host);
        let files = |keyword: &str, usual: Vec<PathBuf>| match options.words(keyword) {
            Some([only]) if only.eq_ignore_ascii_case("none") => Vec::new(),
            Some(words) => words.iter().map(|word| expand(word).into()).collect(),
            None => usual,
        };
        let ssh = self.home.join(".ssh");
        let mut known_hosts = files("userknownhostsfile", vec![ssh.join("known_hosts"), ssh.join("known_hosts2")]);
        let global = vec![self.system.join("ssh_known_hosts"), self.system.join("ssh_known_hosts2")];
        known_hosts.extend(files("globalknownhostsfile", global));
        let named = |keyword| {
            options
                .list(keyword)
                .filter(|word| !word.eq_ignore_ascii_case("none"))
                .map(|word| expand(word).into())
                .collect()
        };
        let certificates = named("certificatefile");
        let identities = match options.list("identityfile").next() {
            Some(_) => named("identityfile"),
            None => IDENTITIES.iter().map(|name| ssh.join(name)).collect(),
        };
        let agent = match options.word("identityagent") {
            None | Some("SSH_AUTH_SOCK") => AgentPlace::Usual,
            Some(none) if none.eq_ignore_ascii_case("none") => AgentPlace::Nowhere,
            Some(variable) if variable.starts_with('$') && !variable.starts_with("${") => {
                let place = std::env::var_os(&variable[1..]);
                place.map_or(AgentPlace::Nowhere, |place| AgentPlace::At(place.into()))
            }
            Some(path) => AgentPlace::At(expand(path).into()),
        };
        Ok(Host { known_hosts, certificates, identities, agent, ..host.clone() })
    }

    /// Puts in what ssh_config(5) calls TOKENS and environment variables, and `~`.
    fn expand(&self, text: &str, host: &Host) -> String {
        let home = self.home.display().to_string();
        let text = match text.strip_prefix('~') {
            Some("") => home.clone(),
            Some(rest) if rest.starts_with(['/', '\\']) => format!("{home}{rest}"),
            _ => text.to_owned(),
        };
        let mut expanded = String::new();
        let mut rest = &*text;
        while let Some(at) = rest.find(['%', '$']) {
            let (before, from) = rest.split_at(at);
            expanded.push_str(before);
            let variable = from.strip_prefix("${").and_then(|inner| inner.split_once('}'));
            if let Some((name, after)) = variable {
                expanded.push_str(&std::env::var(name).unwrap_or_default());
                rest = after;
                continue;
            }
            let mut chars = from.chars();
            let (first, second) = (chars.next().unwrap_or_default(), chars.next());
            let value = match (first, second) {
                ('%', Some('%')) => Some("%".to_owned()),
                ('%', Some('d')) => Some(home.clone()),
                ('%', Some('h')) => Some(host.address.clone()),
                ('%', Some('k')) => Some(host.key_alias.clone().unwrap_or_else(|| host.name.clone())),
                ('%', Some('n')) => Some(host.name.clone()),
                ('%', Some('p')) => Some(host.port.to_string()),
                ('%', Some('r')) => Some(host.user.clone()),
                ('%', Some('u')) => Some(self.local_user.clone()),
                _ => None,
            };
            match value {
                Some(value) => {
                    expanded.push_str(&value);
                    rest = chars.as_str();
                }
                None => {
                    expanded.push(first);
                    rest = &from[1..];
                }
            }
        }
        expanded + rest
    }
}

/// The jump hosts that the configuration names; none where it is reached directly.
fn jumps(options: &Options, host: &Host) -> Result<Option<Vec<Address>>, Problem> {
    if let Some(command) = options.word("proxycommand").filter(|word| !word.eq_ignore_ascii_case("none"))
        && options.word("proxyjump").is_none()
    {
        return Err(unusable(
            format!("{} is reached by the ProxyCommand {command:?}, which Overside does not run", host.name),
            "Use ProxyJump for it in your SSH configuration.",
        ));
    }
    let Some(list) = options.word("proxyjump").filter(|word| !word.eq_ignore_ascii_case("none")) else {
        return Ok(None);
    };
    let parse = |text: &str| {
        Address::parse_rest(text.strip_prefix("ssh://").unwrap_or(text)).ok_or_else(|| {
            unusable(
                format!("{text:?} is no jump host (ProxyJump of {})", host.name),
                "Correct your SSH configuration.",
            )
        })
    };
    list.split(',').map(|text| parse(text.trim())).collect::<Result<_, _>>().map(Some)
}

fn unusable(message: String, hint: &str) -> Problem {
    Problem::new(ErrorCode::InvalidSettings, message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(config: &str, address: &str) -> Result<Vec<Host>, Problem> {
        let home = tempfile::tempdir().unwrap();
        fs_err::create_dir(home.path().join(".ssh")).unwrap();
        fs_err::write(home.path().join(".ssh/config"), config).unwrap();
        let surroundings =
            Surroundings { home: home.path().to_owned(), local_user: "me".into(), system: home.path().join("nothing") };
        let hosts = surroundings.route(&Address::parse(address).unwrap(), JUMPS)?;
        let short = |path: &PathBuf| path.strip_prefix(home.path()).map_or(path.clone(), PathBuf::from);
        Ok(hosts
            .into_iter()
            .map(|mut host| {
                host.identities = host.identities.iter().map(short).collect();
                host.known_hosts = host.known_hosts.iter().map(short).collect();
                host
            })
            .collect())
    }

    fn names(config: &str, address: &str) -> Vec<String> {
        let hosts = route(config, address).unwrap();
        hosts.iter().map(|host| format!("{}@{}:{}", host.user, host.address, host.port)).collect()
    }

    #[test]
    fn the_address_says_more_than_the_configuration_and_that_more_than_nothing() {
        let config = "Host office\n HostName %h.example.org\n User they\n Port 2222\n";
        assert_eq!(names(config, "ssh://office"), ["they@office.example.org:2222"]);
        assert_eq!(names(config, "ssh://you@office:22"), ["you@office.example.org:22"]);
        assert_eq!(names(config, "ssh://elsewhere"), ["me@elsewhere:22"]);
    }

    #[test]
    fn jump_hosts_come_first_each_by_its_own_configuration() {
        let config = "
            Host office
                ProxyJump outer,you@inner:3
            Host outer
                HostName 10.0.0.1
                ProxyJump bastion
            Host inner
                ProxyJump never
            Host bastion
                User b
        ";
        let expected = ["b@bastion:22", "me@10.0.0.1:22", "you@inner:3", "me@office:22"];
        assert_eq!(names(config, "ssh://office"), expected);
        let circle = route("Host *\n ProxyJump other\n", "ssh://office").unwrap_err();
        assert!(circle.message.contains("circle"), "{circle}");
        assert_eq!(names("Host office\n ProxyJump none\nHost *\n ProxyJump x\n", "ssh://office"), ["me@office:22"]);
        let command = route("ProxyCommand nc %h %p\n", "ssh://office").unwrap_err();
        assert!(command.message.contains("ProxyCommand"), "{command}");
    }

    #[test]
    fn files_are_found_by_tokens_variables_and_the_home_directory() {
        let config = "
            IdentityFile ~/.ssh/%r@%n-%p%%
            UserKnownHostsFile ~/.ssh/known_%h /dev/null
            StrictHostKeyChecking no
            IdentityAgent none
            ConnectTimeout 3
        ";
        let host = route(config, "ssh://office:5").unwrap().remove(0);
        assert_eq!(host.identities, [PathBuf::from(".ssh/me@office-5%")]);
        assert_eq!(host.known_hosts[..2], [PathBuf::from(".ssh/known_office"), "/dev/null".into()]);
        assert_eq!((host.strictness, host.agent), (Strictness::AcceptNew, AgentPlace::Nowhere));
        assert_eq!(host.connect_timeout, Duration::from_secs(3));
        let host = route("", "ssh://office").unwrap().remove(0);
        assert_eq!(host.identities.len(), IDENTITIES.len());
        assert_eq!((host.strictness, host.agent), (Strictness::Ask, AgentPlace::Usual));
    }
}
