//! Byte streams, local sockets and the suspend-aware clock: what every adapter needs of the operating system.

pub mod clock;
mod copying;
pub mod datagrams;
pub mod flows;
pub mod local;
mod paced;
pub mod process;
mod stream;

pub use copying::Copying;
pub use paced::{Bundle, CREDIT, Paced, Receive, Role, Transmit};
pub use stream::{BoxedStream, ByteStream, Prefixed, join, join_until_answered};
