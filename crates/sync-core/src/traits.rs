//! What a file system can hold, and which names are one to it. It is found out by trying, whatever system it is.

use std::collections::BTreeSet;

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};

use crate::{
    path::Name,
    tree::{File, Time},
};

const NFD: DecomposingNormalizerBorrowed<'static> = DecomposingNormalizerBorrowed::new_nfd();
const NFC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfc();

/// What names that differ in one respect only are to a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Alike {
    /// Two names.
    #[default]
    Never,
    /// One name, which is given back as it was written.
    Kept,
    /// One name, which is given back in the file system's own form.
    Lost,
}

/// Names that a file system does not take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    /// Names with one of these bytes.
    pub bytes: BTreeSet<u8>,
    /// Names that end in one of these.
    pub ends: BTreeSet<u8>,
    /// Names of devices, with any extension: `CON`, `nul.txt`, `com1`.
    pub devices: bool,
    /// Names that are no UTF-8.
    pub other_than_text: bool,
}

/// What a root's file system can and cannot do. The default can do everything, as those of Linux do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traits {
    /// Names that differ in upper and lower case only.
    pub case: Alike,
    /// Names that differ only in how their letters are composed, as an é can be one character or two. Where the form is lost,
    /// names are given back decomposed.
    pub composition: Alike,
    /// Names that it does not take.
    pub refused: Refused,
    /// It has no symbolic links.
    pub no_links: bool,
    /// It does not keep which files may be executed: every file has the same permissions there.
    pub no_permissions: bool,
    /// Times are rounded by less than this, in nanoseconds; 0 where they are kept, `u64::MAX` where they cannot be set.
    pub rounding: u64,
}

/// Names of devices on Windows; those with a number are `COM` and `LPT` with 1 to 9.
const DEVICES: [&[u8]; 4] = [b"con", b"prn", b"aux", b"nul"];
const NUMBERED_DEVICES: [&[u8]; 2] = [b"com", b"lpt"];

impl Refused {
    /// Whether a name is none of these.
    pub fn takes(&self, name: &[u8]) -> bool {
        let is_device = || {
            let stem = name.split(|byte| *byte == b'.').next().unwrap_or(name).to_ascii_lowercase();
            let stem = stem.trim_ascii_end();
            DEVICES.contains(&stem) || matches!(stem, [start @ .., b'1'..=b'9'] if NUMBERED_DEVICES.contains(&start))
        };
        let refused = name.iter().any(|byte| self.bytes.contains(byte))
            || name.last().is_some_and(|last| self.ends.contains(last))
            || (self.other_than_text && str::from_utf8(name).is_err())
            || (self.devices && is_device());
        !refused
    }
}

impl Traits {
    /// Whether everything can be there as it is: nothing needs to be looked at.
    pub fn is_ordinary(&self) -> bool {
        *self == Self::default()
    }

    /// The same for all names that are one. File systems disagree about rare letters; where this one takes two names for one
    /// that are two here, the second one cannot be made, and that is noticed.
    pub(crate) fn key(&self, name: &[u8]) -> Vec<u8> {
        let text = match str::from_utf8(name) {
            Ok(text) if !text.is_ascii() => text,
            _ if self.case == Alike::Never => return name.to_vec(),
            _ => return name.to_ascii_lowercase(),
        };
        let folded: String;
        let text = if self.case == Alike::Never {
            text
        } else {
            folded = text.chars().map(fold).collect();
            &folded
        };
        if self.composition == Alike::Never {
            text.as_bytes().to_vec()
        } else {
            NFD.normalize(text).as_bytes().to_vec()
        }
    }

    /// Whether a name that was written is given back so, or as good as: nobody has renamed it.
    pub(crate) fn gives_back(&self, written: &[u8], found: &[u8]) -> bool {
        if written == found {
            return true;
        }
        match (self.case, self.composition) {
            (Alike::Lost, _) => self.key(written) == self.key(found),
            (_, Alike::Lost) => match (str::from_utf8(written), str::from_utf8(found)) {
                (Ok(written), Ok(found)) => NFD.normalize(written) == NFD.normalize(found),
                _ => false,
            },
            _ => false,
        }
    }

    /// What a name that is new there is to be elsewhere. Where everything is given back decomposed nobody knows how it was
    /// written: it is composed, as nearly everybody writes.
    pub(crate) fn elsewhere(&self, name: &Name) -> Name {
        let composed = match str::from_utf8(name.as_bytes()) {
            Ok(text) if self.composition == Alike::Lost && !text.is_ascii() => {
                Name::new(NFC.normalize(text).as_bytes())
            }
            _ => None,
        };
        composed
            .filter(|composed| self.gives_back(composed.as_bytes(), name.as_bytes()))
            .unwrap_or_else(|| name.clone())
    }

    /// Whether a file that was written with the time of `written` may be found with that of `found`.
    pub(crate) fn is_rounded(&self, written: &File, found: &File) -> bool {
        let nanoseconds = |time: Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
        let difference = (nanoseconds(written.modified) - nanoseconds(found.modified)).unsigned_abs();
        written.same_content(found) && difference < u128::from(self.rounding)
    }
}

/// One letter for its upper and its lower case. Only where that is one letter: how many bytes a name has stays what it is.
fn fold(letter: char) -> char {
    fn only(mut letters: impl Iterator<Item = char>) -> Option<char> {
        letters.next().filter(|_| letters.next().is_none())
    }
    let upper = only(letter.to_uppercase()).unwrap_or(letter);
    only(upper.to_lowercase()).unwrap_or(upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_one_have_one_key() {
        let both = Traits { case: Alike::Kept, composition: Alike::Kept, ..Traits::default() };
        for (one, other) in [
            ("README", "readme"),
            ("caf\u{e9}", "cafe\u{301}"),
            ("CAF\u{c9}", "cafe\u{301}"),
            ("\u{212a}", "k"),
            ("\u{17f}", "S"),
            ("\u{3a3}", "\u{3c2}"),
        ] {
            assert_eq!(both.key(one.as_bytes()), both.key(other.as_bytes()), "{one} {other}");
            assert_ne!(Traits::default().key(one.as_bytes()), Traits::default().key(other.as_bytes()));
        }
        assert_ne!(both.key("stra\u{df}e".as_bytes()), both.key(b"strasse"));
        assert_eq!(both.key(b"A\xff"), both.key(b"a\xff"));
    }

    #[test]
    fn what_windows_cannot_hold_is_known_by_its_rules() {
        let windows = Refused {
            bytes: br#"<>:"\|?*"#.iter().copied().chain(1..32).collect(),
            ends: BTreeSet::from([b'.', b' ']),
            devices: true,
            other_than_text: true,
        };
        for name in
            [&b"a:b"[..], b"what?", b"a.", b"a ", b"CON", b"nul.txt", b"Com1", b"lpt9.tar.gz", b"aux .c", b"\xff"]
        {
            assert!(!windows.takes(name), "{}", String::from_utf8_lossy(name));
            assert!(Refused::default().takes(name));
        }
        for name in ["console", "com", "com0", "com10", ".con", "a.b", "a b", "caf\u{e9}"] {
            assert!(windows.takes(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_new_name_is_composed_where_the_file_system_takes_it_apart() {
        let name = |text: &str| Name::new(text.as_bytes()).unwrap();
        let lost = Traits { composition: Alike::Lost, ..Traits::default() };
        assert_eq!(lost.elsewhere(&name("cafe\u{301}")), name("caf\u{e9}"));
        assert!(lost.gives_back("caf\u{e9}".as_bytes(), "cafe\u{301}".as_bytes()));
        let kept = Traits { composition: Alike::Kept, ..Traits::default() };
        assert_eq!(kept.elsewhere(&name("cafe\u{301}")), name("cafe\u{301}"));
        assert!(!kept.gives_back("caf\u{e9}".as_bytes(), "cafe\u{301}".as_bytes()));
    }
}
