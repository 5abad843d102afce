//! Baseline: the state of a document without its changes, enough to judge, author and show the next one.
//!
//! It has the heads, the greatest counter and the live cells. A change that builds on exactly its heads is judged by the rules
//! of `evaluate`, and takes its place in it; anything else needs all changes. Documents with texts, with waiting or void
//! changes, or with concurrent edits of replaced counters have no baseline.
//! Values above `INLINE_MAX` bytes are kept as a digest and the place of the change that wrote them; those of a plain insert may
//! be left unread until somebody needs them.

mod bytes;
mod names;

use super::{Cell, Content, View};
use crate::change::{Action, Change, OWN, Op, OpId};
use crate::change_codec::COUNTER_MAX;
use crate::frame::{OpKind, Template};
use crate::id::{Actor, ChangeHash};
use crate::store::documents::At;
use crate::value::{Value, ValueRef};
use names::shared;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The largest value that is copied.
const INLINE_MAX: usize = 256;
/// Documents with more heads have no baseline.
const HEADS_MAX: usize = 32;
/// Changes with more operations have their keys compared by hashing.
const FEW_OPS: usize = 16;

/// The first half of the SHA-256 of a value with its storage class.
pub(crate) type Digest = [u8; 16];

/// The state of a document after all of its changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Baseline {
    heads: Vec<ChangeHash>,
    max_op: u64,
    /// The number of changes.
    count: u64,
    /// The greatest place of a change.
    last: At,
    /// By key, then by id.
    cells: Vec<BaseCell>,
}

/// A live cell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BaseCell {
    key: Arc<str>,
    id: OpId,
    incarnation: Actor,
    content: BaseContent,
    /// The place of the change that put it; only of one whose value is not here.
    at: At,
}

/// The content of a live cell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BaseContent {
    /// A register's value.
    Value(Value),
    /// A counter's total.
    Counter(i64),
    /// Under "": the row lives under this incarnation.
    Live(Actor),
    /// Under "": the row was deleted.
    Dead,
    /// A large value.
    Large(Digest),
    /// A register's value in a plain insert that was not read yet.
    Unread,
}

/// A plain insert as the start of a baseline.
pub(crate) struct PlainStart<'a> {
    pub(crate) template: &'a Template,
    pub(crate) actor: Actor,
    pub(crate) hash: ChangeHash,
    pub(crate) at: At,
}

impl BaseCell {
    /// The column's key in documents.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn content(&self) -> &BaseContent {
        &self.content
    }

    /// Where the value of its change is to be read: the change, and the counter of its operation.
    pub(crate) fn place(&self) -> (At, u64) {
        (self.at, self.id.counter)
    }

    /// The value, if it is here.
    pub(crate) fn value(&self) -> Option<Value> {
        match &self.content {
            BaseContent::Value(value) => Some(value.clone()),
            BaseContent::Counter(total) => Some(Value::Integer(*total)),
            BaseContent::Live(_) | BaseContent::Dead => Some(Value::Null),
            BaseContent::Large(_) | BaseContent::Unread => None,
        }
    }

    /// Whether its value is this one; None if that cannot be told without reading its change.
    pub(crate) fn is(&self, value: ValueRef<'_>) -> Option<bool> {
        match &self.content {
            BaseContent::Value(own) => Some(own.as_ref().same(value)),
            BaseContent::Counter(total) => Some(ValueRef::Integer(*total).same(value)),
            BaseContent::Live(_) | BaseContent::Dead => Some(ValueRef::Null.same(value)),
            BaseContent::Large(digest) => Some(is_large(value) && digest_of(value) == *digest),
            BaseContent::Unread => None,
        }
    }
}

impl Baseline {
    /// The baseline of a plain insert, with its values if they are at hand.
    pub(crate) fn of_plain(start: &PlainStart<'_>, values: Option<&[ValueRef<'_>]>) -> Option<Self> {
        let PlainStart { template, actor, hash, at } = *start;
        let id = |n: usize| OpId { counter: n as u64 + 1, actor };
        let content = |n: usize| match (template.ops[n].1, values.map(|values| values[n])) {
            (OpKind::Counter, Some(ValueRef::Integer(total))) => Some(BaseContent::Counter(total)),
            (OpKind::Put, Some(value)) => Some(BaseContent::Value(value.to_owned())),
            (OpKind::Put, None) => Some(BaseContent::Unread),
            _ => None,
        };
        let life = BaseContent::Live(actor);
        let mut cells = Vec::with_capacity(template.ops.len() + 1);
        cells.push(BaseCell { key: shared(""), id: id(0), incarnation: actor, content: life, at });
        for (n, (key, _)) in template.ops.iter().enumerate() {
            cells.push(BaseCell {
                key: shared(key),
                id: id(n + 1),
                incarnation: actor,
                content: content(n)?,
                at,
            });
        }
        cells.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let max_op = template.ops.len() as u64 + 1;
        Some(Self { heads: vec![hash], max_op, count: 1, last: at, cells })
    }

    /// The baseline of a document that was evaluated as a whole; None if it may have none. `place` gives the place of the
    /// change by an actor.
    pub(crate) fn of_view<E>(
        view: &View,
        last: At,
        mut place: impl FnMut(&Actor) -> Result<At, E>,
    ) -> Result<Option<Self>, E> {
        let unseen = |r: &super::Replaced| !r.unseen.is_empty();
        if !view.waiting.is_empty()
            || !view.void.is_empty()
            || view.has_texts()
            || view.heads.len() > HEADS_MAX
            || view.replaced.values().flatten().any(unseen)
        {
            return Ok(None);
        }
        let mut cells = vec![];
        for (key, all) in &view.cells {
            for Cell { id, incarnation, content } in all {
                let content = match content {
                    Content::Value(value) => BaseContent::Value(value.clone()),
                    Content::Counter(total) => BaseContent::Counter(*total),
                    Content::Live(incarnation) => BaseContent::Live(*incarnation),
                    Content::Dead => BaseContent::Dead,
                    Content::Text(_) => return Ok(None),
                };
                let large = matches!(&content, BaseContent::Value(value) if is_large(value.as_ref()));
                let at = if large { place(&id.actor)? } else { At::default() };
                cells.push(BaseCell { key: shared(key), id: *id, incarnation: *incarnation, content, at });
            }
        }
        let count = view.actors.len() as u64;
        Ok(Some(Self { heads: view.heads.clone(), max_op: view.max_op, count, last, cells }))
    }

    /// The greatest place of a change.
    pub(crate) fn last(&self) -> At {
        self.last
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn size(&self) -> usize {
        let content = |cell: &BaseCell| match &cell.content {
            BaseContent::Value(value) => value.as_ref().byte_len(),
            _ => 0,
        };
        256 + self.cells.iter().map(|cell| 144 + content(cell)).sum::<usize>()
    }

    /// The incarnation that shows: the greatest that lives.
    pub(crate) fn incarnation(&self) -> Option<Actor> {
        self.lives().max()
    }

    /// The incarnations that live.
    fn lives(&self) -> impl Iterator<Item = Actor> {
        let life = |cell: &BaseCell| match cell.content {
            BaseContent::Live(incarnation) => Some(incarnation),
            _ => None,
        };
        self.under("").iter().filter_map(life)
    }

    /// The incarnations that live and do not show.
    fn other_lives(&self) -> Vec<Actor> {
        let shown = self.incarnation();
        self.lives().filter(|life| Some(*life) != shown).collect()
    }

    /// Whether the row lives, and no key has more than one value.
    pub(crate) fn is_simple(&self) -> bool {
        self.incarnation().is_some() && self.cells.windows(2).all(|pair| pair[0].key != pair[1].key)
    }

    /// The value of the row that shows under a key, if none stands beside it in the same row.
    pub(crate) fn alone(&self, key: &str) -> Option<&BaseCell> {
        let (others, shown) = (self.other_lives(), self.incarnation());
        let mut cells = self.under(key).iter().filter(|cell| !others.contains(&cell.incarnation));
        cells.next().filter(|cell| cells.next().is_none() && Some(cell.incarnation) == shown)
    }

    /// The live cells under a key.
    pub(crate) fn under(&self, key: &str) -> &[BaseCell] {
        let (from, to) = self.range(key);
        &self.cells[from..to]
    }

    fn range(&self, key: &str) -> (usize, usize) {
        // "" comes first, and is not compared: it may point nowhere, where some processors take long to read no bytes.
        if key.is_empty() {
            return (0, self.cells.iter().take_while(|cell| cell.key.is_empty()).count());
        }
        let from = self.cells.partition_point(|cell| cell.key.is_empty() || &*cell.key < key);
        let same = self.cells[from..].iter().take_while(|cell| &*cell.key == key).count();
        (from, from + same)
    }

    /// The cell under a key that shows in a row that lives under `incarnation`; by the rule of [`View::shown`].
    pub(crate) fn shown(&self, key: &str, incarnation: &Actor) -> Option<&BaseCell> {
        let own = self.under(key).iter().filter(|cell| cell.incarnation == *incarnation);
        own.max_by_key(|cell| (cell.id.actor, cell.id.counter))
    }

    /// Takes in a change by an actor who has no other change of the row. Returns false, and changes nothing, if only all changes
    /// together tell what it does.
    pub(crate) fn take(&mut self, hash: ChangeHash, actor: Actor, change: &Change, at: At) -> bool {
        if !self.may_take(change) {
            return false;
        }
        let incarnation = match change.ops[0].action {
            Action::Live(incarnation) if incarnation != OWN => incarnation,
            _ => actor,
        };
        for (n, op) in change.ops.iter().enumerate() {
            let id = OpId { counter: change.start_op + n as u64, actor };
            self.apply(id, incarnation, op, at);
        }
        self.heads.clear();
        self.heads.push(hash);
        self.max_op = change.start_op + change.operations() - 1;
        self.count += 1;
        self.last = self.last.max(at);
        true
    }

    /// Whether a change builds on exactly the heads, and is right by what is known here.
    fn may_take(&self, change: &Change) -> bool {
        let fits = change.deps == self.heads
            && change.text.is_empty()
            && change.start_op == self.max_op + 1
            && change.start_op + change.operations() <= COUNTER_MAX;
        if !fits || !has_distinct_keys(&change.ops) {
            return false;
        }
        let Some((life, puts)) = change.ops.split_first() else { return false };
        let lives = |incarnation: &Actor| {
            let is_it = |cell: &BaseCell| matches!(&cell.content, BaseContent::Live(a) if a == incarnation);
            *incarnation == OWN || self.under("").iter().any(is_it)
        };
        let is_life = match &life.action {
            Action::Live(incarnation) => lives(incarnation),
            Action::Dead => true,
            _ => false,
        };
        is_life
            && life.key.is_empty()
            && self.has_preds(life)
            && puts.iter().all(|op| {
                let is_put = matches!(op.action, Action::Put(_) | Action::Counter(_) | Action::Increment(_));
                is_put && !op.key.is_empty() && self.has_preds(op)
            })
    }

    /// Whether the predecessors of an operation are live cells under its key, and counters if it adds to them.
    fn has_preds(&self, op: &Op) -> bool {
        let adds = matches!(op.action, Action::Increment(_));
        let cells = self.under(&op.key);
        let is_live = |pred: &OpId| {
            let mut found = cells.iter().filter(|cell| cell.id == *pred);
            found.next().is_some_and(|cell| !adds || matches!(cell.content, BaseContent::Counter(_)))
        };
        op.preds.is_sorted_by(|a, b| a < b) && !(adds && op.preds.is_empty()) && op.preds.iter().all(is_live)
    }

    fn apply(&mut self, id: OpId, incarnation: Actor, op: &Op, at: At) {
        let (from, to) = self.range(&op.key);
        let is_pred = |cell: &BaseCell| op.preds.binary_search(&cell.id).is_ok();
        let content = match &op.action {
            Action::Increment(by) => {
                for cell in self.cells[from..to].iter_mut().filter(|cell| is_pred(cell)) {
                    if let BaseContent::Counter(total) = &mut cell.content {
                        *total = total.wrapping_add(*by);
                    }
                }
                return;
            }
            Action::Live(_) => BaseContent::Live(incarnation),
            Action::Counter(total) => BaseContent::Counter(*total),
            Action::Put(value) => BaseContent::Value(value.clone()),
            Action::Dead | Action::MakeText => BaseContent::Dead,
        };
        // Its counter is greater than all before, so it comes last; mostly in the place of the one that it replaces.
        if to == from + 1 && is_pred(&self.cells[from]) {
            let cell = &mut self.cells[from];
            (cell.id, cell.incarnation, cell.content, cell.at) = (id, incarnation, content, at);
            return;
        }
        let mut end = to;
        for n in (from..to).rev() {
            if is_pred(&self.cells[n]) {
                self.cells.remove(n);
                end -= 1;
            }
        }
        self.cells.insert(end, BaseCell { key: shared(&op.key), id, incarnation, content, at });
    }

    /// Fills in the values of a plain insert that were not read: `values` by the counters of its operations, from 2 on.
    pub(crate) fn fill_in(&mut self, at: At, values: &[ValueRef<'_>]) {
        for cell in self.cells.iter_mut().filter(|cell| cell.at == at && cell.content == BaseContent::Unread)
        {
            let place = cell.id.counter.checked_sub(2).and_then(|n| usize::try_from(n).ok());
            if let Some(value) = place.and_then(|n| values.get(n)) {
                cell.content = BaseContent::Value((*value).to_owned());
            }
        }
    }

    /// The place of the plain insert of which a value was not read yet.
    pub(crate) fn unread(&self) -> Option<At> {
        self.cells.iter().find(|cell| cell.content == BaseContent::Unread).map(|cell| cell.at)
    }

    /// What the document shows. `value` gives the values that are not here.
    pub(crate) fn view<E>(&self, mut value: impl FnMut(&BaseCell) -> Result<Value, E>) -> Result<View, E> {
        let mut cells: BTreeMap<String, Vec<Cell>> = BTreeMap::new();
        for cell in &self.cells {
            let content = match &cell.content {
                BaseContent::Value(value) => Content::Value(value.clone()),
                BaseContent::Counter(total) => Content::Counter(*total),
                BaseContent::Live(incarnation) => Content::Live(*incarnation),
                BaseContent::Dead => Content::Dead,
                BaseContent::Large(_) | BaseContent::Unread => Content::Value(value(cell)?),
            };
            let shown = Cell { id: cell.id, incarnation: cell.incarnation, content };
            match cells.get_mut(&*cell.key) {
                Some(cells) => cells.push(shown),
                None => drop(cells.insert(cell.key.as_ref().to_owned(), vec![shown])),
            }
        }
        Ok(View { heads: self.heads.clone(), max_op: self.max_op, cells, ..View::default() })
    }

    /// The change that sets these columns of the row that shows; by the rule of [`View::edit`].
    pub(crate) fn edit(&self, columns: Vec<(String, Action)>) -> Change {
        let life = (String::new(), Action::Live(self.incarnation().unwrap_or(OWN)));
        self.change(std::iter::once(life).chain(columns), &self.other_lives())
    }

    /// The change that deletes all that is under the key.
    pub(crate) fn delete(&self) -> Change {
        self.change(std::iter::once((String::new(), Action::Dead)), &[])
    }

    fn change(&self, ops: impl Iterator<Item = (String, Action)>, others: &[Actor]) -> Change {
        let preds = |key: &str| {
            let cells = self.under(key).iter().filter(|cell| !others.contains(&cell.incarnation));
            cells.map(|cell| cell.id).collect()
        };
        let ops = ops.map(|(key, action)| Op { preds: preds(&key), key, action }).collect();
        Change { deps: self.heads.clone(), start_op: self.max_op + 1, ops, text: vec![] }
    }

    /// Whether it says the same as another, however much of its values each of them has.
    pub(crate) fn agrees_with(&self, full: &Self) -> bool {
        let same = |(own, full): (&BaseCell, &BaseCell)| {
            let content = match (&own.content, &full.content) {
                (BaseContent::Unread, BaseContent::Value(_) | BaseContent::Large(_)) => true,
                (BaseContent::Large(digest), BaseContent::Value(value)) => {
                    is_large(value.as_ref()) && digest_of(value.as_ref()) == *digest
                }
                (BaseContent::Value(a), BaseContent::Value(b)) => a.as_ref().same(b.as_ref()),
                (a, b) => a == b,
            };
            let missing = matches!(own.content, BaseContent::Large(_) | BaseContent::Unread);
            (&own.key, own.id, own.incarnation) == (&full.key, full.id, full.incarnation)
                && content
                && (!missing || full.at == At::default() || own.at == full.at)
        };
        self.heads == full.heads
            && (self.max_op, self.count, self.last) == (full.max_op, full.count, full.last)
            && self.cells.len() == full.cells.len()
            && self.cells.iter().zip(&full.cells).all(same)
    }
}

fn has_distinct_keys(ops: &[Op]) -> bool {
    if ops.len() > FEW_OPS {
        let mut keys = HashSet::new();
        return ops.iter().all(|op| keys.insert(op.key.as_str()));
    }
    ops.iter().enumerate().all(|(n, op)| ops[..n].iter().all(|other| other.key != op.key))
}

/// Whether a value is kept by its digest.
pub(crate) fn is_large(value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::Text(text) => text.len() > INLINE_MAX,
        ValueRef::Blob(bytes) | ValueRef::RawText(bytes) => bytes.len() > INLINE_MAX,
        _ => false,
    }
}

fn digest_of(value: ValueRef<'_>) -> Digest {
    let (class, bytes): (u8, &[u8]) = match value {
        ValueRef::Text(text) => (b't', text.as_bytes()),
        ValueRef::Blob(bytes) => (b'b', bytes),
        ValueRef::RawText(bytes) => (b'r', bytes),
        _ => (0, &[]),
    };
    let hash = Sha256::new().chain_update([class]).chain_update(bytes).finalize();
    std::array::from_fn(|n| hash[n])
}

#[cfg(test)]
mod tests;
