//! `status`: which tables sync, what waits on either side, whether the file is caught up.

use super::sync::stopped_json;
use super::wait::{describe, refused_words};
use super::{folder, open};
use crate::args::ReadArgs;
use crate::home::{Home, KnownServer};
use crate::output::{ago, bytes, count, print_columns, print_json, time};
use crate::report::{Failure, code};
use crate::watching::Watching;
use crate::witness;
use piecewise_core::id::Timestamp;
use piecewise_core::replica::{Attention, Binding, HistorySize, Status, Stopped, Waiting};
use piecewise_core::scrub::CheckStatus;
use piecewise_core::supervisor_log::Witness;
use piecewise_server::{now, say};
use serde_json::{Value, json};

/// From when on history counts as old.
const OLD_DAYS: u64 = 30;
/// Held rows that are named.
const HELD_SHOWN: usize = 5;

/// All there is to say.
struct Seen {
    status: Status,
    waiting: Waiting,
    check: CheckStatus,
    attention: Attention,
    untracked: Vec<String>,
    /// The first held rows: table, key, cause.
    held_names: Vec<(String, String, String)>,
    server: Option<String>,
    log: Witness,
    watched: bool,
    history: HistorySize,
}

pub(crate) fn run(args: &ReadArgs) -> Result<u8, Failure> {
    let home = Home::open()?;
    if args.file.is_dir() {
        return folder::status(&home, args);
    }
    let replica = open(&home, &args.file)?;
    let server = replica.binding().and_then(|b| home.of_realm(&b.realm).ok());
    let log = |server: &KnownServer| witness::load(&witness::path(home.folder(), &server.key()));
    let seen = Seen {
        status: replica.status()?,
        waiting: replica.waiting()?,
        check: replica.check_status()?,
        attention: replica.attention()?,
        untracked: replica.untracked()?,
        held_names: if replica.binding().is_some() { replica.held_names(HELD_SHOWN)? } else { vec![] },
        server: server.map(|s| s.address.clone()),
        log: server.map(log).transpose()?.unwrap_or_default(),
        watched: Watching::is_on(&home, &replica)?,
        history: replica.history_size(Timestamp(now().0.saturating_sub(OLD_DAYS * 86_400_000)))?,
    };
    if args.output.json {
        print_json(&as_json(replica.binding(), &seen));
        return Ok(code(&seen));
    }
    let Some(binding) = replica.binding() else {
        say!("{} is not connected to a database", args.file.display());
        say!("tables: {}", seen.untracked.join(", "));
        say!("`piecewise track FILE TABLE --as DATABASE` lets tables take part in sync");
        return Ok(0);
    };
    print_lines(binding, &seen);
    print_tables(&seen.status);
    for (table, stopped) in stopped(&seen) {
        let since =
            if stopped.since.0 > 0 { format!(", since {}", time(stopped.since)) } else { String::new() };
        say!("stopped: {table}: {stopped}{since}");
        say!("  {}", stopped.hint(&args.file.display().to_string(), table));
    }
    if !seen.untracked.is_empty() {
        say!("not tracked: {}", seen.untracked.join(", "));
    }
    Ok(code(&seen))
}

/// Writes that wait for a connection are in order; a table that is stopped needs somebody.
fn code(seen: &Seen) -> u8 {
    if stopped(seen).next().is_some() { code::FAILED } else { 0 }
}

fn as_json(binding: Option<&Binding>, seen: &Seen) -> Value {
    let tables: Vec<_> = seen
        .status
        .tables
        .iter()
        .map(|t| {
            json!({
                "table": t.table, "container": t.container, "rows": t.rows, "segments": t.segments,
                "segments_waiting": t.waiting_segments, "held": t.held, "refused": t.refused,
                "renumbered": t.renumbered,
                "leases": t.leases.iter().map(|(first, last)| json!({ "first": first, "last": last })).collect::<Vec<_>>(), "root": t.root, "read_only": t.read_only, "met": t.met, "null_keys": t.null_keys, "stopped": t.stopped.as_ref().map(|s| stopped_json(&t.table, s)),
            })
        })
        .collect();
    let talk = seen.waiting.talk.map(|talk| {
        json!({
            "time": time(talk.time), "seconds_ago": seconds_since(talk.time), "level": talk.level,
            "server_stopped": talk.stopped.map(|stop| stop.to_string()),
        })
    });
    json!({
        "database": binding.map(|b| &b.database), "server": seen.server, "watched": seen.watched,
        "caught_up": is_caught_up(seen),
        "writes_waiting": seen.waiting.rows, "segments_waiting": seen.waiting.segments,
        "segments_to_come": seen.waiting.talk.map(|talk| talk.segments_to_come),
        "history": { "bytes": seen.history.bytes, "bytes_older_than_30_days": seen.history.bytes_before },
        "last_level": seen.status.last_level.map(time), "last_talk": talk,
        "conflicts": seen.attention.conflicts, "held": seen.attention.held, "refused": seen.attention.refused,
        "check": {
            "time": seen.check.checked.map(time), "found": seen.check.found, "unhealed": seen.check.unhealed,
            "found_ever": seen.check.found_ever, "found_last": seen.check.found_last.map(time),
        },
        "log": {
            "checkpoint": seen.log.note.as_ref().map(|note| note.checkpoint.size),
            "alarm": seen.log.alarm.as_ref().map(|alarm| &alarm.reason),
        },
        "tables": tables, "untracked": seen.untracked,
    })
}

fn print_lines(binding: &Binding, seen: &Seen) {
    let last = |at| format!("{}, {} ago", time(at), ago(seconds_since(at)));
    say!("database    {}", binding.database);
    let watched = if seen.watched { ", a watch is running" } else { "" };
    say!("server      {}{watched}", seen.server.as_deref().unwrap_or("not joined from this home"));
    say!("its log     {}", log_line(&seen.log));
    say!("last level  {}", seen.status.last_level.map_or("never".into(), last));
    say!("last talk   {}", seen.waiting.talk.map_or("never".into(), |talk| last(talk.time)));
    let caught_up = match is_caught_up(seen) {
        true => "yes, as far as is known here".to_owned(),
        false => {
            let refused = (seen.attention.refused > 0).then(|| refused_words(seen.attention.refused));
            let why: Vec<_> = describe(&seen.waiting).into_iter().chain(refused).collect();
            format!("no: {}", why.join(", "))
        }
    };
    say!("caught up   {caught_up}");
    say!("checked     {}", check_line(&seen.check));
    let Attention { conflicts, held, refused } = seen.attention;
    say!("history     {}", history_line(&seen.history));
    say!("rows        {conflicts} in conflict, {held} held, {refused} refused");
    for (table, key, cause) in &seen.held_names {
        say!("  held: {table} {key}: {cause}");
    }
    if held > seen.held_names.len() as u64 {
        say!("  and more; see `piecewise held FILE`");
    }
}

/// The tables that are stopped.
fn stopped(seen: &Seen) -> impl Iterator<Item = (&str, &Stopped)> {
    seen.status.tables.iter().filter_map(|t| Some((t.table.as_str(), t.stopped.as_ref()?)))
}

/// Whether every tracked table is in sync, as far as is known here.
fn is_caught_up(seen: &Seen) -> bool {
    seen.waiting.is_caught_up() && seen.attention.refused == 0 && stopped(seen).next().is_none()
}

/// What the history of all rows takes.
fn history_line(history: &HistorySize) -> String {
    let about = if history.is_estimate { "about " } else { "" };
    let older = bytes(history.bytes_before);
    format!("{about}{}, of which {older} are older than {OLD_DAYS} days", bytes(history.bytes))
}

/// When all tables were last compared with their documents, and what was found.
fn check_line(check: &CheckStatus) -> String {
    let Some(checked) = check.checked else { return "not yet; `watch` and `piecewise check` do".to_owned() };
    let found = match (check.found, check.unhealed) {
        (0, _) => "all as documents say".to_owned(),
        (found, 0) => format!("{found} rows were not as documents say and were healed"),
        (found, unhealed) => {
            format!(
                "{found} rows were not as documents say, {unhealed} of them not healed; see `piecewise check`"
            )
        }
    };
    let last = match check.found_last {
        Some(last) if check.found == 0 => format!(", the last found {} ago", ago(seconds_since(last))),
        _ => String::new(),
    };
    format!("{}, {} ago: {found}{last}", time(checked), ago(seconds_since(checked)))
}

fn log_line(log: &Witness) -> String {
    match (&log.alarm, &log.note) {
        (Some(alarm), _) => format!("unverified: {}; see `piecewise log status`", alarm.reason),
        (None, Some(note)) => format!("continues what it was, {} entries", note.checkpoint.size),
        (None, None) => "not met yet".to_owned(),
    }
}

fn print_tables(status: &Status) {
    let title = ["table", "rows", "segments", "to send", "held", "refused", "root", ""];
    let mut lines = vec![title.map(str::to_owned).to_vec()];
    for t in &status.tables {
        let mut notes: Vec<String> = match (t.met, t.read_only) {
            (false, _) => vec!["the server has not been met yet".to_owned()],
            (_, true) => vec!["read only".to_owned()],
            _ => vec![],
        };
        if t.stopped.is_some() {
            notes.insert(0, "stopped".to_owned());
        }
        if t.renumbered > 0 {
            notes.push(format!("{} renumbered", t.renumbered));
        }
        if !t.leases.is_empty() {
            let blocks: Vec<_> = t.leases.iter().map(|(first, last)| format!("{first} to {last}")).collect();
            notes.push(format!("gives out the numbers {}", blocks.join(", then ")));
        }
        if t.null_keys > 0 {
            notes.push(format!("{} with NULL in the key: not synced", count(t.null_keys, "row", "rows")));
        }
        lines.push(vec![
            t.table.clone(),
            t.rows.to_string(),
            t.segments.to_string(),
            t.waiting_segments.to_string(),
            t.held.to_string(),
            t.refused.to_string(),
            t.root.chars().take(16).collect(),
            notes.join("; "),
        ]);
    }
    print_columns(&lines);
}

fn seconds_since(time: piecewise_core::id::Timestamp) -> u64 {
    piecewise_server::now().0.saturating_sub(time.0) / 1000
}
