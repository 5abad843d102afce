//! Parents: foreign keys, as far as documents and the application keep them.

use super::Candidate;
use super::claims::{column_values, parent_claim, row_claim};
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError, Scan};
use crate::row;
use crate::store::holds::{self, Claim};
use crate::store::user_table::{Compared, RowValues, UserTable, quote};
use crate::store::{documents, segments};
use crate::table::{Collation, ForeignKey};
use crate::value::Value;
use std::sync::Arc;

/// What became of the parent that a row names.
pub(super) enum Parent {
    /// It is shown, or does not matter.
    Shown,
    /// It is held for a missing parent of its own, and counts as there; the rows that may be it, as claims.
    Held(Vec<Claim>),
    /// It is missing; the values that name it.
    Missing(Vec<Value>),
}

impl Replica {
    /// Whether a row names a parent that is not shown. `value` gives a column of the table by its index.
    pub(crate) fn lacks_parent(
        &self,
        user: &UserTable,
        value: impl Fn(usize) -> Value,
    ) -> Result<bool, ReplicaError> {
        for foreign in user.table.foreign_keys.iter().filter(|f| f.kept) {
            let values: Vec<_> = foreign.columns.iter().map(|n| value(*n)).collect();
            if values.contains(&Value::Null) || parent_exists(self, foreign, &values)? {
                continue;
            }
            if !foreign.parent_table.eq_ignore_ascii_case(&user.table.name) {
                return Ok(true);
            }
            let place =
                |name: &String| user.table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
            // As SQLite compares: what the row names becomes what the parent's column would make of it.
            let is_own = |(name, named): (&String, &Value)| {
                let own = |n: usize| value(n).as_ref().same(user.table.columns[n].kept(named).as_ref());
                place(name).is_some_and(own)
            };
            if !foreign.parent_columns.iter().zip(&values).all(is_own) {
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

    /// The values by which children name a row that its table shows, also those of generated columns.
    pub(super) fn shown_parent_values(
        &self,
        user: &UserTable,
        foreign: &ForeignKey,
        key: &RowKey,
        values: &RowValues,
    ) -> Result<Option<Vec<Value>>, ReplicaError> {
        let is_generated = |n: &usize| user.table.columns[*n].generated;
        let Some(columns) = parent_columns(user, foreign).filter(|all| all.iter().any(is_generated)) else {
            return parent_values(user, foreign, key, values);
        };
        let shown = user.read_columns(&self.conn, key, &columns)?;
        Ok(shown.filter(|values| !values.contains(&Value::Null)))
    }

    /// What became of the parent that a row names by a foreign key.
    pub(super) fn parent(&self, candidate: &Candidate, foreign: &ForeignKey) -> Result<Parent, ReplicaError> {
        if !foreign.kept {
            return Ok(Parent::Shown);
        }
        let Some(values) = foreign_values(&candidate.user, foreign, &candidate.key, &candidate.wanted)?
        else {
            return Ok(Parent::Shown);
        };
        let own_table = foreign.parent_table.eq_ignore_ascii_case(&candidate.user.table.name);
        if own_table && self.is_own_parent(candidate, foreign, &values)? {
            return Ok(Parent::Shown);
        }
        if parent_exists(self, foreign, &values)? {
            return Ok(Parent::Shown);
        }
        let claim = self.parent_claim_of(foreign, &values)?;
        if holds::is_exempt(&self.conn, candidate.no, &candidate.key, &claim)? {
            return Ok(Parent::Shown);
        }
        if self.is_in_net(candidate.no, &candidate.user, foreign) {
            let held = self.held_as_parent(foreign, &values)?;
            if !held.is_empty() {
                return Ok(Parent::Held(held.iter().map(|(no, key)| row_claim(*no, key)).collect()));
            }
        }
        Ok(Parent::Missing(values))
    }

    /// The claim to a parent by the values of a foreign key.
    pub(super) fn parent_claim_of(
        &self,
        foreign: &ForeignKey,
        values: &[Value],
    ) -> Result<Claim, ReplicaError> {
        let parent = match self.containers.of_table(&foreign.parent_table) {
            Some(parent) => self.user_table(parent.no)?,
            None => None,
        };
        Ok(parent_claim(foreign, parent.as_ref().map(|p| &p.table), values))
    }

    /// Lets a row that its own application wrote, or had before, stay in its table although it names a parent that is not
    /// there: SQLite was not asked to keep the key.
    pub(crate) fn exempt_orphan(
        &mut self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
    ) -> Result<(), ReplicaError> {
        if !user.table.foreign_keys.iter().any(|f| f.kept) {
            return Ok(());
        }
        let Some(values) = user.read(&self.conn, key)? else { return Ok(()) };
        let key_values = user.key_values(key)?;
        if !self.lacks_parent(user, |index| user.value_at(index, &key_values, &values))? {
            return Ok(());
        }
        for foreign in user.table.foreign_keys.iter().filter(|f| f.kept) {
            if let Some(values) = foreign_values(user, foreign, key, &values)?
                && !parent_exists(self, foreign, &values)?
                && !self.gave_way(no, foreign, &values)?
            {
                holds::exempt(&self.conn, no, key, &self.parent_claim_of(foreign, &values)?)?;
            }
        }
        Ok(())
    }

    /// Whether a parent is missing only because it gave way to a row of the server's, while the tables meet: the application left
    /// no orphan.
    fn gave_way(&mut self, no: i64, foreign: &ForeignKey, values: &[Value]) -> Result<bool, ReplicaError> {
        if !matches!(self.containers[&no].scan(), Scan::Gather | Scan::Join) {
            return Ok(false);
        }
        let Some(parent) = self.containers.of_table(&foreign.parent_table).map(|state| state.no) else {
            return Ok(false);
        };
        let Some(user) = self.user_table(parent)? else { return Ok(false) };
        let Some(columns) = parent_columns(&user, foreign) else { return Ok(false) };
        let wanted: Vec<_> =
            columns.iter().zip(values).map(|(n, v)| user.table.columns[*n].kept(v)).collect();
        let integer_keys = user.has_integer_key();
        let held = holds::all(&self.conn, parent, integer_keys)?.into_iter().map(|(key, _)| key);
        let keys: Vec<_> =
            held.chain(documents::keys_in_conflict(&self.conn, parent, integer_keys)?).collect();
        for key in keys {
            let view = self.history.view(&self.conn, parent, &key)?;
            let rows = view.shown().into_iter().chain(view.other_rows().into_iter().map(|(_, cells)| cells));
            for cells in rows {
                let has = column_values(&user, &columns, &key, &row::values_of(&cells, &user))?;
                if has.iter().zip(&wanted).all(|(a, b)| a.as_ref().same(b.as_ref())) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Has all orphans of a table stay.
    pub(crate) fn exempt_orphans(&mut self, no: i64, user: &UserTable) -> Result<(), ReplicaError> {
        self.all_orphans(user)?.iter().try_for_each(|key| self.exempt_orphan(no, user, key))
    }

    /// Rows of a table of which some parent is not there.
    pub(crate) fn all_orphans(&self, user: &UserTable) -> Result<Vec<RowKey>, ReplicaError> {
        let kept = user.table.foreign_keys.iter().filter(|f| f.kept);
        let orphans: Vec<_> = kept.map(|foreign| self.orphans_of(user, foreign)).collect::<Result<_, _>>()?;
        Ok(orphans.concat())
    }

    /// The same for a row of which a change was captured here; others are held as all children of a missing parent are.
    pub(crate) fn exempt_own(&mut self, no: i64, key: &RowKey) -> Result<(), ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(()) };
        for at in documents::changes(&self.conn, no, key)? {
            if segments::is_own(&self.conn, at.segment())? {
                return self.exempt_orphan(no, &user, key);
            }
        }
        Ok(())
    }

    /// The same for the rows of all tables that refer to one which has come.
    pub(crate) fn exempt_children(&mut self, no: i64) -> Result<(), ReplicaError> {
        for (child, user, foreign) in self.references_to(&self.containers[&no].table)? {
            if child != no {
                for key in self.orphans_of(&user, &foreign)? {
                    self.exempt_own(child, &key)?;
                }
            }
        }
        Ok(())
    }

    /// Rows whose parents by a foreign key are not there, also where their table is not.
    pub(crate) fn orphans_of(
        &self,
        user: &UserTable,
        foreign: &ForeignKey,
    ) -> Result<Vec<RowKey>, ReplicaError> {
        let column = |n: &usize| format!("c.{}", quote(&user.table.columns[*n].name));
        let columns: Vec<_> = foreign.columns.iter().map(column).collect();
        let keys: Vec<_> = user.key_columns().iter().map(column).collect();
        let known: Vec<_> = columns.iter().map(|c| format!("{c} IS NOT NULL")).collect();
        let same = |(name, column): (&String, &String)| format!("p.{} = {column}", quote(name));
        let same: Vec<_> = foreign.parent_columns.iter().zip(&columns).map(same).collect();
        let head = format!(
            "SELECT {} FROM {} c WHERE {}",
            keys.join(", "),
            quote(&user.table.name),
            known.join(" AND ")
        );
        let parent = quote(&foreign.parent_table);
        let sql = format!("{head} AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE {})", same.join(" AND "));
        let mut stmt = match self.conn.prepare(&sql) {
            Ok(stmt) => stmt,
            Err(_) => self.conn.prepare(&head)?,
        };
        let mut rows = stmt.query([])?;
        let mut found = vec![];
        while let Some(row) = rows.next()? {
            found.extend(user.row_key(row)?);
        }
        Ok(found)
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
        let named = columns.iter().zip(values).map(|(n, value)| table.columns[*n].kept(value));
        Ok(own.iter().zip(named).all(|(a, b)| a.as_ref().same(b.as_ref())))
    }

    /// Containers whose tables refer to this one, with how.
    pub(crate) fn references_to(
        &self,
        parent: &str,
    ) -> Result<Vec<(i64, Arc<UserTable>, ForeignKey)>, ReplicaError> {
        let mut found = vec![];
        for no in self.containers.children_of(parent) {
            let Some(user) = self.user_table(no)? else { continue };
            for foreign in &user.table.foreign_keys {
                if foreign.kept && foreign.parent_table.eq_ignore_ascii_case(parent) {
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

/// The columns of a parent that a foreign key names; None if they are not there.
pub(super) fn parent_columns(user: &UserTable, foreign: &ForeignKey) -> Option<Vec<usize>> {
    let place = |name: &String| user.table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
    foreign.parent_columns.iter().map(place).collect()
}

/// The values by which children name this row; None if the columns are not there or one is NULL.
pub(super) fn parent_values(
    user: &UserTable,
    foreign: &ForeignKey,
    key: &RowKey,
    values: &RowValues,
) -> Result<Option<Vec<Value>>, ReplicaError> {
    let Some(columns) = parent_columns(user, foreign) else { return Ok(None) };
    let values = column_values(user, &columns, key, values)?;
    Ok((!values.contains(&Value::Null)).then_some(values))
}

/// Whether a parent row is in its table; true as well where there is no such table or column here.
pub(super) fn parent_exists(
    replica: &Replica,
    foreign: &ForeignKey,
    values: &[Value],
) -> Result<bool, ReplicaError> {
    let terms: Vec<_> = foreign.parent_columns.iter().map(|c| format!("{} = ?", quote(c))).collect();
    let sql = format!("SELECT 1 FROM {} WHERE {}", quote(&foreign.parent_table), terms.join(" AND "));
    let Ok(mut stmt) = replica.conn.prepare_cached(&sql) else { return Ok(true) };
    for (n, value) in values.iter().enumerate() {
        stmt.raw_bind_parameter(n + 1, value.as_ref())?;
    }
    let mut rows = stmt.raw_query();
    Ok(rows.next()?.is_some())
}
