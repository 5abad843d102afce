//! Fuzz: a function for each place where bytes of others come in, and the seeds to begin from.
//!
//! `tests/fuzz.rs` mutates the seeds with a generator of its own, so that it runs anywhere; `fuzz/` gives the same functions to
//! cargo-fuzz. A target may refuse what it is given, and must not panic; what it accepts has to come back from its bytes, and to
//! stay within the limits.

use crate::network::{Network, REALM};
use piecewise_core::bytes::Reader;
use piecewise_core::container_name::{ContainerName, container_id};
use piecewise_core::description::Description;
use piecewise_core::document::Document;
use piecewise_core::frame::{CHANGES_MAX, FrameReader, VALUES_MAX};
use piecewise_core::id::{ContainerId, Timestamp};
use piecewise_core::identity::Identity;
use piecewise_core::invite::Invite;
use piecewise_core::key::decode_tuple;
use piecewise_core::link::{Attach, Incoming, Leave, Link};
use piecewise_core::message::Message;
use piecewise_core::replica::TrackOptions;
use piecewise_core::segment::Segment;
use piecewise_core::session::Authority;
use piecewise_core::supervisor_log::Entry;
use piecewise_core::supervisor_log::note::Note;
use piecewise_core::supervisor_log::talk::LogMessage;
use piecewise_core::survey::Survey;
use piecewise_core::value::Value;
use piecewise_core::work::Work;
use piecewise_core::{change_codec, ranges};
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

/// Takes in bytes of a stranger.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 14] = [
    ("segment", segment),
    ("frame", frame),
    ("message", message),
    ("ranges", |bytes| {
        let _ = ranges::decode(&mut Reader::new(bytes));
    }),
    ("attach", |bytes| {
        let _ = Attach::decode(bytes);
    }),
    ("leave", |bytes| {
        let _ = Leave::decode(bytes);
    }),
    ("survey", |bytes| {
        let _ = Survey::decode(bytes);
    }),
    ("log_entry", log_entry),
    ("log_message", |bytes| {
        let _ = LogMessage::decode(bytes);
    }),
    ("note", |bytes| {
        let _ = std::str::from_utf8(bytes).map(str::parse::<Note>);
    }),
    ("invite", |bytes| {
        let _ = std::str::from_utf8(bytes).map(str::parse::<Invite>);
    }),
    ("key", |bytes| {
        let _ = decode_tuple(bytes);
    }),
    ("description", description),
    ("link", link),
];

/// Runs a target of this name.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(bytes);
}

/// Good bytes to begin from: the frozen vectors, and a whole talk.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    match name {
        "link" => vec![talk()],
        "frame" => plain_frames(),
        "description" => {
            let fields = ["0", "INTEGER", "", "", "BINARY", "0"].join("\u{1f}");
            vec![format!("table\0rowid\u{1f}\nkey\0id\ncolumn id\0{fields}\nunique id\0BINARY").into_bytes()]
        }
        _ => vectors(),
    }
}

fn vectors() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("vectors").flatten().map(|f| f.path()).collect();
    files.sort();
    let bytes = |path: &std::path::PathBuf| -> Vec<u8> {
        let text: String = std::fs::read_to_string(path).expect("a vector").split_whitespace().collect();
        let byte = |n: usize| u8::from_str_radix(&text[n..n + 2], 16).ok();
        (0..text.len() / 2).filter_map(|n| byte(2 * n)).collect()
    };
    files.iter().map(bytes).collect()
}

fn plain_frames() -> Vec<Vec<u8>> {
    let open = |bytes: Vec<u8>| {
        let segment = Segment::open(bytes.into()).ok()?;
        let mut seed = (segment.header.count as u16).to_be_bytes().to_vec();
        seed.extend(segment.plain_frame());
        Some(seed)
    };
    vectors().into_iter().filter_map(open).collect()
}

fn segment(bytes: &[u8]) {
    if let Ok(segment) = Segment::open(bytes.into()) {
        assert_eq!(&segment.bytes()[..], bytes);
        check_frame(segment.plain_frame(), segment.header.count as usize);
    }
}

/// Two bytes say how many changes there are claimed to be; the rest is a frame, which an author signs.
fn frame(bytes: &[u8]) {
    let Some((count, plain)) = bytes.split_first_chunk::<2>() else { return };
    let count = usize::from(u16::from_be_bytes(*count));
    check_frame(plain, count);
    let author = Identity::from_seed([9; 32]);
    let sealed = Segment::seal(&author, notes(), [1; 8], Timestamp(7), count, plain.to_vec());
    let Ok(segment) = sealed else { return };
    let opened = Segment::open(segment.bytes().clone()).expect("what is sealed opens");
    let _ = Work::of(&opened);
}

/// Reads all changes of a frame; those that can be written as Automerge's are evaluated as one document.
fn check_frame(plain: &[u8], count: usize) {
    let Ok(mut reader) = FrameReader::new(plain, count) else { return };
    let author = Identity::from_seed([9; 32]);
    let sealed = Segment::seal(&author, notes(), [1; 8], Timestamp(7), count, plain.to_vec());
    let Ok(actor) = sealed.map(|segment| segment.actor) else { return };
    let (mut changes, mut operations, mut document) = (0, 0, Document::default());
    while let Ok(Some(row)) = reader.next_change() {
        let change = row.into_change();
        changes += 1;
        operations += change.ops.len();
        assert!(changes <= CHANGES_MAX && operations <= VALUES_MAX + CHANGES_MAX);
        let mut chunk = vec![];
        if let Ok(hash) = change_codec::encode(&change, &actor, &mut chunk) {
            // Runs stay runs: what is written is in proportion to what came.
            assert!(
                chunk.len() <= 256 + 128 * (plain.len() + 16),
                "{} bytes of {}",
                chunk.len(),
                plain.len()
            );
            document.insert(hash, actor, change);
        }
    }
    let view = document.evaluate();
    view.shown();
    view.conflicts();
    view.other_rows();
}

fn message(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes) {
        let mut again = vec![];
        message.encode(&mut again);
        assert!(Message::decode(&again).is_ok());
        message.open();
    }
}

fn log_entry(bytes: &[u8]) {
    if let Ok(entry) = Entry::decode(bytes) {
        assert_eq!(entry.encode(), bytes);
        let _ = entry.event.check_receipt();
    }
}

/// Lines of an entry's key, a zero, its value. A description that is accepted is one that SQLite makes a table of.
fn description(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let entries: Vec<_> = text.lines().filter_map(|line| line.split_once('\0')).collect();
    let entries: Vec<_> = entries.into_iter().map(|(k, v)| (k, Value::Text(v.to_owned()))).collect();
    let Ok(description) = Description::from_entries(entries.iter().map(|(k, v)| (*k, v))) else { return };
    let _ = description.create_table_sql("t", |_, _| true);
}

const SCHEMA: &str = "CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, body TEXT, votes INTEGER);";

fn notes() -> ContainerId {
    container_id(&REALM, &ContainerName::parse("shop/notes").expect("a name"))
}

fn network() -> Network {
    let options = TrackOptions {
        text: vec!["notes.body".into()],
        counter: vec!["notes.votes".into()],
        ..TrackOptions::default()
    };
    let mut net = Network::new(5, 1, SCHEMA, &options);
    net.run(1, "INSERT INTO notes VALUES (1, 'one', 'some words', 1), (2, 'two', '', 2)");
    net.sync(1);
    net
}

/// The frames of a client's talk, each behind its length in two bytes.
fn talk() -> Vec<u8> {
    let mut net = network();
    net.run(1, "UPDATE notes SET title = 'new', votes = votes + 1, body = body || '!'; INSERT INTO notes VALUES (3, 'three', 'x', 0)");
    net.capture(1);
    let (now, server) = (net.now, net.machines[0].identity.peer_id());
    let peer = net.machines[1].identity.peer_id();
    let authority: Arc<dyn Authority> = net.grants.clone();
    let mut near = Link::initiator(net.replica(1), server).expect("a link");
    let first = near.next_frame(net.replica(1), now).expect("a frame").expect("an attach");
    let attach = Attach::decode(&first).expect("an attach");
    let mut far = Link::responder(net.replica(0), peer, authority, attach).expect("a link");
    let mut frames = vec![];
    put_frame(&mut frames, &first);
    for _ in 0..20 {
        while let Some(frame) = far.next_frame(net.replica(0), now).expect("a frame") {
            near.receive(net.replica(1), Incoming::read(&frame).open(), now).expect("it is good");
        }
        while let Some(frame) = near.next_frame(net.replica(1), now).expect("a frame") {
            put_frame(&mut frames, &frame);
            far.receive(net.replica(0), Incoming::read(&frame).open(), now).expect("it is good");
        }
    }
    frames
}

fn put_frame(out: &mut Vec<u8>, frame: &[u8]) {
    out.extend((frame.len() as u16).to_be_bytes());
    out.extend(frame);
}

/// Talks with one server before it is made anew.
const TALKS: u32 = 500;

thread_local! {
    static LIVE: RefCell<Option<(Network, u32)>> = const { RefCell::new(None) };
}

/// Frames for a server that has a table with rows: after whatever comes, an honest device still syncs with it.
fn link(bytes: &[u8]) {
    LIVE.with_borrow_mut(|live| {
        let (net, talks) = live.get_or_insert_with(|| (network(), 0));
        say(net, bytes);
        *talks += 1;
        if *talks % 50 == 0 {
            net.wait(1000);
            net.run(1, &format!("UPDATE notes SET title = 'talk {talks}' WHERE id = 1"));
            net.sync(1);
        }
        if *talks == TALKS {
            net.check_same("SELECT * FROM notes ORDER BY id");
            *live = None;
        }
    });
}

fn say(net: &mut Network, bytes: &[u8]) {
    let now = net.now;
    let (peer, authority): (_, Arc<dyn Authority>) =
        (Identity::from_seed([9; 32]).peer_id(), net.grants.clone());
    let mut rest = bytes;
    let mut next = || {
        let (len, tail) = rest.split_first_chunk::<2>()?;
        let (frame, tail) = tail.split_at(usize::from(u16::from_be_bytes(*len)).min(tail.len()));
        rest = tail;
        Some(frame)
    };
    let Some(Ok(attach)) = next().map(Attach::decode) else { return };
    let Ok(mut link) = Link::responder(net.replica(0), peer, authority, attach) else { return };
    while let Some(frame) = next() {
        if link.receive(net.replica(0), Incoming::read(frame).open(), now).is_err() {
            return;
        }
        for _ in 0..64 {
            match link.next_frame(net.replica(0), now) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}
