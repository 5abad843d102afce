//! Invites: one string with all that a new device needs to join.
//!
//! `piecewise1-` and then, in lower-case base32 (RFC 4648 without padding): server key 32 · realm 16 ·
//! secret 32 · the address as UTF-8 · the first 4 bytes of SHA-256 over all before it.

use crate::id::{PeerId, RealmId};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "piecewise1-";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const FIXED: usize = 32 + 16 + 32;

/// What a device needs to join a server. The secret works once.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    /// Where the server listens: `ws://…` or `wss://…`.
    pub address: String,
    /// The server's key.
    pub server: PeerId,
    /// The realm.
    pub realm: RealmId,
    /// Proves that its holder was invited.
    pub secret: [u8; 32],
}

/// Why a text is no invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// It does not begin as an invite does.
    #[error("this is not an invite; one begins with `{PREFIX}`")]
    NotAnInvite,
    /// It was made by a later version.
    #[error("this invite was made by a newer version of piecewise-server")]
    NewerVersion,
    /// Characters are missing or wrong.
    #[error("this invite is damaged; a character is missing or wrong")]
    Damaged,
}

impl Invite {
    /// What a server keeps of the secret.
    pub fn secret_hash(&self) -> [u8; 32] {
        secret_hash(&self.secret)
    }
}

/// What a server keeps of an invite's secret.
pub fn secret_hash(secret: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(b"piecewise invite\0").chain_update(secret).finalize().into()
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invite({}, {})", self.address, self.server.short())
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [&self.server.0[..], &self.realm.0, &self.secret, self.address.as_bytes()].concat();
        bytes.extend_from_slice(&checksum(&bytes));
        f.write_str(PREFIX)?;
        f.write_str(&to_base32(&bytes))
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        let text = text.trim();
        let Some(body) = text.strip_prefix(PREFIX) else {
            let newer = text.starts_with("piecewise") && text.contains('-');
            return Err(if newer { InviteError::NewerVersion } else { InviteError::NotAnInvite });
        };
        let bytes = from_base32(body).ok_or(InviteError::Damaged)?;
        let (content, sum) = bytes.split_last_chunk::<4>().ok_or(InviteError::Damaged)?;
        if checksum(content) != *sum || content.len() <= FIXED {
            return Err(InviteError::Damaged);
        }
        let part = |from: usize, to: usize| &content[from..to];
        let address = std::str::from_utf8(&content[FIXED..]).map_err(|_| InviteError::Damaged)?;
        Ok(Self {
            server: part(0, 32).try_into().map_err(|_| InviteError::Damaged)?,
            realm: part(32, 48).try_into().map_err(|_| InviteError::Damaged)?,
            secret: part(48, 80).try_into().map_err(|_| InviteError::Damaged)?,
            address: address.to_owned(),
        })
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let hash = Sha256::digest(bytes);
    std::array::from_fn(|n| hash[n])
}

fn to_base32(bytes: &[u8]) -> String {
    let (mut out, mut bits, mut held) = (String::new(), 0u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            out.push(ALPHABET[(bits >> held & 31) as usize] as char);
        }
    }
    if held > 0 {
        out.push(ALPHABET[(bits << (5 - held) & 31) as usize] as char);
    }
    out
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (vec![], 0u32, 0);
    for c in text.bytes() {
        let digit = ALPHABET.iter().position(|a| *a == c.to_ascii_lowercase())?;
        bits = bits << 5 | digit as u32;
        held += 5;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    // What is left over is less than a digit, and zero.
    (held < 5 && bits & ((1 << held) - 1) == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite() -> Invite {
        Invite {
            address: "ws://127.0.0.1:7171".into(),
            server: PeerId([1; 32]),
            realm: RealmId([2; 16]),
            secret: [3; 32],
        }
    }

    #[test]
    fn an_invite_comes_back_from_its_text() {
        assert_eq!(invite().to_string().parse(), Ok(invite()));
        assert_eq!(format!(" {}\n", invite()).parse(), Ok(invite()));
    }

    #[test]
    fn any_wrong_character_is_noticed() {
        let text = invite().to_string();
        for n in PREFIX.len()..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[n] = if wrong[n] == b'a' { b'b' } else { b'a' };
            assert_eq!(String::from_utf8(wrong).unwrap().parse::<Invite>(), Err(InviteError::Damaged));
            assert_eq!(text[..n].parse::<Invite>(), Err(InviteError::Damaged));
        }
        assert_eq!("hello".parse::<Invite>(), Err(InviteError::NotAnInvite));
        assert_eq!("piecewise2-abc".parse::<Invite>(), Err(InviteError::NewerVersion));
    }

    #[test]
    fn the_secret_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", invite()).contains("3, 3"));
    }
}
