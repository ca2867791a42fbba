//! Identifiers that also serve as file, cgroup and host names, and are therefore restricted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest identifier in bytes: it becomes part of socket paths, which end at 104 bytes on macOS.
const MAX_LENGTH: usize = 32;

/// An identifier that is not 1 to 32 characters of `a-z`, `0-9` and `-`, beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an identifier: 1 to {MAX_LENGTH} characters of a-z, 0-9 and '-', beginning with a letter")]
pub struct InvalidId(pub String);

fn check(text: &str) -> Result<(), InvalidId> {
    let mut bytes = text.bytes();
    let valid = text.len() <= MAX_LENGTH
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if valid { Ok(()) } else { Err(InvalidId(text.chars().take(64).collect())) }
}

/// Lower-case letters and digits that are not mistaken for each other, four bits' worth each.
const ALPHABET: &[u8; 16] = b"23456789cfhjmprv";

fn from_random(prefix: &str, random: u64) -> String {
    let mut text = String::from(prefix);
    for shift in (0..40).step_by(4) {
        text.push(char::from(ALPHABET[usize::try_from(random >> shift & 0xf).unwrap_or(0)]));
    }
    text
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "ts", derive(ts_rs::TS))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Makes an identifier out of 40 random bits of the caller's.
            pub fn from_random(random: u64) -> Self {
                Self(from_random($prefix, random))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                check(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

identifier!(
    /// One environment: `e-` and ten characters.
    EnvironmentId, "e-"
);
identifier!(
    /// One session: `s-` and ten characters.
    SessionId, "s-"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_made_from_random_bits_is_valid() {
        for random in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let id = EnvironmentId::from_random(random);
            assert_eq!(id.as_str().parse::<EnvironmentId>(), Ok(id));
        }
    }

    #[test]
    fn an_identifier_cannot_leave_its_directory() {
        for text in ["", "..", "a/b", "-a", "A", "a\0", "e_1", &"a".repeat(33)] {
            assert!(text.parse::<EnvironmentId>().is_err(), "{text:?}");
        }
    }
}
