//! What Overside keeps on the laptop: directories, the settings file, the lock of a home, the Docker CLI's context and the
//! well-known Docker socket.

mod context;
mod default_socket;
mod home;
mod settings_file;
mod write;

pub use context::{ContextError, DockerContext};
pub use default_socket::DefaultSocket;
pub use home::{Home, HomeLock};
pub use settings_file::SettingsFile;
pub use write::write_atomically;
