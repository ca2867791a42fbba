//! The subcommand `connect`: an agent's socket on standard input and output, for where sshd forwards no sockets.

use std::{
    io::{self, ErrorKind, Write as _, stdin, stdout},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    process::ExitCode,
    thread,
};

use overside_model::{ErrorCode, Problem, agent::Report};

use crate::serve::hello;

/// Runs the subcommand: greets, then says `null` or, as a report, why there is no connection; all further bytes are the
/// socket's. Ends with the socket's end.
pub(crate) fn main(socket: &Path) -> ExitCode {
    match run(socket) {
        Ok(()) => ExitCode::SUCCESS,
        // The provider has gone.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(socket: &Path) -> io::Result<()> {
    hello()?;
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) => return refuse(socket, &error),
    };
    writeln!(stdout(), "null")?;
    let mut writer = stream.try_clone()?;
    // Not joined: it waits for input that need not come.
    thread::spawn(move || {
        let copied = io::copy(&mut stdin().lock(), &mut writer);
        let _ = writer.shutdown(Shutdown::Write);
        copied
    });
    let (mut reader, mut out) = (stream, stdout().lock());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match io::Read::read(&mut reader, &mut buffer)? {
            0 => return Ok(()),
            read => {
                out.write_all(&buffer[..read])?;
                out.flush()?;
            }
        }
    }
}

fn refuse(socket: &Path, error: &io::Error) -> io::Result<()> {
    let gone = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
    let code = if gone { ErrorCode::EnvironmentLost } else { ErrorCode::RunnerUnreachable };
    let message = format!("cannot connect to {}: {error}", socket.display());
    let report = Report::Failed(Problem::new(code, message, ""));
    writeln!(stdout(), "{}", serde_json::to_string(&report)?)
}
