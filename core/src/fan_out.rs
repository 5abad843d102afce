//! Fan-out: the parts of feeds that went out lately, kept so that all who lack the same share one read and one encoding.
//!
//! A part is known by where it begins and ends. Both are proofs of everything before them, so whoever has come to the
//! one and shall come to the other lacks these very segments.

use crate::message::{Cursor, Message, Segments};
use std::collections::VecDeque;
use std::sync::Arc;

/// Parts kept: what one transaction in a few tables makes.
const PARTS_MAX: usize = 8;
/// Their bytes, encoded; a single larger one is kept until it is told to be let go.
const BYTES_MAX: usize = 1 << 20;

/// A part of a feed.
#[derive(Debug)]
struct Part {
    /// The container's number here.
    container: i64,
    /// What is said to whoever lacks it.
    message: Segments,
    /// The numbers of the peers that some of it came from: they lack less.
    origins: Vec<i64>,
    /// The frame that says it, once one has been made.
    frame: Option<Arc<[u8]>>,
}

/// The parts that went out lately, newest last.
#[derive(Debug, Default)]
pub(crate) struct FanOut(VecDeque<Part>);

impl FanOut {
    /// The cached feed slice starting at `from`, if one was sent recently. The caller must check that it is still part of the
    /// feed.
    pub(crate) fn find(&self, container: i64, from: &Cursor, peer: Option<i64>) -> Option<&Segments> {
        let lacks = |part: &&Part| peer.is_none_or(|peer| !part.origins.contains(&peer));
        let is_it = |part: &&Part| part.container == container && part.message.from == *from;
        self.0.iter().rev().filter(is_it).find(lacks).map(|part| &part.message)
    }

    /// Keeps a part.
    pub(crate) fn keep(&mut self, container: i64, message: Segments, origins: Vec<i64>) {
        self.0.push_back(Part { container, message, origins, frame: None });
        while self.0.len() > 1 && (self.0.len() > PARTS_MAX || self.bytes() > BYTES_MAX) {
            self.0.pop_front();
        }
    }

    /// The frame of a message, which is encoded at the first time if it says a part that is kept.
    pub(crate) fn frame(&mut self, message: &Message, encode: impl FnOnce() -> Vec<u8>) -> Arc<[u8]> {
        let Message::Segments(said) = message else { return encode().into() };
        let part = self.0.iter_mut().rev().find(|part| part.message.is_same(said));
        match part {
            Some(part) => part.frame.get_or_insert_with(|| encode().into()).clone(),
            None => encode().into(),
        }
    }

    /// Lets a large part go.
    pub(crate) fn let_go(&mut self) {
        if self.bytes() > BYTES_MAX {
            self.0.clear();
        }
    }

    fn bytes(&self) -> usize {
        let bytes = |part: &Part| part.message.segments.iter().map(|s| s.len()).sum::<usize>();
        self.0.iter().map(bytes).sum()
    }
}

impl Segments {
    /// Whether it is the same in memory; no bytes are compared.
    fn is_same(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<[u8]>, &Arc<[u8]>)| Arc::ptr_eq(a, b);
        (self.from, self.reach, self.segments.len()) == (other.from, other.reach, other.segments.len())
            && !self.segments.is_empty()
            && self.segments.iter().zip(&other.segments).all(same)
    }
}
