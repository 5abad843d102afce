//! Fleet: all files of a folder and one connection.
//!
//! First a survey tells which databases differ; files of which nothing is known are opened and looked into. Those that differ
//! are talked of, a few at a time. Few files are open at once: of those with nothing to do the one used least recently is closed.

use super::known::{self, Known, Part};
use super::talk::{Closing, Stepped, Talk};
use super::writes::Writes;
use super::{Folder, file_for, stem};
use crate::command::sync::tell_what_is_left_out;
use crate::connection::{CHANNEL, Connection};
use crate::drive::{LeftOut, Summary, lost};
use crate::home::{Home, KnownServer};
use crate::output::count;
use crate::progress::Progress;
use crate::report::{Failure, code};
use piecewise_core::id::RealmId;
use piecewise_core::identity::Identity;
use piecewise_core::link::Leave;
use piecewise_core::replica::{Binding, Follow, Replica};
use piecewise_core::survey::{Brief, Named, Pattern, Surveyor};
use piecewise_server::commits::{FALLBACK, FileState, LOOK_EVERY};
use piecewise_server::{now, tell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// Files talked of at once.
const TALKING_MAX: usize = 16;
/// Files open at once, whatever they do.
const OPEN_MAX: usize = 48;
/// Frames taken in before others are sent.
const FRAMES_AT_ONCE: usize = 16;
/// How soon to try again what may pass, such as a lock.
const RETRY_EVERY: Duration = Duration::from_secs(3);
/// How soon a file that is being closed is looked at again.
const CLOSING_EVERY: Duration = Duration::from_millis(4);
/// Errors told one by one.
const ERRORS_TOLD: usize = 20;

/// What there is to know of a folder's files, from one connection to the next.
pub(crate) struct Fleet<'a> {
    folder: &'a Folder,
    server: &'a KnownServer,
    identity: Identity,
    notes: PathBuf,
    /// The files; None: it has to be opened to know what it holds.
    files: BTreeMap<String, Option<Known>>,
    /// Those that are open.
    talks: BTreeMap<String, Talk>,
    /// Whether something is known that was not noted.
    changed: bool,
    failed: BTreeMap<String, Failed>,
    told: usize,
    hint: Option<String>,
    /// The exit code if the server does not take some tables.
    left_out: u8,
}

struct Failed {
    message: String,
    code: u8,
    /// When to try again, if that may help.
    retry: Option<Instant>,
    /// What the server held then.
    theirs: Option<Brief>,
}

/// How long a connection is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Until all files are level.
    Level,
    /// For as long as it lives.
    Lost,
}

/// What was told while both sides were level.
pub(crate) enum Told<'t> {
    /// All of them are, for the first time over this connection.
    Folder(usize, &'t Summary),
    /// One is again, after something moved.
    Database(&'t str, &'t Summary),
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
        })
    }

    pub(crate) fn folder(&self) -> &'a Folder {
        self.folder
    }

    pub(crate) fn server(&self) -> &'a KnownServer {
        self.server
    }

    /// Keeps what is known of files that look as they did, and forgets those that are gone.
    pub(crate) fn look_at_folder(&mut self) -> Result<(), Failure> {
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
    fn save(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let known = self.files.iter().filter_map(|(file, known)| Some((file.as_str(), known.as_ref()?)));
        known::save(&self.notes, &known.collect());
    }

    /// The exit code: that of the first file that failed, or of tables that are left out.
    pub(crate) fn code(&self) -> u8 {
        self.failed.values().map(|failed| failed.code).next().unwrap_or(self.left_out)
    }

    /// Says how many errors were not told one by one.
    pub(crate) fn tell_rest(&self) {
        if self.told > ERRORS_TOLD {
            tell!("error: {} more", count((self.told - ERRORS_TOLD) as u64, "file", "files"));
        }
    }

    fn fail(&mut self, file: &str, failure: Failure, theirs: Option<Brief>) {
        let wait = if failure.code == code::NO_INTAKE { RETRY_EVERY * 10 } else { RETRY_EVERY };
        let retry = failure.may_pass.then(|| Instant::now() + wait);
        let Failure { message, hint, code, .. } = failure;
        if self.failed.get(file).is_none_or(|before| before.message != message) {
            self.told += 1;
            if self.told <= ERRORS_TOLD {
                let path = self.folder.path_of(file);
                let path = path.display().to_string();
                match message.starts_with(&path) {
                    true => tell!("error: {message}"),
                    false => tell!("error: {path}: {message}"),
                }
                if hint.is_some() && hint != self.hint {
                    hint.iter().for_each(|hint| tell!("hint: {hint}"));
                    self.hint = hint;
                }
            }
        }
        self.files.insert(file.to_owned(), None);
        self.failed.insert(file.to_owned(), Failed { message, code, retry, theirs });
    }

    /// What is known for sure of databases, by the first file of each.
    fn held(&self) -> Result<Named, Failure> {
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
    fn patterns(&self) -> Result<Vec<Pattern>, Failure> {
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
    fn files_of(&self, database: &str) -> Vec<String> {
        let is_of = |known: &Option<Known>| {
            known.as_ref().and_then(|known| known.part.as_ref()).is_some_and(|part| part.database == database)
        };
        self.files.iter().filter(|(_, known)| is_of(known)).map(|(file, _)| file.clone()).collect()
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
        )
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

/// One connection of a fleet.
pub(crate) struct Voyage<'v, 'a> {
    fleet: &'v mut Fleet<'a>,
    connection: &'v mut Connection,
    writes: Option<&'v mut Writes>,
    surveyor: Surveyor,
    /// Databases that the folder follows.
    follow: Vec<Pattern>,
    /// The file of each channel.
    channels: HashMap<u64, String>,
    next_channel: u64,
    /// Files to open, in order.
    queue: VecDeque<String>,
    queued: BTreeSet<String>,
    /// Files to make, and of which database.
    to_make: BTreeMap<String, String>,
    outbox: VecDeque<(u64, Vec<u8>)>,
    summary: Summary,
    started: Instant,
    looked: Instant,
    was_level: bool,
    progress: Progress,
    done: u64,
}

impl<'v, 'a> Voyage<'v, 'a> {
    pub(crate) fn new(
        fleet: &'v mut Fleet<'a>,
        connection: &'v mut Connection,
        writes: Option<&'v mut Writes>,
        progress: Progress,
    ) -> Result<Self, Failure> {
        fleet.look_at_folder()?;
        fleet.failed.clear();
        let surveyor = Surveyor::new(fleet.patterns()?, fleet.held()?);
        let mut voyage = Self {
            follow: fleet.folder.patterns()?,
            fleet,
            connection,
            writes,
            outbox: VecDeque::from([(CHANNEL, surveyor.survey())]),
            surveyor,
            channels: HashMap::new(),
            next_channel: CHANNEL + 1,
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            to_make: BTreeMap::new(),
            summary: Summary::default(),
            started: Instant::now(),
            looked: Instant::now(),
            was_level: false,
            progress,
            done: 0,
        };
        voyage.send_waiting();
        Ok(voyage)
    }

    /// Goes on until all is level, or the connection is lost.
    pub(crate) async fn run(mut self, until: Until, mut told: impl FnMut(Told<'_>)) -> Result<(), Failure> {
        let result = self.talk(until, &mut told).await;
        self.fleet.talks.values_mut().for_each(Talk::cut);
        self.progress.finish();
        self.fleet.save();
        result
    }

    async fn talk(&mut self, until: Until, told: &mut impl FnMut(Told<'_>)) -> Result<(), Failure> {
        loop {
            let mut moved = self.take_frames()?;
            self.hear_of_writes()?;
            moved |= self.open_some();
            moved |= self.step(until, told);
            self.close_some(until);
            moved |= self.send_waiting();
            if moved {
                tokio::task::yield_now().await; // so that a signal is heard
                continue;
            }
            if self.is_level(until) {
                if until == Until::Level {
                    self.connection.witnessed().await?;
                }
                if !std::mem::replace(&mut self.was_level, true) {
                    self.progress.finish();
                    let summary = self.summary();
                    told(Told::Folder(self.databases(), &summary));
                    self.fleet.save();
                }
                if until == Until::Level {
                    return Ok(());
                }
                if self.ask_about_more()? {
                    continue;
                }
            }
            self.wait().await?;
        }
    }

    /// Databases that the folder has files of.
    fn databases(&self) -> usize {
        let known = self.fleet.files.iter().filter(|(file, known)| {
            self.fleet.talks.contains_key(*file) || known.as_ref().is_some_and(|known| known.part.is_some())
        });
        known.count()
    }

    fn summary(&self) -> Summary {
        let (bytes_received, bytes_sent) = self.connection.bytes();
        let mut summary = self.summary;
        (summary.bytes_received, summary.bytes_sent) = (bytes_received, bytes_sent);
        summary.milliseconds = self.started.elapsed().as_millis() as u64;
        summary
    }

    fn is_level(&self, until: Until) -> bool {
        let talks = match until {
            Until::Level => self.fleet.talks.is_empty(),
            Until::Lost => self.fleet.talks.values().all(|talk| talk.link().is_some() && talk.is_quiet()),
        };
        self.surveyor.is_done() && talks && self.queue.is_empty() && self.outbox.is_empty()
    }

    // What comes in

    fn take_frames(&mut self) -> Result<bool, Failure> {
        for n in 0..FRAMES_AT_ONCE {
            match self.connection.incoming.try_recv() {
                Ok(frame) => {
                    let (channel, frame) = frame?;
                    self.take(channel, &frame)?;
                }
                Err(tokio::sync::mpsc::error::TryRecvError::Empty) => return Ok(n > 0),
                Err(_) => return Err(lost()),
            }
        }
        Ok(true)
    }

    fn take(&mut self, channel: u64, frame: &[u8]) -> Result<(), Failure> {
        if channel == CHANNEL {
            return self.take_word(frame);
        }
        // What comes for a talk that was left is told again as news.
        let Some(file) = self.channels.get(&channel).cloned() else { return Ok(()) };
        if let Some(talk) = self.fleet.talks.get_mut(&file)
            && let Err(failure) = talk.receive(frame)
        {
            self.give_up(&file, failure);
        }
        Ok(())
    }

    fn take_word(&mut self, frame: &[u8]) -> Result<(), Failure> {
        let was_done = self.surveyor.is_done();
        let news = self.surveyor.receive(frame).map_err(|_| {
            Failure::new("the server's words about many databases cannot be read").code(code::UNREACHABLE)
        })?;
        if !was_done && self.surveyor.is_done() {
            self.begin_with_those_that_differ();
        } else if was_done {
            news.keys().for_each(|database| self.hear_of(database));
        }
        Ok(())
    }

    /// The survey is done: files of which nothing is known are looked into, and those that differ are talked of.
    fn begin_with_those_that_differ(&mut self) {
        let files: Vec<_> = self.fleet.files.keys().cloned().collect();
        for file in files {
            match &self.fleet.files[&file] {
                None => self.enqueue(&file),
                Some(Known { part: None, .. }) => {}
                Some(Known { part: Some(part), .. }) => {
                    let foreign = part.realm != self.fleet.server.realm().0;
                    if foreign || !part.is_in_step(self.surveyor.theirs(&part.database)) {
                        self.enqueue(&file);
                    }
                }
            }
        }
        let named: Vec<_> = self.surveyor.named().map(str::to_owned).collect();
        named.iter().for_each(|database| self.make_if_followed(database));
    }

    /// The server has news in a database.
    fn hear_of(&mut self, database: &str) {
        let theirs = self.surveyor.theirs(database);
        for file in self.fleet.files_of(database) {
            let part = self.fleet.files[&file].as_ref().and_then(|known| known.part.as_ref());
            if part.is_some_and(|part| !part.is_in_step(theirs)) {
                self.enqueue(&file);
            }
        }
        let failed = |failed: &Failed| failed.theirs != theirs;
        if let Some(file) = file_for(database)
            && self.fleet.failed.get(&file).is_some_and(failed)
        {
            self.enqueue(&file);
        }
        self.make_if_followed(database);
    }

    /// Lets a file be made for a database that has none, if the folder follows it.
    fn make_if_followed(&mut self, database: &str) {
        let is_open = self.fleet.talks.values().any(|talk| talk.binding.database == database);
        let followed = self.follow.iter().any(|pattern| pattern.covers(database));
        if is_open || !followed || !self.fleet.files_of(database).is_empty() {
            return;
        }
        let Some(file) = file_for(database) else { return };
        // A file of that name that is of another database is told of when it is opened.
        if !self.fleet.files.contains_key(&file) || self.fleet.files[&file].is_some() {
            self.to_make.insert(file.clone(), database.to_owned());
            self.enqueue(&file);
        }
    }

    fn enqueue(&mut self, file: &str) {
        if self.queued.insert(file.to_owned()) {
            self.queue.push_back(file.to_owned());
        }
    }

    // What other programs write

    fn hear_of_writes(&mut self) -> Result<(), Failure> {
        if self.looked.elapsed() >= FALLBACK {
            self.looked = Instant::now();
            self.fleet.talks.values_mut().for_each(Talk::look_again);
            self.retry();
        }
        let Some(written) = self.writes.as_mut().map(|writes| writes.take()) else { return Ok(()) };
        let mut files = written.files;
        if written.any {
            files.extend(self.fleet.folder.files()?);
            files.extend(self.fleet.files.keys().cloned());
        }
        files.iter().for_each(|file| self.hear_of_write(file));
        Ok(())
    }

    fn hear_of_write(&mut self, file: &str) {
        if let Some(talk) = self.fleet.talks.get_mut(file) {
            if !talk.is_replaced() {
                return talk.heard();
            }
            self.let_go(file);
        }
        let state = FileState::of(&self.fleet.folder.path_of(file));
        if !state.exists() {
            if self.fleet.files.remove(file).is_some() {
                self.fleet.failed.remove(file);
                tell!("note: {} is gone", self.fleet.folder.path_of(file).display());
            }
            return;
        }
        let known = self.fleet.files.entry(file.to_owned()).or_default();
        if known.as_ref().is_none_or(|known| known.state != state) {
            *known = None;
            if self.surveyor.is_done() {
                self.enqueue(file);
            }
        }
    }

    /// Tries again what may have passed.
    fn retry(&mut self) {
        if self.writes.is_none() {
            return;
        }
        let due = |failed: &Failed| failed.retry.is_some_and(|at| at < Instant::now());
        let files = self.fleet.failed.iter().filter(|(_, failed)| due(failed));
        let files: Vec<_> = files.map(|(file, _)| file.clone()).collect();
        files.iter().for_each(|file| self.enqueue(file));
    }

    /// Asks anew if there are databases here of which the server does not tell.
    fn ask_about_more(&mut self) -> Result<bool, Failure> {
        let held = self.fleet.held()?;
        let Some(uncovered) = held.keys().find(|name| !self.surveyor.covers(name)) else { return Ok(false) };
        let surveyor = Surveyor::new(self.fleet.patterns()?, held.clone());
        if !surveyor.covers(uncovered) {
            return Ok(false); // its name cannot be asked for
        }
        self.outbox.push_back((CHANNEL, surveyor.survey()));
        self.surveyor = surveyor;
        Ok(true)
    }

    // Files that are open

    /// Opens the next files, while few enough are.
    fn open_some(&mut self) -> bool {
        let mut opened = false;
        while !self.queue.is_empty() && self.fleet.talks.len() < OPEN_MAX {
            let talking = self.fleet.talks.values().filter(|talk| !talk.is_quiet()).count();
            if talking >= TALKING_MAX {
                break;
            }
            let Some(file) = self.queue.pop_front() else { break };
            self.queued.remove(&file);
            opened = true;
            if let Some(talk) = self.fleet.talks.get_mut(&file) {
                talk.look_again();
                continue;
            }
            match self.open(&file) {
                Ok(Some(talk)) => drop(self.fleet.talks.insert(file, talk)),
                Ok(None) => self.done += 1,
                Err(failure) => self.give_up(&file, failure),
            }
        }
        opened
    }

    /// Opens a file, or makes it; None: it takes no part in sync.
    fn open(&mut self, file: &str) -> Result<Option<Talk>, Failure> {
        let path = self.fleet.folder.path_of(file);
        let made = self.to_make.remove(file).or_else(|| self.expected(file));
        let state = FileState::of(&path);
        // A file that was begun and holds nothing is as good as none.
        let create = made.is_some() && std::fs::metadata(&path).map_or(true, |found| found.len() == 0);
        let identity = self.fleet.identity.clone();
        let mut replica = Replica::open(&path, create, identity, piecewise_server::chance())?;
        if let Some(database) = &made
            && replica.binding().is_none()
        {
            if !replica.untracked()?.is_empty() {
                return Err(Failure::new(format!("the file stands in the place of database {database}")).hint(
                    "move it away; or let its tables take part with `piecewise track FILE --all --as DATABASE`",
                ));
            }
            let (realm, server) = (self.fleet.server.realm(), self.fleet.server.key());
            replica.bind(Binding { database: database.clone(), realm, server, follow: Follow::All })?;
        }
        let Some(binding) = replica.binding().cloned() else {
            let is_settled = state.settles_in(SystemTime::now()) == Duration::ZERO;
            self.fleet.failed.remove(file);
            self.fleet.files.insert(file.to_owned(), is_settled.then_some(Known { state, part: None }));
            self.fleet.changed = true;
            return Ok(None);
        };
        if let Some(database) = made.filter(|database| *database != binding.database) {
            let held = binding.database;
            return Err(Failure::new(format!(
                "the file is of database {held} and has the name of {database}"
            ))
            .hint("give it another name"));
        }
        if binding.realm != self.fleet.server.realm() {
            return Err(Failure::new("the file belongs to another server than the rest of the folder")
                .hint("one folder is for one server; move the file to another"));
        }
        replica.set_clock_offset(self.connection.server_time, now())?;
        self.fleet.files.insert(file.to_owned(), None);
        Ok(Some(Talk::new(path, replica, binding)))
    }

    /// The database that a file of this name would be made for, if there were none.
    fn expected(&self, file: &str) -> Option<String> {
        let database = stem(file);
        let followed = self.follow.iter().any(|pattern| pattern.covers(database));
        let is_there = followed && self.surveyor.theirs(database).is_some();
        (is_there && file_for(database).as_deref() == Some(file)).then(|| database.to_owned())
    }

    /// Lets every open file do what it can.
    fn step(&mut self, until: Until, told: &mut impl FnMut(Told<'_>)) -> bool {
        let mut moved = false;
        let files: Vec<_> = self.fleet.talks.keys().cloned().collect();
        for file in files {
            match self.step_one(&file) {
                Ok(stepped) => moved |= stepped,
                Err(failure) => {
                    self.give_up(&file, failure);
                    moved = true;
                }
            }
            if let Some(talk) = self.fleet.talks.get_mut(&file)
                && talk.link().is_some()
                && talk.is_quiet()
                && !talk.is_closing()
            {
                self.fleet.failed.remove(&file);
                let noted = talk.note_level();
                let summary = std::mem::take(&mut talk.summary);
                if summary.moved() {
                    self.summary.add(&summary);
                    if until == Until::Lost && self.was_level {
                        told(Told::Database(&talk.binding.database, &summary));
                    }
                }
                if let Err(failure) = noted {
                    self.give_up(&file, failure);
                }
            }
        }
        let waiting = self.queue.len() + self.fleet.talks.len();
        self.progress.count(self.done, self.done + waiting as u64, &self.summary);
        moved
    }

    fn step_one(&mut self, file: &str) -> Result<bool, Failure> {
        let Some(talk) = self.fleet.talks.get_mut(file) else { return Ok(false) };
        match talk.step(self.connection)? {
            Stepped::Moved => Ok(true),
            Stepped::Idle => Ok(false),
            Stepped::Looked => {
                let part = talk.part()?;
                let theirs = self.surveyor.theirs(&part.database);
                if !self.surveyor.is_done() {
                    return Ok(false);
                }
                if part.is_in_step(theirs) {
                    talk.close_soon()?;
                } else {
                    talk.begin(self.next_channel, theirs)?;
                    self.channels.insert(self.next_channel, file.to_owned());
                    self.next_channel += 1;
                }
                Ok(true)
            }
        }
    }

    /// Closes files that have nothing to do: all of them, or those used least recently when there are too many.
    fn close_some(&mut self, until: Until) {
        let quiet = |talk: &Talk| talk.link().is_some() && talk.is_quiet() && !talk.is_closing();
        let mut idle: Vec<_> = self.fleet.talks.iter().filter(|(_, talk)| quiet(talk)).collect();
        idle.sort_by_key(|(_, talk)| talk.used);
        let room = match until {
            Until::Level => idle.len(),
            Until::Lost if self.queue.is_empty() => 0,
            Until::Lost => (self.fleet.talks.len() + TALKING_MAX).saturating_sub(OPEN_MAX),
        };
        let soon: Vec<_> = idle.into_iter().take(room).map(|(file, _)| file.clone()).collect();
        for file in soon {
            if until == Until::Level {
                self.tell_what_is_left_out(&file);
            }
            let closing = self.fleet.talks.get_mut(&file).map(Talk::close_soon);
            if let Some(Err(failure)) = closing {
                self.give_up(&file, failure);
            }
        }
        let closing = self.fleet.talks.iter().filter(|(_, talk)| talk.is_closing() && talk.is_quiet());
        let closing: Vec<_> = closing.map(|(file, _)| file.clone()).collect();
        closing.iter().for_each(|file| self.close(file));
    }

    fn tell_what_is_left_out(&mut self, file: &str) {
        let Some(talk) = self.fleet.talks.get(file) else { return };
        if let Some(link) = talk.link() {
            let code = tell_what_is_left_out(&LeftOut::of(link, &talk.replica), &talk.replica);
            self.fleet.left_out = self.fleet.left_out.max(code);
        }
    }

    fn close(&mut self, file: &str) {
        let Some(talk) = self.fleet.talks.remove(file) else { return };
        let (database, channel) = (talk.binding.database.clone(), talk.channel());
        let has_moved = talk.has_moved();
        match talk.close(self.writes.is_some()) {
            Closing::Later(talk) => drop(self.fleet.talks.insert(file.to_owned(), *talk)),
            Closing::Failed(failure) => {
                self.leave(channel, vec![Leave::unfinished()]);
                self.give_up(file, failure);
            }
            Closing::Closed { known, frames } => {
                let part = known.as_ref().and_then(|known| known.part.as_ref());
                if let Some(part) = part.filter(|_| channel.is_some() && has_moved) {
                    self.surveyor.agree(&database, part.brief());
                }
                self.leave(channel, frames);
                self.fleet.files.insert(file.to_owned(), known);
                self.fleet.changed = true;
                self.done += 1;
            }
        }
    }

    /// Ends the talk over a channel.
    fn leave(&mut self, channel: Option<u64>, frames: Vec<Vec<u8>>) {
        let Some(channel) = channel else { return };
        self.channels.remove(&channel);
        self.outbox.extend(frames.into_iter().map(|frame| (channel, frame)));
    }

    /// Forgets a file that is open.
    fn let_go(&mut self, file: &str) {
        if let Some(mut talk) = self.fleet.talks.remove(file) {
            let channel = talk.channel();
            talk.cut();
            self.leave(channel, vec![Leave::unfinished()]);
        }
        if let Some(known) = self.fleet.files.get_mut(file) {
            *known = None;
        }
    }

    /// A file cannot be gone on with; the others are.
    fn give_up(&mut self, file: &str, failure: Failure) {
        let database = self.fleet.talks.get(file).map(|talk| talk.binding.database.clone());
        let theirs = self.surveyor.theirs(&database.unwrap_or_else(|| stem(file).to_owned()));
        self.let_go(file);
        self.fleet.fail(file, failure, theirs);
        self.done += 1;
    }

    // What goes out

    fn send_waiting(&mut self) -> bool {
        let mut sent = false;
        while !self.outbox.is_empty() {
            let Some(room) = self.connection.room() else { break };
            if let Some((channel, frame)) = self.outbox.pop_front() {
                room.send(channel, frame);
                sent = true;
            }
        }
        sent
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self) -> Result<(), Failure> {
        let is_looking = self.fleet.talks.values().any(Talk::is_looking);
        let is_closing = self.fleet.talks.values().any(Talk::is_closing);
        let pause = match (is_looking, is_closing) {
            (true, _) => LOOK_EVERY,
            (_, true) => CLOSING_EVERY,
            _ => FALLBACK,
        };
        let outgoing = self.connection.outgoing();
        let is_full = self.connection.room().is_none();
        let frame = tokio::select! {
            frame = self.connection.incoming.recv() => frame.ok_or_else(lost)??,
            permit = outgoing.reserve(), if is_full => {
                drop(permit.map_err(|_| lost())?);
                return Ok(());
            }
            () = async { match &self.writes { Some(writes) => writes.wait().await, None => std::future::pending().await } } => return Ok(()),
            () = tokio::time::sleep(pause) => return Ok(()),
        };
        self.take(frame.0, &frame.1)
    }
}
