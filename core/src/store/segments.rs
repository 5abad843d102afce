//! Segments on disk: the feed of each container, and cursors into the feeds of peers.
//!
//! A segment has a number of its own in this file (`no`), which never changes while it is here, and a
//! place in its container's feed (`seq`), which changes when one before it is taken out.

use super::StoreError;
use crate::frame::Template;
use crate::id::{Actor, PeerId, ReplicaId, SegmentId, Seq, Timestamp};
use crate::message::Cursor;
use crate::segment::{
    ACCEPTED_LEN, Acceptance, HEADER_LEN, Segment, row_count, stored_acceptance, with_acceptance,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::sync::Arc;

/// Cursors kept for each container and peer.
const CURSORS_MAX: i64 = 8;

/// Where a segment came from: the peer's number here (0: it was captured here) and its seq there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) peer: i64,
    pub(crate) seq: Seq,
}

impl Origin {
    /// Captured here.
    pub(crate) const HERE: Self = Self { peer: 0, seq: Seq(0) };
}

/// A segment's line in the feed, without its bytes.
#[derive(Debug, Clone)]
pub(crate) struct FeedLine {
    pub(crate) no: i64,
    pub(crate) cursor: Cursor,
    pub(crate) id: SegmentId,
    pub(crate) origin: Origin,
    /// Whether all its changes are plain first inserts.
    pub(crate) is_plain: bool,
}

const LINE: &str = "no, seq, hash, id, peer, peer_seq, outline IS NOT NULL";

fn line(row: &Row<'_>) -> rusqlite::Result<FeedLine> {
    Ok(FeedLine {
        no: row.get(0)?,
        cursor: Cursor { seq: Seq(row.get::<_, i64>(1)? as u64), hash: row.get(2)? },
        id: SegmentId(row.get(3)?),
        origin: Origin { peer: row.get(4)?, seq: Seq(row.get::<_, i64>(5)? as u64) },
        is_plain: row.get(6)?,
    })
}

/// Stores a segment at `cursor` in its container's feed; its number here.
pub(crate) fn append(
    conn: &Connection,
    container: i64,
    cursor: &Cursor,
    origin: Origin,
    segment: &Segment,
) -> Result<i64, StoreError> {
    conn.prepare_cached(
        "INSERT INTO piecewise_segments(container, seq, id, hash, peer, peer_seq, actor, outline, bytes)
         VALUES (?,?,?,?,?,?,?,?,?)",
    )?
    .execute(params![
        container,
        cursor.seq.0 as i64,
        segment.id.0,
        cursor.hash,
        origin.peer,
        origin.seq.0 as i64,
        segment.actor.0,
        segment.outline()?.map(|template| template.to_bytes()),
        &segment.bytes()[..]
    ])?;
    Ok(conn.last_insert_rowid())
}

/// The number of the last segment in the file; 0: there is none.
pub(crate) fn last(conn: &Connection) -> Result<i64, StoreError> {
    let sql = "SELECT coalesce(max(no), 0) FROM piecewise_segments";
    Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// The number of a segment that is here.
pub(crate) fn find(conn: &Connection, container: i64, id: &SegmentId) -> Result<Option<i64>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT no FROM piecewise_segments WHERE container = ? AND id = ?")?;
    Ok(stmt.query_row(params![container, id.0], |row| row.get(0)).optional()?)
}

/// Where a segment is in its container's feed.
pub(crate) fn seq_of(conn: &Connection, no: i64) -> Result<Seq, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT seq FROM piecewise_segments WHERE no = ?")?;
    Ok(stmt.query_row([no], |row| row.get::<_, i64>(0)).map(|seq| Seq(seq as u64))?)
}

/// Where a segment came from.
pub(crate) fn origin(conn: &Connection, no: i64) -> Result<Origin, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT peer, peer_seq FROM piecewise_segments WHERE no = ?")?;
    let origin = |row: &Row<'_>| Ok(Origin { peer: row.get(0)?, seq: Seq(row.get::<_, i64>(1)? as u64) });
    Ok(stmt.query_row([no], origin)?)
}

/// The running hash at `seq`; the start's is all zero.
pub(crate) fn hash_at(conn: &Connection, container: i64, seq: Seq) -> Result<Option<[u8; 32]>, StoreError> {
    if seq == Seq(0) {
        return Ok(Some(Cursor::START.hash));
    }
    let mut stmt =
        conn.prepare_cached("SELECT hash FROM piecewise_segments WHERE container = ? AND seq = ?")?;
    Ok(stmt.query_row(params![container, seq.0 as i64], |row| row.get(0)).optional()?)
}

/// At most `limit` lines of the feed after `seq`.
pub(crate) fn after(
    conn: &Connection,
    container: i64,
    seq: Seq,
    limit: usize,
) -> Result<Vec<FeedLine>, StoreError> {
    let sql =
        format!("SELECT {LINE} FROM piecewise_segments WHERE container = ? AND seq > ? ORDER BY seq LIMIT ?");
    let mut stmt = conn.prepare_cached(&sql)?;
    let rows = stmt.query_map(params![container, seq.0 as i64, limit as i64], line)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The bytes of a segment.
pub(crate) fn bytes(conn: &Connection, no: i64) -> Result<Arc<[u8]>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT bytes FROM piecewise_segments WHERE no = ?")?;
    stmt.query_row([no], |row| Ok(Arc::from(row.get_ref(0)?.as_blob()?)))
        .optional()?
        .ok_or(StoreError::Damaged { what: "a segment that a row refers to is missing" })
}

/// A segment's bytes as they are sent: on a device with the acceptance that it was told of. A server that was restored to before it
/// knows by its own word again when it accepted the segment, as other devices do.
pub(crate) fn outgoing(
    conn: &Connection,
    container: i64,
    no: i64,
    is_server: bool,
) -> Result<Arc<[u8]>, StoreError> {
    let bytes = bytes(conn, no)?;
    let end = bytes.len().saturating_sub(ACCEPTED_LEN);
    // One that came back from a server has it already.
    if is_server || stored_acceptance(&bytes, &bytes[end..], bytes.len()).is_some() {
        return Ok(bytes);
    }
    let told = told_acceptance(conn, container, no)?;
    Ok(told.map_or(bytes.clone(), |(acceptance, signature)| with_acceptance(&bytes, &acceptance, &signature)))
}

/// A segment, opened: it was checked before it was stored.
pub(crate) fn open(conn: &Connection, no: i64) -> Result<Segment, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT id, actor, bytes FROM piecewise_segments WHERE no = ?")?;
    let mut rows = stmt.query([no])?;
    let Some(row) = rows.next()? else {
        return Err(StoreError::Damaged { what: "a segment that a row refers to is missing" });
    };
    let (id, actor) = (SegmentId(row.get(0)?), Actor(row.get(1)?));
    let damaged = StoreError::Damaged { what: "a stored segment" };
    let Ok(bytes) = row.get_ref(2)?.as_blob() else { return Err(damaged) };
    Segment::open_stored(Arc::from(bytes), id, actor).map_err(|_| damaged)
}

/// The actor of a segment, and the template if all its changes are plain inserts by one.
pub(crate) fn outline(conn: &Connection, no: i64) -> Result<Option<(Actor, Template)>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT actor, outline FROM piecewise_segments WHERE no = ?")?;
    let found = stmt.query_row([no], |row| Ok((Actor(row.get(0)?), row.get::<_, Option<Vec<u8>>>(1)?)));
    let Some((actor, Some(bytes))) = found.optional()? else { return Ok(None) };
    let damaged = |_| StoreError::Damaged { what: "the outline of a stored segment" };
    Ok(Some((actor, Template::from_bytes(&bytes).map_err(damaged)?)))
}

/// The numbers of an author's segments in a container whose latest change is not before a time.
pub(crate) fn of_author(
    conn: &Connection,
    container: i64,
    author: &PeerId,
    since: Timestamp,
) -> Result<Vec<i64>, StoreError> {
    // In a header the author stands behind the version and the container; an actor begins with the time.
    let sql =
        "SELECT no FROM piecewise_segments WHERE container = ? AND substr(bytes, 34, 32) = ? AND actor >= ?";
    let mut stmt = conn.prepare_cached(sql)?;
    let time = &since.0.min(Timestamp::MAX.0).to_be_bytes()[2..];
    let rows = stmt.query_map(params![container, author.0, time], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// When a segment was accepted first, as its bytes say or as its author was told.
pub(crate) fn acceptance(
    conn: &Connection,
    container: i64,
    no: i64,
) -> Result<Option<(Acceptance, [u8; 64])>, StoreError> {
    let sql = "SELECT substr(bytes, 1, ?2), substr(bytes, -?3), length(bytes) FROM piecewise_segments WHERE no = ?1";
    let mut stmt = conn.prepare_cached(sql)?;
    let parts = stmt.query_row(params![no, HEADER_LEN as i64, ACCEPTED_LEN as i64], |row| {
        let bytes = |n: usize| row.get_ref(n).map(|v| v.as_blob().unwrap_or(&[]).to_vec());
        Ok((bytes(0)?, bytes(1)?, row.get::<_, i64>(2)? as usize))
    });
    let Some((header, end, len)) = parts.optional()? else { return Ok(None) };
    if let Some(found) = stored_acceptance(&header, &end, len) {
        return Ok(Some(found));
    }
    told_acceptance(conn, container, no)
}

/// When a segment that was captured here was accepted, as far as it was told.
fn told_acceptance(
    conn: &Connection,
    container: i64,
    no: i64,
) -> Result<Option<(Acceptance, [u8; 64])>, StoreError> {
    let sql = "SELECT server, time, signature FROM piecewise_accepted WHERE container = ? AND segment = ?";
    let mut stmt = conn.prepare_cached(sql)?;
    let told = stmt.query_row([container, no], |row| {
        let (server, time) = (PeerId(row.get(0)?), Timestamp(row.get::<_, i64>(1)? as u64));
        Ok((Acceptance { server, time }, row.get(2)?))
    });
    Ok(told.optional()?)
}

/// Notes when a segment that was captured here was accepted; whether that is new.
pub(crate) fn note_acceptance(
    conn: &Connection,
    container: i64,
    no: i64,
    acceptance: &Acceptance,
    signature: &[u8; 64],
) -> Result<bool, StoreError> {
    let sql = "INSERT OR IGNORE INTO piecewise_accepted(container, segment, time, server, signature) VALUES (?, ?, ?, ?, ?)";
    let mut stmt = conn.prepare_cached(sql)?;
    let time = acceptance.time.0 as i64;
    Ok(stmt.execute(params![container, no, time, acceptance.server.0, signature])? > 0)
}

/// Forgets at which places of a peer's feed segments came from it that stood after one.
pub(crate) fn disown(conn: &Connection, container: i64, peer: i64, after: Seq) -> Result<(), StoreError> {
    let sql =
        "UPDATE piecewise_segments SET peer_seq = ?4 WHERE container = ?1 AND peer = ?2 AND peer_seq > ?3";
    conn.prepare_cached(sql)?.execute(params![container, peer, after.0 as i64, i64::MAX])?;
    Ok(())
}

/// Whether a container has segments that were written here.
pub(crate) fn any_own(conn: &Connection, container: i64) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM piecewise_segments WHERE container = ? AND peer = 0 LIMIT 1";
    Ok(conn.prepare_cached(sql)?.exists([container])?)
}

/// Own segments up to a place in the feed of which it is not known when they were accepted, at most `limit`. Where the
/// search begins is kept, so that no segment is looked at twice.
pub(crate) fn unaccepted(
    conn: &Connection,
    container: i64,
    to: Seq,
    limit: usize,
) -> Result<Vec<SegmentId>, StoreError> {
    // The line of segment 0 holds the place up to which all is known.
    let sql = "SELECT time FROM piecewise_accepted WHERE container = ? AND segment = 0";
    let from: Option<i64> = conn.prepare_cached(sql)?.query_row([container], |row| row.get(0)).optional()?;
    let from = from.unwrap_or(0);
    let sql =
        "SELECT id FROM piecewise_segments s WHERE container = ?1 AND seq > ?2 AND seq <= ?3 AND peer = 0
               AND NOT EXISTS (SELECT 1 FROM piecewise_accepted WHERE container = ?1 AND segment = s.no)
               ORDER BY seq LIMIT ?4";
    let mut stmt = conn.prepare_cached(sql)?;
    let ids =
        stmt.query_map([container, from, to.0 as i64, limit as i64], |row| row.get(0).map(SegmentId))?;
    let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
    if ids.is_empty() && to.0 as i64 > from {
        conn.prepare_cached("REPLACE INTO piecewise_accepted VALUES (?, 0, ?, x'', x'')")?
            .execute([container, to.0 as i64])?;
    }
    Ok(ids)
}

/// Whether a segment of a container has this actor.
pub(crate) fn has_actor(conn: &Connection, container: i64, actor: &Actor) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM piecewise_segments WHERE container = ? AND actor = ?";
    Ok(conn.prepare_cached(sql)?.exists(params![container, actor.0])?)
}

/// The time of the last segment that an author wrote before a time; 0 if there is none.
pub(crate) fn time_before(
    conn: &Connection,
    container: i64,
    author: &PeerId,
    time: Timestamp,
) -> Result<Timestamp, StoreError> {
    // An actor begins with its time.
    let sql = "SELECT actor FROM piecewise_segments
               WHERE container = ? AND substr(bytes, 34, 32) = ? AND actor < ? ORDER BY actor DESC LIMIT 1";
    let before = &time.0.to_be_bytes()[2..];
    let mut stmt = conn.prepare_cached(sql)?;
    let found =
        stmt.query_row(params![container, author.0, before], |row| row.get(0).map(Actor)).optional()?;
    Ok(found.map_or(Timestamp(0), |actor| actor.time()))
}

/// The actor of a segment.
pub(crate) fn actor_of(conn: &Connection, no: i64) -> Result<Option<Actor>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT actor FROM piecewise_segments WHERE no = ?")?;
    Ok(stmt.query_row([no], |row| row.get(0).map(Actor)).optional()?)
}

/// The number of the last segment of a feed.
pub(crate) fn last_of(conn: &Connection, container: i64) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT no FROM piecewise_segments WHERE container = ? ORDER BY seq DESC LIMIT 1";
    Ok(conn.prepare_cached(sql)?.query_row([container], |row| row.get(0)).optional()?)
}

/// Whether a segment was captured here.
pub(crate) fn is_own(conn: &Connection, no: i64) -> Result<bool, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT peer = 0 FROM piecewise_segments WHERE no = ?")?;
    Ok(stmt.query_row([no], |row| row.get(0)).optional()?.unwrap_or(false))
}

/// All ids of a container, ascending.
pub(crate) fn ids(conn: &Connection, container: i64) -> Result<Vec<[u8; 32]>, StoreError> {
    let mut stmt =
        conn.prepare_cached("SELECT id FROM piecewise_segments WHERE container = ? ORDER BY id")?;
    let rows = stmt.query_map([container], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The ids of segments that were captured here, oldest first.
pub(crate) fn captured_here(conn: &Connection) -> Result<Vec<SegmentId>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT id FROM piecewise_segments WHERE peer = 0 ORDER BY no")?;
    let rows = stmt.query_map([], |row| row.get(0).map(SegmentId))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Takes a segment out; what follows it in the feed must be numbered anew with [`renumber`].
pub(crate) fn remove(conn: &Connection, no: i64) -> Result<(), StoreError> {
    conn.execute("DELETE FROM piecewise_segments WHERE no = ?", [no])?;
    conn.execute("DELETE FROM piecewise_hashes WHERE segment = ?", [no])?;
    conn.execute("DELETE FROM piecewise_accepted WHERE segment = ?", [no])?;
    Ok(())
}

/// Gives a segment another place in the feed.
pub(crate) fn renumber(conn: &Connection, no: i64, cursor: &Cursor) -> Result<(), StoreError> {
    conn.prepare_cached("UPDATE piecewise_segments SET seq = ?, hash = ? WHERE no = ?")?.execute(params![
        cursor.seq.0 as i64,
        cursor.hash,
        no
    ])?;
    Ok(())
}

/// The number of a peer's replica here, if it was met.
pub(crate) fn known_peer(
    conn: &Connection,
    key: &PeerId,
    replica: &ReplicaId,
) -> Result<Option<i64>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT no FROM piecewise_peers WHERE key = ? AND replica = ?")?;
    Ok(stmt.query_row(params![key.0, replica.0], |row| row.get(0)).optional()?)
}

/// Returns the local number of a peer's replica, assigning one the first time. Call it in a transaction.
pub(crate) fn meet_peer(conn: &Connection, key: &PeerId, replica: &ReplicaId) -> Result<i64, StoreError> {
    if let Some(no) = known_peer(conn, key, replica)? {
        return Ok(no);
    }
    conn.execute("INSERT INTO piecewise_peers(key, replica) VALUES (?, ?)", params![key.0, replica.0])?;
    Ok(conn.last_insert_rowid())
}

/// The key of a peer by its number here.
pub(crate) fn peer_key(conn: &Connection, no: i64) -> Result<Option<PeerId>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT key FROM piecewise_peers WHERE no = ?")?;
    Ok(stmt.query_row([no], |row| row.get(0).map(PeerId)).optional()?)
}

/// The last few cursors into a peer's feed, newest first.
pub(crate) fn cursors(conn: &Connection, container: i64, peer: i64) -> Result<Vec<Cursor>, StoreError> {
    let mut stmt = conn.prepare_cached(
        "SELECT seq, hash FROM piecewise_cursors WHERE container = ? AND peer = ? ORDER BY seq DESC",
    )?;
    let rows = stmt.query_map([container, peer], |row| {
        Ok(Cursor { seq: Seq(row.get::<_, i64>(0)? as u64), hash: row.get(1)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Moves the cursor into a peer's feed: drops those at or beyond it and the oldest over the limit.
///
/// Call it in the transaction that applies what lies before it.
pub(crate) fn set_cursor(
    conn: &Connection,
    container: i64,
    peer: i64,
    cursor: &Cursor,
) -> Result<(), StoreError> {
    let seq = cursor.seq.0 as i64;
    conn.prepare_cached("DELETE FROM piecewise_cursors WHERE container = ? AND peer = ? AND seq > ?")?
        .execute([container, peer, seq])?;
    if cursor.seq == Seq(0) {
        return Ok(()); // the start needs no proof
    }
    conn.prepare_cached("REPLACE INTO piecewise_cursors VALUES (?, ?, ?, ?)")?.execute(params![
        container,
        peer,
        seq,
        cursor.hash
    ])?;
    conn.prepare_cached(
        "DELETE FROM piecewise_cursors WHERE container = ?1 AND peer = ?2 AND seq <
           (SELECT min(seq) FROM (SELECT seq FROM piecewise_cursors WHERE container = ?1 AND peer = ?2
             ORDER BY seq DESC LIMIT ?3))",
    )?
    .execute([container, peer, CURSORS_MAX])?;
    Ok(())
}

/// The numbers of all replicas of a peer that were met.
pub(crate) fn replicas(conn: &Connection, key: &PeerId) -> Result<Vec<i64>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT no FROM piecewise_peers WHERE key = ?")?;
    let rows = stmt.query_map(params![key.0], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Segments captured here beyond what any peer has acknowledged, and the rows they change.
pub(crate) fn count_unsent(conn: &Connection, container: i64) -> Result<(u64, u64), StoreError> {
    // Of a large segment the header says enough.
    let mut stmt = conn.prepare_cached(
        "SELECT CASE substr(bytes, 82, 4) WHEN x'00000001' THEN bytes ELSE substr(bytes, 1, 94) END
         FROM piecewise_segments WHERE container = ?1 AND peer = 0
         AND seq > (SELECT coalesce(max(seq), 0) FROM piecewise_acknowledged WHERE container = ?1)",
    )?;
    let rows = stmt.query_map([container], |row| row.get::<_, Arc<[u8]>>(0))?;
    let (mut segments, mut changes) = (0, 0);
    for bytes in rows {
        segments += 1;
        changes += row_count(&bytes?);
    }
    Ok((segments, changes))
}

/// At most about `limit` segments, evenly spread: how many, their bytes, and the bytes of those made before a time.
pub(crate) fn sizes(conn: &Connection, before: Timestamp, limit: u64) -> Result<(u64, u64, u64), StoreError> {
    let ends = "SELECT coalesce(min(no), 0), coalesce(max(no), -1) FROM piecewise_segments";
    let (mut next, last): (i64, i64) = conn.query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let step = ((last - next) / limit as i64).max(0) + 1;
    // An actor begins with the time; neither that nor the length reads a segment's bytes. Descriptions, and rows that were
    // there before they were tracked, have the first moments of 1970.
    let sql = "SELECT no, length(bytes), substr(actor, 1, 6) < ?2 AND substr(actor, 1, 4) > x'00000000' FROM piecewise_segments
               WHERE no >= ?1 ORDER BY no LIMIT 1";
    let mut stmt = conn.prepare_cached(sql)?;
    let (mut count, mut bytes, mut bytes_before) = (0, 0, 0);
    while next <= last {
        let (no, len, is_before): (i64, u64, bool) = stmt
            .query_row(params![next, &before.0.to_be_bytes()[2..]], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)? as u64, row.get(2)?))
            })?;
        (count, bytes) = (count + 1, bytes + len);
        bytes_before += if is_before { len } else { 0 };
        next = no.max(next) + step;
    }
    Ok((count, bytes, bytes_before))
}

/// Notes how far a peer has said to have come in our feed.
pub(crate) fn acknowledge(conn: &Connection, container: i64, seq: Seq) -> Result<(), StoreError> {
    conn.prepare_cached("REPLACE INTO piecewise_acknowledged VALUES (?, ?)")?
        .execute(params![container, seq.0 as i64])?;
    Ok(())
}

/// The containers whose feeds go beyond what a peer has said to have.
pub(crate) fn unacknowledged(conn: &Connection) -> Result<Vec<i64>, StoreError> {
    let sql =
        "SELECT c.no FROM piecewise_containers c LEFT JOIN piecewise_acknowledged a ON a.container = c.no
               WHERE c.seq > coalesce(a.seq, 0)";
    let mut stmt = conn.prepare_cached(sql)?;
    let numbers = stmt.query_map([], |row| row.get(0))?;
    Ok(numbers.collect::<Result<_, _>>()?)
}
