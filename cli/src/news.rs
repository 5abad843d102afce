//! News: what a replica did to rows by itself, told once in words or as events.

use crate::output::count;
use piecewise_core::numbers::Renumbered;
use piecewise_core::replica::Replica;
use serde_json::json;
use std::collections::BTreeMap;

/// Rows that are named when they have another number.
const RENUMBERED_SHOWN: usize = 8;

/// Prints how many rows of each table a scan put back because no trigger had recorded their deletion, and which full-text
/// indexes could not be rebuilt.
pub(crate) fn tell_of_restored(replica: &mut Replica, file: Option<&str>) {
    for (index, why) in replica.take_unsearchable() {
        let of = file.map_or(String::new(), |file| format!("{file}: "));
        piecewise_server::tell!("error: {of}full-text index {index} has to be rebuilt, which failed: {why}");
    }
    for (table, rows) in replica.take_restored() {
        let (of, rows) = (file.map_or(String::new(), |file| format!("{file}: ")), count(rows, "row", "rows"));
        piecewise_server::tell!(
            "note: {of}{rows} that were missing from table {table} were put back: more than a program deletes by itself \
            while its writes are not noted, as when a table is built anew. To delete them everywhere, delete them again now"
        );
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
            let event = json!({ "event": "clashed", "file": file, "table": table, "rows": rows });
            piecewise_server::say!("{event}");
            continue;
        }
        let of = file.map_or(String::new(), |file| format!("{file}: "));
        let rows = count(*rows, "row of this file has a number", "rows of this file have numbers");
        piecewise_server::tell!(
            "note: {of}{table}: {rows} under which the server had another row: both are kept, in conflict. `piecewise conflicts` \
             lists them, `conflicts choose … --as-new-row --with-references` gives one another number. To give all of them others \
             at the first sync, track the table with `--renumber-mine`; to show those of this file, with `--prefer local`"
        );
    }
    clashed
}

/// Tells of rows whose numbers other rows have, and that have another now. Returns how many.
pub(crate) fn tell_of_renumbered(replica: &mut Replica, file: Option<&str>, as_events: bool) -> u64 {
    let moved = replica.take_renumbered();
    for Renumbered { table, old, new } in &moved {
        if as_events {
            let event =
                json!({ "event": "renumbered", "file": file, "table": table, "old": old, "new": new });
            piecewise_server::say!("{event}");
        }
    }
    if !as_events && !moved.is_empty() {
        let of = file.map_or(String::new(), |file| format!("{file}: "));
        let name = |m: &Renumbered| format!("{} {} is {} now", m.table, m.old, m.new);
        let shown: Vec<_> = moved.iter().take(RENUMBERED_SHOWN).map(name).collect();
        let more = match moved.len().saturating_sub(RENUMBERED_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        piecewise_server::tell!(
            "note: {of}{} another number, since another device was faster: {}{more}; see the table piecewise_renumbered",
            count(moved.len() as u64, "row has", "rows have"),
            shown.join(", ")
        );
    }
    moved.len() as u64
}
