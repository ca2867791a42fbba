//! The ports that containers listen on in the environment's own network (`docker run --network host`).

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use fs_err as fs;
use overside_model::{Protocol, agent::Listener};

/// Where the kernel lists the sockets of this process's network.
const TABLES: [(&str, Protocol); 4] = [
    ("/proc/self/net/tcp", Protocol::Tcp),
    ("/proc/self/net/tcp6", Protocol::Tcp),
    ("/proc/self/net/udp", Protocol::Udp),
    ("/proc/self/net/udp6", Protocol::Udp),
];
/// A TCP socket that listens, and a UDP socket that is not connected.
const LISTENS: (&str, &str) = ("0A", "07");
/// As often as a UDP socket must have been there that may be a client's, where the kernel chooses numbers for those: nothing
/// tells it from a server's, but that it does not last. A name is asked for in less time, five seconds of readings.
const LASTS: u8 = 10;
/// Most that are told.
const MOST: usize = 1024;
/// How often a socket's holder is looked for: while a program is being replaced it may be overlooked once.
const TRIES: u8 = 3;

/// Who holds a socket.
#[derive(Debug)]
enum Holder {
    /// A process with these mounts. Every container has its own, and so `docker exec` is told from the engine's programs.
    Mounts(String),
    /// Nobody but the engine's programs and the agent, as often as it was looked.
    Own(u8),
}

/// Remembers who holds which socket, so that processes are looked at only when there is a new one.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    holders: HashMap<u64, Holder>,
    /// How often sockets were there that may be clients'.
    passing: HashMap<u64, u8>,
}

impl Listeners {
    /// What is listened on now by any container, and by which of these, given by their first processes.
    pub(super) fn read(&mut self, containers: &[u32]) -> Vec<Listener> {
        let sockets: Vec<(u64, Listener)> = TABLES
            .iter()
            .flat_map(|(table, protocol)| {
                let text = fs::read_to_string(table).unwrap_or_default();
                text.lines().filter_map(|line| listener(line, *protocol)).collect::<Vec<_>>()
            })
            .collect();
        let mut sockets = self.lasting(sockets);
        sockets.truncate(MOST);
        let present: HashSet<u64> = sockets.iter().map(|(inode, _)| *inode).collect();
        self.holders.retain(|inode, _| present.contains(inode));
        let open = |inode: &u64| match self.holders.get(inode) {
            None => true,
            Some(Holder::Mounts(_)) => false,
            Some(Holder::Own(tries)) => *tries < TRIES,
        };
        let unknown: HashSet<u64> = present.iter().copied().filter(open).collect();
        if !unknown.is_empty() {
            self.look_for(&unknown);
        }
        let names: HashMap<String, u32> =
            containers.iter().filter_map(|pid| Some((mounts(Path::new(&format!("/proc/{pid}")))?, *pid))).collect();
        sockets
            .into_iter()
            .filter_map(|(inode, listener)| match self.holders.get(&inode)? {
                Holder::Mounts(mounts) => Some(Listener { container: names.get(mounts).copied(), ..listener }),
                Holder::Own(_) => None,
            })
            .collect()
    }

    /// Without those that may be clients' and have not lasted yet.
    fn lasting(&mut self, sockets: Vec<(u64, Listener)>) -> Vec<(u64, Listener)> {
        let before = std::mem::take(&mut self.passing);
        let lasts = |(inode, listener): &(u64, Listener)| {
            if !may_be_client(listener) {
                return true;
            }
            let times = before.get(inode).map_or(1, |times| times.saturating_add(1).min(LASTS));
            self.passing.insert(*inode, times);
            times == LASTS
        };
        sockets.into_iter().filter(lasts).collect()
    }

    fn look_for(&mut self, unknown: &HashSet<u64>) {
        for inode in unknown {
            let tries = match self.holders.get(inode) {
                Some(Holder::Own(tries)) => tries + 1,
                _ => 1,
            };
            self.holders.insert(*inode, Holder::Own(tries));
        }
        let own = mounts(Path::new("/proc/self"));
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let path = process.path();
            if !process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let Some(mounts) = mounts(&path).filter(|mounts| own.as_ref() != Some(mounts)) else { continue };
            for descriptor in fs::read_dir(path.join("fd")).into_iter().flatten().flatten() {
                let target = fs::read_link(descriptor.path()).unwrap_or_default();
                let inode =
                    target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
                if let Some(inode) = inode.filter(|inode| unknown.contains(inode)) {
                    self.holders.insert(inode, Holder::Mounts(mounts.clone()));
                }
            }
        }
    }
}

/// Whether it looks like a UDP socket that has only sent: on all addresses, with a number that the kernel chooses. Who binds to
/// an address, or to another number, wants to be sent to.
fn may_be_client(listener: &Listener) -> bool {
    listener.protocol == Protocol::Udp
        && listener.address.is_unspecified()
        && super::init::OUTGOING_PORTS.contains(&listener.port)
}

/// Names a process's mount namespace.
fn mounts(process: &Path) -> Option<String> {
    fs::read_link(process.join("ns/mnt")).ok()?.into_os_string().into_string().ok()
}

/// A line of the kernel's list: the socket's inode and where it listens, if it does.
fn listener(line: &str, protocol: Protocol) -> Option<(u64, Listener)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, peer, state, inode) = (fields.next()?, fields.next()?, fields.next()?, fields.nth(5)?);
    let (address, port) = socket(local)?;
    let (_, peer) = socket(peer)?;
    let listens = match protocol {
        Protocol::Tcp => state == LISTENS.0,
        Protocol::Udp => state == LISTENS.1 && peer == 0 && port != 0,
    };
    listens.then_some((inode.parse().ok()?, Listener { protocol, address, port, container: None }))
}

/// `0100007F:1F90`: the address in words as they lie in memory.
fn socket(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word = |text: &str| Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(address)?)),
        32 => {
            let mut octets = [0; 16];
            for (index, octets) in octets.chunks_exact_mut(4).enumerate() {
                octets.copy_from_slice(&word(address.get(8 * index..8 * index + 8)?)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    /// What the kernel says of this process's sockets.
    fn listed() -> Vec<Listener> {
        let read = |(table, protocol): (&str, Protocol)| {
            let text = fs::read_to_string(table).unwrap_or_default();
            text.lines().filter_map(|line| listener(line, protocol)).map(|(_, listener)| listener).collect::<Vec<_>>()
        };
        TABLES.into_iter().flat_map(read).collect()
    }

    fn is_listed(protocol: Protocol, address: IpAddr, port: u16) -> bool {
        listed().iter().any(|it| (it.protocol, it.address, it.port) == (protocol, address, port))
    }

    #[test]
    fn sockets_that_listen_are_read_out_of_the_kernels_list_and_no_others() {
        for address in
            [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
        {
            let server = TcpListener::bind((address, 0)).unwrap();
            let port = server.local_addr().unwrap().port();
            assert!(is_listed(Protocol::Tcp, address, port), "{address}");
            let client = TcpStream::connect((address, port)).unwrap().local_addr().unwrap();
            assert!(!is_listed(Protocol::Tcp, client.ip(), client.port()), "{client}");
        }
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = server.local_addr().unwrap();
        assert!(is_listed(Protocol::Udp, at.ip(), at.port()));
        server.connect(at).unwrap();
        assert!(!is_listed(Protocol::Udp, at.ip(), at.port()));
    }

    #[test]
    fn a_udp_socket_that_may_be_a_clients_counts_once_it_has_lasted_and_any_other_at_once() {
        let socket = |inode, protocol, address: &str, port| {
            (inode, Listener { protocol, address: address.parse().unwrap(), port, container: None })
        };
        let at_once = vec![
            socket(1, Protocol::Udp, "0.0.0.0", 5353),
            socket(2, Protocol::Udp, "0.0.0.0", 61_000),
            socket(3, Protocol::Udp, "127.0.0.1", 40_000),
            socket(4, Protocol::Tcp, "0.0.0.0", 40_000),
        ];
        let mut listeners = Listeners::default();
        assert_eq!(listeners.lasting(at_once.clone()), at_once);
        let lasting = socket(5, Protocol::Udp, "0.0.0.0", 40_000);
        for reading in 1..=u64::from(LASTS) + 5 {
            // Clients come and go meanwhile, even with the same number.
            let read = listeners.lasting(vec![socket(100 + reading, Protocol::Udp, "::", 40_001), lasting]);
            let expected = if reading < u64::from(LASTS) { vec![] } else { vec![lasting] };
            assert_eq!(read, expected, "reading {reading}");
        }
        assert_eq!(listeners.lasting(vec![]), []);
        assert_eq!(listeners.lasting(vec![lasting]), [], "another life");
    }

    #[test]
    fn what_is_held_by_programs_with_the_same_mounts_is_no_containers() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        assert!(is_listed(Protocol::Tcp, Ipv4Addr::LOCALHOST.into(), port));
        let mut listeners = Listeners::default();
        for _ in 0..=TRIES {
            assert!(!listeners.read(&[1]).iter().any(|listener| listener.port == port));
        }
    }

    #[test]
    fn a_line_that_makes_no_sense_is_left_out() {
        let line = "0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 77 1";
        assert_eq!(listener(line, Protocol::Tcp).unwrap().0, 77);
        for text in ["", "sl local_address rem_address st", "0: 0100007F 0:0 0A 0 0 0 0 0 7", &line[..40], "é: é:é é"]
        {
            assert_eq!(listener(text, Protocol::Tcp), None, "{text}");
        }
        assert_eq!(socket("ééééé0:0000"), None);
        assert_eq!(socket("éééééééééééééééé:0000"), None);
    }
}
