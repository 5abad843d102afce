//! Changes: which tables committed transactions changed, and which rows of tables that live queries look up by key.
//!
//! SQLite's pre-update hook names every row that is about to change, in tables without rowid and by REPLACE too, whoever writes:
//! the page, its triggers, or rows that arrive by sync. Piecewise's own tables are left out. What is rolled back is forgotten.

use rusqlite::Connection;
use rusqlite::hooks::{Action, PreUpdateCase};
use rusqlite::types::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Changed rows of a table that are told by key; beyond, the whole table counts as changed.
pub(crate) const KEYS_MAX: usize = 64;

/// Tables of Piecewise whose rows are for people to decide on.
const ATTENTION: [&str; 3] = ["piecewise_conflicts", "piecewise_held", "piecewise_refused"];

/// What changed in a table.
#[derive(Debug, Default)]
pub(crate) struct TableChanges {
    /// Keys that rows had before or have now, if a key column was named and they are few.
    pub(crate) keys: Vec<Value>,
    pub(crate) is_whole: bool,
}

impl TableChanges {
    fn add(&mut self, key: Option<Value>) {
        match key {
            _ if self.is_whole => {}
            Some(key) if self.keys.len() < KEYS_MAX => {
                if self.keys.last() != Some(&key) {
                    self.keys.push(key);
                }
            }
            _ => {
                self.keys = vec![];
                self.is_whole = true;
            }
        }
    }

    fn join(&mut self, other: Self) {
        self.is_whole |= other.is_whole;
        for key in other.keys {
            self.add(Some(key));
        }
        if self.is_whole {
            self.keys = vec![];
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Tables whose changed keys are wanted, with the key's column.
    key_columns: HashMap<String, i32>,
    open: BTreeMap<String, TableChanges>,
    committed: BTreeMap<String, TableChanges>,
    inserted: Option<i64>,
    /// Whether conflicts, held or refused rows changed: in the open transaction, and before.
    attention_open: bool,
    attention: bool,
}

/// Collects the changes on one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes(Arc<Mutex<State>>);

impl Changes {
    /// Installs the hooks; what other connections collected before stays.
    pub(crate) fn install(&self, conn: &mut Connection) -> rusqlite::Result<()> {
        let state = self.clone();
        conn.preupdate_hook(Some(move |_: Action, _: &str, table: &str, case: &PreUpdateCase| {
            if !is_internal(table) {
                state.lock().note(table, case);
            } else if ATTENTION.contains(&table) {
                state.lock().attention_open = true;
            }
        }))?;
        let state = self.clone();
        conn.commit_hook(Some(move || {
            state.lock().commit();
            false
        }))?;
        let state = self.clone();
        conn.rollback_hook(Some(move || {
            let mut state = state.lock();
            state.open.clear();
            state.attention_open = false;
        }))
    }

    /// Names the tables whose changed keys are wanted.
    pub(crate) fn set_key_columns(&self, columns: HashMap<String, i32>) {
        self.lock().key_columns = columns;
    }

    /// What was committed since the last call, by table.
    pub(crate) fn take(&self) -> BTreeMap<String, TableChanges> {
        std::mem::take(&mut self.lock().committed)
    }

    /// Whether conflicts, held or refused rows changed since the last call.
    pub(crate) fn take_attention(&self) -> bool {
        std::mem::take(&mut self.lock().attention)
    }

    /// The rowid of the row that a statement itself, not one of its triggers, inserted last since the last call.
    pub(crate) fn take_inserted(&self) -> Option<i64> {
        self.lock().inserted.take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, table: &str, case: &PreUpdateCase) {
        let (old, new) = match case {
            PreUpdateCase::Insert(new) => (None, Some(new)),
            PreUpdateCase::Delete(old) => (Some(old), None),
            PreUpdateCase::Update { old_value_accessor, new_value_accessor } => {
                (Some(old_value_accessor), Some(new_value_accessor))
            }
            PreUpdateCase::Unknown => (None, None),
        };
        if let (None, Some(new)) = (old, new)
            && new.get_query_depth() == 0
        {
            self.inserted = Some(new.get_new_row_id());
        }
        let column = self.key_columns.get(table).copied();
        if !self.open.contains_key(table) {
            self.open.insert(table.to_owned(), TableChanges::default());
        }
        let Some(changes) = self.open.get_mut(table) else { return };
        let Some(column) = column else { return changes.add(None) };
        if let Some(old) = old {
            changes.add(old.get_old_column_value(column).ok().and_then(|v| Value::try_from(v).ok()));
        }
        if let Some(new) = new {
            changes.add(new.get_new_column_value(column).ok().and_then(|v| Value::try_from(v).ok()));
        }
    }

    fn commit(&mut self) {
        self.attention |= std::mem::take(&mut self.attention_open);
        for (table, changes) in std::mem::take(&mut self.open) {
            self.committed.entry(table).or_default().join(changes);
        }
    }
}

/// Whether a table is Piecewise's or SQLite's own.
pub(crate) fn is_internal(table: &str) -> bool {
    table.starts_with("piecewise_") || table.starts_with("sqlite_")
}
