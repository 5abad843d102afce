//! Extras: what a schema says of a table besides its columns, keys and constraints, for the table's description.
//!
//! Plain indexes, deferred foreign keys, AUTOINCREMENT and the file's numbers are described, so that the application finds
//! them in a clone. What stays on this device is named, so that a clone can say what it lacks.

use super::schema::Kinds;
use super::{StoreError, index_terms};
use crate::table::{Collation, Default, Table};
use rusqlite::Connection;

/// What a description says besides the table's shape.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Extras {
    pub(crate) autoincrement: bool,
    /// Indexes that are not UNIQUE, over plain columns of all rows.
    pub(crate) indexes: Vec<PlainIndex>,
    /// For each of the table's foreign keys, whether it is INITIALLY DEFERRED.
    pub(crate) deferred: Vec<bool>,
    /// What stays here: a kind, and a name or a number.
    pub(crate) local: Vec<(&'static str, String)>,
    /// `PRAGMA user_version`.
    pub(crate) user_version: i32,
    /// `PRAGMA application_id`.
    pub(crate) application_id: i32,
}

/// An index that only makes queries faster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlainIndex {
    pub(crate) name: String,
    pub(crate) columns: Vec<IndexColumn>,
}

/// A column of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexColumn {
    /// Its index in the table.
    pub(crate) column: usize,
    pub(crate) collation: Collation,
    pub(crate) descending: bool,
}

impl Extras {
    /// Reads them.
    pub(crate) fn read(conn: &Connection, kinds: &Kinds, table: &Table) -> Result<Self, StoreError> {
        let number = |pragma| conn.query_row(pragma, [], |row| row.get(0));
        let mut extras = Self {
            user_version: number("PRAGMA user_version")?,
            application_id: number("PRAGMA application_id")?,
            deferred: vec![false; table.foreign_keys.len()],
            ..Self::default()
        };
        let (texts, views) = kinds.texts(conn, &table.name)?;
        for text in texts {
            match text.kind.as_str() {
                "trigger" => extras.local.push(("trigger", text.name.clone())),
                _ => extras.read_table(table, &text.sql),
            }
        }
        extras.local.extend(views.into_iter().map(|view| ("view", view.to_owned())));
        for column in &table.columns {
            match &column.default {
                _ if column.generated => extras.local.push(("generated column", column.name.clone())),
                default if stays_local(default) => extras.local.push(("default", column.name.clone())),
                _ => {}
            }
        }
        extras.read_indexes(conn, table)?;
        Ok(extras)
    }

    fn read_table(&mut self, table: &Table, sql: &str) {
        self.autoincrement = index_terms::count_word(sql, "AUTOINCREMENT") > 0;
        match index_terms::count_word(sql, "CHECK") {
            0 => {}
            n => self.local.push(("CHECK", n.to_string())),
        }
        let deferred = index_terms::deferred(sql);
        for (known, foreign) in self.deferred.iter_mut().zip(&table.foreign_keys) {
            // SQLite numbers them from the last to the first.
            let place = deferred.len().checked_sub(foreign.number + 1);
            *known = place.is_some_and(|n| deferred[n]);
        }
    }

    fn read_indexes(&mut self, conn: &Connection, table: &Table) -> Result<(), StoreError> {
        let sql =
            "SELECT name, \"unique\", partial FROM pragma_index_list(?) WHERE origin = 'c' ORDER BY name";
        let mut stmt = conn.prepare_cached(sql)?;
        let mut rows = stmt.query([&table.name])?;
        while let Some(row) = rows.next()? {
            let (name, is_unique, partial): (String, bool, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let columns = if partial { None } else { index_columns(conn, table, &name)? };
            match columns {
                None => self.local.push(("index", name)),
                Some(_) if is_unique => {} // among the table's constraints
                Some(columns) => self.indexes.push(PlainIndex { name, columns }),
            }
        }
        Ok(())
    }
}

/// Whether a column's default cannot be described.
pub(crate) fn stays_local(default: &Default) -> bool {
    matches!(default, Default::Expression)
}

/// The columns of an index; None if it is over anything else, or in an order that only the application knows.
fn index_columns(
    conn: &Connection,
    table: &Table,
    index: &str,
) -> Result<Option<Vec<IndexColumn>>, StoreError> {
    let sql = "SELECT cid, coll, \"desc\" FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno";
    let mut stmt = conn.prepare_cached(sql)?;
    let mut rows = stmt.query([index])?;
    let mut columns = vec![];
    while let Some(row) = rows.next()? {
        let (place, collation): (i64, String) = (row.get(0)?, row.get(1)?);
        let column =
            usize::try_from(place).ok().filter(|n| table.columns.get(*n).is_some_and(|c| !c.generated));
        let (Some(column), Some(collation)) = (column, Collation::from_name(&collation)) else {
            return Ok(None);
        };
        columns.push(IndexColumn { column, collation, descending: row.get(2)? });
    }
    Ok(Some(columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::read_table;

    #[test]
    fn indexes_deferred_keys_and_what_stays_here_are_seen() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "PRAGMA user_version = 7; PRAGMA application_id = 77; CREATE TABLE p(a UNIQUE, b UNIQUE);
             CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT REFERENCES p(a) DEFERRABLE INITIALLY DEFERRED,
               b TEXT DEFAULT (lower('A')) REFERENCES p(b), c AS (a), CHECK (a <> 'CHECK'));
             CREATE INDEX by_b ON t(b COLLATE NOCASE DESC, a); CREATE INDEX part ON t(a) WHERE b = 1; CREATE UNIQUE INDEX u ON t(a);
             CREATE VIEW seen AS SELECT * FROM \"T\"; CREATE VIEW other AS SELECT * FROM p;
             CREATE TRIGGER mine AFTER INSERT ON t BEGIN SELECT 1; END; CREATE TRIGGER piecewise_1_insert AFTER INSERT ON t BEGIN SELECT 1; END",
        )
        .unwrap();
        let table = read_table(&conn, "t").unwrap();
        let mut extras = Extras::read(&conn, &Kinds::read(&conn).unwrap(), &table).unwrap();
        let deferred: Vec<_> =
            table.foreign_keys.iter().map(|f| table.columns[f.columns[0]].name.as_str()).collect();
        assert_eq!((deferred, &extras.deferred), (vec!["b", "a"], &vec![false, true]));
        assert!(extras.autoincrement && extras.user_version == 7 && extras.application_id == 77);
        let column = |column, collation, descending| IndexColumn { column, collation, descending };
        let columns = vec![column(2, Collation::NoCase, true), column(1, Collation::Binary, false)];
        assert_eq!(extras.indexes, [PlainIndex { name: "by_b".into(), columns }]);
        extras.local.sort();
        let local = [
            ("CHECK", "1"),
            ("default", "b"),
            ("generated column", "c"),
            ("index", "part"),
            ("trigger", "mine"),
            ("view", "seen"),
        ];
        assert_eq!(extras.local, local.map(|(kind, name)| (kind, name.to_owned())));
    }
}
