//! Bytes: the few primitive encodings from which every layout of this crate is made.
//!
//! LEB128 integers as Automerge writes them, and a reader that refuses what no writer of ours makes:
//! integers with needless bytes, lengths beyond the end. It never allocates on the word of a peer.

/// What a reader met that no writer makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes stop in the middle of something.
    #[error("bytes end too early")]
    UnexpectedEnd,
    /// A LEB128 integer is too large or longer than it need be.
    #[error("an integer is not in its shortest form")]
    BadInteger,
    /// Bytes are left after the last field.
    #[error("bytes are left over")]
    TrailingBytes,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    BadText,
    /// A count or length exceeds the limit for its field.
    #[error("{what} exceeds its limit")]
    TooLarge {
        /// The field.
        what: &'static str,
    },
    /// A field has a value that its place does not allow.
    #[error("{what} is not valid")]
    Invalid {
        /// The field.
        what: &'static str,
    },
}

/// Appends an unsigned LEB128 integer.
#[inline]
pub fn put_uleb(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Appends a signed LEB128 integer.
#[inline]
pub fn put_sleb(out: &mut Vec<u8>, mut v: i64) {
    loop {
        let b = (v as u8) & 0x7f;
        v >>= 7;
        if (v == 0 && b & 0x40 == 0) || (v == -1 && b & 0x40 != 0) {
            out.push(b);
            return;
        }
        out.push(b | 0x80);
    }
}

/// Length in bytes of `v` as unsigned LEB128.
#[inline]
pub fn uleb_len(v: u64) -> usize {
    (64 - (v | 1).leading_zeros() as usize).div_ceil(7)
}

/// Length in bytes of `v` as signed LEB128.
#[inline]
pub fn sleb_len(v: i64) -> usize {
    let magnitude = if v < 0 { !v } else { v } as u64;
    (64 - magnitude.leading_zeros() as usize) / 7 + 1
}

/// Appends a length-prefixed run of bytes.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uleb(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A cursor over bytes that may come from anyone.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not yet read.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Fails unless everything has been read.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }

    /// The next byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let (&b, rest) = self.rest.split_first().ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(b)
    }

    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        if n > self.rest.len() {
            return Err(DecodeError::UnexpectedEnd);
        }
        let (a, b) = self.rest.split_at(n);
        self.rest = b;
        Ok(a)
    }

    /// The next `N` bytes as an array.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (a, b) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = b;
        Ok(*a)
    }

    /// A big-endian u32.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// A big-endian u64.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// An unsigned LEB128 integer in its shortest form.
    #[inline]
    pub fn uleb(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        let mut shift = 0;
        loop {
            let b = self.u8()?;
            if shift == 63 && b > 1 || shift > 63 {
                return Err(DecodeError::BadInteger);
            }
            value |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                if b == 0 && shift > 0 {
                    return Err(DecodeError::BadInteger);
                }
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// Passes over LEB128 integers, which are not looked at.
    pub(crate) fn skip_integers(&mut self, n: u64) -> Result<(), DecodeError> {
        for _ in 0..n {
            while self.u8()? & 0x80 != 0 {}
        }
        Ok(())
    }

    /// An unsigned LEB128 integer of at most `max`; `what` names it in the error.
    #[inline]
    pub fn uleb_max(&mut self, max: u64, what: &'static str) -> Result<u64, DecodeError> {
        let v = self.uleb()?;
        if v > max { Err(DecodeError::TooLarge { what }) } else { Ok(v) }
    }

    /// A signed LEB128 integer in its shortest form.
    #[inline]
    pub fn sleb(&mut self) -> Result<i64, DecodeError> {
        let before = self.rest;
        let mut value = 0i64;
        let mut shift = 0;
        loop {
            let b = self.u8()?;
            if shift > 63 || (shift == 63 && b != 0 && b != 0x7f) {
                return Err(DecodeError::BadInteger);
            }
            value |= i64::from(b & 0x7f).wrapping_shl(shift);
            shift += 7;
            if b & 0x80 == 0 {
                if shift < 64 && b & 0x40 != 0 {
                    value |= -1i64 << shift;
                }
                let used = before.len() - self.rest.len();
                return if used == sleb_len(value) { Ok(value) } else { Err(DecodeError::BadInteger) };
            }
        }
    }

    /// A length-prefixed run of bytes of at most `max`; `what` names it in the error.
    #[inline]
    pub fn bytes(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let n = self.uleb_max(max as u64, what)?;
        self.take(n as usize)
    }

    /// A length-prefixed UTF-8 text of at most `max` bytes; `what` names it in the error.
    #[inline]
    pub fn text(&mut self, max: usize, what: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(max, what)?).map_err(|_| DecodeError::BadText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_beyond_the_64th_are_refused() {
        for last in [32, 1, 0x7e] {
            let bytes = [128, 128, 128, 128, 128, 128, 128, 128, 192, last];
            assert_eq!(Reader::new(&bytes).sleb(), Err(DecodeError::BadInteger), "{last}");
            assert_eq!(Reader::new(&bytes).uleb().is_err(), last != 1);
        }
    }

    proptest! {
        #[test]
        fn integers_come_back_and_have_the_length_announced(u: u64, i: i64) {
            let mut out = vec![];
            put_uleb(&mut out, u);
            prop_assert_eq!(out.len(), uleb_len(u));
            put_sleb(&mut out, i);
            prop_assert_eq!(out.len(), uleb_len(u) + sleb_len(i));
            let mut r = Reader::new(&out);
            prop_assert_eq!(r.uleb(), Ok(u));
            prop_assert_eq!(r.sleb(), Ok(i));
            prop_assert!(r.finish().is_ok());
        }

        #[test]
        fn whatever_integer_is_read_is_written_back_in_the_same_bytes(bytes: [u8; 11]) {
            let mut r = Reader::new(&bytes);
            if let Ok(v) = r.uleb() {
                let mut out = vec![];
                put_uleb(&mut out, v);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - r.rest().len()]);
            }
            let mut r = Reader::new(&bytes);
            if let Ok(v) = r.sleb() {
                let mut out = vec![];
                put_sleb(&mut out, v);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - r.rest().len()]);
            }
        }
    }
}
