//! Network: a server and its clients with real SQLite files, and a clock that goes when told.

use crate::data::query;
use crate::rng::Rng;
use piecewise_core::grant::{Access, Grant};
use piecewise_core::id::{PeerId, RealmId, Timestamp};
use piecewise_core::identity::Identity;
use piecewise_core::link::{Attach, Incoming, Link, LinkError, Stop};
use piecewise_core::replica::{Binding, Follow, Replica, TrackOptions};
use piecewise_core::scrub::Finding;
use piecewise_core::session::Authority;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The realm of every test.
pub const REALM: RealmId = RealmId([7; 16]);
/// The database of every test.
pub const DATABASE: &str = "shop";
/// Frames after which a talk that does not end is a defect.
const FRAMES_MAX: usize = 20_000;
/// Steps after which a check that does not end is a defect.
const STEPS_MAX: usize = 10_000;

/// Who may do what, to be changed by a test.
#[derive(Debug, Default)]
pub struct Grants {
    exceptions: Mutex<HashMap<PeerId, Vec<Grant>>>,
}

impl Grants {
    /// Gives a peer other rights than everybody's, which is `admin`.
    pub fn set(&self, peer: PeerId, access: Option<Access>) {
        let grants = access.into_iter().map(|access| grant("**", access)).collect();
        self.exceptions.lock().expect("no test panics with it").insert(peer, grants);
    }

    /// Gives a peer rights to some tables alone.
    pub fn set_tables(&self, peer: PeerId, tables: &[(&str, Access)]) {
        let grants =
            tables.iter().map(|(table, access)| grant(&format!("{DATABASE}/{table}"), *access)).collect();
        self.exceptions.lock().expect("no test panics with it").insert(peer, grants);
    }
}

impl Authority for Grants {
    fn grants(&self, peer: &PeerId) -> Arc<[Grant]> {
        let exceptions = self.exceptions.lock().expect("no test panics with it");
        exceptions.get(peer).map_or_else(|| vec![grant("**", Access::Admin)], Clone::clone).into()
    }
}

fn grant(pattern: &str, access: Access) -> Grant {
    format!("{pattern}={access}").parse().expect("a grant")
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

/// What goes wrong with the frames of a talk. Each happens to one frame in as many.
#[derive(Debug, Default, Clone, Copy)]
pub struct Faults {
    /// The connection ends after so many frames.
    pub cut_after: Option<usize>,
    /// A frame is lost.
    pub lose: Option<u64>,
    /// A frame comes twice.
    pub repeat: Option<u64>,
    /// A frame, and all behind it, comes later.
    pub delay: Option<u64>,
    /// The server takes nothing in after so many frames, until as many more have gone or nothing moves.
    pub stop: Option<usize>,
    /// A frame comes with other bytes: some changed, cut off, added, or all by chance.
    pub damage: Option<u64>,
}

/// A connection of a client with the server.
struct Line {
    client: usize,
    /// The client's end, then the server's.
    ends: [Link; 2],
    under_way: [VecDeque<Vec<u8>>; 2],
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
    /// Whether devices get blocks of numbers.
    pub leases: bool,
    options: TrackOptions,
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
            leases: true,
            options: options.clone(),
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
        let tables = self.replica(n).untracked().expect("tables");
        for table in tables {
            let of = |list: &Vec<String>| -> Vec<String> {
                let mine = |c: &String| c.strip_prefix(&format!("{table}.")).map(str::to_owned);
                list.iter().filter_map(mine).collect()
            };
            let options = TrackOptions {
                text: of(&options.text),
                counter: of(&options.counter),
                references: vec![],
                ..options.clone()
            };
            self.replica(n).track(&table, &options).expect("it can be tracked");
        }
    }

    /// The replica of a machine, opened if it is not.
    pub fn replica(&mut self, n: usize) -> &mut Replica {
        let rng = &mut self.rng;
        let server = self.machines[0].identity.peer_id();
        let machine = &mut self.machines[n];
        machine.replica.get_or_insert_with(|| {
            let replica = Replica::open(&machine.path, false, machine.identity.clone(), rng.bytes());
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

    /// Another program on a machine, with the same file open.
    pub fn another(&mut self, n: usize) -> Replica {
        let machine = &self.machines[n];
        let replica = Replica::open(&machine.path, false, machine.identity.clone(), self.rng.bytes());
        replica.expect("the file opens")
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

    /// SQL that no trigger sees, as a tool writes that turned them off.
    #[track_caller]
    pub fn run_unseen(&mut self, n: usize, sql: &str) {
        let conn = Connection::open(&self.machines[n].path).expect("the file opens");
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).expect("a switch");
        conn.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Checks all tables of a machine against their documents: what was found.
    pub fn check(&mut self, n: usize) -> Vec<Finding> {
        let now = self.now;
        self.replica(n).begin_check(now).expect("a check begins");
        self.go_on_checking(n)
    }

    /// Goes on with a check to its end.
    pub fn go_on_checking(&mut self, n: usize) -> Vec<Finding> {
        let (now, mut found) = (self.now, vec![]);
        for _ in 0..STEPS_MAX {
            let checked = self.replica(n).check_some(now, 64).expect("a step of a check");
            assert_eq!(checked.found, checked.findings.len() as u64);
            found.extend(checked.findings);
            if checked.is_over {
                return found;
            }
        }
        panic!("the check does not end");
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
        query(&self.machines[n].path, sql)
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
        self.talk_with(&[client], &Faults { cut_after, ..Faults::default() })
    }

    /// Several clients talk with the server at once, over connections with faults.
    ///
    /// A fault ends the talk with an error, or with the news that not all are level; never otherwise.
    pub fn talk_with(&mut self, clients: &[usize], faults: &Faults) -> Result<(Talk, bool), LinkError> {
        let now = self.now;
        self.capture(0);
        let server = self.machines[0].identity.peer_id();
        let mut lines = vec![];
        let mut talk = Talk::default();
        for client in clients {
            self.capture(*client);
            let authority: Arc<dyn Authority> = self.grants.clone();
            let peer = self.machines[*client].identity.peer_id();
            let mut near = Link::initiator(self.replica(*client), server)?;
            near.move_rows(self.replica(*client));
            if self.leases {
                near.take_leases(self.replica(*client)).expect("they are read");
            }
            let first = near.next_frame(self.replica(*client), now)?.expect("an initiator speaks first");
            talk.count(&first);
            let far = Link::responder(self.replica(0), peer, authority, Attach::decode(&first)?)?;
            lines.push(Line { client: *client, ends: [near, far], under_way: Default::default() });
        }
        let mut stopped = false;
        loop {
            let mut quiet = true;
            for line in &mut lines {
                quiet &= !self.move_frames(line, faults, &mut talk)?;
                if faults.cut_after.is_some_and(|n| talk.frames > n) {
                    return Ok((talk, false));
                }
            }
            for n in clients.iter().copied().chain([0]) {
                let captured = self.replica(n).capture(now).expect("capture");
                quiet &= captured.rows == 0 && !captured.more;
            }
            if let Some(after) = faults.stop {
                let on = talk.frames > after && talk.frames <= 2 * after && !quiet;
                let stop = on.then_some(Stop::Disk);
                let go_on: Vec<_> = lines.iter_mut().map(|line| line.ends[1].set_intake(stop)).collect();
                if go_on.contains(&false) {
                    return Ok((talk, false)); // the server ends the connection
                }
                quiet &= !stopped;
                stopped = on;
            }
            if quiet {
                let level = lines.iter().all(|line| line.ends.iter().all(Link::is_level));
                return Ok((talk, level));
            }
            assert!(talk.frames < FRAMES_MAX, "the talk does not end");
        }
    }

    /// Lets both ends of a line speak, and one frame each way arrive; whether anything moved.
    fn move_frames(&mut self, line: &mut Line, faults: &Faults, talk: &mut Talk) -> Result<bool, LinkError> {
        let now = self.now;
        let machines = [line.client, 0];
        let mut moved = false;
        for (n, machine) in machines.iter().enumerate() {
            while let Some(frame) = line.ends[n].next_frame(self.replica(*machine), now)? {
                talk.count(&frame);
                moved = true;
                if faults.lose.is_some_and(|one_in| self.rng.one_in(one_in)) {
                    continue;
                }
                if faults.repeat.is_some_and(|one_in| self.rng.one_in(one_in)) {
                    line.under_way[n].push_back(frame.to_vec());
                }
                line.under_way[n].push_back(frame.to_vec());
            }
        }
        for n in 0..2 {
            if faults.delay.is_some_and(|one_in| self.rng.one_in(one_in)) {
                moved |= !line.under_way[n].is_empty();
                continue;
            }
            if let Some(mut frame) = line.under_way[n].pop_front() {
                if faults.damage.is_some_and(|one_in| self.rng.one_in(one_in)) {
                    self.damage(&mut frame);
                }
                let receiver = machines[1 - n];
                talk.rows += line.ends[1 - n]
                    .receive(self.replica(receiver), Incoming::read(&frame).open(), now)?
                    .rows;
                moved = true;
            }
        }
        Ok(moved)
    }

    fn damage(&mut self, frame: &mut Vec<u8>) {
        let len = frame.len() as u64;
        match self.rng.below(5) {
            0 => frame.truncate(self.rng.below(len) as usize),
            1 => frame.extend(self.rng.bytes::<9>()),
            2 => {
                let at = self.rng.below(len) as usize;
                // Fields that claim lengths and counts are made large by this.
                frame[at..].iter_mut().take(4).for_each(|b| *b = 0xff);
            }
            3 => frame.iter_mut().skip(1).for_each(|b| *b = self.rng.number() as u8),
            _ => {
                let at = self.rng.below(len) as usize;
                frame[at] ^= 1 << self.rng.below(8);
            }
        }
    }

    /// Gives a client other rights.
    pub fn allow(&mut self, n: usize, access: Option<Access>) {
        self.grants.set(self.machines[n].identity.peer_id(), access);
    }

    /// Gives a client rights to some tables alone.
    pub fn allow_tables(&mut self, n: usize, tables: &[(&str, Access)]) {
        self.grants.set_tables(self.machines[n].identity.peer_id(), tables);
    }

    /// Keeps a copy of a machine's file, as a backup would.
    pub fn backup(&mut self, n: usize) -> Vec<u8> {
        let conn = Connection::open(&self.machines[n].path).expect("the file opens");
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
        std::fs::read(&self.machines[n].path).expect("the file is there")
    }

    /// Puts a copy in the place of a machine's file.
    pub fn restore(&mut self, n: usize, copy: &[u8]) {
        self.stop(n);
        for ending in ["-wal", "-shm", "-journal"] {
            let mut path = self.machines[n].path.clone().into_os_string();
            path.push(ending);
            let _ = std::fs::remove_file(path);
        }
        std::fs::write(&self.machines[n].path, copy).expect("the file can be written");
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

    /// Whether a machine's tables are tracked: an old copy may be from before.
    pub fn is_tracked(&mut self, n: usize) -> bool {
        !self.replica(n).status().expect("a status").tables.is_empty()
    }

    /// Tracks all tables of a machine that are not.
    pub fn track_again(&mut self, n: usize) {
        let options = self.options.clone();
        self.track_all(n, &options);
    }

    /// The root of each table.
    pub fn roots(&mut self, n: usize) -> Vec<(String, String)> {
        let status = self.replica(n).status().expect("a status");
        let mut roots: Vec<_> = status.tables.into_iter().map(|t| (t.table, t.root)).collect();
        roots.sort();
        roots
    }

    /// Held rows: table, key, and what the cause begins with.
    pub fn held(&mut self, n: usize) -> Vec<(String, String)> {
        let mut held: Vec<_> =
            self.replica(n).held(None).expect("a list").into_iter().map(|h| (h.table, h.key)).collect();
        held.sort();
        held
    }

    /// The rows of a table: key, and column with value, as text.
    pub fn rows(&mut self, n: usize, table: &str) -> Vec<(String, Vec<(String, String)>)> {
        let conn = Connection::open(&self.machines[n].path).expect("the file opens");
        let mut stmt = conn.prepare(&format!("SELECT * FROM {table}")).expect("SQL");
        let names: Vec<_> = stmt.column_names().map(str::to_owned).collect();
        let sql = "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk";
        let keys: Vec<String> = conn
            .prepare(sql)
            .and_then(|mut s| s.query_map([table], |r| r.get(0))?.collect())
            .expect("the key's columns");
        let rows = stmt.query_map([], |row| {
            let value = |name: &str| row.get::<_, rusqlite::types::Value>(name);
            let key =
                keys.iter().map(|k| value(k).map(|v| piecewise_text(&v))).collect::<Result<Vec<_>, _>>()?;
            let cells = names.iter().map(|name| Ok((name.clone(), format!("{:?}", value(name)?))));
            Ok((key.join(","), cells.collect::<rusqlite::Result<Vec<_>>>()?))
        });
        rows.expect("a query").map(|row| row.expect("a row")).collect()
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

/// A value as the core writes it in keys.
fn piecewise_text(value: &rusqlite::types::Value) -> String {
    use piecewise_core::value::Value;
    use rusqlite::types::Value as Sql;
    match value.clone() {
        Sql::Null => Value::Null,
        Sql::Integer(i) => Value::Integer(i),
        Sql::Real(f) => Value::Real(f),
        Sql::Text(s) => Value::Text(s),
        Sql::Blob(b) => Value::Blob(b),
    }
    .to_string()
}

impl Talk {
    fn count(&mut self, frame: &[u8]) {
        self.frames += 1;
        self.bytes += frame.len();
    }
}
