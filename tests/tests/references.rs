//! What references mean after rows moved: numbers that were given out before, rows from before the first sync, columns of
//! any type, conflicts that are decided.

use piecewise_core::grant::Access;
use piecewise_core::replica::{Choice, Follow, Reference, ReplicaError, TrackOptions};
use piecewise_tests::network::Network;
use piecewise_tests::numbering::STRAY;

const SCHEMA: &str = "
CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE orders(id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers(id), of TEXT, name TEXT);
CREATE TABLE lines(
  order_id INTEGER NOT NULL REFERENCES orders(id), n INTEGER, of TEXT, PRIMARY KEY (order_id, n)) WITHOUT ROWID;
";

fn network(seed: u64) -> Network {
    let mut net = Network::new(seed, 2, SCHEMA, &TrackOptions::default());
    net.sync_all();
    net
}

/// A customer with an order of one line.
fn customer(name: &str) -> String {
    format!(
        "INSERT INTO customers(name) VALUES ('{name}');
         INSERT INTO orders(customer_id, of, name) SELECT id, name, name || ' order' FROM customers WHERE name = '{name}';
         INSERT INTO lines SELECT id, 1, name FROM orders WHERE of = '{name}'"
    )
}

fn sync_twice(net: &mut Network) {
    net.wait(1000);
    net.sync_all();
    net.wait(1000);
    net.sync_all();
}

/// Each machine has all of these customers, each with the order and the line that were written for it, and no conflict.
#[track_caller]
fn check(net: &mut Network, customers: &[&str]) {
    let names: Vec<_> = customers.iter().map(|name| format!("Text(\"{name}\")")).collect();
    for n in 0..=2 {
        assert_eq!(net.query(n, "SELECT name FROM customers ORDER BY name"), names, "machine {n}");
        assert_eq!(net.query(n, STRAY), [""; 0], "machine {n}");
        for table in ["orders", "lines"] {
            let count = format!("SELECT count(*) FROM {table}");
            assert_eq!(
                net.query(n, &count),
                [format!("Integer({})", customers.len())],
                "machine {n}: {table}"
            );
        }
        let conflicts = net.replica(n).conflicts(None).expect("a list");
        assert!(conflicts.is_empty(), "machine {n}: {conflicts:?}");
        assert!(net.held(n).is_empty(), "held on machine {n}");
    }
}

#[test]
fn a_number_whose_earlier_row_was_deleted_everywhere_is_given_out_again_by_two_devices() {
    let mut net = network(1);
    net.run(1, &customer("Alma"));
    net.run(1, &customer("Bert"));
    sync_twice(&mut net);
    net.run(
        1,
        "DELETE FROM lines WHERE of LIKE 'Bert%'; DELETE FROM orders WHERE of = 'Bert'; DELETE FROM customers WHERE name = 'Bert'",
    );
    sync_twice(&mut net);
    net.run(1, &customer("Carl"));
    net.wait(1000);
    net.run(2, &customer("Dora"));
    net.capture(2);
    net.run(2, "UPDATE orders SET name = 'Dora order' WHERE of = 'Dora'; UPDATE customers SET name = name");
    sync_twice(&mut net);
    check(&mut net, &["Alma", "Carl", "Dora"]);
    assert_eq!(
        net.query(2, "SELECT table_name, old, new FROM piecewise_renumbered WHERE table_name = 'customers'"),
        ["Text(\"customers\") Integer(2) Integer(3)"]
    );
}

#[test]
fn a_row_that_was_written_again_soon_after_it_was_deleted_is_another_one() {
    let mut net = network(2);
    net.run(1, "INSERT INTO customers(name) VALUES ('Bert')");
    net.sync_all();
    net.run(1, "DELETE FROM customers");
    net.sync_all();
    net.run(1, "INSERT INTO customers(name) VALUES ('Bert')");
    net.capture(1);
    net.run(2, "INSERT INTO customers(name) VALUES ('Dora')");
    net.sync(2);
    sync_twice(&mut net);
    for n in 0..=2 {
        assert_eq!(
            net.query(n, "SELECT id, name FROM customers ORDER BY id"),
            ["Integer(1) Text(\"Dora\")", "Integer(2) Text(\"Bert\")"],
            "machine {n}"
        );
    }
}

/// A machine whose file has these rows, and which tracks its tables after that.
fn machine_with(net: &mut Network, rows: &str, options: &TrackOptions) -> usize {
    let n = net.add_machine(&format!("{SCHEMA}; {rows}"), Follow::Tracked);
    for table in ["customers", "orders", "lines"] {
        net.replica(n).track(table, options).expect("it can be tracked");
    }
    n
}

#[test]
fn rows_written_after_track_and_before_the_first_sync_move_as_any_that_were_written_offline() {
    let mut net = Network::new(3, 1, SCHEMA, &TrackOptions::default());
    net.sync_all();
    net.run(1, &customer("Carl"));
    net.run(1, &customer("Alma"));
    net.sync(1);
    let late = machine_with(&mut net, "", &TrackOptions::default());
    net.run(late, &customer("Dora"));
    sync_twice(&mut net);
    check(&mut net, &["Alma", "Carl", "Dora"]);
    assert_eq!(net.query(1, "SELECT id FROM customers WHERE name = 'Carl'"), ["Integer(1)"]);
}

#[test]
fn a_row_of_a_table_that_refers_to_itself_follows_though_the_server_knows_nothing_of_it() {
    const PEOPLE: &str =
        "CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT, boss INTEGER REFERENCES people(id))";
    for before in [true, false] {
        let mut net = Network::new(4, 1, PEOPLE, &TrackOptions::default());
        net.run(1, "INSERT INTO people VALUES (1, 'Carl', NULL)");
        net.sync_all();
        let rows = "INSERT INTO people VALUES (1, 'Dora', NULL), (2, 'her man', 1)";
        let late = net.add_machine(&format!("{PEOPLE}; {}", if before { rows } else { "" }), Follow::Tracked);
        let options = TrackOptions { renumber_mine: before, ..TrackOptions::default() };
        net.replica(late).track("people", &options).expect("it can be tracked");
        if !before {
            net.run(late, rows);
        }
        sync_twice(&mut net);
        for n in 0..=2 {
            assert_eq!(
                net.query(n, "SELECT b.name FROM people p JOIN people b ON b.id = p.boss"),
                ["Text(\"Dora\")"],
                "machine {n}"
            );
        }
    }
}

#[test]
fn rows_from_before_track_keep_their_conflicts_beside_later_ones_that_move() {
    let mut net = Network::new(5, 1, SCHEMA, &TrackOptions::default());
    net.sync_all();
    net.run(1, &customer("Carl"));
    net.run(1, &customer("Alma"));
    net.sync(1);
    let late = machine_with(&mut net, "INSERT INTO customers VALUES (1, 'Carla')", &TrackOptions::default());
    net.run(late, &customer("Dora"));
    sync_twice(&mut net);
    assert_eq!(
        net.query(0, "SELECT name FROM customers ORDER BY id"),
        ["Text(\"Carl\")", "Text(\"Alma\")", "Text(\"Dora\")"]
    );
}

#[test]
fn at_first_contact_the_rows_of_the_server_show_in_all_tables() {
    for seed in 10..20 {
        let mut net = Network::new(seed, 0, SCHEMA, &TrackOptions::default());
        let rows = |who: &str| {
            format!(
                "INSERT INTO customers VALUES (1, '{who}');
                 INSERT INTO orders VALUES (1, 1, '{who}', '{who} order');
                 INSERT INTO lines VALUES (1, 1, '{who} order')"
            )
        };
        for who in ["first", "second", "third"] {
            let n = machine_with(&mut net, &rows(who), &TrackOptions::default());
            net.sync(n);
        }
        sync_twice(&mut net);
        for n in 0..=3 {
            assert_eq!(
                net.query(n, "SELECT name FROM customers"),
                ["Text(\"first\")"],
                "seed {seed}, machine {n}"
            );
            assert_eq!(net.query(n, STRAY), [""; 0], "seed {seed}, machine {n}");
            assert_eq!(net.replica(n).conflicts(None).expect("a list").len(), 3);
        }
    }
}

#[test]
fn references_in_columns_of_any_type_follow() {
    for (kind, declared) in
        [("TEXT", true), ("VARCHAR(20)", true), ("REAL", true), ("", true), ("", false), ("TEXT", false)]
    {
        let reference = if declared { "REFERENCES customers(id)" } else { "" };
        let schema = format!(
            "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT);
             CREATE TABLE orders(id INTEGER PRIMARY KEY, customer_id {kind} {reference}, of TEXT, name TEXT);
             CREATE TABLE lines(order_id {kind} NOT NULL {}, n INTEGER, of TEXT, PRIMARY KEY (order_id, n)) WITHOUT ROWID",
            if declared { "REFERENCES orders(id)" } else { "" }
        );
        let mut net = Network::new(20, 2, &schema, &TrackOptions::default());
        net.sync_all();
        for n in 1..=2 {
            let draft = format!("CREATE TABLE drafts(customer {kind} REFERENCES customers(id), of TEXT)");
            net.run(n, &draft);
            for (table, column, parent) in
                [("orders", "customer_id", "customers"), ("lines", "order_id", "orders")]
            {
                let now = net.now;
                let added =
                    declared || net.replica(n).add_reference(now, table, column, parent, "id").is_ok();
                assert!(added, "{kind}: {table}");
            }
        }
        for (n, name) in [(1, "Carl"), (2, "Dora")] {
            let all = "INSERT INTO drafts SELECT customer_id, of FROM orders";
            // Of a text, an application may write more than the digits.
            let written = if kind.is_empty() { "CAST(id AS TEXT)" } else { "id" };
            net.run(
                n,
                &format!(
                    "INSERT INTO customers(name) VALUES ('{name}');
                     INSERT INTO orders(customer_id, of, name) SELECT {written}, name, name || ' order' FROM customers;
                     INSERT INTO lines SELECT {written}, 1, name FROM orders; {all}"
                ),
            );
            net.wait(1000);
        }
        sync_twice(&mut net);
        check(&mut net, &["Carl", "Dora"]);
        let classes =
            "SELECT DISTINCT typeof(customer_id) FROM orders UNION SELECT typeof(order_id) FROM lines";
        let class = if kind == "REAL" { "real" } else { "text" };
        assert_eq!(net.query(0, classes), [format!("Text(\"{class}\")")], "{kind}");
        for n in 1..=2 {
            let drafts = "SELECT d.of, c.name FROM drafts d LEFT JOIN customers c ON c.id = customer WHERE c.name IS NOT d.of";
            assert_eq!(net.query(n, drafts), [""; 0], "{kind}: machine {n}");
        }
    }
}

#[test]
fn a_reference_to_the_own_row_in_a_column_of_text_lets_the_row_show() {
    const PEOPLE: &str =
        "CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT, boss TEXT REFERENCES people(id))";
    let mut net = Network::new(21, 2, PEOPLE, &TrackOptions::default());
    net.sync_all();
    for (n, name) in [(1, "Carl"), (2, "Dora")] {
        net.run(n, &format!("INSERT INTO people VALUES (1, '{name}', 1), (2, '{name} man', 1)"));
        net.wait(1000);
    }
    sync_twice(&mut net);
    for n in 0..=2 {
        assert!(net.held(n).is_empty(), "held on machine {n}");
        let bosses = "SELECT p.name, b.name FROM people p JOIN people b ON b.id = p.boss ORDER BY 1";
        let pairs = [("Carl", "Carl"), ("Carl man", "Carl"), ("Dora", "Dora"), ("Dora man", "Dora")];
        assert_eq!(
            net.query(n, bosses),
            pairs.map(|(p, b)| format!("Text(\"{p}\") Text(\"{b}\")")),
            "machine {n}"
        );
    }
}

/// Makes each row that is in conflict and does not show a new one, with its references.
fn choose_all(net: &mut Network, n: usize, rows: &[(&str, &str)]) -> Vec<u64> {
    let mut followed = vec![];
    for (table, key) in rows {
        let (now, choice) = (net.now, Choice::AsNewRow { number: 1, key: None, with_references: true });
        let made = net.replica(n).choose(now, table, key, &choice).expect("a choice").expect("a new row");
        followed.push(made.references);
        net.wait(1000);
    }
    followed
}

#[test]
fn rows_in_conflict_that_become_new_ones_keep_their_parents_whichever_is_chosen_first() {
    const SCHEMA: &str = "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE orders(id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers(id), of TEXT, name TEXT);
        CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT, boss INTEGER REFERENCES people(id), of TEXT)";
    const STRAY: &str = "SELECT o.of, c.name FROM orders o LEFT JOIN customers c ON c.id = o.customer_id WHERE c.name IS NOT o.of
        UNION ALL SELECT p.of, b.name FROM people p LEFT JOIN people b ON b.id = p.boss WHERE b.name IS NOT p.of";
    let options = TrackOptions { keep_numbers: true, ..TrackOptions::default() };
    let orders: [&[(&str, &str)]; 2] = [
        &[("customers", "1"), ("orders", "1"), ("people", "1"), ("people", "2")],
        &[("people", "2"), ("people", "1"), ("orders", "1"), ("customers", "1")],
    ];
    // Where the children are written on the other machine first, the rows that show are of both.
    for (chooser, other, mixed) in
        [(1, 1, false), (2, 2, false), (1, 2, false), (1, 1, true), (2, 2, true), (2, 1, true)]
    {
        for rows in orders {
            let mut net = Network::new(22, 2, SCHEMA, &options);
            net.sync_all();
            let mut machines = [(1, "Carl"), (2, "Dora")];
            for (n, name) in machines {
                net.run(n, &format!("INSERT INTO customers VALUES (1, '{name}'); INSERT INTO people VALUES (1, '{name}', 1, '{name}')"));
                net.wait(1000);
            }
            if mixed {
                machines.reverse();
            }
            for (n, name) in machines {
                net.run(
                    n,
                    &format!(
                        "INSERT INTO orders VALUES (1, 1, '{name}', 'order');
                         INSERT INTO people VALUES (2, '{name} man', 1, '{name}')"
                    ),
                );
                net.wait(1000);
            }
            sync_twice(&mut net);
            // Half of them are chosen on another machine.
            choose_all(&mut net, chooser, &rows[..2]);
            sync_twice(&mut net);
            choose_all(&mut net, other, &rows[2..]);
            sync_twice(&mut net);
            for n in 0..=2 {
                assert_eq!(net.query(n, STRAY), [""; 0], "{chooser}, {rows:?}, machine {n}");
                assert_eq!(net.query(n, "SELECT count(*) FROM people"), ["Integer(4)"]);
                assert!(net.replica(n).conflicts(None).expect("a list").is_empty());
            }
        }
    }
}

/// Orders whose keys clash with no others.
const ORDERS: &str = "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE orders(id TEXT PRIMARY KEY, customer_id INTEGER REFERENCES customers(id), of TEXT)";

#[test]
fn references_follow_a_row_that_becomes_new_though_another_row_was_written_after_them() {
    let options = TrackOptions { keep_numbers: true, ..TrackOptions::default() };
    for chooser in [1, 2] {
        let mut net = Network::new(23, 2, ORDERS, &options);
        net.sync_all();
        for (n, name) in [(1, "Carl"), (2, "Dora")] {
            net.run(n, &format!("INSERT INTO customers VALUES (1, '{name}')"));
            net.wait(1000);
            net.run(n, &format!("INSERT INTO orders VALUES ('{name}', 1, '{name}')"));
            net.wait(1000);
            net.run(n, &format!("INSERT INTO customers VALUES (1{n}, '{name} the younger')"));
            net.wait(1000);
        }
        sync_twice(&mut net);
        assert_eq!(choose_all(&mut net, chooser, &[("customers", "1")]), [1], "chosen on {chooser}");
        sync_twice(&mut net);
        for n in 0..=2 {
            assert_eq!(net.query(n, STRAY_ORDERS), [""; 0], "chosen on {chooser}, machine {n}");
        }
    }
}

#[test]
fn references_from_before_the_first_sync_follow_a_row_that_becomes_new() {
    for (chooser, before) in [(1, true), (2, true), (1, false), (2, false)] {
        let options = TrackOptions { keep_numbers: true, ..TrackOptions::default() };
        let mut net = Network::new(24, 0, "", &options);
        for name in ["Carl", "Dora"] {
            let n = net.add_machine(ORDERS, Follow::Tracked);
            let rows = format!(
                "INSERT INTO customers VALUES (1, '{name}'); INSERT INTO orders VALUES ('{name}', 1, '{name}')"
            );
            if before {
                net.run_unseen(n, &rows);
            }
            net.track_again(n);
            if !before {
                net.run(n, &rows);
            }
            net.wait(1000);
        }
        sync_twice(&mut net);
        net.wait(1000);
        // Who has seen both means the one that shows.
        for n in 1..=2 {
            net.run(
                n,
                &format!("INSERT INTO orders SELECT 'late {n}', id, name FROM customers WHERE id = 1"),
            );
        }
        sync_twice(&mut net);
        assert_eq!(
            choose_all(&mut net, chooser, &[("customers", "1")]),
            [1],
            "chosen on {chooser}, {before}"
        );
        sync_twice(&mut net);
        for n in 0..=2 {
            assert_eq!(net.query(n, STRAY_ORDERS), [""; 0], "chosen on {chooser}, {before}, machine {n}");
        }
    }
}

#[test]
fn what_refers_to_a_column_that_follows_a_row_which_becomes_new_follows_in_turn() {
    const SCHEMA: &str = "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE profiles(id TEXT PRIMARY KEY, customer UNIQUE REFERENCES customers(id));
        CREATE TABLE posts(id TEXT PRIMARY KEY, who REFERENCES profiles(customer), of TEXT)";
    const STRAY: &str = "SELECT p.of, c.name FROM posts p LEFT JOIN profiles f ON f.customer = p.who
        LEFT JOIN customers c ON c.id = f.customer WHERE c.name IS NOT p.of";
    let options = TrackOptions { keep_numbers: true, ..TrackOptions::default() };
    for (chooser, both) in [(1, true), (2, true), (1, false), (2, false)] {
        let mut net = Network::new(25, 2, SCHEMA, &options);
        net.sync_all();
        for (n, name) in [(1, "Carl"), (2, "Dora")] {
            net.run(n, &format!("INSERT INTO customers VALUES (1, '{name}')"));
            if both || n == 1 {
                net.run(n, &format!("INSERT INTO profiles VALUES ('{name}', 1); INSERT INTO posts VALUES ('{name}', 1, '{name}')"));
            }
            net.wait(1000);
        }
        sync_twice(&mut net);
        choose_all(&mut net, chooser, &[("customers", "1")]);
        sync_twice(&mut net);
        for n in 0..=2 {
            assert!(
                net.held(n).is_empty(),
                "chosen on {chooser}, both: {both}, machine {n}: {:?}",
                net.held(n)
            );
            assert_eq!(net.query(n, STRAY), [""; 0], "chosen on {chooser}, both: {both}, machine {n}");
        }
    }
}

#[test]
fn of_three_rows_under_a_key_the_one_that_becomes_new_ends_alone() {
    let options = TrackOptions { keep_numbers: true, ..TrackOptions::default() };
    let mut net = Network::new(26, 3, SCHEMA, &options);
    net.sync_all();
    for (n, name) in [(1, "Carl"), (2, "Dora"), (3, "Emil")] {
        net.run(
            n,
            &format!(
                "INSERT INTO customers VALUES (1, '{name}'); INSERT INTO orders VALUES ({n}, 1, '{name}', '')"
            ),
        );
        net.wait(1000);
    }
    sync_twice(&mut net);
    assert_eq!(choose_all(&mut net, 1, &[("customers", "1")]), [1]);
    sync_twice(&mut net);
    assert_eq!(net.replica(2).conflicts(None).expect("a list").len(), 1);
    assert_eq!(choose_all(&mut net, 2, &[("customers", "1")]), [1]);
    sync_twice(&mut net);
    for n in 0..=3 {
        assert_eq!(net.query(n, "SELECT count(*) FROM customers"), ["Integer(3)"]);
        assert_eq!(net.query(n, STRAY), [""; 0], "machine {n}");
    }
}

#[test]
fn a_child_that_moves_to_another_key_leaves_the_one_beside_it_and_takes_its_other_references() {
    const SCHEMA: &str = "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE tags(id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE tagged(customer INTEGER REFERENCES customers(id), tag INTEGER REFERENCES tags(id), of TEXT, PRIMARY KEY (customer, tag))";
    const STRAY: &str = "SELECT x.*, c.name, t.name FROM tagged x LEFT JOIN customers c ON c.id = customer LEFT JOIN tags t ON t.id = tag
        WHERE c.name IS NOT x.of OR t.name IS NOT x.of";
    let options = TrackOptions { keep_numbers: true, ..TrackOptions::default() };
    for order in [["customers", "tags"], ["tags", "customers"]] {
        let mut net = Network::new(27, 2, SCHEMA, &options);
        net.sync_all();
        for (n, name) in [(1, "Carl"), (2, "Dora")] {
            net.run(
                n,
                &format!("INSERT INTO customers VALUES (1, '{name}'); INSERT INTO tags VALUES (1, '{name}')"),
            );
            net.capture(n);
            net.wait(1000);
        }
        // The link that shows is of the customer that does not.
        for (n, name) in [(2, "Dora"), (1, "Carl")] {
            net.run(n, &format!("INSERT INTO tagged VALUES (1, 1, '{name}')"));
            net.capture(n);
            net.wait(1000);
        }
        sync_twice(&mut net);
        choose_all(&mut net, 1, &order.map(|table| (table, "1")));
        sync_twice(&mut net);
        for n in 0..=2 {
            assert_eq!(net.query(n, "SELECT count(*) FROM tagged"), ["Integer(2)"], "{order:?}, machine {n}");
            assert_eq!(net.query(n, STRAY), [""; 0], "{order:?}, machine {n}");
        }
    }
}

/// Two devices that wrote a customer each; the second has a table of its own, which is not tracked, with these triggers.
fn with_ledger(seed: u64, triggers: &str) -> Network {
    let schema = format!("{SCHEMA} CREATE TABLE other(id TEXT PRIMARY KEY);");
    let mut net = Network::new(seed, 2, &schema, &TrackOptions::default());
    net.sync_all();
    net.run(
        2,
        &format!(
            "CREATE TABLE ledger(id INTEGER PRIMARY KEY, customer REFERENCES customers(id)); {triggers}"
        ),
    );
    net.run(1, &customer("Carl"));
    net.wait(1000);
    net.run(2, &customer("Dora"));
    net.run(2, "INSERT INTO ledger(customer) SELECT id FROM customers; INSERT INTO other VALUES ('b')");
    net
}

#[test]
fn a_row_that_cannot_move_stops_its_table_alone_until_the_cause_is_gone() {
    for raise in ["ABORT", "FAIL", "ROLLBACK"] {
        let trigger = format!(
            "CREATE TRIGGER fixed BEFORE UPDATE OF customer ON ledger BEGIN SELECT RAISE({raise}, 'refs are fixed'); END"
        );
        let mut net = with_ledger(30, &trigger);
        for _ in 0..2 {
            net.sync(1);
            net.talk(2, None).expect("a talk that ends");
            assert_eq!(net.query(0, "SELECT * FROM other"), ["Text(\"b\")"], "{raise}: other tables sync");
            assert_eq!(net.query(2, "SELECT name FROM customers"), ["Text(\"Dora\")"]);
            let stopped = net.replica(2).stopped();
            let why =
                stopped.iter().find(|(table, _)| table == "customers").map(|(_, stop)| stop.why.clone());
            let why = why.expect("the table is stopped");
            assert!(why.contains("ledger.customer") && why.contains("refs are fixed"), "{why}");
            let waiting: Vec<_> = stopped.iter().map(|(table, _)| table.as_str()).collect();
            assert_eq!(waiting, ["customers", "lines", "orders"]);
        }
        net.run(2, "DROP TRIGGER fixed");
        sync_twice(&mut net);
        check(&mut net, &["Carl", "Dora"]);
        assert!(net.replica(2).stopped().is_empty());
        let names = "SELECT c.name FROM ledger JOIN customers c ON c.id = customer";
        assert_eq!(net.query(2, names), ["Text(\"Dora\")"]);
    }
}

#[test]
fn a_trigger_on_the_list_of_moves_that_fails_stops_no_move() {
    for raise in ["ABORT", "FAIL", "ROLLBACK"] {
        let trigger = format!(
            "CREATE TRIGGER told AFTER INSERT ON piecewise_renumbered BEGIN SELECT RAISE({raise}, 'not now'); END"
        );
        let mut net = with_ledger(31, &trigger);
        sync_twice(&mut net);
        check(&mut net, &["Carl", "Dora"]);
        let listed = "SELECT old, new FROM piecewise_renumbered WHERE table_name = 'customers'";
        assert_eq!(net.query(2, listed), ["Integer(1) Integer(2)"], "{raise}");
    }
}

#[test]
fn what_track_is_asked_for_on_a_later_device_is_described() {
    const SCHEMA: &str = "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE notes(id TEXT PRIMARY KEY, about INTEGER, of TEXT)";
    for keep_numbers in [false, true] {
        for (before, access) in [(0, Access::Write), (1, Access::Admin)] {
            let mut net = Network::new(40, 1, SCHEMA, &TrackOptions::default());
            net.sync_all();
            let rows = if before == 1 { "INSERT INTO customers VALUES (7, 'known')" } else { "" };
            let late = net.add_machine(&format!("{SCHEMA}; {rows}"), Follow::Tracked);
            net.allow(late, Some(access));
            let about =
                Reference { column: "about".into(), parent: "customers".into(), parent_column: "id".into() };
            for table in ["customers", "notes"] {
                let references = if table == "notes" { vec![about.clone()] } else { vec![] };
                let options = TrackOptions { keep_numbers, references, ..TrackOptions::default() };
                net.replica(late).track(table, &options).expect("it can be tracked");
            }
            sync_twice(&mut net);
            for (n, name) in [(1, "Carl"), (late, "Dora")] {
                net.run(
                    n,
                    &format!(
                        "INSERT INTO customers(name) VALUES ('{name}');
                         INSERT INTO notes SELECT name, id, name FROM customers WHERE name = '{name}'"
                    ),
                );
                net.wait(1000);
            }
            sync_twice(&mut net);
            for n in 0..=2 {
                // To say that rows keep their numbers takes more than to write.
                let kept = keep_numbers && access == Access::Admin;
                let count = net.query(n, "SELECT count(*) FROM customers WHERE name <> 'known'");
                assert_eq!(
                    count,
                    [if kept { "Integer(1)" } else { "Integer(2)" }],
                    "machine {n}, {access:?}"
                );
                let stray = "SELECT n.of, c.name FROM notes n LEFT JOIN customers c ON c.id = about WHERE c.name IS NOT n.of";
                assert!(kept || net.query(n, stray).is_empty(), "machine {n}: {keep_numbers}, {access:?}");
            }
        }
    }
}

#[test]
fn a_reference_names_the_key_of_a_table_that_is_there() {
    let mut net = network(41);
    let now = net.now;
    for (parent, column) in [("custommers", "id"), ("customers", "nid"), ("customers", "name")] {
        let refused = net.replica(1).add_reference(now, "lines", "n", parent, column);
        assert!(matches!(refused, Err(ReplicaError::NotFound { .. })), "{parent}.{column}: {refused:?}");
        net.run(1, &format!("CREATE TABLE x_{column}_{parent}(id INTEGER PRIMARY KEY, about INTEGER)"));
        let reference =
            Reference { column: "about".into(), parent: parent.into(), parent_column: column.into() };
        let options = TrackOptions { references: vec![reference], ..TrackOptions::default() };
        let refused = net.replica(1).track(&format!("x_{column}_{parent}"), &options);
        assert!(matches!(refused, Err(ReplicaError::NotFound { .. })), "{parent}.{column}: {refused:?}");
    }
}

#[test]
fn references_follow_that_only_the_description_has_and_where_the_key_has_another_name() {
    let schema = |declared: &str| {
        format!(
            "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT);
             CREATE TABLE notes(id TEXT PRIMARY KEY, about INTEGER {declared}, of TEXT)"
        )
    };
    for declared in ["REFERENCES customers(id)", ""] {
        let mut net = Network::new(42, 1, &schema(declared), &TrackOptions::default());
        let now = net.now;
        if declared.is_empty() {
            net.replica(1).add_reference(now, "notes", "about", "customers", "id").expect("a reference");
        }
        net.sync_all();
        let late = net.add_machine(&schema(""), Follow::Tracked);
        net.track_again(late);
        sync_twice(&mut net);
        if declared.is_empty() {
            net.run(late, "ALTER TABLE customers RENAME COLUMN id TO number");
        }
        for (n, name) in [(1, "Carl"), (late, "Dora")] {
            net.run(
                n,
                &format!(
                    "INSERT INTO customers(name) VALUES ('{name}');
                     INSERT INTO notes SELECT name, customers.rowid, name FROM customers WHERE name = '{name}'"
                ),
            );
            net.wait(1000);
        }
        sync_twice(&mut net);
        for n in 0..=1 {
            let names = "SELECT n.of, c.name FROM notes n LEFT JOIN customers c ON c.id = about ORDER BY 1";
            let pairs = ["Carl", "Dora"].map(|name| format!("Text(\"{name}\") Text(\"{name}\")"));
            assert_eq!(net.query(n, names), pairs, "machine {n}, {declared:?}");
        }
    }
}

#[test]
fn rows_that_are_to_move_at_first_contact_do_so_although_it_is_cut() {
    for cut in 4..24 {
        let mut net = Network::new(43, 1, SCHEMA, &TrackOptions::default());
        net.sync_all();
        let rows = format!("{}; {}", customer("Alma"), customer("Bert"));
        let options = TrackOptions { renumber_mine: true, ..TrackOptions::default() };
        let late = machine_with(&mut net, &rows, &options);
        net.talk(late, Some(cut)).expect("a talk that is cut");
        net.wait(1000);
        net.run(1, &customer("Carl"));
        net.sync(1);
        sync_twice(&mut net);
        check(&mut net, &["Alma", "Bert", "Carl"]);
    }
}

#[test]
fn references_follow_that_have_more_columns_than_the_key() {
    const SCHEMA: &str = "CREATE TABLE customers(id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, name TEXT, UNIQUE (tenant, id));
        CREATE TABLE orders(id INTEGER PRIMARY KEY, tenant TEXT, customer_id INTEGER, of TEXT, name TEXT, UNIQUE (id, tenant),
          FOREIGN KEY (tenant, customer_id) REFERENCES customers(tenant, id));
        CREATE TABLE lines(tenant TEXT, order_id INTEGER, n INTEGER, of TEXT, PRIMARY KEY (tenant, order_id, n),
          FOREIGN KEY (order_id, tenant) REFERENCES orders(id, tenant)) WITHOUT ROWID";
    let mut net = Network::new(50, 2, SCHEMA, &TrackOptions::default());
    net.sync_all();
    for (n, name) in [(1, "Carl"), (2, "Dora")] {
        net.run(
            n,
            &format!(
                "INSERT INTO customers(tenant, name) VALUES ('t', '{name}');
                 INSERT INTO orders(tenant, customer_id, of, name) SELECT tenant, id, name, name || ' order' FROM customers;
                 INSERT INTO lines SELECT tenant, id, 1, name FROM orders"
            ),
        );
        net.wait(1000);
    }
    sync_twice(&mut net);
    check(&mut net, &["Carl", "Dora"]);
}

#[test]
fn rows_of_a_restored_file_are_known_again_though_its_log_had_not_been_captured() {
    let mut net = network(60);
    for name in ["Dora", "Emil", "Fay"] {
        net.run(2, &customer(name));
    }
    // With its log as the application left it.
    let copy = net.backup(2);
    net.wait(1000);
    net.run(1, &customer("Carl"));
    net.sync(1);
    net.sync(2);
    net.wait(1000);
    net.restore(2, &copy);
    sync_twice(&mut net);
    check(&mut net, &["Carl", "Dora", "Emil", "Fay"]);
    assert_eq!(net.query(1, "SELECT id FROM customers WHERE name = 'Carl'"), ["Integer(1)"]);
}

#[test]
fn a_row_that_its_table_takes_under_no_other_number_is_in_conflict_and_not_held() {
    const SCHEMA: &str = "CREATE TABLE settings(id INTEGER PRIMARY KEY CHECK (id = 1), theme TEXT);
        CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT CHECK (name <> ''))";
    let mut net = Network::new(70, 2, SCHEMA, &TrackOptions::default());
    net.sync_all();
    for (n, name) in [(1, "Carl"), (2, "Dora")] {
        net.run(
            n,
            &format!(
                "INSERT INTO settings VALUES (1, '{name}'); INSERT INTO customers(name) VALUES ('{name}')"
            ),
        );
        net.wait(1000);
    }
    sync_twice(&mut net);
    net.check_same("SELECT * FROM settings");
    for n in 0..=2 {
        assert_eq!(
            net.query(n, "SELECT name FROM customers ORDER BY id"),
            ["Text(\"Carl\")", "Text(\"Dora\")"]
        );
        assert!(net.held(n).is_empty(), "held on machine {n}");
        assert_eq!(net.replica(n).conflicts(None).expect("a list").len(), 1, "machine {n}");
    }
}

/// An offline insert got the number of a row that lived and was deleted meanwhile: what others wrote to that one does not become its own.
#[test]
fn a_row_moves_from_the_number_of_one_that_was_deleted_unknown_to_it() {
    let schema = "CREATE TABLE customers(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
        CREATE TABLE orders(id TEXT PRIMARY KEY, customer_id INT, of TEXT)";
    for order_comes_first in [false, true] {
        let mut net = Network::new(57, 3, schema, &TrackOptions::default());
        net.sync_all();
        net.run(1, "INSERT INTO customers VALUES (1, 'Ann')");
        net.run(2, "INSERT INTO customers VALUES (1, 'Bob')");
        net.sync(2);
        net.sync(3);
        net.run(3, "INSERT INTO orders VALUES ('o', 1, 'Bob')");
        if order_comes_first {
            net.sync(3);
        }
        net.run(2, "DELETE FROM customers");
        net.sync(2);
        net.sync(1);
        for _ in 0..3 {
            net.wait(1000);
            net.sync_all();
        }
        for n in 0..=3 {
            assert_eq!(net.query(n, "SELECT name FROM customers"), ["Text(\"Ann\")"], "machine {n}");
            let of = net.query(n, "SELECT of FROM orders JOIN customers c ON c.id = customer_id");
            assert_eq!(of, [""; 0], "machine {n}: the order was not Ann's");
            assert_eq!(net.query(n, "SELECT customer_id FROM orders"), ["Integer(1)"], "machine {n}");
        }
        assert_eq!(net.replica(1).take_renumbered().len(), 1);
    }
}

/// References that were written here follow also where another device's value, or another device's row under the key, shows by now.
#[test]
fn references_follow_that_do_not_show() {
    let schema = "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE orders(id TEXT PRIMARY KEY, customer_id INTEGER REFERENCES customers(id), of TEXT)";
    let mut net = Network::new(58, 2, schema, &TrackOptions::default());
    net.run(
        1,
        "INSERT INTO customers VALUES (1, 'first'); INSERT INTO orders VALUES ('both edit', 1, 'first')",
    );
    for n in [1, 2, 1] {
        net.sync(n);
    }
    net.run(
        2,
        "INSERT INTO customers VALUES (2, 'of 2'); INSERT INTO orders VALUES ('both insert', 2, 'of 2');
         UPDATE orders SET customer_id = 2, of = 'of 2' WHERE id = 'both edit'",
    );
    net.capture(2);
    net.wait(1000);
    net.run(
        1,
        "INSERT INTO customers VALUES (2, 'of 1'); INSERT INTO orders VALUES ('both insert', 2, 'of 1');
         UPDATE orders SET customer_id = 2, of = 'of 1' WHERE id = 'both edit'",
    );
    net.sync(1);
    sync_twice(&mut net);
    for n in 0..=2 {
        assert_eq!(net.query(n, STRAY_ORDERS), [""; 0], "machine {n}");
        let conflicts = net.replica(n).conflicts(None).expect("a list");
        assert!(!conflicts.is_empty(), "machine {n}");
        // Orders of customer 3, who is 2's, stand in all that was written there, also where it does not show.
        assert_eq!(
            conflicts.iter().filter(|c| format!("{c:?}").contains("Integer(3)")).count(),
            2,
            "{conflicts:?}"
        );
    }
    // The row that shows goes, unseen by who has the other.
    net.run(1, "DELETE FROM orders WHERE id = 'both insert'");
    sync_twice(&mut net);
    for n in 0..=2 {
        assert_eq!(net.query(n, STRAY_ORDERS), [""; 0], "machine {n}");
    }
}

const STRAY_ORDERS: &str = "SELECT o.id, o.of, c.name FROM orders o LEFT JOIN customers c ON c.id = o.customer_id WHERE c.name IS NOT o.of";

/// A row that cannot show here, since its parent is gone, has its own references, not those of the server's row of its number.
#[test]
fn a_held_row_that_moves_keeps_its_own_parent() {
    let schema = "CREATE TABLE groups(id TEXT PRIMARY KEY);
        CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE orders(id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers(id), of TEXT,
          group_id TEXT REFERENCES groups(id))";
    let mut net = Network::new(59, 2, schema, &TrackOptions::default());
    net.run(1, "INSERT INTO groups VALUES ('g')");
    for n in [1, 2, 1] {
        net.sync(n);
    }
    net.run(
        2,
        "INSERT INTO customers VALUES (1, '2a'), (2, '2b'); INSERT INTO orders VALUES (1, 2, '2b', 'g')",
    );
    net.run(
        1,
        "INSERT INTO customers VALUES (1, '1a'), (2, '1b'); INSERT INTO orders VALUES (1, 1, '1a', NULL);
         DELETE FROM groups",
    );
    net.sync(1);
    sync_twice(&mut net);
    net.run(1, "INSERT INTO groups VALUES ('g')");
    sync_twice(&mut net);
    for n in 0..=2 {
        assert_eq!(net.query(n, STRAY_ORDERS), [""; 0], "machine {n}");
        assert_eq!(
            net.query(n, "SELECT of FROM orders ORDER BY of"),
            ["Text(\"1a\")", "Text(\"2b\")"],
            "machine {n}"
        );
    }
}

/// What was written to a row of a restored file, which is at the server under another number, means the parents as they are there.
#[test]
fn an_edit_of_a_reference_in_a_restored_file_follows() {
    let mut net = network(60);
    net.run(1, &customer("one"));
    net.sync(1);
    net.run(2, &format!("{};{}", customer("two"), customer("three")));
    net.capture(2);
    let copy = net.backup(2);
    net.sync(2);
    net.restore(2, &copy);
    net.run(2, "UPDATE orders SET customer_id = 1, of = 'two' WHERE of = 'three'");
    sync_twice(&mut net);
    for n in 0..=2 {
        let stray = "SELECT o.name, c.name FROM orders o LEFT JOIN customers c ON c.id = o.customer_id WHERE c.name IS NOT o.of";
        assert_eq!(net.query(n, stray), [""; 0], "machine {n}");
        assert_eq!(net.query(n, "SELECT count(*) FROM orders"), ["Integer(3)"], "machine {n}");
    }
}

#[test]
fn tables_that_keep_their_numbers_from_now_on_wait_for_each_other_no_longer() {
    let mut net = network(61);
    let now = net.now;
    for table in ["customers", "orders"] {
        assert!(net.replica(1).keep_numbers(now, table, true).expect("a setting"));
    }
    for n in [1, 2, 1] {
        net.sync(n);
    }
    net.run(2, &customer("two"));
    sync_twice(&mut net);
    check(&mut net, &["two"]);
}

/// A row that was refused is not the one that another device inserted under its number meanwhile.
#[test]
fn a_refused_row_that_is_tried_again_moves_from_a_number_that_is_taken() {
    for edits_it in [false, true] {
        let mut net = network(62);
        net.run(2, "INSERT INTO customers(name) VALUES ('two')");
        net.capture(2);
        net.allow(2, Some(Access::Read));
        net.sync(2);
        net.allow(2, Some(Access::Write));
        net.run(1, "INSERT INTO customers(name) VALUES ('one')");
        net.sync(1);
        net.sync(2);
        let now = net.now;
        match edits_it {
            true => net.run(2, "UPDATE customers SET name = name || '!'"),
            false => assert_eq!(net.replica(2).retry_refused(now).expect("it is written again"), 1),
        }
        sync_twice(&mut net);
        let two = if edits_it { "Integer(2) Text(\"two!\")" } else { "Integer(2) Text(\"two\")" };
        for n in 0..=2 {
            assert_eq!(
                net.query(n, "SELECT * FROM customers"),
                ["Integer(1) Text(\"one\")", two],
                "machine {n}"
            );
        }
        assert!(net.replica(2).refused().expect("a list").is_empty());
    }
}
