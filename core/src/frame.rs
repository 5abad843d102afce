//! Frame: the changes of one segment as columns, which is what compresses well and decodes fast.
//!
//! Changes with the same list of operations share a *template*; what differs between them stands in
//! streams, one set for each operation of each template. Rows come in ascending order of key, so that
//! none can come twice. Actors other than the segment's own stand once, in a list.
//! The layout is in PROTOCOL.md. Everything is checked while it is read; no length is believed before
//! the bytes are there, and the number of values is capped before any run is expanded.

mod columns;
mod reader;
mod writer;

pub(crate) use columns::Columns;
pub use reader::{FrameReader, RowChange};
pub use writer::{FrameWriter, KeyRef};

use crate::bytes::{DecodeError, Reader};
use crate::change::{Action, Change};

/// Most changes in one frame.
pub const CHANGES_MAX: usize = 4096;
/// Most values (changes times operations) in one frame.
pub const VALUES_MAX: usize = 1 << 20;
/// Most operations on the root map in one change.
pub const OPS_MAX: usize = 2048;
/// Longest name of a column, in bytes.
pub const NAME_LEN_MAX: usize = 512;

/// What changes have in common: which keys they write and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    /// Whether it has no deps, no preds and starts at operation 1: an insert of a row never seen before.
    pub fresh: bool,
    /// What the change says under "".
    pub life: Life,
    /// The operations after "", in order.
    pub ops: Vec<(String, OpKind)>,
    /// Whether edits of texts follow.
    pub has_text: bool,
}

/// What a change says about the life of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    /// It opens an incarnation.
    Opens,
    /// It is written under one that is there.
    Under,
    /// It ends the row.
    Ends,
}

/// How an operation writes its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// A register gets a value.
    Put,
    /// A counter gets a number.
    Counter,
    /// A counter is added to.
    Increment,
    /// A text is made.
    MakeText,
}

impl OpKind {
    const ALL: [Self; 4] = [Self::Put, Self::Counter, Self::Increment, Self::MakeText];

    fn code(self) -> u8 {
        self as u8
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl Template {
    /// The template of an insert that nobody has seen before, into registers and counters.
    pub fn fresh_insert(ops: Vec<(String, OpKind)>) -> Self {
        Self { fresh: true, life: Life::Opens, ops, has_text: false }
    }

    /// The template of a change.
    fn of(change: &Change) -> Self {
        let life = match change.ops.first().map(|op| &op.action) {
            Some(Action::Dead) => Life::Ends,
            Some(Action::Live(actor)) if *actor == crate::change::OWN => Life::Opens,
            _ => Life::Under,
        };
        let ops = change
            .ops
            .iter()
            .skip(1)
            .map(|op| {
                let kind = match op.action {
                    Action::Counter(_) => OpKind::Counter,
                    Action::Increment(_) => OpKind::Increment,
                    Action::MakeText => OpKind::MakeText,
                    _ => OpKind::Put,
                };
                (op.key.clone(), kind)
            })
            .collect();
        let fresh = life == Life::Opens
            && change.deps.is_empty()
            && change.start_op == 1
            && change.ops.iter().all(|op| op.preds.is_empty());
        Self { fresh, life, ops, has_text: !change.text.is_empty() }
    }

    /// Its bytes as they stand in a frame.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![];
        writer::put_template(&mut out, self);
        out
    }

    /// From the bytes that [`to_bytes`](Self::to_bytes) gave.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let template = reader::read_template(&mut r)?;
        r.finish()?;
        Ok(template)
    }

    /// Whether a fresh change of this template is plain puts and counters, which [`RowChange::values`]
    /// holds whole.
    pub fn is_plain_insert(&self) -> bool {
        self.fresh
            && !self.has_text
            && self.ops.iter().all(|(_, k)| matches!(k, OpKind::Put | OpKind::Counter))
    }
}

/// Storage classes in a stream of values.
mod class {
    pub(super) const NULL: u8 = 0;
    pub(super) const INTEGER: u8 = 1;
    pub(super) const REAL: u8 = 2;
    pub(super) const TEXT: u8 = 3;
    pub(super) const BLOB: u8 = 4;
    pub(super) const RAW_TEXT: u8 = 5;
}

#[cfg(test)]
mod tests;
