//! Circles: rows that refer to each other, so that each waits for another as long as none is in its table.
//!
//! Rows that came to be held for missing parents are looked at together with the held rows that would be those parents.
//! Of all these, the greatest set is shown in which each row has its parents in the tables or in the set: the same set on
//! all replicas, in whatever order the rows came. Rows in a net (see `nets`) lean on their held parents and need no such set.

use super::claims::unique_claim;
use super::parents::{Parent, parent_columns};
use super::{Candidate, Queue};
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::row;
use crate::store::holds::{self, HoldKind};
use crate::store::user_table::Compared;
use crate::table::{Collation, ForeignKey};
use crate::value::Value;
use std::collections::{BTreeSet, HashMap, HashSet};

type Row = (i64, RowKey);

impl Replica {
    /// Finds rows whose missing parents are each other, and queues them; whether there are any.
    pub(super) fn find_circles(&mut self, queue: &mut Queue) -> Result<bool, ReplicaError> {
        let mut todo = std::mem::take(&mut queue.parentless);
        let mut circular = HashMap::new();
        todo.retain(|(no, _)| *circular.entry(*no).or_insert_with(|| self.is_circular(*no)));
        // Of each row, for each parent that it lacks the held rows that would be it.
        let mut lacks: HashMap<Row, Vec<Vec<Row>>> = HashMap::new();
        while let Some(row) = todo.pop() {
            if lacks.contains_key(&row) || holds::find(&self.conn, row.0, &row.1)? != Some(HoldKind::Foreign)
            {
                continue;
            }
            let parents = self.held_parents(&row)?;
            todo.extend(parents.iter().flatten().cloned());
            lacks.insert(row, parents);
        }
        let mut children: HashMap<&Row, Vec<&Row>> = HashMap::new();
        for (row, parents) in &lacks {
            parents.iter().flatten().for_each(|parent| children.entry(parent).or_default().push(row));
        }
        let mut out: HashSet<&Row> = HashSet::new();
        let mut suspects: Vec<&Row> = lacks.keys().collect();
        while let Some(row) = suspects.pop() {
            let is_there = |parent: &Row| lacks.contains_key(parent) && !out.contains(parent);
            let has_all = lacks[row].iter().all(|parents| parents.iter().any(is_there));
            if !has_all && out.insert(row) {
                suspects
                    .extend(children.get(row).into_iter().flatten().filter(|child| !out.contains(*child)));
            }
        }
        let circle: HashSet<Row> = lacks.keys().filter(|row| !out.contains(row)).cloned().collect();
        for (no, key) in &circle {
            queue.push(*no, key.clone());
        }
        let any = !circle.is_empty();
        queue.circle.extend(circle);
        Ok(any && !queue.rows.is_empty())
    }

    /// Whether a missing parent is a row of the same circle.
    pub(super) fn is_in_circle(
        &self,
        candidate: &Candidate,
        foreign: &ForeignKey,
        values: &[Value],
        queue: &Queue,
    ) -> Result<bool, ReplicaError> {
        if !queue.circle.contains(&(candidate.no, candidate.key.clone())) {
            return Ok(false);
        }
        Ok(self.held_as_parent(foreign, values)?.iter().any(|parent| queue.circle.contains(parent)))
    }

    /// Whether foreign keys lead from a table back to it.
    fn is_circular(&self, no: i64) -> bool {
        let Some(state) = self.containers.get(&no) else { return false };
        let own = state.table.to_ascii_lowercase();
        if self.containers.children_of(&own).any(|child| child == no) {
            return true;
        }
        let (mut seen, mut todo) = (BTreeSet::new(), vec![no]);
        while let Some(table) = todo.pop() {
            for parent in self.containers.parents_of(table) {
                if parent == no {
                    return true;
                }
                if seen.insert(parent) {
                    todo.push(parent);
                }
            }
        }
        false
    }

    /// For each parent that a held row lacks, the held rows that would be it.
    fn held_parents(&mut self, (no, key): &Row) -> Result<Vec<Vec<Row>>, ReplicaError> {
        let Some(user) = self.user_table(*no)? else { return Ok(vec![vec![]]) };
        let view = self.history.view(&self.conn, *no, key)?;
        let Some(wanted) = row::shown(&view, &user) else { return Ok(vec![vec![]]) };
        let candidate = Candidate { no: *no, key: key.clone(), user: user.clone(), view, wanted };
        let mut parents = vec![];
        for foreign in &user.table.foreign_keys {
            if let Parent::Missing(values) = self.parent(&candidate, foreign)? {
                parents.push(self.held_as_parent(foreign, &values)?);
            }
        }
        Ok(parents)
    }

    /// The held rows that have the values by which a foreign key names its parent.
    pub(super) fn held_as_parent(
        &self,
        foreign: &ForeignKey,
        values: &[Value],
    ) -> Result<Vec<Row>, ReplicaError> {
        let Some(state) = self.containers.of_table(&foreign.parent_table) else { return Ok(vec![]) };
        let Some(user) = self.user_table(state.no)? else { return Ok(vec![]) };
        let Some(columns) = parent_columns(&user, foreign) else { return Ok(vec![]) };
        // As the parent's columns keep what the child has: a TEXT column may name an INTEGER key.
        let value_of = |column: usize| {
            let place = columns.iter().position(|c| *c == column)?;
            Some(user.table.columns[column].kept(&values[place]))
        };
        let mut found = vec![];
        let by_key: Option<Vec<_>> = user.key_columns().into_iter().map(value_of).collect();
        if let Some(values) = by_key.filter(|values| values.len() == columns.len()) {
            let values: Vec<_> = values.iter().map(Value::as_ref).collect();
            found.extend(user.table.row_key(&values).ok());
        }
        for unique in
            user.table.unique.iter().filter(|u| u.partial.is_none() && u.columns.len() == columns.len())
        {
            let compared = |term: &crate::table::UniqueTerm| {
                let index = term.column?;
                let collation = Collation::from_name(&term.collation)?;
                Some(Compared { index, collation, value: value_of(index)? })
            };
            let Some(compared) = unique.columns.iter().map(compared).collect::<Option<Vec<_>>>() else {
                continue;
            };
            let claim = unique_claim(&user, &compared);
            found.extend(holds::claimants(&self.conn, state.no, &claim, user.has_integer_key())?);
        }
        let mut held = vec![];
        for key in found {
            if holds::find(&self.conn, state.no, &key)? == Some(HoldKind::Foreign) {
                held.push((state.no, key));
            }
        }
        Ok(held)
    }
}
