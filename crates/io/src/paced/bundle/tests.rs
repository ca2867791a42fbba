use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex},
    sync::mpsc,
};

use super::*;

/// A bundle, and what is opened at its far end.
fn pair(capacity: usize) -> (Bundle, mpsc::UnboundedReceiver<(Bytes, Paced)>) {
    let (near, far) = duplex(capacity);
    let (receive, transmit) = tokio::io::split(near);
    (Bundle::new(receive, transmit), accepting(far))
}

fn accepting(far: DuplexStream) -> mpsc::UnboundedReceiver<(Bytes, Paced)> {
    let (sender, opened) = mpsc::unbounded_channel();
    let (receive, transmit): (ReadHalf<_>, WriteHalf<_>) = tokio::io::split(far);
    tokio::spawn(Bundle::accept(receive, transmit, move |about, stream| drop(sender.send((about, stream)))));
    opened
}

fn kind(result: io::Result<usize>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn many_streams_at_a_time_each_carry_their_own_bytes_both_ways() {
    let (bundle, mut opened) = pair(1000);
    tokio::spawn(async move {
        while let Some((about, mut stream)) = opened.recv().await {
            tokio::spawn(async move {
                let mut received = Vec::new();
                stream.read_to_end(&mut received).await.unwrap();
                stream.write_all(&about).await.unwrap();
                stream.write_all(&received).await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
    });
    let mut all = tokio::task::JoinSet::new();
    for number in 0..100u32 {
        let mut stream = bundle.open(&format!("stream {number}")).unwrap();
        all.spawn(async move {
            let sent = vec![number as u8; number as usize * 1000];
            stream.write_all(&sent).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).await.unwrap();
            assert!(back == [format!("stream {number}").as_bytes(), &sent].concat());
        });
    }
    while let Some(result) = all.join_next().await {
        result.unwrap();
    }
    // Those that have ended leave nothing behind.
    while !bundle.inner.streams().by_id.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stream_that_is_not_read_stops_no_other() {
    let (bundle, mut opened) = pair(1 << 16);
    let (mut unread, mut other) = (bundle.open("a").unwrap(), bundle.open("b").unwrap());
    let (_, _unread_there) = opened.recv().await.unwrap();
    let (_, mut other_there) = opened.recv().await.unwrap();
    let filling = tokio::spawn(async move {
        let _ = unread.write_all(&vec![7; 2 * crate::CREDIT as usize]).await;
    });
    let sent = vec![8; 1 << 20];
    let mut received = vec![0; sent.len()];
    let (written, read) = tokio::join!(other.write_all(&sent), other_there.read_exact(&mut received));
    written.unwrap();
    read.unwrap();
    assert!(received == sent);
    assert!(!filling.is_finished(), "more was taken than was granted");
}

#[tokio::test]
async fn one_end_that_is_dropped_resets_the_other_and_no_other_stream() {
    let (bundle, mut opened) = pair(1 << 16);
    let (mut dropped, mut kept) = (bundle.open("a").unwrap(), bundle.open("b").unwrap());
    let (_, dropped_there) = opened.recv().await.unwrap();
    let (_, mut kept_there) = opened.recv().await.unwrap();
    let broken = dropped.broken();
    drop(dropped_there);
    broken.await;
    assert_eq!(kind(dropped.read(&mut [0; 8]).await), io::ErrorKind::ConnectionReset);
    kept.write_all(b"hello").await.unwrap();
    let mut text = [0; 5];
    kept_there.read_exact(&mut text).await.unwrap();
    drop(kept);
    assert_eq!(kind(kept_there.read(&mut text).await), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_was_written_before_the_end_arrives_though_the_writer_is_gone() {
    let (bundle, mut opened) = pair(64);
    let mut stream = bundle.open("a").unwrap();
    let (_, mut there) = opened.recv().await.unwrap();
    there.write_all(&[1; 5000]).await.unwrap();
    there.shutdown().await.unwrap();
    drop(there);
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    assert_eq!(received.len(), 5000);
}

#[tokio::test]
async fn a_carrier_that_ends_breaks_every_stream_and_a_bundle_that_is_dropped_goes_with_its_last() {
    let (bundle, mut opened) = pair(1 << 16);
    let mut stream = bundle.open("a").unwrap();
    let (_, mut there) = opened.recv().await.unwrap();
    drop(bundle);
    stream.write_all(b"x").await.unwrap();
    assert_eq!(there.read(&mut [0; 8]).await.unwrap(), 1);
    drop(stream);
    assert_eq!(kind(there.read(&mut [0; 8]).await), io::ErrorKind::ConnectionReset);
    assert!(opened.recv().await.is_none());

    let (near, far) = duplex(1 << 16);
    let (receive, transmit) = tokio::io::split(near);
    let bundle = Bundle::new(receive, transmit);
    let mut stream = bundle.open("a").unwrap();
    drop(far);
    assert_eq!(kind(stream.read(&mut [0; 8]).await), io::ErrorKind::ConnectionReset);
    assert!(bundle.is_broken());
    bundle.open("b").unwrap_err();
}

#[tokio::test]
async fn who_breaks_a_stream_s_rules_loses_that_stream_and_who_breaks_the_bundle_s_loses_all() {
    let (mut raw, far) = duplex(1 << 16);
    let mut opened = accepting(far);
    for id in [1, 2] {
        raw.write_all(&message(OPEN, id, 1)).await.unwrap();
        raw.write_all(b"x").await.unwrap();
    }
    let (_, mut first) = opened.recv().await.unwrap();
    let (_, mut second) = opened.recv().await.unwrap();
    // A frame of no kind, byte by byte, and data of a stream that nobody knows.
    for byte in [&message(FRAMES, 1, 4)[..], &[9, 0, 0, 0]].concat() {
        raw.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(kind(first.read(&mut [0; 8]).await), io::ErrorKind::InvalidData);
    let mut told = [0; HEAD];
    raw.read_exact(&mut told).await.unwrap();
    assert_eq!(told, message(CLOSE, 1, 0));
    raw.write_all(&[&message(FRAMES, 77, 3)[..], b"abc"].concat()).await.unwrap();
    raw.write_all(&[&message(FRAMES, 2, 6)[..], &[0, 0, 0, 2], b"hi"].concat()).await.unwrap();
    let mut text = [0; 2];
    second.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"hi");
    // A number that is used already.
    raw.write_all(&[&message(OPEN, 2, 1)[..], b"x"].concat()).await.unwrap();
    assert_eq!(kind(second.read(&mut [0; 8]).await), io::ErrorKind::InvalidData);
    assert!(opened.recv().await.is_none());
}
