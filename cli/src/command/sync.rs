//! `sync` and `watch`: exchange what changed, once or for ever.

use super::{block_on, connect_for, folder, open_bound};
use crate::args::{SyncArgs, WatchArgs};
use crate::checking::Checking;
use crate::drive::{Done, Drive, LeftOut, Summary, Writes, back_off};
use crate::home::Home;
use crate::progress::Progress;
use crate::report::{Failure, code};
use crate::watching::Watching;
use piecewise_core::replica::{Attention, Replica, ReplicaError, Stopped, Talk};
use piecewise_server::terminal::{Tone, bytes, count, is_json, news, note, number, paint, result, time};
use piecewise_server::{now, say};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often writes become changes while nobody is connected.
const OFFLINE_CAPTURE_EVERY: Duration = Duration::from_secs(60);
/// What two sides exchange before data, at most.
const GREETING_BYTES: u64 = 16 << 10;

pub(crate) fn sync(args: &SyncArgs) -> Result<u8, Failure> {
    let home = Home::open()?;
    if args.file.is_dir() {
        return folder::sync(&home, args);
    }
    let mut replica = open_bound(&home, &args.file)?;
    let database = database(&replica)?;
    let started = Instant::now();
    let progress = Progress::new(!args.quiet);
    let done = block_on(once(&home, &mut replica, progress))?;
    let mut summary = done.summary;
    summary.milliseconds = started.elapsed().as_millis() as u64;
    if !args.quiet {
        let attention = replica.attention()?;
        print_summary(&database, &summary, &done, &attention, json!({}));
        tell_what_waits(&args.file, &attention);
        tell_used_up(&replica.used_up_tables()?);
    }
    Ok(tell_what_is_left_out(&done.left_out, &replica, &args.file))
}

/// Talks once, until both sides hold the same.
pub(super) async fn once(home: &Home, replica: &mut Replica, progress: Progress) -> Result<Done, Failure> {
    let (mut connection, server) = connect_for(home, replica).await?;
    let done = Drive::new(replica, &mut connection, server, progress)?.until_level().await;
    connection.close().await;
    done
}

/// Tells of tables and rows of a file that the server does not take; the exit code.
pub(crate) fn tell_what_is_left_out(left: &LeftOut, replica: &Replica, file: &Path) -> u8 {
    let file = file.display().to_string();
    for table in &left.over_quota {
        Failure::new(format!(
            "the server makes no table {table}: this device has created as many there as it may"
        ))
        .hint("its rows wait here; on the server, see --containers-per-peer")
        .code(code::NO_INTAKE)
        .tell();
    }
    for (table, stopped) in &left.stopped {
        Failure::new(format!("table {table} is stopped: {stopped}"))
            .hint(stopped.hint(&file, table))
            .code(code::STOPPED)
            .tell();
    }
    let refused = replica.attention().map_or(0, |attention| attention.refused);
    if refused > 0 {
        Failure::new(format!("the server did not take {} of this device", count(refused, "row", "rows")))
            .hint(format!(
                "`piecewise refused {file}` says which and why, `refused retry` and `refused revert` end it"
            ))
            .code(code::REFUSED)
            .tell();
    }
    for table in &left.not_granted {
        Failure::new(format!("the server does not grant {table} to this device"))
            .hint(format!(
                "on the server, run `piecewise-server grant {} '{table}=write'`",
                replica.author().short()
            ))
            .code(code::NOT_GRANTED)
            .tell();
    }
    let all_else = left.stopped.is_empty() && refused == 0;
    match (left.not_granted.is_empty(), left.over_quota.is_empty(), all_else) {
        (false, _, _) => code::NOT_GRANTED.exit,
        (true, false, _) => code::NO_INTAKE.exit,
        (true, true, false) => code::FAILED.exit,
        (true, true, true) => 0,
    }
}

/// A file that is watched.
struct Watched {
    replica: Replica,
    _watching: Option<Watching>,
    /// When the file was captured last while nobody was connected, or the connection was lost.
    captured: Option<Instant>,
}

impl Watched {
    fn open(home: &Home, args: &SyncArgs) -> Result<Self, Failure> {
        let mut replica = open_bound(home, &args.file)?;
        note_lost(&mut replica)?;
        let _watching = Watching::begin(home, &replica);
        Ok(Self { replica, _watching, captured: None })
    }

    /// Captures what was written while the server is away, each minute: the edits of a row in between become one change.
    fn capture_if_due(&mut self) -> Result<(), ReplicaError> {
        if self.captured.get_or_insert_with(Instant::now).elapsed() < OFFLINE_CAPTURE_EVERY {
            return Ok(());
        }
        self.captured = Some(Instant::now());
        while self.replica.capture(now())?.more {}
        Ok(())
    }
}

pub(crate) fn watch(args: &WatchArgs) -> Result<(), Failure> {
    let home = Home::open()?;
    if args.sync.file.is_dir() {
        return folder::watch(&home, args);
    }
    let opened = match Watched::open(&home, &args.sync) {
        Ok(watched) => Some(watched),
        // Locked for long: the watch waits for its turn.
        Err(failure) if failure.may_pass => None,
        Err(failure) => return Err(failure),
    };
    block_on(async {
        let checking = Checking::new(args.check_percent);
        let watching = watch_for_ever(args, &home, opened, checking);
        tokio::select! {
            result = watching => result,
            () = stop_signal() => Ok(()),
        }
    })
}

async fn watch_for_ever(
    args: &WatchArgs,
    home: &Home,
    mut opened: Option<Watched>,
    mut checking: Checking,
) -> Result<(), Failure> {
    let mut writes = Writes::of(&args.sync.file);
    let mut patience = Patience::default();
    loop {
        let result = watch_once(args, home, &mut opened, &mut writes, &mut checking, &mut patience).await;
        let Err(failure) = result else { continue };
        if let Some(watched) = &mut opened {
            // What keeps the file from being written may be the failure: then it is noted after the next attempt.
            let _ = note_lost(&mut watched.replica).and_then(|()| watched.capture_if_due());
            // Tables are checked while the server is out of reach, too.
            checking.step(&mut watched.replica);
        }
        patience.wait(failure).await?;
    }
}

/// Waits between attempts, longer each time until one was good, and says what keeps them from it: once, not each time.
#[derive(Debug, Default)]
pub(super) struct Patience {
    attempt: u32,
    /// The failure that was told last, and not followed by anything good.
    told: Option<String>,
    /// Whether an attempt ever was good.
    was_good: bool,
}

impl Patience {
    /// Both sides were level.
    pub(super) fn all_is_well(&mut self) {
        (self.attempt, self.was_good) = (0, true);
        if self.told.take().is_some() {
            news("level with the server again");
        }
    }

    /// An attempt that failed moved so many bytes: if they are more than a greeting, the next follows soon.
    pub(super) fn moved(&mut self, (received, sent): (u64, u64)) {
        if received + sent > GREETING_BYTES {
            self.attempt = 0;
        }
    }

    /// Waits after an attempt that failed, if that may pass.
    pub(super) async fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        if !(failure.may_pass || failure.may_return && self.was_good) {
            return Err(failure);
        }
        let wait = back_off(self.attempt);
        self.attempt += 1;
        if self.told.as_ref() != Some(&failure.message) {
            news(&format!("{}; trying again", failure.message));
            self.told = Some(failure.message);
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Notes that nobody talks with the server now, so that what the file says of the last talk is not taken for the present.
fn note_lost(replica: &mut Replica) -> Result<(), ReplicaError> {
    match replica.waiting()?.talk {
        Some(talk) if talk.level => replica.note_talk(&Talk { level: false, ..talk }),
        _ => Ok(()),
    }
}

async fn watch_once(
    WatchArgs { sync: args, every, .. }: &WatchArgs,
    home: &Home,
    opened: &mut Option<Watched>,
    writes: &mut Writes,
    checking: &mut Checking,
    patience: &mut Patience,
) -> Result<(), Failure> {
    if writes.is_replaced() {
        // A backup was put in its place, for example.
        (*opened, *writes) = (None, Writes::of(&args.file));
    }
    let Watched { replica, captured, .. } = match opened {
        Some(watched) => watched,
        None => opened.insert(Watched::open(home, args)?),
    };
    let database = database(replica)?;
    let (mut connection, server) = connect_for(home, replica).await?;
    *captured = None;
    let progress = Progress::new(!args.quiet);
    let drive = Drive::new(replica, &mut connection, server, progress)?.gather_for(*every).with_events();
    let on_level = |summary: &Summary, _: &Replica| {
        patience.all_is_well();
        if !args.quiet {
            print_line(&database, summary);
        }
    };
    let on_left_out = |left_out: &LeftOut, replica: &Replica| {
        tell_what_is_left_out(left_out, replica, &args.file);
    };
    let result = drive.live(writes, checking, on_level, on_left_out).await;
    patience.moved(connection.bytes());
    result
}

pub(super) async fn stop_signal() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        return;
    }
    let _ = tokio::signal::ctrl_c().await;
}

fn database(replica: &Replica) -> Result<String, Failure> {
    Ok(replica.binding().ok_or(ReplicaError::NotBound)?.database.clone())
}

/// What a finished sync brought, `more` of it for programs alone.
pub(crate) fn print_summary(
    database: &str,
    summary: &Summary,
    done: &Done,
    attention: &Attention,
    more: Value,
) {
    let as_json = || {
        let (left, Attention { held, refused, .. }) = (&done.left_out, attention);
        let stopped: Vec<_> = left.stopped.iter().map(|(table, s)| stopped_json(table, s)).collect();
        let all = *left == LeftOut::default() && *refused == 0;
        let mut told = json!({
            "database": database, "level": true, "caught_up": all, "moved": summary, "stopped": stopped, "held": held, "refused": refused,
            "not_granted": left.not_granted, "over_quota": left.over_quota, "clashed": done.clashed,
        });
        if let (Value::Object(told), Value::Object(more)) = (&mut told, more) {
            told.extend(more);
        }
        told
    };
    result(as_json, || say!("{}", line(database, summary)));
}

/// What one exchange of a watch brought, on one line.
pub(super) fn print_line(database: &str, summary: &Summary) {
    match is_json() {
        true => say!("{}", json!({ "database": database, "level": true, "moved": summary })),
        false => say!("{}", line(database, summary)),
    }
}

pub(super) fn line(database: &str, s: &Summary) -> String {
    let part = |rows: u64, segments: u64| {
        format!("{} in {}", count(rows, "row", "rows"), count(segments, "segment", "segments"))
    };
    let (out, into, time) = (bytes(s.bytes_sent), bytes(s.bytes_received), number(s.milliseconds));
    let wire = format!("{out} out, {into} in, {time} ms");
    let level = paint(Tone::Good, "level with the server");
    if !s.moved() {
        return format!("{database}: {level}, nothing to exchange · {wire}");
    }
    let refused = match s.rows_refused {
        0 => String::new(),
        n => format!(" · {} refused", count(n, "row", "rows")),
    };
    let renumbered = match s.rows_renumbered {
        0 => String::new(),
        n => format!(" · {} renumbered", count(n, "row", "rows")),
    };
    let (sent, received) = (part(s.rows_sent, s.segments_sent), part(s.rows_received, s.segments_received));
    format!("{database}: {level} · sent {sent} · received {received}{refused}{renumbered} · {wire}")
}

/// A table that is stopped, for programs.
pub(crate) fn stopped_json(table: &str, stopped: &Stopped) -> Value {
    let since = (stopped.since.0 > 0).then(|| time(stopped.since));
    json!({ "table": table, "cause": stopped.kind.name(), "words": stopped.why, "since": since })
}

/// Names tables into which nobody can insert without saying a number.
fn tell_used_up(tables: &[String]) {
    for table in tables {
        note(&format!(
            "no number is left in {table}: the greatest one, {}, is used, and AUTOINCREMENT gives none twice. SQLite calls an \
             insert there \"database or disk is full\"",
            i64::MAX
        ));
    }
}

/// Says what a person should look at.
pub(super) fn tell_what_waits(file: &Path, attention: &Attention) {
    let file = file.display();
    let tell = |n: u64, what: &str, command: &str| {
        if n > 0 {
            note(&format!("{} {what}; see `piecewise {command} {file}`", count(n, "row", "rows")));
        }
    };
    tell(attention.conflicts, "with values in conflict", "conflicts");
    tell(attention.held, "held, which the table cannot show", "held");
}
