//! Rows with INTEGER keys that several devices give out: every child belongs to the parent it was written for.

use piecewise_core::replica::TrackOptions;
use piecewise_tests::network::{Faults, Network};
use std::collections::BTreeSet;

const SCHEMA: &str = "
CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT NOT NULL, note TEXT);
CREATE TABLE orders(id TEXT PRIMARY KEY, customer_id INTEGER REFERENCES customers(id), of TEXT, votes INT DEFAULT 0);
CREATE TABLE invoices(id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers(id), of TEXT, name TEXT);
CREATE TABLE lines(
  invoice_id INTEGER NOT NULL REFERENCES invoices(id), n INTEGER, of TEXT, PRIMARY KEY (invoice_id, n)) WITHOUT ROWID;
CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT, boss INTEGER REFERENCES people(id), of TEXT);
";

/// Children of each kind whose parents are not those they were written for, or are not there.
const STRAY: &str = "
SELECT 'order ' || o.id || ' of ' || o.of || ' has ' || coalesce(c.name, 'nobody') FROM orders o
  LEFT JOIN customers c ON c.id = o.customer_id WHERE c.name IS NOT o.of
UNION ALL SELECT 'invoice ' || i.name || ' of ' || i.of || ' has ' || coalesce(c.name, 'nobody') FROM invoices i
  LEFT JOIN customers c ON c.id = i.customer_id WHERE c.name IS NOT i.of
UNION ALL SELECT 'line ' || l.n || ' of ' || l.of || ' has ' || coalesce(i.name, 'nobody') FROM lines l
  LEFT JOIN invoices i ON i.id = l.invoice_id WHERE i.name IS NOT l.of
UNION ALL SELECT 'person ' || p.name || ' of ' || p.of || ' has ' || coalesce(b.name, 'nobody') FROM people p
  LEFT JOIN people b ON b.id = p.boss WHERE p.boss IS NOT NULL AND b.name IS NOT p.of
UNION ALL SELECT 'person ' || p.name || ' of ' || p.of || ' has no boss' FROM people p
  WHERE p.boss IS NULL AND p.of IS NOT NULL";

/// The parents that such children have.
const STRAY_PARENTS: &str = "
SELECT 'customers ' || o.customer_id FROM orders o LEFT JOIN customers c ON c.id = o.customer_id WHERE c.name IS NOT o.of
UNION SELECT 'customers ' || i.customer_id FROM invoices i LEFT JOIN customers c ON c.id = i.customer_id WHERE c.name IS NOT i.of
UNION SELECT 'invoices ' || l.invoice_id FROM lines l LEFT JOIN invoices i ON i.id = l.invoice_id WHERE i.name IS NOT l.of
UNION SELECT 'people ' || p.boss FROM people p LEFT JOIN people b ON b.id = p.boss WHERE b.name IS NOT p.of";

fn network(seed: u64, clients: usize) -> Network {
    let mut net = Network::new(seed, clients, SCHEMA, &TrackOptions::default());
    net.sync_all();
    net
}

#[test]
fn two_devices_insert_a_customer_each_and_an_order_for_it() {
    let mut net = network(1, 2);
    net.run(1, "INSERT INTO customers VALUES (1, 'Alma', NULL)");
    net.sync_all();
    for (n, name) in [(1, "Carl"), (2, "Dora")] {
        net.run(n, &format!("INSERT INTO customers(name) VALUES ('{name}')"));
        net.run(
            n,
            &format!("INSERT INTO orders(id, customer_id, of) SELECT 'o{n}', id, name FROM customers WHERE name = '{name}'"),
        );
        net.wait(1000);
    }
    net.sync_all();
    for n in 0..=2 {
        assert_eq!(
            net.query(n, "SELECT id, name FROM customers ORDER BY id"),
            ["Integer(1) Text(\"Alma\")", "Integer(2) Text(\"Carl\")", "Integer(3) Text(\"Dora\")"]
        );
        assert_eq!(net.query(n, STRAY), [""; 0], "machine {n}");
        assert_eq!(net.query(n, "SELECT count(*) FROM orders"), ["Integer(2)"]);
    }
    assert!(net.replica(1).conflicts(None).expect("a list").is_empty());
    assert_eq!(
        net.query(2, "SELECT table_name, old, new FROM piecewise_renumbered"),
        ["Text(\"customers\") Integer(2) Integer(3)"]
    );
    let moved = net.replica(2).take_renumbered();
    assert_eq!(moved.len(), 1);
    assert_eq!((moved[0].table.as_str(), moved[0].old, moved[0].new), ("customers", 2, 3));
}

struct Model {
    net: Network,
    clients: usize,
    named: u64,
    /// Invoices that have a line.
    lined: BTreeSet<String>,
    backups: Vec<(usize, Vec<u8>)>,
    /// Whether the server may lose commits: by a restored backup or with its power.
    server_loses: bool,
    /// Whether the newest rows are deleted everywhere, so that SQLite gives their numbers out again; then no file is restored.
    deletes: bool,
    log: Vec<String>,
}

impl Model {
    fn below(&mut self, n: u64) -> u64 {
        self.net.rng.below(n)
    }

    fn run(&mut self, n: usize, sql: &str) {
        let done = self.net.sql(n, sql);
        self.log.push(format!("machine {n}: {sql} {done:?}"));
    }

    fn write(&mut self) {
        // The server's host writes now and then, too.
        let n = match self.below(12) {
            0 if self.net.query(0, "SELECT count(*) FROM sqlite_master WHERE name = 'people'")
                == ["Integer(1)"] =>
            {
                0
            }
            _ => 1 + self.below(self.clients as u64) as usize,
        };
        self.named += 1;
        let (name, pick) = (format!("n{}", self.named), self.below(1 << 30));
        let any = |table: &str| {
            format!(
                "(SELECT * FROM {table} ORDER BY id LIMIT 1 OFFSET {pick} % max(1, (SELECT count(*) FROM {table})))"
            )
        };
        let sql = match self.below(12) {
            0..=2 => format!("INSERT INTO customers(name) VALUES ('{name}')"),
            3 | 4 => format!(
                "INSERT INTO orders(id, customer_id, of) SELECT '{name}', id, name FROM {}",
                any("customers")
            ),
            5 | 6 => format!(
                "INSERT INTO invoices(customer_id, of, name) SELECT id, name, '{name}' FROM {}",
                any("customers")
            ),
            7 => {
                // The first line of each invoice is its line 0: of two invoices under one number these clash as well.
                let invoice = self.net.query(n, &format!("SELECT name FROM {}", any("invoices"))).concat();
                let line = if self.lined.insert(invoice) { 0 } else { self.named };
                format!("INSERT INTO lines SELECT id, {line}, name FROM {}", any("invoices"))
            }
            8 => format!("INSERT INTO people(name) VALUES ('{name}')"),
            9 => {
                format!("INSERT INTO people(name, boss, of) SELECT '{name}', id, name FROM {}", any("people"))
            }
            10 => format!(
                "UPDATE orders SET (customer_id, of) = (SELECT id, name FROM {}) WHERE id = (SELECT id FROM {})",
                any("customers"),
                any("orders")
            ),
            _ => format!(
                "UPDATE customers SET note = '{name}' WHERE id = (SELECT id FROM {})",
                any("customers")
            ),
        };
        self.run(n, &sql);
    }

    /// Deletes the newest rows that have no children, once everybody knows of all.
    fn delete_newest(&mut self) {
        self.log.push("all sync".into());
        self.net.sync_all();
        let n = 1 + self.below(self.clients as u64) as usize;
        for (table, children) in [
            ("invoices", "SELECT invoice_id FROM lines"),
            ("customers", "SELECT customer_id FROM orders UNION SELECT customer_id FROM invoices"),
            ("people", "SELECT boss FROM people WHERE boss IS NOT NULL"),
        ] {
            let newest = format!("id = (SELECT max(id) FROM {table})");
            self.run(n, &format!("DELETE FROM {table} WHERE {newest} AND id NOT IN ({children})"));
        }
        self.log.push("all sync".into());
        self.net.sync_all();
    }

    fn step(&mut self) {
        let pause = self.below(2000);
        self.net.wait(pause);
        match self.below(20) {
            18 | 19 if self.deletes => self.delete_newest(),
            0..=11 => self.write(),
            12..=16 => {
                let clients: Vec<_> = (1..=self.clients).filter(|_| self.net.rng.one_in(2)).collect();
                let cut_after = (self.below(2) == 0).then(|| self.below(60) as usize);
                let delay = (self.below(3) == 0).then_some(2);
                let faults = Faults { cut_after, delay, ..Faults::default() };
                let ended = self.net.talk_with(&clients, &faults);
                self.log.push(format!("{clients:?} talk with {faults:?}: {ended:?}"));
                assert!(ended.is_ok(), "a talk failed: {ended:?}");
            }
            17 => {
                let n = self.below(1 + self.clients as u64) as usize;
                self.log.push(format!("machine {n} restarts"));
                self.net.stop(n);
            }
            18 => {
                let n = match self.server_loses {
                    true => self.below(1 + self.clients as u64) as usize,
                    false => 1 + self.below(self.clients as u64) as usize,
                };
                self.log.push(format!("machine {n} is backed up"));
                // What a copy's log has is captured by each of them.
                self.net.capture(n);
                let copy = self.net.backup(n);
                self.backups.push((n, copy));
            }
            _ => {
                if self.backups.is_empty() {
                    return;
                }
                let place = self.below(self.backups.len() as u64) as usize;
                let (mut n, copy) = self.backups[place].clone();
                if n > 0 && self.net.rng.one_in(3) {
                    n = 1 + self.below(self.clients as u64) as usize;
                }
                self.log.push(format!(
                    "backup {place} of machine {} is put on machine {n}",
                    self.backups[place].0
                ));
                self.net.restore(n, &copy);
            }
        }
    }

    fn finish(&mut self) {
        self.log.push("the end: all sync".into());
        self.net.sync_all();
        self.net.wait(60_000);
        self.net.sync_all();
        for n in 0..=self.clients {
            let conflicts = self.net.replica(n).conflicts(None).expect("a list");
            let rows = conflicts
                .iter()
                .filter(|c| matches!(c.kind, piecewise_core::replica::ConflictKind::Row { .. }));
            let rows: Vec<_> = rows.cloned().collect();
            for row in &rows {
                for entry in self.net.replica(n).history(&row.table, &row.key).expect("its history") {
                    self.log.push(format!("{} {}: {entry:?}", row.table, row.key));
                }
            }
            if self.server_loses {
                // What the server had acknowledged and lost does not move: both rows are told of.
                let told: Vec<_> = rows.iter().map(|c| format!("Text(\"{} {}\")", c.table, c.key)).collect();
                let strays = self.net.query(n, STRAY_PARENTS);
                assert!(
                    strays.iter().all(|parent| told.contains(parent)),
                    "machine {n}: {strays:?}, {told:?}"
                );
            } else {
                assert_eq!(self.net.query(n, STRAY), [""; 0], "machine {n}");
                assert_eq!(rows.len(), 0, "rows under one number on machine {n}: {conflicts:?}");
            }
            let held = self.net.held(n);
            assert!(held.is_empty(), "held on machine {n}: {held:?}");
        }
        for table in ["customers", "orders", "invoices", "lines", "people"] {
            self.net.check_same(&format!("SELECT * FROM {table} ORDER BY 1, 2"));
        }
        for n in 1..=self.clients {
            assert_eq!(self.net.replica(n).refused().expect("a list").len(), 0, "refused on machine {n}");
            assert_eq!(self.net.roots(n), self.net.roots(0), "roots of machine {n}");
        }
        // A device and the server that were both restored may know of a row before and after it moved.
        let named = [("customers", "name"), ("invoices", "name"), ("people", "name")];
        for (table, name) in named.into_iter().filter(|_| !self.server_loses) {
            let twice = format!("SELECT {name} FROM {table} GROUP BY {name} HAVING count(*) > 1");
            assert_eq!(self.net.query(0, &twice), [""; 0], "rows of {table} are there twice");
        }
    }
}

fn run(seed: u64, steps: u64, server_loses: bool) {
    // With AUTOINCREMENT devices get blocks of numbers.
    let schema = match seed % 2 {
        0 => SCHEMA.replace("INTEGER PRIMARY KEY, ", "INTEGER PRIMARY KEY AUTOINCREMENT, "),
        _ => SCHEMA.to_owned(),
    };
    let mut net = Network::new(seed, 3, &schema, &TrackOptions::default());
    net.sync_all();
    let mut model = Model {
        net,
        clients: 3,
        named: 0,
        lined: BTreeSet::new(),
        backups: vec![],
        server_loses,
        deletes: !server_loses && seed.is_multiple_of(3),
        log: vec![],
    };
    let story = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..steps {
            model.step();
        }
        model.finish();
    }));
    if let Err(panic) = story {
        eprintln!("{}\nseed {seed}: replay it with SEED={seed}", model.log.join("\n"));
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn every_child_belongs_to_the_parent_it_was_written_for() {
    all_seeds(false);
}

#[test]
fn where_the_server_loses_commits_children_of_others_are_told_of() {
    all_seeds(true);
}

fn all_seeds(server_loses: bool) {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let steps = number("STEPS").unwrap_or(60);
    match number("SEED") {
        Some(seed) => run(seed, steps, server_loses),
        None if number("FAIL").is_some() => {
            // All seeds that fail, and why.
            for seed in 1..=number("RUNS").unwrap_or(40) {
                if let Err(why) = std::panic::catch_unwind(|| run(seed, steps, server_loses)) {
                    let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
                    println!("FAILED {seed}: {}", why.replace('\n', " "));
                }
            }
        }
        None => (1..=number("RUNS").unwrap_or(40)).for_each(|seed| run(seed, steps, server_loses)),
    }
}

/// Two devices have the same rows; each then writes its own while nobody is connected.
fn apart(net: &mut Network, first: &str, second: &str) {
    net.run(1, first);
    net.wait(1000);
    net.run(2, second);
    net.wait(1000);
    net.sync_all();
    net.sync_all();
}

#[test]
fn a_thousand_rows_move_at_once_with_what_refers_to_them() {
    let mut net = network(2, 2);
    let rows = |who: &str| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
               INSERT INTO customers(name) SELECT '{who} ' || i FROM n;
             INSERT INTO invoices(customer_id, of, name) SELECT id, name, '{who} invoice ' || id FROM customers;
             INSERT INTO lines SELECT id, id, name FROM invoices;
             INSERT INTO orders(id, customer_id, of) SELECT '{who} ' || id, id, name FROM customers"
        )
    };
    apart(&mut net, &rows("a"), &rows("b"));
    for n in 0..=2 {
        assert_eq!(net.query(n, STRAY), [""; 0], "machine {n}");
        for table in ["customers", "invoices", "lines", "orders"] {
            assert_eq!(net.query(n, &format!("SELECT count(*) FROM {table}")), ["Integer(2000)"], "{table}");
        }
        assert!(net.held(n).is_empty() && net.replica(n).conflicts(None).expect("a list").is_empty());
    }
    assert_eq!(net.query(2, "SELECT count(*) FROM piecewise_renumbered"), ["Integer(2000)"]);
}

#[test]
fn what_the_application_was_told_holds_until_the_row_moves_and_what_it_writes_meanwhile_follows() {
    let mut net = network(3, 2);
    net.run(1, "INSERT INTO customers(name) VALUES ('Carl')");
    net.wait(1000);
    net.run(2, "INSERT INTO customers(name) VALUES ('Dora')");
    net.capture(2);
    net.sync(1);
    // The row of the other comes, and the connection ends before anything is decided.
    for frames in 4..14 {
        let cut = net.talk(2, Some(frames)).expect("a talk that is cut");
        let shown = net.query(2, "SELECT id, name FROM customers ORDER BY id");
        let dora = shown.iter().find(|row| row.contains("Dora")).expect("her row").clone();
        let id: i64 =
            dora.trim_start_matches("Integer(").split(')').next().unwrap_or("").parse().expect("a number");
        net.run(2, &format!("INSERT INTO orders(id, customer_id, of) VALUES ('o{frames}', {id}, 'Dora')"));
        net.run(2, &format!("UPDATE customers SET note = 'n{frames}' WHERE id = {id}"));
        if cut.1 {
            break;
        }
    }
    net.sync_all();
    net.sync_all();
    for n in 0..=2 {
        assert_eq!(net.query(n, STRAY), [""; 0], "machine {n}");
        assert_eq!(net.query(n, "SELECT count(*) FROM customers"), ["Integer(2)"]);
        assert_eq!(
            net.query(n, "SELECT count(*) > 1 FROM customers WHERE name = 'Carl' AND note IS NOT NULL"),
            ["Integer(0)"]
        );
    }
}

#[test]
fn tables_that_keep_their_numbers_have_both_rows_in_conflict() {
    let options = TrackOptions { keep_numbers: true, ..TrackOptions::default() };
    let mut net = Network::new(4, 2, SCHEMA, &options);
    net.sync_all();
    apart(
        &mut net,
        "INSERT INTO customers(name) VALUES ('Carl')",
        "INSERT INTO customers(name) VALUES ('Dora')",
    );
    for n in 0..=2 {
        assert_eq!(net.query(n, "SELECT id, name FROM customers"), ["Integer(1) Text(\"Dora\")"]);
        assert_eq!(net.replica(n).conflicts(None).expect("a list").len(), 1);
    }
}

#[test]
fn references_follow_that_no_schema_declares_and_tables_that_are_not_tracked() {
    const SCHEMA: &str = "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE notes(id TEXT PRIMARY KEY, about_id INTEGER, of TEXT)";
    let mut net = Network::new(5, 2, SCHEMA, &TrackOptions::default());
    net.sync_all();
    for n in 1..=2 {
        let now = net.now;
        net.replica(n).add_reference(now, "notes", "about_id", "customers", "id").expect("a reference");
        net.run(n, "CREATE TABLE drafts(id INTEGER PRIMARY KEY, customer REFERENCES customers, of TEXT)");
    }
    let write = |name: &str| {
        format!(
            "INSERT INTO customers(name) VALUES ('{name}');
             INSERT INTO notes SELECT '{name}', id, name FROM customers WHERE name = '{name}';
             INSERT INTO drafts(customer, of) SELECT id, name FROM customers WHERE name = '{name}'"
        )
    };
    apart(&mut net, &write("Carl"), &write("Dora"));
    for n in 0..=2 {
        let stray = "SELECT n.of, c.name FROM notes n LEFT JOIN customers c ON c.id = about_id WHERE c.name IS NOT n.of";
        assert_eq!(net.query(n, stray), [""; 0], "machine {n}");
    }
    for n in 1..=2 {
        let stray = "SELECT d.of, c.name FROM drafts d LEFT JOIN customers c ON c.id = customer WHERE c.name IS NOT d.of";
        assert_eq!(net.query(n, stray), [""; 0], "machine {n}");
    }
}

#[test]
fn an_application_that_watches_the_list_of_moves_writes_what_it_keeps_elsewhere() {
    let mut net = network(6, 2);
    net.run(
        2,
        "CREATE TRIGGER moved AFTER INSERT ON piecewise_renumbered WHEN new.table_name = 'customers' BEGIN
           UPDATE customers SET note = replace(note, '/' || new.old, '/' || new.new) WHERE id = new.new;
         END",
    );
    let write = |name: &str| format!("INSERT INTO customers(name, note) VALUES ('{name}', 'see /1')");
    apart(&mut net, &write("Carl"), &write("Dora"));
    net.sync_all();
    for n in 0..=2 {
        assert_eq!(
            net.query(n, "SELECT name, note FROM customers ORDER BY id"),
            ["Text(\"Carl\") Text(\"see /1\")", "Text(\"Dora\") Text(\"see /2\")"],
            "machine {n}"
        );
    }
}

#[test]
fn where_no_greater_number_is_left_a_free_one_is_drawn() {
    let mut net = network(7, 2);
    let last = "INSERT INTO customers VALUES (9223372036854775807, ";
    apart(&mut net, &format!("{last} 'Carl', NULL)"), &format!("{last} 'Dora', NULL)"));
    for n in 0..=2 {
        assert_eq!(
            net.query(n, "SELECT name FROM customers ORDER BY name"),
            ["Text(\"Carl\")", "Text(\"Dora\")"]
        );
    }
}

#[test]
fn at_first_contact_rows_that_differ_stay_in_conflict_unless_those_from_here_are_to_move() {
    for (renumber_mine, rows) in [(false, 1), (true, 2)] {
        let mut net = Network::new(8, 1, SCHEMA, &TrackOptions::default());
        net.run(
            1,
            "INSERT INTO customers VALUES (1, 'Carl', NULL); INSERT INTO orders VALUES ('c', 1, 'Carl', 0)",
        );
        net.sync_all();
        let other = net.add_machine(SCHEMA, piecewise_core::replica::Follow::Tracked);
        net.run(
            other,
            "INSERT INTO customers VALUES (1, 'Dora', NULL); INSERT INTO orders VALUES ('d', 1, 'Dora', 0)",
        );
        let options = TrackOptions { renumber_mine, ..TrackOptions::default() };
        for table in ["customers", "orders", "invoices", "lines", "people"] {
            net.replica(other).track(table, &options).expect("it can be tracked");
        }
        net.sync(other);
        net.sync(other);
        assert_eq!(net.query(0, "SELECT count(*) FROM customers"), [format!("Integer({rows})")]);
        let conflicts = net.replica(other).conflicts(None).expect("a list").len();
        assert_eq!(conflicts, usize::from(!renumber_mine));
        if renumber_mine {
            assert_eq!(net.query(0, STRAY), [""; 0]);
        }
    }
}

#[test]
fn rows_do_not_move_whose_references_the_server_has_already() {
    let mut net = Network::new(9, 0, "", &TrackOptions::default());
    let machine = net.add_machine(SCHEMA, piecewise_core::replica::Follow::Tracked);
    net.replica(machine).track("orders", &TrackOptions::default()).expect("it can be tracked");
    net.run(
        machine,
        "INSERT INTO customers VALUES (1, 'Dora', NULL); INSERT INTO orders VALUES ('d', 1, 'Dora', 0)",
    );
    let options = TrackOptions { renumber_mine: true, ..TrackOptions::default() };
    net.sync(machine);
    let error = net.replica(machine).track("customers", &options).expect_err("orders would not follow");
    assert!(error.to_string().contains("rows of orders that refer to customers"), "{error}");
    net.replica(machine).track("customers", &TrackOptions::default()).expect("it can be tracked");
}

#[test]
fn many_rows_with_many_references_move_at_once() {
    piecewise_tests::numbering::move_many(2_000, 6_000);
}

/// Between what came and the moves that it takes, and where the connection is cut there, no row of others stands under a parent
/// from here: an application would edit or delete it as its own.
#[test]
fn no_child_of_others_shows_under_a_parent_that_has_still_to_move() {
    const MANY: i64 = 40;
    let count = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY})");
    let (mut waited, mut done) = (0, false);
    for cut in 1.. {
        let mut net = network(3, 2);
        net.leases = false;
        for n in 1..=2 {
            let lines = format!(
                "BEGIN; {count} INSERT INTO customers SELECT i, '{n} ' || i, NULL FROM n;
                 {count} INSERT INTO orders SELECT '{n} ' || i, i, '{n} ' || i, 0 FROM n;
                 {count} INSERT INTO invoices SELECT i, i, '{n} ' || i, 'of {n} ' || i FROM n;
                 {count} INSERT INTO lines SELECT i, 1, 'of {n} ' || i FROM n; COMMIT"
            );
            net.run(n, &lines);
        }
        net.sync(1);
        let (_, level) = net.talk(2, Some(cut)).expect("a talk");
        assert_eq!(net.query(2, STRAY), [""; 0], "cut after {cut}");
        waited += net.held(2).len();
        // What this device does with its own row, and with all that refers to it, is of its own.
        net.run(
            2,
            "DELETE FROM lines WHERE invoice_id = (SELECT id FROM invoices WHERE name = 'of 2 8');
            DELETE FROM invoices WHERE name = 'of 2 8';
            DELETE FROM orders WHERE customer_id = (SELECT id FROM customers WHERE name = '2 8');
            DELETE FROM customers WHERE name = '2 8'",
        );
        net.sync_all();
        for n in 0..=2 {
            assert_eq!(net.query(n, STRAY), [""; 0], "machine {n}, cut after {cut}");
            for (table, rows) in
                [("customers", 2 * MANY - 1), ("orders", 2 * MANY - 1), ("lines", 2 * MANY - 1)]
            {
                let found = net.query(n, &format!("SELECT count(*) FROM {table}"));
                assert_eq!(found, [format!("Integer({rows})")], "{table} of machine {n}, cut after {cut}");
            }
            assert!(net.held(n).is_empty(), "machine {n}, cut after {cut}");
        }
        if level {
            done = true;
            break;
        }
    }
    assert!(done && waited > 0, "{waited} rows waited");
}
