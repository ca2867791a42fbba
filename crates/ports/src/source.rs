//! Datagrams together with the address of this machine's that they were sent to: an answer must come from there, or its
//! client takes it for somebody else's. On a socket that is bound to one address the system sees to that by itself.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd,
};

use nix::{
    cmsg_space,
    libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo},
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
        sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo},
    },
};
use tokio::{io::Interest, net::UdpSocket};

/// Has the system tell the addresses.
pub(crate) fn ask(socket: &UdpSocket, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true)?,
        IpAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// Receives a datagram: its length, who sent it, and where to.
pub(crate) async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
    socket
        .async_io(Interest::READABLE, || {
            let mut control = cmsg_space!(in6_pktinfo, in_pktinfo);
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::empty();
            let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
            let here = message.cmsgs()?.find_map(|message| match message {
                // The second is the address that routing takes for it: another one where it was a broadcast.
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    Some(IpAddr::V4(info.ipi_spec_dst.s_addr.to_ne_bytes().into()))
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(info.ipi6_addr.s6_addr.into())),
                _ => None,
            });
            let sender = message.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
            Ok((message.bytes, sender, here))
        })
        .await
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| SocketAddr::V4(SocketAddrV4::from(*address)));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| SocketAddr::V6(SocketAddrV6::from(*address))))
}

/// Sends a datagram from the address that was received at.
pub(crate) async fn send(socket: &UdpSocket, datagram: &[u8], to: SocketAddr, here: IpAddr) -> io::Result<()> {
    let (v4, v6);
    let control = match here {
        IpAddr::V4(here) => {
            let any = in_addr { s_addr: 0 };
            let source = in_addr { s_addr: u32::from_ne_bytes(here.octets()) };
            v4 = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: any };
            ControlMessage::Ipv4PacketInfo(&v4)
        }
        IpAddr::V6(here) => {
            v6 = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: here.octets() }, ipi6_ifindex: 0 };
            ControlMessage::Ipv6PacketInfo(&v6)
        }
    };
    let to = SockaddrStorage::from(to);
    socket
        .async_io(Interest::WRITABLE, || {
            let parts = [IoSlice::new(datagram)];
            Ok(sendmsg(socket.as_raw_fd(), &parts, &[control], MsgFlags::empty(), Some(&to))?)
        })
        .await
        .map(drop)
}
