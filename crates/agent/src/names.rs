//! The environment's name server: it knows the names under which containers reach the laptop, and passes every other question
//! on to slirp4netns as it came, which asks the machine's own resolver.
//!
//! The names resolve whatever the settings let containers reach: what is not to be reached refuses, as for a container that
//! was given the address by `--add-host`.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

use crate::{
    link::Link,
    network::{LAPTOP, NAME_SERVER},
};

/// What Docker Desktop calls the laptop.
const NAMES: [&[&[u8]]; 2] = [&[b"host", b"docker", b"internal"], &[b"gateway", b"docker", b"internal"]];

/// Seconds for which whoever asked may keep the answer. The address never changes.
const TIME_TO_LIVE: u32 = 600;
/// Questions and connections that are under way at a time. More are lost, or wait, as at any server that has much to do.
const AT_ONCE: usize = 256;
/// How long an answer may take: clients have given up by then.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(30);
/// Longest datagram.
const LONGEST: usize = u16::MAX as usize;
/// Pause after a failure, which mostly means that the agent is out of descriptors.
const AGAIN: Duration = Duration::from_millis(100);

const HEADER: usize = 12;
const INTERNET: u16 = 1;
const ADDRESS: u16 = 1;

/// Answers until the agent ends.
pub(crate) async fn serve(questions: UdpSocket, long_questions: TcpListener, link: Arc<Link>) {
    tokio::join!(serve_datagrams(Arc::new(questions), Arc::clone(&link)), serve_connections(long_questions, link));
}

async fn serve_datagrams(socket: Arc<UdpSocket>, link: Arc<Link>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut buffer = vec![0; LONGEST];
    loop {
        let (length, asker) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "cannot receive questions for names");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        if let Some(answer) = own_answer(&buffer[..length]) {
            let _ = socket.send_to(&answer, asker).await;
            continue;
        }
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let (socket, link, question) = (Arc::clone(&socket), Arc::clone(&link), buffer[..length].to_vec());
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = pass_on(&question, asker, &socket, &link).await {
                tracing::debug!(%error, "a question for a name has no answer");
            }
        });
    }
}

/// By a socket of its own, so that its answer is no other question's.
async fn pass_on(question: &[u8], asker: SocketAddr, socket: &UdpSocket, link: &Link) -> io::Result<()> {
    let server = link.exchange((NAME_SERVER, 53).into()).await?;
    server.send(question).await?;
    let mut answer = vec![0; LONGEST];
    let length = timeout(PATIENCE, server.recv(&mut answer)).await??;
    socket.send_to(&answer[..length], asker).await.map(drop)
}

async fn serve_connections(listener: TcpListener, link: Arc<Link>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let link = Arc::clone(&link);
                tokio::spawn(async move {
                    let _permit = permit;
                    if let Err(error) = converse(stream, &link).await {
                        tracing::debug!(%error, "a connection that asked for names ended early");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accepting a connection that asks for names");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Two bytes of length, then a question or an answer; one after the other.
async fn converse(mut asker: TcpStream, link: &Arc<Link>) -> io::Result<()> {
    let mut server = None;
    while let Some(question) = timeout(IDLE, read(&mut asker)).await?? {
        if let Some(answer) = own_answer(&question) {
            write(&mut asker, &answer).await?;
            continue;
        }
        let server = match &mut server {
            Some(server) => server,
            none => none.insert(link.connect((NAME_SERVER, 53).into()).await?),
        };
        write(server, &question).await?;
        let answer = timeout(PATIENCE, read(server)).await??;
        write(&mut asker, &answer.ok_or(io::ErrorKind::UnexpectedEof)?).await?;
    }
    Ok(())
}

async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat()).await
}

/// The answer to a question for one of the names: the laptop's address, and that there is nothing else to be known. None for
/// every other message.
fn own_answer(message: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = message.split_at_checked(HEADER)?;
    // A plain query (neither an answer nor another operation) with one question.
    if header[2] & 0b1111_1000 != 0 || header[4..6] != [0, 1] {
        return None;
    }
    let mut labels = Vec::with_capacity(4);
    let mut left = rest;
    loop {
        let (length, behind) = left.split_first()?;
        // Above 63 it is no length but a reference, of which there is none in a question.
        let (label, behind) = behind.split_at_checked(usize::from(*length).min(64))?;
        left = behind;
        if label.is_empty() {
            break;
        }
        if label.len() > 63 || labels.len() == 3 {
            return None;
        }
        labels.push(label);
    }
    let kind = u16::from_be_bytes(left.get(..2)?.try_into().ok()?);
    let class = u16::from_be_bytes(left.get(2..4)?.try_into().ok()?);
    let meant = |name: &&[&[u8]]| {
        name.len() == labels.len() && name.iter().zip(&labels).all(|(one, other)| one.eq_ignore_ascii_case(other))
    };
    if class != INTERNET || !NAMES.iter().any(meant) {
        return None;
    }
    let question = &rest[..rest.len() - left.len() + 4];
    let known = kind == ADDRESS;
    let mut answer = Vec::with_capacity(HEADER + question.len() + 16);
    answer.extend(&header[..2]);
    // An answer, from who knows it; recursion as it was desired, and available.
    answer.extend([0b1000_0100 | header[2] & 1, 0b1000_0000]);
    answer.extend([0, 1, 0, u8::from(known), 0, 0, 0, 0]);
    // As it was written: some clients vary the case and expect it back.
    answer.extend(question);
    if known {
        // The name as in the question.
        answer.extend([0xc0, HEADER as u8]);
        answer.extend([ADDRESS.to_be_bytes(), INTERNET.to_be_bytes()].concat());
        answer.extend(TIME_TO_LIVE.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(LAPTOP.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.extend([0]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn the_laptops_names_have_its_address_and_nothing_else() {
        for name in ["host.docker.internal", "gateway.docker.internal", "Host.Docker.INTERNAL"] {
            let asked = question(name, ADDRESS);
            let answer = own_answer(&asked).unwrap();
            assert_eq!(answer[..2], asked[..2]);
            assert_eq!(answer[2..8], [0x85, 0x80, 0, 1, 0, 1]);
            assert_eq!(answer[HEADER..asked.len()], asked[HEADER..]);
            assert_eq!(answer[answer.len() - 4..], LAPTOP.octets());
            // For IPv6 there is no address, which is no failure.
            let answer = own_answer(&question(name, 28)).unwrap();
            assert_eq!(answer[2..8], [0x85, 0x80, 0, 1, 0, 0]);
            assert_eq!(answer.len(), asked.len());
        }
    }

    #[test]
    fn what_comes_behind_the_question_is_no_part_of_the_answer() {
        let mut asked = question("host.docker.internal", ADDRESS);
        let plain = own_answer(&asked).unwrap();
        asked[11] = 1;
        asked.extend([0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(own_answer(&asked).unwrap(), plain);
    }

    #[test]
    fn every_other_question_is_for_others_to_answer() {
        let asked = question("host.docker.internal", ADDRESS);
        for name in ["docker.internal", "a.host.docker.internal", "host.docker.internal.org", "hostxdocker.internal"] {
            assert!(own_answer(&question(name, ADDRESS)).is_none(), "{name}");
        }
        for (byte, value) in [(2, 0x81), (2, 0x29), (5, 0), (5, 2), (12, 0xc0), (asked.len() - 1, 3)] {
            let mut other = asked.clone();
            other[byte] = value;
            assert!(own_answer(&other).is_none(), "{byte}");
        }
        for length in 0..asked.len() {
            assert!(own_answer(&asked[..length]).is_none(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_message_makes_the_server_panic(header in proptest::array::uniform12(any::<u8>()), rest: Vec<u8>) {
            own_answer(&rest);
            own_answer(&[&header[..], &rest].concat());
            own_answer(&[&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &rest].concat());
        }
    }
}
