//! AUTOINCREMENT for tables whose schema does not have it: written into the text of a table, and taken out again when the table
//! is no longer tracked.

use crate::id::Timestamp;
use crate::replica::{Replica, ReplicaError};
use crate::store::schema::TrackRefusal;
use crate::store::{StoreError, layout, schema_rows};
use crate::table::{Table, TableKey};
use std::collections::BTreeSet;

/// The setting that says that `sqlite_sequence` was made here.
const MADE: &str = "made sqlite_sequence";

/// The setting that says of a container's table that AUTOINCREMENT was written into it.
fn written(no: i64) -> String {
    format!("autoincrement {no}")
}

impl Replica {
    /// Has SQLite number the rows of a tracked table by `sqlite_sequence`, here and, by its description, elsewhere. Returns
    /// whether that is new.
    pub fn autoincrement(&mut self, now: Timestamp, table: &str) -> Result<bool, ReplicaError> {
        let no = self.number(table)?;
        self.transaction(|r| {
            let Some(user) = r.user_table(no)? else {
                return Err(ReplicaError::NotTracked { table: table.to_owned() });
            };
            if !r.make_autoincrement(no, &user.table)? {
                return Ok(false);
            }
            r.read_user_table(no)?;
            if r.history.view(&r.conn, no, &crate::key::RowKey::Description)?.is_live() {
                r.describe(no, r.corrected(now))?;
            }
            Ok(true)
        })
    }

    /// Writes AUTOINCREMENT into a table's text; false if it is there. Call it in a transaction.
    pub(crate) fn make_autoincrement(&mut self, no: i64, table: &Table) -> Result<bool, ReplicaError> {
        let refused = |reason| TrackRefusal::NoAutoincrement { table: table.name.clone(), reason };
        if !matches!(table.key, TableKey::Rowid(_)) {
            return Err(refused("it has no INTEGER PRIMARY KEY").into());
        }
        if self.clauses()?.is_autoincrement(&table.name) {
            return Ok(false);
        }
        match schema_rows::add_autoincrement(&self.conn, &table.name)? {
            None => return Err(refused("the text of its CREATE TABLE is not understood").into()),
            Some(true) => layout::set_meta(&self.conn, MADE, true)?,
            Some(false) => {}
        }
        layout::set_meta(&self.conn, &written(no), true)?;
        self.note_schema()?;
        Ok(true)
    }

    /// Takes it out of the tables into which it was written. Call it in a transaction.
    pub(crate) fn unmake_autoincrement(&mut self, numbers: &BTreeSet<i64>) -> Result<(), ReplicaError> {
        for no in numbers {
            if layout::meta::<bool>(&self.conn, &written(*no))?.is_none() {
                continue;
            }
            layout::forget_meta(&self.conn, &written(*no))?;
            let table = self.containers[no].table.clone();
            if self.kinds()?.has(&table) {
                schema_rows::remove_autoincrement(&self.conn, &table)?;
            }
        }
        if layout::meta::<bool>(&self.conn, MADE)?.is_some() && !self.any_written()? {
            layout::forget_meta(&self.conn, MADE)?;
            schema_rows::drop_sequence(&self.conn)?;
        }
        self.note_schema()
    }

    fn any_written(&self) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM piecewise_meta WHERE name GLOB 'autoincrement *'";
        Ok(self.conn.prepare_cached(sql)?.exists([])?)
    }
}
