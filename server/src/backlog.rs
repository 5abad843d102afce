//! Backlog: bytes that came in and wait for the thread of their database.
//!
//! A connection that is far ahead of it is not read from until there is room, so that a fast peer, or many, cannot fill
//! memory; TCP makes the peer wait.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of all connections, and of one. A single larger frame goes alone.
const ALL_MAX: usize = 256 << 20;
const ONE_MAX: usize = 4 << 20;
/// Room is given out in units of so many bytes.
const UNIT: usize = 1 << 10;

/// Room for what came in.
#[derive(Debug, Clone)]
pub(crate) struct Backlog {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// Room that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Backlog {
    /// That of a whole server.
    pub(crate) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL_MAX / UNIT)), own: Arc::new(Semaphore::new(0)) }
    }

    /// The share of one connection.
    pub(crate) fn of_connection(&self) -> Self {
        Self { all: self.all.clone(), own: Arc::new(Semaphore::new(ONE_MAX / UNIT)) }
    }

    /// Waits until there is room for so many bytes.
    pub(crate) async fn room(&self, bytes: usize) -> Room {
        let units = bytes.div_ceil(UNIT).clamp(1, ONE_MAX / UNIT) as u32;
        let open = "nobody closes a backlog";
        Room {
            _own: self.own.clone().acquire_many_owned(units).await.expect(open),
            _all: self.all.clone().acquire_many_owned(units).await.expect(open),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn a_connection_that_is_ahead_waits_until_its_frames_are_handled_and_others_do_not() {
        let server = Backlog::new();
        let (one, other) = (server.of_connection(), server.of_connection());
        let mut context = Context::from_waker(Waker::noop());
        let mut at_once = |backlog: &Backlog, bytes: usize| match pin!(backlog.room(bytes)).poll(&mut context)
        {
            Poll::Ready(room) => Some(room),
            Poll::Pending => None,
        };
        let first = at_once(&one, 64 << 20).expect("a frame of any size goes alone");
        assert!(at_once(&one, 1).is_none());
        assert!(at_once(&other, ONE_MAX).is_some());
        drop(first);
        assert!(at_once(&one, 1).is_some());
    }
}
