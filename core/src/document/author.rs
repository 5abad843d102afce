//! Authoring: the change that brings a document from what it shows to what it should show.

use super::evaluate::op_id;
use super::{Cell, Content, View};
use crate::change::{Action, Change, Merge, OWN, Op, OpId, TextRun};
use crate::id::Actor;
use crate::value::Value;
use automerge::transaction::Transactable;
use automerge::{ActorId, Automerge, ObjId, ROOT, ReadDoc, legacy};

impl View {
    /// The change that deletes the row.
    pub fn delete(&self) -> Change {
        self.change(vec![("".to_owned(), Action::Dead)])
    }

    /// The change that opens an incarnation with these columns.
    pub fn insert(&self, columns: &[(String, Merge, Value)]) -> Change {
        let mut writer = Writer::new(Action::Live(OWN));
        for (key, merge, value) in columns {
            writer.put_new(key, *merge, value, self.max_op + 1);
        }
        writer.finish(self)
    }

    /// The change that sets these columns of the row that shows.
    ///
    /// `placeholder` stands for the author while Automerge computes edits of texts; it must occur nowhere.
    pub fn edit(&self, columns: &[(String, Merge, Value)], placeholder: Actor) -> Change {
        let mut writer = Writer::new(Action::Live(self.incarnation().unwrap_or(OWN)));
        let shown = self.shown().unwrap_or_default();
        let mut edits = vec![];
        for (key, merge, value) in columns {
            match (shown.get(key.as_str()), merge, value) {
                (Some(cell), Merge::Text, Value::Text(text)) if is_text(cell) && self.stands_alone(key) => {
                    edits.push((key.as_str(), cell.id, text.as_str()));
                }
                (Some(cell), Merge::Counter, Value::Integer(to)) if self.stands_alone(key) => {
                    match cell.content {
                        Content::Counter(from) if to.checked_sub(from).is_some() => {
                            writer.ops.push((key.clone(), Action::Increment(to - from)));
                        }
                        _ => writer.ops.push((key.clone(), Action::Counter(*to))),
                    }
                }
                _ => writer.put_new(key, *merge, value, self.max_op + 1),
            }
        }
        let ops = writer.ops.len() as u64;
        if let (false, Some(automerge)) = (edits.is_empty(), &self.texts) {
            let before = text_len(&writer.text);
            let first = self.max_op + 1;
            writer.text.extend(text_edits(automerge, &edits, placeholder, first, ops + before));
        }
        writer.finish(self)
    }

    /// Whether no concurrent value is beside the one that shows; else an edit replaces them all.
    fn stands_alone(&self, key: &str) -> bool {
        self.cells.get(key).is_some_and(|cells| cells.len() == 1)
    }

    fn change(&self, ops: Vec<(String, Action)>) -> Change {
        let preds = |key: &str| -> Vec<OpId> {
            let mut preds: Vec<_> = self.cells.get(key).into_iter().flatten().map(|c| c.id).collect();
            preds.sort_unstable();
            preds
        };
        let ops = ops.into_iter().map(|(key, action)| Op { preds: preds(&key), key, action }).collect();
        Change { deps: self.heads.clone(), start_op: self.max_op + 1, ops, text: vec![] }
    }
}

fn is_text(cell: &Cell) -> bool {
    matches!(cell.content, Content::Text(_))
}

fn text_len(runs: &[TextRun]) -> u64 {
    let len = |run: &TextRun| match run {
        TextRun::Insert { text, .. } => text.chars().count() as u64,
        TextRun::Delete { count, .. } => *count,
    };
    runs.iter().map(len).sum()
}

struct Writer {
    ops: Vec<(String, Action)>,
    text: Vec<TextRun>,
}

impl Writer {
    fn new(life: Action) -> Self {
        Self { ops: vec![(String::new(), life)], text: vec![] }
    }

    fn put_new(&mut self, key: &str, merge: Merge, value: &Value, start_op: u64) {
        let action = match (merge, value) {
            (Merge::Counter, Value::Integer(n)) => Action::Counter(*n),
            (Merge::Text, Value::Text(text)) => {
                let object = OpId { counter: start_op + self.ops.len() as u64, actor: OWN };
                if !text.is_empty() {
                    self.text.push(TextRun::Insert { object, after: None, text: text.clone() });
                }
                Action::MakeText
            }
            (_, value) => Action::Put(value.clone()),
        };
        self.ops.push((key.to_owned(), action));
    }

    fn finish(self, view: &View) -> Change {
        let mut change = view.change(self.ops);
        change.text = self.text;
        change
    }
}

/// What Automerge does to bring texts to new contents, as runs whose own operations begin `shift` after `first`.
fn text_edits(
    automerge: &Automerge,
    edits: &[(&str, OpId, &str)],
    placeholder: Actor,
    first: u64,
    shift: u64,
) -> Vec<TextRun> {
    let own = ActorId::from(&placeholder.0[..]);
    let mut fork = automerge.clone().with_actor(own.clone());
    let mut transaction = fork.transaction();
    for (key, id, text) in edits {
        let objects = transaction.get_all(ROOT, *key).unwrap_or_default();
        let object: Option<ObjId> = objects.into_iter().map(|(_, o)| o).find(|o| op_id(o) == Some(*id));
        if let Some(object) = object {
            // It can only fail for an object that is no text; this one was found as one.
            let _ = transaction.update_text(&object, text);
        }
    }
    transaction.commit();
    let Some(change) = fork.get_last_local_change() else { return vec![] };
    let id = |op: &legacy::OpId| {
        let actor = Actor::try_from(op.actor().to_bytes()).unwrap_or(OWN);
        match actor == placeholder {
            // Automerge began at `first`; before these operations there are `shift` others.
            true => OpId { counter: op.counter() + shift, actor: OWN },
            false => OpId { counter: op.counter(), actor },
        }
    };
    let mut runs = vec![];
    for (n, op) in change.decode().operations.iter().enumerate() {
        let own_id = OpId { counter: first + shift + n as u64, actor: OWN };
        let legacy::ObjectId::Id(object) = &op.obj else { continue };
        let element = match &op.key {
            legacy::Key::Seq(legacy::ElementId::Id(e)) => Some(id(e)),
            _ => None,
        };
        match &op.action {
            legacy::OpType::Put(value) if op.insert => {
                if let Some(text) = value.as_str() {
                    push_insert(&mut runs, id(object), element, text, own_id);
                }
            }
            legacy::OpType::Delete => {
                if let Some(element) = element {
                    push_delete(&mut runs, id(object), element);
                }
            }
            _ => {}
        }
    }
    runs
}

fn push_insert(runs: &mut Vec<TextRun>, to: OpId, element: Option<OpId>, new: &str, own_id: OpId) {
    let before = OpId { counter: own_id.counter - 1, ..own_id };
    if let Some(TextRun::Insert { object, text, .. }) = runs.last_mut()
        && *object == to
        && element == Some(before)
    {
        text.push_str(new);
        return;
    }
    runs.push(TextRun::Insert { object: to, after: element, text: new.to_owned() });
}

fn push_delete(runs: &mut Vec<TextRun>, from: OpId, element: OpId) {
    if let Some(TextRun::Delete { object, first, count }) = runs.last_mut()
        && *object == from
        && first.actor == element.actor
        && first.counter + *count == element.counter
    {
        *count += 1;
        return;
    }
    runs.push(TextRun::Delete { object: from, first: element, count: 1 });
}
