//! The tunnel: one SSH connection to an environment's agent over any byte stream, and the channels in it.
//!
//! [`Connection`] is one SSH connection. [`Link`] keeps one alive: it connects again with backoff when it breaks, and tells
//! when that has become pointless. [`outer`] is the way to a runner that one has to log in to, below all that.

mod carrier;
mod connection;
mod credentials;
mod link;
mod operations;
pub mod outer;

pub use connection::{Connection, TunnelError};
pub use credentials::{Credentials, CredentialsError};
pub use link::{Dial, Laptop, Link, LinkState};
