//! What a text may say in a bundle: the words that Overside itself uses, and small numbers. Every other word is left out,
//! whatever it is: a name, a path, an address, a password. A secret would have to be made of Overside's own words to pass.

use std::{collections::HashSet, io, path::Path};

use overside_config::{Home, Policy};

/// Words in the string literals of Overside's own sources.
const OWN: &[&str] = include!(concat!(env!("OUT_DIR"), "/words.rs"));
/// What the log says of the session's effects, and what engines say most.
const MORE: &[&str] = &[
    "Start",
    "Suspend",
    "Resume",
    "Delete",
    "SelectContext",
    "RestoreContext",
    "TurnDay",
    "Operation",
    "dockerd",
    "overside",
    "exit",
    "status",
    "signal",
    "SIGKILL",
    "SIGTERM",
    "hyper",
    "russh",
    "timed",
    "out",
    "HTTP",
];
/// In the place of what is left out.
const LEFT_OUT: &str = "…";
/// The system's own errors, by number.
const ERRORS: std::ops::RangeInclusive<i32> = 1..=133;
/// Longest number that is kept, in digits: exit statuses, errors, counts. No address, and no code that opens anything.
const DIGITS: usize = 3;

/// The words, and Overside's files by names that say nothing of the user.
pub(super) struct Words {
    known: HashSet<String>,
    places: Vec<(String, String)>,
}

impl Words {
    pub(super) fn new(home: &Home) -> Self {
        let mut known: HashSet<String> = OWN.iter().chain(MORE).map(|word| (*word).to_owned()).collect();
        for error in ERRORS.map(io::Error::from_raw_os_error) {
            known.extend(
                error.to_string().split_whitespace().map(|word| trim(word).1.to_owned()).filter(|word| is_word(word)),
            );
        }
        let place = |path: &Path, name: &str| (path.display().to_string(), format!("<{name}>"));
        let mut places = vec![
            place(&home.docker_socket(), "docker.sock"),
            place(&home.control_socket(), "control.sock"),
            place(&home.settings_file(), "settings.json"),
            place(&home.usage_file(), "usage.sqlite"),
            place(&home.logs(), "logs"),
            place(&home.session(), "session"),
            place(&home.environments(), "environments"),
            place(&Policy::system_path(), "policy.json"),
        ];
        // Of two that begin alike the longer one is meant.
        places.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self { known, places }
    }

    /// The text without the words that are not Overside's own.
    pub(super) fn keep(&self, text: &str) -> String {
        let mut kept: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            let word = self.word(word).unwrap_or_else(|| LEFT_OUT.to_owned());
            if word != LEFT_OUT || kept.last().is_none_or(|last| last != LEFT_OUT) {
                kept.push(word);
            }
        }
        kept.join(" ")
    }

    /// A module's path, `overside_engine::hub`.
    pub(super) fn module(&self, target: &str) -> String {
        let known = target.split([':', '_']).filter(|part| !part.is_empty()).all(|part| self.known.contains(part));
        if known { target.to_owned() } else { LEFT_OUT.to_owned() }
    }

    fn word(&self, word: &str) -> Option<String> {
        let (before, core, after) = trim(word);
        let core = self.place(core).or_else(|| self.is_harmless(core).then(|| core.to_owned()))?;
        Some(format!("{before}{core}{after}"))
    }

    /// A file of Overside's own, and nothing more than that.
    fn place(&self, word: &str) -> Option<String> {
        let (scheme, path) = word.split_once("://").map_or(("", word), |(_, path)| ("unix://", path));
        if !scheme.is_empty() && !word.starts_with(scheme) {
            return None;
        }
        self.places.iter().find(|(known, _)| path == known).map(|(_, name)| format!("{scheme}{name}"))
    }

    fn is_harmless(&self, core: &str) -> bool {
        self.known.contains(core)
            || self.known.contains(&uncapitalised(core))
            || is_small(core)
            || is_version(core)
            || is_identifier(core)
            || core.split_once('(').is_some_and(|(word, number)| self.known.contains(word) && is_small(number))
            || core.split_once('/').is_some_and(|(one, other)| self.known.contains(one) && self.known.contains(other))
    }
}

/// A word without the punctuation around it, of which three characters at most are kept on either side.
fn trim(word: &str) -> (&str, &str, &str) {
    let mark = |character: char| "\"'`()[]{},.;:!?".contains(character);
    let start = word.len() - word.trim_start_matches(mark).len();
    let end = word.trim_end_matches(mark).len().max(start);
    let (before, core, after) = (&word[..start], &word[start..end], &word[end..]);
    (if before.len() > 3 { "" } else { before }, core, if after.len() > 3 { "" } else { after })
}

fn is_word(core: &str) -> bool {
    !core.is_empty() && core.chars().all(|letter| letter.is_ascii_alphabetic() || letter == '-')
}

/// The first word of a sentence.
fn uncapitalised(core: &str) -> String {
    let mut letters = core.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

fn is_small(core: &str) -> bool {
    (1..=DIGITS).contains(&core.len()) && core.bytes().all(|byte| byte.is_ascii_digit())
}

/// `28.5.2`, and Debian's `20.10.24+dfsg1`; not an address, which has four numbers.
fn is_version(core: &str) -> bool {
    let numbers = match core.split_once("+dfsg") {
        Some((numbers, revision)) if revision.len() < 2 => numbers,
        Some(_) => return false,
        None => core,
    };
    let parts: Vec<_> = numbers.split('.').collect();
    (2..=3).contains(&parts.len()) && parts.into_iter().all(is_small)
}

/// An environment's or a session's: ten letters that Overside chose at random.
fn is_identifier(core: &str) -> bool {
    let random = core.strip_prefix("e-").or_else(|| core.strip_prefix("s-")).unwrap_or_default();
    random.len() == 10 && random.bytes().all(|byte| b"23456789cfhjmprv".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keep(text: &str) -> String {
        Words::new(&Home::at(Path::new("/home/ann/x"))).keep(text)
    }

    #[test]
    fn what_overside_says_stays_readable() {
        for text in [
            "cannot start the Overside daemon: it ended at once",
            "no dockerd",
            "Connection refused (os error 111)",
            "No space left on device (os error 28)",
            "dockerd 20.10.24+dfsg1",
            "removing an orphan e-23456789cf",
            "Start it with `overside start`.",
        ] {
            assert_eq!(keep(text), text);
        }
        assert_eq!(
            keep("cannot connect to /home/ann/x/docker.sock: refused"),
            "cannot connect to <docker.sock>: refused"
        );
        assert_eq!(keep("Set it to unix:///home/ann/x/docker.sock."), "Set it to unix://<docker.sock>.");
    }

    #[test]
    fn what_anybody_else_says_is_left_out() {
        assert_eq!(keep("cannot reach ssh://ann:hunter2@office.example.org: refused"), "cannot reach … refused");
        assert_eq!(keep("dial tcp 10.20.30.40: i/o"), "… tcp …");
        for secret in [
            "hunter2",
            "correct-horse-battery-staple",
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "http://ann:geheim@proxy:3128",
            "X-Registry-Auth=eyJ1c2VybmFtZSI6ImFubiJ9",
            "AAAAC3NzaC1lZDI1NTE5AAAAIJx",
            "1234567890",
            "/home/ann/x/docker.sockhunter",
            "/home/ann/x",
        ] {
            assert_eq!(keep(secret), LEFT_OUT);
            assert_eq!(keep(&format!("error: ({secret}), and")), "error: … and");
        }
    }

    proptest! {
        #[test]
        fn no_secret_comes_through_whatever_stands_around_it(
            secret in "[A-Za-z0-9]{3}[A-Za-z0-9+/=_.@:-]{5,40}[0-9][A-Za-z]",
            before in "(cannot reach |error: |a=|--token=|https://ann:|[\"'(\\[{<]{0,5})",
            after in "(: refused|@office|/v2/|[\"')\\]}>.,;]{0,5})",
        ) {
            let kept = keep(&format!("{before}{secret}{after}"));
            prop_assert!(!kept.contains(&secret), "{kept}");
        }
    }

    #[test]
    fn a_module_is_named_if_it_is_one_of_oversides() {
        let words = Words::new(&Home::at(Path::new("/x")));
        assert_eq!(words.module("overside_engine::hub"), "overside_engine::hub");
        assert_eq!(words.module("overside_hunter::hub"), LEFT_OUT);
    }
}
