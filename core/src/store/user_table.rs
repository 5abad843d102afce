//! The user's table: all SQL that reads and writes rows of it.
//!
//! A row is seen here as its key and its *document columns*: those whose values are kept in documents,
//! in the table's order. Generated columns are left to SQLite.

use super::StoreError;
use super::documents::SqlKey;
use crate::change::Merge;
use crate::key::RowKey;
use crate::table::{Affinity, Collation, ForeignKey, Table, TableKey};
use crate::value::{Value, ValueRef};
use rusqlite::types::{ToSqlOutput, ValueRef as SqlRef};
use rusqlite::{CachedStatement, Connection, Row, ToSql, ffi};
use std::collections::BTreeMap;

/// What statements that apply rows begin with, so that nobody else's have their texts: see `guard`.
const APPLY: &str = "/* apply */";

/// The values of a row's document columns, in their order.
pub(crate) type RowValues = Vec<Value>;

/// A column whose values are kept in documents.
#[derive(Debug, Clone)]
pub(crate) struct DocumentColumn {
    /// Its place among the table's columns.
    pub(crate) index: usize,
    /// Its key in documents: the column's name when it was first tracked.
    pub(crate) key: String,
    /// How concurrent values of it come together.
    pub(crate) merge: Merge,
    /// What it holds in rows whose document does not have it: the literal default, or NULL.
    pub(crate) absent: Value,
}

/// A tracked table with the statements that read and write its rows.
#[derive(Debug, Clone)]
pub(crate) struct UserTable {
    pub(crate) table: Table,
    pub(crate) columns: Vec<DocumentColumn>,
    /// References to other tables that its schema does not declare.
    pub(crate) references: Vec<ForeignKey>,
    /// What acts on its rows as they are written.
    pub(crate) acts: Acts,
    /// Whether SQLite numbers its rows by `sqlite_sequence`.
    pub(crate) autoincrement: bool,
    key_only: Vec<usize>,
    key_filter: String,
    affinities: Vec<Affinity>,
}

/// What of a table's schema acts on rows as they are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Acts {
    /// The application's triggers.
    pub(crate) triggers: bool,
    /// Conflict clauses of constraints.
    pub(crate) clauses: bool,
}

impl Acts {
    /// Whether nothing does: a row that SQLite takes is in the table as it was written.
    pub(crate) fn is_plain(self) -> bool {
        self == Self::default()
    }
}

/// A column, by its index in the table, that is to have a value under a collation.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) index: usize,
    pub(crate) collation: Collation,
    pub(crate) value: Value,
}

/// Why SQLite did not take a row.
#[derive(Debug)]
pub(crate) enum Fault {
    /// UNIQUE, or the primary key, with SQLite's words.
    Unique(String),
    /// RAISE in a trigger, with its message; None: a row was left out without a word.
    Raised(Option<String>),
    /// Another constraint, an expression, or a value that the table stores otherwise.
    Constraint(String),
    /// The statement ended the whole transaction.
    Ended(String),
    /// Something that is not about this row.
    Store(StoreError),
}

impl From<rusqlite::Error> for Fault {
    /// Any error that SQLite gives for one row's statement is about that row, but for what concerns the whole file.
    fn from(error: rusqlite::Error) -> Self {
        use ffi::ErrorCode as Code;
        let (code, extended, message) = match &error {
            rusqlite::Error::SqliteFailure(e, message) => (e.code, e.extended_code, message.clone()),
            rusqlite::Error::SqlInputError { error, msg, .. } => {
                (error.code, error.extended_code, Some(msg.clone()))
            }
            _ => return Self::Store(error.into()),
        };
        let message = message.unwrap_or_else(|| error.to_string());
        match code {
            Code::ConstraintViolation => match extended {
                ffi::SQLITE_CONSTRAINT_UNIQUE
                | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
                | ffi::SQLITE_CONSTRAINT_ROWID => Self::Unique(message),
                ffi::SQLITE_CONSTRAINT_TRIGGER => Self::Raised(Some(message)),
                _ => Self::Constraint(message),
            },
            // A virtual table's module found its own tables damaged, not the file.
            Code::DatabaseCorrupt if extended == ffi::SQLITE_CORRUPT_VTAB => Self::Constraint(message),
            Code::TypeMismatch | Code::TooBig | Code::Unknown => Self::Constraint(message),
            Code::OperationInterrupted | Code::OperationAborted => Self::Constraint(message),
            _ => Self::Store(error.into()),
        }
    }
}

impl ToSql for ValueRef<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            ValueRef::Null => SqlRef::Null,
            ValueRef::Integer(i) => SqlRef::Integer(i),
            ValueRef::Real(f) => SqlRef::Real(f),
            ValueRef::Text(s) => SqlRef::Text(s.as_bytes()),
            ValueRef::Blob(b) => SqlRef::Blob(b),
            ValueRef::RawText(b) => SqlRef::Text(b),
        }))
    }
}

/// A value as SQLite gave it.
pub(crate) fn value(sql: SqlRef<'_>) -> ValueRef<'_> {
    match sql {
        SqlRef::Null => ValueRef::Null,
        SqlRef::Integer(i) => ValueRef::Integer(i),
        SqlRef::Real(f) => ValueRef::Real(f),
        SqlRef::Text(bytes) => std::str::from_utf8(bytes).map_or(ValueRef::RawText(bytes), ValueRef::Text),
        SqlRef::Blob(b) => ValueRef::Blob(b),
    }
}

/// An identifier in SQL's quotes.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl UserTable {
    /// `document_key` gives a column's key in documents.
    pub(crate) fn new(table: Table, document_key: impl Fn(&str) -> String) -> Self {
        let columns: Vec<_> = table
            .document_columns()
            .map(|index| {
                let column = &table.columns[index];
                let absent = column.absent();
                DocumentColumn { index, key: document_key(&column.name), merge: column.merge, absent }
            })
            .collect();
        let key_columns = key_columns(&table);
        let spelled = |n: &usize| columns.iter().any(|c| c.index == *n);
        let key_only = key_columns.iter().copied().filter(|n| !spelled(n)).collect();
        let terms: Vec<_> =
            key_columns.iter().map(|n| format!("{} = ?", quote(&table.columns[*n].name))).collect();
        let affinity = |c: &DocumentColumn| table.columns[c.index].affinity();
        let affinities = columns.iter().map(affinity).collect();
        let acts = Acts::default();
        let (references, autoincrement) = (vec![], false);
        let key_filter = terms.join(" AND ");
        Self { key_filter, columns, references, acts, autoincrement, key_only, affinities, table }
    }

    /// Whether the table may store a value of a document column (by its place among them) as one that is not equal.
    pub(crate) fn may_convert(&self, place: usize, value: ValueRef<'_>) -> bool {
        match (self.affinities[place], value) {
            (Affinity::Blob, _) => false,
            (Affinity::Text, ValueRef::Integer(_) | ValueRef::Real(_)) => true,
            (Affinity::Real, ValueRef::Integer(i)) => i.unsigned_abs() > 1 << 53,
            (Affinity::Integer | Affinity::Numeric | Affinity::Real, ValueRef::Text(text)) => {
                let first = text.trim_start().bytes().next();
                first.is_some_and(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'))
            }
            _ => false,
        }
    }

    /// What INSERT and UPDATE begin with. Only where the schema has conflict clauses is it said what a conflict does, since
    /// that holds for the statements of triggers as well.
    fn or_abort(&self) -> &'static str {
        if self.acts.clauses && !self.acts.triggers { " OR ABORT" } else { "" }
    }

    /// Whether the key is the rowid.
    pub(crate) fn has_integer_key(&self) -> bool {
        matches!(self.table.key, TableKey::Rowid(_))
    }

    /// Whether the key names a row of another table: then rows get no numbers of their own.
    pub(crate) fn key_is_reference(&self) -> bool {
        let key = self.key_columns();
        let mut foreign = self.table.foreign_keys.iter().chain(&self.references);
        foreign.any(|foreign| {
            foreign.columns == key && !foreign.parent_table.eq_ignore_ascii_case(&self.table.name)
        })
    }

    /// Indexes of the key's columns in key order.
    pub(crate) fn key_columns(&self) -> Vec<usize> {
        key_columns(&self.table)
    }

    /// A column of a row by its index in the table, from the key's values and the document columns.
    pub(crate) fn value_at(&self, index: usize, key: &[Value], values: &RowValues) -> Value {
        if let Some(n) = self.columns.iter().position(|c| c.index == index) {
            return values[n].clone();
        }
        let place = self.key_columns().iter().position(|k| *k == index);
        place.and_then(|n| key.get(n).cloned()).unwrap_or(Value::Null)
    }

    fn name(&self) -> String {
        quote(&self.table.name)
    }

    fn column_list(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|c| quote(&self.table.columns[c.index].name)).collect();
        if names.is_empty() { "NULL".to_owned() } else { names.join(", ") }
    }

    /// The statement that reads a row's document columns by key.
    pub(crate) fn select<'c>(&self, conn: &'c Connection) -> Result<CachedStatement<'c>, StoreError> {
        let sql = format!("SELECT {} FROM {} WHERE {}", self.column_list(), self.name(), self.key_filter);
        Ok(conn.prepare_cached(&sql)?)
    }

    /// The statement that reads keys in key order, those without NULL: all, or those after a key; the last parameter is
    /// how many.
    pub(crate) fn select_keys<'c>(
        &self,
        conn: &'c Connection,
        after_key: bool,
    ) -> Result<CachedStatement<'c>, StoreError> {
        let keys: Vec<_> = self.key_columns().iter().map(|n| quote(&self.table.columns[*n].name)).collect();
        let not_null = keys.iter().map(|key| format!("{key} IS NOT NULL")).collect::<Vec<_>>().join(" AND ");
        let keys = keys.join(", ");
        let marks = vec!["?"; self.key_columns().len()].join(", ");
        let after = if after_key { format!("({keys}) > ({marks}) AND ") } else { String::new() };
        let name = self.name();
        let sql = format!("SELECT {keys} FROM {name} WHERE {after}{not_null} ORDER BY {keys} LIMIT ?");
        Ok(conn.prepare_cached(&sql)?)
    }

    /// The last keys in key order, those without NULL.
    pub(crate) fn last_keys(&self, conn: &Connection, limit: usize) -> Result<Vec<RowKey>, StoreError> {
        let keys: Vec<_> = self.key_columns().iter().map(|n| quote(&self.table.columns[*n].name)).collect();
        let not_null = keys.iter().map(|key| format!("{key} IS NOT NULL")).collect::<Vec<_>>().join(" AND ");
        let order = keys.iter().map(|key| format!("{key} DESC")).collect::<Vec<_>>().join(", ");
        let (keys, name) = (keys.join(", "), self.name());
        let mut stmt = conn
            .prepare(&format!("SELECT {keys} FROM {name} WHERE {not_null} ORDER BY {order} LIMIT {limit}"))?;
        let mut rows = stmt.query([])?;
        let mut found = vec![];
        while let Some(row) = rows.next()? {
            found.extend(self.row_key(row)?);
        }
        Ok(found)
    }

    /// Keys of the first rows that have something else in a column than those that do not have it.
    pub(crate) fn keys_besides(
        &self,
        conn: &Connection,
        column: &DocumentColumn,
        limit: usize,
    ) -> Result<Vec<RowKey>, StoreError> {
        let keys: Vec<_> = self.key_columns().iter().map(|n| quote(&self.table.columns[*n].name)).collect();
        let name = quote(&self.table.columns[column.index].name);
        let sql =
            format!("SELECT {} FROM {} WHERE {name} IS NOT ? LIMIT {limit}", keys.join(", "), self.name());
        let mut stmt = conn.prepare(&sql)?;
        stmt.raw_bind_parameter(1, column.absent.as_ref())?;
        let mut rows = stmt.raw_query();
        let mut found = vec![];
        while let Some(row) = rows.next()? {
            found.extend(self.row_key(row)?);
        }
        Ok(found)
    }

    /// Keys at even distances between the first and the last, where they are integers.
    pub(crate) fn spread_keys(&self, conn: &Connection, count: usize) -> Result<Vec<RowKey>, StoreError> {
        if !self.has_integer_key() {
            return Ok(vec![]);
        }
        let (key, name) = (quote(&self.table.columns[self.key_columns()[0]].name), self.name());
        let ends = format!("SELECT (SELECT min({key}) FROM {name}), (SELECT max({key}) FROM {name})");
        let (first, last): (Option<i64>, Option<i64>) =
            conn.query_row(&ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (Some(first), Some(last)) = (first, last) else { return Ok(vec![]) };
        let mut stmt =
            conn.prepare(&format!("SELECT {key} FROM {name} WHERE {key} >= ? ORDER BY {key} LIMIT 1"))?;
        let mut found = vec![];
        for n in 0..count as i128 {
            let from = i128::from(first) + (i128::from(last) - i128::from(first)) * n / count.max(1) as i128;
            found.push(RowKey::Integer(stmt.query_row([from as i64], |row| row.get(0))?));
        }
        Ok(found)
    }

    /// The statement that reads rows in key order from an integer key on: the key, then the document columns.
    pub(crate) fn select_from<'c>(&self, conn: &'c Connection) -> Result<CachedStatement<'c>, StoreError> {
        let key = quote(&self.table.columns[self.key_columns()[0]].name);
        let (columns, name) = (self.column_list(), self.name());
        let sql = format!("SELECT {key}, {columns} FROM {name} WHERE {key} >= ? ORDER BY {key}");
        Ok(conn.prepare_cached(&sql)?)
    }

    /// Binds a key from parameter `first` on (from 1); the parameter after it.
    pub(crate) fn bind_key(
        &self,
        stmt: &mut CachedStatement<'_>,
        first: usize,
        key: &RowKey,
    ) -> Result<usize, StoreError> {
        if self.has_integer_key() {
            stmt.raw_bind_parameter(first, SqlKey(key))?;
            return Ok(first + 1);
        }
        let values = self.key_values(key)?;
        for (n, value) in values.iter().enumerate() {
            stmt.raw_bind_parameter(first + n, value.as_ref())?;
        }
        Ok(first + values.len())
    }

    /// The key's values; an error if it is no key of this table.
    pub(crate) fn key_values(&self, key: &RowKey) -> Result<Vec<Value>, StoreError> {
        self.table.key_values(key).ok_or(StoreError::Damaged { what: "a key does not fit its table" })
    }

    /// Reads the document columns of a row of `select` (`offset` 0) or after the keys.
    pub(crate) fn values(&self, row: &Row<'_>, offset: usize) -> Result<RowValues, StoreError> {
        // Collected from results, it would grow step by step.
        let mut values = Vec::with_capacity(self.columns.len());
        for n in 0..self.columns.len() {
            values.push(value(row.get_ref(offset + n)?).to_owned());
        }
        Ok(values)
    }

    /// The row with this key.
    pub(crate) fn read(&self, conn: &Connection, key: &RowKey) -> Result<Option<RowValues>, StoreError> {
        let mut stmt = self.select(conn)?;
        self.bind_key(&mut stmt, 1, key)?;
        let mut rows = stmt.raw_query();
        rows.next()?.map(|row| self.values(row, 0)).transpose()
    }

    /// Some columns of the row with this key, by their places in the table.
    pub(crate) fn read_columns(
        &self,
        conn: &Connection,
        key: &RowKey,
        columns: &[usize],
    ) -> Result<Option<Vec<Value>>, StoreError> {
        let names: Vec<_> = columns.iter().map(|n| quote(&self.table.columns[*n].name)).collect();
        let sql = format!("SELECT {} FROM {} WHERE {}", names.join(", "), self.name(), self.key_filter);
        let mut stmt = conn.prepare_cached(&sql)?;
        self.bind_key(&mut stmt, 1, key)?;
        let mut rows = stmt.raw_query();
        let values = |row: &Row<'_>| {
            (0..columns.len())
                .map(|n| Ok(value(row.get_ref(n)?).to_owned()))
                .collect::<Result<_, StoreError>>()
        };
        rows.next()?.map(values).transpose()
    }

    /// Sets columns of a row, by their places in the table, also of its key. What is in its way goes: it is to be rolled back.
    pub(crate) fn try_columns(
        &self,
        conn: &Connection,
        key: &RowKey,
        values: &BTreeMap<usize, Value>,
    ) -> Result<(), StoreError> {
        let values: Vec<_> = values.iter().filter(|(n, _)| !self.table.columns[**n].generated).collect();
        let terms: Vec<_> =
            values.iter().map(|(n, _)| format!("{} = ?", quote(&self.table.columns[**n].name))).collect();
        let (name, terms) = (self.name(), terms.join(", "));
        let sql = format!("UPDATE OR REPLACE {name} SET {terms} WHERE {}", self.key_filter);
        let mut stmt = conn.prepare_cached(&sql)?;
        for (n, (_, value)) in values.iter().enumerate() {
            stmt.raw_bind_parameter(n + 1, value.as_ref())?;
        }
        self.bind_key(&mut stmt, values.len() + 1, key)?;
        stmt.raw_execute()?;
        Ok(())
    }

    /// The statement that inserts a row: document columns, then the key columns that are not among them.
    pub(crate) fn insert<'c>(&self, conn: &'c Connection) -> rusqlite::Result<CachedStatement<'c>> {
        let indexes = self.columns.iter().map(|c| c.index).chain(self.key_only.iter().copied());
        let names: Vec<_> = indexes.map(|n| quote(&self.table.columns[n].name)).collect();
        let marks = vec!["?"; names.len()].join(", ");
        let (or, name, names) = (self.or_abort(), self.name(), names.join(", "));
        conn.prepare_cached(&format!("{APPLY} INSERT{or} INTO {name}({names}) VALUES ({marks})"))
    }

    /// Binds what `insert` needs besides the document columns.
    pub(crate) fn bind_insert_key(
        &self,
        stmt: &mut CachedStatement<'_>,
        key: &RowKey,
    ) -> Result<(), StoreError> {
        let first = self.columns.len() + 1;
        if let RowKey::Integer(i) = key {
            stmt.raw_bind_parameter(first, i)?;
            return Ok(());
        }
        let values = self.key_values(key)?;
        let columns = self.key_columns();
        for (n, index) in self.key_only.iter().enumerate() {
            let place = columns.iter().position(|c| c == index).unwrap_or(0);
            stmt.raw_bind_parameter(first + n, values[place].as_ref())?;
        }
        Ok(())
    }

    /// Inserts a row; false if it was left out.
    pub(crate) fn insert_row(
        &self,
        conn: &Connection,
        key: &RowKey,
        values: &[Value],
    ) -> Result<bool, Fault> {
        let mut stmt = self.insert(conn)?;
        for (n, value) in values.iter().enumerate() {
            stmt.raw_bind_parameter(n + 1, value.as_ref())?;
        }
        self.bind_insert_key(&mut stmt, key).map_err(Fault::Store)?;
        Ok(stmt.raw_execute()? > 0)
    }

    /// Sets some document columns of a row, (place among the document columns, value); false if there is no
    /// such row, or nothing to set.
    pub(crate) fn update_row(
        &self,
        conn: &Connection,
        key: &RowKey,
        changed: &[(usize, &Value)],
    ) -> Result<bool, Fault> {
        if changed.is_empty() {
            return Ok(false);
        }
        let terms: Vec<_> = changed
            .iter()
            .map(|(n, _)| format!("{} = ?", quote(&self.table.columns[self.columns[*n].index].name)))
            .collect();
        let (or, name, terms) = (self.or_abort(), self.name(), terms.join(", "));
        let sql = format!("{APPLY} UPDATE{or} {name} SET {terms} WHERE {}", self.key_filter);
        let mut stmt = conn.prepare_cached(&sql)?;
        for (n, (_, value)) in changed.iter().enumerate() {
            stmt.raw_bind_parameter(n + 1, value.as_ref())?;
        }
        self.bind_key(&mut stmt, changed.len() + 1, key).map_err(Fault::Store)?;
        Ok(stmt.raw_execute()? > 0)
    }

    /// Deletes a row; false if it was left in.
    pub(crate) fn delete_row(&self, conn: &Connection, key: &RowKey) -> Result<bool, Fault> {
        let sql = format!("{APPLY} DELETE FROM {} WHERE {}", self.name(), self.key_filter);
        let mut stmt = conn.prepare_cached(&sql)?;
        self.bind_key(&mut stmt, 1, key).map_err(Fault::Store)?;
        Ok(stmt.raw_execute()? > 0)
    }

    /// Keys of the rows that have these values.
    pub(crate) fn keys_where(
        &self,
        conn: &Connection,
        values: &[Compared],
    ) -> Result<Vec<RowKey>, StoreError> {
        let keys: Vec<_> = self.key_columns().iter().map(|n| quote(&self.table.columns[*n].name)).collect();
        let mut stmt = self.select_where(conn, &keys.join(", "), values, "")?;
        let mut rows = stmt.raw_query();
        let mut found = vec![];
        while let Some(row) = rows.next()? {
            found.extend(self.row_key(row)?);
        }
        Ok(found)
    }

    /// Whether a row has a value in all of these columns.
    pub(crate) fn any_reference(&self, conn: &Connection, columns: &[usize]) -> Result<bool, StoreError> {
        let is_set = |n: &usize| format!("{} IS NOT NULL", quote(&self.table.columns[*n].name));
        let terms: Vec<_> = columns.iter().map(is_set).collect();
        let sql = format!("SELECT 1 FROM {} WHERE {} LIMIT 1", self.name(), terms.join(" AND "));
        Ok(conn.prepare(&sql)?.exists([])?)
    }

    /// Whether a row has these values and NULL in its key, so that no document knows it.
    pub(crate) fn any_keyless_with(
        &self,
        conn: &Connection,
        values: &[Compared],
    ) -> Result<bool, StoreError> {
        if self.table.without_rowid || self.has_integer_key() {
            return Ok(false);
        }
        let is_null = |n: &usize| format!("{} IS NULL", quote(&self.table.columns[*n].name));
        let keys: Vec<_> = self.key_columns().iter().map(is_null).collect();
        let mut stmt =
            self.select_where(conn, "1", values, &format!(" AND ({}) LIMIT 1", keys.join(" OR ")))?;
        Ok(stmt.raw_query().next()?.is_some())
    }

    /// A SELECT of the rows that have these values, which are bound; `rest` follows its WHERE.
    fn select_where<'c>(
        &self,
        conn: &'c Connection,
        what: &str,
        values: &[Compared],
        rest: &str,
    ) -> Result<CachedStatement<'c>, StoreError> {
        let term = |v: &Compared| {
            format!("{} = ? COLLATE {}", quote(&self.table.columns[v.index].name), v.collation.name())
        };
        let terms: Vec<_> = values.iter().map(term).collect();
        let sql = format!("SELECT {what} FROM {} WHERE {}{rest}", self.name(), terms.join(" AND "));
        let mut stmt = conn.prepare_cached(&sql)?;
        for (n, v) in values.iter().enumerate() {
            stmt.raw_bind_parameter(n + 1, v.value.as_ref())?;
        }
        Ok(stmt)
    }

    /// The key from the first columns of a row; None if it has a NULL in it.
    pub(crate) fn row_key(&self, row: &Row<'_>) -> Result<Option<RowKey>, StoreError> {
        let values = (0..self.key_columns().len())
            .map(|n| row.get_ref(n).map(value))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(self.table.row_key(&values).ok())
    }

    /// The integer after the greatest key.
    pub(crate) fn next_integer(&self, conn: &Connection) -> Result<i64, StoreError> {
        let key = quote(&self.table.columns[self.key_columns()[0]].name);
        let sql = format!("SELECT coalesce(max({key}), 0) FROM {}", self.name());
        Ok(conn.query_row(&sql, [], |row| row.get::<_, i64>(0))?.saturating_add(1))
    }

    /// Whether a row comes after a key in the table's order; false if it is not there.
    pub(crate) fn is_after(&self, conn: &Connection, key: &RowKey, end: &RowKey) -> Result<bool, StoreError> {
        let keys: Vec<_> = self.key_columns().iter().map(|n| quote(&self.table.columns[*n].name)).collect();
        let marks = vec!["?"; keys.len()].join(", ");
        let sql = format!(
            "SELECT 1 FROM {} WHERE {} AND ({}) > ({marks})",
            self.name(),
            self.key_filter,
            keys.join(", ")
        );
        let mut stmt = conn.prepare_cached(&sql)?;
        let next = self.bind_key(&mut stmt, 1, key)?;
        self.bind_key(&mut stmt, next, end)?;
        let found = stmt.raw_query().next()?.is_some();
        Ok(found)
    }

    /// How many rows the table has.
    pub(crate) fn count(&self, conn: &Connection) -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM {}", self.name());
        Ok(conn.query_row(&sql, [], |row| row.get::<_, i64>(0))? as u64)
    }
}

fn key_columns(table: &Table) -> Vec<usize> {
    match &table.key {
        TableKey::Rowid(n) => vec![*n],
        TableKey::Columns(columns) => columns.clone(),
    }
}
