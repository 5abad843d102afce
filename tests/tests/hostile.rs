//! Hostile peers: whatever bytes come over an authenticated connection, the receiver refuses what is wrong,
//! keeps what is right, and goes on.

use piecewise_core::replica::TrackOptions;
use piecewise_tests::network::{Faults, Network};

const SCHEMA: &str = "
CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, body TEXT, votes INTEGER, weight REAL, picture BLOB);
CREATE TABLE tags(name TEXT PRIMARY KEY, note INTEGER REFERENCES notes(id));";
const QUERIES: [&str; 2] = ["SELECT * FROM notes ORDER BY id", "SELECT * FROM tags ORDER BY name"];

fn network(seed: u64) -> Network {
    let options = TrackOptions {
        text: vec!["notes.body".into()],
        counter: vec!["notes.votes".into()],
        prefer_local: false,
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
