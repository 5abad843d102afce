//! A crowd: thousands of devices connected to one server, that do nothing most of the time.
//!
//! The server is the real one; so is the device that writes. The crowd lives in this process (`client.rs`), comes
//! from several addresses of loopback, and joins with an invite for each. While an edit spreads, each client holds
//! what came until all have theirs: on machines of their own they would not compete with the server for its cores.
//! Both processes need a file limit above the number of clients, which `make bench` sees to.

use piecewise_core::grant::Grant;
use piecewise_core::id::Timestamp;
use piecewise_server::supervisor::Supervisor;
use piecewise_tests::application::{Vocabulary, open};
use piecewise_tests::client::{Client, Ended, Known, Watcher};
use piecewise_tests::measure::{Times, Usage, argument, page_path, time};
use piecewise_tests::page;
use piecewise_tests::process::{Device, Server, Watch, text};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// Edits that spread to all.
const EDITS: usize = 5;
/// Clients that join at the same time.
const JOINING: usize = 32;
/// Clients from one address.
const PER_ADDRESS: u64 = 500;
/// For how long the idle server is looked at.
const IDLE: Duration = Duration::from_secs(10);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(900);
/// Devices that read, beside the one that does not.
const READERS: u64 = 5;
/// Transactions that the silent one never reads, and the bytes of each.
const UNREAD: u64 = 40;
const UNREAD_BYTES: usize = 1 << 20;

fn main() {
    let clients = argument("--clients").unwrap_or(10_000);
    let folder = tempfile::Builder::new().prefix("crowd").tempdir_in(".").expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads");
    let body = runtime.block_on(Crowd::new(folder.path(), clients).measure());
    page::tell(page_path().as_deref(), "Many clients", &body);
    runtime.shutdown_background();
}

/// What the clients tell, and what they wait for.
struct Board {
    /// Whether there is a server to connect to.
    is_up: watch::Sender<bool>,
    /// Whether clients keep what came for now.
    is_held: watch::Sender<bool>,
    levels: AtomicU64,
    frames: AtomicU64,
    /// Clients that wait for a server.
    parked: AtomicU64,
    /// Attempts to connect that failed, by their cause.
    failures: Mutex<BTreeMap<Ended, u64>>,
    /// When rows came.
    arrivals: Mutex<Vec<Instant>>,
}

impl Board {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            is_up: watch::channel(true).0,
            is_held: watch::channel(false).0,
            levels: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            parked: AtomicU64::new(0),
            failures: Mutex::default(),
            arrivals: Mutex::default(),
        })
    }

    fn arrivals(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<Ended, u64>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self) {
        self.levels.store(0, Relaxed);
        self.frames.store(0, Relaxed);
        self.arrivals().clear();
        self.failures().clear();
    }

    /// Connects a client again and again, as `piecewise watch` does.
    async fn keep(self: Arc<Self>, mut client: Client, seat: Seat) {
        let mut is_up = self.is_up.subscribe();
        let mut attempt = 0;
        loop {
            self.parked.fetch_add(1, Relaxed);
            let _ = is_up.wait_for(|up| *up).await;
            self.parked.fetch_sub(1, Relaxed);
            let started = Instant::now();
            let why = client.talk(&seat).await;
            *self.failures().entry(why).or_default() += 1;
            attempt = if started.elapsed() > Duration::from_secs(10) { 0 } else { attempt + 1 };
            if *is_up.borrow() {
                tokio::time::sleep(back_off(attempt)).await;
            }
        }
    }
}

/// As `piecewise` waits: twice as long each time, half of it by chance.
fn back_off(attempt: u32) -> Duration {
    let chance = f64::from(piecewise_server::chance()[0]) / 255.0;
    Duration::from_millis(250 << attempt.min(7)).mul_f64(0.5 + 0.5 * chance)
}

/// A client's place in the crowd.
struct Seat {
    board: Arc<Board>,
    /// Given back once it is level for the first time.
    joining: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Watcher for Seat {
    fn level(&self) {
        self.joining.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.board.levels.fetch_add(1, Relaxed);
    }

    async fn frame(&self) {
        self.board.frames.fetch_add(1, Relaxed);
        let _ = self.board.is_held.subscribe().wait_for(|held| !held).await;
    }

    fn rows(&self, came: Instant, _: u64) {
        self.board.arrivals().push(came);
    }
}

struct Crowd {
    folder: PathBuf,
    clients: u64,
    secrets: Vec<[u8; 32]>,
    server: Option<Server>,
    known: Known,
    writer: Device,
    joining: Arc<Semaphore>,
    started: Instant,
    rows: String,
    server_rows: String,
}

impl Crowd {
    fn new(folder: &Path, clients: u64) -> Self {
        let started = Instant::now();
        let data = folder.join("server");
        let (secrets, invited) = invite(&data, clients + 2 * READERS + 1);
        let supervisor = Supervisor::open(&data).expect("a data folder");
        let (key, realm) = (supervisor.identity.peer_id(), supervisor.realm);
        drop(supervisor);
        let server = Server::start(&data);
        let address = server.listen.parse().expect("an address");
        let writer = Device::joined(&folder.join("writer"), &server, &["*/*=write"]);
        let mut crowd = Self {
            folder: folder.to_owned(),
            clients,
            secrets,
            server: Some(server),
            known: Known { address, key, realm },
            writer,
            joining: Arc::new(Semaphore::new(JOINING)),
            started,
            rows: String::new(),
            server_rows: String::new(),
        };
        crowd.row(&format!("| {} invites made | {} |", crowd.secrets.len(), time(invited)));
        crowd
    }

    async fn measure(mut self) -> String {
        let board = Board::new();
        let (file, _watch) = self.database("crowd");
        self.look("before");
        let before = self.usage();
        let mut tasks = JoinSet::new();
        let started = Instant::now();
        self.seat(&mut tasks, &board, "crowd", self.clients).await;
        wait_until(|| board.levels.load(Relaxed) >= self.clients, || board.levels.load(Relaxed)).await;
        let took = started.elapsed();
        self.row(&format!(
            "| {} clients made, joined with their invites and level, {JOINING} at a time | {} |",
            self.clients,
            time(took)
        ));
        self.failed(&board);
        let each = self.usage().memory_kib.saturating_sub(before.memory_kib) as f64 / self.clients as f64;
        self.row(&format!("| the server's memory for each of them | {each:.1} KiB |"));
        self.look("all connected");
        self.idle("idle").await;
        self.edits(&file, &board, "one edit").await;
        self.look("after edits");
        self.silent_reader().await;
        self.look("after the silent client");
        self.restart(&board).await;
        let (times, _) = self.edit(&open(&file), &board, "the first after the restart").await;
        self.row(&format!(
            "| and until an edit has reached them all, whose `watch` waits longer and longer between attempts | {} |",
            time(times.percentile(100))
        ));
        self.idle("idle after the restart").await;
        self.edits(&file, &board, "one edit after the restart").await;
        self.look("at the end");
        let (clients, rows, server_rows) = (self.clients, &self.rows, &self.server_rows);
        format!(
            "{clients} connected clients, each with its own key, grant and database, from addresses of loopback. They share the
two cores with the server.

| what | measured |
|---|---|
{rows}
The server's process:

| when | memory | peak | handles | threads | CPU so far | memory of all clients |
|---|---|---|---|---|---|---|
{server_rows}"
        )
    }

    fn say(&self, text: &str) {
        eprintln!("{:>8} {text}", time(self.started.elapsed()));
    }

    fn row(&mut self, row: &str) {
        self.say(row);
        let _ = writeln!(self.rows, "{row}");
    }

    fn failed(&mut self, board: &Board) {
        let failures = board.failures().clone();
        for (why, count) in failures {
            self.row(&format!("| attempts that failed: {why} | {count} |"));
        }
    }

    fn usage(&self) -> Usage {
        let pid = self.server.as_ref().map(Server::pid);
        pid.and_then(Usage::of).expect("the server runs")
    }

    fn look(&mut self, when: &str) {
        let (u, own) = (self.usage(), Usage::of(std::process::id()).unwrap_or_default());
        let row = format!(
            "| {when} | {} | {} | {} | {} | {} | {} |",
            u.memory(),
            u.peak(),
            u.handles,
            u.threads,
            time(u.cpu),
            own.memory()
        );
        self.say(&row);
        let _ = writeln!(self.server_rows, "{row}");
    }

    /// A database that the writer's `watch` keeps level with the server.
    fn database(&self, name: &str) -> (PathBuf, Watch) {
        let file = self.folder.join(format!("{name}.db"));
        let sql = "PRAGMA journal_mode = WAL; CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT);
                   INSERT INTO notes VALUES (1, 'one'), (2, 'two'), (3, 'three');";
        open(&file).execute_batch(sql).expect("a table");
        self.writer.must(["track", text(&file), "--all", "--as", name]);
        let watch = self.writer.watch(&file);
        (file, watch)
    }

    /// Makes clients of a database and lets them connect.
    async fn seat(&mut self, tasks: &mut JoinSet<()>, board: &Arc<Board>, database: &str, clients: u64) {
        for n in 0..clients {
            let permit = self.joining.clone().acquire_owned().await.expect("it is never closed");
            let client = self.client(database, n);
            let seat = Seat { board: board.clone(), joining: Mutex::new(Some(permit)) };
            tasks.spawn(board.clone().keep(client, seat));
            if n % 1000 == 999 {
                self.say(&format!("{} clients, {}", n + 1, self.usage().memory()));
            }
        }
    }

    fn client(&mut self, database: &str, n: u64) -> Client {
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1 + (n / PER_ADDRESS % 250) as u8));
        Client::new(self.known, database, from, self.secrets.pop().expect("an invite for each"))
    }

    async fn idle(&mut self, what: &str) {
        let before = self.usage();
        tokio::time::sleep(IDLE).await;
        let after = self.usage();
        let percent = 100.0 * (after.cpu - before.cpu).as_secs_f64() / IDLE.as_secs_f64();
        self.row(&format!(
            "| {what}: the server's memory, CPU | {}, {percent:.1} % of a core |",
            after.memory()
        ));
    }

    /// Edits one row at a time; each must reach all.
    async fn edits(&mut self, file: &Path, board: &Arc<Board>, what: &str) {
        let writer = open(file);
        let (mut median, mut p99, mut worst, mut level) = (vec![], vec![], vec![], vec![]);
        let before = self.usage().cpu;
        for n in 0..EDITS {
            let (times, acknowledged) = self.edit(&writer, board, &format!("{what} {n}")).await;
            level.push(acknowledged);
            median.push(times.median());
            p99.push(times.percentile(99));
            worst.push(times.percentile(100));
        }
        let cpu = (self.usage().cpu - before) / EDITS as u32;
        let times = |list: Vec<Duration>| list.into_iter().collect::<Times>();
        self.row(&format!("| {what}, commit to arrival: p50 of {EDITS} edits | {} |", times(median)));
        self.row(&format!("| p99 (aim: 1 s) | {} |", times(p99)));
        self.row(&format!("| the last client | {} |", times(worst)));
        self.row(&format!("| all have taken it in and said so | {} |", times(level)));
        self.row(&format!("| the server's CPU for an edit | {} |", time(cpu)));
    }

    /// One edit: when each client had it, and when all have said so.
    async fn edit(&self, writer: &Connection, board: &Board, body: &str) -> (Times, Duration) {
        board.forget();
        board.is_held.send_replace(true);
        writer.execute("UPDATE notes SET body = ? WHERE id = 1", [body]).expect("an update");
        let started = Instant::now();
        wait_until(|| board.frames.load(Relaxed) >= self.clients, || board.frames.load(Relaxed)).await;
        board.is_held.send_replace(false);
        let all_level =
            || board.arrivals().len() as u64 >= self.clients && board.levels.load(Relaxed) >= self.clients;
        wait_until(all_level, || board.levels.load(Relaxed)).await;
        let acknowledged = started.elapsed();
        (board.arrivals().iter().map(|came| *came - started).collect(), acknowledged)
    }

    /// One client stops reading while much is written; the others of its database do not.
    async fn silent_reader(&mut self) {
        let (file, _watch) = self.database("busy");
        let board = Board::new();
        let mut tasks = JoinSet::new();
        self.seat(&mut tasks, &board, "busy", READERS).await;
        wait_until(|| board.levels.load(Relaxed) >= READERS, || board.levels.load(Relaxed)).await;
        let alone = self.write_much(&file, &board).await;
        let before = self.usage();
        let mut silent = self.client("busy", 0);
        let seat = Seat { board: Board::new(), joining: Mutex::new(None) };
        let kept = silent.fall_silent(&seat).await.expect("it is level");
        let beside = self.write_much(&file, &board).await;
        let after = self.usage();
        let bytes = (UNREAD as usize * UNREAD_BYTES) >> 20;
        self.row(&format!(
            "| {bytes} MiB to {READERS} clients, each transaction of 1 MiB to the last of them | {alone} |"
        ));
        self.row(&format!("| the same beside one that does not read | {beside} |"));
        self.row(&format!(
            "| the server's memory before and after that | {}, {} |",
            before.memory(),
            after.memory()
        ));
        drop(kept);
        let again = self.write_much(&file, &board).await;
        self.row(&format!("| the same once it is gone | {again} |"));
        self.row(&format!("| the server's memory after that | {} |", self.usage().memory()));
        tasks.shutdown().await;
    }

    /// Transactions one after another; the time until each is at every reader.
    async fn write_much(&self, file: &Path, board: &Board) -> Times {
        let writer = open(file);
        let mut vocabulary = Vocabulary::from_seed(9);
        let mut times = vec![];
        for _ in 0..UNREAD {
            let body: String =
                (0..UNREAD_BYTES / 16).map(|_| format!("{:016x}", vocabulary.rng.number())).collect();
            board.forget();
            writer.execute("INSERT INTO notes(body) VALUES (?)", params![body]).expect("a row");
            let started = Instant::now();
            let all = || board.arrivals().len() as u64 >= READERS;
            wait_until(all, || board.arrivals().len() as u64).await;
            times.push(started.elapsed());
        }
        times.into_iter().collect()
    }

    /// The server stops and starts, and all connect at once.
    async fn restart(&mut self, board: &Arc<Board>) {
        board.is_up.send_replace(false);
        let server = self.server.take().expect("it runs");
        let (data, listen) = (server.data.clone(), server.listen.clone());
        let stopping = Instant::now();
        server.stop();
        self.row(&format!("| the server stops | {} |", time(stopping.elapsed())));
        wait_until(|| board.parked.load(Relaxed) >= self.clients, || board.parked.load(Relaxed)).await;
        let starting = Instant::now();
        self.server = Some(Server::start_at(&data, &listen, &[]));
        self.row(&format!("| and starts | {} |", time(starting.elapsed())));
        board.forget();
        let started = Instant::now();
        board.is_up.send_replace(true);
        wait_until(|| board.levels.load(Relaxed) >= self.clients, || board.levels.load(Relaxed)).await;
        let took = started.elapsed();
        self.row(&format!("| all connect at once: until all are level | {} |", time(took)));
        self.failed(board);
        self.look("after all came back");
    }
}

/// Makes invites in the data folder of a server that does not run yet; how long that took.
fn invite(data: &Path, count: u64) -> (Vec<[u8; 32]>, Duration) {
    let supervisor = Supervisor::open(data).expect("a data folder");
    let grants: Vec<Grant> = vec!["*/*=write".parse().expect("a grant")];
    let now = piecewise_server::now();
    let expires = Timestamp(now.0 + 86_400_000);
    let started = Instant::now();
    let invites =
        supervisor.invites(count as usize, &grants, "ws://127.0.0.1", now, expires).expect("invites");
    (invites.into_iter().map(|invite| invite.secret).collect(), started.elapsed())
}

/// Waits until something is so; if it does not become so, says how far it came.
async fn wait_until(done: impl Fn() -> bool, how_far: impl Fn() -> u64) {
    let started = Instant::now();
    let mut told = started;
    while !done() {
        assert!(started.elapsed() < PATIENCE, "it does not come; {} have it", how_far());
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            eprintln!("         … {}", how_far());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
