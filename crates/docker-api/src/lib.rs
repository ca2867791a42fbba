//! What Overside knows of the Docker Engine API: which routes there are, and what each of them needs.
//!
//! Pure: bytes and words in, decisions out. Bodies are read as the engine reads them and changed in single places, so that
//! whatever this version has never heard of survives byte for byte.

mod answer;
mod json;
mod labels;
mod last_words;
mod mounts;
mod ports;
mod route;

pub use answer::{LocalAnswer, answer_without_engine, engine_headers, error_body, facts_of_any, facts_of_version};
pub use labels::without_desktop_labels;
pub use last_words::LastWords;
pub use mounts::{BodyKind, Refusal, rewrite_body};
pub use ports::{Container, Published, Wanted};
pub use route::{Class, IdleAnswer, Route, decode_path};
