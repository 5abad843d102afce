//! Numbers: rows move whose numbers other rows have, see `numbers`.
//!
//! Of tables that are related, own segments wait until all that the server has of them is here, and until the rows have
//! moved whose numbers are taken.

use super::{Link, LinkError, sync_error};
use crate::container::SyncError;
use crate::handshake;
use crate::id::{Seq, Timestamp};
use crate::replica::{Replica, ReplicaError, Scan};
use crate::store::numbers;
use std::collections::BTreeSet;

/// How often numbers may be refused on one connection before the rows are left in conflict.
const ROUNDS_MAX: u32 = 64;

impl Link {
    /// As the initiator: makes use of what the server knows beyond the first version. Call it right after the link was made.
    pub fn use_features(&mut self, replica: &mut Replica, features: u32) -> Result<(), LinkError> {
        if features == 0 {
            return Err(LinkError::OlderServer); // it would end the connection without a word
        }
        if features & handshake::PIECES != 0 {
            self.ask_for_pieces(replica)?;
        }
        if features & handshake::NUMBERS != 0 {
            self.move_rows(replica);
        }
        if features & handshake::LEASES != 0 {
            self.take_leases(replica)?;
        }
        self.names.is_on = features & handshake::NAMES != 0;
        Ok(())
    }

    /// As the initiator, with a server that knows of taken numbers: moves rows whose numbers other rows have. Call it right
    /// after the link was made.
    pub fn move_rows(&mut self, replica: &Replica) {
        self.moves_rows = !self.is_responder() && !replica.is_server;
    }

    /// Whether own segments of a container wait for what the server has of related tables.
    pub(super) fn waits_for_numbers(&self, replica: &Replica, no: i64) -> bool {
        if !self.moves_rows {
            return false;
        }
        let family = replica.family(no);
        if family.is_empty() {
            return false;
        }
        let is_waiting = |member: &i64| {
            !self.has_all_of(replica, *member, no)
                || replica.numbers.taken.contains(member)
                || self.sessions.get(member).is_some_and(|s| !s.numbers.refused.is_empty())
        };
        // A row that is not captured yet may be the parent of one that is.
        replica.numbers.is_reading_log || family.iter().any(is_waiting)
    }

    /// Containers that may wait for these, since their tables are related.
    pub(super) fn related(&self, replica: &Replica, changed: &[i64]) -> Vec<i64> {
        let mut found = BTreeSet::new();
        if self.moves_rows {
            for no in changed {
                if found.contains(no) {
                    continue;
                }
                let family = replica.family(*no);
                // Tables whose rows may move no longer wait no longer.
                let waits = |no: &i64| self.sessions.get(no).is_some_and(|s| s.numbers.holds_back);
                match family.is_empty() && !self.unlevel.is_empty() {
                    true => found.extend(replica.relatives(*no).into_iter().filter(waits)),
                    false => found.extend(family),
                }
            }
        }
        found.retain(|no| self.sessions.contains_key(no));
        found.into_iter().collect()
    }

    /// Whether all that the server has of a container is here, for the sake of segments of `asking`.
    fn has_all_of(&self, replica: &Replica, no: i64, asking: i64) -> bool {
        let Some(state) = replica.containers.get(&no) else { return true };
        if self.denied.contains_key(&no) || state.is_halted() {
            return true;
        }
        match state.scan() {
            Scan::Meet | Scan::Gather | Scan::Join => return false,
            Scan::Adopt if no != asking => return false,
            _ => {}
        }
        match self.sessions.get(&no) {
            Some(session) => session.heard.is_some() && !session.behind && !session.is_in_repair(),
            None => !self.ready.contains(&(replica.depth(no), no)),
        }
    }

    /// Moves rows whose numbers are taken, where all that it takes is here.
    pub(super) fn settle_numbers(&mut self, replica: &mut Replica, now: Timestamp) -> Result<(), LinkError> {
        if !self.moves_rows {
            return Ok(());
        }
        let refused = self.sessions.iter().filter(|(_, session)| !session.numbers.refused.is_empty());
        let mut open: BTreeSet<i64> = refused.map(|(no, _)| *no).collect();
        open.extend(&replica.numbers.taken);
        while let Some(no) = open.pop_first() {
            let mut family = replica.family(no);
            if family.is_empty() {
                family.push(no);
            }
            open.retain(|no| !family.contains(no));
            // Rows that are still to be captured may refer to those that move.
            let is_adopting = |member: &i64| {
                let state = replica.containers.get(member);
                state.is_some_and(|state| state.scan() == Scan::Adopt && !state.is_halted())
            };
            if family.iter().any(|member| self.unmoved.contains(member)) {
                continue;
            }
            let is_ready = |member: &i64| {
                self.has_all_of(replica, *member, no)
                    && !is_adopting(member)
                    && self.sessions.get(member).is_none_or(|session| session.in_flight.is_empty())
            };
            if replica.numbers.is_reading_log || !family.iter().all(is_ready) {
                continue;
            }
            let waiting = family.iter().filter(|member| self.waits_for_lease(replica, **member)).count();
            if waiting > 0 {
                continue;
            }
            let rounds = family.iter().filter_map(|no| self.sessions.get(no)).map(|s| s.numbers.rounds);
            let rounds = rounds.max().unwrap_or(0);
            let settled = if rounds > ROUNDS_MAX {
                replica.leave_numbers(&family, now)?;
                Default::default()
            } else {
                match replica.settle_numbers(&family, rounds, now) {
                    Err(error @ ReplicaError::Table { .. }) => {
                        self.leave_unmoved(replica, &family, error)?;
                        continue;
                    }
                    settled => settled?,
                }
            };
            for member in &family {
                let Some(session) = self.sessions.get_mut(member) else { continue };
                let Some(id) = replica.containers.get(member).map(|c| c.id) else { continue };
                let places: &[Seq] = settled.places.get(member).map_or(&[], |places| places);
                let answered = replica.container(&id).map(|mut c| c.answer_taken(session, places));
                answered.transpose().map_err(|source| sync_error(replica, *member, source))?;
            }
            self.make_ready(replica, family);
        }
        Ok(())
    }

    /// Ends the sessions of a table whose rows cannot move now, and of those that wait for it. The next connection begins anew.
    fn leave_unmoved(
        &mut self,
        replica: &mut Replica,
        family: &[i64],
        error: ReplicaError,
    ) -> Result<(), LinkError> {
        let ReplicaError::Table { no, ref table, ref why, ref source, .. } = error else {
            return Err(error.into());
        };
        let why = format!("{why}: {source}");
        let waits = format!("it waits for table {table}: {why}");
        self.unmoved.insert(no);
        for member in family.iter().filter(|member| **member != no) {
            let unsent = numbers::unsent(&replica.conn, *member).map_err(ReplicaError::from)?;
            if !unsent.is_empty() {
                self.end(replica, *member, &waits)?;
            }
        }
        self.end(replica, no, &why)?;
        self.failures.push(sync_error(replica, no, SyncError::Replica(error)));
        Ok(())
    }
}
