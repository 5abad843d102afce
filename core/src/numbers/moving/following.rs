//! Following: references to rows that move, where they were written here, and what in turn refers to columns that change by that.
//!
//! A reference names a row by its key or by other columns that are UNIQUE. All references are read as they were before any row
//! moved. Generated columns are what SQLite makes of a row: one that would still refer to another row stops the move.

use super::{Fate, Own, OwnRow, Plan};
use crate::key::{RowKey, encode_tuple};
use crate::numbers::taking_along::{kept_like, names};
use crate::replica::{Replica, ReplicaError};
use crate::store::StoreError;
use crate::store::user_table::{UserTable, quote};
use crate::table::{Column, ForeignKey};
use crate::value::{Value, ValueRef};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Values by the places of their columns in the table.
pub(in crate::numbers) type Columns = BTreeMap<usize, Value>;

/// Rows of a table that get other values.
pub(super) struct Changed {
    /// The container whose rows move.
    pub(super) root: i64,
    /// The container of these rows.
    pub(super) no: i64,
    /// The rows by the keys under which they are here, with the columns that change and their values then.
    pub(super) rows: Vec<(RowKey, Columns)>,
}

/// How rows of one table refer to rows of another.
pub(in crate::numbers) struct Relation {
    pub(in crate::numbers) no: i64,
    pub(in crate::numbers) child: Arc<UserTable>,
    pub(in crate::numbers) pairs: Pairs,
}

/// The columns of a child by which it names rows, each with the one of the parent that it names.
pub(in crate::numbers) struct Pairs {
    pub(in crate::numbers) all: Vec<(usize, usize)>,
    /// Those that tell which row it is: the parent's key, or all.
    pub(in crate::numbers) telling: Vec<(usize, usize)>,
}

/// Rows that change, by the values by which a child names them: what it names before, and what changes.
pub(super) type Named<'c> = HashMap<Vec<u8>, (Columns, &'c Columns)>;

/// What a generated column has to become since it refers to a row that moves.
#[derive(Debug)]
pub(super) struct Generated {
    root: i64,
    no: i64,
    key: RowKey,
    column: usize,
    value: Value,
}

impl Replica {
    /// Has references follow to rows that change, and references to what follows, table by table.
    pub(super) fn follow_all(
        &mut self,
        members: &[i64],
        changed: Vec<Changed>,
        own: &mut BTreeMap<i64, Own>,
        plan: &mut Plan,
    ) -> Result<(), ReplicaError> {
        let mut work = VecDeque::from(changed);
        while let Some(mut changed) = work.pop_front() {
            let Some(user) = self.user_table(changed.no)?.filter(|_| !changed.rows.is_empty()) else {
                continue;
            };
            self.add_generated(&user, &mut changed.rows)?;
            let columns: BTreeSet<usize> =
                changed.rows.iter().flat_map(|(_, columns)| columns.keys().copied()).collect();
            for relation in self.relations(&user, &columns)? {
                if !members.contains(&relation.no) {
                    continue;
                }
                if let Entry::Vacant(new) = own.entry(relation.no) {
                    new.insert(self.own(relation.no)?);
                }
                let named = self.named_rows(&user, &changed, &relation.pairs, &own[&changed.no])?;
                let rows = self.follow((&user, changed.root), &named, &relation, &own[&relation.no], plan)?;
                work.push_back(Changed { root: changed.root, no: relation.no, rows });
            }
            self.follow_in_others(&user, &changed, &columns, &own[&changed.no], plan)?;
        }
        self.check_generated(plan)
    }

    /// How rows refer to any of these columns of a table.
    pub(in crate::numbers) fn relations(
        &self,
        parent: &UserTable,
        columns: &BTreeSet<usize>,
    ) -> Result<Vec<Relation>, ReplicaError> {
        let mut found = vec![];
        for no in self.containers.children_of(&parent.table.name) {
            let Some(child) = self.user_table(no)? else { continue };
            let all = child.table.foreign_keys.iter().chain(&child.references);
            let all = all.filter(|f| f.parent_table.eq_ignore_ascii_case(&parent.table.name));
            let pairs = all.filter_map(|foreign| Pairs::of(foreign, parent));
            let pairs = pairs.filter(|pairs| pairs.name_any(columns));
            found.extend(pairs.map(|pairs| Relation { no, child: child.clone(), pairs }));
        }
        Ok(found)
    }

    /// Has references to rows that change follow, where they were written here. Returns what changes in the rows that have them.
    fn follow(
        &mut self,
        (user, root): (&UserTable, i64),
        named: &Named<'_>,
        relation: &Relation,
        own: &Own,
        plan: &mut Plan,
    ) -> Result<Vec<(RowKey, Columns)>, ReplicaError> {
        let Relation { no, child, pairs } = relation;
        let columns = pairs.columns();
        let mut rows = vec![];
        for key in own.keys.iter().filter(|_| !named.is_empty()) {
            let Some((here, row)) = self.columns_here(*no, child, key, &columns, own)? else { continue };
            let mut follows = pairs.follow(named, &user.table.columns, &child.table.columns, &here);
            let is_generated = |n: &usize| child.table.columns[*n].generated;
            let written: Vec<_> = follows.keys().copied().filter(|n| !is_generated(n)).collect();
            if follows.is_empty() || !row.is_own(child, &written, own) {
                continue;
            }
            for (column, value) in follows.extract_if(.., |n, _| is_generated(n)) {
                let (no, key) = (*no, key.clone());
                plan.generated.push(Generated { root, no, key, column, value });
            }
            rows.extend(plan.let_follow(*no, child, key, follows)?);
        }
        Ok(rows)
    }

    /// The rows that change, as a child names them.
    pub(super) fn named_rows<'c>(
        &mut self,
        user: &UserTable,
        changed: &'c Changed,
        pairs: &Pairs,
        own: &Own,
    ) -> Result<Named<'c>, ReplicaError> {
        let columns: Vec<usize> = pairs.all.iter().map(|(_, parent)| *parent).collect();
        let key_columns = user.key_columns();
        let mut named = HashMap::new();
        for (key, after) in &changed.rows {
            if !columns.iter().any(|n| after.contains_key(n)) {
                continue;
            }
            let before = match columns.iter().all(|n| key_columns.contains(n)) {
                true => Some(key_columns.iter().copied().zip(user.key_values(key)?).collect()),
                false => self.columns_here(changed.no, user, key, &columns, own)?.map(|(columns, _)| columns),
            };
            let Some(before) = before else { continue };
            let before: Columns =
                before.into_iter().map(|(n, value)| (n, names(&user.table.columns[n], &value))).collect();
            let told: Vec<_> = pairs.telling.iter().map(|(_, parent)| before[parent].clone()).collect();
            named.extend(tuple(&told).map(|told| (told, (before, after))));
        }
        Ok(named)
    }

    /// Some columns of a row as they were written here, also generated ones, with the row. None: none of them was.
    fn columns_here(
        &mut self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        columns: &[usize],
        own: &Own,
    ) -> Result<Option<(Columns, OwnRow)>, ReplicaError> {
        let Some(row) = self.own_row(no, user, key, columns, own)? else { return Ok(None) };
        let key_values = user.key_values(key)?;
        let mut here: Columns =
            columns.iter().map(|n| (*n, user.value_at(*n, &key_values, &row.values))).collect();
        let generated: Vec<_> =
            columns.iter().copied().filter(|n| user.table.columns[*n].generated).collect();
        if !generated.is_empty()
            && let Some(values) = user.read_columns(&self.conn, key, &generated)?
        {
            here.extend(generated.into_iter().zip(values));
        }
        Ok(Some((here, row)))
    }

    // ---- generated columns

    /// Adds to what changes in rows the generated columns to which rows refer.
    fn add_generated(
        &mut self,
        user: &UserTable,
        rows: &mut [(RowKey, Columns)],
    ) -> Result<(), ReplicaError> {
        let columns = user.table.columns.iter().enumerate();
        let generated: BTreeSet<usize> = columns.filter(|(_, c)| c.generated).map(|(n, _)| n).collect();
        let relations = self.relations(user, &generated)?;
        let named: BTreeSet<_> = relations.iter().flat_map(|r| &r.pairs.all).map(|(_, n)| *n).collect();
        let named: Vec<_> = named.intersection(&generated).copied().collect();
        if named.is_empty() {
            return Ok(());
        }
        for (key, columns) in rows {
            let before = user.read_columns(&self.conn, key, &named)?;
            let after = self.generated_with(user, key, columns, &named)?;
            let both = before.into_iter().flatten().zip(after.into_iter().flatten());
            let other = named.iter().zip(both).filter(|(_, (before, after))| before != after);
            columns.extend(other.map(|(n, (_, after))| (*n, after)));
        }
        Ok(())
    }

    /// What columns of a row would be if others had these values. None: there is no such row, or its table does not take it.
    fn generated_with(
        &mut self,
        user: &UserTable,
        key: &RowKey,
        values: &Columns,
        wanted: &[usize],
    ) -> Result<Option<Vec<Value>>, ReplicaError> {
        let key_values = user.key_columns().into_iter().zip(user.key_values(key)?);
        let then: Vec<_> = key_values.map(|(n, old)| values.get(&n).unwrap_or(&old).clone()).collect();
        let then: Vec<_> = then.iter().map(Value::as_ref).collect();
        let Ok(then) = user.table.row_key(&then) else { return Ok(None) };
        self.without_triggers(|r| {
            r.conn.execute_batch("SAVEPOINT piecewise_tried")?;
            let found = match user.try_columns(&r.conn, key, values) {
                Ok(()) => user.read_columns(&r.conn, &then, wanted),
                Err(error) if error.is_of_file() => Err(error),
                Err(_) => Ok(None),
            };
            r.conn.execute_batch("ROLLBACK TO piecewise_tried; RELEASE piecewise_tried")?;
            Ok(found?)
        })
    }

    /// Stops the move if a generated column does not become what it has to.
    fn check_generated(&mut self, plan: &Plan) -> Result<(), ReplicaError> {
        for Generated { root, no, key, column, value } in &plan.generated {
            let Some(user) = self.user_table(*no)? else { continue };
            let mut values = plan.values.get(no).and_then(|rows| rows.get(key)).cloned().unwrap_or_default();
            if let Some(Fate::Moves(new)) = plan.fates.get(no).and_then(|fates| fates.get(key)) {
                values.extend(user.key_columns().into_iter().zip(user.key_values(new)?));
            }
            let then = match values.is_empty() {
                true => None,
                false => self.generated_with(&user, key, &values, &[*column])?,
            };
            let column = &user.table.columns[*column];
            if then.is_some_and(|then| names(column, &then[0]) == names(column, value)) {
                continue;
            }
            let (table, name) = (quote(&user.table.name), quote(&column.name));
            // SQLite says why it cannot be written.
            if let Err(error) = self.conn.prepare(&format!("UPDATE {table} SET {name} = NULL")) {
                return Err(self.cannot_follow(*root, &user.table.name, &column.name, error.into()));
            }
        }
        Ok(())
    }
}

impl Plan {
    /// Notes what follows in a row; what was noted of it before stays. Returns the row with what is new.
    fn let_follow(
        &mut self,
        no: i64,
        user: &UserTable,
        key: &RowKey,
        mut follows: Columns,
    ) -> Result<Option<(RowKey, Columns)>, StoreError> {
        if follows.is_empty() {
            return Ok(None);
        }
        let followed = self.values.entry(no).or_default().entry(key.clone()).or_default();
        follows.retain(|n, _| !followed.contains_key(n));
        followed.extend(follows.iter().map(|(n, value)| (*n, value.clone())));
        let columns = user.key_columns();
        if follows.keys().any(|n| columns.contains(n)) {
            let key_values = user.key_values(key)?;
            let wanted: Vec<Value> = columns
                .iter()
                .zip(&key_values)
                .map(|(n, old)| followed.get(n).unwrap_or(old).clone())
                .collect();
            let wanted: Vec<_> = wanted.iter().map(Value::as_ref).collect();
            let fates = self.fates.entry(no).or_default();
            let stays = matches!(fates.get(key), Some(Fate::Known(_) | Fate::Gone));
            match user.table.row_key(&wanted) {
                Ok(new) if new != *key && !stays => drop(fates.insert(key.clone(), Fate::Moves(new))),
                _ => follows.retain(|n, _| !columns.contains(n)),
            }
        }
        Ok((!follows.is_empty()).then(|| (key.clone(), follows)))
    }
}

impl Pairs {
    /// Those of a foreign key; None: it names no rows of this parent.
    pub(in crate::numbers) fn of(foreign: &ForeignKey, parent: &UserTable) -> Option<Self> {
        let (table, key) = (&parent.table, parent.key_columns());
        let place = |name: &String| table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
        let mut all = vec![];
        for (column, name) in foreign.columns.iter().zip(&foreign.parent_columns) {
            let named = match (place(name), &key[..]) {
                (Some(n), _) => n,
                // A reference that no schema declares has the key's name from when it was told of: SQLite renamed it nowhere.
                (None, [n]) if foreign.columns.len() == 1 => *n,
                _ => continue,
            };
            all.push((*column, named));
        }
        let by_key: Vec<_> = all.iter().copied().filter(|(_, named)| key.contains(named)).collect();
        let telling = match by_key.len() == key.len() {
            true => by_key,
            false if all.len() == foreign.columns.len() => all.clone(),
            false => return None,
        };
        Some(Self { all, telling })
    }

    /// Whether any of these columns of the parent is named.
    pub(super) fn name_any(&self, columns: &BTreeSet<usize>) -> bool {
        self.all.iter().any(|(_, named)| columns.contains(named))
    }

    /// The child's columns.
    pub(in crate::numbers) fn columns(&self) -> Vec<usize> {
        self.all.iter().map(|(column, _)| *column).collect()
    }

    /// What a child has in its columns when it names a row as that is then; nothing if it names none that changes.
    pub(super) fn follow(
        &self,
        named: &Named<'_>,
        parent: &[Column],
        child: &[Column],
        here: &Columns,
    ) -> Columns {
        let name = |(column, named): &(usize, usize)| names(&parent[*named], &here[column]);
        let told: Vec<_> = self.telling.iter().map(name).collect();
        let Some((before, after)) = tuple(&told).and_then(|told| named.get(&told)) else {
            return Columns::new();
        };
        let same = self.all.iter().filter(|pair| name(pair) == before[&pair.1]);
        let then = |(column, named): &(usize, usize)| {
            let new = after.get(named)?;
            Some((*column, kept_like(&child[*column], &here[column], new)))
        };
        same.filter_map(then).collect()
    }
}

/// Values as one that can be looked up; None if one is NULL.
pub(super) fn tuple(values: &[Value]) -> Option<Vec<u8>> {
    let values: Vec<ValueRef<'_>> = values.iter().map(Value::as_ref).collect();
    encode_tuple(&values)
}
