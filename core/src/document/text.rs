//! Text: the characters of one text in order, deleted ones too, as Automerge orders them.
//!
//! A character stands behind the one it was inserted after; of several inserted after the same one, the greatest
//! comes first. So a new one goes behind that one and all greater ones that follow, which are those and what was
//! inserted behind them. Characters of one change that stand side by side are one span; spans stand in blocks, each with
//! the characters that show, so that an edit costs the same however many there were before, and however long the text is.

use crate::id::Actor;
use std::collections::BTreeMap;

/// Spans of a block at which it is cut in two.
const BLOCK_SPANS: usize = if cfg!(test) { 4 } else { 256 };
/// Bytes of a block at which it is cut in two.
const BLOCK_BYTES: usize = if cfg!(test) { 12 } else { 16 << 10 };
/// Most characters of a span.
const SPAN_CHARS: usize = if cfg!(test) { 3 } else { 1024 };

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
    /// What shows of them.
    content: String,
    /// The least counter with which one of its spans begins.
    least: u32,
    /// Its place in the order of blocks.
    place: usize,
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
    /// Deleted characters: for the first of each run the counter behind its last. No two runs touch.
    gone: BTreeMap<Element, u32>,
    /// Spans and blocks looked at so far.
    steps: u64,
}

impl Text {
    /// Inserts the characters of a change with counters from `from` on, the first behind `after`.
    ///
    /// `actors` are those of all changes by their numbers.
    pub(super) fn insert(
        &mut self,
        actors: &[Actor],
        after: Option<Element>,
        (author, mut from): Element,
        mut text: &str,
    ) {
        let rank = |(author, counter): Element| (counter, actors[author as usize]);
        let new = rank((author, from));
        let mut place = match after {
            None => Place { block: 0, span: 0 },
            Some(after) => {
                let Some((place, offset)) = self.find(after) else { return };
                // The rest of the span was inserted behind it as well.
                let cut = rank((after.0, after.1 + 1)) < new && self.split(place, offset + 1);
                let place = if cut { self.find(after).map_or(place, |(place, _)| place) } else { place };
                Place { span: place.span + 1, ..place }
            }
        };
        while let Some(span) = self.span_at(&mut place, new.0)
            && rank((span.author, span.from)) > new
        {
            place.span += 1;
        }
        while !text.is_empty() {
            let end = text.char_indices().nth(SPAN_CHARS).map_or(text.len(), |(at, _)| at);
            let (piece, rest) = text.split_at(end);
            let len = piece.chars().count() as u32;
            self.put(place, Span { author, from, len, bytes: end as u32 }, piece);
            (text, from) = (rest, from + len);
            let Some((last, _)) = self.find((author, from - 1)) else { return };
            place = Place { span: last.span + 1, ..last };
        }
    }

    /// Deletes `count` characters with rising counters. Those that are deleted already cost nothing.
    pub(super) fn delete(&mut self, (author, first): Element, count: u32) {
        let end = first.saturating_add(count);
        let (mut from, mut to, mut at) = (first, end, first);
        while at < end {
            self.steps += 1;
            if let Some(((by, start), behind)) = self.gone.range(..=(author, at)).next_back()
                && *by == author
                && *behind >= at
            {
                from = from.min(*start);
                to = to.max(*behind);
                at = at.max(*behind);
                let start = *start;
                self.gone.remove(&(author, start));
                continue;
            }
            let next = self.gone.range((author, at)..).next().map(|((by, start), _)| (*by, *start));
            let until =
                next.filter(|(by, start)| *by == author && *start < end).map_or(end, |(_, start)| start);
            if !self.kill(author, at, until) {
                break;
            }
            at = until;
        }
        // Another run may begin where this one ends.
        if let Some(behind) = self.gone.remove(&(author, to)) {
            to = behind;
        }
        self.gone.insert((author, from), to);
    }

    /// Deletes characters of which none is deleted; false if there is one that is not here.
    fn kill(&mut self, author: u32, mut at: u32, end: u32) -> bool {
        while at < end {
            let Some((mut place, offset)) = self.find((author, at)) else { return false };
            if self.split(place, offset) {
                let Some((found, _)) = self.find((author, at)) else { return false };
                place = found;
            }
            if self.split(place, end - at) {
                let Some((found, _)) = self.find((author, at)) else { return false };
                place = found;
            }
            let from = self.bytes_before(place);
            let block = &mut self.blocks[self.order[place.block] as usize];
            let span = &mut block.spans[place.span];
            let gone = std::mem::take(&mut span.bytes) as usize;
            at += span.len;
            block.content.replace_range(from..from + gone, "");
        }
        true
    }

    /// Writes what shows into `content`.
    pub(super) fn write_to(&self, content: &mut String) {
        content.clear();
        self.order.iter().for_each(|number| content.push_str(&self.blocks[*number as usize].content));
    }

    /// The characters that stand in some bytes of what shows, as runs: the first, and how many.
    pub(super) fn elements(&self, from: usize, to: usize) -> Vec<(Element, u32)> {
        let mut found: Vec<(Element, u32)> = vec![];
        let mut before = 0;
        for number in &self.order {
            let block = &self.blocks[*number as usize];
            let (begin, mut at) = (before, before);
            before += block.content.len();
            if before <= from {
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
                let part = |from: usize, to: usize| &block.content[from - begin..to - begin];
                let skipped = chars(span, part(start, from.max(start)));
                let many = chars(span, part(from.max(start), to.min(end)));
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
        let content = |block: &Block| block.content.len();
        self.starts.len() * 64 + self.gone.len() * 32 + self.blocks.iter().map(content).sum::<usize>()
    }

    /// Spans and blocks looked at so far.
    #[cfg(test)]
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    fn find(&mut self, element: Element) -> Option<(Place, u32)> {
        let (start, number) = self.starts.range(..=element).next_back()?;
        let block = &self.blocks[*number as usize];
        let is_it = |span: &Span| (span.author, span.from) == *start;
        let span = block.spans.iter().position(is_it)?;
        self.steps += span as u64 + 1;
        let offset = element.1 - start.1;
        let there = start.0 == element.0 && offset < block.spans[span].len;
        there.then_some((Place { block: block.place, span }, offset))
    }

    fn span(&self, place: Place) -> Span {
        self.blocks[self.order[place.block] as usize].spans[place.span]
    }

    /// The span at a place, which moves on to the next block at the end of one; past blocks of which all spans begin
    /// with counters above `counter`.
    fn span_at(&mut self, place: &mut Place, counter: u32) -> Option<Span> {
        loop {
            self.steps += 1;
            let block = &self.blocks[*self.order.get(place.block)? as usize];
            let passed = place.span == 0 && block.least > counter;
            if let Some(span) = block.spans.get(place.span).filter(|_| !passed) {
                return Some(*span);
            }
            if place.block + 1 == self.order.len() {
                place.span = block.spans.len();
                return None;
            }
            *place = Place { block: place.block + 1, span: 0 };
        }
    }

    /// Bytes of its block's content before a place.
    fn bytes_before(&mut self, place: Place) -> usize {
        self.steps += place.span as u64;
        let block = self.order.get(place.block).map(|n| &self.blocks[*n as usize]);
        let spans = block.into_iter().flat_map(|block| &block.spans[..place.span]);
        spans.map(|s| s.bytes as usize).sum()
    }

    /// Cuts a span before its character `offset`, unless it begins or ends there; whether it did.
    fn split(&mut self, place: Place, offset: u32) -> bool {
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
            let block = &self.blocks[self.order[place.block] as usize];
            let text = &block.content[from..from + span.bytes as usize];
            text.char_indices().nth(offset as usize).map_or(span.bytes, |(at, _)| at as u32)
        };
        let block = &mut self.blocks[self.order[place.block] as usize];
        block.spans[place.span] = Span { len: offset, bytes, ..span };
        let rest =
            Span { from: span.from + offset, len: span.len - offset, bytes: span.bytes - bytes, ..span };
        self.put(Place { span: place.span + 1, ..place }, rest, "");
        true
    }

    /// Puts a span with its new characters at a place, and cuts its block in two if it is full.
    fn put(&mut self, place: Place, span: Span, new: &str) {
        if self.order.is_empty() {
            self.order.push(0);
            self.blocks.push(Block { least: span.from, ..Block::default() });
        }
        let at = if new.is_empty() { 0 } else { self.bytes_before(place) };
        let number = self.order[place.block];
        let block = &mut self.blocks[number as usize];
        block.spans.insert(place.span, span);
        block.content.insert_str(at, new);
        block.least = block.least.min(span.from);
        self.starts.insert((span.author, span.from), number);
        let full = block.spans.len() > BLOCK_SPANS || block.content.len() > BLOCK_BYTES;
        if !full || block.spans.len() < 2 {
            return;
        }
        let spans = block.spans.split_off(block.spans.len() / 2);
        let bytes: usize = block.spans.iter().map(|s| s.bytes as usize).sum();
        let content = block.content.split_off(bytes);
        let least = |spans: &[Span]| spans.iter().map(|s| s.from).min().unwrap_or(0);
        block.least = least(&block.spans);
        let new = self.blocks.len() as u32;
        spans.iter().for_each(|s| {
            self.starts.insert((s.author, s.from), new);
        });
        let least = least(&spans);
        self.blocks.push(Block { spans, content, least, place: 0 });
        self.order.insert(place.block + 1, new);
        for (place, number) in self.order.iter().enumerate().skip(place.block + 1) {
            self.blocks[*number as usize].place = place;
            self.steps += 1;
        }
    }
}

/// How many characters a part of a span has.
fn chars(span: &Span, part: &str) -> u32 {
    if span.bytes == span.len { part.len() as u32 } else { part.chars().count() as u32 }
}
