//! Rows that move to other numbers while machines die, tables may only be read, and people decide.

use piecewise_core::grant::Access;
use piecewise_core::replica::{Choice, ConflictKind, Follow, TrackOptions};
use piecewise_tests::network::Network;
use piecewise_tests::numbering::{STRAY, number};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const SCHEMA: &str = "
CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE orders(id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers(id), of TEXT, name TEXT);
CREATE TABLE lines(
  order_id INTEGER NOT NULL REFERENCES orders(id), n INTEGER, of TEXT, PRIMARY KEY (order_id, n)) WITHOUT ROWID;
";

fn network(seed: u64, clients: usize) -> Network {
    let mut net = Network::new(seed, clients, SCHEMA, &TrackOptions::default());
    net.sync_all();
    net
}

/// Customers with an order each, of two lines.
fn shop(who: &str, customers: u64) -> String {
    format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {customers})
           INSERT INTO customers(name) SELECT '{who} ' || i FROM n;
         INSERT INTO orders(customer_id, of, name) SELECT id, name, name || ' order' FROM customers WHERE name LIKE '{who} %';
         INSERT INTO lines SELECT id, 1, name FROM orders WHERE name LIKE '{who} %';
         INSERT INTO lines SELECT id, 2, name FROM orders WHERE name LIKE '{who} %'"
    )
}

#[track_caller]
fn check_shops(net: &mut Network, machines: &[usize], customers: u64) {
    for n in machines {
        assert_eq!(net.query(*n, STRAY), [""; 0], "machine {n}");
        for (table, times) in [("customers", 1), ("orders", 1), ("lines", 2)] {
            let rows = number(net, *n, &format!("SELECT count(*) FROM {table}"));
            assert_eq!(rows, customers * times, "{table} of machine {n}");
        }
        assert!(net.held(*n).is_empty() && net.replica(*n).conflicts(None).expect("a list").is_empty());
    }
}

/// A machine's file with its WAL, as a process leaves them that is killed.
#[derive(Clone, PartialEq, Eq)]
struct Left {
    file: Vec<u8>,
    wal: Vec<u8>,
}

fn wal_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", path.display()))
}

impl Left {
    fn read(path: &Path) -> Self {
        let bytes = |path: &Path| std::fs::read(path).unwrap_or_default();
        Self { file: bytes(path), wal: bytes(&wal_of(path)) }
    }

    fn put(&self, net: &mut Network, n: usize) {
        net.restore(n, &self.file);
        std::fs::write(wal_of(&net.machines[n].path), &self.wal).expect("the WAL can be written");
    }
}

#[test]
fn a_device_killed_between_any_two_statements_of_a_move_has_moved_all_or_nothing() {
    const CUSTOMERS: u64 = 6;
    let mut net = network(1, 2);
    net.run(1, &shop("a", CUSTOMERS));
    net.wait(1000);
    net.sync(1);
    net.run(2, &shop("b", CUSTOMERS));
    net.capture(2);
    // Each row that is written reaches the disk before its transaction ends, as with a table larger than memory.
    let paths = [0, 2].map(|n| net.machines[n].path.clone());
    let seen: Arc<Mutex<Vec<[Left; 2]>>> = Arc::default();
    let (noted, places) = (seen.clone(), paths.clone());
    let conn = net.replica(2).connection_mut();
    conn.execute_batch("PRAGMA cache_size = 2; PRAGMA cache_spill = 1").expect("a pragma");
    let note = move |_, _: &str, _: &str, _| {
        let left = [Left::read(&places[0]), Left::read(&places[1])];
        let mut all = noted.lock().expect("no test panics with it");
        if all.last() != Some(&left) {
            all.push(left);
        }
    };
    conn.update_hook(Some(note)).expect("a hook");
    net.sync(2);
    let none: Option<fn(rusqlite::hooks::Action, &str, &str, i64)> = None;
    net.replica(2).connection_mut().update_hook(none).expect("a hook");
    check_shops(&mut net, &[0, 2], 2 * CUSTOMERS);
    let all = std::mem::take(&mut *seen.lock().expect("no test panics with it"));
    assert!(all.len() > 20, "{} states of the disk", all.len());
    let (mut before, mut after) = (0, 0);
    for [server, device] in &all {
        server.put(&mut net, 0);
        device.put(&mut net, 2);
        match number(&mut net, 2, "SELECT count(*) FROM piecewise_renumbered WHERE table_name = 'customers'")
        {
            0 => before += 1,
            CUSTOMERS => after += 1,
            some => panic!("{some} of {CUSTOMERS} rows have moved"),
        }
        assert_eq!(net.query(2, "PRAGMA integrity_check"), ["Text(\"ok\")"]);
        net.sync(2);
        check_shops(&mut net, &[0, 2], 2 * CUSTOMERS);
    }
    assert!(before > 0 && after > 0, "killed {before} times before a move and {after} times after it");
}

#[test]
fn references_in_a_table_that_may_only_be_read_here_stay_as_they_came() {
    let mut net = network(2, 2);
    net.run(1, &shop("a", 3));
    net.sync_all();
    // Machine 2 may write customers, and only read orders and lines.
    net.allow_tables(2, &[("customers", Access::Write), ("orders", Access::Read), ("lines", Access::Read)]);
    net.run(1, &shop("c", 1));
    net.sync(1);
    net.sync(2);
    net.run(1, "INSERT INTO customers(name) VALUES ('Carl'); INSERT INTO orders(customer_id, of, name) SELECT id, name, 'c' FROM customers WHERE name = 'Carl'");
    net.wait(1000);
    net.run(2, "INSERT INTO customers(name) VALUES ('Dora')");
    assert!(net.sql(2, "INSERT INTO orders(customer_id) VALUES (5)").is_err(), "it may only be read");
    net.sync(1);
    net.sync(2);
    net.sync(1);
    for n in 0..=2 {
        assert_eq!(net.query(n, STRAY), [""; 0], "machine {n}");
        assert_eq!(number(&mut net, n, "SELECT count(*) FROM customers"), 6, "machine {n}");
    }
    assert_eq!(
        net.query(2, "SELECT table_name, old, new FROM piecewise_renumbered"),
        ["Text(\"customers\") Integer(5) Integer(6)"]
    );
}

/// Two rows under one number that both are at the server, with an order of each.
fn both_kept(seed: u64) -> Network {
    let options = TrackOptions { keep_numbers: true, ..TrackOptions::default() };
    let mut net = Network::new(seed, 3, SCHEMA, &options);
    net.sync_all();
    for (n, name) in [(1, "Carl"), (2, "Dora")] {
        net.run(n, &format!("INSERT INTO customers(name) VALUES ('{name}')"));
        net.wait(1000);
        net.run(n, &format!("INSERT INTO orders VALUES ({n}, 1, '{name}', '{name} order'); INSERT INTO lines VALUES ({n}, 1, '{name} order')"));
        net.capture(n);
        net.wait(1000);
    }
    for n in [1, 2, 1, 3] {
        net.sync(n);
        net.wait(1000);
    }
    // From now on all see Dora there, and mean her.
    for n in 1..=3 {
        let order = 10 + n;
        net.run(n, &format!("INSERT INTO orders VALUES ({order}, 1, 'Dora', 'late {n}')"));
    }
    net.sync_all();
    net
}

#[test]
fn a_row_of_a_conflict_that_becomes_new_takes_the_references_along_that_mean_it() {
    // On the device that wrote it, on the one that wrote the other, on a third, and on the server.
    for machine in [1, 2, 3, 0] {
        let mut net = both_kept(3);
        let conflicts = net.replica(machine).conflicts(None).expect("a list");
        assert!(
            matches!(&conflicts[..], [one] if matches!(one.kind, ConflictKind::Row { .. })),
            "{conflicts:?}"
        );
        let now = net.now;
        let choice = Choice::AsNewRow { number: 1, key: None, with_references: true };
        let made = net.replica(machine).choose(now, "customers", "1", &choice).expect("it is chosen");
        assert_eq!(made.map(|made| made.references), Some(1), "machine {machine}");
        net.sync_all();
        for n in 0..=3 {
            assert_eq!(net.query(n, STRAY), [""; 0], "machine {n}, chosen on {machine}");
            assert_eq!(number(&mut net, n, "SELECT count(*) FROM customers"), 2);
            assert!(net.replica(n).conflicts(None).expect("a list").is_empty());
        }
    }
}

#[test]
fn without_being_told_so_references_stay_with_the_row_that_shows() {
    let mut net = both_kept(4);
    let now = net.now;
    let choice = Choice::AsNewRow { number: 1, key: Some("77".into()), with_references: false };
    let made = net.replica(1).choose(now, "customers", "1", &choice).expect("it is chosen").expect("a row");
    assert_eq!((made.key.as_str(), made.references), ("77", 0));
    net.sync_all();
    assert_eq!(net.query(0, STRAY), ["Text(\"Carl order of Carl has Dora\")"]);
}

#[test]
fn at_first_contact_it_is_told_how_many_rows_clash() {
    let mut net = Network::new(5, 1, SCHEMA, &TrackOptions::default());
    net.run(1, &shop("a", 3));
    net.sync_all();
    let other = net.add_machine(SCHEMA, Follow::Tracked);
    net.run(other, "INSERT INTO customers VALUES (1, 'a 1'), (2, 'Dora'), (3, 'Emil'), (9, 'Fay')");
    for table in ["customers", "orders", "lines"] {
        let notes = net.replica(other).track(table, &TrackOptions::default()).expect("it can be tracked");
        let offers = notes.iter().filter(|note| note.text.contains("--renumber-mine")).count();
        assert_eq!(offers, usize::from(table == "customers"), "{notes:?}");
    }
    net.sync(other);
    let clashed: Vec<_> = net.replica(other).take_clashed().into_iter().collect();
    assert_eq!(clashed, [("customers".to_owned(), 2)]);
    assert!(net.replica(other).take_clashed().is_empty());
}

#[test]
fn how_a_tracked_table_is_numbered_changes_for_all() {
    let mut net = network(6, 2);
    let now = net.now;
    assert!(net.replica(1).keep_numbers(now, "customers", true).expect("a setting"));
    assert!(!net.replica(1).keep_numbers(now, "customers", true).expect("a setting"));
    assert!(net.replica(1).autoincrement(now, "customers").expect("a setting"));
    assert!(!net.replica(1).autoincrement(now, "customers").expect("a setting"));
    assert!(net.replica(1).autoincrement(now, "lines").is_err(), "it has no integer key");
    net.sync_all();
    let has = "SELECT count(*) FROM sqlite_master WHERE name = 'customers' AND sql LIKE '%AUTOINCREMENT%'";
    // The server's table is its own; machine 2's schema is its application's.
    assert_eq!([0, 1, 2].map(|n| number(&mut net, n, has)), [1, 1, 0]);
    let clone = net.add_machine("", Follow::All);
    net.sync(clone);
    assert_eq!(number(&mut net, clone, has), 1);
    for n in 1..=2 {
        net.run(n, &format!("INSERT INTO customers(name) VALUES ('of {n}')"));
        net.wait(1000);
    }
    net.sync_all();
    assert_eq!(net.replica(2).conflicts(None).expect("a list").len(), 1);
    let now = net.now;
    assert!(net.replica(2).keep_numbers(now, "customers", false).expect("a setting"));
    net.sync_all();
    net.run(1, "INSERT INTO customers(name) VALUES ('again 1')");
    net.run(2, "INSERT INTO customers(name) VALUES ('again 2')");
    net.sync_all();
    assert_eq!(net.replica(2).conflicts(None).expect("a list").len(), 1);
    assert_eq!(number(&mut net, 0, "SELECT count(*) FROM customers"), 3);
}

#[test]
fn autoincrement_that_was_written_into_a_table_goes_with_untrack_byte_for_byte() {
    const ALL: &str = "SELECT * FROM sqlite_master ORDER BY rowid";
    let schema = "CREATE TABLE a(id INTEGER PRIMARY KEY -- the number\n, x);
        CREATE TABLE \"b c\"(x CHECK (x <> 'PRIMARY KEY'), id INTEGER, PRIMARY KEY(id ASC));
        CREATE INDEX i ON a(x); CREATE TABLE d(id INTEGER PRIMARY KEY AUTOINCREMENT)";
    for schema in [schema.to_owned(), schema.replace(" AUTOINCREMENT", "")] {
        let mut net = Network::new(7, 0, "", &TrackOptions::default());
        let n = net.add_machine(&schema, Follow::Tracked);
        net.run(n, "INSERT INTO a(x) VALUES (1); INSERT INTO \"b c\"(x) VALUES (2)");
        let before = net.query(n, ALL);
        let options = TrackOptions { autoincrement: true, ..TrackOptions::default() };
        for table in ["a", "b c", "d"] {
            net.replica(n).track(table, &options).expect("it can be tracked");
        }
        net.sync(n);
        net.run(n, "INSERT INTO a(x) VALUES (3); DELETE FROM a WHERE x = 3; INSERT INTO a(x) VALUES (4)");
        assert_eq!(net.query(n, "SELECT id FROM a WHERE x = 4"), ["Integer(3)"]);
        net.sync(n);
        assert_eq!(net.query(n, "PRAGMA integrity_check"), ["Text(\"ok\")"]);
        let tables = ["a".to_owned(), "b c".to_owned(), "d".to_owned()];
        net.replica(n).untrack(&tables).expect("it is untracked");
        net.stop(n);
        assert_eq!(net.query(n, ALL), before);
        assert_eq!(net.query(n, "PRAGMA integrity_check"), ["Text(\"ok\")"]);
        net.run(n, "INSERT INTO a(x) VALUES (5); VACUUM");
    }
}

#[test]
fn lines_under_one_key_go_with_their_own_orders_whoever_wrote_later() {
    for first in [1, 2] {
        let mut net = network(8, 2);
        for n in [first, 3 - first] {
            net.run(n, &shop(&format!("m{n}"), 3));
            net.capture(n);
            net.wait(1000);
        }
        // The other's rows come to machine 2 under the keys of its own, earlier or later than those.
        for n in [1, 2, 1] {
            net.sync(n);
        }
        check_shops(&mut net, &[0, 1, 2], 6);
    }
}

/// While its number is taken, a row's document is that of another row: a third that has its UNIQUE value waits for its move, and
/// what took it out of the table is no delete.
#[test]
fn a_row_whose_number_is_taken_is_not_lost_to_another_that_has_its_unique_value() {
    let schema = "CREATE TABLE t(id INTEGER PRIMARY KEY, w TEXT, a TEXT UNIQUE ON CONFLICT REPLACE)";
    let mut net = Network::new(31, 2, schema, &TrackOptions::default());
    net.run(1, "INSERT INTO t VALUES (1, 'one', 'x'), (2, 'two', 'y')");
    net.sync(1);
    net.wait(1000);
    net.run(2, "INSERT INTO t VALUES (1, 'mine', 'y')");
    for _ in 0..3 {
        net.wait(1000);
        net.sync_all();
    }
    for n in 0..=2 {
        let rows = ["Integer(1) Text(\"one\")", "Integer(2) Text(\"two\")"];
        assert_eq!(net.query(n, "SELECT id, w FROM t ORDER BY id"), rows, "machine {n}");
        assert_eq!(
            net.held(n),
            [("t".to_owned(), "3".to_owned())],
            "machine {n}: mine, under its new number"
        );
    }
}
