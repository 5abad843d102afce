//! Entries: the leaves of the log, to bytes and back.
//!
//! ```text
//! entry      version u8 (1) · time_ms u64 · kind u8, then                          (integers big-endian)
//!   1 accepted   container · segment 32 · author 32 · from 32 · changes u32
//!   2 refused    container · segment 32 · author 32 · from 32 · reason u8
//!   3 delivered  container · peer 32 · segments u64 · seq u64 · hash 32 · receipt: 0, or 1 and a signature of 64
//!   4 repaired   container · peer 32
//!   5 invited    secret's hash 32 · expires_ms u64 · grants
//!   6 joined     peer 32 · name · secret's hash 32
//!   7 granted    peer 32 · grant          8 ungranted  the same          9 revoked  peer 32
//!  10 origin     name · last note of the one before
//!  11 cancelled  secret's hash 32
//! container    id 32 · name; every text is a LEB128 length and then UTF-8
//! ```
//! A receipt is the peer's signature, label `receipt`, over container id ‖ seq ‖ hash: it has everything of the server's feed
//! up to there.

use super::note::NOTE_LEN_MAX;
use crate::bytes::{DecodeError, Reader, put_bytes};
use crate::id::{ContainerId, PeerId, SegmentId, Seq, Timestamp};
use crate::identity::{BadSignature, Identity, verify};
use crate::message::Cursor;

const VERSION: u8 = 1;
const TEXT_LEN_MAX: usize = 4096;
const LABEL_RECEIPT: &str = "receipt";

/// The longest entry in bytes: tlog-tiles gives its length in 16 bits.
pub const ENTRY_LEN_MAX: usize = u16::MAX as usize;

/// Something that happened on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub time: Timestamp,
    /// What.
    pub event: Event,
}

/// A container, by id and by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub id: ContainerId,
    /// Its name, `database/table`.
    pub name: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are what their names say
pub enum Event {
    /// A segment entered.
    Accepted { container: Place, segment: SegmentId, author: PeerId, from: PeerId, changes: u32 },
    /// A segment was not taken.
    Refused { container: Place, segment: SegmentId, author: PeerId, from: PeerId, reason: u8 },
    /// A peer has everything of this feed up to `reach`; `segments` of it came over this connection.
    Delivered { container: Place, peer: PeerId, segments: u64, reach: Cursor, receipt: Option<[u8; 64]> },
    /// The sets of segments of both sides were reconciled.
    Repaired { container: Place, peer: PeerId },
    /// An invite was made.
    Invited { secret_hash: [u8; 32], expires: Timestamp, grants: String },
    /// A device came with an invite.
    Joined { peer: PeerId, name: String, secret_hash: [u8; 32] },
    /// A device got a grant.
    Granted { peer: PeerId, grant: String },
    /// A device lost a grant.
    Ungranted { peer: PeerId, grant: String },
    /// A device lost all rights.
    Revoked { peer: PeerId },
    /// An invite was cancelled before anybody came with it.
    Cancelled { secret_hash: [u8; 32] },
    /// The operator declared that the log goes on under a new name.
    Origin { origin: String, before: String },
}

impl Event {
    /// Its name, as people read it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Refused { .. } => "refused",
            Self::Delivered { .. } => "delivered",
            Self::Repaired { .. } => "repaired",
            Self::Invited { .. } => "invited",
            Self::Joined { .. } => "joined",
            Self::Granted { .. } => "granted",
            Self::Ungranted { .. } => "ungranted",
            Self::Revoked { .. } => "revoked",
            Self::Cancelled { .. } => "cancelled",
            Self::Origin { .. } => "origin",
        }
    }

    /// The container it is about, if any.
    pub fn container(&self) -> Option<&Place> {
        match self {
            Self::Accepted { container, .. }
            | Self::Refused { container, .. }
            | Self::Delivered { container, .. }
            | Self::Repaired { container, .. } => Some(container),
            _ => None,
        }
    }

    /// The segment it is about, if any.
    pub fn segment(&self) -> Option<&SegmentId> {
        match self {
            Self::Accepted { segment, .. } | Self::Refused { segment, .. } => Some(segment),
            _ => None,
        }
    }

    /// Everybody who takes part in it.
    pub fn peers(&self) -> Vec<&PeerId> {
        match self {
            Self::Accepted { author, from, .. } | Self::Refused { author, from, .. } => vec![author, from],
            Self::Delivered { peer, .. }
            | Self::Repaired { peer, .. }
            | Self::Joined { peer, .. }
            | Self::Granted { peer, .. }
            | Self::Ungranted { peer, .. }
            | Self::Revoked { peer } => vec![peer],
            Self::Invited { .. } | Self::Cancelled { .. } | Self::Origin { .. } => vec![],
        }
    }

    /// Whether the signature that it carries, if any, is good.
    pub fn check_receipt(&self) -> Result<(), BadSignature> {
        match self {
            Self::Delivered { container, peer, reach, receipt: Some(receipt), .. } => {
                check_receipt(peer, &container.id, reach, receipt)
            }
            _ => Ok(()),
        }
    }
}

/// A peer's word that it has everything of a feed up to `reach`.
pub fn sign_receipt(peer: &Identity, container: &ContainerId, reach: &Cursor) -> [u8; 64] {
    peer.sign(LABEL_RECEIPT, &receipt_bytes(container, reach))
}

/// Whether a receipt is by this peer.
pub fn check_receipt(
    peer: &PeerId,
    container: &ContainerId,
    reach: &Cursor,
    receipt: &[u8; 64],
) -> Result<(), BadSignature> {
    verify(peer, LABEL_RECEIPT, &receipt_bytes(container, reach), receipt)
}

fn receipt_bytes(container: &ContainerId, reach: &Cursor) -> Vec<u8> {
    [&container.0[..], &reach.seq.0.to_be_bytes(), &reach.hash].concat()
}

impl Entry {
    /// Its bytes: the leaf.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.time.0.to_be_bytes());
        match &self.event {
            Event::Accepted { container, segment, author, from, changes } => {
                put_segment(&mut out, 1, container, segment, [author, from]);
                out.extend_from_slice(&changes.to_be_bytes());
            }
            Event::Refused { container, segment, author, from, reason } => {
                put_segment(&mut out, 2, container, segment, [author, from]);
                out.push(*reason);
            }
            Event::Delivered { container, peer, segments, reach, receipt } => {
                put_place(&mut out, 3, container);
                out.extend_from_slice(&peer.0);
                out.extend_from_slice(&segments.to_be_bytes());
                out.extend_from_slice(&reach.seq.0.to_be_bytes());
                out.extend_from_slice(&reach.hash);
                out.push(u8::from(receipt.is_some()));
                out.extend_from_slice(receipt.as_ref().map_or(&[], |r| &r[..]));
            }
            Event::Repaired { container, peer } => {
                put_place(&mut out, 4, container);
                out.extend_from_slice(&peer.0);
            }
            Event::Invited { secret_hash, expires, grants } => {
                out.push(5);
                out.extend_from_slice(secret_hash);
                out.extend_from_slice(&expires.0.to_be_bytes());
                put_bytes(&mut out, grants.as_bytes());
            }
            Event::Joined { peer, name, secret_hash } => {
                out.push(6);
                out.extend_from_slice(&peer.0);
                put_bytes(&mut out, name.as_bytes());
                out.extend_from_slice(secret_hash);
            }
            Event::Granted { peer, grant } => put_grant(&mut out, 7, peer, grant),
            Event::Ungranted { peer, grant } => put_grant(&mut out, 8, peer, grant),
            Event::Revoked { peer } => {
                out.push(9);
                out.extend_from_slice(&peer.0);
            }
            Event::Origin { origin, before } => {
                out.push(10);
                put_bytes(&mut out, origin.as_bytes());
                put_bytes(&mut out, before.as_bytes());
            }
            Event::Cancelled { secret_hash } => {
                out.push(11);
                out.extend_from_slice(secret_hash);
            }
        }
        out
    }

    /// Reads a leaf.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.u8()? != VERSION {
            return Err(DecodeError::Invalid { what: "the version of a log entry" });
        }
        let time = Timestamp(r.u64()?);
        let event = match r.u8()? {
            1 => Event::Accepted {
                container: place(&mut r)?,
                segment: SegmentId(r.array()?),
                author: PeerId(r.array()?),
                from: PeerId(r.array()?),
                changes: r.u32()?,
            },
            2 => Event::Refused {
                container: place(&mut r)?,
                segment: SegmentId(r.array()?),
                author: PeerId(r.array()?),
                from: PeerId(r.array()?),
                reason: r.u8()?,
            },
            3 => Event::Delivered {
                container: place(&mut r)?,
                peer: PeerId(r.array()?),
                segments: r.u64()?,
                reach: Cursor { seq: Seq(r.u64()?), hash: r.array()? },
                receipt: match r.u8()? {
                    0 => None,
                    1 => Some(r.array()?),
                    _ => return Err(DecodeError::Invalid { what: "a receipt" }),
                },
            },
            4 => Event::Repaired { container: place(&mut r)?, peer: PeerId(r.array()?) },
            5 => Event::Invited {
                secret_hash: r.array()?,
                expires: Timestamp(r.u64()?),
                grants: text(&mut r)?,
            },
            6 => Event::Joined { peer: PeerId(r.array()?), name: text(&mut r)?, secret_hash: r.array()? },
            7 => Event::Granted { peer: PeerId(r.array()?), grant: text(&mut r)? },
            8 => Event::Ungranted { peer: PeerId(r.array()?), grant: text(&mut r)? },
            9 => Event::Revoked { peer: PeerId(r.array()?) },
            10 => Event::Origin {
                origin: text(&mut r)?,
                before: r.text(NOTE_LEN_MAX / 2, "a note")?.to_owned(),
            },
            11 => Event::Cancelled { secret_hash: r.array()? },
            _ => return Err(DecodeError::Invalid { what: "the kind of a log entry" }),
        };
        r.finish()?;
        Ok(Self { time, event })
    }
}

fn put_place(out: &mut Vec<u8>, kind: u8, place: &Place) {
    out.push(kind);
    out.extend_from_slice(&place.id.0);
    put_bytes(out, place.name.as_bytes());
}

fn put_segment(out: &mut Vec<u8>, kind: u8, place: &Place, segment: &SegmentId, peers: [&PeerId; 2]) {
    put_place(out, kind, place);
    out.extend_from_slice(&segment.0);
    peers.iter().for_each(|peer| out.extend_from_slice(&peer.0));
}

fn put_grant(out: &mut Vec<u8>, kind: u8, peer: &PeerId, grant: &str) {
    out.push(kind);
    out.extend_from_slice(&peer.0);
    put_bytes(out, grant.as_bytes());
}

fn place(r: &mut Reader<'_>) -> Result<Place, DecodeError> {
    Ok(Place { id: ContainerId(r.array()?), name: text(r)? })
}

fn text(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    Ok(r.text(TEXT_LEN_MAX, "a text of a log entry")?.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn entries() -> Vec<Entry> {
        let (peer, identity) = (PeerId([1; 32]), Identity::from_seed([2; 32]));
        let container = Place { id: ContainerId([3; 32]), name: "shop/todos".into() };
        let (segment, author, from) = (SegmentId([4; 32]), PeerId([5; 32]), PeerId([6; 32]));
        let reach = Cursor { seq: Seq(9), hash: [8; 32] };
        let receipt = Some(sign_receipt(&identity, &container.id, &reach));
        let of = |container: &Place| container.clone();
        let events = vec![
            Event::Accepted { container: of(&container), segment, author, from, changes: 7 },
            Event::Refused { container: of(&container), segment, author, from, reason: 1 },
            Event::Delivered {
                container: of(&container),
                peer: identity.peer_id(),
                segments: 3,
                reach,
                receipt,
            },
            Event::Delivered { container: of(&container), peer, segments: 3, reach, receipt: None },
            Event::Repaired { container, peer },
            Event::Invited { secret_hash: [9; 32], expires: Timestamp(5), grants: "shop/*=write".into() },
            Event::Joined { peer, name: "phone".into(), secret_hash: [9; 32] },
            Event::Granted { peer, grant: "shop/*=read".into() },
            Event::Ungranted { peer, grant: "shop/*=read".into() },
            Event::Revoked { peer },
            Event::Origin { origin: "piecewise/x/2".into(), before: "a note".into() },
            Event::Cancelled { secret_hash: [5; 32] },
        ];
        events.into_iter().enumerate().map(|(n, event)| Entry { time: Timestamp(n as u64), event }).collect()
    }

    #[test]
    fn every_kind_of_entry_comes_back_from_its_bytes_and_from_no_others() {
        for entry in entries() {
            let bytes = entry.encode();
            assert_eq!(Entry::decode(&bytes), Ok(entry.clone()));
            assert!(Entry::decode(&bytes[..bytes.len() - 1]).is_err());
            assert!(Entry::decode(&[&bytes[..], &[0]].concat()).is_err());
            assert!(entry.event.check_receipt().is_ok());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Entry::decode(&bytes);
        }
    }
}
