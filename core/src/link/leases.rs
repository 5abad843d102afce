//! Leases: a device asks the server for blocks of numbers, see `numbers`.
//!
//! ```text
//! lease    container id 32, then
//!   initiator   numbers used at most between two blocks LEB128, 0: it asks for none
//!               · 0, or 1 and the highest block that it holds: first i64 · last i64 · the server's signature 64
//!   responder   0: it gives none, or 1 and a block
//! ```
//! The initiator tells its highest block at each connect, since a server that was restored may have forgotten that it gave it.
//! It asks for another once a container is level: then the server knows of all numbers that are known here.

use super::{LEASE, Link, LinkError};
use crate::bytes::{DecodeError, Reader, put_uleb};
use crate::grant::Access;
use crate::id::{ContainerId, Seq};
use crate::numbers::BLOCKS_MAX;
use crate::replica::{Replica, Scan};
use crate::store::leases::{Lease, Leased};
use crate::store::numbers;
use std::collections::{BTreeMap, BTreeSet};

/// What a link knows of leases.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// As the initiator: whether the responder gives any.
    is_on: bool,
    /// Containers that may have something to tell or ask.
    due: BTreeSet<i64>,
    /// Those of them with rows that are to move: a block is asked for before all is level.
    urgent: BTreeSet<i64>,
    /// Containers whose blocks were told.
    told: BTreeSet<i64>,
    /// What became of what was asked last.
    asked: BTreeMap<i64, Asked>,
    /// As the responder: the last numbers of blocks that were given.
    given: BTreeMap<i64, Vec<i64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The answer is to come.
    Waiting,
    /// It was of no use; our feed ended there then.
    InVain(Seq),
}

impl Leases {
    /// Whether an answer is to come, or something is to be asked.
    pub(super) fn are_open(&self) -> bool {
        !self.due.is_empty() || self.asked.values().any(|asked| *asked == Asked::Waiting)
    }

    /// A talk begins, or begins anew.
    pub(super) fn begin(&mut self, replica: &Replica) {
        (self.told, self.asked, self.urgent) = Default::default();
        self.due =
            if self.is_on { replica.numbers.leased.keys().copied().collect() } else { BTreeSet::new() };
    }

    /// Something changed in these containers.
    pub(super) fn note_changed(&mut self, replica: &Replica, changed: &[i64]) {
        if self.is_on {
            self.due.extend(changed.iter().filter(|no| replica.takes_leases(**no)));
        }
    }
}

impl Link {
    /// As the initiator, with a server that gives blocks of numbers: asks for them. Call it right after the link was made.
    pub fn take_leases(&mut self, replica: &mut Replica) -> Result<(), LinkError> {
        self.leases.is_on = !self.is_responder() && !replica.is_server;
        if self.leases.is_on {
            replica.forget_leases_of_others(&self.peer)?;
        }
        self.leases.begin(replica);
        Ok(())
    }

    /// Whether rows that move wait for a block: else they would take numbers from blocks of others.
    pub(super) fn waits_for_lease(&mut self, replica: &Replica, no: i64) -> bool {
        let wants = replica.numbers.leased.get(&no).is_some_and(|l| l.blocks.is_empty() && l.wants());
        let may_ask = replica.takes_leases(no) && self.knows(no) && !self.denied.contains_key(&no);
        if !self.leases.is_on || !wants || !may_ask || !replica.numbers.taken.contains(&no) {
            return false;
        }
        match self.leases.asked.get(&no) {
            Some(Asked::InVain(_)) => false,
            Some(Asked::Waiting) => true,
            None => {
                self.leases.urgent.insert(no);
                self.leases.due.insert(no);
                true
            }
        }
    }

    /// What is to be told or asked of blocks.
    pub(super) fn next_lease(&mut self, replica: &Replica) -> Option<Vec<u8>> {
        for no in self.leases.due.clone() {
            let Some(state) = replica.containers.get(&no) else {
                self.leases.due.remove(&no);
                continue;
            };
            let may_ask = replica.takes_leases(no)
                && self.knows(no)
                && !self.denied.contains_key(&no)
                && !state.is_halted()
                && replica.user_table(no).is_ok_and(|user| user.is_some_and(|user| user.autoincrement));
            if !may_ask {
                self.leases.due.remove(&no);
                continue;
            }
            let leased = replica.numbers.leased.get(&no);
            let highest = leased.and_then(|leased| leased.blocks.last());
            let tells = highest.is_some() && !self.leases.told.contains(&no);
            let is_useless = match self.leases.asked.get(&no) {
                Some(Asked::Waiting) => true,
                Some(Asked::InVain(tip)) => *tip == state.feed.tip.seq,
                None => false,
            };
            let wanted = Leased::asks(leased).filter(|_| !is_useless);
            let is_level = self.leases.urgent.contains(&no)
                || self.sessions.get(&no).is_none_or(|session| session.is_level())
                    && !self.ready.contains(&(replica.depth(no), no))
                    && state.scan() == Scan::No;
            if wanted.is_none() || is_level {
                self.leases.due.remove(&no);
            }
            let wanted = wanted.filter(|_| is_level);
            if !tells && wanted.is_none() {
                continue;
            }
            self.leases.told.insert(no);
            if wanted.is_some() {
                self.leases.asked.insert(no, Asked::Waiting);
                self.leases.urgent.remove(&no);
            }
            let mut frame = vec![LEASE];
            frame.extend_from_slice(&state.id.0);
            put_uleb(&mut frame, wanted.unwrap_or(0));
            put_lease(&mut frame, highest);
            return Some(frame);
        }
        None
    }

    pub(super) fn receive_lease(
        &mut self,
        replica: &mut Replica,
        r: &mut Reader<'_>,
    ) -> Result<(), LinkError> {
        let id = ContainerId(r.array()?);
        let no = replica.containers.with_id(&id).map(|c| c.no);
        if self.is_responder() {
            let used = r.uleb()?;
            let told = read_lease(r)?;
            let given = no.map_or(Ok(None), |no| self.give_lease(replica, no, used, told))?;
            if used > 0 {
                let mut frame = vec![LEASE];
                frame.extend_from_slice(&id.0);
                put_lease(&mut frame, given.as_ref());
                self.outbox.push_back(frame);
            }
            return Ok(());
        }
        let lease = read_lease(r)?;
        let Some(no) = no else { return Ok(()) };
        if self.leases.asked.get(&no) != Some(&Asked::Waiting) {
            return Err(LinkError::Protocol { what: "a block of numbers that was not asked for" });
        }
        let is_given = |lease: &Lease| lease.is_of(&self.peer, &id, &replica.author());
        if !lease.as_ref().is_none_or(is_given) {
            return Err(LinkError::Protocol {
                what: "a block of numbers that it did not sign for this device",
            });
        }
        let is_of_use = lease.map_or(Ok(false), |lease| replica.take_lease(no, lease))?;
        if is_of_use {
            self.leases.asked.remove(&no);
            self.leases.due.insert(no);
        } else {
            let tip = replica.containers.get(&no).map_or(Seq(0), |c| c.feed.tip.seq);
            self.leases.asked.insert(no, Asked::InVain(tip));
        }
        Ok(())
    }

    /// As the responder: a block for the peer, if it may write there and has not two that it can still use.
    fn give_lease(
        &mut self,
        replica: &mut Replica,
        no: i64,
        used: u64,
        told: Option<Lease>,
    ) -> Result<Option<Lease>, LinkError> {
        let state = &replica.containers[&no];
        let may_write = self.access(&state.name).is_some_and(|access| access >= Access::Write);
        if !may_write || self.intake.stop.is_some() || !replica.gives_leases(no) {
            return Ok(None);
        }
        let server = replica.author();
        let told = told.filter(|lease| lease.is_of(&server, &state.id, &self.peer)).map_or(0, |l| l.last);
        let top =
            numbers::greatest(&replica.conn, no).map_err(crate::replica::ReplicaError::from)?.unwrap_or(0);
        let given = self.leases.given.entry(no).or_default();
        given.retain(|last| *last > top);
        let wanted = if given.len() < BLOCKS_MAX { used } else { 0 };
        let lease = replica.give_lease(no, &self.peer, wanted, told)?;
        given.extend(lease.as_ref().map(|lease| lease.last));
        Ok(lease)
    }
}

fn put_lease(out: &mut Vec<u8>, lease: Option<&Lease>) {
    out.push(u8::from(lease.is_some()));
    if let Some(lease) = lease {
        out.extend_from_slice(&lease.first.to_be_bytes());
        out.extend_from_slice(&lease.last.to_be_bytes());
        out.extend_from_slice(&lease.signature);
    }
}

fn read_lease(r: &mut Reader<'_>) -> Result<Option<Lease>, DecodeError> {
    match r.u8()? {
        0 => Ok(None),
        1 => {
            let (first, last) = (i64::from_be_bytes(r.array()?), i64::from_be_bytes(r.array()?));
            Ok(Some(Lease { first, last, signature: r.array()? }))
        }
        _ => Err(DecodeError::Invalid { what: "a block of numbers" }),
    }
}
