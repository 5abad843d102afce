//! Backlog: frames that came in, opened, and wait for the thread of their database.
//!
//! They are opened where they came in, so that this thread has less to do. A connection that is far ahead of it is not read from
//! until there is room for what the next frame opens to, so that a fast peer, or many, cannot fill memory; TCP makes the peer wait.

use piecewise_core::link::{Incoming, Opened};
use std::sync::Arc;
use std::thread::available_parallelism;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::block_in_place;

/// Bytes of all connections, and of one: enough for one frame to be opened while another waits and a third is taken in.
/// A single larger frame goes alone.
const ALL_MAX: usize = 256 << 20;
const ONE_MAX: usize = 6 << 20;
/// Room is given out in units of so many bytes.
const UNIT: usize = 1 << 10;
/// What opens to no more is opened at once. Something larger may take milliseconds: other tasks go on elsewhere meanwhile, and
/// no more are opened at a time than there are cores.
const SMALL: usize = 4 << 10;
/// `expect` message: the semaphores are never closed.
const OPEN: &str = "nobody closes a backlog";

/// Room for what came in.
#[derive(Debug, Clone)]
pub struct Backlog {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
    cores: Arc<Semaphore>,
}

/// Room that is taken until this is dropped.
#[derive(Debug)]
pub struct Room {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Default for Backlog {
    fn default() -> Self {
        Self::new()
    }
}

impl Backlog {
    /// That of a whole process.
    pub fn new() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let [all, own, cores] = [ALL_MAX / UNIT, 0, cores].map(|n| Arc::new(Semaphore::new(n)));
        Self { all, own, cores }
    }

    /// The share of one connection.
    pub fn of_connection(&self) -> Self {
        Self { own: Arc::new(Semaphore::new(ONE_MAX / UNIT)), ..self.clone() }
    }

    /// Waits until there is room for a frame, and opens it. Call it in a runtime with several threads.
    pub async fn open(&self, frame: &[u8]) -> (Opened, Room) {
        let incoming = Incoming::read(frame);
        let room = self.room(incoming.opened_len()).await;
        if incoming.opened_len() <= SMALL {
            return (incoming.open(), room);
        }
        let _core = self.cores.acquire().await.expect(OPEN);
        (block_in_place(|| incoming.open()), room)
    }

    /// Waits until there is room for so many bytes.
    async fn room(&self, bytes: usize) -> Room {
        let units = |max: usize| bytes.div_ceil(UNIT).clamp(1, max / UNIT) as u32;
        Room {
            _own: self.own.clone().acquire_many_owned(units(ONE_MAX)).await.expect(OPEN),
            _all: self.all.clone().acquire_many_owned(units(ALL_MAX)).await.expect(OPEN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piecewise_core::id::{ContainerId, Timestamp};
    use piecewise_core::identity::Identity;
    use piecewise_core::message::{Cursor, Message, Segments};
    use piecewise_core::segment::Segment;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// A frame with a message that opens to a megabyte, and is much smaller.
    fn frame() -> Vec<u8> {
        let identity = Identity::from_seed([1; 32]);
        let container = ContainerId([2; 32]);
        let sealed = Segment::seal(&identity, container, [3; 8], Timestamp(4), 2, vec![0; 1 << 20]);
        let segments = vec![sealed.expect("it is small enough").bytes().clone()];
        let (from, reach) = (Cursor::START, Cursor::START);
        let mut frame = vec![3];
        frame.extend(container.0);
        Message::Segments(Segments { from, reach, segments }).encode(&mut frame);
        frame
    }

    #[test]
    fn a_frame_takes_the_room_of_what_it_opens_to() {
        let backlog = Backlog::new().of_connection();
        let (frame, mut context) = (frame(), Context::from_waker(Waker::noop()));
        assert!(frame.len() < 1 << 10);
        let mut opened = vec![];
        while let Poll::Ready(one) = pin!(backlog.open(&frame)).poll(&mut context) {
            opened.push(one);
        }
        assert_eq!(opened.len(), 5);
        opened.pop();
        assert!(pin!(backlog.open(&frame)).poll(&mut context).is_ready());
    }

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
