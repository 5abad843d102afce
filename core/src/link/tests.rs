//! Two ends of a link, and the frames between them.

use super::*;
use crate::grant::{Access, Grant, access};
use crate::id::{PeerId, RealmId, Timestamp};
use crate::identity::Identity;
use crate::replica::{Binding, Follow, Standing, TrackOptions};
use crate::session::Authority;
use proptest::prelude::*;
use rusqlite::Connection;
use std::sync::Arc;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const SERVER: [u8; 32] = [1; 32];

fn writes(_: &str) -> Option<Access> {
    Some(Access::Write)
}

/// Grants everybody this.
struct Grants(&'static str);

impl Authority for Grants {
    fn grants(&self, _: &PeerId) -> Arc<[Grant]> {
        self.0.split(' ').map(|grant| grant.parse().expect("a grant")).collect()
    }
}

fn replica(seed: [u8; 32], follow: Follow) -> Replica {
    let conn = Connection::open_in_memory().expect("memory");
    let mut replica = Replica::from_connection(conn, Identity::from_seed(seed), seed).expect("a replica");
    let server = Identity::from_seed(SERVER).peer_id();
    let binding = Binding { database: "shop".into(), realm: RealmId([7; 16]), server, follow };
    replica.bind(binding).expect("it is bound");
    replica
}

fn server() -> Replica {
    replica(SERVER, Follow::All).into_server()
}

/// A device with these tables, a row in each.
fn device(seed: [u8; 32], tables: &[&str]) -> Replica {
    let mut replica = replica(seed, Follow::Tracked);
    tables.iter().for_each(|table| track(&mut replica, table));
    replica
}

fn track(replica: &mut Replica, table: &str) {
    let sql = format!("CREATE TABLE {table}(id TEXT PRIMARY KEY); INSERT INTO {table} VALUES ('a')");
    replica.connection().execute_batch(&sql).expect("a table");
    let tables = [(table.to_owned(), TrackOptions::default())];
    replica.track_all(&tables, |_, done| done.map(drop)).expect("it is tracked");
}

/// Talks until both sides are level; both ends.
fn talk(server: &mut Replica, client: &mut Replica) -> (Link, Link) {
    let near = Link::initiator(client, server.author()).expect("a link");
    go_on(server, client, near, "**=admin")
}

/// Syncs an initiator that has this grant until both sides are level.
fn go_on(server: &mut Replica, client: &mut Replica, mut near: Link, grant: &'static str) -> (Link, Link) {
    let first = near.next_frame(client, NOW).expect("a frame").expect("it begins");
    let attach = Attach::decode(&first).expect("an attach");
    let mut far = Link::responder(server, client.author(), Arc::new(Grants(grant)), attach).expect("a link");
    let mut moved = true;
    while moved {
        let captured = client.capture(NOW).expect("a capture");
        moved = captured.more || captured.segments > 0;
        while let Some(frame) = near.next_frame(client, NOW).expect("a frame") {
            hear(&mut far, server, &frame);
            moved = true;
        }
        while let Some(frame) = far.next_frame(server, NOW).expect("a frame") {
            hear(&mut near, client, &frame);
            moved = true;
        }
    }
    assert!(near.is_quiet(client) && far.is_level());
    (near, far)
}

/// A link takes in a frame, which needs little memory to open.
fn hear(link: &mut Link, replica: &mut Replica, frame: &[u8]) {
    let incoming = Incoming::read(frame);
    assert!(incoming.opened_len() <= 3 << 20, "{} of {} bytes", incoming.opened_len(), frame.len());
    link.receive(replica, incoming.open(), NOW).expect("it is taken");
}

fn left(near: Link, client: &mut Replica) -> [u8; 32] {
    let frames = near.leave(client).expect("it leaves");
    Leave::decode(frames.last().expect("a last word")).expect("an end").digest
}

#[test]
fn who_leaves_holds_what_the_other_side_holds_until_something_is_written_there() {
    let (mut server, mut client) = (server(), device([2; 32], &["notes", "tags"]));
    let (near, far) = talk(&mut server, &mut client);
    let left = left(near, &mut client);
    assert_eq!(left, far.held(&server));
    let mut standing = Standing::of(&server);
    assert_eq!(standing.digest(writes), Some(left));
    server.connection().execute("INSERT INTO notes VALUES ('b')", []).expect("a row");
    server.capture(NOW).expect("a capture");
    assert_ne!(left, far.held(&server));
    standing.keep_up(&server);
    assert_eq!(standing.digest(writes), Some(far.held(&server)));
    assert_eq!(standing.digest(writes), Standing::of(&server).digest(writes));
}

#[test]
fn what_one_may_not_see_does_not_count_and_neither_does_what_one_does_not_follow() {
    let (mut server, mut both) = (server(), device([2; 32], &["notes", "tags"]));
    talk(&mut server, &mut both);
    let standing = Standing::of(&server);
    let mut one = device([3; 32], &["tags"]);
    let (near, far) = talk(&mut server, &mut one);
    let left = left(near, &mut one);
    assert_eq!(left, far.held(&server));
    assert_ne!(Some(left), standing.digest(writes));
    assert_eq!(Some(left), standing.digest(|name| (name == "shop/tags").then_some(Access::Write)));
    assert_eq!(standing.digest(|_| None), None);
}

#[test]
fn a_change_of_rights_is_learned_where_nothing_else_changed() {
    let (mut server, mut client) = (server(), device([2; 32], &["notes", "tags"]));
    talk(&mut server, &mut client);
    for (grant, read_only) in [
        ("shop/*=write", [false, false]),
        ("shop/notes=read shop/tags=write", [true, false]),
        ("shop/*=read", [true, true]),
        ("shop/*=read", [true, true]),
        ("shop/*=write", [false, false]),
    ] {
        let near = Link::initiator(&mut client, server.author()).expect("a link");
        let (near, far) = go_on(&mut server, &mut client, near, grant);
        let status = client.status().expect("a status");
        let are: Vec<_> = status.tables.iter().map(|table| table.read_only).collect();
        assert_eq!(are, read_only, "{grant}");
        let standing = Standing::of(&client).digest(writes);
        let left = left(near, &mut client);
        assert_eq!((left, Some(left)), (far.held(&server), standing), "{grant}");
        let grants: Arc<[Grant]> = grant.split(' ').map(|grant| grant.parse().expect("a grant")).collect();
        let seen = Standing::of(&server).digest(|name| access(&grants, name));
        assert_eq!(seen, standing, "{grant}");
    }
}

#[test]
fn a_table_that_is_tracked_while_a_link_rests_is_talked_of() {
    let (mut server, mut client) = (server(), device([2; 32], &["notes"]));
    let (mut near, _) = talk(&mut server, &mut client);
    hear(&mut near, &mut client, &Link::rest());
    track(&mut client, "tags");
    go_on(&mut server, &mut client, near, "**=admin");
    assert_eq!(Standing::of(&server).digest(writes), Standing::of(&client).digest(writes));
    let rows: i64 =
        server.connection().query_row("SELECT count(*) FROM tags", [], |r| r.get(0)).expect("the table");
    assert_eq!(rows, 1);
}

#[test]
fn rows_that_squeeze_to_nothing_come_in_messages_that_open_to_little() {
    let (mut server, mut client) = (server(), device([2; 32], &["notes"]));
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
                INSERT INTO notes SELECT i || printf('%.*c', 60000, 'x') FROM n";
    for round in 0..8 {
        let rows = rows.replace("i ||", &format!("'{round} ' || i ||"));
        client.connection().execute_batch(&rows).expect("rows");
        while client.capture(NOW).expect("a capture").more {}
    }
    talk(&mut server, &mut client);
    let rows: i64 =
        server.connection().query_row("SELECT count(*) FROM notes", [], |r| r.get(0)).expect("the table");
    assert_eq!(rows, 481);
}

#[test]
fn what_is_captured_while_the_server_answers_an_attach_is_not_acknowledged_with_the_rest() {
    let (mut server, mut client) = (server(), device([2; 32], &["notes"]));
    talk(&mut server, &mut client);
    let unsent = |client: &Replica| client.status().expect("a status").tables[0].waiting_changes;
    // As after a connection that broke between the server's commit and its word.
    client.connection().execute_batch("UPDATE piecewise_acknowledged SET seq = 0").expect("an update");
    let before = unsent(&client);
    let mut near = Link::initiator(&mut client, server.author()).expect("a link");
    let first = near.next_frame(&mut client, NOW).expect("a frame").expect("it begins");
    let attach = Attach::decode(&first).expect("an attach");
    let mut far =
        Link::responder(&mut server, client.author(), Arc::new(Grants("**=admin")), attach).expect("a link");
    let answer = far.next_frame(&mut server, NOW).expect("a frame").expect("an answer");
    client.connection().execute_batch("INSERT INTO notes VALUES ('b')").expect("a row");
    client.capture(NOW).expect("a capture");
    hear(&mut near, &mut client, &answer);
    assert!(before > 0);
    assert_eq!(unsent(&client), 1);
}

proptest! {
    #[test]
    fn no_bytes_make_a_frame_panic_and_what_is_no_message_stays_as_it_came(bytes: Vec<u8>, kind in 0u8..6) {
        let frame = [&[kind][..], &bytes].concat();
        let opened = Incoming::read(&frame).open();
        prop_assert_eq!(opened.frame_len(), frame.len());
        prop_assert_eq!(opened.other(), if kind == MESSAGE { &[] } else { &frame[..] });
    }
}
