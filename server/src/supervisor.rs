//! Supervisor: who is known, who may do what, and the server's own key. One SQLite file, `supervisor.db`.
//!
//! All SQL about them is here, in `rights` and in `admission`. Commands such as `revoke` write the file while the server runs. It hears of
//! that and looks, and it looks before it takes anything in, so that what comes after a revocation is refused.

use crate::ledger::{self, Ledger};
use crate::limits::Hit;
use crate::rights::Rights;
use crate::{log, status};
use piecewise_core::grant::Grant;
use piecewise_core::id::{PeerId, RealmId, Timestamp};
use piecewise_core::identity::Identity;
use piecewise_core::invite::Invite;
use piecewise_core::session::Authority;
use piecewise_core::supervisor_log::note::{Cosignature, Note};
use piecewise_core::supervisor_log::talk::Told;
use piecewise_core::supervisor_log::tree::Edge;
use piecewise_core::supervisor_log::{Entry, Event};
use rusqlite::{Connection, TransactionBehavior, params};
use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The file, in the data folder.
const FILE: &str = "supervisor.db";

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS settings(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS peers(
  key BLOB PRIMARY KEY, name TEXT NOT NULL, joined INTEGER NOT NULL, revoked INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS grants(
  key BLOB NOT NULL, pattern TEXT NOT NULL, access TEXT NOT NULL, until INTEGER, PRIMARY KEY (key, pattern)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS invites(
  hash BLOB PRIMARY KEY, grants TEXT NOT NULL, expires INTEGER NOT NULL, used_by BLOB) WITHOUT ROWID;
";

/// Why the supervisor's files could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// A file or folder.
    #[error("{path} cannot be used: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database.
    #[error("supervisor.db cannot be used: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// No server was ever run with this folder.
    #[error("{path} is not the data folder of a server")]
    NoServer {
        /// Which.
        path: PathBuf,
    },
    /// The key file does not hold a key.
    #[error("{path} does not hold a key")]
    BadKey {
        /// Which file.
        path: PathBuf,
    },
}

/// An invite that nobody has used.
#[derive(Debug, Clone)]
pub struct OpenInvite {
    /// The hash of its secret.
    pub hash: [u8; 32],
    /// What it grants, one on each line.
    pub grants: String,
    /// Until when it is good.
    pub expires: Timestamp,
}

/// Who may do what on this server.
#[derive(Debug)]
pub struct Supervisor {
    /// The server's key pair.
    pub identity: Identity,
    /// The server's name for all it holds.
    pub realm: RealmId,
    pub(crate) log_key: Identity,
    pub(crate) ledger: Ledger,
    pub(crate) rights: Rights,
    folder: PathBuf,
    state: Mutex<State>,
    /// Told when somebody has written the file, perhaps this process.
    pub(crate) written: Notify,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) conn: Connection,
    /// The version of the file when rights were read; None: they have to be read anew.
    version: Option<i64>,
    /// The right edge of the log, as it was after the last append here.
    pub(crate) edge: Option<Edge>,
    /// Notes signed lately.
    pub(crate) notes: VecDeque<Note>,
    /// What is told of the log to whoever asks, and the version of the file that it was read from.
    pub(crate) told: Option<(i64, Told)>,
    /// Cosignatures, with the sizes of the log that they are of, to be written down.
    pub(crate) cosigned: HashMap<PeerId, (u64, Cosignature)>,
}

impl State {
    /// Changes whenever another process has written the file.
    pub(crate) fn data_version(&self) -> Result<i64, rusqlite::Error> {
        self.conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
    }
}

/// A device that joined.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its key.
    pub key: PeerId,
    /// What it calls itself.
    pub name: String,
    /// When it joined.
    pub joined: Timestamp,
    /// Whether its key was revoked.
    pub revoked: bool,
    /// What it may do.
    pub grants: Vec<Grant>,
}

impl Supervisor {
    /// Opens the data folder; makes it, a key and a realm at the first time.
    pub fn open(folder: &Path) -> Result<Self, SupervisorError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| SupervisorError::File { path, source }
        };
        make_private_folder(folder).map_err(file(folder))?;
        if let Err(error) = restrict_folder(folder) {
            tracing::warn!(%error, folder = %folder.display(), "others may look into the data folder");
        }
        let identity = read_or_make_key(&folder.join("server.key"))?;
        let path = folder.join(FILE);
        make_private_file(&path).map_err(file(&path))?;
        let conn = Connection::open(&path)?;
        restrict(&path).map_err(file(&path))?;
        conn.busy_timeout(Duration::from_secs(5))?;
        conn.pragma_update(None, "journal_mode", "wal")?;
        conn.execute_batch(TABLES)?;
        add_column(&conn, "grants", "until INTEGER")?;
        conn.execute_batch(log::TABLES)?;
        conn.execute_batch(ledger::TABLE)?;
        add_column(&conn, "accounts", "databases INTEGER NOT NULL DEFAULT 0")?;
        conn.execute_batch(status::TABLE)?;
        let ledger = Ledger::read(&conn)?;
        conn.execute("INSERT OR IGNORE INTO settings VALUES ('realm', randomblob(16))", [])?;
        let realm = conn.query_row("SELECT value FROM settings WHERE name = 'realm'", [], |r| r.get(0))?;
        let state = State {
            conn,
            version: None,
            edge: None,
            notes: VecDeque::new(),
            told: None,
            cosigned: HashMap::new(),
        };
        let (log_key, folder) = (log::key(folder)?, folder.to_owned());
        let (realm, rights, state) = (RealmId(realm), Rights::default(), Mutex::new(state));
        let written = Notify::new();
        let supervisor = Self { identity, realm, log_key, ledger, rights, folder, state, written };
        supervisor.look();
        Ok(supervisor)
    }

    /// Opens the data folder of a server that has run.
    pub fn existing(folder: &Path) -> Result<Self, SupervisorError> {
        match folder.join(FILE).exists() {
            true => Self::open(folder),
            false => Err(SupervisorError::NoServer { path: folder.to_owned() }),
        }
    }

    /// Where the databases are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an invite that works once, until `expires`.
    pub fn invite(
        &self,
        grants: &[Grant],
        address: &str,
        secret: [u8; 32],
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<Invite, SupervisorError> {
        let (server, realm) = (self.identity.peer_id(), self.realm);
        let invite = Invite { address: address.to_owned(), server, realm, secret };
        self.keep_invites(std::slice::from_ref(&invite), grants, now, expires)?;
        Ok(invite)
    }

    /// Makes so many invites, each with a secret of its own.
    pub fn invites(
        &self,
        count: usize,
        grants: &[Grant],
        address: &str,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<Vec<Invite>, SupervisorError> {
        let (server, realm) = (self.identity.peer_id(), self.realm);
        let secrets = std::iter::repeat_with(crate::chance).take(count);
        let invites = secrets.map(|secret| Invite { address: address.to_owned(), server, realm, secret });
        let invites: Vec<_> = invites.collect();
        self.keep_invites(&invites, grants, now, expires)?;
        Ok(invites)
    }

    fn keep_invites(
        &self,
        invites: &[Invite],
        grants: &[Grant],
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), SupervisorError> {
        let list: Vec<_> = grants.iter().map(Grant::to_string).collect();
        let grants = list.join("\n");
        let kept = self.logged(now, None, |tx| {
            let mut stmt = tx.prepare("INSERT INTO invites(hash, grants, expires) VALUES (?, ?, ?)")?;
            let keep = |invite: &Invite| {
                let secret_hash = invite.secret_hash();
                stmt.execute(params![secret_hash, grants, expires.0 as i64])?;
                Ok(Event::Invited { secret_hash, expires, grants: grants.clone() })
            };
            invites.iter().map(keep).collect()
        });
        kept.map(drop)
    }

    /// Does something that the log shall tell of, in one transaction; false if there was nothing to do. `of` is the device
    /// whose rights it changes.
    fn logged(
        &self,
        now: Timestamp,
        of: Option<&PeerId>,
        work: impl FnOnce(&Connection) -> Result<Vec<Event>, rusqlite::Error>,
    ) -> Result<bool, SupervisorError> {
        let mut state = self.state();
        let tx = state.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let events = work(&tx)?;
        if events.is_empty() {
            return Ok(false);
        }
        append(&tx, now, events)?;
        tx.commit()?;
        if let Some(peer) = of {
            self.rights.read_of(&state.conn, peer)?;
        }
        Ok(true)
    }

    /// Devices that joined.
    pub fn peers(&self) -> Result<Vec<Peer>, SupervisorError> {
        self.look();
        let state = self.state();
        let mut stmt =
            state.conn.prepare("SELECT key, name, joined, revoked IS NOT NULL FROM peers ORDER BY joined")?;
        let rows = stmt.query_map([], |r| {
            let key = PeerId(r.get(0)?);
            let joined = Timestamp(r.get::<_, i64>(2)? as u64);
            let grants = self.rights.of(&key).to_vec();
            Ok(Peer { key, name: r.get(1)?, joined, revoked: r.get(3)?, grants })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Takes all rights from a device; false if it is not known.
    pub fn revoke(&self, peer: &PeerId, now: Timestamp) -> Result<bool, SupervisorError> {
        self.logged(now, Some(peer), |tx| {
            let sql = "UPDATE peers SET revoked = ? WHERE key = ? AND revoked IS NULL";
            let done = tx.execute(sql, params![now.0 as i64, peer.0])? > 0;
            Ok(done.then_some(Event::Revoked { peer: *peer }).into_iter().collect())
        })
    }

    /// Gives a device a grant, in place of one with the same pattern, until a time or until it is taken away; false if the
    /// device is not known.
    pub fn grant(
        &self,
        peer: &PeerId,
        grant: &Grant,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool, SupervisorError> {
        self.logged(now, Some(peer), |tx| {
            let sql = "REPLACE INTO grants(key, pattern, access, until) SELECT key, ?2, ?3, ?4 FROM peers WHERE key = ?1";
            let until = until.map(|until| until.0 as i64);
            let access = grant.access.to_string();
            let done = tx.execute(sql, params![peer.0, grant.pattern.as_str(), access, until])? > 0;
            let event = || Event::Granted { peer: *peer, grant: grant.to_string() };
            Ok(done.then(event).into_iter().collect())
        })
    }

    /// Takes a grant from a device; false if it had none of this pattern.
    pub fn ungrant(&self, peer: &PeerId, pattern: &str, now: Timestamp) -> Result<bool, SupervisorError> {
        self.logged(now, Some(peer), |tx| {
            let sql = "DELETE FROM grants WHERE key = ? AND pattern = ?";
            let done = tx.execute(sql, params![peer.0, pattern])? > 0;
            let event = || Event::Ungranted { peer: *peer, grant: pattern.to_owned() };
            Ok(done.then(event).into_iter().collect())
        })
    }

    /// Takes away grants whose time is over, which the log tells of.
    pub(crate) fn expire_grants(&self, now: Timestamp) -> Result<(), SupervisorError> {
        let over: Vec<(PeerId, String)> = {
            let state = self.state();
            let mut stmt = state.conn.prepare_cached("SELECT key, pattern FROM grants WHERE until <= ?")?;
            let rows = stmt.query_map([now.0 as i64], |row| Ok((PeerId(row.get(0)?), row.get(1)?)))?;
            rows.collect::<Result<_, _>>()?
        };
        for (peer, pattern) in over {
            self.ungrant(&peer, &pattern, now)?;
        }
        Ok(())
    }

    /// Invites that nobody has used: the first digits of their secrets' hashes, what they grant, and until when they are good.
    pub fn open_invites(&self) -> Result<Vec<OpenInvite>, SupervisorError> {
        let state = self.state();
        let sql = "SELECT hash, grants, expires FROM invites WHERE used_by IS NULL ORDER BY expires, hash";
        let mut stmt = state.conn.prepare(sql)?;
        let rows = stmt.query_map([], |row| {
            let (hash, expires): ([u8; 32], i64) = (row.get(0)?, row.get(2)?);
            Ok(OpenInvite { hash, grants: row.get(1)?, expires: Timestamp(expires as u64) })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Cancels an invite that nobody has used; false if there is none.
    pub fn cancel_invite(&self, secret_hash: [u8; 32], now: Timestamp) -> Result<bool, SupervisorError> {
        self.logged(now, None, |tx| {
            let sql = "DELETE FROM invites WHERE hash = ? AND used_by IS NULL";
            let done = tx.execute(sql, [secret_hash])? > 0;
            Ok(done.then_some(Event::Cancelled { secret_hash }).into_iter().collect())
        })
    }

    /// Whether a device may make one more database.
    pub(crate) fn may_make(&self, peer: &PeerId) -> bool {
        let made = self.ledger.account(peer).databases;
        self.ledger.within(Hit::Databases, |limits| made < limits.databases_per_peer)
    }

    /// Called after a device made a database.
    pub(crate) fn has_made(&self, peer: &PeerId) {
        self.ledger.change(peer, |account| account.databases += 1);
    }

    /// A file of the folder was written; "": it is not known which.
    pub(crate) fn heard_of(&self, file: &str) {
        if file.is_empty() || file.starts_with(FILE) {
            self.written.notify_one();
        }
    }

    /// Reads the rights of devices anew if another process wrote the file since the last look.
    pub fn look(&self) {
        if let Err(error) = self.try_look() {
            tracing::error!(%error, "grants cannot be read; nothing is granted");
            self.state().version = None;
            self.rights.clear();
        }
    }

    fn try_look(&self) -> Result<(), rusqlite::Error> {
        let mut state = self.state();
        let version = state.data_version()?;
        if state.version != Some(version) {
            self.rights.read(&state.conn)?;
            state.version = Some(version);
        }
        Ok(())
    }

    /// What a device may do; nothing if it is unknown or revoked. As it was at the last look.
    pub fn grants(&self, peer: &PeerId) -> Arc<[Grant]> {
        match *peer == self.identity.peer_id() {
            true => "**=admin".parse().into_iter().collect(),
            false => self.rights.of(peer),
        }
    }
}

/// Brings events into the log; call it in a transaction.
pub(crate) fn append(tx: &Connection, now: Timestamp, events: Vec<Event>) -> Result<(), rusqlite::Error> {
    let entries: Vec<_> = events.into_iter().map(|event| Entry { time: now, event }.encode()).collect();
    log::append(tx, &mut None, entries.iter().map(|entry| &entry[..]))
}

impl Authority for Supervisor {
    fn grants(&self, peer: &PeerId) -> Arc<[Grant]> {
        Self::grants(self, peer)
    }

    fn may_be_so_large(&self, bytes: usize) -> bool {
        self.ledger.within(Hit::Row, |limits| bytes <= limits.row_bytes)
    }

    fn may_store(&self, author: &PeerId, bytes: usize) -> bool {
        let stored = self.ledger.account(author).bytes + bytes as u64;
        self.ledger.within(Hit::Bytes, |limits| stored <= limits.bytes_per_peer)
    }

    fn stored(&self, author: &PeerId, bytes: usize) {
        self.ledger.change(author, |account| account.bytes += bytes as u64);
    }

    fn may_log_refusal(&self, peer: &PeerId) -> bool {
        self.ledger.may_log_refusal(peer, crate::now())
    }

    fn may_create(&self, peer: &PeerId) -> bool {
        let created = self.ledger.account(peer).containers;
        self.ledger.within(Hit::Containers, |limits| created < limits.containers_per_peer)
    }

    fn name_of(&self, database: &str, peer: &PeerId) -> Option<String> {
        if !Self::grants(self, peer).iter().any(|grant| grant.pattern.covers_database(database)) {
            return None;
        }
        let state = self.state();
        let mut stmt = state.conn.prepare_cached("SELECT name FROM peers WHERE key = ?").ok()?;
        stmt.query_row([peer.0], |row| row.get::<_, String>(0)).ok().filter(|name| !name.is_empty())
    }

    fn created(&self, peer: &PeerId) {
        self.ledger.change(peer, |account| account.containers += 1);
    }
}

/// Reads a key file, or makes one that only its owner can read.
pub fn read_or_make_key(path: &Path) -> Result<Identity, SupervisorError> {
    let file = |source| SupervisorError::File { path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(bytes) => {
            let seed = bytes.try_into().map_err(|_| SupervisorError::BadKey { path: path.to_owned() })?;
            Ok(Identity::from_seed(seed))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let seed = crate::chance();
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut out = options.open(path).map_err(file)?;
            out.write_all(&seed).and_then(|()| out.sync_all()).map_err(file)?;
            Ok(Identity::from_seed(seed))
        }
        Err(error) => Err(file(error)),
    }
}

/// Makes a folder that only its owner can look into; one that is there stays as it is.
pub fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Makes an empty file that only its owner can read, unless it is there.
fn make_private_file(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Lets nobody but its owner look into a folder, whoever made it.
fn restrict_folder(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    let _ = folder;
    Ok(())
}

/// Lets nobody but its owner read a file, if it is there.
pub(crate) fn restrict(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    match std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        done => done?,
    }
    let _ = path;
    Ok(())
}

/// Adds a column to a table of an earlier version; nothing if it is there.
pub(crate) fn add_column(conn: &Connection, table: &str, column: &str) -> Result<(), rusqlite::Error> {
    let name = column.split(' ').next().unwrap_or_default();
    let sql = "SELECT count(*) FROM pragma_table_info(?) WHERE name = ?";
    let there: bool = conn.query_row(sql, [table, name], |row| row.get(0))?;
    if there { Ok(()) } else { conn.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piecewise_core::grant::Access;
    use piecewise_core::handshake::RefuseReason;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn opened() -> (tempfile::TempDir, Supervisor) {
        let folder = tempfile::tempdir().expect("a folder");
        let supervisor = Supervisor::open(folder.path()).expect("it opens");
        (folder, supervisor)
    }

    #[test]
    fn an_invite_works_once_and_not_after_it_expired() {
        let (_folder, supervisor) = opened();
        let grants = ["shop/*=write".parse().expect("a grant")];
        let invite =
            supervisor.invite(&grants, "ws://x", [1; 32], NOW, Timestamp(NOW.0 + 10)).expect("an invite");
        let (one, two) = (PeerId([1; 32]), PeerId([2; 32]));
        let admit = |peer, secret, now| supervisor.admit(peer, "", secret, now).expect("an answer");
        assert_eq!(admit(&one, None, NOW), Err(RefuseReason::Unknown));
        let late = Timestamp(NOW.0 + 10);
        assert_eq!(admit(&one, Some(invite.secret_hash()), late), Err(RefuseReason::BadInvite));
        assert_eq!(admit(&one, Some(invite.secret_hash()), NOW), Ok(()));
        assert_eq!(admit(&two, Some(invite.secret_hash()), NOW), Err(RefuseReason::BadInvite));
        assert_eq!(admit(&one, None, NOW), Ok(()));
        assert_eq!(supervisor.access(&one, "shop/orders"), Some(Access::Write));
        assert_eq!(supervisor.access(&one, "wages/all"), None);
    }

    #[test]
    fn a_revoked_key_may_nothing_also_when_another_process_revoked_it() {
        let (folder, supervisor) = opened();
        let grants = ["**=admin".parse().expect("a grant")];
        let invite =
            supervisor.invite(&grants, "ws://x", [1; 32], NOW, Timestamp(NOW.0 + 10)).expect("an invite");
        let peer = PeerId([1; 32]);
        supervisor
            .admit(&peer, "", Some(invite.secret_hash()), NOW)
            .expect("an answer")
            .expect("it is let in");
        assert!(supervisor.access(&peer, "shop/orders").is_some());
        let other = Supervisor::open(folder.path()).expect("it opens twice");
        assert!(other.revoke(&peer, NOW).expect("it is revoked"));
        supervisor.look();
        assert_eq!(supervisor.access(&peer, "shop/orders"), None);
        assert_eq!(supervisor.admit(&peer, "", None, NOW).expect("an answer"), Err(RefuseReason::Revoked));
    }

    #[test]
    fn a_grant_ends_at_its_time_and_a_cancelled_invite_lets_nobody_in() {
        let (_folder, supervisor) = opened();
        let read = ["shop/*=read".parse().expect("a grant")];
        let expires = Timestamp(NOW.0 + 1000);
        let [used, cancelled] =
            [1, 2].map(|n| supervisor.invite(&read, "ws://x", [n; 32], NOW, expires).expect("an invite"));
        let (one, two) = (PeerId([1; 32]), PeerId([2; 32]));
        let admit = |peer, invite: &Invite| supervisor.admit(peer, "a\nb", Some(invite.secret_hash()), NOW);
        assert_eq!(admit(&one, &used).expect("an answer"), Ok(()));
        assert_eq!(
            supervisor.peers().expect("a list")[0].name,
            "ab",
            "nothing in it moves a terminal's cursor"
        );
        assert_eq!(supervisor.open_invites().expect("a list").len(), 1);
        assert!(supervisor.cancel_invite(cancelled.secret_hash(), NOW).expect("it is cancelled"));
        assert!(!supervisor.cancel_invite(used.secret_hash(), NOW).expect("it was used"));
        assert_eq!(admit(&two, &cancelled).expect("an answer"), Err(RefuseReason::BadInvite));
        let write = "shop/*=write".parse().expect("a grant");
        let until = Some(Timestamp(NOW.0 + 10));
        assert!(supervisor.grant(&one, &write, until, NOW).expect("it is given"));
        supervisor.expire_grants(Timestamp(NOW.0 + 9)).expect("nothing is over");
        assert_eq!(supervisor.access(&one, "shop/orders"), Some(Access::Write));
        supervisor.expire_grants(Timestamp(NOW.0 + 10)).expect("it is over");
        assert_eq!(supervisor.access(&one, "shop/orders"), None);
    }

    #[cfg(unix)]
    #[test]
    fn whoever_made_the_folder_others_cannot_look_into_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("a mode");
        let _supervisor = Supervisor::open(folder.path()).expect("it opens");
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        for file in std::fs::read_dir(folder.path()).expect("files").flatten() {
            assert_eq!(mode(&file.path()), 0o600, "{}", file.path().display());
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_key_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, supervisor) = opened();
        let mode = std::fs::metadata(folder.path().join("server.key")).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Supervisor::open(folder.path()).expect("it opens again");
        assert_eq!(again.identity.peer_id(), supervisor.identity.peer_id());
        assert_eq!(again.realm, supervisor.realm);
    }
}
