//! Document: one row as a set of changes, and what it shows.
//!
//! What a document shows is a pure function of the set, never of the order in which changes came. It is
//! evaluated here as Automerge does it: a put replaces its predecessors, an increment adds to them, the
//! characters of a text stand where Automerge has them. A change whose dependencies are missing *waits*;
//! one that its causal history proves wrong is *void*, with all that builds on it.

mod author;
mod baseline;
mod diff;
mod evaluate;
mod plain;
mod text;

pub(crate) use baseline::{BaseCell, BaseContent, Baseline, PlainStart, is_large};
pub(crate) use evaluate::Evaluation;
pub(crate) use plain::Plain;

use crate::change::{Change, OpId};
use crate::id::{Actor, ChangeHash};
use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet};
use text::Text;

/// The changes of one row.
#[derive(Debug, Clone, Default)]
pub struct Document {
    changes: BTreeMap<ChangeHash, (Actor, Change)>,
}

impl Document {
    /// Adds a change, unless it is there.
    pub fn insert(&mut self, hash: ChangeHash, actor: Actor, change: Change) {
        self.changes.entry(hash).or_insert((actor, change));
    }

    /// How many changes it has.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Its changes by hash, with their actors.
    pub fn changes(&self) -> impl Iterator<Item = (&ChangeHash, &Actor, &Change)> {
        self.changes.iter().map(|(hash, (actor, change))| (hash, actor, change))
    }

    /// What it shows.
    pub fn evaluate(&self) -> View {
        evaluate::evaluate(&self.changes)
    }
}

/// What a document shows.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The changes that no other builds on, ascending.
    pub heads: Vec<ChangeHash>,
    /// The greatest counter of an operation.
    pub max_op: u64,
    /// The live values under each key.
    pub cells: BTreeMap<String, Vec<Cell>>,
    /// Changes whose dependencies are missing.
    pub waiting: BTreeSet<ChangeHash>,
    /// Changes that are wrong, with the reason, and those that build on them.
    pub void: BTreeMap<ChangeHash, Void>,
    /// The texts among them, by the operation that made each.
    texts: BTreeMap<OpId, Text>,
    /// Under each key the texts and counters that were replaced.
    replaced: BTreeMap<String, Vec<Replaced>>,
    /// The actors of the changes that count.
    actors: Vec<Actor>,
}

/// A live value.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The operation that put it.
    pub id: OpId,
    /// The incarnation under which it was put.
    pub incarnation: Actor,
    /// What it is.
    pub content: Content,
}

/// What a live value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A register's value.
    Value(Value),
    /// A counter's total.
    Counter(i64),
    /// A text.
    Text(String),
    /// Under "": the row lives under this incarnation.
    Live(Actor),
    /// Under "": the row was deleted.
    Dead,
}

/// A text or a counter that another value took the place of. Concurrent edits of it go on, and are a conflict until a change
/// that knows of them writes the key.
#[derive(Debug, Clone)]
struct Replaced {
    /// The operation that put it.
    id: OpId,
    /// What it is; its id is that of the greatest actor who edited it unseen.
    cell: Cell,
    text: Option<Text>,
    /// The numbers of the changes that edited it and that no put of its key knows of.
    unseen: Vec<u32>,
}

/// Why a change does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Void {
    /// It builds on one that is void.
    Ancestor,
    /// Its actor has another change of this row.
    ActorTwice,
    /// It does not begin where its causal history ends.
    StartOp,
    /// An operation replaces one that its causal history does not have there.
    Pred,
    /// It does not say first, or not rightly, what becomes of the row.
    Life,
    /// It edits a text, or an element of one, that its causal history does not have.
    Text,
    /// Its counters are beyond the limit.
    TooLarge,
}

impl View {
    /// Whether the row is there.
    pub fn is_live(&self) -> bool {
        self.incarnation().is_some()
    }

    /// The incarnation that shows: the greatest that lives.
    pub fn incarnation(&self) -> Option<Actor> {
        self.lives().max()
    }

    /// The incarnations that live.
    fn lives(&self) -> impl Iterator<Item = Actor> {
        let life = |cell: &Cell| match cell.content {
            Content::Live(incarnation) => Some(incarnation),
            _ => None,
        };
        // "" comes first, and is not looked up by comparing: see `Baseline::range`.
        let first = self.cells.first_key_value().filter(|(key, _)| key.is_empty());
        first.into_iter().flat_map(|(_, cells)| cells).filter_map(life)
    }

    /// The incarnations that live and do not show.
    fn other_lives(&self) -> Vec<Actor> {
        let shown = self.incarnation();
        self.lives().filter(|life| Some(*life) != shown).collect()
    }

    /// For each key the cell that shows; None if the row is not there.
    ///
    /// Of concurrent values under the incarnation that shows, that of the greatest actor. What another row under the key has
    /// is that row's: a column that this one lacks shows nothing.
    pub fn shown(&self) -> Option<BTreeMap<&str, &Cell>> {
        let incarnation = self.incarnation()?;
        let best = |cells: &'_ [Cell]| -> Option<usize> {
            let own = (0..cells.len()).filter(|n| cells[*n].incarnation == incarnation);
            own.max_by_key(|n| (cells[*n].id.actor, cells[*n].id.counter))
        };
        Some(
            self.cells
                .iter()
                .filter(|(key, _)| !key.is_empty())
                .filter_map(|(key, cells)| Some((key.as_str(), &cells[best(cells)?])))
                .collect(),
        )
    }

    /// For each key of a row that is there, the live values under its incarnation that differ from the shown one.
    pub fn conflicts(&self) -> Vec<(&str, &Cell, Vec<&Cell>)> {
        let (Some(shown), Some(incarnation)) = (self.shown(), self.incarnation()) else { return vec![] };
        shown
            .into_iter()
            .map(|(key, cell)| (key, cell, self.beside(key, cell, incarnation)))
            .filter(|(_, _, others)| !others.is_empty())
            .collect()
    }

    /// The live values under a key and an incarnation that differ from one of them, newest first.
    pub fn beside(&self, key: &str, cell: &Cell, incarnation: Actor) -> Vec<&Cell> {
        let all = self.cells.get(key).into_iter().flatten().chain(self.edited_unseen(key));
        let mut others: Vec<_> = all
            .filter(|c| c.id != cell.id && c.incarnation == incarnation && c.content != cell.content)
            .collect();
        others.sort_by_key(|c| std::cmp::Reverse((c.id.actor, c.id.counter)));
        others
    }

    /// The other rows that live under the same key: their incarnations, greatest first, and their cells.
    pub fn other_rows(&self) -> Vec<(Actor, BTreeMap<&str, &Cell>)> {
        let mut rows: BTreeMap<Actor, BTreeMap<&str, &Cell>> =
            self.other_lives().into_iter().map(|life| (life, BTreeMap::new())).collect();
        for (key, cells) in self.cells.iter().filter(|(key, _)| !key.is_empty()) {
            for cell in cells {
                let Some(row) = rows.get_mut(&cell.incarnation) else { continue };
                let best = row.entry(key.as_str()).or_insert(cell);
                if (cell.id.actor, cell.id.counter) > (best.id.actor, best.id.counter) {
                    *best = cell;
                }
            }
        }
        for key in self.replaced.keys() {
            for cell in self.edited_unseen(key) {
                if let Some(row) = rows.get_mut(&cell.incarnation) {
                    row.entry(key.as_str()).or_insert(cell);
                }
            }
        }
        rows.into_iter().rev().collect()
    }

    /// The texts and counters under a key that were replaced and edited by changes which no put of the key knows of.
    fn edited_unseen(&self, key: &str) -> impl Iterator<Item = &Cell> {
        let replaced = self.replaced.get(key).into_iter().flatten();
        replaced.filter(|r| !r.unseen.is_empty()).map(|r| &r.cell)
    }

    /// Whether any text or counter was replaced, so that there may be more to it than its cells.
    fn has_replaced(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// Whether there are texts among its values.
    pub(crate) fn has_texts(&self) -> bool {
        !self.texts.is_empty()
    }

    /// Whether there is anything beside what shows.
    pub fn is_in_conflict(&self) -> bool {
        if self.has_replaced() {
            return !self.conflicts().is_empty() || !self.other_rows().is_empty();
        }
        if !self.cells.values().any(|cells| cells.len() > 1) {
            return false;
        }
        let (Some(shown), Some(incarnation)) = (self.shown(), self.incarnation()) else { return false };
        let mut others = self.lives().filter(|life| *life != incarnation);
        let differs = |(key, cell): (&str, &Cell)| {
            let all = self.cells.get(key).into_iter().flatten();
            all.into_iter()
                .any(|c| c.id != cell.id && c.incarnation == incarnation && c.content != cell.content)
        };
        others.next().is_some() || shown.into_iter().any(differs)
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod work_tests;
