//! Compare: rows of a table as digests, so that two sides can find out which of them differ.
//!
//! Nothing is changed and no document is read: this looks at the tables themselves, as a check of all the
//! rest. The side that asks names the columns; both give for each row of a range its key and a digest.
//!
//! ```text
//! ask    container 32 · key after which (below) · n LEB128 · n column names
//! rows   container 32 · last u8 · n LEB128 · n times (key · digest 16)
//! key    0 (none) · 1 integer u64 · 2 length LEB128 and bytes
//! ```

use crate::bytes::{DecodeError, Reader, put_bytes, put_uleb};
use crate::id::ContainerId;
use crate::key::{KEY_LEN_MAX, RowKey, encode_tuple};
use crate::replica::{Replica, ReplicaError};
use crate::store::log;
use crate::value::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Rows compared at once.
const ROWS: usize = 2048;
const COLUMNS_MAX: u64 = 32_767;
const NAME_LEN_MAX: usize = 64 << 10;

/// The digest of one row's values.
pub(crate) type RowDigest = [u8; 16];

/// Asks for the rows that follow a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) container: ContainerId,
    pub(crate) after: Option<RowKey>,
    pub(crate) columns: Vec<String>,
}

/// The answer to [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) container: ContainerId,
    pub(crate) last: bool,
    pub(crate) rows: Vec<(RowKey, RowDigest)>,
}

/// How the rows of a table here stand to those of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The table.
    pub table: String,
    /// Rows that are the same on both sides.
    pub matched: u64,
    /// Keys of rows that differ.
    pub different: Vec<String>,
    /// Keys of rows that only the server has.
    pub missing: Vec<String>,
    /// Keys of rows that only this side has.
    pub extra: Vec<String>,
}

impl Comparison {
    /// Whether both sides show the same rows.
    pub fn is_equal(&self) -> bool {
        self.different.is_empty() && self.missing.is_empty() && self.extra.is_empty()
    }
}

fn put_key(out: &mut Vec<u8>, key: Option<&RowKey>) {
    match key {
        None | Some(RowKey::Description) => out.push(0),
        Some(RowKey::Integer(i)) => {
            out.push(1);
            out.extend_from_slice(&i.to_be_bytes());
        }
        Some(RowKey::Tuple(bytes)) => {
            out.push(2);
            put_bytes(out, bytes);
        }
    }
}

fn read_key(r: &mut Reader<'_>) -> Result<Option<RowKey>, DecodeError> {
    Ok(match r.u8()? {
        0 => None,
        1 => Some(RowKey::Integer(r.u64()? as i64)),
        2 => Some(RowKey::Tuple(r.bytes(KEY_LEN_MAX, "a key")?.to_vec())),
        _ => return Err(DecodeError::Invalid { what: "a key" }),
    })
}

impl Ask {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.container.0);
        put_key(out, self.after.as_ref());
        put_uleb(out, self.columns.len() as u64);
        self.columns.iter().for_each(|c| put_bytes(out, c.as_bytes()));
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let container = ContainerId(r.array()?);
        let after = read_key(r)?;
        let n = r.uleb_max(COLUMNS_MAX, "the number of columns")?;
        let columns = (0..n).map(|_| r.text(NAME_LEN_MAX, "a column").map(str::to_owned));
        Ok(Self { container, after, columns: columns.collect::<Result<_, _>>()? })
    }
}

impl Rows {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.container.0);
        out.push(u8::from(self.last));
        put_uleb(out, self.rows.len() as u64);
        for (key, digest) in &self.rows {
            put_key(out, Some(key));
            out.extend_from_slice(digest);
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let container = ContainerId(r.array()?);
        let last = r.u8()? == 1;
        let n = r.uleb_max(ROWS as u64, "the number of rows")?;
        let row = |r: &mut Reader<'_>| {
            let key = read_key(r)?.ok_or(DecodeError::Invalid { what: "a key" })?;
            Ok((key, r.array()?))
        };
        Ok(Self { container, last, rows: (0..n).map(|_| row(r)).collect::<Result<_, _>>()? })
    }
}

impl Replica {
    /// What to ask about the rows of a table that follow a key.
    pub(crate) fn ask(&self, no: i64, after: Option<RowKey>) -> Result<Option<Ask>, ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(None) };
        let columns = user.columns.iter().map(|c| c.key.clone()).collect();
        Ok(Some(Ask { container: self.containers[&no].id, after, columns }))
    }

    /// The rows that follow a key here, as digests.
    pub(crate) fn answer(&self, ask: &Ask) -> Result<Rows, ReplicaError> {
        let container = ask.container;
        let no = self.containers.with_id(&container).map(|c| c.no);
        let Some(user) = no.map(|no| self.user_table(no)).transpose()?.flatten() else {
            return Ok(Rows { container, last: true, rows: vec![] });
        };
        if ask.after.as_ref().is_some_and(|key| user.table.key_values(key).is_none()) {
            return Err(ReplicaError::Invalid { what: "a key that does not fit its table".into() });
        }
        let places: Vec<_> =
            ask.columns.iter().map(|name| user.columns.iter().position(|c| c.key == *name)).collect();
        let mut rows = vec![];
        let keys = log::keys_after(&self.conn, &user, ask.after.as_ref(), ROWS)?;
        let last = keys.len() < ROWS;
        for key in keys {
            if let Some(values) = user.read(&self.conn, &key)? {
                let chosen = places.iter().map(|p| p.map_or(&Value::Null, |n| &values[n]));
                rows.push((key, digest(chosen)));
            }
        }
        Ok(Rows { container, last, rows })
    }

    /// Compares one page of the server's row digests with the table. Returns the last key compared, `None` at the end.
    pub(crate) fn compare(
        &self,
        no: i64,
        after: Option<RowKey>,
        theirs: Rows,
        found: &mut Comparison,
    ) -> Result<Option<RowKey>, ReplicaError> {
        let Some(mut ask) = self.ask(no, after)? else { return Ok(None) };
        let Some(user) = self.user_table(no)? else { return Ok(None) };
        let end = if theirs.last { None } else { theirs.rows.last().map(|(key, _)| key.clone()) };
        let mut theirs: HashMap<_, _> = theirs.rows.into_iter().collect();
        'ours: loop {
            let ours = self.answer(&ask)?;
            for (key, digest) in &ours.rows {
                // Ours may have rows between theirs, never behind their end: the order is the table's.
                match theirs.remove(key) {
                    Some(other) if other == *digest => found.matched += 1,
                    Some(_) => found.different.push(user.key_text(key)),
                    None if end.is_some() && self.is_after(&user, key, end.as_ref())? => break 'ours,
                    None => found.extra.push(user.key_text(key)),
                }
                if Some(key) == end.as_ref() {
                    break 'ours;
                }
            }
            match ours.rows.last() {
                Some((key, _)) if !ours.last => ask.after = Some(key.clone()),
                _ => break,
            }
        }
        let mut missing: Vec<_> = theirs.into_keys().collect();
        missing.sort();
        found.missing.extend(missing.iter().map(|key| user.key_text(key)));
        Ok(end)
    }

    /// Whether a row comes after a key in the table's own order.
    fn is_after(
        &self,
        user: &crate::store::user_table::UserTable,
        key: &RowKey,
        end: Option<&RowKey>,
    ) -> Result<bool, ReplicaError> {
        Ok(match (key, end) {
            (RowKey::Integer(a), Some(RowKey::Integer(b))) => a > b,
            (_, Some(end)) => user.is_after(&self.conn, key, end)?,
            (_, None) => false,
        })
    }
}

fn digest<'v>(values: impl Iterator<Item = &'v Value>) -> RowDigest {
    let mut hash = Sha256::new().chain_update(b"piecewise row\0");
    for value in values {
        match encode_tuple(&[value.as_ref()]) {
            Some(bytes) => hash.update(bytes),
            None => hash.update([0]),
        }
    }
    let hash = hash.finalize();
    std::array::from_fn(|n| hash[n])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_and_answers_come_back_from_their_bytes() {
        let ask = Ask {
            container: ContainerId([1; 32]),
            after: Some(RowKey::Integer(-5)),
            columns: vec!["a".into(), "ß".into()],
        };
        let mut bytes = vec![];
        ask.encode(&mut bytes);
        assert_eq!(Ask::decode(&mut Reader::new(&bytes)), Ok(ask));
        let rows = vec![(RowKey::Tuple(vec![3, 0]), [7; 16]), (RowKey::Tuple(vec![3, 1, 65]), [8; 16])];
        let rows = Rows { container: ContainerId([1; 32]), last: true, rows };
        let mut bytes = vec![];
        rows.encode(&mut bytes);
        assert_eq!(Rows::decode(&mut Reader::new(&bytes)), Ok(rows));
        for n in 0..bytes.len() {
            assert!(Rows::decode(&mut Reader::new(&bytes[..n])).is_err());
        }
    }

    #[test]
    fn rows_that_differ_have_other_digests() {
        let of = |values: &[Value]| digest(values.iter());
        let text = |s: &str| Value::Text(s.into());
        assert_ne!(of(&[text("1")]), of(&[Value::Integer(1)]));
        assert_ne!(of(&[text("ab"), text("")]), of(&[text("a"), text("b")]));
        assert_ne!(of(&[Value::Null, text("a")]), of(&[text("a"), Value::Null]));
    }
}
