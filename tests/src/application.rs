//! Application: the side of the benchmarks that uses the files as any program does: opens them, writes
//! rows of made-up words, counts and compares.

use crate::data;
use crate::rng::Rng;
use rusqlite::Connection;
use std::path::Path;

/// Words in a vocabulary.
const WORDS: u64 = 4096;

/// Made-up words from a seed, so that texts compress as real ones do.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    words: Vec<String>,
    /// The chance that picks among them.
    pub rng: Rng,
}

impl Vocabulary {
    /// A vocabulary of 4,096 words.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let words = (0..WORDS).map(|_| word(&mut rng)).collect();
        Self { words, rng }
    }

    /// A word.
    pub fn word(&mut self) -> &str {
        &self.words[self.rng.below(WORDS) as usize]
    }

    /// Some words with spaces between them.
    pub fn words(&mut self, count: usize) -> String {
        let mut text = String::with_capacity(count * 8);
        for n in 0..count {
            if n > 0 {
                text.push(' ');
            }
            text.push_str(self.word());
        }
        text
    }
}

fn word(rng: &mut Rng) -> String {
    let letters = 4 + rng.below(6);
    (0..letters).map(|_| (b'a' + rng.below(26) as u8) as char).collect()
}

/// Opens a file as an application that waits for locks.
pub fn open(file: &Path) -> Connection {
    let conn = data::open(file);
    conn.execute_batch("PRAGMA synchronous = NORMAL").expect("a pragma");
    conn
}

/// Brings the WAL into the file.
pub fn checkpoint(file: &Path) {
    open(file).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
}

/// The rows of a table.
pub fn count(file: &Path, table: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM \"{table}\"");
    open(file).query_row(&sql, [], |r| r.get::<_, i64>(0)).expect("a count") as u64
}

/// A file's bytes; 0 if it is not there.
pub fn len(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |m| m.len())
}

/// The bytes of everything in a folder.
pub fn folder_len(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { folder_len(&e.path()) } else { len(&e.path()) }).sum()
}
