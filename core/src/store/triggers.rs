//! Triggers: plain SQL that notes which rows the application writes.
//!
//! They append the key and the time to `piecewise_log`, in the application's own transaction; no function
//! of ours, nothing newer than SQLite 3.8. What REPLACE displaces through another UNIQUE index fires no
//! delete trigger, so a BEFORE trigger notes the rows that hold the new row's unique values.

use super::StoreError;
use super::index_terms;
use super::user_table::quote;
use crate::table::{Table, Unique, UniqueTerm};
use rusqlite::Connection;

/// What the triggers of a table do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Note what is written.
    Capture,
    /// Let nothing be written but by apply.
    ReadOnly,
}

/// The setting that is there while rows are applied with the application's triggers on.
pub(crate) const APPLYING: &str = "applying";

const NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)";

/// Makes the log, or widens it to keys of `width` columns.
pub(crate) fn ensure_log(conn: &Connection, width: usize) -> Result<(), StoreError> {
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS piecewise_log(seq INTEGER PRIMARY KEY, container INTEGER, time INTEGER, k0)",
    )?;
    let sql = "SELECT count(*) - 3 FROM pragma_table_info('piecewise_log')";
    let have: i64 = conn.query_row(sql, [], |row| row.get(0))?;
    for n in have..width as i64 {
        conn.execute_batch(&format!("ALTER TABLE piecewise_log ADD COLUMN k{n}"))?;
    }
    Ok(())
}

/// Adds the triggers of a container to its table.
pub(crate) fn install(conn: &Connection, no: i64, table: &Table, mode: Mode) -> Result<(), StoreError> {
    for (_, sql) in triggers(no, table, mode) {
        conn.execute_batch(&sql)?;
    }
    Ok(())
}

/// Whether these are just the triggers that the table should have.
///
/// A renamed table or column is spelled anew by SQLite; then they are made anew as well.
pub(crate) fn are(installed: &[(String, String)], no: i64, table: &Table, mode: Mode) -> bool {
    let expected = triggers(no, table, mode);
    expected.len() == installed.len() && expected.iter().all(|trigger| installed.contains(trigger))
}

/// Drops the triggers of a container.
pub(crate) fn remove(conn: &Connection, no: i64) -> Result<(), StoreError> {
    for name in installed(conn, no)? {
        conn.execute_batch(&format!("DROP TRIGGER {}", quote(&name)))?;
    }
    Ok(())
}

/// Removes what the log says of a container.
pub(crate) fn forget(conn: &Connection, no: i64) -> Result<(), StoreError> {
    super::log::forget(conn, no)
}

fn installed(conn: &Connection, no: i64) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name GLOB 'piecewise_' || ? || '_*'";
    let mut stmt = conn.prepare_cached(sql)?;
    let names = stmt.query_map([no], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// Names and texts of the triggers of a container.
fn triggers(no: i64, table: &Table, mode: Mode) -> Vec<(String, String)> {
    let name = |what: &str| format!("piecewise_{no}_{what}");
    let make = |what: &str, when: &str, body: &str| {
        let text = format!(
            "CREATE TRIGGER {} {when} ON {} BEGIN {body} END",
            quote(&name(what)),
            quote(&table.name)
        );
        (name(what), text)
    };
    let keys = table.key_columns();
    let key_names: Vec<_> = keys.iter().map(|n| quote(&table.columns[*n].name)).collect();
    let refuse_null = null_guard(table);
    let log_new = format!("{refuse_null}{}", log_row(no, &key_names, "NEW"));
    let log_old = log_row(no, &key_names, "OLD");
    let mut all = vec![
        make("insert", "AFTER INSERT", &log_new),
        make("update", "AFTER UPDATE", &log_new),
        make("delete", "AFTER DELETE", &log_old),
    ];
    let differs: Vec<_> =
        key_names.iter().map(|k| format!("OLD.{k} IS NOT NEW.{k} COLLATE BINARY")).collect();
    let moved = format!("AFTER UPDATE OF {} ", key_names.join(", "));
    all.push({
        let text = format!(
            "CREATE TRIGGER {} {moved}ON {} WHEN {} BEGIN {log_old} END",
            quote(&name("move")),
            quote(&table.name),
            differs.join(" OR ")
        );
        (name("move"), text)
    });
    for (n, unique) in table.unique.iter().enumerate() {
        let Some(body) = log_displaced(no, table, unique, &key_names) else { continue };
        all.push(make(&format!("replace{n}"), "BEFORE INSERT", &body));
        all.push(make(
            &format!("displace{n}"),
            &format!("BEFORE UPDATE{}", columns_of(table, unique)),
            &body,
        ));
    }
    if mode == Mode::ReadOnly {
        // What the application's triggers do while rows are applied is noted as ever, and put back.
        let message = format!("piecewise: table {} is read-only on this device", table.name);
        let body = format!("SELECT RAISE(ABORT, '{}');", message.replace('\'', "''"));
        for what in ["insert", "update", "delete"] {
            let text = format!(
                "CREATE TRIGGER {} BEFORE {} ON {} WHEN NOT EXISTS (SELECT 1 FROM piecewise_meta WHERE name = '{APPLYING}') \
                 BEGIN {body} END",
                quote(&name(&format!("guard_{what}"))),
                what.to_uppercase(),
                quote(&table.name)
            );
            all.push((name(&format!("guard_{what}")), text));
        }
    }
    all
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

fn columns(width: usize) -> String {
    (0..width).map(|n| format!("k{n}")).collect::<Vec<_>>().join(", ")
}

fn log_row(no: i64, keys: &[String], row: &str) -> String {
    let values: Vec<_> = keys.iter().map(|k| format!("{row}.{k}")).collect();
    format!(
        "INSERT INTO piecewise_log(container, time, {}) VALUES ({no}, {NOW}, {});",
        columns(keys.len()),
        values.join(", ")
    )
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
            "INSERT INTO piecewise_log(container, time, {}) SELECT {no}, {NOW}, {} FROM {} WHERE {};",
            columns(keys.len()),
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
    use crate::store::schema::read_table;

    fn tracked(sql: &str) -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(sql).unwrap();
        let table = read_table(&conn, "t").unwrap();
        ensure_log(&conn, table.key_columns().len()).unwrap();
        install(&conn, 7, &table, Mode::Capture).unwrap();
        let seen = crate::store::schema::Catalogue::read(&conn).unwrap();
        assert!(are(&seen.of(&table.name).triggers, 7, &table, Mode::Capture));
        conn
    }

    /// Keys logged by some SQL, once each, in order.
    fn logged(conn: &Connection, sql: &str) -> Vec<String> {
        conn.execute_batch("DELETE FROM piecewise_log").unwrap();
        conn.execute_batch(sql).unwrap();
        let mut stmt = conn.prepare("SELECT DISTINCT k0 || '' FROM piecewise_log ORDER BY 1").unwrap();
        stmt.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
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
        remove(&conn, 7).unwrap();
        conn.execute_batch("CREATE TABLE piecewise_meta(name TEXT PRIMARY KEY, value)").unwrap();
        install(&conn, 7, &table, Mode::ReadOnly).unwrap();
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
