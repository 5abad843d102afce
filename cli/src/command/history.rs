//! `history`: all that was ever done to a row.

use super::{about, block_on, connect_for, open};
use crate::args::HistoryArgs;
use crate::home::Home;
use crate::output::{print_json, time, written};
use crate::report::Failure;
use piecewise_core::id::PeerId;
use piecewise_core::replica::{HistoryEntry, Replica};
use piecewise_core::supervisor_log::{Entry, Event};
use serde_json::{Map, json};

pub(crate) fn run(args: &HistoryArgs) -> Result<(), Failure> {
    let home = Home::open()?;
    let mut replica = open(&home, &args.file)?;
    let entries = replica.history(&args.table, &args.key).map_err(|e| about(&args.file, e))?;
    let logged = if args.log { logged(&home, &replica, &entries)? } else { vec![None; entries.len()] };
    if args.output.json {
        let entry = |(e, logged): (&HistoryEntry, &Option<(u64, PeerId)>)| {
            let columns: Map<_, _> =
                e.columns.iter().map(|(name, what)| (name.clone(), json!(what))).collect();
            let log = logged.map(|(index, from)| json!({ "entry": index, "from": from.to_string() }));
            json!({ "time": time(e.time), "author": e.author.to_string(), "kind": e.kind, "columns": columns,
                    "segment": e.segment.to_string(), "state": e.state, "log": log })
        };
        print_json(&entries.iter().zip(&logged).map(entry).collect());
        return Ok(());
    }
    for (e, logged) in entries.iter().zip(&logged) {
        let columns: Vec<_> = e.columns.iter().map(|(name, what)| format!("{name}={what}")).collect();
        let state = if e.state == "counts" { String::new() } else { format!("  ({})", e.state) };
        let log = match logged {
            Some((index, from)) => format!("  [log entry {index}, from {}]", from.short()),
            None if args.log => "  [not in the log yet]".to_owned(),
            None => String::new(),
        };
        let (when, who) = (written(e.time), e.author.short());
        println!("{when}  {who}  {:<6}  {}{state}{log}", e.kind, columns.join(" "));
    }
    Ok(())
}

/// For each change the proven entry of the server's log, and who brought it to the server.
fn logged(
    home: &Home,
    replica: &Replica,
    entries: &[HistoryEntry],
) -> Result<Vec<Option<(u64, PeerId)>>, Failure> {
    let segments: Vec<_> = entries.iter().map(|e| e.segment).collect();
    let proven = block_on(async {
        let (mut connection, _) = connect_for(home, replica).await?;
        let mut talk = connection.witnessed().await?;
        let proven = talk.prove(&segments).await;
        drop(talk);
        connection.close().await;
        proven
    })?;
    let from = |(index, entry): (u64, Entry)| match entry.event {
        Event::Accepted { from, .. } => Some((index, from)),
        _ => None,
    };
    Ok(proven.into_iter().map(|proof| proof.and_then(from)).collect())
}
