//! `status`: which tables sync, what waits on either side, whether the file is caught up.

use super::sync::stopped_json;
use super::wait::{describe, refused_words};
use super::{folder, open};
use crate::args::ReadArgs;
use crate::home::{Home, KnownServer};
use crate::report::{Failure, code};
use crate::watching::Watching;
use crate::witness;
use piecewise_core::id::Timestamp;
use piecewise_core::replica::{Attention, Binding, HistorySize, Status, Stopped, Waiting};
use piecewise_core::scrub::CheckStatus;
use piecewise_core::supervisor_log::Witness;
use piecewise_server::terminal::{
    Table, Tone, ago, bytes, count, labelled, left, number, paint, result, right, shown, time,
};
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
    let file = args.file.display().to_string();
    result(|| as_json(replica.binding(), &seen), || print(&file, replica.binding(), &seen));
    Ok(code(&seen))
}

fn print(file: &str, binding: Option<&Binding>, seen: &Seen) {
    let Some(binding) = binding else {
        say!("{file} is not connected to a database");
        say!("tables: {}", seen.untracked.join(", "));
        say!("`piecewise track FILE TABLE --as DATABASE` lets tables take part in sync");
        return;
    };
    print_lines(binding, seen);
    print_tables(&seen.status);
    for (table, stopped) in stopped(seen) {
        let since =
            if stopped.since.0 > 0 { format!(", since {}", time(stopped.since)) } else { String::new() };
        say!("{} {table}: {stopped}{since}", paint(Tone::Bad, "stopped:"));
        say!("  {}", stopped.hint(file, table));
    }
    if !seen.untracked.is_empty() {
        say!("not tracked: {}", seen.untracked.join(", "));
    }
}

/// Writes that wait for a connection are in order; a table that is stopped needs somebody.
fn code(seen: &Seen) -> u8 {
    if stopped(seen).next().is_some() { code::STOPPED.exit } else { 0 }
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
                "leases": t.leases.iter().map(|(first, last)| json!({ "first": first, "last": last })).collect::<Vec<_>>(), "renamed_columns": t.renamed_columns.iter().map(|(here, there)| json!({ "here": here, "there": there })).collect::<Vec<_>>(), "numbers_used_up": t.numbers_used_up, "root": t.root, "read_only": t.read_only, "met": t.met, "null_keys": t.null_keys, "stopped": t.stopped.as_ref().map(|s| stopped_json(&t.table, s)),
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
    let watched = if seen.watched { ", a watch is running" } else { "" };
    let server = seen.server.as_deref().unwrap_or("not joined from this home");
    let Attention { conflicts, held, refused } = seen.attention;
    let of = |n: u64, words: &str, tone| {
        let text = format!("{} {words}", number(n));
        if n > 0 { paint(tone, &text) } else { text }
    };
    labelled(&[
        ("database", binding.database.clone()),
        ("server", format!("{server}{watched}")),
        ("its log", log_line(&seen.log)),
        ("last level", seen.status.last_level.map_or("never".into(), last)),
        ("last talk", seen.waiting.talk.map_or("never".into(), |talk| last(talk.time))),
        ("caught up", caught_up_line(seen)),
        ("checked", check_line(&seen.check)),
        ("history", history_line(&seen.history)),
        (
            "rows",
            format!(
                "{}, {}, {}",
                of(conflicts, "in conflict", Tone::Fair),
                of(held, "held", Tone::Fair),
                of(refused, "refused", Tone::Bad)
            ),
        ),
    ]);
    for (table, key, cause) in &seen.held_names {
        say!("  held: {} {}: {}", shown(table), shown(key), shown(cause));
    }
    if held > seen.held_names.len() as u64 {
        say!("  and more; see `piecewise held FILE`");
    }
}

fn caught_up_line(seen: &Seen) -> String {
    if is_caught_up(seen) {
        return format!("{}, as far as is known here", paint(Tone::Good, "yes"));
    }
    let refused = (seen.attention.refused > 0).then(|| refused_words(seen.attention.refused));
    let why: Vec<_> = describe(&seen.waiting).into_iter().chain(refused).collect();
    format!("{}: {}", paint(Tone::Fair, "no"), why.join(", "))
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
        (found, 0) => format!("{} not as documents say and healed", count(found, "row was", "rows were")),
        (found, unhealed) => {
            let found = count(found, "row was", "rows were");
            format!("{found} not as documents say, {} not healed; see `piecewise check`", number(unhealed))
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
        (Some(alarm), _) => {
            format!("{}: {}; see `piecewise log status`", paint(Tone::Bad, "unverified"), alarm.reason)
        }
        (None, Some(note)) => {
            format!("continues what it was, {}", count(note.checkpoint.size, "entry", "entries"))
        }
        (None, None) => "not met yet".to_owned(),
    }
}

fn print_tables(status: &Status) {
    let mut table = Table::new(&[
        left("table"),
        right("rows"),
        right("segments"),
        right("to send"),
        right("held"),
        right("refused"),
        left("root"),
        left(""),
    ]);
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
            notes.push(format!("{} renumbered", number(t.renumbered)));
        }
        if !t.leases.is_empty() {
            let blocks: Vec<_> = t.leases.iter().map(|(first, last)| format!("{first} to {last}")).collect();
            notes.push(format!("gives out the numbers {}", blocks.join(", then ")));
        }
        if t.numbers_used_up {
            notes.push("no number is left: the greatest one is used".to_owned());
        }
        for (here, there) in &t.renamed_columns {
            notes.push(format!("column {} is {} elsewhere", shown(here), shown(there)));
        }
        if t.null_keys > 0 {
            notes.push(format!("{} with NULL in the key: not synced", count(t.null_keys, "row", "rows")));
        }
        let figures = [t.rows, t.segments, t.waiting_segments, t.held, t.refused].map(number);
        let root = t.root.chars().take(16).collect();
        table.add([shown(&t.table)].into_iter().chain(figures).chain([root, notes.join("; ")]));
    }
    table.print();
}

fn seconds_since(time: piecewise_core::id::Timestamp) -> u64 {
    piecewise_server::now().0.saturating_sub(time.0) / 1000
}
