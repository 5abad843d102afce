//! Deadline: a socket whose peer has to read what it asked for.
//!
//! A peer that does not read makes no progress: once a write has waited too long, it fails, and the connection ends with all
//! that was kept for it. That holds for HTTP; a WebSocket has deadlines of its own.

use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A socket of which writes have a deadline.
#[derive(Debug)]
pub(crate) struct Deadline<S> {
    socket: S,
    limit: Duration,
    /// While a write waits: until when it may.
    waiting: Option<Pin<Box<Sleep>>>,
    off: Arc<AtomicBool>,
}

impl<S> Deadline<S> {
    /// A write may wait for `limit` until the socket takes a byte; as long as it likes once the switch is set.
    pub(crate) fn new(socket: S, limit: Duration) -> (Self, Arc<AtomicBool>) {
        let off = Arc::new(AtomicBool::new(false));
        (Self { socket, limit, waiting: None, off: off.clone() }, off)
    }

    fn check<T>(&mut self, cx: &mut Context<'_>, done: Poll<Result<T, Error>>) -> Poll<Result<T, Error>> {
        if done.is_ready() || self.off.load(Ordering::Relaxed) {
            self.waiting = None;
            return done;
        }
        let until = Instant::now() + self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(until - Instant::now())));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadline<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deadline<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.check(cx, done)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.socket).poll_write_vectored(cx, parts);
        this.check(cx, done)
    }

    // Else what is sent would be copied for each connection.
    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.socket).poll_flush(cx);
        this.check(cx, done)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.socket).poll_shutdown(cx);
        this.check(cx, done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_given_up_and_one_that_reads_slowly_is_not() {
        let (mut peer, socket) = duplex(16);
        let (mut socket, off) = Deadline::new(socket, Duration::from_millis(50));
        let reading = tokio::spawn(async move {
            let mut byte = [0];
            for _ in 0..64 {
                peer.read_exact(&mut byte).await.expect("it comes");
                tokio::task::yield_now().await;
            }
            peer
        });
        socket.write_all(&[1; 64]).await.expect("somebody reads");
        let _peer = reading.await.expect("it has read");
        socket.write_all(&[1; 16]).await.expect("there is room");
        assert_eq!(socket.write_all(&[1]).await.expect_err("nobody reads").kind(), ErrorKind::TimedOut);
        off.store(true, Ordering::Relaxed);
        let waits = tokio::time::timeout(Duration::from_millis(80), socket.write_all(&[1])).await;
        assert!(waits.is_err(), "it waits as long as it likes");
    }
}
