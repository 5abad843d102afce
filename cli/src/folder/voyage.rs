//! Voyage: a fleet and one connection.
//!
//! First a survey tells which databases differ; files of which nothing is known are opened and looked into. Those that differ
//! are talked of, a few at a time, see `opening`. From then on the server names databases with news, and the system files that were
//! written.

use super::file_for;
use super::fleet::{Failed, Fleet};
use super::known::Known;
use super::talk::Talk;
use super::writes::Writes;
use crate::connection::{Arrived, CHANNEL, Connection};
use crate::drive::{Summary, lost};
use crate::progress::Progress;
use crate::report::{Failure, code};
use piecewise_core::survey::{Pattern, Surveyor};
use piecewise_server::commits::{FALLBACK, FileState};
use piecewise_server::terminal::note;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Frames taken in before others are sent.
const FRAMES_AT_ONCE: usize = 16;
/// Changes of one database's frames that are taken in together, where one follows from the other: 50 ms under the write lock.
const CHANGES_AT_ONCE: u64 = 4 << 10;
/// How soon a file that is being closed is looked at again.
const CLOSING_EVERY: Duration = Duration::from_millis(4);

/// How long a connection is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Until all files are level.
    Level,
    /// For as long as it lives.
    Lost,
}

/// Reported to the caller each time everything, or one database, is in sync.
pub(crate) enum Told<'t> {
    /// All of them are, for the first time over this connection; how many, and the files that are left since they failed.
    Folder(usize, &'t Summary, Vec<&'t str>),
    /// One is again, after something moved.
    Database(&'t str, &'t Summary),
}

/// One connection of a fleet.
pub(crate) struct Voyage<'v, 'a> {
    pub(super) fleet: &'v mut Fleet<'a>,
    pub(super) connection: &'v mut Connection,
    pub(super) writes: Option<&'v mut Writes>,
    pub(super) surveyor: Surveyor,
    /// Databases that the folder follows.
    pub(super) follow: Vec<Pattern>,
    /// The file of each channel.
    pub(super) channels: HashMap<u64, String>,
    pub(super) next_channel: u64,
    /// Files to open, in order.
    pub(super) queue: VecDeque<String>,
    pub(super) queued: BTreeSet<String>,
    /// Files to make, and of which database.
    pub(super) to_make: BTreeMap<String, String>,
    pub(super) outbox: VecDeque<(u64, Vec<u8>)>,
    pub(super) summary: Summary,
    started: Instant,
    looked: Instant,
    pub(super) was_level: bool,
    pub(super) progress: Progress,
    pub(super) done: u64,
}

impl<'v, 'a> Voyage<'v, 'a> {
    pub(crate) fn new(
        fleet: &'v mut Fleet<'a>,
        connection: &'v mut Connection,
        writes: Option<&'v mut Writes>,
        progress: Progress,
    ) -> Result<Self, Failure> {
        fleet.look_at_folder()?;
        fleet.left_out = 0;
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
                    let failed = self.fleet.failed.keys().map(String::as_str).collect();
                    told(Told::Folder(self.databases(), &summary, failed));
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
        let mut frames: Vec<Arrived> = vec![];
        let mut ended = Ok(());
        for _ in 0..FRAMES_AT_ONCE {
            match self.connection.try_next() {
                Ok(Some(arrived)) => {
                    let apart = match frames.last_mut() {
                        Some(last) => last.join(arrived, CHANGES_AT_ONCE),
                        None => Some(arrived),
                    };
                    frames.extend(apart);
                }
                Ok(None) => break,
                Err(failure) => {
                    ended = Err(failure);
                    break;
                }
            }
        }
        let any = !frames.is_empty();
        frames.into_iter().try_for_each(|arrived| self.take(arrived))?;
        ended.map(|()| any)
    }

    fn take(&mut self, arrived: Arrived) -> Result<(), Failure> {
        if arrived.channel == CHANNEL {
            return self.take_word(arrived.frame.other());
        }
        // What comes for a talk that was left is told again as news.
        let Some(file) = self.channels.get(&arrived.channel).cloned() else { return Ok(()) };
        if let Some(talk) = self.fleet.talks.get_mut(&file)
            && let Err(failure) = talk.receive(arrived.frame)
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
        let followed = self.follow.iter().any(|pattern| pattern.covers(database));
        if !followed || self.has_file_of(database) {
            return;
        }
        let Some(file) = file_for(database) else { return };
        // A file of that name that is of another database is told of when it is opened.
        if !self.fleet.files.contains_key(&file) || self.fleet.files[&file].is_some() {
            self.to_make.insert(file.clone(), database.to_owned());
            self.enqueue(&file);
        }
    }

    /// Whether a file is known to be of this database, whatever its name.
    pub(super) fn has_file_of(&self, database: &str) -> bool {
        let is_open = self.fleet.talks.values().any(|talk| talk.binding.database == database);
        is_open || !self.fleet.files_of(database).is_empty()
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
                note(&format!("{} is gone", self.fleet.folder.path_of(file).display()));
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
        let looks = self.fleet.talks.values().filter_map(Talk::looks_in);
        let is_closing = self.fleet.talks.values().any(Talk::is_closing);
        let pause = looks.chain(is_closing.then_some(CLOSING_EVERY)).min().unwrap_or(FALLBACK);
        let outgoing = self.connection.outgoing();
        let is_full = !self.outbox.is_empty() || self.fleet.talks.values().any(Talk::is_full);
        let arrived = tokio::select! {
            arrived = self.connection.incoming.recv() => arrived.ok_or_else(lost)??,
            permit = outgoing.reserve(), if is_full => {
                drop(permit.map_err(|_| lost())?);
                return Ok(());
            }
            () = async { match &self.writes { Some(writes) => writes.wait().await, None => std::future::pending().await } } => return Ok(()),
            () = tokio::time::sleep(pause) => return Ok(()),
        };
        self.take(arrived)
    }
}
