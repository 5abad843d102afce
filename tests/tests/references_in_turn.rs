//! References to columns that are references: what changes in a row since its parent moves is followed in turn.

use piecewise_core::replica::TrackOptions;
use piecewise_tests::network::Network;

const CUSTOMERS: &str = "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT);";

fn sync_until_quiet(net: &mut Network) {
    for _ in 0..3 {
        net.wait(1000);
        net.sync_all();
    }
}

/// Two devices insert the same rows, with `@` as their names; then all machines have the rows of both, and `stray` finds none.
#[track_caller]
fn check_both(schema: &str, rows: &str, stray: &str, counted: &str) {
    let mut net = Network::new(1, 2, schema, &TrackOptions::default());
    net.sync_all();
    for (n, name) in [(1, "Carl"), (2, "Dora")] {
        net.run(n, &rows.replace('@', name));
        net.wait(1000);
    }
    sync_until_quiet(&mut net);
    for n in 0..=2 {
        if n > 0 || !schema.contains(" AS ") {
            assert_eq!(net.query(n, stray), [""; 0], "machine {n}: {schema}");
        }
        let count = format!("SELECT count(*) FROM {counted}");
        assert_eq!(net.query(n, &count), ["Integer(2)"], "machine {n}: {schema}");
        assert!(net.held(n).is_empty(), "held on machine {n}: {schema}");
        let conflicts = net.replica(n).conflicts(None).expect("a list");
        assert!(conflicts.is_empty(), "machine {n}: {schema}: {conflicts:?}");
    }
}

#[test]
fn a_reference_to_a_unique_reference_follows() {
    for (profile, visit) in [("INT", "INT"), ("TEXT", "INT"), ("INT", "TEXT"), ("", ""), ("NUMERIC", "")] {
        let schema = format!(
            "{CUSTOMERS}
             CREATE TABLE profiles(id TEXT PRIMARY KEY, customer {profile} UNIQUE REFERENCES customers(id));
             CREATE TABLE visits(id TEXT PRIMARY KEY, customer {visit} REFERENCES profiles(customer));"
        );
        let rows = "INSERT INTO customers(name) VALUES ('@');
            INSERT INTO profiles SELECT '@', id FROM customers WHERE name = '@';
            INSERT INTO visits SELECT '@', customer FROM profiles WHERE id = '@'";
        let stray = "SELECT v.id FROM visits v LEFT JOIN profiles p ON p.customer = v.customer
            LEFT JOIN customers c ON c.id = p.customer WHERE v.id IS NOT p.id OR p.id IS NOT c.name";
        check_both(&schema, rows, stray, "visits");
    }
}

#[test]
fn keys_that_are_references_to_a_unique_reference_follow_with_what_refers_to_them() {
    let schema = format!(
        "{CUSTOMERS}
         CREATE TABLE profiles(id TEXT PRIMARY KEY, customer INT UNIQUE REFERENCES customers(id));
         CREATE TABLE cards(customer INTEGER PRIMARY KEY REFERENCES profiles(customer), of TEXT);
         CREATE TABLE stamps(customer INT REFERENCES cards(customer), n INT, of TEXT, PRIMARY KEY (customer, n));
         CREATE TABLE notes(id TEXT PRIMARY KEY, customer INT, n INT, FOREIGN KEY (customer, n) REFERENCES stamps(customer, n));"
    );
    let rows = "INSERT INTO customers(name) VALUES ('@');
        INSERT INTO profiles SELECT '@', id FROM customers WHERE name = '@';
        INSERT INTO cards SELECT customer, '@' FROM profiles WHERE id = '@';
        INSERT INTO stamps SELECT customer, 1, '@' FROM profiles WHERE id = '@';
        INSERT INTO notes SELECT '@', customer, 1 FROM profiles WHERE id = '@'";
    let stray = "SELECT n.id FROM notes n LEFT JOIN stamps s ON s.customer = n.customer AND s.n = n.n
        LEFT JOIN cards k ON k.customer = s.customer LEFT JOIN profiles p ON p.customer = k.customer
        LEFT JOIN customers c ON c.id = p.customer
        WHERE n.id IS NOT s.of OR s.of IS NOT k.of OR k.of IS NOT p.id OR p.id IS NOT c.name";
    check_both(&schema, rows, stray, "notes");
}

#[test]
fn references_to_several_columns_follow_where_some_of_these_do() {
    let schema = format!(
        "{CUSTOMERS}
         CREATE TABLE orders(id TEXT PRIMARY KEY, customer INT REFERENCES customers(id), n INT, UNIQUE (customer, n));
         CREATE TABLE lines(id TEXT PRIMARY KEY, customer INT, n INT, FOREIGN KEY (customer, n) REFERENCES orders(customer, n));
         CREATE TABLE parts(id INTEGER PRIMARY KEY, of TEXT, customer INT, FOREIGN KEY (customer) REFERENCES customers(id), UNIQUE (id, customer));
         CREATE TABLE uses(id TEXT PRIMARY KEY, part INT, customer INT, FOREIGN KEY (part, customer) REFERENCES parts(id, customer));"
    );
    let rows = "INSERT INTO customers(name) VALUES ('@');
        INSERT INTO orders SELECT '@ ' || n, id, n FROM customers, (SELECT 1 AS n UNION SELECT 2) WHERE name = '@';
        INSERT INTO lines SELECT '@', customer, n FROM orders WHERE id = '@ 2';
        INSERT INTO parts SELECT 10 + id, '@', id FROM customers WHERE name = '@';
        INSERT INTO uses SELECT '@', id, customer FROM parts WHERE of = '@'";
    let stray = "SELECT l.id FROM lines l LEFT JOIN orders o ON o.customer = l.customer AND o.n = l.n
        LEFT JOIN customers c ON c.id = o.customer WHERE l.id || ' 2' IS NOT o.id OR l.id IS NOT c.name
        UNION ALL SELECT u.id FROM uses u LEFT JOIN parts p ON p.id = u.part AND p.customer = u.customer
        LEFT JOIN customers c ON c.id = p.customer WHERE u.id IS NOT p.of OR u.id IS NOT c.name";
    check_both(&schema, rows, stray, "lines");
}

#[test]
fn a_reference_to_a_generated_column_follows_where_that_changes() {
    for kind in ["STORED", "VIRTUAL"] {
        let schema = format!(
            "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT,
               code TEXT GENERATED ALWAYS AS ('C' || id) {kind} UNIQUE, lower TEXT GENERATED ALWAYS AS (lower(name)) {kind} UNIQUE);
             CREATE TABLE orders(id TEXT PRIMARY KEY, code REFERENCES customers(code), of REFERENCES customers(lower));"
        );
        let rows = "INSERT INTO customers(name) VALUES ('@');
            INSERT INTO orders SELECT '@', code, lower FROM customers WHERE name = '@'";
        let stray = "SELECT o.id FROM orders o LEFT JOIN customers c ON c.code = o.code WHERE o.id IS NOT c.name OR o.of IS NOT c.lower";
        check_both(&schema, rows, stray, "orders");
    }
}

#[test]
fn a_generated_reference_may_go_with_the_column_of_which_it_is_made() {
    let schema = format!(
        "{CUSTOMERS}
         CREATE TABLE orders(id TEXT PRIMARY KEY, customer INT REFERENCES customers(id),
           also INT GENERATED ALWAYS AS (customer) STORED REFERENCES customers(id));"
    );
    let rows = "INSERT INTO customers(name) VALUES ('@'); INSERT INTO orders(id, customer) SELECT '@', id FROM customers WHERE name = '@'";
    let stray = "SELECT o.id FROM orders o LEFT JOIN customers c ON c.id = o.also WHERE o.id IS NOT c.name";
    check_both(&schema, rows, stray, "orders");
}

/// What is said of a table on a machine where it is stopped.
fn why_stopped(net: &mut Network, n: usize, table: &str) -> Option<String> {
    let stopped = net.replica(n).stopped();
    stopped.into_iter().find(|(name, _)| name == table).map(|(_, stop)| stop.why)
}

#[test]
fn a_generated_reference_that_cannot_follow_stops_the_table_with_words() {
    let schema = format!(
        "{CUSTOMERS}
         CREATE TABLE orders(id TEXT PRIMARY KEY, doc TEXT, customer INT GENERATED ALWAYS AS (json_extract(doc, '$.c')) STORED REFERENCES customers(id));"
    );
    let mut net = Network::new(1, 2, &schema, &TrackOptions::default());
    net.sync_all();
    for (n, name) in [(1, "Carl"), (2, "Dora")] {
        let rows = "INSERT INTO customers(name) VALUES ('@'); INSERT INTO orders(id, doc) SELECT '@', json_object('c', id) FROM customers WHERE name = '@'";
        net.run(n, &rows.replace('@', name));
        net.wait(1000);
    }
    net.sync(1);
    for _ in 0..2 {
        net.talk(2, None).expect("a talk that ends");
        let why = why_stopped(&mut net, 2, "customers").expect("the table is stopped");
        assert!(why.contains("orders.customer") && why.contains("generated"), "{why}");
        assert_eq!(net.query(2, "SELECT name FROM customers"), ["Text(\"Dora\")"]);
    }
    // Once no row written here refers to one that moves, it goes on.
    net.run(2, "DELETE FROM orders");
    sync_until_quiet(&mut net);
    assert_eq!(why_stopped(&mut net, 2, "customers"), None);
    assert_eq!(net.query(0, "SELECT name FROM customers ORDER BY 1"), ["Text(\"Carl\")", "Text(\"Dora\")"]);
}

#[test]
fn rows_that_refer_to_each_other_by_text_show_together() {
    for kind in ["INT", "TEXT", "NUMERIC", ""] {
        let schema = format!(
            "CREATE TABLE people(id INTEGER PRIMARY KEY, friend {kind} REFERENCES people(id), name TEXT)"
        );
        let mut net = Network::new(1, 2, &schema, &TrackOptions::default());
        net.sync_all();
        for (n, name) in [(1, "Carl"), (2, "Dora")] {
            net.run(n, &format!("BEGIN; PRAGMA defer_foreign_keys = ON; INSERT INTO people VALUES (2, 3, '{name}'), (3, 2, '{name}'); COMMIT"));
            net.wait(1000);
        }
        sync_until_quiet(&mut net);
        for n in 0..=2 {
            let pairs = "SELECT count(*) FROM people p JOIN people f ON f.id = p.friend AND f.name = p.name";
            assert_eq!(net.query(n, pairs), ["Integer(4)"], "machine {n}: {kind}");
            assert!(net.held(n).is_empty(), "held on machine {n}: {kind}");
        }
    }
}

/// Two devices with a tracked table of customers and others that are not tracked; each writes its own rows into all of them.
fn with_others(others: &str, tracked: &str, rows: &str) -> Network {
    let mut net = Network::new(1, 2, &format!("{CUSTOMERS} {tracked}"), &TrackOptions::default());
    net.sync_all();
    for (n, name) in [(1, "Carl"), (2, "Dora")] {
        net.run(n, others);
        let rows = format!("INSERT INTO customers(name) VALUES ('@'); {rows}");
        net.run(n, &rows.replace('@', name));
        net.wait(1000);
    }
    net
}

#[test]
fn tables_that_are_not_tracked_follow_through_each_other() {
    for (others, tracked, rows) in [
        (
            "CREATE TABLE u(customer INT UNIQUE REFERENCES customers(id), of); CREATE TABLE v(customer TEXT REFERENCES u(customer), of)",
            "",
            "INSERT INTO u SELECT id, name FROM customers WHERE name = '@'; INSERT INTO v SELECT customer, of FROM u WHERE of = '@'",
        ),
        (
            "CREATE TABLE u(customer INTEGER PRIMARY KEY REFERENCES customers, of); CREATE TABLE w(customer PRIMARY KEY REFERENCES u) WITHOUT ROWID;
             CREATE TABLE v(customer INT REFERENCES w(customer), of)",
            "",
            "INSERT INTO u SELECT id, name FROM customers WHERE name = '@'; INSERT INTO w SELECT customer FROM u WHERE of = '@';
             INSERT INTO v SELECT customer, of FROM u WHERE of = '@'",
        ),
        (
            "CREATE TABLE u(customer INT REFERENCES customers(id), n INT, of, PRIMARY KEY (customer, n)) WITHOUT ROWID;
             CREATE TABLE v(customer INT, n INT, of, FOREIGN KEY (customer, n) REFERENCES u(customer, n))",
            "",
            "INSERT INTO u SELECT id, 1, name FROM customers WHERE name = '@'; INSERT INTO v SELECT customer, n, of FROM u WHERE of = '@'",
        ),
        (
            "CREATE TABLE u(customer INTEGER PRIMARY KEY REFERENCES customers(id), of)",
            "CREATE TABLE v(id TEXT PRIMARY KEY, customer INT REFERENCES u(customer), of)",
            "INSERT INTO u SELECT id, name FROM customers WHERE name = '@'; INSERT INTO v SELECT of, customer, of FROM u WHERE of = '@'",
        ),
        (
            "CREATE TABLE v(customer INT, n INT, of, FOREIGN KEY (customer, n) REFERENCES lines(customer, n))",
            "CREATE TABLE lines(customer INT REFERENCES customers(id), n INT, of, PRIMARY KEY (customer, n)) WITHOUT ROWID",
            "INSERT INTO lines SELECT id, 1, name FROM customers WHERE name = '@'; INSERT INTO v SELECT customer, n, of FROM lines WHERE of = '@'",
        ),
    ] {
        let mut net = with_others(others, tracked, rows);
        sync_until_quiet(&mut net);
        let names = "SELECT v.of, c.name FROM v LEFT JOIN customers c ON c.id = v.customer WHERE v.of = 'Dora'";
        assert_eq!(net.query(2, names), ["Text(\"Dora\") Text(\"Dora\")"], "{others}");
        assert_eq!(net.query(2, "PRAGMA foreign_key_check"), [""; 0], "{others}");
        assert_eq!(net.query(2, "SELECT old, new FROM piecewise_renumbered"), ["Integer(1) Integer(2)"], "{others}");
    }
}

#[test]
fn a_table_that_undoes_the_change_of_its_reference_stops_the_move() {
    for what in [
        "TRIGGER fixed BEFORE UPDATE ON u BEGIN SELECT RAISE(IGNORE); END",
        "TRIGGER fixed AFTER UPDATE ON u BEGIN UPDATE u SET customer = old.customer WHERE rowid = new.rowid; END",
    ] {
        for key in ["INT", "INTEGER PRIMARY KEY"] {
            let others =
                format!("CREATE TABLE u(customer {key} REFERENCES customers(id), of); CREATE {what}");
            let mut net =
                with_others(&others, "", "INSERT INTO u SELECT id, name FROM customers WHERE name = '@'");
            net.sync(1);
            net.talk(2, None).expect("a talk that ends");
            let why = why_stopped(&mut net, 2, "customers").expect("the table is stopped");
            assert!(why.contains("u.customer"), "{why}");
            let names = "SELECT c.name FROM u JOIN customers c ON c.id = u.customer WHERE u.of = 'Dora'";
            assert_eq!(net.query(2, names), ["Text(\"Dora\")"]);
            net.run(2, "DROP TRIGGER fixed");
            sync_until_quiet(&mut net);
            assert_eq!(why_stopped(&mut net, 2, "customers"), None);
            assert_eq!(net.query(2, names), ["Text(\"Dora\")"]);
            assert_eq!(net.query(0, "SELECT count(*) FROM customers"), ["Integer(2)"]);
        }
    }
}
