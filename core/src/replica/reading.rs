//! Reading: what people want to know of a replica: its state, conflicts, held and refused rows, history.

use super::{Author, Replica, ReplicaError, Scan, Stopped};
use crate::change::{Action, Merge, TextRun};
use crate::document::{Cell, Content, View};
use crate::id::{Actor, PeerId, SegmentId, Timestamp};
use crate::key::RowKey;
use crate::message::RefusalReason;
use crate::numbers::{CHOSEN, FreeNumbers, MOVED, encode_origins};
use crate::row;
use crate::store::user_table::UserTable;
use crate::store::{StoreError, documents, holds, layout, log, numbers, schema, segments};
use crate::value::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state of a file.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its tracked tables.
    pub tables: Vec<TableStatus>,
    /// Rows written and not captured yet.
    pub waiting_rows: u64,
    /// When it was last level with the server.
    pub last_level: Option<Timestamp>,
}

/// What the segments of a file take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistorySize {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Of those, bytes of segments made before the time that was asked for.
    pub bytes_before: u64,
    /// Whether both are estimates, from some of very many segments.
    pub is_estimate: bool,
}

/// How many rows a person should look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attention {
    /// Rows with conflicts.
    pub conflicts: u64,
    /// Rows held.
    pub held: u64,
    /// Rows refused.
    pub refused: u64,
}

/// The state of a tracked table.
#[derive(Debug, Clone)]
pub struct TableStatus {
    /// Its name.
    pub table: String,
    /// The container's name.
    pub container: String,
    /// Rows it shows.
    pub rows: u64,
    /// Segments it holds.
    pub segments: u64,
    /// Own segments that the server has not said to have.
    pub waiting_segments: u64,
    /// Changes of rows in those.
    pub waiting_changes: u64,
    /// Rows with NULL in their key, which do not sync.
    pub null_keys: u64,
    /// Rows held.
    pub held: u64,
    /// Rows refused.
    pub refused: u64,
    /// Rows that moved to other numbers, ever.
    pub renumbered: u64,
    /// Blocks of numbers that its rows get here, each by its first and last.
    pub leases: Vec<(i64, i64)>,
    /// Whether SQLite has no number left for its next row: the greatest one is used, and AUTOINCREMENT gives none twice.
    pub numbers_used_up: bool,
    /// Columns that are called otherwise in documents, and so on devices that did not rename them: here and there.
    pub renamed_columns: Vec<(String, String)>,
    /// The fingerprint of its segments.
    pub root: String,
    /// Whether it may only be read here.
    pub read_only: bool,
    /// Whether the server has been met and its rows taken in.
    pub met: bool,
    /// Why it cannot take part now, if it cannot.
    pub stopped: Option<Stopped>,
}

/// A value that somebody wrote, who and when.
#[derive(Debug, Clone)]
pub struct Written {
    /// The value.
    pub value: Value,
    /// Who wrote it.
    pub author: Author,
    /// When.
    pub time: Timestamp,
}

/// Values or rows that were written at the same time as those that show.
#[derive(Debug, Clone)]
pub struct Conflict {
    /// The table.
    pub table: String,
    /// The row's key.
    pub key: String,
    /// What is in conflict.
    pub kind: ConflictKind,
}

/// What is in conflict.
#[derive(Debug, Clone)]
pub enum ConflictKind {
    /// One column.
    Cell {
        /// The column.
        column: String,
        /// What shows.
        shown: Written,
        /// The others, newest first.
        others: Vec<Written>,
    },
    /// Whole rows under one key.
    Row {
        /// What shows.
        shown: Vec<(String, Value)>,
        /// The others, newest first; one whose columns are in conflict themselves stands there once more for each change that lost.
        others: Vec<OtherRow>,
    },
}

/// Another row under the same key.
#[derive(Debug, Clone)]
pub struct OtherRow {
    /// Its values by column.
    pub values: Vec<(String, Value)>,
    /// Who wrote the newest of its values, or those in which it differs from the one before.
    pub author: Author,
    /// When.
    pub time: Timestamp,
}

/// How to end a conflict. Numbers count the others from 1; 0 is what shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// This value of a column.
    Cell {
        /// The column.
        column: String,
        /// Which value.
        number: usize,
    },
    /// This row.
    Row {
        /// Which row.
        number: usize,
    },
    /// Keep what shows, and insert another row under a key of its own.
    AsNewRow {
        /// Which row.
        number: usize,
        /// The key as people write it; None: the next free integer.
        key: Option<String>,
        /// Whether references that mean it follow: those that the device wrote which inserted it, after it did and before it
        /// can have seen the row that shows.
        with_references: bool,
    },
}

/// A row that was made of one in conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeRow {
    /// Its key.
    pub key: String,
    /// How many references name it now.
    pub references: u64,
}

/// A row that documents have and the table cannot show.
#[derive(Debug, Clone)]
pub struct HeldRow {
    /// The table.
    pub table: String,
    /// Its key.
    pub key: String,
    /// Why it is held.
    pub cause: String,
    /// Its values by column.
    pub values: Vec<(String, Value)>,
}

/// A row that was written here and not taken by the server.
#[derive(Debug, Clone)]
pub struct RefusedRow {
    /// The table.
    pub table: String,
    /// Its key.
    pub key: String,
    /// Why.
    pub reason: String,
    /// When it was refused.
    pub time: Timestamp,
}

/// A row as an Automerge document.
#[derive(Debug, Clone)]
pub struct Exported {
    /// Its key.
    pub key: String,
    /// Its changes, each as the bytes of an Automerge change.
    pub changes: Vec<Vec<u8>>,
}

/// What a change did to a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// It set a value.
    Set(Value),
    /// It added to a counter.
    Add(i64),
    /// It edited a text; the edits in words.
    Text(String),
}

impl std::fmt::Display for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set(value) => write!(f, "{value}"),
            Self::Add(n) => write!(f, "{n:+}"),
            Self::Text(edits) => f.write_str(edits),
        }
    }
}

/// A change in the history of a row.
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    /// When it was written.
    pub time: Timestamp,
    /// Who wrote it.
    pub author: Author,
    /// "insert", "edit" or "delete".
    pub kind: &'static str,
    /// Columns and what it did to them.
    pub columns: Vec<(String, Effect)>,
    /// The segment that holds it.
    pub segment: SegmentId,
    /// "counts", "waits" for a change that is missing, or "void".
    pub state: &'static str,
}

impl Replica {
    /// The state of the file.
    pub fn status(&self) -> Result<Status, ReplicaError> {
        let mut tables = vec![];
        let mut waiting_rows = 0;
        if self.binding.is_some() {
            waiting_rows = log::count(&self.conn)?;
        }
        for state in self.containers.values() {
            let (waiting_segments, waiting_changes) = segments::count_unsent(&self.conn, state.no)?;
            let user = self.user_table(state.no)?;
            tables.push(TableStatus {
                table: state.table.clone(),
                container: state.name.clone(),
                rows: user.as_ref().map_or(Ok(0), |u| u.count(&self.conn))?,
                null_keys: user.map_or(Ok(0), |u| schema::null_keys(&self.conn, &u.table))?,
                segments: state.feed.count(),
                waiting_segments,
                waiting_changes,
                held: holds::count(&self.conn, state.no)?,
                refused: holds::count_refused(&self.conn, state.no)?,
                renumbered: numbers::count_renumbered(&self.conn, &state.table)?,
                leases: self.leases_of(state.no),
                numbers_used_up: self.are_numbers_used_up(state.no)?,
                renamed_columns: state.renamed_columns().collect(),
                root: state.feed.digest().to_string(),
                read_only: state.is_read_only(),
                met: state.scan() != Scan::Meet,
                stopped: self.stop_of(state.no)?,
            });
        }
        tables.sort_by(|a, b| a.table.cmp(&b.table));
        let last_level = match self.binding {
            Some(_) => layout::meta::<i64>(&self.conn, "last_level")?.map(|ms| Timestamp(ms as u64)),
            None => None,
        };
        Ok(Status { tables, waiting_rows, last_level })
    }

    /// How many rows a person should look at.
    pub fn attention(&self) -> Result<Attention, ReplicaError> {
        if self.binding.is_none() {
            return Ok(Attention::default());
        }
        Ok(Attention {
            held: holds::count_all(&self.conn)?,
            refused: holds::count_all_refused(&self.conn)?,
            conflicts: documents::count_in_conflict(&self.conn)?,
        })
    }

    /// Columns of tracked tables that merge by character or add up: the table, the column and which.
    pub fn merge_kinds(&self) -> Vec<(String, String, Merge)> {
        let columns =
            self.containers.values().flat_map(|state| state.columns.iter().map(move |c| (state, c)));
        let merging = columns.filter(|(_, column)| column.merge != Merge::Register);
        merging.map(|(state, column)| (state.table.clone(), column.name.clone(), column.merge)).collect()
    }

    /// The user's tables that could be tracked and are not.
    pub fn untracked(&self) -> Result<Vec<String>, ReplicaError> {
        let tables = schema::user_tables(&self.conn)?;
        Ok(tables
            .into_iter()
            .filter(|t| self.containers.of_table(t).is_none_or(|c| !c.has_table()))
            .collect())
    }

    /// Values and rows in conflict.
    pub fn conflicts(&mut self, table: Option<&str>) -> Result<Vec<Conflict>, ReplicaError> {
        let mut found = vec![];
        for (no, user) in self.chosen(table)? {
            for key in documents::keys_in_conflict(&self.conn, no, user.has_integer_key())? {
                let view = self.history.view(&self.conn, no, &key)?;
                self.conflicts_of(no, &user, &key, &view, &mut found)?;
            }
        }
        Ok(found)
    }

    fn conflicts_of(
        &self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        view: &View,
        found: &mut Vec<Conflict>,
    ) -> Result<(), ReplicaError> {
        let table = user.table.name.clone();
        let key_text = user.key_text(key);
        for (column, shown, others) in view.conflicts() {
            let Some(column) = column_name(user, column) else { continue };
            let shown = self.written(no, key, shown)?;
            let others = others.into_iter().map(|c| self.written(no, key, c)).collect::<Result<_, _>>()?;
            let kind = ConflictKind::Cell { column, shown, others };
            found.push(Conflict { table: table.clone(), key: key_text.clone(), kind });
        }
        let rows = other_versions(view, user);
        if !rows.is_empty() {
            let shown = row::shown(view, user).map(|v| named(user, v)).unwrap_or_default();
            let mut others = vec![];
            for Version { values, actor, .. } in rows {
                let author = self.author_with(self.author_of(no, key, &actor)?);
                others.push(OtherRow { values: named(user, values), author, time: actor.time() });
            }
            found.push(Conflict { table, key: key_text, kind: ConflictKind::Row { shown, others } });
        }
        Ok(())
    }

    fn written(&self, no: i64, key: &RowKey, cell: &Cell) -> Result<Written, ReplicaError> {
        let author = self.author_with(self.author_of(no, key, &cell.id.actor)?);
        Ok(Written { value: row::plain(cell), author, time: cell.id.actor.time() })
    }

    /// Who is behind an actor: the author of the segment that holds its change of the row.
    fn author_of(&self, no: i64, key: &RowKey, actor: &Actor) -> Result<PeerId, ReplicaError> {
        for at in documents::changes(&self.conn, no, key)? {
            let segment = segments::open(&self.conn, at.segment())?;
            if segment.actor == *actor {
                return Ok(segment.header.author);
            }
        }
        Err(StoreError::Damaged { what: "a change without its segment" }.into())
    }

    /// Ends a conflict by a change that says what shall show. Gives the new row, if one was made.
    pub fn choose(
        &mut self,
        now: Timestamp,
        table: &str,
        key: &str,
        choice: &Choice,
    ) -> Result<Option<MadeRow>, ReplicaError> {
        while self.capture(now)?.more {}
        let no = self.number(table)?;
        let user = self.user(no)?;
        let key = user.parse_key(key).map_err(invalid)?;
        let view = self.history.view(&self.conn, no, &key)?;
        let Some(shown) = row::shown(&view, &user) else {
            return Err(ReplicaError::NotFound { what: format!("row {}", user.key_text(&key)) });
        };
        let all = |values: &[Value]| -> Vec<_> {
            user.columns.iter().zip(values).map(|(c, v)| (c.key.clone(), c.merge, v.clone())).collect()
        };
        let time = self.corrected(now);
        let (change, new_row) = match choice {
            Choice::Cell { column, number } => {
                let place = user
                    .columns
                    .iter()
                    .position(|c| user.table.columns[c.index].name.eq_ignore_ascii_case(column));
                let place =
                    place.ok_or_else(|| ReplicaError::NotFound { what: format!("column {column}") })?;
                let document_key = user.columns[place].key.clone();
                let conflict = view.conflicts().into_iter().find(|(k, _, _)| *k == document_key);
                let value = match number {
                    0 => Some(shown[place].clone()),
                    n => conflict.and_then(|(_, _, others)| others.get(n - 1).map(|c| row::plain(c))),
                };
                let value = value.ok_or_else(|| nothing(*number))?;
                (view.edit(&[(document_key, user.columns[place].merge, value)]), None)
            }
            Choice::Row { number: 0 } => (view.decide(&all(&shown)), None),
            Choice::Row { number } => {
                let Version { values, hidden, .. } = other_version(&view, &user, *number)?;
                let hidden = self.with_defaults(no, hidden)?;
                (view.decide(&[all(&values), hidden].concat()), None)
            }
            Choice::AsNewRow { number, key, with_references } => {
                let Version { values, hidden, incarnation, .. } = other_version(&view, &user, *number)?;
                let key = self.new_key(no, &user, key.as_deref())?;
                let columns = [all(&values), self.with_defaults(no, hidden)?].concat();
                (
                    view.decide_about(&all(&shown), incarnation),
                    Some((key, columns, incarnation, *with_references)),
                )
            }
        };
        self.transaction_again(|r| {
            let mut rows = vec![(no, key.clone())];
            let (mut change, mut made) = (change.clone(), None);
            if let Some((new, columns, incarnation, with_references)) = &new_row {
                let view = r.history.view(&r.conn, no, new)?;
                if view.is_live() {
                    return Err(ReplicaError::Invalid { what: format!("row {} exists", user.key_text(new)) });
                }
                let mut columns = columns.clone();
                // What it refers to is still what it referred to as the row that it was.
                let was = encode_origins(&[(key.clone(), *incarnation)]);
                columns.push((CHOSEN.to_owned(), Merge::Register, was));
                r.write_change(no, new, &view.insert(&columns), time)?;
                rows.push((no, new.clone()));
                let (followed, references) = match with_references {
                    true => r.take_along(no, (&key, incarnation), new, time)?,
                    false => Default::default(),
                };
                rows.extend(followed);
                // A row under this key may have referred to it.
                let view = r.history.view(&r.conn, no, &key)?;
                if let Some(shown) = row::shown(&view, &user) {
                    change = view.decide_about(&all(&shown), *incarnation);
                }
                made = Some(MadeRow { key: user.key_text(new), references });
            }
            r.write_change(no, &key, &change, time)?;
            r.settle_quietly(rows)?;
            Ok(made)
        })
    }

    /// Columns of other devices, with their defaults where a row does not have them.
    fn with_defaults(
        &mut self,
        no: i64,
        columns: Vec<(String, Merge, Option<Value>)>,
    ) -> Result<Vec<(String, Merge, Value)>, ReplicaError> {
        let description = self.description(no)?;
        let default = |key: &str| description.as_ref().and_then(|d| d.default_of(key)).cloned();
        let with = |(key, merge, value): (String, Merge, Option<Value>)| {
            let value = value.or_else(|| default(&key)).unwrap_or(Value::Null);
            (key, merge, value)
        };
        Ok(columns.into_iter().map(with).collect())
    }

    fn new_key(&mut self, no: i64, user: &UserTable, key: Option<&str>) -> Result<RowKey, ReplicaError> {
        match key {
            Some(text) => user.parse_key(text).map_err(invalid),
            None if user.has_integer_key() && !user.key_is_reference() => {
                let next = self.free_number(no, user, &mut FreeNumbers::new(0))?;
                let none = || ReplicaError::Invalid { what: "there is no free key left".into() };
                next.map(RowKey::Integer).ok_or_else(none)
            }
            None => Err(ReplicaError::Invalid {
                what: "say which key the new row shall have, with --new-key".into(),
            }),
        }
    }

    /// Rows that documents have and the tables cannot show.
    pub fn held(&mut self, table: Option<&str>) -> Result<Vec<HeldRow>, ReplicaError> {
        let mut found = vec![];
        for (no, user) in self.chosen(table)? {
            for (key, cause) in holds::all(&self.conn, no, user.has_integer_key())? {
                let view = self.history.view(&self.conn, no, &key)?;
                let values = row::shown(&view, &user).map(|v| named(&user, v)).unwrap_or_default();
                let table = user.table.name.clone();
                found.push(HeldRow { table, key: user.key_text(&key), cause, values });
            }
        }
        Ok(found)
    }

    /// The first `limit` held rows: table, key and cause.
    pub fn held_names(&self, limit: usize) -> Result<Vec<(String, String, String)>, ReplicaError> {
        let mut found = vec![];
        for (no, user) in self.chosen(None)? {
            if found.len() >= limit {
                break;
            }
            for (key, cause) in
                holds::after(&self.conn, no, None, limit - found.len(), user.has_integer_key())?
            {
                found.push((user.table.name.clone(), user.key_text(&key), cause));
            }
        }
        Ok(found)
    }

    /// Rows that were written here and not taken by the server.
    pub fn refused(&self) -> Result<Vec<RefusedRow>, ReplicaError> {
        let mut found = vec![];
        for (no, user) in self.chosen(None)? {
            for row in holds::refused(&self.conn, no, user.has_integer_key())? {
                let reason = RefusalReason::from_code(row.reason);
                found.push(RefusedRow {
                    table: user.table.name.clone(),
                    key: user.key_text(&row.key),
                    reason: reason.map_or("unknown".into(), |r| r.to_string()),
                    time: row.time,
                });
            }
        }
        Ok(found)
    }

    /// All that was ever done to a row, oldest first.
    pub fn history(&mut self, table: &str, key: &str) -> Result<Vec<HistoryEntry>, ReplicaError> {
        let no = self.number(table)?;
        let user = self.user(no)?;
        let key = user.parse_key(key).map_err(invalid)?;
        let view = self.history.view(&self.conn, no, &key)?;
        let mut entries = vec![];
        for at in documents::changes(&self.conn, no, &key)? {
            let hash = self.history.hash(&self.conn, at)?;
            let decoded = self.history.segment(&self.conn, at.segment())?;
            let Some(change) = decoded.change(at.index()) else { continue };
            let segment = &decoded.segment;
            let kind = match change.ops.first().map(|op| &op.action) {
                Some(Action::Dead) => "delete",
                Some(Action::Live(a)) if *a == crate::change::OWN => "insert",
                _ => "edit",
            };
            let mut columns: Vec<_> = change
                .ops
                .iter()
                .skip(1)
                .filter(|op| op.key != MOVED && op.key != CHOSEN)
                .map(|op| (column_name(&user, &op.key).unwrap_or(op.key.clone()), effect(&op.action)))
                .collect();
            if !change.text.is_empty() {
                columns.push(("(text)".into(), Effect::Text(text_summary(&change.text))));
            }
            let state = match view.void.contains_key(&hash) {
                true => "void",
                false if view.waiting.contains(&hash) => "waits",
                false => "counts",
            };
            let (time, author) = (segment.header.time, self.author_with(segment.header.author));
            entries.push(HistoryEntry { time, author, kind, columns, segment: segment.id, state });
        }
        if entries.is_empty() {
            return Err(ReplicaError::NotFound { what: format!("row {} of {table}", user.key_text(&key)) });
        }
        entries.sort_by_key(|e| e.time);
        Ok(entries)
    }

    /// One row, which may be deleted, as an Automerge document.
    pub fn export_row(&mut self, table: &str, key: &str) -> Result<Exported, ReplicaError> {
        let no = self.number(table)?;
        let user = self.user(no)?;
        let key = user.parse_key(key).map_err(invalid)?;
        let changes = self.automerge_changes(no, &key)?;
        if changes.is_empty() {
            return Err(ReplicaError::NotFound { what: format!("row {} of {table}", user.key_text(&key)) });
        }
        Ok(Exported { key: user.key_text(&key), changes })
    }

    fn automerge_changes(&mut self, no: i64, key: &RowKey) -> Result<Vec<Vec<u8>>, ReplicaError> {
        let mut chunks = vec![];
        for at in documents::changes(&self.conn, no, key)? {
            let (actor, change) = self.history.change(&self.conn, at)?;
            let mut chunk = vec![];
            crate::change_codec::encode(&change, &actor, &mut chunk)
                .map_err(|_| StoreError::Damaged { what: "a change that cannot be one of Automerge's" })?;
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    /// All rows of a table, deleted ones too, as Automerge documents.
    pub fn export(&mut self, table: &str) -> Result<Vec<Exported>, ReplicaError> {
        let no = self.number(table)?;
        let user = self.user(no)?;
        let mut rows = vec![];
        let mut after = None;
        loop {
            let keys = documents::keys_after(&self.conn, no, user.has_integer_key(), after.as_ref(), 1024)?;
            let Some(last) = keys.last().cloned() else { return Ok(rows) };
            for key in keys {
                let changes = self.automerge_changes(no, &key)?;
                rows.push(Exported { key: user.key_text(&key), changes });
            }
            after = Some(last);
        }
    }

    fn chosen(&self, table: Option<&str>) -> Result<Vec<(i64, Arc<UserTable>)>, ReplicaError> {
        let only = table.map(|t| self.number(t)).transpose()?;
        let mut chosen = vec![];
        for no in self.containers.numbers().filter(|no| only.is_none_or(|only| only == *no)) {
            chosen.extend(self.user_table(no)?.map(|user| (no, user)));
        }
        Ok(chosen)
    }

    fn user(&self, no: i64) -> Result<Arc<UserTable>, ReplicaError> {
        let what = || format!("table {}", self.containers[&no].table);
        self.user_table(no)?.ok_or_else(|| ReplicaError::NotFound { what: what() })
    }
}

fn invalid(what: String) -> ReplicaError {
    ReplicaError::Invalid { what }
}

fn nothing(number: usize) -> ReplicaError {
    ReplicaError::NotFound { what: format!("conflict number {number}") }
}

/// What another row under a key says, or said before somebody edited it at the same time as others.
struct Version {
    /// Its values, as the table has its columns.
    values: Vec<Value>,
    /// What it has in columns that others have and this table has not; None where it has nothing there either.
    hidden: Vec<(String, Merge, Option<Value>)>,
    /// The row's incarnation.
    incarnation: Actor,
    /// Who wrote the newest of its values.
    actor: Actor,
}

impl Version {
    fn of(incarnation: Actor, cells: &BTreeMap<&str, &Cell>, view: &View, user: &UserTable) -> Self {
        let is_hidden = |key: &str| {
            !key.is_empty() && key != MOVED && key != CHOSEN && user.columns.iter().all(|c| c.key != key)
        };
        let hidden = view.cells.keys().filter(|key| is_hidden(key)).map(|key| {
            let cell = cells.get(key.as_str());
            let merge = match cell.map(|cell| &cell.content) {
                Some(Content::Counter(_)) => Merge::Counter,
                Some(Content::Text(_)) => Merge::Text,
                _ => Merge::Register,
            };
            (key.clone(), merge, cell.map(|cell| row::plain(cell)))
        });
        let newest = cells.values().map(|cell| cell.id.actor).max();
        Self {
            values: row::values_of(cells, user),
            hidden: hidden.collect(),
            incarnation,
            actor: newest.unwrap_or(incarnation),
        }
    }
}

/// The other rows under a key, each as it would show, and then once for each change whose values lost within it.
fn other_versions(view: &View, user: &UserTable) -> Vec<Version> {
    let mut versions = vec![];
    for (incarnation, cells) in view.other_rows() {
        versions.push(Version::of(incarnation, &cells, view, user));
        let mut lost: BTreeMap<Actor, Vec<(&str, &Cell)>> = BTreeMap::new();
        for (key, cell) in &cells {
            for beside in view.beside(key, cell, incarnation) {
                lost.entry(beside.id.actor).or_default().push((key, beside));
            }
        }
        for (actor, lost) in lost.into_iter().rev() {
            let mut cells = cells.clone();
            cells.extend(lost);
            versions.push(Version { actor, ..Version::of(incarnation, &cells, view, user) });
        }
    }
    versions
}

fn other_version(view: &View, user: &UserTable, number: usize) -> Result<Version, ReplicaError> {
    let place = number.checked_sub(1).and_then(|n| other_versions(view, user).into_iter().nth(n));
    place.ok_or_else(|| nothing(number))
}

fn column_name(user: &UserTable, key: &str) -> Option<String> {
    let column = user.columns.iter().find(|c| c.key == key)?;
    Some(user.table.columns[column.index].name.clone())
}

fn named(user: &UserTable, values: Vec<Value>) -> Vec<(String, Value)> {
    let name = |n: usize| user.table.columns[user.columns[n].index].name.clone();
    values.into_iter().enumerate().map(|(n, v)| (name(n), v)).collect()
}

fn effect(action: &Action) -> Effect {
    match action {
        Action::Put(value) => Effect::Set(value.clone()),
        Action::Counter(n) => Effect::Set(Value::Integer(*n)),
        Action::Increment(n) => Effect::Add(*n),
        Action::MakeText => Effect::Text("text".into()),
        Action::Live(_) | Action::Dead => Effect::Text(String::new()),
    }
}

fn text_summary(runs: &[TextRun]) -> String {
    let part = |run: &TextRun| match run {
        TextRun::Insert { text, .. } => format!("+{text:?}"),
        TextRun::Delete { count, .. } => format!("-{count}"),
    };
    runs.iter().map(part).collect::<Vec<_>>().join(" ")
}
