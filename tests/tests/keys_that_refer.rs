//! Rows whose keys are references: they have no numbers of their own, and no two of them become one.

use piecewise_core::replica::TrackOptions;
use piecewise_tests::network::Network;

const PROFILES: &str = "
CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE profiles(customer_id INTEGER PRIMARY KEY REFERENCES customers(id), of TEXT, text TEXT);
CREATE TABLE visits(id TEXT PRIMARY KEY, profile_id INTEGER REFERENCES profiles(customer_id), of TEXT)";

fn sync_until_quiet(net: &mut Network) {
    for _ in 0..3 {
        net.wait(1000);
        net.sync_all();
    }
}

/// Each profile and each visit has the customer for whom it was written.
const STRAY: &str = "
SELECT p.text || ' of ' || p.of || ' has ' || coalesce(c.name, 'nobody') FROM profiles p
  LEFT JOIN customers c ON c.id = p.customer_id WHERE c.name IS NOT p.of
UNION ALL SELECT 'visit of ' || v.of || ' has ' || coalesce(p.of, 'nobody') FROM visits v
  LEFT JOIN profiles p ON p.customer_id = v.profile_id WHERE p.of IS NOT v.of";

#[test]
fn two_profiles_of_one_customer_are_in_conflict_and_those_of_new_customers_go_with_them() {
    let mut net = Network::new(1, 2, PROFILES, &TrackOptions::default());
    net.run(1, "INSERT INTO customers(name) VALUES ('known')");
    sync_until_quiet(&mut net);
    for n in 1..=2 {
        net.run(
            n,
            &format!(
                "INSERT INTO customers(name) VALUES ('new {n}');
                 INSERT INTO profiles SELECT id, name, 'by {n}' FROM customers WHERE name IN ('known', 'new {n}');
                 INSERT INTO visits SELECT of || {n}, customer_id, of FROM profiles"
            ),
        );
    }
    sync_until_quiet(&mut net);
    for n in 0..=2 {
        assert_eq!(net.query(n, STRAY), [""; 0], "machine {n}");
        assert_eq!(net.query(n, "SELECT count(*) FROM profiles"), ["Integer(3)"], "machine {n}");
        assert!(net.held(n).is_empty(), "held on machine {n}");
        let conflicts = net.replica(n).conflicts(Some("profiles")).expect("a list");
        assert_eq!(conflicts.len(), 1, "machine {n}: {conflicts:?}");
        // The one that does not show is listed with what it says.
        let shown = net.query(n, "SELECT text FROM profiles WHERE of = 'known'").remove(0);
        let other = if shown.contains("by 1") { "by 2" } else { "by 1" };
        assert!(format!("{conflicts:?}").contains(other), "machine {n}: {conflicts:?}");
    }
}

/// SQLite does not enforce foreign keys unless it is asked to: an order that was deleted leaves its lines.
#[test]
fn a_row_that_moves_gets_no_number_to_which_rows_refer() {
    for options in ["", " WITHOUT ROWID"] {
        let schema = format!(
            "CREATE TABLE orders(id INTEGER PRIMARY KEY, name TEXT);
             CREATE TABLE lines(order_id INTEGER REFERENCES orders(id), n INTEGER, of TEXT, PRIMARY KEY (order_id, n)){options}"
        );
        let mut net = Network::new(2, 2, &schema, &TrackOptions::default());
        net.run(2, "CREATE TABLE local_notes(id INTEGER PRIMARY KEY, order_id TEXT REFERENCES orders(id))");
        net.run(1, "INSERT INTO orders(name) VALUES ('one'); INSERT INTO lines VALUES (1, 1, 'one')");
        net.sync(1);
        net.run(
            2,
            "PRAGMA foreign_keys = OFF; INSERT INTO orders(name) VALUES ('two'), ('deleted'); INSERT INTO lines SELECT id, 1, name FROM orders;
             INSERT INTO local_notes(order_id) VALUES ('3'); DELETE FROM orders WHERE name = 'deleted'",
        );
        sync_until_quiet(&mut net);
        for n in 1..=2 {
            let lines = "SELECT l.of, o.name FROM lines l JOIN orders o ON o.id = l.order_id ORDER BY 1";
            assert_eq!(
                net.query(n, lines),
                ["Text(\"one\") Text(\"one\")", "Text(\"two\") Text(\"two\")"],
                "machine {n}{options}"
            );
        }
        assert_eq!(net.query(2, "SELECT id FROM orders WHERE name = 'two'"), ["Integer(4)"], "{options}");
        let all = net.query(2, "SELECT of FROM lines ORDER BY 1").len() + net.held(2).len();
        assert_eq!(all, 3, "the line of the deleted order is there as well{options}");
    }
}
