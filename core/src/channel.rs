//! Channel: an encrypted connection after the handshake's key exchange.
//!
//! A message of any length is one frame: Noise records of at most 65,535 bytes one after another. The
//! first plaintext byte of each says whether more follow (1) or it is the last (0). Records are numbered
//! on both sides, so what is changed, dropped, swapped or repeated does not open.

use crate::bytes::{DecodeError, Reader, put_uleb};
use crate::id::PeerId;
use snow::StatelessTransportState;
use std::fmt;
use std::sync::Arc;

const RECORD_LEN_MAX: usize = 65_535;
const TAG_LEN: usize = 16;
const CHUNK_LEN_MAX: usize = RECORD_LEN_MAX - TAG_LEN - 1;
const MORE: u8 = 1;
const LAST: u8 = 0;

/// The channel on which the supervisor's log is talked of; databases have the others.
pub const LOG_CHANNEL: u64 = 0;

/// A frame as it goes over one of a connection's channels: the channel as LEB128, then the frame.
pub fn on_channel(channel: u64, frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(frame.len() + 4);
    put_uleb(&mut out, channel);
    out.extend_from_slice(frame);
    out
}

/// The channel and the frame that [`on_channel`] put together.
pub fn split_channel(plain: &[u8]) -> Result<(u64, &[u8]), DecodeError> {
    let mut r = Reader::new(plain);
    Ok((r.uleb()?, r.rest()))
}

/// A frame does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// It was changed on the way, or one before it is missing.
    #[error("a frame was changed on the way, or one is missing")]
    Tampered,
    /// The key has been used as often as it may be.
    #[error("the connection is used up; connect anew")]
    Exhausted,
}

/// Both directions of an encrypted connection.
#[derive(Debug)]
pub struct Channel {
    /// Who is at the other end.
    pub peer: PeerId,
    /// What the server knows beyond the first version, such as [`crate::handshake::PIECES`].
    pub features: u32,
    /// What goes out.
    pub sealer: Sealer,
    /// What comes in.
    pub opener: Opener,
}

/// Encrypts what goes out.
pub struct Sealer {
    noise: Arc<StatelessTransportState>,
    next: u64,
}

/// Decrypts what comes in.
pub struct Opener {
    noise: Arc<StatelessTransportState>,
    next: u64,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.next)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener({})", self.next)
    }
}

/// Both directions from one key exchange.
pub(crate) fn pair(noise: StatelessTransportState) -> (Sealer, Opener) {
    let noise = Arc::new(noise);
    (Sealer { noise: noise.clone(), next: 0 }, Opener { noise, next: 0 })
}

impl Sealer {
    /// One message as one frame.
    pub fn seal(&mut self, message: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let records = message.len().div_ceil(CHUNK_LEN_MAX).max(1);
        let mut frame = vec![0; message.len() + records * (TAG_LEN + 1)];
        let (mut at, mut plain) = (0, Vec::with_capacity(CHUNK_LEN_MAX.min(message.len()) + 1));
        for n in 0..records {
            let chunk = &message[n * CHUNK_LEN_MAX..message.len().min((n + 1) * CHUNK_LEN_MAX)];
            plain.clear();
            plain.push(if n + 1 == records { LAST } else { MORE });
            plain.extend_from_slice(chunk);
            at += self
                .noise
                .write_message(self.next, &plain, &mut frame[at..])
                .map_err(|_| ChannelError::Exhausted)?;
            self.next += 1;
        }
        frame.truncate(at);
        Ok(frame)
    }
}

impl Opener {
    /// The message of a frame.
    pub fn open(&mut self, frame: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let mut message = Vec::with_capacity(frame.len());
        let mut plain = vec![0; RECORD_LEN_MAX.min(frame.len())];
        let records = frame.len().div_ceil(RECORD_LEN_MAX);
        for (n, record) in frame.chunks(RECORD_LEN_MAX).enumerate() {
            let len =
                self.noise.read_message(self.next, record, &mut plain).map_err(|_| ChannelError::Tampered)?;
            self.next += 1;
            let expected = if n + 1 == records { LAST } else { MORE };
            match plain[..len].split_first() {
                Some((flag, chunk)) if *flag == expected => message.extend_from_slice(chunk),
                _ => return Err(ChannelError::Tampered),
            }
        }
        if records == 0 { Err(ChannelError::Tampered) } else { Ok(message) }
    }
}
