//! Schema rows: many triggers made or dropped at once, or a table's text changed, as rows of SQLite's own table of the schema.
//!
//! For each CREATE and DROP, SQLite looks through the whole schema: for thousands of tables that takes hours. A
//! trigger has no storage of its own, it is its row in `sqlite_master` and nothing else. So many of them are written
//! there by the way that SQLite's documentation gives for such changes (`PRAGMA writable_schema`, a new
//! `schema_version`), after SQLite has compiled each text, and are read before the transaction goes on. Few are made
//! by plain SQL: to read the schema anew takes longer than that.

use super::user_table::quote;
use super::{StoreError, index_terms, schema};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Row};

/// Where SQLite keeps what it gave out last.
const SEQUENCE: &str = "sqlite_sequence";
/// So many are made one by one.
const ONE_BY_ONE_MAX: usize = 96;

/// A trigger as it stands in the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trigger {
    pub(crate) name: String,
    /// The table that it is on.
    pub(crate) table: String,
    pub(crate) sql: String,
}

/// Makes triggers. Call it in a transaction, and roll it back after an error.
pub(crate) fn create(conn: &Connection, triggers: &[Trigger]) -> Result<(), StoreError> {
    if triggers.len() <= ONE_BY_ONE_MAX {
        return triggers.iter().try_for_each(|t| Ok(conn.execute_batch(&t.sql)?));
    }
    write(conn, || {
        let mut insert = conn.prepare("INSERT INTO sqlite_master VALUES ('trigger', ?, ?, 0, ?)")?;
        for Trigger { name, table, sql } in triggers {
            drop(conn.prepare(sql)?); // an error where it could not be made
            insert.execute([name, table, sql])?;
        }
        Ok(())
    })
}

/// Adds constraints to the end of a table's text: such as have no storage of their own, and that its rows need not keep.
pub(crate) fn add_clauses(conn: &Connection, table: &str, clauses: &[String]) -> Result<(), StoreError> {
    let text = text_of(conn, table)?;
    let end = text.rfind(')').ok_or(StoreError::Damaged { what: "the schema" })?;
    let added: String = clauses.iter().map(|clause| format!(", {clause}")).collect();
    set_text(conn, table, &format!("{}{added}{}", &text[..end], &text[end..]))
}

/// Has SQLite number a table's rows by `sqlite_sequence`, which is made if it is missing. Returns whether it was; None: the
/// table's text is none that is understood. Call it in a transaction, and roll it back after an error.
pub(crate) fn add_autoincrement(conn: &Connection, table: &str) -> Result<Option<bool>, StoreError> {
    let text = text_of(conn, table)?;
    let Some(place) = index_terms::autoincrement_place(&text) else { return Ok(None) };
    let makes_sequence = !schema::table_exists(conn, SEQUENCE)?;
    if makes_sequence {
        // SQLite makes it with the first table that needs it, and keeps it.
        let sql =
            "CREATE TABLE piecewise_gone(id INTEGER PRIMARY KEY AUTOINCREMENT); DROP TABLE piecewise_gone";
        conn.execute_batch(sql)?;
    }
    let before = shape(conn, table)?;
    set_text(conn, table, &format!("{} AUTOINCREMENT{}", &text[..place], &text[place..]))?;
    if shape(conn, table)? != before {
        return Err(StoreError::Damaged { what: "the schema" });
    }
    Ok(Some(makes_sequence))
}

/// Takes that back.
pub(crate) fn remove_autoincrement(conn: &Connection, table: &str) -> Result<(), StoreError> {
    let text = text_of(conn, table)?;
    let Some(word) = index_terms::autoincrement(&text).filter(|word| text[..word.start].ends_with(' '))
    else {
        return Ok(());
    };
    set_text(conn, table, &format!("{}{}", &text[..word.start - 1], &text[word.end..]))?;
    conn.execute("DELETE FROM sqlite_sequence WHERE name = ? COLLATE NOCASE", [table])?;
    Ok(())
}

/// Drops `sqlite_sequence` if no table needs it, which SQLite alone does not let anybody do.
pub(crate) fn drop_sequence(conn: &Connection) -> Result<(), StoreError> {
    let mut stmt =
        conn.prepare("SELECT sql FROM sqlite_master WHERE type = 'table' AND sql LIKE '%autoincrement%'")?;
    let texts: Vec<String> = stmt.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    drop(stmt);
    let is_needed = texts.iter().any(|sql| index_terms::autoincrement(sql).is_some());
    if is_needed || !schema::table_exists(conn, SEQUENCE)? {
        return Ok(());
    }
    write(conn, || {
        let sql = "UPDATE sqlite_master SET name = 'piecewise_gone', tbl_name = 'piecewise_gone',
                   sql = 'CREATE TABLE piecewise_gone(name, seq)' WHERE name = 'sqlite_sequence'";
        conn.execute(sql, []).map(drop)
    })?;
    Ok(conn.execute_batch("DROP TABLE piecewise_gone")?)
}

fn text_of(conn: &Connection, table: &str) -> Result<String, StoreError> {
    let sql = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE";
    Ok(conn.query_row(sql, [table], |row| row.get(0))?)
}

fn set_text(conn: &Connection, table: &str, text: &str) -> Result<(), StoreError> {
    write(conn, || {
        let sql = "UPDATE sqlite_master SET sql = ?1 WHERE type = 'table' AND name = ?2 COLLATE NOCASE";
        conn.execute(sql, [text, table]).map(drop)
    })?;
    conn.prepare(&format!("SELECT 1 FROM {}", quote(table)))?; // an error where SQLite cannot read it
    Ok(())
}

/// All that SQLite tells of a table's columns.
fn shape(conn: &Connection, table: &str) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT format('%s|%s|%s|%Q|%s|%s', name, type, \"notnull\", dflt_value, pk, hidden) FROM pragma_table_xinfo(?)";
    let mut stmt = conn.prepare(sql)?;
    let columns = stmt.query_map([table], |row| row.get(0))?;
    Ok(columns.collect::<Result<_, _>>()?)
}

/// Drops the triggers with such names. Call it in a transaction, and roll it back after an error.
pub(crate) fn drop_those(conn: &Connection, wanted: impl Fn(&str) -> bool) -> Result<(), StoreError> {
    let mut stmt = conn.prepare("SELECT rowid, name FROM sqlite_master WHERE type = 'trigger'")?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let mut found: Vec<(i64, String)> = stmt.query_map([], read)?.collect::<Result<_, _>>()?;
    found.retain(|(_, name)| wanted(name));
    if found.len() <= ONE_BY_ONE_MAX {
        let sql = |name: &str| format!("DROP TRIGGER {}", quote(name));
        return found.iter().try_for_each(|(_, name)| Ok(conn.execute_batch(&sql(name))?));
    }
    write(conn, || {
        let mut delete = conn.prepare("DELETE FROM sqlite_master WHERE rowid = ?")?;
        found.iter().try_for_each(|(rowid, _)| delete.execute([rowid]).map(drop))
    })
}

/// Changes rows of the schema and has SQLite read it anew.
fn write(conn: &Connection, work: impl FnOnce() -> rusqlite::Result<()>) -> Result<(), StoreError> {
    let version = schema::schema_version(conn)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
    let written = conn
        .execute_batch("PRAGMA writable_schema = ON")
        .and_then(|()| work())
        .and_then(|()| conn.pragma_update(None, "schema_version", next(version)));
    let reset = conn.execute_batch("PRAGMA writable_schema = RESET");
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    written.and(reset)?;
    // A row that SQLite cannot read is an error here, and gone with the transaction.
    conn.query_row("SELECT count(*) FROM sqlite_master WHERE rowid = 1", [], |_| Ok(()))?;
    Ok(())
}

/// The version after this one; SQLite keeps it in 32 bits.
fn next(version: i64) -> i64 {
    i64::from((version as i32).wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: usize = ONE_BY_ONE_MAX + 1;

    fn database() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).unwrap();
        conn.execute_batch("CREATE TABLE noted(x)").unwrap();
        for n in 0..TABLES {
            conn.execute_batch(&format!("CREATE TABLE \"t {n}\"(a)")).unwrap();
        }
        conn
    }

    fn triggers(body: &str) -> Vec<Trigger> {
        let trigger = |n| Trigger {
            name: format!("note_{n}"),
            table: format!("t {n}"),
            sql: format!("CREATE TRIGGER note_{n} AFTER INSERT ON \"t {n}\" BEGIN {body} END"),
        };
        (0..TABLES).map(trigger).collect()
    }

    fn schema(conn: &Connection) -> Vec<(String, String, i64, String)> {
        let mut stmt =
            conn.prepare("SELECT name, tbl_name, rootpage, sql FROM sqlite_master ORDER BY name").unwrap();
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        stmt.query_map([], read).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn triggers_made_at_once_stand_in_the_schema_as_those_made_one_by_one_and_fire() {
        let (at_once, one_by_one) = (database(), database());
        let triggers = triggers("INSERT INTO noted VALUES (NEW.a);");
        at_once.execute_batch("BEGIN").unwrap();
        create(&at_once, &triggers).unwrap();
        at_once.execute_batch("COMMIT").unwrap();
        triggers.iter().for_each(|t| one_by_one.execute_batch(&t.sql).unwrap());
        assert_eq!(schema(&at_once), schema(&one_by_one));
        at_once.execute_batch("INSERT INTO \"t 0\" VALUES (1); INSERT INTO \"t 5\" VALUES (2)").unwrap();
        let noted: i64 = at_once.query_row("SELECT sum(x) FROM noted", [], |row| row.get(0)).unwrap();
        assert_eq!(noted, 3);
        let health: String = at_once.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(health, "ok");
        assert!(at_once.execute_batch("PRAGMA writable_schema = ON; DELETE FROM sqlite_master").is_err());
    }

    #[test]
    fn autoincrement_is_added_and_taken_out_again() {
        for with_another in [false, true] {
            let conn = database();
            conn.execute_batch(
                "CREATE TABLE \"a b\"(id INTEGER PRIMARY KEY /* here */, x TEXT NOT NULL DEFAULT '(', y TEXT);
                 INSERT INTO \"a b\" VALUES (7, 'seven', NULL)",
            )
            .unwrap();
            if with_another {
                conn.execute_batch("CREATE TABLE other(id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO other DEFAULT VALUES").unwrap();
            }
            let before = schema(&conn);
            let add = || {
                conn.execute_batch("BEGIN").unwrap();
                let added = add_autoincrement(&conn, "A b").unwrap();
                conn.execute_batch("COMMIT").unwrap();
                added
            };
            assert_eq!(add(), Some(!with_another));
            assert_eq!(add(), None);
            conn.execute_batch("INSERT INTO \"a b\"(x) VALUES ('eight'); DELETE FROM \"a b\" WHERE id = 8; INSERT INTO \"a b\"(x) VALUES ('nine')").unwrap();
            let last: i64 = conn.query_row("SELECT max(id) FROM \"a b\"", [], |row| row.get(0)).unwrap();
            assert_eq!(last, 9);
            conn.execute_batch("BEGIN").unwrap();
            remove_autoincrement(&conn, "a b").unwrap();
            drop_sequence(&conn).unwrap();
            conn.execute_batch("COMMIT").unwrap();
            assert_eq!(schema(&conn), before);
            let health: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(health, "ok");
            conn.execute_batch("INSERT INTO \"a b\"(x) VALUES ('ten'); VACUUM").unwrap();
            assert_eq!(schema::table_exists(&conn, SEQUENCE).unwrap(), with_another);
        }
    }

    #[test]
    fn triggers_dropped_at_once_leave_the_schema_as_it_was() {
        let conn = database();
        let before = schema(&conn);
        create(&conn, &triggers("INSERT INTO noted VALUES (NEW.a);")).unwrap();
        conn.execute_batch("CREATE TRIGGER other AFTER INSERT ON \"t 1\" BEGIN SELECT 1; END").unwrap();
        drop_those(&conn, |name| name.starts_with("note_")).unwrap();
        conn.execute_batch("INSERT INTO \"t 0\" VALUES (1); DROP TRIGGER other").unwrap();
        assert_eq!(schema(&conn), before);
        let noted: i64 = conn.query_row("SELECT count(*) FROM noted", [], |row| row.get(0)).unwrap();
        assert_eq!(noted, 0);
    }

    #[test]
    fn of_triggers_that_sqlite_cannot_make_nothing_is_left_after_a_rollback() {
        let conn = database();
        let before = schema(&conn);
        let mut triggers = triggers("SELECT 1;");
        triggers[TABLES - 1].sql = triggers[TABLES - 1].sql.replace("SELECT", "NONSENSE");
        conn.execute_batch("BEGIN").unwrap();
        create(&conn, &triggers).unwrap_err();
        conn.execute_batch("ROLLBACK; INSERT INTO \"t 0\" VALUES (1)").unwrap();
        assert_eq!(schema(&conn), before);
    }

    #[test]
    fn the_version_of_a_schema_begins_anew_after_the_last() {
        assert_eq!(next(i64::from(i32::MAX)), i64::from(i32::MIN));
        assert_eq!(next(-1), 0);
    }
}
