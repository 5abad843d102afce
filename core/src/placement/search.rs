//! Search: full-text indexes over tables whose rows were changed without the application's triggers.
//!
//! A full-text index with external content is kept by triggers alone. Where they had to be left out, because they chase each
//! other without an end or do not let go what documents deleted, the index is rebuilt from its table: once for all rows of a
//! transaction.
//!
//! So is an index over a view of several tables, where a row lost its parent: the triggers that take it out of the index see the view as it is
//! without that parent, which the application took care to do in another order.

use crate::replica::{Replica, ReplicaError};
use crate::store::clauses::Search;
use crate::store::user_table::quote;
use std::collections::{BTreeMap, BTreeSet};

/// What happened without the application's triggers.
#[derive(Debug, Default)]
pub(crate) struct Unheard {
    /// Whether triggers are left out for all rows at present.
    pub(crate) is_on: bool,
    /// Containers with rows that were changed so.
    pub(crate) containers: BTreeSet<i64>,
    /// Containers with rows that were held for a missing parent.
    pub(crate) parentless: BTreeSet<i64>,
    /// Indexes that could not be rebuilt, and why, until they are told of.
    pub(crate) failed: BTreeMap<String, String>,
}

impl Unheard {
    /// Rows are going to be changed.
    pub(crate) fn begin(&mut self) {
        *self = Self { failed: std::mem::take(&mut self.failed), ..Self::default() };
    }
}

impl Replica {
    /// Rebuilds the full-text indexes over tables with rows that triggers did not hear of. Call it in the transaction
    /// that changed them.
    pub(crate) fn rebuild_searches(&mut self) -> Result<(), ReplicaError> {
        self.unheard.is_on = false;
        let mut rebuilt = BTreeSet::new();
        let all = std::mem::take(&mut self.unheard.containers);
        let parentless = std::mem::take(&mut self.unheard.parentless);
        for no in all.union(&parentless) {
            let Some(state) = self.containers.get(no) else { continue };
            for Search { name, is_of_view } in self.clauses()?.searches_of(&self.conn, &state.table)? {
                if !(is_of_view || all.contains(no)) || !rebuilt.insert(name.clone()) {
                    continue;
                }
                let index = quote(&name);
                self.conn.execute_batch("SAVEPOINT piecewise_search")?;
                let done =
                    self.conn.execute_batch(&format!("INSERT INTO {index}({index}) VALUES ('rebuild')"));
                if let Err(error) = done {
                    if self.conn.is_autocommit() {
                        return Err(error.into());
                    }
                    self.conn.execute_batch("ROLLBACK TO piecewise_search")?;
                    self.unheard.failed.insert(name, error.to_string());
                }
                self.conn.execute_batch("RELEASE piecewise_search")?;
            }
        }
        Ok(())
    }

    /// Full-text indexes that are not as their tables are, and could not be rebuilt, with the reasons, since this was
    /// asked last.
    pub fn take_unsearchable(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.unheard.failed)
    }
}
