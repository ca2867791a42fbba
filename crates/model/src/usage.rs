//! What was used: the report that shells draw.

use serde::{Deserialize, Serialize};

use crate::Problem;

/// Compute time of one day or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct UsageSpan {
    /// What it is called: a day as `2026-11-21`, a week as `2026-W47`, a month as `2026-11`.
    pub name: String,
    /// Its first local day, `2026-11-21`.
    pub first: String,
    /// Its last local day.
    pub last: String,
    /// Whole seconds used.
    pub seconds: u64,
    /// What the part of it with a known price cost, in the price's currency; null where no price is known.
    pub cost: Option<f64>,
}

/// A week or a month, in parts. Days to come are there, with nothing in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct UsagePeriod {
    /// All of it.
    pub total: UsageSpan,
    /// Its days.
    pub days: Vec<UsageSpan>,
    /// Its ISO weeks, as far as they belong to it.
    pub weeks: Vec<UsageSpan>,
}

/// Usage of today, this week and this month, by local days.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct UsageReport {
    /// The zone whose midnights divide the days: an IANA name, or an offset.
    pub zone: String,
    /// When it was made, RFC 3339 in UTC.
    pub made_at: String,
    /// The day's limit in seconds.
    pub limit_seconds: u64,
    /// Today.
    pub today: UsageSpan,
    /// The ISO week of today.
    pub week: UsagePeriod,
    /// The month of today.
    pub month: UsagePeriod,
    /// What is wrong with the ledger: it was set aside, or cannot be written.
    pub problem: Option<Problem>,
}

/// What one local day came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct UsageDay {
    /// The day, `2026-11-21`.
    pub day: String,
    /// Whole seconds used.
    pub seconds: u64,
    /// As in [`UsageSpan`].
    pub cost: Option<f64>,
}

/// Days in a row, for a chart. Days without use are there, with nothing in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct UsageDays {
    /// As in [`UsageReport`].
    pub zone: String,
    /// The day's limit in seconds.
    pub limit_seconds: u64,
    /// The days, in order.
    pub days: Vec<UsageDay>,
    /// What is wrong with the ledger.
    pub problem: Option<Problem>,
}

/// Which sessions are asked for; what is not said restricts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(optional_fields))]
#[serde(default, deny_unknown_fields)]
pub struct SessionQuery {
    /// Those that went on at some time of this local day, `2026-11-21`, or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Those that began on this local day or before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Those of one runner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// Those of one status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Those whose identifier, user, runner or images have this in them, in capitals or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// As many as this at most, the newest ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// One session, with what the CSV has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct UsageSession {
    /// Its identifier.
    pub id: String,
    /// Whose it was.
    pub user: String,
    /// The runner's name.
    pub runner: String,
    /// Images that its containers ran, in alphabetical order.
    pub images: Vec<String>,
    /// When provisioning began, RFC 3339 in UTC.
    pub started: String,
    /// When it ended; null while it goes on.
    pub ended: Option<String>,
    /// Whole seconds in which it was active.
    pub seconds: u64,
    /// `active` while it goes on, then why it ended: `idle`, `stopped`, `lost`, `start-timed-out` or `interrupted`.
    pub status: String,
    /// Containers that it had.
    pub containers: u64,
    /// What it cost, in the price's currency; null without a price.
    pub cost: Option<f64>,
}

/// The sessions that were asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct UsageSessions {
    /// The newest first; no more than the limit.
    pub sessions: Vec<UsageSession>,
    /// How many there are without the limit.
    pub matching: u64,
    /// Seconds in which all of those were active.
    pub seconds: u64,
    /// What they cost.
    pub cost: Option<f64>,
    /// Runners that any session had, to choose from.
    pub runners: Vec<String>,
    /// Statuses that any session has, to choose from.
    pub statuses: Vec<String>,
}
