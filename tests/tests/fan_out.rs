//! One edit and many who listen: what a server does once, whatever their number.

use piecewise_core::id::{PeerId, RealmId, Timestamp};
use piecewise_core::identity::Identity;
use piecewise_core::link::{Attach, Incoming, Link};
use piecewise_core::replica::{Binding, Follow, Replica, TrackOptions};
use piecewise_core::supervisor_log::{Entry, Event};
use piecewise_tests::network::Grants;
use rusqlite::Connection;
use std::sync::Arc;

const NOW: Timestamp = Timestamp(1_790_000_000_000);

/// A replica in memory, of the server (0) or of a client.
fn replica(n: u8) -> Replica {
    let identity = |n: u8| Identity::from_seed([n + 1; 32]);
    let conn = Connection::open_in_memory().expect("memory");
    let mut replica = Replica::from_connection(conn, identity(n), [n; 32]).expect("a replica");
    if n == 0 {
        replica = replica.into_server();
    }
    let (server, realm) = (identity(0).peer_id(), RealmId([7; 16]));
    replica.bind(Binding { database: "app".into(), realm, server, follow: Follow::All }).expect("it binds");
    replica
}

/// A client and both ends of its talk with the server.
struct Line {
    client: Replica,
    near: Link,
    far: Link,
}

impl Line {
    fn new(server: &mut Replica, mut client: Replica) -> Self {
        let peers: [PeerId; 2] = [server.author(), client.author()];
        let mut near = Link::initiator(&mut client, peers[0]).expect("a link");
        let attach = near.next_frame(&mut client, NOW).expect("a frame").expect("it begins");
        let attach = Attach::decode(&attach).expect("an attach");
        let far = Link::responder(server, peers[1], Arc::new(Grants::default()), attach).expect("a link");
        Self { client, near, far }
    }

    fn next_from_server(&mut self, server: &mut Replica) -> Option<Arc<[u8]>> {
        self.far.next_frame(server, NOW).expect("the server goes on")
    }

    /// The client takes in a frame, and says what it has to say.
    fn hear(&mut self, server: &mut Replica, frame: &[u8]) {
        self.near.receive(&mut self.client, Incoming::read(frame).open(), NOW).expect("it is taken");
        self.speak(server);
    }

    fn speak(&mut self, server: &mut Replica) {
        self.client.capture(NOW).expect("a capture");
        while let Some(frame) = self.near.next_frame(&mut self.client, NOW).expect("a frame") {
            self.far.receive(server, Incoming::read(&frame).open(), NOW).expect("it is taken");
        }
    }

    fn bodies(&self) -> Vec<String> {
        let mut stmt = self.client.connection().prepare("SELECT body FROM notes").expect("SQL");
        let rows = stmt.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("texts")
    }
}

/// Talks until nobody has anything to say.
fn settle(server: &mut Replica, lines: &mut [Line]) {
    let mut moved = true;
    while std::mem::take(&mut moved) {
        for line in lines.iter_mut() {
            line.speak(server);
            while let Some(frame) = line.next_from_server(server) {
                line.hear(server, &frame);
                moved = true;
            }
        }
        server.capture(NOW).expect("a capture");
    }
    assert!(lines.iter().all(|line| line.near.is_level() && line.far.is_level()));
}

/// A server and clients who hold the same row, all level; the first of them has written it.
fn crowd(clients: u8) -> (Replica, Vec<Line>) {
    let mut server = replica(0);
    let mut first = replica(1);
    let sql = "CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)";
    first.connection().execute_batch(sql).expect("a table");
    first.track("notes", &TrackOptions::default()).expect("it is tracked");
    first.connection().execute_batch("INSERT INTO notes VALUES (1, 'one')").expect("a row");
    let mut lines = vec![Line::new(&mut server, first)];
    settle(&mut server, &mut lines);
    lines.extend((2..=clients).map(|n| Line::new(&mut server, replica(n))));
    settle(&mut server, &mut lines);
    (server, lines)
}

fn edit(line: &mut Line, body: &str) {
    line.client.connection().execute("UPDATE notes SET body = ?", [body]).expect("an edit");
}

#[test]
fn all_who_listen_are_given_the_very_same_bytes() {
    let (mut server, mut lines) = crowd(5);
    edit(&mut lines[0], "two");
    lines[0].speak(&mut server);
    let frames: Vec<_> =
        lines[1..].iter_mut().map(|line| line.next_from_server(&mut server).expect("a frame")).collect();
    assert!(frames.iter().all(|frame| Arc::ptr_eq(frame, &frames[0])), "one buffer for all");
    for (line, frame) in lines[1..].iter_mut().zip(&frames) {
        line.hear(&mut server, frame);
        assert_eq!(line.bodies(), ["two"]);
    }
    settle(&mut server, &mut lines);
}

#[test]
fn who_wrote_an_edit_is_not_sent_it_back_although_others_share_it() {
    let (mut server, mut lines) = crowd(3);
    edit(&mut lines[1], "two");
    lines[1].speak(&mut server);
    let to_first = lines[0].next_from_server(&mut server).expect("a frame");
    let to_third = lines[2].next_from_server(&mut server).expect("a frame");
    let to_author = lines[1].next_from_server(&mut server).expect("it is told how far it has come");
    assert!(Arc::ptr_eq(&to_first, &to_third));
    assert!(to_author.len() < to_first.len(), "{} and {} bytes", to_author.len(), to_first.len());
    lines[0].hear(&mut server, &to_first);
    lines[2].hear(&mut server, &to_third);
    lines[1].hear(&mut server, &to_author);
    settle(&mut server, &mut lines);
    assert!(lines.iter().all(|line| line.bodies() == ["two"]));
}

#[test]
fn one_who_lags_behind_is_sent_what_it_lacks_and_not_what_the_others_do() {
    let (mut server, mut lines) = crowd(3);
    let mut late = lines.pop().expect("there are three");
    for n in 0..20 {
        edit(&mut lines[0], &format!("edit {n}"));
        settle(&mut server, &mut lines);
    }
    edit(&mut lines[0], "last");
    lines[0].speak(&mut server);
    let to_second = lines[1].next_from_server(&mut server).expect("a frame");
    let to_late = late.next_from_server(&mut server).expect("a frame");
    assert!(to_late.len() > 10 * to_second.len(), "{} and {} bytes", to_late.len(), to_second.len());
    lines[1].hear(&mut server, &to_second);
    late.hear(&mut server, &to_late);
    lines.push(late);
    settle(&mut server, &mut lines);
    assert!(lines.iter().all(|line| line.bodies() == ["last"]));
}

#[test]
fn that_a_client_has_got_an_edit_makes_the_server_write_nothing() {
    let (mut server, mut lines) = crowd(4);
    edit(&mut lines[0], "two");
    lines[0].speak(&mut server);
    let written = server.connection().total_changes();
    settle(&mut server, &mut lines[1..]);
    assert_eq!(server.connection().total_changes(), written);
    assert!(lines[1..].iter().all(|line| line.bodies() == ["two"]));
}

#[test]
fn a_talk_begun_anew_goes_on_although_not_every_step_was_written_down() {
    let (mut server, mut lines) = crowd(2);
    for n in 0..200 {
        edit(&mut lines[0], &format!("edit {n}"));
        settle(&mut server, &mut lines);
        if n % 30 == 29 {
            // Both ends forget what was said.
            let Line { mut client, .. } = lines.pop().expect("there are two");
            client.connection().execute("UPDATE notes SET body = body || '!'", []).expect("an edit");
            client.capture(NOW).expect("a capture");
            lines.push(Line::new(&mut server, client));
            settle(&mut server, &mut lines);
            assert!(lines.iter().all(|line| line.bodies() == [format!("edit {n}!")]));
        }
    }
    let entries = server.log_entries(usize::MAX >> 1).expect("the log's outbox");
    let events = entries.iter().map(|(_, entry)| Entry::decode(entry).expect("an entry").event);
    assert_eq!(events.filter(|event| matches!(event, Event::Repaired { .. })).count(), 0);
}
