//! Claims: what only one row of a table may have, or what a row waits for, as hashes; and who has a claim first.

use crate::document::View;
use crate::id::Actor;
use crate::key::RowKey;
use crate::replica::ReplicaError;
use crate::store::holds::Claim;
use crate::store::user_table::{Compared, RowValues, UserTable};
use crate::table::{Collation, ForeignKey, Table, Unique};
use crate::value::{Value, ValueRef};
use sha2::{Digest, Sha256};

/// The order in which rows take what only one may have.
pub(super) type Rank = (Actor, RowKey);

/// The actor of the latest of a row's claims to UNIQUE values, then its key.
pub(super) fn rank(view: &View, user: &UserTable, key: &RowKey) -> Rank {
    let mut latest = Actor([0; Actor::LEN]);
    if let Some(cells) = view.shown() {
        let columns = user.table.unique.iter().flat_map(|u| u.columns.iter().filter_map(|t| t.column));
        for index in columns {
            let column = user.columns.iter().find(|c| c.index == index);
            if let Some(cell) = column.and_then(|c| cells.get(c.key.as_str())) {
                latest = latest.max(cell.id.actor);
            }
        }
    }
    (latest, key.clone())
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
        column.map_or_else(|| value.clone(), |c| c.fold(value.as_ref()))
    };
    let folded: Vec<_> = foreign.parent_columns.iter().zip(values).map(fold).collect();
    claim("parent", &name.to_lowercase(), &folded)
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
