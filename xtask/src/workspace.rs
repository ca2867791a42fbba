//! Where things lie: the repository, the target directory, the cache.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};
use cargo_metadata::{Metadata, MetadataCommand, Package};

/// The workspace as cargo describes it.
pub(crate) struct Workspace {
    /// The repository's root.
    pub(crate) root: PathBuf,
    /// Cargo's target directory; follows `CARGO_TARGET_DIR`.
    pub(crate) target: PathBuf,
    metadata: Metadata,
}

impl Workspace {
    /// Asks cargo, without looking at dependencies of dependencies.
    pub(crate) fn find() -> Result<Self> {
        // What `cargo run` says at run time: two checkouts that share a target directory share this program.
        let directory = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let manifest = PathBuf::from(directory).join("../Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(manifest)
            .no_deps()
            .exec()
            .context("cargo cannot read the workspace")?;
        Ok(Self {
            root: metadata.workspace_root.clone().into_std_path_buf(),
            target: metadata.target_directory.clone().into_std_path_buf(),
            metadata,
        })
    }

    /// Every package of the workspace, in order of name.
    pub(crate) fn packages(&self) -> Vec<&Package> {
        let mut packages = self.metadata.workspace_packages();
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        packages
    }

    /// The packages that plain cargo commands build: all but the desktop.
    pub(crate) fn default_packages(&self) -> Vec<&Package> {
        let mut packages = self.metadata.workspace_default_packages();
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        packages
    }
}

/// What outlives a build and can be fetched again: `$XDG_CACHE_HOME/overside`.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => env::home_dir().context("there is no home directory; set HOME")?.join(".cache"),
    };
    Ok(base.join("overside"))
}
