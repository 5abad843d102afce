//! Outbox: frames on their way from the threads of databases to a connection, which sends them.
//!
//! It holds few. A thread that finds it full leaves that link alone until the connection, which is told so here, has
//! sent some, or a place was given back, and says that there is room again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender};

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
    freed: Arc<Notify>,
}

/// A reserved slot. Dropping it unused wakes whoever found the queue full, because no send will.
#[derive(Debug)]
pub(crate) struct Place {
    permit: Option<OwnedPermit<Outgoing>>,
    was_full: Arc<AtomicBool>,
    freed: Arc<Notify>,
}

impl Place {
    /// Fills it.
    pub(crate) fn send(mut self, outgoing: Outgoing) {
        self.permit.take().map(|permit| permit.send(outgoing));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let was_unused = self.permit.take().is_some();
        if was_unused && self.was_full.load(Ordering::SeqCst) {
            self.freed.notify_one();
        }
    }
}

/// Where a connection finds it.
#[derive(Debug)]
pub(crate) struct Outgoings {
    frames: Receiver<Outgoing>,
    was_full: Arc<AtomicBool>,
    freed: Arc<Notify>,
}

/// Both ends of a new one.
pub(crate) fn outbox() -> (Outbox, Outgoings) {
    let (sender, receiver) = tokio::sync::mpsc::channel(FRAMES);
    let (was_full, freed) = (Arc::<AtomicBool>::default(), Arc::<Notify>::default());
    let outbox = Outbox { frames: sender, was_full: was_full.clone(), freed: freed.clone() };
    (outbox, Outgoings { frames: receiver, was_full, freed })
}

impl Outbox {
    /// Room for one more; if there is none, the connection will say when there is.
    pub(crate) fn place(&self) -> Option<Place> {
        let reserve = || self.frames.clone().try_reserve_owned().ok();
        let permit = reserve().or_else(|| {
            self.was_full.store(true, Ordering::SeqCst);
            // It may have sent everything just before it could see this.
            reserve()
        })?;
        Some(Place { permit: Some(permit), was_full: self.was_full.clone(), freed: self.freed.clone() })
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

    /// Who is told when a place was given back that somebody may wait for.
    pub(crate) fn freed(&self) -> Arc<Notify> {
        self.freed.clone()
    }

    /// Whether somebody found no room since this was asked last, and is to be told that there is some.
    pub(crate) fn was_full(&self) -> bool {
        self.was_full.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn whoever_found_no_room_is_told_and_nobody_else() {
        let (outbox, mut outgoings) = outbox();
        let frame = || Outgoing::Frame(1, Arc::from([7].as_slice()));
        for _ in 0..FRAMES {
            outbox.place().expect("there is room").send(frame());
        }
        assert!(!outgoings.was_full());
        assert!(outbox.place().is_none());
        assert!(outgoings.try_recv().is_some());
        assert!(outgoings.was_full());
        assert!(!outgoings.was_full());
        assert!(outbox.place().is_some());
    }

    #[test]
    fn a_place_given_back_is_told_of_if_somebody_found_none() {
        let (outbox, outgoings) = outbox();
        let mut places: Vec<_> = (0..FRAMES).map(|_| outbox.place().expect("there is room")).collect();
        let is_told = || outgoings.freed().notified().now_or_never().is_some();
        drop(places.pop());
        assert!(!is_told());
        places.extend(outbox.place());
        assert!(outbox.place().is_none());
        drop(places.pop());
        assert!(is_told() && outgoings.was_full());
        assert!(outbox.place().is_some());
    }
}
