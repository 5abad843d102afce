//! Identity: our own ed25519 key pair, and what others' public keys vouch for.
//!
//! Everything that is signed begins with "piecewise ", a label that says what it is, and a zero byte, so
//! that a signature given for one purpose is worth nothing for another.

use crate::id::PeerId;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use std::fmt;

/// A key did not make a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not by this key")]
pub struct BadSignature;

/// A key pair. Its secret never shows.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.peer_id().short())
    }
}

impl Identity {
    /// From 32 bytes of chance: the secret itself.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(&seed) }
    }

    /// The secret, to be kept where only its owner reads it.
    pub fn seed(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The public key.
    pub fn peer_id(&self) -> PeerId {
        PeerId(self.key.verifying_key().to_bytes())
    }

    /// Signs bytes as they are, where another format says what they are: notes and cosignatures.
    pub(crate) fn sign_plain(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// Signs a message for one purpose.
    pub fn sign(&self, label: &str, message: &[u8]) -> [u8; 64] {
        self.key.sign(&labelled(label, message)).to_bytes()
    }
}

/// Checks a signature strictly (RFC 8032, no small-order keys).
pub fn verify(peer: &PeerId, label: &str, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
    verify_plain(peer, &labelled(label, message), signature)
}

/// As [`verify`], for bytes that [`Identity::sign_plain`] signed.
pub(crate) fn verify_plain(peer: &PeerId, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(&peer.0).map_err(|_| BadSignature)?;
    key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| BadSignature)
}

fn labelled(label: &str, message: &[u8]) -> Vec<u8> {
    [b"piecewise ", label.as_bytes(), &[0], message].concat()
}

impl PeerId {
    /// The first and last bytes, for people: `4f9a…c2`.
    pub fn short(&self) -> String {
        format!("{:02x}{:02x}…{:02x}", self.0[0], self.0[1], self.0[31])
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let byte = |n: usize| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok();
        let mut id = [0; 32];
        for (n, out) in id.iter_mut().enumerate() {
            *out = byte(n)?;
        }
        Some(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_label_its_message_and_its_key_alone() {
        let (one, two) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let signature = one.sign("segment", b"milk");
        assert_eq!(verify(&one.peer_id(), "segment", b"milk", &signature), Ok(()));
        assert_eq!(verify(&one.peer_id(), "server", b"milk", &signature), Err(BadSignature));
        assert_eq!(verify(&one.peer_id(), "segment", b"bread", &signature), Err(BadSignature));
        assert_eq!(verify(&two.peer_id(), "segment", b"milk", &signature), Err(BadSignature));
        assert_eq!(verify(&PeerId([0; 32]), "segment", b"milk", &[0; 64]), Err(BadSignature));
    }

    #[test]
    fn the_secret_does_not_show_and_a_key_is_read_back_from_its_text() {
        let identity = Identity::from_seed([7; 32]);
        assert!(!format!("{identity:?}").contains("0707"));
        assert_eq!(PeerId::from_hex(&identity.peer_id().to_string()), Some(identity.peer_id()));
        assert_eq!(PeerId::from_hex("zz"), None);
    }
}
