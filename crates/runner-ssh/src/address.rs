//! `ssh://[USER@]HOST[:PORT]`.

use std::fmt;

use overside_model::{ErrorCode, Problem};

/// Where a runner is, as the user gave it. The host may be a name that only the SSH configuration knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) user: Option<String>,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

impl Address {
    /// Reads an address; nothing that could be taken for an option or a command passes.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let rest = text.strip_prefix("ssh://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        rest.and_then(Self::parse_rest).ok_or_else(|| {
            Problem::new(
                ErrorCode::InvalidSettings,
                format!("{text:?} is not the address of an SSH runner"),
                "Give it as ssh://[USER@]HOST[:PORT].",
            )
        })
    }

    /// The part behind the scheme, which is also what `ProxyJump` has.
    pub(crate) fn parse_rest(text: &str) -> Option<Self> {
        let (user, place) = text.rsplit_once('@').map_or((None, text), |(user, place)| (Some(user), place));
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
            }
            None => match place.rsplit_once(':') {
                // More than one colon is an IPv6 address without a port.
                Some((host, _)) if host.contains(':') => (place, None),
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = match port {
            Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
            None => None,
        };
        let plain = |text: &str, more: &[char]| {
            let fits = |c: char| c.is_alphanumeric() || "._-".contains(c) || more.contains(&c);
            !text.is_empty() && !text.starts_with('-') && text.chars().all(fits)
        };
        let valid = plain(host, &[':', '%']) && user.is_none_or(|user| plain(user, &['@', '\\', '+']));
        valid.then(|| Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(Option<String>, String, Option<u16>)> {
        Address::parse(text).ok().map(|address| (address.user, address.host, address.port))
    }

    #[test]
    fn an_address_has_a_host_and_may_have_a_user_and_a_port() {
        let me = || Some("me".to_owned());
        assert_eq!(parts("ssh://office"), Some((None, "office".into(), None)));
        assert_eq!(parts("ssh://me@office:2222/"), Some((me(), "office".into(), Some(2222))));
        assert_eq!(parts("ssh://me@[::1]:22"), Some((me(), "::1".into(), Some(22))));
        assert_eq!(parts("ssh://fe80::1%eth0"), Some((None, "fe80::1%eth0".into(), None)));
        assert_eq!(parts("ssh://me@example.org@office"), Some((Some("me@example.org".into()), "office".into(), None)));
    }

    #[test]
    fn what_could_be_an_option_or_a_command_is_refused() {
        for text in [
            "",
            "office",
            "ssh://",
            "ssh://@office",
            "ssh://-oProxyCommand=x",
            "ssh://-l@office",
            "ssh://a b",
            "ssh://$(x)",
            "ssh://office:0",
            "ssh://office:99999",
            "ssh://office:x",
            "ssh://office/path",
            "ssh://[::1",
            "ssh://a;b",
            "ssh://a'b",
        ] {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
