//! Triggers: plain SQL that notes which rows the application writes.
//!
//! They append the key to `piecewise_log`, which adds the time, in the application's own transaction; no function
//! of ours, nothing newer than SQLite 3.8. What REPLACE displaces through another UNIQUE index fires no
//! delete trigger, so a BEFORE trigger notes the rows that hold the new row's unique values.
//! Every program that opens the file reads them all, so there are few of them and their texts are short.

use super::index_terms::{self, IndexText};
use super::schema::literal;
use super::schema_rows::{self, Trigger};
use super::user_table::quote;
use super::{StoreError, log, schema};
use crate::table::{Column, Default, Table, TableKey, Unique, UniqueTerm};
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
/// What the rowid is called, where no column has such a name.
pub(super) const ROWID: [&str; 3] = ["rowid", "oid", "_rowid_"];

/// The triggers of a container.
fn triggers(no: i64, table: &Table, mode: Mode) -> Vec<Trigger> {
    let make_if = |what: &str, when: &str, condition: &str, body: &str| {
        let (name, on) = (format!("{PREFIX}{no}_{what}"), quote(&table.name));
        let sql = format!("CREATE TRIGGER {name} {when} ON {on} {condition}BEGIN {body} END");
        Trigger { name, table: table.name.clone(), sql }
    };
    let make = |what: &str, when: &str, body: &str| make_if(what, when, "", body);
    let keys: Vec<_> = table.key_columns().iter().map(|n| quote(&table.columns[*n].name)).collect();
    let of = |row: &'static str| keys.iter().map(move |key| format!("{row}.{key}"));
    let guard = guard(table, mode);
    let noted = |values: Vec<String>| log_row(no, &values);
    let (inserted, deleted) = (noted(of("NEW").collect()), noted(of("OLD").collect()));
    let updated = noted(of("NEW").chain(of("OLD")).collect());
    let mut all = vec![
        make("insert", "AFTER INSERT", &format!("{guard}{inserted}")),
        make("update", "AFTER UPDATE", &format!("{guard}{updated}")),
        make("delete", "AFTER DELETE", &format!("{guard}{deleted}")),
    ];
    for (n, unique) in table.unique.iter().enumerate() {
        let index = LocalIndex::read(table, unique);
        let Some(body) = log_displaced(no, table, unique, index.as_ref(), &keys) else { continue };
        let condition = index.as_ref().map_or(String::new(), LocalIndex::holds_for_new_row);
        all.push(make_if(&format!("replace{n}"), "BEFORE INSERT", &condition, &body));
        let update = format!("BEFORE UPDATE{}", columns_of(table, unique, index.as_ref()));
        all.push(make_if(&format!("displace{n}"), &update, &condition, &body));
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

/// An index that is partial, or over expressions or generated columns, as its text tells.
struct LocalIndex<'t> {
    table: &'t Table,
    text: IndexText,
}

impl<'t> LocalIndex<'t> {
    fn read(table: &'t Table, unique: &Unique) -> Option<Self> {
        let text = index_terms::index(unique.partial.as_deref()?)?;
        Some(Self { table, text })
    }

    /// The columns that texts of it mention, and whether they mention the rowid by a name of its own.
    fn mentioned<'a>(&self, texts: impl Iterator<Item = &'a String>) -> (Vec<usize>, Option<&'static str>) {
        let names: Vec<_> = texts.flat_map(|text| index_terms::names(text)).collect();
        let is_mentioned = |name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
        let columns = &self.table.columns;
        let found = (0..columns.len()).filter(|n| is_mentioned(&columns[*n].name)).collect();
        let is_column = |name: &str| columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
        let mut rowid = ROWID.into_iter().filter(|_| !self.table.without_rowid);
        (found, rowid.find(|name| is_mentioned(name) && !is_column(name)))
    }

    /// An expression over the new row.
    ///
    /// Its columns stand there under their names, with the types and collations that the table gives them: that is what
    /// the empty first part of the UNION is for. Those not mentioned are left out, so that they can be dropped; and each is named
    /// once more, so that one can be renamed: SQLite renames columns of the table, and not those of a SELECT.
    fn over_new_row(&self, expression: &String) -> String {
        let (columns, rowid) = self.mentioned(std::iter::once(expression));
        let columns: Vec<_> = columns.iter().map(|n| &self.table.columns[*n]).collect();
        let names = columns.iter().map(|column| quote(&column.name)).map(|name| format!("{name} AS {name}"));
        let names = names.chain(rowid.map(str::to_owned));
        let values =
            columns.iter().map(|column| new_value(column)).chain(rowid.map(|name| format!("NEW.{name}")));
        let (names, values) = (names.collect::<Vec<_>>().join(", "), values.collect::<Vec<_>>().join(", "));
        if names.is_empty() {
            return format!("({expression})");
        }
        let table = quote(&self.table.name);
        format!(
            "(SELECT {expression} FROM (SELECT {names} FROM {table} WHERE 0 UNION ALL SELECT {values}) AS {table})"
        )
    }

    /// What keeps a trigger from firing for rows that a partial index does not hold.
    fn holds_for_new_row(&self) -> String {
        let Some(condition) = &self.text.condition else { return String::new() };
        let (columns, rowid) = self.mentioned(std::iter::once(condition));
        let is_rowid = |n: &usize| self.table.key == TableKey::Rowid(*n);
        if rowid.is_some() || columns.iter().any(is_rowid) {
            return String::new(); // a number that SQLite is still to give
        }
        format!("WHEN {} ", self.over_new_row(condition))
    }
}

/// Of which columns an UPDATE has to be for a UNIQUE index to see it; empty for all, since generated columns
/// change with others.
fn columns_of(table: &Table, unique: &Unique, index: Option<&LocalIndex<'_>>) -> String {
    let columns = match (&unique.partial, index) {
        (None, _) => unique.columns.iter().filter_map(|t| t.column).collect(),
        (Some(_), None) => return String::new(),
        (Some(_), Some(index)) => {
            let (columns, rowid) = index.mentioned(index.text.terms.iter().chain(&index.text.condition));
            if rowid.is_some() {
                return String::new();
            }
            columns
        }
    };
    if columns.is_empty() || columns.iter().any(|n| table.columns[*n].generated) {
        return String::new();
    }
    let names: Vec<_> = columns.iter().map(|n| quote(&table.columns[*n].name)).collect();
    format!(" OF {}", names.join(", "))
}

fn log_row(no: i64, values: &[String]) -> String {
    let columns = log::columns(values.len());
    format!("INSERT INTO piecewise_log(container, {columns}) VALUES ({no}, {});", values.join(", "))
}

/// A column of the new row: where there may be no NULL, REPLACE makes the default of one.
fn new_value(column: &Column) -> String {
    let name = quote(&column.name);
    match &column.default {
        Default::Literal(value) if column.not_null => format!("ifnull(NEW.{name}, {})", literal(value)),
        _ => format!("NEW.{name}"),
    }
}

/// Notes the rows that hold the new row's values of a UNIQUE index. Of a partial one the condition comes first: with it
/// SQLite finds them through the index, and evaluates no expression for rows that are not in it.
fn log_displaced(
    no: i64,
    table: &Table,
    unique: &Unique,
    index: Option<&LocalIndex<'_>>,
    keys: &[String],
) -> Option<String> {
    let term = |(n, term): (usize, &UniqueTerm)| match term.column {
        Some(column) => {
            let column = &table.columns[column];
            Some(format!("{} = {} COLLATE {}", quote(&column.name), new_value(column), term.collation))
        }
        None => {
            let index = index?;
            let expression = index.text.terms.get(n)?;
            Some(format!("({expression}) = {}", index.over_new_row(expression)))
        }
    };
    let terms: Vec<_> = unique.columns.iter().enumerate().filter_map(term).collect();
    let condition = index.and_then(|index| index.text.condition.as_ref()).map(|c| format!("({c})"));
    (!terms.is_empty()).then(|| {
        format!(
            "INSERT INTO piecewise_log(container, {}) SELECT {no}, {} FROM {} WHERE {};",
            log::columns(keys.len()),
            keys.join(", "),
            quote(&table.name),
            condition.into_iter().chain(terms).collect::<Vec<_>>().join(" AND ")
        )
    })
}

/// Whether SQLite looks through the whole table for the rows that hold some values of a partial UNIQUE index.
///
/// It does where the condition has a constant on the left: SQLite turns `0 = gone` around in a query, and not in the index.
pub(crate) fn is_never_used(conn: &Connection, table: &Table, unique: &Unique) -> Result<bool, StoreError> {
    let text = LocalIndex::read(table, unique).map(|index| index.text);
    let Some(IndexText { terms, condition: Some(condition) }) = text else { return Ok(false) };
    let terms = terms.iter().map(|term| format!("({term}) = ?")).collect::<Vec<_>>().join(" AND ");
    let from = quote(&table.name);
    let mut plan =
        conn.prepare(&format!("EXPLAIN QUERY PLAN SELECT 1 FROM {from} WHERE ({condition}) AND {terms}"))?;
    let mut steps = plan.raw_query();
    let mut is_scan = false;
    while let Some(step) = steps.next()? {
        is_scan |= step.get::<_, String>(3)?.starts_with("SCAN");
    }
    Ok(is_scan)
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
    fn rows_displaced_through_a_partial_index_are_noted_and_no_others_looked_at() {
        let conn = tracked(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, kind INTEGER, data TEXT, gone TEXT, other TEXT);
             CREATE UNIQUE INDEX j ON t(json_extract(data, '$.k')) WHERE kind = '1' AND t.gone IS NULL -- of those that stay
             ;",
        );
        assert_eq!(logged(&conn, "INSERT INTO t VALUES (1, 2, 'no json', NULL, 'x')"), ["1"]);
        let some = "INSERT INTO t VALUES (2, 1, '{\"k\":5}', NULL, 'x'), (3, 1, '{\"k\":5}', 'yes', 'x')";
        assert_eq!(logged(&conn, some), ["2", "3"]);
        assert_eq!(logged(&conn, "REPLACE INTO t VALUES (4, 1, '{\"k\":5}', NULL, 'x')"), ["2", "4"]);
        assert_eq!(logged(&conn, "UPDATE OR REPLACE t SET gone = NULL WHERE id = 3"), ["3", "4"]);
        assert_eq!(logged(&conn, "UPDATE t SET other = 'y' WHERE id = 1"), ["1"]);
        assert!(conn.execute("INSERT INTO t VALUES (5, 1, 'no json', NULL, 'x')", []).is_err());
        conn.execute_batch("ALTER TABLE t DROP COLUMN other").unwrap();
    }

    #[test]
    fn rows_displaced_by_a_default_in_place_of_null_are_noted() {
        let conn = tracked("CREATE TABLE t(id TEXT PRIMARY KEY, a TEXT NOT NULL DEFAULT 'it''s' UNIQUE)");
        assert_eq!(logged(&conn, "INSERT INTO t(id) VALUES ('x')"), ["x"]);
        assert_eq!(logged(&conn, "INSERT OR REPLACE INTO t VALUES ('y', NULL)"), ["x", "y"]);
        let conn = tracked(
            "CREATE TABLE t(id TEXT PRIMARY KEY, a TEXT NOT NULL DEFAULT 'D'); CREATE UNIQUE INDEX i ON t(lower(a));",
        );
        assert_eq!(logged(&conn, "INSERT INTO t VALUES ('x', 'd')"), ["x"]);
        assert_eq!(logged(&conn, "INSERT OR REPLACE INTO t VALUES ('y', NULL)"), ["x", "y"]);
    }

    #[test]
    fn a_column_of_an_index_can_be_renamed() {
        for index in ["email", "lower(email)", "email) WHERE (deleted = 0"] {
            let conn = tracked(&format!(
                "CREATE TABLE t(id INTEGER PRIMARY KEY, email TEXT, deleted INT DEFAULT 0);
                 CREATE UNIQUE INDEX i ON t({index});",
            ));
            conn.execute_batch("INSERT INTO t(id, email) VALUES (1, 'a')").unwrap();
            conn.execute_batch(
                "ALTER TABLE t RENAME COLUMN email TO mail; ALTER TABLE t RENAME COLUMN deleted TO gone",
            )
            .unwrap();
            assert_eq!(logged(&conn, "REPLACE INTO t(id, mail) VALUES (2, 'a')"), ["1", "2"], "{index}");
        }
    }

    #[test]
    fn an_index_over_the_rowid_is_looked_into_too() {
        let conn = tracked(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT); CREATE UNIQUE INDEX i ON t(a) WHERE rowid > 0 OR id > 0;",
        );
        assert_eq!(logged(&conn, "INSERT INTO t VALUES (1, 'x')"), ["1"]);
        assert_eq!(logged(&conn, "REPLACE INTO t(a) VALUES ('x')"), ["1", "2"]);
    }

    #[test]
    fn an_insert_beside_a_partial_index_costs_an_index_look() {
        let conn = tracked(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, email TEXT, gone TEXT); CREATE UNIQUE INDEX i ON t(email) WHERE gone IS NULL;",
        );
        let body = "SELECT sql FROM sqlite_master WHERE name = 'piecewise_7_replace0'";
        let body: String = conn.query_row(body, [], |row| row.get(0)).unwrap();
        let select = body.split("SELECT 7, ").nth(1).unwrap().split(';').next().unwrap();
        let plan = format!("EXPLAIN QUERY PLAN SELECT {}", select.replace("NEW.\"email\"", "'x'"));
        let plan: String = conn.query_row(&plan, [], |row| row.get(3)).unwrap();
        assert!(plan.contains("USING COVERING INDEX i") || plan.contains("USING INDEX i"), "{plan}");
    }

    #[test]
    fn an_index_that_no_query_can_use_is_known() {
        let never_used = |index: &str| {
            let conn = tracked(&format!(
                "CREATE TABLE t(id INTEGER PRIMARY KEY, email TEXT, gone INT); CREATE UNIQUE INDEX i ON t({index});",
            ));
            let table = read_table(&conn, "t").unwrap();
            is_never_used(&conn, &table, &table.unique[0]).unwrap()
        };
        assert!(never_used("email) WHERE (0 = gone"));
        assert!(never_used("lower(email)) WHERE ('' <> email AND 0 = gone"));
        let used =
            ["email", "email) WHERE (gone = 0", "lower(email)", "lower(email), gone) WHERE (email <> ''"];
        used.into_iter().for_each(|index| assert!(!never_used(index), "{index}"));
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
    fn rows_with_a_null_in_their_key_are_the_applications_own_affair() {
        let conn = tracked("CREATE TABLE t(id TEXT PRIMARY KEY, a)");
        assert_eq!(logged(&conn, "INSERT INTO t VALUES (NULL, 1), ('k', 1)"), ["k"]);
        assert_eq!(logged(&conn, "UPDATE t SET a = 2"), ["k"]);
        assert_eq!(logged(&conn, "UPDATE t SET id = 'l' WHERE id IS NULL"), ["l"]);
        assert_eq!(logged(&conn, "UPDATE t SET id = NULL WHERE id = 'k'"), ["k"]);
        assert!(logged(&conn, "DELETE FROM t WHERE id IS NULL").is_empty());
    }

    #[test]
    fn writes_to_a_read_only_table_are_refused_where_they_are_made() {
        let conn = tracked("CREATE TABLE t(id TEXT PRIMARY KEY, a)");
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
