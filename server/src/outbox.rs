//! Outbox: frames on their way from the threads of databases to a connection, which sends them.
//!
//! It holds few. A thread that finds it full leaves that link alone until the connection, which is told so here, has
//! sent some and says that there is room again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{OwnedPermit, Permit, Receiver, Sender};

/// Frames that wait for one connection.
const FRAMES: usize = 16;

/// What a connection is given to send.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A frame on a channel; those who are told the same share it.
    Frame(u64, Arc<[u8]>),
    /// The connection has to end.
    Close,
}

/// Where a database's thread puts what is to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    frames: Sender<Outgoing>,
    was_full: Arc<AtomicBool>,
}

/// Where a connection finds it.
#[derive(Debug)]
pub(crate) struct Outgoings {
    frames: Receiver<Outgoing>,
    was_full: Arc<AtomicBool>,
}

/// Both ends of a new one.
pub(crate) fn outbox() -> (Outbox, Outgoings) {
    let (sender, receiver) = tokio::sync::mpsc::channel(FRAMES);
    let was_full = Arc::<AtomicBool>::default();
    (Outbox { frames: sender, was_full: was_full.clone() }, Outgoings { frames: receiver, was_full })
}

impl Outbox {
    /// Room for one more; if there is none, the connection will say when there is.
    pub(crate) fn place(&self) -> Option<Permit<'_, Outgoing>> {
        if let Ok(permit) = self.frames.try_reserve() {
            return Some(permit);
        }
        self.was_full.store(true, Ordering::SeqCst);
        // It may have sent everything just before it could see this.
        self.frames.try_reserve().ok()
    }

    /// Room for one more, if there is some, which can be kept.
    pub(crate) fn owned_place(&self) -> Option<OwnedPermit<Outgoing>> {
        self.frames.clone().try_reserve_owned().ok()
    }

    /// Puts something in if there is room; else it comes back.
    pub(crate) fn try_send(&self, outgoing: Outgoing) -> Result<(), Outgoing> {
        self.frames.try_send(outgoing).map_err(|error| match error {
            TrySendError::Full(outgoing) | TrySendError::Closed(outgoing) => outgoing,
        })
    }

    /// Waits for room.
    pub(crate) async fn send(&self, outgoing: Outgoing) {
        let _ = self.frames.send(outgoing).await;
    }
}

impl Outgoings {
    /// The next; None once nobody can say anything any more.
    pub(crate) async fn recv(&mut self) -> Option<Outgoing> {
        self.frames.recv().await
    }

    /// The next, if it is here.
    pub(crate) fn try_recv(&mut self) -> Option<Outgoing> {
        self.frames.try_recv().ok()
    }

    /// Whether somebody found no room since this was asked last, and is to be told that there is some.
    pub(crate) fn was_full(&self) -> bool {
        self.was_full.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_found_no_room_is_told_and_nobody_else() {
        let (outbox, mut outgoings) = outbox();
        let frame = || Outgoing::Frame(1, Arc::from([7].as_slice()));
        for _ in 0..FRAMES {
            outbox.place().expect("there is room").send(frame());
        }
        assert!(!outgoings.was_full());
        assert!(outbox.place().is_none() && outbox.owned_place().is_none());
        assert!(outgoings.try_recv().is_some());
        assert!(outgoings.was_full());
        assert!(!outgoings.was_full());
        assert!(outbox.place().is_some());
    }
}
