//! Messages between the agent and the environment's first process: JSON in one packet each, with a few descriptors.
//!
//! What comes out of the environment is not trusted: packets are bounded, surplus descriptors are closed by the kernel, and
//! what a descriptor claims to be is checked by whoever uses it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use overside_model::{Problem, agent::Listener};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    cgroup::{Hierarchy, Version},
    problem::{During, internal},
    programs::Programs,
};

/// Longest packet. The plan, the longest message, has about 15 KiB; the socket's own limit is above 200 KiB.
const LONGEST: usize = 160 * 1024;

/// Most descriptors that come along with a message.
pub(crate) const DESCRIPTORS: usize = 16;

/// What the environment's first process has to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Whether the agent is root and the maps are written by it.
    pub(crate) privileged: bool,
    /// The environment's directory on the machine.
    pub(crate) directory: PathBuf,
    /// Name of the environment, also its host name.
    pub(crate) name: String,
    /// What of the machine is seen in it.
    pub(crate) programs: Programs,
    /// Whether dockerd expects rootlesskit to be there.
    pub(crate) rootlesskit: bool,
    /// `cgroup.procs` files to enter before anything else.
    pub(crate) entrances: Vec<PathBuf>,
    /// Cgroup hierarchies to mount.
    pub(crate) cgroups: Option<(Version, Vec<Hierarchy>)>,
}

/// To the environment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// The first message.
    Plan(Box<Plan>),
    /// The id maps are written; go on.
    Mapped,
    /// Make sockets in the environment's network.
    Sockets {
        /// Chosen by the agent; the answer carries it.
        id: u64,
        /// What kind.
        kind: SocketKind,
        /// How many, at most [`DESCRIPTORS`].
        count: usize,
    },
    /// Give the environment these addresses, too, where they can be had.
    Addresses {
        /// Chosen by the agent; the answer carries it.
        id: u64,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// Lead everything that goes to the laptop's address to the few ports of it that are listened on, and ask there for
    /// names from now on.
    Redirect {
        /// Chosen by the agent; the answer carries it.
        id: u64,
    },
    /// Serve the laptop's files on a stream of their own.
    Files {
        /// Chosen by the agent; the answer carries it.
        id: u64,
    },
    /// Tell which ports containers listen on in the environment's network.
    Listeners {
        /// Chosen by the agent; the answer carries it.
        id: u64,
        /// First processes of containers that are to be told apart.
        containers: Vec<u32>,
    },
    /// dockerd has read out of which numbers it may choose ports.
    PortsChosen,
    /// Stop every process, where there is no freezer.
    Stop,
    /// Let them go on.
    Continue,
}

/// What [`Command::Sockets`] asks for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum SocketKind {
    /// TCP or UDP.
    Ip {
        /// For IPv6.
        v6: bool,
        /// For UDP, instead of TCP.
        datagrams: bool,
    },
    /// Questions to the kernel about the flows that its firewall follows: nfnetlink(7).
    ConnectionTracking,
}

/// From the environment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The namespaces exist and want their id maps.
    Unshared,
    /// The environment's first process, by its id outside.
    Init(u32),
    /// The making failed.
    Failed(Problem),
    /// Something a person should know.
    Note(String),
    /// dockerd was started; the network can be waited for.
    Started,
    /// The engine's socket exists; the descriptor names it.
    EngineSocket,
    /// What was asked for is done; sockets come along, if they could be made.
    Answer {
        /// Of the request.
        id: u64,
        /// What was asked for, if that was it.
        #[serde(default)]
        listeners: Vec<Listener>,
    },
    /// [`Command::Stop`] or [`Command::Continue`] was done.
    Signalled,
    /// dockerd has ended.
    EngineEnded(String),
}

/// A connected pair of packet sockets.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Problem> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).during("making a socket pair")
}

/// Sends one message.
pub(crate) fn send(socket: impl AsFd, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    loop {
        match sendmsg(socket.as_fd(), &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return result.map(drop).map_err(io::Error::from),
        }
    }
}

/// Receives one message with its descriptors; `None` when the other side is gone.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    receive_with(socket, &mut Vec::new())
}

/// Like [`receive`], with a buffer that is made once: one of its size comes from the system and goes back there.
pub(crate) fn receive_with<T: DeserializeOwned>(
    socket: impl AsFd,
    text: &mut Vec<u8>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    text.resize(LONGEST, 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut buffers = [IoSliceMut::new(text)];
        match recvmsg(socket.as_fd(), &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    let descriptors = descriptors.collect();
    if received.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&text[..received.bytes])?, descriptors)))
}

/// Receives a message that must be there.
pub(crate) fn expect<T: DeserializeOwned>(socket: impl AsFd) -> Result<T, Problem> {
    match receive(socket).during("hearing from the agent")? {
        Some((message, _)) => Ok(message),
        None => Err(internal("the agent is gone")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn a_message_arrives_with_its_descriptor() {
        let (near, far) = pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"contents").unwrap();
        file.rewind().unwrap();
        send(&near, &Event::Answer { id: 7, listeners: Vec::new() }, &[file.as_fd()]).unwrap();
        send(&near, &Event::Started, &[]).unwrap();
        let (event, mut descriptors) = receive::<Event>(&far).unwrap().unwrap();
        assert!(matches!(event, Event::Answer { id: 7, .. }));
        let mut text = String::new();
        std::fs::File::from(descriptors.pop().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "contents");
        let (event, descriptors) = receive::<Event>(&far).unwrap().unwrap();
        assert!(matches!(event, Event::Started) && descriptors.is_empty());
        drop(near);
        assert!(receive::<Event>(&far).unwrap().is_none());
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (near, far) = pair().unwrap();
        rustix::net::send(&near, b"{\"nonsense\"", SendFlags::empty()).unwrap();
        assert!(receive::<Event>(&far).is_err());
    }
}
