//! Handshake: both ends find out who is there, in one round trip, without clocks.
//!
//! Noise NN (X25519, ChaChaPoly, BLAKE2s) makes a secret that only the two ends know; then each signs the
//! hash of that exchange, which nobody in between can have too. The server proves itself first: a client
//! names itself only to the server it looks for.
//!
//! ```text
//! 1 →  Noise message 1; the prologue is "piecewise/1"
//! 2 ←  Noise message 2 (48 bytes) · sealed: server key 32 · realm 16 · time_ms u64 · features u32 · signature 64
//! 3 →  sealed: key 32 · signature 64 · secret: 0, or 1 · 32 bytes · name: length u8 · UTF-8
//! 4 ←  sealed: 0 welcome, or 1 · reason u8
//! ```
//! The server signs (hash ‖ all fields before) as "server hello"; the client (hash ‖ server key) as "client hello".

use crate::bytes::{DecodeError, Reader};
use crate::channel::{Channel, ChannelError, Opener, Sealer, pair};
use crate::id::{PeerId, RealmId, Timestamp};
use crate::identity::{Identity, verify};
use crate::invite::secret_hash;
use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};

/// A feature of a server: frames may come in pieces, see `link`.
pub const PIECES: u32 = 1;
/// The server refuses rows whose numbers other rows have, to clients that move them, see [`crate::numbers`].
pub const NUMBERS: u32 = 2;
/// The server gives blocks of numbers to devices that ask for them.
pub const LEASES: u32 = 4;
/// The server tells names of devices, see [`crate::link`].
pub const NAMES: u32 = 8;
/// All that this version knows.
const FEATURES: u32 = PIECES | NUMBERS | LEASES | NAMES;

const PATTERN: &str = "Noise_NN_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"piecewise/1";
const NOISE_2_LEN: usize = 48;
const SERVER_FIELDS_LEN: usize = 32 + 16 + 8 + 4;
/// Bytes of a device's name.
pub const NAME_LEN_MAX: usize = 64;
const LABEL_SERVER: &str = "server hello";
const LABEL_CLIENT: &str = "client hello";

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The other end does not speak this protocol, or somebody changed its words.
    #[error("the other end does not speak this version of piecewise, or its words were changed on the way")]
    NotPiecewise,
    /// The server is another than the one looked for.
    #[error("the server's key is {}, not {} as expected", found.short(), expected.short())]
    WrongServerKey {
        /// The key that the invite named.
        expected: PeerId,
        /// The key it has.
        found: PeerId,
    },
    /// The server's realm is another: its data folder is not the one that was joined.
    #[error("the server holds another realm than the one that was joined")]
    WrongRealm,
    /// A signature does not hold.
    #[error("the other end could not prove that it has its key")]
    BadSignature,
    /// The server turned this device away.
    #[error("the server turned this device away: {reason}")]
    Refused {
        /// Why.
        reason: RefuseReason,
    },
    /// A frame does not open.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A frame's content is wrong.
    #[error("the other end's words could not be read")]
    Decode(#[from] DecodeError),
}

/// Why a server turns a device away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefuseReason {
    /// Its key has no grants here.
    Unknown = 0,
    /// Its key was revoked.
    Revoked = 1,
    /// The invite was used, has expired, or never existed.
    BadInvite = 2,
    /// The server is at its limits.
    Busy = 3,
}

impl std::fmt::Display for RefuseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "its key is not known here",
            Self::Revoked => "its key was revoked",
            Self::BadInvite => "the invite was used before, has expired, or is of another server",
            Self::Busy => "too many connections",
        })
    }
}

/// The side that opens the connection.
#[derive(Debug)]
pub struct Initiator {
    identity: Identity,
    expected: PeerId,
    realm: RealmId,
    secret: Option<[u8; 32]>,
    name: String,
    noise: HandshakeState,
}

/// The initiator after it has named itself.
#[derive(Debug)]
pub struct AwaitingWelcome {
    server: PeerId,
    server_time: Timestamp,
    features: u32,
    sealer: Sealer,
    opener: Opener,
}

/// The side that accepts connections, before the first message.
#[derive(Debug)]
pub struct Responder {
    identity: Identity,
    realm: RealmId,
    noise: HandshakeState,
}

/// The responder after it has proved itself.
#[derive(Debug)]
pub struct AwaitingClient {
    own: PeerId,
    hash: Vec<u8>,
    sealer: Sealer,
    opener: Opener,
}

/// Who asks to be let in, proved; the caller decides.
#[derive(Debug)]
pub struct Claim {
    /// The key it has.
    pub peer: PeerId,
    /// The hash of the invite's secret, if it came with one.
    pub invite: Option<[u8; 32]>,
    /// What it calls itself; not to be trusted.
    pub name: String,
    sealer: Sealer,
    opener: Opener,
}

impl Initiator {
    /// Begins: the initiator and the first message.
    ///
    /// `chance` must never be used twice.
    pub fn start(
        identity: Identity,
        expected: PeerId,
        realm: RealmId,
        secret: Option<[u8; 32]>,
        name: &str,
        chance: [u8; 32],
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let mut noise = builder(chance)?.build_initiator().map_err(noise_error)?;
        let mut message = vec![0; 64];
        let len = noise.write_message(&[], &mut message).map_err(noise_error)?;
        message.truncate(len);
        let mut name = name.to_owned();
        while name.len() > NAME_LEN_MAX {
            name.pop();
        }
        Ok((Self { identity, expected, realm, secret, name, noise }, message))
    }

    /// Checks who the server is; only then says who we are.
    pub fn receive(mut self, frame: &[u8]) -> Result<(AwaitingWelcome, Vec<u8>), HandshakeError> {
        let (noise, sealed) = frame.split_at_checked(NOISE_2_LEN).ok_or(HandshakeError::NotPiecewise)?;
        self.noise.read_message(noise, &mut [0; 64]).map_err(noise_error)?;
        let (mut sealer, mut opener, hash) = transport(self.noise)?;
        let hello = opener.open(sealed)?;
        let mut r = Reader::new(&hello);
        let server = PeerId(r.array()?);
        let realm = RealmId(r.array()?);
        let server_time = Timestamp(r.u64()?).min(Timestamp::MAX);
        let features = r.u32()?;
        let signature = r.array()?;
        r.finish()?;
        if server != self.expected {
            return Err(HandshakeError::WrongServerKey { expected: self.expected, found: server });
        }
        verify(&server, LABEL_SERVER, &[&hash, &hello[..SERVER_FIELDS_LEN]].concat(), &signature)
            .map_err(|_| HandshakeError::BadSignature)?;
        if realm != self.realm {
            return Err(HandshakeError::WrongRealm);
        }
        let mut answer = self.identity.peer_id().0.to_vec();
        answer.extend_from_slice(&self.identity.sign(LABEL_CLIENT, &[&hash, &server.0[..]].concat()));
        match &self.secret {
            None => answer.push(0),
            Some(secret) => {
                answer.push(1);
                answer.extend_from_slice(secret);
            }
        }
        answer.push(self.name.len() as u8);
        answer.extend_from_slice(self.name.as_bytes());
        let frame = sealer.seal(&answer)?;
        Ok((AwaitingWelcome { server, server_time, features, sealer, opener }, frame))
    }
}

impl AwaitingWelcome {
    /// The server's clock when it answered.
    pub fn server_time(&self) -> Timestamp {
        self.server_time
    }

    /// Reads whether we are let in.
    pub fn receive(mut self, frame: &[u8]) -> Result<Channel, HandshakeError> {
        let answer = self.opener.open(frame)?;
        let reason = match answer[..] {
            [0] => {
                let Self { server: peer, features, sealer, opener, .. } = self;
                return Ok(Channel { peer, features, sealer, opener });
            }
            [1, 1] => RefuseReason::Revoked,
            [1, 2] => RefuseReason::BadInvite,
            [1, 3] => RefuseReason::Busy,
            _ => RefuseReason::Unknown,
        };
        Err(HandshakeError::Refused { reason })
    }
}

impl Responder {
    /// Waits for the first message. `chance` must never be used twice.
    pub fn new(identity: Identity, realm: RealmId, chance: [u8; 32]) -> Result<Self, HandshakeError> {
        let noise = builder(chance)?.build_responder().map_err(noise_error)?;
        Ok(Self { identity, realm, noise })
    }

    /// Takes the first message; proves who we are.
    pub fn receive(
        mut self,
        frame: &[u8],
        now: Timestamp,
    ) -> Result<(AwaitingClient, Vec<u8>), HandshakeError> {
        self.noise.read_message(frame, &mut [0; 64]).map_err(noise_error)?;
        let mut answer = vec![0; NOISE_2_LEN];
        let len = self.noise.write_message(&[], &mut answer).map_err(noise_error)?;
        if len != NOISE_2_LEN {
            return Err(HandshakeError::NotPiecewise);
        }
        let (mut sealer, opener, hash) = transport(self.noise)?;
        let own = self.identity.peer_id();
        let mut hello = own.0.to_vec();
        hello.extend_from_slice(&self.realm.0);
        hello.extend_from_slice(&now.0.to_be_bytes());
        hello.extend_from_slice(&FEATURES.to_be_bytes());
        let signature = self.identity.sign(LABEL_SERVER, &[&hash, &hello[..]].concat());
        hello.extend_from_slice(&signature);
        answer.extend_from_slice(&sealer.seal(&hello)?);
        Ok((AwaitingClient { own, hash, sealer, opener }, answer))
    }
}

impl AwaitingClient {
    /// Takes the client's proof of who it is.
    pub fn receive(mut self, frame: &[u8]) -> Result<Claim, HandshakeError> {
        let hello = self.opener.open(frame)?;
        let mut r = Reader::new(&hello);
        let peer = PeerId(r.array()?);
        let signature = r.array()?;
        let invite = match r.u8()? {
            0 => None,
            1 => Some(secret_hash(&r.array()?)),
            _ => return Err(DecodeError::Invalid { what: "a client's hello" }.into()),
        };
        let len = usize::from(r.u8()?);
        let name = std::str::from_utf8(r.take(len)?).map_err(|_| DecodeError::BadText)?;
        let name = name.chars().filter(|c| !c.is_control()).collect();
        r.finish()?;
        verify(&peer, LABEL_CLIENT, &[&self.hash, &self.own.0[..]].concat(), &signature)
            .map_err(|_| HandshakeError::BadSignature)?;
        Ok(Claim { peer, invite, name, sealer: self.sealer, opener: self.opener })
    }
}

impl Claim {
    /// Lets the client in: the channel and the frame that tells it so.
    pub fn accept(mut self) -> Result<(Channel, Vec<u8>), HandshakeError> {
        let frame = self.sealer.seal(&[0])?;
        Ok((Channel { peer: self.peer, features: FEATURES, sealer: self.sealer, opener: self.opener }, frame))
    }

    /// Turns the client away: the frame that tells it so.
    pub fn refuse(mut self, reason: RefuseReason) -> Result<Vec<u8>, HandshakeError> {
        Ok(self.sealer.seal(&[1, reason as u8])?)
    }
}

fn noise_error(_: snow::Error) -> HandshakeError {
    HandshakeError::NotPiecewise
}

fn transport(noise: HandshakeState) -> Result<(Sealer, Opener, Vec<u8>), HandshakeError> {
    let hash = noise.get_handshake_hash().to_vec();
    let (sealer, opener) = pair(noise.into_stateless_transport_mode().map_err(noise_error)?);
    Ok((sealer, opener, hash))
}

fn builder(chance: [u8; 32]) -> Result<Builder<'static>, HandshakeError> {
    let params = PATTERN.parse().map_err(noise_error)?;
    Builder::with_resolver(params, Box::new(Resolver { chance })).prologue(PROLOGUE).map_err(noise_error)
}

/// The usual primitives, with the caller's chance instead of the operating system's.
struct Resolver {
    chance: [u8; 32],
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Seeded { seed: self.chance, count: 0 }))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Seeded {
    seed: [u8; 32],
    count: u64,
}

impl Random for Seeded {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        for chunk in out.chunks_mut(32) {
            let hash = Sha256::new()
                .chain_update(b"piecewise handshake chance\0")
                .chain_update(self.seed)
                .chain_update(self.count.to_be_bytes())
                .finalize();
            self.count += 1;
            chunk.copy_from_slice(&hash[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
