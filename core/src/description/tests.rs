//! Descriptions to SQL and back, and what of a peer's entries SQLite makes.

use super::*;
use crate::store::schema::{Kinds, read_table};
use proptest::prelude::*;

fn described(conn: &Connection, table: &str) -> Vec<(String, Value)> {
    let table = read_table(conn, table).unwrap();
    let entries = entries(&table, &Extras::read(conn, &Kinds::read(conn).unwrap(), &table).unwrap());
    let keys: std::collections::BTreeSet<_> = entries.iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), entries.len(), "{entries:?}");
    entries
}

fn made(description: &Description) -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(&description.create_table_sql("t", |_, _| true).unwrap()).unwrap();
    let is_free = |name: &str| name != "Taken" && name != "t_unique_2";
    let (unique, plain) =
        (description.create_unique_sql("t", is_free), description.create_indexes_sql("t", is_free, |_| true));
    unique.iter().chain(&plain).for_each(|sql| conn.execute_batch(sql).unwrap());
    conn
}

fn read(entries: &[(String, Value)]) -> Result<Description, DescriptionError> {
    Description::from_entries(entries.iter().map(|(k, v)| (k.as_str(), v)))
}

#[test]
fn a_table_made_from_a_description_has_the_same_description() {
    for sql in [
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT NOT NULL DEFAULT 'it''s', b REAL DEFAULT -1.5)",
        "CREATE TABLE t(k VARCHAR(20) COLLATE NOCASE PRIMARY KEY, \"odd \"\"name\" BLOB, UNIQUE (\"odd \"\"name\"))",
        "CREATE TABLE t(a TEXT, b INT, c, PRIMARY KEY (b, a)) WITHOUT ROWID",
        "CREATE TABLE t(id TEXT PRIMARY KEY, n ANY, i INT) STRICT",
        "CREATE TABLE t(id INT PRIMARY KEY, p INT REFERENCES q(x) ON DELETE SET NULL, u, v, UNIQUE (u COLLATE RTRIM, v))",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, g AS (id + 1), d DEFAULT CURRENT_DATE)",
        "CREATE TABLE t(id INTEGER PRIMARY KEY DESC, v)",
        "CREATE TABLE t(id TEXT, v, PRIMARY KEY (id COLLATE NOCASE))",
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT NOT NULL DEFAULT '', b TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
           c INT REFERENCES t(id) DEFERRABLE INITIALLY DEFERRED REFERENCES q(x), d \"\" REFERENCES q(x) REFERENCES q(x));
         CREATE INDEX by_a ON t(a COLLATE NOCASE DESC, b)",
        "CREATE TABLE t(id TEXT PRIMARY KEY, email TEXT UNIQUE); CREATE UNIQUE INDEX ix ON t(email);
         CREATE UNIQUE INDEX ix2 ON t(email COLLATE NOCASE); CREATE UNIQUE INDEX ix3 ON t(email COLLATE rtrim)",
        "CREATE TABLE t(id TEXT PRIMARY KEY, a \"enum['x']\", b \"größe-int\", g AS (lower(a)) UNIQUE, p AS (a) REFERENCES q(x))",
    ] {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(sql).unwrap();
        let first = described(&conn, "t");
        let made = made(&read(&first).unwrap());
        let without_places = |entries: &[(String, Value)]| {
            let mut d = read(entries).unwrap();
            d.columns.iter_mut().for_each(|c| c.position = 0);
            d.local.clear();
            d
        };
        assert_eq!(without_places(&first), without_places(&described(&made, "t")), "{sql}");
    }
}

#[test]
fn a_column_that_stays_without_its_default_may_be_null_elsewhere() {
    let conn = Connection::open_in_memory().unwrap();
    let sql = "CREATE TABLE t(id TEXT PRIMARY KEY, a TEXT NOT NULL DEFAULT (lower('A')), b TEXT NOT NULL,
                 c TEXT DEFAULT 'x\u{1f}y', d AS (a), CHECK (a <> ''))";
    conn.execute_batch(sql).unwrap();
    let description = read(&described(&conn, "t")).unwrap();
    let made = made(&description);
    made.execute_batch("INSERT INTO t(id, b) VALUES ('1', 'b')").unwrap();
    assert!(made.execute_batch("INSERT INTO t(id) VALUES ('2')").is_err());
    let local = [("CHECK", "1"), ("default", "a"), ("generated column", "d")];
    assert_eq!(description.local(), local.map(|(kind, name)| (kind.to_owned(), name.to_owned())));
}

#[test]
fn indexes_of_ours_take_free_names_and_those_of_the_application_keep_theirs() {
    let conn = Connection::open_in_memory().unwrap();
    let sql = "CREATE TABLE t(id TEXT PRIMARY KEY, a UNIQUE, b UNIQUE); CREATE INDEX Taken ON t(a); CREATE INDEX t_unique_1 ON t(a, id)";
    conn.execute_batch(sql).unwrap();
    let made = made(&read(&described(&conn, "t")).unwrap());
    let sql = "SELECT group_concat(name, ' ') FROM (SELECT name FROM pragma_index_list('t') WHERE origin = 'c' ORDER BY name)";
    let names: String = made.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(names, "t_unique_1 t_unique_3 t_unique_4");
}

#[test]
fn entries_of_other_versions_leave_a_description_readable() {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT)").unwrap();
    let mut entries = described(&conn, "t");
    let known = read(&entries).unwrap();
    for (key, value) in [
        ("also-unique a\u{1f}LATIN", ""),
        ("also-unique gone\u{1f}BINARY", ""),
        ("also-foreign a\u{1f}sqlite_x\u{1f}id", "CASCADE\u{1f}CASCADE"),
        ("also-foreign a", "CASCADE"),
        ("index sqlite_i", "a\u{1f}BINARY\u{1f}"),
        ("index i", "gone\u{1f}BINARY\u{1f}"),
        ("index i", "a\u{1f}BINARY"),
        ("user-version seven", ""),
        ("colour a", "red"),
        ("local", "x"),
    ] {
        entries.push((key.to_owned(), Value::Text(value.to_owned())));
    }
    assert_eq!(read(&entries).unwrap(), known);
    entries.push(("default a".to_owned(), Value::Text("random()".to_owned())));
    made(&read(&entries).unwrap()).execute_batch("INSERT INTO t DEFAULT VALUES").unwrap();
}

#[test]
fn sql_from_a_peer_goes_nowhere() {
    let column = |name: &str, declared: &str, default: &str| {
        let fields = ["0", declared, "", default, "BINARY", "0"].map(str::to_owned);
        vec![
            ("key".to_owned(), Value::Text(name.into())),
            (format!("column {name}"), Value::Text(join(&fields))),
        ]
    };
    assert!(read(&column("id", "TEXT", "'x'")).is_ok());
    for (name, declared, default) in [
        ("id", "TEXT); DROP TABLE x; --", ""),
        ("id", "TEXT PRIMARY KEY", ""),
        ("id", "TEXT, b INT", ""),
        ("id", "TEXT CHECK (1)", ""),
        ("id", "INT(", ""),
        ("id", "TEXT", "(SELECT 1)"),
        ("id", "TEXT", "'a'||'b'"),
        ("a\nb", "TEXT", ""),
        ("sqlite_x", "TEXT", ""),
    ] {
        assert!(read(&column(name, declared, default)).is_err(), "{name} {declared} {default}");
    }
    assert!(read(&[]).is_err());
}

/// Entries as a peer may send them: parts that fit together and parts that do not.
fn any_entries() -> impl Strategy<Value = Vec<(String, Value)>> {
    let name = || prop::sample::select(vec!["a", "b", "A", "c d", "select", "\"q", "ß", "rowid", "t"]);
    let declared = prop::sample::select(vec![
        "INTEGER",
        "int",
        "TEXT",
        "",
        "ANY",
        "BLOB",
        "REAL",
        "VARCHAR(20)",
        "DECIMAL(10,2)",
        "VARCHAR(MAX)",
        "SELECT",
        "TABLE x",
        "2 INT",
        "LONG (1) (2)",
        "KEY",
        "()",
        "INT()",
        "DOUBLE PRECISION",
        "integer ",
        "ALWAYS",
        "a,b",
    ]);
    let collation = || prop::sample::select(vec!["BINARY", "NOCASE", "RTRIM"]);
    let default = prop::sample::select(vec![
        "",
        "1",
        "'x'",
        "NULL",
        "-9223372036854775808",
        "1e999",
        "x'00'",
        "9223372036854775808",
    ]);
    let column = (name(), 0..4_u32, declared, any::<bool>(), default, collation(), 0..4_u8).prop_map(
        |(name, position, declared, not_null, default, collation, merge)| {
            let not_null = if not_null { "not null" } else { "" };
            let fields = [&position.to_string(), declared, not_null, default, collation, &merge.to_string()];
            (format!("column {name}"), join(&fields.map(ToString::to_string)))
        },
    );
    let list = move || prop::collection::vec(name().prop_map(str::to_owned), 1..3);
    let key = list().prop_map(|names| ("key".to_owned(), join(&names)));
    let shape = (any::<bool>(), any::<bool>()).prop_map(|(rowid, strict)| {
        let rowid = if rowid { "rowid" } else { "without rowid" };
        ("table".to_owned(), join(&[rowid, if strict { "strict" } else { "" }].map(str::to_owned)))
    });
    let unique = (list(), prop::collection::vec(collation().prop_map(str::to_owned), 1..3))
        .prop_map(|(names, collations)| (format!("unique {}", join(&names)), join(&collations)));
    let foreign =
        (list(), list(), prop::sample::select(ACTIONS.to_vec())).prop_map(|(columns, parents, action)| {
            let head = ["p", action, "CASCADE"].map(str::to_owned).to_vec();
            (format!("foreign {}", join(&columns)), join(&[head, parents].concat()))
        });
    let index = (name(), list(), collation()).prop_map(|(name, columns, collation)| {
        let fields: Vec<_> =
            columns.into_iter().flat_map(|c| [c, collation.to_owned(), String::new()]).collect();
        (format!("index {name}"), join(&fields))
    });
    let rest = prop::collection::vec(prop_oneof![4 => column, 1 => unique, 1 => foreign, 1 => index], 1..8);
    (shape, key, rest, any::<bool>()).prop_map(|(shape, key, rest, autoincrement)| {
        let autoincrement = autoincrement.then(|| ("autoincrement".to_owned(), String::new()));
        let all = [shape, key].into_iter().chain(rest).chain(autoincrement);
        let all: std::collections::BTreeMap<_, _> = all.collect();
        all.into_iter().map(|(key, text)| (key, Value::Text(text))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What is let in is made by SQLite, whole and column by column, and read back as the same.
    #[test]
    fn what_a_description_says_is_what_sqlite_makes(entries in any_entries()) {
        let Ok(description) = read(&entries) else { return Ok(()) };
        if description.try_out(None).is_err() {
            return Ok(()); // refused where it would enter
        }
        let conn = made(&description);
        let table = read_table(&conn, "t").map_err(|why| TestCaseError::fail(format!("{why}: {entries:?}")))?;
        prop_assert_eq!(table.columns.len(), description.columns.len());
        prop_assert_eq!(table.strict, description.strict);
        prop_assert_eq!(table.without_rowid, description.without_rowid);
        prop_assert_eq!(matches!(table.key, TableKey::Rowid(_)), description.has_integer_key());
        let mut smaller = description.clone();
        let key = smaller.key.clone();
        smaller.columns.retain(|c| key.contains(&c.name));
        (smaller.unique, smaller.foreign) = (vec![], vec![]);
        smaller.indexes.clear();
        // A column that is called as the rowid can be made, but not added where there is a rowid.
        let is_rowid = |c: &DescribedColumn| !description.without_rowid && c.name == "rowid" && !key.contains(&c.name);
        let grown = description.try_out(Some(&smaller));
        prop_assert_eq!(grown.is_err(), description.columns.iter().any(is_rowid), "{:?}", grown);
    }
}
