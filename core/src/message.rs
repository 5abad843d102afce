//! Message: what two counterparts of a container say to each other, to bytes and back.
//!
//! What is said carries segments as bytes. Whoever hears it opens them: that takes nothing but the bytes, so it is done
//! where they came in, beside the thread that owns the replica.
//!
//! ```text
//! cursor    seq u64 · hash 32                                             (big-endian)
//! 0 have      replica 8 · tip cursor · count u64 · root digest 32 · accepted · n u8 · n cursors
//!             accepted: 0 not yet · 1 then a cursor · 2 none
//! 1 segments  from cursor · reach cursor · n LEB128 · n times (length LEB128 · segment)
//! 2 ranges    see `ranges`
//! 3 want      n LEB128 · n ids of 32
//! 4 refused   n LEB128 · n times (id 32 · reason u8)
//! 5 accepted  n LEB128 · n times (id 32 · server 32 · time_ms u64 · signature 64)
//! 6 unaccepted  n LEB128 · n ids of 32
//! ```

use crate::bytes::{DecodeError, Reader, put_bytes, put_uleb};
use crate::id::{PeerId, ReplicaId, SegmentId, Seq, Timestamp};
use crate::ranges::{self, Range};
use crate::root::RootDigest;
use crate::segment::{
    Acceptance, PLAIN_LEN_MAX, ROW_LEN_MAX, SEGMENT_LEN_MAX, Segment, SegmentError, claimed_len,
};
use std::sync::Arc;

/// The longest message in bytes: one largest segment and what goes with it.
pub const MESSAGE_LEN_MAX: usize = SEGMENT_LEN_MAX + (1 << 20);
/// Most bytes that the segments of one message open to: one largest row and some more.
pub const MESSAGE_PLAIN_MAX: usize = ROW_LEN_MAX + 4 * PLAIN_LEN_MAX;
/// Most cursors in one `Have`.
pub const CURSORS_MAX: usize = 8;
const LIST_MAX: u64 = 1 << 16;

/// A position in a feed with the running hash there: proof of everything before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The position.
    pub seq: Seq,
    /// The running hash there.
    pub hash: [u8; 32],
}

impl Cursor {
    /// Before the first segment.
    pub const START: Self = Self { seq: Seq(0), hash: [0; 32] };
}

/// What one container says to its counterpart; `S` is what stands for a segment in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<S = Arc<[u8]>> {
    /// What the speaker has, and how far it has come in the listener's feed.
    Have(Have),
    /// A part of the speaker's feed.
    Segments(Segments<S>),
    /// A step of a set reconciliation; empty: the speaker is done.
    Ranges(Vec<Range>),
    /// Segments that the speaker lacks.
    Want(Vec<SegmentId>),
    /// Segments of the listener that the speaker did not take.
    Refused(Vec<Refusal>),
    /// When segments of the listener were accepted, by the server that did first.
    Accepted(Vec<AcceptedSegment>),
    /// Segments of the speaker of which it does not know when they were accepted.
    Unaccepted(Vec<SegmentId>),
}

/// A received message. Decoding stops at the first invalid segment: that error is the last element, and everything after it was
/// not read.
pub type Heard = Message<Result<Segment, SegmentError>>;

/// What a container has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Have {
    /// Which copy speaks.
    pub replica: ReplicaId,
    /// The end of the speaker's feed.
    pub tip: Cursor,
    /// Segments in it.
    pub count: u64,
    /// The fingerprint of their set.
    pub root: RootDigest,
    /// How far the speaker has come in the listener's feed, newest first.
    pub cursors: Vec<Cursor>,
    /// Which of the listener's cursors the speaker found good.
    pub accepted: Accepted,
}

/// The answer to a peer's cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// They have not been heard yet.
    NotYet,
    /// This one is good; what follows will be sent.
    From(Cursor),
    /// None was good.
    None,
}

/// A part of a feed: all of the speaker's segments between `from` and `reach` that the listener lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments<S = Arc<[u8]>> {
    /// Where it begins in the speaker's feed.
    pub from: Cursor,
    /// Where it ends; the start: it moves no cursor.
    pub reach: Cursor,
    /// The segments. May be empty: then only the cursor moves.
    pub segments: Vec<S>,
}

/// A segment that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The segment.
    pub segment: SegmentId,
    /// Why.
    pub reason: RefusalReason,
}

/// When a segment was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedSegment {
    /// The segment.
    pub segment: SegmentId,
    /// By whom and when.
    pub acceptance: Acceptance,
    /// That server's signature over both.
    pub signature: [u8; 64],
}

/// Why a segment was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// Its author may not write to the container.
    NoGrant = 0,
    /// Its author's key was revoked.
    Revoked = 1,
    /// Its time is more than 10 minutes ahead.
    FromFuture = 2,
    /// A row is larger than may be synced.
    TooLarge = 3,
    /// Its bytes are not what they should be.
    Malformed = 4,
    /// A limit on what the author may store is reached.
    Quota = 5,
    /// It changes the table's description, which needs `admin`.
    NeedsAdmin = 6,
    /// It inserts a row under a number that another row has. Sent only to peers that move such rows, see `numbers`.
    Taken = 9,
}

impl RefusalReason {
    /// From its code.
    pub fn from_code(code: u8) -> Option<Self> {
        use RefusalReason::*;
        let known = [NoGrant, Revoked, FromFuture, TooLarge, Malformed, Quota, NeedsAdmin, Taken];
        known.into_iter().find(|reason| *reason as u8 == code)
    }
}

impl std::fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoGrant => "this device may not write to the table",
            Self::Revoked => "this device's key was revoked",
            Self::FromFuture => "its time is more than 10 minutes ahead of the server's clock",
            Self::TooLarge => "the row is larger than can be synced",
            Self::Malformed => "its bytes are not what they should be",
            Self::Quota => "a limit of the server is reached",
            Self::NeedsAdmin => "it changes the table's description, which needs `admin`",
            Self::Taken => "another row has its number",
        })
    }
}

impl Message {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Have(have) => {
                out.push(0);
                have.encode(out);
            }
            Self::Segments(segments) => {
                out.push(1);
                put_cursor(out, &segments.from);
                put_cursor(out, &segments.reach);
                put_uleb(out, segments.segments.len() as u64);
                segments.segments.iter().for_each(|bytes| put_bytes(out, bytes));
            }
            Self::Ranges(list) => {
                out.push(2);
                ranges::encode(list, out);
            }
            Self::Want(ids) => {
                out.push(3);
                put_uleb(out, ids.len() as u64);
                ids.iter().for_each(|id| out.extend_from_slice(&id.0));
            }
            Self::Refused(refusals) => {
                out.push(4);
                put_uleb(out, refusals.len() as u64);
                for refusal in refusals {
                    out.extend_from_slice(&refusal.segment.0);
                    out.push(refusal.reason as u8);
                }
            }
            Self::Accepted(accepted) => {
                out.push(5);
                put_uleb(out, accepted.len() as u64);
                for a in accepted {
                    out.extend_from_slice(&a.segment.0);
                    out.extend_from_slice(&a.acceptance.server.0);
                    out.extend_from_slice(&a.acceptance.time.0.to_be_bytes());
                    out.extend_from_slice(&a.signature);
                }
            }
            Self::Unaccepted(ids) => {
                out.push(6);
                put_uleb(out, ids.len() as u64);
                ids.iter().for_each(|id| out.extend_from_slice(&id.0));
            }
        }
    }

    /// Reads a whole message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let message = match r.u8()? {
            0 => Self::Have(Have::decode(&mut r)?),
            1 => {
                let (from, reach) = (read_cursor(&mut r)?, read_cursor(&mut r)?);
                let n = r.uleb_max(LIST_MAX, "the number of segments")?;
                let segment = |r: &mut Reader<'_>| r.bytes(SEGMENT_LEN_MAX, "a segment").map(Arc::from);
                let segments = (0..n).map(|_| segment(&mut r)).collect::<Result<Vec<_>, _>>()?;
                if plain_len(&segments) > MESSAGE_PLAIN_MAX {
                    return Err(DecodeError::TooLarge { what: "what a message opens to" });
                }
                Self::Segments(Segments { from, reach, segments })
            }
            2 => Self::Ranges(ranges::decode(&mut r)?),
            3 => {
                let n = r.uleb_max(LIST_MAX, "the number of ids")?;
                Self::Want((0..n).map(|_| r.array().map(SegmentId)).collect::<Result<_, _>>()?)
            }
            4 => {
                let n = r.uleb_max(LIST_MAX, "the number of refusals")?;
                let refusal = |r: &mut Reader<'_>| {
                    let segment = SegmentId(r.array()?);
                    let reason = RefusalReason::from_code(r.u8()?)
                        .ok_or(DecodeError::Invalid { what: "the reason of a refusal" })?;
                    Ok(Refusal { segment, reason })
                };
                Self::Refused((0..n).map(|_| refusal(&mut r)).collect::<Result<_, DecodeError>>()?)
            }
            5 => {
                let n = r.uleb_max(LIST_MAX, "the number of acceptances")?;
                let accepted = |r: &mut Reader<'_>| {
                    let segment = SegmentId(r.array()?);
                    let (server, time) = (PeerId(r.array()?), Timestamp(r.u64()?));
                    if time > Timestamp::MAX {
                        return Err(DecodeError::TooLarge { what: "a time" });
                    }
                    let acceptance = Acceptance { server, time };
                    Ok(AcceptedSegment { segment, acceptance, signature: r.array()? })
                };
                Self::Accepted((0..n).map(|_| accepted(&mut r)).collect::<Result<_, DecodeError>>()?)
            }
            6 => {
                let n = r.uleb_max(LIST_MAX, "the number of ids")?;
                Self::Unaccepted((0..n).map(|_| r.array().map(SegmentId)).collect::<Result<_, _>>()?)
            }
            _ => return Err(DecodeError::Invalid { what: "the kind of a message" }),
        };
        r.finish()?;
        Ok(message)
    }

    /// How much memory its segments take once they are opened, beside their bytes; as they claim.
    pub fn opened_len(&self) -> usize {
        match self {
            Self::Segments(Segments { segments, .. }) => {
                plain_len(segments) + segments.len() * size_of::<Segment>()
            }
            _ => 0,
        }
    }

    /// Opens its segments.
    pub fn open(self) -> Heard {
        match self {
            Self::Have(have) => Message::Have(have),
            Self::Segments(Segments { from, reach, segments }) => {
                let mut opened = Vec::with_capacity(segments.len());
                for bytes in segments {
                    opened.push(Segment::open(bytes));
                    if opened.last().is_some_and(Result::is_err) {
                        break;
                    }
                }
                Message::Segments(Segments { from, reach, segments: opened })
            }
            Self::Ranges(ranges) => Message::Ranges(ranges),
            Self::Want(ids) => Message::Want(ids),
            Self::Refused(refusals) => Message::Refused(refusals),
            Self::Accepted(accepted) => Message::Accepted(accepted),
            Self::Unaccepted(ids) => Message::Unaccepted(ids),
        }
    }
}

fn plain_len(segments: &[Arc<[u8]>]) -> usize {
    segments.iter().fold(0, |sum: usize, bytes| sum.saturating_add(claimed_len(bytes)))
}

impl Have {
    /// The same with cursors that were told before and still count: a later message names the newest alone.
    pub(crate) fn with_known(mut self, known: Vec<Cursor>) -> Self {
        let last = self.cursors.last().map_or(Seq(0), |cursor| cursor.seq);
        self.cursors.extend(known.into_iter().filter(|cursor| cursor.seq < last));
        self.cursors.truncate(CURSORS_MAX);
        self
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.replica.0);
        put_cursor(out, &self.tip);
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.root.0);
        match &self.accepted {
            Accepted::NotYet => out.push(0),
            Accepted::From(cursor) => {
                out.push(1);
                put_cursor(out, cursor);
            }
            Accepted::None => out.push(2),
        }
        let cursors = &self.cursors[..self.cursors.len().min(CURSORS_MAX)];
        out.push(cursors.len() as u8);
        cursors.iter().for_each(|c| put_cursor(out, c));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let replica = ReplicaId(r.array()?);
        let tip = read_cursor(r)?;
        let count = r.u64()?;
        let root = RootDigest(r.array()?);
        let accepted = match r.u8()? {
            0 => Accepted::NotYet,
            1 => Accepted::From(read_cursor(r)?),
            2 => Accepted::None,
            _ => return Err(DecodeError::Invalid { what: "the answer to cursors" }),
        };
        let n = r.u8()?;
        if usize::from(n) > CURSORS_MAX {
            return Err(DecodeError::TooLarge { what: "the number of cursors" });
        }
        let cursors = (0..n).map(|_| read_cursor(r)).collect::<Result<_, _>>()?;
        Ok(Self { replica, tip, count, root, cursors, accepted })
    }
}

pub(crate) fn put_cursor(out: &mut Vec<u8>, cursor: &Cursor) {
    out.extend_from_slice(&cursor.seq.0.to_be_bytes());
    out.extend_from_slice(&cursor.hash);
}

/// A cursor; a seq beyond what SQLite's integers hold is refused.
pub(crate) fn read_cursor(r: &mut Reader<'_>) -> Result<Cursor, DecodeError> {
    let seq = r.u64()?;
    if seq > i64::MAX as u64 {
        return Err(DecodeError::TooLarge { what: "a position in a feed" });
    }
    Ok(Cursor { seq: Seq(seq), hash: r.array()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ContainerId;
    use crate::identity::Identity;
    use proptest::prelude::*;

    fn any_cursor() -> impl Strategy<Value = Cursor> {
        (0..i64::MAX as u64, any::<[u8; 32]>()).prop_map(|(seq, hash)| Cursor { seq: Seq(seq), hash })
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let accepted =
            prop_oneof![Just(Accepted::NotYet), Just(Accepted::None), any_cursor().prop_map(Accepted::From)];
        let have = (any::<[u8; 8]>(), any_cursor(), any::<u64>(), any::<[u8; 32]>(), accepted).prop_flat_map(
            |(replica, tip, count, root, accepted)| {
                proptest::collection::vec(any_cursor(), 0..=CURSORS_MAX).prop_map(move |cursors| {
                    Message::Have(Have {
                        replica: ReplicaId(replica),
                        tip,
                        count,
                        root: RootDigest(root),
                        cursors,
                        accepted,
                    })
                })
            },
        );
        let bytes = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Arc::from);
        let segments = (any_cursor(), any_cursor(), proptest::collection::vec(bytes, 0..4))
            .prop_map(|(from, reach, segments)| Message::Segments(Segments { from, reach, segments }));
        let want = proptest::collection::vec(any::<[u8; 32]>().prop_map(SegmentId), 0..4);
        let refusal = (any::<[u8; 32]>(), 0u8..7).prop_map(|(id, code)| Refusal {
            segment: SegmentId(id),
            reason: RefusalReason::from_code(code).unwrap(),
        });
        let accepted = (any::<[u8; 32]>(), any::<[u8; 32]>(), 0..1u64 << 40, any::<[u8; 32]>()).prop_map(
            |(id, server, time, half)| AcceptedSegment {
                segment: SegmentId(id),
                acceptance: Acceptance { server: PeerId(server), time: Timestamp(time) },
                signature: std::array::from_fn(|n| half[n % 32]),
            },
        );
        let ids = proptest::collection::vec(any::<[u8; 32]>().prop_map(SegmentId), 0..4);
        prop_oneof![
            proptest::collection::vec(accepted, 0..4).prop_map(Message::Accepted),
            ids.prop_map(Message::Unaccepted),
            have,
            segments,
            want.prop_map(Message::Want),
            proptest::collection::vec(refusal, 0..4).prop_map(Message::Refused)
        ]
    }

    /// A message with these segments.
    fn with(segments: Vec<Arc<[u8]>>) -> Message {
        Message::Segments(Segments { from: Cursor::START, reach: Cursor::START, segments })
    }

    fn sealed(plain: Vec<u8>) -> Segment {
        let identity = Identity::from_seed([1; 32]);
        Segment::seal(&identity, ContainerId([2; 32]), [3; 8], Timestamp(4), 1, plain).unwrap()
    }

    #[test]
    fn a_message_that_opens_to_too_much_is_refused_before_anything_is_opened() {
        let large = sealed(vec![0; 40 << 20]).bytes().clone();
        let read = |segments: &[Arc<[u8]>]| {
            let mut bytes = vec![];
            with(segments.to_vec()).encode(&mut bytes);
            Message::decode(&bytes).map(|message| message.opened_len())
        };
        assert_eq!(read(std::slice::from_ref(&large)), Ok((40 << 20) + size_of::<Segment>()));
        let refused = Err(DecodeError::TooLarge { what: "what a message opens to" });
        assert_eq!(read(&[large.clone(), large]), refused);
    }

    #[test]
    fn nothing_behind_a_segment_that_is_none_is_opened() {
        let good = sealed(vec![1; 10]);
        let mut forged = good.bytes().to_vec();
        *forged.last_mut().unwrap() ^= 2;
        let segments = vec![good.bytes().clone(), forged.into(), good.bytes().clone()];
        let Message::Segments(opened) = with(segments).open() else { panic!("it is of another kind") };
        let [Ok(first), Err(_)] = &opened.segments[..] else { panic!("two were opened") };
        assert_eq!(first.id, good.id);
    }

    proptest! {
        #[test]
        fn messages_come_back_and_no_part_of_one_is_another(message in any_message()) {
            let mut bytes = vec![];
            message.encode(&mut bytes);
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
            for n in 0..bytes.len() {
                prop_assert!(Message::decode(&bytes[..n]).is_err());
            }
        }

        #[test]
        fn no_bytes_make_decode_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::decode(&bytes);
        }
    }
}
