//! Value: one SQL value in SQLite's five storage classes, owned or borrowed.
//!
//! SQLite lets a TEXT hold bytes that are not UTF-8, which Automerge cannot; such a text is a case of
//! its own, so that it comes back exactly as it was. NaN does not exist: SQLite stores it as NULL.

/// A borrowed SQL value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// NULL.
    Null,
    /// A 64-bit signed integer.
    Integer(i64),
    /// A double; never NaN.
    Real(f64),
    /// UTF-8 text.
    Text(&'a str),
    /// A blob.
    Blob(&'a [u8]),
    /// A TEXT whose bytes are not UTF-8.
    RawText(&'a [u8]),
}

/// An owned SQL value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// A 64-bit signed integer.
    Integer(i64),
    /// A double; never NaN.
    Real(f64),
    /// UTF-8 text.
    Text(String),
    /// A blob.
    Blob(Vec<u8>),
    /// A TEXT whose bytes are not UTF-8.
    RawText(Vec<u8>),
}

impl Value {
    /// Borrows it.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Integer(i) => ValueRef::Integer(*i),
            Self::Real(f) => ValueRef::Real(*f),
            Self::Text(s) => ValueRef::Text(s),
            Self::Blob(b) => ValueRef::Blob(b),
            Self::RawText(b) => ValueRef::RawText(b),
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Integer(i) => write!(f, "{i}"),
            Self::Real(r) => write!(f, "{r:?}"),
            Self::Text(s) => f.write_str(s),
            Self::Blob(b) | Self::RawText(b) => {
                f.write_str("x'")?;
                b.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
                f.write_str("'")
            }
        }
    }
}

impl ValueRef<'_> {
    /// About how many bytes it takes.
    pub fn byte_len(self) -> usize {
        match self {
            Self::Text(s) => s.len() + 2,
            Self::Blob(b) | Self::RawText(b) => b.len() + 2,
            _ => 9,
        }
    }

    /// Copies it.
    pub fn to_owned(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Integer(i) => Value::Integer(i),
            Self::Real(f) => Value::Real(f),
            Self::Text(s) => Value::Text(s.to_owned()),
            Self::Blob(b) => Value::Blob(b.to_owned()),
            Self::RawText(b) => Value::RawText(b.to_owned()),
        }
    }

    /// Whether both are the same value of the same class, bit for bit (0.0 is not -0.0, 1 is not 1.0).
    #[inline]
    pub fn same(self, other: ValueRef<'_>) -> bool {
        match (self, other) {
            (ValueRef::Real(a), ValueRef::Real(b)) => a.to_bits() == b.to_bits(),
            // Bytes that are none may stand nowhere, where some processors take long to compare them.
            (ValueRef::Text(""), ValueRef::Text("")) => true,
            (a, b) => a == b,
        }
    }
}
