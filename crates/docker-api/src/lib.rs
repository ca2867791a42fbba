//! What Overside knows of the Docker Engine API: which routes there are, and what each of them needs.
//!
//! Pure: bytes and words in, decisions out. Bodies are edited as loose JSON, so that fields that this version has never
//! heard of survive.

mod answer;
mod labels;
mod mounts;
mod route;

pub use answer::{LocalAnswer, answer_without_engine, error_body};
pub use labels::without_desktop_labels;
pub use mounts::{BodyKind, Refusal, rewrite_body};
pub use route::{Class, IdleAnswer, Route};
