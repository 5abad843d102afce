//! Evaluating a document: changes in causal order, each judged by its causal history alone.
//!
//! An evaluation goes on: it keeps what it takes to judge the changes that are still to come, and takes them in one by one,
//! at a cost that does not grow with how many there were. What it shows is the same in whatever order they come.

use super::text::Text;
use super::{Cell, Content, Replaced, View, Void};
use crate::change::{Action, Change, OWN, OpId, TextRun};
use crate::change_codec::COUNTER_MAX;
use crate::id::{Actor, ChangeHash};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

type Changes = BTreeMap<ChangeHash, (Actor, Change)>;

/// What an operation put under a key.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Put {
    Register,
    Counter,
    Text,
    /// The row's life, and with it an incarnation.
    Opening,
    /// Nothing: it added to counters.
    Nothing,
}

/// Characters that a change inserted: into which text, and which counters they have.
#[derive(Debug, Clone, Copy)]
struct Elements {
    /// The number of the change that made the text, and the text's counter.
    object: (u32, u32),
    from: u32,
    to: u32,
}

/// Lists one after another, each of which has a number.
#[derive(Debug)]
struct Lists<T> {
    items: Vec<T>,
    ends: Vec<u32>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { items: vec![], ends: vec![] }
    }
}

impl<T> Lists<T> {
    fn push(&mut self, items: impl IntoIterator<Item = T>) {
        self.items.extend(items);
        self.ends.push(self.items.len() as u32);
    }

    fn get(&self, number: u32) -> &[T] {
        let end = |n: usize| self.ends[n] as usize;
        let from = (number as usize).checked_sub(1).map_or(0, end);
        &self.items[from..end(number as usize)]
    }

    fn size(&self) -> usize {
        self.items.len() * size_of::<T>() + self.ends.len() * size_of::<u32>()
    }
}

/// What a document shows so far, and what it takes to judge the changes that are to come.
///
/// Changes that count have numbers, so that each has a greater one than those it depends on.
#[derive(Debug, Default)]
pub(crate) struct Evaluation {
    view: Arc<View>,
    by_hash: HashMap<ChangeHash, u32>,
    by_actor: HashMap<Actor, u32>,
    /// The counters of the first and the last operation of each change that counts.
    spans: Vec<(u32, u32)>,
    deps: Lists<u32>,
    /// For each operation on the root map the number of its key, and what it put there.
    puts: Lists<(u32, Put)>,
    elements: Lists<Elements>,
    keys: HashMap<String, u32>,
    /// The keys by their numbers.
    names: Vec<String>,
    /// Changes that wait, and for each that is missing those that wait for it.
    waiting: HashMap<ChangeHash, (Actor, Change)>,
    followers: HashMap<ChangeHash, Vec<ChangeHash>>,
    /// Actors of changes that wait or are void.
    others: HashSet<Actor>,
    /// An actor has two changes of this row: only a full re-evaluation in causal order decides which one counts.
    needs_all: bool,
    /// Changes and predecessors looked at so far: what evaluating took, apart from texts.
    work: u64,
}

/// The causal history of a change.
struct Past {
    reach: Reach,
    max_op: u64,
}

/// Which changes so far are in a causal history: told by the smaller part.
enum Reach {
    All,
    /// All but these.
    AllBut(HashSet<u32>),
    Only(HashSet<u32>),
}

impl Past {
    fn has(&self, number: u32) -> bool {
        match &self.reach {
            Reach::All => true,
            Reach::AllBut(others) => !others.contains(&number),
            Reach::Only(these) => these.contains(&number),
        }
    }

    /// Of the first `count` changes those that are not in it.
    fn others(&self, count: u32) -> Vec<u32> {
        match &self.reach {
            Reach::All => vec![],
            Reach::AllBut(others) => others.iter().copied().collect(),
            Reach::Only(_) => (0..count).filter(|number| !self.has(*number)).collect(),
        }
    }
}

pub(super) fn evaluate(changes: &Changes) -> View {
    let mut evaluation = Evaluation::default();
    let (order, waiting) = causal_order(changes);
    for hash in order.iter().chain(&waiting) {
        let (actor, change) = &changes[hash];
        evaluation.add(*hash, *actor, change);
    }
    Arc::unwrap_or_clone(evaluation.view)
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

impl Evaluation {
    /// Takes a change in, which must be new here, and those that waited for it.
    pub(crate) fn add(&mut self, hash: ChangeHash, actor: Actor, change: &Change) {
        self.needs_all |= self.by_actor.contains_key(&actor) || self.others.contains(&actor);
        let missing: Vec<_> = change.deps.iter().filter(|dep| !self.is_judged(dep)).collect();
        if !missing.is_empty() {
            missing.into_iter().for_each(|dep| self.followers.entry(*dep).or_default().push(hash));
            self.others.insert(actor);
            self.waiting.insert(hash, (actor, change.clone()));
            Arc::make_mut(&mut self.view).waiting.insert(hash);
            return;
        }
        self.judge(hash, actor, change);
        let mut judged = vec![hash];
        while let Some(hash) = judged.pop() {
            for follower in self.followers.remove(&hash).unwrap_or_default() {
                let ready = |(_, change): &(Actor, Change)| change.deps.iter().all(|dep| self.is_judged(dep));
                if !self.waiting.get(&follower).is_some_and(ready) {
                    continue;
                }
                if let Some((actor, change)) = self.waiting.remove(&follower) {
                    self.others.remove(&actor);
                    Arc::make_mut(&mut self.view).waiting.remove(&follower);
                    self.judge(follower, actor, &change);
                    judged.push(follower);
                }
            }
        }
    }

    /// What the document shows.
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Whether only all changes together, in their causal order, say what the document shows.
    pub(crate) fn needs_all(&self) -> bool {
        self.needs_all
    }

    /// How many changes it took in.
    pub(crate) fn len(&self) -> usize {
        self.spans.len() + self.waiting.len() + self.view.void.len()
    }

    /// Steps that evaluating took so far: changes, predecessors, and spans of texts that were looked at.
    #[cfg(test)]
    pub(crate) fn work(&self) -> u64 {
        self.work + self.view.texts.values().map(Text::steps).sum::<u64>()
    }

    /// The bytes it takes in memory, roughly.
    pub(crate) fn size(&self) -> usize {
        let counted = self.spans.len() * 256 + self.deps.size() + self.puts.size() + self.elements.size();
        let waiting = |(_, change): &(Actor, Change)| 512 + change.ops.len() * 128 + change.text.len() * 256;
        let waiting: usize = self.waiting.values().map(waiting).sum();
        counted + waiting + self.view.void.len() * 256 + self.view.size()
    }

    fn is_judged(&self, hash: &ChangeHash) -> bool {
        self.by_hash.contains_key(hash) || self.is_void(hash)
    }

    fn is_void(&self, hash: &ChangeHash) -> bool {
        self.view.void.contains_key(hash)
    }

    fn judge(&mut self, hash: ChangeHash, actor: Actor, change: &Change) {
        if let Err(void) = self.take(hash, actor, change) {
            self.others.insert(actor);
            Arc::make_mut(&mut self.view).void.insert(hash, void);
        }
    }

    fn take(&mut self, hash: ChangeHash, actor: Actor, change: &Change) -> Result<(), Void> {
        if change.deps.iter().any(|dep| self.is_void(dep)) {
            return Err(Void::Ancestor);
        }
        if self.by_actor.contains_key(&actor) {
            return Err(Void::ActorTwice);
        }
        let past = self.past(change);
        self.work += change.ops.iter().map(|op| 1 + op.preds.len() as u64).sum::<u64>();
        let incarnation = self.check(actor, change, &past)?;
        let number = self.spans.len() as u32;
        let max_op = change.start_op + change.operations() - 1;
        self.spans.push((change.start_op as u32, max_op as u32));
        self.deps.push(change.deps.iter().map(|dep| self.by_hash[dep]));
        self.by_hash.insert(hash, number);
        self.by_actor.insert(actor, number);
        let view = Arc::make_mut(&mut self.view);
        view.actors.push(actor);
        if !change.deps.is_empty() {
            view.heads.retain(|head| change.deps.binary_search(head).is_err());
        }
        let place = view.heads.partition_point(|head| *head < hash);
        view.heads.insert(place, hash);
        view.max_op = view.max_op.max(max_op);
        self.apply(actor, change, incarnation, &past);
        Ok(())
    }

    /// The causal history: everything so far if the change builds on all heads, which is the usual case. Else its changes
    /// are looked for downwards from its dependencies, and in turn those concurrent with it downwards from the heads, until
    /// one of both searches ends: an insert that knew of nothing costs nothing, and so does a merge of nearly everything.
    fn past(&mut self, change: &Change) -> Past {
        if change.deps == self.view.heads {
            return Past { reach: Reach::All, max_op: self.view.max_op };
        }
        let deps: Vec<u32> = change.deps.iter().map(|dep| self.by_hash[dep]).collect();
        let max_op = deps.iter().map(|n| u64::from(self.spans[*n as usize].1)).max().unwrap_or(0);
        let mut ancestors = Ancestors { found: deps.iter().copied().collect(), todo: deps.clone() };
        // As many steps as it takes to begin the other search.
        for _ in 0..=self.view.heads.len() {
            self.work += 1;
            if !ancestors.step(&self.deps) {
                return Past { reach: Reach::Only(ancestors.found), max_op };
            }
        }
        let heads = self.view.heads.iter().map(|h| self.by_hash[h]);
        let mut others = Others::new(heads, &deps);
        let reach = loop {
            self.work += 1;
            if !others.step(&self.deps) {
                break Reach::AllBut(others.found);
            }
            if !ancestors.step(&self.deps) {
                break Reach::Only(ancestors.found);
            }
        };
        Past { reach, max_op }
    }

    /// The number of the change by an actor, if it is in the history.
    fn number(&self, past: &Past, actor: &Actor) -> Option<u32> {
        self.by_actor.get(actor).copied().filter(|number| past.has(*number))
    }

    /// The key under which an operation in the history put something, and what.
    fn put(&self, past: &Past, id: &OpId) -> Option<(u32, Put)> {
        let number = self.number(past, &id.actor)?;
        let place = id.counter.checked_sub(u64::from(self.spans[number as usize].0))?;
        self.puts
            .get(number)
            .get(usize::try_from(place).ok()?)
            .copied()
            .filter(|(_, put)| *put != Put::Nothing)
    }

    /// Judges a change; the incarnation under which it writes.
    fn check(&self, actor: Actor, change: &Change, past: &Past) -> Result<Actor, Void> {
        if change.start_op != past.max_op + 1 {
            return Err(Void::StartOp);
        }
        if change.start_op + change.operations() > COUNTER_MAX {
            return Err(Void::TooLarge);
        }
        let opens = |a: &Actor| {
            let first = self.number(past, a).and_then(|number| self.puts.get(number).first());
            first.is_some_and(|(_, put)| *put == Put::Opening)
        };
        let incarnation = match change.ops.first().map(|op| (op.key.as_str(), &op.action)) {
            Some(("", Action::Live(a))) if *a == OWN => actor,
            Some(("", Action::Live(a))) if opens(a) => *a,
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
            let key = self.keys.get(&op.key);
            for pred in &op.preds {
                let put = self.put(past, pred).filter(|(k, _)| Some(k) == key);
                if !put.is_some_and(|(_, put)| !increment || put == Put::Counter) {
                    return Err(Void::Pred);
                }
            }
        }
        self.check_text(change, past)?;
        Ok(incarnation)
    }

    fn check_text(&self, change: &Change, past: &Past) -> Result<(), Void> {
        let next = self.spans.len() as u32;
        let mut counter = change.start_op + change.ops.len() as u64;
        let mut own: Vec<Elements> = vec![];
        for run in &change.text {
            let (object, element, count) = match run {
                TextRun::Insert { object, after, .. } => (object, *after, 1),
                TextRun::Delete { object, first, count } => (object, Some(*first), *count),
            };
            let made_here = || {
                let place = object.counter.checked_sub(change.start_op).map(|n| n as usize);
                place.and_then(|n| change.ops.get(n)).is_some_and(|op| op.action == Action::MakeText)
            };
            let number = match object.actor {
                OWN => made_here().then_some(next),
                _ => self
                    .put(past, object)
                    .filter(|(_, put)| *put == Put::Text)
                    .and(self.number(past, &object.actor)),
            };
            let Some(object) = number.map(|number| (number, object.counter as u32)) else {
                return Err(Void::Text);
            };
            let there = element.is_none_or(|e| match e.actor {
                OWN => has(&own, object, e.counter, count),
                actor => self
                    .number(past, &actor)
                    .is_some_and(|number| has(self.elements.get(number), object, e.counter, count)),
            });
            if !there {
                return Err(Void::Text);
            }
            if let TextRun::Insert { text, .. } = run {
                let to = counter + text.chars().count() as u64;
                push_elements(&mut own, Elements { object, from: counter as u32, to: to as u32 });
                counter = to;
            } else {
                counter += count;
            }
        }
        Ok(())
    }

    /// Does what a change says, which was judged and counts. `past` is its causal history.
    fn apply(&mut self, actor: Actor, change: &Change, incarnation: Actor, past: &Past) {
        let number = self.spans.len() as u32 - 1;
        let view = Arc::make_mut(&mut self.view);
        let (mut puts, mut elements) = (vec![], vec![]);
        for (n, op) in change.ops.iter().enumerate() {
            let id = OpId { counter: change.start_op + n as u64, actor };
            if matches!(op.action, Action::Increment(_)) {
                // Nothing is inserted, but the list tells which counters a change adds to.
                let at = id.counter as u32;
                let counter = |pred: &OpId| (self.by_actor[&pred.actor], pred.counter as u32);
                elements.extend(op.preds.iter().map(|p| Elements { object: counter(p), from: at, to: at }));
            }
            let known = view.replaced.get(&op.key).map_or(0, Vec::len);
            let put = view.apply(id, incarnation, op);
            let next = self.keys.len() as u32;
            let key = match self.keys.get(&op.key) {
                Some(key) => *key,
                None => {
                    self.names.push(op.key.clone());
                    *self.keys.entry(op.key.clone()).or_insert(next)
                }
            };
            let View { replaced, actors, .. } = view;
            for (n, replaced) in replaced.get_mut(&op.key).into_iter().flatten().enumerate() {
                if put == Put::Nothing {
                    replaced.increment(number, op);
                } else if n < known {
                    // What other rows under the key have is theirs, whoever knows of it.
                    let is_own = replaced.cell.incarnation == incarnation;
                    if is_own || op.preds.binary_search(&replaced.id).is_ok() {
                        replaced.unseen.retain(|edit| !past.has(*edit));
                    }
                } else {
                    let object = (self.by_actor[&replaced.id.actor], replaced.id.counter as u32);
                    let edits = |n: &u32| self.elements.get(*n).iter().any(|e| e.object == object);
                    replaced.unseen = past.others(number).into_iter().filter(edits).collect();
                }
                replaced.name_editor(actors);
            }
            let opens = n == 0 && incarnation == actor && matches!(op.action, Action::Live(_));
            puts.push((key, if opens { Put::Opening } else { put }));
        }
        self.puts.push(puts);
        self.apply_text(actor, change, elements);
    }

    fn apply_text(&mut self, actor: Actor, change: &Change, mut elements: Vec<Elements>) {
        let number = |id: &OpId| self.by_actor[&own(*id, actor).actor];
        let element = |id: &OpId| (number(id), id.counter as u32);
        let view = Arc::make_mut(&mut self.view);
        let author = self.by_actor[&actor];
        let mut counter = (change.start_op + change.ops.len() as u64) as u32;
        // What the texts show is written once, after all runs.
        let mut edited: BTreeSet<(&str, OpId)> = BTreeSet::new();
        for run in &change.text {
            let (TextRun::Insert { object, .. } | TextRun::Delete { object, .. }) = run;
            let key = match object.actor {
                OWN => change.ops[(object.counter - change.start_op) as usize].key.as_str(),
                _ => {
                    let place = object.counter - u64::from(self.spans[number(object) as usize].0);
                    let key = self.puts.get(number(object))[place as usize].0;
                    self.names[key as usize].as_str()
                }
            };
            // A text that was replaced shows no more, but what is done to it all the same is a conflict.
            let id = own(*object, actor);
            let View { replaced, actors, texts, .. } = &mut *view;
            let mut of_key = replaced.get_mut(key).into_iter().flatten();
            let text = match of_key.find(|r| r.id == id) {
                Some(replaced) => {
                    replaced.add_edit(author);
                    replaced.name_editor(actors);
                    replaced.text.as_mut()
                }
                None => texts.get_mut(&id),
            };
            if text.is_some() {
                edited.insert((key, id));
            }
            match run {
                TextRun::Insert { after, text: new, .. } => {
                    let from = counter;
                    counter += new.chars().count() as u32;
                    push_elements(&mut elements, Elements { object: element(object), from, to: counter });
                    if let Some(text) = text {
                        text.insert(actors, after.as_ref().map(element), (author, from), new);
                    }
                }
                TextRun::Delete { first, count, .. } => {
                    // Nothing is inserted, but the list tells which texts a change edits.
                    elements.push(Elements { object: element(object), from: counter, to: counter });
                    counter += *count as u32;
                    if let Some(text) = text {
                        text.delete(element(first), *count as u32);
                    }
                }
            }
        }
        edited.into_iter().for_each(|(key, id)| view.write_text(key, &id));
        self.elements.push(elements);
    }
}

impl View {
    /// Does an operation on the root map.
    fn apply(&mut self, id: OpId, incarnation: Actor, op: &crate::change::Op) -> Put {
        let cells = match self.cells.get_mut(&op.key) {
            Some(cells) => cells,
            None => self.cells.entry(op.key.clone()).or_default(),
        };
        if let Action::Increment(by) = op.action {
            for cell in cells.iter_mut().filter(|c| op.preds.binary_search(&c.id).is_ok()) {
                if let Content::Counter(total) = &mut cell.content {
                    *total = total.wrapping_add(by);
                }
            }
            return Put::Nothing;
        }
        let (texts, replaced) = (&mut self.texts, &mut self.replaced);
        cells.retain(|c| {
            let stays = op.preds.is_empty() || op.preds.binary_search(&c.id).is_err();
            if !stays && matches!(c.content, Content::Text(_) | Content::Counter(_)) {
                let (id, cell, text) = (c.id, c.clone(), texts.remove(&c.id));
                let entry = replaced.entry(op.key.clone()).or_default();
                entry.push(Replaced { id, cell, text, unseen: vec![] });
            }
            stays
        });
        let (content, put) = match &op.action {
            Action::Live(_) => (Content::Live(incarnation), Put::Register),
            Action::Dead => (Content::Dead, Put::Register),
            Action::Counter(n) => (Content::Counter(*n), Put::Counter),
            Action::MakeText => {
                texts.insert(id, Text::default());
                (Content::Text(String::new()), Put::Text)
            }
            Action::Put(value) => (Content::Value(value.clone()), Put::Register),
            Action::Increment(_) => return Put::Nothing,
        };
        let place = cells.partition_point(|c| c.id < id);
        cells.insert(place, Cell { id, incarnation, content });
        put
    }

    /// Brings the value of a text, which shows or was replaced, up to date with its characters.
    fn write_text(&mut self, key: &str, id: &OpId) {
        let (text, cell) = match self.texts.get(id) {
            Some(text) => {
                let cells = self.cells.get_mut(key).into_iter().flatten();
                (Some(text), cells.into_iter().find(|c| c.id == *id))
            }
            None => match self.replaced.get_mut(key).into_iter().flatten().find(|r| r.id == *id) {
                Some(replaced) => (replaced.text.as_ref(), Some(&mut replaced.cell)),
                None => return,
            },
        };
        if let (Some(text), Some(Content::Text(content))) = (text, cell.map(|cell| &mut cell.content)) {
            text.write_to(content);
        }
    }

    /// The bytes it takes in memory, roughly.
    fn size(&self) -> usize {
        let content = |content: &Content| match content {
            Content::Text(text) => text.len(),
            Content::Value(value) => value.as_ref().byte_len(),
            _ => 0,
        };
        let cells = self.cells.values().flatten().map(|c| 128 + content(&c.content));
        let replaced = self.replaced.values().flatten().map(|r| {
            256 + content(&r.cell.content)
                + r.text.as_ref().map_or(0, Text::size)
                + r.unseen.len() * size_of::<u32>()
        });
        cells.chain(replaced).sum::<usize>() + self.texts.values().map(Text::size).sum::<usize>()
    }
}

impl Replaced {
    /// Takes in an increment, if it is of this counter.
    fn increment(&mut self, number: u32, op: &crate::change::Op) {
        if let (Action::Increment(by), Content::Counter(total)) = (&op.action, &mut self.cell.content)
            && op.preds.contains(&self.id)
        {
            *total = total.wrapping_add(*by);
            self.add_edit(number);
        }
    }

    fn add_edit(&mut self, number: u32) {
        if self.unseen.last() != Some(&number) {
            self.unseen.push(number);
        }
    }

    /// Names the greatest actor that edited it unseen.
    fn name_editor(&mut self, actors: &[Actor]) {
        let editor = self.unseen.iter().map(|n| actors[*n as usize]).max();
        self.cell.id.actor = editor.unwrap_or(self.id.actor);
    }
}

/// A search for the changes that some depend on.
struct Ancestors {
    found: HashSet<u32>,
    todo: Vec<u32>,
}

impl Ancestors {
    /// Looks at one change; false if all were found.
    fn step(&mut self, deps: &Lists<u32>) -> bool {
        let Some(number) = self.todo.pop() else { return false };
        self.todo.extend(deps.get(number).iter().filter(|dep| self.found.insert(**dep)));
        true
    }
}

/// A search for the changes that some do not depend on, from the latest downwards.
struct Others {
    found: HashSet<u32>,
    /// Of each change still to be looked at, whether it is in the history.
    todo: BTreeMap<u32, bool>,
    /// How many of these are not.
    open: usize,
}

impl Others {
    fn new(heads: impl Iterator<Item = u32>, deps: &[u32]) -> Self {
        let mut todo: BTreeMap<u32, bool> = heads.map(|head| (head, false)).collect();
        todo.extend(deps.iter().map(|dep| (*dep, true)));
        let open = todo.values().filter(|past| !**past).count();
        Self { found: HashSet::new(), todo, open }
    }

    /// Looks at one change; false if all were found.
    fn step(&mut self, deps: &Lists<u32>) -> bool {
        if self.open == 0 {
            return false;
        }
        let Some((number, past)) = self.todo.pop_last() else { return false };
        if !past {
            self.open -= 1;
            self.found.insert(number);
        }
        for dep in deps.get(number) {
            match self.todo.get_mut(dep) {
                Some(known) if past && !*known => {
                    *known = true;
                    self.open -= 1;
                }
                Some(_) => {}
                None => {
                    self.todo.insert(*dep, past);
                    self.open += usize::from(!past);
                }
            }
        }
        true
    }
}

fn own(id: OpId, actor: Actor) -> OpId {
    if id.actor == OWN { OpId { actor, ..id } } else { id }
}

/// Appends characters of a change, which have greater counters than those before.
fn push_elements(runs: &mut Vec<Elements>, new: Elements) {
    match runs.last_mut() {
        Some(last) if last.object == new.object && last.to == new.from => last.to = new.to,
        _ => runs.push(new),
    }
}

/// Whether `count` elements from `first` on are all in these runs of one text, which ascend and do not touch.
fn has(runs: &[Elements], object: (u32, u32), first: u64, count: u64) -> bool {
    let place = runs.partition_point(|r| u64::from(r.to) <= first);
    let end = first.saturating_add(count);
    runs.get(place)
        .is_some_and(|r| r.object == object && u64::from(r.from) <= first && end <= u64::from(r.to))
}
