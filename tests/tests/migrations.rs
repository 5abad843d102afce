//! Migrations: whatever an application does to its schema, rows stay what they are on every machine.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_core::replica::{Follow, TrackOptions};
use piecewise_tests::data::{query, sql};
use piecewise_tests::network::Network;
use piecewise_tests::pair::{Pair, wait_for};
use piecewise_tests::rng::Rng;

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

const T: &str = "CREATE TABLE t(id TEXT PRIMARY KEY, title TEXT, note TEXT);";
const T_ROWS: &str = "INSERT INTO t VALUES ('1', 'one', 'n1'), ('9', 'nine', 'n9')";

/// A server, a device that tracks a table with rows, and a second one with the same.
fn two_devices(schema: &str, rows: &str) -> Network {
    let mut net = Network::new(5, 2, schema, &TrackOptions::default());
    net.run(1, rows);
    net.sync_all();
    net.wait(60_000);
    net
}

/// The rows of `t` on a device, and those of the server by the keys in documents that the device's columns have.
fn rows_here_and_there(net: &mut Network, n: usize) -> (Vec<String>, Vec<String>) {
    let columns = "SELECT columns FROM piecewise_containers WHERE table_name = 't'";
    let columns = net.query(n, columns)[0].clone();
    let text = columns.trim_start_matches("Text(\"").trim_end_matches("\")");
    let bound = text.split("\\u{1e}").map(|line| line.split("\\u{1f}").take(2).collect::<Vec<_>>());
    // Generated columns are not at the server.
    let there = net.query(0, "SELECT name FROM pragma_table_info('t')");
    let is_there = |b: &Vec<&str>| !b[0].is_empty() && there.contains(&format!("Text(\"{}\")", b[1]));
    let bound: Vec<_> = bound.filter(is_there).collect();
    // A type that changed here is still the old one there.
    let list = |at: usize| {
        bound.iter().map(|b| format!("CAST(\"{}\" AS TEXT)", b[at])).collect::<Vec<_>>().join(", ")
    };
    let here = net.query(n, &format!("SELECT {} FROM t ORDER BY 1", list(0)));
    (here, net.query(0, &format!("SELECT {} FROM t ORDER BY 1", list(1))))
}

#[test]
fn whatever_becomes_of_columns_no_value_in_the_table_changes_and_the_server_has_them_all() {
    let anew = |columns: &str, select: &str| {
        format!(
            "BEGIN; CREATE TABLE n({columns}); INSERT INTO n SELECT {select} FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT;"
        )
    };
    for (change, after) in [
        ("ALTER TABLE t RENAME title TO name; ALTER TABLE t ADD weight REAL".to_owned(), "UPDATE t SET name = 'uno', weight = 2 WHERE id = '1'"),
        ("ALTER TABLE t RENAME title TO name; ALTER TABLE t DROP note".to_owned(), "UPDATE t SET name = 'uno' WHERE id = '1'"),
        ("ALTER TABLE t DROP note; ALTER TABLE t ADD note TEXT".to_owned(), "UPDATE t SET note = 'again' WHERE id = '1'"),
        ("ALTER TABLE t DROP title; ALTER TABLE t ADD title TEXT DEFAULT 'three'".to_owned(), "UPDATE t SET title = 'four' WHERE id = '1'"),
        ("ALTER TABLE t RENAME title TO old; ALTER TABLE t ADD title INTEGER; UPDATE t SET title = length(old)".to_owned(), "UPDATE t SET title = 7"),
        ("ALTER TABLE t DROP note; ALTER TABLE t ADD priority INTEGER".to_owned(), "UPDATE t SET priority = 5 WHERE id = '1'"),
        (
            "ALTER TABLE t RENAME title TO x; ALTER TABLE t RENAME note TO title; ALTER TABLE t RENAME x TO note".to_owned(),
            "UPDATE t SET title = 'n2' WHERE id = '1'",
        ),
        ("ALTER TABLE t DROP title; ALTER TABLE t RENAME note TO title".to_owned(), "UPDATE t SET title = 'n2' WHERE id = '1'"),
        (anew("id TEXT PRIMARY KEY, note TEXT, title TEXT", "id, note, title"), "UPDATE t SET title = 'uno' WHERE id = '1'"),
        (anew("id TEXT PRIMARY KEY, name TEXT NOT NULL, n INTEGER, note TEXT DEFAULT 'none'", "id, title, length(title), NULL"), "UPDATE t SET n = 0"),
        (anew("id TEXT PRIMARY KEY, title TEXT, note TEXT, low TEXT AS (lower(title))", "id, upper(title), note"), "SELECT 1"),
        (anew("title TEXT, note TEXT, id TEXT, PRIMARY KEY (id)", "title, note, id").replace("(id));", "(id)) WITHOUT ROWID;"), "SELECT 1"),
    ] {
        for both in [false, true] {
            let mut net = two_devices(T, T_ROWS);
            net.run(2, "UPDATE t SET note = 'n1 of the second' WHERE id = '1'");
            for n in if both { vec![1, 2] } else { vec![1] } {
                net.run(n, &change);
            }
            let before = net.query(1, "SELECT * FROM t ORDER BY id");
            net.capture(1);
            assert_eq!(net.query(1, "SELECT * FROM t ORDER BY id"), before, "{change}");
            net.run(1, after);
            net.sync_all();
            net.sync_all();
            for n in 1..=2 {
                let (here, there) = rows_here_and_there(&mut net, n);
                assert_eq!(here, there, "{change} on device {n}");
            }
            if both {
                let all = net.query(1, "SELECT * FROM t ORDER BY id");
                assert_eq!(net.query(2, "SELECT * FROM t ORDER BY id"), all, "{change} on both");
            }
        }
    }
}

#[test]
fn a_name_that_is_given_on_to_another_column_moves_no_value_on_other_devices() {
    let schema = "CREATE TABLE t(id TEXT PRIMARY KEY, title TEXT, note TEXT)";
    let rows = "INSERT INTO t VALUES ('1', 'one', 'n1'), ('2', 'two', 'n2')";
    for first in ["ALTER TABLE t DROP title", "ALTER TABLE t RENAME title TO old"] {
        for column in ["note TEXT", "note TEXT NOT NULL DEFAULT ''", "note INTEGER DEFAULT 7"] {
            let mut net = two_devices(schema, rows);
            net.run(1, &format!("{first}; ALTER TABLE t RENAME note TO title; ALTER TABLE t ADD {column}"));
            let before = net.query(1, "SELECT * FROM t ORDER BY id");
            net.sync_all();
            net.sync_all();
            assert_eq!(net.query(1, "SELECT * FROM t ORDER BY id"), before, "{first}, {column}");
            let there = net.query(2, "SELECT title, note FROM t ORDER BY id");
            let expected = ["Text(\"one\") Text(\"n1\")", "Text(\"two\") Text(\"n2\")"];
            assert_eq!(there, expected, "{first}, {column}");
        }
    }
}

/// Rows with one value in two columns speak for either: those that differ tell which is which.
#[test]
fn columns_that_are_alike_in_most_rows_are_told_apart_by_the_others() {
    let schema = "CREATE TABLE t(id TEXT PRIMARY KEY, title TEXT, note TEXT)";
    for alike in ["''", "'free'", "0"] {
        for change in [
            "ALTER TABLE t DROP title; ALTER TABLE t RENAME note TO title",
            "ALTER TABLE t RENAME title TO x; ALTER TABLE t RENAME note TO title; ALTER TABLE t RENAME x TO note",
            "ALTER TABLE t RENAME title TO old; ALTER TABLE t RENAME note TO title",
            "ALTER TABLE t RENAME title TO old; ALTER TABLE t RENAME note TO title; ALTER TABLE t ADD note TEXT",
        ] {
            for count in [4, 5, 8] {
                let row = |n: i32| match n < count {
                    true => format!("('{n}', {alike}, {alike})"),
                    false => format!("('{n}', 'title{n}', 'note{n}')"),
                };
                let rows: Vec<_> = (0..10).map(row).collect();
                let mut net = two_devices(schema, &format!("INSERT INTO t VALUES {}", rows.join(", ")));
                let before = net.query(2, "SELECT id, title, note FROM t ORDER BY id");
                net.run(1, change);
                let here = net.query(1, "SELECT * FROM t ORDER BY id");
                net.sync_all();
                net.sync_all();
                assert_eq!(net.query(1, "SELECT * FROM t ORDER BY id"), here, "{change}, {count} of {alike}");
                let there = net.query(2, "SELECT id, title, note FROM t ORDER BY id");
                assert_eq!(there, before, "{change}, {count} of {alike}");
            }
        }
    }
}

/// A column that was dropped and added again is another one, whatever its default; other devices keep the old one's values.
#[test]
fn a_column_that_was_dropped_and_added_again_takes_no_value_from_other_devices() {
    for column in
        ["title TEXT", "title TEXT DEFAULT 'x'", "title INTEGER DEFAULT 7", "title TEXT NOT NULL DEFAULT ''"]
    {
        let schema = "CREATE TABLE t(id TEXT PRIMARY KEY, title TEXT, note TEXT)";
        let mut net = two_devices(schema, "INSERT INTO t VALUES ('1', 'one', 'n1'), ('2', 'two', 'n2')");
        net.run(1, &format!("ALTER TABLE t DROP title; ALTER TABLE t ADD {column}"));
        let here = net.query(1, "SELECT * FROM t ORDER BY id");
        net.sync_all();
        net.sync_all();
        assert_eq!(net.query(1, "SELECT * FROM t ORDER BY id"), here, "{column}");
        let there = net.query(2, "SELECT title, note FROM t ORDER BY id");
        assert_eq!(there, ["Text(\"one\") Text(\"n1\")", "Text(\"two\") Text(\"n2\")"], "{column}");
        net.run(1, "UPDATE t SET note = 'more' WHERE id = '1'");
        net.sync_all();
        assert_eq!(net.query(2, "SELECT note FROM t WHERE id = '1'"), ["Text(\"more\")"], "{column}");
    }
}

#[test]
fn a_column_that_was_dropped_stays_away_and_one_of_its_name_is_another() {
    let mut net = two_devices(T, T_ROWS);
    let clone = net.add_machine("", Follow::All);
    net.sync(clone);
    net.run(clone, "ALTER TABLE t DROP note");
    net.run(1, "ALTER TABLE t ADD due TEXT; UPDATE t SET due = 'today'");
    net.sync_all();
    let names = "SELECT group_concat(name) FROM pragma_table_info('t')";
    assert_eq!(net.query(clone, names), ["Text(\"id,title,due\")"]);
    net.run(clone, "ALTER TABLE t ADD note TEXT DEFAULT 'fresh'; UPDATE t SET note = 'mine' WHERE id = '1'");
    net.sync_all();
    assert_eq!(net.query(clone, "SELECT note FROM t ORDER BY id"), ["Text(\"mine\")", "Text(\"fresh\")"]);
    let there = net.query(0, "SELECT note, \"note (2)\" FROM t ORDER BY id");
    assert_eq!(there, ["Text(\"n1\") Text(\"mine\")", "Text(\"n9\") Text(\"fresh\")"]);
}

#[test]
fn a_table_made_anew_with_other_columns_deletes_no_row_of_the_old_one() {
    let mut net =
        two_devices("CREATE TABLE t(id TEXT PRIMARY KEY, v TEXT);", "INSERT INTO t VALUES ('1', 'x')");
    net.run(
        1,
        "DROP TABLE t; CREATE TABLE t(id TEXT PRIMARY KEY, other INTEGER); INSERT INTO t VALUES ('5', 5)",
    );
    net.sync_all();
    assert_eq!(net.query(1, "SELECT id FROM t ORDER BY id"), ["Text(\"1\")", "Text(\"5\")"]);
    assert_eq!(
        net.query(0, "SELECT id, v, other FROM t ORDER BY id"),
        ["Text(\"1\") Text(\"x\") Null", "Text(\"5\") Null Integer(5)"]
    );
}

#[test]
fn a_clone_that_renames_a_column_does_not_get_the_old_one_again() {
    let mut net = two_devices(T, T_ROWS);
    let clone = net.add_machine("", Follow::All);
    net.sync(clone);
    net.run(clone, "ALTER TABLE t RENAME title TO name");
    net.run(1, "ALTER TABLE t ADD due TEXT; UPDATE t SET title = 'uno' WHERE id = '1'");
    net.sync_all();
    assert_eq!(
        net.query(clone, "SELECT group_concat(name) FROM pragma_table_info('t')"),
        ["Text(\"id,name,note,due\")"]
    );
    assert_eq!(net.query(clone, "SELECT name FROM t ORDER BY id"), ["Text(\"uno\")", "Text(\"nine\")"]);
}

#[test]
fn what_was_written_while_a_table_had_another_name_and_what_came_meanwhile_both_stay() {
    let mut net = two_devices(
        T,
        "INSERT INTO t VALUES ('1', 'one', 'n1'), ('2', 'two', 'n2'), ('3', 'three', 'n3'), ('4', 'four', 'n4')",
    );
    net.run(1, "ALTER TABLE t RENAME TO u");
    net.capture(1);
    net.run(1, "INSERT INTO u VALUES ('5', 'here', 'n5'); UPDATE u SET title = 'uno' WHERE id = '1'; DELETE FROM u WHERE id = '4'");
    net.run(
        2,
        "INSERT INTO t VALUES ('6', 'there', 'n6'); UPDATE t SET note = 'other' WHERE id IN ('1', '2')",
    );
    net.sync_all();
    net.run(1, "UPDATE u SET title = 'due' WHERE id = '2'");
    net.stop(1);
    net.run(1, "ALTER TABLE u RENAME TO t");
    net.sync_all();
    net.check_same("SELECT * FROM t ORDER BY id");
    let expected = [
        "Text(\"1\") Text(\"uno\") Text(\"other\")",
        "Text(\"2\") Text(\"due\") Text(\"other\")",
        "Text(\"3\") Text(\"three\") Text(\"n3\")",
        "Text(\"5\") Text(\"here\") Text(\"n5\")",
        "Text(\"6\") Text(\"there\") Text(\"n6\")",
    ];
    assert_eq!(net.query(1, "SELECT * FROM t ORDER BY id"), expected);
    net.run(1, "UPDATE t SET title = 'later' WHERE id = '3'");
    net.sync_all();
    net.check_same("SELECT * FROM t ORDER BY id");
}

#[test]
fn a_row_that_is_held_takes_part_in_a_migration() {
    let mut net = two_devices(
        "CREATE TABLE t(id TEXT PRIMARY KEY, title TEXT UNIQUE, note TEXT);",
        "INSERT INTO t VALUES ('1', 'one', 'n1')",
    );
    net.run(1, "INSERT INTO t VALUES ('a', 'same', 'first')");
    net.sync(1);
    net.wait(60_000);
    net.run(2, "INSERT INTO t VALUES ('b', 'same', 'second')");
    net.sync_all();
    assert_eq!(net.replica(1).attention().unwrap().held, 1);
    net.run(1, "ALTER TABLE t RENAME title TO name; ALTER TABLE t ADD extra TEXT");
    net.capture(1);
    assert_eq!(net.replica(1).attention().unwrap().held, 1);
    net.run(1, "UPDATE t SET name = 'another' WHERE id = 'a'");
    net.sync_all();
    assert_eq!(net.replica(1).attention().unwrap().held, 0);
    assert_eq!(rows_here_and_there(&mut net, 1).0.len(), 3);
}

#[test]
fn a_row_that_is_inserted_over_a_held_one_after_a_migration_is_in_conflict_with_it() {
    let schema = "CREATE TABLE p(id TEXT PRIMARY KEY); CREATE TABLE t(id TEXT PRIMARY KEY, v TEXT, f TEXT REFERENCES p(id)); CREATE UNIQUE INDEX u ON t(f) WHERE f <> 'two'";
    for (migrations, insert) in [
        (&["ALTER TABLE t RENAME COLUMN v TO w"][..], "INSERT INTO t(id, w) VALUES ('x', 'other')"),
        (
            &["ALTER TABLE t RENAME TO t9", "ALTER TABLE t9 RENAME TO t"],
            "INSERT INTO t(id, v) VALUES ('x', 'other')",
        ),
        (&["DROP INDEX u"], "INSERT INTO t(id, v) VALUES ('x', 'other')"),
        (&["DROP INDEX u"], "UPDATE t SET id = 'x' WHERE id = 'a'"),
    ] {
        let mut net = two_devices(schema, "INSERT INTO t(id, v) VALUES ('a', 'two')");
        net.run(1, "PRAGMA foreign_keys = OFF; INSERT INTO t VALUES ('x', 'precious', 'none')");
        net.sync(1);
        net.sync(2);
        assert_eq!(net.held(2).len(), 1, "{migrations:?}");
        for migration in migrations {
            net.run(2, migration);
            if migrations.len() > 1 {
                net.sync(2);
            }
        }
        net.run(2, insert);
        net.sync_all();
        for n in 1..=2 {
            let conflicts = format!("{:?}", net.replica(n).conflicts(None).expect("a list"));
            let held = format!("{:?}", net.replica(n).held(None).expect("a list"));
            assert!((conflicts + &held).contains("precious"), "machine {n}: {migrations:?} {insert}");
        }
    }
}

#[test]
fn a_column_that_was_renamed_and_then_written_everywhere_is_the_same() {
    let mut net = two_devices(T, "INSERT INTO t VALUES ('1', 'one', 'n1')");
    net.run(1, "ALTER TABLE t RENAME COLUMN title TO name; UPDATE t SET name = 'new'");
    net.sync_all();
    assert_eq!(net.query(2, "SELECT * FROM t"), ["Text(\"1\") Text(\"new\") Text(\"n1\")"]);
}

#[test]
fn a_row_that_was_refused_is_read_after_a_migration() {
    let mut net = two_devices(T, T_ROWS);
    let long = "x".repeat(70_000);
    net.run(1, &format!("INSERT INTO t VALUES ('{long}', 'long key', 'n')"));
    net.sync(1);
    assert_eq!(net.replica(1).attention().unwrap().refused, 1);
    net.run(1, "ALTER TABLE t RENAME title TO name; ALTER TABLE t ADD extra TEXT; UPDATE t SET extra = 'e'");
    net.sync_all();
    assert_eq!(net.replica(1).attention().unwrap().refused, 1);
    assert_eq!(net.query(0, "SELECT id, title, extra FROM t ORDER BY id").len(), 2);
    assert_eq!(net.query(1, "SELECT count(*) FROM t"), ["Integer(3)"]);
}

#[test]
fn rows_that_a_migration_purged_are_put_back_and_counted() {
    let rows = "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 100) INSERT INTO t SELECT i, 'm' || i, NULL FROM s";
    let mut net = two_devices(T, rows);
    net.run(
        1,
        "BEGIN; CREATE TABLE n(id TEXT PRIMARY KEY, title TEXT NOT NULL, note TEXT); INSERT INTO n SELECT * FROM t WHERE id > 60;
         DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT;",
    );
    net.sync_all();
    let gone = 100 - net.query(1, "SELECT 1 FROM t WHERE id > 60").len() as u64;
    assert_eq!(net.replica(1).take_restored(), [("t".to_owned(), gone)].into());
    assert!(net.replica(1).take_restored().is_empty());
    assert_eq!(net.query(1, "SELECT count(*) FROM t"), ["Integer(100)"]);
}

#[test]
fn an_index_and_a_version_that_a_migration_brings_reach_clones_made_later() {
    let mut net = two_devices(T, T_ROWS);
    net.run(1, "CREATE INDEX by_title ON t(title); PRAGMA user_version = 3");
    net.sync_all();
    let clone = net.add_machine("", Follow::All);
    net.sync(clone);
    assert_eq!(net.query(clone, "SELECT name FROM sqlite_master WHERE name = 'by_title'").len(), 1);
    assert_eq!(net.query(clone, "PRAGMA user_version"), ["Integer(3)"]);
}

/// The columns of `t` on a device, but its key, each as its name and its type.
fn columns(net: &mut Network, n: usize) -> Vec<[String; 2]> {
    let list = net.query(n, "SELECT name || ' ' || type FROM pragma_table_info('t') WHERE name <> 'id'");
    let column = |text: &String| {
        let text = text.trim_start_matches("Text(\"").trim_end_matches("\")");
        let (name, declared) = text.split_once(' ').unwrap();
        [name, declared].map(str::to_owned)
    };
    list.iter().map(column).collect()
}

/// SQL that builds `t` anew: for each column its name, its type and what it is filled from.
fn built_anew(columns: &[[String; 3]]) -> String {
    let list = |take: fn(&[String; 3]) -> String| columns.iter().map(take).collect::<Vec<_>>().join(", ");
    let (names, select) =
        (list(|[name, declared, _]| format!("{name} {declared}")), list(|[.., from]| from.clone()));
    format!(
        "BEGIN; CREATE TABLE n(id INTEGER PRIMARY KEY, {names}); INSERT INTO n SELECT id, {select} FROM t;
         DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT"
    )
}

/// A step of a migration, or a write, that fits the table as it is. Types stay, since others keep the old ones.
fn any_step(net: &mut Network, rng: &mut Rng) -> String {
    let columns = columns(net, 1);
    let [one, declared] = &columns[rng.below(columns.len() as u64) as usize];
    let [other, _] = &columns[rng.below(columns.len() as u64) as usize];
    // A name that was used before means the column that had it.
    let new = format!("c{}", rng.below(1 << 40));
    let mut anew: Vec<_> =
        columns.iter().map(|[n, declared]| [n.clone(), declared.clone(), n.clone()]).collect();
    match rng.below(12) {
        0 | 1 => format!("ALTER TABLE t RENAME COLUMN {one} TO {new}"),
        2 => format!("ALTER TABLE t ADD COLUMN {new} TEXT"),
        3 => format!("ALTER TABLE t ADD COLUMN {new} TEXT DEFAULT 'none'"),
        4 if columns.len() > 2 => format!("ALTER TABLE t DROP COLUMN {one}"),
        5 if one != other => format!(
            "ALTER TABLE t RENAME COLUMN {one} TO x; ALTER TABLE t RENAME COLUMN {other} TO {one}; ALTER TABLE t RENAME COLUMN x TO {other}"
        ),
        6 => {
            anew.rotate_left(1);
            built_anew(&anew)
        }
        7 => {
            anew.iter_mut().filter(|[name, ..]| name == one).for_each(|[name, ..]| name.clone_from(&new));
            built_anew(&anew)
        }
        8 => format!("UPDATE t SET {one} = {one} || 'x' WHERE id % 3 = {}", rng.below(3)),
        9 if declared == "TEXT" => format!("UPDATE t SET {one} = 'all ' || (id * 10 + {})", rng.below(10)),
        10 => format!("INSERT INTO t(id, {one}) SELECT max(id) + 1, 'new' || max(id) FROM t"),
        _ => {
            format!("DELETE FROM t WHERE id = (SELECT id FROM t ORDER BY id LIMIT 1 OFFSET {})", rng.below(9))
        }
    }
}

#[test]
fn any_run_of_migrations_and_writes_leaves_each_value_where_it_was() {
    for seed in 0..60 {
        let schema = "CREATE TABLE t(id INTEGER PRIMARY KEY, c0 TEXT, c1 TEXT, c2 TEXT DEFAULT 'none');";
        let rows = "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 20) INSERT INTO t SELECT i, 'a' || i, 'b' || i, iif(i % 2, 'some', 'none') FROM s";
        let (mut net, mut rng) = (two_devices(schema, rows), Rng(seed));
        let mut done = vec![];
        for _ in 0..12 {
            for _ in 0..=rng.below(3) {
                let step = any_step(&mut net, &mut rng);
                net.run(1, &step);
                done.push(step);
            }
            let all = "SELECT * FROM t ORDER BY id";
            let before = net.query(1, all);
            net.capture(1);
            assert_eq!(net.query(1, all), before, "seed {seed}: {done:#?}");
            net.wait(1_000);
            if rng.below(2) == 0 {
                let change =
                    format!("UPDATE t SET c1 = 'second {}' WHERE id = {}", rng.below(99), 1 + rng.below(20));
                net.run(2, &change);
                net.sync_all();
                net.sync_all();
                done.push(format!("second: {change}; sync"));
                let (here, there) = rows_here_and_there(&mut net, 1);
                assert_eq!(here, there, "seed {seed}: {done:#?}");
            }
            net.wait(1_000);
        }
    }
}

#[test]
fn a_key_column_renamed_and_its_old_name_given_to_another_are_two_columns() {
    let it = Pair::cloned(TODOS);
    sql(&it.files[0], ROWS);
    it.sync_both();
    sql(&it.files[1], "UPDATE todos SET a = 'uno' WHERE id = '1'");
    it.sync(1);
    sql(&it.files[0], "ALTER TABLE todos RENAME COLUMN id TO uid; ALTER TABLE todos RENAME COLUMN a TO id");
    it.sync(0);
    assert_eq!(query(&it.files[0], "SELECT uid, id FROM todos ORDER BY uid")[0], "Text(\"1\") Text(\"uno\")");
    sql(&it.files[0], "UPDATE todos SET id = 'due' WHERE uid = '2'");
    it.sync_both();
    assert_eq!(query(&it.files[1], "SELECT a FROM todos ORDER BY id"), ["Text(\"uno\")", "Text(\"due\")"]);
}

#[test]
fn a_key_that_compares_otherwise_than_that_of_others_stops_its_table_and_takes_no_row_in() {
    let it = Pair::cloned(TODOS);
    sql(&it.files[0], ROWS);
    it.sync_both();
    let rebuild = |id: &str| {
        let sql =
            "ALTER TABLE todos RENAME TO old; CREATE TABLE todos(id TEXT {id} PRIMARY KEY, a TEXT, b TEXT);
                   INSERT INTO todos SELECT * FROM old; DROP TABLE old";
        sql.replace("{id}", id)
    };
    sql(&it.files[1], &rebuild("COLLATE NOCASE"));
    sql(&it.files[0], "INSERT INTO todos VALUES ('k', 'a3', 'b3')");
    it.sync(0);
    let said = it.devices[1].run(["sync", it.path(1)]);
    assert!(said.code == 1 && format!("{said}").contains("id TEXT COLLATE NOCASE"), "{said}");
    assert_eq!(query(&it.files[1], "SELECT count(*) FROM todos"), ["Integer(2)"]);
    sql(&it.files[1], &rebuild(""));
    it.sync_both();
    assert_eq!(it.same("SELECT count(*) FROM todos"), ["Integer(3)"]);
}

#[test]
fn a_column_that_two_devices_add_in_other_capitals_or_with_another_default_is_one() {
    let it = Pair::cloned(TODOS);
    sql(&it.files[0], ROWS);
    it.sync_both();
    sql(
        &it.files[0],
        "ALTER TABLE todos ADD COLUMN Note TEXT DEFAULT 'a'; UPDATE todos SET Note = 'one' WHERE id = '1'",
    );
    sql(
        &it.files[1],
        "ALTER TABLE todos ADD COLUMN note TEXT DEFAULT 'b'; UPDATE todos SET note = 'two' WHERE id = '2'",
    );
    for _ in 0..2 {
        it.sync_both();
    }
    it.same("SELECT id, note FROM todos ORDER BY id");
    sql(&it.files[1], "UPDATE todos SET note = 'three'");
    it.sync_both();
    it.sync_both();
    assert_eq!(it.same("SELECT DISTINCT note FROM todos"), ["Text(\"three\")"]);
}

#[test]
fn columns_of_two_files_that_meet_are_one_whatever_their_capitals() {
    let it = Pair::new("WAL", "");
    sql(
        &it.files[0],
        "CREATE TABLE t(Id TEXT PRIMARY KEY, Title TEXT, U TEXT UNIQUE); INSERT INTO t VALUES ('1', 'x', 'u')",
    );
    sql(
        &it.files[1],
        "CREATE TABLE t(id TEXT PRIMARY KEY, title TEXT, u TEXT UNIQUE); INSERT INTO t VALUES ('2', 'b', 'v')",
    );
    it.track(0);
    it.sync(0);
    it.track(1);
    it.sync_both();
    sql(&it.files[1], "UPDATE t SET title = 'y' WHERE id = '1'");
    it.sync_both();
    let all = "SELECT id, title, u FROM t ORDER BY id";
    assert_eq!(it.same(all), ["Text(\"1\") Text(\"y\") Text(\"u\")", "Text(\"2\") Text(\"b\") Text(\"v\")"]);
}

#[test]
fn keys_that_are_stored_otherwise_on_one_device_stop_the_table_there_and_name_both() {
    for (ours, theirs) in
        [("TEXT", "INT"), ("REAL", "INT"), ("BLOB", "TEXT"), ("TEXT COLLATE NOCASE", "TEXT")]
    {
        let it = Pair::new("WAL", "");
        for (file, kind) in it.files.iter().zip([theirs, ours]) {
            sql(file, &format!("CREATE TABLE t(id {kind} PRIMARY KEY, v TEXT)"));
        }
        sql(&it.files[0], "INSERT INTO t VALUES ('3', 'x')");
        it.track(0);
        it.sync(0);
        it.track(1);
        sql(&it.files[1], "INSERT INTO t VALUES ('7', 'mine')");
        let said = it.devices[1].run(["sync", it.path(1)]);
        assert_eq!(said.code, 1, "{ours} {theirs}: {said}");
        assert!(format!("{said}").contains("primary key has changed from (id "), "{said}");
        assert_eq!(query(&it.files[1], "SELECT v FROM t"), ["Text(\"mine\")"], "{ours} {theirs}");
        it.sync(0);
        assert_eq!(query(&it.files[0], "SELECT v FROM t"), ["Text(\"x\")"], "{ours} {theirs}");
    }
}

#[test]
fn a_column_of_few_values_is_known_by_them_and_its_loss_is_seen() {
    let it = Pair::cloned("CREATE TABLE big(id INTEGER PRIMARY KEY, old TEXT, note TEXT);");
    sql(
        &it.files[0],
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO big SELECT i, 'o', NULL FROM n;
         UPDATE big SET note = 'kept' WHERE id IN (1013, 1777)",
    );
    it.sync_both();
    sql(&it.files[0], "ALTER TABLE big RENAME COLUMN note TO remark; ALTER TABLE big DROP COLUMN old");
    it.sync(0);
    sql(&it.files[1], "UPDATE big SET note = 'edited' WHERE id = 1013");
    it.sync_both();
    assert_eq!(query(&it.files[0], "SELECT remark FROM big WHERE id = 1013"), ["Text(\"edited\")"]);
    sql(&it.files[0], "ALTER TABLE big DROP COLUMN remark; ALTER TABLE big ADD COLUMN remark TEXT");
    it.sync_both();
    let left = |file, column: &str| query(file, &format!("SELECT count({column}) FROM big"));
    assert_eq!(left(&it.files[0], "remark"), left(&it.files[1], "note"));
}

#[test]
fn a_row_that_was_written_while_its_table_had_another_name_comes_once() {
    let mut net =
        two_devices("CREATE TABLE t(id TEXT PRIMARY KEY, v TEXT);", "INSERT INTO t VALUES ('1', 'x')");
    net.run(1, "ALTER TABLE t RENAME TO u; INSERT INTO u VALUES ('2', 'written as u')");
    net.sync(1);
    net.run(1, "ALTER TABLE u RENAME TO t");
    net.sync_all();
    net.check_same("SELECT * FROM t ORDER BY id");
    assert_eq!(net.query(0, "SELECT count(*) FROM t"), ["Integer(2)"]);
    assert!(net.replica(1).conflicts(None).expect("a list").is_empty());
}
