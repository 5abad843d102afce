//! Columns: which column of a table is which in its documents, also after its schema changed.
//!
//! A column keeps its key in documents for as long as it lives, whatever its name. When the set of columns changed, the
//! table's rows decide: a column is the one whose values documents show for its rows. Place and type only break ties, or
//! decide where rows tell nothing. No two columns have one key. Columns that went are remembered, so that a description
//! does not bring them back.

use super::{Replica, ReplicaError, Scan};
use crate::change::Merge;
use crate::description::Description;
use crate::row;
use crate::store::schema::{self, TrackRefusal, literal, read_literal};
use crate::store::user_table::{RowValues, UserTable};
use crate::store::{StoreError, log};
use crate::table::{Affinity, Table};
use crate::value::{Value, ValueRef};
use std::collections::{HashMap, HashSet};

/// Rows of a larger table that are looked at from each of its ends, and between them.
const SAMPLE: usize = 64;
/// In a table of up to so many rows, all of them are.
const SAMPLE_ALL: usize = 512;
/// The same where nothing but the text of the schema has changed.
const SAMPLE_FEW: usize = 24;
/// Rows of a larger table that have something else in a column than its default, and of how many columns.
const SPARSE_ROWS: usize = 8;
const SPARSE_COLUMNS: usize = 64;
/// Longest name that is not cut before something is added to it, in bytes.
const NAME_LEN_KEPT: usize = 112;

/// What stands between columns, and between what is kept of one.
const SEPARATORS: [char; 2] = ['\u{1e}', '\u{1f}'];

/// How a column of the table stands in documents.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ColumnBinding {
    /// Its name; empty for one that the table has no longer.
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) merge: Merge,
    /// Whether it is new in the table, and documents may have values for it that are still to be filled in.
    pub(crate) is_new: bool,
    /// What rows show whose documents do not have it, on every replica alike: its default when it was new. None: it was
    /// not looked at yet.
    pub(crate) absent: Option<Value>,
}

/// What became of the columns of a table whose schema changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decided {
    /// They are the same, or some went.
    Same,
    /// Others came after them.
    Added,
    /// Which is which was decided by the table's rows, which are to be compared with documents.
    ByRows,
}

impl ColumnBinding {
    pub(crate) fn new(name: &str) -> Self {
        let (name, key) = (name.to_owned(), name.to_owned());
        Self { name, key, merge: Merge::Register, is_new: false, absent: None }
    }

    fn is_gone(&self) -> bool {
        self.name.is_empty()
    }
}

/// How columns stand in documents as far as their names tell.
pub(super) fn by_name(bindings: &[ColumnBinding], table: &Table) -> Vec<ColumnBinding> {
    let place = |name: &String| bindings.iter().position(|b| !b.is_gone() && b.name == *name);
    bound(bindings, table, &table.columns.iter().map(|c| place(&c.name)).collect::<Vec<_>>())
}

/// The bindings of a table's columns, for each of which `chosen` says which one it was.
fn bound(bindings: &[ColumnBinding], table: &Table, chosen: &[Option<usize>]) -> Vec<ColumnBinding> {
    // A column that went is not the one that comes, whatever its name: rows would have said so.
    let mut taken: HashSet<String> = bindings.iter().map(|b| b.key.clone()).collect();
    let is_name = |key: &str| table.columns.iter().any(|c| c.name.eq_ignore_ascii_case(key));
    let mut all = vec![];
    for (column, chosen) in table.columns.iter().zip(chosen) {
        let default = || Some(column.absent());
        let binding = match chosen {
            Some(n) => {
                let known = bindings[*n].clone();
                ColumnBinding {
                    name: column.name.clone(),
                    absent: known.absent.clone().or_else(default),
                    ..known
                }
            }
            None => {
                let key = free_key(&column.name, |key| taken.contains(key), is_name);
                taken.insert(key.clone());
                let (name, merge) = (column.name.clone(), Merge::Register);
                ColumnBinding { name, key, merge, is_new: true, absent: default() }
            }
        };
        all.push(binding);
    }
    let gone = bindings.iter().enumerate().filter(|(n, _)| !chosen.contains(&Some(*n)));
    let gone = gone.map(|(_, b)| ColumnBinding { name: String::new(), is_new: false, ..b.clone() });
    all.extend(gone.collect::<Vec<_>>());
    all
}

/// A key for a new column: its name, or if another column has or had that, the name and a number. Every device finds the same.
fn free_key(name: &str, is_taken: impl Fn(&str) -> bool, is_name: impl Fn(&str) -> bool) -> String {
    if !is_taken(name) {
        return name.to_owned();
    }
    let end = (0..=name.len().min(NAME_LEN_KEPT)).rev().find(|n| name.is_char_boundary(*n)).unwrap_or(0);
    let numbered = (2..).map(|n| format!("{} ({n})", &name[..end]));
    let is_free = |key: &String| !is_taken(key) && !is_name(key);
    numbered.into_iter().find(is_free).unwrap_or_default()
}

/// Rows of the table, each with what its document shows.
#[derive(Debug, Default)]
struct Sample {
    rows: Vec<SampledRow>,
}

impl Sample {
    /// Whether a row that was not written since has another value than its document, in a column that both have.
    fn contradicts(&self, user: &UserTable, columns: &[ColumnBinding]) -> bool {
        let binding = |index: usize| {
            let name = &user.table.columns[index].name;
            columns.iter().find(|b| b.name == *name)
        };
        let differs = |row: &SampledRow, index: usize| {
            let shown = binding(index).and_then(|b| row.shown.get(&b.key).or(b.absent.as_ref()));
            row.values
                .get(&index)
                .zip(shown)
                .is_some_and(|(value, shown)| !value.as_ref().same(shown.as_ref()))
        };
        let clean = self.rows.iter().filter(|row| !row.is_dirty);
        clean.into_iter().any(|row| user.columns.iter().any(|c| differs(row, c.index)))
    }
}

impl Sample {
    /// Whether of some column all rows have the value of those that do not have it, in the table and in documents.
    fn tells_nothing_of_some(&self, user: &UserTable, columns: &[ColumnBinding]) -> bool {
        let tells = |row: &SampledRow, index: usize| {
            let binding = columns.iter().find(|b| b.name == user.table.columns[index].name);
            let Some(absent) = binding.and_then(|b| b.absent.as_ref()) else { return true };
            let shown = binding.and_then(|b| row.shown.get(&b.key));
            let values = [row.values.get(&index), shown];
            values.into_iter().flatten().any(|value| !value.as_ref().same(absent.as_ref()))
        };
        user.columns.iter().any(|c| !self.rows.iter().any(|row| tells(row, c.index)))
    }
}

#[derive(Debug)]
struct SampledRow {
    /// By the index of the column.
    values: HashMap<usize, Value>,
    /// By the key in documents.
    shown: HashMap<String, Value>,
    /// Whether the application wrote it since it was captured last.
    is_dirty: bool,
}

/// Rows that say that a column is, or is not, one that documents know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Evidence {
    equal: usize,
    other: usize,
}

/// What the names, places and rows tell of a table whose columns changed.
struct Changed<'a> {
    bindings: &'a [ColumnBinding],
    /// Columns as they were, by their index then: indexes of `bindings`.
    before: Vec<usize>,
    table: &'a Table,
    user: &'a UserTable,
    sample: Sample,
    /// The affinities of columns as they are described, by their keys.
    affinities: HashMap<String, Affinity>,
    /// Whether the schema was changed by one statement since.
    is_one_change: bool,
}

impl Changed<'_> {
    /// For each column of the table the binding that it had.
    fn decide(&self, key: &[(usize, usize)]) -> Vec<Option<usize>> {
        let columns = &self.table.columns;
        let mut chosen: Vec<Option<usize>> = vec![None; columns.len()];
        for (column, binding) in key {
            chosen[*column] = Some(*binding);
        }
        let is_open = |n: usize, chosen: &[Option<usize>]| {
            chosen[n].is_none() && !self.table.key_columns().contains(&n)
        };
        for n in 0..columns.len() {
            if let Some(b) = self.same_name(n).filter(|b| is_open(n, &chosen) && !chosen.contains(&Some(*b)))
                && (columns[n].generated || self.is_itself(n, b))
            {
                chosen[n] = Some(b);
            }
        }
        let mut pairs = vec![];
        for n in (0..columns.len()).filter(|n| is_open(*n, &chosen) && !columns[*n].generated) {
            for (place, b) in self.before.iter().enumerate().filter(|(_, b)| !chosen.contains(&Some(**b))) {
                let Evidence { equal, other } = self.said(n, *b);
                if equal > 0 && equal >= other {
                    let tie = (self.same_name(n) != Some(*b), place.abs_diff(n), !self.has_affinity(n, *b));
                    pairs.push((std::cmp::Reverse(equal), other, tie, n, *b));
                }
            }
        }
        pairs.sort_unstable();
        for (.., n, b) in pairs {
            if chosen[n].is_none() && !chosen.contains(&Some(b)) {
                chosen[n] = Some(b);
            }
        }
        // A column that kept its name and stands elsewhere may be another one, and its name that of one more.
        self.decide_by_place(&mut chosen, |n| self.same_name(n).is_none());
        for n in 0..columns.len() {
            if let Some(b) = self.same_name(n).filter(|b| chosen[n].is_none() && !chosen.contains(&Some(*b)))
                && !self.is_made_anew(n, b)
            {
                chosen[n] = Some(b);
            }
        }
        self.decide_by_place(&mut chosen, |_| true);
        chosen
    }

    /// Takes columns for those that stood at their places, where rows say nothing.
    fn decide_by_place(&self, chosen: &mut [Option<usize>], is_meant: impl Fn(usize) -> bool) {
        let key = self.table.key_columns();
        for (n, column) in self.table.columns.iter().enumerate() {
            let is_open = chosen[n].is_none() && !key.contains(&n) && !column.generated && is_meant(n);
            if is_open
                && let Some(b) = self.before.get(n).filter(|b| !chosen.contains(&Some(**b)))
                && self.is_unsaid(n, *b)
                && self.has_affinity(n, *b)
            {
                chosen[n] = Some(*b);
            }
        }
    }

    fn same_name(&self, n: usize) -> Option<usize> {
        let name = &self.table.columns[n].name;
        self.before.iter().copied().find(|b| self.bindings[*b].name == *name)
    }

    /// Whether a column that kept its name is to stay what it was: unless the rows that nobody has written since say otherwise, or
    /// say nothing and it is at another place among the others.
    fn is_itself(&self, n: usize, b: usize) -> bool {
        let itself = self.clean_evidence(n, b);
        // Rows with one value in both columns speak for either: those count where another column explains more.
        let is_better = |other: Evidence| other.equal > itself.equal && other.other < itself.other;
        match itself {
            Evidence { equal: 0, other: 0 } => !self.has_moved(n, b),
            Evidence { other: 0, .. } => true,
            Evidence { equal, other } => {
                equal >= other
                    && !self
                        .before
                        .iter()
                        .any(|rival| *rival != b && is_better(self.clean_evidence(n, *rival)))
            }
        }
    }

    /// Whether a column was dropped and one of its name added: that one has its default in all rows, where documents have values.
    fn is_made_anew(&self, n: usize, b: usize) -> bool {
        let Some(column) = self.user.columns.iter().find(|c| c.index == n) else { return false };
        let Evidence { equal, other } = self.clean_evidence(n, b);
        let has_default =
            |row: &SampledRow| row.values.get(&n).is_some_and(|v| v.as_ref().same(column.absent.as_ref()));
        let mut clean = self.sample.rows.iter().filter(|row| !row.is_dirty);
        // A drop and an add are two statements.
        !self.is_one_change && equal == 0 && other > 0 && clean.all(has_default)
    }

    /// What the rows say that were not written since they were captured.
    fn clean_evidence(&self, n: usize, b: usize) -> Evidence {
        self.evidence(n, b, |row| !row.is_dirty)
    }

    /// What rows say of a column being one that documents know: those that nobody has written since, or if they say nothing,
    /// all.
    fn said(&self, n: usize, b: usize) -> Evidence {
        match self.clean_evidence(n, b) {
            Evidence { equal: 0, other: 0 } => self.evidence(n, b, |_| true),
            evidence => evidence,
        }
    }

    /// Whether rows leave it to place and type whether a column is one that documents know. One change of the schema that
    /// leaves as many columns is a rename, whatever was written since.
    fn is_unsaid(&self, n: usize, b: usize) -> bool {
        let is_rename = self.is_one_change && self.before.len() == self.table.columns.len();
        match is_rename {
            true => self.clean_evidence(n, b) == Evidence::default(),
            false => self.said(n, b) == Evidence::default(),
        }
    }

    fn has_moved(&self, n: usize, b: usize) -> bool {
        if self.before.len() == self.table.columns.len() {
            return self.before[n] != b;
        }
        let now: Vec<_> = (0..self.table.columns.len()).filter_map(|n| self.same_name(n)).collect();
        let before = self.before.iter().filter(|b| now.contains(b));
        let place = (0..n).filter(|n| self.same_name(*n).is_some()).count();
        before.copied().position(|other| other == b) != Some(place)
    }

    fn has_affinity(&self, n: usize, b: usize) -> bool {
        let described = self.affinities.get(&self.bindings[b].key);
        described.is_none_or(|affinity| *affinity == self.table.columns[n].affinity())
    }

    /// What rows say of a column being one that documents know. A row that shows the column's default says something only
    /// where its document shows another value: a new column has it in all rows.
    fn evidence(&self, n: usize, b: usize, counts: impl Fn(&SampledRow) -> bool) -> Evidence {
        let mut evidence = Evidence::default();
        let Some(column) = self.user.columns.iter().find(|c| c.index == n) else { return evidence };
        for row in self.sample.rows.iter().filter(|row| counts(row)) {
            let (Some(value), Some(shown)) = (row.values.get(&n), row.shown.get(&self.bindings[b].key))
            else {
                continue;
            };
            match is_like(value, shown) {
                false => evidence.other += 1,
                true if value.as_ref().same(column.absent.as_ref()) => {}
                true => evidence.equal += 1,
            }
        }
        evidence
    }
}

/// Whether a value may be another one that was converted when the column's type changed.
fn is_like(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value.as_ref() {
        ValueRef::Integer(i) => Some(i as f64),
        ValueRef::Real(f) => Some(f),
        ValueRef::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    let bytes = |value: &Value| match value.as_ref() {
        ValueRef::Text(text) => Some(text.as_bytes().to_vec()),
        ValueRef::Blob(bytes) | ValueRef::RawText(bytes) => Some(bytes.to_vec()),
        _ => None,
    };
    let same = |a: Option<f64>, b: Option<f64>| a.is_some() && a == b;
    a.as_ref().same(b.as_ref()) || same(number(a), number(b)) || bytes(a).is_some_and(|a| Some(a) == bytes(b))
}

impl Replica {
    /// Finds out which column is which after the schema of a table changed, and keeps it. Call it in a transaction.
    pub(super) fn decide_columns(&mut self, no: i64) -> Result<Decided, ReplicaError> {
        let Some(state) = self.containers.get(&no).filter(|c| c.has_table()) else {
            return Ok(Decided::Same);
        };
        let (bindings, scan) = (state.columns.clone(), state.scan());
        // What became of it while it was away or did not fit, is not counted.
        let was_seen = state.fingerprint.is_some() && state.away.is_none();
        let table = match schema::read_known_table(&self.conn, self.kinds()?, &state.table) {
            Ok(table) => table,
            Err(TrackRefusal::Store(error)) => return Err(error.into()),
            Err(_) => return Ok(Decided::Same),
        };
        let before: Vec<_> = (0..bindings.len()).filter(|n| !bindings[*n].is_gone()).collect();
        let is_same = |(b, c): (&usize, &crate::table::Column)| bindings[*b].name == c.name;
        let kept = before.iter().zip(&table.columns).take_while(|pair| is_same(*pair)).count();
        let user = UserTable::new(table.clone(), str::to_owned);
        let known = !matches!(scan, Scan::Meet | Scan::Gather | Scan::Join | Scan::Make);
        let has_all = kept == before.len();
        // Such as a column that went and came again, or another that has its name and place now.
        let is_unlike = has_all && known && self.is_unlike_documents(no, &user, &bindings)?;
        if has_all && !is_unlike {
            // Those that came stand at the end, as ALTER TABLE puts them.
            return Ok(if kept == table.columns.len() { Decided::Same } else { Decided::Added });
        }
        let description = self.description(no)?;
        let affinity = |b: &ColumnBinding| Some((b.key.clone(), description.as_ref()?.affinity(&b.key)?));
        let affinities = bindings.iter().filter_map(affinity).collect();
        // The columns of the key are known by their order.
        let mut key = vec![];
        if let Some(described) =
            description.as_ref().map(|d| d.key()).filter(|k| k.len() == table.key_columns().len())
        {
            let binding = |key: &String| before.iter().copied().find(|b| bindings[*b].key == *key);
            let places = table.key_columns().into_iter().zip(described);
            key.extend(places.filter_map(|(column, key)| Some((column, binding(key)?))));
        }
        let sample = if known { self.sample(no, &user, SAMPLE_ALL, SAMPLE)? } else { Sample::default() };
        let is_one_change = was_seen && self.changes_of_schema()? == 1;
        let table = &table;
        let changed =
            Changed { bindings: &bindings, before, table, user: &user, sample, affinities, is_one_change };
        let chosen = changed.decide(&key);
        let columns = bound(&bindings, table, &chosen);
        let only_went = (0..chosen.len()).all(|n| chosen[n].is_some() && chosen[n] == changed.same_name(n));
        let is_like_documents = !changed.sample.contradicts(&user, &columns);
        store_columns(&self.conn, no, &columns)?;
        self.containers.change(no, |state| state.columns = columns);
        Ok(if only_went && is_like_documents && !is_unlike { Decided::Same } else { Decided::ByRows })
    }

    /// Takes from a description what two devices that added a column may have said otherwise: the capitals of its name, which
    /// to SQLite are all the same, and what rows show that do not have it. The table's rows are then compared with documents.
    /// Call it in a transaction.
    pub(super) fn align_columns(&mut self, no: i64, description: &Description) -> Result<(), ReplicaError> {
        let Some(state) = self.containers.get(&no) else { return Ok(()) };
        let (mut columns, scan) = (state.columns.clone(), state.scan());
        let described: Vec<_> = description.columns().map(|(name, _)| name).collect();
        for n in 0..columns.len() {
            let key = &columns[n].key;
            if !described.contains(&key.as_str())
                && let Some(alike) = described.iter().find(|d| d.eq_ignore_ascii_case(key))
                && columns.iter().all(|b| b.key != *alike)
            {
                columns[n].key = (*alike).to_owned();
            }
            if let (Some(default), Some(absent)) =
                (description.default_of(&columns[n].key), &columns[n].absent)
                && !default.as_ref().same(absent.as_ref())
            {
                columns[n].absent = Some(default.clone());
            }
        }
        if columns == self.containers[&no].columns {
            return Ok(());
        }
        store_columns(&self.conn, no, &columns)?;
        self.containers.change(no, |state| state.columns = columns);
        self.read_user_table(no)?;
        match scan {
            // These compare rows anyway.
            Scan::Meet | Scan::Gather | Scan::Join | Scan::Adopt | Scan::Make => Ok(()),
            Scan::Fill | Scan::CompareAndFill => self.set_scan(no, Scan::CompareAndFill),
            _ => self.set_scan(no, Scan::Compare),
        }
    }

    /// Whether rows that nobody has written since they were captured may show other values than their documents.
    fn is_unlike_documents(
        &mut self,
        no: i64,
        user: &UserTable,
        bindings: &[ColumnBinding],
    ) -> Result<bool, ReplicaError> {
        let sample = self.sample(no, user, SAMPLE_FEW, SAMPLE_FEW / 4)?;
        // To drop a column and add it again takes two changes of the schema. If it has its default wherever one looks, few
        // rows would tell.
        let is_open = self.changes_of_schema()? > 1
            && sample.rows.len() >= SAMPLE_FEW / 2
            && sample.tells_nothing_of_some(user, bindings);
        Ok(is_open || sample.contradicts(user, bindings))
    }

    /// How many statements have changed the schema since it was looked at last.
    fn changes_of_schema(&self) -> Result<i64, StoreError> {
        Ok(schema::schema_version(&self.conn)?.wrapping_sub(self.schema_version))
    }

    /// Rows of a table with what their documents show: all up to a number, or of more so many from each of its ends and
    /// between.
    fn sample(&mut self, no: i64, user: &UserTable, all: usize, some: usize) -> Result<Sample, ReplicaError> {
        let mut keys = log::keys_after(&self.conn, user, None, all + 1)?;
        if keys.len() > all {
            keys.truncate(some);
            keys.extend(user.last_keys(&self.conn, some)?);
            keys.extend(user.spread_keys(&self.conn, some)?);
            // Few rows may have a value at all.
            for column in user.columns.iter().take(SPARSE_COLUMNS) {
                keys.extend(user.keys_besides(&self.conn, column, SPARSE_ROWS)?);
            }
            keys.sort();
            keys.dedup();
        }
        let wanted: HashSet<_> = keys.iter().cloned().collect();
        let dirty = log::keys_among(&self.conn, no, &user.table, &wanted)?;
        let mut sample = Sample::default();
        for key in keys {
            let Some(values) = user.read(&self.conn, &key)? else { continue };
            let view = self.history.view(&self.conn, no, &key)?;
            let Some(cells) = view.shown() else { continue };
            let shown = cells.iter().map(|(key, cell)| ((*key).to_owned(), row::plain(cell))).collect();
            let values = by_index(user, values);
            sample.rows.push(SampledRow { values, shown, is_dirty: dirty.contains(&key) });
        }
        Ok(sample)
    }
}

fn by_index(user: &UserTable, values: RowValues) -> HashMap<usize, Value> {
    user.columns.iter().map(|c| c.index).zip(values).collect()
}

pub(super) fn columns_text(columns: &[ColumnBinding]) -> String {
    let absent = |value: &Value| match value {
        Value::RawText(_) => None,
        value => Some(literal(value)).filter(|text| !text.contains(SEPARATORS)),
    };
    let line = |c: &ColumnBinding| {
        let absent = c.absent.as_ref().and_then(absent).unwrap_or_default();
        format!("{}\u{1f}{}\u{1f}{}\u{1f}{}\u{1f}{absent}", c.name, c.key, c.merge.code(), u8::from(c.is_new))
    };
    columns.iter().map(line).collect::<Vec<_>>().join("\u{1e}")
}

pub(super) fn columns_from_text(text: &str) -> Vec<ColumnBinding> {
    let column = |line: &str| {
        let mut parts = line.split('\u{1f}');
        let (name, key) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let merge = Merge::from_code(parts.next()?.parse().ok()?)?;
        let is_new = parts.next()? == "1";
        // Earlier versions did not keep it.
        let absent = parts.next().filter(|text| !text.is_empty()).and_then(read_literal);
        Some(ColumnBinding { name, key, merge, is_new, absent })
    };
    text.split('\u{1e}').filter_map(column).collect()
}

pub(super) fn store_columns(
    conn: &rusqlite::Connection,
    no: i64,
    columns: &[ColumnBinding],
) -> Result<(), StoreError> {
    conn.prepare_cached("UPDATE piecewise_containers SET columns = ?1 WHERE no = ?2 AND columns <> ?1")?
        .execute(rusqlite::params![columns_text(columns), no])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::RowKey;
    use crate::store::schema::read_table;

    /// What becomes of the columns of a table with rows, of which documents show what the first SQL made; as
    /// "name=key" for each column.
    fn decided(before: &str, change: &str) -> String {
        decided_by(before, change, &[], false)
    }

    /// The same where rows with these keys were written since, and the schema was changed by one statement or by several.
    fn decided_by(before: &str, change: &str, written: &[&str], is_one_change: bool) -> String {
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        conn.execute_batch(before).unwrap();
        let old = UserTable::new(read_table(&conn, "t").unwrap(), str::to_owned);
        let keys = log::keys_after(&conn, &old, None, 1000).unwrap();
        let documents: Vec<_> = keys.iter().map(|key| old.read(&conn, key).unwrap().unwrap()).collect();
        conn.execute_batch(change).unwrap();
        let table = read_table(&conn, "t").unwrap();
        let user = UserTable::new(table.clone(), str::to_owned);
        let name = |index: usize| old.table.columns[index].name.clone();
        let row = |(key, shown): (&RowKey, RowValues)| SampledRow {
            values: by_index(&user, user.read(&conn, key).unwrap().unwrap()),
            shown: by_index(&old, shown).into_iter().map(|(n, value)| (name(n), value)).collect(),
            is_dirty: written.iter().any(|text| old.parse_key(text).unwrap() == *key),
        };
        let sample = Sample { rows: keys.iter().zip(documents).map(row).collect() };
        let bindings: Vec<_> = old.table.columns.iter().map(|c| ColumnBinding::new(&c.name)).collect();
        let before = (0..bindings.len()).collect();
        let affinities = old.table.columns.iter().map(|c| (c.name.clone(), c.affinity())).collect();
        let table = &table;
        let changed =
            Changed { bindings: &bindings, before, table, user: &user, sample, affinities, is_one_change };
        let key: Vec<_> = table.key_columns().into_iter().zip(old.table.key_columns()).collect();
        let all = bound(&bindings, table, &changed.decide(&key));
        let keys: HashSet<_> = all.iter().map(|b| &b.key).collect();
        assert_eq!(keys.len(), all.len(), "a key for each column");
        let text = |b: &ColumnBinding| format!("{}={}", b.name, b.key);
        all.iter().filter(|b| !b.is_gone()).map(text).collect::<Vec<_>>().join(" ")
    }

    const T: &str = "CREATE TABLE t(id TEXT PRIMARY KEY, title TEXT, note TEXT);
        INSERT INTO t VALUES ('1', 'one', 'n1'), ('9', 'nine', 'n9');";

    #[test]
    fn rows_say_which_column_is_which() {
        for (change, expected) in [
            (
                "ALTER TABLE t RENAME title TO name; ALTER TABLE t ADD weight REAL",
                "id=id name=title note=note weight=weight",
            ),
            ("ALTER TABLE t RENAME title TO name; ALTER TABLE t DROP note", "id=id name=title"),
            (
                "ALTER TABLE t DROP note; ALTER TABLE t ADD priority INTEGER",
                "id=id title=title priority=priority",
            ),
            (
                "ALTER TABLE t DROP note; ALTER TABLE t ADD body TEXT; UPDATE t SET body = 'new'",
                "id=id title=title body=body",
            ),
            ("ALTER TABLE t DROP title; ALTER TABLE t RENAME note TO title", "id=id title=note"),
            (
                "ALTER TABLE t RENAME title TO x; ALTER TABLE t RENAME note TO title; ALTER TABLE t RENAME x TO note",
                "id=id note=title title=note",
            ),
            (
                "ALTER TABLE t RENAME title TO title_old; ALTER TABLE t ADD title INTEGER; UPDATE t SET title = length(title_old)",
                "id=id title_old=title note=note title=title (2)",
            ),
            ("ALTER TABLE t RENAME title TO Title", "id=id Title=title note=note"),
            (
                "ALTER TABLE t DROP title; ALTER TABLE t RENAME note TO x; ALTER TABLE t ADD note TEXT; ALTER TABLE t DROP x; ALTER TABLE t ADD title TEXT",
                "id=id note=note (2) title=title (2)",
            ),
            ("ALTER TABLE t RENAME id TO uid", "uid=id title=title note=note"),
        ] {
            assert_eq!(decided(T, change), expected, "{change}");
        }
        // One statement makes no column anew: its values went otherwise.
        let change = "UPDATE t SET title = NULL, note = NULL; ALTER TABLE t DROP title";
        assert_eq!(decided_by(T, change, &[], true), "id=id note=note");
    }

    #[test]
    fn a_table_that_was_built_anew_keeps_its_columns_at_other_places_and_of_other_types() {
        let anew = |columns: &str, select: &str| {
            format!(
                "CREATE TABLE n({columns}); INSERT INTO n SELECT {select} FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t"
            )
        };
        let t = "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT, c INTEGER DEFAULT 0);
                 INSERT INTO t VALUES (1, '5', 'x', 0), (2, '6.5', 'y', 1), (3, NULL, 'z', 0);";
        for (columns, select, expected) in [
            ("id INTEGER PRIMARY KEY, b TEXT, c INTEGER, a TEXT", "id, b, c, a", "id=id b=b c=c a=a"),
            (
                "id INTEGER PRIMARY KEY, number REAL, b TEXT NOT NULL, c INTEGER",
                "id, CAST(a AS REAL), b, c",
                "id=id number=a b=b c=c",
            ),
            (
                "id INTEGER PRIMARY KEY, c2 INTEGER DEFAULT 0, b2 BLOB, a TEXT",
                "id, c, CAST(b AS BLOB), a",
                "id=id c2=c b2=b a=a",
            ),
            (
                "id INTEGER PRIMARY KEY, a TEXT, b TEXT, done INTEGER DEFAULT 0",
                "id, a, b, 0",
                "id=id a=a b=b done=done",
            ),
            ("id INTEGER PRIMARY KEY, b TEXT, a AS (b || '!'), c INTEGER", "id, b, c", "id=id b=b a=a c=c"),
        ] {
            assert_eq!(decided(t, &anew(columns, select)), expected, "{columns}");
        }
    }

    #[test]
    fn place_and_type_decide_where_rows_say_nothing() {
        let empty = "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT);";
        assert_eq!(decided(empty, "ALTER TABLE t RENAME a TO c"), "id=id c=a b=b");
        assert_eq!(decided(empty, "ALTER TABLE t DROP b; ALTER TABLE t ADD n INTEGER"), "id=id a=a n=n");
        let alike = "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT, c TEXT, d TEXT); INSERT INTO t VALUES (1, 'x', 'x', NULL, NULL);";
        let change =
            "ALTER TABLE t RENAME b TO b2; ALTER TABLE t RENAME a TO a2; ALTER TABLE t RENAME d TO d2";
        assert_eq!(decided(alike, change), "id=id a2=a b2=b c=c d2=d");
    }

    #[test]
    fn rows_that_nobody_has_written_since_decide_about_a_renamed_column() {
        let written = ["'1'", "'9'"];
        let change = "ALTER TABLE t RENAME title TO name; UPDATE t SET name = 'new' WHERE id = '1'";
        assert_eq!(decided_by(T, change, &written[..1], false), "id=id name=title note=note");
        let all = "ALTER TABLE t RENAME note TO body; UPDATE t SET body = 'new'";
        assert_eq!(decided_by(T, all, &written, true), "id=id title=title body=note");
        let anew = "ALTER TABLE t DROP note; ALTER TABLE t ADD body TEXT; UPDATE t SET body = 'new'";
        assert_eq!(decided_by(T, anew, &written, false), "id=id title=title body=body");
    }

    #[test]
    fn a_name_that_is_used_again_where_rows_say_nothing_is_another_column() {
        let t = "CREATE TABLE t(id TEXT PRIMARY KEY, v TEXT, o TEXT, x INT);";
        for t in [t, &format!("{t} INSERT INTO t(id, o) VALUES ('k', 'text')")] {
            let added = "ALTER TABLE t RENAME v TO w; ALTER TABLE t ADD v TEXT";
            assert_eq!(decided(t, added), "id=id w=v o=o x=x v=v (2)");
            let renamed = "ALTER TABLE t RENAME v TO w; ALTER TABLE t RENAME o TO v";
            assert_eq!(decided(t, renamed), "id=id w=v v=o x=x");
        }
    }

    #[test]
    fn keys_of_columns_that_came_later_are_those_of_no_other_column() {
        let taken = |key: &str| matches!(key, "a" | "a (2)");
        assert_eq!(free_key("b", taken, |_| false), "b");
        assert_eq!(free_key("a", taken, |name| name == "a (3)"), "a (4)");
        let long = "ä".repeat(64);
        assert!(free_key(&long, |key| key == long, |_| false).len() <= 128);
    }
}
