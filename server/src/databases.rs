//! Databases: which SQLite files of the data folder are open. There may be thousands, and few of them busy.
//!
//! An open database has a thread, see `database`. When more are open than shall be, the one used least recently rests, if
//! all its links are level: they are told to rest, and the file is closed. A link at rest costs a line here. It is woken when
//! there is news, and wakes the database when it has something to say; both by attaching anew, which is one round trip.
//!
//! A file is opened by the database's own thread, so that one which is locked or damaged holds up no other. It is tried
//! again after a while, longer each time; whoever wants to attach meanwhile is told why it cannot be opened.

use crate::commits::{Commits, FileState};
use crate::database::{Command, Database, LinkId};
use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Outgoing};
use crate::scrubber::Pace;
use crate::supervisor::Supervisor;
use crate::surveys::Surveys;
use piecewise_core::id::PeerId;
use piecewise_core::link::{Attach, Link};
use piecewise_core::replica::OverviewOf;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How long to wait for another database to close before exceeding `open_max`.
const REST_TIME: Duration = Duration::from_secs(1);
/// How long to wait at first before a database that could not be opened is tried again, and at most.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(60);

/// The databases of a data folder.
pub(crate) struct Databases {
    supervisor: Arc<Supervisor>,
    metrics: Arc<Metrics>,
    disk: Arc<Disk>,
    surveys: Surveys,
    /// How fast tables are checked against their documents.
    pace: Pace,
    open_max: usize,
    state: Mutex<State>,
    /// Told whenever one has begun to rest.
    rested: Condvar,
    commits: Mutex<Option<Commits>>,
    runtime: Handle,
    /// Devices that are connected.
    visitors: AtomicUsize,
}

/// A device that is connected, as long as this lives.
pub(crate) struct Visit(Arc<Databases>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.visitors.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct State {
    slots: HashMap<String, Slot>,
    open: usize,
    clock: u64,
    stopping: bool,
}

#[derive(Default)]
struct Slot {
    /// It is open, or being opened.
    open: Option<Database>,
    is_opening: bool,
    /// Whether surveys were answered without it.
    is_late: bool,
    /// Why it could not be opened last.
    failed: Option<Failed>,
    /// When it was attached to, or found busy, last.
    used: u64,
    resting: Vec<Resting>,
    left: Left,
    /// What it held when it was closed.
    overview: Vec<OverviewOf>,
}

/// A database that could not be opened.
struct Failed {
    cause: String,
    attempts: u32,
    /// When it may be tried again.
    again: Instant,
}

impl Failed {
    /// After one more attempt.
    fn after(before: Option<Self>, cause: &str) -> Self {
        let attempts = before.map_or(0, |failed| failed.attempts) + 1;
        let wait = AGAIN_AFTER_MAX.min(AGAIN_AFTER * 2_u32.pow((attempts - 1).min(8)));
        Self { cause: cause.to_owned(), attempts, again: Instant::now() + wait }
    }
}

/// Why a link was not brought to its database.
pub(crate) enum NotAttached {
    /// The name is not one of a database.
    NoDatabase,
    /// Its file cannot be opened now, for this cause.
    CannotOpen(String),
}

/// How a database's files were when it was closed.
#[derive(Default)]
enum Left {
    #[default]
    BeingClosed,
    /// None: somebody had written them since they were looked into.
    Closed(Option<FileState>),
}

/// A link at rest.
pub(crate) struct Resting {
    pub(crate) id: LinkId,
    pub(crate) peer: PeerId,
    pub(crate) outbox: Outbox,
    /// What was delivered to it and not receipted, by container.
    pub(crate) unreceipted: Vec<(i64, u64)>,
    /// What the peer held.
    pub(crate) held: [u8; 32],
    /// Whether it was told of news.
    pub(crate) woken: bool,
}

/// Whether a name can be that of a database, and so of a file.
pub fn is_database_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    !name.is_empty()
        && name.len() <= 100
        && name.chars().all(plain)
        && !name.starts_with('.')
        && name != "supervisor"
}

/// Names that some systems keep for devices, also with an ending.
const DEVICE_NAMES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// Whether a database may be made under a name: one that is a plain file's on every system, and no option of a command.
pub fn is_new_database_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let stem = lower.split('.').next().unwrap_or_default();
    let numbered = |prefix| {
        stem.strip_prefix(prefix)
            .is_some_and(|n| n.len() == 1 && n != "0" && n.as_bytes()[0].is_ascii_digit())
    };
    let device = DEVICE_NAMES.contains(&stem) || numbered("com") || numbered("lpt");
    is_database_name(name)
        && !device
        && lower != "supervisor"
        && !name.starts_with('-')
        && !name.ends_with('.')
}

impl Databases {
    /// Those of the supervisor's folder; at most `open_max` of them stay open for long. Call it in a runtime.
    pub(crate) fn new(
        supervisor: Arc<Supervisor>,
        metrics: Arc<Metrics>,
        disk: Arc<Disk>,
        pace: Pace,
        open_max: usize,
    ) -> Arc<Self> {
        let (state, commits, rested) = (Mutex::default(), Mutex::default(), Condvar::new());
        let (runtime, surveys) = (Handle::current(), Surveys::default());
        let visitors = AtomicUsize::new(0);
        Arc::new(Self {
            supervisor,
            metrics,
            disk,
            surveys,
            pace,
            open_max,
            state,
            rested,
            commits,
            runtime,
            visitors,
        })
    }

    /// A device is connected: what was written meanwhile is captured.
    pub(crate) fn visit(self: &Arc<Self>) -> Visit {
        if self.visitors.fetch_add(1, Ordering::Relaxed) == 0 {
            self.each(|commands| drop(commands.send(Command::Wake)));
        }
        Visit(self.clone())
    }

    /// Whether any device is connected.
    pub(crate) fn has_visitors(&self) -> bool {
        self.visitors.load(Ordering::Relaxed) > 0
    }

    /// Listens for writes by other programs, and opens every database once, for what was written meanwhile.
    pub(crate) fn begin(self: &Arc<Self>) {
        let listener: Weak<Self> = Arc::downgrade(self);
        let commits = Commits::watch_folder(self.supervisor.folder(), move |file| {
            if let Some(databases) = listener.upgrade() {
                databases.heard_of(file);
            }
        });
        match commits {
            Ok(commits) => *self.commits.lock().unwrap_or_else(PoisonError::into_inner) = Some(commits),
            Err(error) => tracing::warn!(%error, "no news of writes by other programs; looking each second"),
        }
        for name in existing(self.supervisor.folder()) {
            let many = |state: &mut State| state.open > self.open_max && !state.stopping;
            let waited = self.rested.wait_timeout_while(self.state(), REST_TIME, many);
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if !state.stopping {
                let _ = self.open(&mut state, &name);
            }
        }
        // What stands for each should be known before the first survey. One whose file is locked is told of later.
        let opening = |state: &mut State| state.slots.values().any(|slot| slot.is_opening) && !state.stopping;
        let waited = self.rested.wait_timeout_while(self.state(), REST_TIME, opening);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.slots.values_mut().for_each(|slot| slot.is_late = slot.open.is_none() || slot.is_opening);
    }

    /// Attaches a link to its database, opening it if necessary; one that does not exist is made if the peer may.
    pub(crate) fn attach(
        self: &Arc<Self>,
        id: LinkId,
        peer: PeerId,
        attach: Attach,
        outbox: Outbox,
        may_create: bool,
    ) -> Result<Sender<Command>, NotAttached> {
        let mut state = self.state();
        let is_new = !self.is_there(&state, &attach.database);
        if is_new && !(may_create && self.may_be_made(&attach.database) && self.supervisor.may_make(&peer)) {
            return Err(NotAttached::NoDatabase);
        }
        let commands = self.open(&mut state, &attach.database)?;
        if is_new {
            self.supervisor.has_made(&peer);
        }
        let slot = state.slots.get_mut(&attach.database);
        let rested = slot.and_then(|slot| {
            let place = slot.resting.iter().position(|resting| resting.id == id)?;
            Some(slot.resting.swap_remove(place).unreceipted)
        });
        let unreceipted = rested.unwrap_or_default();
        let _ = commands.send(Command::Attach { id, peer, attach, outbox, unreceipted });
        Ok(commands)
    }

    fn is_there(&self, state: &State, name: &str) -> bool {
        state.slots.get(name).is_some_and(|slot| slot.open.is_some())
            || (is_database_name(name) && self.path(name).exists())
    }

    /// Whether a name is free: some file systems take capitals for small letters, and would give one file for two names.
    fn may_be_made(&self, name: &str) -> bool {
        let taken =
            || existing(self.supervisor.folder()).iter().any(|known| known.eq_ignore_ascii_case(name));
        is_new_database_name(name) && !taken()
    }

    /// The way to the thread of a database, which is started if it does not run. What is sent there while the file is
    /// being opened waits for that.
    fn open(self: &Arc<Self>, state: &mut State, name: &str) -> Result<Sender<Command>, NotAttached> {
        if !is_database_name(name) {
            return Err(NotAttached::NoDatabase);
        }
        state.clock += 1;
        let used = state.clock;
        if let Some(slot) = state.slots.get_mut(name)
            && let Some(database) = &slot.open
        {
            slot.used = used;
            return Ok(database.commands.clone());
        }
        let slot = state.slots.entry(name.to_owned()).or_default();
        if let Some(failed) = slot.failed.as_ref().filter(|failed| failed.again > Instant::now()) {
            return Err(NotAttached::CannotOpen(failed.cause.clone()));
        }
        let database = match Database::start(self, name) {
            Ok(database) => database,
            Err(error) => {
                let cause = format!("no thread can be started for it: {error}");
                tracing::error!(database = name, cause, "cannot be opened; it is tried again");
                slot.failed = Some(Failed::after(slot.failed.take(), &cause));
                return Err(NotAttached::CannotOpen(cause));
            }
        };
        let commands = database.commands.clone();
        (slot.open, slot.is_opening, slot.used) = (Some(database), true, used);
        state.open += 1;
        self.ask_to_rest(state);
        Ok(commands)
    }

    /// The file of a database is open.
    pub(crate) fn has_opened(&self, name: &str) {
        let mut state = self.state();
        if let Some(slot) = state.slots.get_mut(name) {
            (slot.is_opening, slot.overview) = (false, vec![]);
            if std::mem::take(&mut slot.is_late) || slot.failed.is_some() {
                self.surveys.tell_all(name);
            }
            if let Some(failed) = slot.failed.take() {
                tracing::info!(database = name, attempts = failed.attempts, "can be opened again");
            }
        }
        drop(state);
        self.rested.notify_all();
    }

    /// The file of a database does not open; whoever wanted to attach is told so.
    pub(crate) fn cannot_open(&self, name: &str, cause: &str, inbox: &Receiver<Command>) {
        let mut state = self.state();
        let Some(failed) = self.note_failure(&mut state, name, cause) else { return };
        let (attempts, again_ms) = (failed.attempts, (failed.again - Instant::now()).as_millis() as u64);
        tracing::error!(database = name, cause, attempts, again_ms, "cannot be opened; it is tried again");
        // Under the lock: whoever attaches after it finds the failure.
        for command in inbox.try_iter() {
            if let Command::Attach { id, outbox, .. } = command {
                self.deliver(&outbox, Outgoing::Frame(id.1, Link::cannot_open(cause).into()));
            }
        }
        drop(state);
        self.rested.notify_all();
    }

    /// The database is closed until its next attempt is due.
    fn note_failure<'s>(&self, state: &'s mut State, name: &str, cause: &str) -> Option<&'s Failed> {
        state.open -= 1;
        let slot = state.slots.get_mut(name)?;
        (slot.open, slot.is_opening) = (None, false);
        let failed = Failed::after(slot.failed.take(), cause);
        Some(slot.failed.insert(failed))
    }

    /// Opens databases that could not be opened and whose time has come.
    pub(crate) fn retry(self: &Arc<Self>) {
        let mut state = self.state();
        let (now, stopping) = (Instant::now(), state.stopping);
        let is_due = |slot: &Slot| slot.failed.as_ref().is_some_and(|failed| failed.again <= now);
        let due = state.slots.iter().filter(|(_, slot)| slot.open.is_none() && is_due(slot));
        let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            if stopping {
                return;
            }
            if self.path(&name).exists() {
                let _ = self.open(&mut state, &name);
            } else if let Some(slot) = state.slots.get_mut(&name) {
                slot.failed = None;
            }
        }
    }

    /// Databases that cannot be opened now, and why.
    pub(crate) fn failed(&self) -> Vec<(String, String)> {
        let state = self.state();
        let failed =
            |(name, slot): (&String, &Slot)| Some((name.clone(), slot.failed.as_ref()?.cause.clone()));
        state.slots.iter().filter_map(failed).collect()
    }

    /// Asks the databases used least recently to rest, if more are open than shall be. One that is too busy is asked
    /// again later.
    pub(crate) fn trim(&self) {
        self.ask_to_rest(&mut self.state());
    }

    fn ask_to_rest(&self, state: &mut State) {
        let too_many = state.open.saturating_sub(self.open_max);
        let mut open: Vec<_> = match too_many {
            0 => return,
            _ => state.slots.values_mut().filter(|slot| slot.open.is_some()).collect(),
        };
        open.sort_unstable_by_key(|slot| slot.used);
        for slot in open.into_iter().take(too_many) {
            slot.used = state.clock;
            slot.open.iter().for_each(|database| drop(database.commands.send(Command::Rest)));
        }
    }

    /// Called by a database's thread before it closes. Returns `None` if it may close, or a command that arrived meanwhile.
    pub(crate) fn rest(
        &self,
        name: &str,
        inbox: &Receiver<Command>,
        overview: Vec<OverviewOf>,
        links: impl FnOnce() -> Vec<Resting>,
    ) -> Option<Command> {
        let mut state = self.state();
        if let Ok(command) = inbox.try_recv() {
            return Some(command);
        }
        state.open -= 1;
        let slot = state.slots.entry(name.to_owned()).or_default();
        slot.open = None;
        (slot.left, slot.overview) = (Left::BeingClosed, overview);
        slot.resting.extend(links());
        self.rested.notify_all();
        None
    }

    /// The files of a database that rests are closed, and looked like this; None: somebody wrote them meanwhile.
    pub(crate) fn has_left(self: &Arc<Self>, name: &str, left: Option<FileState>) {
        let mut state = self.state();
        if let Some(slot) = state.slots.get_mut(name).filter(|slot| slot.open.is_none()) {
            slot.left = Left::Closed(left);
        }
        // What was written while it was being closed was not heard.
        drop(state);
        self.heard_of(&format!("{name}.db"));
    }

    /// The thread of a database has died.
    pub(crate) fn has_failed(&self, name: &str) {
        let mut state = self.state();
        self.note_failure(&mut state, name, "a defect ended its thread; the server's log says more");
        drop(state);
        self.rested.notify_all();
    }

    /// There is news in a database: links at rest attach anew.
    pub(crate) fn wake(&self, name: &str) {
        let mut state = self.state();
        let Some(slot) = state.slots.get_mut(name) else { return };
        // They stay here until they have attached.
        for resting in slot.resting.iter_mut().filter(|resting| !resting.woken) {
            resting.woken = true;
            self.deliver(&resting.outbox, Outgoing::Frame(resting.id.1, Link::wake().into()));
        }
    }

    /// Gives a connection something to send, once it has room.
    pub(crate) fn deliver(&self, outbox: &Outbox, what: Outgoing) {
        if let Err(what) = outbox.try_send(what) {
            let outbox = outbox.clone();
            self.runtime.spawn(async move { outbox.send(what).await });
        }
    }

    /// A link's peer has left it, and held this. What it missed is told as news of the database.
    pub(crate) fn leave(&self, id: LinkId, name: &str, held: [u8; 32]) {
        let mut state = self.state();
        let Some(slot) = state.slots.get_mut(name) else { return };
        if let Some(place) = slot.resting.iter().position(|resting| resting.id == id) {
            let rested = slot.resting.swap_remove(place);
            if rested.woken || rested.held != held {
                self.surveys.tell(id.0, name);
            }
        } else if let Some(database) = &slot.open {
            let _ = database.commands.send(Command::Leave { id, held });
        }
    }

    /// A connection has ended: its links in these databases are forgotten.
    pub(crate) fn detach<'n>(&self, connection: u64, names: impl Iterator<Item = &'n String>) {
        let mut state = self.state();
        for name in names {
            let Some(slot) = state.slots.get_mut(name) else { continue };
            slot.resting.retain(|resting| resting.id.0 != connection);
            slot.open.iter().for_each(|d| drop(d.commands.send(Command::Detach { connection })));
        }
    }

    /// Tells every open database something.
    pub(crate) fn each(&self, tell: impl Fn(&Sender<Command>)) {
        self.state().slots.values().filter_map(|slot| slot.open.as_ref()).for_each(|d| tell(&d.commands));
    }

    /// Tells of those that are closed: the name, what each held of the containers that are asked for, and whose links rest.
    pub(crate) fn at_rest<T>(
        &self,
        covered: impl Fn(&str) -> bool,
        tell: impl Fn(&str, Vec<OverviewOf>, Vec<PeerId>) -> T,
    ) -> Vec<T> {
        let state = self.state();
        let closed = state.slots.iter().filter(|(_, slot)| slot.open.is_none());
        let told = closed.map(|(name, slot)| {
            let held = slot.overview.iter().filter(|container| covered(&container.name)).cloned();
            tell(name, held.collect(), slot.resting.iter().map(|resting| resting.peer).collect())
        });
        told.collect()
    }

    /// Closes all that are open.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.stopping = true;
        let open: Vec<_> = state.slots.values_mut().filter_map(|slot| slot.open.take()).collect();
        drop(state);
        open.into_iter().for_each(Database::close);
    }

    pub(crate) fn supervisor(&self) -> &Arc<Supervisor> {
        &self.supervisor
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn surveys(&self) -> &Surveys {
        &self.surveys
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(crate) fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.supervisor.folder().join(format!("{name}.db"))
    }

    /// A file in the folder was written.
    fn heard_of(self: &Arc<Self>, file: &str) {
        let Some(name) = database_of(file) else { return self.supervisor.heard_of(file) };
        let mut state = self.state();
        let slot = state.slots.get(name);
        if let Some(open) = slot.and_then(|slot| slot.open.as_ref()) {
            let _ = open.commands.send(Command::Written);
            return;
        }
        let as_left = slot.is_some_and(|slot| match &slot.left {
            Left::BeingClosed => true,
            Left::Closed(left) => *left == Some(FileState::of(&self.path(name))),
        });
        if !as_left && !state.stopping && self.path(name).exists() {
            let _ = self.open(&mut state, name);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The database whose file this is, or whose WAL or journal.
fn database_of(file: &str) -> Option<&str> {
    let file = file.strip_suffix("-wal").or(file.strip_suffix("-journal")).unwrap_or(file);
    file.strip_suffix(".db").filter(|name| is_database_name(name))
}

/// The names of the databases in a data folder, ascending.
pub fn existing(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = files
        .filter_map(|f| Some(f.file_name().to_str()?.strip_suffix(".db")?.to_owned()))
        .filter(|name| is_database_name(name))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_system_folds_or_keeps_for_itself_are_not_given_to_databases() {
        for bad in [
            "-rf",
            "CON",
            "con.shop",
            "Nul",
            "com1",
            "LPT9.x",
            "Supervisor",
            "supervisor",
            "shop.",
            ".x",
            "a/b",
            "",
            "ä",
        ] {
            assert!(!is_new_database_name(bad), "{bad}");
        }
        for good in ["shop", "Shop-2", "console", "com", "com10", "lpt0", "a.b"] {
            assert!(is_new_database_name(good), "{good}");
        }
    }
}
