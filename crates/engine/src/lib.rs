//! The daemon's middle: drives the session machine and carries out its effects on the adapters.
//!
//! ```text
//!  docker.sock ─▶ proxy ─▶ gate ─┐                       ┌─▶ runner provider (make, open, destroy)
//!                                ├─▶ hub (Session) ─▶ effects ─▶ tunnel link ─▶ agent
//!  control.sock ▶ control ───────┘                       └─▶ docker context, files
//! ```
//!
//! The hub is a [`Session`](overside_session::Session) behind a lock; every input is a short synchronous call that ends with
//! carrying out what the machine asks for. Nothing here decides: rules live in `session`, routes in `docker-api`.

mod accounts;
mod around;
mod bind_sources;
mod bindings;
mod calendar;
mod clients;
mod containers;
mod daemon;
mod docker;
mod effects;
mod environment;
mod facts;
mod gate;
mod hub;
mod inventory;
mod keep;
mod laptop;
mod last_answers;
mod listeners;
mod mounts;
mod record;
mod roots;
mod runners;

pub use daemon::{Daemon, Stopper, Wiring};
