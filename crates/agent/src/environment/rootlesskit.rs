//! The one answer of rootlesskit that dockerd cannot do without.
//!
//! Since version 28 a rootless dockerd asks rootlesskit which port driver it has, in order to publish ports outside its
//! network namespace as well. Here there is no outside to publish to: the tunnel reaches into the namespace. So the answer is
//! that there is no port driver, upon which dockerd publishes ports as it does anywhere.

use std::{
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    time::Duration,
};

use fs_err as fs;
use overside_model::Problem;

use crate::problem::During;

/// The directory that dockerd is told of.
pub(super) const STATE: &str = "/run/rootlesskit";

/// First version of dockerd that asks.
pub(crate) const SINCE: u32 = 28;

/// How long the asking program may take; nobody else is served meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);

const INFO: &str = r#"{"apiVersion":"1.1.1","version":"2.0.0","stateDir":"/run/rootlesskit","childPID":1,"networkDriver":{"driver":"slirp4netns","dns":["10.0.2.3"],"childIP":"10.0.2.100"},"portDriver":null}"#;

/// Begins to listen.
pub(super) fn listen() -> Result<UnixListener, Problem> {
    let doing = "listening as rootlesskit";
    fs::create_dir(STATE).during(doing)?;
    let listener = UnixListener::bind(Path::new(STATE).join("api.sock")).during(doing)?;
    listener.set_nonblocking(true).during(doing)?;
    Ok(listener)
}

/// Answers whoever asks.
pub(super) fn answer(listener: &UnixListener) {
    while let Ok((stream, _)) = listener.accept() {
        let _ = answer_one(stream);
    }
}

fn answer_one(mut stream: UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = [0; 4096];
    let count = stream.read(&mut request)?;
    let (status, body) =
        if request[..count].starts_with(b"GET /v1/info ") { ("200 OK", INFO) } else { ("404 Not Found", "{}") };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
