//! Two network namespaces and a long line between them, on which TCP is the kernel's own.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::Ipv4Addr,
    os::fd::AsFd as _,
    path::PathBuf,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{LIMIT, Running, run};

/// Where the near end is, in a network that exists in these namespaces only.
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Where the far end is.
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Packets under way in one direction; more are lost, as on any line.
const UNDER_WAY: usize = 4096;
/// The longest packet of an Ethernet.
const PACKET: usize = 1500;

/// The namespaces. Dropped, they end with their line, once nothing runs in them any more.
pub(crate) struct Wan {
    near: Namespace,
    far: Namespace,
}

impl Wan {
    /// Makes them; `delay` is what each direction takes.
    ///
    /// # Errors
    /// It needs root, and /dev/net/tun.
    pub(crate) fn new(delay: Duration) -> Result<Self> {
        let wan = Self { near: Namespace::new()?, far: Namespace::new()? };
        let near = wan.near.end(NEAR, FAR)?;
        let far = wan.far.end(FAR, NEAR)?;
        carry(near.try_clone()?, far.try_clone()?, delay);
        carry(far, near, delay);
        Ok(wan)
    }

    /// The near namespace, as a file.
    pub(crate) fn near(&self) -> PathBuf {
        self.near.file()
    }

    /// The far namespace, as a file.
    pub(crate) fn far(&self) -> PathBuf {
        self.far.file()
    }
}

/// A network namespace with a loopback interface, kept by a process that ends when its input does, however the test ends.
struct Namespace(Running);

impl Namespace {
    fn new() -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-euc", "ip link set lo up; echo made; exec cat >/dev/null"]);
        let keeper = Running::spawn(&mut command)?;
        keeper.wait_for("made", LIMIT).context("no network namespace")?;
        Ok(Self(keeper))
    }

    fn file(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.pid()).into()
    }

    /// This namespace's end of the line.
    fn end(&self, own: Ipv4Addr, other: Ipv4Addr) -> Result<File> {
        let file = self.file();
        // Entered by a thread that then ends: one that stayed would keep the namespace.
        let made = thread::spawn(move || {
            move_into_link_name_space(fs_err::File::open(file)?.as_fd(), Some(LinkNameSpaceType::Network))?;
            let end = tun()?;
            let set_up = format!("ip addr add {own} peer {other} dev wan0; ip link set wan0 up mtu {PACKET}");
            run(Command::new("sh").args(["-euc", &set_up]), LIMIT)?.success()?;
            anyhow::Ok(end)
        });
        made.join().map_err(|_| anyhow::anyhow!("a thread ended by a panic"))?
    }
}

/// An interface `wan0` whose packets are this process's, in the namespace of this thread. It is gone when the file is closed.
fn tun() -> Result<File> {
    use rustix::ioctl::{Setter, ioctl, opcode};
    /// `TUNSETIFF`.
    const SET: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 202);
    /// `struct ifreq`, of which this call reads the name and the flags.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    /// `IFF_TUN | IFF_NO_PI`: packets as they are.
    const FLAGS: u16 = 0x1001;
    let end = fs_err::OpenOptions::new().read(true).write(true).open("/dev/net/tun")?.into_file();
    let mut request = Request { name: [0; 16], flags: FLAGS, rest: [0; 22] };
    request.name[..4].copy_from_slice(b"wan0");
    #[expect(unsafe_code, reason = "the kernel's only way to make such an interface")]
    // SAFETY: this is the type that the kernel expects for this call, and it keeps no pointer to it.
    unsafe {
        ioctl(&end, Setter::<SET, Request>::new(request)).context("cannot make an interface")?;
    }
    Ok(end)
}

/// One direction, until one of the ends is gone.
fn carry(mut from: File, mut to: File, delay: Duration) {
    let (sender, under_way) = mpsc::sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    thread::spawn(move || {
        let mut packet = vec![0; PACKET];
        while let Ok(length @ 1..) = from.read(&mut packet) {
            match sender.try_send((Instant::now() + delay, packet[..length].to_vec())) {
                Ok(()) | Err(mpsc::TrySendError::Full(_)) => {}
                Err(mpsc::TrySendError::Disconnected(_)) => break,
            }
        }
    });
    thread::spawn(move || {
        for (due, packet) in under_way {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&packet).is_err() {
                break;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_from_one_namespace_arrives_in_the_other_in_its_time() {
        let delay = Duration::from_millis(20);
        let wan = Wan::new(delay).unwrap();
        let mut ping = Command::new("nsenter");
        ping.arg(format!("--net={}", wan.near().display()));
        let address = format!("/dev/tcp/{FAR}/1");
        // Nobody listens there: the refusal comes from the other end.
        ping.args(["bash", "-c", &format!("exec 3<>{address}")]);
        let began = Instant::now();
        let refused = run(&mut ping, LIMIT).unwrap();
        assert!(refused.err().contains("refused"), "{refused:?}");
        assert!(began.elapsed() >= delay * 2, "{:?}", began.elapsed());
    }
}
