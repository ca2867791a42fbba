//! What a package puts on a machine, and where.

use std::{
    collections::BTreeSet,
    fs::Permissions,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap_complete::Shell;

use super::command_line;
use crate::artifacts;

/// The programs, all in one directory, since each looks for the others beside itself.
pub(super) const PROGRAMS: &[&str] = &["overside", "overside-agent", "overside-desktop", "overside-window"];

/// That directory. Only what people call has a link on the search path.
pub(super) const PROGRAM_DIRECTORY: &str = "usr/lib/overside";

/// Sizes of the app's icon in pixels.
const ICON_SIZES: &[u32] = &[16, 24, 32, 48, 64, 128, 256, 512];

/// The kinds of packages, which differ in a few places of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Deb,
    Rpm,
}

impl Kind {
    /// Of its files' names.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
        }
    }

    /// Where zsh looks for what packages bring.
    fn zsh(self) -> &'static str {
        match self {
            Self::Deb => "usr/share/zsh/vendor-completions",
            Self::Rpm => "usr/share/zsh/site-functions",
        }
    }
}

/// A file of the package.
pub(super) struct Item {
    /// From the machine's root, without the first slash.
    pub(super) path: String,
    pub(super) content: Content,
}

pub(super) enum Content {
    /// A program, copied from there.
    Program(PathBuf),
    /// A static program for another kind of machine, copied from there.
    Foreign(PathBuf),
    /// A file that is only read, copied from there.
    File(PathBuf),
    /// A file that is only read.
    Text(Vec<u8>),
    /// A link to there.
    Link(String),
}

/// Everything that is in a package.
///
/// # Errors
/// The manual pages cannot be made.
pub(super) fn items(root: &Path, programs: &Path, kind: Kind) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut add = |path: String, content| items.push(Item { path, content });
    let packaging = root.join("packaging");
    for name in PROGRAMS {
        add(format!("{PROGRAM_DIRECTORY}/{name}"), Content::Program(programs.join(name)));
    }
    for name in artifacts::foreign_agents() {
        let program = programs.join(&name);
        add(format!("{PROGRAM_DIRECTORY}/{name}"), Content::Foreign(program));
    }
    for name in ["overside", "overside-desktop"] {
        add(format!("usr/bin/{name}"), Content::Link(format!("../lib/overside/{name}")));
    }
    let plugin = "usr/libexec/docker/cli-plugins/docker-overside";
    add(plugin.into(), Content::Link("../../../lib/overside/overside".into()));
    add("usr/lib/systemd/user/overside.service".into(), Content::File(packaging.join("overside.service")));
    add("usr/share/applications/overside.desktop".into(), Content::File(packaging.join("overside.desktop")));
    for size in ICON_SIZES {
        let path = format!("usr/share/icons/hicolor/{size}x{size}/apps/overside.png");
        add(path, Content::File(root.join(format!("icons/overside-{size}.png"))));
    }
    let drawing = "usr/share/icons/hicolor/scalable/apps/overside.svg";
    add(drawing.into(), Content::File(root.join("icons/overside.svg")));
    for (path, shell) in [
        ("usr/share/bash-completion/completions/overside".to_owned(), Shell::Bash),
        (format!("{}/_overside", kind.zsh()), Shell::Zsh),
        ("usr/share/fish/vendor_completions.d/overside.fish".to_owned(), Shell::Fish),
    ] {
        add(path, Content::Text(command_line::completion(shell)));
    }
    for (name, page) in command_line::manual()? {
        add(format!("usr/share/man/man1/{name}.gz"), Content::Text(compressed(&page)?));
    }
    for name in ["settings.md", "policy.md", "on-disk.md"] {
        add(format!("usr/share/doc/overside/{name}"), Content::File(root.join("docs").join(name)));
    }
    match kind {
        Kind::Deb => add("usr/share/doc/overside/copyright".into(), Content::File(packaging.join("copyright"))),
        Kind::Rpm => add("usr/share/licenses/overside/LICENSE".into(), Content::File(root.join("LICENSE"))),
    }
    Ok(items)
}

/// Writes the tree into a directory.
///
/// # Errors
/// A file that belongs in it is missing, or it cannot be written.
pub(super) fn lay_out(items: &[Item], root: &Path) -> Result<()> {
    for item in items {
        let path = root.join(&item.path);
        fs_err::create_dir_all(path.parent().context("a file lies in no directory")?)?;
        let mode = match &item.content {
            Content::Program(from) | Content::Foreign(from) => {
                fs_err::copy(from, &path)?;
                0o755
            }
            Content::File(from) => {
                fs_err::copy(from, &path)?;
                0o644
            }
            Content::Text(text) => {
                fs_err::write(&path, text)?;
                0o644
            }
            Content::Link(to) => {
                symlink(to, &path).with_context(|| format!("cannot link {}", path.display()))?;
                continue;
            }
        };
        fs_err::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    // Whatever the developer's own files may be read by.
    for directory in directories(items) {
        fs_err::set_permissions(root.join(directory), Permissions::from_mode(0o755))?;
    }
    fs_err::set_permissions(root, Permissions::from_mode(0o755))?;
    Ok(())
}

/// Every directory that the tree has.
fn directories(items: &[Item]) -> BTreeSet<&Path> {
    let parents = items.iter().flat_map(|item| Path::new(&item.path).ancestors().skip(1));
    parents.filter(|path| !path.as_os_str().is_empty()).collect()
}

/// As manual pages are compressed in packages: without the time and the name, which would differ each time.
fn compressed(text: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip")
        .args(["--best", "--no-name"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run gzip")?;
    // A page is shorter than what gzip takes in before it says anything.
    gzip.stdin.take().context("gzip has no input")?.write_all(text)?;
    let output = gzip.wait_with_output()?;
    if !output.status.success() {
        bail!("gzip ended with {}", output.status);
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    fn trees() -> Vec<(PathBuf, Vec<Item>)> {
        let root = Workspace::find().unwrap().root;
        [Kind::Deb, Kind::Rpm].map(|kind| (root.clone(), items(&root, Path::new("/programs"), kind).unwrap())).into()
    }

    fn has(items: &[Item], path: &str) -> bool {
        items.iter().any(|item| item.path == path)
    }

    #[test]
    fn every_file_of_the_repository_that_is_packaged_is_there() {
        for (_, items) in trees() {
            for item in items {
                if let Content::File(from) = item.content {
                    assert!(from.is_file(), "{}", from.display());
                }
            }
        }
    }

    #[test]
    fn every_link_leads_to_a_program_of_the_package() {
        for (_, items) in trees() {
            for item in &items {
                if let Content::Link(to) = &item.content {
                    let mut path: Vec<&str> = item.path.split('/').collect();
                    path.pop();
                    for step in to.split('/') {
                        if step == ".." { path.pop().map_or((), drop) } else { path.push(step) }
                    }
                    assert!(has(&items, &path.join("/")), "{} leads to {}", item.path, path.join("/"));
                }
            }
        }
    }

    /// The first word behind a key of a file such as a desktop entry's.
    fn program(file: &Path, key: &str) -> String {
        let text = fs_err::read_to_string(file).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    }

    #[test]
    fn the_desktop_entry_and_the_service_start_what_is_on_the_search_path() {
        for (root, items) in trees() {
            let app = program(&root.join("packaging/overside.desktop"), "Exec=");
            assert!(has(&items, &format!("usr/bin/{app}")), "{app}");
            let daemon = program(&root.join("packaging/overside.service"), "ExecStart=");
            assert!(has(&items, daemon.trim_start_matches('/')), "{daemon}");
        }
    }

    #[test]
    fn the_tree_can_be_laid_out_and_is_readable_for_everybody() {
        let place = tempfile::tempdir().unwrap();
        for name in PROGRAMS.iter().map(|name| (*name).to_owned()).chain(artifacts::foreign_agents()) {
            fs_err::write(place.path().join(name), "").unwrap();
        }
        let root = place.path().join("root");
        let items = items(&Workspace::find().unwrap().root, place.path(), Kind::Deb).unwrap();
        lay_out(&items, &root).unwrap();
        let mode = |path: &str| fs_err::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("usr/bin/overside"), mode("usr/lib/overside/overside-window")), (0o755, 0o755));
        assert_eq!((mode("usr/share"), mode("usr/share/man/man1/overside-start.1.gz")), (0o755, 0o644));
    }
}
