//! Sockets that listen.

use std::io;

use overside_model::{Protocol, Publication};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

/// Connections that wait to be accepted; the system may have a lower limit.
const BACKLOG: i32 = 4096;
/// Bytes of datagrams that may wait; the system may have a lower limit.
const DATAGRAMS: usize = 4 << 20;

/// A socket that listens.
pub(crate) enum Bound {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Listens; None where all addresses of IPv6 are meant and this machine has none.
pub(crate) fn bind(publication: Publication) -> io::Result<Option<Bound>> {
    let bound = match publication.protocol {
        Protocol::Tcp => tcp(publication).map(Bound::Tcp),
        Protocol::Udp => udp(publication).map(Bound::Udp),
    };
    match bound {
        Err(error) if is_optional(publication) && is_missing(&error) => Ok(None),
        bound => bound.map(Some),
    }
}

/// Whoever gives no address means what there is.
fn is_optional(publication: Publication) -> bool {
    publication.address.is_ipv6() && (publication.address.is_unspecified() || publication.address.is_loopback())
}

fn is_missing(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own.
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(NO_SUCH_FAMILY)
}

#[cfg(target_os = "linux")]
const NO_SUCH_FAMILY: i32 = 97;
#[cfg(windows)]
const NO_SUCH_FAMILY: i32 = 10_047;
#[cfg(not(any(target_os = "linux", windows)))]
const NO_SUCH_FAMILY: i32 = 47;

fn socket(publication: Publication, kind: Type) -> io::Result<Socket> {
    let domain = Domain::for_address(publication.socket());
    let socket = Socket::new(domain, kind, None)?;
    if domain == Domain::IPV6 {
        // Both families have listeners of their own.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn tcp(publication: Publication) -> io::Result<TcpListener> {
    let socket = socket(publication, Type::STREAM)?;
    // On Windows this would let two programs listen on one port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&publication.socket().into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn udp(publication: Publication) -> io::Result<UdpSocket> {
    let socket = socket(publication, Type::DGRAM)?;
    // Less than that does as well.
    let _ = socket.set_recv_buffer_size(DATAGRAMS);
    socket.bind(&publication.socket().into())?;
    UdpSocket::from_std(socket.into())
}
