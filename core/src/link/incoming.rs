//! Incoming: a received frame before the link handles it: parsed, memory reserved for its decompressed size, then its segments
//! verified and decompressed.
//!
//! All of that needs the bytes alone, so it runs where they were received, while the thread that owns the replica is busy with
//! earlier frames. An error in a frame is reported when the link handles it, in the order of arrival.

use super::MESSAGE;
use crate::bytes::{DecodeError, Reader};
use crate::id::ContainerId;
use crate::message::{Heard, Message};

/// A frame as it came.
#[derive(Debug)]
pub struct Incoming {
    content: Content<Message>,
    len: usize,
}

/// A frame whose segments are opened.
#[derive(Debug)]
pub struct Opened {
    pub(super) content: Content<Heard>,
    len: usize,
}

/// What is in a frame.
#[derive(Debug)]
pub(super) enum Content<M> {
    /// A container's message.
    Message(Result<(ContainerId, M), DecodeError>),
    /// Anything else, as it came.
    Other(Vec<u8>),
}

impl Incoming {
    /// Reads a frame.
    pub fn read(frame: &[u8]) -> Self {
        let content = match frame.split_first() {
            Some((&MESSAGE, rest)) => Content::Message(read_message(rest)),
            _ => Content::Other(frame.to_vec()),
        };
        Self { content, len: frame.len() }
    }

    /// How much memory it takes once it is opened; as its segments claim, which do not open to more.
    pub fn opened_len(&self) -> usize {
        match &self.content {
            Content::Message(Ok((_, message))) => self.len + message.opened_len(),
            _ => self.len,
        }
    }

    /// Opens it.
    pub fn open(self) -> Opened {
        let content = match self.content {
            Content::Message(message) => Content::Message(message.map(|(id, message)| (id, message.open()))),
            Content::Other(frame) => Content::Other(frame),
        };
        Opened { content, len: self.len }
    }
}

fn read_message(bytes: &[u8]) -> Result<(ContainerId, Message), DecodeError> {
    let mut r = Reader::new(bytes);
    Ok((ContainerId(r.array()?), Message::decode(r.rest())?))
}

impl Opened {
    /// Bytes of the frame as it came.
    pub fn frame_len(&self) -> usize {
        self.len
    }

    /// Whether there are segments in it.
    pub fn brings_segments(&self) -> bool {
        matches!(&self.content, Content::Message(Ok((_, Message::Segments(said)))) if !said.segments.is_empty())
    }

    /// The frame as it came, if it holds no container's message; else nothing.
    pub fn other(&self) -> &[u8] {
        match &self.content {
            Content::Message(_) => &[],
            Content::Other(frame) => frame,
        }
    }
}
