//! Names and paths below a root, as both sides may say them.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Beginning of the names that a transfer uses in between. They are never part of a tree.
pub const TEMPORARY: &str = ".overside-tmp-";

/// Longest name; what Linux allows.
const LONGEST_NAME: usize = 255;
/// Longest path below a root; what Linux allows for a whole one.
const LONGEST_PATH: usize = 4096;
/// Most names in a path: trees are walked by recursion.
const DEEPEST: usize = 128;

/// The name of an entry of a directory: any bytes but a slash and zero, and neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// The name, if it can be one.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let possible = !bytes.is_empty()
            && bytes.len() <= LONGEST_NAME
            && bytes != b"."
            && bytes != b".."
            && !bytes.contains(&b'/')
            && !bytes.contains(&0)
            && !bytes.starts_with(TEMPORARY.as_bytes());
        possible.then(|| Self(bytes.into()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        Self::new(bytes).ok_or_else(|| D::Error::custom("no name of a file"))
    }
}

/// A path below a root: names with slashes in between. The empty one is the root itself.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(Vec<u8>);

impl RelativePath {
    /// The root.
    pub const ROOT: Self = Self(Vec::new());

    /// The path, if every part of it can be a name and it is not too deep.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::ROOT);
        }
        let names = bytes.split(|byte| *byte == b'/');
        let possible = bytes.len() <= LONGEST_PATH
            && names.clone().count() <= DEEPEST
            && names.into_iter().all(|name| Name::new(name).is_some());
        possible.then(|| Self(bytes.to_vec()))
    }

    /// Whether it is the root.
    pub const fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its names, from the root on.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// The path of one of its entries.
    #[must_use]
    pub fn child(&self, name: &Name) -> Self {
        let mut path = self.clone();
        path.push(name);
        path
    }

    /// Goes down to an entry.
    pub fn push(&mut self, name: &Name) {
        if !self.0.is_empty() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(name.as_bytes());
    }

    /// Goes up to its directory. The root stays.
    pub fn pop(&mut self) {
        let length = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        self.0.truncate(length);
    }

    /// The directory that it lies in, and its name there; none for the root.
    pub fn split(&self) -> Option<(Self, Name)> {
        let start = self.0.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let name = Name::new(&self.0[start..])?;
        Some((Self(self.0[..start.saturating_sub(1)].to_vec()), name))
    }

    /// Whether it has as many names as a path may have, so that what lies below is left alone.
    pub fn is_deepest(&self) -> bool {
        self.names().count() >= DEEPEST
    }

    /// Whether it is `other` or lies below it.
    pub fn is_within(&self, other: &Self) -> bool {
        other.is_root()
            || self.0.strip_prefix(other.0.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        write!(formatter, "{}", if text.is_empty() { "." } else { &text })
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Serialize for RelativePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelativePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        Self::new(bytes).ok_or_else(|| D::Error::custom("no path below a root"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_of_the_root_is_no_path() {
        for path in
            ["/", "/etc", "a//b", "..", "a/../..", "./a", "a/", "a\0b", ".overside-tmp-1", "a/.overside-tmp-x/b"]
        {
            assert_eq!(RelativePath::new(path.as_bytes()), None, "{path}");
        }
        assert_eq!(RelativePath::new(&[b'a'; 256]), None);
        assert_eq!(RelativePath::new("a/".repeat(200).trim_end_matches('/').as_bytes()), None);
        for path in ["", "a", "a/b", "...", ".git/x", "a b/\u{e9}"] {
            assert_eq!(RelativePath::new(path.as_bytes()).unwrap().as_bytes(), path.as_bytes());
        }
    }

    #[test]
    fn a_path_is_taken_apart_as_it_was_put_together() {
        let path = RelativePath::new(b"a/bc/d").unwrap();
        assert_eq!(path.names().collect::<Vec<_>>(), [&b"a"[..], b"bc", b"d"]);
        let (parent, name) = path.split().unwrap();
        assert_eq!((parent.to_string().as_str(), name.as_bytes()), ("a/bc", &b"d"[..]));
        assert_eq!(parent.child(&name), path);
        assert_eq!(RelativePath::new(b"a").unwrap().split().unwrap().0, RelativePath::ROOT);
        assert_eq!(RelativePath::ROOT.split(), None);
        let mut up = path.clone();
        up.pop();
        assert_eq!(up, parent);
        assert!(path.is_within(&parent) && path.is_within(&RelativePath::ROOT) && path.is_within(&path));
        assert!(!RelativePath::new(b"a/bcd").unwrap().is_within(&parent));
    }
}
