//! What a client and a server say about the server itself, first of all its log, on a channel of its own.
//!
//! ```text
//! 0 ask       origin · size u64 · root 32                          client: the last checkpoint it has; empty: none
//! 1 same                                                           server: it still is the last
//! 2 told      log key 32 · origin · statement 64 · note or empty · n LEB128 · n hashes
//! 3 cosigned  witness 32 · seconds u64 · signature 64              client: the checkpoint continues the one before
//! 4 prove     segment 32 · size u64                                client: under its checkpoint of that size
//! 5 proof     size u64 · index u64 · entry · n LEB128 · n hashes   server
//! 6 unknown   segment 32                                           server: no checkpoint covers it yet
//! 7 alarm     note                                                 client: this note of yours says otherwise
//! 8 ask status                                                     client: a link to the server's status page
//! 9 status link  secret 32, or nothing: it is for admins           server
//! ```
//! Every text is a LEB128 length and then UTF-8. The statement is the server's signature, label `log`, over log key ‖ origin.

use super::entry::ENTRY_LEN_MAX;
use super::note::{Cosignature, LogKey, NOTE_LEN_MAX, Note, is_name};
use super::tree::{Hash, PROOF_LEN_MAX};
use crate::bytes::{DecodeError, Reader, put_bytes, put_uleb};
use crate::id::{PeerId, SegmentId};
use crate::identity::{BadSignature, Identity, verify};

const LABEL_LOG: &str = "log";

/// What is said of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogMessage {
    /// The last checkpoint the client has.
    Ask {
        /// The log's name; empty: none yet.
        origin: String,
        /// Its size.
        size: u64,
        /// Its root.
        root: Hash,
    },
    /// It still is the last one.
    Same,
    /// The last checkpoint, with proof that it continues the one asked with.
    Told(Told),
    /// A client has seen the checkpoint.
    Cosigned(Cosignature),
    /// Is this segment in the log, as it was at this size?
    Prove {
        /// The segment.
        segment: SegmentId,
        /// The size of the client's checkpoint.
        size: u64,
    },
    /// It is.
    Proof(Proof),
    /// No checkpoint covers this segment.
    Unknown(SegmentId),
    /// The client holds this note of the log, which the present one does not continue.
    Alarm(Note),
    /// The client asks for a link to the server's status page.
    AskStatus,
    /// The secret of such a link, which opens once; None: the client administers nothing.
    StatusLink(Option<[u8; 32]>),
}

/// The log as the server tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The log's name and key.
    pub log: LogKey,
    /// The server's word that they are its own.
    pub statement: [u8; 64],
    /// The last checkpoint; None: it signs none now.
    pub note: Option<Note>,
    /// Proof that it continues the one asked with, if that is of this log and not larger.
    pub proof: Vec<Hash>,
}

/// That a segment is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The size of the checkpoint.
    pub size: u64,
    /// Which leaf.
    pub index: u64,
    /// The leaf.
    pub entry: Vec<u8>,
    /// From it to the root.
    pub proof: Vec<Hash>,
}

/// The server's word that a log is its own.
pub fn sign_statement(server: &Identity, log: &LogKey) -> [u8; 64] {
    server.sign(LABEL_LOG, &statement_bytes(log))
}

/// Whether the server gave it.
pub fn check_statement(server: &PeerId, log: &LogKey, statement: &[u8; 64]) -> Result<(), BadSignature> {
    verify(server, LABEL_LOG, &statement_bytes(log), statement)
}

fn statement_bytes(log: &LogKey) -> Vec<u8> {
    [&log.key.0[..], log.origin.as_bytes()].concat()
}

impl LogMessage {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![];
        match self {
            Self::Ask { origin, size, root } => {
                out.push(0);
                put_bytes(&mut out, origin.as_bytes());
                out.extend_from_slice(&size.to_be_bytes());
                out.extend_from_slice(root);
            }
            Self::Same => out.push(1),
            Self::Told(told) => {
                out.push(2);
                out.extend_from_slice(&told.log.key.0);
                put_bytes(&mut out, told.log.origin.as_bytes());
                out.extend_from_slice(&told.statement);
                put_bytes(&mut out, told.note.as_ref().map(Note::to_string).unwrap_or_default().as_bytes());
                put_hashes(&mut out, &told.proof);
            }
            Self::Cosigned(cosignature) => {
                out.push(3);
                out.extend_from_slice(&cosignature.witness.0);
                out.extend_from_slice(&cosignature.seconds.to_be_bytes());
                out.extend_from_slice(&cosignature.signature);
            }
            Self::Prove { segment, size } => {
                out.push(4);
                out.extend_from_slice(&segment.0);
                out.extend_from_slice(&size.to_be_bytes());
            }
            Self::Proof(proof) => {
                out.push(5);
                out.extend_from_slice(&proof.size.to_be_bytes());
                out.extend_from_slice(&proof.index.to_be_bytes());
                put_bytes(&mut out, &proof.entry);
                put_hashes(&mut out, &proof.proof);
            }
            Self::Unknown(segment) => {
                out.push(6);
                out.extend_from_slice(&segment.0);
            }
            Self::Alarm(note) => {
                out.push(7);
                put_bytes(&mut out, note.to_string().as_bytes());
            }
            Self::AskStatus => out.push(8),
            Self::StatusLink(secret) => {
                out.push(9);
                out.extend(secret.iter().flatten());
            }
        }
        out
    }

    /// Reads one.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let message = match r.u8()? {
            0 => Self::Ask {
                origin: r.text(255, "a log's name")?.to_owned(),
                size: r.u64()?,
                root: r.array()?,
            },
            1 => Self::Same,
            2 => {
                let key = PeerId(r.array()?);
                let origin = r.text(255, "a log's name")?.to_owned();
                if !is_name(&origin) {
                    return Err(DecodeError::Invalid { what: "a log's name" });
                }
                let statement = r.array()?;
                let note = r.text(NOTE_LEN_MAX, "a note")?;
                let note = if note.is_empty() { None } else { Some(read_note(note)?) };
                Self::Told(Told { log: LogKey { origin, key }, statement, note, proof: hashes(&mut r)? })
            }
            3 => Self::Cosigned(Cosignature {
                witness: PeerId(r.array()?),
                seconds: r.u64()?,
                signature: r.array()?,
            }),
            4 => Self::Prove { segment: SegmentId(r.array()?), size: r.u64()? },
            5 => Self::Proof(Proof {
                size: r.u64()?,
                index: r.u64()?,
                entry: r.bytes(ENTRY_LEN_MAX, "a log entry")?.to_vec(),
                proof: hashes(&mut r)?,
            }),
            6 => Self::Unknown(SegmentId(r.array()?)),
            7 => Self::Alarm(read_note(r.text(NOTE_LEN_MAX, "a note")?)?),
            8 => Self::AskStatus,
            9 if r.is_empty() => Self::StatusLink(None),
            9 => Self::StatusLink(Some(r.array()?)),
            _ => return Err(DecodeError::Invalid { what: "the kind of a message about the log" }),
        };
        r.finish()?;
        Ok(message)
    }
}

fn read_note(text: &str) -> Result<Note, DecodeError> {
    text.parse().map_err(|_| DecodeError::Invalid { what: "a note" })
}

fn put_hashes(out: &mut Vec<u8>, hashes: &[Hash]) {
    put_uleb(out, hashes.len() as u64);
    hashes.iter().for_each(|hash| out.extend_from_slice(hash));
}

fn hashes(r: &mut Reader<'_>) -> Result<Vec<Hash>, DecodeError> {
    (0..r.uleb_max(PROOF_LEN_MAX as u64, "the hashes of a proof")?).map(|_| r.array()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_of_a_peer_make_decoding_panic(kind in 0u8..9, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = LogMessage::decode(&bytes);
            let _ = LogMessage::decode(&[&[kind][..], &bytes].concat());
        }

        #[test]
        fn a_proof_comes_back_whole_and_no_part_of_it_is_another(
            size: u64, index: u64, entry in proptest::collection::vec(any::<u8>(), 0..40), hashes in 0usize..5,
        ) {
            let proof = Proof { size, index, entry, proof: vec![[7; 32]; hashes] };
            let bytes = LogMessage::Proof(proof.clone()).encode();
            prop_assert_eq!(LogMessage::decode(&bytes), Ok(LogMessage::Proof(proof)));
            for n in 0..bytes.len() {
                prop_assert!(LogMessage::decode(&bytes[..n]).is_err());
            }
        }
    }
}
