//! Claims: what only one row of a table may have, or what a row waits for, as hashes; and who has a claim first.

use crate::document::{Content, View};
use crate::id::{Actor, Timestamp};
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::store::documents;
use crate::store::holds::Claim;
use crate::store::user_table::{Compared, RowValues, UserTable};
use crate::table::{Collation, ForeignKey, Table, Unique};
use crate::value::{Value, ValueRef};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// The order in which rows take a value that only one may have: when a row's claim to it was accepted, by whom it was written,
/// and the row's key. What is not accepted yet comes last.
pub(super) type Rank = (Timestamp, Actor, RowKey);

/// When a claim that is not accepted counts as accepted.
const NOT_YET: Timestamp = Timestamp(u64::MAX);

impl Replica {
    /// The rank of a row's claim to its values in the columns of a UNIQUE constraint: that of the latest of the changes that
    /// wrote them. No time that an author gives matters before that of acceptance, and no change of other columns does.
    pub(super) fn rank(
        &self,
        no: i64,
        view: &View,
        user: &UserTable,
        key: &RowKey,
        columns: &[usize],
    ) -> Result<Rank, ReplicaError> {
        let mut latest = (Timestamp(0), Actor([0; Actor::LEN]));
        let (Some(cells), Some(incarnation)) = (view.shown(), view.incarnation()) else {
            return Ok((latest.0, latest.1, key.clone()));
        };
        let (mut actors, mut any_actor) = (BTreeSet::new(), false);
        for index in columns {
            let column = user.columns.iter().find(|c| c.index == *index);
            match column.and_then(|c| cells.get(c.key.as_str())) {
                Some(cell) => {
                    // Edits of a text or a counter leave the operation that made it.
                    any_actor |= matches!(cell.content, Content::Text(_) | Content::Counter(_));
                    actors.insert(cell.id.actor)
                }
                // The key, and what the insert left to its default.
                None => actors.insert(incarnation),
            };
        }
        for at in documents::changes(&self.conn, no, key)? {
            let segment = at.segment();
            let Some((actor, accepted)) = self.history.accepted(&self.conn, no, segment)? else { continue };
            if any_actor || actors.contains(&actor) {
                latest = latest.max((accepted.unwrap_or(NOT_YET), actor));
            }
        }
        Ok((latest.0, latest.1, key.clone()))
    }

    /// Of two rows with the same values in the columns of these UNIQUE constraints, whether the second has to give way to the
    /// first, and for which constraint: the clash that arose first decides, and the claim that made it is the later one.
    pub(super) fn gives_way(
        &self,
        no: i64,
        user: &UserTable,
        first: (&RowKey, &View),
        second: (&RowKey, &View),
        shared: &[Vec<usize>],
    ) -> Result<(bool, Vec<usize>), ReplicaError> {
        let mut decisive: Option<(Rank, bool, &Vec<usize>)> = None;
        for columns in shared {
            let a = self.rank(no, first.1, user, first.0, columns)?;
            let b = self.rank(no, second.1, user, second.0, columns)?;
            let (clash, gives_way) = if a < b { (b, true) } else { (a, false) };
            if decisive.as_ref().is_none_or(|(earliest, ..)| clash < *earliest) {
                decisive = Some((clash, gives_way, columns));
            }
        }
        Ok(decisive.map_or((false, vec![]), |(_, gives_way, columns)| (gives_way, columns.clone())))
    }

    /// A row's claims to UNIQUE values, each with its rank as bytes.
    pub(super) fn ranked_claims(
        &self,
        no: i64,
        view: &View,
        user: &UserTable,
        key: &RowKey,
        values: &RowValues,
    ) -> Result<Vec<(Claim, Vec<u8>)>, ReplicaError> {
        let mut claims = vec![];
        for unique in &user.table.unique {
            if let Some(values) = unique_values(user, unique, key, values)? {
                let columns: Vec<_> = values.iter().map(|v| v.index).collect();
                let rank = rank_bytes(&self.rank(no, view, user, key, &columns)?);
                claims.push((unique_claim(user, &values), rank));
            }
        }
        Ok(claims)
    }
}

/// A rank without the key, as bytes in the same order.
fn rank_bytes((time, actor, _): &Rank) -> Vec<u8> {
    [&time.0.to_be_bytes()[..], &actor.0[..]].concat()
}

/// Values of columns of the table (by index), from the key or the document columns.
pub(super) fn column_values(
    user: &UserTable,
    columns: &[usize],
    key: &RowKey,
    values: &RowValues,
) -> Result<Vec<Value>, ReplicaError> {
    let key_values = user.key_values(key)?;
    Ok(columns.iter().map(|index| user.value_at(*index, &key_values, values)).collect())
}

/// The columns and values of a plain UNIQUE index, compared as it does; None if one is NULL or the index is not plain.
pub(super) fn unique_values(
    user: &UserTable,
    unique: &Unique,
    key: &RowKey,
    values: &RowValues,
) -> Result<Option<Vec<Compared>>, ReplicaError> {
    let Some(columns) = unique.columns.iter().map(|t| t.column).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    if unique.partial.is_some() {
        return Ok(None);
    }
    let values = column_values(user, &columns, key, values)?;
    if values.contains(&Value::Null) {
        return Ok(None);
    }
    let collations =
        unique.columns.iter().map(|t| Collation::from_name(&t.collation).unwrap_or(Collation::Binary));
    let compared = columns.into_iter().zip(collations).zip(values);
    Ok(Some(compared.map(|((index, collation), value)| Compared { index, collation, value }).collect()))
}

pub(super) fn unique_claims(
    user: &UserTable,
    key: &RowKey,
    values: &RowValues,
) -> Result<Vec<Claim>, ReplicaError> {
    let mut claims = vec![];
    for unique in &user.table.unique {
        if let Some(values) = unique_values(user, unique, key, values)? {
            claims.push(unique_claim(user, &values));
        }
    }
    Ok(claims)
}

pub(super) fn unique_claim(user: &UserTable, values: &[Compared]) -> Claim {
    let column = |v: &Compared| &user.table.columns[v.index];
    let names: Vec<_> = values.iter().map(|v| column(v).name.as_str()).collect();
    let folded: Vec<_> = values.iter().map(|v| column(v).fold_as(v.collation, v.value.as_ref())).collect();
    claim("unique", &names.join("\0"), &folded)
}

/// `parent` is the parent's table, whose columns say which values are equal; None where it is not tracked.
pub(super) fn parent_claim(foreign: &ForeignKey, parent: Option<&Table>, values: &[Value]) -> Claim {
    let name = format!("{}\0{}", foreign.parent_table, foreign.parent_columns.join("\0"));
    let fold = |(name, value): (&String, &Value)| {
        let column = parent.and_then(|t| t.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name)));
        column.map_or_else(|| value.clone(), |c| c.fold(c.kept(value).as_ref()))
    };
    let folded: Vec<_> = foreign.parent_columns.iter().zip(values).map(fold).collect();
    claim("parent", &name.to_lowercase(), &folded)
}

/// The claim of rows that lean on this one, which is held.
pub(super) fn row_claim(no: i64, key: &RowKey) -> Claim {
    let key = match key {
        RowKey::Integer(i) => Value::Integer(*i),
        RowKey::Tuple(bytes) => Value::Blob(bytes.to_vec()),
        RowKey::Description => Value::Null,
    };
    claim("row", &no.to_string(), &[key])
}

/// 16 bytes of SHA-256: values of one number in other storage classes count as the same.
fn claim(kind: &str, name: &str, values: &[Value]) -> Claim {
    let mut hash = Sha256::new().chain_update(kind).chain_update([0]).chain_update(name).chain_update([0]);
    for value in values {
        let (class, bytes): (u8, Vec<u8>) = match value.as_ref() {
            ValueRef::Null => (0, vec![]),
            ValueRef::Integer(i) => (1, i.to_be_bytes().to_vec()),
            ValueRef::Real(f) if f.fract() == 0.0 && f.abs() < 9e15 => (1, (f as i64).to_be_bytes().to_vec()),
            ValueRef::Real(f) => (2, f.to_bits().to_be_bytes().to_vec()),
            ValueRef::Text(s) => (3, s.as_bytes().to_vec()),
            ValueRef::Blob(b) => (4, b.to_vec()),
            ValueRef::RawText(b) => (5, b.to_vec()),
        };
        hash =
            hash.chain_update([class]).chain_update((bytes.len() as u64).to_be_bytes()).chain_update(bytes);
    }
    let hash = hash.finalize();
    std::array::from_fn(|n| hash[n])
}
