//! Row keys: a primary key as one value that is the same on every replica.
//!
//! A table whose key is an INTEGER PRIMARY KEY (the rowid) uses the integer itself. Any other key is a
//! tuple of tagged values: 1 integer (8 bytes, big-endian), 2 real (8 bytes of IEEE 754, big-endian),
//! 3 text, 4 blob, 5 text that is not UTF-8 (a LEB128 length, then bytes). NULL is not a key.
//! `store` normalises values by affinity and collation before they come here.

use crate::bytes::{DecodeError, Reader, put_bytes};
use crate::value::{Value, ValueRef};

/// The longest key in bytes.
pub const KEY_LEN_MAX: usize = 64 * 1024;

/// Names one document of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// The table's own description; sorts before every row.
    Description,
    /// The value of an INTEGER PRIMARY KEY.
    Integer(i64),
    /// Any other key: a tuple of tagged values.
    Tuple(Vec<u8>),
}

/// Encodes key values as the bytes of a tuple; None if one is NULL.
pub fn encode_tuple(values: &[ValueRef<'_>]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(values.len() * 16);
    for v in values {
        match v {
            ValueRef::Null => return None,
            ValueRef::Integer(i) => {
                out.push(1);
                out.extend_from_slice(&i.to_be_bytes());
            }
            ValueRef::Real(f) => {
                out.push(2);
                out.extend_from_slice(&f.to_bits().to_be_bytes());
            }
            ValueRef::Text(s) => {
                out.push(3);
                put_bytes(&mut out, s.as_bytes());
            }
            ValueRef::Blob(b) => {
                out.push(4);
                put_bytes(&mut out, b);
            }
            ValueRef::RawText(b) => {
                out.push(5);
                put_bytes(&mut out, b);
            }
        }
    }
    Some(out)
}

/// Reads back what `encode_tuple` wrote; refuses anything it would not write. How long a key may be is for callers to say.
pub fn decode_tuple(bytes: &[u8]) -> Result<Vec<Value>, DecodeError> {
    let mut r = Reader::new(bytes);
    let mut values = Vec::new();
    while !r.is_empty() {
        values.push(read_value(&mut r, bytes.len())?.to_owned());
    }
    Ok(values)
}

/// Refuses what `encode_tuple` would not write.
pub(crate) fn check_tuple(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut r = Reader::new(bytes);
    while !r.is_empty() {
        read_value(&mut r, bytes.len())?;
    }
    Ok(())
}

fn read_value<'a>(r: &mut Reader<'a>, len_max: usize) -> Result<ValueRef<'a>, DecodeError> {
    Ok(match r.u8()? {
        1 => ValueRef::Integer(i64::from_be_bytes(r.array()?)),
        2 => match f64::from_bits(r.u64()?) {
            f if f.is_nan() => return Err(DecodeError::Invalid { what: "a real number in a key" }),
            f => ValueRef::Real(f),
        },
        3 => ValueRef::Text(r.text(len_max, "a text in a key")?),
        4 => ValueRef::Blob(r.bytes(len_max, "a blob in a key")?),
        5 => {
            let raw = r.bytes(len_max, "a text in a key")?;
            if std::str::from_utf8(raw).is_ok() {
                return Err(DecodeError::Invalid { what: "a text in a key" });
            }
            ValueRef::RawText(raw)
        }
        _ => return Err(DecodeError::Invalid { what: "the type of a key" }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_value_comes_back_from_a_key() {
        let values = [
            Value::Integer(-5),
            Value::Real(-0.5),
            Value::Text("a\0b".into()),
            Value::Blob(vec![0, 255]),
            Value::RawText(vec![0xff]),
        ];
        let refs: Vec<_> = values.iter().map(Value::as_ref).collect();
        let bytes = encode_tuple(&refs).unwrap();
        assert_eq!(decode_tuple(&bytes).unwrap(), values);
        for n in 1..bytes.len() {
            let _ = decode_tuple(&bytes[..n]);
        }
    }

    #[test]
    fn a_key_with_null_in_it_is_no_key() {
        assert_eq!(encode_tuple(&[ValueRef::Integer(1), ValueRef::Null]), None);
    }
}
