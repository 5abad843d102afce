//! Notes: a checkpoint as signed text, which people and other tools can read.
//!
//! C2SP signed-note, tlog-checkpoint and tlog-cosignature (<https://c2sp.org>):
//! ```text
//! ORIGIN
//! SIZE
//! base64(root)
//!
//! — NAME base64(key id 4 ‖ signature)
//! ```
//! The log signs the text up to and with the last line end before the empty line. A witness signs
//! `cosignature/v1`, the time in seconds and then that text; its signature begins with the time as u64.

use super::tree::Hash;
use crate::id::{PeerId, Timestamp};
use crate::identity::{Identity, verify_plain};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// The longest note in bytes.
pub const NOTE_LEN_MAX: usize = 64 << 10;
const NAME_LEN_MAX: usize = 255;
const ED25519: u8 = 1;
const COSIGNATURE: u8 = 4;
const DASH: &str = "\u{2014} ";

/// Why a text is not a note that may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Its layout is wrong.
    #[error("this is not a signed checkpoint: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// It names another log.
    #[error("the checkpoint is of another log")]
    WrongOrigin,
    /// The log's key did not sign it.
    #[error("the checkpoint is not signed by the log's key")]
    BadSignature,
}

fn malformed(what: &'static str) -> NoteError {
    NoteError::Malformed { what }
}

/// The name of a log and the public key that signs its checkpoints: all that is needed to verify one.
///
/// As text: `ORIGIN+key id in hex+base64(1 ‖ key)`, the note format's verifier key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey {
    /// The log's name.
    pub origin: String,
    /// The key.
    pub key: PeerId,
}

impl LogKey {
    fn id(&self) -> [u8; 4] {
        key_id(&self.origin, ED25519, &self.key)
    }
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519], &self.key.0[..]].concat();
        write!(f, "{}+{:08x}+{}", self.origin, u32::from_be_bytes(self.id()), BASE64.encode(key))
    }
}

impl FromStr for LogKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let bad = malformed("a log's key is NAME+ID+KEY");
        let (origin, rest) = text.trim().split_once('+').ok_or(bad)?;
        let (id, key) = rest.split_once('+').ok_or(bad)?;
        let key = BASE64.decode(key).map_err(|_| bad)?;
        let Some((&ED25519, key)) = key.split_first() else { return Err(bad) };
        let key = Self { origin: origin.to_owned(), key: PeerId(key.try_into().map_err(|_| bad)?) };
        if !is_name(origin) || id != format!("{:08x}", u32::from_be_bytes(key.id())) {
            return Err(bad);
        }
        Ok(key)
    }
}

/// Whether a text can name a log or a witness.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    !name.is_empty() && name.len() <= NAME_LEN_MAX && name.chars().all(plain)
}

/// The size and root of a log at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))
    }

    fn parse(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.split('\n');
        let mut line = || lines.next().ok_or(malformed("a line is missing"));
        let (origin, size, root) = (line()?, line()?, line()?);
        let plain = size == "0" || (!size.starts_with('0') && size.bytes().all(|b| b.is_ascii_digit()));
        let size = size.parse().ok().filter(|_| plain).ok_or(malformed("the size is no number"))?;
        let root = BASE64.decode(root).ok().and_then(|root| root.try_into().ok());
        if !is_name(origin) {
            return Err(malformed("the origin is no name"));
        }
        Ok(Self { origin: origin.to_owned(), size, root: root.ok_or(malformed("the root is no hash"))? })
    }

    /// Signs it with the log's key.
    pub fn sign(&self, log: &Identity) -> Note {
        let text = self.text();
        let key = LogKey { origin: self.origin.clone(), key: log.peer_id() };
        let signature = Signature {
            name: self.origin.clone(),
            bytes: [&key.id()[..], &log.sign_plain(text.as_bytes())].concat(),
        };
        Note { checkpoint: self.clone(), text, signatures: vec![signature] }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    name: String,
    /// Key id, then the signature itself.
    bytes: Vec<u8>,
}

/// A checkpoint with signatures. Its text and layout are sound; who signed it is for [`verify`](Self::verify).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it says.
    pub checkpoint: Checkpoint,
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// Whether the log's key signed it.
    pub fn verify(&self, log: &LogKey) -> Result<(), NoteError> {
        if self.checkpoint.origin != log.origin {
            return Err(NoteError::WrongOrigin);
        }
        let id = log.id();
        let ours = self.signatures.iter().find(|s| s.name == log.origin && s.bytes.starts_with(&id));
        let signature =
            ours.and_then(|s| s.bytes.get(4..)?.try_into().ok()).ok_or(NoteError::BadSignature)?;
        verify_plain(&log.key, self.text.as_bytes(), signature).map_err(|_| NoteError::BadSignature)
    }

    /// A witness's signature: it saw this checkpoint at `time`, and that it continues those before.
    pub fn cosign(&self, witness: &Identity, time: Timestamp) -> Cosignature {
        let seconds = time.0 / 1000;
        let signature = witness.sign_plain(&self.cosigned(seconds));
        Cosignature { witness: witness.peer_id(), seconds, signature }
    }

    fn cosigned(&self, seconds: u64) -> Vec<u8> {
        format!("cosignature/v1\ntime {seconds}\n{}", self.text).into_bytes()
    }

    /// Whether a witness signed this very checkpoint.
    pub fn check_cosignature(&self, cosignature: &Cosignature) -> Result<(), NoteError> {
        let message = self.cosigned(cosignature.seconds);
        verify_plain(&cosignature.witness, &message, &cosignature.signature)
            .map_err(|_| NoteError::BadSignature)
    }

    /// Adds a witness's signature as one more line.
    pub fn add(&mut self, cosignature: &Cosignature) {
        let name = format!("piecewise/{}", cosignature.witness);
        let id = key_id(&name, COSIGNATURE, &cosignature.witness);
        let bytes = [&id[..], &cosignature.seconds.to_be_bytes(), &cosignature.signature].concat();
        self.signatures.push(Signature { name, bytes });
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|s| writeln!(f, "{DASH}{} {}", s.name, BASE64.encode(&s.bytes)))
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_LEN_MAX {
            return Err(malformed("it is too long"));
        }
        let (text, lines) = note.split_once("\n\n").ok_or(malformed("it has no signatures"))?;
        let text = format!("{text}\n");
        let checkpoint = Checkpoint::parse(&text)?;
        let lines = lines.strip_suffix('\n').ok_or(malformed("its last line has no end"))?;
        let signature = |line: &str| {
            let (name, bytes) = line.strip_prefix(DASH)?.split_once(' ')?;
            let bytes = BASE64.decode(bytes).ok().filter(|b| b.len() > 4)?;
            is_name(name).then(|| Signature { name: name.to_owned(), bytes })
        };
        let signatures = lines.split('\n').map(|l| signature(l).ok_or(malformed("a signature line")));
        Ok(Self { checkpoint, text, signatures: signatures.collect::<Result<_, _>>()? })
    }
}

/// A witness's signature on a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cosignature {
    /// Who.
    pub witness: PeerId,
    /// When, in seconds since 1970.
    pub seconds: u64,
    /// The signature.
    pub signature: [u8; 64],
}

fn key_id(name: &str, kind: u8, key: &PeerId) -> [u8; 4] {
    let hash = Sha256::new().chain_update(name).chain_update([b'\n', kind]).chain_update(key.0).finalize();
    std::array::from_fn(|n| hash[n])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log() -> Identity {
        Identity::from_seed([5; 32])
    }

    fn note(size: u64) -> Note {
        Checkpoint { origin: "piecewise/x/1".into(), size, root: [size as u8; 32] }.sign(&log())
    }

    fn key() -> LogKey {
        LogKey { origin: "piecewise/x/1".into(), key: log().peer_id() }
    }

    /// The example of the note format's reference implementation (golang.org/x/mod/sumdb/note).
    #[test]
    fn the_reference_verifier_key_and_signature_hold() {
        let key: LogKey =
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
        assert_eq!(key.to_string(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        let line =
            "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        let bytes = BASE64.decode(line).unwrap();
        assert_eq!(bytes[..4], key.id());
        assert!(verify_plain(&key.key, text.as_bytes(), bytes[4..].try_into().unwrap()).is_ok());
    }

    #[test]
    fn a_note_comes_back_from_its_text_and_holds_only_for_its_log() {
        let mut note = note(7);
        let witness = Identity::from_seed([6; 32]);
        let cosignature = note.cosign(&witness, Timestamp(1_700_000_000_000));
        note.add(&cosignature);
        let read: Note = note.to_string().parse().unwrap();
        assert_eq!(read, note);
        assert_eq!(read.verify(&key()), Ok(()));
        assert_eq!(read.check_cosignature(&cosignature), Ok(()));
        let other = LogKey { origin: "piecewise/y/1".into(), ..key() };
        assert_eq!(read.verify(&other), Err(NoteError::WrongOrigin));
        let other = LogKey { key: witness.peer_id(), ..key() };
        assert_eq!(read.verify(&other), Err(NoteError::BadSignature));
        assert_eq!(key().to_string().parse(), Ok(key()));
    }

    proptest! {
        #[test]
        fn any_changed_byte_of_a_note_is_noticed(at: u16, bit in 0u8..8) {
            let mut bytes = note(123_456).to_string().into_bytes();
            let n = bytes.len();
            bytes[usize::from(at) % n] ^= 1 << bit;
            let holds = String::from_utf8(bytes).ok().and_then(|t| t.parse::<Note>().ok())
                .is_some_and(|read| read.verify(&key()).is_ok());
            prop_assert!(!holds);
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,200}") {
            let _ = text.parse::<Note>();
            let _ = text.parse::<LogKey>();
        }
    }
}
