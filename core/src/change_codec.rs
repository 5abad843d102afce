//! Change codec: our changes as Automerge change chunks, byte for byte, without an Automerge object.
//!
//! The format is Automerge's binary document format, chunk type 1 (automerge.org/automerge-binary-format-spec).
//! Automerge keeps no chunk but makes it anew from its operations, so only its very bytes have the right
//! hash. There is no decoder here: changes travel in frames, and only what this encoder makes exists.

mod runs;

use crate::bytes::{put_bytes, put_sleb, put_uleb, sleb_len, uleb_len};
use crate::change::{Action, Change, OWN, OpId, TextRun};
use crate::id::{Actor, ChangeHash};
use crate::value::ValueRef;
use runs::{Deltas, Runs};
use sha2::{Digest, Sha256};

/// Automerge's magic bytes.
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const CHANGE_CHUNK: u8 = 1;
/// The greatest counter of an operation; Automerge keeps counters in 32 bits.
pub const COUNTER_MAX: u64 = u32::MAX as u64 - 1_000_000;

/// Numbers of columns in a chunk: id << 4 | type.
mod column {
    pub(super) const OBJECT_ACTOR: u64 = 1;
    pub(super) const OBJECT_COUNTER: u64 = 2;
    pub(super) const KEY_ACTOR: u64 = 17;
    pub(super) const KEY_COUNTER: u64 = 19;
    pub(super) const KEY_STRING: u64 = 21;
    pub(super) const INSERT: u64 = 52;
    pub(super) const ACTION: u64 = 66;
    pub(super) const VALUE_META: u64 = 86;
    pub(super) const VALUE: u64 = 87;
    pub(super) const PRED_GROUP: u64 = 112;
    pub(super) const PRED_ACTOR: u64 = 113;
    pub(super) const PRED_COUNTER: u64 = 115;
}

/// Numbers of actions in a chunk.
mod action {
    pub(super) const PUT: u64 = 1;
    pub(super) const DELETE: u64 = 3;
    pub(super) const MAKE_TEXT: u64 = 4;
    pub(super) const INCREMENT: u64 = 5;
}

/// Types of values in a chunk.
mod kind {
    pub(super) const NULL: u64 = 0;
    pub(super) const FALSE: u64 = 1;
    pub(super) const INTEGER: u64 = 4;
    pub(super) const REAL: u64 = 5;
    pub(super) const TEXT: u64 = 6;
    pub(super) const BYTES: u64 = 7;
    pub(super) const COUNTER: u64 = 8;
    pub(super) const RAW_TEXT: u64 = 10;
}

/// A change that Automerge could not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Its operations' counters go beyond the limit.
    #[error("an operation's counter is beyond {COUNTER_MAX}")]
    CounterTooLarge,
}

/// Appends the chunk of a change by `actor`; its hash.
pub fn encode(change: &Change, actor: &Actor, out: &mut Vec<u8>) -> Result<ChangeHash, EncodeError> {
    let mut columns = Columns::new(change, actor);
    columns.fill(change)?;
    let mut body = Vec::with_capacity(256);
    put_uleb(&mut body, change.deps.len() as u64);
    change.deps.iter().for_each(|dep| body.extend_from_slice(&dep.0));
    put_bytes(&mut body, &actor.0);
    put_uleb(&mut body, 1); // seq
    put_uleb(&mut body, change.start_op);
    put_sleb(&mut body, 0); // time
    put_uleb(&mut body, 0); // no message
    put_uleb(&mut body, columns.others.len() as u64);
    columns.others.iter().for_each(|other| put_bytes(&mut body, &other.0));
    columns.put(&mut body);
    Ok(finish(&body, out))
}

fn finish(body: &[u8], out: &mut Vec<u8>) -> ChangeHash {
    let mut head = vec![CHANGE_CHUNK];
    put_uleb(&mut head, body.len() as u64);
    let hash: [u8; 32] = Sha256::new().chain_update(&head).chain_update(body).finalize().into();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&hash[..4]);
    out.extend_from_slice(&head);
    out.extend_from_slice(body);
    ChangeHash(hash)
}

/// Operations as columns, one entry in each for each operation.
#[derive(Default)]
struct Columns {
    own: Option<Actor>,
    others: Vec<Actor>,
    object_actor: Runs<u64>,
    object_counter: Runs<u64>,
    key_actor: Runs<u64>,
    key_counter: Deltas,
    key_string: Runs<String>,
    insert: Runs<bool>,
    action: Runs<u64>,
    value_meta: Runs<u64>,
    value: Vec<u8>,
    pred_group: Runs<u64>,
    pred_actor: Runs<u64>,
    pred_counter: Deltas,
}

impl Columns {
    fn new(change: &Change, own: &Actor) -> Self {
        let mut others: Vec<Actor> = vec![];
        let mut note = |id: &OpId| {
            if id.actor != OWN && id.actor != *own {
                others.push(id.actor);
            }
        };
        change.ops.iter().flat_map(|op| &op.preds).for_each(&mut note);
        for run in &change.text {
            match run {
                TextRun::Insert { object, after, .. } => {
                    note(object);
                    after.iter().for_each(&mut note);
                }
                TextRun::Delete { object, first, .. } => {
                    note(object);
                    note(first);
                }
            }
        }
        others.sort_unstable();
        others.dedup();
        Self { own: Some(*own), others, ..Self::default() }
    }

    fn actor(&self, actor: &Actor) -> u64 {
        if *actor == OWN || Some(*actor) == self.own {
            return 0;
        }
        self.others.binary_search(actor).map_or(0, |n| n as u64 + 1)
    }

    fn fill(&mut self, change: &Change) -> Result<(), EncodeError> {
        // Before any run is written: a few bytes may claim any number of elements.
        let end = change.start_op.checked_add(change.operations());
        if end.is_none_or(|end| end > COUNTER_MAX) {
            return Err(EncodeError::CounterTooLarge);
        }
        let mut counter = change.start_op;
        for op in &change.ops {
            self.push_root(op);
            counter += 1;
        }
        for run in &change.text {
            match run {
                TextRun::Insert { object, after, text } => {
                    self.push_inserts(object, *after, counter, text);
                    counter += text.chars().count() as u64;
                }
                TextRun::Delete { object, first, count } => {
                    self.push_deletes(object, *first, *count);
                    counter += count;
                }
            }
        }
        Ok(())
    }

    fn push_root(&mut self, op: &crate::change::Op) {
        self.object_actor.push(None);
        self.object_counter.push(None);
        self.key_actor.push(None);
        self.key_counter.push(None);
        self.key_string.push(Some(op.key.clone()));
        self.insert.push(Some(false));
        let number = match &op.action {
            Action::MakeText => action::MAKE_TEXT,
            Action::Increment(_) => action::INCREMENT,
            _ => action::PUT,
        };
        self.action.push(Some(number));
        match &op.action {
            Action::Live(incarnation) => {
                let own = self.own.unwrap_or(OWN);
                let incarnation = if *incarnation == OWN { own } else { *incarnation };
                self.push_value(kind::BYTES, &[incarnation.0, own.0].concat());
            }
            Action::Dead => self.push_value(kind::FALSE, &[]),
            Action::MakeText => self.push_value(kind::NULL, &[]),
            Action::Increment(n) => self.push_integer(kind::INTEGER, *n),
            Action::Counter(n) => self.push_integer(kind::COUNTER, *n),
            Action::Put(value) => match value.as_ref() {
                ValueRef::Integer(i) => self.push_integer(kind::INTEGER, i),
                value => {
                    let (kind, bytes) = plain_value(&value);
                    self.push_value(kind, bytes.as_ref());
                }
            },
        }
        self.push_preds(&op.preds);
    }

    /// Characters one after another with counters from `counter` on, the first after `after`.
    fn push_inserts(&mut self, object: &OpId, after: Option<OpId>, counter: u64, text: &str) {
        let n = text.chars().count() as u64;
        self.push_in_text(object, after, n);
        self.key_actor.push_many(Some(0), n - 1);
        self.key_counter.push_rising(counter as i64, n - 1);
        self.insert.push_many(Some(true), n);
        self.action.push_many(Some(action::PUT), n);
        for c in text.chars() {
            self.value_meta.push(Some((c.len_utf8() as u64) << 4 | kind::TEXT));
        }
        self.value.extend_from_slice(text.as_bytes());
        self.pred_group.push_many(Some(0), n);
    }

    /// `n` elements with rising counters, as one run in each column however many they are.
    fn push_deletes(&mut self, object: &OpId, first: OpId, n: u64) {
        let actor = self.actor(&first.actor);
        self.push_in_text(object, Some(first), n);
        self.key_actor.push_many(Some(actor), n - 1);
        self.key_counter.push_rising(first.counter as i64 + 1, n - 1);
        self.insert.push_many(Some(false), n);
        self.action.push_many(Some(action::DELETE), n);
        self.value_meta.push_many(Some(kind::NULL), n);
        self.pred_group.push_many(Some(1), n);
        self.pred_actor.push_many(Some(actor), n);
        self.pred_counter.push_rising(first.counter as i64, n);
    }

    /// What `n` operations in a text have in common, and the element at which the first acts.
    fn push_in_text(&mut self, object: &OpId, element: Option<OpId>, n: u64) {
        self.object_actor.push_many(Some(self.actor(&object.actor)), n);
        self.object_counter.push_many(Some(object.counter), n);
        self.key_actor.push(element.map(|e| self.actor(&e.actor)));
        self.key_counter.push(Some(element.map_or(0, |e| e.counter as i64)));
        self.key_string.push_many(None, n);
    }

    fn push_integer(&mut self, kind: u64, n: i64) {
        self.value_meta.push(Some((sleb_len(n) as u64) << 4 | kind));
        put_sleb(&mut self.value, n);
    }

    fn push_value(&mut self, kind: u64, bytes: &[u8]) {
        self.value_meta.push(Some((bytes.len() as u64) << 4 | kind));
        self.value.extend_from_slice(bytes);
    }

    fn push_preds(&mut self, preds: &[OpId]) {
        self.pred_group.push(Some(preds.len() as u64));
        for pred in preds {
            self.pred_actor.push(Some(self.actor(&pred.actor)));
            self.pred_counter.push(Some(pred.counter as i64));
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        let uleb = |v: &u64, out: &mut Vec<u8>| put_uleb(out, *v);
        let text = |v: &String, out: &mut Vec<u8>| put_bytes(out, v.as_bytes());
        let columns = [
            (column::OBJECT_ACTOR, self.object_actor.encode(uleb)),
            (column::OBJECT_COUNTER, self.object_counter.encode(uleb)),
            (column::KEY_ACTOR, self.key_actor.encode(uleb)),
            (column::KEY_COUNTER, self.key_counter.encode()),
            (column::KEY_STRING, self.key_string.encode(text)),
            (column::INSERT, self.insert.encode_booleans()),
            (column::ACTION, self.action.encode(uleb)),
            (column::VALUE_META, self.value_meta.encode(uleb)),
            (column::VALUE, self.value.clone()),
            (column::PRED_GROUP, self.pred_group.encode(uleb)),
            (column::PRED_ACTOR, self.pred_actor.encode(uleb)),
            (column::PRED_COUNTER, self.pred_counter.encode()),
        ];
        let present = || columns.iter().filter(|(_, bytes)| !bytes.is_empty());
        put_uleb(out, present().count() as u64);
        for (number, bytes) in present() {
            put_uleb(out, *number);
            put_uleb(out, bytes.len() as u64);
        }
        present().for_each(|(_, bytes)| out.extend_from_slice(bytes));
    }
}

fn plain_value<'a>(value: &ValueRef<'a>) -> (u64, std::borrow::Cow<'a, [u8]>) {
    match *value {
        ValueRef::Real(f) => (kind::REAL, f.to_bits().to_le_bytes().to_vec().into()),
        ValueRef::Text(s) => (kind::TEXT, s.as_bytes().into()),
        ValueRef::Blob(b) => (kind::BYTES, b.into()),
        ValueRef::RawText(b) => (kind::RAW_TEXT, b.into()),
        ValueRef::Null | ValueRef::Integer(_) => (kind::NULL, [][..].into()),
    }
}

/// The chunks of plain inserts that have the same columns: what is common to them is made once.
#[derive(Debug)]
pub struct FreshEncoder {
    counters: Vec<bool>,
    keys: Vec<u8>,
    /// From the insert column's length up to the value columns; the ends of the body.
    ops: u64,
    metas: Vec<u64>,
    meta: Vec<u8>,
    values: Vec<u8>,
    body: Vec<u8>,
}

impl FreshEncoder {
    /// For inserts into these columns; the flag says that a column is a counter.
    pub fn new(columns: &[(&str, bool)]) -> Self {
        let mut names = Runs::default();
        std::iter::once("").chain(columns.iter().map(|(c, _)| *c)).for_each(|name| names.push(Some(name)));
        let keys = names.encode(|name, out| put_bytes(out, name.as_bytes()));
        Self {
            counters: columns.iter().map(|(_, counter)| *counter).collect(),
            keys,
            ops: columns.len() as u64 + 1,
            metas: vec![],
            meta: vec![],
            values: vec![],
            body: vec![],
        }
    }

    /// The hash of the insert of these values by `actor`.
    pub fn hash(&mut self, actor: &Actor, values: &[ValueRef<'_>]) -> ChangeHash {
        self.fill(actor, values);
        let mut head = [0; 11];
        head[0] = CHANGE_CHUNK;
        let (mut n, mut len) = (1, self.body.len());
        while len >= 0x80 {
            head[n] = len as u8 | 0x80;
            len >>= 7;
            n += 1;
        }
        head[n] = len as u8;
        ChangeHash(Sha256::new().chain_update(&head[..=n]).chain_update(&self.body).finalize().into())
    }

    fn fill(&mut self, actor: &Actor, values: &[ValueRef<'_>]) {
        self.collect(actor, values);
        let run = [self.ops as i64, -1][usize::from(self.ops == 1)];
        let action_len = if self.ops == 1 { 2 } else { sleb_len(run) + 1 } as u64;
        let body = &mut self.body;
        body.clear();
        body.push(0); // deps
        put_bytes(body, &actor.0);
        body.extend_from_slice(&[1, 1, 0, 0, 0]); // seq, start_op, time, message, other actors
        body.push(6);
        for (number, len) in [
            (column::KEY_STRING, self.keys.len() as u64),
            (column::INSERT, uleb_len(self.ops) as u64),
            (column::ACTION, action_len),
            (column::VALUE_META, self.meta.len() as u64),
            (column::VALUE, self.values.len() as u64),
            (column::PRED_GROUP, action_len),
        ] {
            put_uleb(body, number);
            put_uleb(body, len);
        }
        body.extend_from_slice(&self.keys);
        put_uleb(body, self.ops);
        put_sleb(body, run);
        put_uleb(body, action::PUT);
        body.extend_from_slice(&self.meta);
        body.extend_from_slice(&self.values);
        put_sleb(body, run);
        body.push(0);
    }

    fn collect(&mut self, actor: &Actor, values: &[ValueRef<'_>]) {
        self.metas.clear();
        self.values.clear();
        self.metas.push((2 * Actor::LEN as u64) << 4 | kind::BYTES);
        self.values.extend_from_slice(&actor.0);
        self.values.extend_from_slice(&actor.0);
        for (value, counter) in values.iter().zip(&self.counters) {
            let before = self.values.len();
            let kind = match *value {
                ValueRef::Null => kind::NULL,
                ValueRef::Integer(i) => {
                    put_sleb(&mut self.values, i);
                    if *counter { kind::COUNTER } else { kind::INTEGER }
                }
                ValueRef::Real(f) => {
                    self.values.extend_from_slice(&f.to_bits().to_le_bytes());
                    kind::REAL
                }
                ValueRef::Text(s) => {
                    self.values.extend_from_slice(s.as_bytes());
                    kind::TEXT
                }
                ValueRef::Blob(b) => {
                    self.values.extend_from_slice(b);
                    kind::BYTES
                }
                ValueRef::RawText(b) => {
                    self.values.extend_from_slice(b);
                    kind::RAW_TEXT
                }
            };
            self.metas.push(((self.values.len() - before) as u64) << 4 | kind);
        }
        self.meta.clear();
        put_runs(&mut self.meta, &self.metas);
    }
}

/// [`Runs::encode`] for numbers that are all there.
fn put_runs(out: &mut Vec<u8>, values: &[u64]) {
    let (mut i, mut literal) = (0, 0);
    let flush = |from: usize, to: usize, out: &mut Vec<u8>| {
        if from < to {
            put_sleb(out, -((to - from) as i64));
            values[from..to].iter().for_each(|v| put_uleb(out, *v));
        }
    };
    while i < values.len() {
        let run = values[i..].iter().take_while(|v| **v == values[i]).count();
        if run >= 2 {
            flush(literal, i, out);
            put_sleb(out, run as i64);
            put_uleb(out, values[i]);
            literal = i + run;
        }
        i += run;
    }
    flush(literal, values.len(), out);
}

#[cfg(test)]
mod tests;
