//! Ledger: when each peer was here last, and what it has created and stored, against its quota.
//!
//! It is kept in memory and written down once a second in one transaction; after a crash the last second may be missing.

use crate::limits::{Hit, Limits};
use crate::log::keep_cosignatures;
use crate::metrics::Hits;
use piecewise_core::id::{PeerId, Timestamp};
use piecewise_core::supervisor_log::note::Cosignature;
use rusqlite::{Connection, params};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub(crate) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS accounts(
  key BLOB PRIMARY KEY, seen INTEGER NOT NULL, containers INTEGER NOT NULL, bytes INTEGER NOT NULL,
  databases INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
";

/// What is known of a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// When it came or left last.
    pub(crate) seen: Timestamp,
    /// Containers that it created.
    pub(crate) containers: u64,
    /// Bytes of its segments.
    pub(crate) bytes: u64,
    /// Databases that it made.
    pub(crate) databases: u64,
    /// Its connections now.
    pub(crate) connections: u32,
}

/// What is known of all peers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
    limits: OnceLock<(Limits, Hits)>,
}

#[derive(Debug, Default)]
struct State {
    accounts: HashMap<PeerId, Account>,
    unwritten: HashSet<PeerId>,
    /// How many refusals of a peer may still be logged, and since when.
    refusals: HashMap<PeerId, (u64, Timestamp)>,
}

/// Refusals of one peer that are logged at once, and how long it takes until one more is.
const REFUSALS_AT_ONCE: u64 = 1000;
const REFUSAL_EVERY_MS: u64 = 60_000;

/// A peer that is connected until this is dropped.
#[derive(Debug)]
pub(crate) struct Presence {
    supervisor: Arc<crate::supervisor::Supervisor>,
    peer: PeerId,
}

impl Ledger {
    pub(crate) fn read(conn: &Connection) -> Result<Self, rusqlite::Error> {
        let mut stmt = conn.prepare("SELECT key, seen, containers, bytes, databases FROM accounts")?;
        let number = |n: i64| n.max(0) as u64;
        let rows = stmt.query_map([], |row| {
            let account = Account {
                seen: Timestamp(number(row.get(1)?)),
                containers: number(row.get(2)?),
                bytes: number(row.get(3)?),
                databases: number(row.get(4)?),
                connections: 0,
            };
            Ok((PeerId(row.get(0)?), account))
        })?;
        let state = State { accounts: rows.collect::<Result<_, _>>()?, ..State::default() };
        Ok(Self { state: Mutex::new(state), limits: OnceLock::new() })
    }

    /// Says what peers may store; once, before anybody comes.
    pub(crate) fn limit(&self, limits: Limits, hits: Hits) {
        let _ = self.limits.set((limits, hits));
    }

    /// Whether something is within a limit; if not, that is counted.
    pub(crate) fn within(&self, hit: Hit, is_within: impl FnOnce(&Limits) -> bool) -> bool {
        let Some((limits, hits)) = self.limits.get() else { return true };
        let within = is_within(limits);
        if !within {
            hits.count(hit);
        }
        within
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn account(&self, peer: &PeerId) -> Account {
        self.state().accounts.get(peer).copied().unwrap_or_default()
    }

    /// Whether one more refusal of what a peer sent is logged. Refusals that are not are counted in the metrics all the same.
    pub(crate) fn may_log_refusal(&self, peer: &PeerId, now: Timestamp) -> bool {
        let mut state = self.state();
        let (left, since) = state.refusals.entry(*peer).or_insert((REFUSALS_AT_ONCE, now));
        let more = now.0.saturating_sub(since.0) / REFUSAL_EVERY_MS;
        *left = (*left + more).min(REFUSALS_AT_ONCE);
        since.0 += more * REFUSAL_EVERY_MS;
        let may = *left > 0;
        *left -= u64::from(may);
        may
    }

    /// Peers with a connection.
    pub(crate) fn connected(&self) -> usize {
        self.state().accounts.values().filter(|account| account.connections > 0).count()
    }

    pub(crate) fn change(&self, peer: &PeerId, change: impl FnOnce(&mut Account)) {
        let mut state = self.state();
        change(state.accounts.entry(*peer).or_default());
        state.unwritten.insert(*peer);
    }

    /// Writes down what changed since the last time, and what peers cosigned.
    pub(crate) fn write(
        &self,
        conn: &mut Connection,
        cosigned: &HashMap<PeerId, (u64, Cosignature)>,
    ) -> Result<(), rusqlite::Error> {
        let changed: Vec<_> = {
            let mut state = self.state();
            let peers = std::mem::take(&mut state.unwritten);
            peers.into_iter().filter_map(|peer| Some((peer, *state.accounts.get(&peer)?))).collect()
        };
        if changed.is_empty() && cosigned.is_empty() {
            return Ok(());
        }
        let written = put(conn, &changed, cosigned);
        if written.is_err() {
            self.state().unwritten.extend(changed.iter().map(|(peer, _)| *peer));
        }
        written
    }
}

fn put(
    conn: &mut Connection,
    accounts: &[(PeerId, Account)],
    cosigned: &HashMap<PeerId, (u64, Cosignature)>,
) -> Result<(), rusqlite::Error> {
    let tx = conn.transaction()?;
    let mut stmt = tx.prepare_cached(
        "REPLACE INTO accounts(key, seen, containers, bytes, databases) VALUES (?, ?, ?, ?, ?)",
    )?;
    for (peer, account) in accounts {
        let (containers, bytes) = (account.containers as i64, account.bytes as i64);
        let databases = account.databases as i64;
        stmt.execute(params![peer.0, account.seen.0 as i64, containers, bytes, databases])?;
    }
    drop(stmt);
    keep_cosignatures(&tx, cosigned.values())?;
    tx.commit()
}

impl Presence {
    pub(crate) fn of(supervisor: &Arc<crate::supervisor::Supervisor>, peer: PeerId) -> Self {
        supervisor.ledger.change(&peer, |account| {
            account.connections += 1;
            account.seen = crate::now();
        });
        Self { supervisor: supervisor.clone(), peer }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.supervisor.ledger.change(&self.peer, |account| {
            account.connections -= 1;
            account.seen = crate::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_one_peer_do_not_fill_the_log() {
        let ledger = Ledger::default();
        let (bad, other) = (PeerId([7; 32]), PeerId([8; 32]));
        let logged = |peer, at, n| (0..n).filter(|_| ledger.may_log_refusal(peer, Timestamp(at))).count();
        assert_eq!(logged(&bad, 5, 50_000), 1000);
        assert_eq!(logged(&bad, 5 + 10 * REFUSAL_EVERY_MS, 50_000), 10);
        assert_eq!(logged(&other, 5, 10), 10);
    }

    #[test]
    fn what_was_written_down_is_read_again_without_connections() {
        let mut conn = Connection::open_in_memory().expect("a database");
        conn.execute_batch(TABLE).expect("a table");
        conn.execute_batch(crate::log::TABLES).expect("tables");
        let ledger = Ledger::read(&conn).expect("it reads");
        let peer = PeerId([7; 32]);
        ledger.change(&peer, |a| {
            *a = Account { seen: Timestamp(5), containers: 2, bytes: 99, databases: 3, connections: 1 }
        });
        ledger.write(&mut conn, &HashMap::new()).expect("it is written");
        let again = Ledger::read(&conn).expect("it reads again");
        assert_eq!(again.account(&peer), Account { connections: 0, ..ledger.account(&peer) });
        assert_eq!((ledger.connected(), again.connected()), (1, 0));
    }
}
