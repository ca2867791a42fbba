//! Asks the kernel which port a redirected datagram was sent to: of the flows that its firewall follows, the one by which an
//! answer would go back (ctnetlink). For connections `SO_ORIGINAL_DST` tells it; for datagrams only this does.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::OwnedFd,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::{io::Interest, net::UnixDatagram, sync::Mutex};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`.
const GET: u16 = 1 << 8 | 1;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// An attribute made of attributes.
const NESTED: u16 = 1 << 15;
/// The bits of an attribute's type that name it.
const NAME: u16 = 0x3fff;
const AF_INET: u8 = 2;
const UDP: u8 = 17;

// Attributes, each within the one above it.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ADDRESSES: u16 = 1;
const V4_SOURCE: u16 = 1;
const V4_DESTINATION: u16 = 2;
const PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;

/// Length of a netlink message's header, and of this family's behind it.
const HEADERS: usize = 16 + 4;

/// The kernel's table of flows.
#[derive(Debug)]
pub(crate) struct ConnectionTracking {
    /// One question at a time. tokio's type for another kind of socket only carries its readiness.
    socket: Mutex<UnixDatagram>,
    next: AtomicU32,
}

impl ConnectionTracking {
    /// By a netfilter socket of the network that is meant.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: Mutex::new(UnixDatagram::from_std(socket.into())?), next: AtomicU32::new(1) })
    }

    /// The port that the datagrams were sent to which come to `here` from `peer`.
    ///
    /// # Errors
    /// `NotFound` where the kernel follows no such flow.
    pub(crate) async fn port_meant(&self, here: SocketAddrV4, peer: SocketAddrV4) -> io::Result<u16> {
        let socket = self.socket.lock().await;
        let number = self.next.fetch_add(1, Relaxed);
        let question = question(number, here, peer);
        socket.async_io(Interest::WRITABLE, || Ok(send(&*socket, &question, SendFlags::empty())?)).await?;
        let mut answer = [0; 4096];
        loop {
            let receive = || Ok(recv(&*socket, &mut answer[..], RecvFlags::empty())?.0);
            let length = socket.async_io(Interest::READABLE, receive).await?;
            // One to a question that was given up comes first.
            if let Some(port) = read(&answer[..length], number) {
                return port;
            }
        }
    }
}

fn question(number: u32, here: SocketAddrV4, peer: SocketAddrV4) -> Vec<u8> {
    let address = |name, address: &Ipv4Addr| attribute(name, &address.octets());
    let addresses = [address(V4_SOURCE, here.ip()), address(V4_DESTINATION, peer.ip())].concat();
    let port = |name, port: u16| attribute(name, &port.to_be_bytes());
    let ports =
        [attribute(PROTOCOL_NUMBER, &[UDP]), port(SOURCE_PORT, here.port()), port(DESTINATION_PORT, peer.port())]
            .concat();
    let tuple = [attribute(NESTED | ADDRESSES, &addresses), attribute(NESTED | PROTOCOL, &ports)].concat();
    let body = attribute(NESTED | REPLY, &tuple);
    let mut message = Vec::with_capacity(HEADERS + body.len());
    message.extend(((HEADERS + body.len()) as u32).to_ne_bytes());
    message.extend(GET.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend(number.to_ne_bytes());
    message.extend([0; 4]);
    message.extend([AF_INET, 0, 0, 0]);
    message.extend(body);
    message
}

fn attribute(name: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len().next_multiple_of(4));
    bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend(name.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The answer to a question; None if it is to another one.
fn read(message: &[u8], number: u32) -> Option<io::Result<u16>> {
    let (header, rest) = message.split_at_checked(16)?;
    if u32::from_ne_bytes(header[8..12].try_into().ok()?) != number {
        return None;
    }
    if u16::from_ne_bytes([header[4], header[5]]) == ERROR {
        let code = rest.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
        return Some(Err(io::Error::from_raw_os_error(code.saturating_neg())));
    }
    let port = rest.get(4..).and_then(|attributes| {
        let ports = within(within(attributes, ORIGINAL)?, PROTOCOL)?;
        Some(u16::from_be_bytes(within(ports, DESTINATION_PORT)?.try_into().ok()?))
    });
    Some(port.ok_or_else(|| io::ErrorKind::InvalidData.into()))
}

/// The value of the first attribute with this name.
fn within(mut attributes: &[u8], name: u16) -> Option<&[u8]> {
    loop {
        let header = attributes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([header[2], header[3]]) & NAME == name {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_out_of_the_kernels_answer_and_no_other_one() {
        let tuple = |port: u16| {
            let ports = [attribute(PROTOCOL_NUMBER, &[UDP]), attribute(DESTINATION_PORT, &port.to_be_bytes())].concat();
            [attribute(NESTED | ADDRESSES, &[0; 3]), attribute(NESTED | PROTOCOL, &ports)].concat()
        };
        let attributes = [attribute(NESTED | REPLY, &tuple(1)), attribute(NESTED | ORIGINAL, &tuple(5353))].concat();
        let mut message =
            question(7, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1), SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2));
        message.truncate(HEADERS);
        message.extend(attributes);
        assert_eq!(read(&message, 7).unwrap().unwrap(), 5353);
        assert!(read(&message, 8).is_none());
        for length in 16..message.len() {
            assert!(read(&message[..length], 7).unwrap().is_err(), "{length}");
        }
        assert!(read(&message[..15], 7).is_none());
        message[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        message[16..20].copy_from_slice(&(-2_i32).to_ne_bytes());
        assert_eq!(read(&message, 7).unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
