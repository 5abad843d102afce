//! Leaving: an initiator that talks of many databases ends the talk about one, and keeps the connection.
//!
//! It says what it holds, so that what crossed its word is not lost: if that is not what the responder holds, the
//! responder says that there is news, see `survey`. A responder may end a talk as well, when it cannot go on with it.

use super::{ENDED, LEAVE, Link, LinkError};
use crate::bytes::{DecodeError, Reader, put_bytes};
use crate::replica::Replica;
use crate::replica::standing::{digest, digest_of_none, held_by_client};

/// The longest cause in words that a frame carries.
pub(super) const CAUSE_LEN_MAX: usize = 512;
/// Why a responder ended a talk: the database's file cannot be opened.
const CANNOT_OPEN: u8 = 1;

/// The last frame of an initiator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// What it holds.
    pub digest: [u8; 32],
}

impl Leave {
    /// Whether a frame is an initiator's last.
    pub fn ends(frame: &[u8]) -> bool {
        frame.first() == Some(&LEAVE)
    }

    /// The last frame of an initiator that gives a talk up.
    pub fn unfinished() -> Vec<u8> {
        [&[LEAVE][..], &digest_of_none()].concat()
    }

    /// Reads an initiator's last frame.
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(frame);
        if r.u8()? != LEAVE {
            return Err(DecodeError::Invalid { what: "the end of a talk" });
        }
        let digest = r.array()?;
        r.finish()?;
        Ok(Self { digest })
    }
}

impl Link {
    /// As the initiator: whether there is nothing to say, be the talk level or at rest.
    pub fn is_quiet(&self, replica: &Replica) -> bool {
        self.is_level() || (self.at_rest && self.outbox.is_empty() && replica.changed_end() == self.seen)
    }

    /// As the initiator: the closing frames of an idle link. Frames that still arrive for it must be ignored.
    pub fn leave(mut self, replica: &mut Replica) -> Result<Vec<Vec<u8>>, LinkError> {
        let mut frames = if self.at_rest { vec![] } else { self.receipts(replica)? };
        let shared = replica.containers.in_order().filter(|c| !self.denied.contains_key(&c.no));
        let held = digest(shared.filter_map(|c| Some((&c.id, held_by_client(c)?))));
        let held = held.unwrap_or_else(digest_of_none);
        frames.push([&[LEAVE][..], &held].concat());
        Ok(frames)
    }

    /// The frame with which a responder turns an attach down whose database cannot be opened now, for a `cause` in words.
    pub fn cannot_open(cause: &str) -> Vec<u8> {
        let mut frame = vec![ENDED, CANNOT_OPEN];
        let end = cause.floor_char_boundary(CAUSE_LEN_MAX);
        put_bytes(&mut frame, &cause.as_bytes()[..end]);
        frame
    }

    /// As the initiator: why the responder ended the talk.
    pub(super) fn why_ended(&self, r: &mut Reader<'_>) -> LinkError {
        let database = self.database.clone();
        let cause = match r.u8() {
            Ok(CANNOT_OPEN) => r.text(CAUSE_LEN_MAX, "a cause").ok(),
            _ => None,
        };
        match cause {
            Some(cause) => LinkError::CannotOpen { database, cause: cause.to_owned() },
            None => LinkError::Ended { database },
        }
    }

    /// As the responder: what the peer holds once it has all that is here for it.
    pub fn held(&self, replica: &Replica) -> [u8; 32] {
        self.digest(replica)
    }

    /// The frame by which a responder ends a talk that it cannot go on with.
    pub fn ended() -> Vec<u8> {
        vec![ENDED]
    }
}
