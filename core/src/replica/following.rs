//! Following: the file takes on what descriptions say, and tables that others made.

use super::registry::{ColumnBinding, Follow};
use super::{Replica, ReplicaError, Scan};
use crate::change::Merge;
use crate::container_name::{ContainerName, container_id};
use crate::description::Description;
use crate::id::PeerId;
use crate::message::Cursor;
use crate::store::triggers;
use crate::store::{schema, segments};

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
                if no.is_none() && ours && !schema::table_exists(&r.conn, name.table())? {
                    no = Some(r.add_container(name, *integer_keys, vec![], Scan::No)?);
                }
                numbers.push(no);
            }
            Ok(numbers)
        })
    }

    /// Brings the table here in line with the container's description: makes it, or adds columns.
    ///
    /// Call it in a transaction, with triggers off or on.
    pub(crate) fn follow_description(&mut self, no: i64) -> Result<(), ReplicaError> {
        let Some(description) = self.description(no)? else { return Ok(()) };
        let state = &self.containers[&no];
        match self.user_table(no)? {
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
                self.note_schema()?;
                // What else looks through the table fills the new columns at its end.
                if self.containers[&no].scan() == Scan::No { self.set_scan(no, Scan::Fill) } else { Ok(()) }
            }
        }
    }

    fn make_table(&mut self, no: i64, description: &Description) -> Result<(), ReplicaError> {
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
        triggers::install(&self.conn, no, &made, super::registry::mode(&self.containers[&no]))?;
        self.read_user_table(no)?;
        self.note_schema()?;
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
