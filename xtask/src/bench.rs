//! `cargo xtask bench`: builds a release, measures it, and refreshes docs/performance.md.
//!
//! The measuring itself is a bench target of `overside-e2e`, where real clients and engines are at hand; it prints one
//! Markdown section, which is shown and put between its marks in the page.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    artifacts::{self, Profile, cargo},
    command, node, packages,
    steps::Steps,
    workspace::Workspace,
};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// From Idle and from Suspended to a container's first output
    ColdStart,
    /// Calls to a host 40 ms away, beside what OpenSSH alone does
    Far,
    /// Memory, CPU and wake-ups of what stays resident, and of the window
    Footprint,
    /// Bind mounts beside `rsync -a` and `tar | ssh`: first sync, edits, memory
    Mounts,
    /// Published ports beside `ssh -L`: requests, throughput, memory
    Ports,
}

impl Subject {
    /// Name of the section and of the bench target's argument.
    fn name(self) -> &'static str {
        match self {
            Self::ColdStart => "cold-start",
            Self::Far => "far",
            Self::Footprint => "footprint",
            Self::Mounts => "mounts",
            Self::Ports => "ports",
        }
    }
}

#[derive(Args)]
pub(crate) struct Options {
    /// What to measure
    subject: Subject,
    /// Leave docs/performance.md as it is
    #[arg(long)]
    dry_run: bool,
}

/// Measures one subject.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    let name = options.subject.name();
    let mut steps = Steps::new(3);
    let desktop = options.subject == Subject::Footprint;
    let mut sets = vec![packages::RUNNER, packages::BUILD, packages::ENGINE_TESTS];
    if desktop {
        sets.extend([packages::DESKTOP, packages::DESKTOP_TESTS, node::packages()]);
    }
    match options.subject {
        Subject::Ports => sets.push(packages::LOAD),
        Subject::Mounts => sets.push(packages::COPIES),
        _ => {}
    }
    packages::ensure(&mut steps, &sets)?;
    let programs = steps.loud("release build", || {
        if desktop {
            artifacts::ui(&workspace)?;
            artifacts::desktop(&workspace, Profile::Release)?;
        }
        artifacts::programs(&workspace, Profile::Release)
    })?;
    let section = steps.loud(name, || {
        let mut bench = cargo(&workspace, "bench");
        bench.args(["--quiet", "--package", "overside-e2e", "--bench", "session", "--", name]);
        let (output, succeeded) = command::tee(bench.env("OVERSIDE_BIN_DIR", &programs))?;
        if !succeeded {
            bail!("measuring failed");
        }
        let begin = output.find("### ").context("the measurement printed no section")?;
        Ok(output[begin..].trim_end().to_owned())
    })?;
    if !options.dry_run {
        let page = workspace.root.join("docs/performance.md");
        refresh(&page, name, &section)?;
        println!("written into docs/performance.md");
    }
    Ok(())
}

/// Replaces what stands between the section's marks; a page or section that is not there yet is begun.
fn refresh(page: &Path, name: &str, section: &str) -> Result<()> {
    let text = if page.exists() {
        fs_err::read_to_string(page)?
    } else {
        "# Performance\n\nMeasured by `cargo xtask bench`; each section is rewritten by its own run.\n".to_owned()
    };
    fs_err::write(page, with_section(&text, name, section)?)?;
    Ok(())
}

fn with_section(page: &str, name: &str, section: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- end of {name} -->"));
    let marked = format!("{begin}\n{section}\n{end}");
    let Some((before, rest)) = page.split_once(&begin) else {
        return Ok(format!("{}\n\n{marked}\n", page.trim_end()));
    };
    let (_, after) = rest.split_once(&end).with_context(|| format!("the page has no line {end}"))?;
    Ok(format!("{before}{marked}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_added_once_and_then_replaced_in_its_place() {
        let first = with_section("# Performance\n", "a", "old").unwrap();
        let both = with_section(&first, "b", "other").unwrap();
        let again = with_section(&both, "a", "new").unwrap();
        assert_eq!(again, both.replace("old", "new"));
    }

    #[test]
    fn a_section_without_its_end_is_not_guessed() {
        assert!(with_section("<!-- a -->\ntext", "a", "new").is_err());
    }
}
