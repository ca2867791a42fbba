//! Completions and manual pages, made from the command line as it is.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;

/// The words of `overside`, compiled in: they need clap alone, and the rest of its package would bring the engine.
#[path = "../../../crates/cli/src/arguments.rs"]
mod arguments;

fn overside() -> clap::Command {
    arguments::Arguments::command()
}

/// What completes `overside` in a shell.
pub(super) fn completion(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut overside(), super::NAME, &mut script);
    script
}

/// The manual pages of `overside` and of each of its commands: names such as `overside-start.1`, and texts.
pub(super) fn manual() -> Result<Vec<(String, Vec<u8>)>> {
    let place = tempfile::tempdir()?;
    clap_mangen::generate_to(overside(), place.path()).context("cannot make the manual pages")?;
    let mut pages = fs_err::read_dir(place.path())?
        .map(|entry| {
            let path = entry?.path();
            Ok((name(&path)?, fs_err::read(&path)?))
        })
        .collect::<Result<Vec<_>>>()?;
    pages.sort();
    Ok(pages)
}

fn name(path: &Path) -> Result<String> {
    Ok(path.file_name().and_then(|name| name.to_str()).context("a manual page has no name")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of all commands that are shown, such as `runner-add`.
    fn names(command: &clap::Command, before: &str) -> Vec<String> {
        let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
        shown
            .flat_map(|command| {
                let name = format!("{before}{}", command.get_name());
                let below = names(command, &format!("{name}-"));
                std::iter::once(name).chain(below)
            })
            .collect()
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let pages = manual().unwrap();
        let wanted = names(&overside(), "");
        assert!(wanted.contains(&"runner-add".to_owned()), "{wanted:?}");
        for name in wanted {
            let page = pages.iter().find(|(page, _)| *page == format!("overside-{name}.1"));
            let (_, text) = page.unwrap_or_else(|| panic!("no page for {name}"));
            assert!(String::from_utf8_lossy(text).contains(".SH SYNOPSIS"), "{name}");
        }
        assert!(pages.iter().any(|(page, _)| page == "overside.1"));
    }

    #[test]
    fn every_command_is_completed_in_every_shell() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completion(shell)).unwrap();
            for name in names(&overside(), "") {
                let word = name.rsplit('-').next().unwrap();
                assert!(script.contains(word), "{shell} does not know {name}");
            }
        }
    }
}
