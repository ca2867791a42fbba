//! The usage ledger: sessions and the time in which they were active, in one SQLite file.
//!
//! The daemon writes with a [`Ledger`]; a [`History`] reads, the daemon's own or the file of one that does not run. What
//! days, weeks and months come to is computed from intervals when it is asked for, in the zone of whoever asks: nothing is
//! stored by day, so that a user who travels loses and gains no hour.

mod days;
mod file;
mod history;
mod interval;
mod ledger;
mod report;
mod trouble;

pub use days::{beginning, day_of, split};
pub use history::{History, SessionUsage, Total};
pub use interval::{Interval, place};
pub use ledger::{EndReason, Ledger, NewSession};
