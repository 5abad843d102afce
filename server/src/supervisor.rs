//! Supervisor: who is known, who may do what, and the server's own key. One SQLite file, `supervisor.db`.
//!
//! All SQL about peers, grants and invites is here. Commands such as `invite` write the file while the
//! server runs; the server notices at the next question.

use crate::ledger::{self, Ledger};
use crate::limits::Hit;
use crate::{log, status};
use piecewise_core::grant::Grant;
use piecewise_core::handshake::RefuseReason;
use piecewise_core::id::{PeerId, RealmId, Timestamp};
use piecewise_core::identity::Identity;
use piecewise_core::invite::Invite;
use piecewise_core::session::Authority;
use piecewise_core::supervisor_log::note::Note;
use piecewise_core::supervisor_log::tree::Edge;
use piecewise_core::supervisor_log::{Entry, Event};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS settings(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS peers(
  key BLOB PRIMARY KEY, name TEXT NOT NULL, joined INTEGER NOT NULL, revoked INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS grants(
  key BLOB NOT NULL, pattern TEXT NOT NULL, access TEXT NOT NULL, PRIMARY KEY (key, pattern)) WITHOUT ROWID;
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

/// Who may do what on this server.
#[derive(Debug)]
pub struct Supervisor {
    /// The server's key pair.
    pub identity: Identity,
    /// The server's name for all it holds.
    pub realm: RealmId,
    pub(crate) log_key: Identity,
    pub(crate) ledger: Ledger,
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) conn: Connection,
    version: i64,
    grants: HashMap<PeerId, Arc<[Grant]>>,
    /// The right edge of the log, as it was after the last append here.
    pub(crate) edge: Option<Edge>,
    /// Notes signed lately.
    pub(crate) notes: VecDeque<Note>,
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
        let identity = read_or_make_key(&folder.join("server.key"))?;
        let path = folder.join("supervisor.db");
        let conn = Connection::open(&path)?;
        restrict(&path).map_err(file(&path))?;
        conn.busy_timeout(Duration::from_secs(5))?;
        conn.pragma_update(None, "journal_mode", "wal")?;
        conn.execute_batch(TABLES)?;
        conn.execute_batch(log::TABLES)?;
        conn.execute_batch(ledger::TABLE)?;
        conn.execute_batch(status::TABLE)?;
        let ledger = Ledger::read(&conn)?;
        conn.execute("INSERT OR IGNORE INTO settings VALUES ('realm', randomblob(16))", [])?;
        let realm = conn.query_row("SELECT value FROM settings WHERE name = 'realm'", [], |r| r.get(0))?;
        let state = State { conn, version: -1, grants: HashMap::new(), edge: None, notes: VecDeque::new() };
        let (log_key, folder) = (log::key(folder)?, folder.to_owned());
        Ok(Self { identity, realm: RealmId(realm), log_key, ledger, folder, state: Mutex::new(state) })
    }

    /// Opens the data folder of a server that has run.
    pub fn existing(folder: &Path) -> Result<Self, SupervisorError> {
        match folder.join("supervisor.db").exists() {
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
        let list: Vec<_> = grants.iter().map(Grant::to_string).collect();
        let (secret_hash, grants) = (invite.secret_hash(), list.join("\n"));
        self.logged(now, |tx| {
            tx.execute(
                "INSERT INTO invites(hash, grants, expires) VALUES (?, ?, ?)",
                params![secret_hash, grants, expires.0 as i64],
            )?;
            Ok(Some(Event::Invited { secret_hash, expires, grants }))
        })?;
        Ok(invite)
    }

    /// Does something that the log shall tell of, in one transaction; false if there was nothing to do.
    fn logged(
        &self,
        now: Timestamp,
        work: impl FnOnce(&Connection) -> Result<Option<Event>, rusqlite::Error>,
    ) -> Result<bool, SupervisorError> {
        let mut state = self.state();
        state.version = -1;
        let tx = state.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Some(event) = work(&tx)? else { return Ok(false) };
        let entry = Entry { time: now, event }.encode();
        log::append(&tx, &mut None, std::iter::once(&entry[..]))?;
        tx.commit()?;
        Ok(true)
    }

    /// Decides whether a device is let in; an invite is used up in the same step.
    pub fn admit(
        &self,
        peer: &PeerId,
        name: &str,
        invite: Option<[u8; 32]>,
        now: Timestamp,
    ) -> Result<Result<(), RefuseReason>, SupervisorError> {
        let mut state = self.state();
        let tx = state.conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let revoked: Option<bool> = tx
            .query_row("SELECT revoked IS NOT NULL FROM peers WHERE key = ?", [peer.0], |r| r.get(0))
            .optional()?;
        if revoked == Some(true) {
            return Ok(Err(RefuseReason::Revoked));
        }
        let Some(hash) = invite else {
            return Ok(if revoked.is_some() { Ok(()) } else { Err(RefuseReason::Unknown) });
        };
        let used = tx.execute(
            "UPDATE invites SET used_by = ?1 WHERE hash = ?2 AND used_by IS NULL AND expires > ?3",
            params![peer.0, hash, now.0 as i64],
        )?;
        if used == 0 {
            return Ok(Err(RefuseReason::BadInvite));
        }
        tx.execute(
            "INSERT INTO peers(key, name, joined) VALUES (?1, ?2, ?3) ON CONFLICT(key) DO UPDATE SET name = ?2",
            params![peer.0, name, now.0 as i64],
        )?;
        let grants: String =
            tx.query_row("SELECT grants FROM invites WHERE hash = ?", [hash], |r| r.get(0))?;
        for grant in grants.lines().filter_map(|g| g.parse::<Grant>().ok()) {
            tx.execute(
                "REPLACE INTO grants VALUES (?, ?, ?)",
                params![peer.0, grant.pattern.as_str(), grant.access.to_string()],
            )?;
        }
        let event = Event::Joined { peer: *peer, name: name.to_owned(), secret_hash: hash };
        log::append(&tx, &mut None, std::iter::once(&Entry { time: now, event }.encode()[..]))?;
        tx.commit()?;
        state.version = -1;
        Ok(Ok(()))
    }

    /// Devices that joined.
    pub fn peers(&self) -> Result<Vec<Peer>, SupervisorError> {
        let mut state = self.state();
        state.refresh()?;
        let mut stmt =
            state.conn.prepare("SELECT key, name, joined, revoked IS NOT NULL FROM peers ORDER BY joined")?;
        let rows = stmt.query_map([], |r| {
            let key = PeerId(r.get(0)?);
            let joined = Timestamp(r.get::<_, i64>(2)? as u64);
            let grants = state.grants.get(&key).map(|grants| grants.to_vec()).unwrap_or_default();
            Ok(Peer { key, name: r.get(1)?, joined, revoked: r.get(3)?, grants })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Takes all rights from a device; false if it is not known.
    pub fn revoke(&self, peer: &PeerId, now: Timestamp) -> Result<bool, SupervisorError> {
        self.logged(now, |tx| {
            let sql = "UPDATE peers SET revoked = ? WHERE key = ? AND revoked IS NULL";
            let done = tx.execute(sql, params![now.0 as i64, peer.0])? > 0;
            Ok(done.then_some(Event::Revoked { peer: *peer }))
        })
    }

    /// Gives a device a grant, in place of one with the same pattern; false if it is not known.
    pub fn grant(&self, peer: &PeerId, grant: &Grant, now: Timestamp) -> Result<bool, SupervisorError> {
        self.logged(now, |tx| {
            let sql = "REPLACE INTO grants SELECT key, ?2, ?3 FROM peers WHERE key = ?1";
            let done =
                tx.execute(sql, params![peer.0, grant.pattern.as_str(), grant.access.to_string()])? > 0;
            Ok(done.then(|| Event::Granted { peer: *peer, grant: grant.to_string() }))
        })
    }

    /// Takes a grant from a device; false if it had none of this pattern.
    pub fn ungrant(&self, peer: &PeerId, pattern: &str, now: Timestamp) -> Result<bool, SupervisorError> {
        self.logged(now, |tx| {
            let sql = "DELETE FROM grants WHERE key = ? AND pattern = ?";
            let done = tx.execute(sql, params![peer.0, pattern])? > 0;
            Ok(done.then(|| Event::Ungranted { peer: *peer, grant: pattern.to_owned() }))
        })
    }

    /// What a device may do; nothing if it is unknown or revoked.
    pub fn grants(&self, peer: &PeerId) -> Arc<[Grant]> {
        if *peer == self.identity.peer_id() {
            return "**=admin".parse().into_iter().collect();
        }
        let mut state = self.state();
        match state.refresh() {
            Ok(()) => state.grants.get(peer).cloned().unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "grants cannot be read; nothing is granted");
                Arc::default()
            }
        }
    }
}

impl State {
    fn refresh(&mut self) -> Result<(), rusqlite::Error> {
        let version = self.conn.prepare_cached("PRAGMA data_version")?.query_row([], |r| r.get(0))?;
        if version == self.version {
            return Ok(());
        }
        let mut grants: HashMap<PeerId, Vec<Grant>> = HashMap::new();
        let sql = "SELECT g.key, g.pattern || '=' || g.access FROM grants g JOIN peers p USING (key)
                   WHERE p.revoked IS NULL";
        let mut stmt = self.conn.prepare_cached(sql)?;
        let mut rows = stmt.query([])?;
        while let Some(row) = rows.next()? {
            if let Ok(grant) = row.get::<_, String>(1)?.parse() {
                grants.entry(PeerId(row.get(0)?)).or_default().push(grant);
            }
        }
        self.grants = grants.into_iter().map(|(peer, grants)| (peer, grants.into())).collect();
        self.version = version;
        Ok(())
    }
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

    fn may_create(&self, peer: &PeerId) -> bool {
        let created = self.ledger.account(peer).containers;
        self.ledger.within(Hit::Containers, |limits| created < limits.containers_per_peer)
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

fn restrict(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use piecewise_core::grant::Access;

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
        assert_eq!(supervisor.access(&peer, "shop/orders"), None);
        assert_eq!(supervisor.admit(&peer, "", None, NOW).expect("an answer"), Err(RefuseReason::Revoked));
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
