//! The last part of what a program writes, kept in memory: a chatty engine fills no disk.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver, task::JoinHandle};

/// Bytes kept.
const KEPT: usize = 64 * 1024;

/// What was written last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    /// Reads a pipe until its writers are gone.
    pub(crate) fn follow(&self, pipe: OwnedFd) -> io::Result<JoinHandle<()>> {
        let mut pipe = Receiver::from_owned_fd(pipe)?;
        let tail = self.clone();
        Ok(tokio::spawn(async move {
            let mut buffer = vec![0; 8 * 1024];
            while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
                tail.push(&buffer[..count]);
            }
        }))
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }

    /// What is kept, as text.
    pub(crate) fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (front, back) = kept.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept() {
        let tail = Tail::default();
        for _ in 0..100 {
            tail.push(&[b'x'; 4096]);
        }
        tail.push(b"the end");
        assert_eq!(tail.text().len(), KEPT);
        assert!(tail.text().ends_with("xthe end"));
    }
}
