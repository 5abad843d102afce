//! Other tables: tables of the file that are not tracked, as far as they refer to tracked ones, and how their rows are changed.
//!
//! Their references lead through each other: a column that names a column which itself names rows of a table names these rows.

use super::schema::{self, Kinds};
use super::user_table::{quote, value};
use super::{StoreError, triggers};
use crate::table::{Column, ForeignKey};
use crate::value::Value;
use rusqlite::Connection;
use std::collections::{BTreeMap, HashSet};

/// References that are looked at from one table, through others.
const REFERENCES_MAX: usize = 10_000;

/// A table that is not tracked.
#[derive(Debug)]
pub(crate) struct OtherTable {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// Its foreign keys, then those that lead through tables that are not tracked.
    pub(crate) references: Vec<ForeignKey>,
    /// By what its rows are told apart: its rowid, or its primary key.
    identity: Vec<String>,
    /// Those columns, by their places; a rowid may be a column as well.
    identity_columns: Vec<Option<usize>>,
}

/// A row of such a table.
#[derive(Debug)]
pub(crate) struct OtherRow {
    pub(crate) identity: Vec<Value>,
    pub(crate) values: BTreeMap<usize, Value>,
}

/// The tables that are not tracked and refer to others.
pub(crate) fn referring(
    conn: &Connection,
    kinds: &Kinds,
    is_tracked: impl Fn(&str) -> bool,
) -> Result<Vec<OtherTable>, StoreError> {
    let sql = "SELECT name FROM sqlite_master m WHERE type = 'table' AND EXISTS (SELECT 1 FROM pragma_foreign_key_list(m.name))";
    let mut stmt = conn.prepare(sql)?;
    let names = stmt.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let mut found = vec![];
    for name in names.into_iter().filter(|name| !is_tracked(name)) {
        let Some(without_rowid) = kinds.without_rowid(&name) else { continue };
        let (columns, key) = schema::read_columns(conn, &name)?;
        let mut references = schema::read_foreign_keys(conn, &name, &columns)?;
        references.extend(references_through(conn, kinds, &references, &is_tracked)?);
        let is_column = |name: &str| columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
        let rowid = triggers::ROWID.into_iter().find(|name| !without_rowid && !is_column(name));
        let (identity, identity_columns) = match rowid {
            Some(rowid) => {
                let is_integer = |n: &&usize| columns[**n].declared_type.eq_ignore_ascii_case("INTEGER");
                let alias = key.first().filter(|n| key.len() == 1 && is_integer(n)).copied();
                (vec![rowid.to_owned()], vec![alias])
            }
            None => key.iter().map(|n| (columns[*n].name.clone(), Some(*n))).unzip(),
        };
        found.push(OtherTable { name, columns, references, identity, identity_columns });
    }
    Ok(found)
}

/// References of a table that lead through others which are not tracked, from those that it declares.
pub(crate) fn references_through(
    conn: &Connection,
    kinds: &Kinds,
    declared: &[ForeignKey],
    is_tracked: impl Fn(&str) -> bool,
) -> Result<Vec<ForeignKey>, StoreError> {
    let mut todo = declared.to_vec();
    let (mut seen, mut found) = (HashSet::new(), vec![]);
    while let Some(foreign) = todo.pop() {
        let table = foreign.parent_table.to_ascii_lowercase();
        if is_tracked(&table) || kinds.without_rowid(&table).is_none() || seen.len() >= REFERENCES_MAX {
            continue;
        }
        if !seen.insert((table.clone(), foreign.columns.clone(), foreign.parent_columns.clone())) {
            continue;
        }
        let (columns, _) = schema::read_columns(conn, &table)?;
        for next in schema::read_foreign_keys(conn, &table, &columns)? {
            let mut through =
                ForeignKey { kept: false, columns: vec![], parent_columns: vec![], ..next.clone() };
            for (n, parent) in next.columns.iter().zip(&next.parent_columns) {
                let named = |name: &String| name.eq_ignore_ascii_case(&columns[*n].name);
                if let Some(place) = foreign.parent_columns.iter().position(named) {
                    through.columns.push(foreign.columns[place]);
                    through.parent_columns.push(parent.clone());
                }
            }
            // A part of a foreign key leads on, but names no rows itself.
            if through.columns.len() == next.columns.len() {
                found.push(through.clone());
            }
            if !through.columns.is_empty() {
                todo.push(through);
            }
        }
    }
    Ok(found)
}

impl OtherTable {
    /// Goes through its rows.
    pub(crate) fn each_row(
        &self,
        conn: &Connection,
        columns: &[usize],
        mut look: impl FnMut(OtherRow),
    ) -> Result<(), StoreError> {
        let names = columns.iter().map(|n| quote(&self.columns[*n].name));
        let names: Vec<_> = self.identity.iter().map(|name| quote(name)).chain(names).collect();
        let mut stmt = conn.prepare(&format!("SELECT {} FROM {}", names.join(", "), quote(&self.name)))?;
        let mut rows = stmt.query([])?;
        let count = self.identity.len();
        while let Some(row) = rows.next()? {
            let at = |n: usize| Ok::<_, StoreError>(value(row.get_ref(n)?).to_owned());
            let identity = (0..count).map(at).collect::<Result<_, _>>()?;
            let values = columns.iter().enumerate().map(|(n, column)| Ok((*column, at(count + n)?)));
            look(OtherRow { identity, values: values.collect::<Result<_, StoreError>>()? });
        }
        Ok(())
    }

    /// Sets columns of a row. Generated ones are what SQLite makes of them.
    pub(crate) fn update(&self, conn: &Connection, row: &OtherRow) -> Result<(), StoreError> {
        let set: Vec<_> = row.values.iter().filter(|(n, _)| !self.columns[**n].generated).collect();
        if set.is_empty() {
            return Ok(());
        }
        let terms: Vec<_> =
            set.iter().map(|(n, _)| format!("{} = ?", quote(&self.columns[**n].name))).collect();
        let sql = format!("UPDATE {} SET {} WHERE {}", quote(&self.name), terms.join(", "), self.filter());
        let values = set.into_iter().map(|(_, value)| value).chain(&row.identity);
        let mut stmt = conn.prepare_cached(&sql)?;
        stmt.execute(rusqlite::params_from_iter(values.map(Value::as_ref)))?;
        Ok(())
    }

    /// The column of a row that was updated which has another value; None: there is none, or the row is gone.
    pub(crate) fn differs(&self, conn: &Connection, row: &OtherRow) -> Result<Option<usize>, StoreError> {
        let then = self.identity_columns.iter().zip(&row.identity);
        let then = then.map(|(column, old)| column.and_then(|n| row.values.get(&n)).unwrap_or(old).clone());
        let mut found = None;
        for identity in [then.collect(), row.identity.clone()] {
            let Some(values) = self.read(conn, &identity, row)? else { continue };
            let is_same = |n: &usize| values[n].as_ref().same(row.values[n].as_ref());
            found = values.keys().copied().find(|n| !is_same(n));
            if found.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn read(
        &self,
        conn: &Connection,
        identity: &[Value],
        row: &OtherRow,
    ) -> Result<Option<BTreeMap<usize, Value>>, StoreError> {
        let names: Vec<_> = row.values.keys().map(|n| quote(&self.columns[*n].name)).collect();
        let sql = format!("SELECT {} FROM {} WHERE {}", names.join(", "), quote(&self.name), self.filter());
        let mut stmt = conn.prepare_cached(&sql)?;
        let mut rows = stmt.query(rusqlite::params_from_iter(identity.iter().map(Value::as_ref)))?;
        let Some(found) = rows.next()? else { return Ok(None) };
        let at = |(n, column): (usize, &usize)| Ok((*column, value(found.get_ref(n)?).to_owned()));
        Ok(Some(row.values.keys().enumerate().map(at).collect::<Result<_, StoreError>>()?))
    }

    fn filter(&self) -> String {
        let terms: Vec<_> = self.identity.iter().map(|name| format!("{} IS ?", quote(name))).collect();
        terms.join(" AND ")
    }
}
