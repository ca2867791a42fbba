//! What Overside keeps on the laptop: directories, the settings file, the lock of a home, the window's size, the Docker CLI's context and the
//! well-known Docker socket.

mod context;
mod default_socket;
mod home;
mod login;
mod policy;
mod runners_file;
mod settings_file;
mod window_file;
mod write;

pub use context::{ChosenBy, ContextError, DockerContext, Target};
pub use default_socket::DefaultSocket;
pub use home::{Home, HomeLock};
pub use login::LoginEntry;
pub use policy::{Policy, Source};
pub use runners_file::RunnersFile;
pub use settings_file::SettingsFile;
pub use window_file::{WindowFile, WindowSize};
pub use write::{write_atomically, write_private};
