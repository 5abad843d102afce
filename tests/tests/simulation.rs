//! The simulator: machines that write, fail, are restored and copied, over connections with faults, all from
//! one seed. Afterwards all must agree, with each other and with Automerge, and no write may be gone.
//!
//! `make sim` runs many seeds; `make sim SEED=7` replays one.

use automerge::{Automerge, ROOT, ReadDoc, ScalarValue, Value};
use piecewise_core::grant::Access;
use piecewise_core::replica::TrackOptions;
use piecewise_core::scrub::RowFault;
use piecewise_tests::network::{Faults, Network};
use std::collections::{BTreeMap, BTreeSet};

const CLIENTS: usize = 3;
const STEPS: usize = 60;

/// One table of each kind of key and constraint, and triggers of the application.
const SCHEMA: &str = "
CREATE TABLE items(id TEXT PRIMARY KEY, a, b TEXT DEFAULT 'none', note TEXT, votes INTEGER DEFAULT 0, slug TEXT UNIQUE);
CREATE TABLE numbers(id INTEGER PRIMARY KEY, v, w REAL, changed INTEGER DEFAULT 0);
CREATE TABLE pairs(x INTEGER, y TEXT COLLATE NOCASE, v, PRIMARY KEY (x, y)) WITHOUT ROWID;
CREATE TABLE folders(name TEXT PRIMARY KEY, parent TEXT REFERENCES folders(name) ON DELETE CASCADE ON UPDATE CASCADE, v);
CREATE TABLE files(
  id INTEGER PRIMARY KEY, folder TEXT REFERENCES folders(name) ON DELETE SET NULL ON UPDATE CASCADE, v,
  len INTEGER GENERATED ALWAYS AS (length(v)) VIRTUAL);
CREATE TABLE blobs(k BLOB PRIMARY KEY, v CHECK (v IS NULL OR v <> 'never'));
CREATE TRIGGER touch AFTER UPDATE OF v ON numbers BEGIN UPDATE numbers SET changed = changed + 1 WHERE id = new.id; END;
";
const TABLES: [&str; 6] = ["items", "numbers", "pairs", "folders", "files", "blobs"];

struct Simulation {
    net: Network,
    writes: u64,
    backups: Vec<(usize, Vec<u8>)>,
    /// Values that somebody wrote and that must be in some history for ever.
    written: BTreeSet<String>,
    log: Vec<String>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let options = TrackOptions {
            text: vec!["items.note".into()],
            counter: vec!["items.votes".into()],
            ..TrackOptions::default()
        };
        let net = Network::new(seed, CLIENTS, SCHEMA, &options);
        Self { net, writes: 0, backups: vec![], written: BTreeSet::new(), log: vec![] }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.net.rng.below(n)
    }

    fn any_client(&mut self) -> usize {
        1 + self.below(CLIENTS as u64) as usize
    }

    fn step(&mut self) {
        let pause = self.below(3000);
        self.net.wait(pause);
        self.drop_baselines();
        match self.below(27) {
            0..=11 => self.write(),
            12..=16 => self.talk(),
            17 | 18 => {
                let n = self.below(1 + CLIENTS as u64) as usize;
                self.log.push(format!("machine {n} restarts"));
                self.net.stop(n);
            }
            19 => self.migrate(),
            20 => {
                let n = self.below(1 + CLIENTS as u64) as usize;
                self.log.push(format!("machine {n} is backed up"));
                let copy = self.net.backup(n);
                self.backups.push((n, copy));
            }
            21 => self.restore(),
            22 => self.copy_file(),
            23 => {
                let n = self.any_client();
                let access = if self.net.rng.one_in(2) { Access::Read } else { Access::Admin };
                self.log.push(format!("machine {n} may {access}"));
                self.net.allow(n, Some(access));
            }
            24 | 25 => self.track_anew(),
            _ => {
                let n = self.any_client();
                self.log.push(format!("machine {n} syncs"));
                if self.net.is_tracked(n) {
                    self.net.sync(n);
                }
            }
        }
    }

    /// Baselines are derived: nobody notices where some are gone.
    fn drop_baselines(&mut self) {
        if self.net.rng.one_in(8) {
            let n = self.below(1 + CLIENTS as u64) as usize;
            let (one_in, rest) = (1 + self.below(3), self.below(3));
            let sql = format!(
                "DELETE FROM piecewise_baselines WHERE (length(baseline) + container) % {one_in} = {rest}"
            );
            let done = self.net.sql(n, &sql);
            self.log.push(format!("machine {n}: {sql} {done:?}"));
        }
    }

    /// SQL of every kind, on any machine; what constraints refuse is refused.
    fn write(&mut self) {
        let n = self.below(1 + CLIENTS as u64) as usize;
        if n == 0
            && self.net.query(0, "SELECT count(*) FROM sqlite_master WHERE name = 'items'") == ["Integer(0)"]
        {
            return;
        }
        self.writes += 1;
        let token = format!("w{}", self.writes);
        let (k, other) = (self.below(8), self.below(8));
        let letter = char::from(b'a' + k as u8);
        let second = char::from(b'a' + other as u8);
        let upper = second.to_ascii_uppercase();
        let sql = match self.below(26) {
            0 | 1 => format!("INSERT INTO items(id, a, slug) VALUES ('i{k}', '{token}', 's{other}')"),
            2 => format!(
                "INSERT OR REPLACE INTO items VALUES ('i{k}', '{token}', 'x', 'hello', 1, 's{other}')"
            ),
            3 => format!(
                "INSERT INTO items(id, a) VALUES ('i{k}', '{token}') ON CONFLICT DO UPDATE SET a = excluded.a"
            ),
            4 => format!("UPDATE items SET a = '{token}' WHERE id = 'i{k}'"),
            5 => format!("UPDATE items SET b = '{token}', slug = 's{other}' WHERE id = 'i{k}'"),
            6 => format!("UPDATE items SET note = coalesce(note, '') || ' {token}' WHERE id >= 'i{k}'"),
            7 => "UPDATE items SET votes = votes + 1".into(),
            8 => format!("DELETE FROM items WHERE id = 'i{k}'"),
            9 => format!("UPDATE items SET id = 'i{other}' WHERE id = 'i{k}'"),
            10 => format!("INSERT INTO numbers(id, v) VALUES ({k}, '{token}')"),
            11 => format!("UPDATE numbers SET v = '{token}', w = {k}.5 WHERE id = {other}"),
            12 => format!("DELETE FROM numbers WHERE id = {k}; INSERT INTO numbers(v) VALUES ('{token}')"),
            13 => format!("INSERT OR REPLACE INTO pairs VALUES ({other}, '{letter}', '{token}')"),
            14 => format!("UPDATE pairs SET y = '{upper}' WHERE x = {k}"),
            15 => format!("DELETE FROM pairs WHERE x = {k}"),
            16 => {
                format!("PRAGMA foreign_keys = ON; INSERT INTO folders VALUES ('{letter}', NULL, '{token}')")
            }
            17 => format!(
                "PRAGMA foreign_keys = ON; INSERT INTO folders VALUES ('{letter}', '{second}', '{token}')"
            ),
            18 => format!("PRAGMA foreign_keys = ON; DELETE FROM folders WHERE name = '{letter}'"),
            19 => format!(
                "PRAGMA foreign_keys = ON; UPDATE folders SET name = '{second}' WHERE name = '{letter}'"
            ),
            20 => format!(
                "PRAGMA foreign_keys = ON; INSERT INTO files(folder, v) VALUES ('{letter}', '{token}')"
            ),
            21 => format!("UPDATE files SET v = '{token}', folder = '{second}' WHERE id = {k}"),
            22 => format!("DELETE FROM folders WHERE name = '{letter}'"),
            23 => format!("INSERT OR REPLACE INTO blobs VALUES (x'0{k}', '{token}')"),
            24 => format!("UPDATE blobs SET v = NULL WHERE k = x'0{k}'"),
            _ => {
                format!("BEGIN; UPDATE items SET b = '{token}'; DELETE FROM blobs WHERE k = x'0{k}'; COMMIT")
            }
        };
        let done = self.net.sql(n, &sql);
        self.log.push(format!("machine {n}: {sql} {done:?}"));
    }

    /// Some clients talk with the server at once; perhaps something goes wrong.
    fn talk(&mut self) {
        let clients: Vec<_> = (1..=CLIENTS).filter(|_| self.net.rng.one_in(2)).collect();
        let clients: Vec<_> = clients.into_iter().filter(|n| self.net.is_tracked(*n)).collect();
        let some = |one_in: u64, sim: &mut Self| (sim.below(3) == 0).then_some(one_in);
        let faults = Faults {
            cut_after: (self.below(3) == 0).then(|| self.below(40) as usize),
            lose: some(12, self),
            repeat: some(8, self),
            delay: some(2, self),
            stop: (self.below(4) == 0).then(|| self.below(30) as usize),
            damage: None,
        };
        let ended = self.net.talk_with(&clients, &faults);
        self.log.push(format!("{clients:?} talk with {faults:?}: {ended:?}"));
        let faultless = faults.lose.is_none() && faults.repeat.is_none();
        assert!(!faultless || ended.is_ok(), "a talk without lost or repeated frames failed: {ended:?}");
        self.note_what_the_server_has();
    }

    /// A migration as tools make them: a new table, the rows copied, the old one dropped.
    fn migrate(&mut self) {
        let n = self.any_client();
        let sql = "PRAGMA foreign_keys = OFF; BEGIN;
            CREATE TABLE numbers_new(id INTEGER PRIMARY KEY, v, w REAL, changed INTEGER DEFAULT 0);
            INSERT INTO numbers_new SELECT id, v, w, changed FROM numbers;
            DROP TABLE numbers; ALTER TABLE numbers_new RENAME TO numbers;
            CREATE TRIGGER touch AFTER UPDATE OF v ON numbers BEGIN UPDATE numbers SET changed = changed + 1 WHERE id = new.id; END;
            COMMIT";
        let done = self.net.sql(n, sql);
        self.log.push(format!("machine {n} migrates: {done:?}"));
    }

    /// A table, or all, are tracked no longer; sooner or later they are again, and meet their counterparts.
    fn track_anew(&mut self) {
        let n = self.any_client();
        let table = TABLES[self.below(TABLES.len() as u64) as usize];
        let done = self.net.replica(n).untrack(&[table.into()]);
        self.log.push(format!("machine {n} untracks {table}: {done:?}"));
        if self.net.rng.one_in(2) {
            self.log.push(format!("machine {n} tracks what is not tracked"));
            self.net.track_again(n);
        }
    }

    /// An old copy of a file comes back. What only this machine had and the copy has not is lost with it.
    fn restore(&mut self) {
        if self.backups.is_empty() {
            return;
        }
        let place = self.below(self.backups.len() as u64) as usize;
        let (n, copy) = self.backups[place].clone();
        self.log.push(format!("machine {n} is restored"));
        self.net.restore(n, &copy);
        self.forget_what_nobody_has();
    }

    /// A client's file is copied to another machine, which goes on with it as its own.
    fn copy_file(&mut self) {
        let (from, to) = (self.any_client(), self.any_client());
        if from == to {
            return;
        }
        self.log.push(format!("the file of machine {from} is copied to machine {to}"));
        let copy = self.net.backup(from);
        self.net.restore(to, &copy);
        self.forget_what_nobody_has();
    }

    fn note_what_the_server_has(&mut self) {
        let has = self.history(0);
        self.written.extend(has);
    }

    fn forget_what_nobody_has(&mut self) {
        let all: BTreeSet<_> = (0..=CLIENTS).flat_map(|n| self.history(n)).collect();
        self.written.retain(|value| all.contains(value));
    }

    /// Every text that some change on a machine writes.
    fn history(&mut self, n: usize) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for document in TABLES.iter().flat_map(|t| self.documents(n, t)).map(|(_, d)| d) {
            for change in document.get_changes(&[]) {
                for op in change.decode().operations {
                    if let automerge::legacy::OpType::Put(ScalarValue::Str(text)) = op.action {
                        found.insert(text.to_string());
                    }
                }
            }
        }
        found.retain(|text| text.starts_with('w'));
        found
    }

    /// The documents of a table in Automerge itself, by key.
    fn documents(&mut self, n: usize, table: &str) -> BTreeMap<String, Automerge> {
        let Ok(rows) = self.net.replica(n).export(table) else { return BTreeMap::new() };
        let document = |chunks: Vec<Vec<u8>>| {
            let changes =
                chunks.into_iter().map(|chunk| automerge::Change::from_bytes(chunk).expect("a change"));
            let mut document = Automerge::new();
            document.apply_changes(changes).expect("Automerge takes every change");
            document
        };
        rows.into_iter().map(|row| (row.key, document(row.changes))).collect()
    }

    /// Lets all machines come together, and checks that they have.
    fn finish(&mut self) {
        self.log.push("the end: all sync".into());
        for n in 1..=CLIENTS {
            self.net.track_again(n);
            self.net.allow(n, Some(Access::Admin));
        }
        self.net.sync_all();
        for n in 1..=CLIENTS {
            let now = self.net.now;
            self.net.replica(n).retry_refused(now).expect("they are written again");
        }
        self.note_what_the_server_has();
        self.net.wait(60_000);
        self.net.sync_all();
        for table in TABLES {
            // Generated columns stay where they are.
            let columns = if table == "files" { "id, folder, v" } else { "*" };
            self.net.check_same(&format!("SELECT {columns} FROM {table} ORDER BY 1, 2"));
            self.check_documents(table);
        }
        for n in 1..=CLIENTS {
            assert_eq!(
                self.net.replica(n).refused().expect("a list").len(),
                0,
                "refused rows of machine {n}"
            );
            assert_eq!(self.net.roots(n), self.net.roots(0), "roots of machine {n}");
            assert_eq!(self.net.held(n), self.net.held(0), "held rows of machine {n}");
        }
        let has = self.history(0);
        let lost: Vec<_> = self.written.difference(&has).collect();
        assert!(lost.is_empty(), "writes are gone: {lost:?}");
        for n in 0..=CLIENTS {
            assert_eq!(self.net.query(n, "SELECT * FROM pragma_foreign_key_check"), [""; 0], "machine {n}");
            let found = self.net.check(n);
            assert!(found.iter().all(|f| f.fault != RowFault::Baseline), "machine {n}: {found:?}");
        }
    }

    /// What a table shows is among what Automerge's own merge gives, and all of it where that is one value.
    fn check_documents(&mut self, table: &str) {
        let documents = self.documents(0, table);
        for n in 1..=CLIENTS {
            let theirs = self.documents(n, table);
            assert_eq!(theirs.keys().collect::<Vec<_>>(), documents.keys().collect::<Vec<_>>());
            for (key, document) in &documents {
                assert_eq!(theirs[key].get_heads(), document.get_heads(), "{table} {key} on machine {n}");
            }
        }
        for (key, columns) in self.net.rows(0, table) {
            let key = if table == "pairs" { key.to_lowercase() } else { key }; // NOCASE
            let document =
                documents.get(&key).unwrap_or_else(|| panic!("{table} {key} shows without a document"));
            for (column, shown) in columns {
                let merged: Vec<_> = document.get_all(ROOT, &column).expect("the root is a map");
                let merged: Vec<_> =
                    merged.into_iter().map(|(value, id)| plain(document, value, &id)).collect();
                let good = merged.is_empty() || merged.contains(&shown);
                assert!(good, "{table} {key} {column} shows {shown}; Automerge has {merged:?}");
            }
        }
    }
}

/// An Automerge value as the text of the SQL value that it stands for.
fn plain(document: &Automerge, value: Value<'_>, id: &automerge::ObjId) -> String {
    use rusqlite::types::Value as Sql;
    let sql = match value {
        Value::Object(_) => Sql::Text(document.text(id).expect("a text")),
        Value::Scalar(scalar) => match scalar.as_ref() {
            ScalarValue::Str(text) => Sql::Text(text.to_string()),
            ScalarValue::Int(i) => Sql::Integer(*i),
            ScalarValue::F64(f) => Sql::Real(*f),
            ScalarValue::Bytes(bytes) => Sql::Blob(bytes.clone()),
            ScalarValue::Counter(c) => Sql::Integer(i64::from(c)),
            _ => Sql::Null,
        },
    };
    format!("{sql:?}")
}

fn run(seed: u64) {
    let mut simulation = Simulation::new(seed);
    let story = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            simulation.step();
        }
        simulation.finish();
    }));
    if let Err(panic) = story {
        eprintln!("{}\nseed {seed}: replay it with `make sim SEED={seed}`", simulation.log.join("\n"));
        std::panic::resume_unwind(panic);
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .filter(|n| !n.is_empty())
        .map(|n| n.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn whatever_happens_all_machines_end_equal_and_no_write_is_lost() {
    match setting("SEED") {
        Some(seed) => run(seed),
        None => (1..=setting("RUNS").unwrap_or(40)).for_each(run),
    }
}
