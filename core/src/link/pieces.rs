//! Pieces: frames cut small for a connection that is cut often. What came of a frame is kept and counts in the next connection.
//!
//! The initiator notices that connections are cut, and asks for pieces when it attaches; both sides then send frames above a limit
//! piece by piece, and tell what they hold of a frame whose connection was cut. A sender makes the same frame again from the same
//! cursor, which its hash shows, and goes on behind what the peer holds. The limit grows while a connection holds.

use super::{Link, LinkError, MESSAGE, PIECE, PIECES};
use crate::bytes::{DecodeError, Reader, put_uleb};
use crate::container::Received;
use crate::id::Timestamp;
use crate::link::Incoming;
use crate::message::MESSAGE_LEN_MAX;
use crate::replica::{Replica, ReplicaError};
use crate::store::{layout, pieces};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The longest frame that goes whole after one cut, after several, and the shortest limit that counts as none.
const LIMIT: usize = 16 << 10;
const LIMIT_MIN: usize = 8 << 10;
const LIMIT_MAX: usize = 512 << 10;
/// Bytes sent in pieces after which a connection is trusted with pieces twice as large.
const TRUST: usize = 1 << 20;
/// The setting that keeps the limit from one connection to the next.
const SETTING: &str = "piece_bytes";
/// Bytes of a message's frame beside the message.
const FRAME_MORE: usize = 64;
/// Frames that a peer may say to hold.
const HELD_MAX: u64 = 16;

/// What a link knows of pieces.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Longer frames are cut; none: all go whole.
    limit: Option<usize>,
    /// What the peer holds of a frame: its hash and how many bytes.
    held: Vec<([u8; 32], u64)>,
    /// The frame that is being sent, its hash and how far it has been.
    sending: Option<(Arc<[u8]>, [u8; 32], usize)>,
    /// Whether this side has asked for pieces and waits for what the peer holds: a frame sent before would begin at 0.
    asked: bool,
    /// Bytes sent in pieces since the limit was set.
    sent: usize,
}

impl Pieces {
    /// The most bytes of segments in a message that goes whole.
    pub(super) fn message_max(&self) -> Option<usize> {
        self.limit
    }

    /// Whether messages wait until the peer has said what it holds.
    pub(super) fn is_asking(&self) -> bool {
        self.asked
    }

    pub(super) fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// The frame, or its first piece.
    pub(super) fn cut(&mut self, frame: Arc<[u8]>) -> Arc<[u8]> {
        let is_large = self.limit.is_some_and(|limit| frame.len() > limit + FRAME_MORE);
        if !is_large || frame.first() != Some(&MESSAGE) {
            return frame;
        }
        let hash = hash(&frame);
        let held = self.held.iter().find(|(known, len)| *known == hash && *len < frame.len() as u64);
        let at = held.map_or(0, |(_, len)| *len as usize);
        self.held.clear();
        self.sending = Some((frame.clone(), hash, at));
        self.next().unwrap_or(frame)
    }

    /// The next piece of the frame that is being sent.
    pub(super) fn next(&mut self) -> Option<Arc<[u8]>> {
        let (frame, hash, at) = self.sending.as_mut()?;
        let limit = self.limit.unwrap_or(LIMIT_MAX);
        let end = frame.len().min(*at + limit);
        let mut piece = vec![PIECE];
        piece.extend_from_slice(hash);
        put_uleb(&mut piece, frame.len() as u64);
        put_uleb(&mut piece, *at as u64);
        piece.extend_from_slice(&frame[*at..end]);
        *at = end;
        if end == frame.len() {
            self.sending = None;
        }
        self.sent += piece.len();
        if self.sent >= TRUST {
            self.sent = 0;
            self.limit = self.limit.map(|limit| limit * 2).filter(|limit| *limit < LIMIT_MAX);
        }
        Some(piece.into())
    }
}

impl Replica {
    /// Notes that a connection was cut before both sides were level: the next one sends less at a time.
    pub fn note_cut(&mut self) -> Result<(), ReplicaError> {
        let before = self.piece_limit()?;
        let limit = before.map_or(LIMIT, |limit| (limit / 2).max(LIMIT_MIN));
        if self.binding.is_none() || before == Some(limit) {
            return Ok(());
        }
        self.transaction(|r| Ok(layout::set_meta(&r.conn, SETTING, limit as i64)?))
    }

    /// Notes that both sides became level over one connection: the next one sends more at a time.
    pub fn note_whole(&mut self) -> Result<(), ReplicaError> {
        let Some(limit) = self.piece_limit()?.map(|limit| limit * 4) else { return Ok(()) };
        let server = self.binding.as_ref().map(|binding| binding.server.0);
        self.transaction(|r| {
            if let Some(server) = server
                && pieces::held(&r.conn, &server)?.is_some()
            {
                pieces::forget(&r.conn, &server)?;
            }
            if limit < LIMIT_MAX {
                layout::set_meta(&r.conn, SETTING, limit as i64)?;
            } else {
                layout::forget_meta(&r.conn, SETTING)?;
            }
            Ok(())
        })
    }

    fn piece_limit(&self) -> Result<Option<usize>, ReplicaError> {
        if self.binding.is_none() {
            return Ok(None);
        }
        let limit = layout::meta::<i64>(&self.conn, SETTING)?;
        Ok(limit.map(|limit| (limit.max(0) as usize).clamp(LIMIT_MIN, LIMIT_MAX)))
    }
}

impl Link {
    /// As the initiator, with a server that knows pieces: asks for them if connections were cut. Call it right after the link was made.
    pub fn ask_for_pieces(&mut self, replica: &Replica) -> Result<(), LinkError> {
        if let Some(limit) = replica.piece_limit()? {
            self.say_pieces(replica, limit)?;
            self.pieces.asked = true;
        }
        Ok(())
    }

    fn say_pieces(&mut self, replica: &Replica, limit: usize) -> Result<(), LinkError> {
        let held = pieces::held(&replica.conn, &self.peer.0).map_err(ReplicaError::from)?;
        let mut frame = vec![PIECES];
        put_uleb(&mut frame, limit as u64);
        put_uleb(&mut frame, u64::from(held.is_some()));
        if let Some((hash, len)) = held {
            frame.extend_from_slice(&hash);
            put_uleb(&mut frame, len);
        }
        self.outbox.push_back(frame);
        self.pieces.limit = Some(limit);
        Ok(())
    }

    pub(super) fn receive_pieces(&mut self, replica: &Replica, r: &mut Reader<'_>) -> Result<(), LinkError> {
        let limit = (r.uleb()?.min(LIMIT_MAX as u64) as usize).max(LIMIT_MIN);
        let n = r.uleb_max(HELD_MAX, "the number of frames held")?;
        let held = (0..n).map(|_| Ok((r.array()?, r.uleb()?)));
        self.pieces.held = held.collect::<Result<_, DecodeError>>()?;
        self.pieces.asked = false;
        if self.is_responder() && self.pieces.limit.is_none() {
            self.say_pieces(replica, limit)?;
        }
        Ok(())
    }

    /// Takes a piece; with the last one the frame is taken in.
    pub(super) fn receive_piece(
        &mut self,
        replica: &mut Replica,
        r: &mut Reader<'_>,
        now: Timestamp,
    ) -> Result<Received, LinkError> {
        let wrong = LinkError::Protocol { what: "a piece that does not continue what came" };
        let hash = r.array()?;
        let total = r.uleb_max((MESSAGE_LEN_MAX + FRAME_MORE) as u64, "the length of a frame")?;
        let (at, bytes) = (r.uleb()?, r.rest());
        let fits = !bytes.is_empty() && at <= total && bytes.len() as u64 <= total - at;
        if !self.attached || !fits || bytes.len() < LIMIT_MIN && at + (bytes.len() as u64) < total {
            return Err(wrong);
        }
        if self.is_responder() && self.intake.stop.is_some() {
            return Ok(Received::default()); // said again once it takes in
        }
        let peer = self.peer.0;
        let held = pieces::held(&replica.conn, &peer).map_err(ReplicaError::from)?;
        let held = held.filter(|(known, _)| *known == hash).map_or(0, |(_, len)| len);
        if at != 0 && at != held {
            return Err(wrong);
        }
        replica.transaction(|r| {
            if at == 0 {
                pieces::begin(&r.conn, &peer, now)?;
            }
            Ok(pieces::add(&r.conn, &peer, &hash, at, bytes, now)?)
        })?;
        if at + (bytes.len() as u64) < total {
            return Ok(Received::default());
        }
        let frame = pieces::joined(&replica.conn, &peer, &hash).map_err(ReplicaError::from)?;
        if self::hash(&frame) != hash || frame.first() != Some(&MESSAGE) {
            replica.transaction(|r| Ok(pieces::forget(&r.conn, &peer)?))?;
            return Err(LinkError::Protocol { what: "pieces that make no frame" });
        }
        let received = self.receive(replica, Incoming::read(&frame).open(), now)?;
        replica.transaction(|r| Ok(pieces::forget(&r.conn, &peer)?))?;
        Ok(received)
    }
}

fn hash(frame: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(b"piecewise frame\0").chain_update(frame).finalize().into()
}
