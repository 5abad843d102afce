//! `history`: all that was ever done to a row.

use super::{about, open_bound, prove};
use crate::args::HistoryArgs;
use crate::home::Home;
use crate::output::{print_json, time, written};
use crate::report::{Failure, code};
use crate::witness::Proven;
use automerge::Automerge;
use piecewise_core::replica::{HistoryEntry, Replica};
use piecewise_server::say;
use serde_json::{Map, json};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

pub(crate) fn run(args: &HistoryArgs) -> Result<(), Failure> {
    let home = Home::open()?;
    let mut replica = open_bound(&home, &args.file)?;
    if let Some(file) = &args.automerge {
        return save(&mut replica, args, file);
    }
    let entries = replica.history(&args.table, &args.key).map_err(|e| about(&args.file, e))?;
    let logged = match args.log {
        true => {
            let segments: Vec<_> = entries.iter().map(|e| e.segment).collect();
            prove(&home, &replica, &segments)?.0
        }
        false => vec![None; entries.len()],
    };
    if args.output.json {
        let entry = |(e, logged): (&HistoryEntry, &Option<Proven>)| {
            let columns: Map<_, _> =
                e.columns.iter().map(|(name, what)| (name.clone(), json!(what))).collect();
            let log = logged.map(|p| json!({ "entry": p.index, "from": p.from.to_string() }));
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
            Some(p) => format!("  [log entry {}, from {}]", p.index, p.from.short()),
            None if args.log => "  [not in the log yet]".to_owned(),
            None => String::new(),
        };
        let (when, who) = (written(e.time), e.author.short());
        say!("{when}  {who}  {:<6}  {}{state}{log}", e.kind, columns.join(" "));
    }
    Ok(())
}

/// Saves a row as the document that it is, for programs that know Automerge; it is made by Automerge itself.
fn save(replica: &mut Replica, args: &HistoryArgs, file: &Path) -> Result<(), Failure> {
    let row = replica.export_row(&args.table, &args.key).map_err(|e| about(&args.file, e))?;
    let document = Automerge::load(&row.changes.concat()).map_err(|error| {
        Failure::new(format!("Automerge does not take row {}: {error}", row.key))
            .hint("this is a defect, please report it")
    })?;
    let bytes = document.save();
    let made = File::create_new(file).and_then(|mut new| new.write_all(&bytes));
    made.map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::AlreadyExists => "name a file that is not there yet",
            _ => "is the folder there, and may you write it?",
        };
        Failure::new(format!("{}: {error}", file.display())).hint(hint).code(code::FILE)
    })?;
    if args.output.json {
        let (changes, bytes) = (row.changes.len(), bytes.len());
        print_json(&json!({ "key": row.key, "changes": changes, "bytes": bytes, "file": file }));
    } else {
        say!("row {} with {} changes: {}", row.key, row.changes.len(), file.display());
    }
    Ok(())
}
