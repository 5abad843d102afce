//! Survey: which of many databases differ, found out in one round trip before any of them is talked of.
//!
//! A client says which databases it means, by patterns, and what it holds of them: each database falls into one of 64
//! buckets, and each bucket has one digest. The server answers with the databases of the buckets that differ; where none
//! does, that is all. Only databases that differ are then attached, each on a channel of its own. For as long as the
//! connection lives the server goes on to name those in which there is news, unless they are attached.
//!
//! ```text
//! frame    kind u8, then
//!   32 survey    client: version u8 · n u8 · n patterns, each bytes · 64 digests of buckets, 16 each
//!   33 bucket    server: which u8 · named; one for each bucket that differs
//!   34 surveyed  server: nothing; that was all
//!   35 news      server: named
//! named    n LEB128 · n times (database bytes · brief 16)
//! ```
//! The brief of a database is the first half of the digest over its containers, see `replica::Standing`. One without any is
//! not counted and not named. A bucket's number is the low 6 bits of the first byte of SHA-256("piecewise survey\0" ‖
//! name); its digest the first half of SHA-256 over the ascending (name bytes · brief), and zero if there are none.

mod pattern;
#[cfg(test)]
mod tests;

pub use pattern::{BadPattern, Pattern};

use crate::bytes::{DecodeError, Reader, put_bytes, put_uleb};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const VERSION: u8 = 1;
const SURVEY: u8 = 32;
const BUCKET: u8 = 33;
const SURVEYED: u8 = 34;
const NEWS: u8 = 35;

/// Buckets into which databases fall.
pub const BUCKETS: usize = 64;
/// Patterns in one survey.
pub const PATTERNS_MAX: usize = 32;
const NAME_LEN_MAX: usize = 512;
const NAMES_MAX: u64 = 1 << 20;

/// What stands for everything that one side holds of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brief(pub [u8; 16]);

impl Brief {
    /// The brief of a database with this digest over its containers.
    pub fn of(digest: &[u8; 32]) -> Self {
        Self(std::array::from_fn(|n| digest[n]))
    }
}

/// Databases and what stands for them.
pub type Named = BTreeMap<String, Brief>;

/// What a client says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    patterns: Vec<Pattern>,
    buckets: [Brief; BUCKETS],
}

impl Survey {
    /// Whether a frame is a survey.
    pub fn begins(frame: &[u8]) -> bool {
        frame.first() == Some(&SURVEY)
    }

    /// Whether a database is meant.
    pub fn covers(&self, database: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.covers(database))
    }

    /// The server's answer, where it holds these, all of them meant and granted.
    pub fn answer(&self, ours: Named) -> Vec<Vec<u8>> {
        let buckets = buckets(&ours);
        let mut differing: BTreeMap<usize, Named> = BTreeMap::new();
        let differs = |n: &usize| buckets[*n] != self.buckets[*n];
        (0..BUCKETS).filter(differs).for_each(|n| drop(differing.insert(n, Named::new())));
        for (name, brief) in ours {
            if let Some(named) = differing.get_mut(&bucket_of(&name)) {
                named.insert(name, brief);
            }
        }
        let words = differing.into_iter().map(|(n, named)| Word::Bucket(n, named));
        words.chain([Word::Surveyed]).map(|word| word.encode()).collect()
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![SURVEY, VERSION, self.patterns.len() as u8];
        self.patterns.iter().for_each(|pattern| put_bytes(&mut out, pattern.as_str().as_bytes()));
        self.buckets.iter().for_each(|brief| out.extend_from_slice(&brief.0));
        out
    }

    /// Reads a whole survey.
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(frame);
        if r.u8()? != SURVEY || r.u8()? != VERSION {
            return Err(DecodeError::Invalid { what: "the version of a survey" });
        }
        let n = r.u8()?;
        if usize::from(n) > PATTERNS_MAX {
            return Err(DecodeError::TooLarge { what: "the number of patterns" });
        }
        let pattern = |r: &mut Reader<'_>| {
            let text = r.text(NAME_LEN_MAX, "a pattern")?;
            text.parse().map_err(|_| DecodeError::Invalid { what: "a pattern" })
        };
        let patterns = (0..n).map(|_| pattern(&mut r)).collect::<Result<_, _>>()?;
        let mut buckets = [Brief([0; 16]); BUCKETS];
        for bucket in &mut buckets {
            *bucket = Brief(r.array()?);
        }
        r.finish()?;
        Ok(Self { patterns, buckets })
    }
}

/// What a server says of a survey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// All that it has in one bucket.
    Bucket(usize, Named),
    /// All buckets that differ were told.
    Surveyed,
    /// Databases in which there is something new.
    News(Named),
}

impl Word {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (mut out, named) = match self {
            Self::Bucket(n, named) => (vec![BUCKET, *n as u8], named),
            Self::Surveyed => return vec![SURVEYED],
            Self::News(named) => (vec![NEWS], named),
        };
        put_uleb(&mut out, named.len() as u64);
        for (name, brief) in named {
            put_bytes(&mut out, name.as_bytes());
            out.extend_from_slice(&brief.0);
        }
        out
    }

    /// Reads a whole word.
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(frame);
        let word = match r.u8()? {
            BUCKET => {
                let n = usize::from(r.u8()?);
                if n >= BUCKETS {
                    return Err(DecodeError::TooLarge { what: "the number of a bucket" });
                }
                Self::Bucket(n, read_named(&mut r)?)
            }
            SURVEYED => Self::Surveyed,
            NEWS => Self::News(read_named(&mut r)?),
            _ => return Err(DecodeError::Invalid { what: "a word about many databases" }),
        };
        r.finish()?;
        Ok(word)
    }
}

fn read_named(r: &mut Reader<'_>) -> Result<Named, DecodeError> {
    let n = r.uleb_max(NAMES_MAX, "the number of databases")?;
    (0..n).map(|_| Ok((r.text(NAME_LEN_MAX, "a database's name")?.to_owned(), Brief(r.array()?)))).collect()
}

/// A client's side: what the server holds of the databases that are meant.
#[derive(Debug)]
pub struct Surveyor {
    survey: Survey,
    /// What we said that we hold.
    ours: Named,
    /// Buckets that differ.
    differing: [bool; BUCKETS],
    /// What the server has named.
    theirs: Named,
    done: bool,
}

impl Surveyor {
    /// Asks for the databases that these patterns mean, of which we hold these for sure.
    pub fn new(patterns: Vec<Pattern>, ours: Named) -> Self {
        let survey = Survey { patterns, buckets: buckets(&ours) };
        Self { survey, ours, differing: [false; BUCKETS], theirs: Named::new(), done: false }
    }

    /// The first frame.
    pub fn survey(&self) -> Vec<u8> {
        self.survey.encode()
    }

    /// Takes in a frame; the databases in which there is news, once the survey is done.
    pub fn receive(&mut self, frame: &[u8]) -> Result<Named, DecodeError> {
        match Word::decode(frame)? {
            Word::Bucket(n, named) => {
                self.differing[n] = true;
                self.theirs.extend(named);
                Ok(Named::new())
            }
            Word::Surveyed => {
                self.done = true;
                Ok(Named::new())
            }
            Word::News(named) => {
                self.theirs.extend(named.clone());
                Ok(named)
            }
        }
    }

    /// Both sides hold this of a database now: they talked of it.
    pub fn agree(&mut self, database: &str, brief: Option<Brief>) {
        match brief {
            Some(brief) => drop(self.theirs.insert(database.to_owned(), brief)),
            None => drop(self.theirs.remove(database)),
        }
    }

    /// Whether everything was told.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// What the server holds of a database, by what it told last; None: nothing that we may see.
    pub fn theirs(&self, database: &str) -> Option<Brief> {
        match self.theirs.get(database) {
            Some(brief) => Some(*brief),
            None if self.differing[bucket_of(database)] => None,
            None => self.ours.get(database).copied(),
        }
    }

    /// Whether the server tells of a database.
    pub fn covers(&self, database: &str) -> bool {
        self.survey.covers(database)
    }

    /// The databases that the server has named.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.theirs.keys().map(String::as_str)
    }
}

fn bucket_of(name: &str) -> usize {
    let hash = Sha256::new().chain_update(b"piecewise survey\0").chain_update(name).finalize();
    usize::from(hash[0]) % BUCKETS
}

fn buckets(named: &Named) -> [Brief; BUCKETS] {
    let mut lists = vec![vec![]; BUCKETS];
    for (name, brief) in named {
        let list = &mut lists[bucket_of(name)];
        put_bytes(list, name.as_bytes());
        list.extend_from_slice(&brief.0);
    }
    std::array::from_fn(|n| match lists[n].is_empty() {
        true => Brief([0; 16]),
        false => Brief::of(&Sha256::digest(&lists[n]).into()),
    })
}
