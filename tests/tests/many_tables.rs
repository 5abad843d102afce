//! Many tables in one file: they come together, and what is done to all of them is done at once.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_core::grant::Access;
use piecewise_core::replica::{Follow, TrackOptions};
use piecewise_tests::network::Network;
use std::fmt::Write as _;

const SCHEMA: &str = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name";
/// More than are made one by one.
const MANY: usize = 300;

/// Tables by their numbers, of which some refer to those before them, have other keys, or many rows.
fn tables(numbers: impl Iterator<Item = usize>) -> String {
    let mut sql = String::new();
    for n in numbers {
        let (table, parent) = (format!("t{n}"), n.saturating_sub(1));
        let written = match n % 4 {
            0 => write!(sql, "CREATE TABLE {table}(id INTEGER PRIMARY KEY, a);"),
            1 => write!(sql, "CREATE TABLE {table}(id INTEGER PRIMARY KEY, a REFERENCES t{parent});"),
            2 => write!(sql, "CREATE TABLE {table}(id TEXT PRIMARY KEY, a INT UNIQUE);"),
            _ => write!(sql, "CREATE TABLE {table}(id INT, a INT, PRIMARY KEY (id, a)) WITHOUT ROWID;"),
        };
        written.expect("a string takes text");
    }
    sql
}

fn rows(n: usize) -> usize {
    match n {
        8 => 2500,
        _ if n.is_multiple_of(50) => 200,
        _ => 3,
    }
}

fn fill(numbers: impl Iterator<Item = usize>) -> String {
    let insert = |n| {
        let rows = rows(n);
        format!(
            "INSERT INTO t{n} WITH RECURSIVE s(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM s WHERE x < {rows})
             SELECT x, x FROM s;"
        )
    };
    let all: String = numbers.map(insert).collect();
    format!("BEGIN; {all} COMMIT;")
}

/// The server and a client that tracks all of so many tables, with rows.
fn network(count: usize) -> Network {
    let mut net = Network::new(11, 0, "", &TrackOptions::default());
    net.add_machine(&tables(0..count), Follow::Tracked);
    net.run(1, &fill(0..count));
    track(&mut net, 1, 0..count);
    net
}

fn track(net: &mut Network, n: usize, numbers: impl Iterator<Item = usize>) {
    let tables: Vec<_> = numbers.map(|n| (format!("t{n}"), TrackOptions::default())).collect();
    net.replica(n).track_all(&tables, |_, done| done.map(drop)).unwrap();
}

fn check(net: &mut Network, machines: &[usize], count: usize) {
    for machine in machines {
        assert_eq!(net.query(*machine, "PRAGMA integrity_check"), ["Text(\"ok\")"]);
        for n in (0..count).step_by(5).chain(5..10) {
            let sql = format!("SELECT * FROM t{n} ORDER BY 1");
            assert_eq!(net.query(*machine, &sql), net.query(1, &sql), "t{n} of machine {machine}");
        }
    }
}

#[test]
fn hundreds_of_tables_with_their_rows_come_to_the_server_and_to_another_file_and_stay_level() {
    let mut net = network(MANY);
    let follower = net.add_machine("", Follow::All);
    net.sync(1);
    net.sync(follower);
    check(&mut net, &[0, follower], MANY);
    assert_eq!(net.query(follower, "SELECT count(*) FROM t8"), [format!("Integer({})", rows(8))]);
    let held = net.replica(follower).attention().unwrap().held + net.replica(0).attention().unwrap().held;
    assert_eq!(held, 0);
    net.wait(1000);
    net.run(
        follower,
        "UPDATE t5 SET a = 3; DELETE FROM t6 WHERE id = '2'; UPDATE t7 SET id = 9 WHERE id = 1",
    );
    net.run(1, "INSERT INTO t9 VALUES (7, 1)");
    net.sync_all();
    check(&mut net, &[0, follower], MANY);
    assert_eq!(net.query(1, "SELECT count(*), max(id) FROM t7"), ["Integer(3) Integer(9)"]);
    assert_eq!(net.sync(1).rows, 0);
}

#[test]
fn a_table_that_comes_to_a_file_with_many_is_made_at_once() {
    let mut net = network(MANY);
    let follower = net.add_machine("", Follow::All);
    net.sync(1);
    net.sync(follower);
    net.run(1, "CREATE TABLE more(id INTEGER PRIMARY KEY, a)");
    net.replica(1).track("more", &TrackOptions::default()).unwrap();
    net.run(1, "INSERT INTO more VALUES (1, 'new')");
    net.talk_with(&[1, follower], &Default::default()).expect("both talk");
    assert_eq!(net.query(follower, "SELECT a FROM more"), ["Text(\"new\")"]);
    net.run(follower, "UPDATE more SET a = 'seen'");
    net.sync_all();
    assert_eq!(net.query(1, "SELECT a FROM more"), ["Text(\"seen\")"]);
}

#[test]
fn tables_whose_descriptions_came_before_a_connection_broke_are_made_at_the_next() {
    let mut net = network(MANY);
    for frames in [700, 1100, 1500, 400] {
        net.talk(1, Some(frames)).expect("a talk that is cut");
        net.stop(0);
    }
    let made = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name GLOB 't*'";
    assert_ne!(net.query(0, made), [format!("Integer({MANY})")], "the talks were cut too late");
    let described = net.roots(0).len();
    assert!(described > 0, "the talks were cut too early");
    net.sync(1);
    check(&mut net, &[0], MANY);
}

#[test]
fn untrack_of_many_tables_leaves_the_schema_as_it_was() {
    let mut net = Network::new(3, 0, "", &TrackOptions::default());
    net.add_machine(&tables(0..MANY), Follow::Tracked);
    let before = net.query(1, SCHEMA);
    track(&mut net, 1, 0..MANY);
    assert_ne!(net.query(1, SCHEMA), before);
    let half: Vec<_> = (0..MANY / 2).map(|n| format!("t{n}")).collect();
    net.replica(1).untrack(&half).unwrap();
    net.run(1, "INSERT INTO t0 VALUES (1, 1); INSERT INTO t298 VALUES ('a', 1)");
    assert_eq!(
        net.query(1, "SELECT count(*), max(container) FROM piecewise_log"),
        ["Integer(1) Integer(299)"]
    );
    let rest: Vec<_> = (MANY / 2..MANY).map(|n| format!("t{n}")).collect();
    net.replica(1).untrack(&rest).unwrap();
    assert_eq!(net.query(1, SCHEMA), before);
    assert_eq!(net.query(1, "PRAGMA integrity_check"), ["Text(\"ok\")"]);
}

#[test]
fn what_is_written_after_many_tables_lost_their_triggers_or_their_right_to_write_is_noticed() {
    let count = 60;
    let mut net = network(count);
    net.sync(1);
    net.stop(1);
    let drops = net.query(1, "SELECT name FROM sqlite_master WHERE type = 'trigger'");
    let name = |line: &String| line.trim_start_matches("Text(\"").trim_end_matches("\")").to_owned();
    let drops: String = drops.iter().map(|line| format!("DROP TRIGGER {};", name(line))).collect();
    net.run(1, &format!("{drops} UPDATE t0 SET a = 'unseen'"));
    net.sync(1);
    assert_eq!(net.query(0, "SELECT DISTINCT a FROM t0"), ["Text(\"unseen\")"]);
    let device = net.machines[1].identity.peer_id();
    net.grants.set(device, Some(Access::Read));
    net.run(0, "UPDATE t2 SET a = 77 WHERE id = '1'");
    net.sync(1);
    for n in [0, 1, 2, 3, count - 1] {
        let error = net.sql(1, &format!("DELETE FROM t{n}")).unwrap_err().to_string();
        assert!(error.contains("read-only"), "{error}");
    }
    net.grants.set(device, Some(Access::Write));
    net.run(0, "UPDATE t2 SET a = 78 WHERE id = '1'");
    net.sync(1);
    net.run(1, "UPDATE t1 SET a = 1");
    net.sync(1);
    check(&mut net, &[0], count);
}

#[test]
fn a_device_names_the_tables_that_it_tracks_once_and_not_at_each_connection() {
    let count = 120;
    let mut net = network(count);
    let some = net.add_machine(&tables(0..count), Follow::Tracked);
    track(&mut net, some, 20..count);
    net.sync_all();
    let names = (count - 20) * 32;
    for client in [1, some] {
        assert!(net.sync(client).bytes < 500, "nothing is new");
    }
    net.stop(0);
    assert!(net.sync(1).bytes < 500, "it tracks all that the server has");
    let again = net.sync(some).bytes;
    assert!((names..names + 500).contains(&again), "the server has to ask: {again} bytes");
    assert!(net.sync(some).bytes < 500, "and remembers");
    net.run(1, "UPDATE t3 SET a = 9 WHERE a = 1; UPDATE t31 SET a = 9 WHERE a = 1");
    net.sync_all();
    assert_eq!(net.query(some, "SELECT count(*) FROM t31 WHERE a = 9"), ["Integer(1)"]);
    assert_eq!(net.query(some, "SELECT count(*) FROM t3"), ["Integer(0)"], "it does not track that one");
}
