//! Incoming: a received frame before the link handles it: parsed, memory reserved for its decompressed size, then its segments
//! verified and decompressed.
//!
//! All of that needs the bytes alone, so it runs where they were received, while the thread that owns the replica is busy with
//! earlier frames. An error in a frame is reported when the link handles it, in the order of arrival.

use super::MESSAGE;
use crate::bytes::{DecodeError, Reader};
use crate::id::ContainerId;
use crate::message::{Cursor, Heard, Message, Segments};
use crate::segment::{Segment, SegmentError};

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

/// How many changes are in a part of a feed; None if one of its segments cannot be read.
fn changes(said: &Segments<Result<Segment, SegmentError>>) -> Option<u64> {
    said.segments.iter().map(|segment| Some(u64::from(segment.as_ref().ok()?.header.count))).sum()
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

    /// Appends the frame `next` if its segments follow from those of this one, so that one transaction applies both: pages that
    /// their rows share are then read and written once. Returns `next` if they do not, or if both had more than `most` changes.
    ///
    /// What cannot be read stays apart, so that it stops nothing that came before it.
    pub fn join(&mut self, next: Self, most: u64) -> Option<Self> {
        let (Some((id, said)), Some((next_id, after))) = (self.segments(), next.segments()) else {
            return Some(next);
        };
        let goes_on = id == next_id && after.from == said.reach && after.reach != Cursor::START;
        if !goes_on || changes(said).zip(changes(after)).is_none_or(|(own, new)| own + new > most) {
            return Some(next);
        }
        self.len += next.len;
        if let (
            Content::Message(Ok((_, Message::Segments(said)))),
            Content::Message(Ok((_, Message::Segments(after)))),
        ) = (&mut self.content, next.content)
        {
            said.reach = after.reach;
            said.segments.extend(after.segments);
        }
        None
    }

    /// The part of a feed that it brings.
    fn segments(&self) -> Option<(ContainerId, &Segments<Result<Segment, SegmentError>>)> {
        match &self.content {
            Content::Message(Ok((id, Message::Segments(said)))) if !said.segments.is_empty() => {
                Some((*id, said))
            }
            _ => None,
        }
    }

    /// Whether there are segments in it.
    pub fn brings_segments(&self) -> bool {
        self.segments().is_some()
    }

    /// The frame as it came, if it holds no container's message; else nothing.
    pub fn other(&self) -> &[u8] {
        match &self.content {
            Content::Message(_) => &[],
            Content::Other(frame) => frame,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Seq, Timestamp};
    use crate::identity::Identity;

    fn cursor(seq: u64) -> Cursor {
        Cursor { seq: Seq(seq), hash: [seq as u8; 32] }
    }

    /// A frame with a segment of two changes, from one place of a feed to another.
    fn frame(container: u8, from: Cursor, reach: Cursor, damaged: bool) -> Opened {
        let identity = Identity::from_seed([1; 32]);
        let id = ContainerId([container; 32]);
        let sealed = Segment::seal(&identity, id, [reach.seq.0 as u8; 8], Timestamp(4), 2, vec![0; 64]);
        let mut bytes = sealed.expect("it is small enough").bytes().to_vec();
        if damaged {
            *bytes.last_mut().expect("it has bytes") ^= 1;
        }
        let mut frame = vec![MESSAGE];
        frame.extend(id.0);
        Message::Segments(Segments { from, reach, segments: vec![bytes.into()] }).encode(&mut frame);
        Incoming::read(&frame).open()
    }

    #[test]
    fn frames_join_where_one_goes_on_from_the_other_and_can_be_read() {
        let mut first = frame(1, cursor(1), cursor(2), false);
        let len = first.frame_len();
        assert!(first.join(frame(1, cursor(2), cursor(3), false), 4).is_none(), "it goes on");
        let (id, said) = first.segments().expect("it has segments");
        assert_eq!(
            (id, said.from, said.reach, said.segments.len()),
            (ContainerId([1; 32]), cursor(1), cursor(3), 2)
        );
        assert_eq!(first.frame_len(), 2 * len);
        let apart = [
            (frame(1, cursor(3), cursor(4), false), 5, "too many changes"),
            (frame(2, cursor(3), cursor(4), false), 9, "another container"),
            (frame(1, cursor(4), cursor(5), false), 9, "a gap"),
            (frame(1, cursor(3), Cursor::START, false), 9, "it moves no cursor"),
            (frame(1, cursor(3), cursor(4), true), 9, "it cannot be read"),
        ];
        for (next, most, why) in apart {
            let back = first.join(next, most).expect(why);
            assert!(back.brings_segments(), "{why}");
        }
        let mut damaged = frame(1, cursor(1), cursor(2), true);
        damaged.join(frame(1, cursor(2), cursor(3), false), 9).expect("what cannot be read stays apart");
    }
}
