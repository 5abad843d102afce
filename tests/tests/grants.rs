//! Grants: each thing that a device can do, by each role, with all of it done while the device still believed that it may.

use piecewise_core::grant::Access;
use piecewise_core::replica::{Follow, TrackOptions};
use piecewise_tests::network::Network;

const SCHEMA: &str =
    "CREATE TABLE t(id TEXT PRIMARY KEY, v TEXT); CREATE TABLE s(id TEXT PRIMARY KEY, v TEXT);
    CREATE TABLE n(id INTEGER PRIMARY KEY)";
const ROLES: [Option<Access>; 4] = [None, Some(Access::Read), Some(Access::Write), Some(Access::Admin)];

/// What stands for a change of how a table is numbered.
const KEEP_NUMBERS: &str = "track n --keep-numbers";

/// What a device does, what it takes, and whether the server has it then: a query that gives something.
struct Deed {
    sql: &'static str,
    takes: Access,
    done: &'static str,
}

const DEEDS: [Deed; 8] = [
    Deed {
        sql: "INSERT INTO t VALUES ('new', 'x')",
        takes: Access::Write,
        done: "SELECT 1 FROM t WHERE id = 'new'",
    },
    Deed {
        sql: "UPDATE t SET v = 'edited' WHERE id = '1'",
        takes: Access::Write,
        done: "SELECT 1 FROM t WHERE v = 'edited'",
    },
    Deed {
        sql: "DELETE FROM t WHERE id = '1'",
        takes: Access::Write,
        done: "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM t WHERE id = '1')",
    },
    Deed {
        sql: "UPDATE t SET id = 'moved' WHERE id = '1'",
        takes: Access::Write,
        done: "SELECT 1 FROM t WHERE id = 'moved'",
    },
    Deed {
        sql: "ALTER TABLE t ADD COLUMN more TEXT",
        takes: Access::Write,
        done: "SELECT 1 FROM pragma_table_info('t') WHERE name = 'more'",
    },
    Deed {
        sql: "CREATE INDEX by_v ON t(v)",
        takes: Access::Write,
        done: "SELECT 1 FROM pragma_index_list('t') WHERE name = 'by_v'",
    },
    Deed {
        sql: KEEP_NUMBERS,
        takes: Access::Admin,
        done: "SELECT 1 FROM piecewise_numbering WHERE entry LIKE '%keep%'",
    },
    Deed {
        sql: "CREATE TABLE made(id TEXT PRIMARY KEY); INSERT INTO made VALUES ('1')",
        takes: Access::Write,
        done: "SELECT 1 FROM sqlite_master WHERE name = 'made'",
    },
];

/// Two devices that have the same rows, in the order in which they talk.
fn network() -> Network {
    let mut net = Network::new(12, 2, SCHEMA, &TrackOptions::default());
    net.run(1, "INSERT INTO t VALUES ('1', 'a'), ('2', 'b'); INSERT INTO s VALUES ('1', 'secret')");
    net.sync_all();
    net
}

/// What the second device did enters if its role takes it, and what the first one writes reaches it if it may read.
#[test]
fn every_role_can_do_what_it_may_and_nothing_else() {
    for role in ROLES {
        for Deed { sql, takes, done } in &DEEDS {
            let (mut net, what) = (network(), format!("{role:?}: {sql}"));
            if *sql == KEEP_NUMBERS {
                let now = net.now;
                net.replica(2).keep_numbers(now, "n", true).expect("it is written");
            } else {
                net.run(2, sql);
                net.track_again(2);
            }
            net.capture(2);
            net.allow(2, role);
            let _ = net.talk(2, None); // some of these end in words about rights
            let may = role.is_some_and(|role| role >= *takes);
            assert_eq!(!net.query(0, done).is_empty(), may, "{what}");
            net.run(1, "INSERT INTO t VALUES ('later', 'c')");
            net.sync(1);
            let _ = net.talk(2, None);
            let _ = net.talk(2, None);
            let hears = !net.query(2, "SELECT 1 FROM t WHERE id = 'later'").is_empty();
            assert_eq!(hears, role.is_some(), "{what}");
            assert_eq!(!net.query(0, done).is_empty(), may, "{what}, in the end");
            net.sync(1);
            let rows = "SELECT id, v FROM t ORDER BY id";
            assert_eq!(net.query(1, rows), net.query(0, rows), "{what}");
            // A device that may connect and was refused is told.
            if role.is_some() && !may && sql.contains(" t ") {
                let refused = net.replica(2).refused().expect("a list");
                let read_only = net.replica(2).status().expect("a status").tables.iter().any(|t| t.read_only);
                assert!(!refused.is_empty() || read_only, "{what}: nobody is told");
            }
        }
    }
}

/// A grant for one table says nothing of another: neither do rows come from it, nor go.
#[test]
fn a_grant_for_one_table_reaches_no_other() {
    for role in [Access::Read, Access::Write, Access::Admin] {
        for sql in ["INSERT INTO s VALUES ('new', 'x')", "UPDATE s SET v = 'edited'", "DELETE FROM s"] {
            let mut net = network();
            net.run(2, sql);
            net.capture(2);
            net.allow_tables(2, &[("t", role)]);
            let late = net.add_machine("", Follow::All);
            net.allow_tables(late, &[("t", role)]);
            net.run(1, "INSERT INTO t VALUES ('later', 'c'); INSERT INTO s VALUES ('later', 'secret')");
            net.sync(1);
            for n in [2, late] {
                let _ = net.talk(n, None);
                let _ = net.talk(n, None);
                assert_eq!(net.query(n, "SELECT 1 FROM t WHERE id = 'later'").len(), 1, "{role}: {sql}, {n}");
            }
            assert!(net.query(2, "SELECT 1 FROM s WHERE id = 'later'").is_empty(), "{role}: {sql}");
            assert!(
                net.query(late, "SELECT 1 FROM sqlite_master WHERE name = 's'").is_empty(),
                "{role}: {sql}"
            );
            let secret = net.query(0, "SELECT id, v FROM s ORDER BY id");
            assert_eq!(secret.len(), 2, "{role}: {sql}: {secret:?}");
            assert!(secret.iter().all(|row| row.contains("secret")), "{role}: {sql}: {secret:?}");
        }
    }
}
