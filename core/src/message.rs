//! Message: what two counterparts of a container say to each other, to bytes and back.
//!
//! ```text
//! cursor    seq u64 · hash 32                                             (big-endian)
//! 0 have      replica 8 · tip cursor · count u64 · root 32 · accepted · n u8 · n cursors
//!             accepted: 0 not yet · 1 then a cursor · 2 none
//! 1 segments  from cursor · reach cursor · n LEB128 · n times (length LEB128 · segment)
//! 2 ranges    see `ranges`
//! 3 want      n LEB128 · n ids of 32
//! 4 refused   n LEB128 · n times (id 32 · reason u8)
//! ```

use crate::bytes::{DecodeError, Reader, put_bytes, put_uleb};
use crate::id::{ReplicaId, SegmentId, Seq};
use crate::ranges::{self, Range};
use crate::root::RootDigest;
use crate::segment::SEGMENT_LEN_MAX;
use std::sync::Arc;

/// The longest message in bytes: one largest segment and what goes with it.
pub const MESSAGE_LEN_MAX: usize = SEGMENT_LEN_MAX + (1 << 20);
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

/// What one container says to its counterpart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// What the speaker has, and how far it has come in the listener's feed.
    Have(Have),
    /// A part of the speaker's feed.
    Segments(Segments),
    /// A step of a set reconciliation; empty: the speaker is done.
    Ranges(Vec<Range>),
    /// Segments that the speaker lacks.
    Want(Vec<SegmentId>),
    /// Segments of the listener that the speaker did not take.
    Refused(Vec<Refusal>),
}

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
pub struct Segments {
    /// Where it begins in the speaker's feed.
    pub from: Cursor,
    /// Where it ends; the start: it moves no cursor.
    pub reach: Cursor,
    /// The segments' bytes. May be empty: then only the cursor moves.
    pub segments: Vec<Arc<[u8]>>,
}

/// A segment that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The segment.
    pub segment: SegmentId,
    /// Why.
    pub reason: RefusalReason,
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
}

impl RefusalReason {
    /// From its code.
    pub fn from_code(code: u8) -> Option<Self> {
        use RefusalReason::*;
        [NoGrant, Revoked, FromFuture, TooLarge, Malformed, Quota, NeedsAdmin].get(usize::from(code)).copied()
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
                let segments = (0..n).map(|_| segment(&mut r)).collect::<Result<_, _>>()?;
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
            _ => return Err(DecodeError::Invalid { what: "the kind of a message" }),
        };
        r.finish()?;
        Ok(message)
    }
}

impl Have {
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
        prop_oneof![
            have,
            segments,
            want.prop_map(Message::Want),
            proptest::collection::vec(refusal, 0..4).prop_map(Message::Refused)
        ]
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
