//! Authoring: the change that brings a document from what it shows to what it should show.

use super::text::{Element, Text};
use super::{Content, View, diff};
use crate::change::{Action, Change, DELETIONS_MAX, Merge, OWN, Op, OpId, TextRun};
use crate::value::Value;

/// Runs of edits in a change beyond which a text is replaced by a new one, so that the change fits into a frame: as when
/// somebody empties a text of very many small edits.
const RUNS_MAX: usize = 4096;

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
    pub fn edit(&self, columns: &[(String, Merge, Value)]) -> Change {
        let mut writer = Writer::new(Action::Live(self.incarnation().unwrap_or(OWN)));
        let shown = self.shown().unwrap_or_default();
        for (key, merge, value) in columns {
            let alone = shown.get(key.as_str()).filter(|_| self.stands_alone(key));
            match (alone.map(|cell| (cell.id, &cell.content)), merge, value) {
                (Some((id, Content::Text(before))), Merge::Text, Value::Text(text)) => {
                    let runs = self.text_edits(id, before, text);
                    match writer.text.len() + runs.len() {
                        0..=RUNS_MAX => writer.text.extend(runs),
                        _ => writer.put_new(key, *merge, value, self.max_op + 1),
                    }
                }
                (Some((_, Content::Counter(from))), Merge::Counter, Value::Integer(to))
                    if to.checked_sub(*from).is_some() =>
                {
                    writer.ops.push((key.clone(), Action::Increment(to - from)));
                }
                _ => writer.put_new(key, *merge, value, self.max_op + 1),
            }
        }
        writer.finish(self)
    }

    /// What brings a text to a new content.
    fn text_edits(&self, object: OpId, before: &str, after: &str) -> Vec<TextRun> {
        let (text, mut runs) = (&self.texts[&object], vec![]);
        let id = |(author, counter): Element| OpId {
            counter: u64::from(counter),
            actor: self.actors[author as usize],
        };
        for edit in diff::edits(before, after) {
            if !edit.new.is_empty() {
                let after = element_before(text, before, edit.old.start).map(id);
                runs.push(TextRun::Insert { object, after, text: edit.new.to_owned() });
            }
            for ((author, first), count) in text.elements(edit.old.start, edit.old.end) {
                for from in (first..first + count).step_by(DELETIONS_MAX as usize) {
                    let count = u64::from(first + count - from).min(DELETIONS_MAX);
                    runs.push(TextRun::Delete { object, first: id((author, from)), count });
                }
            }
        }
        runs
    }

    /// Whether no concurrent value is beside the one that shows; else an edit replaces them all.
    fn stands_alone(&self, key: &str) -> bool {
        self.cells.get(key).is_some_and(|cells| cells.len() == 1) && self.edited_unseen(key).next().is_none()
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

/// The character of a text that stands before a byte of its content.
fn element_before(text: &Text, content: &str, at: usize) -> Option<Element> {
    let last = content[..at].chars().next_back()?;
    text.elements(at - last.len_utf8(), at).last().map(|(element, _)| *element)
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
