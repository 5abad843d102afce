//! Deciding: what a person does about a held row: have it show, edit it, or give it up. Each is a change like any other, so
//! all replicas follow it.

use super::Candidate;
use super::claims::{unique_claim, unique_values};
use crate::capture::{SEGMENT_BYTES, SEGMENT_ROWS};
use crate::change::{Change, Merge};
use crate::frame::{FrameWriter, KeyRef};
use crate::id::Timestamp;
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::row;
use crate::store::holds::{self, HoldKind};
use crate::store::user_table::UserTable;
use crate::value::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Replica {
    /// Has a row show that is held because another has its UNIQUE value; the others are held then. Returns their keys.
    ///
    /// The others write their values again, so that the claim of this row is the older one.
    pub fn choose_held(
        &mut self,
        now: Timestamp,
        table: &str,
        key: &str,
    ) -> Result<Vec<String>, ReplicaError> {
        let (first, kind) = self.held_row(now, table, key)?;
        if kind != HoldKind::Unique {
            return Err(ReplicaError::Invalid {
                what: "no other row keeps it out of the table; `held` says what does".into(),
            });
        }
        let time = self.corrected(now);
        self.transaction_again(|r| {
            let (mut rows, mut writer) = (vec![], FrameWriter::default());
            for (rival, columns) in r.claimants(&first)? {
                let Some(change) = r.claim_again(&first, &rival, &columns)? else { continue };
                writer.push(KeyRef::from(&rival), &change);
                rows.push(rival);
                if writer.len() == SEGMENT_ROWS || writer.byte_len() >= SEGMENT_BYTES {
                    r.write_frame(first.no, std::mem::take(&mut writer), time)?;
                }
            }
            if !writer.is_empty() {
                r.write_frame(first.no, writer, time)?;
            }
            let shown: Vec<_> =
                rows.iter().map(|key| first.user.read(&r.conn, key)).collect::<Result<_, _>>()?;
            let losers: Vec<_> =
                rows.iter().zip(shown).filter_map(|(key, shown)| shown.map(|_| key.clone())).collect();
            rows.push(first.key.clone());
            r.settle_quietly(rows.into_iter().map(|key| (first.no, key)).collect())?;
            let held = holds::all(&r.conn, first.no, first.user.has_integer_key())?;
            if let Some((_, cause)) = held.into_iter().find(|(key, _)| *key == first.key) {
                // It may refer to a row that gives way to it.
                let what = format!("it would be held all the same: {cause}");
                return Err(ReplicaError::Invalid { what });
            }
            Ok(losers.iter().map(|key| first.user.key_text(key)).collect())
        })
    }

    /// Rows, shown or held, that have UNIQUE values of a row, each with the columns of those.
    fn claimants(&mut self, first: &Candidate) -> Result<BTreeMap<RowKey, Vec<Vec<usize>>>, ReplicaError> {
        let mut found = self.rivals(first)?;
        let Candidate { no, key, user, wanted, .. } = first;
        for unique in &user.table.unique {
            let Some(values) = unique_values(user, unique, key, wanted)? else { continue };
            let columns: Vec<_> = values.iter().map(|v| v.index).collect();
            for held in
                holds::claimants(&self.conn, *no, &unique_claim(user, &values), user.has_integer_key())?
            {
                let known = found.entry(held).or_default();
                if !known.contains(&columns) {
                    known.push(columns.clone());
                }
            }
        }
        found.remove(key);
        Ok(found)
    }

    /// The change by which a row claims its values in these columns anew; None if it is not there.
    fn claim_again(
        &mut self,
        held: &Candidate,
        rival: &RowKey,
        columns: &[Vec<usize>],
    ) -> Result<Option<Change>, ReplicaError> {
        let view = self.history.view(&self.conn, held.no, rival)?;
        let Some(values) = row::shown(&view, &held.user) else { return Ok(None) };
        let claimed = held
            .user
            .columns
            .iter()
            .zip(values)
            .filter(|(c, _)| columns.iter().flatten().any(|n| *n == c.index));
        let again: Vec<_> = claimed.map(|(c, value)| (c.key.clone(), Merge::Register, value)).collect();
        if again.is_empty() {
            return Err(ReplicaError::Invalid { what: "what both rows have is part of their keys".into() });
        }
        Ok(Some(view.edit(&again)))
    }

    /// Gives columns of a held row other values, so that the table may show it; whether it does then.
    pub fn edit_held(
        &mut self,
        now: Timestamp,
        table: &str,
        key: &str,
        columns: &[(String, String)],
    ) -> Result<bool, ReplicaError> {
        let (held, _) = self.held_row(now, table, key)?;
        let mut edited = vec![];
        for (name, text) in columns {
            let column = held
                .user
                .columns
                .iter()
                .find(|c| held.user.table.columns[c.index].name.eq_ignore_ascii_case(name));
            let Some(column) = column else {
                return Err(ReplicaError::NotFound {
                    what: format!("column {name} that can be edited in {table}"),
                });
            };
            edited.push((column.key.clone(), column.merge, held.user.parse_column(column.index, text)));
        }
        let change = held.view.edit(&edited);
        self.decide(now, held.no, (held.key.clone(), change))?;
        Ok(holds::find(&self.conn, held.no, &held.key)?.is_none())
    }

    /// Deletes a held row, everywhere.
    pub fn discard_held(&mut self, now: Timestamp, table: &str, key: &str) -> Result<(), ReplicaError> {
        let (held, _) = self.held_row(now, table, key)?;
        let change = held.view.delete();
        self.decide(now, held.no, (held.key, change))
    }

    fn held_row(
        &mut self,
        now: Timestamp,
        table: &str,
        key: &str,
    ) -> Result<(Candidate, HoldKind), ReplicaError> {
        while self.capture(now)?.more {}
        let no = self.number(table)?;
        let missing = || ReplicaError::NotFound { what: format!("held row {key} of {table}") };
        let user: Arc<UserTable> = self.user_table(no)?.ok_or_else(missing)?;
        if self.containers[&no].is_read_only() {
            return Err(ReplicaError::Invalid { what: format!("table {table} is read-only on this device") });
        }
        let key = user.parse_key(key).map_err(|what| ReplicaError::Invalid { what })?;
        let kind = holds::find(&self.conn, no, &key)?.ok_or_else(missing)?;
        Ok((self.candidate(no, &key)?.ok_or_else(missing)?, kind))
    }

    /// A row that lives, as its table is to show it.
    fn candidate(&mut self, no: i64, key: &RowKey) -> Result<Option<Candidate>, ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(None) };
        let view = self.history.view(&self.conn, no, key)?;
        let wanted = row::shown(&view, &user);
        Ok(wanted.map(|wanted| Candidate { no, key: key.clone(), user, view, wanted }))
    }

    /// Writes a change and looks at its row again.
    fn decide(
        &mut self,
        now: Timestamp,
        no: i64,
        (key, change): (RowKey, Change),
    ) -> Result<(), ReplicaError> {
        let time = self.corrected(now);
        self.transaction_again(|r| {
            r.write_change(no, &key, &change, time)?;
            r.settle_quietly(vec![(no, key.clone())])
        })
    }
}

impl UserTable {
    /// A value for a column as a person writes it; `NULL` is none.
    fn parse_column(&self, index: usize, text: &str) -> Value {
        if text.eq_ignore_ascii_case("NULL") { Value::Null } else { self.parse_value(index, text) }
    }
}
