//! Soak: a table of many gigabytes goes from a full file through the server into an empty one, while each of the
//! three processes is killed at random moments; then what people do with such a table.
//!
//! An application fills the file first, before it is tracked. While it syncs, another goes on writing a small table
//! of the same file, and notes how long it waits for locks. Both `watch`es reach the server through proxies that count
//! bytes. Kills keep clear of the first and the last tenth, whose speeds are compared. `make soak GIGABYTES=…`

use piecewise_tests::application::{Vocabulary, checkpoint, count, folder_len, len, open};
use piecewise_tests::measure::{Times, Usage, argument, flag, page_path, run, size, text_argument, time};
use piecewise_tests::page;
use piecewise_tests::process::{Device, Server, Watch, text};
use piecewise_tests::proxy::Proxy;
use piecewise_tests::rng::Rng;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// About the bytes of a row, and the words that make them up.
const ROW_BYTES: u64 = 1000;
const ROW_WORDS: usize = 126;
/// Rows of one transaction of the application.
const BATCH: u64 = 1000;
/// How often each process is killed.
const KILLS_EACH: usize = 3;
/// Single edits at full size, and rounds of everything short.
const EDITS: usize = 100;
const ROUNDS: usize = 5;
/// Rows that change after a backup was made.
const AFTER_BACKUP: u64 = 10_000;
/// The most memory that a process may need, in KiB.
const MEMORY_MAX_KIB: u64 = 200_000_000 / 1024;
/// Bytes on disk for each byte of rows: three files with rows and segments, one backup, and what WALs need.
const DISK_FACTOR: f64 = 6.5;
/// Without progress for so long, it has failed.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The three processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Sender,
    Server,
    Receiver,
}
const PARTS: [Part; 3] = [Part::Sender, Part::Server, Part::Receiver];

fn main() -> ExitCode {
    let gigabytes: f64 = text_argument("--gigabytes").map_or(10.0, |g| g.parse().expect("gigabytes"));
    let rows = (gigabytes * 1e9) as u64 / ROW_BYTES;
    let builder = tempfile::Builder::new().prefix("soak").disable_cleanup(flag("--keep")).tempdir_in(".");
    let folder = builder.expect("a folder");
    let need = gigabytes * 1e9 * DISK_FACTOR;
    if let Some(free) = free_bytes(folder.path())
        && (free as f64) < need
    {
        eprintln!("error: {} are needed here and {} are free", size(need as u64), size(free));
        eprintln!("hint: free some, or say --gigabytes with a smaller number");
        return ExitCode::FAILURE;
    }
    let mut soak = Soak::new(folder.path(), rows, argument("--seed").unwrap_or(1));
    let body = soak.measure();
    page::tell(page_path().as_deref(), "Gigabytes", &body);
    soak.misses.iter().for_each(|miss| eprintln!("missed: {miss}"));
    if soak.misses.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let out = Command::new("df").args(["--output=avail", "-B1"]).arg(folder).output().ok()?;
    String::from_utf8(out.stdout).ok()?.lines().nth(1)?.trim().parse().ok()
}

/// A device, its line and its file.
struct Side {
    device: Device,
    line: Proxy,
    file: PathBuf,
    watch: Option<Watch>,
}

impl Side {
    fn new(folder: &Path, name: &str, server: &Server) -> Self {
        let line = Proxy::to(&server.listen);
        let device = Device { home: folder.join(format!("{name}-home")) };
        device.must(["join", &server.invite(&["soak/*=write"]), "--address", line.address()]);
        Self { device, line, file: folder.join(format!("{name}.db")), watch: None }
    }

    /// Runs `piecewise COMMAND FILE`, which must succeed: time, bytes, peak memory.
    fn run(&self, command: &str) -> (Duration, u64, Usage) {
        let before = self.line.total();
        let ran = run(self.device.command().args([command, text(&self.file), "--json"]));
        assert!(ran.success, "{command} fails: {}{}", ran.out, ran.err);
        (ran.time, self.line.total() - before, ran.usage)
    }

    fn start_watch(&mut self) {
        self.watch = Some(self.device.start_watch(&self.file));
    }

    fn stop_watch(&mut self) {
        if let Some(watch) = self.watch.take() {
            assert_eq!(watch.stop(), 0, "the watch stops as it should");
        }
    }
}

struct Soak {
    folder: PathBuf,
    rows: u64,
    rng: Rng,
    server: Option<Server>,
    sender: Side,
    receiver: Side,
    /// The most memory of each process, over all its lives, in KiB.
    peaks: [u64; 3],
    started: Instant,
    report: String,
    misses: Vec<String>,
}

impl Soak {
    fn new(folder: &Path, rows: u64, seed: u64) -> Self {
        let server = Server::start(&folder.join("server"));
        let (sender, receiver) =
            (Side::new(folder, "sender", &server), Side::new(folder, "receiver", &server));
        Self {
            folder: folder.to_owned(),
            rows,
            rng: Rng(seed),
            server: Some(server),
            sender,
            receiver,
            peaks: [0; 3],
            started: Instant::now(),
            report: "| what | measured |\n|---|---|\n".to_owned(),
            misses: vec![],
        }
    }

    fn measure(&mut self) -> String {
        let plain = self.fill();
        self.sender.device.must(["track", text(&self.sender.file), "--all", "--as", "soak"]);
        self.receiver.device.must(["clone", "soak", text(&self.receiver.file)]);
        let locks = self.first_sync();
        let (p50, p99, longest) = (locks.median(), locks.percentile(99), locks.percentile(100));
        self.row(
            "a row that an application commits to the sender's file meanwhile: p50, p99, longest",
            &format!("{}, {}, {}", time(p50), time(p99), time(longest)),
        );
        let edits = self.edits().to_string();
        self.row("after it, a row edited, commit to commit", &edits);
        self.sender.stop_watch();
        self.receiver.stop_watch();
        self.check("first sync");
        self.sizes(plain);
        self.nothing_new();
        self.compare();
        for part in PARTS {
            self.restore(part);
        }
        self.check("repairs");
        self.memory();
        format!(
            "{} of rows of about 1 KB ({} rows), INTEGER key; each of the three processes killed {KILLS_EACH} times in the first sync.

{}",
            size(plain),
            self.rows,
            self.report
        )
    }

    fn say(&self, text: &str) {
        eprintln!("{:>9} {text}", time(self.started.elapsed()));
    }

    fn row(&mut self, what: &str, measured: &str) {
        self.say(&format!("{what}: {measured}"));
        let _ = writeln!(self.report, "| {what} | {measured} |");
    }

    fn miss(&mut self, what: String) {
        self.say(&format!("missed: {what}"));
        self.misses.push(what);
    }

    /// The application fills its file; the file's bytes.
    fn fill(&mut self) -> u64 {
        let mut conn = open(&self.sender.file);
        let sql = "PRAGMA journal_mode = WAL;
                   CREATE TABLE docs(id INTEGER PRIMARY KEY, title TEXT, day TEXT, amount REAL, body TEXT);
                   CREATE TABLE live(id INTEGER PRIMARY KEY, body TEXT);";
        conn.execute_batch(sql).expect("tables");
        let mut vocabulary = Vocabulary::from_seed(self.rng.number());
        let started = Instant::now();
        let mut told = started;
        for first in (1..=self.rows).step_by(BATCH as usize) {
            insert(&mut conn, &mut vocabulary, first, (first + BATCH).min(self.rows + 1));
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                self.say(&format!("{first} of {} rows written", self.rows));
            }
        }
        drop(conn);
        checkpoint(&self.sender.file);
        let rate = self.rows as f64 / started.elapsed().as_secs_f64();
        self.row("the application fills the table, before it is tracked", &format!("{rate:.0} rows/s"));
        len(&self.sender.file)
    }

    /// Both watches run and all three are killed now and then; how long the commits of an application took.
    fn first_sync(&mut self) -> Times {
        let mut kills: Vec<_> = PARTS.iter().flat_map(|part| [*part; KILLS_EACH]).collect();
        for n in (1..kills.len()).rev() {
            kills.swap(n, self.rng.below(n as u64 + 1) as usize);
        }
        let (tenth, span) = (self.rows / 10, self.rows * 7 / 10);
        let mut moments: Vec<_> = kills.iter().map(|_| tenth * 3 / 2 + self.rng.below(span)).collect();
        moments.sort_unstable_by_key(|moment| std::cmp::Reverse(*moment));
        let application = LiveWriter::start(&self.sender.file);
        self.receiver.start_watch();
        self.sender.start_watch();
        let started = Instant::now();
        let mut passed = vec![started];
        let (mut last, mut moved, mut told) = (0, Instant::now(), Instant::now());
        while last < self.rows {
            std::thread::sleep(LOOK_EVERY);
            self.look_at_memory();
            let now = arrived(&self.receiver.file);
            if now > last {
                (last, moved) = (now, Instant::now());
            }
            assert!(moved.elapsed() < PATIENCE, "nothing has come for {}; {last} rows came", time(PATIENCE));
            while passed.len() < 10 && last >= tenth * passed.len() as u64 {
                passed.push(Instant::now());
            }
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                self.tell_progress(last, started.elapsed());
            }
            if moments.last().is_some_and(|moment| last >= *moment) {
                moments.pop();
                self.kill(kills[moments.len()], last);
            }
        }
        passed.push(Instant::now());
        let took = started.elapsed();
        let commits = application.stop();
        wait_until(|| count(&self.receiver.file, "live") == commits.len() as u64);
        let (up, down) = (self.sender.line.bytes(), self.receiver.line.bytes());
        self.row(
            "first sync, kills included",
            &format!("{}, {:.0} rows/s", time(took), self.rows as f64 / took.as_secs_f64()),
        );
        self.row("bytes: sender to server, server to receiver", &format!("{}, {}", size(up.0), size(down.1)));
        let rates: Vec<_> = passed.windows(2).map(|w| tenth as f64 / (w[1] - w[0]).as_secs_f64()).collect();
        let list: Vec<_> = rates.iter().map(|rate| format!("{:.0}", rate / 1000.0)).collect();
        self.row("thousand rows/s in each tenth", &list.join(" "));
        let ratio = rates.last().unwrap_or(&0.0) / rates.first().unwrap_or(&1.0);
        self.row("last tenth / first tenth (aim: 0.7)", &format!("{ratio:.2}"));
        if ratio < 0.7 {
            self.miss(format!("the last tenth has {ratio:.2} of the speed of the first"));
        }
        commits.into_iter().collect()
    }

    fn tell_progress(&self, rows: u64, elapsed: Duration) {
        let rate = rows as f64 / elapsed.as_secs_f64();
        let left = Duration::from_secs_f64((self.rows - rows) as f64 / rate.max(1.0));
        let bytes = self.receiver.line.bytes().1;
        let percent = 100.0 * rows as f64 / self.rows as f64;
        let memory: Vec<_> = self.peaks.iter().map(|kib| format!("{}", kib >> 10)).collect();
        self.say(&format!(
            "{rows} of {} rows ({percent:.1} %), {}, {rate:.0} rows/s, {} left, memory {} MiB",
            self.rows,
            size(bytes),
            time(left),
            memory.join("/")
        ));
    }

    fn kill(&mut self, part: Part, at: u64) {
        self.say(&format!("kill: {part:?} at row {at}"));
        match part {
            Part::Sender => {
                self.sender.watch = None; // dropping it kills
                self.sender.start_watch();
            }
            Part::Receiver => {
                self.receiver.watch = None;
                self.receiver.start_watch();
            }
            Part::Server => {
                let server = self.server.take().expect("it runs");
                let (data, listen) = (server.data.clone(), server.listen.clone());
                server.kill();
                self.server = Some(Server::start_at(&data, &listen, &[]));
            }
        }
    }

    fn look_at_memory(&mut self) {
        let watch = |side: &Side| side.watch.as_ref().map(Watch::pid);
        let pids = [watch(&self.sender), self.server.as_ref().map(Server::pid), watch(&self.receiver)];
        for (peak, pid) in self.peaks.iter_mut().zip(pids) {
            let usage = pid.and_then(Usage::of).unwrap_or_default();
            *peak = usage.peak_kib.max(*peak);
        }
    }

    /// One row at a time, from commit to commit.
    fn edits(&mut self) -> Times {
        let (writer, reader) = (open(&self.sender.file), open(&self.receiver.file));
        let mut seen = reader.prepare("SELECT title FROM docs WHERE id = ?").expect("a query");
        let mut edit = |n: usize| {
            let (id, title) = (1 + self.rng.below(self.rows) as i64, format!("edit {n}"));
            let sql = "UPDATE docs SET title = ? WHERE id = ?";
            writer.execute(sql, params![title, id]).expect("an update");
            let started = Instant::now();
            wait_until(|| seen.query_row([id], |r| r.get::<_, String>(0)).expect("a row") == title);
            started.elapsed()
        };
        (0..EDITS).map(&mut edit).collect()
    }

    fn server_file(&self) -> PathBuf {
        self.folder.join("server/soak.db")
    }

    /// All three files have the same rows.
    fn check(&mut self, after: &str) {
        let files = [self.sender.file.clone(), self.server_file(), self.receiver.file.clone()];
        let started = Instant::now();
        let contents = files.each_ref().map(|file| content(file));
        self.say(&format!("contents after {after}: {contents:x?}, read in {}", time(started.elapsed())));
        assert!(contents.iter().all(|c| *c == contents[0]), "the three differ after {after}");
        self.row(&format!("all three equal after {after}"), &format!("{} rows", contents[0].0));
    }

    fn sizes(&mut self, plain: u64) {
        let ratio = |file: &Path| {
            checkpoint(file);
            format!("{} ({:.2})", size(len(file)), len(file) as f64 / plain as f64)
        };
        let server = self.server_file();
        let list = [ratio(&self.sender.file), ratio(&server), ratio(&self.receiver.file)].join(", ");
        self.row("files of sender, server, receiver (against the plain file)", &list);
        let log = folder_len(&self.folder.join("server")) - len(&server);
        self.row("the server's other files, its log among them", &size(log));
    }

    fn nothing_new(&mut self) {
        self.sender.run("sync");
        let runs: Vec<_> = (0..ROUNDS).map(|_| self.sender.run("sync")).collect();
        let times: Times = runs.iter().map(|r| r.0).collect();
        let bytes = runs.iter().map(|r| r.1).max().unwrap_or_default();
        self.row("`sync` with nothing new", &format!("{times}, {}", size(bytes)));
    }

    fn compare(&mut self) {
        let (took, bytes, usage) = self.receiver.run("compare");
        self.peaks[2] = self.peaks[2].max(usage.peak_kib);
        let rate = self.rows as f64 / took.as_secs_f64();
        self.row(
            "`compare` of all tables",
            &format!("{}, {rate:.0} rows/s, {}, {}", time(took), size(bytes), usage.peak()),
        );
    }

    /// A side goes back to a backup, from before some edits that all had; then all sync.
    fn restore(&mut self, part: Part) {
        let (file, backup) = (self.file_of(part), self.folder.join("backup.db"));
        self.while_stopped(part, || {
            checkpoint(&file);
            std::fs::copy(&file, &backup).expect("a backup");
        });
        let conn = open(&self.sender.file);
        let first = self.rng.below(self.rows.saturating_sub(AFTER_BACKUP).max(1)) as i64;
        let sql = "UPDATE docs SET title = ?1 || id WHERE id BETWEEN ?2 AND ?2 + ?3";
        conn.execute(sql, params![format!("{part:?} "), first, AFTER_BACKUP as i64 - 1]).expect("edits");
        drop(conn);
        self.sender.run("sync");
        self.receiver.run("sync");
        self.while_stopped(part, || {
            for ending in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{ending}", text(&file)));
            }
            std::fs::rename(&backup, &file).expect("it is restored");
        });
        let (mut took, mut bytes) = (Duration::ZERO, 0);
        let sides = [&self.sender, &self.receiver, &self.sender];
        for (side, part) in sides.iter().zip([0, 2, 0]) {
            let (time, moved, usage) = side.run("sync");
            (took, bytes) = (took + time, bytes + moved);
            self.peaks[part] = self.peaks[part].max(usage.peak_kib);
        }
        self.look_at_memory();
        self.row(
            &format!("{part:?}: back to a backup from before {AFTER_BACKUP} edits, three syncs"),
            &format!("{}, {}", time(took), size(bytes)),
        );
    }

    fn file_of(&self, part: Part) -> PathBuf {
        match part {
            Part::Sender => self.sender.file.clone(),
            Part::Server => self.server_file(),
            Part::Receiver => self.receiver.file.clone(),
        }
    }

    fn while_stopped(&mut self, part: Part, work: impl FnOnce()) {
        if part != Part::Server {
            return work();
        }
        let server = self.server.take().expect("it runs");
        let (data, listen) = (server.data.clone(), server.listen.clone());
        server.stop();
        work();
        self.server = Some(Server::start_at(&data, &listen, &[]));
    }

    fn memory(&mut self) {
        let peaks = self.peaks;
        let list: Vec<_> = peaks.iter().map(|kib| format!("{} MiB", kib >> 10)).collect();
        self.row("peak memory: sender, server, receiver (aim: 200 MB each)", &list.join(", "));
        for (part, peak) in PARTS.iter().zip(peaks) {
            if peak > MEMORY_MAX_KIB {
                self.miss(format!("{part:?} needed {} MiB", peak >> 10));
            }
        }
    }
}

/// An application that goes on writing while the file syncs.
struct LiveWriter {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Duration>>,
}

impl LiveWriter {
    fn start(file: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, conn) = (stop.clone(), open(file));
        let thread = std::thread::spawn(move || {
            let mut took = vec![];
            while !stopping.load(Relaxed) {
                let started = Instant::now();
                conn.execute("INSERT INTO live(body) VALUES ('a row while it syncs')", []).expect("a row");
                took.push(started.elapsed());
                std::thread::sleep(LOOK_EVERY);
            }
            took
        });
        Self { stop, thread }
    }

    /// Stops it: how long each of its rows took.
    fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("it writes")
    }
}

fn insert(conn: &mut Connection, vocabulary: &mut Vocabulary, from: u64, to: u64) {
    let tx = conn.transaction().expect("a transaction");
    let mut stmt = tx.prepare_cached("INSERT INTO docs VALUES (?, ?, ?, ?, ?)").expect("SQL");
    for id in from..to {
        let (title, body) = (vocabulary.words(4), vocabulary.words(ROW_WORDS));
        let day = format!("20{:02}-{:02}-{:02}", id % 30, 1 + id % 12, 1 + id % 28);
        stmt.execute(params![id as i64, title, day, (id % 9973) as f64 / 100.0, body]).expect("a row");
    }
    drop(stmt);
    tx.commit().expect("a commit");
}

/// How far rows have come, which arrive by ascending key; 0 while there is no table.
fn arrived(file: &Path) -> u64 {
    let last =
        |conn: Connection| conn.query_row("SELECT max(id) FROM docs", [], |r| r.get::<_, Option<i64>>(0));
    Connection::open(file).and_then(last).ok().flatten().unwrap_or(0) as u64
}

/// How many rows there are, and a hash of them all in order.
fn content(file: &Path) -> (u64, u64) {
    let conn = open(file);
    let (mut rows, mut hasher) = (0, DefaultHasher::new());
    for sql in ["SELECT id, title, day, amount, body FROM docs ORDER BY id", "SELECT * FROM live ORDER BY id"]
    {
        let mut stmt = conn.prepare(sql).expect("a query");
        let columns = stmt.column_count();
        let mut found = stmt.query([]).expect("rows");
        while let Some(row) = found.next().expect("a row") {
            rows += 1;
            for n in 0..columns {
                add(&mut hasher, row.get_ref(n).expect("a value"));
            }
        }
    }
    (rows, hasher.finish())
}

fn add(hasher: &mut DefaultHasher, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => hasher.write_u8(0),
        ValueRef::Integer(i) => hasher.write_i64(i),
        ValueRef::Real(f) => hasher.write_u64(f.to_bits()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        }
    }
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "it does not come");
        std::thread::sleep(Duration::from_micros(200));
    }
}
