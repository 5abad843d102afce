//! Numbers: rows move whose INTEGER keys two devices gave out, and references follow.
//!
//! Applications let SQLite number their rows, so two devices that insert offline give one number twice. A row that was
//! inserted here and that the server does not have yet gives way to one that came from there: it *moves* to a free number,
//! in one transaction with every reference to it that was written here and that the server does not have either. The
//! segments that hold such changes are withdrawn and written anew, so no document of another replica ever has them.
//!
//! * `taken`: notices that a number has two rows, on a device when the server's row comes and on the server before a row
//!   enters. Until the device moves its row, the table shows that row and the server's stays in its document.
//! * `moving`: decides about all such rows of related tables at once, when all that the server has of them is here.
//! * `origin`: what a row that was written anew says in its document of where it was, so that a restored or copied file
//!   knows it again.
//! * `captured_again`: rows of a restored file whose log had not been captured.
//! * `leases`: blocks of numbers for each device, so that rows seldom have to move.
//! * `autoincrement`: tables whose schema does not have it get it.
//! * `taking_along`: a row of a conflict that becomes a new one takes references with it.
//! * `settings`: tables that keep their numbers, and references that no schema declares.
//! * [`link`](crate::link) holds own segments back until all that the server has of related tables is here.
//!
//! Rows that the server has, or ever had, do not move: of two such rows under one number, one is a conflict. A number whose
//! row was deleted and that SQLite gives out again names another row.

mod autoincrement;
mod awaiting;
mod captured_again;
mod free;
mod leases;
mod moving;
mod origin;
mod settings;
mod taken;
mod taking_along;

pub(crate) use free::FreeNumbers;
pub(crate) use leases::BLOCKS_MAX;
pub(crate) use origin::{CHOSEN, MOVED, encode as encode_origins};
pub(crate) use settings::Settings;
pub(crate) use taken::Arrived;

use crate::document::Document;
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::store::user_table::UserTable;
use crate::store::{documents, numbers};
use std::collections::{BTreeSet, HashMap};

/// A row that moved to another number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renumbered {
    /// The table.
    pub table: String,
    /// The number under which it was inserted.
    pub old: i64,
    /// The number that it has.
    pub new: i64,
}

impl Replica {
    /// Whether rows of a container that were inserted here may move to other numbers.
    ///
    /// Of tables that refer to each other in a circle none is sent after the others, so their rows keep their numbers.
    pub(crate) fn may_renumber(&self, no: i64) -> bool {
        self.is_renumbered(no) && self.containers.get(&no).is_some_and(|state| !state.is_read_only())
    }

    /// Whether that is so of rows of a container wherever they may be written.
    pub(crate) fn is_renumbered(&self, no: i64) -> bool {
        let Some(state) = self.containers.get(&no) else { return false };
        state.integer_keys && !self.is_server && !self.settings_of(no).keeps && !self.refers_in_circle(no)
    }

    /// Whether rows of a container that were inserted here may move since their keys name rows that may.
    pub(crate) fn key_may_follow(&self, no: i64) -> Result<bool, ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(false) };
        self.may_follow_in(&user, no, &user.key_columns())
    }

    /// Whether any of these columns of a table names rows that may move, or columns that may follow such.
    fn may_follow_in(&self, user: &UserTable, no: i64, columns: &[usize]) -> Result<bool, ReplicaError> {
        for foreign in user.table.foreign_keys.iter().chain(&user.references) {
            let parent = self.containers.of_table(&foreign.parent_table).map(|c| c.no);
            let parent = parent.filter(|parent| *parent != no && !self.is_circle(no, *parent));
            let Some(parent) = parent.filter(|_| foreign.columns.iter().any(|n| columns.contains(n))) else {
                continue;
            };
            if self.may_renumber(parent) {
                return Ok(true);
            }
            let Some(above) = self.user_table(parent)? else { continue };
            let is_named = |n: &usize| {
                let name = &above.table.columns[*n].name;
                foreign.parent_columns.iter().any(|named| named.eq_ignore_ascii_case(name))
            };
            let named: Vec<usize> = (0..above.table.columns.len()).filter(is_named).collect();
            if self.may_follow_in(&above, parent, &named)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The containers whose tables are related to this one, itself among them, if rows of any may move; else none.
    pub(crate) fn family(&self, no: i64) -> Vec<i64> {
        let found = self.relatives(no);
        if found.iter().any(|no| self.may_renumber(*no)) { found.into_iter().collect() } else { vec![] }
    }

    /// The containers whose tables are related to this one, itself among them.
    pub(crate) fn relatives(&self, no: i64) -> BTreeSet<i64> {
        let (mut found, mut rest) = (BTreeSet::from([no]), vec![no]);
        while let Some(next) = rest.pop() {
            let Some(state) = self.containers.get(&next) else { continue };
            let related = self.containers.children_of(&state.table).chain(self.containers.parents_of(next));
            rest.extend(related.filter(|no| found.insert(*no)).collect::<Vec<_>>());
        }
        found
    }

    /// Whether it is noted that a row written here has a number that another row has.
    pub(crate) fn is_number_taken(&self, no: i64, key: &RowKey) -> Result<bool, ReplicaError> {
        Ok(self.numbers.taken.contains(&no) && numbers::is_taken(&self.conn, no, key)?)
    }

    /// The changes of a row that were made here and that the server does not have, with what they build on: what the table
    /// showed when they were written.
    pub(crate) fn own_document(&mut self, no: i64, key: &RowKey) -> Result<Document, ReplicaError> {
        let (mut known, mut reached) = (HashMap::new(), vec![]);
        for at in documents::changes(&self.conn, no, key)? {
            let hash = self.history.hash(&self.conn, at)?;
            if numbers::is_unsent(&self.conn, no, at.segment())? {
                reached.push(hash);
            }
            known.insert(hash, self.history.change(&self.conn, at)?);
        }
        let mut document = Document::default();
        while let Some(hash) = reached.pop() {
            if let Some((actor, change)) = known.remove(&hash) {
                reached.extend(&change.deps);
                document.insert(hash, actor, change);
            }
        }
        Ok(document)
    }

    /// Rows that moved since this was asked last. Each is told once.
    pub fn take_renumbered(&mut self) -> Vec<Renumbered> {
        std::mem::take(&mut self.numbers.news)
    }

    /// Rows that were here, when their table met the server, under numbers of other rows there, and are in conflict with them: how
    /// many of each table. Each is told once.
    pub fn take_clashed(&mut self) -> std::collections::BTreeMap<String, u64> {
        std::mem::take(&mut self.numbers.clashed)
    }

    /// Notes that a container has rows whose numbers are taken. Call it in a transaction.
    pub(crate) fn note_taken(&mut self, no: i64, key: &RowKey) -> Result<(), ReplicaError> {
        numbers::put_taken(&self.conn, no, key)?;
        self.numbers.taken.insert(no);
        Ok(())
    }
}

/// What a replica knows of numbers, in memory.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// The settings of tables that have any.
    pub(crate) settings: std::collections::BTreeMap<i64, Settings>,
    /// Containers with rows whose numbers are taken.
    pub(crate) taken: BTreeSet<i64>,
    /// Whether the log of writes has more than the last capture took.
    pub(crate) is_reading_log: bool,
    /// Whether rows written here give way to those that come now.
    pub(crate) gives_way: bool,
    /// Whether rows that moved are listed without triggers of the application, one of which ended the transaction.
    pub(crate) lists_quietly: bool,
    /// Rows that moved, until they are told of; and those of this transaction.
    pub(crate) news: Vec<Renumbered>,
    /// Rows that were here under numbers of other rows at first contact, by table, until they are told of.
    pub(crate) clashed: std::collections::BTreeMap<String, u64>,
    /// Blocks of numbers, by container.
    pub(crate) leased: std::collections::BTreeMap<i64, crate::store::leases::Leased>,
}
