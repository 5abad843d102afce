//! Text: the characters of one text in order, deleted ones too, as Automerge orders them.
//!
//! A character stands behind the one it was inserted after; of several inserted after the same one, the greatest
//! comes first. So a new one goes behind that one and all greater ones that follow, which are those and what was
//! inserted behind them. Characters of one change that stand side by side are one span; spans stand in blocks, so
//! that an edit costs the same however many there were before. What is not deleted is kept beside it as a string.

use crate::id::Actor;
use std::collections::BTreeMap;

/// Spans of a block at which it is cut in two.
const BLOCK_SPANS: usize = if cfg!(test) { 4 } else { 256 };

/// A character: the number of the change that inserted it, and its counter there.
pub(super) type Element = (u32, u32);

/// Characters with rising counters, side by side.
#[derive(Debug, Clone, Copy)]
struct Span {
    author: u32,
    from: u32,
    len: u32,
    /// How long they are in the content; 0: they are deleted.
    bytes: u32,
}

#[derive(Debug, Clone, Default)]
struct Block {
    spans: Vec<Span>,
    bytes: usize,
}

/// The place of a span: its block in the order of blocks, and its place in it.
#[derive(Debug, Clone, Copy)]
struct Place {
    block: usize,
    span: usize,
}

/// One text.
#[derive(Debug, Clone, Default)]
pub(super) struct Text {
    blocks: Vec<Block>,
    /// Numbers of blocks, in the order of the text.
    order: Vec<u32>,
    /// For each span, by its first character, the number of its block.
    starts: BTreeMap<Element, u32>,
}

impl Text {
    /// Inserts the characters of a change with counters from `from` on, the first behind `after`.
    ///
    /// `actors` are those of all changes by their numbers; `content` is what the text shows.
    pub(super) fn insert(
        &mut self,
        content: &mut String,
        actors: &[Actor],
        after: Option<Element>,
        (author, from): Element,
        text: &str,
    ) {
        let rank = |(author, counter): Element| (counter, actors[author as usize]);
        let new = rank((author, from));
        let mut place = match after {
            None => Place { block: 0, span: 0 },
            Some(after) => {
                let Some((place, offset)) = self.find(after) else { return };
                // The rest of the span was inserted behind it as well.
                let cut = rank((after.0, after.1 + 1)) < new && self.split(content, place, offset + 1);
                let place = if cut { self.find(after).map_or(place, |(place, _)| place) } else { place };
                Place { span: place.span + 1, ..place }
            }
        };
        while let Some(span) = self.span_at(&mut place)
            && rank((span.author, span.from)) > new
        {
            place.span += 1;
        }
        content.insert_str(self.bytes_before(place), text);
        let span = Span { author, from, len: text.chars().count() as u32, bytes: text.len() as u32 };
        self.put(place, span);
    }

    /// Deletes `count` characters with rising counters; some may be deleted already.
    pub(super) fn delete(&mut self, content: &mut String, (author, first): Element, count: u32) {
        let (mut at, end) = (first, first.saturating_add(count));
        while at < end {
            let Some((mut place, offset)) = self.find((author, at)) else { return };
            let span = self.span(place);
            let many = (span.len - offset).min(end - at);
            at += many;
            if span.bytes == 0 {
                continue;
            }
            if self.split(content, place, offset) {
                place = self.find((author, at - many)).map_or(place, |(place, _)| place);
            }
            if self.split(content, place, many) {
                place = self.find((author, at - many)).map_or(place, |(place, _)| place);
            }
            let from = self.bytes_before(place);
            let block = &mut self.blocks[self.order[place.block] as usize];
            let gone = std::mem::take(&mut block.spans[place.span].bytes) as usize;
            block.bytes -= gone;
            content.replace_range(from..from + gone, "");
        }
    }

    /// The characters that stand in some bytes of the content, as runs: the first, and how many.
    pub(super) fn elements(&self, content: &str, from: usize, to: usize) -> Vec<(Element, u32)> {
        let mut found: Vec<(Element, u32)> = vec![];
        let mut at = 0;
        for number in &self.order {
            let block = &self.blocks[*number as usize];
            if at + block.bytes <= from {
                at += block.bytes;
                continue;
            }
            for span in &block.spans {
                let (start, end) = (at, at + span.bytes as usize);
                at = end;
                if end <= from || span.bytes == 0 {
                    continue;
                }
                if start >= to {
                    return found;
                }
                let skipped = chars(span, &content[start..from.max(start)]);
                let many = chars(span, &content[from.max(start)..to.min(end)]);
                let first = (span.author, span.from + skipped);
                match found.last_mut() {
                    Some(((author, from), count)) if (*author, *from + *count) == first => *count += many,
                    _ => found.push((first, many)),
                }
            }
        }
        found
    }

    /// The bytes it takes in memory, roughly.
    pub(super) fn size(&self) -> usize {
        self.starts.len() * 64
    }

    fn find(&self, element: Element) -> Option<(Place, u32)> {
        let (start, number) = self.starts.range(..=element).next_back()?;
        let block = self.order.iter().position(|n| n == number)?;
        let is_it = |span: &Span| (span.author, span.from) == *start;
        let span = self.blocks[*number as usize].spans.iter().position(is_it)?;
        let offset = element.1 - start.1;
        let there = start.0 == element.0 && offset < self.blocks[*number as usize].spans[span].len;
        there.then_some((Place { block, span }, offset))
    }

    fn span(&self, place: Place) -> Span {
        self.blocks[self.order[place.block] as usize].spans[place.span]
    }

    /// The span at a place, which moves on to the next block at the end of one.
    fn span_at(&self, place: &mut Place) -> Option<Span> {
        loop {
            let block = &self.blocks[*self.order.get(place.block)? as usize];
            if let Some(span) = block.spans.get(place.span) {
                return Some(*span);
            }
            if place.block + 1 == self.order.len() {
                return None;
            }
            *place = Place { block: place.block + 1, span: 0 };
        }
    }

    fn bytes_before(&self, place: Place) -> usize {
        let before = self.order.iter().take(place.block).map(|n| self.blocks[*n as usize].bytes);
        let spans = self.order.get(place.block).map(|n| &self.blocks[*n as usize].spans[..place.span]);
        before.sum::<usize>() + spans.into_iter().flatten().map(|s| s.bytes as usize).sum::<usize>()
    }

    /// Cuts a span before its character `offset`, unless it begins or ends there; whether it did.
    fn split(&mut self, content: &str, place: Place, offset: u32) -> bool {
        let span = self.span(place);
        if offset == 0 || offset >= span.len {
            return false;
        }
        let bytes = if span.bytes == 0 {
            0
        } else if span.bytes == span.len {
            offset
        } else {
            let from = self.bytes_before(place);
            let text = &content[from..from + span.bytes as usize];
            text.char_indices().nth(offset as usize).map_or(span.bytes, |(at, _)| at as u32)
        };
        let block = &mut self.blocks[self.order[place.block] as usize];
        block.spans[place.span] = Span { len: offset, bytes, ..span };
        let rest =
            Span { from: span.from + offset, len: span.len - offset, bytes: span.bytes - bytes, ..span };
        block.bytes -= rest.bytes as usize;
        self.put(Place { span: place.span + 1, ..place }, rest);
        true
    }

    /// Puts a span at a place, and cuts its block in two if it is full.
    fn put(&mut self, place: Place, span: Span) {
        if self.order.is_empty() {
            self.order.push(0);
            self.blocks.push(Block::default());
        }
        let number = self.order[place.block];
        let block = &mut self.blocks[number as usize];
        block.spans.insert(place.span, span);
        block.bytes += span.bytes as usize;
        self.starts.insert((span.author, span.from), number);
        if block.spans.len() <= BLOCK_SPANS {
            return;
        }
        let spans = block.spans.split_off(BLOCK_SPANS / 2);
        let bytes = spans.iter().map(|s| s.bytes as usize).sum();
        block.bytes -= bytes;
        let new = self.blocks.len() as u32;
        spans.iter().for_each(|s| {
            self.starts.insert((s.author, s.from), new);
        });
        self.blocks.push(Block { spans, bytes });
        self.order.insert(place.block + 1, new);
    }
}

/// How many characters a part of a span has.
fn chars(span: &Span, part: &str) -> u32 {
    if span.bytes == span.len { part.len() as u32 } else { part.chars().count() as u32 }
}
