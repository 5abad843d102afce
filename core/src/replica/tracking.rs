//! Tracking: a table begins or ends to take part in sync.

use super::columns::ColumnBinding;
use super::{HeldRow, Replica, ReplicaError, Scan};
use crate::capture::decode_values;
use crate::change::Merge;
use crate::container_name::ContainerName;
use crate::key::RowKey;
use crate::numbers::Settings;
use crate::row;
use crate::store::schema::{Numbering, TrackNote, TrackRefusal};
use crate::store::triggers::APPLYING;
use crate::store::user_table::{RowValues, UserTable, quote};
use crate::store::{StoreError, holds, layout, log, schema, segments};
use crate::table::{Affinity, Table, TableKey};
use rusqlite::{Connection, ErrorCode, OptionalExtension};
use std::collections::{BTreeSet, HashSet};

/// How a table is to be tracked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackOptions {
    /// Columns whose concurrent edits merge by character.
    pub text: Vec<String>,
    /// Columns whose concurrent changes add up.
    pub counter: Vec<String>,
    /// Where rows here and at the server differ at first contact, show those from here.
    pub prefer_local: bool,
    /// Rows keep their numbers although other rows have them.
    pub keep_numbers: bool,
    /// References that the schema does not declare.
    pub references: Vec<Reference>,
    /// Where rows here and at the server differ at first contact, give those from here other numbers.
    pub renumber_mine: bool,
    /// Have SQLite number the rows by `sqlite_sequence`, so that numbers may come in blocks.
    pub autoincrement: bool,
}

/// A column that names rows of another table by their key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The column.
    pub column: String,
    /// The other table.
    pub parent: String,
    /// The column there.
    pub parent_column: String,
}

impl Replica {
    /// Begins to track a table: adds triggers to it and a few tables of ours beside it.
    ///
    /// Returns what may surprise. Its rows go out once the server has been met.
    pub fn track(&mut self, table: &str, options: &TrackOptions) -> Result<Vec<TrackNote>, ReplicaError> {
        let mut notes = vec![];
        self.track_all(&[(table.to_owned(), options.clone())], |_, done| done.map(|n| notes = n))?;
        Ok(notes)
    }

    /// Begins to track tables: all of them or, after an error, none.
    ///
    /// `tell` hears of each what may surprise, or why it cannot be tracked; what it returns as an error ends it all.
    pub fn track_all(
        &mut self,
        tables: &[(String, TrackOptions)],
        mut tell: impl FnMut(&str, Result<Vec<TrackNote>, ReplicaError>) -> Result<(), ReplicaError>,
    ) -> Result<(), ReplicaError> {
        let database = self.binding.as_ref().ok_or(ReplicaError::NotBound)?.database.clone();
        self.transaction(|r| {
            let mut outcomes = vec![];
            for (table, options) in tables {
                outcomes.push(match Plan::new(r, &database, table, options) {
                    Ok(plan) => Ok(r.begin_to_track(plan)?),
                    Err(refusal) => Err(refusal),
                });
            }
            let begun = outcomes.iter().flatten().map(|(no, _)| *no).collect();
            // Some of it depends on which other tables are tracked.
            for ((table, _), outcome) in tables.iter().zip(outcomes) {
                let notes = outcome.map(|(no, unkept)| {
                    let mut notes = r.notes(no)?;
                    notes.extend(unkept);
                    Ok::<_, ReplicaError>(notes)
                });
                tell(table, notes.and_then(|notes| notes))?;
            }
            r.install_triggers(&begun)
        })
    }

    /// Its triggers are still to be made.
    fn begin_to_track(&mut self, plan: Plan) -> Result<(i64, Vec<TrackNote>), ReplicaError> {
        let Plan { table, name, columns, prefer_local, settings, renumber_mine, autoincrement } = plan;
        // What came for it before it had a table comes again, and meets the rows that are here.
        if let Some(no) = self.containers.of_table(&table.name).map(|c| c.no) {
            self.forget_containers(&[no].into())?;
        }
        let integer_keys = matches!(table.key, TableKey::Rowid(_));
        let no = self.add_container(&name, integer_keys, columns, Scan::Meet)?;
        self.set_prefer_local(no, prefer_local)?;
        self.set_numbering(no, settings)?;
        self.set_renumber_mine(no, renumber_mine)?;
        if autoincrement {
            self.make_autoincrement(no, &table)?;
        }
        self.read_user_table(no)?;
        if let Some(user) = self.user_table(no)?.filter(|user| user.has_integer_key()) {
            let first = user.next_integer(&self.conn)?;
            self.set_first_new_number(no, first)?;
        }
        let unkept = self.find_unkept(no)?;
        self.exempt_children(no)?;
        Ok((no, unkept))
    }

    /// What may surprise a user of a table.
    fn notes(&self, no: i64) -> Result<Vec<TrackNote>, ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(vec![]) };
        let numbering = match self.settings_of(no).keeps {
            true => Numbering::Keeps,
            false if self.refers_in_circle(no) => Numbering::Circle,
            false => Numbering::Moves,
        };
        Ok(schema::notes(&self.conn, &user.table, numbering)?)
    }

    /// Ends tracking tables: their rows stay, all that was added for them goes. Held rows, and refused ones that the table
    /// could not show, are put back where its constraints let them; returns how many were.
    ///
    /// Rows that cannot be put back would be in no table: then nothing is done, and the error lists them.
    pub fn untrack(&mut self, tables: &[String]) -> Result<u64, ReplicaError> {
        self.untrack_leaving(tables, |rows| Err(ReplicaError::Held { rows: rows.to_vec() }))
    }

    /// As [`untrack`](Self::untrack), where `leave` gets the rows that cannot be put back, once and if there are any, before
    /// anything is final. If it fails, nothing is done.
    pub fn untrack_leaving(
        &mut self,
        tables: &[String],
        leave: impl FnOnce(&[HeldRow]) -> Result<(), ReplicaError>,
    ) -> Result<u64, ReplicaError> {
        let numbers: BTreeSet<i64> =
            tables.iter().map(|table| self.number(table)).collect::<Result<_, _>>()?;
        let (mut leave, mut stays) = (Some(leave), HashSet::new());
        loop {
            let done = self.transaction(|r| {
                let waiting = r.rows_in_no_table(&numbers)?;
                let (back, left) = r.put_into_tables(waiting, &mut stays)?;
                if let Some(leave) = leave.take().filter(|_| !left.is_empty()) {
                    leave(&left)?;
                }
                crate::store::triggers::remove(&r.conn, &numbers)?;
                r.unmake_autoincrement(&numbers)?;
                r.remove_containers(&numbers)?;
                r.read_references_through()?;
                Ok(back)
            });
            match done {
                Err(ReplicaError::TransactionEnded { .. }) => {}
                done => return done,
            }
        }
    }

    /// Held rows of containers, and refused ones that their tables could not show.
    fn rows_in_no_table(&mut self, numbers: &BTreeSet<i64>) -> Result<Vec<Waiting>, ReplicaError> {
        let mut found = vec![];
        for no in numbers {
            let integer_keys = self.containers[no].integer_keys;
            let user = self.user_table(*no)?;
            for (key, cause) in holds::all(&self.conn, *no, integer_keys)? {
                let values = self.held_values(*no, &key, user.as_deref())?;
                found.push(Waiting { no: *no, key, cause, values });
            }
            for row in holds::refused(&self.conn, *no, integer_keys)? {
                let (Some(kept), Some(user)) = (&row.kept, &user) else { continue };
                let values = decode_values(kept, user)?;
                let cause = "not taken by the server, and held before".to_owned();
                found.push(Waiting { no: *no, key: row.key, cause, values: Some(values) });
            }
        }
        Ok(found)
    }

    fn held_values(
        &mut self,
        no: i64,
        key: &RowKey,
        user: Option<&UserTable>,
    ) -> Result<Option<RowValues>, ReplicaError> {
        let Some(user) = user else { return Ok(None) };
        let view = self.history.view(&self.conn, no, key)?;
        Ok(row::shown(&view, user))
    }

    /// Inserts rows into their tables as far as constraints and triggers let them, and where no other row of a tracked table
    /// changes for it: how many, and the others. Those in `stays` are not tried; one whose trigger ends the transaction joins them.
    fn put_into_tables(
        &mut self,
        rows: Vec<Waiting>,
        stays: &mut HashSet<(i64, RowKey)>,
    ) -> Result<(u64, Vec<HeldRow>), ReplicaError> {
        let (mut back, mut left) = (0, vec![]);
        self.set_triggers(true)?;
        self.guard.set_tracked(self.containers.tables());
        // Our own triggers of tables that are read-only let pass what comes meanwhile.
        layout::set_meta(&self.conn, APPLYING, true)?;
        for row in rows {
            let user = self.user_table(row.no)?;
            let table = self.containers[&row.no].table.clone();
            let place = (row.no, row.key.clone());
            if let (Some(user), Some(values), false) = (&user, &row.values, stays.contains(&place)) {
                let inserted = self.put_into_table(user, &row, values);
                if self.conn.is_autocommit() {
                    let key = user.key_text(&row.key);
                    stays.insert(place);
                    return Err(ReplicaError::TransactionEnded { table, key, cause: row.cause });
                }
                if inserted? {
                    holds::release(&self.conn, row.no, &row.key)?;
                    back += 1;
                    continue;
                }
            }
            let key = user.as_ref().map_or_else(|| format!("{:?}", row.key), |user| user.key_text(&row.key));
            let named = |values: RowValues| match &user {
                Some(user) => {
                    let name = |n: usize| user.table.columns[user.columns[n].index].name.clone();
                    values.into_iter().enumerate().map(|(n, value)| (name(n), value)).collect()
                }
                None => vec![],
            };
            let values = row.values.map(named).unwrap_or_default();
            left.push(HeldRow { table, key, cause: row.cause, values });
        }
        layout::forget_meta(&self.conn, APPLYING)?;
        Ok((back, left))
    }

    /// Inserts a row, if that is all that changes in tracked tables. What triggers of the application write there is left out:
    /// it came as data.
    fn put_into_table(
        &mut self,
        user: &UserTable,
        row: &Waiting,
        values: &RowValues,
    ) -> Result<bool, ReplicaError> {
        let last = log::last(&self.conn)?;
        self.conn.execute_batch("SAVEPOINT piecewise_back")?;
        self.guard.set_applying(true);
        let inserted = user.insert_row(&self.conn, &row.key, values).is_ok();
        self.guard.set_applying(false);
        if self.conn.is_autocommit() {
            return Ok(false);
        }
        let shows = inserted && user.read(&self.conn, &row.key).is_ok_and(|now| now.as_ref() == Some(values));
        let is_alone = shows && self.others_stand(row, last)?;
        self.conn.execute_batch(match is_alone {
            true => "RELEASE piecewise_back",
            false => "ROLLBACK TO piecewise_back; RELEASE piecewise_back",
        })?;
        Ok(is_alone)
    }

    /// Whether all rows but this one that were written since the log ended at `last` show what their documents say.
    fn others_stand(&mut self, row: &Waiting, last: i64) -> Result<bool, ReplicaError> {
        for entry in log::read_after(&self.conn, last)? {
            let Some(user) = self.user_table(entry.container)? else { continue };
            for key in entry.keys(&user.table).filter(|key| (entry.container, key) != (row.no, &row.key)) {
                let now = user.read(&self.conn, &key)?;
                let shown = self.held_values(entry.container, &key, Some(&user))?;
                let is_held = holds::find(&self.conn, entry.container, &key)?.is_some();
                let stands = row::is_same(shown.as_ref(), now.as_ref()) || now.is_none() && is_held;
                if !stands {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether the file has our tables.
    pub fn is_prepared(&self) -> Result<bool, ReplicaError> {
        Ok(layout::exists(&self.conn)?)
    }
}

/// A row that is in no table.
struct Waiting {
    no: i64,
    key: RowKey,
    cause: String,
    values: Option<RowValues>,
}

/// A table that can be tracked, and how.
struct Plan {
    table: Table,
    name: ContainerName,
    columns: Vec<ColumnBinding>,
    prefer_local: bool,
    settings: Settings,
    renumber_mine: bool,
    autoincrement: bool,
}

impl Plan {
    fn new(
        replica: &Replica,
        database: &str,
        table: &str,
        options: &TrackOptions,
    ) -> Result<Self, ReplicaError> {
        let table = schema::read_known_table(&replica.conn, replica.kinds()?, table)?;
        if replica.containers.of_table(&table.name).is_some_and(|c| c.has_table()) {
            return Err(ReplicaError::AlreadyTracked { table: table.name });
        }
        check_writable(&replica.conn, &table)?;
        let columns = bindings(&table, options)?;
        let name = format!("{database}/{}", table.name);
        let bad = || TrackRefusal::BadName { table: table.name.clone() };
        let name = ContainerName::parse(&name).map_err(|_| bad())?;
        let settings = Settings::of(&table, options)?;
        for reference in &options.references {
            replica.check_reference(&reference.parent, &reference.parent_column)?;
        }
        let TrackOptions { prefer_local, renumber_mine, autoincrement, .. } = *options;
        if renumber_mine && let Some(child) = replica.child_with_sent_rows(&table)? {
            return Err(TrackRefusal::ReferencesSent { table: table.name, child }.into());
        }
        Ok(Self { table, name, columns, prefer_local, settings, renumber_mine, autoincrement })
    }
}

impl Replica {
    /// A table whose rows refer to the key of another one, and of which the server has some that were written here.
    fn child_with_sent_rows(&self, parent: &Table) -> Result<Option<String>, ReplicaError> {
        let is_key = |name: &String| {
            let mut key = parent.key_columns().into_iter().map(|n| &parent.columns[n].name);
            key.any(|column| column.eq_ignore_ascii_case(name))
        };
        for state in self.containers.values().filter(|state| state.scan() != Scan::Meet) {
            let Some(child) = self.user_table(state.no)? else { continue };
            let all = child.table.foreign_keys.iter().chain(&child.references);
            let named = all.filter(|f| f.parent_table.eq_ignore_ascii_case(&parent.name));
            for foreign in named.filter(|f| f.parent_columns.iter().any(is_key)) {
                if segments::any_own(&self.conn, state.no)?
                    && child.any_reference(&self.conn, &foreign.columns)?
                {
                    return Ok(Some(child.table.name.clone()));
                }
            }
        }
        Ok(None)
    }
}

/// Refuses a table that this program cannot write, such as one with a function in a CHECK that its application made.
pub(super) fn check_writable(conn: &Connection, table: &Table) -> Result<(), TrackRefusal> {
    let name = quote(&table.name);
    let column = quote(&table.columns[table.key_columns()[0]].name);
    for sql in [
        format!("INSERT INTO {name}({column}) VALUES (?)"),
        format!("UPDATE {name} SET {column} = ?"),
        format!("DELETE FROM {name}"),
    ] {
        match conn.prepare(&sql) {
            Err(rusqlite::Error::SqlInputError { msg: reason, .. }) => {
                let reason = in_trigger(conn, &table.name, reason)?;
                return Err(TrackRefusal::NotWritable { table: table.name.clone(), reason });
            }
            Err(rusqlite::Error::SqliteFailure(e, reason)) if e.code == ErrorCode::Unknown => {
                let reason = in_trigger(conn, &table.name, reason.unwrap_or_else(|| e.to_string()))?;
                return Err(TrackRefusal::NotWritable { table: table.name.clone(), reason });
            }
            prepared => drop(prepared?),
        }
    }
    Ok(())
}

fn bindings(table: &Table, options: &TrackOptions) -> Result<Vec<ColumnBinding>, ReplicaError> {
    let key_columns = match &table.key {
        TableKey::Rowid(n) => vec![*n],
        TableKey::Columns(columns) => columns.clone(),
    };
    let bad = |column: &str, kind, why| ReplicaError::BadMerge {
        table: table.name.clone(),
        column: column.to_owned(),
        kind,
        why,
    };
    let mut bindings: Vec<_> = table.columns.iter().map(|c| ColumnBinding::new(&c.name)).collect();
    let wanted = options.text.iter().map(|c| (c, Merge::Text, "text"));
    let wanted = wanted.chain(options.counter.iter().map(|c| (c, Merge::Counter, "counter")));
    for (name, merge, kind) in wanted {
        let place = table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
        let place = place.ok_or_else(|| bad(name, kind, "there is no such column"))?;
        if key_columns.contains(&place) {
            return Err(bad(name, kind, "it is part of the primary key"));
        }
        if table.columns[place].generated {
            return Err(bad(name, kind, "it is a generated column"));
        }
        if table.unique.iter().any(|u| u.columns.iter().any(|t| t.column == Some(place))) {
            return Err(bad(name, kind, "it is part of a UNIQUE index"));
        }
        let affinity = table.columns[place].affinity();
        match merge {
            Merge::Text if !matches!(affinity, Affinity::Text | Affinity::Blob) => {
                return Err(bad(name, kind, "it is not declared TEXT"));
            }
            Merge::Counter if !matches!(affinity, Affinity::Integer | Affinity::Numeric | Affinity::Blob) => {
                return Err(bad(name, kind, "it is not declared INTEGER"));
            }
            _ => bindings[place].merge = merge,
        }
    }
    Ok(bindings)
}

/// What SQLite says is missing, with the trigger of a table that names it, if one does.
fn in_trigger(conn: &Connection, table: &str, reason: String) -> Result<String, StoreError> {
    let Some((_, missing)) = reason.split_once("no such ").and_then(|(_, rest)| rest.split_once(": ")) else {
        return Ok(reason);
    };
    let missing = missing.rsplit('.').next().unwrap_or(missing);
    let sql = "SELECT name FROM main.sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE
               AND instr(lower(sql), lower(?)) ORDER BY name LIMIT 1";
    let trigger = conn.prepare_cached(sql)?.query_row([table, missing], |row| row.get::<_, String>(0));
    Ok(match trigger.optional()? {
        Some(trigger) => format!("trigger {trigger}: {reason}"),
        None => reason,
    })
}
