//! Shapes: tables of every kind SQLite has, with values of every kind, come out as they went in.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{open, query, sql};
use piecewise_tests::pair::Pair;
use piecewise_tests::process::Device;

#[test]
fn every_table_and_value_that_sqlite_can_hold_arrives_as_it_was() {
    let wide: Vec<_> = (1..500).map(|n| format!("c{n} TEXT DEFAULT 'd{n}'")).collect();
    let schema = format!(
        "CREATE TABLE \"we\"\"ird täble\"(\"sel ect\" TEXT PRIMARY KEY, \"group\", \"a\"\"b\" BLOB, ünï REAL);
         CREATE TABLE \"order\"(id INTEGER PRIMARY KEY, v);
         CREATE TABLE composite(a TEXT COLLATE NOCASE, b INT, c, PRIMARY KEY (b, a)) WITHOUT ROWID;
         CREATE TABLE strict(id TEXT PRIMARY KEY, i INT, r REAL, t TEXT, b BLOB, x ANY) STRICT;
         CREATE TABLE generated(id TEXT PRIMARY KEY, email TEXT, low AS (lower(email)) UNIQUE, up AS (upper(email)) STORED);
         CREATE TABLE descending(id INTEGER PRIMARY KEY DESC, v);
         CREATE TABLE untyped(k PRIMARY KEY, v);
         CREATE TABLE reals(k REAL PRIMARY KEY, v);
         CREATE TABLE typed(id TEXT PRIMARY KEY, a \"t['x']\", b DECIMAL(10,2), c \"größe\", d TIMESTAMP);
         CREATE TABLE wide(id INTEGER PRIMARY KEY, {});",
        wide.join(", ")
    );
    let it = Pair::cloned(&schema);
    let long = "x".repeat(3 << 20);
    sql(
        &it.files[0],
        &format!(
            "INSERT INTO \"we\"\"ird täble\" VALUES
               ('k''ey\"', NULL, x'00ff00', 9e999), ('', '', x'', -9e999), ('nul' || char(0), -0.0, 9007199254740993, -0.0),
               ('raw', CAST(x'ff00fe' AS TEXT), -9223372036854775808, 5e-324), (CAST(x'ff41' AS TEXT), 1.0, 1, 1e308),
               ('long', '{long}', zeroblob(1000000), 0);
             INSERT INTO \"order\" VALUES (-9223372036854775808, 1), (9223372036854775807, NULL);
             INSERT INTO composite VALUES ('Abc', 1, 'x'), ('d,e', 2, 'y'), (x'00ff', 3, 1);
             INSERT INTO strict VALUES ('1', 1, 1.5, 't', x'00', x'ff'), ('2', NULL, 1, 't', NULL, 'any');
             INSERT INTO generated(id, email) VALUES ('1', 'A@x'), ('2', 'b@x');
             INSERT INTO descending VALUES (5, 'five');
             INSERT INTO untyped VALUES (1, 'i'), (1.5, 'r'), ('1', 't'), (x'31', 'b'), (9e999, 'inf'), (-0.0, 'zero');
             INSERT INTO reals VALUES (1, 1), (-0.0, 0), (1e300, 2), ('text', 3);
             INSERT INTO typed VALUES ('1', 'a', 1.25, 'c', 'd');
             INSERT INTO wide(id) VALUES (1), (2)"
        ),
    );
    it.sync_both();
    sql(
        &it.files[1],
        "UPDATE composite SET a = 'ABC' WHERE a = 'abc'; UPDATE descending SET v = 'six'; DELETE FROM reals WHERE k = 1e300;
         UPDATE wide SET c499 = 'changed' WHERE id = 2; UPDATE generated SET email = 'C@x' WHERE id = '1';
         UPDATE untyped SET v = 'text' WHERE k = '1'; UPDATE untyped SET k = 1.0 WHERE k = 1 AND typeof(k) = 'integer'",
    );
    it.sync_both();
    let conn = open(&it.files[0]);
    let cell = "'typeof(' || q || '), CASE typeof(' || q || ') WHEN ''text'' THEN hex(' || q || ') ELSE quote(' || q || ') END'";
    let tables = format!(
        "SELECT name, group_concat({cell}) FROM (
           SELECT m.name AS name, '\"' || replace(c.name, '\"', '\"\"') || '\"' AS q FROM sqlite_master m, pragma_table_info(m.name) c
           WHERE m.type = 'table' AND m.name NOT GLOB 'piecewise_*' AND m.name NOT GLOB 'sqlite_*' AND c.name NOT GLOB 'c[0-9]*')
         GROUP BY name"
    );
    let mut stmt = conn.prepare(&tables).unwrap();
    let tables = stmt.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    let mut seen = 0;
    for table in tables {
        let (name, columns) = table.unwrap();
        let rows = it.same(&format!("SELECT {columns} FROM \"{}\" ORDER BY 1, 2", name.replace('"', "\"\"")));
        assert!(!rows.is_empty(), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 10);
    assert_eq!(
        it.same("SELECT c1, c499 FROM wide ORDER BY id"),
        ["Text(\"d1\") Text(\"d499\")", "Text(\"d1\") Text(\"changed\")"]
    );
    assert_eq!(it.same("SELECT v FROM descending"), ["Text(\"six\")"]);
}

#[test]
fn a_row_that_replace_displaced_through_an_index_over_an_expression_goes_everywhere() {
    let it = Pair::cloned(
        "CREATE TABLE users(id INTEGER PRIMARY KEY, email TEXT, domain TEXT, tag AS (domain || '!') UNIQUE);
         CREATE UNIQUE INDEX by_email ON users(lower(email));",
    );
    sql(
        &it.files[0],
        "INSERT INTO users(id, email, domain) VALUES (1, 'A', 'x'), (2, 'b', 'y'), (3, 'c', 'z')",
    );
    it.sync_both();
    sql(
        &it.files[0],
        "REPLACE INTO users(id, email, domain) VALUES (4, 'a', 'w'); UPDATE OR REPLACE users SET domain = 'z' WHERE id = 2",
    );
    it.sync_both();
    assert_eq!(
        it.same("SELECT id, email FROM users ORDER BY id"),
        ["Integer(2) Text(\"b\")", "Integer(4) Text(\"a\")"]
    );
}

#[test]
fn a_search_index_is_kept_up_to_date_on_a_table_that_may_only_be_read() {
    let it = Pair::new(
        "WAL",
        "CREATE TABLE notes(id TEXT PRIMARY KEY, body TEXT); CREATE TABLE mine(id TEXT PRIMARY KEY, v);",
    );
    it.track(0);
    sql(&it.files[0], "INSERT INTO notes VALUES ('1', 'first words'); INSERT INTO mine VALUES ('1', 'x')");
    it.sync(0);
    let reader =
        Device::joined(&it.folder.path().join("reader"), &it.server, &["app/notes=read", "app/mine=write"]);
    let file = it.folder.path().join("reader.db");
    reader.must(["clone", "app", file.to_str().unwrap()]);
    sql(
        &file,
        "CREATE VIRTUAL TABLE search USING fts5(body);
         CREATE TRIGGER n AFTER INSERT ON notes BEGIN INSERT INTO search VALUES (NEW.body); END;
         CREATE TRIGGER m AFTER INSERT ON mine BEGIN UPDATE notes SET body = 'by a trigger' WHERE id = NEW.id; END;",
    );
    sql(&it.files[0], "INSERT INTO notes VALUES ('2', 'second words'); INSERT INTO mine VALUES ('2', 'y')");
    it.sync(0);
    reader.must(["sync", file.to_str().unwrap()]);
    assert_eq!(
        query(&file, "SELECT body FROM search WHERE search MATCH 'second'"),
        ["Text(\"second words\")"]
    );
    assert_eq!(
        query(&file, "SELECT body FROM notes ORDER BY id"),
        ["Text(\"first words\")", "Text(\"second words\")"]
    );
    assert_eq!(query(&file, "SELECT count(*) FROM mine"), ["Integer(2)"]);
    let write = open(&file).execute("UPDATE notes SET body = 'mine'", []).expect_err("it may only be read");
    assert!(write.to_string().contains("read-only"), "{write}");
}

#[test]
fn rows_that_are_equal_under_an_index_s_own_collation_clash_alike_everywhere() {
    let it = Pair::cloned(
        "CREATE TABLE tags(id TEXT PRIMARY KEY, name TEXT); CREATE UNIQUE INDEX tag_name ON tags(name COLLATE NOCASE);
         CREATE TABLE parents(name TEXT COLLATE NOCASE PRIMARY KEY);
         CREATE TABLE children(id INTEGER PRIMARY KEY, parent TEXT REFERENCES parents(name));",
    );
    sql(&it.files[0], "INSERT INTO tags VALUES ('a', 'Milk'); INSERT INTO parents VALUES ('Ann')");
    it.sync_both();
    sql(&it.files[0], "INSERT INTO tags VALUES ('b', 'bread'); DELETE FROM parents");
    it.sync(0);
    sql(&it.files[1], "INSERT INTO tags VALUES ('c', 'BREAD'); INSERT INTO children VALUES (1, 'ANN')");
    it.sync_both();
    assert_eq!(it.same("SELECT id FROM tags ORDER BY id"), ["Text(\"a\")", "Text(\"b\")"]);
    assert!(it.same("SELECT * FROM children").is_empty());
    for n in [0, 1] {
        let held = it.devices[n].json(&["held", it.path(n)]);
        let causes: Vec<_> = held.as_array().unwrap().iter().map(|h| h["cause"].as_str().unwrap()).collect();
        assert!(causes.iter().any(|c| c.contains("UNIQUE (name)")), "{causes:?}");
        assert!(causes.iter().any(|c| c.contains("FOREIGN KEY (parent)")), "{causes:?}");
    }
    sql(&it.files[0], "INSERT INTO parents VALUES ('ann'); DELETE FROM tags WHERE id = 'b'");
    it.sync_both();
    assert_eq!(it.same("SELECT id FROM tags ORDER BY id"), ["Text(\"a\")", "Text(\"c\")"]);
    assert_eq!(it.same("SELECT parent FROM children"), ["Text(\"ANN\")"]);
}

#[test]
fn keys_and_refused_texts_over_64_kib_do_not_make_the_file_look_damaged() {
    let it = Pair::cloned("CREATE TABLE notes(id TEXT PRIMARY KEY, body TEXT);");
    let long = "x".repeat(70_000);
    sql(&it.files[0], &format!("INSERT INTO notes VALUES ('{long}', 'long key'), ('1', 'short')"));
    assert_eq!(it.devices[0].run(["sync", it.path(0)]).code, 1);
    it.sync(1);
    assert_eq!(query(&it.files[1], "SELECT id FROM notes"), ["Text(\"1\")"]);
    assert_eq!(it.devices[0].json(&["refused", it.path(0)])[0]["key"], long);
    it.devices[0].must(["refused", "retry", it.path(0)]);
    assert_eq!(it.devices[0].run(["sync", it.path(0)]).code, 1);
    it.devices[0].must(["refused", "revert", it.path(0)]);
    assert_eq!(it.same("SELECT id FROM notes"), ["Text(\"1\")"]);
    let key = it.devices[0].json(&["identity"])["key"].as_str().unwrap().to_owned();
    assert_eq!(it.server.run("grant", &[&key, "app/*=read"]).code, 0);
    sql(&it.files[0], &format!("UPDATE notes SET body = '{long}'"));
    it.devices[0].run(["sync", it.path(0)]);
    assert_eq!(it.devices[0].json(&["refused", it.path(0)])[0]["key"], "1");
    it.devices[0].must(["refused", "revert", it.path(0)]);
    assert_eq!(it.same("SELECT body FROM notes"), ["Text(\"short\")"]);
}

#[test]
fn a_text_that_was_null_at_first_arrives_and_merges_by_character() {
    let it = Pair::new("WAL", "CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT);");
    for n in [0, 1] {
        it.devices[n].must(["track", it.path(n), "notes", "--as", "app", "--text", "notes.body"]);
    }
    sql(&it.files[0], "INSERT INTO notes VALUES (1, NULL)");
    it.sync_both();
    sql(&it.files[0], "UPDATE notes SET body = 'one two'");
    it.sync_both();
    assert_eq!(it.same("SELECT body FROM notes"), ["Text(\"one two\")"]);
    sql(&it.files[0], "UPDATE notes SET body = 'zero ' || body");
    sql(&it.files[1], "UPDATE notes SET body = body || ' three'");
    it.sync_both();
    assert_eq!(it.same("SELECT body FROM notes"), ["Text(\"zero one two three\")"]);
}

#[test]
fn a_clone_can_be_written_by_its_application_and_says_what_it_lacks() {
    let it = Pair::new(
        "WAL",
        "CREATE TABLE items(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, state TEXT NOT NULL DEFAULT '',
           added TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, qty INTEGER NOT NULL DEFAULT -1, code TEXT NOT NULL DEFAULT (lower('A')), CHECK (qty < 9));
         CREATE TABLE kids(id INTEGER PRIMARY KEY, item INTEGER REFERENCES items(id) DEFERRABLE INITIALLY DEFERRED);
         CREATE INDEX by_name ON items(name COLLATE NOCASE DESC, qty); CREATE VIEW cheap AS SELECT * FROM items WHERE qty < 5;
         PRAGMA user_version = 7; PRAGMA application_id = 77",
    );
    it.track(0);
    it.sync(0);
    std::fs::remove_file(&it.files[1]).unwrap();
    let said = it.devices[1].run(["clone", "app", it.path(1)]);
    assert_eq!(said.code, 0, "{said}");
    for word in ["CHECK", "default code", "view cheap"] {
        assert!(said.err.contains(word), "{word}: {said}");
    }
    let conn = open(&it.files[1]);
    conn.execute_batch(
        "PRAGMA foreign_keys = ON; BEGIN; INSERT INTO kids VALUES (1, 600); INSERT INTO items(id, name, code) VALUES (600, 'x', 'c'); COMMIT",
    )
    .unwrap();
    let row = "SELECT state, length(added), qty, (SELECT seq FROM sqlite_sequence) FROM items";
    assert_eq!(query(&it.files[1], row), ["Text(\"\") Integer(19) Integer(-1) Integer(600)"]);
    let index = "SELECT name, \"desc\", coll FROM pragma_index_xinfo('by_name') WHERE key";
    assert_eq!(
        query(&it.files[1], index),
        ["Text(\"name\") Integer(1) Text(\"NOCASE\")", "Text(\"qty\") Integer(0) Text(\"BINARY\")"]
    );
    assert_eq!(query(&it.files[1], "PRAGMA user_version"), ["Integer(7)"]);
    assert_eq!(query(&it.files[1], "PRAGMA application_id"), ["Integer(77)"]);
    it.sync_both();
    it.same("SELECT id, name, state, qty FROM items");
}

#[test]
fn a_made_table_has_the_foreign_keys_whose_parents_are_there_and_gets_others_once_they_are() {
    let it = Pair::new(
        "WAL",
        "CREATE TABLE never(x TEXT UNIQUE); CREATE TABLE later(id INTEGER PRIMARY KEY, other TEXT);
         CREATE TABLE kids(id INTEGER PRIMARY KEY, p INTEGER REFERENCES later(id) ON DELETE CASCADE, o TEXT REFERENCES later(other),
           n TEXT REFERENCES never(x))",
    );
    let track = |table: &str| it.devices[0].must(["track", it.path(0), table, "--as", "app"]);
    track("kids");
    sql(&it.files[0], "PRAGMA foreign_keys = OFF; INSERT INTO kids VALUES (1, NULL, NULL, NULL)");
    it.sync(0);
    std::fs::remove_file(&it.files[1]).unwrap();
    let said = it.devices[1].run(["clone", "app", it.path(1)]);
    assert!(said.err.contains("foreign key to never, later, later"), "{said}");
    let written = |sql: &str| {
        let conn = open(&it.files[1]);
        conn.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        conn.execute_batch(sql)
    };
    written("INSERT INTO kids VALUES (2, NULL, NULL, NULL)").expect("no parent is missed");
    track("later");
    sql(&it.files[0], "PRAGMA foreign_keys = OFF; INSERT INTO later VALUES (7, 'seven')");
    it.sync_both();
    let foreign = "SELECT \"table\", \"from\", on_delete FROM pragma_foreign_key_list('kids')";
    for file in [&it.files[1], &it.server.file("app")] {
        assert_eq!(query(file, foreign), ["Text(\"later\") Text(\"p\") Text(\"CASCADE\")"]);
    }
    written("INSERT INTO kids VALUES (3, 7, NULL, NULL); DELETE FROM later").expect("it cascades");
    assert!(written("INSERT INTO kids VALUES (4, 8, NULL, NULL)").is_err());
    it.sync_both();
    assert_eq!(it.same("SELECT id FROM kids"), ["Integer(1)", "Integer(2)"]);
    assert_eq!(query(&it.files[1], "PRAGMA integrity_check"), ["Text(\"ok\")"]);
}

#[test]
fn redundant_constraints_and_partial_indexes_stop_nothing() {
    let it = Pair::cloned(
        "CREATE TABLE p(x TEXT PRIMARY KEY); CREATE TABLE q(y TEXT PRIMARY KEY);
         CREATE TABLE users(id TEXT PRIMARY KEY, email TEXT UNIQUE, p REFERENCES p(x) REFERENCES q(y) REFERENCES p(x), kind TEXT, data TEXT);
         CREATE UNIQUE INDEX ix ON users(email); CREATE UNIQUE INDEX ix2 ON users(email COLLATE NOCASE);
         CREATE UNIQUE INDEX j ON users(json_extract(data, '$.k')) WHERE kind = 'json';",
    );
    sql(
        &it.files[0],
        "INSERT INTO users VALUES ('1', 'a@b', NULL, 'words', 'no json'), ('2', 'c', NULL, 'json', '{\"k\":1}')",
    );
    it.sync_both();
    assert_eq!(it.same("SELECT id, email, data FROM users ORDER BY id").len(), 2);
    let conn = open(&it.files[1]);
    conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    let again = conn.execute("INSERT INTO users(id, email) VALUES ('3', 'A@B')", []);
    assert!(again.expect_err("UNIQUE travels").to_string().contains("UNIQUE"));
    let foreign = "SELECT \"table\", \"to\" FROM pragma_foreign_key_list('users') ORDER BY 1";
    assert_eq!(query(&it.files[1], foreign), ["Text(\"p\") Text(\"x\")", "Text(\"q\") Text(\"y\")"]);
}
