//! The loopback interface of the environment's network, by rtnetlink(7).

use std::net::IpAddr;

use overside_model::Problem;
use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
};

use crate::problem::During;

/// `lo` is interface 1 of every new network namespace.
const LOOPBACK: u32 = 1;

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;
const CREATE_OR_REPLACE: u16 = 0x400 | 0x100;

/// Brings up `lo`, as `ip link set lo up` would.
pub(super) fn raise_loopback() -> Result<(), Problem> {
    const UP: u32 = 1;
    let mut body = vec![0; 4]; // family and type: any
    body.extend(LOOPBACK.to_ne_bytes());
    body.extend(UP.to_ne_bytes());
    body.extend(UP.to_ne_bytes());
    ask(NEW_LINK, REQUEST_AND_ACKNOWLEDGE, &body).during("bringing up the loopback interface")
}

/// Adds an address, as `ip address replace ADDRESS dev lo` would.
pub(super) fn add_to_loopback(address: IpAddr) -> Result<(), Errno> {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    /// Nobody else can have it: it need not be asked for first.
    const NO_DETECTION: u8 = 2;
    let (family, octets) = match address {
        IpAddr::V4(address) => (AddressFamily::INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AddressFamily::INET6, address.octets().to_vec()),
    };
    let (Ok(family), Ok(length)) = (u8::try_from(family.as_raw()), u8::try_from(octets.len())) else {
        return Err(Errno::INVAL);
    };
    let mut body = vec![family, length * 8, NO_DETECTION, 0];
    body.extend(LOOPBACK.to_ne_bytes());
    for attribute in [LOCAL, ADDRESS] {
        body.extend((4 + u16::from(length)).to_ne_bytes());
        body.extend(attribute.to_ne_bytes());
        body.extend(&octets);
    }
    match ask(NEW_ADDRESS, REQUEST_AND_ACKNOWLEDGE | CREATE_OR_REPLACE, &body) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}

/// Sends one message, and waits for its acknowledgement.
fn ask(kind: u16, flags: u16, body: &[u8]) -> Result<(), Errno> {
    let mut message = Vec::with_capacity(64);
    message.extend(u32::try_from(16 + body.len()).map_err(|_| Errno::MSGSIZE)?.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]); // sequence and port
    message.extend(body);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 512];
    recv(&socket, &mut answer, RecvFlags::empty())?;
    let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(-code)) }
}
