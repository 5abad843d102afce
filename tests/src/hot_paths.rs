//! Hot paths: what each costs a row, in CPU time of one thread, beside its floor in the same run.
//!
//! One server, a sender and a receiver in this process, on real files and without sockets; the floors are
//! plain SQLite, memory, SHA-256 and the compressor alone, on the same rows.

use crate::network::Grants;
use crate::rng::Rng;
use piecewise_core::frame::{FrameWriter, KeyRef, OpKind, Template};
use piecewise_core::id::{ContainerId, PeerId, RealmId, Timestamp};
use piecewise_core::identity::Identity;
use piecewise_core::link::{Attach, Incoming, Link};
use piecewise_core::replica::{Binding, Follow, Replica, TrackOptions};
use piecewise_core::segment::Segment;
use piecewise_core::value::ValueRef;
use rusqlite::{Connection, params};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// Rows of the table.
const ROWS: u64 = 200_000;
/// Rows of one segment, as capture makes them.
const SEGMENT_ROWS: usize = 1024;
/// Single edits of the live row.
const EDITS: u64 = 500;
pub(crate) const NOW: Timestamp = Timestamp(1_790_000_000_000);
const SCHEMA: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
  CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT, mail TEXT, note TEXT, amount REAL, done INTEGER)";

/// CPU time of this thread, in microseconds.
pub(crate) fn cpu() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    told.split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1000.0
}

/// What some work costs, in CPU time, and what it gives.
pub(crate) fn cost<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let before = cpu();
    let done = work();
    (cpu() - before, done)
}

/// CPU time of the parts of a talk, in microseconds.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Talk {
    pub(crate) capture: f64,
    pub(crate) server: f64,
    pub(crate) client: f64,
    /// What the server needs for the frames it sends.
    pub(crate) sent: f64,
}

impl Talk {
    /// Each part divided by a number.
    pub(crate) fn each(self, by: f64) -> Self {
        let Self { capture, server, client, sent } = self;
        Self { capture: capture / by, server: server / by, client: client / by, sent: sent / by }
    }
}

/// Two links that talk with each other, for as long as they live.
pub(crate) struct Line {
    near: Link,
    far: Link,
}

impl Line {
    pub(crate) fn new(server: &mut Replica, client: &mut Replica) -> Self {
        let peers: [PeerId; 2] = [server.author(), client.author()];
        let mut near = Link::initiator(client, peers[0]).expect("a link");
        let attach = near.next_frame(client, NOW).expect("a frame").expect("it begins");
        let attach = Attach::decode(&attach).expect("an attach");
        let grants = Arc::new(Grants::default());
        let far = Link::responder(server, peers[1], grants, attach).expect("a link");
        Self { near, far }
    }

    /// Talks until both sides are level, and adds up what it costs.
    pub(crate) fn talk(&mut self, server: &mut Replica, client: &mut Replica, talk: &mut Talk) {
        let (mut moved, mut dirty) = (true, true);
        while moved {
            moved = false;
            if dirty {
                let (us, captured) = cost(|| client.capture(NOW).expect("a capture"));
                talk.capture += us;
                dirty = captured.more;
                moved = captured.more || captured.rows > 0;
            }
            while let Some(frame) = self.near.next_frame(client, NOW).expect("a frame") {
                talk.server += cost(|| {
                    self.far.receive(server, Incoming::read(&frame).open(), NOW).expect("it is taken")
                })
                .0;
                moved = true;
            }
            loop {
                let (us, frame) = cost(|| self.far.next_frame(server, NOW).expect("a frame"));
                talk.sent += us;
                let Some(frame) = frame else { break };
                talk.client += cost(|| {
                    self.near.receive(client, Incoming::read(&frame).open(), NOW).expect("it is taken")
                })
                .0;
                (moved, dirty) = (true, true);
            }
        }
        assert!(self.near.is_level() && self.far.is_level(), "both are level");
    }
}

/// A replica's file; number 1 is the server's.
pub(crate) fn open(file: &Path, n: u8) -> Replica {
    let replica = Replica::open(file, true, Identity::from_seed([n; 32]), [n; 32]).expect("a file");
    if n == 1 { replica.into_server() } else { replica }
}

/// A new replica of the database `bench`.
pub(crate) fn replica(file: &Path, n: u8, follow: Follow) -> Replica {
    let mut replica = open(file, n);
    let server = Identity::from_seed([1; 32]).peer_id();
    let binding = Binding { database: "bench".into(), realm: RealmId([7; 16]), server, follow };
    replica.bind(binding).expect("it binds");
    replica
}

/// One row's values.
struct Row {
    id: i64,
    name: String,
    mail: String,
    note: String,
    amount: f64,
    done: i64,
}

/// Measures, and gives the table "Where time goes".
pub fn table(folder: &Path) -> String {
    let mut page = String::new();
    let rows = rows();
    let (plain, _) = cost(|| fill(&folder.join("plain.db"), &rows));
    fill(&folder.join("sender.db"), &rows);
    let mut server = replica(&folder.join("server.db"), 1, Follow::All);
    let mut sender = replica(&folder.join("sender.db"), 2, Follow::Tracked);
    let mut receiver = replica(&folder.join("receiver.db"), 3, Follow::All);
    sender.track("items", &TrackOptions::default()).expect("it is tracked");
    let up = talk(&mut server, &mut sender);
    let down = talk(&mut server, &mut receiver);
    let live = live(&folder.join("sender.db"), &mut server, &mut sender, &mut receiver);
    let [write, seal, open, floor_memory, floor_hash, floor_pack, floor_unpack] = segments(&rows);

    let per_row = |us: f64| us / ROWS as f64;
    let _ = writeln!(
        page,
        "CPU time a row of one thread in one process, {ROWS} rows of 6 columns, an INTEGER key and about 110 bytes, without sockets.

| path | µs a row | floor | µs a row |
|---|---|---|---|"
    );
    let mut line = |path: &str, cost: f64, floor: &str, least: f64| {
        let _ = writeln!(page, "| {path} | {cost:.2} | {floor} | {least:.2} |");
    };
    line("capture: read, frame, seal, store", per_row(up.capture), "plain insert", per_row(plain));
    line("of it the frame", per_row(write), "memcpy of it", per_row(floor_memory));
    line(
        "of it the seal: compress, hash, sign",
        per_row(seal),
        "zstd and SHA-256 alone",
        per_row(floor_pack + floor_hash),
    );
    line(
        "open: verify, decompress, decode",
        per_row(open),
        "zstd and SHA-256 alone",
        per_row(floor_unpack + floor_hash),
    );
    line(
        "apply on the server, open and acceptance included",
        per_row(up.server),
        "plain insert",
        per_row(plain),
    );
    line("apply on a receiver, open included", per_row(down.client), "plain insert", per_row(plain));
    let _ = writeln!(
        page,
        "| one live row: captured, accepted, applied | {:.0} + {:.0} + {:.0} | three plain commits | {:.0} |",
        live.0.capture,
        live.0.server,
        live.0.client,
        3.0 * live.1
    );
    page
}

fn rows() -> Vec<Row> {
    let mut rng = Rng(1);
    let words: Vec<String> = (0..4096).map(|n| format!("w{:x}{n:x}", rng.below(1 << 16))).collect();
    let mut row = |id: i64| {
        let mut pick = || words[rng.below(4096) as usize].as_str();
        let (name, mail) = (format!("{} {}", pick(), pick()), format!("{}@{}.example", pick(), pick()));
        let note = (0..8).map(|_| pick()).collect::<Vec<_>>().join(" ");
        Row { id, name, mail, note, amount: rng.below(1 << 20) as f64 / 100.0, done: rng.below(2) as i64 }
    };
    (1..=ROWS as i64).map(&mut row).collect()
}

fn fill(file: &Path, rows: &[Row]) {
    let mut conn = Connection::open(file).expect("a new file");
    conn.execute_batch(SCHEMA).expect("a table");
    for some in rows.chunks(1000) {
        let tx = conn.transaction().expect("a transaction");
        let mut insert = tx.prepare_cached("INSERT INTO items VALUES (?,?,?,?,?,?)").expect("SQL");
        for r in some {
            insert.execute(params![r.id, r.name, r.mail, r.note, r.amount, r.done]).expect("a row");
        }
        drop(insert);
        tx.commit().expect("a commit");
    }
}

fn talk(server: &mut Replica, client: &mut Replica) -> Talk {
    let mut talk = Talk::default();
    Line::new(server, client).talk(server, client, &mut talk);
    talk
}

/// What one edit of one row costs each side on its way to another machine, and a plain commit of the same.
fn live(file: &Path, server: &mut Replica, sender: &mut Replica, receiver: &mut Replica) -> (Talk, f64) {
    let conn = Connection::open(file).expect("the file");
    conn.execute_batch("PRAGMA synchronous = NORMAL").expect("a pragma");
    let (mut sum, mut plain) = (Talk::default(), 0.0);
    for n in 0..EDITS {
        let id = (n * 7919 % ROWS) as i64 + 1;
        let sql = "UPDATE items SET amount = amount + 1 WHERE id = ?";
        plain += cost(|| conn.execute(sql, [id]).expect("an update")).0;
        let (up, down) = (talk(server, sender), talk(server, receiver));
        sum.capture += up.capture;
        sum.server += up.server;
        sum.client += down.client;
    }
    let each = EDITS as f64;
    (sum.each(each), plain / each)
}

/// All rows as segments: writing frames, sealing, opening; then memory, hash and compressor alone.
fn segments(rows: &[Row]) -> [f64; 7] {
    let identity = Identity::from_seed([4; 32]);
    let (mut spent, mut packer) = ([0.0; 7], zstd::bulk::Compressor::new(1).expect("a compressor"));
    let put = |name: &str| (name.to_owned(), OpKind::Put);
    let columns: Vec<_> = ["name", "mail", "note", "amount", "done"].map(put).into();
    for some in rows.chunks(SEGMENT_ROWS) {
        let mut work = |n: usize, us: f64| spent[n] += us;
        let (us, plain) = cost(|| {
            let mut writer = FrameWriter::default();
            let template = writer.template(Template::fresh_insert(columns.clone()));
            for r in some {
                let texts = [&r.name, &r.mail, &r.note].map(|t| ValueRef::Text(t));
                let values = texts.into_iter().chain([ValueRef::Real(r.amount), ValueRef::Integer(r.done)]);
                writer.push_fresh(KeyRef::Integer(r.id), template, values);
            }
            writer.finish()
        });
        work(0, us);
        let copy = plain.clone();
        let (container, count) = (ContainerId([1; 32]), some.len());
        let (us, sealed) = cost(|| Segment::seal(&identity, container, [2; 8], NOW, count, copy));
        let sealed = sealed.expect("it is small");
        work(1, us);
        let (us, ()) = cost(|| {
            let opened = Segment::open(sealed.bytes().clone()).expect("it is sound");
            let mut changes = opened.changes().expect("a frame");
            while let Some(row) = changes.next_change().expect("a change") {
                std::hint::black_box(row.values);
            }
        });
        work(2, us);
        work(3, cost(|| std::hint::black_box(plain.clone())).0);
        work(4, cost(|| sha256(&plain)).0);
        let (us, packed) = cost(|| packer.compress(&plain).expect("it compresses"));
        work(5, us);
        work(6, cost(|| zstd::bulk::decompress(&packed, plain.len()).expect("it comes back")).0);
    }
    spent
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    std::hint::black_box(sha2::Sha256::digest(bytes).into())
}
