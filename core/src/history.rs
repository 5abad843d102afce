//! History: the changes of a row, read back from the segments that hold them.
//!
//! A row's document is nowhere as a whole: its changes are looked up where they are. Recently used
//! segments stay decoded in a small cache, so that rows near each other cost one decompression. Rows with several changes have
//! a baseline on disk (`baselines`), from which the next change is made, judged and shown without their segments; of those that
//! may have none, such as rows with texts, the evaluation stays in memory if it was used lately.

mod baselines;
mod recent;

pub(crate) use baselines::Noted;

use crate::bytes::DecodeError;
use crate::change::{Action, Change, OWN, Op};
use crate::change_codec;
use crate::document::{Document, Evaluation, Plain, View};
use crate::frame::{Columns, OpKind, Template};
use crate::id::{Actor, ChangeHash, Timestamp};
use crate::key::RowKey;
use crate::segment::Segment;
use crate::store::documents::{self, At};
use crate::store::{StoreError, segments};
use crate::value::ValueRef;
use baselines::Baselines;
use recent::Recent;
use rusqlite::Connection;
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Bytes of decoded segments kept.
const CACHE_BYTES_MAX: usize = 6 << 20;

/// What a decoded segment takes besides its bytes, values and rows.
const DECODED_BYTES: usize = 512;

/// Bytes of documents kept.
const DOCUMENT_BYTES_MAX: usize = 32 << 20;

/// Documents without a text and with fewer changes are made anew each time.
const KEPT_CHANGES_MIN: usize = 8;

/// Segments of which the outline is kept.
const OUTLINES_MAX: usize = 4096;

/// Segments of which the changes' hashes are kept: 32 KiB for each as a rule.
const HASHES_MAX: usize = 32;

/// Recently used segments, decoded, and what rows showed.
#[derive(Debug)]
pub(crate) struct History {
    decoded: Recent<i64, Arc<Decoded>>,
    /// By container and key.
    documents: Recent<(i64, RowKey), Standing>,
    outlines: HashMap<i64, Option<Arc<Outline>>>,
    /// The segment whose values were looked up last, not decoded.
    opened: Option<Opened>,
    /// Of segments whose hashes are kept.
    hashes: HashMap<i64, Option<Arc<[u8]>>>,
    baselines: Baselines,
    /// By whom segments were written, and when they were accepted.
    accepted: RefCell<HashMap<i64, (Actor, Timestamp)>>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            decoded: Recent::new(CACHE_BYTES_MAX),
            documents: Recent::new(DOCUMENT_BYTES_MAX),
            outlines: HashMap::new(),
            opened: None,
            hashes: HashMap::new(),
            baselines: Baselines::default(),
            accepted: RefCell::default(),
        }
    }
}

/// A cached evaluation that includes every change up to `last`.
#[derive(Debug, Default)]
struct Standing {
    evaluation: Evaluation,
    last: At,
}

/// What all changes of a segment of plain inserts have in common.
#[derive(Debug)]
pub(crate) struct Outline {
    pub(crate) actor: Actor,
    pub(crate) template: Template,
}

impl Outline {
    /// The document that is nothing but one of its inserts.
    pub(crate) fn plain(&self, hash: ChangeHash) -> Plain<'_> {
        Plain { template: &self.template, actor: self.actor, hash }
    }
}

/// A segment taken apart so that each change is found at once.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The segment it was made from.
    pub(crate) segment: Segment,
    templates: Vec<Template>,
    rows: Vec<DecodedRow>,
    values: Vec<Compact>,
}

#[derive(Debug)]
enum DecodedRow {
    /// A plain insert: its template, and where its values begin.
    Plain {
        key: RowKey,
        template: u32,
        first: u32,
    },
    Change {
        key: RowKey,
        change: Change,
    },
}

/// A value whose bytes are in the segment's plain frame.
#[derive(Debug, Clone, Copy)]
enum Compact {
    Null,
    Integer(i64),
    Real(f64),
    Text(u32, u32),
    Blob(u32, u32),
    RawText(u32, u32),
}

/// A segment of plain inserts of which single rows are looked up.
#[derive(Debug)]
struct Opened {
    no: i64,
    segment: Segment,
    columns: Columns,
}

impl Opened {
    fn new(no: i64, segment: Segment) -> Result<Self, StoreError> {
        let columns = Columns::new(segment.plain(), segment.header.count as usize).map_err(damaged)?;
        Ok(Self { no, segment, columns })
    }
}

fn damaged(_: DecodeError) -> StoreError {
    StoreError::Damaged { what: "a stored segment" }
}

impl History {
    /// All changes of a row as a document.
    pub(crate) fn document(
        &mut self,
        conn: &Connection,
        container: i64,
        key: &RowKey,
    ) -> Result<Document, StoreError> {
        let mut document = Document::default();
        for at in documents::changes(conn, container, key)? {
            let (actor, change) = self.change(conn, at)?;
            document.insert(self.hash(conn, at)?, actor, change);
        }
        Ok(document)
    }

    /// What a row shows: by its baseline if it has one, else from what it showed when it was looked at last and what came
    /// since, or from all of its changes.
    pub(crate) fn view(
        &mut self,
        conn: &Connection,
        container: i64,
        key: &RowKey,
    ) -> Result<Arc<View>, StoreError> {
        if *key != RowKey::Description
            && let Some(view) = self.view_of_baseline(conn, container, key, |_, _| None)?
        {
            return Ok(Arc::new(view));
        }
        let row = (container, key.clone());
        // While numbers of segments stay what they are, those that come are greater than all before.
        let known = self.documents.take(&row);
        let new = match &known {
            Some(known) => documents::changes_after(conn, container, key, known.last)?,
            None => documents::changes(conn, container, key)?,
        };
        let Standing { mut evaluation, mut last } = known.unwrap_or_default();
        for at in new {
            let (actor, change) = self.change(conn, at)?;
            evaluation.add(self.hash(conn, at)?, actor, &change);
            last = at;
        }
        if evaluation.needs_all() {
            return Ok(Arc::new(self.document(conn, container, key)?.evaluate()));
        }
        let view = evaluation.view().clone();
        if evaluation.len() > 1 && self.keep_baseline(conn, container, key, &view)? {
            return Ok(view);
        }
        if evaluation.len() >= KEPT_CHANGES_MIN || view.has_texts() {
            let size = evaluation.size();
            self.documents.put(row, Standing { evaluation, last }, size);
        }
        Ok(view)
    }

    /// What a row shows by all of its changes, and whether its baseline, if it has one, says the same.
    pub(crate) fn view_checked(
        &mut self,
        conn: &Connection,
        container: i64,
        key: &RowKey,
    ) -> Result<(Arc<View>, bool), StoreError> {
        let view = self.document(conn, container, key)?.evaluate();
        let is_right = self.is_baseline_right(conn, container, key, &view)?;
        Ok((Arc::new(view), is_right))
    }

    /// The outline of the only change of a row, if that is a plain insert.
    pub(crate) fn plain(
        &mut self,
        conn: &Connection,
        container: i64,
        key: &RowKey,
        first: At,
    ) -> Result<Option<Arc<Outline>>, StoreError> {
        if documents::has_later(conn, container, key)? {
            return Ok(None);
        }
        Ok(self.outline_of(conn, first.segment())?.clone())
    }

    /// The values of a plain insert in a segment that has an outline.
    pub(crate) fn plain_values<T>(
        &mut self,
        conn: &Connection,
        at: At,
        take: impl FnOnce(&[ValueRef<'_>]) -> T,
    ) -> Result<T, StoreError> {
        let mut opened = match self.opened.take() {
            Some(opened) if opened.no == at.segment() => opened,
            _ => Opened::new(at.segment(), segments::open(conn, at.segment())?)?,
        };
        let taken = take(&opened.columns.row(opened.segment.plain(), at.index()).map_err(damaged)?);
        if opened.segment.plain_len() <= CACHE_BYTES_MAX {
            self.opened = Some(opened);
        }
        Ok(taken)
    }

    fn outline_of(&mut self, conn: &Connection, no: i64) -> Result<&Option<Arc<Outline>>, StoreError> {
        if self.outlines.len() >= OUTLINES_MAX {
            self.outlines.clear();
        }
        Ok(match self.outlines.entry(no) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let outline = segments::outline(conn, no)?;
                new.insert(outline.map(|(actor, template)| Arc::new(Outline { actor, template })))
            }
        })
    }

    /// The hash of the change at a place.
    pub(crate) fn hash(&mut self, conn: &Connection, at: At) -> Result<ChangeHash, StoreError> {
        if self.hashes.len() >= HASHES_MAX && !self.hashes.contains_key(&at.segment()) {
            self.hashes.clear();
        }
        let hashes = match self.hashes.entry(at.segment()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(documents::hashes(conn, at.segment())?),
        };
        let damaged = StoreError::Damaged { what: "the hashes of a segment" };
        if let Some(hashes) = hashes {
            let hash = hashes.get(at.index() * ChangeHash::LEN..).and_then(|rest| rest.first_chunk());
            return hash.copied().map(ChangeHash).ok_or(damaged);
        }
        let (actor, change) = self.change(conn, at)?;
        change_codec::encode(&change, &actor, &mut vec![]).map_err(|_| damaged)
    }

    /// The change at a place, with its actor.
    pub(crate) fn change(&mut self, conn: &Connection, at: At) -> Result<(Actor, Change), StoreError> {
        let decoded = self.segment(conn, at.segment())?;
        let change = decoded
            .change(at.index())
            .ok_or(StoreError::Damaged { what: "a row refers to a change that its segment does not have" })?;
        Ok((decoded.segment.actor, change))
    }

    /// By whom a segment was written, and when it was accepted; None if that has not happened yet, as far as is known.
    ///
    /// SQLite reads a segment as a whole for a few of its bytes, and many rows ask for the same one.
    pub(crate) fn accepted(
        &self,
        conn: &Connection,
        container: i64,
        no: i64,
    ) -> Result<Option<(Actor, Option<Timestamp>)>, StoreError> {
        if let Some((actor, time)) = self.accepted.borrow().get(&no) {
            return Ok(Some((*actor, Some(*time))));
        }
        let Some(actor) = segments::actor_of(conn, no)? else { return Ok(None) };
        let time = segments::acceptance(conn, container, no)?.map(|(accepted, _)| accepted.time);
        if let Some(time) = time {
            let mut known = self.accepted.borrow_mut();
            if known.len() >= OUTLINES_MAX {
                known.clear();
            }
            known.insert(no, (actor, time));
        }
        Ok(Some((actor, time)))
    }

    /// A segment, decoded.
    pub(crate) fn segment(&mut self, conn: &Connection, no: i64) -> Result<Arc<Decoded>, StoreError> {
        if let Some(decoded) = self.decoded.get(&no) {
            return Ok(decoded.clone());
        }
        let decoded = Decoded::new(segments::open(conn, no)?);
        let decoded = Arc::new(decoded.map_err(damaged)?);
        self.decoded.put(no, decoded.clone(), decoded.size());
        Ok(decoded)
    }

    /// Forgets what was read, since numbers of segments may now mean others. Baselines of the transaction under way stay.
    pub(crate) fn clear(&mut self) {
        *self = Self { baselines: std::mem::take(&mut self.baselines), ..Self::default() };
    }

    /// Forgets what rows show, since changes were taken out.
    pub(crate) fn forget_documents(&mut self) {
        self.documents = Recent::new(DOCUMENT_BYTES_MAX);
    }
}

impl Decoded {
    fn new(segment: Segment) -> Result<Self, DecodeError> {
        let (mut rows, mut values) = (vec![], vec![]);
        let mut reader = segment.changes()?;
        let templates = reader.templates().cloned().collect();
        let base = segment.plain().as_ptr() as usize;
        while let Some(row) = reader.next_change()? {
            let key = RowKey::from(row.key);
            if row.template.is_plain_insert() {
                let (template, first) = (row.template_number as u32, values.len() as u32);
                values.extend(row.values.iter().map(|v| Compact::new(*v, base)));
                rows.push(DecodedRow::Plain { key, template, first });
            } else {
                rows.push(DecodedRow::Change { key, change: row.into_change() });
            }
        }
        drop(reader);
        Ok(Self { segment, templates, rows, values })
    }

    fn size(&self) -> usize {
        let bytes = self.segment.plain_len() + self.segment.bytes().len() + DECODED_BYTES;
        bytes + self.values.len() * size_of::<Compact>() + self.rows.len() * 64
    }

    /// The keys of its changes, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &RowKey> {
        self.rows.iter().map(|row| match row {
            DecodedRow::Plain { key, .. } | DecodedRow::Change { key, .. } => key,
        })
    }

    /// The change at a place.
    pub(crate) fn change(&self, index: usize) -> Option<Change> {
        let (template, first) = match self.rows.get(index)? {
            DecodedRow::Change { change, .. } => return Some(change.clone()),
            DecodedRow::Plain { template, first, .. } => (*template as usize, *first as usize),
        };
        let life = Op { key: String::new(), action: Action::Live(OWN), preds: vec![] };
        let ops = self.templates[template].ops.iter().enumerate().map(|(n, (key, kind))| {
            let action = match (kind, self.values[first + n].value(self.segment.plain())) {
                (OpKind::Counter, ValueRef::Integer(n)) => Action::Counter(n),
                (_, value) => Action::Put(value.to_owned()),
            };
            Op { key: key.clone(), action, preds: vec![] }
        });
        let ops = std::iter::once(life).chain(ops).collect();
        Some(Change { deps: vec![], start_op: 1, ops, text: vec![] })
    }
}

impl Compact {
    fn new(value: ValueRef<'_>, base: usize) -> Self {
        let place = |bytes: &[u8]| ((bytes.as_ptr() as usize - base) as u32, bytes.len() as u32);
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(i) => Self::Integer(i),
            ValueRef::Real(f) => Self::Real(f),
            ValueRef::Text("") => Self::Text(0, 0),
            ValueRef::Blob([]) => Self::Blob(0, 0),
            ValueRef::Text(s) => {
                let (at, len) = place(s.as_bytes());
                Self::Text(at, len)
            }
            ValueRef::Blob(b) => {
                let (at, len) = place(b);
                Self::Blob(at, len)
            }
            ValueRef::RawText(b) => {
                let (at, len) = place(b);
                Self::RawText(at, len)
            }
        }
    }

    fn value(self, plain: &[u8]) -> ValueRef<'_> {
        let cut = |at: u32, len: u32| &plain[at as usize..(at + len) as usize];
        match self {
            Self::Null => ValueRef::Null,
            Self::Integer(i) => ValueRef::Integer(i),
            Self::Real(f) => ValueRef::Real(f),
            Self::Text(at, len) => {
                ValueRef::Text(std::str::from_utf8(cut(at, len)).expect("checked when it was decoded"))
            }
            Self::Blob(at, len) => ValueRef::Blob(cut(at, len)),
            Self::RawText(at, len) => ValueRef::RawText(cut(at, len)),
        }
    }
}
