//! Frozen bytes: what is signed, hashed or sent has the layout of PROTOCOL.md, and keeps it.
//!
//! `UPDATE_VECTORS=1` writes the files anew; a change in them is a new version of the protocol.

use piecewise_core::change::{Action, Change, OWN, Op, OpId, TextRun};
use piecewise_core::container_name::{ContainerName, container_id};
use piecewise_core::frame::{FrameWriter, KeyRef, OpKind, Template};
use piecewise_core::id::{
    Actor, ChangeHash, ContainerId, PeerId, RealmId, ReplicaId, SegmentId, Seq, Timestamp,
};
use piecewise_core::identity::Identity;
use piecewise_core::invite::Invite;
use piecewise_core::key::encode_tuple;
use piecewise_core::link::Leave;
use piecewise_core::message::{Accepted, Cursor, Have, Message, Refusal, RefusalReason, Segments};
use piecewise_core::ranges::{Range, RangeKind};
use piecewise_core::root::Root;
use piecewise_core::segment::Segment;
use piecewise_core::supervisor_log::entry::{Place, sign_receipt};
use piecewise_core::supervisor_log::note::Checkpoint;
use piecewise_core::supervisor_log::tree::{Edge, leaf_hash};
use piecewise_core::supervisor_log::{Entry, Event};
use piecewise_core::survey::{Brief, Named, Survey, Surveyor, Word};
use piecewise_core::value::{Value, ValueRef};
use std::path::Path;

/// Compares bytes with `vectors/NAME.hex`.
#[track_caller]
fn check(name: &str, bytes: &[u8]) {
    let hex: String = bytes
        .chunks(32)
        .map(|line| line.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n")
        .collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("vectors/{name}.hex"));
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &hex).expect("the vectors can be written");
    }
    let frozen = std::fs::read_to_string(&path).expect("a vector of this name");
    assert_eq!(hex, frozen, "{name} has other bytes than before");
}

fn inserts() -> Segment {
    let mut w = FrameWriter::default();
    let columns = ["n", "r", "t", "b", "z"].map(|c| (c.to_owned(), OpKind::Put));
    let t = w.template(Template::fresh_insert(columns.into()));
    for n in [-3, 4, 5] {
        let text = format!("row {n}");
        let values = [
            ValueRef::Integer(n * 1000),
            ValueRef::Real(n as f64 / 2.0),
            ValueRef::Text(&text),
            ValueRef::Blob(&[0, 255]),
            ValueRef::Null,
        ];
        w.push_fresh(KeyRef::Integer(n), t, values.into_iter());
    }
    seal(w)
}

fn edits() -> Segment {
    let mut w = FrameWriter::default();
    let (one, two) = (Actor([1; 22]), Actor([2; 22]));
    let pred = |counter, actor| vec![OpId { counter, actor }];
    let key = encode_tuple(&[ValueRef::Text("a"), ValueRef::Integer(7)]).expect("no NULL");
    let live = Op { key: String::new(), action: Action::Live(one), preds: pred(1, one) };
    let put = Op { key: "t".into(), action: Action::Put(Value::Text("ß".into())), preds: pred(2, two) };
    let add = Op { key: "votes".into(), action: Action::Increment(-1), preds: pred(3, one) };
    let object = OpId { counter: 4, actor: one };
    let text = vec![
        TextRun::Insert { object, after: None, text: "héllo".into() },
        TextRun::Insert { object, after: Some(OpId { counter: 9, actor: OWN }), text: "!".into() },
        TextRun::Delete { object, first: OpId { counter: 5, actor: two }, count: 3 },
    ];
    let deps = vec![ChangeHash([3; 32]), ChangeHash([4; 32])];
    w.push(KeyRef::Tuple(&key), &Change { deps, start_op: 10, ops: vec![live, put, add], text });
    let key = encode_tuple(&[ValueRef::Text("b"), ValueRef::Integer(8)]).expect("no NULL");
    let dead = Op { key: String::new(), action: Action::Dead, preds: pred(1, one) };
    w.push(
        KeyRef::Tuple(&key),
        &Change { deps: vec![ChangeHash([5; 32])], start_op: 6, ops: vec![dead], text: vec![] },
    );
    seal(w)
}

fn seal(w: FrameWriter) -> Segment {
    let author = Identity::from_seed([7; 32]);
    let (container, time) = (ContainerId([3; 32]), Timestamp(1_700_000_000_000));
    Segment::seal(&author, container, [9; 8], time, w.len(), w.finish()).expect("it is small")
}

#[test]
fn segments_keep_their_bytes_their_id_and_their_actor() {
    let server = Identity::from_seed([8; 32]);
    for (name, segment) in [("segment-inserts", inserts()), ("segment-edits", edits())] {
        check(name, segment.bytes());
        check(&format!("{name}-id-and-actor"), &[&segment.id.0[..], &segment.actor.0].concat());
        let accepted = segment.accept(&server, Timestamp(1_700_000_000_001));
        check(&format!("{name}-accepted"), accepted.bytes());
        assert!(Segment::open(accepted.bytes().clone()).is_ok(), "{name} opens");
    }
}

#[test]
fn messages_keep_their_bytes_and_come_back_from_them() {
    let cursor = |n| Cursor { seq: Seq(n), hash: [n as u8; 32] };
    let mut root = Root::default();
    root.add(&SegmentId([6; 32]));
    let have = Have {
        replica: ReplicaId([1; 8]),
        tip: cursor(9),
        count: 9,
        root: root.digest(),
        cursors: vec![cursor(8), cursor(5)],
        accepted: Accepted::From(cursor(4)),
    };
    let segments = Segments { from: cursor(8), reach: cursor(9), segments: vec![inserts().bytes().clone()] };
    let ranges = vec![
        Range { upper: Some(vec![1, 2]), kind: RangeKind::Skip },
        Range { upper: Some(vec![9]), kind: RangeKind::Fingerprint([7; 16]) },
        Range { upper: None, kind: RangeKind::Ids(vec![SegmentId([0xaa; 32]), SegmentId([0xbb; 32])]) },
    ];
    let refused = vec![Refusal { segment: SegmentId([5; 32]), reason: RefusalReason::FromFuture }];
    for (name, message) in [
        ("message-have", Message::Have(have)),
        ("message-segments", Message::Segments(segments)),
        ("message-ranges", Message::Ranges(ranges)),
        ("message-want", Message::Want(vec![SegmentId([1; 32])])),
        ("message-refused", Message::Refused(refused)),
    ] {
        let mut bytes = vec![];
        message.encode(&mut bytes);
        check(name, &bytes);
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message), "{name}");
    }
}

#[test]
fn surveys_keep_their_bytes() {
    let named = |names: &[(&str, u8)]| -> Named {
        names.iter().map(|(name, n)| ((*name).to_owned(), Brief([*n; 16]))).collect()
    };
    let patterns = ["tenant*", "shop"].map(|text| text.parse().expect("a pattern"));
    let ours = named(&[("shop", 1), ("tenant1", 2), ("tenant2", 3)]);
    let survey = Surveyor::new(patterns.into(), ours).survey();
    check("survey", &survey);
    let asked = Survey::decode(&survey).expect("a survey");
    check("survey-answer", &asked.answer(named(&[("shop", 1), ("tenant1", 4), ("tenant9", 5)])).concat());
    check("survey-news", &Word::News(named(&[("tenant1", 6)])).encode());
    check("leave", &Leave::unfinished());
}

#[test]
fn log_entries_notes_and_receipts_keep_their_bytes() {
    let log = Identity::from_seed([5; 32]);
    let container = Place { id: ContainerId([3; 32]), name: "shop/todos".into() };
    let (author, from) = (PeerId([1; 32]), PeerId([2; 32]));
    let accepted = Event::Accepted {
        container: container.clone(),
        segment: SegmentId([4; 32]),
        author,
        from,
        changes: 7,
    };
    let reach = Cursor { seq: Seq(9), hash: [8; 32] };
    let receipt = sign_receipt(&log, &container.id, &reach);
    let delivered =
        Event::Delivered { container, peer: log.peer_id(), segments: 3, reach, receipt: Some(receipt) };
    let mut edge = Edge::default();
    for (name, event) in [("log-accepted", accepted), ("log-delivered", delivered)] {
        let entry = Entry { time: Timestamp(1_700_000_000_000), event };
        check(name, &entry.encode());
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry.clone()));
        edge.append(leaf_hash(&entry.encode()));
    }
    let checkpoint = Checkpoint { origin: "piecewise/00/1".into(), size: edge.size(), root: edge.root() };
    let mut note = checkpoint.sign(&log);
    note.add(&note.cosign(&Identity::from_seed([6; 32]), Timestamp(1_700_000_000_000)));
    check("log-note", note.to_string().as_bytes());
}

#[test]
fn names_and_invites_keep_their_bytes() {
    let name = ContainerName::parse("shop/todos").expect("a name");
    check("container-id", &container_id(&RealmId([2; 16]), &name).0);
    let server = Identity::from_seed([8; 32]).peer_id();
    let invite =
        Invite { address: "ws://127.0.0.1:7171".into(), server, realm: RealmId([2; 16]), secret: [4; 32] };
    check("invite", invite.to_string().as_bytes());
}
