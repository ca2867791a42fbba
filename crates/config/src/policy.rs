//! The organisation's policy: a file of the administrator's that sets and locks settings.
//!
//! ```json
//! {
//!   "settings": {
//!     "idle-timeout": { "value": "5m", "locked": true },
//!     "size.memory": { "value": "4GiB" }
//!   },
//!   "allowed-runners": ["local", "build-farm"],
//!   "longest-idle-timeout": "15m",
//!   "fair-use": { "daily-limit": "8h", "hard-stop": true }
//! }
//! ```
//!
//! It fails closed: a file that cannot be read, that is not understood to its last word, or that others than the administrator
//! can change, lets nothing run until it is put right.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use overside_model::{ErrorCode, Problem, Settings};
use serde::Deserialize;
use serde_json::Value;

/// A policy, or none.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Policy {
    /// Values of settings, by name.
    settings: BTreeMap<String, Entry>,
    /// The only runners that may be used; any without it.
    allowed_runners: Option<Vec<String>>,
    /// The longest idle timeout that users may choose.
    #[serde(deserialize_with = "duration")]
    longest_idle_timeout: Option<Duration>,
    fair_use: Option<FairUse>,
    /// Where it was read.
    #[serde(skip)]
    path: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    value: Value,
    #[serde(default)]
    locked: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FairUse {
    #[serde(default, deserialize_with = "duration")]
    daily_limit: Option<Duration>,
    #[serde(default)]
    hard_stop: bool,
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Where a setting's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nobody has said anything else.
    Default,
    /// The user's file.
    User,
    /// The policy, and the user may choose another.
    Policy,
    /// The policy, and that is final.
    Locked,
}

impl Source {
    /// The source in one word, as `settings get` shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::User => "user",
            Self::Policy => "policy",
            Self::Locked => "locked",
        }
    }
}

impl Policy {
    /// The policy's place on this system.
    pub fn system_path() -> PathBuf {
        #[cfg(target_os = "macos")]
        return PathBuf::from("/Library/Application Support/Overside/policy.json");
        #[cfg(windows)]
        // Not by the variable of that name: the user sets it.
        return PathBuf::from(r"C:\ProgramData\Overside\policy.json");
        #[cfg(not(any(target_os = "macos", windows)))]
        PathBuf::from("/etc/overside/policy.json")
    }

    /// Reads the policy; there is none where there is no file.
    ///
    /// # Errors
    /// [`ErrorCode::Policy`] for one that cannot be used, with the reason.
    pub fn load(path: &Path) -> Result<Self, Problem> {
        let unusable = |reason: String| {
            Problem::new(
                ErrorCode::Policy,
                format!("the policy {} cannot be used: {reason}", path.display()),
                "Ask your administrator to correct it; until then nothing is started.",
            )
        };
        let text = match fs_err::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unusable(error.to_string())),
        };
        check_owner(path).map_err(unusable)?;
        let json: Value = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        if !json.is_object() {
            return Err(unusable("it is not one JSON object".to_owned()));
        }
        let policy: Self = serde_json::from_value(json).map_err(|error| unusable(error.to_string()))?;
        let mut settings = Settings::default();
        for (name, entry) in &policy.settings {
            settings.set(name, &entry.value).map_err(|error| unusable(error.to_string()))?;
        }
        Ok(Self { path: path.to_owned(), ..policy })
    }

    /// Whether there is no policy, and users decide everything.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The settings that apply: the user's, with the policy's in the places that the user has left alone or may not change.
    pub fn apply(&self, user: &Settings) -> Settings {
        let mut settings = user.clone();
        let default = Settings::default();
        for (name, entry) in &self.settings {
            if entry.locked || user.get(name) == default.get(name) {
                // It was tried when the policy was read.
                let _ = settings.set(name, &entry.value);
            }
        }
        if let Some(longest) = self.longest_idle_timeout {
            settings.idle_timeout = settings.idle_timeout.min(longest);
        }
        if let Some(limit) = self.fair_use.as_ref().and_then(|fair| fair.daily_limit) {
            settings.daily_limit = limit;
        }
        settings
    }

    /// Whether nothing may run any more once the day's limit is reached.
    pub fn hard_stop(&self) -> bool {
        self.fair_use.as_ref().is_some_and(|fair| fair.hard_stop)
    }

    /// Whether the user may have this value.
    ///
    /// # Errors
    /// [`ErrorCode::Policy`] with the rule that forbids it.
    pub fn check(&self, name: &str, settings: &Settings) -> Result<(), Problem> {
        let too_long = self.longest_idle_timeout.is_some_and(|longest| settings.idle_timeout > longest);
        if self.source(name, settings) == Source::Locked || name == "idle-timeout" && too_long {
            let rule = self.rule(name, settings).unwrap_or_default();
            return Err(Problem::new(ErrorCode::Policy, rule, "Ask your administrator."));
        }
        self.check_runner(&settings.runner)
    }

    /// What the policy says of a setting, as a sentence without a full stop: that it is locked, or which values it allows.
    /// None where users may have what they like.
    pub fn rule(&self, name: &str, user: &Settings) -> Option<String> {
        let rule = match (name, self.longest_idle_timeout, &self.allowed_runners) {
            _ if self.source(name, user) == Source::Locked => format!("sets {name}"),
            ("idle-timeout", Some(longest), _) => {
                format!("allows an idle-timeout of at most {}", humantime::format_duration(longest))
            }
            ("runner", _, Some(allowed)) => format!("allows these runners: {}", allowed.join(", ")),
            _ => return None,
        };
        Some(format!("your organisation's policy ({}) {rule}", self.path.display()))
    }

    /// Whether this runner may be used.
    ///
    /// # Errors
    /// [`ErrorCode::Policy`] with those that may.
    pub fn check_runner(&self, runner: &str) -> Result<(), Problem> {
        match &self.allowed_runners {
            Some(allowed) if !allowed.iter().any(|name| name == runner) => Err(Problem::new(
                ErrorCode::Policy,
                format!("your organisation's policy ({}) does not allow the runner {runner:?}", self.path.display()),
                format!("It allows: {}.", allowed.join(", ")),
            )),
            _ => Ok(()),
        }
    }

    /// Where the value of a setting comes from.
    pub fn source(&self, name: &str, user: &Settings) -> Source {
        let own = user.get(name) != Settings::default().get(name);
        let fair =
            name == "fair-use.daily-limit" && self.fair_use.as_ref().is_some_and(|fair| fair.daily_limit.is_some());
        match self.settings.get(name) {
            Some(entry) if entry.locked => Source::Locked,
            _ if fair => Source::Locked,
            Some(_) if !own => Source::Policy,
            _ if own => Source::User,
            _ => Source::Default,
        }
    }
}

/// A policy that its subjects can write is none.
#[cfg(unix)]
fn check_owner(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    for place in [Some(path), path.parent()].into_iter().flatten() {
        let metadata = fs_err::metadata(place).map_err(|error| error.to_string())?;
        if metadata.uid() != 0 {
            return Err(format!("{} belongs to user {}, not to root", place.display(), metadata.uid()));
        }
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(format!("others than root can write {}", place.display()));
        }
    }
    Ok(())
}

/// Below `ProgramData` a file of the administrator's cannot be changed by users, unless its maker has said otherwise.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
fn check_owner(_path: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(json: &Value) -> Policy {
        serde_json::from_value(json.clone()).unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_locked_setting_is_the_policys_and_any_other_only_where_the_user_has_said_nothing() {
        let policy = policy(&json!({ "settings": {
            "idle-timeout": { "value": "1m", "locked": true },
            "grace-period": { "value": "2m" },
            "prompt-after": { "value": "40s", "locked": false },
        }}));
        let user = Settings { idle_timeout: seconds(900), grace_period: seconds(30), ..Settings::default() };
        let applied = policy.apply(&user);
        assert_eq!(
            (applied.idle_timeout, applied.grace_period, applied.prompt_after),
            (seconds(60), seconds(30), seconds(40))
        );
        let source = |name| policy.source(name, &user).name();
        assert_eq!(
            [source("idle-timeout"), source("grace-period"), source("prompt-after"), source("lost-contact")],
            ["locked", "user", "policy", "default"]
        );
    }

    #[test]
    fn what_is_locked_or_beyond_a_limit_is_refused_with_the_rule() {
        let policy = policy(&json!({
            "settings": { "size.cpus": { "value": 2, "locked": true } },
            "allowed-runners": ["farm"],
            "longest-idle-timeout": "15m",
            "fair-use": { "daily-limit": "4h", "hard-stop": true },
        }));
        let allowed = Settings { runner: "farm".into(), ..Settings::default() };
        assert_eq!(policy.check("idle-timeout", &allowed), Ok(()));
        let refused = |name, settings: &Settings| policy.check(name, settings).unwrap_err();
        assert!(refused("size.cpus", &allowed).message.contains("sets size.cpus"));
        assert!(refused("fair-use.daily-limit", &allowed).message.contains("sets fair-use.daily-limit"));
        let long = Settings { idle_timeout: seconds(1200), ..allowed.clone() };
        assert!(refused("idle-timeout", &long).message.contains("at most 15m"));
        assert_eq!(policy.apply(&long).idle_timeout, seconds(900));
        assert!(refused("runner", &Settings::default()).hint.contains("farm"));
        assert_eq!((policy.apply(&allowed).daily_limit, policy.hard_stop()), (seconds(4 * 3600), true));
    }

    #[test]
    fn a_rule_is_told_before_anybody_runs_into_it() {
        let policy = policy(&json!({
            "settings": { "size.cpus": { "value": 2, "locked": true }, "grace-period": { "value": "2m" } },
            "allowed-runners": ["farm", "attic"],
            "longest-idle-timeout": "15m",
        }));
        let rule = |name| policy.rule(name, &Settings::default()).unwrap_or_default();
        assert!(rule("size.cpus").ends_with("sets size.cpus"));
        assert!(rule("idle-timeout").ends_with("allows an idle-timeout of at most 15m"));
        assert!(rule("runner").ends_with("allows these runners: farm, attic"));
        assert_eq!(rule("grace-period"), "");
    }

    #[test]
    fn no_policy_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let policy = Policy::load(&directory.path().join("policy.json")).unwrap();
        let user = Settings { idle_timeout: seconds(900), ..Settings::default() };
        assert_eq!((policy.apply(&user), policy.hard_stop()), (user.clone(), false));
        assert_eq!(policy.check("idle-timeout", &user), Ok(()));
    }

    #[cfg(unix)]
    #[test]
    fn a_policy_that_cannot_be_used_fails_closed_and_says_why() {
        use std::os::unix::fs::{PermissionsExt, chown};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.json");
        let refused = |text: &str| {
            fs_err::write(&path, text).unwrap();
            let problem = Policy::load(&path).unwrap_err();
            assert_eq!(problem.code, ErrorCode::Policy);
            problem.message
        };
        if !rustix::process::geteuid().is_root() {
            assert!(refused("{}").contains("not to root"));
            return;
        }
        for (text, reason) in [
            ("{", "EOF"),
            ("[]", "one JSON object"),
            (r#"{"setings":{}}"#, "setings"),
            (r#"{"settings":{"idle-timeout":{"value":"2h"}}}"#, "10s to 1h"),
            (r#"{"settings":{"no-such":{"value":1}}}"#, "no-such"),
            (r#"{"settings":{"runner":{"value":"a","lock":true}}}"#, "lock"),
            (r#"{"longest-idle-timeout":"long"}"#, "expected number"),
        ] {
            let message = refused(text);
            assert!(message.contains(reason), "{message}");
        }
        fs_err::write(&path, "{}").unwrap();
        fs_err::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        assert!(Policy::load(&path).unwrap_err().message.contains("can write"));
        fs_err::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        chown(&path, Some(1000), None).unwrap();
        assert!(Policy::load(&path).unwrap_err().message.contains("belongs to user 1000"));
        chown(&path, Some(0), None).unwrap();
        assert!(Policy::load(&path).is_ok());
    }
}
