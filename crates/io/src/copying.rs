//! One direction of two joined streams, without a buffer of its own: thousands of connections that are open and silent cost
//! nothing for it, and a short one neither memory from the system nor its return.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes moved at a time: what one frame of a paced stream holds.
const PORTION: usize = crate::paced::MAX_DATA;

thread_local! {
    /// Between a read and the write that follows it at once. One for each thread, whatever the number of streams.
    static PORTION_OF_THREAD: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// How far one direction has come.
#[derive(Debug, Default)]
pub struct Copying {
    /// What was read and not yet taken.
    rest: Bytes,
    unflushed: bool,
    ended: bool,
    count: u64,
}

impl Copying {
    /// Begins with bytes that were read already.
    pub fn beginning_with(first: Bytes) -> Self {
        Self { rest: first, ..Self::default() }
    }

    /// Bytes that were written.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Copies what there is, and passes the end on as a half-close. Ready when that is done; not to be called again then.
    ///
    /// # Errors
    /// The first error of either stream.
    pub fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + ?Sized,
        W: AsyncWrite + ?Sized,
    {
        loop {
            while !self.rest.is_empty() {
                let count = ready!(to.as_mut().poll_write(cx, &self.rest))?;
                self.written(count)?;
                self.rest.advance(count);
            }
            if self.ended {
                return to.poll_shutdown(cx);
            }
            let mut portion = PORTION_OF_THREAD.take().unwrap_or_else(|| vec![0; PORTION].into_boxed_slice());
            let moved = self.once(cx, from.as_mut(), to.as_mut(), &mut portion);
            PORTION_OF_THREAD.set(Some(portion));
            match moved {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(to.as_mut().poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads once, and writes what is taken of it. Pending where there is nothing to be read.
    fn once<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: Pin<&mut R>,
        mut to: Pin<&mut W>,
        portion: &mut [u8],
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + ?Sized,
        W: AsyncWrite + ?Sized,
    {
        let mut buffer = ReadBuf::new(portion);
        ready!(from.poll_read(cx, &mut buffer))?;
        let mut read = buffer.filled();
        self.ended = read.is_empty();
        while !read.is_empty() {
            match to.as_mut().poll_write(cx, read) {
                Poll::Ready(result) => {
                    let count = result?;
                    self.written(count)?;
                    read = &read[count..];
                }
                // It waits until the other side takes it: what is kept is bounded by one portion.
                Poll::Pending => {
                    self.rest = Bytes::copy_from_slice(read);
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn written(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.count += count as u64;
        Ok(())
    }
}
