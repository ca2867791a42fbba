//! The control API: how every shell (command line, tray, window) speaks to the daemon.
//!
//! Plain HTTP/1.1 and JSON on a local socket, so that `curl --unix-socket control.sock http://overside/v1/status` reads it.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | the [`Status`](overside_model::Status) |
//! | `GET /v1/events` | server-sent events: first `snapshot` with the whole status, then `patch` with its changed members |
//! | `POST /v1/enable`, `/take-over`, `/idle`, `/resume`, `/later`, `/retry` | the status after it |
//! | `POST /v1/disable`, `/shutdown` | the status, once the environment is gone |
//! | `GET /v1/settings` | every setting: `{name: {value, source, rule, expected, purpose}}` |
//! | `PUT /v1/settings/NAME` | 204; the body is the value as JSON |
//! | `GET /v1/runners` | the runners: an array of [`RunnerStatus`](overside_model::RunnerStatus) |
//! | `POST /v1/runners/NAME/test` | the hops on the way to it: an array of [`Hop`](overside_model::Hop) |
//! | `GET /v1/addresses` | addresses of runners that could be added, such as the hosts of the user's SSH configuration |
//! | `POST /v1/runners` | adds a [`RunnerEntry`](overside_model::RunnerEntry); the runners |
//! | `DELETE /v1/runners/NAME` | null, or the [`Problem`](overside_model::Problem) that left something on the runner |
//! | `GET /v1/runners/NAME/question` | the [`Question`](overside_model::Question) that stands in the way, or null |
//! | `POST /v1/runners/NAME/answer` | why a passphrase is not kept that was to be, or null; the body is an [`Answer`](overside_model::Answer) |
//! | `GET /v1/usage` | the [`UsageReport`](overside_model::UsageReport): today, this week, this month |
//! | `GET /v1/usage/days?days=N` | the [`UsageDays`](overside_model::UsageDays): each of the last N days, today included |
//! | `GET /v1/usage/sessions` | the [`UsageSessions`](overside_model::UsageSessions), newest first; the query's members are those of [`SessionQuery`](overside_model::SessionQuery) |
//! | `GET /v1/usage.csv` | every session as CSV |
//! | `GET /v1/version` | `{version}` |
//!
//! An error is a [`Problem`](overside_model::Problem) as JSON with a status of 400 or above.

mod client;
mod patch;
mod server;

pub use client::{Client, Watch};
pub use server::{Command, Daemon, serve};
