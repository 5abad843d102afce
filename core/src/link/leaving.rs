//! Leaving: an initiator that talks of many databases ends the talk about one, and keeps the connection.
//!
//! It says what it holds, so that what crossed its word is not lost: if that is not what the responder holds, the
//! responder says that there is news, see `survey`. A responder may end a talk as well, when it cannot go on with it.

use super::{ENDED, LEAVE, Link, LinkError};
use crate::bytes::{DecodeError, Reader};
use crate::replica::Replica;
use crate::replica::standing::{digest, digest_of_none, holding};

/// The last frame of an initiator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// What it holds.
    pub digest: [u8; 32],
}

impl Leave {
    /// Whether a frame is an initiator's last.
    pub fn ends(frame: &[u8]) -> bool {
        frame.first() == Some(&LEAVE)
    }

    /// The last frame of an initiator that gives a talk up.
    pub fn unfinished() -> Vec<u8> {
        [&[LEAVE][..], &digest_of_none()].concat()
    }

    /// Reads an initiator's last frame.
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(frame);
        if r.u8()? != LEAVE {
            return Err(DecodeError::Invalid { what: "the end of a talk" });
        }
        let digest = r.array()?;
        r.finish()?;
        Ok(Self { digest })
    }
}

impl Link {
    /// As the initiator: whether there is nothing to say, be the talk level or at rest.
    pub fn is_quiet(&self, replica: &Replica) -> bool {
        self.is_level() || (self.at_rest && self.outbox.is_empty() && replica.changed_end() == self.seen)
    }

    /// As the initiator: the last frames of a talk that is quiet. Whatever comes for it afterwards is to be let pass.
    pub fn leave(mut self, replica: &mut Replica) -> Result<Vec<Vec<u8>>, LinkError> {
        let mut frames = if self.at_rest { vec![] } else { self.receipts(replica)? };
        let shared = replica.containers.in_order().filter(|c| !self.denied.contains_key(&c.no));
        let held = digest(shared.filter_map(|c| Some((&c.id, holding(c)?)))).unwrap_or_else(digest_of_none);
        frames.push([&[LEAVE][..], &held].concat());
        Ok(frames)
    }

    /// As the responder: what the peer holds once it has all that is here for it.
    pub fn held(&self, replica: &Replica) -> [u8; 32] {
        self.digest(replica)
    }

    /// The frame by which a responder ends a talk that it cannot go on with.
    pub fn ended() -> Vec<u8> {
        vec![ENDED]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Grant;
    use crate::id::{PeerId, RealmId, Timestamp};
    use crate::identity::Identity;
    use crate::link::Attach;
    use crate::replica::{Binding, Follow, Standing, TrackOptions};
    use crate::session::Authority;
    use rusqlite::Connection;
    use std::sync::Arc;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const SERVER: [u8; 32] = [1; 32];

    struct Everything;

    impl Authority for Everything {
        fn grants(&self, _: &PeerId) -> Arc<[Grant]> {
            "**=admin".parse().into_iter().collect()
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
        for table in tables {
            let sql = format!("CREATE TABLE {table}(id TEXT PRIMARY KEY); INSERT INTO {table} VALUES ('a')");
            replica.connection().execute_batch(&sql).expect("a table");
        }
        let tables: Vec<_> =
            tables.iter().map(|table| ((*table).to_owned(), TrackOptions::default())).collect();
        replica.track_all(&tables, |_, done| done.map(drop)).expect("they are tracked");
        replica
    }

    /// Talks until both sides are level; both ends.
    fn talk(server: &mut Replica, client: &mut Replica) -> (Link, Link) {
        let peers = (server.author(), client.author());
        let mut near = Link::initiator(client, peers.0).expect("a link");
        let first = near.next_frame(client, NOW).expect("a frame").expect("it begins");
        let attach = Attach::decode(&first).expect("an attach");
        let mut far = Link::responder(server, peers.1, Arc::new(Everything), attach).expect("a link");
        let mut moved = true;
        while moved {
            moved = client.capture(NOW).expect("a capture").segments > 0;
            while let Some(frame) = near.next_frame(client, NOW).expect("a frame") {
                far.receive(server, &frame, NOW).expect("it is taken");
                moved = true;
            }
            while let Some(frame) = far.next_frame(server, NOW).expect("a frame") {
                near.receive(client, &frame, NOW).expect("it is taken");
                moved = true;
            }
        }
        assert!(near.is_quiet(client) && far.is_level());
        (near, far)
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
        assert_eq!(standing.digest(|_| true), Some(left));
        server.connection().execute("INSERT INTO notes VALUES ('b')", []).expect("a row");
        server.capture(NOW).expect("a capture");
        assert_ne!(left, far.held(&server));
        standing.keep_up(&server);
        assert_eq!(standing.digest(|_| true), Some(far.held(&server)));
        assert_eq!(standing.digest(|_| true), Standing::of(&server).digest(|_| true));
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
        assert_ne!(Some(left), standing.digest(|_| true));
        assert_eq!(Some(left), standing.digest(|name| name == "shop/tags"));
        assert_eq!(standing.digest(|_| false), None);
    }
}
