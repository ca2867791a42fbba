//! Datagrams. Each sender has a flow of its own, so that answers find back and the container sees different senders.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use overside_io::{clock, datagrams};
use overside_model::{Moment, Publication};
use tokio::{io::AsyncWriteExt, net::UdpSocket, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Reach,
    counters::{Counters, Open},
};

/// Silence both ways after which a flow is forgotten: what Docker's own proxy uses.
const IDLE: Duration = Duration::from_secs(90);
/// Flows of one port. The one that was silent for longest makes room.
const MOST_FLOWS: usize = 4096;
/// Datagrams of one flow that wait. More are lost, as on any network that is too slow, and no other flow waits for them.
const WAITING: usize = 256;
/// Pause after a failed reception.
const RECEIVE_AGAIN: Duration = Duration::from_millis(50);

/// One sender's datagrams.
struct Flow {
    datagrams: mpsc::Sender<Bytes>,
    used: Moment,
}

/// Passes datagrams on until it is stopped, and returns when the socket is closed.
pub(crate) async fn serve(
    socket: UdpSocket,
    publication: Publication,
    reach: Arc<dyn Reach>,
    counters: Arc<Counters>,
    stop: CancellationToken,
) {
    let socket = Arc::new(socket);
    let mut flows: HashMap<SocketAddr, Flow> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; datagrams::LONGEST];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, sender) = match received {
            Ok(received) => received,
            // On Windows an answer that nobody took is told here.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
            Err(error) => {
                tracing::debug!(%error, %publication, "cannot receive on a published port");
                tokio::time::sleep(RECEIVE_AGAIN).await;
                continue;
            }
        };
        counters.came_in(length);
        let (datagram, now) = (Bytes::copy_from_slice(&buffer[..length]), clock::now());
        if let Some(flow) = flows.get_mut(&sender).filter(|flow| !flow.datagrams.is_closed()) {
            flow.used = now;
            let _ = flow.datagrams.try_send(datagram);
            continue;
        }
        if flows.len() >= MOST_FLOWS {
            flows.retain(|_, flow| !flow.datagrams.is_closed());
            let oldest = flows.iter().min_by_key(|(_, flow)| flow.used).map(|(sender, _)| *sender);
            if let Some(oldest) = oldest.filter(|_| flows.len() >= MOST_FLOWS) {
                flows.remove(&oldest);
            }
        }
        let (queue, waiting) = mpsc::channel(WAITING);
        let _ = queue.try_send(datagram);
        flows.insert(sender, Flow { datagrams: queue, used: now });
        let (socket, reach, open) = (socket.clone(), reach.clone(), Open::new(counters.clone()));
        tasks.spawn(async move {
            if let Err(error) = flow(&socket, sender, waiting, publication, &*reach, &open.0).await {
                tracing::debug!(%error, %publication, "a flow to a published port ended early");
            }
        });
    }
    tasks.shutdown().await;
}

/// One flow, until it was silent for long, its listener is gone or its environment is.
async fn flow(
    socket: &UdpSocket,
    sender: SocketAddr,
    mut waiting: mpsc::Receiver<Bytes>,
    publication: Publication,
    reach: &dyn Reach,
    counters: &Counters,
) -> io::Result<()> {
    let (far, _held) = reach.open(publication).await.map_err(io::Error::other)?;
    let (mut from_far, mut to_far) = tokio::io::split(far);
    let begun = clock::now();
    // Milliseconds after the beginning at which something was said last.
    let last = AtomicU64::new(0);
    let spoke = || last.store(u64::try_from(clock::now().since(begun).as_millis()).unwrap_or(u64::MAX), Relaxed);
    let up = async {
        while let Some(datagram) = waiting.recv().await {
            spoke();
            datagrams::write(&mut to_far, &datagram).await?;
        }
        to_far.shutdown().await
    };
    let down = async {
        while let Some(datagram) = datagrams::read(&mut from_far).await? {
            spoke();
            counters.went_out(datagram.len());
            // The sender may have gone.
            let _ = socket.send_to(&datagram, sender).await;
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
