//! Carried: what of a schema a made table has, and what it lacks.
//!
//! A made table has the foreign keys whose parents are there, with columns that are unique there. With any other, a program that
//! has SQLite keep foreign keys gets an error for every row that it writes ("no such table", "foreign key mismatch"). Once the
//! parent comes, its children get the key: a foreign key has no storage of its own, it is a part of the table's text.

use super::{Replica, ReplicaError};
use crate::description::Description;
use crate::store::user_table::quote;
use crate::store::{layout, schema, schema_rows};
use std::collections::{BTreeMap, BTreeSet};

/// The setting that lists the containers whose tables were made without a foreign key.
const WITHOUT_FOREIGN_KEYS: &str = "without_foreign_keys";

impl Replica {
    /// Whether tables here may refer to these columns of one.
    fn fits_as_parent(&self, parent: &str, columns: &[String]) -> bool {
        let known = self.kinds().map(|kinds| schema::read_known_table(&self.conn, kinds, parent));
        known.is_ok_and(|found| found.is_ok_and(|parent| parent.is_unique(columns)))
    }

    /// Makes a table that is still empty anew without the foreign keys whose parents are not here, or not fit.
    pub(super) fn leave_out_unfit_parents(
        &mut self,
        no: i64,
        table: &str,
        description: &Description,
    ) -> Result<(), ReplicaError> {
        if description.parents().all(|(parent, columns)| self.fits_as_parent(parent, columns)) {
            return Ok(());
        }
        let sql =
            description.create_table_sql(table, |parent, columns| self.fits_as_parent(parent, columns))?;
        self.conn.execute_batch(&format!("DROP TABLE {}; {sql}", quote(table)))?;
        self.add_unique(table, description)?;
        let mut all = self.without_foreign_keys()?;
        all.insert(no);
        self.note_without_foreign_keys(&all)
    }

    /// Gives tables that were made without them their foreign keys to tables that were made now.
    pub(super) fn add_foreign_keys(&mut self, made: &BTreeSet<i64>) -> Result<(), ReplicaError> {
        let all = self.without_foreign_keys()?;
        if all.is_empty() {
            return Ok(());
        }
        self.note_schema()?;
        let mut left = BTreeSet::new();
        for no in &all {
            let Some(table) = self.containers.get(no).map(|c| c.table.clone()) else { continue };
            let Some(description) = self.description(*no)? else { continue };
            let is_made =
                |r: &Self, parent: &str| r.containers.of_table(parent).is_some_and(|c| made.contains(&c.no));
            if !made.contains(no) && description.parents().any(|(parent, _)| is_made(self, parent)) {
                let clauses = description.foreign_keys_sql(|parent, columns| {
                    is_made(self, parent) && self.fits_as_parent(parent, columns)
                });
                // A table that its application has changed since stays as it is if it does not take them.
                let _ = self.try_schema(|r| Ok(schema_rows::add_clauses(&r.conn, &table, &clauses)?))?;
                self.note_schema()?;
                self.read_user_table(*no)?;
            }
            if description.parents().any(|(parent, columns)| !self.fits_as_parent(parent, columns)) {
                left.insert(*no);
            }
        }
        if left == all { Ok(()) } else { self.note_without_foreign_keys(&left) }
    }

    fn without_foreign_keys(&self) -> Result<BTreeSet<i64>, ReplicaError> {
        let list: Option<String> = layout::meta(&self.conn, WITHOUT_FOREIGN_KEYS)?;
        Ok(list.unwrap_or_default().split(',').filter_map(|no| no.parse().ok()).collect())
    }

    fn note_without_foreign_keys(&self, all: &BTreeSet<i64>) -> Result<(), ReplicaError> {
        let list = all.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        Ok(layout::set_meta(&self.conn, WITHOUT_FOREIGN_KEYS, list)?)
    }

    /// What the tables here lack of those that they were made from, by table: a kind and a name each, such as ("CHECK", "2")
    /// or ("foreign key to", "books").
    pub fn not_carried(&mut self) -> Result<BTreeMap<String, Vec<(String, String)>>, ReplicaError> {
        let mut found = BTreeMap::new();
        let without = self.without_foreign_keys()?;
        let tables: Vec<_> = self.containers.values().map(|c| (c.no, c.table.clone())).collect();
        for (no, table) in tables {
            let Some(description) = self.description(no)? else { continue };
            let mut local = description.local().to_vec();
            for (parent, columns) in description.parents().filter(|_| without.contains(&no)) {
                if !self.fits_as_parent(parent, columns) {
                    local.push(("foreign key to".to_owned(), parent.to_owned()));
                }
            }
            if !local.is_empty() {
                found.insert(table, local);
            }
        }
        Ok(found)
    }
}
