//! A long line to a port of this machine: it delays, and it can be cut.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

/// Pieces under way in one direction of one connection, of at most [`PIECE`] bytes: more than 40 ms hold.
const UNDER_WAY: usize = 1024;
/// Bytes that are carried at once.
const PIECE: usize = 64 * 1024;

/// The line. Connections to its port go on to the other one. Dropped, it ends all of them.
///
/// What is sent while it is cut arrives when it is mended, as TCP would send it again; neither end is told anything.
pub struct Wire {
    port: u16,
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes of both directions.
    carried: AtomicU64,
}

#[derive(Default)]
struct State {
    cut: bool,
    ended: bool,
    /// How often all connections were forgotten.
    forgotten: usize,
    ends: Vec<TcpStream>,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the line is whole for connections of a time, which may be for ever; false once it has ended.
    fn whole(&self, time: usize) -> bool {
        let broken = |state: &mut State| (state.cut || state.forgotten > time) && !state.ended;
        !self.changed.wait_while(self.lock(), broken).unwrap_or_else(PoisonError::into_inner).ended
    }

    fn hold(&self, end: &TcpStream) -> std::io::Result<TcpStream> {
        self.lock().ends.push(end.try_clone()?);
        end.set_nodelay(true)?;
        end.try_clone()
    }
}

impl Wire {
    /// Lays a line to a port of this machine; `delay` is what each direction takes.
    ///
    /// # Errors
    /// There is no port to be had.
    pub fn to(port: u16, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let wire = Self { port: listener.local_addr()?.port(), line: Arc::default() };
        let line = Arc::clone(&wire.line);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if line.lock().ended {
                    break;
                }
                let line = Arc::clone(&line);
                // Who is refused at the other end is refused here.
                thread::spawn(move || join(&line, near, port, delay));
            }
        });
        Ok(wire)
    }

    /// Where it begins.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a runner at its other end.
    pub fn address(&self, user: &str) -> String {
        crate::sshd::address(user, SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port))
    }

    /// Cuts it: from now on nothing arrives.
    pub fn cut(&self) {
        self.line.lock().cut = true;
    }

    /// Leaves those that are connected now without each other for good, and neither is told: their network is not there any
    /// more. New connections go through.
    pub fn forget(&self) {
        self.line.lock().forgotten += 1;
    }

    /// Bytes that both directions have carried so far.
    pub fn carried(&self) -> u64 {
        self.line.carried.load(Ordering::Relaxed)
    }

    /// Mends it: what was sent meanwhile arrives.
    pub fn mend(&self) {
        self.line.lock().cut = false;
        self.line.changed.notify_all();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        state.ended = true;
        for end in &state.ends {
            let _ = end.shutdown(Shutdown::Both);
        }
        drop(state);
        self.line.changed.notify_all();
        // So that the listener looks, and ends.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn join(line: &Arc<Line>, near: TcpStream, port: u16, delay: Duration) -> std::io::Result<()> {
    let time = line.lock().forgotten;
    // The first packet of a connection takes its time, too.
    thread::sleep(delay * 2);
    if !line.whole(time) {
        return Ok(());
    }
    let far = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let (near_too, far_too) = (line.hold(&near)?, line.hold(&far)?);
    carry(line, time, near, far_too, delay);
    carry(line, time, far, near_too, delay);
    Ok(())
}

/// One direction of a connection.
fn carry(line: &Arc<Line>, time: usize, mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, under_way) = mpsc::sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    thread::spawn(move || {
        let mut piece = vec![0; PIECE];
        while let Ok(read) = from.read(&mut piece) {
            // Also the end, which is an empty piece.
            if sender.send((Instant::now() + delay, piece[..read].to_vec())).is_err() || read == 0 {
                break;
            }
        }
    });
    let line = Arc::clone(line);
    thread::spawn(move || {
        for (due, piece) in under_way {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            line.carried.fetch_add(piece.len() as u64, Ordering::Relaxed);
            if !line.whole(time) || to.write_all(&piece).is_err() || piece.is_empty() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_takes_its_time_and_waits_while_the_line_is_cut() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let delay = Duration::from_millis(20);
        let wire = Wire::to(server.local_addr().unwrap().port(), delay).unwrap();
        let mut near = TcpStream::connect(("127.0.0.1", wire.port())).unwrap();
        let mut far = server.accept().unwrap().0;
        let mut byte = [0];
        let began = Instant::now();
        near.write_all(b"a").unwrap();
        far.read_exact(&mut byte).unwrap();
        far.write_all(b"b").unwrap();
        near.read_exact(&mut byte).unwrap();
        assert!(began.elapsed() >= delay * 2);
        wire.cut();
        near.write_all(b"c").unwrap();
        far.set_read_timeout(Some(delay * 5)).unwrap();
        far.read_exact(&mut byte).unwrap_err();
        wire.mend();
        far.set_read_timeout(None).unwrap();
        far.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"c");
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(far.read(&mut byte).unwrap(), 0);
    }
}
