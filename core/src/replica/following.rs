//! Following: the file takes on what descriptions say, and tables that others made.

use super::registry::{ColumnBinding, Follow};
use super::{Replica, ReplicaError, Scan};
use crate::change::Merge;
use crate::container_name::ContainerName;
use crate::description::Description;
use crate::id::PeerId;
use crate::message::Cursor;
use crate::store::triggers::{self, Mode};
use crate::store::{schema, segments};
use std::sync::Arc;

impl Replica {
    /// Whether tables that others made are made here too.
    pub(crate) fn follows_all(&self) -> bool {
        self.is_server || self.binding.as_ref().is_some_and(|b| b.follow == Follow::All)
    }

    /// Adds a container that a peer told of, if the file follows such; its table comes with its description.
    pub(crate) fn follow_container(
        &mut self,
        name: &str,
        integer_keys: bool,
    ) -> Result<Option<i64>, ReplicaError> {
        let Ok(name) = ContainerName::parse(name) else {
            return Err(ReplicaError::BadName { name: name.to_owned() });
        };
        if let Some(state) = self.containers.values().find(|c| c.name == name.as_str()) {
            return Ok(Some(state.no));
        }
        let ours = self.binding.as_ref().is_some_and(|b| b.database == name.database());
        if !self.follows_all() || !ours || schema::table_exists(&self.conn, name.table())? {
            return Ok(None);
        }
        self.transaction(|r| r.add_container(&name, integer_keys, vec![], Scan::No)).map(Some)
    }

    /// Brings the table here in line with the container's description: makes it, or adds columns.
    ///
    /// Call it in a transaction, with triggers off or on.
    pub(crate) fn follow_description(&mut self, no: i64) -> Result<(), ReplicaError> {
        let state = &self.containers[&no];
        let Some(description) = state.description.clone() else { return Ok(()) };
        match state.user.clone() {
            None if self.follows_all() && !schema::table_exists(&self.conn, &state.table)? => {
                self.make_table(no, &description)
            }
            None => Ok(()),
            Some(user) => {
                self.take_merges(no, &description)?;
                let missing = description.columns_missing_in(&user.table);
                if missing.is_empty() || !self.follows_all() {
                    return Ok(());
                }
                let table = self.containers[&no].table.clone();
                for column in missing {
                    self.conn.execute_batch(&description.add_column_sql(&table, &column)?)?;
                }
                self.read_user_table(no)?;
                self.schema_version = schema::schema_version(&self.conn)?;
                self.set_scan(no, Scan::Fill)
            }
        }
    }

    fn make_table(&mut self, no: i64, description: &Arc<Description>) -> Result<(), ReplicaError> {
        let table = self.containers[&no].table.clone();
        for sql in description.create_table_sql(&table)? {
            self.conn.execute_batch(&sql)?;
        }
        let made = schema::read_table(&self.conn, &table)?;
        let columns = made.columns.iter().map(|c| ColumnBinding {
            name: c.name.clone(),
            key: c.name.clone(),
            merge: Merge::Register,
            is_new: false,
        });
        let columns = columns.collect();
        if let Some(state) = self.containers.get_mut(&no) {
            state.columns = columns;
        }
        self.take_merges(no, description)?;
        triggers::ensure_log(&self.conn, super::tracking::key_width(&made))?;
        let mode = if self.containers[&no].read_only { Mode::ReadOnly } else { Mode::Capture };
        triggers::install(&self.conn, no, &made, mode)?;
        self.read_user_table(no)?;
        self.schema_version = schema::schema_version(&self.conn)?;
        if self.containers[&no].feed.count() > 1 { self.set_scan(no, Scan::Fill) } else { Ok(()) }
    }

    /// Takes the merge kinds of columns from the description.
    fn take_merges(&mut self, no: i64, description: &Description) -> Result<(), ReplicaError> {
        let Some(state) = self.containers.get_mut(&no) else { return Ok(()) };
        let mut changed = false;
        for column in &mut state.columns {
            if let Some(merge) = description.merge(&column.key)
                && merge != column.merge
            {
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
