//! Following: the file takes on what descriptions say, and tables that others made.

use super::columns::ColumnBinding;
use super::registry::Follow;
use super::stops::StopKind;
use super::{Replica, ReplicaError, Scan};
use crate::change::Merge;
use crate::container_name::{ContainerName, container_id};
use crate::description::Description;
use crate::id::PeerId;
use crate::key::RowKey;
use crate::message::Cursor;
use crate::store::{documents, schema, segments};
use std::collections::{BTreeMap, BTreeSet};

/// In a file with more containers, tables that others made are made together.
const TABLES_ONE_BY_ONE: usize = 256;
/// Create a pending table immediately once this many rows arrive in one message or this many segments in total.
const ROWS_THAT_WAIT: u64 = 1000;
const SEGMENTS_THAT_WAIT: u64 = 64;
/// Rows that are put at once into a table that is made after they came.
const ROWS_AT_ONCE: usize = 64;

/// A column that merges otherwise than this device asked for, since its table says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherMerge {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// How it merges.
    pub merge: Merge,
}

impl Replica {
    /// Whether tables that others made are made here too.
    pub(crate) fn follows_all(&self) -> bool {
        self.is_server || self.binding.as_ref().is_some_and(|b| b.follow == Follow::All)
    }

    /// The containers that a peer told of, each with whether its keys are integers; those that the file does not have
    /// are added, if it follows such. Their tables come with their descriptions.
    ///
    /// Gives the number of each; None: it is not followed.
    pub(crate) fn follow_containers(
        &mut self,
        told: &[(&str, bool)],
    ) -> Result<Vec<Option<i64>>, ReplicaError> {
        let Some(binding) = self.binding.clone() else { return Err(ReplicaError::NotBound) };
        let name = |name: &str| {
            ContainerName::parse(name).map_err(|_| ReplicaError::BadName { name: name.to_owned() })
        };
        let names: Vec<_> = told.iter().map(|(n, _)| name(n)).collect::<Result<_, _>>()?;
        let known = |r: &Self, name: &ContainerName| {
            r.containers.with_id(&container_id(&binding.realm, name)).map(|c| c.no)
        };
        if !self.follows_all() || names.iter().all(|name| known(self, name).is_some()) {
            return Ok(names.iter().map(|name| known(self, name)).collect());
        }
        self.transaction(|r| {
            let mut numbers = vec![];
            for (name, (_, integer_keys)) in names.iter().zip(told) {
                let mut no = known(r, name);
                let ours = binding.database == name.database();
                if no.is_none() && ours && r.may_follow(name.table())? {
                    no = Some(r.add_container(name, *integer_keys, vec![], Scan::No)?);
                }
                numbers.push(no);
            }
            Ok(numbers)
        })
    }

    /// Brings the table here in line with the container's description: makes it, or adds columns. Gives the rows that
    /// are still to be settled in tables that were made.
    ///
    /// Call it in a transaction, with triggers off or on.
    pub(crate) fn follow_description(&mut self, no: i64) -> Result<Vec<(i64, RowKey)>, ReplicaError> {
        if let Some(why) = self.fault_of_description(no)? {
            self.stop(no, StopKind::Description, &why)?;
            return Ok(vec![]);
        }
        let Some(description) = self.description(no)? else { return Ok(vec![]) };
        if self.containers[&no].stopped.as_ref().is_some_and(|s| s.kind == StopKind::Description) {
            self.forget_stop(no)?;
        }
        if let Some((kind, why)) = self.fault_of_key(no)? {
            self.stop(no, kind, &why)?;
            return Ok(vec![]);
        }
        let state = &self.containers[&no];
        match self.user_table(no)? {
            // One that was here and went is its user's to bring back.
            None if self.follows_all() && !state.has_table() => {
                self.set_scan(no, Scan::Make)?;
                if self.containers.len() <= TABLES_ONE_BY_ONE { self.make_tables() } else { Ok(vec![]) }
            }
            None => Ok(vec![]),
            Some(user) => {
                self.take_merges(no, &description)?;
                self.align_columns(no, &description)?;
                self.take_numbering(no, &description)?;
                let rows = self.take_unkept(no, &description)?;
                let state = &self.containers[&no];
                let missing = description.columns_besides(state.columns.iter().map(|c| c.key.as_str()));
                // A renamed column may have the name of one that comes: that one stays in documents.
                let has = |name: &str| user.table.columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
                let missing: Vec<_> = missing.into_iter().filter(|name| !has(name)).collect();
                if !self.follows_all() {
                    return Ok(rows);
                }
                let table = state.table.clone();
                let added = self.try_schema(|r| {
                    for column in &missing {
                        r.conn.execute_batch(&description.add_column_sql(&table, column)?)?;
                    }
                    Ok(())
                })?;
                if let Err(why) = added {
                    let why = format!("columns that others added cannot be added here: {why}");
                    self.stop(no, StopKind::Description, &why)?;
                    return Ok(rows);
                }
                self.take_numbers(&description)?;
                if description.is_autoincrement() && user.has_integer_key() && !user.autoincrement {
                    // A table that cannot have it is as good without.
                    let _ = self.try_schema(|r| {
                        crate::store::schema_rows::add_autoincrement(&r.conn, &table)?;
                        Ok(())
                    })?;
                }
                self.note_schema()?;
                self.read_user_table(no)?;
                self.add_indexes(no, &description)?;
                self.note_schema()?;
                if missing.is_empty() {
                    return Ok(rows);
                }
                // What else looks through the table fills the new columns at its end.
                if matches!(self.containers[&no].scan(), Scan::No | Scan::Fill) {
                    self.set_scan(no, Scan::Fill)?;
                }
                Ok(rows)
            }
        }
    }

    /// Whether so much has come for a table that is still to be made that it should wait for others no longer.
    pub(crate) fn needs_its_table(&self, no: i64, rows: u64) -> bool {
        let state = &self.containers[&no];
        state.scan() == Scan::Make && (rows >= ROWS_THAT_WAIT || state.feed.count() > SEGMENTS_THAT_WAIT)
    }

    /// Makes all tables that are still to be made, together: each change of the schema costs time with its size.
    /// Gives the rows that are still to be settled in them.
    ///
    /// Call it in a transaction with nothing to capture.
    pub(crate) fn make_tables(&mut self) -> Result<Vec<(i64, RowKey)>, ReplicaError> {
        let (mut made, mut descriptions) = (BTreeSet::new(), vec![]);
        // By name, so that the schemas of two clones are the same text.
        let unmade = self.containers.unmade().iter().map(|no| (self.containers[no].table.clone(), *no));
        for (table, no) in unmade.collect::<BTreeMap<_, _>>() {
            self.set_scan(no, Scan::No)?;
            let Some(description) = self.description(no)? else { continue };
            if let Some(what) = schema::kind_of(&self.conn, &table)? {
                // Of a table, it is for its user to say that it takes part.
                let why =
                    format!("it cannot be made here: there is a {what} of this name, which is not tracked");
                self.stop(no, StopKind::NotMade, &why)?;
                continue;
            }
            let sql = description.create_table_sql(&table, |_, _| true)?;
            if let Err(why) = self.try_schema(|r| Ok(r.conn.execute_batch(&sql)?))? {
                self.stop(no, StopKind::NotMade, &format!("it cannot be made here: {why}"))?;
                continue;
            }
            self.forget_stop(no)?;
            self.take_numbers(&description)?;
            let binding = |(name, merge): (&str, Merge)| ColumnBinding { merge, ..ColumnBinding::new(name) };
            if let Some(state) = self.containers.get_mut(&no) {
                state.columns = description.columns().map(binding).collect();
            }
            self.take_unkept(no, &description)?;
            self.take_numbering(no, &description)?;
            made.insert(no);
            descriptions.push((no, table, description));
        }
        // After all tables, so that an index takes no table's name. A table without one of its indexes is still whole.
        for (_, table, description) in &descriptions {
            self.add_unique(table, description)?;
        }
        if descriptions.iter().any(|(_, _, description)| description.parents().next().is_some()) {
            self.note_schema()?;
        }
        for (no, table, description) in &descriptions {
            self.leave_out_unfit_parents(*no, table, description)?;
            self.add_indexes(*no, description)?;
        }
        self.add_foreign_keys(&made)?;
        self.note_schema()?;
        for no in &made {
            self.read_user_table(*no)?;
        }
        self.install_triggers(&made)?;
        let mut rows = vec![];
        for no in made {
            rows.extend(self.rows_of_new_table(no)?);
            self.look_at_children(no)?;
        }
        Ok(rows)
    }

    /// Makes the UNIQUE indexes of a table.
    pub(super) fn add_unique(&mut self, table: &str, description: &Description) -> Result<(), ReplicaError> {
        let is_free = |name: &str| schema::is_free_name(&self.conn, name).unwrap_or(false);
        for sql in description.create_unique_sql(table, is_free) {
            let _ = self.try_schema(|r| Ok(r.conn.execute_batch(&sql)?))?;
        }
        Ok(())
    }

    /// Has the rows of tables that refer to one that was made looked at again: their parents are expected there now.
    fn look_at_children(&mut self, no: i64) -> Result<(), ReplicaError> {
        self.exempt_children(no)?;
        let table = self.containers[&no].table.clone();
        for child in self.containers.children_of(&table).collect::<Vec<_>>() {
            let is_settled = child != no && self.containers[&child].scan() == Scan::No;
            let Some(user) = self.user_table(child)?.filter(|_| is_settled) else { continue };
            let mut orphans = 0;
            for foreign in user.table.foreign_keys.iter().filter(|f| f.kept) {
                if foreign.parent_table.eq_ignore_ascii_case(&table) {
                    orphans += self.orphans_of(&user, foreign)?.len();
                }
            }
            if orphans > 0 {
                self.set_scan(child, Scan::Fill)?;
            }
        }
        Ok(())
    }

    /// Makes the plain indexes of a table that its description names.
    fn add_indexes(&self, no: i64, description: &Description) -> Result<(), ReplicaError> {
        let state = &self.containers[&no];
        // A column that was renamed here has its old name in the description.
        let has = |column: &str| state.columns.iter().any(|c| c.name == column && c.key == column);
        let is_free = |name: &str| schema::is_free_name(&self.conn, name).unwrap_or(false);
        for sql in description.create_indexes_sql(&state.table, is_free, has) {
            self.conn.execute_batch(&sql)?;
        }
        Ok(())
    }

    /// Whether a container whose table would have this name is followed: a table of this file is attached by `track` alone.
    /// A server follows all, also one whose table it cannot make, since devices exchange its rows through it.
    fn may_follow(&self, table: &str) -> Result<bool, ReplicaError> {
        // To SQLite, names that differ in capitals are one.
        let is_taken = self.containers.of_table(table).is_some();
        Ok(!is_taken && (self.is_server || schema::kind_of(&self.conn, table)? != Some("table")))
    }

    /// Changes the schema, or leaves it as it was; then the inner error says why, unless it is about the whole file.
    pub(super) fn try_schema(
        &mut self,
        change: impl FnOnce(&Self) -> Result<(), ReplicaError>,
    ) -> Result<Result<(), String>, ReplicaError> {
        self.conn.execute_batch("SAVEPOINT piecewise_schema")?;
        match change(self) {
            Ok(()) => {
                self.conn.execute_batch("RELEASE piecewise_schema")?;
                Ok(Ok(()))
            }
            Err(ReplicaError::Store(error)) if error.is_of_file() => Err(error.into()),
            Err(error) => {
                self.conn.execute_batch("ROLLBACK TO piecewise_schema; RELEASE piecewise_schema")?;
                Ok(Err(error.to_string()))
            }
        }
    }

    /// Gives a clone the numbers by which its application knows its schema, unless it has some.
    fn take_numbers(&self, description: &Description) -> Result<(), ReplicaError> {
        let (user_version, application_id) = description.numbers();
        for (pragma, wanted) in [("user_version", user_version), ("application_id", application_id)] {
            let known: i32 = self.conn.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))?;
            if known == 0 && wanted != 0 && !self.is_server {
                self.conn.pragma_update(None, pragma, wanted)?;
            }
        }
        Ok(())
    }

    /// The rows that came before their table, if they are few; else they come into it bit by bit.
    fn rows_of_new_table(&mut self, no: i64) -> Result<Vec<(i64, RowKey)>, ReplicaError> {
        let state = &self.containers[&no];
        if state.feed.count() <= 1 {
            return Ok(vec![]);
        }
        let keys = documents::keys_after(&self.conn, no, state.integer_keys, None, ROWS_AT_ONCE + 1)?;
        if keys.len() > ROWS_AT_ONCE {
            self.set_scan(no, Scan::Fill)?;
            return Ok(vec![]);
        }
        Ok(keys.into_iter().map(|key| (no, key)).collect())
    }

    /// Columns that merge otherwise than this device asked for. Each is told once.
    pub fn take_other_merges(&mut self) -> Vec<OtherMerge> {
        std::mem::take(&mut self.other_merges)
    }

    /// Takes the merge kinds of columns from the description.
    fn take_merges(&mut self, no: i64, description: &Description) -> Result<(), ReplicaError> {
        let Some(state) = self.containers.get_mut(&no) else { return Ok(()) };
        let mut changed = false;
        for column in &mut state.columns {
            if let Some(merge) = description.merge(&column.key)
                && merge != column.merge
            {
                if column.merge != Merge::Register {
                    let (table, column) = (state.table.clone(), column.name.clone());
                    self.other_merges.push(OtherMerge { table, column, merge });
                }
                column.merge = merge;
                changed = true;
            }
        }
        if changed { self.read_user_table(no) } else { Ok(()) }
    }

    /// The newest cursors into the feeds of any of a peer's replicas.
    pub(crate) fn cursors_of_key(&self, no: i64, key: &PeerId) -> Result<Vec<Cursor>, ReplicaError> {
        let mut cursors = vec![];
        for peer in segments::replicas(&self.conn, key)? {
            cursors.extend(segments::cursors(&self.conn, no, peer)?);
        }
        cursors.sort_by_key(|c| std::cmp::Reverse(c.seq));
        cursors.truncate(crate::message::CURSORS_MAX);
        Ok(cursors)
    }
}
