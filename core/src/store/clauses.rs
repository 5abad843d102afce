//! Clauses: what the schema says that acts on rows as they are written: conflict clauses, AUTOINCREMENT and the application's
//! triggers.

use super::StoreError;
use super::index_terms::{count_word, tokens};
use rusqlite::Connection;
use std::collections::{BTreeSet, HashMap, HashSet};

/// A trigger of the application.
#[derive(Debug, Clone)]
pub(crate) struct AppTrigger {
    pub(crate) name: String,
    sql: String,
}

/// A full-text index over a table, or over a view of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Search {
    pub(crate) name: String,
    pub(crate) is_of_view: bool,
}

/// What acts on rows, by table.
#[derive(Debug, Default)]
pub(crate) struct Clauses {
    conflicts: HashSet<String>,
    autoincrement: HashSet<String>,
    triggers: HashMap<String, Vec<AppTrigger>>,
    views: HashMap<String, String>,
}

impl Clauses {
    /// Reads it from the schema, in one pass: a file may have ten thousand tables.
    pub(crate) fn read(conn: &Connection) -> Result<Self, StoreError> {
        let mut clauses = Self::default();
        let mut stmt = conn.prepare(
            "SELECT type, name, lower(tbl_name), sql FROM sqlite_master WHERE sql IS NOT NULL AND (
               (type = 'table' AND (sql LIKE '%conflict%' OR sql LIKE '%autoincrement%')) OR type = 'view'
               OR (type = 'trigger' AND name NOT LIKE 'piecewise\\_%' ESCAPE '\\'))",
        )?;
        let mut rows = stmt.query([])?;
        while let Some(row) = rows.next()? {
            let text = |n: usize| -> rusqlite::Result<String> {
                Ok(row
                    .get_ref(n)?
                    .as_bytes()
                    .map_or(String::new(), |b| String::from_utf8_lossy(b).into_owned()))
            };
            let (kind, name, table, sql) = (text(0)?, text(1)?, text(2)?, text(3)?);
            match kind.as_str() {
                "table" => {
                    if count_word(&sql, "AUTOINCREMENT") > 0 {
                        clauses.autoincrement.insert(table.clone());
                    }
                    if has_conflict_clause(&sql) {
                        clauses.conflicts.insert(table);
                    }
                }
                "trigger" => clauses.triggers.entry(table).or_default().push(AppTrigger { name, sql }),
                "view" => drop(clauses.views.insert(name.to_lowercase(), sql)),
                _ => {}
            }
        }
        Ok(clauses)
    }

    /// Whether a table's constraints have conflict clauses.
    pub(crate) fn has_conflict_clauses(&self, table: &str) -> bool {
        self.conflicts.contains(&table.to_ascii_lowercase())
    }

    /// Whether SQLite numbers a table's rows by `sqlite_sequence`.
    pub(crate) fn is_autoincrement(&self, table: &str) -> bool {
        self.autoincrement.contains(&table.to_ascii_lowercase())
    }

    /// The application's triggers on a table.
    pub(crate) fn triggers_on(&self, table: &str) -> &[AppTrigger] {
        self.triggers.get(&table.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }

    /// The full-text indexes whose content is a table, or a view of it: rebuilding them is all it takes to make them true.
    pub(crate) fn searches_of(&self, conn: &Connection, table: &str) -> Result<Vec<Search>, StoreError> {
        let table = table.to_lowercase();
        let mentions = |sql: &String| tokens(sql).filter_map(identifier).any(|name| name == table);
        let sql =
            "SELECT name, sql FROM main.sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL%'";
        let mut stmt = conn.prepare(sql)?;
        let mut rows = stmt.query([])?;
        let mut found = vec![];
        while let Some(row) = rows.next()? {
            let (name, sql): (String, String) = (row.get(0)?, row.get(1)?);
            let Some(content) = search_content(&sql) else { continue };
            let is_of_view = self.views.get(&content).is_some_and(mentions);
            if content == table || is_of_view {
                found.push(Search { name, is_of_view });
            }
        }
        Ok(found)
    }

    /// The names that triggers on a table mention, in small letters, with those of views and of triggers on tables that they
    /// mention: the tables that may decide what the triggers do are among them.
    pub(crate) fn mentioned_on(&self, table: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::from([table.to_ascii_lowercase()]);
        let mut todo = vec![table.to_ascii_lowercase()];
        while let Some(name) = todo.pop() {
            let texts = self.triggers_on(&name).iter().map(|t| &t.sql).chain(self.views.get(&name));
            for name in texts.flat_map(|sql| tokens(sql).filter_map(identifier).collect::<Vec<_>>()) {
                if found.insert(name.clone()) {
                    todo.push(name);
                }
            }
        }
        found
    }

    /// Returns the triggers on a table that have a message as a literal; without a message, those with RAISE(IGNORE).
    /// Joined by "or", None if there are none.
    pub(crate) fn raising(&self, table: &str, message: Option<&str>) -> Option<String> {
        let literal = message.map(|m| format!("'{}'", m.replace('\'', "''")));
        let raises = |trigger: &&AppTrigger| match &literal {
            Some(literal) => tokens(&trigger.sql).any(|token| token == literal),
            None => has_words(&trigger.sql, &["RAISE", "(", "IGNORE", ")"]),
        };
        let found = self.triggers_on(table).iter().filter(raises).map(|t| t.name.as_str());
        let found: Vec<_> = found.collect();
        (!found.is_empty()).then(|| found.join(" or "))
    }
}

/// The table whose rows a full-text index is over, in small letters; None if it keeps its own, or is something else.
fn search_content(sql: &str) -> Option<String> {
    let all: Vec<_> = tokens(sql).collect();
    let module =
        all.windows(2).find(|w| w[0].eq_ignore_ascii_case("USING")).and_then(|w| identifier(w[1]))?;
    if !["fts3", "fts4", "fts5"].contains(&module.as_str()) {
        return None;
    }
    let content = all.windows(3).find(|w| w[0].eq_ignore_ascii_case("content") && w[1] == "=")?;
    identifier(content[2]).filter(|name| !name.is_empty())
}

fn has_conflict_clause(sql: &str) -> bool {
    has_words(sql, &["ON", "CONFLICT"])
}

/// Whether these tokens follow each other in a text.
fn has_words(sql: &str, words: &[&str]) -> bool {
    let all: Vec<_> = tokens(sql).collect();
    all.windows(words.len()).any(|w| w.iter().zip(words).all(|(a, b)| a.eq_ignore_ascii_case(b)))
}

/// A name in small letters, without its quotes.
fn identifier(token: &str) -> Option<String> {
    let first = token.chars().next()?;
    let inner = |close: char| {
        let text = token.strip_prefix(first)?.strip_suffix(close)?;
        Some(text.replace(&format!("{close}{close}"), &close.to_string()).to_lowercase())
    };
    match first {
        '"' | '`' | '\'' => inner(first),
        '[' => inner(']'),
        c if c.is_alphabetic() || c == '_' => Some(token.to_lowercase()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clauses(sql: &str) -> Clauses {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(sql).unwrap();
        Clauses::read(&conn).unwrap()
    }

    #[test]
    fn conflict_clauses_are_found_whatever_stands_around_them() {
        let clauses = clauses(
            "CREATE TABLE a(id INTEGER PRIMARY KEY, u UNIQUE On /* x */ Conflict replace);
             CREATE TABLE b(id INTEGER PRIMARY KEY, \"on conflict\", c DEFAULT 'on conflict ignore');
             CREATE TABLE c(id INTEGER PRIMARY KEY /* ON CONFLICT REPLACE */)",
        );
        assert!(clauses.has_conflict_clauses("A") && !clauses.has_conflict_clauses("b"));
        assert!(!clauses.has_conflict_clauses("c"));
    }

    #[test]
    fn full_text_indexes_are_found_by_what_they_are_over() {
        let schema =
            "CREATE TABLE \"A b\"(id INTEGER PRIMARY KEY, x); CREATE VIEW v AS SELECT id, x FROM \"a B\";
             CREATE VIRTUAL TABLE f5 USING fts5(x, content='A b', content_rowid=id);
             CREATE VIRTUAL TABLE \"f of v\" USING fts5(x, content = \"v\", content_rowid=id);
             CREATE VIRTUAL TABLE own USING fts5(x); CREATE VIRTUAL TABLE none USING fts5(x, content='')";
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(schema).unwrap();
        let clauses = Clauses::read(&conn).unwrap();
        let search = |name: &str, is_of_view| Search { name: name.to_owned(), is_of_view };
        let expected = [search("f5", false), search("f of v", true)];
        assert_eq!(clauses.searches_of(&conn, "a b").unwrap(), expected);
        assert!(clauses.searches_of(&conn, "other").unwrap().is_empty());
    }

    #[test]
    fn triggers_are_named_by_what_they_raise_and_mention() {
        let clauses = clauses(
            "CREATE TABLE t(a); CREATE TABLE \"Other One\"(b); CREATE TABLE deep(c);
             CREATE VIEW v AS SELECT c FROM deep;
             CREATE TRIGGER one BEFORE INSERT ON t BEGIN SELECT RAISE(ABORT, 'it''s bad') FROM \"Other One\"; END;
             CREATE TRIGGER two BEFORE INSERT ON t BEGIN SELECT RAISE(IGNORE) WHERE NEW.a IN v; END",
        );
        assert_eq!(clauses.raising("T", Some("it's bad")), Some("one".into()));
        assert_eq!(clauses.raising("t", None), Some("two".into()));
        assert_eq!(clauses.raising("t", Some("other")), None);
        let mentioned = clauses.mentioned_on("t");
        assert!(["t", "other one", "v", "deep"].iter().all(|name| mentioned.contains(*name)));
    }
}
