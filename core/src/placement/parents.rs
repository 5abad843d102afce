//! Parents: foreign keys, as far as documents and the application keep them.

use super::Candidate;
use super::claims::column_values;
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::store::user_table::{Compared, RowValues, UserTable, quote};
use crate::table::{Collation, ForeignKey};
use crate::value::Value;
use std::sync::Arc;

impl Replica {
    /// Whether a row names a parent that is not shown. `value` gives a column of the table by its index.
    pub(crate) fn lacks_parent(
        &self,
        user: &UserTable,
        value: impl Fn(usize) -> Value,
    ) -> Result<bool, ReplicaError> {
        for foreign in &user.table.foreign_keys {
            let values: Vec<_> = foreign.columns.iter().map(|n| value(*n)).collect();
            if values.contains(&Value::Null) || parent_exists(self, foreign, &values)? {
                continue;
            }
            if !foreign.parent_table.eq_ignore_ascii_case(&user.table.name) {
                return Ok(true);
            }
            let place =
                |name: &String| user.table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
            let own = foreign.parent_columns.iter().map(|name| place(name).map(&value));
            if !own.zip(&values).all(|(a, b)| a.is_some_and(|a| a.as_ref().same(b.as_ref()))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rows that refer to values which a row had and has no longer.
    pub(crate) fn orphans(
        &self,
        user: &UserTable,
        key: &RowKey,
        before: &RowValues,
        after: Option<&RowValues>,
    ) -> Result<Vec<(i64, RowKey)>, ReplicaError> {
        let mut orphans = vec![];
        for (child_no, child, foreign) in self.references_to(&user.table.name)? {
            let Some(old) = parent_values(user, &foreign, key, before)? else { continue };
            if let Some(after) = after
                && let Some(new) = parent_values(user, &foreign, key, after)?
                && old.iter().zip(&new).all(|(a, b)| a.as_ref().same(b.as_ref()))
            {
                continue;
            }
            // The parent's columns say which values are equal.
            let collation = |name: &String| {
                let parent = user.table.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name));
                parent.map_or(Collation::Binary, |c| c.collation)
            };
            let collations = foreign.parent_columns.iter().map(collation);
            let compared = foreign.columns.iter().zip(collations).zip(old);
            let compared: Vec<_> = compared
                .map(|((index, collation), value)| Compared { index: *index, collation, value })
                .collect();
            let keys = child.keys_where(&self.conn, &compared)?;
            orphans.extend(keys.into_iter().map(|key| (child_no, key)));
        }
        Ok(orphans)
    }

    pub(super) fn missing_parent(
        &self,
        candidate: &Candidate,
        foreign: &ForeignKey,
    ) -> Result<Option<Vec<Value>>, ReplicaError> {
        let Some(values) = foreign_values(&candidate.user, foreign, &candidate.key, &candidate.wanted)?
        else {
            return Ok(None);
        };
        let own_table = foreign.parent_table.eq_ignore_ascii_case(&candidate.user.table.name);
        if own_table && self.is_own_parent(candidate, foreign, &values)? {
            return Ok(None);
        }
        let exists = parent_exists(self, foreign, &values)?;
        Ok((!exists).then_some(values))
    }

    /// Whether a row of a table that refers to itself is its own parent.
    fn is_own_parent(
        &self,
        candidate: &Candidate,
        foreign: &ForeignKey,
        values: &[Value],
    ) -> Result<bool, ReplicaError> {
        let table = &candidate.user.table;
        let place = |name: &String| table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
        let Some(columns) = foreign.parent_columns.iter().map(place).collect::<Option<Vec<_>>>() else {
            return Ok(false);
        };
        let own = column_values(&candidate.user, &columns, &candidate.key, &candidate.wanted)?;
        Ok(own.iter().zip(values).all(|(a, b)| a.as_ref().same(b.as_ref())))
    }

    /// Containers whose tables refer to this one, with how.
    pub(super) fn references_to(
        &self,
        parent: &str,
    ) -> Result<Vec<(i64, Arc<UserTable>, ForeignKey)>, ReplicaError> {
        let mut found = vec![];
        for no in self.containers.children_of(parent) {
            let Some(user) = self.user_table(no)? else { continue };
            for foreign in &user.table.foreign_keys {
                if foreign.parent_table.eq_ignore_ascii_case(parent) {
                    found.push((no, user.clone(), foreign.clone()));
                }
            }
        }
        Ok(found)
    }
}

/// The values by which a child names its parent; None if one is NULL.
pub(super) fn foreign_values(
    user: &UserTable,
    foreign: &ForeignKey,
    key: &RowKey,
    values: &RowValues,
) -> Result<Option<Vec<Value>>, ReplicaError> {
    let values = column_values(user, &foreign.columns, key, values)?;
    Ok((!values.contains(&Value::Null)).then_some(values))
}

/// The values by which children name this row; None if the columns are not there or one is NULL.
pub(super) fn parent_values(
    user: &UserTable,
    foreign: &ForeignKey,
    key: &RowKey,
    values: &RowValues,
) -> Result<Option<Vec<Value>>, ReplicaError> {
    let place = |name: &String| user.table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
    let Some(columns) = foreign.parent_columns.iter().map(place).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let values = column_values(user, &columns, key, values)?;
    Ok((!values.contains(&Value::Null)).then_some(values))
}

/// Whether a parent row is in its table; true as well where there is no such table or column here.
fn parent_exists(replica: &Replica, foreign: &ForeignKey, values: &[Value]) -> Result<bool, ReplicaError> {
    let terms: Vec<_> = foreign.parent_columns.iter().map(|c| format!("{} = ?", quote(c))).collect();
    let sql = format!("SELECT 1 FROM {} WHERE {}", quote(&foreign.parent_table), terms.join(" AND "));
    let Ok(mut stmt) = replica.conn.prepare_cached(&sql) else { return Ok(true) };
    for (n, value) in values.iter().enumerate() {
        stmt.raw_bind_parameter(n + 1, value.as_ref())?;
    }
    let mut rows = stmt.raw_query();
    Ok(rows.next()?.is_some())
}
