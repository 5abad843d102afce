//! A baseline as bytes, for the file of its replica alone: it is never sent.
//!
//! version ‖ last ‖ count ‖ greatest counter ‖ heads ‖ actors ‖ cells. Actors and places stand once, and cells name
//! them by number. What cannot be read is made anew, so a later version may change all of it.

use super::names::shared;
use super::{BaseCell, BaseContent, Baseline, HEADS_MAX, digest_of, is_large};
use crate::bytes::{DecodeError, Reader, put_bytes, put_sleb, put_uleb};
use crate::change::OpId;
use crate::frame::NAME_LEN_MAX;
use crate::id::{Actor, ChangeHash};
use crate::store::documents::At;
use crate::value::{Value, ValueRef};

const VERSION: u8 = 1;
/// Bytes that no baseline is longer than.
const LEN_MAX: usize = 1 << 24;

/// What a cell is.
mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const INTEGER: u8 = 1;
    pub(super) const REAL: u8 = 2;
    pub(super) const TEXT: u8 = 3;
    pub(super) const BLOB: u8 = 4;
    pub(super) const RAW_TEXT: u8 = 5;
    pub(super) const COUNTER: u8 = 6;
    pub(super) const LIVE: u8 = 7;
    pub(super) const DEAD: u8 = 8;
    pub(super) const LARGE: u8 = 9;
    pub(super) const UNREAD: u8 = 10;
}

impl Baseline {
    /// Its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut actors: Vec<Actor> = Vec::with_capacity(4);
        let mut body = Vec::with_capacity(64 + self.cells.len() * 24);
        for cell in &self.cells {
            put_bytes(&mut body, cell.key.as_bytes());
            put_uleb(&mut body, cell.id.counter);
            put_actor(&mut body, &mut actors, &cell.id.actor);
            put_actor(&mut body, &mut actors, &cell.incarnation);
            put_content(&mut body, &mut actors, cell);
        }
        let mut out = Vec::with_capacity(body.len() + 32 + 32 * self.heads.len() + 22 * actors.len());
        out.push(VERSION);
        put_sleb(&mut out, self.last.number());
        put_uleb(&mut out, self.count);
        put_uleb(&mut out, self.max_op);
        put_uleb(&mut out, self.heads.len() as u64);
        self.heads.iter().for_each(|head| out.extend_from_slice(&head.0));
        put_uleb(&mut out, actors.len() as u64);
        actors.iter().for_each(|actor| out.extend_from_slice(&actor.0));
        put_uleb(&mut out, self.cells.len() as u64);
        out.extend_from_slice(&body);
        out
    }

    /// From the bytes that [`encode`](Self::encode) gave.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.u8()? != VERSION {
            return Err(DecodeError::Invalid { what: "the version of a baseline" });
        }
        let last = At::from_number(r.sleb()?);
        let (count, max_op) = (r.uleb()?, r.uleb_max(u64::from(u32::MAX), "an operation's counter")?);
        let mut heads = vec![];
        for _ in 0..r.uleb_max(HEADS_MAX as u64, "the number of heads")? {
            heads.push(ChangeHash(r.array()?));
        }
        let mut actors = vec![];
        for _ in 0..r.uleb_max((LEN_MAX / Actor::LEN) as u64, "the number of actors")? {
            actors.push(Actor(r.array()?));
        }
        let len = r.uleb_max(LEN_MAX as u64, "the number of cells")? as usize;
        let mut cells = Vec::with_capacity(len.min(r.rest().len() / 4));
        for _ in 0..len {
            let key = shared(r.text(NAME_LEN_MAX, "the name of a column")?);
            let counter = r.uleb_max(u64::from(u32::MAX), "an operation's counter")?;
            let id = OpId { counter, actor: read_actor(&mut r, &actors)? };
            let incarnation = read_actor(&mut r, &actors)?;
            let (content, at) = read_content(&mut r, &actors)?;
            cells.push(BaseCell { key, id, incarnation, content, at });
        }
        r.finish()?;
        if !cells.is_sorted_by(|a, b| (&a.key, a.id) < (&b.key, b.id)) {
            return Err(DecodeError::Invalid { what: "the order of cells" });
        }
        Ok(Self { heads, max_op, count, last, cells })
    }
}

fn put_actor(out: &mut Vec<u8>, actors: &mut Vec<Actor>, actor: &Actor) {
    // Neighbouring cells mostly have the same one.
    let number = actors.iter().rposition(|known| known == actor).unwrap_or_else(|| {
        actors.push(*actor);
        actors.len() - 1
    });
    put_uleb(out, number as u64);
}

fn read_actor(r: &mut Reader<'_>, actors: &[Actor]) -> Result<Actor, DecodeError> {
    let number = r.uleb()?;
    let found = usize::try_from(number).ok().and_then(|n| actors.get(n));
    found.copied().ok_or(DecodeError::Invalid { what: "an actor's number" })
}

fn put_content(out: &mut Vec<u8>, actors: &mut Vec<Actor>, cell: &BaseCell) {
    match &cell.content {
        BaseContent::Value(value) if is_large(value.as_ref()) => {
            out.push(tag::LARGE);
            put_sleb(out, cell.at.number());
            out.extend_from_slice(&digest_of(value.as_ref()));
        }
        BaseContent::Value(value) => put_value(out, value.as_ref()),
        BaseContent::Counter(total) => {
            out.push(tag::COUNTER);
            put_sleb(out, *total);
        }
        BaseContent::Live(incarnation) => {
            out.push(tag::LIVE);
            put_actor(out, actors, incarnation);
        }
        BaseContent::Dead => out.push(tag::DEAD),
        BaseContent::Large(digest) => {
            out.push(tag::LARGE);
            put_sleb(out, cell.at.number());
            out.extend_from_slice(digest);
        }
        BaseContent::Unread => {
            out.push(tag::UNREAD);
            put_sleb(out, cell.at.number());
        }
    }
}

fn put_value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => out.push(tag::NULL),
        ValueRef::Integer(i) => {
            out.push(tag::INTEGER);
            put_sleb(out, i);
        }
        ValueRef::Real(f) => {
            out.push(tag::REAL);
            out.extend_from_slice(&f.to_bits().to_le_bytes());
        }
        ValueRef::Text(text) => {
            out.push(tag::TEXT);
            put_bytes(out, text.as_bytes());
        }
        ValueRef::Blob(bytes) => {
            out.push(tag::BLOB);
            put_bytes(out, bytes);
        }
        ValueRef::RawText(bytes) => {
            out.push(tag::RAW_TEXT);
            put_bytes(out, bytes);
        }
    }
}

fn read_content(r: &mut Reader<'_>, actors: &[Actor]) -> Result<(BaseContent, At), DecodeError> {
    let value = |value| Ok((BaseContent::Value(value), At::default()));
    match r.u8()? {
        tag::NULL => value(Value::Null),
        tag::INTEGER => value(Value::Integer(r.sleb()?)),
        tag::REAL => value(Value::Real(f64::from_bits(u64::from_le_bytes(r.array()?)))),
        tag::TEXT => value(Value::Text(r.text(LEN_MAX, "a text")?.to_owned())),
        tag::BLOB => value(Value::Blob(r.bytes(LEN_MAX, "a blob")?.to_owned())),
        tag::RAW_TEXT => value(Value::RawText(r.bytes(LEN_MAX, "a text")?.to_owned())),
        tag::COUNTER => Ok((BaseContent::Counter(r.sleb()?), At::default())),
        tag::LIVE => Ok((BaseContent::Live(read_actor(r, actors)?), At::default())),
        tag::DEAD => Ok((BaseContent::Dead, At::default())),
        tag::LARGE => {
            let at = At::from_number(r.sleb()?);
            Ok((BaseContent::Large(r.array()?), at))
        }
        tag::UNREAD => Ok((BaseContent::Unread, At::from_number(r.sleb()?))),
        _ => Err(DecodeError::Invalid { what: "a cell's content" }),
    }
}
