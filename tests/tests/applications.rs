//! Unmodified applications: the sqlite3 shell, Python, an ORM, and migrations, while
//! `watch` runs in another process.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use automerge::{Automerge, ROOT, ReadDoc as _};
use piecewise_tests::data::{open, query, sql};
use piecewise_tests::pair::{Pair, wait_for};
use piecewise_tests::process::{Server, text};
use std::path::Path;
use std::process::Command;

const TODOS: &str =
    "CREATE TABLE todos(id TEXT PRIMARY KEY, title TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0);";

fn program(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

fn rows_of_any_program_travel_live(journal_mode: &str) {
    let it = Pair::new(journal_mode, TODOS);
    it.track(0);
    it.track(1);
    let _watching = [0, 1].map(|n| it.devices[n].watch(&it.files[n]));
    program(
        "sqlite3",
        &[it.path(0), "PRAGMA busy_timeout = 10000", "INSERT INTO todos VALUES ('1', 'from the shell', 0)"],
    );
    wait_for(&it.files[1], "SELECT title FROM todos", &["Text(\"from the shell\")"]);
    let python = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=10)
with db:
    db.execute('UPDATE todos SET done = 1 WHERE id = ?', ('1',))
    db.executemany('INSERT INTO todos(id, title) VALUES (?, ?)', [(str(n), 'from Python') for n in range(2, 50)])
";
    program("python3", &["-c", python, it.path(1)]);
    wait_for(&it.files[0], "SELECT count(*), sum(done) FROM todos", &["Integer(49) Integer(1)"]);
    wait_for(&it.server.file("app"), "SELECT count(*) FROM todos", &["Integer(49)"]);
    program(
        "sqlite3",
        &[
            it.server.file("app").to_str().unwrap(),
            "PRAGMA busy_timeout = 10000",
            "DELETE FROM todos WHERE id > '2'",
        ],
    );
    wait_for(&it.files[0], "SELECT count(*) FROM todos", &["Integer(12)"]);
    wait_for(&it.files[1], "SELECT count(*) FROM todos", &["Integer(12)"]);
}

#[test]
fn rows_of_any_program_travel_live_in_wal_mode() {
    rows_of_any_program_travel_live("WAL");
}

#[test]
fn rows_of_any_program_travel_live_with_a_rollback_journal() {
    rows_of_any_program_travel_live("DELETE");
}

/// One step of an application on SQLAlchemy.
fn orm(file: &str, step: &str) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = tests.join("../target/python/bin/python");
    assert!(python.exists(), "{} is not there; run `make setup`", python.display());
    program(python.to_str().unwrap(), &[tests.join("tests/orm.py").to_str().unwrap(), file, step]);
}

/// Some days of a shop that lets SQLite number its rows: on SQLAlchemy, or on Knex.
fn shop(orm: &str, file: &str, kind: &str, seed: u64, days: u64) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (program_name, script) = match orm {
        "SQLAlchemy" => (tests.join("../target/python/bin/python"), "tests/shop.py"),
        _ => (Path::new("node").to_owned(), "tests/shop.mjs"),
    };
    let (seed, days) = (seed.to_string(), days.to_string());
    program(
        program_name.to_str().unwrap(),
        &[tests.join(script).to_str().unwrap(), file, kind, &seed, &days],
    );
}

#[test]
fn sqlalchemy_on_two_machines_that_are_offline_for_a_week_keeps_every_order_with_its_customer() {
    orms_for_a_week(["SQLAlchemy"; 2]);
}

#[test]
fn knex_on_two_machines_that_are_offline_for_a_week_keeps_every_order_with_its_customer() {
    orms_for_a_week(["Knex"; 2]);
}

fn orms_for_a_week(orms: [&str; 2]) {
    for kind in ["plain", "autoincrement"] {
        // What Knex runs on knows no WAL.
        let it = Pair::new(if orms.contains(&"Knex") { "DELETE" } else { "WAL" }, "");
        for (n, orm) in orms.iter().enumerate() {
            shop(orm, it.path(n), kind, 0, 0);
            it.track(n);
            it.sync(n);
        }
        // One syncs most days, the other after four and after seven.
        for (n, seed, days, syncs) in [
            (0, 1, 2, true),
            (1, 2, 4, true),
            (0, 3, 1, true),
            (0, 4, 4, false),
            (1, 5, 3, true),
            (0, 6, 0, true),
        ] {
            shop(orms[n], it.path(n), kind, seed, days);
            if syncs {
                it.sync(n);
            }
        }
        it.sync_both();
        let stray = "SELECT o.name, c.name FROM orders o LEFT JOIN customers c ON c.id = customer_id WHERE c.name IS NOT o.of
            UNION ALL SELECT l.of, o.name FROM lines l LEFT JOIN orders o ON o.id = order_id WHERE o.name IS NOT l.of";
        assert_eq!(it.same(stray), [""; 0], "{kind}");
        it.same("SELECT * FROM lines ORDER BY order_id, n");
        let names = it.same("SELECT count(*) = count(DISTINCT name), count(*) > 20 FROM customers");
        assert_eq!(names, ["Integer(1) Integer(1)"]);
        let moved = [0, 1].map(|n| query(&it.files[n], "SELECT count(*) > 0 FROM piecewise_renumbered"));
        // Who has blocks of numbers from the first day on gives none out twice.
        let any_moved = moved.concat().contains(&"Integer(1)".to_owned());
        assert_eq!(any_moved, kind == "plain", "{kind}");
        for n in 0..2 {
            assert_eq!(it.devices[n].json(&["conflicts", it.path(n)]).as_array().map(Vec::len), Some(0));
            assert_eq!(it.devices[n].json(&["held", it.path(n)]).as_array().map(Vec::len), Some(0));
        }
    }
}

#[test]
fn an_orm_writes_as_before_while_watch_runs() {
    let it = Pair::new("WAL", "");
    orm(it.path(0), "create");
    it.track(0);
    it.sync(0);
    std::fs::remove_file(&it.files[1]).unwrap();
    it.devices[1].must(["clone", "app", it.path(1)]);
    let watching = [0, 1].map(|n| it.devices[n].watch(&it.files[n]));
    orm(it.path(0), "write");
    wait_for(&it.files[1], "SELECT count(*) FROM tasks", &["Integer(21)"]);
    orm(it.path(1), "edit");
    wait_for(&it.files[0], "SELECT title FROM tasks WHERE id = 'a2'", &["Text(\"written again\")"]);
    wait_for(
        &it.files[0],
        "SELECT state, owner_id FROM tasks WHERE id = 'a0'",
        &["Text(\"DONE\") Text(\"bob\")"],
    );
    wait_for(
        &it.files[0],
        "SELECT settings FROM people WHERE id = 'ann'",
        &[r#"Text("{\"theme\": \"dark\", \"size\": 12}")"#],
    );
    orm(it.path(0), "leave");
    for file in [&it.files[1], &it.server.file("app")] {
        wait_for(file, "SELECT id FROM people", &["Text(\"ann\")"]);
        wait_for(
            file,
            "SELECT count(*), min(due) FROM tasks",
            &["Integer(18) Text(\"2026-01-03 00:00:00.000000\")"],
        );
    }
    watching.into_iter().for_each(|w| assert_eq!(w.stop(), 0));
}

#[test]
fn watch_goes_on_after_the_server_was_away() {
    let it = Pair::new("WAL", TODOS);
    it.track(0);
    let watch = it.devices[0].watch(&it.files[0]);
    let (data, listen) = (it.server.data.clone(), it.server.listen.clone());
    it.server.kill();
    watch.wait_for_error("trying again");
    sql(&it.files[0], "INSERT INTO todos(id, title) VALUES ('1', 'written offline')");
    let server = Server::start_at(&data, &listen, &[]);
    wait_for(&server.file("app"), "SELECT title FROM todos", &["Text(\"written offline\")"]);
    assert_eq!(watch.stop(), 0);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_migration_that_rebuilds_the_table_loses_no_change_and_no_tracking() {
    let it = Pair::new("WAL", TODOS);
    it.track(0);
    it.track(1);
    sql(&it.files[0], "INSERT INTO todos(id, title) VALUES ('1', 'one'), ('2', 'two')");
    it.sync(0);
    it.sync(1);
    // As Django and Alembic do it, with writes before and after in the same transaction.
    sql(
        &it.files[0],
        "BEGIN;
         UPDATE todos SET title = 'ONE' WHERE id = '1';
         CREATE TABLE new_todos(id TEXT PRIMARY KEY, title TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0, due TEXT);
         INSERT INTO new_todos(id, title, done) SELECT id, title, done FROM todos;
         DROP TABLE todos;
         ALTER TABLE new_todos RENAME TO todos;
         UPDATE todos SET due = 'today' WHERE id = '2';
         INSERT INTO todos(id, title) VALUES ('3', 'three');
         COMMIT",
    );
    sql(&it.files[1], "UPDATE todos SET done = 1 WHERE id = '2'");
    it.sync(0);
    it.sync(1);
    it.sync(0);
    let all = "SELECT id, title, done FROM todos ORDER BY id";
    let expected = [
        "Text(\"1\") Text(\"ONE\") Integer(0)",
        "Text(\"2\") Text(\"two\") Integer(1)",
        "Text(\"3\") Text(\"three\") Integer(0)",
    ];
    for n in [0, 1] {
        assert_eq!(query(&it.files[n], all), expected, "file {n}");
    }
    // The other application has not migrated yet; its file gets the column's values once it has.
    sql(&it.files[1], "ALTER TABLE todos ADD COLUMN due TEXT");
    it.sync(1);
    assert_eq!(query(&it.files[1], "SELECT due FROM todos WHERE id = '2'"), ["Text(\"today\")"]);
    sql(&it.files[0], "UPDATE todos SET title = 'still tracked' WHERE id = '3'");
    it.sync(0);
    it.sync(1);
    assert_eq!(query(&it.files[1], "SELECT title FROM todos WHERE id = '3'"), ["Text(\"still tracked\")"]);
}

#[test]
fn writes_without_triggers_are_found_by_comparing() {
    let it = Pair::new("WAL", TODOS);
    it.track(0);
    sql(&it.files[0], &format!("INSERT INTO todos(id, title) VALUES {}", values(100)));
    it.sync(0);
    let triggers = query(&it.files[0], "SELECT name FROM sqlite_master WHERE type = 'trigger'");
    assert!(!triggers.is_empty());
    for trigger in triggers {
        let name = trigger.trim_start_matches("Text(\"").trim_end_matches("\")");
        sql(&it.files[0], &format!("DROP TRIGGER \"{name}\""));
    }
    sql(&it.files[0], "UPDATE todos SET title = 'unseen' WHERE id = 'k7'; DELETE FROM todos WHERE id = 'k8'");
    it.sync(0);
    let server = it.server.file("app");
    assert_eq!(query(&server, "SELECT count(*) FROM todos"), ["Integer(99)"]);
    assert_eq!(query(&server, "SELECT title FROM todos WHERE id = 'k7'"), ["Text(\"unseen\")"]);
}

fn values(n: usize) -> String {
    (1..=n).map(|n| format!("('k{n}', 'title {n}')")).collect::<Vec<_>>().join(", ")
}

#[test]
fn untrack_leaves_the_schema_byte_for_byte_as_it_was() {
    let schema = "
        CREATE TABLE a(id INTEGER PRIMARY KEY, v TEXT DEFAULT 'x', w AS (length(v)));
        CREATE TABLE b(x, y, PRIMARY KEY (x, y)) WITHOUT ROWID;
        CREATE INDEX a_v ON a(v);
        CREATE VIEW all_a AS SELECT * FROM a;
        CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET v = upper(v) WHERE id = new.id; END;";
    let it = Pair::new("WAL", schema);
    let all = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2";
    let before = query(&it.files[0], all);
    sql(&it.files[0], "INSERT INTO a(v) VALUES ('one'); INSERT INTO b VALUES (1, 2)");
    it.track(0);
    it.sync(0);
    assert_ne!(query(&it.files[0], all), before);
    it.devices[0].must(["untrack", it.path(0), "--all"]);
    assert_eq!(query(&it.files[0], all), before);
    assert_eq!(query(&it.files[0], "SELECT v FROM a"), ["Text(\"ONE\")"]);
}

#[test]
fn tables_made_on_one_machine_come_to_a_clone_by_themselves() {
    let it = Pair::new("WAL", TODOS);
    it.track(0);
    it.sync(0);
    let clone = it.files[1].with_file_name("clone.db");
    let path = clone.to_str().expect("text");
    it.devices[1].must(["clone", "app", path]);
    sql(
        &it.files[0],
        "CREATE TABLE tags(name TEXT PRIMARY KEY, colour TEXT DEFAULT 'grey'); INSERT INTO tags(name) VALUES ('home')",
    );
    it.track(0);
    it.sync(0);
    it.devices[1].must(["sync", path]);
    assert_eq!(query(&clone, "SELECT * FROM tags"), ["Text(\"home\") Text(\"grey\")"]);
    open(&clone).execute("INSERT INTO tags VALUES ('work', 'red')", []).expect("a row");
    it.devices[1].must(["sync", path]);
    it.sync(0);
    assert_eq!(query(&it.files[0], "SELECT count(*) FROM tags"), ["Integer(2)"]);
}

#[test]
fn a_row_can_be_taken_along_as_an_automerge_document() {
    let it = Pair::cloned("CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, body TEXT);");
    sql(&it.files[0], "INSERT INTO notes VALUES (1, 'a', 'one'), (2, 'x', 'y')");
    it.sync_both();
    sql(&it.files[0], "UPDATE notes SET title = 'b' WHERE id = 1");
    sql(&it.files[1], "UPDATE notes SET body = 'two' WHERE id = 1");
    it.sync_both();
    let new = it.folder.path().join("row.automerge");
    let run = |key: &str| it.devices[1].run(["history", it.path(1), "notes", key, "--automerge", text(&new)]);
    assert_eq!(run("1").code, 0);
    let document = Automerge::load(&std::fs::read(&new).unwrap()).unwrap();
    let value = |name| document.get(ROOT, name).unwrap().unwrap().0.as_str().unwrap().to_owned();
    assert_eq!((value("title"), value("body")), ("b".to_owned(), "two".to_owned()));
    assert_eq!(document.get_changes(&[]).len(), 3);
    let (again, absent) = (run("1"), run("7"));
    assert_eq!(again.code, 5, "{}", again.err);
    assert!(again.err.contains("name a file that is not there yet"), "{}", again.err);
    assert_eq!(absent.code, 1, "{}", absent.err);
}
