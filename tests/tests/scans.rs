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
    let mut net = Network::new(5, 2, SCHEMA, &TrackOptions::default());
    net.run(1, &rows("a", 1, ROWS));
    net.sync_all();
    drop_triggers(&mut net, 1);
    net.run(1, "DELETE FROM a WHERE id % 20 = 3");
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
