//! One socket for the datagrams of many peers, and a stream for each of them, so that boundaries and peers survive and no
//! flow waits for another.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use overside_model::Moment;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{clock, datagrams};

/// Silence both ways after which a flow is forgotten: what Docker's own proxy uses.
const IDLE: Duration = Duration::from_secs(90);
/// Datagrams of one flow that wait, however short they are.
const WAITING: usize = 256;
/// Pause after a failed reception.
const RECEIVE_AGAIN: Duration = Duration::from_millis(50);

/// A socket, and where the flows lead that meet at it.
pub trait Exchange: Send + Sync + 'static {
    /// Tells flows apart.
    type Key: Copy + Eq + Hash + fmt::Debug + Send + Sync;
    /// Carries the datagrams of one flow ([`datagrams`]).
    type Stream: AsyncRead + AsyncWrite + Send;
    /// Kept for as long as a flow lasts.
    type Held: Send;

    /// Most flows at a time. The one that was silent for longest makes room.
    const FLOWS: usize;
    /// Most bytes of one flow that wait for its stream. More are lost, as on any network that is too slow. At least
    /// [`datagrams::LONGEST`].
    const WAITING_BYTES: usize;

    /// Receives one datagram of whatever flow.
    ///
    /// # Errors
    /// The socket's. It is asked again later.
    fn receive(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<(usize, Self::Key)>> + Send;

    /// Sends one datagram to a flow's peer.
    ///
    /// # Errors
    /// The socket's; the datagram is lost.
    fn send(&self, key: Self::Key, datagram: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Opens the stream of a new flow.
    ///
    /// # Errors
    /// Why there is none. What has come so far is lost.
    fn open(&self, key: Self::Key) -> impl Future<Output = io::Result<(Self::Stream, Self::Held)>> + Send;
}

/// One peer's datagrams, each with its part of what may wait.
struct Flow {
    datagrams: mpsc::Sender<(Bytes, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    used: Moment,
}

impl Flow {
    fn push(&self, datagram: &[u8]) {
        let room =
            u32::try_from(datagram.len()).ok().and_then(|length| self.room.clone().try_acquire_many_owned(length).ok());
        if let Some(room) = room {
            let _ = self.datagrams.try_send((Bytes::copy_from_slice(datagram), room));
        }
    }
}

/// Passes datagrams on until it is stopped; the exchange is dropped when this returns.
pub async fn serve<E: Exchange>(exchange: E, stop: CancellationToken) {
    let exchange = Arc::new(exchange);
    let mut flows: HashMap<E::Key, Flow> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; datagrams::LONGEST];
    loop {
        let received = {
            let mut receiving = std::pin::pin!(exchange.receive(&mut buffer));
            loop {
                tokio::select! {
                    () = stop.cancelled() => return tasks.shutdown().await,
                    // What is half received is not lost by that.
                    Some(_) = tasks.join_next() => {}
                    received = &mut receiving => break received,
                }
            }
        };
        let (length, key) = match received {
            Ok(received) => received,
            // On Windows an answer that nobody took is told here.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
            Err(error) => {
                tracing::debug!(%error, "cannot receive datagrams");
                tokio::time::sleep(RECEIVE_AGAIN).await;
                continue;
            }
        };
        let (datagram, now) = (&buffer[..length], clock::now());
        if let Some(flow) = flows.get_mut(&key).filter(|flow| !flow.datagrams.is_closed()) {
            flow.used = now;
            flow.push(datagram);
            continue;
        }
        if flows.len() >= E::FLOWS {
            flows.retain(|_, flow| !flow.datagrams.is_closed());
            let oldest = flows.iter().min_by_key(|(_, flow)| flow.used).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| flows.len() >= E::FLOWS) {
                flows.remove(&oldest);
            }
        }
        let (datagrams, waiting) = mpsc::channel(WAITING);
        let flow = Flow { datagrams, room: Arc::new(Semaphore::new(E::WAITING_BYTES)), used: now };
        flow.push(datagram);
        flows.insert(key, flow);
        let exchange = exchange.clone();
        tasks.spawn(async move {
            if let Err(error) = follow(&*exchange, key, waiting).await {
                tracing::debug!(%error, ?key, "a flow of datagrams ended early");
            }
        });
    }
}

/// One flow, until it was silent for long, its stream has ended or it has made room.
async fn follow<E: Exchange>(
    exchange: &E,
    key: E::Key,
    mut waiting: mpsc::Receiver<(Bytes, OwnedSemaphorePermit)>,
) -> io::Result<()> {
    let (far, _held) = exchange.open(key).await?;
    let (mut from_far, mut to_far) = tokio::io::split(far);
    let begun = clock::now();
    // Milliseconds after the beginning at which something was said last.
    let last = AtomicU64::new(0);
    let spoke = || last.store(u64::try_from(clock::now().since(begun).as_millis()).unwrap_or(u64::MAX), Relaxed);
    let up = async {
        while let Some((datagram, _room)) = waiting.recv().await {
            spoke();
            datagrams::write(&mut to_far, &datagram).await?;
        }
        to_far.shutdown().await
    };
    let down = async {
        while let Some(datagram) = datagrams::read(&mut from_far).await? {
            spoke();
            // The peer may have gone.
            let _ = exchange.send(key, &datagram).await;
        }
        io::Result::Ok(())
    };
    let idle = async {
        loop {
            let ends = begun + Duration::from_millis(last.load(Relaxed)) + IDLE;
            if ends <= clock::now() {
                return;
            }
            clock::sleep_until(ends).await;
        }
    };
    tokio::select! {
        result = up => result,
        result = down => result,
        () = idle => Ok(()),
    }
}
