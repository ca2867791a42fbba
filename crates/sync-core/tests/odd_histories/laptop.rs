//! The file systems that the laptop has in these histories.

use std::collections::BTreeSet;

use overside_sync_core::{Alike, Entry, Name, Node, Refused, RelativePath, Traits};

/// A file system as a person sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Laptop {
    /// Takes upper and lower case for one and gives names back as written, as Windows' do.
    Windows,
    /// Takes also composed and decomposed letters for one, as Apple's newer one does.
    Apple,
    /// Gives names back decomposed, as Apple's older one does.
    OldApple,
    /// Gives names back in lower case.
    Lowering,
    /// Tells all names apart but does nothing else.
    Plain,
}

impl Laptop {
    pub(crate) fn traits(self) -> Traits {
        let (case, composition) = match self {
            Self::Windows => (Alike::Kept, Alike::Never),
            Self::Apple => (Alike::Kept, Alike::Kept),
            Self::OldApple => (Alike::Kept, Alike::Lost),
            Self::Lowering => (Alike::Lost, Alike::Never),
            Self::Plain => (Alike::Never, Alike::Never),
        };
        let poor = !self.is_rich();
        let refused =
            Refused { bytes: if poor { BTreeSet::from([b':']) } else { BTreeSet::new() }, ..Refused::default() };
        let rounding = if poor { 2_000_000_000 } else { 0 };
        Traits { case, composition, refused, no_links: poor, no_permissions: poor, rounding }
    }

    /// Whether it keeps permissions and times, and has links.
    pub(crate) fn is_rich(self) -> bool {
        matches!(self, Self::Apple | Self::OldApple)
    }

    /// What it gives back.
    pub(crate) fn form(self, name: &str) -> String {
        match self {
            Self::OldApple => name.replace('\u{e9}', "e\u{301}").replace('\u{c9}', "E\u{301}"),
            Self::Lowering => name.to_lowercase(),
            _ => name.to_owned(),
        }
    }

    pub(crate) fn key(self, name: &str) -> String {
        match self {
            Self::Windows | Self::Lowering => name.to_lowercase(),
            Self::Apple | Self::OldApple => Self::OldApple.form(name).to_lowercase(),
            Self::Plain => name.to_owned(),
        }
    }

    /// Where something lies, or would come to lie; none if a name is refused.
    pub(crate) fn find(self, tree: &Node, path: &RelativePath) -> Option<RelativePath> {
        let (mut found, mut node) = (RelativePath::ROOT, Some(tree));
        for name in path.names() {
            let name = str::from_utf8(name).unwrap();
            let same = |other: &&Name| self.key(str::from_utf8(other.as_bytes()).unwrap()) == self.key(name);
            let children = node.and_then(Node::directory).map(|directory| &directory.children);
            let there = children.and_then(|children| children.keys().find(same)).cloned();
            if there.is_none() && !self.is_rich() && name.contains(':') {
                return None;
            }
            let name = there.unwrap_or_else(|| Name::new(self.form(name).as_bytes()).unwrap());
            node = children.and_then(|children| children.get(&name));
            found.push(&name);
        }
        Some(found)
    }

    /// What it makes of an entry.
    pub(crate) fn keep(self, entry: Entry) -> Entry {
        match entry {
            Entry::File(mut file) if !self.is_rich() => {
                file.mode = 0o777;
                file.modified.seconds &= !1;
                file.modified.nanoseconds = 0;
                Entry::File(file)
            }
            Entry::Directory(_) if !self.is_rich() => Entry::Directory(0o777),
            other => other,
        }
    }
}
