//! Talk: one file of a folder while it is open, from the first look into it until it is closed again.
//!
//! What was written to it is captured first. If it is not in step with the server then, it is talked of over a channel of
//! its own; once both sides are level it can be left. Closing takes a moment: what is noted of the file has to be told apart from
//! whatever is written to it next, see `FileState`.

use super::known::{Known, Part};
use crate::command::wait::needs_somebody;
use crate::connection::Connection;
use crate::drive::{FileIdentity, Gathering, Summary, identity, no_intake};
use crate::news::{tell_of_clashes, tell_of_merges, tell_of_renumbered, tell_of_restored};
use crate::report::Failure;
use piecewise_core::grant::Access;
use piecewise_core::link::{Link, Opened};
use piecewise_core::replica::{self, Binding, Replica, Standing};
use piecewise_core::survey::Brief;
use piecewise_server::commits::{FileState, Lookout};
use piecewise_server::now;
use piecewise_server::turns::Turns;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// Frames of one file before others have their turn.
const FRAMES_AT_ONCE: usize = 8;
/// How often at most a file that stays open notes that both are level.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// What takes longer, where times are kept in whole seconds, is waited for by those who are patient.
const SETTLE_MAX: Duration = Duration::from_millis(100);

/// A file that is open.
pub(super) struct Talk {
    path: PathBuf,
    identity: Option<FileIdentity>,
    pub(super) replica: Replica,
    pub(super) binding: Binding,
    /// The talk and its channel, once there is something to talk of.
    link: Option<Link>,
    channel: u64,
    turns: Turns,
    /// Whether there may be something to capture.
    dirty: bool,
    /// Writes that gather before they are captured, and whether to look for some though none was heard of.
    gathering: Gathering,
    look_once: bool,
    /// When to look for a commit that was heard of.
    lookout: Lookout,
    version: Option<i64>,
    /// What the server held when the talk began.
    cause: Option<Brief>,
    /// What has moved since it was told.
    pub(super) summary: Summary,
    /// What the link had sent when that was told.
    sent_before: (u64, u64),
    /// Whether anything moved since the talk began, and whether that was noted in the file.
    moved: bool,
    noted: Option<Instant>,
    to_note: bool,
    /// When something happened last.
    pub(super) used: Instant,
    /// Whether it is being closed.
    closing: bool,
    /// Whether there may be more to say than there was room for.
    is_full: bool,
    as_events: bool,
}

/// What one step came to.
pub(super) enum Stepped {
    /// There was something to do.
    Moved,
    /// There is nothing to do now.
    Idle,
    /// What was written is captured; nothing was talked yet.
    Looked,
}

/// What came of closing a file.
pub(super) enum Closing {
    /// Closed, with the note to keep about the file (if its timestamps are settled) and the link's closing frames.
    Closed { known: Option<Known>, frames: Vec<Vec<u8>> },
    /// It has to be tried again.
    Later(Box<Talk>),
    /// It could not be looked at any more.
    Failed(Failure),
}

impl Talk {
    pub(super) fn new(path: PathBuf, replica: Replica, binding: Binding, every: Duration) -> Self {
        Self {
            identity: identity(&path),
            path,
            replica,
            binding,
            link: None,
            channel: 0,
            turns: Turns::with_application(),
            dirty: true,
            gathering: Gathering::new(every),
            look_once: false,
            lookout: Lookout::default(),
            version: None,
            cause: None,
            summary: Summary::default(),
            sent_before: (0, 0),
            moved: false,
            noted: None,
            to_note: true,
            used: Instant::now(),
            closing: false,
            is_full: false,
            as_events: false,
        }
    }

    /// Tells what happens as JSON, an event on a line, instead of in words.
    pub(super) fn with_events(self, as_events: bool) -> Self {
        Self { as_events, ..self }
    }

    pub(super) fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// The channel that it is talked over, if it is.
    pub(super) fn channel(&self) -> Option<u64> {
        self.link.as_ref().map(|_| self.channel)
    }

    /// Begins to talk over a channel, with a server that held this.
    pub(super) fn begin(
        &mut self,
        channel: u64,
        theirs: Option<Brief>,
        features: u32,
    ) -> Result<(), Failure> {
        let mut link = Link::initiator(&mut self.replica, self.binding.server)?;
        link.use_features(&mut self.replica, features)?;
        self.link = Some(link);
        (self.channel, self.cause, self.moved) = (channel, theirs, false);
        (self.sent_before, self.to_note) = ((0, 0), true);
        Ok(())
    }

    /// The connection is lost, or the talk given up. If both sides were not level, the file must not say so.
    pub(super) fn cut(&mut self) {
        if self.link.is_some() && !self.is_quiet() {
            let _ = self.note(false);
            let _ = self.replica.note_cut();
        }
        self.link = None;
        (self.dirty, self.closing) = (true, false);
    }

    /// Somebody wrote to the file.
    pub(super) fn heard(&mut self) {
        self.lookout.hear();
    }

    /// Looks into the file once, in case the system forgot to tell.
    pub(super) fn look_again(&mut self) {
        self.look_once = true;
        self.gathering.begin();
    }

    /// After how long to come back and look for a commit, if one is looked for.
    pub(super) fn looks_in(&self) -> Option<Duration> {
        let look = self.lookout.is_looking().then(|| self.lookout.wait());
        look.into_iter().chain(self.gathering.due_in()).min()
    }

    /// Whether another file is at its place by now, or none.
    pub(super) fn is_replaced(&self) -> bool {
        identity(&self.path) != self.identity
    }

    /// Whether both sides are level and nothing is to be done here.
    pub(super) fn is_quiet(&self) -> bool {
        let quiet = self.link.as_ref().is_none_or(|link| link.is_quiet(&self.replica));
        quiet && !self.dirty && self.gathering.due_in().is_none() && !self.lookout.is_expecting()
    }

    /// Takes in a frame.
    pub(super) fn receive(&mut self, frame: Opened) -> Result<(), Failure> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let bytes = frame.frame_len() as u64;
        let received = self.turns.take(&mut self.replica, |replica| link.receive(replica, frame, now()))?;
        self.summary.rows_received += received.rows;
        self.summary.segments_received += received.segments;
        self.summary.rows_refused += received.refused;
        self.summary.bytes_received += bytes;
        self.moved |= received.segments + received.refused > 0;
        // A first contact may have made rows ready to be captured.
        self.gathering.begin();
        (self.closing, self.used) = (false, Instant::now());
        Ok(())
    }

    /// Does what can be done without waiting.
    pub(super) fn step(&mut self, connection: &Connection) -> Result<Stepped, Failure> {
        self.look()?;
        let mut moved = false;
        if self.dirty {
            let captured = self.turns.take(&mut self.replica, |replica| replica.capture(now()))?;
            tell_of_restored(&mut self.replica, Some(&self.path.display().to_string()));
            let path = self.path.display().to_string();
            self.summary.rows_renumbered +=
                tell_of_renumbered(&mut self.replica, Some(&path), self.as_events);
            tell_of_merges(&mut self.replica, Some(&path));
            tell_of_clashes(&mut self.replica, Some(&path), self.as_events);
            self.summary.rows_captured += captured.rows;
            self.dirty = captured.more;
            moved = captured.rows > 0 || captured.more;
            self.closing &= !moved;
        }
        let Some(link) = &mut self.link else {
            return Ok(match (self.dirty, self.closing) {
                (true, _) => Stepped::Moved,
                (false, false) => Stepped::Looked,
                (false, true) => Stepped::Idle,
            });
        };
        self.is_full = false;
        for _ in 0..FRAMES_AT_ONCE {
            let Some(room) = connection.room() else {
                self.is_full = true;
                break;
            };
            let Some(frame) = link.next_frame(&mut self.replica, now())? else { break };
            self.summary.bytes_sent += frame.len() as u64;
            room.send(self.channel, frame.to_vec());
            (moved, self.closing) = (true, false);
        }
        let traffic = link.traffic(&self.replica);
        let (rows, segments) =
            (traffic.sent_rows - self.sent_before.0, traffic.sent_segments - self.sent_before.1);
        self.sent_before = (traffic.sent_rows, traffic.sent_segments);
        self.summary.rows_sent += rows;
        self.summary.segments_sent += segments;
        self.moved |= segments > 0;
        if moved {
            (self.used, self.to_note) = (Instant::now(), true);
        }
        if let Some(stop) = self.link.as_ref().and_then(Link::stopped)
            && self.link.as_ref().is_some_and(Link::waits_for_intake)
        {
            self.note(false)?;
            return Err(no_intake(stop));
        }
        Ok(if moved { Stepped::Moved } else { Stepped::Idle })
    }

    /// Looks whether somebody has committed.
    fn look(&mut self) -> Result<(), Failure> {
        if self.lookout.is_looking() || std::mem::take(&mut self.look_once) || self.version.is_none() {
            let version = Some(self.replica.data_version()?);
            let found = std::mem::replace(&mut self.version, version) != version;
            self.lookout.looked(found, self.replica.rows_written());
            if found {
                // Not only rows: a table may have begun to take part.
                self.gathering.begin();
                self.closing = false;
            }
        }
        self.dirty |= self.gathering.is_due();
        Ok(())
    }

    /// Fails if a table of the file is stopped: all else is level.
    pub(super) fn needs_somebody(&self) -> Result<(), Failure> {
        if self.replica.any_stopped() {
            needs_somebody(&self.replica, &self.replica.waiting()?)
        } else {
            Ok(())
        }
    }

    /// Notes in the file that both sides are level, unless that was done a moment ago.
    pub(super) fn note_level(&mut self) -> Result<(), Failure> {
        let recent = self.noted.is_some_and(|at| at.elapsed() < NOTE_EVERY);
        match self.to_note && !recent && self.link.is_some() {
            true => self.note(true),
            false => Ok(()),
        }
    }

    fn note(&mut self, level: bool) -> Result<(), Failure> {
        let link = self.link.as_ref();
        let segments_to_come = link.map_or(0, |link| link.traffic(&self.replica).segments_to_come);
        let stopped = link.and_then(Link::stopped);
        if level {
            self.replica.note_whole()?;
        }
        self.replica.note_talk(&replica::Talk { time: now(), level, segments_to_come, stopped })?;
        (self.to_note, self.noted) = (!level, Some(Instant::now()));
        Ok(())
    }

    /// Begins to close a file that is quiet: what is in its WAL comes into the file.
    pub(super) fn close_soon(&mut self) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.closing, true) {
            if self.to_note && self.link.is_some() {
                self.note(true)?;
            }
            // If others have it open, it is for the last of them to do.
            let _ = self.replica.connection().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        }
        Ok(())
    }

    /// Whether there may be more to say than there was room for.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Closes the file, if what it holds can be noted now: nobody has written it, and the clock has moved on. Who is not
    /// `patient` does without a note where that takes long.
    pub(super) fn close(mut self, patient: bool) -> Closing {
        let known = match self.try_close(patient) {
            Ok(None) => return Closing::Later(Box::new(self)),
            Ok(Some(known)) => known,
            Err(failure) => return Closing::Failed(failure),
        };
        match self.link.take().map(|link| link.leave(&mut self.replica)).transpose() {
            Ok(frames) => Closing::Closed { known, frames: frames.unwrap_or_default() },
            Err(error) => Closing::Failed(error.into()),
        }
    }

    fn try_close(&mut self, patient: bool) -> Result<Option<Option<Known>>, Failure> {
        let state = FileState::of(&self.path);
        let settles = state.settles_in(SystemTime::now());
        if settles > Duration::ZERO && (patient || settles < SETTLE_MAX) {
            return Ok(None);
        }
        let part = self.part()?;
        // After the look from outside: so that no commit that it does not show is missed.
        if Some(self.replica.data_version()?) != self.version {
            (self.closing, self.version) = (false, None);
            return Ok(None);
        }
        let known = Known { state, part: Some(part) };
        Ok(Some((settles == Duration::ZERO).then_some(known)))
    }

    /// What the file holds, and how it stands with the server.
    pub(super) fn part(&self) -> Result<Part, Failure> {
        let standing = Standing::of(&self.replica);
        let held = standing.digest(|_| Some(Access::Write)).map(|digest| Brief::of(&digest).0);
        let met = self.cause.map(|brief| brief.0).filter(|met| !self.moved && Some(*met) != held);
        let waiting = self.replica.waiting()?;
        let level = waiting.is_over() && waiting.stopped == 0 && standing.is_settled();
        let (database, realm) = (self.binding.database.clone(), self.binding.realm.0);
        Ok(Part { database, realm, held, level, met })
    }

    /// Whether the talk moved anything either way.
    pub(super) fn has_moved(&self) -> bool {
        self.moved
    }
}
