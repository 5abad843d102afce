//! Telling: lists what moved where applications read it, and has tables follow that are not tracked.
//!
//! A table that does not let its reference change stops the move, and with it its parent's table. A trigger on the list that
//! fails stops nothing.

use super::Keyed;
use crate::id::Timestamp;
use crate::key::RowKey;
use crate::numbers::Renumbered;
use crate::replica::{Replica, ReplicaError, StopKind};
use crate::store::user_table::quote;
use crate::store::{StoreError, numbers};

impl Replica {
    /// Lists what moved where applications read it, and has tables follow that are not tracked: all of their rows were
    /// written here.
    pub(super) fn tell_application(
        &mut self,
        mapped: &Keyed<i64>,
        renumbered: &[(Renumbered, Timestamp)],
    ) -> Result<(), ReplicaError> {
        if renumbered.is_empty() {
            return Ok(());
        }
        self.set_triggers(true)?;
        for (no, moved) in mapped {
            let table = self.containers[no].table.clone();
            for (child, column) in self.untracked_references(&table)? {
                let pairs: Vec<String> = moved
                    .iter()
                    .filter_map(|(key, new)| match key {
                        RowKey::Integer(old) => Some(format!("({old}, {new})")),
                        _ => None,
                    })
                    .collect();
                let (table, place) = (quote(&child), quote(&column));
                // Compared as a foreign key compares, whatever the type of the column; a text stays one.
                let sql = format!(
                    "WITH piecewise_moved(old, new) AS
                       (SELECT CAST(column1 AS INTEGER), CAST(column2 AS INTEGER) FROM (VALUES {}))
                     UPDATE {table} SET {place} =
                       (SELECT CASE typeof({place}) WHEN 'text' THEN CAST(new AS TEXT) ELSE new END
                        FROM piecewise_moved WHERE old = {place})
                     WHERE {place} IN (SELECT old FROM piecewise_moved)",
                    pairs.join(", ")
                );
                if let Err(error) = self.conn.execute(&sql, []) {
                    return Err(self.cannot_follow(*no, &child, &column, error.into()));
                }
            }
        }
        for (moved, time) in renumbered {
            self.list_renumbered(moved, *time)?;
        }
        Ok(())
    }

    /// A table that is not tracked does not let its references change, so rows of `no` cannot move.
    pub(super) fn cannot_follow(
        &self,
        no: i64,
        child: &str,
        column: &str,
        source: StoreError,
    ) -> ReplicaError {
        if source.is_of_file() {
            return source.into();
        }
        let table = self.containers[&no].table.clone();
        let why = format!(
            "rows whose numbers other rows have at the server cannot get others, since {child}.{column} refers to them \
             and does not let itself be changed"
        );
        ReplicaError::Table { no, table, kind: StopKind::NotSynced, why, source: Box::new(source) }
    }

    /// Lists a row that moved, for applications. What a trigger of theirs cannot do with that is theirs: the row has moved.
    fn list_renumbered(&mut self, moved: &Renumbered, time: Timestamp) -> Result<(), ReplicaError> {
        let listed = |r: &Self| numbers::put_renumbered(&r.conn, &moved.table, moved.old, moved.new, time);
        if !self.numbers.lists_quietly {
            self.conn.execute_batch("SAVEPOINT piecewise_listed")?;
            let Err(error) = listed(self) else {
                return Ok(self.conn.execute_batch("RELEASE piecewise_listed")?);
            };
            if error.is_of_file() {
                return Err(error.into());
            }
            if self.conn.is_autocommit() {
                // All of it is done again, and listed without triggers.
                self.numbers.lists_quietly = true;
                let (table, key) = ("piecewise_renumbered".to_owned(), moved.old.to_string());
                return Err(ReplicaError::TransactionEnded { table, key, cause: error.to_string() });
            }
            self.conn.execute_batch("ROLLBACK TO piecewise_listed; RELEASE piecewise_listed")?;
        }
        self.set_triggers(false)?;
        let done = listed(self);
        self.set_triggers(true)?;
        Ok(done?)
    }

    /// Columns of tables that are not tracked which refer to a table's key.
    pub(in crate::numbers) fn untracked_references(
        &self,
        parent: &str,
    ) -> Result<Vec<(String, String)>, ReplicaError> {
        let sql = "SELECT m.name, f.\"from\" FROM sqlite_master m, pragma_foreign_key_list(m.name) f
                   WHERE m.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE
                   AND (f.\"to\" IS NULL OR EXISTS
                     (SELECT 1 FROM pragma_table_info(?1) WHERE pk > 0 AND name = f.\"to\" COLLATE NOCASE))";
        let mut stmt = self.conn.prepare(sql)?;
        let found = stmt.query_map([parent], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let found: Vec<(String, String)> = found.collect::<Result<_, _>>()?;
        let is_tracked = |table: &str| self.containers.of_table(table).is_some_and(|c| c.has_table());
        Ok(found.into_iter().filter(|(table, _)| !is_tracked(table)).collect())
    }
}
