//! Opening: the files of a voyage that are open, from the first look to the last word.
//!
//! Few are at once: of those with nothing to do the ones used least recently are closed.

use super::known::Known;
use super::talk::{Closing, Stepped, Talk};
use super::voyage::{Told, Until, Voyage};
use super::{file_for, stem};
use crate::command::sync::tell_what_is_left_out;
use crate::drive::LeftOut;
use crate::report::Failure;
use piecewise_core::link::Leave;
use piecewise_core::replica::{Binding, Follow, Replica};
use piecewise_server::commits::FileState;
use piecewise_server::now;
use std::time::{Duration, SystemTime};

/// Files talked of at once.
const TALKING_MAX: usize = 16;
/// Files open at once, whatever they do.
const OPEN_MAX: usize = 48;

impl Voyage<'_, '_> {
    /// Opens the next files, while few enough are.
    pub(super) fn open_some(&mut self) -> bool {
        let mut opened = false;
        while !self.queue.is_empty() && self.fleet.talks.len() < OPEN_MAX {
            let talking = self.fleet.talks.values().filter(|talk| !talk.is_quiet()).count();
            if talking >= TALKING_MAX {
                break;
            }
            let Some(file) = self.queue.pop_front() else { break };
            self.queued.remove(&file);
            opened = true;
            // One of another name may have turned out to be of the database.
            if self.to_make.get(&file).is_some_and(|database| self.has_file_of(database)) {
                self.to_make.remove(&file);
                continue;
            }
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
        let made = self.to_make.remove(file);
        let expected = made.clone().or_else(|| self.expected(file));
        let state = FileState::of(&path);
        // A file that was begun and holds nothing is as good as none.
        let create = expected.is_some() && std::fs::metadata(&path).map_or(true, |found| found.len() == 0);
        let identity = self.fleet.identity.clone();
        let mut replica = Replica::open(&path, create, identity, piecewise_server::chance())?;
        if let Some(database) = &expected
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
        if self.writes.is_some() {
            // The others of the folder wait meanwhile; it is tried again.
            replica.wait_briefly_for_locks()?;
        }
        replica.set_clock_offset(self.connection.server_time, now())?;
        self.fleet.files.insert(file.to_owned(), None);
        Ok(Some(Talk::new(path, replica, binding, self.fleet.every).with_events(self.fleet.as_events)))
    }

    /// The database that a file of this name would be made for, if there were none.
    fn expected(&self, file: &str) -> Option<String> {
        let database = stem(file);
        let followed = self.follow.iter().any(|pattern| pattern.covers(database));
        let is_there = followed && self.surveyor.theirs(database).is_some();
        (is_there && file_for(database).as_deref() == Some(file)).then(|| database.to_owned())
    }

    /// Lets every open file do what it can.
    pub(super) fn step(&mut self, until: Until, told: &mut impl FnMut(Told<'_>)) -> bool {
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
                let needs = talk.needs_somebody();
                let noted = talk.note_level();
                let summary = std::mem::take(&mut talk.summary);
                if summary.moved() {
                    self.summary.add(&summary);
                    if until == Until::Lost && self.was_level {
                        told(Told::Database(&talk.binding.database, &summary));
                    }
                }
                match (noted, needs) {
                    (Err(failure), _) => self.give_up(&file, failure),
                    (Ok(()), Err(failure)) => self.fleet.fail(&file, failure, None),
                    (Ok(()), Ok(())) => drop(self.fleet.failed.remove(&file)),
                }
            }
        }
        let waiting = self.queue.len() + self.fleet.talks.len();
        self.progress.files(self.done, self.done + waiting as u64, &self.summary);
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
                    talk.begin(self.next_channel, theirs, self.connection.features)?;
                    self.channels.insert(self.next_channel, file.to_owned());
                    self.next_channel += 1;
                }
                Ok(true)
            }
        }
    }

    /// Closes files that have nothing to do: all of them, or those used least recently when there are too many.
    pub(super) fn close_some(&mut self, until: Until) {
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
            let path = self.fleet.folder.path_of(file);
            let code = tell_what_is_left_out(&LeftOut::of(link, &talk.replica), &talk.replica, &path);
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
                self.fleet.failed.remove(file);
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
    pub(super) fn let_go(&mut self, file: &str) {
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
    pub(super) fn give_up(&mut self, file: &str, failure: Failure) {
        let database = self.fleet.talks.get(file).map(|talk| talk.binding.database.clone());
        let theirs = self.surveyor.theirs(&database.unwrap_or_else(|| stem(file).to_owned()));
        self.let_go(file);
        self.fleet.fail(file, failure, theirs);
        self.done += 1;
    }
}
