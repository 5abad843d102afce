//! First contact: what happens to rows that are here already when their counterpart's come in for the first time.

use crate::capture::Dirty;
use crate::change_codec;
use crate::document::Document;
use crate::id::Timestamp;
use crate::key::RowKey;
use crate::replica::{Replica, ReplicaError};
use crate::row::shown;
use crate::segment::Segment;
use crate::store::{StoreError, documents, log};
use std::collections::HashMap;

impl Replica {
    /// Before the counterpart's rows come in for the first time: captures those here that differ from them.
    pub(super) fn capture_met(
        &mut self,
        no: i64,
        segment: &Segment,
        now: Timestamp,
    ) -> Result<(), ReplicaError> {
        let Some(user) = self.user_table(no)? else { return Ok(()) };
        let mut reader = segment.changes().map_err(StoreError::from)?;
        let mut differing = vec![];
        while let Some(row) = reader.next_change().map_err(StoreError::from)? {
            let key = RowKey::from(row.key);
            if key == RowKey::Description || documents::find(&self.conn, no, &key)?.is_some() {
                continue;
            }
            let Some(values) = user.read(&self.conn, &key)? else { continue };
            let mut document = Document::default();
            let change = row.into_change();
            let hash = change_codec::encode(&change, &segment.actor, &mut vec![])
                .map_err(|_| StoreError::BadChange { segment: segment.id })?;
            document.insert(hash, segment.actor, change);
            let same = shown(&document.evaluate(), &user)
                .is_some_and(|shown| shown.iter().zip(&values).all(|(a, b)| a.as_ref().same(b.as_ref())));
            if !same {
                differing.push(key);
            }
        }
        if differing.is_empty() {
            return Ok(());
        }
        let before = if self.containers[&no].prefer_local { self.corrected(now) } else { Timestamp(0) };
        let mut written = HashMap::new();
        for entry in log::times(&self.conn, no)? {
            let time = self.corrected(Timestamp(entry.time)).min(self.corrected(now));
            written.extend(entry.keys(&user.table).map(|key| (key, time)));
        }
        let time = |key: &RowKey| written.get(key).copied().unwrap_or(before);
        let dirty = differing.into_iter().map(|key| Dirty { time: time(&key), key });
        let mut dirty: Vec<_> = dirty.collect();
        dirty.sort_by_key(|d| d.time);
        self.capture_rows(no, dirty)?;
        Ok(())
    }
}
