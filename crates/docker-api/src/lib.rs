//! What Overside knows of the Docker Engine API: which routes there are, and what each of them needs.
//!
//! Pure: bytes and words in, decisions out. Bodies are edited as loose JSON, so that fields that this version has never
//! heard of survive.

mod answer;
mod mounts;
mod route;

pub use answer::{LocalAnswer, answer_without_engine, error_body};
pub use mounts::{Refusal, check_container_create, check_service_spec, check_volume_create};
pub use route::{BodyCheck, Class, IdleAnswer, Route};
