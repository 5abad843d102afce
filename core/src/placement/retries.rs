//! Retries: held rows whose cause no value tells are looked at again, some at a time, once what may be the cause changed.
//!
//! What a trigger refuses may depend on any table that it mentions; what a CHECK refuses, on the schema. A change of those,
//! and the start, make all rows of a table that are held for such a cause due. They are gone through in the order of their
//! keys, a few in each transaction, so that ten thousand of them hold nothing up.
//!
//! What a UNIQUE constraint or a foreign key holds is looked at by values; all of it is due once the table's constraints
//! are not those under which it was gone through last.

use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::store::holds::{self, HoldKind};
use crate::store::layout;
use crate::store::schema::fingerprint;
use std::collections::{BTreeMap, BTreeSet};

/// Rows looked at in one go, and where a row of the table ended a transaction before.
const ROWS: usize = 64;
const ROWS_WITH_CARE: usize = 8;
/// How often the rows of a table are gone through again for what came of it.
const ROUNDS_MAX: u8 = 8;

/// Which held rows are due.
#[derive(Debug, Default, Clone)]
pub(crate) struct Retries {
    started: bool,
    /// By container with rows held for what is in tables: the names that matter, in small letters.
    watched: BTreeMap<i64, BTreeSet<String>>,
    /// Of those, whether one of the tables is not tracked, so that nobody notes what is written there.
    unseen: BTreeSet<i64>,
    sweeps: BTreeMap<(i64, HoldKind), Sweep>,
    /// Containers whose triggers did not end: only another schema gives them a chance.
    given_up: BTreeSet<i64>,
    /// The round of the rows that are being looked at: what that writes makes rows due for the next one.
    round: Option<u8>,
    data_version: Option<i64>,
    /// By container and kind, whether it was seen to that the constraints are noted.
    noted: BTreeSet<(i64, HoldKind)>,
}

/// The held rows that are due.
#[derive(Debug)]
pub(crate) struct Due(BTreeMap<(i64, HoldKind), Sweep>);

/// How far the rows of a container that are held for one kind of cause were gone through.
#[derive(Debug, Default, Clone)]
struct Sweep {
    after: Option<RowKey>,
    again: bool,
    rounds: u8,
}

impl Retries {
    /// Whether any rows are due.
    pub(crate) fn any(&self) -> bool {
        !self.sweeps.is_empty()
    }

    /// Something was written to a table: by others, or by what apply brought.
    pub(crate) fn table_changed(&mut self, table: &str, by_others: bool) {
        if self.watched.is_empty() {
            return;
        }
        let table = table.to_ascii_lowercase();
        let due: Vec<_> =
            self.watched.iter().filter(|(_, names)| names.contains(&table)).map(|(no, _)| *no).collect();
        due.into_iter().for_each(|no| self.mark(no, HoldKind::Tables, by_others));
    }

    /// Rows of a container may be taken that were not a moment ago.
    pub(crate) fn try_again(&mut self, no: i64) {
        self.mark(no, HoldKind::Tables, false);
    }

    fn mark(&mut self, no: i64, kind: HoldKind, by_others: bool) {
        if self.given_up.contains(&no) {
            return;
        }
        // Rows that are looked at may take others out and put them back, so they would make themselves due for ever.
        let rounds = self.round.filter(|_| !by_others).map_or(0, |round| round + 1);
        if rounds > ROUNDS_MAX {
            return;
        }
        let sweep = self.sweeps.entry((no, kind)).or_insert(Sweep { rounds, ..Sweep::default() });
        sweep.again |= sweep.after.is_some();
        if by_others {
            sweep.rounds = 0;
        }
    }

    /// Forgets what is due of a container whose triggers do not end.
    pub(crate) fn give_up(&mut self, no: i64) {
        self.given_up.insert(no);
        self.sweeps.remove(&(no, HoldKind::Tables));
    }

    /// What is due, to be given back if the transaction fails.
    pub(crate) fn due(&self) -> Due {
        Due(self.sweeps.clone())
    }

    /// Takes back what was due before a transaction that failed.
    pub(crate) fn restore(&mut self, due: Due) {
        self.sweeps.extend(due.0.into_iter().filter(|((no, _), _)| !self.given_up.contains(no)));
    }
}

impl Replica {
    /// Makes all held rows due whose cause may be the schema, as at a start.
    pub(crate) fn schema_is_new(&mut self) -> Result<(), ReplicaError> {
        let kept = self.retries.data_version;
        self.retries = Retries { started: true, data_version: kept, ..Retries::default() };
        for kind in [HoldKind::Local, HoldKind::Tables] {
            for no in holds::with_kind(&self.conn, kind)? {
                if kind == HoldKind::Tables {
                    self.watch_tables(no)?;
                }
                self.retries.mark(no, kind, true);
            }
        }
        // Of these the rows tell by values when to look at them again, unless a constraint itself is another.
        for kind in [HoldKind::Unique, HoldKind::Foreign] {
            for no in holds::with_kind(&self.conn, kind)? {
                let constraints = self.constraints(no, kind)?;
                if constraints.is_some() && layout::meta(&self.conn, &looked_at(no, kind))? != constraints {
                    self.retries.mark(no, kind, true);
                }
            }
        }
        Ok(())
    }

    /// A digest of a table's constraints that hold rows for this kind of cause; None while there is no such table.
    fn constraints(&self, no: i64, kind: HoldKind) -> Result<Option<i64>, ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(None) };
        let table = &user.table;
        let text = match kind {
            HoldKind::Unique => {
                let name = |column: Option<usize>| column.map(|n| table.columns[n].name.as_str());
                let terms = table.unique.iter().map(|u| {
                    let terms = u.columns.iter().map(|t| (name(t.column), &t.collation));
                    (terms.collect::<Vec<_>>(), &u.partial)
                });
                format!("{:?}", terms.collect::<Vec<_>>())
            }
            _ => {
                let keys = table.foreign_keys.iter().filter(|f| f.kept).map(|f| {
                    let own = f.columns.iter().map(|n| table.columns[*n].name.as_str());
                    (own.collect::<Vec<_>>(), &f.parent_table, &f.parent_columns)
                });
                format!("{:?}", keys.collect::<Vec<_>>())
            }
        };
        Ok(Some(fingerprint(&table.name, &text)))
    }

    /// The first row of a table is to be held for this kind of cause: notes under which constraints, so that it is not looked
    /// at again for nothing at the next start.
    pub(super) fn note_constraints(&mut self, no: i64, kind: HoldKind) -> Result<(), ReplicaError> {
        if !matches!(kind, HoldKind::Unique | HoldKind::Foreign) || !self.retries.noted.insert((no, kind)) {
            return Ok(());
        }
        if !holds::any_of_kind(&self.conn, no, kind)?
            && let Some(constraints) = self.constraints(no, kind)?
        {
            layout::set_meta(&self.conn, &looked_at(no, kind), constraints)?;
        }
        Ok(())
    }

    /// Notes what may let the rows of a container in that are held for what is in tables.
    pub(super) fn watch_tables(&mut self, no: i64) -> Result<(), ReplicaError> {
        if self.retries.watched.contains_key(&no) {
            return Ok(());
        }
        let Some(state) = self.containers.get(&no) else { return Ok(()) };
        let names = self.clauses()?.mentioned_on(&state.table);
        let kinds = self.kinds()?;
        if names.iter().any(|name| kinds.has(name) && self.containers.of_table(name).is_none()) {
            self.retries.unseen.insert(no);
        }
        self.retries.watched.insert(no, names);
        Ok(())
    }

    /// Notes what other programs wrote without a word in the log. Returns whether held rows are due.
    pub(crate) fn any_retries(&mut self) -> Result<bool, ReplicaError> {
        if !self.retries.started {
            self.schema_is_new()?;
        }
        if !self.retries.unseen.is_empty() {
            let version = Some(self.data_version()?);
            if self.retries.data_version != version {
                self.retries.data_version = version;
                for no in self.retries.unseen.clone() {
                    self.retries.mark(no, HoldKind::Tables, true);
                }
            }
        }
        Ok(self.retries.any())
    }

    /// Looks again at some of the held rows that are due. Call it in a transaction in which nothing is left to capture.
    pub(crate) fn retry_held(&mut self) -> Result<(), ReplicaError> {
        if !self.any_retries()? {
            return Ok(());
        }
        let Some((&(no, kind), sweep)) = self.retries.sweeps.iter().next() else { return Ok(()) };
        let Some(state) = self.containers.get(&no) else {
            self.retries.sweeps.remove(&(no, kind));
            return Ok(());
        };
        let round = sweep.rounds;
        let limit = if self.stumbles.ever(no) { ROWS_WITH_CARE } else { ROWS };
        let keys = holds::of_kind(&self.conn, no, kind, state.integer_keys, sweep.after.as_ref(), limit)?;
        let next = match keys.last().filter(|_| keys.len() == limit) {
            Some(last) => Some(Sweep { after: Some(last.clone()), ..sweep.clone() }),
            None if sweep.again && sweep.rounds < ROUNDS_MAX => {
                Some(Sweep { after: None, again: false, rounds: sweep.rounds + 1 })
            }
            None => None,
        };
        match next {
            Some(next) => drop(self.retries.sweeps.insert((no, kind), next)),
            None => {
                self.retries.sweeps.remove(&(no, kind));
                if matches!(kind, HoldKind::Unique | HoldKind::Foreign)
                    && let Some(constraints) = self.constraints(no, kind)?
                {
                    layout::set_meta(&self.conn, &looked_at(no, kind), constraints)?;
                }
            }
        }
        self.retries.round = Some(round);
        let settled = self.settle_quietly(keys.into_iter().map(|key| (no, key)).collect());
        self.retries.round = None;
        settled
    }
}

/// Where the file notes under which constraints the held rows of a container were gone through last.
fn looked_at(no: i64, kind: HoldKind) -> String {
    format!("held {no} {}", kind as i64)
}
