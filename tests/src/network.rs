//! Network: a server and its clients with real SQLite files, and a clock that goes when told.

use crate::rng::Rng;
use piecewise_core::grant::Access;
use piecewise_core::id::{PeerId, RealmId, Timestamp};
use piecewise_core::identity::Identity;
use piecewise_core::link::{Attach, Link, LinkError};
use piecewise_core::replica::{Binding, Follow, Replica, TrackOptions};
use piecewise_core::session::Authority;
use rusqlite::Connection;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The realm of every test.
pub const REALM: RealmId = RealmId([7; 16]);
/// The database of every test.
pub const DATABASE: &str = "shop";
/// Frames after which a talk that does not end is a defect.
const FRAMES_MAX: usize = 200_000;

/// Who may do what, to be changed by a test.
#[derive(Debug, Default)]
pub struct Grants {
    exceptions: Mutex<HashMap<PeerId, Option<Access>>>,
}

impl Grants {
    /// Gives a peer other rights than everybody's, which is `admin`.
    pub fn set(&self, peer: PeerId, access: Option<Access>) {
        self.exceptions.lock().expect("no test panics with it").insert(peer, access);
    }
}

impl Authority for Grants {
    fn access(&self, peer: &PeerId, _container: &str) -> Option<Access> {
        let exceptions = self.exceptions.lock().expect("no test panics with it");
        exceptions.get(peer).copied().unwrap_or(Some(Access::Admin))
    }
}

/// One machine: a file and who writes there.
#[derive(Debug)]
pub struct Machine {
    /// Its key pair.
    pub identity: Identity,
    /// Its file.
    pub path: PathBuf,
    replica: Option<Replica>,
    follow: Follow,
}

/// What a talk cost.
#[derive(Debug, Default, Clone, Copy)]
pub struct Talk {
    /// Frames in both directions.
    pub frames: usize,
    /// Bytes in both directions.
    pub bytes: usize,
    /// Rows that came in at either side.
    pub rows: u64,
}

/// A server, machine 0, and clients.
#[derive(Debug)]
pub struct Network {
    /// The machines; 0 is the server.
    pub machines: Vec<Machine>,
    /// Who may do what.
    pub grants: Arc<Grants>,
    /// The clock.
    pub now: Timestamp,
    /// All chance.
    pub rng: Rng,
    folder: tempfile::TempDir,
}

impl Network {
    /// A server and `clients` whose files all have this schema; the clients track its tables.
    pub fn new(seed: u64, clients: usize, schema: &str, options: &TrackOptions) -> Self {
        let mut net = Self {
            machines: vec![],
            grants: Arc::default(),
            now: Timestamp(1_700_000_000_000),
            rng: Rng(seed),
            folder: tempfile::tempdir().expect("a folder for test files"),
        };
        net.add_machine("", Follow::All);
        for _ in 0..clients {
            let n = net.add_machine(schema, Follow::Tracked);
            net.track_all(n, options);
        }
        net
    }

    /// Adds a machine with a file of its own; its number.
    pub fn add_machine(&mut self, schema: &str, follow: Follow) -> usize {
        let n = self.machines.len();
        let path = self.folder.path().join(format!("machine{n}.db"));
        let conn = Connection::open(&path).expect("a new file");
        conn.execute_batch("PRAGMA journal_mode = WAL").expect("WAL");
        conn.execute_batch(schema).expect("the schema is SQL");
        let identity = Identity::from_seed(self.rng.bytes());
        self.machines.push(Machine { identity, path, replica: None, follow });
        n
    }

    fn track_all(&mut self, n: usize, options: &TrackOptions) {
        let tables =
            piecewise_core::store::schema::user_tables(self.replica(n).connection()).expect("tables");
        for table in tables {
            let of = |list: &Vec<String>| -> Vec<String> {
                let mine = |c: &String| c.strip_prefix(&format!("{table}.")).map(str::to_owned);
                list.iter().filter_map(mine).collect()
            };
            let options = TrackOptions {
                text: of(&options.text),
                counter: of(&options.counter),
                prefer_local: options.prefer_local,
            };
            self.replica(n).track(&table, &options).expect("it can be tracked");
        }
    }

    /// The replica of a machine, opened if it is not.
    pub fn replica(&mut self, n: usize) -> &mut Replica {
        let chance = self.rng.bytes();
        let server = self.machines[0].identity.peer_id();
        let machine = &mut self.machines[n];
        machine.replica.get_or_insert_with(|| {
            let replica = Replica::open(&machine.path, false, machine.identity.clone(), chance);
            let mut replica = replica.expect("the file opens");
            replica.connection().execute_batch("PRAGMA synchronous = OFF").expect("a pragma");
            if n == 0 {
                replica = replica.into_server();
            }
            let binding = Binding { database: DATABASE.into(), realm: REALM, server, follow: machine.follow };
            if replica.binding().is_none() {
                replica.bind(binding).expect("it binds");
            }
            replica
        })
    }

    /// Ends a machine's process.
    pub fn stop(&mut self, n: usize) {
        self.machines[n].replica = None;
    }

    /// Runs SQL on a machine as an application would: by a connection of its own.
    pub fn sql(&mut self, n: usize, sql: &str) -> rusqlite::Result<()> {
        let conn = Connection::open(&self.machines[n].path)?;
        conn.execute_batch("PRAGMA synchronous = OFF")?;
        conn.execute_batch(sql)
    }

    /// SQL that must work.
    #[track_caller]
    pub fn run(&mut self, n: usize, sql: &str) {
        if let Err(error) = self.sql(n, sql) {
            panic!("{sql}: {error}");
        }
    }

    /// All that a query gives, a line a row.
    pub fn query(&mut self, n: usize, sql: &str) -> Vec<String> {
        let conn = Connection::open(&self.machines[n].path).expect("the file opens");
        let mut stmt = conn.prepare(sql).expect("SQL");
        let width = stmt.column_count();
        let rows = stmt.query_map([], |row| {
            let cell = |n| row.get::<_, rusqlite::types::Value>(n).map(|v| format!("{v:?}"));
            (0..width).map(cell).collect::<Result<Vec<_>, _>>().map(|cells| cells.join(" "))
        });
        rows.expect("a query").map(|row| row.expect("a row")).collect()
    }

    /// Captures all there is on a machine.
    pub fn capture(&mut self, n: usize) {
        let now = self.now;
        while self.replica(n).capture(now).expect("capture").more {}
    }

    /// Lets time pass.
    pub fn wait(&mut self, ms: u64) {
        self.now.0 += ms;
    }

    /// Syncs a client with the server until neither has anything to say; both must then be level.
    #[track_caller]
    pub fn sync(&mut self, client: usize) -> Talk {
        let (talk, level) = self.talk(client, None).expect("a talk without faults");
        assert!(level, "the talk ended and machine {client} is not level");
        talk
    }

    /// A talk that may be cut after some frames: what it cost, and whether both were level.
    pub fn talk(&mut self, client: usize, cut_after: Option<usize>) -> Result<(Talk, bool), LinkError> {
        let now = self.now;
        self.capture(client);
        self.capture(0);
        let peers = [self.machines[0].identity.peer_id(), self.machines[client].identity.peer_id()];
        let authority: Arc<dyn Authority> = self.grants.clone();
        let mut near = Link::initiator(self.replica(client), peers[0])?;
        let first = near.next_frame(self.replica(client), now)?.expect("an initiator speaks first");
        let mut far = Link::responder(self.replica(0), peers[1], authority, Attach::decode(&first)?)?;
        let mut talk = Talk { frames: 1, bytes: first.len(), rows: 0 };
        let mut under_way: [VecDeque<Vec<u8>>; 2] = Default::default();
        loop {
            let mut quiet = true;
            while let Some(frame) = near.next_frame(self.replica(client), now)? {
                talk.count(&frame);
                under_way[0].push_back(frame);
            }
            while let Some(frame) = far.next_frame(self.replica(0), now)? {
                talk.count(&frame);
                under_way[1].push_back(frame);
            }
            if cut_after.is_some_and(|n| talk.frames > n) {
                return Ok((talk, false));
            }
            if let Some(frame) = under_way[0].pop_front() {
                talk.rows += far.receive(self.replica(0), &frame, now)?.rows;
                quiet = false;
            }
            if let Some(frame) = under_way[1].pop_front() {
                talk.rows += near.receive(self.replica(client), &frame, now)?.rows;
                quiet = false;
            }
            let captured = [client, 0].map(|n| self.replica(n).capture(now).expect("capture"));
            if quiet
                && captured.iter().all(|c| c.rows == 0 && !c.more)
                && under_way.iter().all(VecDeque::is_empty)
            {
                let more = near.next_frame(self.replica(client), now)?;
                match more {
                    Some(frame) => under_way[0].push_back(frame),
                    None => return Ok((talk, near.is_level() && far.is_level())),
                }
            }
            assert!(talk.frames < FRAMES_MAX, "the talk does not end");
        }
    }

    /// Syncs every client until nothing moves any more.
    #[track_caller]
    pub fn sync_all(&mut self) {
        for _ in 0..3 {
            for client in 1..self.machines.len() {
                self.sync(client);
            }
        }
    }

    /// Fails unless a query gives the same on all machines.
    #[track_caller]
    pub fn check_same(&mut self, query: &str) {
        let expected = self.query(0, query);
        for n in 1..self.machines.len() {
            assert_eq!(self.query(n, query), expected, "machine {n} differs from the server: {query}");
        }
    }
}

impl Talk {
    fn count(&mut self, frame: &[u8]) {
        self.frames += 1;
        self.bytes += frame.len();
    }
}
