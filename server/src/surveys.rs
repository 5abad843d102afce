//! Surveys: connections that asked about many databases at once, and what stands for each database, open or not.
//!
//! A database's thread tells of every change; those who asked for it hear its name, unless they talk of it anyway. Names
//! gather until the connection has room for them, so that a slow one costs a line for each database and no more.

use piecewise_core::grant::{Grant, access};
use piecewise_core::replica::{Replica, Standing};
use piecewise_core::survey::{Brief, Named, Survey, Word};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// All surveys of a server.
#[derive(Default)]
pub(crate) struct Surveys {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    standings: BTreeMap<String, Standing>,
    /// The survey of each connection that has one.
    asked: HashMap<u64, Asked>,
}

struct Asked {
    survey: Survey,
    /// Databases with news that were not told yet.
    news: BTreeSet<String>,
    told: Arc<Notify>,
}

impl Surveys {
    /// Answers a survey. From now on there is news for this connection, in place of an earlier survey; `told` is notified.
    pub(crate) fn begin(
        &self,
        connection: u64,
        survey: Survey,
        grants: &[Grant],
        told: Arc<Notify>,
    ) -> Vec<Vec<u8>> {
        let mut state = self.state();
        let covered = state.standings.iter().filter(|(name, _)| survey.covers(name));
        let held = covered.filter_map(|(name, standing)| Some((name.clone(), brief(standing, grants)?)));
        let answer = survey.answer(held.collect());
        state.asked.insert(connection, Asked { survey, news: BTreeSet::new(), told });
        answer
    }

    /// The connection has ended.
    pub(crate) fn end(&self, connection: u64) {
        self.state().asked.remove(&connection);
    }

    /// What is to be told to a connection now, if anything.
    pub(crate) fn news(&self, connection: u64, grants: &[Grant]) -> Option<Vec<u8>> {
        let mut state = self.state();
        let names = std::mem::take(&mut state.asked.get_mut(&connection)?.news);
        let held = |name: String| Some((brief(state.standings.get(&name)?, grants)?, name));
        let named: Named = names.into_iter().filter_map(held).map(|(brief, name)| (name, brief)).collect();
        (!named.is_empty()).then(|| Word::News(named).encode())
    }

    /// A database was opened.
    pub(crate) fn opened(&self, database: &str, replica: &Replica) {
        self.state().standings.insert(database.to_owned(), Standing::of(replica));
    }

    /// A database could not be opened before: there is news in it for all who asked about such.
    pub(crate) fn tell_all(&self, database: &str) {
        let mut state = self.state();
        let asked = state.asked.values_mut().filter(|asked| asked.survey.covers(database));
        asked.for_each(|asked| asked.tell(database));
    }

    /// Something changed in an open database. Connections that are `attached` to it hear of that by their links.
    pub(crate) fn changed(&self, database: &str, replica: &Replica, attached: impl Fn(u64) -> bool) {
        let mut state = self.state();
        if let Some(standing) = state.standings.get_mut(database) {
            standing.keep_up(replica);
        }
        for (connection, asked) in &mut state.asked {
            if !attached(*connection) && asked.survey.covers(database) {
                asked.tell(database);
            }
        }
    }

    /// There is news in a database for one connection.
    pub(crate) fn tell(&self, connection: u64, database: &str) {
        if let Some(asked) = self.state().asked.get_mut(&connection) {
            asked.tell(database);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    fn tell(&mut self, database: &str) {
        if self.news.insert(database.to_owned()) {
            self.told.notify_one();
        }
    }
}

/// What stands for a database in the eyes of somebody with these grants.
fn brief(standing: &Standing, grants: &[Grant]) -> Option<Brief> {
    standing.digest(|container| access(grants, container)).map(|digest| Brief::of(&digest))
}
