//! House rules that a compiler does not know: names, and what must not stand in the project's files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{command, workspace::Workspace};

/// Names that say nothing about what is in a module.
const EMPTY_NAMES: &[&str] = &["common", "core", "helper", "helpers", "manager", "managers", "misc", "util", "utils"];

/// Files longer than this are named in a note: ask whether each is still one idea.
const LONG: usize = 500;

/// Text that ties the project to one machine or one network. Written in pieces, so that this file does not match itself.
const FOREIGN: &[&str] = &[
    concat!("registry.", "npmjs.org"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("artifact", "ory"),
    concat!("deb.", "debian.org"),
    concat!("files.", "pythonhosted.org"),
    concat!("../", "shared/"),
];

/// Marks of unfinished work in source files.
const UNFINISHED: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!("), concat!("unimple", "mented!(")];

/// Fails with every broken rule; prints a note about long files.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut faults = Vec::new();
    let mut long = Vec::new();
    let machine = machine_paths(&workspace.root);
    for file in project_files(&workspace.root)? {
        if let Some(name) = empty_name(&file) {
            faults.push(format!("{}: {name:?} says nothing about what is in it", file.display()));
        }
        // A file that is deleted but not yet committed is listed; an image is no text.
        let Ok(text) = fs_err::read_to_string(workspace.root.join(&file)) else { continue };
        let source = is_source(&file);
        if source && text.lines().count() > LONG {
            long.push(format!("{} ({} lines)", file.display(), text.lines().count()));
        }
        for (number, line) in text.lines().enumerate() {
            let found = FOREIGN.iter().find(|word| line.contains(**word)).map(|word| (*word).to_owned());
            let found = found.or_else(|| machine.iter().find(|path| line.contains(path.as_str())).cloned());
            let found = found.or_else(|| {
                UNFINISHED.iter().find(|word| source && line.contains(**word)).map(|word| (*word).to_owned())
            });
            if let Some(found) = found {
                faults.push(format!("{}:{}: {found}", file.display(), number + 1));
            }
        }
    }
    if !long.is_empty() {
        println!("note: over {LONG} lines; is each still one idea? {}", long.join(", "));
    }
    if !faults.is_empty() {
        bail!("house rules are broken:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

/// Files that are or could be committed, relative to the root.
fn project_files(root: &Path) -> Result<Vec<PathBuf>> {
    let output = command::capture(std::process::Command::new("git").current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let text = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
    Ok(text.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

/// Paths of this machine: the repository's and the developer's home. The administrator's home is on every machine.
fn machine_paths(root: &Path) -> Vec<String> {
    let home = std::env::home_dir().into_iter();
    home.chain([root.to_path_buf()])
        .map(|path| path.display().to_string())
        .filter(|path| path.len() > 1 && path != "/root")
        .map(|path| format!("{path}/"))
        .collect()
}

fn is_source(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["rs", "ts", "svelte", "css", "sh"].contains(&extension)
}

fn empty_name(file: &Path) -> Option<String> {
    let names = file.iter().filter_map(|part| Path::new(part).file_stem()?.to_str());
    if !is_source(file) {
        return None;
    }
    names.map(str::to_owned).find(|name| EMPTY_NAMES.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_could_hold_anything_is_refused_as_file_and_as_directory() {
        assert_eq!(empty_name(Path::new("crates/proxy/src/utils.rs")).as_deref(), Some("utils"));
        assert_eq!(empty_name(Path::new("ui/src/common/dates.ts")).as_deref(), Some("common"));
        assert_eq!(empty_name(Path::new("crates/proxy/src/upgrade.rs")), None);
    }

    #[test]
    fn this_file_does_not_match_its_own_rules() {
        let text = include_str!("house.rs");
        assert!(!FOREIGN.iter().chain(UNFINISHED).any(|word| text.contains(word)));
    }
}
