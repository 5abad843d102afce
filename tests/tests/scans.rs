//! Scans: a table that was written while its triggers were gone is gone through bit by bit, whatever happens meanwhile.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_core::replica::TrackOptions;
use piecewise_tests::network::Network;

const SCHEMA: &str = "CREATE TABLE a(id INTEGER PRIMARY KEY, x); CREATE TABLE b(id TEXT PRIMARY KEY, x);";
const ALL: &str = "SELECT * FROM a ORDER BY id";
const ALL_B: &str = "SELECT * FROM b ORDER BY id";
/// More than one call looks at.
const ROWS: i64 = 10_000;

/// SQL that writes rows, key after key, to a table.
fn rows(table: &str, from: i64, to: i64) -> String {
    format!(
        "WITH RECURSIVE n(i) AS (VALUES ({from}) UNION ALL SELECT i + 1 FROM n WHERE i < {to})
         INSERT INTO {table} SELECT printf('%06d', i), 'x' || i FROM n;"
    )
}

/// Takes the triggers of both tables away, as a program does that knows nothing of them.
fn drop_triggers(net: &mut Network, n: usize) {
    let names = net.query(n, "SELECT name FROM sqlite_master WHERE type = 'trigger'");
    let drop = |name: &String| {
        let name = name.trim_start_matches("Text(\"").trim_end_matches("\")").to_owned();
        format!("DROP TRIGGER \"{name}\";")
    };
    let drops: String = names.iter().map(drop).collect();
    assert!(!drops.is_empty());
    net.run(n, &drops);
}

/// A device whose tables were tracked empty and then filled behind its back.
fn filled_unseen() -> Network {
    let mut net = Network::new(3, 2, SCHEMA, &TrackOptions::default());
    net.sync_all();
    drop_triggers(&mut net, 1);
    net.run(1, &rows("a", 1, ROWS));
    net
}

/// Two devices that had the same rows, until one in twenty was deleted on the first behind its back.
fn a_twentieth_gone(seed: u64) -> Network {
    let mut net = Network::new(seed, 2, SCHEMA, &TrackOptions::default());
    net.run(1, &rows("a", 1, ROWS));
    net.sync_all();
    drop_triggers(&mut net, 1);
    net.run(1, "DELETE FROM a WHERE id % 20 = 3");
    net
}

fn capture_once(net: &mut Network, n: usize) -> u64 {
    let now = net.now;
    let captured = net.replica(n).capture(now).unwrap();
    assert!(captured.more);
    captured.rows
}

#[test]
fn a_scan_goes_on_where_it_was_when_the_process_died() {
    let mut net = filled_unseen();
    let first = capture_once(&mut net, 1);
    assert!(first > 0 && (first as i64) < ROWS, "{first}");
    net.stop(1);
    assert!(capture_once(&mut net, 1) > 0, "a scan from the beginning would see known rows first");
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(0, "SELECT count(*) FROM a"), [format!("Integer({ROWS})")]);
}

#[test]
fn what_is_written_without_triggers_behind_a_scan_is_seen_all_the_same() {
    let mut net = filled_unseen();
    assert!(capture_once(&mut net, 1) > 0);
    drop_triggers(&mut net, 1);
    net.run(1, "UPDATE a SET x = 'late' WHERE id = 1; DELETE FROM a WHERE id = 2");
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(0, "SELECT * FROM a WHERE id < 3"), ["Integer(1) Text(\"late\")"]);
}

#[test]
fn a_few_rows_deleted_without_triggers_are_deleted_everywhere_and_many_come_back() {
    let mut net = Network::new(4, 2, SCHEMA, &TrackOptions::default());
    net.run(1, &(rows("a", 1, ROWS) + &rows("b", 1, ROWS)));
    net.sync_all();
    drop_triggers(&mut net, 1);
    let few = ROWS / 10;
    net.run(1, "DELETE FROM a WHERE id % 10 = 3; DELETE FROM b WHERE id % 10 = 3 OR id = '000001'");
    net.run(2, "UPDATE b SET x = 'edited' WHERE id = '000003'");
    net.sync_all();
    net.check_same(ALL);
    net.check_same(ALL_B);
    assert_eq!(net.query(0, "SELECT count(*) FROM a"), [format!("Integer({})", ROWS - few)]);
    assert_eq!(net.query(1, "SELECT count(*) FROM b"), [format!("Integer({ROWS})")]);
    assert_eq!(net.query(1, "SELECT x FROM b WHERE id = '000003'"), ["Text(\"edited\")"]);
}

#[test]
fn what_an_application_writes_while_the_gone_rows_are_counted_is_captured() {
    let mut net = a_twentieth_gone(5);
    let mut n = 0;
    // A write between any two calls, all over the table: of new rows, of those that are gone, and of those that are there.
    loop {
        n += 1;
        let key = n * 631 % ROWS;
        net.run(1, &format!("REPLACE INTO a VALUES ({key}, 'again'); DELETE FROM a WHERE id = {key} - 7"));
        let now = net.now;
        net.replica(1).capture(now).unwrap();
        if !net.replica(1).is_scanning() {
            break;
        }
    }
    assert!(n > 5, "{n}");
    let here = net.query(1, ALL);
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(1, ALL), here);
}

#[test]
fn a_column_that_comes_while_another_is_filled_is_filled_everywhere() {
    let mut net = Network::new(6, 2, SCHEMA, &TrackOptions::default());
    net.run(2, &rows("a", 1, 2000));
    net.sync_all();
    net.run(
        2,
        "ALTER TABLE a ADD COLUMN p DEFAULT 0; ALTER TABLE a ADD COLUMN q DEFAULT 0; UPDATE a SET q = id",
    );
    net.sync_all();
    net.run(1, "ALTER TABLE a ADD COLUMN p DEFAULT 0");
    capture_once(&mut net, 1);
    net.run(1, "ALTER TABLE a ADD COLUMN q DEFAULT 0");
    net.capture(1);
    net.run(1, "UPDATE a SET x = 'edited' WHERE id = 1");
    net.sync_all();
    net.check_same("SELECT id, x, p, q FROM a ORDER BY id");
    assert_eq!(net.query(0, "SELECT count(*) FROM a WHERE q <> id"), ["Integer(0)"]);
}

#[test]
fn rows_that_are_still_to_be_filled_in_are_not_deleted_when_triggers_go() {
    let mut net = Network::new(7, 2, SCHEMA, &TrackOptions::default());
    net.run(1, &rows("a", 1, 560));
    net.sync_all();
    net.run(1, "DROP TABLE a; CREATE TABLE a(id INTEGER PRIMARY KEY, x)");
    while net.query(1, "SELECT count(*) FROM a") == ["Integer(0)"] {
        capture_once(&mut net, 1);
    }
    assert_eq!(net.query(1, "SELECT count(*) FROM a"), ["Integer(512)"], "a few are missing");
    drop_triggers(&mut net, 1);
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(0, "SELECT count(*) FROM a"), ["Integer(560)"]);
}

#[test]
fn a_row_without_a_key_does_not_hide_those_behind_it() {
    let filled = format!("{SCHEMA} INSERT INTO b VALUES (NULL, 'no key'); {}", rows("b", 1, ROWS));
    let mut net = Network::new(8, 1, &filled, &TrackOptions::default());
    net.sync_all();
    assert_eq!(net.query(0, "SELECT count(*) FROM b"), [format!("Integer({ROWS})")]);
}

#[test]
fn a_table_that_is_made_anew_in_the_middle_of_a_first_contact_has_all_rows_in_the_end() {
    for cut in 4..14 {
        let mut net = Network::new(9 + cut as u64, 1, SCHEMA, &TrackOptions::default());
        net.run(1, &rows("a", 1, ROWS));
        net.sync_all();
        let late = net.add_machine(SCHEMA, piecewise_core::replica::Follow::Tracked);
        net.run(late, "INSERT INTO a VALUES (1, 'mine'), (-1, 'mine')");
        net.replica(late).track("a", &TrackOptions::default()).unwrap();
        net.talk(late, Some(cut)).unwrap();
        net.run(late, "DROP TABLE a; CREATE TABLE a(id INTEGER PRIMARY KEY, x)");
        net.sync_all();
        net.check_same(ALL);
        let (all, here) = ("SELECT count(*) >= 10000 FROM a", late);
        assert_eq!(net.query(here, all), ["Integer(1)"], "cut after {cut}");
    }
}

#[test]
fn two_programs_that_go_through_one_table_come_to_an_end() {
    let mut net = a_twentieth_gone(20);
    let (mut other, now) = (net.another(1), net.now);
    let mut calls = 0;
    loop {
        let here = net.replica(1).capture(now).unwrap().more;
        let there = other.capture(now).unwrap().more;
        if !here && !there {
            break;
        }
        calls += 1;
        assert!(calls < 100, "they never end");
    }
    drop(other);
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.query(0, "SELECT count(*) FROM a"), [format!("Integer({})", ROWS - ROWS / 20)]);
}

/// A trigger that is newer than ours runs before them, and may end a statement whose row stays.
#[test]
fn a_write_that_a_newer_trigger_ended_before_ours_is_not_overwritten() {
    for look_first in [false, true] {
        let mut net = Network::new(9, 2, SCHEMA, &TrackOptions::default());
        net.run(1, "INSERT INTO a VALUES (1, 'first'), (2, 'second')");
        net.sync_all();
        let trigger = |event: &str| {
            format!(
                "CREATE TRIGGER {event}s AFTER {event} ON a WHEN NEW.x = 'mine' BEGIN SELECT RAISE(IGNORE); END;"
            )
        };
        net.run(2, &[trigger("INSERT"), trigger("UPDATE")].concat());
        if look_first {
            net.sync_all();
        }
        net.run(2, "INSERT INTO a VALUES (6, 'mine'); UPDATE a SET x = 'mine' WHERE id = 1");
        net.wait(1000);
        net.run(1, "INSERT INTO a VALUES (6, 'theirs'); UPDATE a SET x = 'theirs' WHERE id = 1");
        net.sync_all();
        net.check_same(ALL);
        // The inserted row moved to another number, the edited value is listed.
        assert!(net.query(1, ALL).contains(&r#"Integer(7) Text("mine")"#.to_owned()), "{look_first}");
        let conflicts = format!("{:?}", net.replica(1).conflicts(None).unwrap());
        assert!(conflicts.contains("\"mine\""), "{look_first}: {conflicts}");
    }
}
