//! Pattern: which databases are meant. `*` stands for any run of characters, every other character for itself.

use std::fmt;
use std::str::FromStr;

const LEN_MAX: usize = 128;

/// Which databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

/// A text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} means no databases; write a name, in which * stands for any run of characters")]
pub struct BadPattern {
    /// The text.
    pub text: String,
}

impl Pattern {
    /// Whether a database is meant.
    ///
    /// When a character does not fit, the last star takes one more: that costs at most the product of both lengths.
    pub fn covers(&self, database: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), database.as_bytes());
        let (mut p, mut n, mut star) = (0, 0, None);
        while n < name.len() {
            if pattern.get(p) == Some(&b'*') {
                star = Some((p, n));
                p += 1;
            } else if pattern.get(p) == Some(&name[n]) {
                (p, n) = (p + 1, n + 1);
            } else if let Some((at, from)) = star {
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }

    /// Whether it may mean more than one database.
    pub fn is_open(&self) -> bool {
        self.0.contains('*')
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let bad = text.is_empty() || text.len() > LEN_MAX || text.chars().any(|c| c == '/' || c.is_control());
        if bad { Err(BadPattern { text: text.to_owned() }) } else { Ok(Self(text.to_owned())) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
