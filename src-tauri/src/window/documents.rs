//! Where the window writes what the user asks it to save.

use std::path::PathBuf;

use overside_model::{ErrorCode, Problem};

/// A file that does not exist yet, among the user's documents or, where there is no such folder, in the home directory.
///
/// # Errors
/// The user has no home directory.
pub(crate) fn archive() -> Result<String, Problem> {
    let unusable = || {
        Problem::new(
            ErrorCode::KeepFailed,
            "there is no folder to save to: this user has no home directory",
            "Choose a file yourself, with `overside keep FILE`.",
        )
    };
    file(dirs::document_dir(), "overside-%Y%m%d-%H%M%S.zip").ok_or_else(unusable)
}

/// A file that does not exist yet, among the user's downloads or, where there is no such folder, in the home directory. In
/// the name, `%Y` and so on stand for the present time.
///
/// # Errors
/// The user has no home directory.
pub(crate) fn download(name: &str) -> Result<String, Problem> {
    file(dirs::download_dir(), name).ok_or_else(|| {
        Problem::new(
            ErrorCode::Internal,
            "there is no folder to save to: this user has no home directory",
            "Save it to a file of your choice with the command line.",
        )
    })
}

fn file(folder: Option<PathBuf>, name: &str) -> Option<String> {
    let folder = folder.filter(|folder| folder.is_dir()).or_else(dirs::home_dir)?;
    folder.join(jiff::Zoned::now().strftime(name).to_string()).into_os_string().into_string().ok()
}
