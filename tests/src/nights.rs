//! Nights: a table of which a tenth is edited each night, for many nights. What a change costs must not grow with their number.
//!
//! One server, a sender and a receiver in this process, on real files and without sockets. After the last night another
//! device clones the table with its whole history.

use crate::hot_paths::{Line, Talk, cost, replica};
use crate::rng::Rng;
use piecewise_core::replica::{Follow, Replica, TrackOptions};
use rusqlite::{Connection, params};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// One row in so many is edited each night.
const PART: u64 = 10;
const SCHEMA: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
  CREATE TABLE stock(id INTEGER PRIMARY KEY, name TEXT, place TEXT, amount INTEGER, price REAL, changed INTEGER)";

/// Which rows a night edits.
#[derive(Clone, Copy)]
enum Order {
    /// Those behind the ones of the night before.
    Sequential,
    Random,
}

/// Three machines, and a program that edits rows of one of them.
struct Bench {
    folder: PathBuf,
    rows: u64,
    program: Connection,
    server: Replica,
    sender: Replica,
    receiver: Replica,
    up: Line,
    down: Line,
    rng: Rng,
}

/// Measures so many nights of a table of so many rows, and gives the lines of the table.
pub fn table(folder: &Path, rows: u64, nights: u64) -> String {
    let mut page = format!(
        "A tenth of {rows} rows is edited each night: µs of CPU time a change in one process, by night. File growth is that of
the sender since the first sync; a clone takes in all rows with all their changes.

| order | night | captured | accepted | applied | bytes of file a change | changes a second of a clone |
|---|---|---|---|---|---|---|
"
    );
    for (name, order) in [("sequential", Order::Sequential), ("random", Order::Random)] {
        let part = folder.join(name);
        std::fs::create_dir_all(&part).expect("a folder");
        let mut bench = Bench::new(&part, rows);
        let size = bench.file_size();
        let changes = rows / PART;
        for night in 1..=nights {
            let talk = bench.night(night, order).each(changes as f64);
            if night == 1 || night == nights || night % 25 == 0 {
                let _ = write!(
                    page,
                    "| {name} | {night} | {:.1} | {:.1} | {:.1} |",
                    talk.capture, talk.server, talk.client
                );
                let _ = match night == nights {
                    true => {
                        let grown = bench.file_size().saturating_sub(size) as f64 / (nights * changes) as f64;
                        let all = (rows + nights * changes) as f64;
                        writeln!(page, " {grown:.0} | {:.0} |", all * 1e6 / bench.clone_cost())
                    }
                    false => writeln!(page, " | |"),
                };
            }
        }
    }
    page
}

impl Bench {
    fn new(folder: &Path, rows: u64) -> Self {
        let file = folder.join("sender.db");
        let program = Connection::open(&file).expect("a new file");
        program.execute_batch(SCHEMA).expect("a table");
        let sql = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?)
          INSERT INTO stock SELECT n, 'item ' || n, 'shelf ' || n % 97, n % 1000, n % 500 / 4.0, 0 FROM n";
        program.execute(sql, [rows as i64]).expect("rows");
        let mut server = replica(&folder.join("server.db"), 1, Follow::All);
        let mut sender = replica(&file, 2, Follow::Tracked);
        let mut receiver = replica(&folder.join("receiver.db"), 3, Follow::All);
        sender.track("stock", &TrackOptions::default()).expect("it is tracked");
        let mut up = Line::new(&mut server, &mut sender);
        let mut down = Line::new(&mut server, &mut receiver);
        up.talk(&mut server, &mut sender, &mut Talk::default());
        down.talk(&mut server, &mut receiver, &mut Talk::default());
        let folder = folder.to_owned();
        Self { folder, rows, program, server, sender, receiver, up, down, rng: Rng(5) }
    }

    fn night(&mut self, night: u64, order: Order) -> Talk {
        let count = self.rows / PART;
        let first = (night * count) % self.rows;
        let ids: Vec<u64> = match order {
            Order::Sequential => (0..count).map(|n| 1 + (first + n) % self.rows).collect(),
            Order::Random => {
                // Each row once in a night.
                let step = 2 * self.rng.below(self.rows / 2) + 1;
                let step = (step..).find(|step| gcd(*step, self.rows) == 1).expect("1 more than a multiple");
                let start = self.rng.below(self.rows);
                (0..count).map(|n| 1 + (start + n * step) % self.rows).collect()
            }
        };
        let tx = self.program.transaction().expect("a transaction");
        {
            let sql = "UPDATE stock SET amount = amount + ?1 % 7 + 1, changed = ?1 WHERE id = ?2";
            let mut update = tx.prepare_cached(sql).expect("SQL");
            for id in ids {
                update.execute(params![night as i64, id as i64]).expect("an update");
            }
        }
        tx.commit().expect("a commit");
        let (mut up, mut down) = (Talk::default(), Talk::default());
        self.up.talk(&mut self.server, &mut self.sender, &mut up);
        self.down.talk(&mut self.server, &mut self.receiver, &mut down);
        Talk { client: down.client, ..up }
    }

    fn file_size(&self) -> u64 {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.program.query_row(checkpoint, [], |_| Ok(())).expect("a checkpoint");
        std::fs::metadata(self.folder.join("sender.db")).map_or(0, |file| file.len())
    }

    /// What it costs a new device to get all changes, in µs.
    fn clone_cost(&mut self) -> f64 {
        let mut new = replica(&self.folder.join("clone.db"), 4, Follow::All);
        let mut talk = Talk::default();
        let (_, ()) =
            cost(|| Line::new(&mut self.server, &mut new).talk(&mut self.server, &mut new, &mut talk));
        let sum = |conn: &Connection| {
            let sql = "SELECT total(amount) || ' ' || total(changed) || ' ' || count(*) FROM stock";
            conn.query_row(sql, [], |row| row.get::<_, String>(0)).expect("a sum")
        };
        assert_eq!(sum(new.connection()), sum(&self.program), "the clone has all");
        talk.client + talk.capture
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
