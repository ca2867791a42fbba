//! What Overside knows of the Docker Engine API: which routes there are, and what each of them needs.
//!
//! Pure: bytes and words in, decisions out. Bodies are read as the engine reads them and changed in single places, so that
//! whatever this version has never heard of survives byte for byte.

mod answer;
mod archive;
mod binds;
mod filters;
mod json;
mod labels;
mod last_words;
mod mounted;
mod mounts;
mod paths;
mod ports;
mod restore;
mod route;
mod users;

pub use answer::{LocalAnswer, answer_without_engine, engine_headers, error_body, facts_of_any, facts_of_version};
pub use archive::{Archived, first_file};
pub use labels::without_desktop_labels;
pub use last_words::LastWords;
pub use mounted::{Mounted, bound_volumes, created};
pub use mounts::{BodyKind, Bound, HostBind, IfMissing, Refusal, laptop_binds, rewrite_body};
pub use paths::Laptop;
pub use ports::{Container, Published, Wanted};
pub use restore::{Restorer, names_places};
pub use route::{Class, IdleAnswer, Route, decode_path, parameter};
pub use users::User;
