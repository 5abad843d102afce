//! Whole-process benchmarks: the real binaries on real files over loopback, next to plain SQLite doing
//! the same inserts in the same run. `make bench` runs it and writes BENCHMARKS.md; with `--row-edits` and
//! `--segments`, as `make bench-long` does, it measures long lives alone, of that length; with `--nights`, and `--rows`, a
//! nightly job alone; with `--numbers` what becomes of numbers that several devices give out, with `--held` what held rows and checks cost;
//! `--against FOLDER` compares with another version's binaries.

mod against;
mod held;

use piecewise_core::id::{ContainerId, PeerId, SegmentId, Timestamp};
use piecewise_core::supervisor_log::entry::Place;
use piecewise_core::supervisor_log::{Entry, Event};
use piecewise_server::audit;
use piecewise_server::supervisor::Supervisor;
use piecewise_tests::application::{Vocabulary, checkpoint, count, len, open};
use piecewise_tests::measure::{Cpu, Times, Usage, argument, flag, page_path, text_argument};
use piecewise_tests::page::{self, Page};
use piecewise_tests::process::{Device, PATIENCE, Server, Watch, text};
use piecewise_tests::{hot_feed, hot_paths, hot_rows, nights, numbering};
use rusqlite::types::Value;
use rusqlite::{Connection, params};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Rows of one transaction of the application.
const BATCH: u64 = 1000;
/// Rows of the write benchmark.
const WRITES: u64 = 200_000;
/// Edits of the live benchmark.
const EDITS: usize = 300;
/// Rows and nights of the nightly job.
const NIGHTLY: (u64, u64) = (20_000, 50);
/// Rounds of everything short.
const ROUNDS: usize = 5;

/// What bounds the figure that is missed.
const BOUND: &str = "
What bounds 1 % edits: they are spread over the whole table, so each of the 20,000 rows lies on a page of its own, which each of three
machines reads, writes to the WAL and then to the file; and to know what an edit changed, the segments that hold the rows' inserts,
which is every segment of the table on each side, are read and decompressed (about half of what capture costs). All of that is about
2.3 s of CPU in three processes, which share the two cores (`bench --edits 4` tells it for each).
";

/// How a table's key is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Integer,
    Uuid,
}

/// What a first sync took.
struct FirstSync {
    rows: u64,
    plain: Duration,
    sync: Duration,
    /// Bytes of all values: integers and reals count 8, NULL 0.
    raw: u64,
    wire: u64,
    plain_file: u64,
    synced_file: u64,
    /// Peak memory in KiB: sender, server, receiver.
    memory: [u64; 3],
}

fn main() {
    if let Some(other) = text_argument("--against") {
        page::tell(page_path().as_deref(), "Against another version", &against::table(Path::new(&other)));
        return;
    }
    let rows: u64 = argument("--rows").unwrap_or(1_000_000);
    let large: u64 = argument("--large").unwrap_or(5_000_000);
    let folder = tempfile::Builder::new().prefix("bench").tempdir_in(".").expect("a folder");
    if flag("--turn") {
        against::turn(folder.path());
        return;
    }
    let (row_edits, segments) = (argument("--row-edits"), argument("--segments"));
    if row_edits.is_some() || segments.is_some() {
        let body = long_lives(folder.path(), row_edits.unwrap_or(0), segments.unwrap_or(0));
        page::tell(page_path().as_deref(), "Long lives", &body);
        return;
    }
    if let Some(count) = argument("--nights") {
        println!("{}", nights::table(folder.path(), argument("--rows").unwrap_or(NIGHTLY.0), count));
        return;
    }
    if flag("--numbers") {
        page::tell(page_path().as_deref(), "Numbers", &numbering::table());
        return;
    }
    if flag("--held") {
        page::tell(page_path().as_deref(), "Held rows and checks", &held::table(folder.path()));
        return;
    }
    if let Some(rounds) = argument("--edits") {
        let mut bench = Bench::new(&folder.path().join("edits"), Key::Integer);
        bench.first_sync(rows);
        let at_once = median(bench.one_percent_at_once(rounds as usize, true));
        let in_turn = median(bench.one_percent_each(rounds as usize, true));
        println!("at once {} ms, in turn {} ms", at_once.as_millis(), in_turn.as_millis());
        return;
    }
    let path = page_path();
    let mut page =
        path.as_deref().map_or_else(Page::default, |p| Page::read(p).expect("the page can be read"));
    page.set_intro(&intro());

    let integer = Bench::new(&folder.path().join("integer"), Key::Integer).first_sync(rows);
    let (uuid, bench) = {
        let mut bench = Bench::new(&folder.path().join("uuid"), Key::Uuid);
        (bench.first_sync(rows), bench)
    };
    drop(bench);
    let mut bench = Bench::new(&folder.path().join("edits"), Key::Integer);
    bench.first_sync(rows);
    let nothing = bench.nothing_new();
    let percent =
        [bench.one_percent_at_once(ROUNDS, false), bench.one_percent_each(ROUNDS, false)].map(median);
    let live = bench.live();
    drop(bench);
    let big = (large > 0).then(|| Bench::new(&folder.path().join("large"), Key::Integer).first_sync(large));

    let hot = folder.path().join("hot");
    std::fs::create_dir_all(&hot).expect("a folder");
    page.put("First sync", &first_syncs(&integer, &uuid, big.as_ref()));
    page.put("Application writes", &writes(folder.path()));
    page.put("Little things", &little_things(rows, nothing, percent, live));
    page.put("Where time goes", &hot_paths::table(&hot));
    page.put("Nights", &nights::table(&hot, NIGHTLY.0, NIGHTLY.1));
    page.put("Numbers", &numbering::table());
    page.put("Held rows and checks", &held::table(folder.path()));
    page.put("The supervisor's log", &log_cost(folder.path(), &integer));
    println!("{}", page.text());
    if let Some(path) = path {
        std::fs::write(path, page.text()).expect("the page can be written");
    }
}

/// A row edited many times and a feed of many segments; 0 leaves one out.
fn long_lives(folder: &Path, row_edits: u64, segments: u64) -> String {
    let part = |name: &str| {
        let part = folder.join(name);
        std::fs::create_dir_all(&part).expect("a folder");
        part
    };
    let mut page = String::new();
    if row_edits > 0 {
        page.push_str(&hot_rows::table(&part("rows"), row_edits));
    }
    if segments > 0 {
        let _ = write!(page, "\n{}", hot_feed::table(&part("feed"), segments));
    }
    page
}

fn little_things(
    rows: u64,
    nothing: (Duration, u64),
    [at_once, in_turn]: [Duration; 2],
    live: (Duration, Duration),
) -> String {
    let ms = |d: Duration| format!("{:.1} ms", d.as_secs_f64() * 1000.0);
    format!(
        "At {rows} rows.

| what | measured | aim |
|---|---|---|
| nothing changed: `sync` | {}, {} B both ways | 20 ms, 1,024 B |
| 1 % changed on one side, another 1 % on the other, until all three are equal: both come online at once (`watch`) | {} | 1,000 ms |
| the same by three `sync`s one after another | {} | |
| one row, `watch` to `watch`, commit to commit: p50 | {} | 5 ms |
| p99 | {} | 20 ms |
{BOUND}",
        ms(nothing.0),
        nothing.1,
        ms(at_once),
        ms(in_turn),
        ms(live.0),
        ms(live.1),
    )
}

fn intro() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map_or("", |m| m.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "# Benchmarks

Each section names its command; those that name none are by `make bench`. All are release builds, whole processes, real files and sockets on loopback,
encrypted, beside plain SQLite doing the same inserts in the same run. Machines are noisy, and all three
processes share the cores of one: ratios say more than figures.

This run: {cores} cores, {model}.

Rows have ten columns and about 200 bytes: two keys, names, an address, an amount, a day, a flag and a note
of eight words, from a vocabulary of 4,096 made-up words, all from one seed."
    )
}

/// One server, a sender and a receiver.
struct Bench {
    server: Server,
    devices: [Device; 2],
    files: [PathBuf; 2],
    folder: PathBuf,
    key: Key,
}

impl Bench {
    fn new(folder: &Path, key: Key) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let server = Server::start(&folder.join("server"));
        let join = |name: &str| Device::joined(&folder.join(name), &server, &["bench/*=write"]);
        let devices = [join("home-a"), join("home-b")];
        let files = [folder.join("a.db"), folder.join("b.db")];
        Self { server, devices, files, folder: folder.to_owned(), key }
    }

    /// From the first file through the server into an empty one that listens.
    fn first_sync(&mut self, rows: u64) -> FirstSync {
        let plain_file = self.folder.join("plain.db");
        let (plain, raw) = fill(&plain_file, self.key, rows);
        fill(&self.files[0], self.key, rows);
        let [sender, receiver] = &self.devices;
        sender.must(["track", text(&self.files[0]), "items", "--as", "bench"]);
        receiver.must(["clone", "bench", text(&self.files[1])]);
        let listening = receiver.watch(&self.files[1]);
        let started = Instant::now();
        let mut child = sender.command();
        child.args(["sync", text(&self.files[0]), "--json"]).stdout(std::process::Stdio::piped());
        let child = child.spawn().expect("it starts");
        let mut sender_memory = 0;
        let mut received = 0;
        while received < rows {
            sender_memory = peak_memory(child.id()).max(sender_memory);
            received += listening
                .level_within(Duration::from_millis(20))
                .map_or(0, |l| l["moved"]["rows_received"].as_u64().unwrap_or(0));
            assert!(started.elapsed() < PATIENCE * 10, "the receiver does not get all rows");
        }
        let sync = started.elapsed();
        let said = child.wait_with_output().expect("it ends");
        assert!(said.status.success(), "the sender succeeds");
        let moved: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
        let memory = [sender_memory, peak_memory(self.server.pid()), peak_memory(listening.pid())];
        listening.stop();
        let wire = moved["moved"]["bytes_sent"].as_u64().unwrap_or(0);
        self.files.iter().for_each(|f| checkpoint(f));
        assert_eq!(count(&self.files[1], "items"), rows, "the receiver has all rows");
        checkpoint(&plain_file);
        let (plain_len, synced_len) = (len(&plain_file), len(&self.files[1]));
        FirstSync { rows, plain, sync, raw, wire, plain_file: plain_len, synced_file: synced_len, memory }
    }

    /// The median time of a sync with nothing new, and its bytes both ways.
    fn nothing_new(&self) -> (Duration, u64) {
        let mut bytes = 0;
        let times = (0..ROUNDS).map(|_| {
            let started = Instant::now();
            let said = self.devices[0].json(&["sync", text(&self.files[0])]);
            let moved = &said["moved"];
            bytes = moved["bytes_sent"].as_u64().unwrap_or(0) + moved["bytes_received"].as_u64().unwrap_or(0);
            started.elapsed()
        });
        (median(times.collect()), bytes)
    }

    /// The times until two files with 1 % of changes each are equal again, one sync after another; `aloud` says what each used.
    fn one_percent_each(&self, rounds: usize, aloud: bool) -> Vec<Duration> {
        let times = (0..rounds).map(|round| {
            self.edit_one_percent_each(round);
            let started = Instant::now();
            for n in [0, 1, 0] {
                self.sync(n, aloud);
            }
            let elapsed = started.elapsed();
            self.must_be_equal();
            elapsed
        });
        times.collect()
    }

    /// The times until both files and the server are equal again if both devices come online at once, by `watch`.
    fn one_percent_at_once(&self, rounds: usize, aloud: bool) -> Vec<Duration> {
        let times = (0..rounds).map(|round| {
            let files = [&self.files[0], &self.files[1], &self.server.file("bench")];
            let roots = files.map(|file| open(file));
            let root = |conn: &Connection| -> Vec<u8> {
                let sql = "SELECT digest FROM piecewise_containers WHERE table_name = 'items'";
                conn.query_row(sql, [], |row| row.get(0)).expect("a root")
            };
            let before = root(&roots[2]);
            self.edit_one_percent_each(20 + round);
            let (cpu, started) = (Cpu::of(self.server.pid()), Instant::now());
            let watches = [0, 1].map(|n| self.devices[n].watch(&self.files[n]));
            // Neither takes anything in before it has captured all of its own: so equal roots are those of all edits.
            while root(&roots[2]) == before || roots.iter().any(|conn| root(conn) != root(&roots[2])) {
                assert!(started.elapsed() < PATIENCE, "they do not become equal");
                std::thread::sleep(Duration::from_millis(2));
            }
            let elapsed = started.elapsed();
            if aloud {
                let [a, b] = [0, 1].map(|n| Cpu::of(watches[n].pid()));
                let server = Cpu::of(self.server.pid()) - cpu;
                println!("at once: {} ms; devices {a}, {b}; server {server}", elapsed.as_millis());
            }
            watches.into_iter().for_each(|watch| assert_eq!(watch.stop(), 0));
            self.must_be_equal();
            elapsed
        });
        times.collect()
    }

    /// Changes 1 % of the rows in each file, spread over the table, others in each.
    fn edit_one_percent_each(&self, round: usize) {
        for (file, rest) in [(&self.files[0], round), (&self.files[1], 50 + round)] {
            let sql = format!(
                "UPDATE items SET amount = amount + 1, note = note || ' {round}' WHERE id % 100 = {rest}"
            );
            open(file).execute_batch(&sql).expect("an update");
        }
    }

    fn must_be_equal(&self) {
        let sums = [0, 1].map(|n| {
            let sql = "SELECT sum(amount), sum(length(note)) FROM items";
            let sums =
                open(&self.files[n]).query_row(sql, [], |r| Ok((r.get::<_, f64>(0)?, r.get::<_, i64>(1)?)));
            sums.expect("a sum")
        });
        assert_eq!(sums[0], sums[1]);
    }

    fn sync(&self, n: usize, aloud: bool) {
        let cpu = || (Cpu::of_children(), Cpu::of(self.server.pid()));
        let (before, started) = (cpu(), Instant::now());
        self.devices[n].must(["sync", text(&self.files[n]), "--quiet"]);
        if aloud {
            let (wall, after) = (started.elapsed().as_millis(), cpu());
            let [device, server] = [after.0 - before.0, after.1 - before.1];
            println!("sync of {n}: {wall} ms; device {device}; server {server}");
        }
    }

    /// p50 and p99 of the time from a commit on one side to the same row on the other.
    fn live(&self) -> (Duration, Duration) {
        let (times, _) = self.live_cpu("items", spread, "normal");
        (times.percentile(50), times.percentile(99))
    }

    /// Times from the commit of an edit of a row's name on one side until the other shows it, and the CPU time of all three
    /// processes meanwhile. `id`: the row of each edit; `synchronous`: what a commit of the application waits for.
    fn live_cpu(&self, table: &str, id: impl Fn(usize) -> i64, synchronous: &str) -> (Times, Duration) {
        let watches: [Watch; 2] = [0, 1].map(|n| self.devices[n].watch(&self.files[n]));
        let cpu = || {
            let pids = [watches[0].pid(), watches[1].pid(), self.server.pid()];
            pids.map(Cpu::of).iter().map(|cpu| cpu.user + cpu.system).sum::<Duration>()
        };
        let (writer, reader) = (open(&self.files[0]), open(&self.files[1]));
        writer.pragma_update(None, "synchronous", synchronous).expect("a setting");
        let mut seen = reader.prepare(&format!("SELECT name FROM {table} WHERE id = ?")).expect("a query");
        let mut times = vec![];
        let before = cpu();
        for n in 0..EDITS {
            let name = format!("live {synchronous} {n}");
            let id = id(n);
            let sql = format!("UPDATE {table} SET name = ? WHERE id = ?");
            writer.execute(&sql, params![name, id]).expect("an update");
            let started = Instant::now();
            while seen.query_row([id], |r| r.get::<_, String>(0)).expect("a row") != name {
                assert!(started.elapsed() < PATIENCE, "the edit does not come");
                std::thread::sleep(Duration::from_micros(100));
            }
            times.push(started.elapsed());
            std::thread::sleep(Duration::from_millis(5 + n as u64 % 20));
        }
        (times.into_iter().collect(), cpu() - before)
    }
}

/// Rows far from each other.
fn spread(n: usize) -> i64 {
    1 + (n as i64 * 7919) % 1000
}

fn first_syncs(integer: &FirstSync, uuid: &FirstSync, big: Option<&FirstSync>) -> String {
    let mut page = String::from(
        "From one file, through the server, into an empty file whose `watch` listens; capture included, until the
last row is committed there.

| key | rows | rows/s | of plain inserts | wire / raw values | file / plain file | peak memory: sender, server, receiver |
|---|---|---|---|---|---|---|\n",
    );
    let list = [("INTEGER", Some(integer)), ("TEXT (uuid)", Some(uuid)), ("INTEGER", big)];
    for (key, sync) in list.into_iter().filter_map(|(key, sync)| Some((key, sync?))) {
        let rate = |d: Duration| sync.rows as f64 / d.as_secs_f64();
        let [a, b, c] = sync.memory.map(|kib| kib / 1024);
        let _ = writeln!(
            page,
            "| {key} | {} | {:.0} | {:.2} of {:.0} | {:.2} | {:.2} | {a}, {b}, {c} MiB |",
            sync.rows,
            rate(sync.sync),
            rate(sync.sync) / rate(sync.plain),
            rate(sync.plain),
            sync.wire as f64 / sync.raw as f64,
            sync.synced_file as f64 / sync.plain_file as f64,
        );
    }
    let _ = writeln!(page, "| aim | | 100,000 (INTEGER), 60,000 (TEXT) | | 0.6 | 2.2 | 150 MiB each |");
    page
}

/// What the supervisor's log costs, beside the first sync of which it keeps the record.
fn log_cost(folder: &Path, sync: &FirstSync) -> String {
    let supervisor = Supervisor::open(&folder.join("log")).expect("a data folder");
    let entry = |n: u64| {
        let mut segment = [0; 32];
        segment[..8].copy_from_slice(&n.to_be_bytes());
        let container = Place { id: ContainerId([1; 32]), name: "bench/items".into() };
        let (author, from) = (PeerId([2; 32]), PeerId([3; 32]));
        let event = Event::Accepted { container, segment: SegmentId(segment), author, from, changes: 1024 };
        (0, Entry { time: Timestamp(n), event }.encode())
    };
    let mut live = vec![];
    for n in 0..200 {
        let started = Instant::now();
        supervisor.log_append(&[entry(n)]).expect("it is appended");
        live.push(started.elapsed());
    }
    let segments = sync.rows.div_ceil(1024);
    let entries: Vec<_> = (1000..1000 + segments).map(entry).collect();
    let started = Instant::now();
    entries.chunks(100).for_each(|batch| supervisor.log_append(batch).expect("it is appended"));
    let share = started.elapsed();
    for from in (1_000_000..2_000_000).step_by(1000) {
        let entries: Vec<_> = (from..from + 1000).map(entry).collect();
        supervisor.log_append(&entries).expect("it is appended");
    }
    supervisor.log_sign().expect("it is signed");
    let export = folder.join("log-export");
    let count = audit::export(&supervisor, &export).expect("it is exported");
    let key = supervisor.log_status().expect("a status").key;
    let started = Instant::now();
    let sound = audit::verify_folder(&export, &key, &[]).expect("it is sound");
    let verify = started.elapsed();
    assert_eq!(sound.entries, count);
    format!(
        "| what | measured | aim |
|---|---|---|
| one entry, with its fsync | {:.2} ms | 1 ms |
| the entries of a first sync of {} rows ({segments}), in batches of 100 | {:.0} ms, {:.1} % of that sync | 3 % |
| verifying an export of {count} entries, one core | {:.0} entries/s | 1,000,000 |",
        median(live).as_secs_f64() * 1000.0,
        sync.rows,
        share.as_secs_f64() * 1000.0,
        100.0 * share.as_secs_f64() / sync.sync.as_secs_f64(),
        count as f64 / verify.as_secs_f64(),
    )
}

/// Application writes with tracking on, against the same writes without.
fn writes(folder: &Path) -> String {
    let mut page = format!(
        "{WRITES} inserts in transactions of {BATCH}, with tracking on against without, medians of {ROUNDS} pairs.

| key | tracked / plain | aim |\n|---|---|---|\n"
    );
    for (key, name, aim) in [(Key::Integer, "INTEGER", 2.2), (Key::Uuid, "TEXT (uuid)", 3.0)] {
        let mut ratios = vec![];
        for round in 0..ROUNDS {
            let bench = Bench::new(&folder.join(format!("writes-{name}-{round}")), key);
            make(&bench.files[0], key);
            make(&bench.files[1], key);
            bench.devices[0].must(["track", text(&bench.files[0]), "items", "--as", "bench"]);
            bench.devices[0].must(["sync", text(&bench.files[0]), "--quiet"]);
            let time = |file: &Path| {
                let mut conn = open(file);
                let started = Instant::now();
                insert(&mut conn, key, WRITES);
                started.elapsed().as_secs_f64()
            };
            let plain = time(&bench.files[1]);
            ratios.push(time(&bench.files[0]) / plain);
        }
        ratios.sort_by(f64::total_cmp);
        let _ = writeln!(page, "| {name} | {:.2} | {aim:.1} |", ratios[ROUNDS / 2]);
    }
    page
}

fn make(file: &Path, key: Key) {
    let key = if key == Key::Integer { "INTEGER" } else { "TEXT" };
    let conn = open(file);
    conn.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE items(id {key} PRIMARY KEY, ref TEXT, name TEXT, email TEXT, street TEXT, city TEXT,
                            amount REAL, day TEXT, done INTEGER, note TEXT);"
    ))
    .expect("a table");
}

/// Makes a file with rows: how long the inserts took, and the bytes of the values.
fn fill(file: &Path, key: Key, rows: u64) -> (Duration, u64) {
    make(file, key);
    let mut conn = open(file);
    let started = Instant::now();
    let raw = insert(&mut conn, key, rows);
    (started.elapsed(), raw)
}

fn insert(conn: &mut Connection, key: Key, rows: u64) -> u64 {
    let mut words = Vocabulary::from_seed(1);
    let mut raw = 0;
    for first in (1..=rows).step_by(BATCH as usize) {
        let tx = conn.transaction().expect("a transaction");
        let mut stmt = tx.prepare_cached("INSERT INTO items VALUES (?,?,?,?,?,?,?,?,?,?)").expect("SQL");
        for n in first..(first + BATCH).min(rows + 1) {
            let [given, family, city, host, street] = std::array::from_fn(|_| words.word().to_owned());
            let name = format!("{given} {family}");
            let email = format!("{given}.{family}@{host}.example");
            let note = words.words(8);
            let rng = &mut words.rng;
            let reference = format!("{:016x}", rng.number());
            let day = format!("20{:02}-{:02}-{:02}", rng.below(30), 1 + rng.below(12), 1 + rng.below(28));
            let amount = rng.below(1_000_000) as f64 / 100.0;
            let street = format!("{street} street {}", rng.below(200));
            let texts =
                [&reference, &name, &email, &street, &day, &note].map(|t| t.len()).iter().sum::<usize>();
            raw += (texts + city.len() + 16) as u64;
            let done = rng.below(2);
            let key = match key {
                Key::Integer => Value::Integer(n as i64),
                Key::Uuid => {
                    let (a, b) = (rng.number(), rng.number());
                    Value::Text(format!(
                        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
                        a >> 32,
                        a >> 16 & 0xffff,
                        a & 0xffff,
                        b >> 48,
                        b & 0xffff_ffff_ffff
                    ))
                }
            };
            raw += if matches!(key, Value::Integer(_)) { 8 } else { 36 };
            stmt.execute(params![key, reference, name, email, street, city, amount, day, done as i64, note])
                .expect("an insert");
        }
        drop(stmt);
        tx.commit().expect("a commit");
    }
    raw
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The most memory a process has used so far, in KiB; 0 if it has ended.
fn peak_memory(pid: u32) -> u64 {
    Usage::of(pid).map_or(0, |usage| usage.peak_kib)
}
