//! Hot feed: a feed of very many segments of one row each, as very many single commits leave behind.
//!
//! One server, a sender and a receiver in this process, on real files and without sockets. Each commit is
//! captured by itself; the sender talks with the server every thousand of them, the receiver once at the end.

use crate::hot_paths::{Line, NOW, Talk, cost, replica};
use crate::measure::size;
use piecewise_core::frame::{FrameWriter, KeyRef, OpKind, Template};
use piecewise_core::id::ContainerId;
use piecewise_core::identity::Identity;
use piecewise_core::replica::{Follow, Replica, TrackOptions};
use piecewise_core::segment::Segment;
use piecewise_core::value::ValueRef;
use rusqlite::{Connection, params};
use std::fmt::Write as _;
use std::path::Path;

/// Commits after which the sender talks with the server.
const TALK_EVERY: u64 = 1000;
/// Talks with nothing new.
const NOTHING: u64 = 200;
/// Segments of which the floors are measured.
const FLOOR: u64 = 1000;
const SCHEMA: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
  CREATE TABLE events(id INTEGER PRIMARY KEY, what TEXT, size INTEGER)";

/// Measures, and gives a table.
pub fn table(folder: &Path, segments: u64) -> String {
    let [sender_file, server_file, receiver_file] =
        ["sender.db", "server.db", "receiver.db"].map(|f| folder.join(f));
    let program = Connection::open(&sender_file).expect("a new file");
    program.execute_batch(SCHEMA).expect("a table");
    let mut server = replica(&server_file, 1, Follow::All);
    let mut sender = replica(&sender_file, 2, Follow::Tracked);
    sender.track("events", &TrackOptions::default()).expect("it is tracked");
    let mut up = Talk::default();
    let mut line = Line::new(&mut server, &mut sender);
    let (mut commits, mut captures) = (0.0, 0.0);
    for n in 1..=segments {
        let sql = "INSERT INTO events VALUES (?, ?, ?)";
        commits +=
            cost(|| program.execute(sql, params![n as i64, what(n), (n % 1000) as i64]).expect("a row")).0;
        if n > 1 {
            captures += cost(|| sender.capture(NOW).expect("a capture")).0;
        }
        if n % TALK_EVERY == 1 || n == segments {
            line.talk(&mut server, &mut sender, &mut up);
        }
    }
    drop(line);
    let file = [&sender_file, &server_file].map(|f| file_size(f));
    forget_peak();
    let mut receiver = replica(&receiver_file, 3, Follow::All);
    let down = talk(&mut server, &mut receiver);
    let peak_down = peak();
    let (nothing, ()) = cost(|| {
        for _ in 0..NOTHING {
            talk(&mut server, &mut receiver);
        }
    });
    forget_peak();
    let before = peak();
    for file in [&server_file, &receiver_file] {
        let conn = Connection::open(file).expect("the file");
        conn.execute_batch("DELETE FROM piecewise_cursors; UPDATE piecewise_meta SET value = value + 1 WHERE name = 'generation'")
            .expect("our tables");
    }
    program.execute("INSERT INTO events VALUES (0, 'one more', 0)", []).expect("a row");
    talk(&mut server, &mut sender);
    let (repair, _) = cost(|| talk(&mut server, &mut receiver));
    let peak_repair = peak();
    let count = "SELECT count(*) FROM events";
    let held =
        receiver.connection().query_row(count, [], |row| row.get::<_, i64>(0)).expect("a count") as u64;
    assert_eq!(held, segments + 1, "all rows came");
    let (verify, insert) = floors(&folder.join("floor.db"));

    let each = |us: f64| us / segments as f64;
    let mut page = format!(
        "A feed of {segments} segments of one row each: µs of CPU time a segment.

| path | µs a segment | floor | µs a segment |
|---|---|---|---|
"
    );
    let mut line = |path: &str, us: f64, floor: &str, least: f64| {
        let _ = writeln!(page, "| {path} | {us:.1} | {floor} | {least:.1} |");
    };
    line("captured, a transaction each", each(captures), "plain commit of the row", each(commits));
    line(
        &format!("accepted, {TALK_EVERY} in a talk"),
        each(up.server),
        "verify and sign; row and bytes inserted",
        verify + sign() + insert,
    );
    line("applied, all in one talk", each(down.client), "verify; row and bytes inserted", verify + insert);
    line("sent by the server", each(down.sent), "", 0.0);
    let _ = writeln!(
        page,
        "
Nothing new: {:.0} µs of both sides. Cursors lost, the sets reconciled and one segment more: {:.0} ms of both sides, peak memory {} (before: {}). Peak memory of catching up, both sides and this program: {}. On disk: {:.0} B a segment at the sender, {:.0} B at the server, {:.0} B at the receiver.",
        nothing / NOTHING as f64,
        repair / 1000.0,
        size(peak_repair),
        size(before),
        size(peak_down),
        each(file[0]),
        each(file[1]),
        each(file_size(&receiver_file)),
    );
    page
}

fn what(n: u64) -> String {
    format!("event {n} of some kind")
}

fn talk(server: &mut Replica, client: &mut Replica) -> Talk {
    let mut talk = Talk::default();
    Line::new(server, client).talk(server, client, &mut talk);
    talk
}

/// Bytes of a file with all of its WAL in it.
fn file_size(file: &Path) -> f64 {
    let conn = Connection::open(file).expect("the file");
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
    std::fs::metadata(file).expect("the file").len() as f64
}

/// Begins a new peak of this process' memory.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The peak of this process' memory, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10
}

/// To open a segment of one row, with its signature; to insert its row and its bytes, a thousand in a transaction.
fn floors(file: &Path) -> (f64, f64) {
    let identity = Identity::from_seed([4; 32]);
    let seal = |n: u64| {
        let mut writer = FrameWriter::default();
        let put = |name: &str| (name.to_owned(), OpKind::Put);
        let template = writer.template(Template::fresh_insert(vec![put("what"), put("size")]));
        writer.push_fresh(
            KeyRef::Integer(n as i64),
            template,
            [ValueRef::Text(&what(n)), ValueRef::Integer(n as i64)].into_iter(),
        );
        Segment::seal(&identity, ContainerId([1; 32]), n.to_be_bytes(), NOW, 1, writer.finish())
            .expect("it is small")
    };
    let sealed: Vec<_> = (0..FLOOR).map(seal).collect();
    let (verify, ()) = cost(|| {
        for segment in &sealed {
            std::hint::black_box(Segment::open(segment.bytes().clone()).expect("it is sound"));
        }
    });
    let mut conn = Connection::open(file).expect("a new file");
    conn.execute_batch(SCHEMA).expect("a table");
    conn.execute_batch("CREATE TABLE segments(no INTEGER PRIMARY KEY, bytes BLOB)").expect("a table");
    let (insert, ()) = cost(|| {
        let tx = conn.transaction().expect("a transaction");
        for (n, segment) in sealed.iter().enumerate() {
            let mut row = tx.prepare_cached("INSERT INTO events VALUES (?, ?, ?)").expect("SQL");
            row.execute(params![n as i64, what(n as u64), (n % 1000) as i64]).expect("a row");
            let mut bytes = tx.prepare_cached("INSERT INTO segments(bytes) VALUES (?)").expect("SQL");
            bytes.execute([&segment.bytes()[..]]).expect("its bytes");
        }
        tx.commit().expect("a commit");
    });
    (verify / FLOOR as f64, insert / FLOOR as f64)
}

/// To sign once.
fn sign() -> f64 {
    let identity = Identity::from_seed([4; 32]);
    let (us, ()) = cost(|| {
        for n in 0..FLOOR {
            std::hint::black_box(identity.sign("a floor", &n.to_be_bytes()));
        }
    });
    us / FLOOR as f64
}
