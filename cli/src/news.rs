//! News: what a replica did to rows by itself, told once in words or as events.

use crate::report::Failure;
use piecewise_core::change::Merge;
use piecewise_core::numbers::Renumbered;
use piecewise_core::replica::{OtherMerge, Replica};
use piecewise_server::say;
use piecewise_server::terminal::{count, note, number};
use serde_json::json;
use std::collections::BTreeMap;

/// Rows that are named when they have another number.
const RENUMBERED_SHOWN: usize = 8;

/// Prints how many rows of each table a scan put back because no trigger had recorded their deletion, and which full-text
/// indexes could not be rebuilt.
pub(crate) fn tell_of_restored(replica: &mut Replica, file: Option<&str>) {
    for (index, why) in replica.take_unsearchable() {
        Failure::new(format!("{}full-text index {index} has to be rebuilt, which failed: {why}", of(file)))
            .tell();
    }
    for (table, rows) in replica.take_restored() {
        note(&format!(
            "{}{} that were missing from table {table} were put back: more than a program deletes by itself \
            while its writes are not noted, as when a table is built anew. To delete them everywhere, delete them again now",
            of(file),
            count(rows, "row", "rows")
        ));
    }
}

/// Tells of rows that are in conflict since their table met the server. Returns how many, by table.
pub(crate) fn tell_of_clashes(
    replica: &mut Replica,
    file: Option<&str>,
    as_events: bool,
) -> BTreeMap<String, u64> {
    let clashed = replica.take_clashed();
    for (table, rows) in &clashed {
        if as_events {
            say!("{}", json!({ "event": "clashed", "file": file, "table": table, "rows": rows }));
            continue;
        }
        let rows = count(*rows, "row of this file has a number", "rows of this file have numbers");
        note(&format!(
            "{}{table}: {rows} under which the server had another row: both are kept, in conflict. `piecewise conflicts` \
             lists them, `conflicts choose … --as-new-row --with-references` gives one another number. \
             In a file that has not met the server's rows yet, `track` with `--renumber-mine` gives all of them others",
            of(file)
        ));
    }
    clashed
}

/// Tells of columns that merge otherwise than `track` was asked for here.
pub(crate) fn tell_of_merges(replica: &mut Replica, file: Option<&str>) {
    for OtherMerge { table, column, merge } in replica.take_other_merges() {
        let how = match merge {
            Merge::Text => "by character",
            Merge::Counter => "as a counter",
            Merge::Register => "as a whole",
        };
        note(&format!(
            "{}{table}.{column} merges {how}, as the server's table was tracked before; what `track` was asked for here has no effect. \
             A table of another name can have it",
            of(file)
        ));
    }
}

/// Tells of rows whose numbers other rows have, and that have another now. Returns how many.
pub(crate) fn tell_of_renumbered(replica: &mut Replica, file: Option<&str>, as_events: bool) -> u64 {
    let moved = replica.take_renumbered();
    if as_events {
        for Renumbered { table, old, new } in &moved {
            say!(
                "{}",
                json!({ "event": "renumbered", "file": file, "table": table, "old": old, "new": new })
            );
        }
    } else if !moved.is_empty() {
        let name = |m: &Renumbered| format!("{} {} is {} now", m.table, m.old, m.new);
        let shown: Vec<_> = moved.iter().take(RENUMBERED_SHOWN).map(name).collect();
        let more = match moved.len().saturating_sub(RENUMBERED_SHOWN) {
            0 => String::new(),
            more => format!(" and {} more", number(more as u64)),
        };
        note(&format!(
            "{}{} another number, since another device was faster: {}{more}; see the table piecewise_renumbered",
            of(file),
            count(moved.len() as u64, "row has", "rows have"),
            shown.join(", ")
        ));
    }
    moved.len() as u64
}

/// What says of which file something is told.
fn of(file: Option<&str>) -> String {
    file.map_or(String::new(), |file| format!("{file}: "))
}
