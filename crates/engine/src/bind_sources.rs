//! What requests bind, on the laptop: as Docker does, a missing directory is made for `-v` and is an error for `--mount`.

use std::{io::ErrorKind, path::Path};

use overside_docker_api::{HostBind, IfMissing};
use overside_model::{ErrorCode, Problem};

/// Looks for every one of them, and makes those that are to be made.
///
/// # Errors
/// As dockerd says it.
pub(crate) async fn look(binds: &[HostBind]) -> Result<(), Problem> {
    for bind in binds {
        let refused = |message: String| Problem::new(ErrorCode::RequestRefused, message, "");
        let (path, source) = (Path::new(&bind.path), &bind.source);
        match (tokio::fs::metadata(path).await, bind.if_missing) {
            (Ok(_), _) => {}
            (Err(error), IfMissing::Leave) if error.kind() == ErrorKind::NotFound => {}
            (Err(error), IfMissing::Create) if error.kind() == ErrorKind::NotFound => {
                tokio::fs::create_dir_all(path).await.map_err(|error| {
                    refused(format!("error while creating mount source path '{source}': mkdir {source}: {error}"))
                })?;
            }
            (Err(error), IfMissing::Refuse) if error.kind() == ErrorKind::NotFound => {
                let message = "invalid mount config for type \"bind\": bind source path does not exist";
                return Err(refused(format!("{message}: {source}")));
            }
            (Err(error), _) => return Err(refused(format!("cannot mount {source}: {error}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path, if_missing: IfMissing) -> HostBind {
        HostBind {
            source: "as given".to_owned(),
            path: path.to_string_lossy().into_owned(),
            target: "/x".to_owned(),
            read_only: false,
            if_missing,
            through_volume: false,
            masks: Vec::new(),
        }
    }

    async fn said(path: &Path, if_missing: IfMissing) -> String {
        look(&[bind(path, if_missing)]).await.map_or_else(|problem| problem.message, |()| String::new())
    }

    #[tokio::test]
    async fn a_missing_source_is_made_refused_or_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        let refused = "invalid mount config for type \"bind\": bind source path does not exist: as given";
        assert_eq!(said(&path, IfMissing::Refuse).await, refused);
        assert_eq!(said(&path, IfMissing::Leave).await, "");
        assert!(!path.exists());
        assert_eq!(said(&path, IfMissing::Create).await, "");
        assert!(path.is_dir());
        assert_eq!(said(&path, IfMissing::Refuse).await, "");
    }

    #[tokio::test]
    async fn what_cannot_be_made_is_told_as_dockerd_does() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = said(&file.path().join("x"), IfMissing::Create).await;
        assert!(
            said.starts_with("cannot mount as given: ")
                || said.starts_with("error while creating mount source path 'as given'"),
            "{said}"
        );
    }
}
