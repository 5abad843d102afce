//! Work: what a segment asks of everyone who takes it in, counted before anything is evaluated.
//!
//! Bytes do not bound work: compressed, and written as runs, a few stand for millions of elements. The limits are several
//! times what a replica of ours puts into a segment: it begins another at half of them (`capture`).

use crate::bytes::DecodeError;
use crate::change::{Change, TextRun};
use crate::segment::Segment;

/// Most runs of edits in texts.
pub const RUNS_MAX: u64 = 1 << 14;
/// Most elements that runs insert or delete, by their lengths.
pub const ELEMENTS_MAX: u64 = 1 << 28;
/// Most changes and operations that others are built on: dependencies and predecessors.
pub const LINKS_MAX: u64 = 1 << 18;

/// What changes expand to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Runs of edits in texts.
    pub runs: u64,
    /// Elements that they insert or delete.
    pub elements: u64,
    /// Dependencies of changes and predecessors of operations.
    pub links: u64,
}

impl Work {
    /// Returns that of a segment; an error if its frame cannot be read, which is bounded by its plain bytes.
    ///
    /// Reading stops at the first change that is beyond a limit.
    pub fn of(segment: &Segment) -> Result<Self, DecodeError> {
        let mut work = Self::default();
        let mut changes = segment.changes()?;
        // Plain inserts link to nothing and hold no texts: their values were counted with the frame's head.
        if changes.templates().all(|template| template.is_plain_insert()) {
            return Ok(work);
        }
        while let Some(row) = changes.next_change()?
            && work.is_allowed()
        {
            if !row.template.is_plain_insert() {
                work.add(&row.into_change());
            }
        }
        Ok(work)
    }

    /// Adds that of a change.
    pub fn add(&mut self, change: &Change) {
        let preds = change.ops.iter().map(|op| op.preds.len());
        self.links += (change.deps.len() + preds.sum::<usize>()) as u64;
        self.runs += change.text.len() as u64;
        self.elements = change.text.iter().map(TextRun::elements).fold(self.elements, u64::saturating_add);
    }

    /// Whether a segment with so much is taken in.
    pub fn is_allowed(&self) -> bool {
        self.runs <= RUNS_MAX && self.elements <= ELEMENTS_MAX && self.links <= LINKS_MAX
    }

    /// Whether an author begins another segment: at half of a limit, so that one more change fits.
    pub(crate) fn is_plenty(&self) -> bool {
        self.runs > RUNS_MAX / 2 || self.elements > ELEMENTS_MAX / 2 || self.links > LINKS_MAX / 2
    }
}
