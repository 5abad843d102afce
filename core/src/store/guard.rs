//! Guard: bounds what the application's triggers do while rows are applied.
//!
//! A trigger's writes to tracked tables arrive as data from the author of the row, so they are left out here: SQLite's
//! authorizer answers IGNORE, which skips an INSERT and leaves columns of an UPDATE as they are. What triggers derive
//! in tables that are not tracked happens as usual. The authorizer stays installed, because installing one expires all
//! prepared statements; a flag says whether rows are being applied. Statements that apply rows have texts of their own,
//! so that the cache never gives one that was prepared under the flag to anybody else.
//!
//! A DELETE cannot be ignored, nor a new INTEGER PRIMARY KEY: whether there are triggers that do so is noted.
//! A progress handler ends statements whose triggers take too many steps.

use super::StoreError;
use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use std::collections::HashSet;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Steps of SQLite's virtual machine that the triggers of one row may take: a fraction of a second.
const STEPS_MAX: u64 = 20_000_000;
/// The same where triggers of the table did not end before.
const STEPS_MAX_AGAIN: u64 = 1_000_000;
/// Steps between two calls of the progress handler.
const STEPS_EACH: c_int = 100_000;

/// Names that our own triggers begin with.
const OURS: &str = "piecewise_";

#[derive(Debug, Default)]
struct State {
    is_applying: AtomicBool,
    disturbs: AtomicBool,
    /// Steps of the present row.
    steps: AtomicU64,
    /// How many it may take.
    steps_max: AtomicU64,
    was_stopped: AtomicBool,
    /// Tracked tables, in small letters.
    tracked: RwLock<HashSet<String>>,
}

/// What keeps the application's triggers in bounds on one connection.
#[derive(Debug, Clone)]
pub(crate) struct Guard(Arc<State>);

impl Guard {
    /// Installs the authorizer and the progress handler.
    pub(crate) fn install(conn: &mut Connection) -> Result<Self, StoreError> {
        let state = Arc::new(State::default());
        let shared = state.clone();
        conn.authorizer(Some(move |context: AuthContext<'_>| shared.authorize(&context)))?;
        let shared = state.clone();
        conn.progress_handler(STEPS_EACH, Some(move || shared.is_too_long()))?;
        Ok(Self(state))
    }

    /// Names the tracked tables, in small letters.
    pub(crate) fn set_tracked(&self, tables: HashSet<String>) {
        *self.0.tracked.write().unwrap_or_else(PoisonError::into_inner) = tables;
    }

    /// Begins or ends applying rows.
    pub(crate) fn set_applying(&self, applying: bool) {
        self.0.is_applying.store(applying, Ordering::Relaxed);
        self.start_row(false);
    }

    /// Begins to count the steps of another row. `again`: triggers of its table did not end before.
    pub(crate) fn start_row(&self, again: bool) {
        self.0.steps.store(0, Ordering::Relaxed);
        self.0.steps_max.store(if again { STEPS_MAX_AGAIN } else { STEPS_MAX }, Ordering::Relaxed);
    }

    /// Returns whether a statement was ended for its steps since the last call.
    pub(crate) fn take_stopped(&self) -> bool {
        self.0.was_stopped.swap(false, Ordering::Relaxed)
    }

    /// Whether any trigger of the application may delete rows of tracked tables or change their keys.
    pub(crate) fn disturbs(&self) -> bool {
        self.0.disturbs.load(Ordering::Relaxed)
    }
}

impl State {
    fn authorize(&self, context: &AuthContext<'_>) -> Authorization {
        if !self.is_applying.load(Ordering::Relaxed) || context.accessor.is_none_or(|by| by.starts_with(OURS))
        {
            return Authorization::Allow;
        }
        match context.action {
            AuthAction::Insert { table_name } if self.is_tracked(table_name) => Authorization::Ignore,
            AuthAction::Update { table_name, .. } if self.is_tracked(table_name) => {
                // SQLite changes an INTEGER PRIMARY KEY all the same.
                self.disturbs.store(true, Ordering::Relaxed);
                Authorization::Ignore
            }
            AuthAction::Delete { table_name } if self.is_tracked(table_name) => {
                self.disturbs.store(true, Ordering::Relaxed);
                Authorization::Allow
            }
            _ => Authorization::Allow,
        }
    }

    fn is_tracked(&self, table: &str) -> bool {
        let tracked = self.tracked.read().unwrap_or_else(PoisonError::into_inner);
        tracked.contains(&table.to_ascii_lowercase())
    }

    fn is_too_long(&self) -> bool {
        if !self.is_applying.load(Ordering::Relaxed) {
            return false;
        }
        let steps = self.steps.fetch_add(STEPS_EACH as u64, Ordering::Relaxed);
        let stop = steps > self.steps_max.load(Ordering::Relaxed);
        if stop {
            self.was_stopped.store(true, Ordering::Relaxed);
        }
        stop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(sql: &str) -> (Connection, Guard) {
        let mut conn = Connection::open_in_memory().unwrap();
        let guard = Guard::install(&mut conn).unwrap();
        guard.set_tracked(["notes".to_owned(), "tags".to_owned()].into());
        conn.execute_batch("CREATE TABLE notes(id INTEGER PRIMARY KEY, tags TEXT); CREATE TABLE tags(id TEXT PRIMARY KEY, note); CREATE TABLE derived(x UNIQUE)").unwrap();
        conn.execute_batch(sql).unwrap();
        (conn, guard)
    }

    fn texts(conn: &Connection, sql: &str) -> Vec<String> {
        let mut stmt = conn.prepare(sql).unwrap();
        stmt.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn triggers_write_tables_that_are_not_tracked_and_no_others() {
        let (conn, guard) = conn(
            "INSERT INTO notes VALUES (1, 'old');
             CREATE TRIGGER piecewise_1 AFTER INSERT ON tags BEGIN INSERT INTO derived VALUES ('log ' || NEW.id); END;
             CREATE TRIGGER a AFTER INSERT ON tags BEGIN
               UPDATE notes SET tags = 'new' WHERE id = NEW.note;
               INSERT INTO notes VALUES (2, 'more') ON CONFLICT(id) DO UPDATE SET tags = 'more';
               INSERT OR IGNORE INTO derived VALUES ('once');
             END",
        );
        guard.set_applying(true);
        conn.execute_batch(
            "/* apply */ INSERT INTO tags VALUES ('a', 1); /* apply */ INSERT INTO tags VALUES ('b', 1)",
        )
        .unwrap();
        guard.set_applying(false);
        assert_eq!(texts(&conn, "SELECT id || tags FROM notes"), ["1old"]);
        assert_eq!(texts(&conn, "SELECT x FROM derived ORDER BY x"), ["log a", "log b", "once"]);
        assert!(guard.disturbs());
        conn.execute_batch("INSERT INTO tags VALUES ('c', 1)").unwrap();
        assert_eq!(texts(&conn, "SELECT id || tags FROM notes ORDER BY id"), ["1new", "2more"]);
    }

    #[test]
    fn a_trigger_that_never_ends_is_stopped() {
        let (conn, guard) = conn(
            "CREATE TRIGGER a AFTER INSERT ON tags BEGIN
               INSERT INTO derived WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i FROM s) SELECT max(i) FROM s;
             END",
        );
        guard.set_applying(true);
        conn.execute_batch("BEGIN").unwrap();
        assert!(conn.execute_batch("/* apply */ INSERT INTO tags VALUES ('a', 1)").is_err());
        assert!(guard.take_stopped() && !guard.take_stopped());
        assert!(conn.is_autocommit());
    }
}
