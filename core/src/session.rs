//! Session: what one container remembers of its talk with its counterpart over one connection.
//!
//! Nothing in it needs to survive: after a lost connection a new session begins from the cursors on disk.

use crate::grant::{Access, Grant, access};
use crate::id::{PeerId, SegmentId, Timestamp};
use crate::message::{Accepted, CURSORS_MAX, Cursor, Have, Message, Refusal};
use crate::ranges::SortedIds;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

/// Who may do what, as a server knows it.
pub trait Authority: Send + Sync {
    /// What `peer` may do, now.
    fn grants(&self, peer: &PeerId) -> Arc<[Grant]>;

    /// What `peer` may do with the container of this name; None: not even know of it.
    fn access(&self, peer: &PeerId, container: &str) -> Option<Access> {
        access(&self.grants(peer), container)
    }

    /// Whether to accept a segment of `bytes` uncompressed bytes. Must be true up to
    /// [`crate::segment::PLAIN_LEN_MAX`]; anything larger is a single row.
    fn may_be_so_large(&self, _bytes: usize) -> bool {
        true
    }

    /// Whether `author` may have this many uncompressed bytes more stored here.
    fn may_store(&self, _author: &PeerId, _bytes: usize) -> bool {
        true
    }

    /// Called after `bytes` uncompressed bytes of an author were stored.
    fn stored(&self, _author: &PeerId, _bytes: usize) {}

    /// Whether one more refusal of what `peer` sent goes into the supervisor's log: many would let it grow without bound.
    fn may_log_refusal(&self, _peer: &PeerId) -> bool {
        true
    }

    /// Whether `peer` may create one more container.
    fn may_create(&self, _peer: &PeerId) -> bool {
        true
    }

    /// The name of a device that may take part in a database; None: there is none, or it is nobody's business.
    fn name_of(&self, _database: &str, _peer: &PeerId) -> Option<String> {
        None
    }

    /// Hears that `peer` created a container.
    fn created(&self, _peer: &PeerId) {}
}

/// Which end of the connection this is.
#[derive(Clone)]
pub enum Role {
    /// It opened the connection; in a repair it leads.
    Initiator,
    /// It accepted the connection, and decides what enters.
    Responder(Arc<dyn Authority>),
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initiator => "Initiator",
            Self::Responder(_) => "Responder",
        })
    }
}

/// The talk of a container with its counterpart.
#[derive(Debug)]
pub struct Session {
    pub(crate) peer: PeerId,
    pub(crate) role: Role,
    /// The time as the caller told it last.
    pub(crate) now: Timestamp,
    /// The peer's number here, once it has said which replica it is.
    pub(crate) peer_no: Option<i64>,
    /// How far we have come in the peer's feed, newest first, once it is known which replica it is.
    pub(crate) cursors: Vec<Cursor>,
    /// The newest of them that was on disk.
    pub(crate) kept: Cursor,
    pub(crate) said: Option<Have>,
    /// Cursors told to the peer, until it has answered which is good.
    pub(crate) offered: Vec<Cursor>,
    pub(crate) heard: Option<Have>,
    /// What we answered to their cursors.
    pub(crate) accepted: Accepted,
    /// How far their feed is proven to be as we got it.
    pub(crate) proven: Option<Cursor>,
    /// How far our feed has been sent.
    pub(crate) sent: Option<Cursor>,
    /// Sent and not acknowledged: where each message ended, and its bytes.
    pub(crate) in_flight: VecDeque<(Cursor, usize)>,
    pub(crate) repair: Option<Repair>,
    pub(crate) repairs: u32,
    /// How far the peer has come by a repair, to be told once all it wanted is sent.
    pub(crate) after_repair: Option<Cursor>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) outbox: VecDeque<Message>,
    pub(crate) wanted: VecDeque<SegmentId>,
    pub(crate) level: bool,
    /// Whether the peer has, or may have, what has not come here yet.
    pub(crate) behind: bool,
    /// Whether segments wait, since a table to which this one refers is still being sent.
    pub(crate) holds_back: bool,
    /// Whether the peer takes no segments in: only that we have its own is told.
    pub(crate) stopped: bool,
    /// The most bytes of segments in a message, if it is less than usual; a single larger segment goes alone.
    pub(crate) message_max: Option<usize>,
    /// Whether own segments wait for that to end.
    pub(crate) held_back: bool,
    /// What went to the peer.
    pub(crate) sent_rows: u64,
    pub(crate) sent_segments: u64,
    /// Segments that came since the last receipt was given.
    pub(crate) received_segments: u64,
    /// Of the segments sent, those that a receipt covers.
    pub(crate) receipted: u64,
    /// Whether the peer understands when its segments were accepted.
    pub(crate) tells_acceptances: bool,
    /// Whether to ask when own segments were accepted, of which it is not known.
    pub(crate) asks_acceptances: bool,
    pub(crate) numbers: NumbersOfSession,
}

/// What a session knows of rows whose numbers are taken.
#[derive(Debug, Default)]
pub(crate) struct NumbersOfSession {
    /// As the initiator: whether the responder knows of them.
    pub(crate) are_known: bool,
    /// Whether own segments wait until all of related tables is here.
    pub(crate) holds_back: bool,
    /// Whether the responder was told that rows move.
    pub(crate) was_told: bool,
    /// Segments that were refused, until their rows have moved.
    pub(crate) refused: Vec<SegmentId>,
    /// How often any were.
    pub(crate) rounds: u32,
    /// Where what was sent begins that was not acknowledged, or before.
    pub(crate) sent_from: Option<Cursor>,
    /// Up to where the peer was told, after a repair, that it has all of our feed.
    pub(crate) repaired: Option<Cursor>,
    /// Segments that were asked for and sent.
    pub(crate) wanted: Vec<SegmentId>,
    /// As the responder: whether a segment with such a row is refused.
    pub(crate) refuses: bool,
    /// Whether nothing more is taken in until the initiator has heard of a refusal.
    pub(crate) waits: bool,
    /// Segments that are taken in beside rows with their numbers.
    pub(crate) beside: HashSet<SegmentId>,
}

/// A set reconciliation in progress.
#[derive(Debug)]
pub(crate) struct Repair {
    pub(crate) ids: SortedIds,
    /// Our tip when it began: once it ends, the peer has everything up to here.
    pub(crate) began_at: Cursor,
    pub(crate) said_done: bool,
    pub(crate) rounds: u32,
    /// Segments that the peer lacks.
    pub(crate) lacking: HashSet<SegmentId>,
}

impl Session {
    /// A talk with `peer` that begins.
    pub fn new(peer: PeerId, role: Role) -> Self {
        Self {
            peer,
            role,
            now: Timestamp(0),
            peer_no: None,
            cursors: vec![],
            kept: Cursor::START,
            said: None,
            offered: vec![],
            heard: None,
            accepted: Accepted::NotYet,
            proven: None,
            sent: None,
            in_flight: VecDeque::new(),
            repair: None,
            repairs: 0,
            after_repair: None,
            refusals: vec![],
            outbox: VecDeque::new(),
            wanted: VecDeque::new(),
            level: false,
            behind: true,
            holds_back: false,
            stopped: false,
            message_max: None,
            held_back: false,
            sent_rows: 0,
            sent_segments: 0,
            received_segments: 0,
            receipted: 0,
            tells_acceptances: true,
            asks_acceptances: true,
            numbers: NumbersOfSession::default(),
        }
    }

    /// Tells the session what time it is. The core reads no clock.
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Whether both sides have said that they hold the same.
    pub fn is_level(&self) -> bool {
        self.level
    }

    /// Whether a reconciliation is under way, or must come before anything else.
    pub(crate) fn is_in_repair(&self) -> bool {
        let asked = self.accepted == Accepted::None
            || self.heard.as_ref().is_some_and(|h| h.accepted == Accepted::None);
        self.repair.is_some() || (asked && self.repairs == 0)
    }

    /// How far we have come in the peer's feed.
    pub(crate) fn reached(&self) -> &Cursor {
        self.cursors.first().unwrap_or(&Cursor::START)
    }

    /// Notes how far we have come, as `store` does: what was noted beyond that, or too long ago, is forgotten.
    pub(crate) fn note_cursor(&mut self, cursor: Cursor) {
        self.cursors.retain(|noted| noted.seq < cursor.seq);
        if cursor != Cursor::START {
            self.cursors.insert(0, cursor);
        }
        self.cursors.truncate(CURSORS_MAX);
    }

    /// The peer's feed is proven to be as we got it up to here.
    pub(crate) fn prove(&mut self, reach: Cursor) {
        if let Some(proven) = self.proven.as_mut().filter(|proven| proven.seq < reach.seq) {
            *proven = reach;
        }
    }

    /// Takes note of segments that go to the peer.
    pub(crate) fn count_sent(&mut self, segments: &[Arc<[u8]>]) {
        self.sent_segments += segments.len() as u64;
        self.sent_rows += segments.iter().map(crate::segment::row_count).sum::<u64>();
    }

    /// Whether segments are still to be sent or acknowledged, in a feed that ends at `tip`.
    pub(crate) fn is_sending(&self, tip: Option<Cursor>) -> bool {
        !self.in_flight.is_empty() || (self.is_unsent(tip) && self.proven.is_some())
    }

    /// Whether segments are still to be sent, also where the peer has not told yet from where on.
    pub(crate) fn is_unsent(&self, tip: Option<Cursor>) -> bool {
        self.sent.zip(tip).is_some_and(|(sent, tip)| sent.seq < tip.seq)
    }

    /// The most bytes of segments in a message.
    pub(crate) fn message_bytes(&self, usual: usize) -> usize {
        self.message_max.map_or(usual, |max| max.min(usual))
    }

    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.in_flight.iter().map(|(_, bytes)| bytes).sum()
    }
}
