//! Bind mounts beside `rsync -a` and `tar | ssh`: first sync, again without changes, a large file's changes, an edit's way into
//! a container, memory.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use overside_e2e::import;
use overside_model::State;
use overside_testkit::{Daemon, DockerCli, LIMIT, Running, Setup, Sshd, TempHome, Wire, clients, run};

use crate::{
    far::openssh,
    table::{self, Series},
};

/// What each direction of the far line takes.
const DELAY: Duration = Duration::from_millis(20);
/// Small files of the tree that is measured in every respect.
const MANY: usize = 100_000;
/// Bytes of the large file.
const LARGE: u64 = 4 << 30;
/// Bytes of crates' sources that are enough.
const SOURCES: u64 = 100 << 20;
/// Edits of a file whose way into a container is timed.
const EDITS: usize = 200;
/// Starts of a container without a mount, whose median is taken off the others' times.
const PLAIN: usize = 7;
/// Ext4 passes over the inodes that were deleted within the last minute, one by one: after a hundred thousand a new file takes
/// 0.2 ms. So nothing is deleted between measurements but the environment of the first line, and that long before the second.
const REUSED: Duration = Duration::from_secs(65);
/// Longest that one tree may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A tree to be synced, and what it is.
struct Tree {
    name: String,
    path: PathBuf,
}

impl Tree {
    fn new(what: &str, path: PathBuf) -> Result<Self> {
        let (mut files, mut bytes, mut left) = (0, 0, vec![path.clone()]);
        while let Some(directory) = left.pop() {
            for entry in fs_err::read_dir(directory)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    left.push(entry.path());
                } else {
                    files += 1;
                    bytes += metadata.len();
                }
            }
        }
        Ok(Self { name: format!("{what}: {files} files, {} MiB", bytes >> 20), path })
    }
}

/// Measures, and prints the section.
pub(crate) fn measure() -> Result<()> {
    println!("### Bind mounts, beside `rsync -a` and `tar | ssh`\n");
    println!(
        "{}; {}; all of them through the same OpenSSH server. Overside's time is that of `docker run --rm -v TREE:/src IMAGE \
         true` without that of the same without a mount (the median of {PLAIN}); the ratio is to the faster of the other two. \
         Again: the same command once more, and `rsync -a` once more, after nothing has changed.\n",
        table::machine(),
        run(Command::new("rsync").arg("--version"), LIMIT)?.out().lines().next().unwrap_or_default().trim()
    );
    let home = TempHome::new()?;
    let many = Tree::new("small files", files(&home)?)?;
    let mut trees = Vec::new();
    trees.extend(sources(&home)?);
    trees.extend(modules(&home)?);
    let large = Tree::new("one large file", large(&home)?)?;
    // What they have copied stays until the end: see `REUSED`.
    let mut lines = Vec::new();
    for (name, delay) in [("loopback", Duration::ZERO), ("40 ms", DELAY)] {
        if !lines.is_empty() {
            run(&mut Command::new("sync"), PATIENCE)?.success()?;
            std::thread::sleep(REUSED);
        }
        let line = Line::new(name, delay)?;
        // Told before what it leaves behind is.
        line.measure(&many, &trees, &large).inspect_err(|error| eprintln!("over {name}: {error:?}"))?;
        lines.push(line);
    }
    Ok(())
}

/// Text that compresses about as source code does, another one for each number.
fn text(number: usize) -> String {
    let mut text = String::new();
    for row in 0..40 {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "fn item_{number}_{row}(value: u64) -> u64 {{ value * {} }}", number * 31 + row);
    }
    text
}

fn files(home: &TempHome) -> Result<PathBuf> {
    let root = home.scratch().join("many");
    for number in 0..MANY {
        let directory = root.join(format!("d{}/e{}", number / 1000, number / 50 % 20));
        if number % 50 == 0 {
            fs_err::create_dir_all(&directory)?;
        }
        fs_err::write(directory.join(format!("f{number}.rs")), text(number))?;
    }
    Ok(root)
}

/// Bytes that cannot be compressed.
fn random(bytes: u64) -> Result<impl std::io::Read> {
    Ok(fs_err::File::open("/dev/urandom")?.take(bytes))
}

fn large(home: &TempHome) -> Result<PathBuf> {
    let root = home.scratch().join("large");
    fs_err::create_dir_all(&root)?;
    std::io::copy(&mut random(LARGE)?, &mut fs_err::File::create(root.join("disk"))?)?;
    Ok(root)
}

/// Changes it at three places. Its length stays.
fn change(large: &Path) -> Result<()> {
    let mut file = fs_err::OpenOptions::new().write(true).open(large.join("disk"))?;
    for quarter in 1..4 {
        file.seek(SeekFrom::Start(LARGE / 4 * quarter))?;
        std::io::copy(&mut random(64 << 10)?, &mut file)?;
    }
    Ok(())
}

/// Sources of crates that this workspace is built from, as cargo has them.
fn sources(home: &TempHome) -> Result<Option<Tree>> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--locked"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let said = run(&mut command, LIMIT)?.success()?.out();
    let metadata: serde_json::Value = serde_json::from_str(&said)?;
    let packages = metadata["packages"].as_array().context("cargo names no packages")?;
    let directories: BTreeSet<&Path> = packages
        .iter()
        .filter(|package| package["source"].is_string())
        .filter_map(|package| Path::new(package["manifest_path"].as_str()?).parent())
        .collect();
    let (root, mut bytes) = (home.scratch().join("sources"), 0);
    fs_err::create_dir_all(&root)?;
    for directory in directories {
        if bytes > SOURCES {
            break;
        }
        copy(directory, &root)?;
        let name = directory.file_name().context("a crate's directory has no name")?;
        bytes += size(&root.join(name))?;
    }
    if bytes == 0 { Ok(None) } else { Tree::new("sources of Rust crates", root).map(Some) }
}

/// What the window is built with, if it is here.
fn modules(home: &TempHome) -> Result<Option<Tree>> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui/node_modules");
    let Ok(from) = fs_err::canonicalize(from) else { return Ok(None) };
    let root = home.scratch().join("node");
    fs_err::create_dir_all(&root)?;
    copy(&from, &root)?;
    Tree::new("node_modules", root).map(Some)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("-a").arg(from).arg(to), PATIENCE)?.success().map(drop)
}

fn size(directory: &Path) -> Result<u64> {
    let said = run(Command::new("du").args(["-s", "-B1", "--apparent-size"]).arg(directory), LIMIT)?.success()?.out();
    Ok(said.split_whitespace().next().context("du says nothing")?.parse()?)
}

/// A line to a host, and what goes over it.
struct Line {
    name: &'static str,
    home: TempHome,
    sshd: Sshd,
    wire: Wire,
    ssh: PathBuf,
}

impl Line {
    fn new(name: &'static str, delay: Duration) -> Result<Self> {
        let home = TempHome::new()?;
        let sshd = Sshd::start(&home, Setup::default())?;
        let wire = Wire::to(sshd.port(), delay)?;
        let ssh = openssh(&home, wire.port())?;
        Ok(Self { name, home, sshd, wire, ssh })
    }

    fn measure(&self, many: &Tree, trees: &[Tree], large: &Tree) -> Result<()> {
        let home = &self.home;
        let daemon = Daemon::enabled(home)?;
        let (address, fingerprint) = (self.wire.address("root"), self.sshd.fingerprint()?);
        daemon.overside(&["runner", "add", "far", &address, "--accept-host-key", &fingerprint])?.success()?;
        daemon.overside(&["runner", "default", "far"])?.success()?;
        import(home, "tools:1", &["/usr/bin/inotifywait", "/usr/bin/true"], &[])?;
        let clients = clients()?;
        let cli = clients.first().context("there is no client")?;
        let mut plain = Series::new("plain", None);
        for _ in 0..PLAIN {
            plain.add(started(home, cli, &[])?);
        }
        let plain = plain.median();
        let mut table = format!(
            "| over {} | Overside, first | `rsync -a` | `tar \\| ssh` | ratio | Overside, again | `rsync -a`, again |\n\
             | --- | --- | --- | --- | --- | --- | --- |\n",
            self.name
        );
        let mut notes = String::new();
        let row = |table: &mut String, tree: &Tree, run: &dyn Fn() -> Result<Duration>| {
            let ours = run()?.saturating_sub(plain);
            let again = run()?.saturating_sub(plain);
            let (rsync, rsync_again) = self.rsync(tree)?;
            let tar = self.tar(tree)?;
            let ratio = ours.as_secs_f64() / rsync.min(tar).as_secs_f64();
            let times = [ours, rsync, tar].map(table::shown).join(" | ");
            let (again, rsync_again) = (table::shown(again), table::shown(rsync_again));
            writeln!(table, "| {} | {times} | {ratio:.2} | {again} | {rsync_again} |", tree.name)?;
            anyhow::Ok(())
        };
        let mounted = |tree: &Tree| {
            let mount = format!("{}:/src", tree.path.display());
            started(home, cli, &["-v", &mount])
        };
        let before = table::memory(daemon.pid())?;
        row(&mut table, many, &|| mounted(many))?;
        let after = table::memory(daemon.pid())?;
        writeln!(
            notes,
            "The daemon has {} MiB (PSS {} MiB) more in memory with {MANY} files mounted.",
            after.resident.saturating_sub(before.resident) >> 20,
            after.proportional.saturating_sub(before.proportional) >> 20
        )?;
        let edits = edits(home, cli, many)?;
        suspend(&daemon)?;
        let resumed = started(home, cli, &[])?;
        suspend(&daemon)?;
        let rescan = mounted(many)?.saturating_sub(resumed);
        writeln!(
            notes,
            "After a suspension both sides are read again: a container with {MANY} files then starts {} later than one \
             without.\n",
            table::shown(rescan)
        )?;
        for tree in trees {
            row(&mut table, tree, &|| mounted(tree))?;
        }
        row(&mut table, large, &|| mounted(large))?;
        println!("{table}");
        // One file each, but memory is wanted for what is read next.
        for by in ["rsync", "tar"] {
            fs_err::remove_dir_all(self.target(by, large)?)?;
        }

        let target = self.target("changed", large)?;
        run(&mut self.rsync_to(large, &target), PATIENCE)?.success()?;
        change(&large.path)?;
        let carried = self.wire.carried();
        let ours = mounted(large)?.saturating_sub(plain);
        let between = self.wire.carried();
        let theirs = timed(&mut self.rsync_to(large, &target))?;
        let kib = |bytes: u64| format!("{} KiB", bytes >> 10);
        println!(
            "| three changes of 64 KiB in the large file | time | on the wire |\n| --- | --- | --- |\n\
             | Overside | {} | {} |\n| `rsync -a` | {} | {} |\n",
            table::shown(ours),
            kib(between - carried),
            table::shown(theirs),
            kib(self.wire.carried() - between)
        );
        fs_err::remove_dir_all(&target)?;
        println!("{}", table::times(&[&edits]));
        println!("{notes}");
        // Hundreds of thousands of files are deleted with it, which may take longer than a command is waited for.
        let _ = daemon.overside(&["stop", "-f"]);
        daemon.wait_for_state(State::Stopped, PATIENCE)?;
        Ok(())
    }

    fn rsync_to(&self, tree: &Tree, target: &Path) -> Command {
        let mut command = Command::new("rsync");
        command.arg("-a").arg("-e").arg(format!("{} -p {}", self.ssh.display(), self.wire.port()));
        command.arg(format!("{}/", tree.path.display())).arg(format!("root@127.0.0.1:{}/", target.display()));
        command
    }

    /// The first time, and the second.
    fn rsync(&self, tree: &Tree) -> Result<(Duration, Duration)> {
        let target = self.target("rsync", tree)?;
        let first = timed(&mut self.rsync_to(tree, &target))?;
        let again = timed(&mut self.rsync_to(tree, &target))?;
        Ok((first, again))
    }

    fn tar(&self, tree: &Tree) -> Result<Duration> {
        let target = self.target("tar", tree)?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!(
            "tar -C '{}' -c . | {} -p {} root@127.0.0.1 'tar -C \"{}\" -x'",
            tree.path.display(),
            self.ssh.display(),
            self.wire.port(),
            target.display()
        ));
        timed(&mut command)
    }

    /// Where a copy of a tree comes to lie.
    fn target(&self, by: &str, tree: &Tree) -> Result<PathBuf> {
        let name = tree.path.file_name().context("a tree has no name")?.to_string_lossy();
        let target = self.home.scratch().join(format!("{by}-{name}"));
        fs_err::create_dir_all(&target)?;
        Ok(target)
    }
}

/// What others have left to be written to the disk is not in it.
fn timed(command: &mut Command) -> Result<Duration> {
    run(&mut Command::new("sync"), PATIENCE)?.success()?;
    let begun = Instant::now();
    run(command, PATIENCE)?.success()?;
    Ok(begun.elapsed())
}

/// `docker run` of something that does nothing.
fn started(home: &TempHome, cli: &DockerCli, options: &[&str]) -> Result<Duration> {
    timed(&mut home.docker(cli, &[&["run", "--rm"], options, &["tools:1", "true"]].concat())?)
}

fn suspend(daemon: &Daemon<'_>) -> Result<()> {
    daemon.overside(&["idle"])?.success()?;
    daemon.wait_for_state(State::Suspended, LIMIT).map(drop)
}

/// From a save on the laptop to the line that a container writes of its event. Each file is there before, as in an editor's
/// hands.
fn edits(home: &TempHome, cli: &DockerCli, tree: &Tree) -> Result<Series> {
    let directory = tree.path.join("edits");
    fs_err::create_dir_all(&directory)?;
    for number in 0..EDITS {
        fs_err::write(directory.join(format!("edit-{number}-")), "before")?;
    }
    let mount = format!("{}:/src", tree.path.display());
    let options = ["run", "--rm", "--name", "watcher", "-v", &mount, "tools:1", "inotifywait"];
    let watching = ["-m", "-e", "create,moved_to,close_write", "--format", "%f", "/src/edits"];
    let watcher = Running::spawn(&mut home.docker(cli, &[&options[..], &watching].concat())?)?;
    watcher.wait_for_error("established", LIMIT)?;
    let mut series =
        Series::new(&format!("a save among {MANY} files, until a container that watches tells of it ({EDITS})"), None);
    for number in 0..EDITS {
        let name = format!("edit-{number}-");
        let begun = Instant::now();
        fs_err::write(directory.join(&name), "saved, and longer")?;
        watcher.wait_for(&name, LIMIT)?;
        series.add(begun.elapsed());
    }
    run(&mut home.docker(cli, &["rm", "-f", "watcher"])?, LIMIT)?.success()?;
    Ok(series)
}
