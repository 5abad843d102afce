//! The supervisor's log in `supervisor.db`: leaves, hashes of complete subtrees, the last checkpoint, cosignatures.
//!
//! Leaves are added in the caller's transaction. A checkpoint is signed by a key of its own, at most once a second, and
//! only if it continues the last one. The last note stands in a file beside the database too: a database that was
//! restored from an old backup does not continue it, which is noticed at the next start, or as soon as a client shows a
//! newer note. Then nothing is signed until the operator declares a new origin.

use crate::supervisor::{State, Supervisor, SupervisorError};
use piecewise_core::id::{PeerId, RealmId, SegmentId, Timestamp};
use piecewise_core::identity::Identity;
use piecewise_core::supervisor_log::note::{Checkpoint, Cosignature, LogKey, Note};
use piecewise_core::supervisor_log::talk::{LogMessage, Proof, Told, sign_statement};
use piecewise_core::supervisor_log::tree::{self, Edge, Hash, Nodes, leaf_hash};
use piecewise_core::supervisor_log::{Entry, Event};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::path::Path;

/// The last note, beside the database.
pub const CHECKPOINT_FILE: &str = "log.checkpoint";
/// The log's own key.
pub(crate) const KEY_FILE: &str = "log.key";

pub(crate) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS log_entries(
  no INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, segment BLOB, entry BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS log_segments ON log_entries(segment) WHERE segment IS NOT NULL;
CREATE TABLE IF NOT EXISTS log_nodes(
  level INTEGER NOT NULL, n INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, n)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cosignatures(
  witness BLOB PRIMARY KEY, size INTEGER NOT NULL, seconds INTEGER NOT NULL, signature BLOB NOT NULL) WITHOUT ROWID;
";

/// Hashes from the database.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'c>(pub &'c Connection);

impl Nodes for Rows<'_> {
    type Error = rusqlite::Error;

    fn node(&self, level: u8, n: u64) -> Result<Hash, rusqlite::Error> {
        let sql = match level {
            0 => "SELECT hash FROM log_entries WHERE no = ?2 AND ?1 = 0",
            _ => "SELECT hash FROM log_nodes WHERE level = ?1 AND n = ?2",
        };
        self.0.prepare_cached(sql)?.query_row(params![level, n as i64], |row| row.get(0))
    }
}

/// Leaves in the log.
pub fn size(conn: &Connection) -> Result<u64, rusqlite::Error> {
    let sql = "SELECT coalesce(max(no) + 1, 0) FROM log_entries";
    conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0)).map(|n| n as u64)
}

/// Adds leaves that the log does not have; call it in a transaction. `edge` is that of an earlier call, if it is at hand.
pub(crate) fn append<'e>(
    conn: &Connection,
    edge: &mut Option<Edge>,
    entries: impl Iterator<Item = &'e [u8]>,
) -> Result<(), rusqlite::Error> {
    let size = size(conn)?;
    let mut new = match edge.take().filter(|edge| edge.size() == size) {
        Some(edge) => edge,
        None => Edge::read(&Rows(conn), size)?,
    };
    let mut leaf = conn.prepare_cached("INSERT OR IGNORE INTO log_entries VALUES (?, ?, ?, ?)")?;
    let mut node = conn.prepare_cached("INSERT INTO log_nodes VALUES (?, ?, ?)")?;
    for entry in entries {
        let hash = leaf_hash(entry);
        let event = Entry::decode(entry).ok().map(|entry| entry.event);
        let accepted = match &event {
            Some(Event::Accepted { segment, .. }) => Some(segment.0),
            _ => None,
        };
        if leaf.execute(params![new.size() as i64, hash, accepted, entry])? == 0 {
            continue;
        }
        for (level, n, hash) in new.append(hash).into_iter().skip(1) {
            node.execute(params![level, n as i64, hash])?;
        }
    }
    *edge = Some(new);
    Ok(())
}

fn setting<T: rusqlite::types::FromSql>(conn: &Connection, name: &str) -> Result<Option<T>, rusqlite::Error> {
    let sql = "SELECT value FROM settings WHERE name = ?";
    conn.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()
}

fn set(conn: &Connection, name: &str, value: impl rusqlite::ToSql) -> Result<(), rusqlite::Error> {
    conn.prepare_cached("REPLACE INTO settings VALUES (?, ?)")?.execute(params![name, value]).map(drop)
}

/// The name of a log: the realm, and which one of its logs it is.
fn origin(realm: &RealmId, number: i64) -> String {
    let realm: String = realm.0.iter().map(|b| format!("{b:02x}")).collect();
    format!("piecewise/{realm}/{number}")
}

/// Writes a small file so that after a crash the old or the new one is there.
pub(crate) fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, path)
}

/// How the log is.
#[derive(Debug, Clone)]
pub struct LogStatus {
    /// Its name and public key.
    pub key: LogKey,
    /// Leaves.
    pub size: u64,
    /// The last checkpoint.
    pub note: Option<Note>,
    /// Why nothing is signed, if so.
    pub halted: Option<String>,
}

impl Supervisor {
    /// How the log is.
    pub fn log_status(&self) -> Result<LogStatus, SupervisorError> {
        let state = self.state();
        self.status_of(&state.conn)
    }

    fn status_of(&self, conn: &Connection) -> Result<LogStatus, SupervisorError> {
        let number = setting(conn, "log_number")?.unwrap_or(1);
        let key = LogKey { origin: origin(&self.realm, number), key: self.log_key.peer_id() };
        let note: Option<String> = setting(conn, "log_note")?;
        let note = note.and_then(|note| note.parse::<Note>().ok()).filter(|note| note.verify(&key).is_ok());
        Ok(LogStatus { key, size: size(conn)?, note, halted: setting(conn, "log_halted")? })
    }

    /// How long ago the last checkpoint was signed.
    pub(crate) fn checkpoint_age(&self) -> Option<std::time::Duration> {
        let written =
            std::fs::metadata(self.folder().join(CHECKPOINT_FILE)).and_then(|m| m.modified()).ok()?;
        Some(crate::system_time(crate::now()).duration_since(written).unwrap_or_default())
    }

    /// Brings entries into the log, in order; those that it has are left out.
    pub fn log_append(&self, entries: &[(i64, Vec<u8>)]) -> Result<(), SupervisorError> {
        let mut state = self.state();
        let mut edge = state.edge.take();
        let tx = state.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        append(&tx, &mut edge, entries.iter().map(|(_, entry)| &entry[..]))?;
        tx.commit()?;
        state.edge = edge;
        Ok(())
    }

    /// Compares the log with the note that was signed last; call it at the start.
    pub fn log_check(&self) -> Result<(), SupervisorError> {
        let state = self.state();
        let status = self.status_of(&state.conn)?;
        let path = self.folder().join(CHECKPOINT_FILE);
        let left = std::fs::read_to_string(&path).ok().and_then(|text| text.parse::<Note>().ok());
        let notes = [left, status.note.clone()].into_iter().flatten();
        for note in notes.filter(|note| note.verify(&status.key).is_ok()) {
            if status.halted.is_none() && !continues(&state.conn, &note.checkpoint)? {
                halt(&state.conn, "the log does not continue the checkpoint that was signed last")?;
            }
        }
        if let Some(reason) = self.status_of(&state.conn)?.halted {
            report_halted(&reason);
        }
        Ok(())
    }

    /// Signs a checkpoint if the log has grown; call it at most once a second.
    pub fn log_sign(&self) -> Result<(), SupervisorError> {
        let mut state = self.state();
        let status = self.status_of(&state.conn)?;
        let has_grown = status.note.as_ref().is_none_or(|note| status.size > note.checkpoint.size);
        if status.halted.is_some() || !has_grown {
            return Ok(());
        }
        let tx = state.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(note) = &status.note
            && !continues(&tx, &note.checkpoint)?
        {
            let reason = "the log does not continue the checkpoint that was signed last";
            halt(&tx, reason)?;
            report_halted(reason);
            tx.commit()?;
            state.told = None;
            return Ok(());
        }
        let size = size(&tx)?;
        let root = tree::root(&Rows(&tx), size)?;
        let note = Checkpoint { origin: status.key.origin, size, root }.sign(&self.log_key);
        set(&tx, "log_note", note.to_string())?;
        tx.commit()?;
        state.told = None;
        state.notes.push_back(note.clone());
        if state.notes.len() > NOTES_KEPT {
            state.notes.pop_front();
        }
        let path = self.folder().join(CHECKPOINT_FILE);
        write_whole(&path, &note.to_string()).map_err(|source| SupervisorError::File { path, source })
    }

    /// Declares that the log goes on under a new name; returns it. The old name's last note becomes a leaf.
    pub fn log_new_origin(&self, now: Timestamp) -> Result<LogKey, SupervisorError> {
        let mut state = self.state();
        let status = self.status_of(&state.conn)?;
        let path = self.folder().join(CHECKPOINT_FILE);
        let left = std::fs::read_to_string(&path).unwrap_or_default();
        let number = setting(&state.conn, "log_number")?.unwrap_or(1) + 1;
        let key = LogKey { origin: origin(&self.realm, number), key: status.key.key };
        let before = left.parse::<Note>().ok().map(|note| note.to_string()).unwrap_or_default();
        let entry = Entry { time: now, event: Event::Origin { origin: key.origin.clone(), before } };
        let tx = state.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        append(&tx, &mut None, std::iter::once(&entry.encode()[..]))?;
        set(&tx, "log_number", number)?;
        tx.execute("DELETE FROM settings WHERE name IN ('log_note', 'log_halted')", [])?;
        tx.commit()?;
        (state.edge, state.told) = (None, None);
        drop(state);
        self.log_sign()?;
        Ok(key)
    }

    /// What is told of the log now, but for a proof. It is signed once, not for each who asks.
    fn told(&self, state: &mut State) -> Result<Told, SupervisorError> {
        let version = state.data_version()?;
        if let Some((at, told)) = &state.told
            && *at == version
        {
            return Ok(told.clone());
        }
        let status = self.status_of(&state.conn)?;
        let statement = sign_statement(&self.identity, &status.key);
        let note = status.note.filter(|_| status.halted.is_none());
        let told = Told { log: status.key, statement, note, proof: vec![] };
        state.told = Some((version, told.clone()));
        Ok(told)
    }

    /// Answers a client about the log; None: there is nothing to say.
    pub(crate) fn log_answer(
        &self,
        peer: &PeerId,
        message: LogMessage,
    ) -> Result<Option<LogMessage>, SupervisorError> {
        if message == LogMessage::AskStatus {
            return Ok(Some(LogMessage::StatusLink(self.status_link_for(peer)?)));
        }
        let mut state = self.state();
        Ok(match message {
            LogMessage::Ask { origin, size, root } => {
                let told = self.told(&mut state)?;
                let known = origin == told.log.origin;
                if let Some(checkpoint) = told.note.as_ref().map(|n| &n.checkpoint)
                    && known
                    && (checkpoint.size, checkpoint.root) == (size, root)
                {
                    return Ok(Some(LogMessage::Same));
                }
                let proof = match &told.note {
                    Some(note) if known && size <= note.checkpoint.size => {
                        tree::consistency(&Rows(&state.conn), size, note.checkpoint.size)?
                    }
                    _ => vec![],
                };
                Some(LogMessage::Told(Told { proof, ..told }))
            }
            LogMessage::Cosigned(cosignature) => {
                let signed = state.notes.iter().rev().find(|n| n.check_cosignature(&cosignature).is_ok());
                if let Some(size) = signed.filter(|_| cosignature.witness == *peer).map(|n| n.checkpoint.size)
                {
                    state.cosigned.insert(*peer, (size, cosignature));
                }
                None
            }
            LogMessage::Prove { segment, size } => Some(prove(&state.conn, segment, size)?),
            LogMessage::Alarm(note) => {
                let status = self.status_of(&state.conn)?;
                if note.verify(&status.key).is_ok()
                    && status.halted.is_none()
                    && !continues(&state.conn, &note.checkpoint)?
                {
                    let reason =
                        format!("client {} has a checkpoint that the log does not continue", peer.short());
                    halt(&state.conn, &reason)?;
                    state.told = None;
                    report_halted(&reason);
                }
                None
            }
            _ => None,
        })
    }
}

/// Notes that clients may still cosign.
pub(crate) const NOTES_KEPT: usize = 64;

/// Whether the log begins with what a checkpoint says.
pub(crate) fn continues(conn: &Connection, checkpoint: &Checkpoint) -> Result<bool, rusqlite::Error> {
    Ok(checkpoint.size <= size(conn)? && tree::root(&Rows(conn), checkpoint.size)? == checkpoint.root)
}

fn halt(conn: &Connection, reason: &str) -> Result<(), rusqlite::Error> {
    set(conn, "log_halted", reason)
}

fn report_halted(reason: &str) {
    tracing::error!(
        reason,
        "supervisor.db seems to be restored from a backup: no checkpoint is signed, and clients show this server as \
         unverified; data sync as before. `piecewise-server log new-origin` declares a new log"
    );
}

/// Writes cosignatures down.
pub(crate) fn keep_cosignatures<'c>(
    conn: &Connection,
    cosigned: impl Iterator<Item = &'c (u64, Cosignature)>,
) -> Result<(), rusqlite::Error> {
    let sql = "INSERT INTO cosignatures VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT DO UPDATE SET size = ?2, seconds = ?3, signature = ?4 WHERE size <= ?2";
    let mut stmt = conn.prepare_cached(sql)?;
    for (size, c) in cosigned {
        stmt.execute(params![c.witness.0, *size as i64, c.seconds as i64, c.signature])?;
    }
    Ok(())
}

/// The proof that a leaf says the segment was accepted, in the log as it was at `size`.
fn prove(conn: &Connection, segment: SegmentId, size: u64) -> Result<LogMessage, rusqlite::Error> {
    let sql = "SELECT no, entry FROM log_entries WHERE segment = ? ORDER BY no LIMIT 1";
    let found = conn
        .prepare_cached(sql)?
        .query_row([segment.0], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))
        .optional()?;
    match found {
        Some((index, entry)) if index < size && size <= self::size(conn)? => {
            let proof = tree::inclusion(&Rows(conn), index, size)?;
            Ok(LogMessage::Proof(Proof { size, index, entry, proof }))
        }
        _ => Ok(LogMessage::Unknown(segment)),
    }
}

/// A key pair that only signs notes.
pub(crate) fn key(folder: &Path) -> Result<Identity, SupervisorError> {
    crate::supervisor::read_or_make_key(&folder.join(KEY_FILE))
}
