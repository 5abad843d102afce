//! Change: what one author did to one row at one moment, as Automerge operations in our own types.
//!
//! A change is a handful of puts on the document's root map, sometimes followed by edits inside its
//! texts; Automerge knows more, we use no more. `change_codec` turns it into Automerge's bytes and back.
//! The key "" comes first in every change: it says under which incarnation of the row it was written,
//! or that the row is deleted. seq is always 1 and the change's time field 0: the actor names the moment.

use crate::id::{Actor, ChangeHash};
use crate::value::Value;

/// Stands inside a change for the change's own actor, which is a hash over the change and so not known
/// to it.
pub const OWN: Actor = Actor([0; Actor::LEN]);

/// The name of one operation: Automerge's counter and the actor. Sorts as Automerge's Lamport order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// start_op of its change plus its place in it; at most u32::MAX.
    pub counter: u64,
    /// The actor of its change; [`OWN`] inside that very change.
    pub actor: Actor,
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Change {
    /// The heads it was made on, ascending.
    pub deps: Vec<ChangeHash>,
    /// Counter of its first operation: one more than the greatest in its causal history, from 1.
    pub start_op: u64,
    /// Operations on the root map, "" first.
    pub ops: Vec<Op>,
    /// Edits of texts, after the root operations. Each inserted character and each deleted one is an
    /// operation with a counter of its own, in this order.
    pub text: Vec<TextRun>,
}

impl Change {
    /// The number of its operations: each inserted character and each deleted one is one.
    pub fn operations(&self) -> u64 {
        let elements = self.text.iter().map(TextRun::elements);
        elements.fold(self.ops.len() as u64, u64::saturating_add)
    }
}

impl TextRun {
    /// The number of elements that it inserts or deletes.
    pub fn elements(&self) -> u64 {
        match self {
            Self::Insert { text, .. } => text.chars().count() as u64,
            Self::Delete { count, .. } => *count,
        }
    }
}

/// One operation on the root map.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// The column's name, or "".
    pub key: String,
    /// What it does there.
    pub action: Action,
    /// The operations it replaces (or increments), ascending in Lamport order.
    pub preds: Vec<OpId>,
}

/// What an operation does to its key.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Key "" only: the row lives under this incarnation ([`OWN`]: this change opens it).
    /// In Automerge: bytes, the incarnation's actor then the change's own actor, 44 in all.
    Live(Actor),
    /// Key "" only: the row is deleted. In Automerge: false.
    Dead,
    /// Sets a register. In Automerge: null, int, f64, str, bytes; a RawText is unknown type code 10.
    Put(Value),
    /// Sets a counter to a number.
    Counter(i64),
    /// Adds to the counters in `preds`.
    Increment(i64),
    /// Makes a new, empty text; its object id is this operation's id.
    MakeText,
}

/// The most elements that one run deletes.
pub(crate) const DELETIONS_MAX: u64 = 1 << 20;

/// A run of edits inside one text.
#[derive(Debug, Clone, PartialEq)]
pub enum TextRun {
    /// Inserts the characters one after another, the first after the element `after` (None: at the start).
    Insert {
        /// The text's object id.
        object: OpId,
        /// The element to insert after.
        after: Option<OpId>,
        /// What to insert; one operation each Unicode scalar value. Never empty.
        text: String,
    },
    /// Deletes `count` elements whose ids have the same actor and rising counters `first`, `first`+1, …
    Delete {
        /// The text's object id.
        object: OpId,
        /// The first element to go.
        first: OpId,
        /// How many; at least 1, and bounded in a frame.
        count: u64,
    },
}

/// How concurrent values of a column come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Merge {
    /// The later one shows, the others are conflicts.
    #[default]
    Register,
    /// Differences add up.
    Counter,
    /// Edits merge by character.
    Text,
}

impl Merge {
    /// Its code in descriptions.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// From its code.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Register, Self::Counter, Self::Text].get(usize::from(code)).copied()
    }
}
