//! Containers: those of one file, found by number, id or table, and what many of them have in common.
//!
//! A file may hold ten thousand. So what is asked at every message is kept in indexes, and what only a container
//! that changes needs (the shape of its table, the state behind its root) is read when it is asked for.

use super::columns::ColumnBinding;
use super::stops::Stopped;
use crate::feed::Feed;
use crate::id::ContainerId;
use crate::store::user_table::UserTable;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Index;
use std::sync::Arc;

/// A look at a whole table that is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// None.
    No = 0,
    /// The counterpart has not been met: rows and log wait until all it has is here.
    Meet = 1,
    /// All it has is here: take in the rows that no document knows, before any is written into the table. The log still waits.
    Gather = 10,
    /// Join the rows that it has with those of the table. The log still waits.
    Join = 6,
    /// Take in the rows that no document knows (they were here before tracking).
    Adopt = 2,
    /// Compare every row (the triggers were missing for a while).
    Compare = 3,
    /// Every row was compared: count the documents that have none.
    Count = 7,
    /// The missing rows are few enough to be genuine deletes; capture them as deletes.
    Delete = 8,
    /// The same while documents are still to be brought into the table: none without a row is believed to be deleted.
    CompareAndFill = 9,
    /// Bring every document into the table (it was made anew).
    Fill = 4,
    /// The table is still to be made, together with others that come.
    Make = 5,
}

impl Scan {
    pub(super) fn from_code(code: i64) -> Self {
        use Scan::{Adopt, Compare, CompareAndFill, Count, Delete, Fill, Gather, Join, Make, Meet, No};
        [No, Meet, Gather, Join, Adopt, Compare, Count, Delete, CompareAndFill, Fill, Make]
            .into_iter()
            .find(|s| *s as i64 == code)
            .unwrap_or(Self::Compare)
    }
}

/// What the other tables, and writers, need to know of a container's table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// Tables that it refers to, in small letters.
    pub(crate) parents: Vec<String>,
    /// Whether the application has triggers on it.
    pub(crate) app_triggers: bool,
}

/// A container of this file.
#[derive(Debug)]
pub(crate) struct ContainerState {
    pub(crate) no: i64,
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) table: String,
    pub(crate) prefer_local: bool,
    pub(crate) integer_keys: bool,
    pub(crate) columns: Vec<ColumnBinding>,
    pub(crate) feed: Feed,
    /// How far a scan has come: the key it goes on after.
    pub(crate) scan_after: Option<crate::key::RowKey>,
    /// Up to where in the log rows that no document knew were taken in, before the table is joined.
    pub(crate) gathered: i64,
    /// Documents counted so far, and those of them whose rows are gone.
    pub(crate) counted: (u64, u64),
    /// Why it cannot take part now.
    pub(crate) stopped: Option<Stopped>,
    /// The number of the last segment in the file when the table was there for the last time, until it is compared.
    pub(crate) away: Option<i64>,
    /// The schema of the table when it was looked at last.
    pub(super) fingerprint: Option<i64>,
    /// The table as it is now, once it was asked for; None while there is none.
    pub(super) user: OnceCell<Option<Arc<UserTable>>>,
    pub(super) read_only: bool,
    pub(super) scan: Scan,
    pub(super) surroundings: Surroundings,
}

impl ContainerState {
    /// Columns that are called otherwise in documents: their names here and there.
    pub(crate) fn renamed_columns(&self) -> impl Iterator<Item = (String, String)> {
        let here = self.columns.iter().filter(|b| !b.name.is_empty() && b.name != b.key);
        here.map(|b| (b.name.clone(), b.key.clone()))
    }

    /// The scan that is still to be done.
    pub(crate) fn scan(&self) -> Scan {
        self.scan
    }

    /// Whether it has taken a table of this file for its own. One that was made by somebody else while this container
    /// was on its way is taken by `track` alone.
    pub(crate) fn has_table(&self) -> bool {
        !self.columns.is_empty()
    }

    /// Whether its table is neither captured nor written now.
    pub(crate) fn is_halted(&self) -> bool {
        self.stopped.as_ref().is_some_and(Stopped::halts)
    }

    /// Whether this device may only read it.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }
}

/// How far the documents of a container were counted: the last key, and what was found.
type Counting = (i64, Option<crate::key::RowKey>, (u64, u64));

/// All containers of a file.
#[derive(Debug, Default)]
pub(crate) struct Containers {
    all: BTreeMap<i64, ContainerState>,
    by_id: BTreeMap<ContainerId, i64>,
    by_table: HashMap<String, i64>,
    /// For each table, those that refer to it.
    children: HashMap<String, BTreeSet<i64>>,
    /// Those that have not met their counterpart, or are not joined with it.
    unmet: BTreeSet<i64>,
    /// Those whose table is not here, or does not fit.
    absent: BTreeSet<i64>,
    /// Those that cannot take part now.
    stopped: BTreeSet<i64>,
    /// Those whose table is still to be made.
    unmade: BTreeSet<i64>,
    /// Those with another scan to do.
    scanning: BTreeSet<i64>,
    /// Those on whose tables the application has triggers.
    triggered: BTreeSet<i64>,
    read_only: BTreeSet<i64>,
}

impl Index<&i64> for Containers {
    type Output = ContainerState;

    fn index(&self, no: &i64) -> &ContainerState {
        &self.all[no]
    }
}

impl Containers {
    pub(crate) fn get(&self, no: &i64) -> Option<&ContainerState> {
        self.all.get(no)
    }

    pub(crate) fn get_mut(&mut self, no: &i64) -> Option<&mut ContainerState> {
        self.all.get_mut(no)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &ContainerState> {
        self.all.values()
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = i64> {
        self.all.keys().copied()
    }

    /// The tables that are tracked, in small letters.
    pub(crate) fn tables(&self) -> HashSet<String> {
        self.all.values().filter(|c| c.has_table()).map(|c| c.table.to_ascii_lowercase()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// In the order of their ids.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &ContainerState> {
        self.by_id.values().map(|no| &self.all[no])
    }

    /// The highest number; 0: there is none.
    pub(crate) fn last(&self) -> i64 {
        self.all.last_key_value().map_or(0, |(no, _)| *no)
    }

    pub(crate) fn with_id(&self, id: &ContainerId) -> Option<&ContainerState> {
        self.by_id.get(id).map(|no| &self.all[no])
    }

    /// The container of a table, whatever the case of its letters.
    pub(crate) fn of_table(&self, table: &str) -> Option<&ContainerState> {
        self.by_table.get(&table.to_ascii_lowercase()).map(|no| &self.all[no])
    }

    /// Those whose tables refer to this one.
    pub(crate) fn children_of(&self, table: &str) -> impl Iterator<Item = i64> {
        self.children.get(&table.to_ascii_lowercase()).into_iter().flatten().copied()
    }

    /// Those to whose tables this one's refers.
    pub(crate) fn parents_of(&self, no: i64) -> impl Iterator<Item = i64> {
        let parents = self.all.get(&no).map_or(&[][..], |c| &c.surroundings.parents);
        parents
            .iter()
            .filter_map(|table| self.by_table.get(table).copied())
            .filter(move |parent| *parent != no)
    }

    /// Whether the log of any waits until it has met its counterpart, or its table is here.
    pub(crate) fn any_waiting(&self) -> bool {
        !self.unmet.is_empty() || !self.absent.is_empty()
    }

    /// Those that cannot take part now.
    pub(crate) fn stopped(&self) -> impl ExactSizeIterator<Item = &ContainerState> {
        self.stopped.iter().map(|no| &self.all[no])
    }

    /// Whether any may have rows that no document knows, since they have not met their counterpart.
    pub(crate) fn any_ungathered(&self) -> bool {
        self.unmet.iter().any(|no| matches!(self.all[no].scan, Scan::Meet | Scan::Gather))
    }

    /// How many have not met their counterpart, or are not joined with it.
    pub(crate) fn count_unmet(&self) -> u64 {
        self.unmet.len() as u64
    }

    /// Those whose table is still to be made.
    pub(crate) fn unmade(&self) -> &BTreeSet<i64> {
        &self.unmade
    }

    /// Those with a scan to do that can be done now.
    pub(crate) fn scanning(&self) -> impl Iterator<Item = &ContainerState> {
        self.scanning.iter().map(|no| &self.all[no])
    }

    /// How far documents were counted, which is in memory alone.
    pub(super) fn counting(&self) -> Vec<Counting> {
        let counting = self.scanning().filter(|c| c.scan == Scan::Count);
        counting.map(|c| (c.no, c.scan_after.clone(), c.counted)).collect()
    }

    /// Goes on counting from there after the file was read anew, where it is still to be done.
    pub(super) fn count_on(&mut self, counting: Vec<Counting>) {
        for (no, after, counted) in counting {
            if let Some(state) = self.all.get_mut(&no).filter(|c| c.scan == Scan::Count) {
                (state.scan_after, state.counted) = (after, counted);
            }
        }
    }

    /// Whether triggers of the application may act on what apply writes.
    pub(crate) fn any_triggers(&self) -> bool {
        !self.triggered.is_empty()
    }

    /// Whether there are some that may only be read here.
    pub(crate) fn any_read_only(&self) -> bool {
        !self.read_only.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn insert(&mut self, state: ContainerState) {
        let no = state.no;
        self.by_id.insert(state.id, no);
        self.by_table.insert(state.table.to_ascii_lowercase(), no);
        self.all.insert(no, state);
        self.enter(no);
    }

    pub(super) fn remove(&mut self, no: i64) {
        self.leave(no);
        if let Some(state) = self.all.remove(&no) {
            self.by_id.remove(&state.id);
            self.by_table.remove(&state.table.to_ascii_lowercase());
        }
    }

    /// Changes something of a container that the indexes depend on.
    pub(super) fn change(&mut self, no: i64, change: impl FnOnce(&mut ContainerState)) {
        self.leave(no);
        if let Some(state) = self.all.get_mut(&no) {
            change(state);
        }
        self.enter(no);
    }

    /// Forgets how tables look, so that they are read when they are asked for.
    pub(super) fn forget_tables(&mut self) {
        self.all.values_mut().for_each(|c| c.user = OnceCell::new());
    }

    fn enter(&mut self, no: i64) {
        let Some(state) = self.all.get(&no) else { return };
        for parent in &state.surroundings.parents {
            self.children.entry(parent.clone()).or_default().insert(no);
        }
        if matches!(state.scan, Scan::Meet | Scan::Gather | Scan::Join) {
            self.unmet.insert(no);
        }
        // One that is halted is not gone through until it goes on.
        let is_scanning = !matches!(state.scan, Scan::No | Scan::Meet | Scan::Make);
        if is_scanning && !state.is_halted() {
            self.scanning.insert(no);
        }
        if state.scan == Scan::Make {
            self.unmade.insert(no);
        }
        if state.stopped.is_some() {
            self.stopped.insert(no);
        }
        if state.fingerprint.is_none() && state.has_table() {
            self.absent.insert(no);
        }
        if state.surroundings.app_triggers {
            self.triggered.insert(no);
        }
        if state.read_only {
            self.read_only.insert(no);
        }
    }

    fn leave(&mut self, no: i64) {
        let Some(state) = self.all.get(&no) else { return };
        for parent in &state.surroundings.parents {
            if let Some(children) = self.children.get_mut(parent) {
                children.remove(&no);
            }
        }
        self.unmet.remove(&no);
        self.absent.remove(&no);
        self.stopped.remove(&no);
        self.unmade.remove(&no);
        self.scanning.remove(&no);
        self.triggered.remove(&no);
        self.read_only.remove(&no);
    }
}
