//! Many tables: one device tracks them all, another gets them all, and then hardly anything happens.
//!
//! `make bench` runs it twice, for 10,000 tables in one database and for 1,000 databases of 10 tables. Both devices
//! reach the server through a proxy that counts bytes and cuts lines. `--split` works on the files of a folder by one
//! process after another; without it, several databases are given to `piecewise` as a folder.

use piecewise_tests::application::{Vocabulary, open};
use piecewise_tests::measure::{Ran, Times, Usage, argument, flag, must, page_path, size, time};
use piecewise_tests::page;
use piecewise_tests::process::{Device, Server, Watch, text};
use piecewise_tests::proxy::Proxy;
use rusqlite::params;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Rows of each table.
const ROWS: usize = 3;
/// Rounds of everything short.
const ROUNDS: usize = 5;
/// Edits, each in another table.
const EDITS: usize = 20;
/// How long the longest step may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How long something that comes by itself may take.
const ITSELF: Duration = Duration::from_secs(30);
/// When nothing has moved for so long, an exchange is over.
const QUIET: Duration = Duration::from_millis(700);

fn main() {
    let (databases, tables) = (argument("--databases").unwrap_or(1), argument("--tables").unwrap_or(10_000));
    let folder = tempfile::Builder::new().prefix("many").tempdir_in(".").expect("a folder");
    let way = match (databases, flag("--split")) {
        (1, _) => Way::File,
        (_, true) => Way::FileByFile,
        (_, false) => Way::Folder,
    };
    let mut many = Many::new(folder.path(), Shape { databases, tables, way });
    let body = many.measure();
    let title = if databases == 1 { "Many tables" } else { "Many databases" };
    page::tell(page_path().as_deref(), title, &body);
}

/// How the databases are given to `piecewise`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// There is one file.
    File,
    /// One process for each, one after another.
    FileByFile,
    /// One process for the folder.
    Folder,
}

#[derive(Clone, Copy)]
struct Shape {
    databases: u64,
    tables: u64,
    way: Way,
}

impl Shape {
    fn name(&self, n: u64) -> String {
        format!("many{n:04}")
    }

    fn names(&self) -> impl Iterator<Item = String> + use<> {
        let shape = *self;
        (0..self.databases).map(move |n| shape.name(n))
    }
}

/// One side: a device, its line to the server and its files.
struct Side {
    device: Device,
    line: Proxy,
    folder: PathBuf,
    shape: Shape,
}

impl Side {
    fn new(folder: &Path, server: &Server, shape: Shape) -> Self {
        let line = Proxy::to(&server.listen);
        let device = Device { home: folder.join("home") };
        let files = folder.join("files");
        std::fs::create_dir_all(&files).expect("a folder");
        device.must(["join", &server.invite(&["many*/*=write"]), "--address", line.address()]);
        Self { device, line, folder: files, shape }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.db"))
    }

    /// What is given to `sync` and `watch`: each file, or the folder.
    fn places(&self) -> Vec<PathBuf> {
        match self.shape.way {
            Way::Folder => vec![self.folder.clone()],
            Way::File | Way::FileByFile => self.shape.names().map(|name| self.file(&name)).collect(),
        }
    }

    /// Runs a command on each place; all of them together.
    fn each(&self, commands: impl IntoIterator<Item = Vec<String>>) -> Step {
        let before = self.line.total();
        let mut all = Ran { success: true, ..Ran::default() };
        let started = Instant::now();
        for arguments in commands {
            let ran = must(self.device.command().args(arguments));
            all.usage.cpu += ran.usage.cpu;
            all.usage.peak_kib = all.usage.peak_kib.max(ran.usage.peak_kib);
            all.usage.handles = all.usage.handles.max(ran.usage.handles);
        }
        all.time = started.elapsed();
        Step { ran: all, bytes: self.line.total() - before }
    }

    fn sync(&self) -> Step {
        self.each(self.places().iter().map(|place| words(["sync", text(place), "--quiet"])))
    }

    fn clone_all(&self) -> Step {
        match self.shape.way {
            Way::Folder => self.each([words(["clone", "many*", text(&self.folder)])]),
            Way::File | Way::FileByFile => self.each(
                self.shape.names().map(|name| words(["clone", &name, text(&self.file(&name)), "--json"])),
            ),
        }
    }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// What a step took.
struct Step {
    ran: Ran,
    bytes: u64,
}

struct Many {
    shape: Shape,
    server: Server,
    sender: Side,
    receiver: Side,
    rows: String,
    server_rows: String,
    started: Instant,
}

impl Many {
    fn new(folder: &Path, shape: Shape) -> Self {
        let server = Server::start(&folder.join("server"));
        let sender = Side::new(&folder.join("sender"), &server, shape);
        let receiver = Side::new(&folder.join("receiver"), &server, shape);
        let (rows, server_rows, started) = (String::new(), String::new(), Instant::now());
        Self { shape, server, sender, receiver, rows, server_rows, started }
    }

    fn measure(&mut self) -> String {
        self.look("at the start");
        let made = self.make_files();
        self.say(&format!("tables and rows made, plain SQL: {}", time(made)));
        let tracked = self.track();
        self.step("`track` of all", &tracked);
        let first = self.sender.sync();
        self.step("first `sync` to the server", &first);
        self.look("after the first sync");
        let cloned = self.receiver.clone_all();
        self.step("`clone` on the second device", &cloned);
        self.look("after the clone");
        self.check();
        self.nothing_new();
        self.look("after syncs with nothing new");
        if self.shape.way == Way::FileByFile {
            self.edits_by_processes();
        } else {
            self.watches();
        }
        self.look("at the end");
        self.section()
    }

    fn section(&self) -> String {
        let Shape { databases, tables, way } = self.shape;
        let how = match way {
            Way::File => "",
            Way::FileByFile => ", one process after another for each file",
            Way::Folder => ", a folder of files over one connection",
        };
        format!(
            "{tables} tables of {ROWS} rows in each of {databases} database(s){how}; bytes are those of the socket, both ways.

| what | time | CPU | bytes | peak memory |
|---|---|---|---|---|
{}
The server's process:

| when | memory | peak | handles | threads | CPU |
|---|---|---|---|---|---|
{}",
            self.rows, self.server_rows
        )
    }

    fn say(&self, text: &str) {
        eprintln!("{:>8} {text}", time(self.started.elapsed()));
    }

    fn step(&mut self, what: &str, step: &Step) {
        let Ran { time: took, usage, .. } = &step.ran;
        let row = format!(
            "| {what} | {} | {} | {} | {} |",
            time(*took),
            time(usage.cpu),
            size(step.bytes),
            usage.peak()
        );
        self.row(&row);
    }

    fn row(&mut self, row: &str) {
        self.say(row);
        let _ = writeln!(self.rows, "{row}");
    }

    /// Notes what the server uses now.
    fn look(&mut self, when: &str) {
        let usage = Usage::of(self.server.pid()).expect("the server runs");
        let row = format!(
            "| {when} | {} | {} | {} | {} | {} |",
            usage.memory(),
            usage.peak(),
            usage.handles,
            usage.threads,
            time(usage.cpu)
        );
        self.say(&row);
        let _ = writeln!(self.server_rows, "{row}");
    }

    fn make_files(&self) -> Duration {
        let mut vocabulary = Vocabulary::from_seed(5);
        let started = Instant::now();
        for name in self.shape.names() {
            let mut conn = open(&self.sender.file(&name));
            conn.execute_batch("PRAGMA journal_mode = WAL").expect("a pragma");
            let tx = conn.transaction().expect("a transaction");
            for n in 0..self.shape.tables {
                tx.execute_batch(&create(&table(n))).expect("a table");
                let sql = format!("INSERT INTO {} VALUES (?, ?, ?, ?)", table(n));
                for id in 1..=ROWS as i64 {
                    let values = params![id, vocabulary.words(2), vocabulary.words(8), id as f64 / 4.0];
                    tx.execute(&sql, values).expect("a row");
                }
            }
            tx.commit().expect("a commit");
        }
        started.elapsed()
    }

    fn track(&self) -> Step {
        let sender = &self.sender;
        let names = self.shape.names();
        sender.each(names.map(|name| words(["track", text(&sender.file(&name)), "--all", "--as", &name])))
    }

    /// The second device has every row of every table.
    fn check(&self) {
        for name in self.shape.names() {
            let conn = open(&self.receiver.file(&name));
            for n in 0..self.shape.tables {
                let sql = format!("SELECT count(*) FROM {}", table(n));
                let rows: i64 = conn.query_row(&sql, [], |r| r.get(0)).expect("the table is there");
                assert_eq!(rows, ROWS as i64, "{name}/{}", table(n));
            }
        }
    }

    fn nothing_new(&mut self) {
        let rounds = if self.shape.way == Way::FileByFile { 1 } else { ROUNDS };
        for (who, side) in [("first", &self.sender), ("second", &self.receiver)] {
            side.sync(); // acknowledges and receipts of what came before
            let steps: Vec<_> = (0..rounds).map(|_| side.sync()).collect();
            let times: Times = steps.iter().map(|s| s.ran.time).collect();
            let cpu: Times = steps.iter().map(|s| s.ran.usage.cpu).collect();
            let (bytes, peak) = steps.last().map_or((0, String::new()), |s| (s.bytes, s.ran.usage.peak()));
            let row = format!(
                "| `sync` with nothing new, {who} device | {times} | {} | {} | {peak} |",
                time(cpu.median()),
                size(bytes)
            );
            self.say(&row);
            let _ = writeln!(self.rows, "{row}");
        }
    }

    /// Both devices stay connected: reconnects, edits, a new table.
    fn watches(&mut self) {
        let watches = [&self.sender, &self.receiver].map(|side| {
            let watch = side.device.start_watch(&side.places()[0]);
            watch.level_within(PATIENCE).expect("it is level");
            side.line.quiet_for(QUIET);
            watch
        });
        self.look("while both watch");
        self.reconnects(&watches[1]);
        self.edits();
        self.look("after edits");
        self.new_table();
        for (who, watch) in ["first", "second"].iter().zip(&watches) {
            let usage = Usage::of(watch.pid()).unwrap_or_default();
            self.row(&format!(
                "| `watch` of the {who} device, in all | | {} | | {} |",
                time(usage.cpu),
                usage.peak()
            ));
        }
    }

    /// The receiver's line is cut and comes back, with nothing new on either side.
    fn reconnects(&mut self, watch: &Watch) {
        let (line, mut bytes) = (&self.receiver.line, 0);
        let cpu = || Usage::of(watch.pid()).unwrap_or_default().cpu;
        let before = cpu();
        let times: Times = (0..ROUNDS)
            .map(|_| {
                let (moved, connections) = (line.total(), line.connections());
                line.cut();
                let connected = line.wait_for_connection(connections, PATIENCE);
                watch.level_within(PATIENCE).expect("it is level again");
                let over = line.quiet_for(QUIET);
                bytes = line.total() - moved;
                over - connected
            })
            .collect();
        let cpu = (cpu() - before) / ROUNDS as u32;
        let row = format!(
            "| `watch` reconnects, nothing new (aim: 200 ms, 10 kB) | {times} | {} | {} | |",
            time(cpu),
            size(bytes)
        );
        self.row(&row);
    }

    /// A row changes in one table on one device, and is the same on the other.
    fn edits(&mut self) {
        let lines = [&self.sender.line, &self.receiver.line];
        let total = || lines.iter().map(|l| l.total()).sum::<u64>();
        let mut bytes = 0;
        let times: Times = (0..EDITS)
            .map(|n| {
                let before = total();
                let took = self.edit(n, |_| {});
                for line in lines {
                    line.quiet_for(QUIET);
                }
                bytes = bytes.max(total() - before);
                took
            })
            .collect();
        let row = format!(
            "| a row of one table, commit to commit, of {EDITS} edits; bytes of both lines | {times} | | at most {} | |",
            size(bytes)
        );
        self.row(&row);
    }

    /// The same without `watch`: a `sync` of the file on either side.
    fn edits_by_processes(&mut self) {
        let sync = |side: &Side, name: &str| {
            drop(must(side.device.command().args(["sync", text(&side.file(name)), "--quiet"])))
        };
        let times: Times = (0..EDITS)
            .map(|n| {
                self.edit(n, |name| {
                    sync(&self.sender, name);
                    sync(&self.receiver, name);
                })
            })
            .collect();
        self.row(&format!("| a row of one table, `sync` of its file on both devices | {times} | | | |"));
    }

    /// Changes a row on one device; the time until it is on the other.
    fn edit(&self, n: usize, bring: impl Fn(&str)) -> Duration {
        let name = self.shape.name(n as u64 * 7919 % self.shape.databases);
        let table = table(n as u64 * 7907 % self.shape.tables);
        let (writer, reader) = (open(&self.sender.file(&name)), open(&self.receiver.file(&name)));
        let value = format!("edit {n}");
        let sql = format!("SELECT name FROM {table} WHERE id = 1");
        let mut seen = reader.prepare(&sql).expect("a query");
        writer.execute(&format!("UPDATE {table} SET name = ? WHERE id = 1"), [&value]).expect("an update");
        let started = Instant::now();
        bring(&name);
        wait_until(|| seen.query_row([], |r| r.get::<_, String>(0)).expect("a row") == value);
        started.elapsed()
    }

    /// A table is made and tracked on one device, and is there on the other by itself.
    fn new_table(&mut self) {
        let name = self.shape.name(self.shape.databases - 1);
        let (file, copy) = (self.sender.file(&name), self.receiver.file(&name));
        let (writer, reader) = (open(&file), open(&copy));
        let bring = |n: usize| {
            let table = format!("new{n}");
            writer.execute_batch(&create(&table)).expect("a table");
            let row = format!("INSERT INTO {table} VALUES (1, 'new', 'table', 0.5)");
            writer.execute(&row, []).expect("a row");
            let started = Instant::now();
            must(self.sender.device.command().args(["track", text(&file), &table]));
            let sql = format!("SELECT count(*) FROM {table}");
            let is_there = || reader.query_row(&sql, [], |r| r.get::<_, i64>(0)).is_ok_and(|rows| rows == 1);
            is_so_within(ITSELF, is_there).then(|| started.elapsed())
        };
        let what = "a new table, from `track` to its row on the other device";
        let row = match (0..ROUNDS).map(bring).collect::<Option<Times>>() {
            Some(times) => format!("| {what} | {times} | | | |"),
            None => format!("| {what} | not within {} | | | |", time(ITSELF)),
        };
        self.row(&row);
    }
}

fn wait_until(done: impl FnMut() -> bool) {
    assert!(is_so_within(PATIENCE, done), "it does not come");
}

/// Whether something is so before the time is over.
fn is_so_within(time: Duration, mut done: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !done() {
        if started.elapsed() > time {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

fn table(n: u64) -> String {
    format!("t{n:05}")
}

fn create(table: &str) -> String {
    format!("CREATE TABLE {table}(id INTEGER PRIMARY KEY, name TEXT, note TEXT, amount REAL)")
}
