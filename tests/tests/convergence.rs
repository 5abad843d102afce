//! What two people see after they edited apart and synced.

use piecewise_core::replica::{Choice, ConflictKind, Follow, Replica, TrackOptions};
use piecewise_core::supervisor_log::{Entry, Event};
use piecewise_tests::network::{Faults, Network};

const NOTES: &str = "CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, body TEXT, votes INTEGER, done INTEGER DEFAULT 0)";
const ALL: &str = "SELECT * FROM notes ORDER BY id";

fn notes(clients: usize) -> Network {
    let options = TrackOptions {
        text: vec!["notes.body".into()],
        counter: vec!["notes.votes".into()],
        ..TrackOptions::default()
    };
    Network::new(7, clients, NOTES, &options)
}

/// Two clients that both hold one note.
fn shared_note() -> Network {
    let mut net = notes(2);
    net.run(1, "INSERT INTO notes VALUES (1, 'Milk', 'one two three', 1, 0)");
    net.sync_all();
    net.check_same(ALL);
    net.wait(1000);
    net
}

#[test]
fn a_row_reaches_the_server_and_the_other_client() {
    let mut net = shared_note();
    assert_eq!(
        net.query(2, "SELECT title, body, votes FROM notes"),
        ["Text(\"Milk\") Text(\"one two three\") Integer(1)"]
    );
    assert_eq!(net.query(0, "SELECT title FROM notes"), ["Text(\"Milk\")"]);
}

#[test]
fn edits_to_two_columns_of_one_row_both_survive() {
    let mut net = shared_note();
    net.run(1, "UPDATE notes SET title = 'Oat milk'");
    net.run(2, "UPDATE notes SET done = 1");
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(0, "SELECT title, done FROM notes"), ["Text(\"Oat milk\") Integer(1)"]);
}

#[test]
fn of_two_edits_to_one_column_the_later_shows() {
    let mut net = shared_note();
    net.run(1, "UPDATE notes SET title = 'early'");
    net.capture(1);
    net.wait(5000);
    // The log tells the time by the machine's own clock; here both are captured by the test's.
    net.run(2, "UPDATE notes SET title = 'late'");
    net.capture(2);
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(0, "SELECT title FROM notes"), ["Text(\"late\")"]);
}

#[test]
fn texts_merge_by_character_and_counters_add_up() {
    let mut net = shared_note();
    net.run(1, "UPDATE notes SET body = 'zero one two three', votes = votes + 1");
    net.run(2, "UPDATE notes SET body = 'one two three four', votes = votes + 3");
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(
        net.query(0, "SELECT body, votes FROM notes"),
        ["Text(\"zero one two three four\") Integer(5)"]
    );
}

#[test]
fn a_row_that_two_people_edit_hundreds_of_times_shows_the_same_whatever_is_kept_in_memory() {
    let mut net = shared_note();
    for n in 0..300u64 {
        let (who, other) = (1 + n as usize % 2, 2 - n as usize % 2);
        let at = n * 7919 % 40;
        net.run(who, &format!("UPDATE notes SET body = substr(body, 1, {at}) || 'w{n} ' || substr(body, {at} + 3), votes = votes + 1"));
        if n % 5 == 0 {
            // Both at once.
            net.run(other, &format!("UPDATE notes SET body = body || ' {n}', title = 'title {n}'"));
        }
        net.wait(1000);
        net.sync(who);
        net.sync(other);
        if n % 90 == 89 {
            // A process that begins anew reads everything again.
            net.stop(who);
            net.stop(0);
        }
    }
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(0, "SELECT votes FROM notes"), ["Integer(301)"]);
}

#[test]
fn an_edit_beside_a_delete_keeps_the_row_and_a_delete_alone_removes_it() {
    let mut net = shared_note();
    net.run(1, "DELETE FROM notes");
    net.run(2, "UPDATE notes SET title = 'kept'");
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(0, "SELECT title FROM notes"), ["Text(\"kept\")"]);
    net.run(2, "DELETE FROM notes");
    net.sync_all();
    net.check_same(ALL);
    assert!(net.query(0, ALL).is_empty());
}

#[test]
fn two_inserts_under_one_key_show_one_row_whole() {
    let mut net = notes(2);
    net.run(1, "INSERT INTO notes VALUES (5, 'a', 'aa', 1, 0)");
    net.run(2, "INSERT INTO notes VALUES (5, 'b', 'bb', 2, 1)");
    net.sync_all();
    net.check_same(ALL);
    let rows = net.query(0, "SELECT title, body, votes, done FROM notes");
    let whole =
        ["Text(\"a\") Text(\"aa\") Integer(1) Integer(0)", "Text(\"b\") Text(\"bb\") Integer(2) Integer(1)"];
    assert!(whole.contains(&rows[0].as_str()), "{rows:?}");
}

#[test]
fn rows_written_on_the_server_by_sql_reach_everyone() {
    let mut net = shared_note();
    net.run(
        0,
        "INSERT INTO notes(id, title) VALUES (2, 'from the server'); UPDATE notes SET done = 1 WHERE id = 1",
    );
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(2, "SELECT count(*) FROM notes WHERE done = 1 OR id = 2"), ["Integer(2)"]);
}

#[test]
fn a_sync_with_nothing_new_is_one_round_trip() {
    let mut net = shared_note();
    let talk = net.sync(1);
    assert!(talk.frames == 2 && talk.bytes < 300, "{talk:?}");
}

#[test]
fn ten_thousand_rows_go_over_and_back_in_segments() {
    let mut net = notes(2);
    net.run(
        1,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
         INSERT INTO notes SELECT i, 'title ' || i, NULL, i, 0 FROM n",
    );
    net.sync_all();
    net.check_same(ALL);
    net.run(2, "UPDATE notes SET done = 1 WHERE id % 10 = 0");
    net.run(1, "UPDATE notes SET title = 'new' WHERE id % 10 = 1; DELETE FROM notes WHERE id % 100 = 2");
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(
        net.query(1, "SELECT count(*), sum(done), sum(title = 'new') FROM notes"),
        ["Integer(9900) Integer(1000) Integer(1000)"]
    );
}

#[test]
fn untrack_leaves_the_schema_as_it_was() {
    let mut net = Network::new(1, 0, "", &TrackOptions::default());
    let n = net.add_machine(NOTES, piecewise_core::replica::Follow::Tracked);
    let schema = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name";
    let before = net.query(n, schema);
    net.replica(n).track("notes", &TrackOptions::default()).unwrap();
    assert_ne!(net.query(n, schema), before);
    net.run(n, "INSERT INTO notes(id, title) VALUES (1, 'Milk')");
    net.sync(n);
    net.replica(n).untrack(&["notes".to_owned()]).unwrap();
    assert_eq!(net.query(n, schema), before);
    assert_eq!(net.query(n, "SELECT title FROM notes"), ["Text(\"Milk\")"]);
}

/// What makes a file with two tables, of an INTEGER key and of a TEXT key, one of format 1.
const FORMAT_1: &str = "
DROP TRIGGER piecewise_1_insert; DROP TRIGGER piecewise_1_update; DROP TRIGGER piecewise_1_delete;
DROP TRIGGER piecewise_2_insert; DROP TRIGGER piecewise_2_update; DROP TRIGGER piecewise_2_delete;
CREATE TABLE piecewise_rows_1(key INTEGER PRIMARY KEY, at INTEGER NOT NULL, count INTEGER NOT NULL);
INSERT INTO piecewise_rows_1 SELECT key, at, count FROM piecewise_runs WHERE container = 1;
CREATE TABLE piecewise_rows_2(key BLOB PRIMARY KEY NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO piecewise_rows_2 SELECT key, at FROM piecewise_rows WHERE container = 2;
DROP TABLE piecewise_runs; DROP TABLE piecewise_rows; DROP TABLE piecewise_log;
CREATE TABLE piecewise_log(seq INTEGER PRIMARY KEY, container INTEGER, time INTEGER, k0);
CREATE TRIGGER piecewise_1_insert AFTER INSERT ON a BEGIN
  INSERT INTO piecewise_log(container, time, k0) VALUES (1, 1700000000000, NEW.id); END;
CREATE TRIGGER piecewise_2_move AFTER UPDATE OF id ON b WHEN OLD.id IS NOT NEW.id BEGIN
  INSERT INTO piecewise_log(container, time, k0) VALUES (2, 1700000000000, OLD.id); END;
ALTER TABLE piecewise_containers DROP COLUMN scan_after;
UPDATE piecewise_meta SET value = 1 WHERE name = 'format';
";

#[test]
fn a_file_of_format_2_is_brought_up_to_date() {
    let mut net = notes(2);
    net.run(1, "INSERT INTO notes(id, title) VALUES (1, 'a')");
    net.sync_all();
    net.stop(1);
    net.run(
        1,
        "ALTER TABLE piecewise_containers DROP COLUMN scan_after;
         UPDATE piecewise_meta SET value = 2 WHERE name = 'format'; UPDATE notes SET title = 'b'",
    );
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(2, "SELECT title FROM notes"), ["Text(\"b\")"]);
}

#[test]
fn a_file_of_format_1_is_brought_up_to_date_with_what_was_written_to_it() {
    let schema = "CREATE TABLE a(id INTEGER PRIMARY KEY, x); CREATE TABLE b(id TEXT PRIMARY KEY, x);";
    let mut net = Network::new(5, 2, schema, &TrackOptions::default());
    net.run(1, "INSERT INTO a VALUES (1, 'a'), (2, 'b'), (9, 'c'); INSERT INTO b VALUES ('k', 1), ('l', 2)");
    net.sync_all();
    net.wait(1000);
    net.stop(1);
    net.run(1, FORMAT_1);
    net.run(1, "INSERT INTO a VALUES (3, 'd'); UPDATE b SET id = 'm' WHERE id = 'k'");
    net.sync_all();
    let old =
        "SELECT name FROM sqlite_master WHERE name GLOB 'piecewise_rows_*' OR name GLOB 'piecewise_*_move'";
    assert_eq!(net.query(1, old), Vec::<String>::new());
    net.run(1, "UPDATE a SET x = 'e' WHERE id = 9; DELETE FROM b WHERE id = 'l'");
    net.run(2, "UPDATE a SET x = 'f' WHERE id = 2");
    net.sync_all();
    net.check_same("SELECT * FROM a ORDER BY id");
    net.check_same("SELECT * FROM b ORDER BY id");
    assert_eq!(
        net.query(0, "SELECT group_concat(x, '') FROM (SELECT x FROM a ORDER BY id)"),
        ["Text(\"afde\")"]
    );
    assert_eq!(net.query(0, "SELECT id FROM b"), ["Text(\"m\")"]);
}

#[test]
fn two_programs_that_sync_one_file_notice_what_the_other_did() {
    let mut net = notes(2);
    net.sync_all();
    let mut other = net.another(1);
    let now = piecewise_core::id::Timestamp(1_700_000_000_000);
    for n in 1..6 {
        net.run(1, &format!("INSERT INTO notes(id, title) VALUES ({n}, 'by the other')"));
        assert_eq!(other.capture(now).unwrap().rows, 1);
        net.run(1, &format!("UPDATE notes SET done = 1 WHERE id = {n}"));
        net.capture(1);
    }
    net.run(1, "CREATE TABLE extra(id INTEGER PRIMARY KEY, a)");
    other.track("extra", &TrackOptions::default()).unwrap();
    net.run(1, "INSERT INTO extra VALUES (1, 'tracked by the other')");
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(0, "SELECT count(*), sum(done) FROM notes"), ["Integer(5) Integer(5)"]);
    assert_eq!(net.query(0, "SELECT a FROM extra"), ["Text(\"tracked by the other\")"]);
    net.replica(1).untrack(&["extra".to_owned()]).unwrap();
    assert_eq!(other.capture(now).unwrap().rows, 0);
    assert_eq!(other.status().unwrap().tables.len(), 1);
}

#[test]
fn a_follower_hears_of_a_table_that_was_still_empty_on_the_server_when_it_connected() {
    let mut net = notes(1);
    let follower = net.add_machine("", Follow::All);
    net.run(1, "INSERT INTO notes VALUES (1, 'Milk', 'one two three', 1, 0)");
    let opened = (1..20).any(|frames| {
        net.talk(1, Some(frames)).expect("a talk that is cut");
        !net.roots(0).is_empty()
    });
    assert!(opened && net.sql(0, "SELECT title FROM notes").is_err());
    net.talk_with(&[follower, 1], &Faults::default()).expect("both talk");
    assert_eq!(net.query(follower, "SELECT title FROM notes"), ["Text(\"Milk\")"]);
}

/// The connection is cut at every place in turn: between what a device hears of a table, its description and its rows.
#[test]
fn a_table_that_its_application_makes_while_it_is_on_the_way_keeps_its_merge_kinds_and_its_rows() {
    for cut in 0..20 {
        let mut net = notes(1);
        net.run(1, "INSERT INTO notes VALUES (1, 'Milk', 'two', 1, 0), (2, 'Tea', 'green', 1, 0)");
        net.sync(1);
        net.wait(1000);
        let late = net.add_machine("", Follow::All);
        let whole = net.talk(late, Some(cut)).expect("a talk");
        net.run(late, &NOTES.replace("TABLE", "TABLE IF NOT EXISTS"));
        net.run(late, "INSERT OR IGNORE INTO notes VALUES (3, 'Bread', 'rye', 0, 0)");
        net.capture(late);
        net.track_again(late);
        net.sync_all();
        net.run(1, "UPDATE notes SET body = 'one ' || body, votes = votes + 1 WHERE id = 1");
        net.run(late, "UPDATE notes SET body = body || ' three', votes = votes + 2 WHERE id = 1");
        net.sync_all();
        net.check_same(ALL);
        let wanted = ["one two three", "green", "rye"].map(|body| format!("Text(\"{body}\")"));
        assert_eq!(
            net.query(late, "SELECT body FROM notes ORDER BY id"),
            wanted,
            "cut after {cut}: {whole:?}"
        );
        assert_eq!(net.query(0, "SELECT votes FROM notes WHERE id = 1"), ["Integer(4)"], "cut after {cut}");
        assert_eq!(net.replica(late).conflicts(None).expect("conflicts").len(), 0, "cut after {cut}");
    }
}

/// What the other rows of whole-row conflicts are on a machine: their titles, and whether they are done.
fn other_rows(net: &mut Network, n: usize) -> Vec<(String, String)> {
    let value = |row: &[(String, piecewise_core::value::Value)], name: &str| {
        row.iter().find(|(column, _)| column == name).map_or(String::new(), |(_, value)| format!("{value:?}"))
    };
    let mut found = vec![];
    for conflict in net.replica(n).conflicts(None).expect("a list") {
        let ConflictKind::Row { others, .. } = conflict.kind else { continue };
        found.extend(others.iter().map(|row| (value(&row.values, "title"), value(&row.values, "done"))));
    }
    found
}

#[test]
fn what_lost_within_the_other_row_of_a_conflict_is_listed_and_can_be_chosen() {
    let options = TrackOptions { keep_numbers: true, ..TrackOptions::default() };
    let mut net = Network::new(12, 3, NOTES, &options);
    net.sync_all();
    net.run(1, "INSERT INTO notes VALUES (1, 'of one', '', 0, 0)");
    net.capture(1);
    net.sync(1);
    net.sync(3);
    // Two people edit the row that is to be the other one, while a third inserts its own under the same key.
    for (n, title) in [(1, "edited by one"), (3, "edited by three")] {
        net.wait(1000);
        net.run(n, &format!("UPDATE notes SET title = '{title}' WHERE id = 1"));
        net.capture(n);
    }
    net.wait(1000);
    net.run(2, "INSERT INTO notes VALUES (1, 'of two', '', 1, 0)");
    net.capture(2);
    net.sync_all();
    net.check_same(ALL);
    let others: Vec<_> = ["edited by three", "edited by one"]
        .iter()
        .map(|title| (format!("Text({title:?})"), "Integer(0)".to_owned()))
        .collect();
    for n in 0..=3 {
        assert_eq!(other_rows(&mut net, n), others, "machine {n}");
    }
    let now = net.now;
    net.replica(2).choose(now, "notes", "1", &Choice::Row { number: 2 }).expect("a choice");
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(3, "SELECT title, done FROM notes"), ["Text(\"edited by one\") Integer(0)"]);
    assert_eq!(other_rows(&mut net, 1), []);
}

#[test]
fn a_chosen_row_keeps_what_it_has_in_columns_that_the_chooser_has_not() {
    const T: &str = "CREATE TABLE t(id TEXT PRIMARY KEY, u TEXT)";
    for (number, expected) in [(0, "'d', 'of d'"), (1, "'c', 'of c'"), (2, "'d', 'of d'")] {
        let mut net = Network::new(13, 3, T, &TrackOptions::default());
        net.sync_all();
        for n in [1, 2] {
            net.run(n, "ALTER TABLE t ADD COLUMN extra TEXT");
        }
        net.sync_all();
        for (n, name) in [(1, 'c'), (2, 'd')] {
            net.wait(1000);
            net.run(n, &format!("INSERT INTO t VALUES ('3', '{name}', 'of {name}')"));
            net.capture(n);
        }
        net.sync_all();
        let now = net.now;
        let as_new = Choice::AsNewRow { number: 1, key: Some("n".into()), with_references: false };
        let choice = if number == 2 { as_new } else { Choice::Row { number } };
        net.replica(3).choose(now, "t", "3", &choice).expect("a choice");
        net.sync_all();
        for n in [0, 1, 2] {
            let mut row = |id: &str| net_row(&mut net, n, id);
            let [kept, new] = ["3", "n"].map(&mut row);
            assert_eq!(kept, expected, "machine {n}");
            assert_eq!(new, if number == 2 { "'c', 'of c'" } else { "" }, "machine {n}");
        }
    }
}

#[test]
fn what_a_chosen_row_lacks_in_a_column_that_is_not_here_is_its_default() {
    const T: &str = "CREATE TABLE t(id TEXT PRIMARY KEY, u TEXT)";
    let mut net = Network::new(14, 3, T, &TrackOptions::default());
    net.sync_all();
    for n in [1, 3] {
        net.run(n, &format!("INSERT INTO t VALUES ('3', 'of {n}')"));
        net.wait(1000);
        net.capture(n);
    }
    net.run(2, "ALTER TABLE t ADD COLUMN extra TEXT NOT NULL DEFAULT 'none'; INSERT INTO t VALUES ('3', 'of 2', 'of 2')");
    net.sync_all();
    // The row that shows has nothing of the one that has the column.
    assert_eq!(net.query(2, "SELECT u, extra FROM t"), ["Text(\"of 3\") Text(\"none\")"]);
    for number in [2, 1] {
        let now = net.now;
        let choice = Choice::AsNewRow { number, key: Some(format!("n{number}")), with_references: false };
        net.replica(3).choose(now, "t", "3", &choice).expect("a choice");
        net.sync_all();
    }
    for n in [0, 2] {
        let rows = net.query(n, "SELECT id, u, extra FROM t ORDER BY id");
        let expected = [("3", "of 3", "none"), ("n1", "of 2", "of 2"), ("n2", "of 1", "none")];
        let expected = expected.map(|(id, u, extra)| format!("Text({id:?}) Text({u:?}) Text({extra:?})"));
        assert_eq!(rows, expected, "machine {n}, held: {:?}", net.held(n));
    }
}

fn net_row(net: &mut Network, n: usize, id: &str) -> String {
    let sql = format!("SELECT quote(u) || ', ' || quote(extra) FROM t WHERE id = '{id}'");
    net.query(n, &sql).concat().trim_start_matches("Text(\"").trim_end_matches("\")").to_owned()
}

#[test]
fn an_edit_of_one_column_ends_no_conflict_of_whole_rows_and_takes_no_value_of_the_other_row() {
    let options = TrackOptions { keep_numbers: true, ..TrackOptions::default() };
    let mut net = Network::new(11, 2, NOTES, &options);
    net.sync_all();
    net.run(1, "INSERT INTO notes VALUES (1, 'of one', '', 0, 0)");
    net.capture(1);
    net.wait(1000);
    net.run(2, "INSERT INTO notes VALUES (1, 'of two', '', 0, 0)");
    net.capture(2);
    net.sync_all();
    let other = [("Text(\"of one\")".to_owned(), "Integer(0)".to_owned())];
    assert_eq!(other_rows(&mut net, 0), other);
    net.run(2, "UPDATE notes SET done = 1 WHERE id = 1");
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(1, "SELECT title, done FROM notes"), ["Text(\"of two\") Integer(1)"]);
    for n in 0..=2 {
        assert_eq!(other_rows(&mut net, n), other, "machine {n}");
    }
    let now = net.now;
    net.replica(1).choose(now, "notes", "1", &Choice::Row { number: 1 }).expect("a choice");
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(2, "SELECT title, done FROM notes"), ["Text(\"of one\") Integer(0)"]);
    assert_eq!(other_rows(&mut net, 2), []);
}

#[test]
fn a_row_that_is_inserted_over_a_held_one_is_in_conflict_with_it() {
    let mut net = Network::new(
        12,
        2,
        "CREATE TABLE t(id TEXT PRIMARY KEY, u TEXT UNIQUE, v TEXT)",
        &TrackOptions::default(),
    );
    net.sync_all();
    net.run(1, "INSERT INTO t VALUES ('a', 'same', 'first')");
    net.sync(1);
    net.wait(1000);
    net.run(2, "INSERT INTO t VALUES ('k', 'same', 'precious')");
    net.sync(2);
    net.sync(1);
    assert_eq!(net.held(1).len(), 1);
    net.wait(1000);
    net.run(1, "INSERT INTO t VALUES ('k', 'other', 'new')");
    net.sync_all();
    for n in 0..=2 {
        let shown = net.query(n, "SELECT v FROM t ORDER BY id");
        assert_eq!(shown, ["Text(\"first\")", "Text(\"new\")"], "machine {n}");
        let conflicts = format!("{:?}", net.replica(n).conflicts(None).expect("a list"));
        assert!(conflicts.contains("precious"), "machine {n}: {conflicts}");
    }
}

#[test]
fn programs_that_have_one_file_open_leave_each_other_in_peace() {
    let mut net = shared_note();
    let mut other = net.another(1);
    let now = net.now;
    net.run(1, "UPDATE notes SET title = 'Oat milk'");
    let rounds = |net: &mut Network, other: &mut Replica, count: usize| {
        for _ in 0..count {
            net.replica(1).capture(now).expect("a capture");
            other.capture(now).expect("a capture");
        }
        net.replica(1).data_version().expect("a version")
    };
    let settled = rounds(&mut net, &mut other, 5);
    assert_eq!(rounds(&mut net, &mut other, 5), settled, "nobody wrote");
}

/// A restored server has other segments at the places at which a device got some: what it lacks is sent at once, and no repair
/// is needed for it.
#[test]
fn what_a_restored_server_lacks_is_sent_though_others_stand_at_its_places() {
    for seed in 0..8 {
        let schema = "CREATE TABLE p(id INTEGER PRIMARY KEY, m TEXT)";
        let mut net = Network::new(seed, 3, schema, &TrackOptions::default());
        net.sync_all();
        for n in [2, 3] {
            net.run(n, "INSERT INTO p(m) VALUES ('first')");
        }
        for n in [2, 3, 2] {
            net.sync(n);
        }
        let server = net.backup(0);
        net.run(3, "INSERT INTO p(m) VALUES ('second')");
        net.capture(3);
        let device = net.backup(3);
        net.run(3, "INSERT INTO p(m) VALUES ('known to machine 2 alone')");
        net.run(2, "INSERT INTO p(m) VALUES ('second')");
        net.sync(3);
        net.sync(2);
        net.restore(3, &device);
        net.restore(0, &server);
        net.run(3, "INSERT INTO p(m) VALUES ('third')");
        net.run(2, "INSERT INTO p(m) VALUES ('third')");
        net.sync(3);
        net.sync(2);
        assert_eq!(net.roots(0), net.roots(2), "{seed}");
        let entries = net.replica(0).log_entries(usize::MAX >> 1).expect("the log's outbox");
        let events = entries.iter().map(|(_, entry)| Entry::decode(entry).expect("an entry").event);
        assert_eq!(events.filter(|event| matches!(event, Event::Repaired { .. })).count(), 0, "{seed}");
    }
}
