//! Listeners on real sockets, with an echo in the place of containers.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use overside_io::BoxedStream;
use overside_model::{ErrorCode, Problem, Protocol, Publication};
use overside_ports::{Forwards, Held, Reach, Target};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_blocking,
};

const LIMIT: Duration = Duration::from_secs(20);

/// What is behind a port.
#[derive(Clone, Copy)]
enum Behind {
    /// Sends back what comes.
    Echo,
    /// Refuses.
    Nothing,
    /// Takes four bytes, then breaks off.
    Trouble,
}

#[async_trait]
impl Reach for Behind {
    async fn open(&self, _: Publication) -> Result<(BoxedStream, Held), Problem> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let behind = *self;
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(far);
            match behind {
                Behind::Echo => {
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                    let _ = to.shutdown().await;
                }
                Behind::Trouble => drop(from.read_exact(&mut [0; 4]).await),
                Behind::Nothing => {}
            }
        });
        match behind {
            Behind::Echo => Ok((Box::new(near), Box::new(()))),
            Behind::Trouble => Ok((Box::new(Breaking(near)), Box::new(()))),
            Behind::Nothing => Err(Problem::new(ErrorCode::EnvironmentLost, "gone", "")),
        }
    }
}

/// A stream whose end is a reset, as a paced stream's is.
struct Breaking(tokio::io::DuplexStream);

impl tokio::io::AsyncRead for Breaking {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let result = std::pin::Pin::new(&mut self.0).poll_read(cx, buf);
        let ended = matches!(result, std::task::Poll::Ready(Ok(()))) && buf.filled().len() == before;
        if ended { std::task::Poll::Ready(Err(ErrorKind::ConnectionReset.into())) } else { result }
    }
}

impl tokio::io::AsyncWrite for Breaking {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A port that nobody has at the moment, and that neither another test nor an outgoing connection gets.
fn free(protocol: Protocol) -> Publication {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = std::process::id().wrapping_mul(61) + NEXT.fetch_add(1, Relaxed);
        let port = 20_000 + u16::try_from(next % 10_000).unwrap();
        let everywhere = ([0, 0, 0, 0], port);
        let is_free = match protocol {
            Protocol::Tcp => TcpListener::bind(SocketAddr::from(everywhere)).is_ok(),
            Protocol::Udp => UdpSocket::bind(SocketAddr::from(everywhere)).is_ok(),
        };
        if is_free {
            return Publication { protocol, address: [127, 0, 0, 1].into(), port };
        }
    }
}

fn to_web(publications: impl IntoIterator<Item = Publication>) -> BTreeMap<Publication, Target> {
    let target = Target { container: "web".to_owned(), container_port: 80 };
    publications.into_iter().map(|publication| (publication, target.clone())).collect()
}

fn connect(publication: Publication) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&publication.socket(), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_passed_on_and_ends_one_way_after_the_other() {
    let (forwards, port) = (Forwards::new(Arc::new(Behind::Echo), false), free(Protocol::Tcp));
    forwards.apply(to_web([port])).await;
    let said = spawn_blocking(move || {
        let mut client = connect(port).unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        said
    });
    assert_eq!(said.await.unwrap(), "hello");
    let status = forwards.status();
    assert_eq!((status[0].bytes_in, status[0].bytes_out, status[0].container.as_str()), (5, 5, "web"));
    forwards.apply(BTreeMap::new()).await;
    assert_eq!(connect(port).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_off_behind_a_port_is_reset_before_it() {
    for behind in [Behind::Trouble, Behind::Nothing] {
        let (forwards, port) = (Forwards::new(Arc::new(behind), false), free(Protocol::Tcp));
        forwards.apply(to_web([port])).await;
        let error = spawn_blocking(move || {
            // It may come before connecting has returned.
            let mut client = match connect(port) {
                Ok(client) => client,
                Err(error) => return error.kind(),
            };
            let _ = client.write_all(b"four");
            client.read(&mut [0]).unwrap_err().kind()
        });
        assert_eq!(error.await.unwrap(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_refused_in_the_engines_words_and_nothing_is_kept() {
    let forwards = Forwards::new(Arc::new(Behind::Echo), false);
    let (first, second) = (free(Protocol::Tcp), free(Protocol::Tcp));
    let other = TcpListener::bind(second.socket()).unwrap();
    let refused = forwards.reserve("c1", &[first, second]).await.unwrap_err().to_string();
    assert_eq!(refused, format!("listen tcp4 {}: bind: address already in use", second.socket()));
    assert!(TcpListener::bind(first.socket()).is_ok(), "what was taken before is given back");
    assert_eq!(forwards.taken(Protocol::Tcp, [first.port, second.port].into_iter()), [second.port]);
    forwards.apply(to_web([second])).await;
    assert!(forwards.status()[0].problem.as_ref().unwrap().contains("already in use"));
    drop(other);
    forwards.apply(to_web([second])).await;
    assert_eq!(forwards.status()[0].problem, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_becomes_free_is_listened_on_without_being_asked_for_again() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let publication = free(protocol);
        let taken: Box<dyn std::any::Any + Send> = match protocol {
            Protocol::Tcp => Box::new(TcpListener::bind(publication.socket()).unwrap()),
            Protocol::Udp => Box::new(UdpSocket::bind(publication.socket()).unwrap()),
        };
        let forwards = Arc::new(Forwards::new(Arc::new(Behind::Echo), false));
        let (mended, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mending = tokio::spawn(Forwards::mend(Arc::downgrade(&forwards), move || mended.send(()).unwrap()));
        forwards.apply(to_web([publication])).await;
        assert!(forwards.status()[0].problem.is_some());
        drop(taken);
        tokio::time::timeout(LIMIT, told.recv()).await.unwrap().unwrap();
        assert!(forwards.status()[0].problem.is_none());
        drop(forwards);
        tokio::time::timeout(LIMIT, mending).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_while_a_container_starts_waits_for_it() {
    let (forwards, port) = (Forwards::new(Arc::new(Behind::Echo), false), free(Protocol::Tcp));
    forwards.reserve("c1", &[port]).await.unwrap();
    let mut client = connect(port).unwrap();
    client.write_all(b"early").unwrap();
    forwards.apply(to_web([port])).await;
    forwards.release("c1").await;
    let said = spawn_blocking(move || {
        let mut said = [0; 5];
        client.read_exact(&mut said).map(|()| said)
    });
    assert_eq!(&said.await.unwrap().unwrap(), b"early");
    forwards.reserve("c2", &[port]).await.unwrap();
    forwards.apply(BTreeMap::new()).await;
    assert!(connect(port).is_ok(), "it is reserved still");
    forwards.release("c2").await;
    assert!(connect(port).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_loopback_only_nothing_is_anywhere_else() {
    let forwards = Forwards::new(Arc::new(Behind::Echo), false);
    let everywhere = Publication { address: [0, 0, 0, 0].into(), ..free(Protocol::Tcp) };
    forwards.apply(to_web([everywhere])).await;
    let elsewhere = Publication { address: [127, 0, 0, 2].into(), ..everywhere };
    assert!(connect(elsewhere).is_ok());
    for _ in 0..20 {
        forwards.set_on_loopback(true).await;
        assert!(connect(elsewhere).is_err());
        assert!(connect(everywhere.on_loopback()).is_ok());
        forwards.set_on_loopback(false).await;
        assert!(connect(elsewhere).is_ok());
    }
}

/// Linux has all of 127.0.0.0/8.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_comes_from_the_address_that_was_asked() {
    let everywhere = [SocketAddr::from(([0, 0, 0, 0], 0)).ip(), SocketAddr::from(([0_u16; 8], 0)).ip()];
    for address in everywhere {
        let publication = Publication { address, ..free(Protocol::Udp) };
        let forwards = Forwards::new(Arc::new(Behind::Echo), false);
        forwards.apply(to_web([publication])).await;
        let asked = if address.is_ipv4() { vec!["127.0.0.1", "127.0.0.2", "127.0.0.3"] } else { vec!["::1"] };
        spawn_blocking(move || {
            // One socket, so that the sender is the same each time; it takes answers from anywhere, and sees from where.
            let client = UdpSocket::bind((address, 0)).unwrap();
            client.set_read_timeout(Some(LIMIT)).unwrap();
            for there in asked {
                let there = SocketAddr::new(there.parse().unwrap(), publication.port);
                client.send_to(b"hello", there).unwrap();
                let mut answer = [0; 10];
                assert_eq!(client.recv_from(&mut answer).unwrap(), (5, there));
            }
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_keep_their_bounds_and_every_sender_gets_its_own_answers() {
    let (forwards, port) = (Forwards::new(Arc::new(Behind::Echo), false), free(Protocol::Udp));
    forwards.apply(to_web([port])).await;
    let talk = move |sender: usize| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.connect(port.socket()).unwrap();
        let mut buffer = [0; 2000];
        for round in 0..20 {
            let datagram = vec![u8::try_from(sender).unwrap(); 1 + sender * 10 + round];
            socket.send(&datagram).unwrap();
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], datagram);
        }
        socket
    };
    let senders: Vec<_> = (0..20).map(|sender| spawn_blocking(move || talk(sender))).collect();
    for sender in senders {
        sender.await.unwrap();
    }
    assert_eq!(forwards.status()[0].connections, 20);
    for _ in 0..20 {
        // A socket that is not closed yet would be in the way.
        forwards.apply(BTreeMap::new()).await;
        assert!(UdpSocket::bind(port.socket()).is_ok());
        forwards.apply(to_web([port])).await;
        assert_eq!(forwards.status()[0].problem, None);
        drop(spawn_blocking(move || talk(1)).await.unwrap());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<usize>),
    Reserve(u8, Vec<usize>),
    Release(u8),
    Loopback(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let some = prop::collection::vec(0..6_usize, 0..5);
    prop_oneof![
        some.clone().prop_map(Step::Apply),
        (0..3_u8, some).prop_map(|(owner, ports)| Step::Reserve(owner, ports)),
        (0..3_u8).prop_map(Step::Release),
        any::<bool>().prop_map(Step::Loopback),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happened_before_exactly_the_ports_that_are_wanted_listen(steps in prop::collection::vec(step(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let forwards = Forwards::new(Arc::new(Behind::Echo), false);
            let ports: Vec<Publication> = (0..3)
                .flat_map(|_| {
                    let port = free(Protocol::Tcp);
                    [port, Publication { address: [0, 0, 0, 0].into(), ..free(Protocol::Tcp) }]
                })
                .collect();
            let (mut desired, mut reserved, mut loopback) = (Vec::new(), BTreeMap::<u8, Vec<usize>>::new(), false);
            for step in steps {
                match step {
                    Step::Apply(wanted) => {
                        forwards.apply(to_web(wanted.iter().map(|index| ports[*index]))).await;
                        desired = wanted;
                    }
                    Step::Reserve(owner, wanted) => {
                        forwards.reserve(&owner.to_string(), &wanted.iter().map(|index| ports[*index]).collect::<Vec<_>>()).await.unwrap();
                        let taken = |index: &usize| reserved.values().flatten().any(|other| other == index);
                        let new: Vec<usize> = wanted.into_iter().filter(|index| !taken(index)).collect();
                        reserved.entry(owner).or_default().extend(new);
                    }
                    Step::Release(owner) => {
                        forwards.release(&owner.to_string()).await;
                        reserved.remove(&owner);
                    }
                    Step::Loopback(on) => {
                        forwards.set_on_loopback(on).await;
                        loopback = on;
                    }
                }
                for (index, port) in ports.iter().enumerate() {
                    let listens = desired.contains(&index) || reserved.values().flatten().any(|other| *other == index);
                    prop_assert_eq!(connect(port.on_loopback()).is_ok(), listens, "{} {:?}", port, forwards);
                    let elsewhere = Publication { address: [127, 0, 0, 2].into(), ..*port };
                    prop_assert_eq!(connect(elsewhere).is_ok(), listens && !loopback && port.address.is_unspecified());
                }
            }
            Ok(())
        })?;
    }
}
