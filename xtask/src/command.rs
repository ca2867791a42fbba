//! Running other programs, with errors that name them.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Runs a program whose output the developer watches.
pub(crate) fn stream(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", line(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

/// Runs a program whose output matters only if it fails, or to the caller.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", line(command)))?;
    if !output.status.success() {
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        bail!("{} ended with {}\n{}", line(command), output.status, text.trim_end());
    }
    Ok(output)
}

/// Runs a program, shows its output as it comes, and gives it back (both streams, lines interleaved as they came), with
/// whether it succeeded.
pub(crate) fn tee(command: &mut Command) -> Result<(String, bool)> {
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot run {}", line(command)))?;
    // The command keeps the pipe's writing ends; without this the reader would never see its end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut text = String::new();
    let mut out = std::io::stdout();
    for bytes in BufReader::new(reader).split(b'\n') {
        let bytes = bytes?;
        out.write_all(&bytes)?;
        out.write_all(b"\n")?;
        text.push_str(&String::from_utf8_lossy(&bytes));
        text.push('\n');
    }
    Ok((text, child.wait()?.success()))
}

/// Whether a program can be started and likes these arguments.
pub(crate) fn works(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command as a person would type it, for messages.
fn line(command: &Command) -> String {
    let mut text = format!("`{}", command.get_program().to_string_lossy());
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        let shown = if argument.len() > 60 { "…" } else { &argument };
        // Writing to a string cannot fail.
        let _ = write!(text, " {shown}");
    }
    text.push('`');
    text
}
