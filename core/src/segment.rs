//! Segment: a signed, compressed run of changes captured together; the little piece that travels.
//!
//! Its author writes it once; everybody else stores and forwards the same bytes. A segment that came from
//! a peer exists as a value only after its sizes, its signature and its body have been checked.
//!
//! ```text
//! header    version u8 · container 32 · author 32 · nonce 8 · time_ms u64 · change count u32
//!           · codec u8 · plain_len u32 · body_len u32                       (94 bytes, big-endian)
//! body      the frame, compressed as `codec` says
//! signature ed25519 by the author over the id, 64
//! accepted  0, or 1 · server 32 · time_ms u64 · ed25519 by that server over (id, time) 64
//! id        SHA-256("piecewise segment id\0" ‖ header ‖ body)
//! actor     time_ms as 6 bytes ‖ SHA-256("piecewise actor\0" ‖ header up to the count ‖ plain frame)[..16]
//! ```

use crate::bytes::{DecodeError, Reader};
use crate::frame::{CHANGES_MAX, FrameReader, OpKind, Template};
use crate::id::{Actor, ContainerId, PeerId, SegmentId, Timestamp};
use crate::identity::{Identity, verify};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::sync::Arc;
use zstd::bulk::{Compressor, Decompressor};

/// Length of a header in bytes.
pub const HEADER_LEN: usize = 94;
/// Where the fields end that name the actor: after the count.
const ACTOR_FIELDS_LEN: usize = 85;
/// Where the length of the plain frame stands: after the codec.
const PLAIN_LEN_AT: usize = ACTOR_FIELDS_LEN + 1;
const SIGNATURE_LEN: usize = 64;
/// Length of an acceptance in bytes, without the flag before it.
pub(crate) const ACCEPTED_LEN: usize = 32 + 8 + SIGNATURE_LEN;
const VERSION: u8 = 1;

/// Most bytes of a plain frame with more than one change.
pub const PLAIN_LEN_MAX: usize = 1 << 20;
/// Most bytes of a plain frame with a single change: the largest row that can be synced.
pub const ROW_LEN_MAX: usize = 64 << 20;
/// Most bytes of a whole segment.
pub const SEGMENT_LEN_MAX: usize = ROW_LEN_MAX + 4096;

const LABEL_SIGNATURE: &str = "segment";
const LABEL_ACCEPTED: &str = "segment accepted";

/// How a body is compressed.
mod codec {
    pub(super) const NONE: u8 = 0;
    pub(super) const ZSTD: u8 = 1;
}

/// zstd's level: 1 is within a fifth of level 3's size at two thirds of its time.
const ZSTD_LEVEL: i32 = 1;

/// Why bytes are not a segment that may be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The layout is wrong.
    #[error("segment could not be decoded")]
    Decode(#[from] DecodeError),
    /// It was made by a later version.
    #[error("segment has version {version}; this program knows version {VERSION}")]
    UnknownVersion {
        /// The version it claims.
        version: u8,
    },
    /// It claims to be larger than a segment may be.
    #[error("segment claims {claimed} bytes in {changes} changes, which is over the limit")]
    TooLarge {
        /// Plain bytes claimed.
        claimed: u64,
        /// Changes claimed.
        changes: u32,
    },
    /// The author's key did not make this signature; the bytes may have been changed on the way.
    #[error("segment {id} is not signed by {author}")]
    BadSignature {
        /// The segment.
        id: SegmentId,
        /// Whom it names as author.
        author: PeerId,
    },
    /// The acceptance is not by the server it names.
    #[error("segment {id} carries an acceptance that {server} did not sign")]
    BadAcceptance {
        /// The segment.
        id: SegmentId,
        /// The server it names.
        server: PeerId,
    },
    /// The body does not decompress to what the header says.
    #[error("the body of segment {id} does not decompress as its header says")]
    BadBody {
        /// The segment.
        id: SegmentId,
    },
}

/// The fixed fields of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The container it belongs to.
    pub container: ContainerId,
    /// Who wrote and signed it.
    pub author: PeerId,
    /// Chance: makes two captures of the same content at the same moment different.
    pub nonce: [u8; 8],
    /// When its latest change was written.
    pub time: Timestamp,
    /// Changes in it.
    pub count: u32,
    codec: u8,
    plain_len: u32,
    body_len: u32,
}

impl Header {
    /// Bytes of its changes before they were compressed.
    pub fn plain_len(&self) -> usize {
        self.plain_len as usize
    }
}

/// A server's word that it took a segment in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceptance {
    /// The server that accepted it first.
    pub server: PeerId,
    /// When.
    pub time: Timestamp,
}

/// A checked segment with its plain frame.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its fixed fields.
    pub header: Header,
    /// Its name.
    pub id: SegmentId,
    /// The actor of all its changes.
    pub actor: Actor,
    /// Who accepted it first, if a server did.
    pub acceptance: Option<Acceptance>,
    bytes: Arc<[u8]>,
    plain: Vec<u8>,
}

/// Whether an acceptance of a segment is signed by the server that it names.
pub(crate) fn is_accepted_by(
    id: SegmentId,
    acceptance: &Acceptance,
    signature: &[u8; SIGNATURE_LEN],
) -> bool {
    verify(&acceptance.server, LABEL_ACCEPTED, &accepted_bytes(id, acceptance.time), signature).is_ok()
}

/// The bytes of a segment without an acceptance, with this one.
pub(crate) fn with_acceptance(segment: &[u8], acceptance: &Acceptance, signature: &[u8; 64]) -> Arc<[u8]> {
    let mut bytes = Vec::with_capacity(segment.len() + ACCEPTED_LEN);
    bytes.extend_from_slice(&segment[..segment.len() - 1]);
    bytes.push(1);
    bytes.extend_from_slice(&acceptance.server.0);
    bytes.extend_from_slice(&acceptance.time.0.to_be_bytes());
    bytes.extend_from_slice(signature);
    bytes.into()
}

/// The acceptance of a stored segment, from its header, its last bytes and its length.
pub(crate) fn stored_acceptance(
    header: &[u8],
    end: &[u8],
    len: usize,
) -> Option<(Acceptance, [u8; SIGNATURE_LEN])> {
    let header = Header::decode(&mut Reader::new(header)).ok()?;
    let unaccepted = HEADER_LEN + header.body_len as usize + SIGNATURE_LEN + 1;
    let mut r = Reader::new(end.get(end.len().checked_sub(ACCEPTED_LEN)?..)?);
    if len != unaccepted + ACCEPTED_LEN {
        return None;
    }
    let acceptance = Acceptance { server: PeerId(r.array().ok()?), time: Timestamp(r.u64().ok()?) };
    Some((acceptance, r.array().ok()?))
}

/// How many changes a stored segment has.
pub(crate) fn change_count(bytes: &[u8]) -> u32 {
    let field = bytes.get(ACTOR_FIELDS_LEN - 4..ACTOR_FIELDS_LEN).and_then(|b| b.try_into().ok());
    field.map_or(0, u32::from_be_bytes)
}

/// How many bytes a segment claims to open to; one that claims too many does not open.
pub(crate) fn claimed_len(bytes: &[u8]) -> usize {
    let field = bytes.get(PLAIN_LEN_AT..PLAIN_LEN_AT + 4).and_then(|b| b.try_into().ok());
    (field.map_or(0, u32::from_be_bytes) as usize).min(ROW_LEN_MAX)
}

/// How many rows of the table a stored segment changes. A description always travels alone.
pub(crate) fn row_count(bytes: &Arc<[u8]>) -> u64 {
    match change_count(bytes) {
        1 => {
            let (id, actor) = (SegmentId([0; 32]), Actor([0; Actor::LEN]));
            u64::from(!Segment::open_stored(bytes.clone(), id, actor).is_ok_and(|s| s.is_description()))
        }
        n => u64::from(n),
    }
}

impl Segment {
    /// Signs a frame of `count` changes as a segment of its own.
    ///
    /// `nonce` is chance; `time` when the latest of the changes was written.
    pub fn seal(
        identity: &Identity,
        container: ContainerId,
        nonce: [u8; 8],
        time: Timestamp,
        count: usize,
        plain: Vec<u8>,
    ) -> Result<Self, SegmentError> {
        let (codec, body) = match compress(&plain) {
            Some(body) if body.len() < plain.len() => (codec::ZSTD, body),
            _ => (codec::NONE, plain.clone()),
        };
        let mut header = Header {
            container,
            author: identity.peer_id(),
            nonce,
            time: time.min(Timestamp::MAX),
            count: count as u32,
            codec,
            plain_len: 0,
            body_len: 0,
        };
        check_size(count as u32, plain.len() as u64)?;
        header.plain_len = plain.len() as u32;
        header.body_len = body.len() as u32;
        let mut bytes = Vec::with_capacity(HEADER_LEN + body.len() + SIGNATURE_LEN + 1);
        header.encode(&mut bytes);
        bytes.extend_from_slice(&body);
        let id = segment_id(&bytes);
        bytes.extend_from_slice(&identity.sign(LABEL_SIGNATURE, &id.0));
        bytes.push(0);
        let actor = actor(&bytes, header.time, &plain);
        Ok(Self { header, id, actor, acceptance: None, bytes: bytes.into(), plain })
    }

    /// Checks bytes from anyone: sizes, signature, acceptance, body. The frame is checked as it is read.
    pub fn open(bytes: Arc<[u8]>) -> Result<Self, SegmentError> {
        let parts = Parts::split(&bytes)?;
        let id = segment_id(parts.signed);
        verify(&parts.header.author, LABEL_SIGNATURE, &id.0, parts.signature)
            .map_err(|_| SegmentError::BadSignature { id, author: parts.header.author })?;
        if let Some((acceptance, signature)) = &parts.accepted {
            verify(&acceptance.server, LABEL_ACCEPTED, &accepted_bytes(id, acceptance.time), signature)
                .map_err(|_| SegmentError::BadAcceptance { id, server: acceptance.server })?;
        }
        let header = parts.header;
        let plain = decompress(&header, parts.body).ok_or(SegmentError::BadBody { id })?;
        let actor = actor(parts.signed, header.time, &plain);
        let acceptance = parts.accepted.map(|(a, _)| a);
        Ok(Self { header, id, actor, acceptance, bytes, plain })
    }

    /// Reads bytes that were checked by [`open`](Self::open) before they were stored with their id and actor:
    /// nothing is hashed or verified again.
    pub(crate) fn open_stored(bytes: Arc<[u8]>, id: SegmentId, actor: Actor) -> Result<Self, SegmentError> {
        let parts = Parts::split(&bytes)?;
        let (header, acceptance) = (parts.header, parts.accepted.map(|(a, _)| a));
        let plain = decompress(&header, parts.body).ok_or(SegmentError::BadBody { id })?;
        Ok(Self { header, id, actor, acceptance, bytes, plain })
    }

    /// The same segment with this server's word that it took it in.
    pub fn accept(self, server: &Identity, time: Timestamp) -> Self {
        let end = self.bytes.len() - if self.acceptance.is_some() { ACCEPTED_LEN } else { 0 };
        let acceptance = Acceptance { server: server.peer_id(), time };
        let signature = server.sign(LABEL_ACCEPTED, &accepted_bytes(self.id, time));
        let bytes = with_acceptance(&self.bytes[..end], &acceptance, &signature);
        Self { acceptance: Some(acceptance), bytes, ..self }
    }

    /// Whether its first change is one of the table's description.
    pub(crate) fn is_description(&self) -> bool {
        // The first bit of a frame: the description's key comes first.
        self.plain.first().is_some_and(|flags| flags & 1 != 0)
    }

    /// The template, if all its changes are plain inserts by one that only puts values.
    pub(crate) fn outline(&self) -> Result<Option<Template>, DecodeError> {
        let reader = self.changes()?;
        let mut templates = reader.templates();
        let (first, more) = (templates.next(), templates.next().is_some());
        let plain = |t: &&Template| t.is_plain_insert() && t.ops.iter().all(|(_, kind)| *kind == OpKind::Put);
        let first = first.filter(|t| !more && plain(t) && !self.is_description());
        Ok(first.cloned())
    }

    /// Its bytes as they are stored and sent.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Its changes, one after another.
    pub fn changes(&self) -> Result<FrameReader<'_>, DecodeError> {
        FrameReader::new(&self.plain, self.header.count as usize)
    }

    /// Its plain frame, as [`changes`](Self::changes) reads it.
    pub fn plain_frame(&self) -> &[u8] {
        &self.plain
    }

    /// Its plain frame.
    pub(crate) fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// Length of its plain frame in bytes.
    pub fn plain_len(&self) -> usize {
        self.plain.len()
    }
}

impl Header {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.container.0);
        out.extend_from_slice(&self.author.0);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.time.0.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.push(self.codec);
        out.extend_from_slice(&self.plain_len.to_be_bytes());
        out.extend_from_slice(&self.body_len.to_be_bytes());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, SegmentError> {
        let version = r.u8()?;
        if version != VERSION {
            return Err(SegmentError::UnknownVersion { version });
        }
        let header = Self {
            container: ContainerId(r.array()?),
            author: PeerId(r.array()?),
            nonce: r.array()?,
            time: Timestamp(r.u64()?),
            count: r.u32()?,
            codec: r.u8()?,
            plain_len: r.u32()?,
            body_len: r.u32()?,
        };
        if header.time > Timestamp::MAX || header.codec > codec::ZSTD {
            return Err(DecodeError::Invalid { what: "the header of a segment" }.into());
        }
        check_size(header.count, u64::from(header.plain_len))?;
        check_size(header.count, u64::from(header.body_len))?;
        Ok(header)
    }
}

/// A segment's bytes, cut at their fields.
struct Parts<'a> {
    header: Header,
    /// Header and body.
    signed: &'a [u8],
    body: &'a [u8],
    signature: &'a [u8; SIGNATURE_LEN],
    accepted: Option<(Acceptance, &'a [u8; SIGNATURE_LEN])>,
}

impl<'a> Parts<'a> {
    fn split(bytes: &'a [u8]) -> Result<Self, SegmentError> {
        let mut r = Reader::new(bytes);
        let header = Header::decode(&mut r)?;
        let body = r.take(header.body_len as usize)?;
        let signed = &bytes[..HEADER_LEN + body.len()];
        let signature = take_signature(&mut r)?;
        let accepted = match r.u8()? {
            0 => None,
            1 => {
                let acceptance =
                    Acceptance { server: PeerId(r.array()?), time: Timestamp(r.u64()?).min(Timestamp::MAX) };
                Some((acceptance, take_signature(&mut r)?))
            }
            _ => return Err(DecodeError::Invalid { what: "the acceptance of a segment" }.into()),
        };
        r.finish()?;
        Ok(Self { header, signed, body, signature, accepted })
    }
}

fn take_signature<'a>(r: &mut Reader<'a>) -> Result<&'a [u8; SIGNATURE_LEN], DecodeError> {
    r.take(SIGNATURE_LEN)?.try_into().map_err(|_| DecodeError::UnexpectedEnd)
}

fn check_size(changes: u32, claimed: u64) -> Result<(), SegmentError> {
    let limit = if changes == 1 { ROW_LEN_MAX } else { PLAIN_LEN_MAX };
    if changes == 0 || changes as usize > CHANGES_MAX || claimed > limit as u64 {
        return Err(SegmentError::TooLarge { claimed, changes });
    }
    Ok(())
}

thread_local! {
    // Making one costs as much as a small segment.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(ZSTD_LEVEL).ok());
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = RefCell::new(Decompressor::new().ok());
}

fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|zstd| zstd.as_mut()?.compress(plain).ok())
}

fn decompress(header: &Header, body: &[u8]) -> Option<Vec<u8>> {
    let plain = match header.codec {
        codec::NONE => body.to_vec(),
        _ => DECOMPRESSOR
            .with_borrow_mut(|zstd| zstd.as_mut()?.decompress(body, header.plain_len as usize).ok())?,
    };
    (plain.len() == header.plain_len as usize).then_some(plain)
}

fn segment_id(header_and_body: &[u8]) -> SegmentId {
    let hash = Sha256::new().chain_update(b"piecewise segment id\0").chain_update(header_and_body).finalize();
    SegmentId(hash.into())
}

fn actor(header: &[u8], time: Timestamp, plain: &[u8]) -> Actor {
    let hash = Sha256::new()
        .chain_update(b"piecewise actor\0")
        .chain_update(&header[..ACTOR_FIELDS_LEN])
        .chain_update(plain)
        .finalize();
    let mut actor = [0; Actor::LEN];
    actor[..6].copy_from_slice(&time.0.to_be_bytes()[2..]);
    actor[6..].copy_from_slice(&hash[..16]);
    Actor(actor)
}

fn accepted_bytes(id: SegmentId, time: Timestamp) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..32].copy_from_slice(&id.0);
    bytes[32..].copy_from_slice(&time.0.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameWriter, KeyRef, OpKind, Template};
    use crate::value::ValueRef;
    use proptest::prelude::*;

    fn identity(n: u8) -> Identity {
        Identity::from_seed([n; 32])
    }

    fn segment(rows: i64) -> Segment {
        let mut w = FrameWriter::default();
        let t = w.template(Template::fresh_insert(vec![("title".into(), OpKind::Put)]));
        (0..rows).for_each(|n| w.push_fresh(KeyRef::Integer(n), t, [ValueRef::Text("milk")].into_iter()));
        let count = w.len();
        Segment::seal(&identity(1), ContainerId([3; 32]), [4; 8], Timestamp(99), count, w.finish()).unwrap()
    }

    #[test]
    fn a_sealed_segment_opens_to_the_same_actor_and_changes() {
        let sealed = segment(50);
        let opened = Segment::open(sealed.bytes().clone()).unwrap();
        assert_eq!((opened.id, opened.actor, opened.header), (sealed.id, sealed.actor, sealed.header));
        assert_eq!(opened.actor.time(), Timestamp(99));
        let mut changes = opened.changes().unwrap();
        let mut n = 0;
        while let Some(row) = changes.next_change().unwrap() {
            assert_eq!(row.values, [ValueRef::Text("milk")]);
            n += 1;
        }
        assert_eq!(n, 50);
    }

    #[test]
    fn an_acceptance_leaves_the_id_as_it_was_and_is_checked() {
        let sealed = segment(1);
        let accepted = sealed.clone().accept(&identity(2), Timestamp(7));
        let opened = Segment::open(accepted.bytes().clone()).unwrap();
        assert_eq!(opened.id, sealed.id);
        let acceptance = Acceptance { server: identity(2).peer_id(), time: Timestamp(7) };
        assert_eq!(opened.acceptance, Some(acceptance));
        let mut forged = accepted.bytes().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert!(matches!(Segment::open(forged.into()), Err(SegmentError::BadAcceptance { .. })));
    }

    #[test]
    fn a_body_that_inflates_beyond_its_claim_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; 30 << 20], 1).unwrap();
        let mut header = segment(1).header;
        header.body_len = bomb.len() as u32;
        header.codec = codec::ZSTD;
        let mut bytes = vec![];
        header.encode(&mut bytes);
        bytes.extend_from_slice(&bomb);
        let id = segment_id(&bytes);
        bytes.extend_from_slice(&identity(1).sign(LABEL_SIGNATURE, &id.0));
        bytes.push(0);
        assert_eq!(Segment::open(bytes.into()).unwrap_err(), SegmentError::BadBody { id });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_changed_byte_is_noticed(at: u16, bit in 0u8..8) {
            let sealed = segment(3);
            let mut bytes = sealed.bytes().to_vec();
            let n = bytes.len();
            bytes[usize::from(at) % n] ^= 1 << bit;
            prop_assert!(Segment::open(bytes.into()).is_err());
        }

        #[test]
        fn no_bytes_make_open_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Segment::open(bytes.into());
        }
    }
}
