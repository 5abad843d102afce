//! Writing: one row into its table, so that the table then shows what the document does, or the reason why it does not.
//!
//! Tables without conflict clauses and triggers of the application need no more than the statement. Elsewhere a row is
//! written under a savepoint, because a trigger that fails may leave part of what it did, and read again.
//! RAISE(ROLLBACK) and a trigger that does not end take the whole transaction with them: the row is noted as one that
//! stumbled, the batch is undone, and done again with that row held. Once a table's triggers did not end, its other rows
//! get far fewer steps.

use super::claims::unique_values;
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::store::holds::HoldKind;
use crate::store::index_terms::{self, IndexText};
use crate::store::user_table::{Fault, RowValues, UserTable, quote};
use crate::store::{StoreError, log};
use crate::table::UniqueTerm;
use crate::value::{Value, ValueRef};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// After as many rows of a table that ended a batch, its other rows are held untried, to be tried a few at a time.
const STUMBLES_MAX: u32 = 8;

/// What was done to a row. A table that does not take a row may well let it go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Deed {
    Write,
    Delete,
}

/// Rows that ended the transaction in which they were written or deleted.
#[derive(Debug, Default)]
pub(crate) struct Stumbles {
    /// Those of the batch that is being done again, with what SQLite said.
    rows: HashMap<(i64, RowKey, Deed), String>,
    counts: BTreeMap<(i64, Deed), u32>,
    /// Containers that ever had one.
    ever: BTreeSet<i64>,
    /// Containers with triggers that did not end, and how often.
    endless: BTreeMap<i64, u32>,
    /// Containers with rows that the table showed and could not change: it may take them when they are inserted anew.
    changed: BTreeSet<i64>,
}

impl Stumbles {
    /// Why a row is not to be tried, if it is not.
    pub(super) fn cause(&self, no: i64, key: &RowKey, deed: Deed) -> Option<String> {
        if self.counts.is_empty() {
            return None;
        }
        let known = self.rows.get(&(no, key.clone(), deed)).cloned();
        let is_careful = self.counts.get(&(no, deed)).is_some_and(|count| *count >= STUMBLES_MAX);
        let untried = || "not tried yet: triggers of the table ended the transaction for other rows".into();
        known.or_else(|| is_careful.then(untried))
    }

    /// Whether triggers of a container did not end before.
    fn is_endless(&self, no: i64) -> bool {
        self.endless.contains_key(&no)
    }

    /// Whether rows of a container ended a transaction before.
    pub(super) fn ever(&self, no: i64) -> bool {
        self.ever.contains(&no)
    }

    fn add(&mut self, no: i64, key: &RowKey, deed: Deed, cause: String) {
        *self.counts.entry((no, deed)).or_default() += 1;
        self.rows.insert((no, key.clone(), deed), cause);
        self.ever.insert(no);
    }

    /// Counts triggers that did not end. Returns whether that happened so often that their rows are not tried again.
    fn add_endless(&mut self, no: i64) -> bool {
        let count = self.endless.entry(no).or_default();
        *count += 1;
        *count >= STUMBLES_MAX
    }

    /// A row that stumbled was in its table until now.
    pub(super) fn was_shown(&mut self, no: i64) {
        self.changed.insert(no);
    }

    /// Forgets the rows of a batch that is done. Returns the containers with rows that are to be tried once more.
    pub(crate) fn batch_is_done(&mut self) -> BTreeSet<i64> {
        self.rows.clear();
        self.counts.clear();
        std::mem::take(&mut self.changed)
    }

    /// Forgets what depends on the schema.
    pub(crate) fn schema_is_new(&mut self) {
        self.endless.clear();
    }
}

impl Replica {
    /// Writes a row: inserts it, or changes what differs from `now`. Afterwards the table shows it, or is as before.
    pub(crate) fn put(
        &self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        wanted: &[Value],
        now: Option<&RowValues>,
    ) -> Result<(), Fault> {
        let changed: Vec<_> = match now {
            Some(now) => {
                let differs = |(n, value): &(usize, &Value)| !now[*n].as_ref().same(value.as_ref());
                wanted.iter().enumerate().filter(differs).collect()
            }
            None => wanted.iter().enumerate().collect(),
        };
        if now.is_some() && changed.is_empty() {
            return Ok(());
        }
        let is_sure = !user.acts.triggers && !changed.iter().any(|(n, v)| user.may_convert(*n, v.as_ref()));
        let write = |conn: &Connection| {
            let done = match now {
                None => user.insert_row(conn, key, wanted)?,
                Some(_) => user.update_row(conn, key, &changed)?,
            };
            if done { Ok(()) } else { Err(Fault::Raised(None)) }
        };
        if is_sure {
            return self.ended(write(&self.conn));
        }
        // Where there are triggers too, their statements keep the table's own conflict clauses: a REPLACE would take a row away.
        if user.acts.triggers && user.acts.clauses {
            if let Some(rival) = self.local_rival(user, key, &wanted.to_vec()) {
                return Err(Fault::Unique(format!("row {} has the same", user.key_text(&rival))));
            }
            for unique in user.table.unique.iter().filter(|unique| unique.partial.is_none()) {
                let values = unique_values(user, unique, key, &wanted.to_vec());
                let values = values.map_err(|error| match error {
                    ReplicaError::Store(error) => Fault::Store(error),
                    error => Fault::Constraint(error.to_string()),
                })?;
                if let Some(values) = values
                    && user.any_keyless_with(&self.conn, &values).map_err(Fault::Store)?
                {
                    return Err(Fault::Unique("a row with NULL in its key has the same".into()));
                }
            }
        }
        self.under_savepoint(no, user, |conn| {
            write(conn)?;
            check_stored(conn, user, key, wanted)
        })
    }

    /// Sees that no trigger wrote rows that no document knows yet: what they were would be nowhere.
    fn check_reach(&self, user: &UserTable, before: Option<i64>) -> Result<(), Fault> {
        let Some(before) = before else { return Ok(()) };
        match log::ungathered_after(&self.conn, before).map_err(Fault::Store)? {
            None => Ok(()),
            Some(reached) => Err(Fault::Constraint(format!(
                "a trigger of {} writes {reached}, which has not met the server's table yet",
                user.table.name
            ))),
        }
    }

    /// Deletes a row, without the application's triggers if they do not let it go; false if it stays all the same.
    pub(super) fn remove(&mut self, no: i64, key: &RowKey, user: &UserTable) -> Result<bool, ReplicaError> {
        if !user.acts.triggers {
            return match self.ended(user.delete_row(&self.conn, key)) {
                Err(Fault::Store(error)) => Err(error.into()),
                done => Ok(done.is_ok()),
            };
        }
        if self.stumbles.cause(no, key, Deed::Delete).is_none() {
            match self.under_savepoint(no, user, |conn| user.delete_row(conn, key)) {
                Ok(true) => return Ok(true),
                Ok(false) | Err(Fault::Unique(_) | Fault::Raised(_) | Fault::Constraint(_)) => {}
                Err(Fault::Store(error)) => return Err(error.into()),
                Err(Fault::Ended(cause)) => return Err(self.stumble(no, user, key, Deed::Delete, cause)),
            }
        }
        // What documents say comes first.
        self.unheard.containers.insert(no);
        self.without_triggers(|r| match r.under_savepoint(no, user, |conn| user.delete_row(conn, key)) {
            Err(Fault::Store(error)) => Err(error.into()),
            done => Ok(done.is_ok()),
        })
    }

    fn under_savepoint<T>(
        &self,
        no: i64,
        user: &UserTable,
        work: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let run = |sql: &str| self.conn.prepare_cached(sql).and_then(|mut s| s.execute([])).map(drop);
        self.guard.start_row(self.stumbles.is_endless(no));
        let logged = match user.acts.triggers && self.containers.any_ungathered() {
            true => Some(log::last(&self.conn).map_err(Fault::Store)?),
            false => None,
        };
        run("SAVEPOINT piecewise_row")?;
        let done = work(&self.conn).and_then(|done| self.check_reach(user, logged).map(|()| done));
        let done = self.ended(done);
        if !matches!(done, Err(Fault::Ended(_))) {
            if done.is_err() {
                run("ROLLBACK TO piecewise_row")?;
            }
            run("RELEASE piecewise_row")?;
        }
        done
    }

    /// Sees whether the transaction still stands.
    fn ended<T>(&self, done: Result<T, Fault>) -> Result<T, Fault> {
        match done {
            Err(Fault::Unique(cause) | Fault::Constraint(cause) | Fault::Raised(Some(cause)))
                if self.conn.is_autocommit() =>
            {
                Err(Fault::Ended(cause))
            }
            done => done,
        }
    }

    /// Notes a row that ended the transaction.
    fn stumble(
        &mut self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        deed: Deed,
        cause: String,
    ) -> ReplicaError {
        let table = user.table.name.clone();
        let endless = self.guard.take_stopped();
        let cause = match endless {
            true => {
                if self.stumbles.add_endless(no) {
                    self.retries.give_up(no);
                }
                format!("triggers of table {table} take too many steps, or do not end")
            }
            false => match self.clauses().ok().and_then(|c| c.raising(&table, Some(&cause))) {
                Some(trigger) => format!("trigger {trigger}: {cause}"),
                None => format!("it ends the transaction: {cause}"),
            },
        };
        self.stumbles.add(no, key, deed, cause.clone());
        ReplicaError::TransactionEnded { table, key: user.key_text(key), cause }
    }

    /// Why a row is held that its table did not take, in words; an error if that is not about the row.
    pub(super) fn cause(
        &mut self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        wanted: &RowValues,
        fault: Fault,
    ) -> Result<(HoldKind, String), ReplicaError> {
        let table = &user.table.name;
        Ok(match fault {
            Fault::Store(error) => return Err(error.into()),
            Fault::Ended(cause) => return Err(self.stumble(no, user, key, Deed::Write, cause)),
            Fault::Unique(message) => {
                let rival = match message.ends_with("has the same") {
                    true => None,
                    false => self.local_rival(user, key, wanted).map(|k| user.key_text(&k)),
                };
                let rival = rival.map_or(String::new(), |rival| format!(": row {rival} has the same"));
                (HoldKind::Tables, format!("a UNIQUE constraint of this table alone ({message}){rival}"))
            }
            Fault::Raised(message) => {
                let name = self.clauses()?.raising(table, message.as_deref());
                let by =
                    name.map_or_else(|| format!("a trigger of {table}"), |name| format!("trigger {name}"));
                (
                    HoldKind::Tables,
                    match message {
                        Some(message) => format!("{by}: {message}"),
                        None if user.acts.clauses => {
                            format!("{by} or an ON CONFLICT clause left the row out without a word")
                        }
                        None => format!("{by} left the row out without a word"),
                    },
                )
            }
            Fault::Constraint(message) => {
                let kind = if user.acts.triggers { HoldKind::Tables } else { HoldKind::Local };
                let known = message.contains("constraint failed") || message.starts_with("column ");
                let where_from = if known { vec![] } else { expression_indexes(&self.conn, table)? };
                (
                    kind,
                    match where_from.is_empty() {
                        true => message,
                        false => format!("{message} (in an expression: index {})", where_from.join(", ")),
                    },
                )
            }
        })
    }

    /// A row that has the same value of a UNIQUE index over expressions or generated columns, or of a partial one.
    ///
    /// A temporary table of the same kind says what the row that is not let in would have there.
    fn local_rival(&self, user: &UserTable, key: &RowKey, wanted: &RowValues) -> Option<RowKey> {
        if user.table.unique.iter().all(|u| u.partial.is_none()) {
            return None;
        }
        self.conn.execute_batch("SAVEPOINT piecewise_rival").ok()?;
        let found = self.find_local_rival(user, key, wanted);
        let _ = self.conn.execute_batch("ROLLBACK TO piecewise_rival; RELEASE piecewise_rival");
        found
    }

    fn find_local_rival(&self, user: &UserTable, key: &RowKey, wanted: &RowValues) -> Option<RowKey> {
        let table = quote(&user.table.name);
        let sql = "SELECT sql FROM main.sqlite_master WHERE type = 'table' AND name = ?";
        let sql: String = self.conn.query_row(sql, [&user.table.name], |row| row.get(0)).ok()?;
        let temporary = format!("CREATE TABLE temp.{}", sql.strip_prefix("CREATE TABLE ")?);
        self.conn.execute_batch(&temporary).ok()?;
        let columns = &user.table.columns;
        let stored: Vec<_> = (0..columns.len()).filter(|n| !columns[*n].generated).collect();
        let names: Vec<_> = stored.iter().map(|n| quote(&columns[*n].name)).collect();
        let places = vec!["?"; names.len()].join(", ");
        let insert = format!("INSERT INTO temp.{table}({}) VALUES ({places})", names.join(", "));
        let mut stmt = self.conn.prepare(&insert).ok()?;
        let key_values = user.key_values(key).ok()?;
        for (n, column) in stored.iter().enumerate() {
            stmt.raw_bind_parameter(n + 1, user.value_at(*column, &key_values, wanted).as_ref()).ok()?;
        }
        stmt.raw_execute().ok()?;
        let keys: Vec<_> = user.key_columns().iter().map(|n| quote(&columns[*n].name)).collect();
        // Claims are decided by documents.
        for unique in user.table.unique.iter().filter(|unique| unique.partial.is_some()) {
            let text = match unique.partial.as_deref().and_then(index_terms::index) {
                Some(text) => text,
                // A constraint over generated columns has no text of its own.
                None => {
                    let name = |term: &UniqueTerm| Some(quote(&columns[term.column?].name));
                    let Some(terms) = unique.columns.iter().map(name).collect() else { continue };
                    IndexText { terms, condition: None }
                }
            };
            let same = |term: &String| format!("({term}) = (SELECT {term} FROM temp.{table})");
            let is_held = text
                .condition
                .iter()
                .flat_map(|c| [format!("({c})"), format!("(SELECT {c} FROM temp.{table})")]);
            let terms: Vec<_> = is_held.chain(text.terms.iter().map(same)).collect();
            let sql =
                format!("SELECT {} FROM main.{table} WHERE {} LIMIT 2", keys.join(", "), terms.join(" AND "));
            let Ok(mut stmt) = self.conn.prepare(&sql) else { continue };
            let mut rows = stmt.raw_query();
            while let Ok(Some(row)) = rows.next() {
                if let Ok(Some(rival)) = user.row_key(row)
                    && rival != *key
                {
                    return Some(rival);
                }
            }
        }
        None
    }
}

/// Sees that a row is in the table as it was written.
fn check_stored(conn: &Connection, user: &UserTable, key: &RowKey, wanted: &[Value]) -> Result<(), Fault> {
    let stored = user.read(conn, key).map_err(Fault::Store)?;
    let Some(stored) = stored else {
        return Err(Fault::Constraint(format!("a trigger of {} took the row away at once", user.table.name)));
    };
    for (n, (stored, wanted)) in stored.iter().zip(wanted).enumerate() {
        if !is_shown_by(stored.as_ref(), wanted.as_ref()) {
            let column = &user.table.columns[user.columns[n].index];
            let kind = match column.declared_type.as_str() {
                "" => "has no type",
                kind => &format!("is {kind}"),
            };
            let [wanted, stored] = [wanted, stored].map(|value| format!("{}{value}", class(value.as_ref())));
            return Err(Fault::Constraint(format!(
                "column {} {kind} here and stores {wanted} as {stored}",
                column.name
            )));
        }
    }
    Ok(())
}

/// What a value is, before it is told.
fn class(value: ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Null => "",
        ValueRef::Integer(_) => "the integer ",
        ValueRef::Real(_) => "the real ",
        ValueRef::Text(_) | ValueRef::RawText(_) => "the text ",
        ValueRef::Blob(_) => "the blob ",
    }
}

/// Whether a stored value shows one of a document: numbers may have the other storage class.
pub(crate) fn is_shown_by(stored: ValueRef<'_>, wanted: ValueRef<'_>) -> bool {
    match (stored, wanted) {
        (ValueRef::Integer(i), ValueRef::Real(f)) | (ValueRef::Real(f), ValueRef::Integer(i)) => {
            f.fract() == 0.0 && f.abs() < 9e15 && f as i64 == i
        }
        _ => stored.same(wanted),
    }
}

/// The indexes of a table that are partial or over expressions.
fn expression_indexes(conn: &Connection, table: &str) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT name FROM pragma_index_list(?) i WHERE partial OR EXISTS
               (SELECT 1 FROM pragma_index_xinfo(i.name) WHERE cid = -2 AND key) ORDER BY name";
    let mut stmt = conn.prepare_cached(sql)?;
    let names = stmt.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}
