//! Plain: a document that is one plain insert and nothing else, as most rows are. What an edit of it must
//! look like is known without evaluating anything.

use crate::change::{Action, Change, Op, OpId};
use crate::frame::Template;
use crate::id::{Actor, ChangeHash};
use crate::value::Value;

/// The plain insert that is all of a document, without its values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain<'a> {
    /// Its operations; all of them put registers.
    pub(crate) template: &'a Template,
    /// Its actor.
    pub(crate) actor: Actor,
    /// Its hash.
    pub(crate) hash: ChangeHash,
}

impl Plain<'_> {
    /// The change that sets these registers of the row.
    pub(crate) fn edit(&self, columns: Vec<(String, Value)>) -> Change {
        let life = (String::new(), Action::Live(self.actor));
        let puts = columns.into_iter().map(|(key, value)| (key, Action::Put(value)));
        self.change(std::iter::once(life).chain(puts))
    }

    /// The change that deletes the row.
    pub(crate) fn delete(&self) -> Change {
        self.change(std::iter::once((String::new(), Action::Dead)))
    }

    fn change(&self, ops: impl Iterator<Item = (String, Action)>) -> Change {
        let ops = ops.map(|(key, action)| Op { preds: self.preds(&key), key, action }).collect();
        Change { deps: vec![self.hash], start_op: self.next_counter(), ops, text: vec![] }
    }

    fn next_counter(&self) -> u64 {
        self.template.ops.len() as u64 + 2
    }

    /// What stands under a key.
    fn preds(&self, key: &str) -> Vec<OpId> {
        let place = match key {
            "" => Some(0),
            key => self.template.ops.iter().position(|(name, _)| name == key).map(|n| n + 1),
        };
        place.map(|n| OpId { counter: n as u64 + 1, actor: self.actor }).into_iter().collect()
    }
}
