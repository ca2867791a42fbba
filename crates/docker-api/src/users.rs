//! Who a container's processes are, in numbers: by `Config.User` and the container's own files of users and groups.

/// A container's user, as far as it can be told without its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// Root.
    Root,
    /// These numbers: of the user and of the group.
    Numbers(u32, u32),
    /// Names, or a user without a group: the container's files must be looked at.
    Named {
        /// `/etc/group` must be looked at as well as `/etc/passwd`.
        group: bool,
    },
}

impl User {
    /// Reads `Config.User`: `user`, `uid`, `user:group`, `uid:gid` and mixtures of these.
    pub fn of(user: &str) -> Self {
        let (name, group) = parts(user);
        match (name.parse(), group.map(str::parse)) {
            _ if name.is_empty() && group.is_none() => Self::Root,
            (Ok(0), None) => Self::Root,
            (Ok(uid), Some(Ok(gid))) => numbers(uid, gid),
            (_, group) => Self::Named { group: matches!(group, Some(Err(_))) },
        }
    }

    /// The same with the container's files at hand. None where the engine will not find such a user either.
    pub fn resolve(user: &str, passwd: &str, groups: &str) -> Option<Self> {
        let (name, group) = parts(user);
        let number: Option<u32> = name.parse().ok();
        let root = name.is_empty() || name == "root";
        // name:password:uid:gid:…
        let entry = lines(passwd).find_map(|fields| {
            let uid: u32 = fields.get(2)?.parse().ok()?;
            (fields.first() == Some(&name) || number == Some(uid)).then_some((uid, fields.get(3)?.parse().ok()?))
        });
        let (uid, primary) = entry.or_else(|| number.map(|uid| (uid, 0))).or(root.then_some((0, 0)))?;
        let gid = match group {
            None => primary,
            // name:password:gid:…
            Some(group) => lines(groups)
                .find(|fields| fields.first() == Some(&group))
                .and_then(|fields| fields.get(2)?.parse().ok())
                .or_else(|| group.parse().ok())?,
        };
        Some(numbers(uid, gid))
    }
}

const fn numbers(uid: u32, gid: u32) -> User {
    if uid == 0 && gid == 0 { User::Root } else { User::Numbers(uid, gid) }
}

fn parts(user: &str) -> (&str, Option<&str>) {
    let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    (name, group.filter(|group| !group.is_empty()))
}

fn lines(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().map(|line| line.trim_end().split(':').collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\nbroken\n\nodd:x:7:x:\nlow:x:70:71:::\n";
    const GROUP: &str = "root:x:0:\nnode:x:1000:\nstaff:x:50:node\n";

    #[test]
    fn numbers_need_no_files() {
        for user in ["", "0", "0:0", "0:"] {
            assert_eq!(User::of(user), User::Root, "{user}");
        }
        assert_eq!(User::of("1000:50"), User::Numbers(1000, 50));
        assert_eq!(User::of("0:50"), User::Numbers(0, 50));
        assert_eq!(User::of("1000"), User::Named { group: false });
        assert_eq!(User::of("node:1000"), User::Named { group: false });
        assert_eq!(User::of("1000:staff"), User::Named { group: true });
        assert_eq!(User::of(":staff"), User::Named { group: true });
    }

    #[test]
    fn names_are_looked_up_as_the_engine_does() {
        let resolve = |user| User::resolve(user, PASSWD, GROUP);
        assert_eq!(resolve("node"), Some(User::Numbers(1000, 1000)));
        assert_eq!(resolve("1000"), Some(User::Numbers(1000, 1000)));
        assert_eq!(resolve("1234"), Some(User::Numbers(1234, 0)));
        assert_eq!(resolve("node:staff"), Some(User::Numbers(1000, 50)));
        assert_eq!(resolve("low:8"), Some(User::Numbers(70, 8)));
        assert_eq!(resolve("root"), Some(User::Root));
        assert_eq!(resolve(":staff"), Some(User::Numbers(0, 50)));
        assert_eq!(resolve("nobody"), None);
        assert_eq!(resolve("node:nobody"), None);
        assert_eq!(resolve("odd"), None);
    }

    #[test]
    fn a_container_without_files_of_users_has_root_all_the_same() {
        assert_eq!(User::resolve("root", "", ""), Some(User::Root));
    }

    proptest! {
        #[test]
        fn no_files_make_the_reader_panic(user in "\\PC{0,12}", passwd in "[a-z0-9:\n]{0,60}", group in "[a-z0-9:\n]{0,60}") {
            User::of(&user);
            User::resolve(&user, &passwd, &group);
        }
    }
}
