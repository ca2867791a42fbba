//! What Overside keeps on the laptop: directories, the settings file, the lock of a home, and the Docker CLI's context.

mod context;
mod home;
mod settings_file;
mod write;

pub use context::{ContextError, DockerContext};
pub use home::{Home, HomeLock};
pub use settings_file::SettingsFile;
pub use write::write_atomically;
