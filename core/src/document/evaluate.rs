//! Evaluating a document: changes in causal order, each judged by its causal history alone.

use super::{Cell, Content, View, Void};
use crate::change::{Action, Change, OWN, OpId, TextRun};
use crate::change_codec::{self, COUNTER_MAX};
use crate::id::{Actor, ChangeHash};
use automerge::{Automerge, ObjId, ROOT, ReadDoc};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

type Changes = BTreeMap<ChangeHash, (Actor, Change)>;

/// A change that counts.
struct Valid<'a> {
    hash: ChangeHash,
    actor: Actor,
    change: &'a Change,
    max_op: u64,
}

/// What an operation put under a key.
#[derive(Clone, Copy, PartialEq)]
enum Put {
    Register,
    Counter,
    Text,
}

/// A run of characters: their text, and the counters they have.
struct Elements {
    object: OpId,
    from: u64,
    to: u64,
}

#[derive(Default)]
struct Evaluation<'a> {
    valid: Vec<Valid<'a>>,
    by_hash: HashMap<ChangeHash, usize>,
    by_actor: HashMap<Actor, usize>,
    heads: BTreeSet<ChangeHash>,
    max_op: u64,
    puts: HashMap<OpId, (&'a str, Put)>,
    elements: HashMap<Actor, Vec<Elements>>,
    opens: HashSet<Actor>,
    cells: BTreeMap<&'a str, Vec<Cell>>,
    void: BTreeMap<ChangeHash, Void>,
}

/// The causal history of a change: all so far, or these.
enum Past {
    All,
    Some(HashSet<usize>),
}

pub(super) fn evaluate(changes: &Changes) -> View {
    let mut evaluation = Evaluation::default();
    let (order, waiting) = causal_order(changes);
    for hash in order {
        let (actor, change) = &changes[&hash];
        if let Err(void) = evaluation.take(hash, *actor, change) {
            evaluation.void.insert(hash, void);
        }
    }
    evaluation.finish(waiting)
}

/// Changes so that each comes after those it depends on; and those whose dependencies are missing.
fn causal_order(changes: &Changes) -> (Vec<ChangeHash>, Vec<ChangeHash>) {
    let mut missing: HashMap<ChangeHash, usize> = HashMap::new();
    let mut followers: HashMap<ChangeHash, Vec<ChangeHash>> = HashMap::new();
    let mut ready = BTreeSet::new();
    for (hash, (_, change)) in changes {
        missing.insert(*hash, change.deps.len());
        change.deps.iter().for_each(|dep| followers.entry(*dep).or_default().push(*hash));
        if change.deps.is_empty() {
            ready.insert((change.start_op, *hash));
        }
    }
    let mut order = vec![];
    while let Some((_, hash)) = ready.pop_first() {
        order.push(hash);
        for follower in followers.remove(&hash).unwrap_or_default() {
            if let Some(left) = missing.get_mut(&follower) {
                *left -= 1;
                if *left == 0 {
                    ready.insert((changes[&follower].1.start_op, follower));
                }
            }
        }
    }
    let done: HashSet<_> = order.iter().collect();
    let waiting = changes.keys().filter(|h| !done.contains(h)).copied().collect();
    (order, waiting)
}

impl<'a> Evaluation<'a> {
    fn take(&mut self, hash: ChangeHash, actor: Actor, change: &'a Change) -> Result<(), Void> {
        if change.deps.iter().any(|dep| self.void.contains_key(dep)) {
            return Err(Void::Ancestor);
        }
        if self.by_actor.contains_key(&actor) {
            return Err(Void::ActorTwice);
        }
        let past = self.past(change);
        let incarnation = self.check(actor, change, &past)?;
        let number = self.valid.len();
        let max_op = change.start_op + op_count(change) - 1;
        self.valid.push(Valid { hash, actor, change, max_op });
        self.by_hash.insert(hash, number);
        self.by_actor.insert(actor, number);
        change.deps.iter().for_each(|dep| {
            self.heads.remove(dep);
        });
        self.heads.insert(hash);
        self.max_op = self.max_op.max(max_op);
        self.apply(actor, change, incarnation);
        Ok(())
    }

    /// The causal history: everything so far if the change builds on all heads, which is the usual case.
    fn past(&self, change: &Change) -> Past {
        if change.deps.len() == self.heads.len() && change.deps.iter().all(|d| self.heads.contains(d)) {
            return Past::All;
        }
        let mut past = HashSet::new();
        let mut todo: Vec<_> = change.deps.iter().filter_map(|d| self.by_hash.get(d).copied()).collect();
        while let Some(n) = todo.pop() {
            if past.insert(n) {
                todo.extend(self.valid[n].change.deps.iter().filter_map(|d| self.by_hash.get(d)));
            }
        }
        Past::Some(past)
    }

    fn is_past(&self, past: &Past, actor: &Actor) -> bool {
        match (past, self.by_actor.get(actor)) {
            (_, None) => false,
            (Past::All, Some(_)) => true,
            (Past::Some(past), Some(n)) => past.contains(n),
        }
    }

    /// Judges a change; the incarnation under which it writes.
    fn check(&self, actor: Actor, change: &Change, past: &Past) -> Result<Actor, Void> {
        let max_op = match past {
            Past::All => self.max_op,
            Past::Some(past) => past.iter().map(|n| self.valid[*n].max_op).max().unwrap_or(0),
        };
        if change.start_op != max_op + 1 {
            return Err(Void::StartOp);
        }
        if change.start_op + op_count(change) > COUNTER_MAX {
            return Err(Void::TooLarge);
        }
        let incarnation = match change.ops.first().map(|op| (op.key.as_str(), &op.action)) {
            Some(("", Action::Live(a))) if *a == OWN => actor,
            Some(("", Action::Live(a))) if self.opens.contains(a) && self.is_past(past, a) => *a,
            Some(("", Action::Dead)) => actor,
            _ => return Err(Void::Life),
        };
        let mut keys = HashSet::new();
        for op in &change.ops {
            let is_life = matches!(op.action, Action::Live(_) | Action::Dead);
            if !keys.insert(op.key.as_str()) || op.key.is_empty() != is_life {
                return Err(Void::Life);
            }
            let increment = matches!(op.action, Action::Increment(_));
            if !op.preds.is_sorted_by(|a, b| a < b) || (increment && op.preds.is_empty()) {
                return Err(Void::Pred);
            }
            for pred in &op.preds {
                let good = self
                    .puts
                    .get(pred)
                    .is_some_and(|(key, put)| *key == op.key && (!increment || *put == Put::Counter));
                if !good || !self.is_past(past, &pred.actor) {
                    return Err(Void::Pred);
                }
            }
        }
        self.check_text(change, past)?;
        Ok(incarnation)
    }

    fn check_text(&self, change: &Change, past: &Past) -> Result<(), Void> {
        let mut counter = change.start_op + change.ops.len() as u64;
        let mut own: Vec<Elements> = vec![];
        for run in &change.text {
            let (object, element, count) = match run {
                TextRun::Insert { object, after, .. } => (object, *after, 1),
                TextRun::Delete { object, first, count } => (object, Some(*first), *count),
            };
            let known = if object.actor == OWN {
                let place = object.counter.checked_sub(change.start_op).map(|n| n as usize);
                place.and_then(|n| change.ops.get(n)).is_some_and(|op| op.action == Action::MakeText)
            } else {
                self.puts.get(object).is_some_and(|(_, put)| *put == Put::Text)
                    && self.is_past(past, &object.actor)
            };
            let runs = |actor: &Actor| -> &[Elements] {
                if *actor == OWN { &own } else { self.elements.get(actor).map_or(&[], Vec::as_slice) }
            };
            let there = element.is_none_or(|e| {
                (e.actor == OWN || self.is_past(past, &e.actor))
                    && has(runs(&e.actor), object, e.counter, count)
            });
            if !known || !there {
                return Err(Void::Text);
            }
            if let TextRun::Insert { text, .. } = run {
                let len = text.chars().count() as u64;
                own.push(Elements { object: *object, from: counter, to: counter + len });
                counter += len;
            } else {
                counter += count;
            }
        }
        Ok(())
    }

    fn apply(&mut self, actor: Actor, change: &'a Change, incarnation: Actor) {
        for (n, op) in change.ops.iter().enumerate() {
            let id = OpId { counter: change.start_op + n as u64, actor };
            let cells = self.cells.entry(op.key.as_str()).or_default();
            if let Action::Increment(by) = op.action {
                for cell in cells.iter_mut().filter(|c| op.preds.contains(&c.id)) {
                    if let Content::Counter(total) = &mut cell.content {
                        *total = total.wrapping_add(by);
                    }
                }
                continue;
            }
            cells.retain(|c| !op.preds.contains(&c.id));
            let (content, put) = match &op.action {
                Action::Live(_) => (Content::Live(incarnation), Put::Register),
                Action::Dead => (Content::Dead, Put::Register),
                Action::Counter(n) => (Content::Counter(*n), Put::Counter),
                Action::MakeText => (Content::Text(String::new()), Put::Text),
                Action::Put(value) => (Content::Value(value.clone()), Put::Register),
                Action::Increment(_) => continue,
            };
            cells.push(Cell { id, incarnation, content });
            self.puts.insert(id, (&op.key, put));
        }
        if incarnation == actor && matches!(change.ops[0].action, Action::Live(_)) {
            self.opens.insert(actor);
        }
        let mut counter = change.start_op + change.ops.len() as u64;
        for run in &change.text {
            match run {
                TextRun::Insert { object, text, .. } => {
                    let object = own(*object, actor);
                    let to = counter + text.chars().count() as u64;
                    self.elements.entry(actor).or_default().push(Elements { object, from: counter, to });
                    counter = to;
                }
                TextRun::Delete { count, .. } => counter += count,
            }
        }
    }

    fn finish(mut self, waiting: Vec<ChangeHash>) -> View {
        let texts = self.puts.values().any(|(_, put)| *put == Put::Text).then(|| self.automerge());
        if let Some(automerge) = &texts {
            for (key, cells) in &mut self.cells {
                read_texts(automerge, key, cells);
            }
        }
        let mut cells: BTreeMap<String, Vec<Cell>> = BTreeMap::new();
        for (key, mut list) in self.cells {
            list.sort_by_key(|c| c.id);
            cells.insert(key.to_owned(), list);
        }
        View {
            heads: self.heads.into_iter().collect(),
            max_op: self.max_op,
            cells,
            waiting,
            void: self.void.into_iter().collect(),
            texts,
        }
    }

    /// The document in Automerge, from the changes that count.
    fn automerge(&self) -> Automerge {
        let chunk = |valid: &Valid<'_>| {
            let mut chunk = vec![];
            change_codec::encode(valid.change, &valid.actor, &mut chunk).ok()?;
            let change = automerge::Change::from_bytes(chunk).ok()?;
            debug_assert_eq!(change.hash().0, valid.hash.0, "bytes differ from Automerge's");
            Some(change)
        };
        let changes: Vec<_> = self.valid.iter().filter_map(chunk).collect();
        // All at once: one by one, Automerge would look through the whole document for each. It has no reason
        // to refuse any, since every change was judged before; if it does, the others count all the same.
        let mut automerge = Automerge::new();
        if automerge.apply_changes(changes.iter().cloned()).is_err() {
            automerge = Automerge::new();
            for change in changes {
                let _ = automerge.apply_changes([change]);
            }
        }
        automerge
    }
}

fn op_count(change: &Change) -> u64 {
    let runs = change.text.iter().map(|run| match run {
        TextRun::Insert { text, .. } => text.chars().count() as u64,
        TextRun::Delete { count, .. } => *count,
    });
    change.ops.len() as u64 + runs.sum::<u64>()
}

fn own(id: OpId, actor: Actor) -> OpId {
    if id.actor == OWN { OpId { actor, ..id } } else { id }
}

/// Whether `count` elements from `first` on are all in these runs of one text.
fn has(runs: &[Elements], object: &OpId, first: u64, count: u64) -> bool {
    let mut at = first;
    let end = first.saturating_add(count);
    while at < end {
        match runs.iter().find(|r| r.object == *object && r.from <= at && at < r.to) {
            Some(run) => at = run.to,
            None => return false,
        }
    }
    true
}

/// Takes the content of texts under a key from Automerge.
fn read_texts(automerge: &Automerge, key: &str, cells: &mut [Cell]) {
    if !cells.iter().any(|c| matches!(c.content, Content::Text(_))) {
        return;
    }
    for (_, object) in automerge.get_all(ROOT, key).unwrap_or_default() {
        let Some(id) = op_id(&object) else { continue };
        let cell = cells.iter_mut().find(|c| c.id == id && matches!(c.content, Content::Text(_)));
        if let (Some(cell), Ok(text)) = (cell, automerge.text(&object)) {
            cell.content = Content::Text(text);
        }
    }
}

/// Automerge's object id as ours.
pub(super) fn op_id(object: &ObjId) -> Option<OpId> {
    match object {
        ObjId::Id(counter, actor, _) => {
            Some(OpId { counter: *counter, actor: Actor::try_from(actor.to_bytes()).ok()? })
        }
        ObjId::Root => None,
    }
}
