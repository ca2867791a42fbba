//! The subcommand `take-over`: hands a running environment to another computer of the same user's.

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _, stdin, stdout},
    os::unix::net::UnixStream,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use overside_model::{
    ErrorCode, Problem,
    agent::{MAX_LINE, Report},
};

use crate::serve::{OWNER_SOCKET, hello};

/// How long the agent may take.
const ANSWER: Duration = Duration::from_secs(20);

/// Runs the subcommand: greets, then passes one line of standard input on to the agent, and its answer back.
pub(crate) fn main(directory: &Path) -> ExitCode {
    match run(directory) {
        Ok(()) => ExitCode::SUCCESS,
        // The provider has gone.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(directory: &Path) -> io::Result<()> {
    hello()?;
    let answer = ask(directory).unwrap_or_else(|error| {
        let gone = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
        let code = if gone { ErrorCode::EnvironmentLost } else { ErrorCode::RunnerUnreachable };
        let message = format!("the session in {} cannot be taken over: {error}", directory.display());
        let report = Report::Failed(Problem::new(code, message, "The next docker command gets a new environment."));
        serde_json::to_vec(&report).unwrap_or_default()
    });
    let mut out = stdout().lock();
    out.write_all(answer.trim_ascii_end())?;
    out.write_all(b"\n")?;
    out.flush()
}

fn ask(directory: &Path) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    let mut stream = UnixStream::connect(directory.join(OWNER_SOCKET))?;
    stream.set_read_timeout(Some(ANSWER))?;
    let mut line = Vec::new();
    stdin().lock().take(limit).read_until(b'\n', &mut line)?;
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(limit)).read_until(b'\n', &mut answer)?;
    if answer.last() == Some(&b'\n') { Ok(answer) } else { Err(ErrorKind::UnexpectedEof.into()) }
}
