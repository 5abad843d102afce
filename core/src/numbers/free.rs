//! Free: numbers that no row has, and to which nothing refers.

use super::moving::{Pairs, Relation};
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::row;
use crate::store::leases::Leased;
use crate::store::user_table::{UserTable, quote};
use crate::store::{StoreError, documents, holds, numbers};
use crate::value::Value;
use std::collections::BTreeSet;

/// How often a number is drawn where none above all others is left.
const DRAWS: usize = 64;
/// After so many refusals, numbers are taken from no block: a server that was restored may have given it to others.
const LEASED_ROUNDS: u32 = 2;
/// After so many refusals of numbers, the numbers that are taken next lie no further apart.
const ROUNDS_APART: u32 = 16;
/// Numbers without a row to which rows of one table refer, of which note is taken.
const REFERRED_MAX: usize = 1 << 16;

/// Numbers of one table that are free, as they are taken one by one.
#[derive(Debug)]
pub(crate) struct FreeNumbers {
    /// How often numbers were refused on this connection.
    rounds: u32,
    taken: Option<Taken>,
}

#[derive(Debug)]
struct Taken {
    /// The greatest that a row has or had, or that was taken.
    top: i64,
    /// Numbers above it to which rows refer: the row was deleted, and its children were not.
    referred: BTreeSet<i64>,
}

impl FreeNumbers {
    pub(crate) fn new(rounds: u32) -> Self {
        Self { rounds, taken: None }
    }
}

impl Taken {
    /// The first number from `number` on to which nothing refers.
    fn free_from(&self, mut number: i64) -> Option<i64> {
        while self.referred.contains(&number) {
            number = number.checked_add(1)?;
        }
        Some(number)
    }

    fn next_leased(&self, leased: &Leased) -> Option<i64> {
        let mut next = leased.next(self.top)?;
        while self.referred.contains(&next) {
            next = leased.next(next)?;
        }
        Some(next)
    }
}

impl Replica {
    /// Whether a table takes a row under another key. One with `CHECK (id = 1)` has no second row: it stays in conflict, where
    /// it would be held on every device.
    pub(super) fn has_room_for(
        &self,
        user: &UserTable,
        key: &RowKey,
        new: &RowKey,
    ) -> Result<bool, ReplicaError> {
        let (RowKey::Integer(old), RowKey::Integer(new)) = (key, new) else { return Ok(true) };
        let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE AND sql LIKE '%CHECK%'";
        if !self.conn.prepare_cached(sql)?.exists([&user.table.name]).map_err(StoreError::from)? {
            return Ok(true);
        }
        let (table, column) =
            (quote(&user.table.name), quote(&user.table.columns[user.key_columns()[0]].name));
        self.set_triggers(false)?;
        self.conn.execute_batch("SAVEPOINT piecewise_tried")?;
        let tried =
            self.conn.execute(&format!("UPDATE {table} SET {column} = ?2 WHERE {column} = ?1"), [old, new]);
        self.conn.execute_batch("ROLLBACK TO piecewise_tried; RELEASE piecewise_tried")?;
        let is_refused = |error: &rusqlite::Error| {
            let code = error.sqlite_error().map(|error| error.extended_code);
            code == Some(rusqlite::ffi::SQLITE_CONSTRAINT_CHECK)
        };
        Ok(!tried.as_ref().is_err_and(is_refused))
    }

    /// A number that no row has and to which none refers: the next above all that are known or were given out, from a block if
    /// there is one. None: there is none.
    pub(crate) fn free_number(
        &mut self,
        no: i64,
        user: &UserTable,
        free: &mut FreeNumbers,
    ) -> Result<Option<i64>, ReplicaError> {
        let mut taken = match free.taken.take() {
            Some(taken) => taken,
            None => {
                let top = numbers::greatest(&self.conn, no)?.unwrap_or(0).max(self.last_given(user)?);
                Taken { top, referred: self.referred_above(user, top)? }
            }
        };
        let leased = self.numbers.leased.get(&no);
        let leased = leased.filter(|_| user.autoincrement && free.rounds <= LEASED_ROUNDS);
        let next = match leased.and_then(|leased| taken.next_leased(leased)) {
            Some(next) => Some(next),
            None => {
                // Devices that were refused at once do not meet again at the next number.
                let apart = 1_u64 << free.rounds.min(ROUNDS_APART);
                let gap = 1 + (u64::from_be_bytes(self.nonce()) % apart) as i64;
                taken.top.checked_add(gap).and_then(|next| taken.free_from(next))
            }
        };
        taken.top = next.unwrap_or(taken.top);
        let found = match next {
            Some(next) => Some(next),
            None => self.draw_number(no, user, &taken.referred)?,
        };
        free.taken = Some(taken);
        Ok(found)
    }

    /// As SQLite does when the greatest number is given out.
    fn draw_number(
        &mut self,
        no: i64,
        user: &UserTable,
        referred: &BTreeSet<i64>,
    ) -> Result<Option<i64>, ReplicaError> {
        for _ in 0..DRAWS {
            let new = (u64::from_be_bytes(self.nonce()) >> 2) as i64 + 1;
            let key = RowKey::Integer(new);
            if !referred.contains(&new)
                && documents::find(&self.conn, no, &key)?.is_none()
                && user.read(&self.conn, &key)?.is_none()
            {
                return Ok(Some(new));
            }
        }
        Ok(None)
    }

    /// Numbers above one to which rows refer: in tables, tracked or not, and in rows that are held.
    fn referred_above(&mut self, user: &UserTable, top: i64) -> Result<BTreeSet<i64>, ReplicaError> {
        let mut referred = BTreeSet::new();
        let mut columns = vec![];
        let [key] = user.key_columns()[..] else { return Ok(referred) };
        let naming = |pairs: &Pairs| pairs.all.iter().find(|(_, named)| *named == key).map(|(n, _)| *n);
        for other in self.other_tables()? {
            for foreign in &other.references {
                if foreign.parent_table.eq_ignore_ascii_case(&user.table.name)
                    && let Some(column) = Pairs::of(foreign, user).as_ref().and_then(naming)
                {
                    columns.push((other.name.clone(), other.columns[column].name.clone()));
                }
            }
        }
        for Relation { no, child, pairs } in self.relations(user, &BTreeSet::from([key]))? {
            let Some(column) = naming(&pairs) else { continue };
            columns.push((child.table.name.clone(), child.table.columns[column].name.clone()));
            for (key, _) in holds::all(&self.conn, no, child.has_integer_key())? {
                let view = self.history.view(&self.conn, no, &key)?;
                let Some(shown) = row::shown(&view, &child) else { continue };
                if let Value::Integer(number) = child.value_at(column, &child.key_values(&key)?, &shown)
                    && number > top
                {
                    referred.insert(number);
                }
            }
        }
        for (table, column) in columns {
            let (table, column) = (quote(&table), quote(&column));
            // A column of another type may have a number as text.
            let sql = format!(
                "SELECT DISTINCT CAST({column} AS INTEGER) FROM {table} WHERE CAST({column} AS INTEGER) > ?
                 ORDER BY 1 LIMIT {REFERRED_MAX}"
            );
            let mut stmt = self.conn.prepare(&sql).map_err(StoreError::from)?;
            let found = stmt.query_map([top], |row| row.get::<_, i64>(0)).map_err(StoreError::from)?;
            for number in found {
                referred.insert(number.map_err(StoreError::from)?);
            }
        }
        Ok(referred)
    }
}
