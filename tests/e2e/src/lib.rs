//! What the tests of the whole chain share: an engine to compare with, and images in both.

use std::{io::Write as _, os::unix::fs::PermissionsExt as _, process::Command};

use anyhow::{Context as _, Result, ensure};
use overside_testkit::{
    DirectEngine, DockerCli, IMAGE, LIMIT, Outcome, TempHome, busybox_archive, clients, run, run_fed,
};

/// Every client, on Overside's socket and on an ordinary engine's: what one says, the other must say.
pub struct Comparison<'a> {
    home: &'a TempHome,
    direct: DirectEngine,
    clients: Vec<DockerCli>,
}

impl<'a> Comparison<'a> {
    /// Starts the engine to compare with, and loads the test image into both.
    ///
    /// # Errors
    /// Either engine is not to be had.
    pub fn start(home: &'a TempHome) -> Result<Self> {
        let comparison = Self { home, direct: DirectEngine::start()?, clients: clients()? };
        let archive = busybox_archive()?;
        let cli = comparison.clients.first().context("there is no client")?;
        for mut load in comparison.both(cli, &["load"])? {
            let archive = archive.clone();
            run_fed(&mut load, LIMIT, move |input| Ok(input.write_all(&archive)?))?.success()?;
        }
        Ok(comparison)
    }

    /// The clients.
    pub fn clients(&self) -> &[DockerCli] {
        &self.clients
    }

    /// One command on Overside's socket and on the ordinary engine's.
    ///
    /// # Errors
    /// As [`TempHome::docker`].
    pub fn both(&self, cli: &DockerCli, arguments: &[&str]) -> Result<[std::process::Command; 2]> {
        Ok([self.home.docker(cli, arguments)?, self.direct.docker(self.home, cli, arguments)?])
    }

    /// Runs a command with every client on both sides, and requires the same exit status and the same output, byte for
    /// byte. Returns what the last client said on Overside's side.
    ///
    /// # Errors
    /// The sides differ; shows both.
    pub fn same(&self, arguments: &[&str]) -> Result<Outcome> {
        self.same_with(arguments, &[])
    }

    /// [`Self::same`] with something on standard input.
    ///
    /// # Errors
    /// As [`Self::same`].
    pub fn same_with(&self, arguments: &[&str], input: &[u8]) -> Result<Outcome> {
        let mut last = None;
        for cli in &self.clients {
            let [mut ours, mut theirs] = self.both(cli, arguments)?;
            let (one, other) = (input.to_vec(), input.to_vec());
            let ours = run_fed(&mut ours, LIMIT, move |pipe| Ok(pipe.write_all(&one)?))?;
            let theirs = run_fed(&mut theirs, LIMIT, move |pipe| Ok(pipe.write_all(&other)?))?;
            ensure!(
                alike(&ours) == alike(&theirs),
                "docker {}: Overside differs from the engine\nOverside: {ours:?}\nengine: {theirs:?}",
                cli.version
            );
            last = Some(ours);
        }
        last.context("there is no client")
    }
}

/// What must be the same.
fn alike(outcome: &Outcome) -> (i32, Vec<u8>, String) {
    (outcome.code(), outcome.stdout.clone(), stable(&outcome.err()))
}

/// What of the client's messages does not differ from call to call on one engine: without identifiers, and without a line
/// that client 20.10 writes or not, depending on which of its own calls ends first.
fn stable(text: &str) -> String {
    let word = |word: &str| {
        let core = word.trim_matches(|character: char| !character.is_ascii_hexdigit());
        if core.len() == 64 { word.replace(core, "ID") } else { word.to_owned() }
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines()
        .filter(|line| !line.contains("error waiting for container: context canceled"))
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Loads the test image into an environment.
///
/// # Errors
/// The client fails.
pub fn load(home: &TempHome) -> Result<()> {
    let archive = busybox_archive()?;
    let clients = clients()?;
    let cli = clients.first().context("there is no client")?;
    run_fed(&mut home.docker(cli, &["load"])?, LIMIT, move |input| Ok(input.write_all(&archive)?))?.success()?;
    Ok(())
}

/// Runs the machine's client against Overside's socket.
///
/// # Errors
/// It does not end within the limit.
pub fn docker(home: &TempHome, arguments: &[&str]) -> Result<Outcome> {
    let clients = clients()?;
    let cli = clients.first().context("there is no client")?;
    run(&mut home.docker(cli, arguments)?, LIMIT)
}

/// Loads the test image, and starts a container that runs until it is stopped.
///
/// # Errors
/// The client fails.
pub fn container(home: &TempHome, name: &str) -> Result<()> {
    load(home)?;
    docker(home, &["run", "--detach", "--name", name, IMAGE, "sleep", "100000"])?.success()?;
    Ok(())
}

/// Makes an image of programs of this machine, with the libraries that they need, and of whole directories.
///
/// # Errors
/// One of them is not there; the client fails.
pub fn import(home: &TempHome, image: &str, programs: &[&str], directories: &[&str]) -> Result<()> {
    let mut files: Vec<String> = programs.iter().chain(directories).map(|&path| path.to_owned()).collect();
    for program in programs {
        let needed = run(Command::new("ldd").arg(program), LIMIT)?.success()?.out();
        files.extend(needed.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
    }
    files.sort();
    files.dedup();
    // By way of a copy: an archive of single files has no directories, and the engine would make them for root alone.
    let root = home.scratch().join(format!("image-{}", image.replace(':', "-")));
    fs_err::create_dir(&root)?;
    let mut copy = Command::new("cp");
    run(copy.args(["--recursive", "--dereference", "--parents"]).args(&files).arg(&root), LIMIT)?.success()?;
    let archive = run(Command::new("tar").args(["--create", "--file=-", "--directory"]).arg(&root).arg("."), LIMIT)?;
    ensure!(!archive.stdout.is_empty(), "{archive:?}");
    let clients = clients()?;
    let cli = clients.first().context("there is no client")?;
    let mut import = home.docker(cli, &["import", "--change", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", "-", image])?;
    run_fed(&mut import, LIMIT, move |input| Ok(input.write_all(&archive.stdout)?))?.success()?;
    Ok(())
}

/// A home whose agent is a shell script, which no other host would be given for an agent: on this machine always.
///
/// # Errors
/// The script cannot be written.
pub fn with_stand_in(script: &str) -> Result<TempHome> {
    let home = TempHome::here("a script is no program that is brought to a host")?;
    let agent = home.scratch().join("stand-in-agent");
    fs_err::write(&agent, format!("#!/bin/sh\n{script}\n"))?;
    fs_err::set_permissions(&agent, std::fs::Permissions::from_mode(0o755))?;
    Ok(home.with("OVERSIDE_AGENT", agent))
}
