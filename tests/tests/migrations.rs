//! Migrations: whatever an application does to its schema, rows stay what they are on every machine.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{query, sql};
use piecewise_tests::pair::{Pair, wait_for};

const TODOS: &str = "CREATE TABLE todos(id TEXT PRIMARY KEY, a TEXT, b TEXT);";
const ROWS: &str = "INSERT INTO todos VALUES ('1', 'a1', 'b1'), ('2', 'a2', 'b2')";

#[test]
fn a_column_dropped_while_another_is_added_does_not_take_its_neighbour_s_place() {
    let it = Pair::cloned(TODOS);
    sql(&it.files[0], ROWS);
    it.sync_both();
    sql(
        &it.files[0],
        "ALTER TABLE todos DROP COLUMN a; ALTER TABLE todos ADD COLUMN c TEXT;
         UPDATE todos SET c = 'c1' WHERE id = '1'",
    );
    it.sync_both();
    let all = "SELECT id, b, c FROM todos ORDER BY id";
    assert_eq!(it.same(all), ["Text(\"1\") Text(\"b1\") Text(\"c1\")", "Text(\"2\") Text(\"b2\") Null"]);
    assert_eq!(query(&it.files[1], "SELECT a FROM todos ORDER BY id"), ["Text(\"a1\")", "Text(\"a2\")"]);
}

#[test]
fn a_column_added_by_alter_table_reaches_the_server_and_clones() {
    let it = Pair::cloned(TODOS);
    sql(&it.files[0], ROWS);
    it.sync_both();
    let watching = [0, 1].map(|n| it.devices[n].watch(&it.files[n]));
    sql(
        &it.files[0],
        "ALTER TABLE todos ADD COLUMN due TEXT DEFAULT 'never'; UPDATE todos SET due = 'today' WHERE id = '1'",
    );
    // Others have the column once it came; until then they have no such thing to ask for.
    let column = "SELECT count(*) FROM pragma_table_info('todos') WHERE name = 'due'";
    for file in [&it.files[1], &it.server.file("app")] {
        wait_for(file, column, &["Integer(1)"]);
        wait_for(file, "SELECT due FROM todos ORDER BY id", &["Text(\"today\")", "Text(\"never\")"]);
    }
    watching.into_iter().for_each(|w| assert_eq!(w.stop(), 0));
}

#[test]
fn a_column_renamed_on_one_machine_keeps_its_values_on_both() {
    let it = Pair::cloned(TODOS);
    sql(&it.files[0], ROWS);
    it.sync_both();
    sql(
        &it.files[0],
        "ALTER TABLE todos RENAME COLUMN a TO title; UPDATE todos SET title = 'new' WHERE id = '1'",
    );
    sql(&it.files[1], "UPDATE todos SET a = 'old name' WHERE id = '2'");
    it.sync_both();
    let expected = ["Text(\"new\") Text(\"b1\")", "Text(\"old name\") Text(\"b2\")"];
    assert_eq!(query(&it.files[0], "SELECT title, b FROM todos ORDER BY id"), expected);
    assert_eq!(query(&it.files[1], "SELECT a, b FROM todos ORDER BY id"), expected);
}

#[test]
fn a_table_dropped_while_it_is_watched_deletes_nothing_and_comes_back_when_made_anew() {
    let it = Pair::cloned(TODOS);
    sql(&it.files[0], ROWS);
    it.sync_both();
    let watch = it.devices[0].watch(&it.files[0]);
    sql(&it.files[0], "DROP TABLE todos");
    sql(&it.server.file("app"), "UPDATE todos SET b = 'meanwhile' WHERE id = '2'");
    watch.next_level();
    sql(&it.files[0], TODOS);
    let all = "SELECT * FROM todos ORDER BY id";
    let expected = ["Text(\"1\") Text(\"a1\") Text(\"b1\")", "Text(\"2\") Text(\"a2\") Text(\"meanwhile\")"];
    wait_for(&it.files[0], all, &expected);
    assert_eq!(watch.stop(), 0);
    it.sync_both();
    assert_eq!(it.same(all), expected);
}

#[test]
fn a_file_put_in_place_of_a_watched_one_is_noticed() {
    let it = Pair::cloned(TODOS);
    sql(&it.files[0], ROWS);
    it.sync(0);
    let backup = it.folder.path().join("backup.db");
    sql(&it.files[0], &format!("VACUUM INTO '{}'", backup.display()));
    let watch = it.devices[0].watch(&it.files[0]);
    sql(&it.files[0], "INSERT INTO todos VALUES ('3', 'after', 'the backup')");
    wait_for(&it.server.file("app"), "SELECT count(*) FROM todos", &["Integer(3)"]);
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{ending}", it.path(0)));
    }
    std::fs::rename(&backup, &it.files[0]).unwrap();
    wait_for(&it.files[0], "SELECT count(*) FROM todos", &["Integer(3)"]);
    sql(&it.files[0], "INSERT INTO todos VALUES ('4', 'after', 'the restore')");
    wait_for(&it.server.file("app"), "SELECT count(*) FROM todos", &["Integer(4)"]);
    assert_eq!(watch.stop(), 0);
}
