//! The life cycle of a session, as a machine without I/O.
//!
//! Inputs are `handle_*(now, …)`; outputs are [`Session::poll_effect`] (what is to be carried out), [`Session::poll_timeout`]
//! (when to call [`Session::handle_timeout`], and why) and [`Session::view`] (what users see). The same inputs give the same
//! outputs: there is no clock, no randomness and no I/O in here.
//!
//! At most one effect on the environment is under way at a time. Each carries a number ([`Operation`]); an answer to any
//! other than the present one is ignored, so that a cancelled effect may still finish whenever it likes.

mod activity;
mod calls;
mod deadlines;
mod machine;
mod pollers;
mod rules;
mod view;

pub use activity::{ActivityId, Call, CallKind};
pub use calls::{Decision, Gate};
pub use deadlines::Deadline;
pub use machine::{Effect, EndReason, Ended, Operation, Session};
pub use pollers::{Client, Overrules};
pub use rules::{Rules, retry_pause};
pub use view::View;
