//! The control API: how every shell (command line, tray, window) speaks to the daemon.
//!
//! Plain HTTP/1.1 and JSON on a local socket, so that `curl --unix-socket control.sock http://overside/v1/status` reads it.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | the [`Status`](overside_model::Status) |
//! | `GET /v1/events` | server-sent events: first `snapshot` with the whole status, then `patch` with its changed members |
//! | `POST /v1/enable`, `/idle`, `/later`, `/retry` | the status after it |
//! | `POST /v1/disable`, `/shutdown` | the status, once the environment is gone |
//! | `GET /v1/settings` | every setting: `{name: {value, expected, purpose}}` |
//! | `PUT /v1/settings/NAME` | 204; the body is the value as JSON |
//! | `GET /v1/version` | `{version}` |
//!
//! An error is a [`Problem`](overside_model::Problem) as JSON with a status of 400 or above.

mod client;
mod patch;
mod server;

pub use client::{Client, Watch};
pub use server::{Command, Daemon, serve};
