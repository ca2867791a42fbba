//! The proxy between raw sockets: the test plays client and engine byte by byte, because no real client or engine can be
//! made to send its bytes in exactly the awkward portions that break proxies.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod files;
mod stage;
mod streams;
