//! Fleet: all files of a folder, from one connection to the next: what is known of each, which are open, which failed.

use super::known::{self, Known, Part};
use super::talk::Talk;
use super::{Folder, stem};
use crate::home::{Home, KnownServer};
use crate::report::{Code, Failure, code};
use piecewise_core::id::RealmId;
use piecewise_core::identity::Identity;
use piecewise_core::replica::Replica;
use piecewise_core::survey::{Brief, Named, Pattern};
use piecewise_server::commits::FileState;
use piecewise_server::terminal::{self, count, is_json};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How soon to try again what may pass, such as a lock.
const RETRY_EVERY: Duration = Duration::from_secs(3);
/// Errors told one by one.
const ERRORS_TOLD: usize = 20;

/// What there is to know of a folder's files, from one connection to the next.
pub(crate) struct Fleet<'a> {
    pub(super) folder: &'a Folder,
    pub(super) server: &'a KnownServer,
    pub(super) identity: Identity,
    notes: PathBuf,
    /// The files; None: it has to be opened to know what it holds.
    pub(super) files: BTreeMap<String, Option<Known>>,
    /// Those that are open.
    pub(super) talks: BTreeMap<String, Talk>,
    /// Whether something is known that was not noted.
    pub(super) changed: bool,
    pub(super) failed: BTreeMap<String, Failed>,
    told: usize,
    hint: Option<String>,
    /// The exit code if the server does not take some tables.
    pub(super) left_out: u8,
    /// For how long writes to a file gather before they are captured.
    pub(crate) every: Duration,
    /// Whether what happens is told as JSON, an event on a line.
    pub(crate) as_events: bool,
}

pub(super) struct Failed {
    pub(super) message: String,
    pub(super) code: Code,
    /// Whether trying again may help a command that waits.
    may_pass: bool,
    /// When a watch tries again, if that may help.
    pub(super) retry: Option<Instant>,
    /// What the server held then.
    pub(super) theirs: Option<Brief>,
}

impl<'a> Fleet<'a> {
    /// The files of a folder. If it does not say of which server they are, the first of them does.
    pub(crate) fn new(
        folder: &'a Folder,
        server: Option<&'a KnownServer>,
        home: &'a Home,
    ) -> Result<Self, Failure> {
        let identity = home.identity()?;
        let server = match server {
            Some(server) => server,
            None => home.of_realm(&first_realm(folder, &identity)?)?,
        };
        let notes = known::path(home, folder.path());
        let known = known::load(&notes).into_iter().map(|(file, known)| (file, Some(known))).collect();
        Ok(Self {
            folder,
            server,
            identity,
            notes,
            files: known,
            talks: BTreeMap::new(),
            changed: false,
            failed: BTreeMap::new(),
            told: 0,
            hint: None,
            left_out: 0,
            every: Duration::ZERO,
            as_events: false,
        })
    }

    pub(crate) fn folder(&self) -> &'a Folder {
        self.folder
    }

    pub(crate) fn server(&self) -> &'a KnownServer {
        self.server
    }

    /// Keeps what is known of files that look as they did, and forgets those that are gone.
    pub(super) fn look_at_folder(&mut self) -> Result<(), Failure> {
        let before = std::mem::take(&mut self.files);
        let mut before: HashMap<_, _> = before.into_iter().collect();
        self.talks.retain(|_, talk| !talk.is_replaced());
        for file in self.folder.files()? {
            let state = FileState::of(&self.folder.path_of(&file));
            let known = before.remove(&file).flatten().filter(|known| known.state == state);
            self.files.insert(file, known);
        }
        Ok(())
    }

    /// Writes down what is known of the files.
    pub(super) fn save(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let known = self.files.iter().filter_map(|(file, known)| Some((file.as_str(), known.as_ref()?)));
        known::save(&self.notes, &known.collect());
    }

    /// The exit code: that of the first file that failed, or of tables that are left out.
    pub(crate) fn code(&self) -> u8 {
        self.failed.values().map(|failed| failed.code.exit).next().unwrap_or(self.left_out)
    }

    /// What keeps it from being level, if some files failed or tables are left out.
    pub(crate) fn failure(&self) -> Failure {
        let may_pass = !self.failed.is_empty() && self.failed.values().all(|failed| failed.may_pass);
        let code = self.failed.values().map(|failed| failed.code).next();
        let code = code.unwrap_or(Code { exit: self.left_out, ..code::FAILED });
        let failure = Failure::new("not all files of the folder can become level").code(code);
        Failure { may_pass, ..failure }
    }

    /// Says how many errors were not told one by one.
    pub(crate) fn tell_rest(&self) {
        if self.told > ERRORS_TOLD {
            let more = count((self.told - ERRORS_TOLD) as u64, "file", "files");
            Failure::new(format!("{more} more")).tell();
        }
    }

    pub(super) fn fail(&mut self, file: &str, failure: Failure, theirs: Option<Brief>) {
        let soon = failure.may_pass && failure.code != code::NO_INTAKE;
        let wait = if soon { RETRY_EVERY } else { RETRY_EVERY * 10 };
        let retry = (failure.may_pass || failure.may_return).then(|| Instant::now() + wait);
        let Failure { message, hint, code, may_pass, .. } = failure;
        if self.failed.get(file).is_none_or(|before| before.message != message) {
            self.told += 1;
            if self.told <= ERRORS_TOLD {
                let path = self.folder.path_of(file);
                let path = path.display().to_string();
                let message = match message.starts_with(&path) {
                    true => message.clone(),
                    false => format!("{path}: {message}"),
                };
                // The same hint once for people; programs read each line by itself.
                let hint = hint.filter(|hint| is_json() || self.hint.as_ref() != Some(hint));
                terminal::error(&message, hint.as_deref(), code.word);
                self.hint = hint.or(self.hint.take());
            }
        }
        self.files.insert(file.to_owned(), None);
        self.failed.insert(file.to_owned(), Failed { message, code, may_pass, retry, theirs });
    }

    /// What is known for sure of databases, by the first file of each.
    pub(super) fn held(&self) -> Result<Named, Failure> {
        let mut held = Named::new();
        let mut put = |part: &Part| {
            if let Some(brief) = part.brief().filter(|_| part.realm == self.server.realm().0) {
                held.entry(part.database.clone()).or_insert(brief);
            }
        };
        self.files.values().flatten().filter_map(|known| known.part.as_ref()).for_each(&mut put);
        self.talks.values().try_for_each(|talk| talk.part().map(|part| put(&part)))?;
        Ok(held)
    }

    /// Which databases to ask about: those that the folder follows, and those of its files.
    pub(super) fn patterns(&self) -> Result<Vec<Pattern>, Failure> {
        let mut patterns = self.folder.patterns()?;
        let database = |(file, known): (&'_ String, &'_ Option<Known>)| match (self.talks.get(file), known) {
            (Some(talk), _) => Some(talk.binding.database.clone()),
            (None, Some(known)) => known.part.as_ref().map(|part| part.database.clone()),
            // Nothing is known of it: its name may tell.
            (None, None) => Some(stem(file).to_owned()),
        };
        let mut names: Vec<_> = self.files.iter().filter_map(database).collect();
        names.retain(|name| !patterns.iter().any(|pattern| pattern.covers(name)));
        patterns.extend(common_pattern(&names));
        Ok(patterns)
    }

    /// The files of a database, as far as is known.
    pub(super) fn files_of(&self, database: &str) -> Vec<String> {
        let is_of = |known: &Option<Known>| {
            known.as_ref().and_then(|known| known.part.as_ref()).is_some_and(|part| part.database == database)
        };
        self.files.iter().filter(|(_, known)| is_of(known)).map(|(file, _)| file.clone()).collect()
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        self.save();
    }
}

/// The realm of the first file that takes part in sync.
fn first_realm(folder: &Folder, identity: &Identity) -> Result<RealmId, Failure> {
    let realm = |file: &String| {
        let path = folder.path_of(file);
        let opened = Replica::open(&path, false, identity.clone(), piecewise_server::chance());
        opened.ok().and_then(|replica| replica.binding().map(|binding| binding.realm))
    };
    folder.files()?.iter().find_map(realm).ok_or_else(|| {
        Failure::new(format!("no file in {} takes part in sync", folder.path().display())).hint(
            "`piecewise clone 'NAME*' FOLDER` brings databases of the server; `piecewise track FILE --all --as DATABASE` lets a file take part",
        ).code(code::NOT_CONNECTED)
    })
}

/// One pattern for all these names: what they begin with.
fn common_pattern(names: &[String]) -> Option<Pattern> {
    let (first, rest) = names.split_first()?;
    if rest.is_empty() {
        return first.parse().ok();
    }
    let common = rest.iter().fold(first.len(), |len, name| {
        let same = first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        len.min(same)
    });
    let common = (0..=common).rev().find_map(|len| first.get(..len)).unwrap_or_default();
    format!("{common}*").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pattern_covers_names_that_begin_alike_and_a_single_name_is_its_own() {
        let common = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            common_pattern(&names).map(|pattern| pattern.to_string())
        };
        assert_eq!(common(&["tenant01", "tenant02", "tenant1"]).as_deref(), Some("tenant*"));
        assert_eq!(common(&["shop"]).as_deref(), Some("shop"));
        assert_eq!(common(&["shop", "wages"]).as_deref(), Some("*"));
        assert_eq!(common(&["ä", "å"]).as_deref(), Some("*"));
        assert_eq!(common(&[]), None);
    }
}
