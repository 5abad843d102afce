//! Triggers: plain SQL that notes which rows the application writes.
//!
//! They append the key to `piecewise_log`, which adds the time, in the application's own transaction; no function
//! of ours, nothing newer than SQLite 3.8. What REPLACE displaces through another UNIQUE index fires no
//! delete trigger, so a BEFORE trigger notes the rows that hold the new row's unique values.
//! Every program that opens the file reads them all, so there are few of them and their texts are short.

use super::schema_rows::{self, Trigger};
use super::user_table::quote;
use super::{StoreError, index_terms, log, schema};
use crate::table::{Table, Unique, UniqueTerm};
use rusqlite::Connection;
use std::collections::BTreeSet;

/// What the triggers of a table do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Note what is written.
    Capture,
    /// Let nothing be written but by apply.
    ReadOnly,
}

/// A container's table, and what its triggers shall do.
pub(crate) type Wanted<'t> = (i64, &'t Table, Mode);

/// The setting that is there while rows are applied with the application's triggers on.
pub(crate) const APPLYING: &str = "applying";

/// Adds the triggers of containers to their tables.
pub(crate) fn install(conn: &Connection, wanted: &[Wanted<'_>]) -> Result<(), StoreError> {
    let width = wanted.iter().map(|(_, table, _)| table.key_columns().len()).max();
    // An update has a key before and one after.
    log::widen(conn, 2 * width.unwrap_or(0))?;
    let all: Vec<_> = wanted.iter().flat_map(|(no, table, mode)| triggers(*no, table, *mode)).collect();
    schema_rows::create(conn, &all)
}

/// Whether these are the fingerprints of just the triggers that the table should have.
///
/// A renamed table or column is spelled anew by SQLite; then they are made anew as well.
pub(crate) fn are(installed: &[i64], no: i64, table: &Table, mode: Mode) -> bool {
    let expected = triggers(no, table, mode);
    expected.len() == installed.len()
        && expected.iter().all(|t| installed.contains(&schema::fingerprint(&t.name, &t.sql)))
}

/// Drops the triggers of containers.
pub(crate) fn remove(conn: &Connection, numbers: &BTreeSet<i64>) -> Result<(), StoreError> {
    let number = |name: &str| name.strip_prefix(PREFIX)?.split_once('_')?.0.parse().ok();
    schema_rows::drop_those(conn, |name| number(name).is_some_and(|no| numbers.contains(&no)))
}

const PREFIX: &str = "piecewise_";

/// The triggers of a container.
fn triggers(no: i64, table: &Table, mode: Mode) -> Vec<Trigger> {
    let make = |what: &str, when: &str, body: &str| {
        let (name, on) = (format!("{PREFIX}{no}_{what}"), quote(&table.name));
        let sql = format!("CREATE TRIGGER {name} {when} ON {on} BEGIN {body} END");
        Trigger { name, table: table.name.clone(), sql }
    };
    let keys: Vec<_> = table.key_columns().iter().map(|n| quote(&table.columns[*n].name)).collect();
    let of = |row: &'static str| keys.iter().map(move |key| format!("{row}.{key}"));
    let (guard, no_null) = (guard(table, mode), null_guard(table));
    let noted = |values: Vec<String>| log_row(no, &values);
    let (inserted, deleted) = (noted(of("NEW").collect()), noted(of("OLD").collect()));
    let updated = noted(of("NEW").chain(of("OLD")).collect());
    let mut all = vec![
        make("insert", "AFTER INSERT", &format!("{guard}{no_null}{inserted}")),
        make("update", "AFTER UPDATE", &format!("{guard}{no_null}{updated}")),
        make("delete", "AFTER DELETE", &format!("{guard}{deleted}")),
    ];
    for (n, unique) in table.unique.iter().enumerate() {
        let Some(body) = log_displaced(no, table, unique, &keys) else { continue };
        all.push(make(&format!("replace{n}"), "BEFORE INSERT", &body));
        all.push(make(
            &format!("displace{n}"),
            &format!("BEFORE UPDATE{}", columns_of(table, unique)),
            &body,
        ));
    }
    all
}

/// Lets nothing be written but by apply. What the application's triggers do meanwhile is noted as ever, and put back.
fn guard(table: &Table, mode: Mode) -> String {
    if mode == Mode::Capture {
        return String::new();
    }
    let message = format!("piecewise: table {} is read-only on this device", table.name);
    let applying = format!("SELECT 1 FROM piecewise_meta WHERE name = '{APPLYING}'");
    format!("SELECT RAISE(ABORT, '{}') WHERE NOT EXISTS ({applying}); ", message.replace('\'', "''"))
}

/// Of which columns an UPDATE has to be for a UNIQUE index to see it; empty for all, since generated columns
/// and expressions change with others.
fn columns_of(table: &Table, unique: &Unique) -> String {
    let plain = |column: Option<usize>| column.filter(|c| !table.columns[*c].generated);
    let columns: Option<Vec<_>> = unique.columns.iter().map(|t| plain(t.column)).collect();
    let names = |columns: Vec<usize>| {
        columns.iter().map(|c| quote(&table.columns[*c].name)).collect::<Vec<_>>().join(", ")
    };
    columns.map_or(String::new(), |columns| format!(" OF {}", names(columns)))
}

fn null_guard(table: &Table) -> String {
    if table.without_rowid || matches!(table.key, crate::table::TableKey::Rowid(_)) {
        return String::new(); // SQLite itself lets no NULL in
    }
    let nullable = table.key_columns().into_iter().filter(|n| !table.columns[*n].not_null);
    let terms: Vec<_> = nullable.map(|n| format!("NEW.{} IS NULL", quote(&table.columns[n].name))).collect();
    if terms.is_empty() {
        return String::new();
    }
    let message = format!("piecewise: table {} cannot have a NULL in its primary key", table.name);
    format!("SELECT RAISE(ABORT, '{}') WHERE {}; ", message.replace('\'', "''"), terms.join(" OR "))
}

fn log_row(no: i64, values: &[String]) -> String {
    let columns = log::columns(values.len());
    format!("INSERT INTO piecewise_log(container, {columns}) VALUES ({no}, {});", values.join(", "))
}

/// Notes the rows that hold the new row's values of a UNIQUE index. A partial index's condition is left out: a row
/// too many in the log does no harm.
fn log_displaced(no: i64, table: &Table, unique: &Unique, keys: &[String]) -> Option<String> {
    let spelled = unique.partial.as_deref().and_then(index_terms::terms).unwrap_or_default();
    let term = |(n, term): (usize, &UniqueTerm)| match term.column {
        Some(column) => {
            let name = quote(&table.columns[column].name);
            Some(format!("{name} = NEW.{name} COLLATE {}", term.collation))
        }
        // The expression over the new row, whose columns stand there under their names.
        None => spelled.get(n).map(|e| format!("({e}) = (SELECT {e} FROM (SELECT {}))", new_row(table))),
    };
    let terms: Vec<_> = unique.columns.iter().enumerate().filter_map(term).collect();
    (!terms.is_empty()).then(|| {
        format!(
            "INSERT INTO piecewise_log(container, {}) SELECT {no}, {} FROM {} WHERE {};",
            log::columns(keys.len()),
            keys.join(", "),
            quote(&table.name),
            terms.join(" AND ")
        )
    })
}

fn new_row(table: &Table) -> String {
    let column = |name: &String| format!("NEW.{0} AS {0}", quote(name));
    table.columns.iter().map(|c| column(&c.name)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout;
    use crate::store::schema::read_table;
    use crate::value::Value;

    fn tracked(sql: &str) -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(sql).unwrap();
        layout::create(&conn).unwrap();
        let table = read_table(&conn, "t").unwrap();
        install(&conn, &[(7, &table, Mode::Capture)]).unwrap();
        let seen = crate::store::schema::Catalogue::read(&conn).unwrap();
        assert!(are(&seen.of(&table.name).triggers, 7, &table, Mode::Capture));
        conn
    }

    /// Keys logged by some SQL, once each, in order.
    fn logged(conn: &Connection, sql: &str) -> Vec<String> {
        conn.execute_batch("DELETE FROM piecewise_log").unwrap();
        conn.execute_batch(sql).unwrap();
        let table = read_table(conn, "t").unwrap();
        let entries = log::read_after(conn, 0).unwrap();
        let keys: BTreeSet<_> = entries.iter().flat_map(|e| e.keys(&table).collect::<Vec<_>>()).collect();
        let text = |value: &Value| match value {
            Value::Integer(i) => i.to_string(),
            Value::Text(text) => text.clone(),
            other => format!("{other:?}"),
        };
        keys.iter().map(|key| text(&table.key_values(key).unwrap()[0])).collect()
    }

    #[test]
    fn every_way_to_change_a_row_is_noted() {
        let conn = tracked(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, b, p REFERENCES t ON DELETE CASCADE);
             PRAGMA foreign_keys = ON;",
        );
        assert_eq!(logged(&conn, "INSERT INTO t VALUES (1,'x',0,NULL), (2,'y',0,1)"), ["1", "2"]);
        assert_eq!(logged(&conn, "UPDATE t SET b = 1"), ["1", "2"]);
        assert_eq!(logged(&conn, "INSERT OR REPLACE INTO t VALUES (3,'y',0,1)"), ["2", "3"]);
        assert_eq!(
            logged(&conn, "INSERT INTO t VALUES (3,'z',9,1) ON CONFLICT(id) DO UPDATE SET b = 9"),
            ["3"]
        );
        assert_eq!(logged(&conn, "UPDATE t SET id = 5 WHERE id = 3"), ["3", "5"]);
        assert_eq!(logged(&conn, "INSERT INTO t VALUES (6,'q',0,NULL)"), ["6"]);
        assert_eq!(logged(&conn, "UPDATE OR REPLACE t SET a = 'q' WHERE id = 5"), ["5", "6"]);
        assert_eq!(logged(&conn, "DELETE FROM t WHERE id = 1"), ["1", "5"]);
    }

    #[test]
    fn rows_displaced_through_an_index_over_expressions_or_generated_columns_are_noted() {
        let conn = tracked(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, email, domain, tag AS (domain || '!') UNIQUE);
             CREATE UNIQUE INDEX by_email ON t(lower(email), domain IS NULL DESC) WHERE email <> '';",
        );
        assert_eq!(
            logged(&conn, "INSERT INTO t(id, email, domain) VALUES (1,'A','x'), (2,'b','y')"),
            ["1", "2"]
        );
        assert_eq!(logged(&conn, "REPLACE INTO t(id, email, domain) VALUES (3,'a','z')"), ["1", "3"]);
        assert_eq!(logged(&conn, "UPDATE OR REPLACE t SET email = 'B' WHERE id = 3"), ["2", "3"]);
        assert_eq!(logged(&conn, "INSERT INTO t(id, email, domain) VALUES (4,'d','d')"), ["4"]);
        assert_eq!(logged(&conn, "UPDATE OR REPLACE t SET domain = 'z' WHERE id = 4"), ["3", "4"]);
        assert_eq!(logged(&conn, "INSERT INTO t(id, email, domain) VALUES (5,'e','e')"), ["5"]);
        let left: i64 = conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 2, "the others were displaced");
    }

    #[test]
    fn what_the_applications_own_triggers_write_is_noted() {
        let conn = tracked(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a); CREATE TABLE u(id INTEGER PRIMARY KEY);
             CREATE TRIGGER copy AFTER INSERT ON u BEGIN INSERT INTO t VALUES (NEW.id, 'from u'); END;",
        );
        assert_eq!(logged(&conn, "INSERT INTO u VALUES (4)"), ["4"]);
    }

    #[test]
    fn a_null_key_and_writes_to_a_read_only_table_are_refused_where_they_are_made() {
        let conn = tracked("CREATE TABLE t(id TEXT PRIMARY KEY, a)");
        let error = conn.execute("INSERT INTO t VALUES (NULL, 1)", []).unwrap_err();
        assert!(error.to_string().contains("NULL in its primary key"), "{error}");
        conn.execute("INSERT INTO t VALUES ('k', 1)", []).unwrap();
        let table = read_table(&conn, "t").unwrap();
        remove(&conn, &BTreeSet::from([7])).unwrap();
        install(&conn, &[(7, &table, Mode::ReadOnly)]).unwrap();
        for sql in ["INSERT INTO t VALUES ('l', 1)", "UPDATE t SET a = 2", "DELETE FROM t"] {
            assert!(conn.execute(sql, []).unwrap_err().to_string().contains("read-only"), "{sql}");
        }
        conn.execute("INSERT INTO piecewise_meta VALUES (?, 1)", [APPLYING]).unwrap();
        assert_eq!(logged(&conn, "INSERT INTO t VALUES ('l', 1)"), ["l"]);
    }

    #[test]
    fn composite_keys_and_odd_names_are_noted_whole() {
        let conn =
            tracked("CREATE TABLE t(\"a \"\"b\" TEXT, c INT, PRIMARY KEY (\"a \"\"b\", c)) WITHOUT ROWID");
        conn.execute_batch("INSERT INTO t VALUES ('x', 3)").unwrap();
        let sql = "SELECT k0, k1, time > 1600000000000, time < 4000000000000 FROM piecewise_log";
        let row: (String, i64, bool, bool) =
            conn.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))).unwrap();
        assert_eq!(row, ("x".into(), 3, true, true));
    }
}
