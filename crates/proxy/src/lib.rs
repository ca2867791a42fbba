//! The Docker API proxy: the server on the local Docker socket.
//!
//! Every connection is one task. A request is admitted by the [`Gate`] (which may hold it until an engine is there), goes to
//! the engine on a stream of its own, and its answer streams back as it comes. Requests that take the connection over
//! (attach, exec, BuildKit's session) end as two raw streams joined with half-close.

mod body;
mod events;
mod forward;
mod gate;
mod hijack;
mod server;

pub use gate::{Admission, Around, Call, Caller, Dial, Flush, Gate, Held, Keep};
pub use server::serve;
