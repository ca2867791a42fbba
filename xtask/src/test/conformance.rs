//! Foreign clients against an engine, directly and through Overside: `tests/conformance/run.py` compares.

use std::path::Path;

use super::{Session, tally};
use crate::{
    artifacts::{self, Profile},
    command, modern_docker,
    node::Npm,
    workspace,
};

impl Session<'_> {
    pub(super) fn conformance(&mut self) {
        let workspace = self.workspace;
        let built = self.steps.loud("programs", || {
            let programs = artifacts::programs(workspace, Profile::Dev)?;
            let modern =
                modern_docker::ensure().inspect_err(|error| println!("no newer Docker for the tests: {error:#}"));
            Ok((programs, modern.ok(), artifacts::bollard(workspace)?))
        });
        let (programs, modern, bollard) = match built {
            Ok(built) => built,
            Err(error) => return self.fault("programs", &error),
        };
        let suite = |cache: &Path, npm: &Npm| {
            let mut command = npm.program("python3", &workspace.root);
            command.arg("tests/conformance/run.py").env("OVERSIDE_CONFORMANCE_CACHE", cache);
            command
        };
        // The clients come from the registries as the developer has set them up, so outside of the guarded home.
        let installed = self.steps.loud("foreign clients", || {
            let (cache, npm) = (workspace::cache()?, Npm::find()?);
            command::stream(suite(&cache, &npm).arg("--prepare"))?;
            Ok((cache, npm))
        });
        let (cache, npm) = match installed {
            Ok(installed) => installed,
            Err(error) => return self.fault("foreign clients", &error),
        };
        let mut command = suite(&cache, &npm);
        if let Some(filter) = self.filter {
            command.args(["-k", filter]);
        }
        self.guard.apply(&mut command);
        command.env("OVERSIDE_BIN_DIR", programs).env("OVERSIDE_CONFORMANCE_BOLLARD", bollard);
        command.envs(modern.map(|modern| ("OVERSIDE_TEST_MODERN_DOCKER", modern)));
        self.counted("conformance of foreign clients", &mut command, tally::closing_line);
    }
}
