//! Hostile peers: whatever bytes come over an authenticated connection, the receiver refuses what is wrong,
//! keeps what is right, and goes on.

use piecewise_core::replica::TrackOptions;
use piecewise_tests::network::{Faults, Network};

const SCHEMA: &str = "
CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, body TEXT, votes INTEGER, weight REAL, picture BLOB);
CREATE TABLE tags(name TEXT PRIMARY KEY, note INTEGER REFERENCES notes(id));";
const QUERIES: [&str; 2] = [
    "SELECT id, title, body, votes, weight, picture FROM notes ORDER BY id",
    "SELECT name, note FROM tags ORDER BY name",
];

fn network(seed: u64) -> Network {
    let options = TrackOptions {
        text: vec!["notes.body".into()],
        counter: vec!["notes.votes".into()],
        ..TrackOptions::default()
    };
    Network::new(seed, 2, SCHEMA, &options)
}

#[test]
fn damaged_frames_change_nothing_and_the_next_talk_heals_all() {
    let mut net = network(3);
    let mut failed = 0;
    for round in 0..200 {
        let client = 1 + round % 2;
        net.run(client, &format!(
            "INSERT OR REPLACE INTO notes VALUES ({0}, 'note {round}', 'some words {round}', {round}, {round}.5, x'00ff{0:02}');
             INSERT OR REPLACE INTO tags VALUES ('tag {0}', {0}); UPDATE notes SET votes = votes + 1, body = body || '!' WHERE id % 5 = {0} % 5",
            round % 20
        ));
        net.wait(1000);
        let damaged = Faults { damage: Some(1 + round as u64 % 20), ..Faults::default() };
        failed += u32::from(net.talk_with(&[client], &damaged).is_err());
        if round % 20 == 19 {
            net.sync_all();
            QUERIES.iter().for_each(|query| net.check_same(query));
        }
    }
    assert!(failed > 50, "damage is noticed: {failed} of 200");
    assert_eq!(net.query(0, "SELECT count(*) FROM notes"), ["Integer(20)"]);
    for n in 0..3 {
        assert_eq!(net.query(n, "PRAGMA integrity_check"), ["Text(\"ok\")"]);
    }
}

#[test]
fn a_segment_in_another_author_s_name_or_for_another_table_does_not_enter() {
    use piecewise_core::id::{ContainerId, Timestamp};
    use piecewise_core::segment::{Segment, SegmentError};
    let mut net = network(4);
    net.run(1, "INSERT INTO notes VALUES (1, 'mine', '', 0, 0, NULL)");
    net.sync(1);
    let bytes: Vec<u8> = rusqlite::Connection::open(&net.machines[1].path)
        .and_then(|c| {
            c.query_row("SELECT bytes FROM piecewise_segments ORDER BY no DESC LIMIT 1", [], |r| r.get(0))
        })
        .expect("a segment");
    let segment = Segment::open(bytes.clone().into()).expect("it is good");
    // The author's key stands in bytes 33 to 65 of the header, the container's id before it.
    for place in [1, 33, 65, 73, 81, bytes.len() - 70] {
        let mut forged = bytes.clone();
        forged[place] ^= 1;
        let refused = Segment::open(forged.into()).expect_err("it is forged");
        let told = matches!(
            refused,
            SegmentError::BadSignature { .. }
                | SegmentError::TooLarge { .. }
                | SegmentError::Decode(_)
                | SegmentError::BadBody { .. }
                | SegmentError::BadAcceptance { .. }
        );
        assert!(told, "{refused}");
    }
    assert_ne!(segment.header.container, ContainerId([0; 32]));
    assert!(segment.header.time > Timestamp(0));
}

/// Segments that their author signed, with changes that no honest replica would write.
mod signed {
    use super::{QUERIES, network};
    use piecewise_core::change::{Action, Change, OWN, Op, OpId, TextRun};
    use piecewise_core::container::{Received, SyncError};
    use piecewise_core::container_name::{ContainerName, container_id};
    use piecewise_core::feed::Feed;
    use piecewise_core::frame::{FrameWriter, KeyRef};
    use piecewise_core::id::{Actor, ChangeHash, ContainerId, ReplicaId, Timestamp};
    use piecewise_core::identity::Identity;
    use piecewise_core::message::{Accepted, Cursor, Have, Message, Segments};
    use piecewise_core::segment::{Segment, SegmentError};
    use piecewise_core::session::{Authority, Role, Session};
    use piecewise_core::value::Value;
    use piecewise_tests::network::{Network, REALM};
    use std::sync::Arc;

    const STRANGE: Actor = Actor([0x77; Actor::LEN]);

    fn notes() -> ContainerId {
        container_id(&REALM, &ContainerName::parse("shop/notes").expect("a name"))
    }

    fn strange(counter: u64) -> OpId {
        OpId { counter, actor: STRANGE }
    }

    fn put(key: &str, value: Value, preds: Vec<OpId>) -> Op {
        Op { key: key.into(), action: Action::Put(value), preds }
    }

    fn life(preds: Vec<OpId>) -> Op {
        Op { key: String::new(), action: Action::Live(OWN), preds }
    }

    fn change(start_op: u64, deps: Vec<ChangeHash>, ops: Vec<Op>) -> Change {
        Change { deps, start_op, ops, text: vec![] }
    }

    fn frame(rows: &[(KeyRef<'_>, Change)]) -> (usize, Vec<u8>) {
        let mut writer = FrameWriter::default();
        rows.iter().for_each(|(key, change)| writer.push(*key, change));
        (writer.len(), writer.finish())
    }

    /// The server takes a segment of a device that may do everything, in a talk of its own; whether it did.
    fn take(net: &mut Network, time: Timestamp, count: usize, plain: Vec<u8>) -> bool {
        let author = Identity::from_seed([66; 32]);
        let Ok(segment) = Segment::seal(&author, notes(), [6; 8], time, count, plain) else { return false };
        let received = say(net, &author, vec![segment.bytes().clone()]);
        received.is_ok_and(|received| received.segments == 1)
    }

    /// The server hears these segments in a talk of its own.
    fn say(net: &mut Network, author: &Identity, segments: Vec<Arc<[u8]>>) -> Result<Received, SyncError> {
        let authority = net.grants.clone();
        say_to(net, author, authority, segments)
    }

    fn say_to(
        net: &mut Network,
        author: &Identity,
        authority: Arc<dyn Authority>,
        segments: Vec<Arc<[u8]>>,
    ) -> Result<Received, SyncError> {
        let now = net.now;
        let server = net.replica(0);
        let mut session = Session::new(author.peer_id(), Role::Responder(authority));
        session.set_now(now);
        let mut container = server.container(&notes()).expect("the table is there");
        container.receive(&mut session, Message::Have(first_have()).open()).expect("a first word");
        let message = Segments { from: Cursor::START, reach: Cursor::START, segments };
        container.receive(&mut session, Message::Segments(message).open())
    }

    /// A table with rows everywhere, for hostile segments to come upon.
    fn peaceful() -> Network {
        let mut net = network(11);
        net.run(
            1,
            "INSERT INTO notes VALUES (1, 'one', 'some words', 1, 0.5, x'00'), (2, 'two', '', 2, 2, NULL)",
        );
        net.sync_all();
        net
    }

    /// After all that came, honest machines read and write as before, and agree.
    fn goes_on(net: &mut Network) {
        net.wait(1000);
        net.run(1, "UPDATE notes SET title = 'after', votes = votes + 1, body = body || '!' WHERE id = 1");
        net.run(2, "INSERT INTO notes VALUES (3, 'three', 'x', 0, 0, NULL); DELETE FROM notes WHERE id = 2");
        net.sync_all();
        QUERIES.iter().for_each(|query| net.check_same(query));
        assert_eq!(
            net.query(0, "SELECT title FROM notes WHERE id IN (1, 3)"),
            ["Text(\"after\")", "Text(\"three\")"]
        );
        for n in 0..3 {
            assert_eq!(net.query(n, "PRAGMA integrity_check"), ["Text(\"ok\")"]);
        }
    }

    #[test]
    fn changes_that_contradict_their_history_are_void_or_wait_and_harm_nobody() {
        let mut net = peaceful();
        let title = |preds| put("title", Value::Text("evil".into()), preds);
        let unknown = vec![ChangeHash([9; 32])];
        let text = |run| Change { text: vec![run], ..change(1, vec![], vec![life(vec![]), title(vec![])]) };
        let changes = [
            // Operations that do not exist, of actors that do not exist.
            change(1, vec![], vec![life(vec![strange(1)]), title(vec![strange(2)])]),
            change(
                5,
                vec![],
                vec![Op {
                    key: "votes".into(),
                    action: Action::Increment(i64::MAX),
                    preds: vec![strange(3)],
                }],
            ),
            change(1, vec![], vec![Op { key: String::new(), action: Action::Dead, preds: vec![strange(1)] }]),
            // Changes before it that nobody has.
            change(7, unknown.clone(), vec![title(vec![strange(2)])]),
            // Counters at the end of their range, and beyond a gap.
            change(u64::from(u32::MAX), unknown.clone(), vec![title(vec![])]),
            change(u64::from(u32::MAX) - 1, vec![], vec![life(vec![]), title(vec![])]),
            change(1_000_000, vec![], vec![life(vec![]), title(vec![])]),
            // The life of another, and no life at all.
            change(
                1,
                vec![],
                vec![Op { key: String::new(), action: Action::Live(STRANGE), preds: vec![] }, title(vec![])],
            ),
            change(1, vec![], vec![title(vec![])]),
            // Texts that are none, and elements that are not there.
            text(TextRun::Insert { object: strange(4), after: Some(strange(5)), text: "evil".into() }),
            text(TextRun::Delete { object: strange(4), first: strange(5), count: 1 << 40 }),
            // Values of another kind than the column's, and columns that the table has not.
            change(1, vec![], vec![life(vec![]), put("votes", Value::Text("many".into()), vec![])]),
            change(1, vec![], vec![life(vec![]), put("body", Value::Blob(vec![0x61; 3]), vec![])]),
            change(1, vec![], vec![life(vec![]), put("no such column", Value::Null, vec![])]),
        ];
        for (n, change) in changes.iter().enumerate() {
            for key in [1, 2, 50 + n as i64] {
                let (count, plain) = frame(&[(KeyRef::Integer(key), change.clone())]);
                let now = net.now;
                take(&mut net, now, count, plain);
                net.wait(1);
            }
        }
        net.sync_all();
        QUERIES.iter().for_each(|query| net.check_same(query));
        goes_on(&mut net);
    }

    #[test]
    fn beside_a_segment_that_is_none_nothing_enters_and_the_first_fault_is_told() {
        let mut net = peaceful();
        let (author, now) = (Identity::from_seed([66; 32]), net.now);
        let segment = |container, key| {
            let fresh = change(1, vec![], vec![life(vec![]), put("title", Value::Null, vec![])]);
            let (count, plain) = frame(&[(KeyRef::Integer(key), fresh)]);
            let sealed = Segment::seal(&author, container, [6; 8], now, count, plain).expect("it is small");
            sealed.bytes().clone()
        };
        let (one, two, foreign) =
            (segment(notes(), 70), segment(notes(), 71), segment(ContainerId([9; 32]), 1));
        let mut forged = two.to_vec();
        let signature = forged.len() - 2;
        forged[signature] ^= 1;
        let forged: Arc<[u8]> = forged.into();
        let before = net.query(0, QUERIES[0]);
        let told = say(&mut net, &author, vec![one.clone(), forged.clone(), foreign.clone()]);
        assert!(matches!(told, Err(SyncError::Segment(SegmentError::BadSignature { .. }))), "{told:?}");
        let told = say(&mut net, &author, vec![one.clone(), foreign, forged]);
        assert!(matches!(told, Err(SyncError::WrongContainer { .. })), "{told:?}");
        assert_eq!(net.query(0, QUERIES[0]), before);
        assert_eq!(say(&mut net, &author, vec![one, two]).expect("both are good").segments, 2);
        goes_on(&mut net);
    }

    #[test]
    fn frames_that_are_none_and_times_to_come_are_not_taken() {
        let mut net = peaceful();
        let now = net.now;
        let (count, good) = frame(&[(
            KeyRef::Integer(9),
            change(1, vec![], vec![life(vec![]), put("title", Value::Null, vec![])]),
        )]);
        assert!(!take(&mut net, Timestamp(now.0 + 11 * 60 * 1000), count, good.clone()), "from the future");
        assert!(!take(&mut net, Timestamp(u64::MAX), count, good.clone()), "from the end of time");
        for more in [count + 1, 1 << 16, 0] {
            assert!(!take(&mut net, now, more, good.clone()), "{more} changes claimed");
        }
        let keys = |keys: &[KeyRef<'_>]| {
            let rows: Vec<_> = keys.iter().map(|key| (*key, change(1, vec![], vec![life(vec![])]))).collect();
            frame(&rows)
        };
        let tuple =
            piecewise_core::key::encode_tuple(&[piecewise_core::value::ValueRef::Text("k")]).expect("a key");
        let long = piecewise_core::key::encode_tuple(&[piecewise_core::value::ValueRef::Blob(&[1; 70_000])])
            .expect("a key");
        for (count, plain) in
            [keys(&[KeyRef::Tuple(&tuple)]), keys(&[KeyRef::Tuple(&long)]), keys(&[KeyRef::Tuple(&[9, 9])])]
        {
            assert!(!take(&mut net, now, count, plain));
        }
        for place in 0..good.len() {
            for bit in 0..8 {
                let mut damaged = good.clone();
                damaged[place] ^= 1 << bit;
                take(&mut net, now, count, damaged);
            }
            take(&mut net, now, count, good[..place].to_vec());
            // Run lengths that claim 2^63 and more of whatever stands here.
            let mut claims = good[..place].to_vec();
            claims.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
            claims.extend(&good[place..]);
            take(&mut net, now, count, claims);
        }
        goes_on(&mut net);
    }

    #[test]
    fn a_hostile_description_makes_no_sql_and_takes_no_table_away() {
        let mut net = peaceful();
        let (now, tables) = (net.now, "SELECT count(*) FROM sqlite_master WHERE type = 'table'");
        let before = net.query(0, tables);
        let entry = |key: &str, text: &str| put(key, Value::Text(text.into()), vec![]);
        let column = |name: &str, declared: &str| {
            entry(&format!("column {name}"), &["99", declared, "", "", "BINARY", "0"].join("\u{1f}"))
        };
        for op in [
            column("x", "TEXT); DROP TABLE notes; --"),
            column("y\"); DROP TABLE notes; --", "TEXT"),
            column("title", "INTEGER"),
            entry("key", "nothing"),
            entry("table", "without rowid\u{1f}strict"),
            entry("unique no\u{1f}such", "BINARY\u{1f}BINARY"),
            entry("foreign title", "sqlite_master\u{1f}CASCADE\u{1f}CASCADE\u{1f}name"),
            put("column n", Value::Integer(5), vec![]),
        ] {
            let (count, plain) = frame(&[(KeyRef::Description, change(1, vec![], vec![life(vec![]), op]))]);
            take(&mut net, now, count, plain);
        }
        net.sync_all();
        assert_eq!(net.query(0, tables), before);
        goes_on(&mut net);
    }

    /// A change that deletes `count` elements of a text that does not exist.
    fn deletion(count: u64) -> Change {
        let run = TextRun::Delete { object: strange(4), first: strange(5), count };
        Change { text: vec![run], ..change(1, vec![], vec![life(vec![])]) }
    }

    #[test]
    fn a_few_bytes_that_name_millions_of_elements_cost_what_they_say_or_are_refused() {
        use piecewise_core::work::{ELEMENTS_MAX, Work};
        let mut net = peaceful();
        let (author, now) = (Identity::from_seed([66; 32]), net.now);
        let rows = |n: i64, count| -> Vec<_> {
            (0..n).map(|key| (KeyRef::Integer(100 + key), deletion(count))).collect()
        };
        for (n, count, accepted) in
            [(200, 1 << 20, true), (256, 1 << 20, true), (257, 1 << 20, false), (4096, 1 << 20, false)]
        {
            let (changes, plain) = frame(&rows(n, count));
            let segment = Segment::seal(&author, notes(), [6; 8], now, changes, plain).expect("it is small");
            assert!(segment.bytes().len() < 700, "{} bytes", segment.bytes().len());
            let work = Work::of(&segment).expect("it is well formed");
            assert_eq!(
                (work.is_allowed(), work.elements.min(ELEMENTS_MAX + count) <= ELEMENTS_MAX),
                (accepted, accepted)
            );
            let received = say(&mut net, &author, vec![segment.bytes().clone()]).expect("it is heard");
            assert_eq!(
                (received.segments, received.turned_away > 0),
                (u64::from(accepted), !accepted),
                "{n} times {count}"
            );
        }
        goes_on(&mut net);
    }

    #[test]
    fn more_predecessors_or_runs_than_a_replica_writes_are_refused() {
        use piecewise_core::work::{LINKS_MAX, RUNS_MAX};
        let mut net = peaceful();
        let now = net.now;
        let preds: Vec<_> = (1..=60_000).map(strange).collect();
        let ops = (0..=LINKS_MAX / 60_000).map(|n| put(&format!("c{n}"), Value::Null, preds.clone()));
        let many = change(1, vec![], std::iter::once(life(vec![])).chain(ops).collect());
        let (count, plain) = frame(&[(KeyRef::Integer(100), many)]);
        assert!(!take(&mut net, now, count, plain), "predecessors");
        let runs =
            vec![TextRun::Delete { object: strange(4), first: strange(5), count: 1 }; RUNS_MAX as usize + 1];
        let many = Change { text: runs, ..change(1, vec![], vec![life(vec![])]) };
        let (count, plain) = frame(&[(KeyRef::Integer(100), many)]);
        assert!(!take(&mut net, now, count, plain), "runs");
        goes_on(&mut net);
    }

    #[test]
    fn a_row_inserted_by_very_many_at_once_shows_the_latest_and_is_edited_as_any_other() {
        let mut net = peaceful();
        for n in 0..500u64 {
            let values = put("title", Value::Text(format!("by {n}")), vec![]);
            let (count, plain) =
                frame(&[(KeyRef::Integer(1000), change(1, vec![], vec![life(vec![]), values]))]);
            let at = Timestamp(net.now.0 + n);
            assert!(take(&mut net, at, count, plain), "insert {n}");
        }
        net.wait(1000);
        net.sync_all();
        for n in 0..3 {
            assert_eq!(net.query(n, "SELECT title FROM notes WHERE id = 1000"), ["Text(\"by 499\")"]);
        }
        net.run(1, "UPDATE notes SET title = 'mine' WHERE id = 1000");
        net.sync_all();
        assert_eq!(net.query(2, "SELECT title FROM notes WHERE id = 1000"), ["Text(\"mine\")"]);
        goes_on(&mut net);
    }

    /// Who may change what of a table's description, judged by what comes of it: every kind of device and every kind of
    /// change, without predecessors, as no honest replica writes them.
    #[test]
    fn a_description_is_changed_by_those_who_may_whatever_form_the_change_has() {
        use piecewise_core::grant::Access;
        let text = |parts: &[&str]| Value::Text(parts.join("\u{1f}"));
        let column = |position: &str, declared: &str, merge: &str| {
            text(&[position, declared, "", "", "BINARY", merge])
        };
        // What it says, and the least that a device must be to say it; None: nobody may.
        let changes: Vec<(&str, &str, Value, Option<Access>)> = vec![
            ("a new column", "column extra", column("9", "TEXT", "0"), Some(Access::Write)),
            ("the same again", "column votes", column("3", "INTEGER", "1"), Some(Access::Write)),
            ("another place", "column votes", column("7", "INTEGER", "1"), Some(Access::Write)),
            ("a merge kind", "column weight", column("4", "REAL", "1"), Some(Access::Admin)),
            ("a type", "column title", column("1", "INTEGER", "0"), Some(Access::Admin)),
            (
                "NOT NULL",
                "column title",
                text(&["1", "TEXT", "not null", "", "BINARY", "0"]),
                Some(Access::Admin),
            ),
            (
                "a default",
                "column title",
                text(&["1", "TEXT", "", "'x'", "BINARY", "0"]),
                Some(Access::Admin),
            ),
            ("UNIQUE", "unique title", text(&["BINARY"]), Some(Access::Admin)),
            (
                "a foreign key",
                "foreign votes",
                text(&["tags", "CASCADE", "CASCADE", "name"]),
                Some(Access::Admin),
            ),
            ("another key", "key", text(&["title"]), None),
            ("STRICT", "table", text(&["rowid", "strict"]), Some(Access::Admin)),
            ("a kind not known yet", "later x", text(&["x"]), Some(Access::Admin)),
            ("a column that is no text", "column n", Value::Integer(5), None),
            ("a column that was one", "column title", Value::Null, None),
            ("a key that names nothing", "key", text(&["nothing"]), None),
            ("a type that SQLite does not read", "column x", column("9", "SELECT", "0"), None),
            ("a column that SQLite does not add", "column rowid", column("9", "TEXT", "0"), None),
            ("a column in other capitals", "column Title", column("9", "TEXT", "0"), None),
            ("a type that is SQL", "column x", column("9", "TEXT); DROP TABLE notes; --", "0"), None),
        ];
        let everybody = [None, Some(Access::Read), Some(Access::Write), Some(Access::Admin)];
        for access in everybody {
            for (what, key, value, least) in &changes {
                let mut net = peaceful();
                let author = Identity::from_seed([66; 32]);
                net.grants.set(author.peer_id(), access);
                let op = put(key, value.clone(), vec![]);
                let (count, plain) =
                    frame(&[(KeyRef::Description, change(1, vec![], vec![life(vec![]), op]))]);
                let now = net.now;
                let entered = take(&mut net, now, count, plain);
                let may = least.is_some_and(|least| access >= Some(least));
                assert_eq!(entered, may, "{what} by {access:?}");
            }
        }
    }

    #[test]
    fn a_counter_made_of_a_column_by_a_writer_counts_for_nobody() {
        use piecewise_core::grant::Access;
        let mut net = peaceful();
        let author = Identity::from_seed([66; 32]);
        net.grants.set(author.peer_id(), Some(Access::Write));
        let counter = Value::Text(["4", "REAL", "", "", "BINARY", "1"].join("\u{1f}"));
        let op = put("column weight", counter, vec![]);
        let (count, plain) = frame(&[(KeyRef::Description, change(1, vec![], vec![life(vec![]), op]))]);
        let now = net.now;
        assert!(!take(&mut net, now, count, plain));
        net.run(1, "UPDATE notes SET weight = 110 WHERE id = 1");
        net.wait(1);
        net.run(2, "UPDATE notes SET weight = 120 WHERE id = 1");
        net.sync_all();
        // Either of the two, and not their sum.
        let shown = net.query(0, "SELECT weight FROM notes WHERE id = 1");
        assert!(shown == ["Real(110.0)"] || shown == ["Real(120.0)"], "{shown:?}");
        goes_on(&mut net);
    }

    /// A server that lets everybody write, up to some bytes.
    #[derive(Debug)]
    struct Quota {
        max: usize,
        stored: std::sync::atomic::AtomicUsize,
    }

    impl Authority for Quota {
        fn grants(&self, _: &piecewise_core::id::PeerId) -> Arc<[piecewise_core::grant::Grant]> {
            "**=write".parse().into_iter().collect()
        }

        fn may_store(&self, _: &piecewise_core::id::PeerId, bytes: usize) -> bool {
            self.stored.load(std::sync::atomic::Ordering::Relaxed) + bytes <= self.max
        }

        fn stored(&self, _: &piecewise_core::id::PeerId, bytes: usize) {
            self.stored.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn a_quota_counts_what_is_stored() {
        let mut net = peaceful();
        let author = Identity::from_seed([66; 32]);
        let quota = Arc::new(Quota { max: 20 << 20, stored: Default::default() });
        let (mut sent, mut entered) = (0, 0);
        for key in 0..5 {
            let body = Value::Blob(vec![0; 8 << 20]);
            let large = change(1, vec![], vec![life(vec![]), put("picture", body, vec![])]);
            let (count, plain) = frame(&[(KeyRef::Integer(100 + key), large)]);
            let segment =
                Segment::seal(&author, notes(), [6; 8], net.now, count, plain).expect("it is small");
            sent += segment.bytes().len();
            let received = say_to(&mut net, &author, quota.clone(), vec![segment.bytes().clone()]);
            entered += received.expect("it is heard").segments;
        }
        assert!(sent < 20_000, "{sent} bytes");
        assert_eq!(entered, 2, "two rows of 8 MiB are within 20");
        assert!(quota.stored.load(std::sync::atomic::Ordering::Relaxed) >= 16 << 20);
        goes_on(&mut net);
    }

    #[test]
    fn a_client_takes_what_its_own_server_accepted_and_nothing_that_another_signed() {
        let mut net = peaceful();
        let (author, other, now) = (Identity::from_seed([66; 32]), Identity::from_seed([67; 32]), net.now);
        let fresh = change(1, vec![], vec![life(vec![]), put("title", Value::Null, vec![])]);
        let (count, plain) = frame(&[(KeyRef::Integer(70), fresh)]);
        let sealed = Segment::seal(&author, notes(), [6; 8], now, count, plain).expect("it is small");
        let accepted = sealed.accept(&other, now);
        let server = net.machines[0].identity.peer_id();
        let hear = |net: &mut Network| {
            let client = net.replica(1);
            let mut session = Session::new(server, Role::Initiator);
            session.set_now(now);
            let mut container = client.container(&notes()).expect("the table is there");
            container.receive(&mut session, Message::Have(first_have()).open()).expect("a first word");
            let segments = vec![accepted.bytes().clone()];
            let message = Segments { from: Cursor::START, reach: Cursor::START, segments };
            container.receive(&mut session, Message::Segments(message).open())
        };
        assert!(matches!(hear(&mut net), Err(SyncError::NotAccepted { .. })));
        net.replica(1).trust(&other.peer_id()).expect("it is kept");
        net.stop(1);
        assert_eq!(hear(&mut net).expect("it is trusted").segments, 1);
    }

    #[test]
    fn what_an_author_wrote_is_undone_by_changes_that_everyone_gets_and_later_edits_stay() {
        let mut net = peaceful();
        let mallory = net.add_machine("", piecewise_core::replica::Follow::All);
        net.sync(mallory);
        net.wait(1000);
        let since = net.now;
        net.run(
            mallory,
            "UPDATE notes SET title = 'evil', votes = votes + 100, body = body || ' of evil' WHERE id = 1;
             DELETE FROM notes WHERE id = 2; INSERT INTO notes VALUES (66, 'evil', 'x', 6, 6, NULL), (67, 'evil', 'x', 6, 6, NULL)",
        );
        net.sync(mallory);
        net.sync_all();
        net.wait(1000);
        net.run(
            2,
            "UPDATE notes SET weight = 7 WHERE id = 1; UPDATE notes SET title = 'mine now' WHERE id = 67",
        );
        net.sync_all();
        let (author, now) = (net.machines[mallory].identity.peer_id(), net.now);
        let evicted = net.replica(0).evict(&author, since, now).expect("it is undone");
        assert_eq!((evicted.rows, evicted.described.len()), (4, 0));
        net.sync_all();
        for n in [0, 1, 2] {
            assert_eq!(
                net.query(n, "SELECT id || title || body || votes || weight FROM notes WHERE id IN (1, 2)"),
                ["Text(\"1onesome words17.0\")", "Text(\"2two22.0\")",]
            );
            assert_eq!(
                net.query(n, "SELECT id, title FROM notes WHERE id > 60"),
                ["Integer(67) Text(\"mine now\")"]
            );
        }
        assert_eq!(net.replica(0).evict(&author, since, now).expect("it is undone").rows, 0);
        goes_on(&mut net);
    }

    /// The first `have` of a peer that holds nothing.
    fn first_have() -> Have {
        let empty = Feed::default();
        Have {
            replica: ReplicaId([6; 8]),
            tip: empty.tip,
            count: 0,
            root: empty.digest(),
            cursors: vec![],
            accepted: Accepted::NotYet,
        }
    }
}
