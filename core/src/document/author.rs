//! Authoring: the change that brings a document from what it shows to what it should show.

use super::text::{Element, Text};
use super::{Cell, Content, View, diff};
use crate::change::{Action, Change, DELETIONS_MAX, Merge, OWN, Op, OpId, TextRun};
use crate::id::Actor;
use crate::value::Value;

/// Runs of edits in a change beyond which a text is replaced by a new one, so that the change fits into a frame: as when
/// somebody empties a text of very many small edits.
const RUNS_MAX: usize = 4096;

impl View {
    /// The change that deletes all that is under the key.
    pub fn delete(&self) -> Change {
        self.change(vec![("".to_owned(), Action::Dead)], &[])
    }

    /// The change that opens an incarnation with these columns, in place of all that is under the key.
    pub fn insert(&self, columns: &[(String, Merge, Value)]) -> Change {
        self.open(columns, &[])
    }

    /// The change that opens an incarnation with these columns in place of `same`, if there is one. Other rows that live under
    /// the key stay as they are: whoever inserted it did not see them.
    pub fn insert_beside(&self, columns: &[(String, Merge, Value)], same: Option<Actor>) -> Change {
        self.open(columns, &self.lives().filter(|life| Some(*life) != same).collect::<Vec<_>>())
    }

    fn open(&self, columns: &[(String, Merge, Value)], others: &[Actor]) -> Change {
        let mut writer = Writer::new(Action::Live(OWN));
        for (key, merge, value) in columns {
            writer.put_new(key, *merge, value, self.max_op + 1);
        }
        writer.finish(self, others)
    }

    /// The change that sets these columns of the row that shows. Other rows under the key stay as they are: whoever edited it
    /// did not see them.
    pub fn edit(&self, columns: &[(String, Merge, Value)]) -> Change {
        self.write(columns, &self.other_lives())
    }

    /// The change that sets these columns of a row under the key that lives, whether it shows or not. The others stay as they
    /// are.
    pub(crate) fn edit_row(&self, row: Actor, columns: &[(String, Merge, Value)]) -> Change {
        let others: Vec<_> = self.lives().filter(|life| *life != row).collect();
        let mut writer = Writer::new(Action::Live(row));
        for (key, merge, value) in columns {
            writer.put_new(key, *merge, value, self.max_op + 1);
        }
        writer.finish(self, &others)
    }

    /// The change that sets these columns and takes the place of all that is under the key: other rows end.
    pub fn decide(&self, columns: &[(String, Merge, Value)]) -> Change {
        self.write(columns, &[])
    }

    /// The change that sets these columns of the row that shows, and ends one of the others.
    pub(crate) fn decide_about(&self, columns: &[(String, Merge, Value)], ended: Actor) -> Change {
        let others: Vec<_> = self.other_lives().into_iter().filter(|life| *life != ended).collect();
        self.write(columns, &others)
    }

    /// The change that deletes one of the rows under the key.
    pub(crate) fn delete_row(&self, row: Actor) -> Change {
        let others: Vec<_> = self.lives().filter(|life| *life != row).collect();
        self.change(vec![("".to_owned(), Action::Dead)], &others)
    }

    fn write(&self, columns: &[(String, Merge, Value)], others: &[Actor]) -> Change {
        let mut writer = Writer::new(Action::Live(self.incarnation().unwrap_or(OWN)));
        let shown = self.shown().unwrap_or_default();
        for (key, merge, value) in columns {
            let alone = shown.get(key.as_str()).filter(|cell| self.stands_alone(key, cell, others));
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
        writer.finish(self, others)
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

    /// Whether no concurrent value of the same row is beside the one that shows; else an edit replaces them all.
    fn stands_alone(&self, key: &str, shown: &Cell, others: &[Actor]) -> bool {
        let mut cells = self.cells_but_of(key, others);
        cells.next().is_some_and(|cell| cell.id == shown.id)
            && cells.next().is_none()
            && !self.edited_unseen(key).any(|cell| cell.incarnation == shown.incarnation)
    }

    /// The live values under a key, without those of some incarnations.
    fn cells_but_of(&self, key: &str, others: &[Actor]) -> impl Iterator<Item = &Cell> {
        let cells = self.cells.get(key).into_iter().flatten();
        cells.filter(|cell| !others.contains(&cell.incarnation))
    }

    fn change(&self, ops: Vec<(String, Action)>, others: &[Actor]) -> Change {
        let preds = |key: &str| -> Vec<OpId> {
            let mut preds: Vec<_> = self.cells_but_of(key, others).map(|c| c.id).collect();
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

    fn finish(self, view: &View, others: &[Actor]) -> Change {
        let mut change = view.change(self.ops, others);
        change.text = self.text;
        change
    }
}
