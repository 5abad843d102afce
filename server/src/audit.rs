//! Audit: verifying, showing and exporting the supervisor's log.
//!
//! A verdict has three outcomes: it is sound, it was tampered with, or it could not be checked.

use crate::log::{Rows, continues, size};
use crate::supervisor::{Supervisor, SupervisorError};
use piecewise_core::id::SegmentId;
use piecewise_core::replica::Replica;
use piecewise_core::supervisor_log::entry::Event;
use piecewise_core::supervisor_log::note::{LogKey, Note, NoteError};
use piecewise_core::supervisor_log::tiles;
use piecewise_core::supervisor_log::tree::{Hash, Nodes};
use piecewise_core::supervisor_log::verify::{Tampered, Verifier};
use piecewise_core::supervisor_log::{Entry, tree};
use rusqlite::Connection;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The exit code after a log was found to be tampered with …
pub const TAMPERED: u8 = 1;
/// … and after it could not be checked.
const UNCHECKED: u8 = 2;

/// Why a log is not sound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// Something does not fit.
    #[error("{0}")]
    Tampered(#[from] Tampered),
    /// Something else than the log itself contradicts it.
    #[error("{what}")]
    Contradiction {
        /// What.
        what: String,
    },
    /// Something needed is not there or cannot be read.
    #[error("{what}")]
    Unchecked {
        /// What.
        what: String,
    },
}

impl Finding {
    /// Whether it is evidence, rather than a lack of it.
    fn is_evidence(&self) -> bool {
        !matches!(self, Self::Unchecked { .. } | Self::Tampered(Tampered::Note(NoteError::WrongOrigin)))
    }

    /// The verdict, as people read it.
    pub fn verdict(&self) -> String {
        let what = if self.is_evidence() { "was tampered with" } else { "could not be checked" };
        format!("the log {what}: {self}")
    }

    /// The code of the verdict, for programs.
    pub fn word(&self) -> &'static str {
        if self.is_evidence() { "tampered" } else { "unchecked" }
    }

    /// The exit code of `log verify`.
    pub fn exit_code(&self) -> u8 {
        if self.is_evidence() { TAMPERED } else { UNCHECKED }
    }
}

impl From<rusqlite::Error> for Finding {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unchecked { what: format!("supervisor.db cannot be read: {error}") }
    }
}

impl From<SupervisorError> for Finding {
    fn from(error: SupervisorError) -> Self {
        Self::Unchecked { what: error.to_string() }
    }
}

/// What was verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sound {
    /// Entries under the checkpoint.
    pub entries: u64,
    /// Entries after it, which no checkpoint covers yet.
    pub unsigned: u64,
    /// Receipts whose signatures hold.
    pub receipts: u64,
    /// Segments in the databases, all of which the log has.
    pub segments: u64,
}

/// Reads an older note that somebody kept. What is none, or is not by this log, is no evidence against it.
pub fn read_older_note(path: &Path, log: &LogKey) -> Result<Note, Finding> {
    let unchecked = |why: String| Finding::Unchecked {
        what: format!("{} is no checkpoint of this log: {why}", path.display()),
    };
    let text = String::from_utf8(read(path)?).map_err(|_| unchecked("it is no text".into()))?;
    let note: Note = text.parse().map_err(|error: NoteError| unchecked(error.to_string()))?;
    note.verify(log).map_err(|error| unchecked(error.to_string()))?;
    Ok(note)
}

fn read_note(path: &Path) -> Result<Note, Finding> {
    let text = read(path)?;
    let text = String::from_utf8(text).map_err(|_| malformed(path, "it is no text"))?;
    text.parse().map_err(|error: NoteError| Finding::Tampered(error.into()))
}

fn malformed(path: &Path, what: &str) -> Finding {
    Finding::Contradiction { what: format!("{}: {what}", path.display()) }
}

fn read(path: &Path) -> Result<Vec<u8>, Finding> {
    std::fs::read(path)
        .map_err(|error| Finding::Unchecked { what: format!("{} cannot be read: {error}", path.display()) })
}

/// Verifies exported files with nothing but the log's public key.
pub fn verify_folder(folder: &Path, key: &LogKey, older: &[Note]) -> Result<Sound, Finding> {
    let note = read_note(&folder.join("checkpoint"))?;
    let entries = note.checkpoint.size;
    let mut verifier = Verifier::new(key, note, older)?;
    let mut sound = Sound { entries, ..Sound::default() };
    for (index, width) in tiles::row(entries) {
        let path = folder.join(tiles::bundle_path(index, width));
        let at = index * tiles::WIDTH;
        let about = |error| match error {
            Finding::Unchecked { what } => {
                Finding::Unchecked { what: format!("entries from {at} on: {what}") }
            }
            other => other,
        };
        let bundle = read(&path).map_err(about)?;
        let hashes = read(&folder.join(tiles::tile_path(0, index, width))).map_err(about)?;
        let bundle = tiles::entries(&bundle, width)
            .ok_or_else(|| malformed(&path, &format!("entries from {at} on are cut off or damaged")))?;
        let (hashes, rest) = hashes.as_chunks::<32>();
        if hashes.len() as u64 != width || !rest.is_empty() {
            return Err(Tampered::Tile { level: 0, index }.into());
        }
        for (entry, hash) in bundle.into_iter().zip(hashes) {
            let (entry, _) = verifier.entry(entry, hash)?;
            sound.receipts += u64::from(is_receipt(&entry));
        }
    }
    for (level, count) in tiles::levels(entries).skip(1) {
        for (index, width) in tiles::row(count) {
            verifier.tile(level, index, &read(&folder.join(tiles::tile_path(level, index, width)))?)?;
        }
    }
    verifier.finish()?;
    Ok(sound)
}

fn is_receipt(entry: &Entry) -> bool {
    matches!(entry.event, Event::Delivered { receipt: Some(_), .. })
}

/// Verifies a server's own log, and that it and the databases tell of the same segments.
pub fn verify_server(supervisor: &Supervisor, older: &[Note]) -> Result<Sound, Finding> {
    let status = supervisor.log_status()?;
    if let Some(reason) = status.halted {
        return Err(Finding::Contradiction { what: reason });
    }
    let note = status.note.ok_or_else(|| Finding::Unchecked {
        what: "no checkpoint of this log was signed yet; the server signs one a second after it starts"
            .into(),
    })?;
    let conn = Connection::open(supervisor.folder().join("supervisor.db"))?;
    let mut sound = Sound { entries: note.checkpoint.size, ..Sound::default() };
    let mut verifier = Verifier::new(&status.key, note, older)?;
    let mut accepted = HashSet::new();
    let mut stmt = conn.prepare("SELECT no, hash, entry FROM log_entries ORDER BY no")?;
    let mut rows = stmt.query([])?;
    while let Some(row) = rows.next()? {
        let no: i64 = row.get(0)?;
        let cells = row.get::<_, Hash>(1).ok().zip(row.get_ref(2)?.as_bytes().ok());
        let Some((hash, bytes)) = cells else { return Err(Tampered::Entry { index: no as u64 }.into()) };
        if verifier.size() == sound.entries {
            sound.unsigned += 1;
            note_accepted(bytes, &mut accepted);
            continue;
        }
        if no as u64 != verifier.size() {
            return Err(Tampered::Entry { index: verifier.size() }.into());
        }
        let (entry, nodes) = verifier.entry(bytes, &hash)?;
        for (level, n, wanted) in nodes.into_iter().skip(1) {
            if Rows(&conn).node(level, n).ok() != Some(wanted) {
                return Err(Tampered::Tile { level, index: n }.into());
            }
        }
        sound.receipts += u64::from(is_receipt(&entry));
        note_accepted(bytes, &mut accepted);
    }
    drop(rows);
    verifier.finish()?;
    sound.segments = compare_databases(supervisor, &conn, accepted)?;
    Ok(sound)
}

fn note_accepted(entry: &[u8], accepted: &mut HashSet<SegmentId>) {
    if let Ok(Entry { event: Event::Accepted { segment, .. }, .. }) = Entry::decode(entry) {
        accepted.insert(segment);
    }
}

/// Compares the accepted segments with those in the databases; how many there are.
fn compare_databases(
    supervisor: &Supervisor,
    conn: &Connection,
    accepted: HashSet<SegmentId>,
) -> Result<u64, Finding> {
    let (mut found, mut stray) = (HashSet::new(), vec![]);
    for path in databases(supervisor.folder()) {
        let unreadable = |error: piecewise_core::replica::ReplicaError| Finding::Unchecked {
            what: format!("{}: {error}", path.display()),
        };
        let replica = Replica::open(&path, false, supervisor.identity.clone(), crate::chance());
        let replica = replica.map_err(unreadable)?;
        replica
            .each_segment(|container, segment| {
                found.insert(segment);
                if !accepted.contains(&segment) {
                    stray.push((container.to_owned(), segment));
                }
            })
            .map_err(unreadable)?;
        let waiting = replica.log_entries(usize::MAX >> 1).map_err(unreadable)?;
        let mut outbox = HashSet::new();
        waiting.iter().for_each(|(_, entry)| note_accepted(entry, &mut outbox));
        stray.retain(|(_, segment)| !outbox.contains(segment));
    }
    // The server may have brought them in while this was reading.
    let mut known = conn.prepare("SELECT 1 FROM log_entries WHERE segment = ?")?;
    for (container, segment) in stray {
        if !known.exists([segment.0])? {
            let what = format!("segment {segment} of {container} is in the database and not in the log");
            return Err(Finding::Contradiction { what });
        }
    }
    match accepted.iter().filter(|segment| !found.contains(*segment)).count() {
        0 => Ok(found.len() as u64),
        missing => Err(Finding::Contradiction {
            what: format!(
                "{missing} accepted segments are in the log and in no database: one was restored from an old backup, \
                 and gets them back as clients connect, or they were taken out"
            ),
        }),
    }
}

fn databases(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|f| f.path());
    let named = |p: &PathBuf| {
        p.extension().is_some_and(|e| e == "db")
            && p.file_stem().and_then(|s| s.to_str()).is_some_and(crate::databases::is_database_name)
    };
    files.filter(named).collect()
}

/// Writes checkpoint, tiles and entries as static files; how many entries.
pub fn export(supervisor: &Supervisor, folder: &Path) -> Result<u64, Finding> {
    let status = supervisor.log_status()?;
    let unchecked = |what: &str| Finding::Unchecked { what: what.to_owned() };
    let note = status.note.ok_or_else(|| unchecked("no checkpoint of this log was signed yet"))?;
    let conn = Connection::open(supervisor.folder().join("supervisor.db"))?;
    if !continues(&conn, &note.checkpoint)? {
        return Err(Tampered::Root { size: note.checkpoint.size }.into());
    }
    let entries = note.checkpoint.size;
    let write = |path: String, bytes: &[u8]| {
        let path = folder.join(path);
        let done =
            path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, bytes));
        done.map_err(|error| Finding::Unchecked { what: format!("{}: {error}", path.display()) })
    };
    let mut stmt = conn.prepare("SELECT entry FROM log_entries WHERE no >= ? AND no < ? ORDER BY no")?;
    for (index, width) in tiles::row(entries) {
        let from = (index * tiles::WIDTH) as i64;
        let mut rows = stmt.query([from, from + width as i64])?;
        let mut bundle = vec![];
        while let Some(row) = rows.next()? {
            tiles::put_entry(&mut bundle, &row.get::<_, Vec<u8>>(0)?);
        }
        write(tiles::bundle_path(index, width), &bundle)?;
    }
    for (level, count) in tiles::levels(entries) {
        for (index, width) in tiles::row(count) {
            let mut tile = vec![];
            for n in 0..width {
                tile.extend_from_slice(&Rows(&conn).node(level * 8, index * tiles::WIDTH + n)?);
            }
            write(tiles::tile_path(level, index, width), &tile)?;
        }
    }
    // Last: whoever reads while this writes finds all that the checkpoint tells of.
    write("checkpoint".into(), note.to_string().as_bytes())?;
    Ok(entries)
}

/// The proof that an entry is under the last checkpoint: the entry, the hashes to the root, the note.
pub fn prove(supervisor: &Supervisor, index: u64) -> Result<(Entry, Vec<Hash>, Note), Finding> {
    let status = supervisor.log_status()?;
    let note = status.note.filter(|note| index < note.checkpoint.size).ok_or_else(|| Finding::Unchecked {
        what: format!("no checkpoint covers an entry {index}; the log has {} entries", status.size),
    })?;
    let conn = Connection::open(supervisor.folder().join("supervisor.db"))?;
    let sql = "SELECT entry FROM log_entries WHERE no = ?";
    let bytes: Vec<u8> = conn.query_row(sql, [index as i64], |row| row.get(0))?;
    let entry = Entry::decode(&bytes).map_err(|source| Tampered::Unreadable { index, source })?;
    Ok((entry, tree::inclusion(&Rows(&conn), index, note.checkpoint.size)?, note))
}

/// Hands over entries from `from` on, in order, with their indexes.
pub fn each_entry(
    supervisor: &Supervisor,
    mut each: impl FnMut(u64, Result<Entry, piecewise_core::bytes::DecodeError>),
) -> Result<(), Finding> {
    let conn = Connection::open(supervisor.folder().join("supervisor.db"))?;
    let end = size(&conn)? as i64;
    let mut stmt = conn.prepare("SELECT no, entry FROM log_entries WHERE no < ? ORDER BY no")?;
    let mut rows = stmt.query([end])?;
    while let Some(row) = rows.next()? {
        each(row.get::<_, i64>(0)? as u64, Entry::decode(&row.get::<_, Vec<u8>>(1)?));
    }
    Ok(())
}

/// The segments of a row, named `database/table/key`.
pub fn segments_of(supervisor: &Supervisor, row: &str) -> Result<HashSet<SegmentId>, Finding> {
    let unchecked = |what: String| Finding::Unchecked { what };
    let mut parts = row.splitn(3, '/');
    let (Some(database), Some(table), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(unchecked(format!("{row:?} is no row; one is named DATABASE/TABLE/KEY")));
    };
    if !crate::databases::is_database_name(database) {
        return Err(unchecked(format!("{database:?} is no database's name")));
    }
    let path = supervisor.folder().join(format!("{database}.db"));
    if !path.exists() {
        return Err(unchecked(format!("there is no database {database}")));
    }
    let replica = Replica::open(&path, false, supervisor.identity.clone(), crate::chance());
    let segments = replica.and_then(|mut r| r.segments_of_row(table, key));
    Ok(segments.map_err(|e| unchecked(e.to_string()))?.into_iter().collect())
}
