//! Drive: brings a replica and a connection together until both sides hold the same, or for ever.

use crate::checking::Checking;
use crate::connection::{Arrived, CHANNEL, Connection};
use crate::news::{tell_of_clashes, tell_of_merges, tell_of_renumbered, tell_of_restored};
use crate::progress::Progress;
use crate::report::{Failure, code};
use piecewise_core::id::PeerId;
use piecewise_core::link::{Link, Stop};
use piecewise_core::replica::{Replica, StopKind, Stopped, Talk};
use piecewise_server::checkpoints::Checkpoints;
use piecewise_server::commits::{Commits, Lookout};
use piecewise_server::now;
use piecewise_server::terminal;
use piecewise_server::turns::Turns;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Frames taken in before others are sent.
const FRAMES_AT_ONCE: usize = 4;
/// Changes that are taken in together, where frames follow from each other: a fifth of a second under the write lock. While
/// another program writes, each frame is taken in alone.
const CHANGES_AT_ONCE: u64 = 24 << 10;
/// How often at most a connection that stays notes in the file that both are level.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How long a stale "in sync" note may stay in the file.
const APART_MAX: Duration = Duration::from_millis(100);

/// What a talk brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Summary {
    pub(crate) rows_captured: u64,
    pub(crate) rows_sent: u64,
    pub(crate) segments_sent: u64,
    pub(crate) rows_received: u64,
    pub(crate) segments_received: u64,
    pub(crate) rows_refused: u64,
    pub(crate) rows_renumbered: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) milliseconds: u64,
}

impl Summary {
    /// Adds what another talk brought.
    pub(crate) fn add(&mut self, other: &Summary) {
        self.rows_captured += other.rows_captured;
        self.rows_sent += other.rows_sent;
        self.segments_sent += other.segments_sent;
        self.rows_received += other.rows_received;
        self.segments_received += other.segments_received;
        self.rows_refused += other.rows_refused;
        self.rows_renumbered += other.rows_renumbered;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.milliseconds = self.milliseconds.max(other.milliseconds);
    }

    /// Whether rows went either way.
    pub(crate) fn moved(&self) -> bool {
        self.segments_sent + self.segments_received + self.rows_refused > 0
    }
}

/// Hears of writes to a file by other programs.
#[derive(Debug)]
pub(crate) struct Writes {
    file: PathBuf,
    /// Which file it is, whatever is at its path later.
    identity: Option<FileIdentity>,
    heard: Arc<Notify>,
    lookout: Lookout,
    version: Option<i64>,
    /// Whether a commit was seen since `any` returned last.
    found: bool,
    _commits: Option<Commits>,
}

impl Writes {
    pub(crate) fn of(file: &Path) -> Self {
        let heard = Arc::new(Notify::new());
        let tell = heard.clone();
        // Without news from the operating system the file is looked at each second.
        let commits = Commits::watch(file, move || tell.notify_one()).ok();
        let (file, identity) = (file.to_owned(), identity(file));
        Self {
            file,
            identity,
            heard,
            lookout: Lookout::default(),
            version: None,
            found: false,
            _commits: commits,
        }
    }

    /// Whether another file is at the path by now, or none.
    pub(crate) fn is_replaced(&self) -> bool {
        identity(&self.file) != self.identity
    }

    /// Waits until somebody has committed, or until a second has passed without anything to look for.
    pub(crate) async fn wait(&mut self, replica: &Replica) -> Result<(), Failure> {
        while !self.found {
            let wait = self.lookout.wait();
            tokio::select! {
                () = self.heard.notified() => self.lookout.hear(),
                () = pause(wait) => {}
            }
            self.look(replica)?;
            if !self.lookout.is_looking() {
                break;
            }
        }
        Ok(())
    }

    /// Whether somebody committed since it was asked last.
    pub(crate) fn any(&mut self, replica: &Replica) -> Result<bool, Failure> {
        if !self.found {
            self.look(replica)?;
        }
        Ok(std::mem::take(&mut self.found))
    }

    fn look(&mut self, replica: &Replica) -> Result<(), Failure> {
        if self.is_replaced() {
            return Err(Failure::new("the file was replaced by another; it is opened anew").may_pass());
        }
        let version = Some(replica.data_version()?);
        let found = std::mem::replace(&mut self.version, version) != version;
        self.lookout.looked(found, replica.rows_written());
        self.found |= found;
        Ok(())
    }
}

/// Waits, also for less than the millisecond that timers count in.
async fn pause(time: Duration) {
    if time < Duration::from_millis(1) {
        std::thread::sleep(time);
    } else {
        tokio::time::sleep(time).await;
    }
}

/// Writes that gather for a while before they are captured, so that the edits of a row in between become one change.
#[derive(Debug)]
pub(crate) struct Gathering {
    every: Duration,
    /// When the first of them was seen.
    since: Option<Instant>,
}

impl Gathering {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, since: None }
    }

    /// There may be a write.
    pub(crate) fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// After how long they are to be captured, if there may be some.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        self.since.map(|since| self.every.saturating_sub(since.elapsed()))
    }

    /// Whether they are to be captured now; the next to come is the first again.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.due_in().is_some_and(|wait| wait.is_zero());
        if is_due {
            self.since = None;
        }
        is_due
    }
}

/// What the system tells two files apart by.
pub(crate) type FileIdentity = (u64, u64);

pub(crate) fn identity(file: &Path) -> Option<FileIdentity> {
    let metadata = std::fs::metadata(file).ok()?;
    #[cfg(unix)]
    return Some((
        std::os::unix::fs::MetadataExt::dev(&metadata),
        std::os::unix::fs::MetadataExt::ino(&metadata),
    ));
    #[cfg(not(unix))]
    return metadata.created().ok().map(|_| (0, 0));
}

/// A replica that talks with its server.
pub(crate) struct Drive<'a> {
    replica: &'a mut Replica,
    connection: &'a mut Connection,
    link: Link,
    summary: Summary,
    started: Instant,
    /// Whether there may be something to capture, and what gathers before it is.
    dirty: bool,
    gathering: Gathering,
    /// Whether there may be more to say than there was room for.
    is_full: bool,
    progress: Progress,
    /// What the file says of this talk, and since when.
    noted: Option<(bool, Option<Stop>, Instant)>,
    /// Since when the two sides are not level.
    apart_since: Option<Instant>,
    /// Segments that had gone either way when the file was told last.
    moved_before: u64,
    turns: Turns,
    /// A frame that waits until all is captured, or those before it are taken in.
    waiting: Option<Arrived>,
    checkpoints: Checkpoints,
    /// Whether what happens is told as JSON, an event on a line.
    as_events: bool,
    clashed: BTreeMap<String, u64>,
}

/// What a talk that ended with both sides level has left to tell.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) summary: Summary,
    pub(crate) left_out: LeftOut,
    /// Rows that are in conflict since their table met the server, by table.
    pub(crate) clashed: BTreeMap<String, u64>,
}

/// Containers that the server does not grant, and those that would be more than this device may create.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) not_granted: Vec<String>,
    pub(crate) over_quota: Vec<String>,
    /// Tables that cannot take part for another reason.
    pub(crate) stopped: Vec<(String, Stopped)>,
}

impl LeftOut {
    pub(crate) fn of(link: &Link, replica: &Replica) -> Self {
        let is_named = |kind| matches!(kind, StopKind::NotGranted | StopKind::OverQuota);
        let stopped = replica.stopped().into_iter().filter(|(_, stopped)| !is_named(stopped.kind)).collect();
        Self { not_granted: link.not_granted(replica), over_quota: link.over_quota(replica), stopped }
    }
}

impl<'a> Drive<'a> {
    pub(crate) fn new(
        replica: &'a mut Replica,
        connection: &'a mut Connection,
        server: PeerId,
        progress: Progress,
    ) -> Result<Self, Failure> {
        replica.set_clock_offset(connection.server_time, now())?;
        let mut link = Link::initiator(replica, server)?;
        link.use_features(replica, connection.features)?;
        let checkpoints = Checkpoints::beside(replica)?;
        Ok(Self {
            replica,
            connection,
            link,
            summary: Summary::default(),
            started: Instant::now(),
            dirty: true,
            gathering: Gathering::new(Duration::ZERO),
            is_full: false,
            progress,
            noted: None,
            moved_before: 0,
            apart_since: None,
            turns: Turns::with_application(),
            waiting: None,
            checkpoints,
            as_events: false,
            clashed: BTreeMap::new(),
        })
    }

    /// Tells what happens as JSON, an event on a line, where JSON is written.
    pub(crate) fn with_events(mut self) -> Self {
        self.as_events = terminal::is_json();
        self
    }

    /// Lets writes gather for so long before they are captured, while the connection stays.
    pub(crate) fn gather_for(mut self, every: Duration) -> Self {
        self.gathering = Gathering::new(every);
        self
    }

    /// Notes whether the connection was cut before both sides were level, so that the next one brings something all the same.
    fn note_end(&mut self, failure: &Failure) {
        if failure.code == code::UNREACHABLE && !self.link.is_level() {
            // The next cut notes it, if this cannot be written now.
            let _ = self.replica.note_cut();
        }
    }

    /// Talks until both sides hold the same.
    pub(crate) async fn until_level(mut self) -> Result<Done, Failure> {
        let done = self.talk_until_level().await;
        match &done {
            Ok(_) => self.replica.note_whole()?,
            Err(failure) => self.note_end(failure),
        }
        done
    }

    async fn talk_until_level(&mut self) -> Result<Done, Failure> {
        loop {
            if self.step()? {
                continue;
            }
            if self.link.is_level() && !self.dirty {
                self.connection.witnessed().await?;
                let left_out = LeftOut::of(&self.link, self.replica);
                self.note()?;
                let summary = self.summary();
                self.progress.finish();
                let clashed = std::mem::take(&mut self.clashed);
                return Ok(Done { summary, left_out, clashed });
            }
            if let Some(stop) = self.link.stopped()
                && !self.dirty
                && self.link.waits_for_intake()
            {
                self.note()?;
                self.progress.finish();
                return Err(no_intake(stop));
            }
            self.wait(None, None).await?;
        }
    }

    /// As [`Self::talk`], and records how the connection ended, which sets the frame limit of the next.
    pub(crate) async fn live(
        mut self,
        writes: &mut Writes,
        checking: &mut Checking,
        on_level: impl FnMut(&Summary, &Replica),
        on_left_out: impl Fn(&LeftOut, &Replica),
    ) -> Result<(), Failure> {
        let talked = self.talk(writes, checking, on_level, on_left_out).await;
        if let Err(failure) = &talked {
            self.note_end(failure);
        }
        talked
    }

    /// Talks for as long as the connection lives; `on_level` hears what moved each time both are level, `on_left_out` which
    /// tables are left out each time that changes.
    async fn talk(
        &mut self,
        writes: &mut Writes,
        checking: &mut Checking,
        mut on_level: impl FnMut(&Summary, &Replica),
        on_left_out: impl Fn(&LeftOut, &Replica),
    ) -> Result<(), Failure> {
        let (mut told, mut told_left_out) = (Summary::default(), LeftOut::default());
        let mut first = true;
        loop {
            if writes.any(self.replica)? {
                self.gathering.begin();
            }
            self.dirty |= self.gathering.is_due();
            let stepped = self.step()?;
            for news in self.replica.take_stop_news() {
                if news.stopped.is_none() {
                    terminal::news(&format!("table {} goes on", news.table));
                }
            }
            self.note_live()?;
            if stepped {
                continue;
            }
            if self.link.is_level() && !self.dirty {
                let summary = self.summary();
                if first
                    || (summary.moved()
                        && summary.rows_sent + summary.rows_received != told.rows_sent + told.rows_received)
                {
                    self.progress.finish();
                    if first {
                        self.replica.note_whole()?;
                    }
                    on_level(&since(&summary, &told), self.replica);
                    (told, first) = (summary, false);
                    self.started = Instant::now();
                }
                let left_out = LeftOut::of(&self.link, self.replica);
                if left_out != told_left_out {
                    on_left_out(&left_out, self.replica);
                    told_left_out = left_out;
                }
            }
            if checking.step(self.replica) {
                self.dirty = true;
                continue;
            }
            let check = checking.wait(self.replica);
            self.wait(Some(writes), check).await?;
        }
    }

    /// Notes in the file how the talk stands.
    fn note(&mut self) -> Result<(), Failure> {
        let (level, stopped) = (self.link.is_level() && !self.dirty, self.link.stopped());
        let segments_to_come = self.link.traffic(self.replica).segments_to_come;
        self.noted = Some((level, stopped, Instant::now()));
        Ok(self.replica.note_talk(&Talk { time: now(), level, segments_to_come, stopped })?)
    }

    /// The same while the connection stays, where it matters: when both become level, when they have not been for a while,
    /// when the server stops taking in or goes on.
    fn note_live(&mut self) -> Result<(), Failure> {
        let (level, stopped) = (self.link.is_level() && !self.dirty, self.link.stopped());
        let (was_level, was_stopped, recent) = match self.noted {
            Some((level, stopped, at)) => (level, stopped, at.elapsed() < NOTE_EVERY),
            None => (false, None, false),
        };
        if stopped != was_stopped {
            match stopped {
                Some(stop) => terminal::news(&format!("{}; changes made here wait", no_intake(stop).message)),
                None => terminal::news("the server takes changes in again"),
            }
            return self.note();
        }
        let since = match level {
            true => self.apart_since.take().map_or(Duration::ZERO, |since| since.elapsed()),
            false => self.apart_since.get_or_insert_with(Instant::now).elapsed(),
        };
        let is_news = match (was_level, level) {
            (false, true) => true,
            (true, true) => !recent && self.moved(),
            // An edit that comes in takes a moment; what takes longer is told.
            (true, false) => since > APART_MAX,
            (false, false) => false,
        };
        if is_news { self.note() } else { Ok(()) }
    }

    fn moved(&mut self) -> bool {
        let moved = self.link.traffic(self.replica).sent_segments + self.summary.segments_received;
        std::mem::replace(&mut self.moved_before, moved) != moved
    }

    fn summary(&self) -> Summary {
        let traffic = self.link.traffic(self.replica);
        let (received, sent) = self.connection.bytes();
        Summary {
            rows_sent: traffic.sent_rows,
            segments_sent: traffic.sent_segments,
            bytes_sent: sent,
            bytes_received: received,
            milliseconds: self.started.elapsed().as_millis() as u64,
            ..self.summary
        }
    }

    /// Does what can be done without waiting; false if there was nothing.
    fn step(&mut self) -> Result<bool, Failure> {
        self.checkpoints.look(self.replica);
        let (mut moved, mut capturing) = (false, false);
        if self.dirty || self.replica.is_scanning() {
            let captured = self.turns.take(self.replica, |replica| replica.capture(now()))?;
            tell_of_restored(self.replica, None);
            self.summary.rows_captured += captured.rows;
            (self.dirty, capturing) = (captured.more, captured.more);
            moved = captured.rows > 0 || captured.more;
        }
        let mut frames = 0;
        while frames < FRAMES_AT_ONCE {
            let Some(mut arrived) = self.next_frame()? else { break };
            // Before rows are taken in, all is captured that is here: that is done piece by piece, and goes out meanwhile.
            if capturing && arrived.frame.brings_segments() {
                self.waiting = Some(arrived);
                break;
            }
            frames += 1;
            let mut ended = Ok(());
            while !self.turns.has_writers() {
                let next = match self.next_frame() {
                    Ok(Some(next)) => next,
                    Ok(None) => break,
                    Err(failure) => {
                        ended = Err(failure);
                        break;
                    }
                };
                self.waiting = arrived.join(next, CHANGES_AT_ONCE);
                if self.waiting.is_some() {
                    break;
                }
                frames += 1;
            }
            self.take(arrived)?;
            ended?;
            moved = true;
        }
        moved |= self.send()?;
        if moved {
            let (received, sent) = self.connection.bytes();
            let traffic = || self.link.traffic(self.replica);
            let is_whole = !capturing && !self.replica.is_scanning();
            self.progress.show(traffic, is_whole, &self.summary, received + sent);
        }
        Ok(moved)
    }

    /// The next frame that came, if one did.
    fn next_frame(&mut self) -> Result<Option<Arrived>, Failure> {
        match self.waiting.take() {
            Some(arrived) => Ok(Some(arrived)),
            None => self.connection.try_next(),
        }
    }

    /// Sends what there is to say, as far as there is room; false if there was nothing.
    fn send(&mut self) -> Result<bool, Failure> {
        let mut sent = false;
        self.is_full = loop {
            let Some(room) = self.connection.room() else { break true };
            let Some(frame) = self.link.next_frame(self.replica, now())? else { break false };
            room.send(CHANNEL, frame.to_vec());
            sent = true;
        };
        self.summary.rows_renumbered += tell_of_renumbered(self.replica, None, self.as_events);
        tell_of_merges(self.replica, None);
        self.clashed.extend(tell_of_clashes(self.replica, None, self.as_events));
        Ok(sent)
    }

    fn take(&mut self, arrived: Arrived) -> Result<(), Failure> {
        let link = &mut self.link;
        let received =
            self.turns.take(self.replica, |replica| link.receive(replica, arrived.frame, now()))?;
        self.summary.rows_received += received.rows;
        self.summary.segments_received += received.segments;
        self.summary.rows_refused += received.refused;
        // A first contact may have made rows ready to be captured.
        self.gathering.begin();
        self.dirty |= self.gathering.is_due();
        Ok(())
    }

    /// Waits until there may be something to do, at most for as long as `check` says.
    async fn wait(&mut self, writes: Option<&mut Writes>, check: Option<Duration>) -> Result<(), Failure> {
        let room = self.connection.outgoing();
        let due = self.gathering.due_in();
        let replica = &*self.replica;
        let written = async {
            match writes {
                Some(writes) => writes.wait(replica).await,
                None => std::future::pending().await,
            }
        };
        let frame = tokio::select! {
            frame = self.connection.incoming.recv() => Some(frame),
            permit = room.reserve(), if self.is_full => {
                drop(permit.map_err(|_| lost())?);
                None
            }
            looked = written => {
                looked?;
                None
            }
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => None,
            () = tokio::time::sleep(check.unwrap_or_default()), if check.is_some() => None,
        };
        match frame {
            Some(frame) => self.take(frame.ok_or_else(lost)??),
            None => Ok(()),
        }
    }
}

pub(crate) fn since(summary: &Summary, before: &Summary) -> Summary {
    Summary {
        rows_captured: summary.rows_captured - before.rows_captured,
        rows_sent: summary.rows_sent - before.rows_sent,
        segments_sent: summary.segments_sent - before.segments_sent,
        rows_received: summary.rows_received - before.rows_received,
        segments_received: summary.segments_received - before.segments_received,
        rows_refused: summary.rows_refused - before.rows_refused,
        rows_renumbered: summary.rows_renumbered - before.rows_renumbered,
        bytes_sent: summary.bytes_sent - before.bytes_sent,
        bytes_received: summary.bytes_received - before.bytes_received,
        milliseconds: summary.milliseconds,
    }
}

pub(crate) fn no_intake(stop: Stop) -> Failure {
    Failure::new(format!("the server takes nothing in now: {stop}"))
        .hint("changes made here stay, and go out at the next sync; on the server, make room or see --disk-reserve")
        .code(code::NO_INTAKE)
}

pub(crate) fn lost() -> Failure {
    Failure::new("the connection was lost").code(code::UNREACHABLE)
}

/// How long to wait before attempt `n` (from 0): twice as long each time up to 8 s, half of it by chance.
pub(crate) fn back_off(n: u32) -> Duration {
    let most = Duration::from_millis(250 << n.min(5));
    let chance = f64::from(piecewise_server::chance()[0]) / 255.0;
    most.mul_f64(0.5 + 0.5 * chance)
}
