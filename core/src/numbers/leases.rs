//! Leases: blocks of numbers that a server gives to a device, so that what devices insert offline seldom clashes.
//!
//! SQLite numbers the rows of an AUTOINCREMENT table by `sqlite_sequence`, which may be moved up. A device on which an
//! application inserts into such a table holds up to two blocks: one in use and one spare. Each lies above all numbers that
//! the server knew of when it gave it. Where a higher number comes, SQLite goes on above that; then the spare is taken in use.
//!
//! A table without AUTOINCREMENT has none, since SQLite reads no sequence for it.

use super::Settings;
use crate::id::{ContainerId, PeerId};
use crate::identity::{Identity, verify};
use crate::replica::{ContainerState, Replica, ReplicaError};
use crate::store::leases::{self, Lease, Leased};
use crate::store::numbers;
use crate::store::user_table::UserTable;

/// Blocks that a device holds.
pub(crate) const BLOCKS_MAX: usize = 2;
/// A block is this many times what the device used at most between two of them, within bounds.
const TIMES_USED: u64 = 4;
const NUMBERS_MIN: u64 = 512;
const NUMBERS_MAX: u64 = 65_536;
/// Above this no blocks are given.
const TOP_MAX: i64 = i64::MAX - (1 << 40);
const LABEL: &str = "lease";

impl Lease {
    /// A block of a container for one device, with the server's word for it.
    fn sign(server: &Identity, container: &ContainerId, device: &PeerId, first: i64, last: i64) -> Self {
        let signature = server.sign(LABEL, &signed(container, device, first, last));
        Self { first, last, signature }
    }

    /// Whether the server gave this block of a container to this device.
    pub(crate) fn is_of(&self, server: &PeerId, container: &ContainerId, device: &PeerId) -> bool {
        let says = 0 < self.first
            && self.first <= self.last
            && self.last.abs_diff(self.first) < NUMBERS_MAX
            && self.last <= TOP_MAX + NUMBERS_MAX as i64;
        says && verify(server, LABEL, &signed(container, device, self.first, self.last), &self.signature)
            .is_ok()
    }
}

fn signed(container: &ContainerId, device: &PeerId, first: i64, last: i64) -> Vec<u8> {
    [&container.0[..], &device.0, &first.to_be_bytes(), &last.to_be_bytes()].concat()
}

impl Leased {
    /// How many numbers were used at most.
    pub(crate) fn used(&self) -> u64 {
        self.most.max(self.since)
    }

    /// Whether one more block is needed.
    pub(crate) fn wants(&self) -> bool {
        self.used() > 0 && self.blocks.len() < BLOCKS_MAX
    }

    /// How many numbers to say that were used, where one more block is needed; None: none is.
    pub(crate) fn asks(leased: Option<&Self>) -> Option<u64> {
        match leased {
            // One to begin with, for rows that are inserted before the next talk.
            None => Some(1),
            Some(leased) => leased.wants().then(|| leased.used()),
        }
    }

    /// The next number after `top` that is in a block.
    pub(crate) fn next(&self, top: i64) -> Option<i64> {
        let block = self.blocks.iter().find(|block| block.last > top)?;
        Some(block.first.max(top + 1))
    }
}

impl Replica {
    /// Whether numbers that are given out here come from blocks.
    pub(crate) fn takes_leases(&self, no: i64) -> bool {
        let Some(state) = self.containers.get(&no) else { return false };
        has_numbers(state, self.settings_of(no)) && !self.is_server && !state.is_read_only()
    }

    /// Notes how many rows were inserted here. Call it in a transaction.
    pub(crate) fn note_inserted(
        &mut self,
        no: i64,
        user: &UserTable,
        rows: usize,
    ) -> Result<(), ReplicaError> {
        if rows == 0 || !user.autoincrement || !self.takes_leases(no) {
            return Ok(());
        }
        let leased = self.numbers.leased.entry(no).or_default();
        leased.since = leased.since.saturating_add(rows as u64);
        Ok(leases::set_inserted(&self.conn, no, leased)?)
    }

    /// Drops the blocks that are used up or lie below a number that came, and has SQLite go on in the next. Call it at the
    /// end of a transaction that changed the table.
    pub(crate) fn mind_leases(&mut self, no: i64) -> Result<(), ReplicaError> {
        if self.numbers.leased.get(&no).is_none_or(|leased| leased.blocks.is_empty()) {
            return Ok(());
        }
        let Some(user) = self.user_table(no)?.filter(|user| user.autoincrement) else { return Ok(()) };
        if !self.takes_leases(no) {
            return Ok(());
        }
        let given_here = self.last_given(&user)?;
        let top = given_here.max(numbers::greatest(&self.conn, no)?.unwrap_or(0));
        let Some(leased) = self.numbers.leased.get_mut(&no) else { return Ok(()) };
        if leased.blocks.iter().any(|block| block.last <= top) {
            leased.blocks.retain(|block| block.last > top);
            // Who inserts less and less asks for less, and at last for nothing.
            (leased.most, leased.since) = (leased.since.max(leased.most / 2), 0);
            leases::forget_until(&self.conn, no, top)?;
            leases::set_inserted(&self.conn, no, leased)?;
        }
        match leased.next(top) {
            Some(next) if next - 1 > given_here => {
                Ok(leases::set_sequence(&self.conn, &user.table.name, next - 1)?)
            }
            _ => Ok(()),
        }
    }

    /// Whether SQLite has no number left to give out in a table.
    pub(crate) fn are_numbers_used_up(&self, no: i64) -> Result<bool, ReplicaError> {
        match self.user_table(no)?.filter(|user| user.autoincrement) {
            Some(user) => Ok(self.last_given(&user)? == i64::MAX),
            None => Ok(false),
        }
    }

    /// The tables of which that is so.
    pub fn used_up_tables(&self) -> Result<Vec<String>, ReplicaError> {
        // Asked of `sqlite_sequence`, since a file may have thousands of tables.
        let mut found = leases::with_sequence_at(&self.conn, i64::MAX)?;
        found.retain(|table| self.containers.of_table(table).is_some());
        Ok(found)
    }

    /// The number after which SQLite goes on in a table.
    pub(crate) fn last_given(&self, user: &UserTable) -> Result<i64, ReplicaError> {
        let sequence = leases::sequence(&self.conn, &user.table.name)?.unwrap_or(0);
        Ok(sequence.max(user.next_integer(&self.conn)?.saturating_sub(1)).max(0))
    }

    /// Drops blocks that the server gave to another device: this file is a copy of that one's.
    pub(crate) fn forget_leases_of_others(&mut self, server: &PeerId) -> Result<(), ReplicaError> {
        let device = self.author();
        let is_others = |(no, leased): &(&i64, &Leased)| {
            let id = self.containers.get(no).map(|c| &c.id);
            id.is_some_and(|id| leased.blocks.iter().any(|block| !block.is_of(server, id, &device)))
        };
        let of_others: Vec<i64> = self.numbers.leased.iter().filter(is_others).map(|(no, _)| *no).collect();
        if of_others.is_empty() {
            return Ok(());
        }
        self.transaction(|r| {
            for no in of_others {
                let Some(leased) = r.numbers.leased.get_mut(&no) else { continue };
                leased.blocks.clear();
                leased.most = leased.most.max(1); // it wants some of its own
                leases::forget_until(&r.conn, no, i64::MAX)?;
                leases::set_inserted(&r.conn, no, leased)?;
            }
            Ok(())
        })
    }

    /// Takes a block that the server gave. Returns whether it is of use.
    pub(crate) fn take_lease(&mut self, no: i64, lease: Lease) -> Result<bool, ReplicaError> {
        self.transaction(|r| {
            if r.containers.get(&no).is_none() {
                return Ok(false); // another program ended to track it
            }
            let leased = r.numbers.leased.entry(no).or_default();
            leases::set_inserted(&r.conn, no, leased)?;
            if leased.blocks.len() < BLOCKS_MAX {
                leases::put(&r.conn, no, &lease)?;
                leased.blocks.push(lease.clone());
                leased.blocks.sort_by_key(|block| block.first);
            }
            r.mind_leases(no)?;
            Ok(r.numbers.leased.get(&no).is_some_and(|leased| leased.blocks.contains(&lease)))
        })
    }

    /// As the server: gives a device a block above all numbers that are known; None near the end of all numbers. `used`: how
    /// many the device used at most between two blocks; 0: it wants none. `told`: up to where it says, by our own word, to
    /// have been given any.
    pub(crate) fn give_lease(
        &mut self,
        no: i64,
        device: &PeerId,
        used: u64,
        told: i64,
    ) -> Result<Option<Lease>, ReplicaError> {
        let given = leases::given(&self.conn, no)?;
        if used == 0 && told <= given {
            return Ok(None);
        }
        self.transaction(|r| {
            let Some(container) = r.containers.get(&no).map(|c| c.id) else { return Ok(None) };
            let user = r.user_table(no)?;
            let here = user.as_ref().map_or(Ok(0), |user| r.last_given(user))?;
            let known = numbers::greatest(&r.conn, no)?.unwrap_or(0);
            let given = leases::given(&r.conn, no)?.max(told);
            let top = given.max(here).max(known);
            let size = used.saturating_mul(TIMES_USED).clamp(NUMBERS_MIN, NUMBERS_MAX) as i64;
            let last = if used > 0 && top <= TOP_MAX { top + size } else { given };
            leases::set_given(&r.conn, no, last)?;
            // What is inserted here lies above all blocks.
            if let Some(user) = user.filter(|user| user.autoincrement && here < last) {
                leases::set_sequence(&r.conn, &user.table.name, last)?;
            }
            if last == given {
                return Ok(None);
            }
            Ok(Some(Lease::sign(&r.identity, &container, device, top + 1, last)))
        })
    }

    /// As the server: whether blocks may be given of a container.
    pub(crate) fn gives_leases(&self, no: i64) -> bool {
        let Some(state) = self.containers.get(&no) else { return false };
        self.is_server && has_numbers(state, self.settings_of(no))
    }

    /// The blocks of a table's numbers that are held here, for people.
    pub(crate) fn leases_of(&self, no: i64) -> Vec<(i64, i64)> {
        let blocks = self.numbers.leased.get(&no).into_iter().flat_map(|leased| &leased.blocks);
        blocks.map(|block| (block.first, block.last)).collect()
    }
}

fn has_numbers(state: &ContainerState, settings: &Settings) -> bool {
    state.integer_keys && !settings.keeps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_one_devices_in_one_container_by_one_servers_word() {
        let (server, other) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let (container, device) = (ContainerId([3; 32]), PeerId([4; 32]));
        let bytes = [&[3; 32][..], &[4; 32], &[0, 0, 0, 0, 0, 0, 2, 1], &[0, 0, 0, 0, 0, 0, 4, 0]].concat();
        assert_eq!(signed(&container, &device, 513, 1024), bytes);
        let lease = Lease::sign(&server, &container, &device, 513, 1024);
        assert!(verify(&server.peer_id(), "lease", &bytes, &lease.signature).is_ok());
        assert!(lease.is_of(&server.peer_id(), &container, &device));
        assert!(!lease.is_of(&other.peer_id(), &container, &device));
        assert!(!lease.is_of(&server.peer_id(), &ContainerId([5; 32]), &device));
        assert!(!lease.is_of(&server.peer_id(), &container, &PeerId([5; 32])));
        let moved = Lease { first: 514, ..lease };
        assert!(!moved.is_of(&server.peer_id(), &container, &device));
    }

    #[test]
    fn a_block_without_sense_is_none_whoever_signed_it() {
        let server = Identity::from_seed([1; 32]);
        let (container, device) = (ContainerId([3; 32]), PeerId([4; 32]));
        for (first, last) in [(0, 5), (5, 4), (1, 65_537), (i64::MIN, i64::MAX), (i64::MAX, i64::MAX)] {
            let lease = Lease::sign(&server, &container, &device, first, last);
            assert!(!lease.is_of(&server.peer_id(), &container, &device), "{first} to {last}");
        }
    }

    #[test]
    fn numbers_come_from_the_lowest_block_that_has_any_left() {
        let block = |first, last| Lease { first, last, signature: [0; 64] };
        let leased = Leased { since: 1, most: 0, blocks: vec![block(10, 19), block(40, 49)] };
        let numbers = [0, 9, 10, 18, 19, 39, 48, 49].map(|top| leased.next(top));
        assert_eq!(numbers, [Some(10), Some(10), Some(11), Some(19), Some(40), Some(40), Some(49), None]);
    }
}
