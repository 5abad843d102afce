//! Database: one SQLite file, the thread that owns it, and the links of all connections to it.
//!
//! The thread never waits for a connection: a link whose connection has no room is left alone until the
//! connection says that it has some again. It asks only links that may have something to say: those that heard
//! something, and all of them once a table has changed.

use crate::backlog::Room;
use crate::checkpoints::Checkpoints;
use crate::commits::{FALLBACK, FileState, Lookout, SETTLE};
use crate::databases::{Databases, Resting};
use crate::disk::Disk;
use crate::metrics::Meter;
use crate::outbox::{Outbox, Outgoing, Place};
use crate::report::Ask;
use crate::scrubber::Scrubber;
use crate::supervisor::Supervisor;
use crate::turns::Turns;
use piecewise_core::container::{Received, SyncError};
use piecewise_core::id::PeerId;
use piecewise_core::link::{Attach, Link, LinkError, Opened, Stop};
use piecewise_core::replica::{Binding, Follow, Replica, ReplicaError};
use piecewise_core::session::Authority;
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Entries brought into the log in one transaction.
const LOG_ENTRIES_AT_ONCE: usize = 1024;
/// How often: each time costs an fsync, since only then the outbox may forget them.
const LOG_EVERY: Duration = Duration::from_millis(250);
/// For how long at most writes gather while no device is connected.
const GATHER_TIME: Duration = Duration::from_secs(60);
/// How soon a capture that failed is tried again at first, and how often that time doubles.
const CAPTURE_AGAIN: Duration = Duration::from_millis(100);
const CAPTURE_AGAIN_DOUBLED: u32 = 5;
/// Commands handled, and bytes of frames, before links are asked for what they have to say: with many small
/// words it pays to gather them, while after large ones both the author and those who listen should not wait.
const COMMANDS_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 256 << 10;
/// Changes of one link's frames that are taken in together, where one follows from the other: other links wait meanwhile.
const CHANGES_AT_ONCE: u64 = 4 << 10;

/// Which link of which connection.
pub(crate) type LinkId = (u64, u64);

/// What a database's thread is told.
pub(crate) enum Command {
    /// A connection wants to talk of this database.
    Attach {
        id: LinkId,
        peer: PeerId,
        attach: Attach,
        outbox: Outbox,
        /// What was delivered before a rest and not receipted.
        unreceipted: Vec<(i64, u64)>,
    },
    /// A frame came in for a link.
    Frame { id: LinkId, frame: Opened, rooms: Vec<Room> },
    /// A connection has room again.
    Room { connection: u64 },
    /// A link's peer has left it, and held this.
    Leave { id: LinkId, held: [u8; 32] },
    /// A connection is gone.
    Detach { connection: u64 },
    /// Somebody wrote to the file.
    Written,
    /// Somebody wants to know how the database is.
    Report(Ask),
    /// There may be room on the disk again, or no more.
    Wake,
    /// Close the file, if there is nothing to do.
    Rest,
    /// Stop.
    Shutdown,
}

impl Command {
    /// The bytes of a frame in it.
    fn bytes(&self) -> usize {
        match self {
            Self::Frame { frame, .. } => frame.frame_len(),
            _ => 0,
        }
    }

    /// Appends the command `next` if both are frames of one link, see [`Opened::join`]. Returns `next` if it cannot be appended.
    fn join(&mut self, next: Self) -> Option<Self> {
        match (self, next) {
            (
                Self::Frame { id, frame, rooms },
                Self::Frame { id: next_id, frame: next, rooms: mut next_rooms },
            ) if *id == next_id => {
                let apart = frame.join(next, CHANGES_AT_ONCE);
                if apart.is_none() {
                    rooms.append(&mut next_rooms);
                }
                apart.map(|frame| Self::Frame { id: next_id, frame, rooms: next_rooms })
            }
            (_, next) => Some(next),
        }
    }
}

/// A database that is open, or about to be.
pub(crate) struct Database {
    pub(crate) commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Database {
    /// Starts the thread of a database, which opens its file, or makes it, and handles what it is sent afterwards.
    ///
    /// The file is opened there and not here: a lock or a slow disk must not hold up whoever asks for another database.
    pub(crate) fn start(databases: &Arc<Databases>, name: &str) -> std::io::Result<Self> {
        let (commands, inbox) = channel();
        let (databases, name) = (databases.clone(), name.to_owned());
        let thread = std::thread::Builder::new().name(format!("db {name}")).spawn(move || {
            let opened = std::panic::catch_unwind(AssertUnwindSafe(|| Worker::open(&databases, &name)));
            let worker = match opened {
                Ok(Ok(open)) => {
                    databases.has_opened(&name);
                    open(inbox)
                }
                Ok(Err(error)) => return databases.cannot_open(&name, &chain(&error), &inbox),
                Err(_) => {
                    return databases.cannot_open(&name, "a defect; the server's log says more", &inbox);
                }
            };
            // A defect in the talk about one database ends the connections that talk of it, and nothing else.
            match std::panic::catch_unwind(AssertUnwindSafe(|| worker.run())) {
                Ok(End::Rests(left)) => databases.has_left(&name, left),
                Ok(End::Stopped) => {}
                Err(_) => {
                    tracing::error!(
                        database = name,
                        "this is a defect, please report it; the file is opened anew"
                    );
                    databases.has_failed(&name);
                }
            }
        })?;
        Ok(Self { commands, thread: Some(thread) })
    }

    /// Stops the thread after it has done what it was told.
    pub(crate) fn close(mut self) {
        let _ = self.commands.send(Command::Shutdown);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Attached {
    channel: u64,
    link: Link,
    peer: PeerId,
    outbox: Outbox,
    /// Whether it stands in line to say something.
    in_line: bool,
}

impl Drop for Attached {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.outbox.try_send(Outgoing::Frame(self.channel, Link::ended().into()));
        }
    }
}

struct Worker {
    name: String,
    authority: Arc<Supervisor>,
    replica: Replica,
    checkpoints: Checkpoints,
    turns: Turns,
    scrubber: Scrubber,
    inbox: Receiver<Command>,
    links: BTreeMap<LinkId, Attached>,
    /// Links that may have something to say.
    line: VecDeque<LinkId>,
    version: Option<i64>,
    lookout: Lookout,
    /// When the supervisor's log was told last, and whether something may have happened since.
    log_told: Instant,
    untold: bool,
    meter: Arc<Meter>,
    disk: Arc<Disk>,
    /// Why nothing is taken in.
    stop: Option<Stop>,
    databases: Arc<Databases>,
    /// How many changes all links were asked for, and those at rest woken for.
    seen: u64,
    /// Set while the file cannot be captured, such as one that another program keeps locked.
    failing: Option<Failing>,
    /// Since when writes gather, while no device is connected.
    gathering: Option<Instant>,
}

/// Captures that fail one after another: tried again later each time, and logged once for each cause.
struct Failing {
    cause: String,
    attempt: u32,
    again: Instant,
}

/// Why a thread ends.
#[derive(PartialEq, Eq)]
enum End {
    Stopped,
    /// The file is closed until somebody needs it; how it looks, if nobody wrote it while it was being closed.
    Rests(Option<FileState>),
}

impl Worker {
    /// Opens the file of a database, or makes it. Returns what makes a worker of the commands that it is to handle.
    fn open(
        databases: &Arc<Databases>,
        name: &str,
    ) -> Result<impl FnOnce(Receiver<Command>) -> Self, ReplicaError> {
        let supervisor = databases.supervisor();
        let identity = supervisor.identity.clone();
        let mut replica =
            Replica::open(&databases.path(name), true, identity, crate::chance())?.into_server();
        for ending in ["", "-wal", "-shm"] {
            let path = databases.path(name).with_extension(format!("db{ending}"));
            if let Err(error) = crate::supervisor::restrict(&path) {
                tracing::debug!(%error, path = %path.display(), "its mode stays as it is");
            }
        }
        let binding = Binding {
            database: name.to_owned(),
            realm: supervisor.realm,
            server: supervisor.identity.peer_id(),
            follow: Follow::All,
        };
        if replica.binding() != Some(&binding) {
            replica.bind(binding)?;
        }
        let checkpoints = Checkpoints::beside(&mut replica)?;
        databases.surveys().opened(name, &replica);
        Ok(|inbox| Self {
            name: name.to_owned(),
            authority: supervisor.clone(),
            meter: databases.metrics().meter(name),
            disk: databases.disk().clone(),
            databases: databases.clone(),
            seen: replica.changed_end(),
            replica,
            checkpoints,
            turns: Turns::with_visitors(),
            scrubber: Scrubber::default(),
            inbox,
            links: BTreeMap::new(),
            line: VecDeque::new(),
            version: None,
            lookout: Lookout::default(),
            log_told: Instant::now(),
            untold: true,
            stop: None,
            failing: None,
            gathering: None,
        })
    }

    fn run(mut self) -> End {
        tracing::info!(database = self.name, "open");
        self.capture();
        self.notice_changes();
        loop {
            let wait = self.lookout.wait();
            let wait = if self.untold { wait.min(LOG_EVERY) } else { wait };
            let check = self.scrubber.wait(self.databases.pace(), &mut self.replica);
            let wait = check.map_or(wait, |check| wait.min(check));
            let wait = match &self.failing {
                Some(failing) => failing.again.saturating_duration_since(Instant::now()).min(FALLBACK),
                None => wait,
            };
            match self.inbox.recv_timeout(wait) {
                Ok(command) => {
                    let may_rest = matches!(command, Command::Rest);
                    self.untold |= !may_rest;
                    if !self.handle_some(command) {
                        break;
                    }
                    if may_rest && self.rest() {
                        self.close_file();
                        return End::Rests(self.left());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look_for_writes();
            self.look_at_disk();
            self.check();
            self.pump();
            self.tell_of_stops();
            if self.log_told.elapsed() >= LOG_EVERY {
                self.tell_log();
            }
        }
        self.tell_log();
        self.close_file();
        End::Stopped
    }

    /// How the file looks, if nobody has written it since it was looked into last.
    fn left(&self) -> Option<FileState> {
        let path = self.databases.path(&self.name);
        let settles = FileState::of(&path).settles_in(SystemTime::now());
        if settles < SETTLE * 2 {
            std::thread::sleep(settles); // until the clock tells a later write apart
        }
        let left = FileState::of(&path);
        (self.replica.data_version().ok() == self.version).then_some(left)
    }

    fn close_file(&self) {
        self.checkpoints.finish();
        let checkpoint = self.replica.connection().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        tracing::info!(database = self.name, checkpoint = checkpoint.is_ok(), "closed");
    }

    /// Lets all links rest if they are level and nothing else is to be done; whether the file can be closed.
    fn rest(&mut self) -> bool {
        if self.gathering.is_some() {
            self.version = self.replica.data_version().ok();
            self.capture();
        }
        self.look_for_writes();
        self.pump();
        self.tell_log();
        let told = self.replica.log_entries(1).is_ok_and(|entries| entries.is_empty());
        if !told
            || self.failing.is_some()
            || self.lookout.is_expecting()
            || !self.links.values().all(|l| l.link.is_level())
        {
            return false;
        }
        // Other databases have the same way out: without a place in it for each of these words there is no rest.
        let room = |l: &Attached| l.outbox.place();
        let Some(room) = self.links.values().map(room).collect::<Option<Vec<_>>>() else { return false };
        // Nothing is told of one whose figures cannot be read.
        let overview = self.replica.overview(|_| true).map(|seen| seen.containers).unwrap_or_default();
        let links = std::mem::take(&mut self.links);
        let replica = &self.replica;
        let rest = |((id, attached), room): ((LinkId, Attached), Place)| {
            room.send(Outgoing::Frame(id.1, Link::rest().into()));
            Resting {
                id,
                peer: attached.peer,
                unreceipted: attached.link.unreceipted(),
                held: attached.link.held(replica),
                outbox: attached.outbox.clone(),
                woken: false,
            }
        };
        let mut links = Some(links);
        let rested = self.databases.rest(&self.name, &self.inbox, overview, || {
            links.take().into_iter().flatten().zip(room).map(rest).collect()
        });
        let Some(command) = rested else { return true };
        self.links = links.take().unwrap_or_default();
        self.handle(command);
        false
    }

    /// Handles a command and those behind it; false to stop.
    fn handle_some(&mut self, first: Command) -> bool {
        let (mut bytes, mut commands) = (first.bytes(), vec![first]);
        while commands.len() < COMMANDS_AT_ONCE && bytes < BYTES_AT_ONCE {
            let Ok(command) = self.inbox.try_recv() else { break };
            bytes += command.bytes();
            let apart = commands.last_mut().expect("the first is in it").join(command);
            commands.extend(apart);
        }
        // Whatever came after a revocation is handled after this.
        self.authority.look();
        let mut goes_on = true;
        for command in commands {
            goes_on &= !matches!(command, Command::Shutdown);
            self.handle(command);
        }
        if let Err(error) = self.replica.keep_receipts() {
            tracing::error!(database = self.name, %error, "receipts cannot be written down; it is tried again");
        }
        goes_on
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Attach { id, peer, attach, outbox, unreceipted } => {
                self.attach(id, peer, attach, outbox, unreceipted);
            }
            Command::Frame { id, frame, rooms } => {
                self.receive(id, frame);
                drop(rooms);
            }
            Command::Report(ask) => {
                ask.answer(&self.name, &self.replica, self.links.values().map(|l| (l.peer, &l.link)));
            }
            Command::Room { connection } => {
                let theirs = self.links.range_mut((connection, 0)..=(connection, u64::MAX));
                theirs.for_each(|(id, attached)| attached.stand_in(&mut self.line, *id));
            }
            Command::Leave { id, held } => {
                // What changes from now on is news as well: the link is gone.
                if self.links.remove(&id).is_some_and(|left| left.link.held(&self.replica) != held) {
                    self.databases.surveys().tell(id.0, &self.name);
                }
            }
            Command::Detach { connection } => self.links.retain(|id, _| id.0 != connection),
            Command::Written => self.lookout.hear(),
            Command::Wake | Command::Rest | Command::Shutdown => {}
        }
    }

    /// Tells every link when the disk is nearly full, and when there is room again.
    fn look_at_disk(&mut self) {
        let stop = self.disk.stop();
        if std::mem::replace(&mut self.stop, stop) != stop {
            self.links.retain(|_, attached| {
                attached.link.set_intake(stop) || attached.outbox.try_send(Outgoing::Close).is_err()
            });
            self.line_up_all();
        }
    }

    fn attach(
        &mut self,
        id: LinkId,
        peer: PeerId,
        attach: Attach,
        outbox: Outbox,
        unreceipted: Vec<(i64, u64)>,
    ) {
        self.look_for_writes();
        let authority: Arc<dyn Authority> = self.authority.clone();
        match Link::responder(&mut self.replica, peer, authority, attach) {
            Ok(mut link) => {
                tracing::info!(database = self.name, peer = peer.short(), "attached");
                link.set_intake(self.stop);
                link.expect_receipts(unreceipted, crate::now());
                let mut attached = Attached { channel: id.1, link, peer, outbox, in_line: false };
                attached.stand_in(&mut self.line, id);
                self.links.insert(id, attached);
            }
            Err(error) => {
                report(&self.name, &peer, &error);
                self.databases.deliver(&outbox, last_word(id.1, &error));
            }
        }
    }

    fn receive(&mut self, id: LinkId, frame: Opened) {
        self.look_at_disk();
        self.checkpoints.look(&self.replica);
        let Some(attached) = self.links.get_mut(&id) else { return };
        let (started, bytes) = (Instant::now(), frame.frame_len());
        let link = &mut attached.link;
        let received =
            self.turns.take(&mut self.replica, |replica| link.receive(replica, frame, crate::now()));
        attached.stand_in(&mut self.line, id);
        for error in attached.link.take_failures() {
            report_failure(&self.name, &attached.peer, &error);
        }
        self.meter.received(bytes, received.as_ref().unwrap_or(&Received::default()), started.elapsed());
        match received {
            Ok(received) if received.segments > 0 => tracing::debug!(
                database = self.name,
                peer = attached.peer.short(),
                rows = received.rows,
                segments = received.segments,
                bytes,
                ms = started.elapsed().as_millis() as u64,
                "received"
            ),
            Ok(_) => {}
            Err(error) => self.drop_link(id, &error),
        }
    }

    fn drop_link(&mut self, id: LinkId, error: &LinkError) {
        if let Some(attached) = self.links.remove(&id) {
            report(&self.name, &attached.peer, error);
            self.databases.deliver(&attached.outbox, last_word(id.1, error));
        }
    }

    /// Captures what other programs wrote, if any did.
    fn look_for_writes(&mut self) {
        if self.failing.as_ref().is_some_and(|failing| Instant::now() < failing.again) {
            return;
        }
        let version = self.replica.data_version().ok();
        let found = version != self.version;
        self.lookout.looked(found, self.replica.rows_written());
        if found || self.replica.is_scanning() || self.failing.is_some() {
            if self.may_gather() {
                return;
            }
            self.version = version;
            self.capture();
        }
    }

    /// Whether nobody is there to see what is written.
    fn is_alone(&self) -> bool {
        !self.databases.has_visitors() && self.links.is_empty() && !self.replica.is_scanning()
    }

    /// Whether writes may wait to be captured, so that the edits of a row become one change.
    fn may_gather(&mut self) -> bool {
        if !self.is_alone() || self.failing.is_some() {
            return false;
        }
        self.gathering.get_or_insert_with(Instant::now).elapsed() < GATHER_TIME
    }

    fn capture(&mut self) {
        self.gathering = None;
        loop {
            let started = Instant::now();
            match self.turns.take(&mut self.replica, |replica| replica.capture(crate::now())) {
                Ok(captured) => {
                    self.meter.captured(captured.rows, started.elapsed());
                    if captured.rows > 0 {
                        tracing::info!(database = self.name, rows = captured.rows, "captured");
                    }
                    if self.failing.take().is_some() {
                        tracing::info!(database = self.name, "capture goes on");
                    }
                    if !captured.more {
                        return;
                    }
                }
                Err(error) => return self.capture_failed(&error),
            }
        }
    }

    fn capture_failed(&mut self, error: &ReplicaError) {
        let cause = error.to_string();
        let before = self.failing.take();
        if before.as_ref().is_none_or(|before| before.cause != cause) {
            tracing::error!(database = self.name, error = cause, "capture failed; it is tried again");
        }
        let attempt = before.map_or(0, |before| before.attempt + 1);
        let wait = CAPTURE_AGAIN * (1 << attempt.min(CAPTURE_AGAIN_DOUBLED));
        self.failing = Some(Failing { cause, attempt, again: Instant::now() + wait });
    }

    /// Checks the next rows against their documents, if it is time to.
    fn check(&mut self) {
        if self.stop.is_some() || self.failing.is_some() {
            return;
        }
        let Some(checked) = self.scrubber.step(self.databases.pace(), &mut self.replica) else { return };
        let checked = match checked {
            Ok(checked) => checked,
            Err(error) => {
                return tracing::error!(database = self.name, %error, "tables cannot be checked; it is tried again");
            }
        };
        self.meter.checked(checked.rows, checked.found);
        for finding in &checked.findings {
            tracing::warn!(
                database = self.name,
                table = finding.table,
                row = finding.key,
                what = %finding.fault,
                done = %finding.healing,
                "a row was not what its document says"
            );
        }
        // What was captured goes into the log.
        self.untold |= checked.found > 0;
    }

    /// Brings what happened here into the supervisor's log.
    fn tell_log(&mut self) {
        (self.log_told, self.untold) = (Instant::now(), false);
        loop {
            let entries = match self.replica.log_entries(LOG_ENTRIES_AT_ONCE) {
                Ok(entries) => entries,
                Err(error) => break tracing::error!(database = self.name, %error, "the log's outbox"),
            };
            let Some((last, _)) = entries.last() else { break };
            if let Err(error) = self.authority.log_append(&entries) {
                // They stay in the outbox.
                break tracing::error!(database = self.name, %error, "the log cannot be written; it is tried again");
            }
            if let Err(error) = self.replica.log_has(*last) {
                break tracing::error!(database = self.name, %error, "the log's outbox");
            }
        }
    }

    /// Says which tables stopped, and which go on.
    fn tell_of_stops(&mut self) {
        for news in self.replica.take_stop_news() {
            let (database, table) = (&self.name, news.table);
            match news.stopped {
                Some(stopped) => tracing::warn!(
                    database,
                    table,
                    cause = stopped.why,
                    "a table is stopped; all others go on"
                ),
                None => tracing::info!(database, table, "a table goes on"),
            }
        }
    }

    /// Once a table has changed, all links may have something to say, and those at rest attach anew.
    fn notice_changes(&mut self) {
        let end = self.replica.changed_end();
        if std::mem::replace(&mut self.seen, end) != end {
            self.line_up_all();
            self.databases.wake(&self.name);
            let attached = |c| self.links.range((c, 0)..=(c, u64::MAX)).next().is_some();
            self.databases.surveys().changed(&self.name, &self.replica, attached);
        }
    }

    /// All links may have something to say.
    fn line_up_all(&mut self) {
        self.links.iter_mut().for_each(|(id, attached)| attached.stand_in(&mut self.line, *id));
    }

    /// Lets links say what they have to say, one frame each in turn, for as long as their connections have room.
    fn pump(&mut self) {
        loop {
            self.notice_changes();
            let Some(id) = self.line.pop_front() else { break };
            let Some(attached) = self.links.get_mut(&id) else { continue };
            attached.in_line = false;
            let Some(place) = attached.outbox.place() else { continue };
            let frame = attached.link.next_frame(&mut self.replica, crate::now());
            for error in attached.link.take_failures() {
                report_failure(&self.name, &attached.peer, &error);
            }
            match frame {
                Ok(Some(frame)) => {
                    self.meter.sent(frame.len(), attached.link.take_sent());
                    place.send(Outgoing::Frame(id.1, frame));
                    attached.stand_in(&mut self.line, id);
                }
                Ok(None) => {}
                Err(error) => {
                    drop(place);
                    self.drop_link(id, &error);
                }
            }
        }
        self.replica.let_go();
        // What a first contact made ready, such as a table to fill.
        if self.failing.is_none() && !self.is_alone() {
            match self.replica.capture(crate::now()) {
                Ok(captured) if captured.more || captured.segments > 0 => self.lookout.hear(),
                Ok(_) => {}
                Err(error) => self.capture_failed(&error),
            }
        }
    }
}

/// What a connection is told when a talk cannot go on; the connection ends as well if its peer does not follow the protocol.
fn last_word(channel: u64, error: &LinkError) -> Outgoing {
    use SyncError::{Gap, RepairFailed, Replica};
    match error {
        LinkError::Replica(_) | LinkError::Sync { source: Replica(_) | Gap | RepairFailed, .. } => {
            Outgoing::Frame(channel, Link::ended().into())
        }
        _ => Outgoing::Close,
    }
}

impl Attached {
    fn stand_in(&mut self, line: &mut VecDeque<LinkId>, id: LinkId) {
        if !std::mem::replace(&mut self.in_line, true) {
            line.push_back(id);
        }
    }
}

fn report(database: &str, peer: &PeerId, error: &LinkError) {
    tracing::warn!(database, peer = peer.short(), error = chain(error), "link ended");
}

fn report_failure(database: &str, peer: &PeerId, error: &LinkError) {
    tracing::warn!(
        database,
        peer = peer.short(),
        error = chain(error),
        "a table is not synced with this peer"
    );
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        source = cause.source();
    }
    text
}
