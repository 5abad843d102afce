//! Reading a frame: rows come out in order, checked as they come.

use super::{CHANGES_MAX, KeyRef, Life, NAME_LEN_MAX, OPS_MAX, OpKind, Template, VALUES_MAX, class};
use crate::bytes::{DecodeError, Reader};
use crate::change::{Action, Change, DELETIONS_MAX, OWN, Op, OpId, TextRun};
use crate::id::{Actor, ChangeHash};
use crate::key::{KEY_LEN_MAX, check_tuple};
use crate::value::ValueRef;
use std::ops::Range;

/// Most actors named in one frame.
const ACTORS_MAX: u64 = 1 << 16;
/// Most templates in one frame.
const TEMPLATES_MAX: u64 = CHANGES_MAX as u64;
/// Most deps of a change, preds of an operation, runs of text.
const LIST_MAX: u64 = 1 << 16;

/// Goes through the changes of a frame once, in order.
#[derive(Debug)]
pub struct FrameReader<'a> {
    actors: Vec<Actor>,
    templates: Vec<TemplateStreams<'a>>,
    runs: std::vec::IntoIter<(usize, u64)>,
    run: (usize, u64),
    keys: KeyReader<'a>,
    scratch: Vec<ValueRef<'a>>,
    next_index: usize,
    count: usize,
}

/// One change of a frame with its row's key.
#[derive(Debug)]
pub struct RowChange<'a, 'r> {
    /// Its place in the frame, from 0.
    pub index: usize,
    /// The row.
    pub key: KeyRef<'a>,
    /// The number of its template.
    pub template_number: usize,
    /// Its template.
    pub template: &'r Template,
    /// The values of a plain insert, one for each operation of the template.
    pub values: &'r [ValueRef<'a>],
    /// The whole change, unless it is a plain insert.
    change: Option<Change>,
}

impl RowChange<'_, '_> {
    /// The whole change.
    pub fn into_change(self) -> Change {
        if let Some(change) = self.change {
            return change;
        }
        let life = Op { key: String::new(), action: Action::Live(OWN), preds: vec![] };
        let ops = self.template.ops.iter().zip(self.values).map(|((key, kind), value)| {
            let action = match (kind, value) {
                (OpKind::Counter, ValueRef::Integer(n)) => Action::Counter(*n),
                (_, value) => Action::Put((*value).to_owned()),
            };
            Op { key: key.clone(), action, preds: vec![] }
        });
        Change { deps: vec![], start_op: 1, ops: std::iter::once(life).chain(ops).collect(), text: vec![] }
    }
}

impl<'a> FrameReader<'a> {
    /// Reads the head of a frame that claims to hold `count` changes.
    pub fn new(plain: &'a [u8], count: usize) -> Result<Self, DecodeError> {
        if count == 0 || count > CHANGES_MAX {
            return Err(DecodeError::TooLarge { what: "the number of changes" });
        }
        let mut r = Reader::new(plain);
        let flags = r.u8()?;
        if flags > 3 {
            return Err(DecodeError::Invalid { what: "the flags of a frame" });
        }
        let actors = (0..r.uleb_max(ACTORS_MAX, "the number of actors")?)
            .map(|_| r.array().map(Actor))
            .collect::<Result<Vec<_>, _>>()?;
        let template_count = r.uleb_max(TEMPLATES_MAX, "the number of templates")?;
        let mut templates = Vec::new();
        for _ in 0..template_count {
            templates.push(read_template(&mut r)?);
        }
        let (runs, rows) = read_runs(&mut r, templates.len(), count)?;
        let values: usize = templates.iter().zip(&rows).map(|(t, n)| (t.ops.len() + 1) * n).sum();
        if values > VALUES_MAX.max(OPS_MAX + 1) {
            return Err(DecodeError::TooLarge { what: "the number of values" });
        }
        let keys = KeyReader {
            r: Reader::new(r.bytes(plain.len(), "the keys")?),
            description: flags & 1 != 0,
            tuples: flags & 2 != 0,
            previous_integer: None,
            previous_tuple: None,
        };
        let templates = templates
            .into_iter()
            .zip(rows)
            .map(|(template, rows)| TemplateStreams::read(template, rows as u64, &mut r))
            .collect::<Result<Vec<_>, _>>()?;
        r.finish()?;
        Ok(Self {
            actors,
            templates,
            runs: runs.into_iter(),
            run: (0, 0),
            keys,
            scratch: vec![],
            next_index: 0,
            count,
        })
    }

    /// The templates of the frame.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.templates.iter().map(|t| &t.template)
    }

    /// The next change; None after the last, once it is sure that nothing is left over.
    pub fn next_change(&mut self) -> Result<Option<RowChange<'a, '_>>, DecodeError> {
        if self.next_index == self.count {
            self.finish()?;
            return Ok(None);
        }
        while self.run.1 == 0 {
            self.run = self.runs.next().ok_or(DecodeError::UnexpectedEnd)?;
        }
        self.run.1 -= 1;
        let template_number = self.run.0;
        let index = self.next_index;
        self.next_index += 1;
        let key = self.keys.next_key()?;
        let streams = &mut self.templates[template_number];
        let change = if streams.template.is_plain_insert() {
            self.scratch.clear();
            for ((_, kind), values) in streams.template.ops.iter().zip(&mut streams.values) {
                let value = values.next_value()?;
                if *kind == OpKind::Counter && !matches!(value, ValueRef::Integer(_)) {
                    return Err(DecodeError::Invalid { what: "a counter's value" });
                }
                self.scratch.push(value);
            }
            None
        } else {
            self.scratch.clear();
            Some(streams.read_change(&self.actors)?)
        };
        let template = &self.templates[template_number].template;
        Ok(Some(RowChange { index, key, template_number, template, values: &self.scratch, change }))
    }

    /// Where the columns of the first template begin in `plain`, the frame, and how many changes there are.
    pub(super) fn into_columns(self, plain: &[u8]) -> (Vec<Place>, usize) {
        let first = self.templates.into_iter().next();
        let places = first.map(|t| t.values.iter().map(|values| values.place(plain)).collect());
        (places.unwrap_or_default(), self.count)
    }

    /// The keys of all changes, in order. Call it before the first change was read.
    pub(crate) fn into_keys(mut self) -> Result<Vec<KeyRef<'a>>, DecodeError> {
        (0..self.count).map(|_| self.keys.next_key()).collect()
    }

    fn finish(&self) -> Result<(), DecodeError> {
        let empty = self.keys.r.is_empty() && self.templates.iter().all(TemplateStreams::is_finished);
        if empty && self.runs.len() == 0 { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }
}

pub(super) fn read_template(r: &mut Reader<'_>) -> Result<Template, DecodeError> {
    let invalid = DecodeError::Invalid { what: "a template" };
    let flags = r.u8()?;
    let life = match flags >> 2 {
        0 => Life::Opens,
        1 => Life::Under,
        2 => Life::Ends,
        _ => return Err(invalid),
    };
    let (fresh, has_text) = (flags & 1 != 0, flags & 2 != 0);
    if fresh && life != Life::Opens {
        return Err(invalid);
    }
    let n = r.uleb_max(OPS_MAX as u64, "the number of operations")?;
    let mut ops = Vec::new();
    let mut names = std::collections::HashSet::new();
    for _ in 0..n {
        let name = r.text(NAME_LEN_MAX, "the name of a column")?;
        let kind = OpKind::from_code(r.u8()?).ok_or(invalid)?;
        if name.is_empty() || !names.insert(name) || (fresh && kind == OpKind::Increment) {
            return Err(invalid);
        }
        ops.push((name.to_owned(), kind));
    }
    Ok(Template { fresh, life, ops, has_text })
}

/// Runs of templates as they come, and how many rows each template has.
type Runs = (Vec<(usize, u64)>, Vec<usize>);

fn read_runs(r: &mut Reader<'_>, templates: usize, count: usize) -> Result<Runs, DecodeError> {
    let (mut runs, mut rows, mut left) = (vec![], vec![0; templates], count as u64);
    while left > 0 {
        let template = r.uleb_max(templates as u64, "a template's number")? as usize;
        let run = r.uleb_max(left, "a run of templates")?;
        if run == 0 || template >= templates {
            return Err(DecodeError::Invalid { what: "a run of templates" });
        }
        rows[template] += run as usize;
        left -= run;
        runs.push((template, run));
    }
    Ok((runs, rows))
}

#[derive(Debug)]
struct KeyReader<'a> {
    r: Reader<'a>,
    description: bool,
    tuples: bool,
    previous_integer: Option<i64>,
    previous_tuple: Option<&'a [u8]>,
}

impl<'a> KeyReader<'a> {
    #[inline]
    fn next_key(&mut self) -> Result<KeyRef<'a>, DecodeError> {
        if self.description {
            self.description = false;
            return Ok(KeyRef::Description);
        }
        if self.tuples {
            let key = self.r.bytes(KEY_LEN_MAX, "a key")?;
            if key.is_empty() || self.previous_tuple.is_some_and(|p| p >= key) {
                return Err(DecodeError::Invalid { what: "the order of keys" });
            }
            self.previous_tuple = Some(key);
            check_tuple(key)?;
            return Ok(KeyRef::Tuple(key));
        }
        let key = match self.previous_integer {
            None => self.r.sleb()?,
            Some(previous) => i64::try_from(i128::from(previous) + i128::from(self.r.uleb()?) + 1)
                .map_err(|_| DecodeError::Invalid { what: "the order of keys" })?,
        };
        self.previous_integer = Some(key);
        Ok(KeyRef::Integer(key))
    }
}

#[derive(Debug)]
struct TemplateStreams<'a> {
    template: Template,
    history: Reader<'a>,
    values: Vec<ValueReader<'a>>,
    text: Reader<'a>,
}

impl<'a> TemplateStreams<'a> {
    fn read(template: Template, rows: u64, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let empty = Reader::new(&[]);
        let all = r.rest().len();
        let history =
            if template.fresh { empty.clone() } else { Reader::new(r.bytes(all, "a history stream")?) };
        let mut values = Vec::with_capacity(template.ops.len());
        for (_, kind) in &template.ops {
            values.push(match kind {
                OpKind::MakeText => ValueReader::default(),
                _ => ValueReader::read(rows, r)?,
            });
        }
        let text = if template.has_text { Reader::new(r.bytes(all, "a text stream")?) } else { empty };
        Ok(Self { template, history, values, text })
    }

    fn is_finished(&self) -> bool {
        self.history.is_empty() && self.text.is_empty() && self.values.iter().all(ValueReader::is_finished)
    }

    fn read_change(&mut self, actors: &[Actor]) -> Result<Change, DecodeError> {
        let fresh = self.template.fresh;
        let mut change = Change { start_op: 1, ..Change::default() };
        let mut incarnation = OWN;
        if !fresh {
            change.start_op = self.history.uleb_max(u64::from(u32::MAX), "an operation's counter")?;
            for _ in 0..self.history.uleb_max(LIST_MAX, "the number of deps")? {
                change.deps.push(ChangeHash(self.history.array()?));
            }
            if change.start_op == 0 || !change.deps.is_sorted_by(|a, b| a < b) {
                return Err(DecodeError::Invalid { what: "the deps of a change" });
            }
            if self.template.life == Life::Under {
                incarnation = read_actor(&mut self.history, actors)?;
            }
        }
        let life = if self.template.life == Life::Ends { Action::Dead } else { Action::Live(incarnation) };
        let preds = if fresh { vec![] } else { read_preds(&mut self.history, actors)? };
        change.ops.push(Op { key: String::new(), action: life, preds });
        for ((key, kind), values) in self.template.ops.iter().zip(&mut self.values) {
            let action = match kind {
                OpKind::Put => Action::Put(values.next_value()?.to_owned()),
                OpKind::Counter => Action::Counter(values.next_integer()?),
                OpKind::Increment => Action::Increment(values.next_integer()?),
                OpKind::MakeText => Action::MakeText,
            };
            let preds = if fresh { vec![] } else { read_preds(&mut self.history, actors)? };
            change.ops.push(Op { key: key.clone(), action, preds });
        }
        if self.template.has_text {
            change.text = read_text(&mut self.text, actors)?;
        }
        Ok(change)
    }
}

fn read_actor(r: &mut Reader<'_>, actors: &[Actor]) -> Result<Actor, DecodeError> {
    let n = r.uleb_max(ACTORS_MAX, "an actor's number")?;
    actors.get(n as usize).copied().ok_or(DecodeError::Invalid { what: "an actor's number" })
}

fn read_op_id(r: &mut Reader<'_>, actors: &[Actor]) -> Result<OpId, DecodeError> {
    let n = r.uleb_max(ACTORS_MAX, "an actor's number")?;
    let actor = match n.checked_sub(1) {
        None => OWN,
        Some(n) => *actors.get(n as usize).ok_or(DecodeError::Invalid { what: "an actor's number" })?,
    };
    let counter = r.uleb_max(u64::from(u32::MAX), "an operation's counter")?;
    Ok(OpId { counter, actor })
}

fn read_preds(r: &mut Reader<'_>, actors: &[Actor]) -> Result<Vec<OpId>, DecodeError> {
    (0..r.uleb_max(LIST_MAX, "the number of preds")?).map(|_| read_op_id(r, actors)).collect()
}

fn read_text(r: &mut Reader<'_>, actors: &[Actor]) -> Result<Vec<TextRun>, DecodeError> {
    let n = r.uleb_max(LIST_MAX, "the number of text runs")?;
    if n == 0 {
        return Err(DecodeError::Invalid { what: "the number of text runs" });
    }
    let mut runs = vec![];
    for _ in 0..n {
        let kind = r.u8()?;
        let object = read_op_id(r, actors)?;
        runs.push(match kind {
            0 | 1 => {
                let after = (kind == 1).then(|| read_op_id(r, actors)).transpose()?;
                let text = r.text(r.rest().len(), "a run of text")?.to_owned();
                if text.is_empty() {
                    return Err(DecodeError::Invalid { what: "a run of text" });
                }
                TextRun::Insert { object, after, text }
            }
            2 => {
                let first = read_op_id(r, actors)?;
                let count = r.uleb_max(DELETIONS_MAX, "a run of deletions")?;
                if count == 0 {
                    return Err(DecodeError::Invalid { what: "a run of deletions" });
                }
                TextRun::Delete { object, first, count }
            }
            _ => return Err(DecodeError::Invalid { what: "the kind of a text run" }),
        });
    }
    Ok(runs)
}

/// How far a [`ValueReader`] has come: where in the frame the rests of its streams are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    streams: [Range<usize>; 5],
    left: u64,
    class: u8,
}

/// The values of one operation, taken one at a time.
#[derive(Debug)]
pub(super) struct ValueReader<'a> {
    runs: Reader<'a>,
    left: u64,
    class: u8,
    integers: Reader<'a>,
    reals: Reader<'a>,
    lengths: Reader<'a>,
    bytes: Reader<'a>,
}

impl Default for ValueReader<'_> {
    fn default() -> Self {
        let empty = Reader::new(&[]);
        Self {
            runs: empty.clone(),
            left: 0,
            class: 0,
            integers: empty.clone(),
            reals: empty.clone(),
            lengths: empty.clone(),
            bytes: empty,
        }
    }
}

impl<'a> ValueReader<'a> {
    fn read(rows: u64, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let start = r.rest();
        let mut left = rows;
        while left > 0 {
            let class = r.u8()?;
            let run = r.uleb_max(left, "a run of values")?;
            if run == 0 || class > class::RAW_TEXT {
                return Err(DecodeError::Invalid { what: "a run of values" });
            }
            left -= run;
        }
        let runs = Reader::new(&start[..start.len() - r.rest().len()]);
        let present = r.u8()?;
        if present > 15 {
            return Err(DecodeError::Invalid { what: "the streams of a column" });
        }
        let mut stream = |bit: u8| {
            let bytes = if present & bit == 0 { &[] } else { r.bytes(r.rest().len(), "a stream")? };
            Ok::<_, DecodeError>(Reader::new(bytes))
        };
        let (integers, reals, lengths, bytes) = (stream(1)?, stream(2)?, stream(4)?, stream(8)?);
        Ok(Self { runs, left: 0, class: 0, integers, reals, lengths, bytes })
    }

    /// How far it has come in `plain`, the frame that it reads.
    pub(super) fn place(&self, plain: &[u8]) -> Place {
        let range = |stream: &Reader<'_>| {
            let rest = stream.rest();
            // A stream that is not there points nowhere.
            let start = if rest.is_empty() { 0 } else { rest.as_ptr() as usize - plain.as_ptr() as usize };
            start..start + rest.len()
        };
        let streams = [&self.runs, &self.integers, &self.reals, &self.lengths, &self.bytes].map(range);
        Place { streams, left: self.left, class: self.class }
    }

    /// Goes on in the same frame from where another reader was.
    pub(super) fn at(place: &Place, plain: &'a [u8]) -> Self {
        let rest = |range: &Range<usize>| Reader::new(&plain[range.clone()]);
        let [runs, integers, reals, lengths, bytes] = place.streams.each_ref().map(rest);
        Self { runs, left: place.left, class: place.class, integers, reals, lengths, bytes }
    }

    #[inline]
    pub(super) fn next_value(&mut self) -> Result<ValueRef<'a>, DecodeError> {
        if self.left == 0 {
            self.class = self.runs.u8()?;
            self.left = self.runs.uleb()?;
        }
        self.left -= 1;
        Ok(match self.class {
            class::NULL => ValueRef::Null,
            class::INTEGER => ValueRef::Integer(self.integers.sleb()?),
            class::REAL => match f64::from_bits(u64::from_le_bytes(self.reals.array()?)) {
                f if f.is_nan() => return Err(DecodeError::Invalid { what: "a real number" }),
                f => ValueRef::Real(f),
            },
            class => {
                let n = self.lengths.uleb()?;
                let n = usize::try_from(n).map_err(|_| DecodeError::UnexpectedEnd)?;
                let bytes = self.bytes.take(n)?;
                match (class, std::str::from_utf8(bytes)) {
                    (class::TEXT, Ok(text)) => ValueRef::Text(text),
                    (class::TEXT, Err(_)) => return Err(DecodeError::BadText),
                    (class::RAW_TEXT, Err(_)) => ValueRef::RawText(bytes),
                    (class::RAW_TEXT, Ok(_)) => return Err(DecodeError::BadText),
                    _ => ValueRef::Blob(bytes),
                }
            }
        })
    }

    /// Passes over some values, which are not looked at.
    pub(super) fn skip(&mut self, mut n: u64) -> Result<(), DecodeError> {
        while n > 0 {
            if self.left == 0 {
                self.class = self.runs.u8()?;
                self.left = self.runs.uleb()?;
            }
            let some = n.min(self.left);
            match self.class {
                class::NULL => {}
                class::INTEGER => self.integers.skip_integers(some)?,
                class::REAL => drop(self.reals.take(some as usize * 8)?),
                _ => {
                    let sum =
                        (0..some).try_fold(0u64, |sum, _| Ok(sum.saturating_add(self.lengths.uleb()?)))?;
                    self.bytes.take(usize::try_from(sum).map_err(|_| DecodeError::UnexpectedEnd)?)?;
                }
            }
            self.left -= some;
            n -= some;
        }
        Ok(())
    }

    fn next_integer(&mut self) -> Result<i64, DecodeError> {
        match self.next_value()? {
            ValueRef::Integer(i) => Ok(i),
            _ => Err(DecodeError::Invalid { what: "a counter's value" }),
        }
    }

    fn is_finished(&self) -> bool {
        let streams = [&self.integers, &self.reals, &self.lengths, &self.bytes];
        self.left == 0 && self.runs.is_empty() && streams.iter().all(|s| s.is_empty())
    }
}
