//! Schemas of every kind, in variants, on machines that write, sync, migrate and restart as chance has it: at the end of each run
//! tables show what documents say, or the row is held for a cause that stands.

use piecewise_core::replica::{Follow, HeldRow, ReplicaError, TrackOptions};
use piecewise_core::store::schema::TrackRefusal;
use piecewise_core::value::Value;
use piecewise_tests::network::Network;
use piecewise_tests::rng::Rng;
use piecewise_tests::schemas::{Schema, VARIANTS};
use rusqlite::{Connection, params_from_iter};
use std::collections::BTreeSet;

const STEPS: u64 = 40;
/// The variant of each client's schema: two have the same.
const CLIENTS: [usize; 3] = [0, 0, 1];

struct Simulation {
    net: Network,
    schema: Schema,
    /// Tables that a client has not made yet.
    late: Option<(usize, usize)>,
    /// Clients and tables that have synced.
    met: BTreeSet<(usize, String)>,
    /// Rows that were in their table when it first synced: table and key.
    brought: BTreeSet<(String, String)>,
    tokens: u64,
    log: Vec<String>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed ^ 0x5c4e_3a5e);
        let schema = Schema::from_rng(&mut rng);
        let mut net = Network::new(seed, 0, "", &TrackOptions::default());
        let late = rng.one_in(3).then(|| (CLIENTS.len(), rng.below(schema.tables.len() as u64) as usize));
        let mut log = vec![];
        for (n, variant) in CLIENTS.iter().enumerate() {
            let made = schema.tables.iter().enumerate().filter(|(t, _)| late != Some((n + 1, *t)));
            let sql: String = made.map(|(_, t)| t.sql(*variant)).collect();
            log.push(format!("machine {}:\n{sql}", n + 1));
            let n = net.add_machine(&sql, Follow::Tracked);
            // Some have rows from before tracking.
            for row in 0..rng.below(8) {
                let sql = schema.write(&mut rng, &format!("b{n}_{row}"));
                let conn = Connection::open(&net.machines[n].path).expect("the file opens");
                let done = conn.execute_batch(&sql);
                log.push(format!("machine {n}, before it tracks: {sql} -- {done:?}"));
            }
            track(&mut net, n, &schema);
        }
        Self { net, schema, late, met: BTreeSet::new(), brought: BTreeSet::new(), tokens: 0, log }
    }

    fn sync(&mut self, n: usize) {
        self.note_brought(n);
        self.net.sync(n);
    }

    /// Notes what the tables of a client have that are to sync for the first time.
    fn note_brought(&mut self, n: usize) {
        self.net.capture(n);
        for table in self.net.replica(n).status().expect("a status").tables {
            if table.stopped.is_none() && self.met.insert((n, table.table.clone())) {
                let keys =
                    self.net.rows(n, &table.table).into_iter().map(|(key, _)| (table.table.clone(), key));
                self.brought.extend(keys);
            }
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.net.rng.below(n)
    }

    fn any_client(&mut self) -> usize {
        1 + self.below(CLIENTS.len() as u64) as usize
    }

    fn step(&mut self) {
        let pause = self.below(3000);
        self.net.wait(pause);
        match self.below(20) {
            0..=13 => self.write(),
            14..=16 => {
                let n = self.any_client();
                self.log.push(format!("machine {n} syncs"));
                self.sync(n);
            }
            17 => {
                let n = self.below(1 + CLIENTS.len() as u64) as usize;
                self.log.push(format!("machine {n} restarts"));
                self.net.stop(n);
            }
            18 => self.migrate(),
            _ => self.make_late(),
        }
    }

    fn write(&mut self) {
        let n = self.any_client();
        self.tokens += 1;
        let sql = self.schema.write(&mut self.net.rng, &format!("w{}", self.tokens));
        let done = self.net.sql(n, &sql);
        self.log.push(format!("machine {n}: {sql} -- {done:?}"));
    }

    /// A CHECK comes or goes on all machines with a variant, each of which captures before.
    fn migrate(&mut self) {
        let variant = self.below(VARIANTS as u64) as usize;
        let table = self.below(self.schema.tables.len() as u64) as usize;
        let machines: Vec<_> = (1..=CLIENTS.len()).filter(|n| CLIENTS[n - 1] == variant).collect();
        if machines.iter().any(|n| self.late == Some((*n, table))) {
            return;
        }
        let sql = self.schema.tables[table].migrate(variant);
        for n in machines {
            self.net.capture(n);
            let done = self.net.sql(n, &sql);
            self.log.push(format!("machine {n} migrates: {sql} -- {done:?}"));
            self.net.capture(n);
        }
    }

    /// A table comes to the machine that lacked it.
    fn make_late(&mut self) {
        let Some((n, table)) = self.late.take() else { return };
        let sql = self.schema.tables[table].sql(CLIENTS[n - 1]);
        let done = self.net.sql(n, &sql);
        self.log.push(format!("machine {n} makes a table: {sql} -- {done:?}"));
        track(&mut self.net, n, &self.schema);
    }

    fn finish(&mut self) {
        self.make_late();
        self.log.push("the end: all sync".into());
        (1..=CLIENTS.len()).for_each(|n| self.note_brought(n));
        self.net.sync_all();
        self.net.wait(60_000);
        self.net.sync_all();
        for n in 0..=CLIENTS.len() {
            assert_eq!(self.net.check(n), [], "machine {n}: tables are not as their documents say");
        }
        for (table, key) in self.brought.clone() {
            let known = self.net.replica(0).history(&table, &key);
            assert!(known.is_ok(), "row {key} of {table}, which a client brought, is nowhere: {known:?}");
        }
        for n in 1..=CLIENTS.len() {
            self.check_search(n);
            self.check_held(n);
            assert_eq!(self.net.roots(n), self.net.roots(0), "roots of machine {n}");
        }
        // What only this machine's own triggers and indexes refuse may depend on the order in which rows came: there the one may
        // show a row that the other holds.
        let held = [1, 2].map(|n| self.net.replica(n).held(None).expect("a list"));
        let is_own_rule =
            |row: &HeldRow| row.cause.starts_with("trigger ") || row.cause.contains("of this table alone");
        for table in self.schema.tables.clone() {
            let sql = format!("SELECT * FROM {} ORDER BY id", table.name);
            if !held.iter().flatten().any(is_own_rule) {
                assert_eq!(
                    self.net.query(1, &sql),
                    self.net.query(2, &sql),
                    "{sql} on two with the same schema: {held:#?}"
                );
            }
            let [one, two] = [1, 2].map(|n| {
                let rows = self.net.rows(n, &table.name).into_iter().map(|(key, _)| key);
                let held = held[n - 1].iter().filter(|row| row.table == table.name);
                let held = held.map(|row| row.key.trim_matches('\'').to_owned());
                rows.chain(held).collect::<BTreeSet<_>>()
            });
            assert_eq!(one, two, "shown or held on two with the same schema: {held:#?}");
        }
    }

    /// Search indexes have what the tables have.
    fn check_search(&mut self, n: usize) {
        let all = self.net.query(n, "SELECT * FROM pragma_integrity_check");
        assert_eq!(all, ["Text(\"ok\")"], "machine {n}");
        for search in self.schema.tables.iter().filter_map(|t| t.search(CLIENTS[n - 1])) {
            let sql = format!("INSERT INTO {search}({search}, rank) VALUES ('integrity-check', 1)");
            let done = self.net.sql(n, &sql);
            assert!(done.is_ok(), "machine {n}: {search} is not what its table shows: {done:?}");
        }
    }

    /// A row that is held cannot be written, or lacks its parent, or waits behind another that is held.
    fn check_held(&mut self, n: usize) {
        let held = self.net.replica(n).held(None).expect("a list");
        let conn = Connection::open(&self.net.machines[n].path).expect("the file opens");
        conn.pragma_update(None, "foreign_keys", true).expect("a pragma");
        for row in &held {
            let behind = held.iter().any(|other| {
                (&other.table, &other.key) != (&row.table, &row.key)
                    && row.cause.starts_with("UNIQUE")
                    && row.cause.contains(&format!("row {} ", other.key))
            });
            assert!(behind || !can_be_written(&conn, row), "machine {n} holds a row for nothing: {row:?}");
        }
    }
}

/// Tracks those tables of the schema that are there and whose triggers have all they write.
fn track(net: &mut Network, n: usize, schema: &Schema) {
    let there = net.replica(n).untracked().expect("a list");
    for table in schema.tables.iter().filter(|t| there.contains(&t.name)) {
        match net.replica(n).track(&table.name, &TrackOptions::default()) {
            Ok(_) | Err(ReplicaError::Refused(TrackRefusal::NotWritable { .. })) => {}
            Err(error) => panic!("{} cannot be tracked: {error}", table.name),
        }
    }
}

/// Whether the table takes a row as it is.
fn can_be_written(conn: &Connection, row: &HeldRow) -> bool {
    let sql = |value: &Value| match value {
        Value::Null => rusqlite::types::Value::Null,
        Value::Integer(i) => (*i).into(),
        Value::Real(f) => (*f).into(),
        Value::Text(s) => s.clone().into(),
        Value::Blob(b) | Value::RawText(b) => b.clone().into(),
    };
    let key = row.key.trim_matches('\'').to_owned();
    let mut columns = vec![("id".to_owned(), rusqlite::types::Value::from(key))];
    columns.extend(row.values.iter().filter(|(name, _)| name != "id").map(|(n, v)| (n.clone(), sql(v))));
    let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let marks = vec!["?"; columns.len()].join(", ");
    let insert = format!("INSERT OR ABORT INTO {}({}) VALUES ({marks})", row.table, names.join(", "));
    conn.execute_batch("BEGIN").expect("a transaction");
    let values: Vec<_> = columns.iter().map(|(_, value)| value.clone()).collect();
    let orphans_before = orphans(conn, row);
    let written = conn.execute(&insert, params_from_iter(values.clone()));
    let terms: Vec<_> = names.iter().map(|name| format!("{name} IS ?")).collect();
    let shows = format!("SELECT 1 FROM {} WHERE {}", row.table, terms.join(" AND "));
    let shown = written.is_ok()
        && conn.prepare(&shows).and_then(|mut s| s.exists(params_from_iter(values))).unwrap_or(false);
    // A deferred key is looked at when the transaction ends.
    let done = shown && orphans(conn, row) <= orphans_before;
    if !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK").expect("it ends");
    }
    done
}

/// How many rows of the table lack their parents.
fn orphans(conn: &Connection, row: &HeldRow) -> i64 {
    let sql = format!("SELECT count(*) FROM pragma_foreign_key_check('{}')", row.table);
    conn.query_row(&sql, [], |r| r.get(0)).unwrap_or(0)
}

fn run(seed: u64) {
    let mut simulation = Simulation::new(seed);
    let story = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..setting("STEPS").unwrap_or(STEPS) {
            simulation.step();
        }
        simulation.finish();
    }));
    if let Err(panic) = story {
        eprintln!("{}\nseed {seed}: replay it with SEED={seed}", simulation.log.join("\n"));
        std::panic::resume_unwind(panic);
    }
}

fn setting(name: &str) -> Option<u64> {
    let number = std::env::var(name).ok().filter(|n| !n.is_empty());
    number.map(|n| n.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn whatever_stands_around_rows_tables_show_what_documents_say() {
    match setting("SEED") {
        Some(seed) => run(seed),
        None => (1..=setting("RUNS").unwrap_or(10)).for_each(run),
    }
}
