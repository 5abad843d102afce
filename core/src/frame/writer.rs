//! Writing a frame: rows go in by ascending key, columns come out.

use super::{Life, OpKind, Template, class};
use crate::bytes::{put_bytes, put_sleb, put_uleb};
use crate::change::{Action, Change, OWN, OpId, TextRun};
use crate::id::Actor;
use crate::key::RowKey;
use crate::value::ValueRef;
use crate::work::Work;
use std::collections::HashMap;

/// Collects the changes of one segment.
#[derive(Debug, Default)]
pub struct FrameWriter {
    templates: Vec<(Template, Streams)>,
    template_runs: Vec<(usize, u64)>,
    actors: Vec<Actor>,
    actor_index: HashMap<Actor, u64>,
    has_description: bool,
    tuple_keys: bool,
    previous_integer: Option<i64>,
    keys: Vec<u8>,
    len: usize,
    bytes: usize,
    work: Work,
}

/// The varying part of all changes of one template.
#[derive(Debug, Default)]
struct Streams {
    history: Vec<u8>,
    values: Vec<Values>,
    text: Vec<u8>,
}

/// The values of one operation, by storage class.
#[derive(Debug, Default)]
struct Values {
    class_runs: Vec<(u8, u64)>,
    integers: Vec<u8>,
    reals: Vec<u8>,
    lengths: Vec<u8>,
    bytes: Vec<u8>,
}

impl FrameWriter {
    /// Changes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// About how many bytes it will have.
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    /// What its changes expand to.
    pub(crate) fn work(&self) -> &Work {
        &self.work
    }

    /// Registers a template and returns its number, for [`push_fresh`](Self::push_fresh).
    pub fn template(&mut self, template: Template) -> usize {
        if let Some(n) = self.templates.iter().position(|(t, _)| *t == template) {
            return n;
        }
        self.bytes += 8 + template.ops.iter().map(|(k, _)| k.len() + 8).sum::<usize>();
        let values = template.ops.iter().map(|_| Values::default()).collect();
        self.templates.push((template, Streams { values, ..Streams::default() }));
        self.templates.len() - 1
    }

    /// Adds a plain insert: the values of a template for which `is_plain_insert` holds, one each operation.
    ///
    /// Keys must ascend from call to call.
    pub fn push_fresh<'v>(
        &mut self,
        key: KeyRef<'_>,
        template: usize,
        values: impl Iterator<Item = ValueRef<'v>>,
    ) {
        self.push_key(key);
        self.push_template(template);
        let streams = &mut self.templates[template].1;
        for (stream, value) in streams.values.iter_mut().zip(values) {
            self.bytes += stream.push(value);
        }
    }

    /// Adds any change. Keys must ascend from call to call.
    pub fn push(&mut self, key: KeyRef<'_>, change: &Change) {
        self.push_key(key);
        self.work.add(change);
        let number = self.template(Template::of(change));
        self.push_template(number);
        let before = self.bytes;
        let (template, mut streams) = {
            let (t, s) = &mut self.templates[number];
            (t.clone(), std::mem::take(s))
        };
        if !template.fresh {
            self.push_history(&mut streams.history, &template, change);
        }
        let mut added = 0;
        for (stream, op) in streams.values.iter_mut().zip(change.ops.iter().skip(1)) {
            added += match &op.action {
                Action::Put(v) => stream.push(v.as_ref()),
                Action::Counter(n) | Action::Increment(n) => stream.push(ValueRef::Integer(*n)),
                _ => 0,
            };
        }
        if template.has_text {
            let start = streams.text.len();
            self.push_text(&mut streams.text, &change.text);
            added += streams.text.len() - start;
        }
        added += change.deps.len() * 32 + change.ops.len() * 4;
        self.templates[number].1 = streams;
        self.bytes = before + added;
    }

    /// The frame's bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes + 256);
        out.push(u8::from(self.has_description) | u8::from(self.tuple_keys) << 1);
        put_uleb(&mut out, self.actors.len() as u64);
        for actor in &self.actors {
            out.extend_from_slice(&actor.0);
        }
        put_uleb(&mut out, self.templates.len() as u64);
        for (template, _) in &self.templates {
            put_template(&mut out, template);
        }
        for (template, run) in &self.template_runs {
            put_uleb(&mut out, *template as u64);
            put_uleb(&mut out, *run);
        }
        put_bytes(&mut out, &self.keys);
        for (template, streams) in &self.templates {
            streams.put(&mut out, template);
        }
        out
    }

    fn push_template(&mut self, template: usize) {
        self.len += 1;
        match self.template_runs.last_mut() {
            Some((t, run)) if *t == template => *run += 1,
            _ => self.template_runs.push((template, 1)),
        }
    }

    fn push_key(&mut self, key: KeyRef<'_>) {
        let before = self.keys.len();
        match key {
            KeyRef::Description => self.has_description = true,
            KeyRef::Integer(i) => {
                match self.previous_integer {
                    None => put_sleb(&mut self.keys, i),
                    Some(previous) => put_uleb(&mut self.keys, i.wrapping_sub(previous) as u64 - 1),
                }
                self.previous_integer = Some(i);
            }
            KeyRef::Tuple(bytes) => {
                self.tuple_keys = true;
                put_bytes(&mut self.keys, bytes);
            }
        }
        self.bytes += self.keys.len() - before;
    }

    fn push_history(&mut self, out: &mut Vec<u8>, template: &Template, change: &Change) {
        put_uleb(out, change.start_op);
        put_uleb(out, change.deps.len() as u64);
        for dep in &change.deps {
            out.extend_from_slice(&dep.0);
        }
        if template.life == Life::Under
            && let Some(Action::Live(incarnation)) = change.ops.first().map(|op| &op.action)
        {
            let index = self.actor_index(incarnation);
            put_uleb(out, index);
        }
        for op in &change.ops {
            put_uleb(out, op.preds.len() as u64);
            for pred in &op.preds {
                self.put_op_id(out, pred);
            }
        }
    }

    fn push_text(&mut self, out: &mut Vec<u8>, runs: &[TextRun]) {
        put_uleb(out, runs.len() as u64);
        for run in runs {
            match run {
                TextRun::Insert { object, after, text } => {
                    out.push(if after.is_some() { 1 } else { 0 });
                    self.put_op_id(out, object);
                    if let Some(after) = after {
                        self.put_op_id(out, after);
                    }
                    put_bytes(out, text.as_bytes());
                }
                TextRun::Delete { object, first, count } => {
                    out.push(2);
                    self.put_op_id(out, object);
                    self.put_op_id(out, first);
                    put_uleb(out, *count);
                }
            }
        }
    }

    fn put_op_id(&mut self, out: &mut Vec<u8>, id: &OpId) {
        let index = if id.actor == OWN { 0 } else { self.actor_index(&id.actor) + 1 };
        put_uleb(out, index);
        put_uleb(out, id.counter);
    }

    fn actor_index(&mut self, actor: &Actor) -> u64 {
        if let Some(n) = self.actor_index.get(actor) {
            return *n;
        }
        let n = self.actors.len() as u64;
        self.actors.push(*actor);
        self.actor_index.insert(*actor, n);
        self.bytes += Actor::LEN;
        n
    }
}

/// A borrowed [`RowKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRef<'a> {
    /// The table's description.
    Description,
    /// An INTEGER PRIMARY KEY.
    Integer(i64),
    /// Any other key.
    Tuple(&'a [u8]),
}

impl<'a> From<&'a RowKey> for KeyRef<'a> {
    fn from(key: &'a RowKey) -> Self {
        match key {
            RowKey::Description => Self::Description,
            RowKey::Integer(i) => Self::Integer(*i),
            RowKey::Tuple(b) => Self::Tuple(b),
        }
    }
}

impl From<KeyRef<'_>> for RowKey {
    fn from(key: KeyRef<'_>) -> Self {
        match key {
            KeyRef::Description => Self::Description,
            KeyRef::Integer(i) => Self::Integer(i),
            KeyRef::Tuple(b) => Self::Tuple(b.to_vec()),
        }
    }
}

impl Values {
    /// Adds a value; about how many bytes it takes.
    #[inline]
    fn push(&mut self, value: ValueRef<'_>) -> usize {
        let (class, size) = match value {
            ValueRef::Null => (class::NULL, 0),
            ValueRef::Integer(i) => {
                let before = self.integers.len();
                put_sleb(&mut self.integers, i);
                (class::INTEGER, self.integers.len() - before)
            }
            ValueRef::Real(f) => {
                self.reals.extend_from_slice(&f.to_bits().to_le_bytes());
                (class::REAL, 8)
            }
            ValueRef::Text(s) => (class::TEXT, self.push_bytes(s.as_bytes())),
            ValueRef::Blob(b) => (class::BLOB, self.push_bytes(b)),
            ValueRef::RawText(b) => (class::RAW_TEXT, self.push_bytes(b)),
        };
        match self.class_runs.last_mut() {
            Some((c, run)) if *c == class => *run += 1,
            _ => self.class_runs.push((class, 1)),
        }
        size
    }

    #[inline]
    fn push_bytes(&mut self, bytes: &[u8]) -> usize {
        put_uleb(&mut self.lengths, bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
        bytes.len() + 1
    }

    fn put(&self, out: &mut Vec<u8>) {
        for (class, run) in &self.class_runs {
            out.push(*class);
            put_uleb(out, *run);
        }
        let streams = [&self.integers, &self.reals, &self.lengths, &self.bytes];
        let present =
            streams.iter().enumerate().fold(0, |bits, (n, s)| bits | (u8::from(!s.is_empty()) << n));
        out.push(present);
        for stream in streams.into_iter().filter(|s| !s.is_empty()) {
            put_bytes(out, stream);
        }
    }
}

impl Streams {
    fn put(&self, out: &mut Vec<u8>, template: &Template) {
        if !template.fresh {
            put_bytes(out, &self.history);
        }
        for ((_, kind), values) in template.ops.iter().zip(&self.values) {
            if *kind != OpKind::MakeText {
                values.put(out);
            }
        }
        if template.has_text {
            put_bytes(out, &self.text);
        }
    }
}

pub(super) fn put_template(out: &mut Vec<u8>, template: &Template) {
    let life = template.life as u8;
    out.push(u8::from(template.fresh) | u8::from(template.has_text) << 1 | life << 2);
    put_uleb(out, template.ops.len() as u64);
    for (name, kind) in &template.ops {
        put_bytes(out, name.as_bytes());
        out.push(kind.code());
    }
}
