//! Origin: what a row that was written anew says in its document of the changes for which it stands.
//!
//! It is a value under a key that no column has:
//!
//! ```text
//! version u8 (1) · n times (key bytes · actor 22)
//! key     of an INTEGER key its 8 bytes, big-endian; else the tuple
//! ```
//!
//! The first is the insert under which the application knows the row.

use crate::bytes::{Reader, put_bytes};
use crate::id::Actor;
use crate::key::{KEY_LEN_MAX, RowKey};
use crate::store::documents::{key_bytes, key_from_bytes};
use crate::value::{Value, ValueRef};

/// The key in documents. It has a character that no column's name has.
pub(crate) const MOVED: &str = "\u{1f}moved";
/// The key under which a row that was chosen from a conflict as a new one names the row that it was.
pub(crate) const CHOSEN: &str = "\u{1f}chosen";
const VERSION: u8 = 1;
/// Changes that are named: the first, and the last of those that follow.
const NAMED_MAX: usize = 64;

/// A change that a row stands for: the key under which it was written, and its actor.
pub(crate) type Origin = (RowKey, Actor);

/// The value that names these changes.
pub(crate) fn encode(origins: &[Origin]) -> Value {
    let mut out = vec![VERSION];
    let first = origins.iter().take(1);
    let rest = &origins[origins.len().min(1).max(origins.len().saturating_sub(NAMED_MAX - 1))..];
    for (key, actor) in first.chain(rest) {
        put_bytes(&mut out, &key_bytes(key));
        out.extend_from_slice(&actor.0);
    }
    Value::Blob(out)
}

/// The changes that a value names; none if it is no such value.
pub(crate) fn decode(value: ValueRef<'_>, integer_keys: bool) -> Vec<Origin> {
    let ValueRef::Blob(bytes) = value else { return vec![] };
    let mut r = Reader::new(bytes);
    let mut origins = vec![];
    if r.u8().ok() != Some(VERSION) {
        return vec![];
    }
    while !r.is_empty() && origins.len() < NAMED_MAX {
        let Ok(key) = r.bytes(KEY_LEN_MAX, "a key") else { return vec![] };
        let Ok(key) = key_from_bytes(key, integer_keys) else { return vec![] };
        let Ok(actor) = r.array() else { return vec![] };
        if key == RowKey::Description {
            return vec![];
        }
        origins.push((key, Actor(actor)));
    }
    origins
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(n: u8) -> Actor {
        Actor([n; Actor::LEN])
    }

    #[test]
    fn what_a_row_stands_for_is_read_as_it_was_written() {
        for origins in [
            vec![(RowKey::Integer(-7), actor(1))],
            vec![(RowKey::Integer(2), actor(1)), (RowKey::Integer(5), actor(2))],
        ] {
            assert_eq!(decode(encode(&origins).as_ref(), true), origins);
        }
        let many: Vec<_> = (0..=255).map(|n| (RowKey::Tuple(vec![1, n]), actor(n))).collect();
        let read = decode(encode(&many).as_ref(), false);
        assert_eq!((read.len(), &read[0], read.last()), (NAMED_MAX, &many[0], many.last()));
    }

    #[test]
    fn bytes_of_any_kind_are_read_or_name_nothing() {
        for bytes in [&[][..], &[2], &[1, 0], &[1, 8, 1], &[1, 255, 255, 255, 255, 15], &[1, 0, 0, 0]] {
            assert_eq!(decode(ValueRef::Blob(bytes), true), vec![], "{bytes:?}");
        }
        assert_eq!(decode(ValueRef::Text("x"), true), vec![]);
    }
}
