//! Replica: one SQLite file and everything Piecewise keeps in it.
//!
//! It knows the file's containers and lends them out; it owns the connection and the one way to change the
//! file, a transaction after which memory and disk agree. One thread uses it at a time.

mod authors;
mod carried;
pub(crate) mod columns;
mod containers;
mod evict;
mod following;
mod kept;
mod reading;
mod refusals;
mod registry;
mod relations;
pub(crate) mod standing;
mod stops;
mod supervised;
mod talks;
mod tracking;

pub use authors::Author;
pub(crate) use columns::ColumnBinding;
use containers::Containers;
pub(crate) use containers::{ContainerState, Scan};
pub use evict::Evicted;
pub use following::OtherMerge;
pub use reading::{
    Attention, Choice, Conflict, ConflictKind, Effect, Exported, HeldRow, HistoryEntry, HistorySize, MadeRow,
    OtherRow, RefusedRow, Status, TableStatus, Written,
};
pub use registry::{Binding, Follow};
pub use standing::Standing;
pub use stops::{StopKind, StopNews, Stopped};
pub use talks::{Overview, OverviewOf, Talk, Waiting};
pub use tracking::{Reference, TrackOptions};

use crate::capture::Pace;
use crate::container::Container;
use crate::fan_out::FanOut;
use crate::history::History;
use crate::id::{ContainerId, PeerId, ReplicaId, Timestamp};
use crate::identity::Identity;
use crate::numbers::Numbers;
use crate::placement::{Retries, Stumbles, Unheard};
use crate::scrub::Scrubbing;
use crate::store::clauses::Clauses;
use crate::store::guard::Guard;
use crate::store::schema::Kinds;
use crate::store::{StoreError, busy, layout, upgrade};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use sha2::{Digest, Sha256};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::Path;

/// The setting with the keys of servers that are trusted.
const TRUSTED: &str = "trusted";
/// Statements kept prepared.
const STATEMENTS_MAX: usize = 256;
/// Pages kept in memory: those of one batch of scattered rows.
const CACHE_KIB: i64 = 16 << 10;
/// In a file with more containers, the states behind their roots are read again each time.
const ROOTS_KEPT: usize = 1000;
/// Pages in the WAL at which they are brought into the file: each time costs two fsyncs.
pub const CHECKPOINT_PAGES: i32 = 10_000;
/// What is left of a WAL that grew beyond it, once all of it is in the file.
const WAL_BYTES_KEPT: i64 = 40 << 20;
/// A clock's offset is written down when it has moved by so much.
const OFFSET_MOVED_MS: u64 = 250;

/// Why something could not be done with a replica.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// SQLite or our own tables.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file belongs to no database yet.
    #[error("this file is not connected to a database")]
    NotBound,
    /// The file belongs to another database or realm.
    #[error("this file belongs to database {database} already")]
    AlreadyBound {
        /// The database it belongs to.
        database: String,
    },
    /// The table cannot be tracked.
    #[error(transparent)]
    Refused(#[from] crate::store::schema::TrackRefusal),
    /// A peer's description of a table.
    #[error(transparent)]
    Description(#[from] crate::description::DescriptionError),
    /// The table is tracked already.
    #[error("table {table} is tracked already")]
    AlreadyTracked {
        /// The table.
        table: String,
    },
    /// The table is not tracked.
    #[error("table {table} is not tracked here")]
    NotTracked {
        /// The table.
        table: String,
    },
    /// A merge kind was requested for a column that does not exist or does not support it.
    #[error("column {column} of table {table} cannot be a {kind} column: {why}")]
    BadMerge {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// "text" or "counter".
        kind: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// The name is no name of a container.
    #[error("{name:?} is not a name for a table that syncs")]
    BadName {
        /// The name.
        name: String,
    },
    /// A key, column or choice that there is not.
    #[error("there is no {what}")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// Something that concerns one table; all others can go on.
    #[error("table {table}: {why}")]
    Table {
        /// The container's number in this file.
        no: i64,
        /// The table.
        table: String,
        /// What kind of stop it is.
        kind: StopKind,
        /// The cause in words.
        why: String,
        /// The error.
        source: Box<StoreError>,
    },
    /// Rows that are held, and would be in no table.
    #[error("{} held and in no table", rows_are(.rows.len()))]
    Held {
        /// The rows.
        rows: Vec<HeldRow>,
    },
    /// A trigger of the application ended the transaction that brought a row. The row is held from then on, so the same
    /// work can be done again.
    #[error("row {key} of table {table} cannot be brought in: {cause}")]
    TransactionEnded {
        /// The table.
        table: String,
        /// The row's key.
        key: String,
        /// What ended it.
        cause: String,
    },
    /// Changes that cannot be made as asked.
    #[error("{what}")]
    Invalid {
        /// What is wrong.
        what: String,
    },
}

impl From<rusqlite::Error> for ReplicaError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl ReplicaError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Table { source, .. } => source.hint(),
            Self::NotBound => Some("run `piecewise track FILE TABLE --as DATABASE`".into()),
            Self::AlreadyBound { database } => {
                Some(format!("use `--as {database}`, or another file; a file belongs to one database"))
            }
            Self::Refused(refusal) => refusal.hint(),
            Self::NotTracked { table } => Some(format!("run `piecewise track FILE {table}`")),
            Self::BadMerge { .. } => Some("leave the column out; of two edits the later then shows".into()),
            Self::Held { .. } => Some(
                "make room for them, such as by another value; or `piecewise untrack … --leave-held FILE.json` keeps them in a new file".into(),
            ),
            Self::NotFound { .. } | Self::BadName { .. } => {
                Some("check the spelling, also of capital letters".into())
            }
            Self::AlreadyTracked { .. } => {
                Some("`piecewise status FILE` lists what is tracked; nothing needs doing".into())
            }
            _ => None,
        }
    }
}

/// What a capture did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Captured {
    /// Rows that had changed.
    pub rows: u64,
    /// Segments made of them.
    pub segments: u64,
    /// Whether there is more to capture now.
    pub more: bool,
}

/// One SQLite file that takes part in sync.
#[derive(Debug)]
pub struct Replica {
    pub(crate) conn: Connection,
    pub(crate) identity: Identity,
    chance: Chance,
    pub(crate) replica_id: ReplicaId,
    pub(crate) binding: Option<Binding>,
    pub(crate) containers: Containers,
    pub(crate) history: History,
    pub(crate) pace: Pace,
    pub(crate) schema_version: i64,
    /// What kind of table each is by that schema, once it was asked for.
    kinds: OnceCell<Kinds>,
    /// What acts on rows by that schema, once it was asked for.
    clauses: OnceCell<Clauses>,
    /// Keeps the application's triggers in bounds while rows are applied.
    pub(crate) guard: Guard,
    /// Rows whose triggers ended a transaction.
    pub(crate) stumbles: Stumbles,
    /// Held rows that are to be looked at again.
    pub(crate) retries: Retries,
    /// Tables with rows that were changed without the application's triggers.
    pub(crate) unheard: Unheard,
    /// Foreign keys that the application does not keep.
    unkept: kept::Unkept,
    pub(crate) is_server: bool,
    /// Servers, besides the one it belongs to, whose acceptance counts.
    trusted: Vec<PeerId>,
    clock_offset_ms: i64,
    /// What is to be told of stops: of this transaction, and of those before.
    stops_to_tell: Vec<StopNews>,
    stop_news: Vec<StopNews>,
    /// Whether stops that may have passed are still to be looked at after the start.
    retries_stopped: bool,
    /// Whether tables that could not be made are to be tried again.
    pub(crate) makes_again: bool,
    /// All entries of the log up to here are of containers that cannot be captured now.
    pub(crate) log_from: i64,
    /// The time as a caller told it last.
    pub(crate) clock: Timestamp,
    /// Of a server: when it accepted the last segment of each container.
    pub(crate) last_accepted: HashMap<i64, Timestamp>,
    /// Captured rows whose constraints are still to be looked at.
    pub(crate) unsettled: Vec<(i64, crate::key::RowKey)>,
    /// Containers whose tables changed since their descriptions were looked at.
    pub(crate) undescribed: BTreeSet<i64>,
    /// Tables with rows that a scan put back, and how many, until they are told of.
    pub(crate) restored: BTreeMap<String, u64>,
    /// Lists of containers that peers follow, by their digests, as they were told last.
    pub(crate) followed: VecDeque<([u8; 32], BTreeSet<ContainerId>)>,
    touched: BTreeSet<i64>,
    changes: Changes,
    /// Of a server: entries for the log about receipts, which are written together.
    receipts: Vec<Vec<u8>>,
    /// Of a server: what went to several peers.
    pub(crate) fan_out: FanOut,
    /// The state of our tables, as another program with this file open can change it.
    pub(crate) generation: i64,
    /// The check of tables against their documents that is under way.
    pub(crate) scrubbing: Scrubbing,
    /// Who wrote what is here, with their names.
    pub(crate) authors: HashMap<PeerId, Option<String>>,
    /// Columns that merge otherwise than was asked for, until they are told of.
    other_merges: Vec<OtherMerge>,
    /// What is known of rows whose numbers are taken, and how tables are numbered.
    pub(crate) numbers: Numbers,
    /// When the file was looked at last for commits of other connections.
    data_version: Option<i64>,
}

/// Which containers changed, in order: each stands at its last change.
#[derive(Debug, Default)]
struct Changes {
    end: u64,
    order: BTreeMap<u64, i64>,
    places: HashMap<i64, u64>,
}

impl Replica {
    /// Opens a SQLite file, or makes it if `create`. Nothing is written to a file that is not bound.
    ///
    /// `chance` seeds everything that must not be guessed or repeated.
    pub fn open(
        path: &Path,
        create: bool,
        identity: Identity,
        chance: [u8; 32],
    ) -> Result<Self, ReplicaError> {
        use rusqlite::OpenFlags as F;
        let mut flags = F::SQLITE_OPEN_READ_WRITE | F::SQLITE_OPEN_NO_MUTEX;
        flags.set(F::SQLITE_OPEN_CREATE, create);
        let conn = Connection::open_with_flags(path, flags)?;
        if create {
            conn.pragma_update(None, "journal_mode", "wal")?;
        }
        Self::from_connection(conn, identity, chance)
    }

    /// Uses a connection that is open already, such as one in memory.
    pub fn from_connection(
        mut conn: Connection,
        identity: Identity,
        chance: [u8; 32],
    ) -> Result<Self, ReplicaError> {
        let guard = Guard::install(&mut conn)?;
        busy::wait_for_locks(&mut conn, false)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        conn.pragma_update(None, "foreign_keys", false)?;
        conn.pragma_update(None, "recursive_triggers", false)?;
        conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        // Plans that do not depend on bound values: else a bound key has its statement compiled anew for each row.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        let journal: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        if journal == "wal" {
            // A commit survives the death of the process; after a power loss the last ones may be gone,
            // which peers notice and mend.
            conn.pragma_update(None, "synchronous", "normal")?;
            conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            conn.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
        }
        let mut replica = Self {
            conn,
            identity,
            chance: Chance::new(chance),
            replica_id: ReplicaId([0; 8]),
            binding: None,
            containers: Containers::default(),
            history: History::default(),
            pace: Pace::default(),
            schema_version: -1,
            kinds: OnceCell::new(),
            clauses: OnceCell::new(),
            guard,
            stumbles: Stumbles::default(),
            retries: Retries::default(),
            unheard: Unheard::default(),
            unkept: kept::Unkept::default(),
            is_server: false,
            trusted: vec![],
            clock_offset_ms: 0,
            stops_to_tell: vec![],
            stop_news: vec![],
            retries_stopped: true,
            makes_again: false,
            log_from: 0,
            clock: Timestamp(0),
            last_accepted: HashMap::new(),
            unsettled: vec![],
            undescribed: BTreeSet::new(),
            restored: BTreeMap::new(),
            followed: VecDeque::new(),
            touched: BTreeSet::new(),
            changes: Changes::default(),
            receipts: vec![],
            fan_out: FanOut::default(),
            generation: 0,
            scrubbing: Scrubbing::default(),
            numbers: Numbers::default(),
            authors: HashMap::new(),
            other_merges: vec![],
            data_version: None,
        };
        upgrade::upgrade(&replica.conn)?;
        replica.reload()?;
        Ok(replica)
    }

    /// Makes this the server's copy: what it takes in is accepted in this identity's name.
    pub fn into_server(mut self) -> Self {
        self.is_server = true;
        self
    }

    /// Waits a second for another program's lock from now on, instead of five.
    pub fn wait_briefly_for_locks(&mut self) -> Result<(), ReplicaError> {
        Ok(busy::wait_for_locks(&mut self.conn, true)?)
    }

    /// Takes what this server accepted as if the server that this replica belongs to had: its predecessor, or one from which
    /// it gets what others wrote.
    pub fn trust(&mut self, server: &PeerId) -> Result<(), ReplicaError> {
        if !self.trusted.contains(server) {
            self.trusted.push(*server);
            let keys: Vec<u8> = self.trusted.iter().flat_map(|server| server.0).collect();
            layout::set_meta(&self.conn, TRUSTED, keys)?;
        }
        Ok(())
    }

    /// Whether what `server` accepted may be taken from `peer`.
    pub(crate) fn trusts(&self, server: &PeerId, peer: &PeerId) -> bool {
        server == peer || self.trusted.contains(server)
    }

    /// Whose captures these are.
    pub fn author(&self) -> PeerId {
        self.identity.peer_id()
    }

    /// The name of this copy of the file.
    pub fn replica_id(&self) -> ReplicaId {
        self.replica_id
    }

    /// The database that the file belongs to.
    pub fn binding(&self) -> Option<&Binding> {
        self.binding.as_ref()
    }

    /// How many tables take part.
    pub fn container_count(&self) -> usize {
        self.containers.len()
    }

    /// Changes whenever another connection has committed to the file.
    pub fn data_version(&self) -> Result<i64, ReplicaError> {
        Ok(self.conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?)
    }

    /// Rows that this connection has inserted, updated and deleted since it was opened, by whomever.
    pub fn rows_written(&self) -> u64 {
        // Not by `connection`, which turns triggers on: that costs all prepared statements.
        self.conn.total_changes()
    }

    /// The container with this id, to talk with its counterpart.
    pub fn container(&mut self, id: &ContainerId) -> Option<Container<'_>> {
        let no = self.containers.with_id(id)?.no;
        Some(Container::new(self, no))
    }

    /// The connection, for the user's SQL: what it writes is captured.
    pub fn connection(&self) -> &Connection {
        self.set_triggers(true).expect("SQLite takes a switch of its own connection");
        &self.conn
    }

    /// The same, for what SQLite's binding asks to have alone, such as making a copy.
    pub fn connection_mut(&mut self) -> &mut Connection {
        self.set_triggers(true).expect("SQLite takes a switch of its own connection");
        &mut self.conn
    }

    /// How far the server's clock is ahead of ours, learnt at the handshake. Writes nothing unless it has moved.
    pub fn set_clock_offset(&mut self, server: Timestamp, here: Timestamp) -> Result<(), ReplicaError> {
        self.clock = here;
        let offset = server.0 as i64 - here.0 as i64;
        self.clock_offset_ms = offset;
        if self.binding.is_none() {
            return Ok(());
        }
        let written = layout::meta::<i64>(&self.conn, "clock_offset_ms")?;
        if written.is_none_or(|written| written.abs_diff(offset) > OFFSET_MOVED_MS) {
            self.transaction(|r| Ok(layout::set_meta(&r.conn, "clock_offset_ms", offset)?))?;
        }
        Ok(())
    }

    /// A local time as the server's clock would tell it.
    pub(crate) fn corrected(&self, local: Timestamp) -> Timestamp {
        Timestamp(local.0.saturating_add_signed(self.clock_offset_ms)).min(Timestamp::MAX)
    }

    pub(crate) fn nonce(&mut self) -> [u8; 8] {
        self.chance.bytes()
    }

    /// Runs `work` in one write transaction. If it fails, file and memory are as before.
    pub(crate) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, ReplicaError>,
    ) -> Result<T, ReplicaError> {
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        self.history.begin();
        let written = self.conn.total_changes();
        let (due, counting) = (self.retries.due(), self.containers.counting());
        let ready = self.notice_others().and_then(|()| self.refresh_schema());
        let done = ready.and_then(|()| work(self)).and_then(|value| {
            for no in &self.touched {
                if let Some(state) = self.containers.get(no) {
                    state.store_feed(&self.conn)?;
                }
            }
            for no in self.touched.clone() {
                self.mind_leases(no)?;
            }
            if !self.unsettled.is_empty() {
                crate::store::holds::keep_unsettled(&self.conn, &self.unsettled)?;
            }
            if self.binding.is_some() {
                self.history.write_baselines(&self.conn)?;
                // Else programs that have the file open would wake each other for ever.
                if self.conn.total_changes() != written {
                    self.generation += 1;
                    layout::set_meta(&self.conn, "generation", self.generation)?;
                }
            }
            self.conn.execute_batch("COMMIT")?;
            Ok(value)
        });
        self.history.end();
        let touched = std::mem::take(&mut self.touched);
        match done {
            Ok(value) => {
                for news in std::mem::take(&mut self.stops_to_tell) {
                    self.stop_news.retain(|old| old.table != news.table);
                    self.stop_news.push(news);
                }
                for no in self.stumbles.batch_is_done() {
                    self.retries.try_again(no);
                }
                self.forget_roots(&touched);
                touched.into_iter().for_each(|no| self.note_changed(no));
                Ok(value)
            }
            Err(error) => {
                if !self.conn.is_autocommit() {
                    self.conn.execute_batch("ROLLBACK")?;
                }
                self.stops_to_tell.clear();
                self.history.clear();
                self.reload()?;
                self.containers.count_on(counting);
                self.retries.restore(due);
                Err(error)
            }
        }
    }

    /// The same for work that applies rows: if a trigger of the application ends the transaction, it is done again with
    /// that row held.
    pub(crate) fn transaction_again<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, ReplicaError>,
    ) -> Result<T, ReplicaError> {
        loop {
            match self.transaction(&mut work) {
                Err(ReplicaError::TransactionEnded { .. }) => {}
                done => return done,
            }
        }
    }

    /// Keeps the states behind roots in memory only where they are few: they are 2 KiB each.
    fn forget_roots(&mut self, stored: &BTreeSet<i64>) {
        if self.containers.len() > ROOTS_KEPT {
            for no in stored {
                self.containers.get_mut(no).into_iter().for_each(|state| state.feed.forget_root());
            }
        }
    }

    /// Whether another program with this file open changed what is ours.
    pub(crate) fn others_changed_it(&mut self) -> Result<bool, ReplicaError> {
        let version = Some(self.data_version()?);
        if self.data_version == version || self.binding.is_none() {
            return Ok(false);
        }
        let changed = match layout::meta(&self.conn, "generation") {
            Ok(generation) => generation != Some(self.generation),
            Err(_) if !layout::exists(&self.conn)? => true,
            Err(error) => return Err(error.into()),
        };
        if !changed {
            self.data_version = version;
        }
        Ok(changed)
    }

    /// Reads everything anew if another program with this file open changed what is ours. Call it in a transaction.
    fn notice_others(&mut self) -> Result<(), ReplicaError> {
        if !self.others_changed_it()? {
            return Ok(());
        }
        let before: HashMap<_, _> = self.containers.values().map(|c| (c.no, c.feed.tip)).collect();
        let counting = self.containers.counting();
        self.history.clear();
        self.reload()?;
        if self.binding.is_none() {
            return Err(ReplicaError::NotBound);
        }
        self.containers.count_on(counting);
        self.data_version = Some(self.data_version()?);
        let changed: Vec<_> = self
            .containers
            .values()
            .filter(|c| before.get(&c.no) != Some(&c.feed.tip))
            .map(|c| c.no)
            .collect();
        changed.into_iter().for_each(|no| self.note_changed(no));
        Ok(())
    }

    /// Whether a table is being gone through, or held rows are due, so that a capture has something to do without a word
    /// from anybody.
    pub fn is_scanning(&self) -> bool {
        self.containers.scanning().next().is_some() || self.retries.any()
    }

    /// Tables with rows that were gone while no trigger saw it, and were put back; how many. Each is told once.
    pub fn take_restored(&mut self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.restored)
    }

    /// Marks a container whose feed changed in this transaction.
    pub(crate) fn touch(&mut self, no: i64) {
        self.touched.insert(no);
        if let Some(state) = self.containers.get(&no) {
            self.retries.table_changed(&state.table, true);
        }
    }

    /// Tells links that there may be something to say about a container.
    pub(crate) fn note_changed(&mut self, no: i64) {
        let changes = &mut self.changes;
        if let Some(old) = changes.places.insert(no, changes.end) {
            changes.order.remove(&old);
        }
        changes.order.insert(changes.end, no);
        changes.end += 1;
    }

    /// Call after every link has been polled: drops large messages that were cached for several of them.
    pub fn let_go(&mut self) {
        self.fan_out.let_go();
    }

    /// Where the record of changed containers ends now: grows whenever there may be something to say.
    pub fn changed_end(&self) -> u64 {
        self.changes.end
    }

    /// The containers that changed since `from`.
    pub(crate) fn changed_since(&self, from: u64) -> impl Iterator<Item = i64> {
        self.changes.order.range(from..).map(|(_, no)| *no)
    }

    /// Does something with all triggers off, and leaves them as they were.
    pub(crate) fn without_triggers<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, ReplicaError>,
    ) -> Result<T, ReplicaError> {
        let before = self.conn.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER)?;
        self.set_triggers(false)?;
        let done = work(self);
        self.set_triggers(before)?;
        done
    }

    /// Turns all triggers of the file off or on for this connection.
    ///
    /// They stay as they were set last, until somebody asks for the connection: each turn makes SQLite compile
    /// all statements anew, which costs more than to take in a segment of one row.
    pub(crate) fn set_triggers(&self, on: bool) -> Result<(), ReplicaError> {
        self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, on)?;
        Ok(())
    }
}

fn rows_are(rows: usize) -> String {
    if rows == 1 { "1 row is".into() } else { format!("{rows} rows are") }
}

/// A stream of bytes that cannot be guessed, from one seed.
struct Chance {
    seed: [u8; 32],
    count: u64,
}

impl std::fmt::Debug for Chance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chance")
    }
}

impl Chance {
    fn new(seed: [u8; 32]) -> Self {
        Self { seed, count: 0 }
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= 32) };
        self.count += 1;
        let hash = Sha256::new()
            .chain_update(b"piecewise chance\0")
            .chain_update(self.seed)
            .chain_update(self.count.to_be_bytes())
            .finalize();
        std::array::from_fn(|n| hash[n])
    }
}
