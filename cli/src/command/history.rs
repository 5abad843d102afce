//! `history`: all that was ever done to a row.

use super::{about, open_bound, prove};
use crate::args::HistoryArgs;
use crate::home::Home;
use crate::output::{author, value, written, written_json};
use crate::report::{Failure, code};
use crate::witness::Proven;
use automerge::Automerge;
use piecewise_core::id::PeerId;
use piecewise_core::replica::{Effect, HistoryEntry, Replica};
use piecewise_server::say;
use piecewise_server::terminal::{count, number, result, shown};
use serde_json::{Map, Value as Json, json};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

pub(crate) fn run(args: &HistoryArgs) -> Result<(), Failure> {
    let home = Home::open()?;
    let mut replica = open_bound(&home, &args.file)?;
    if let Some(file) = &args.automerge {
        return save(&mut replica, args, file);
    }
    replica.follow_schema(piecewise_server::now()).map_err(|e| about(&args.file, e))?;
    let entries = replica.history(&args.table, &args.key).map_err(|e| about(&args.file, e))?;
    let logged = match args.log {
        true => {
            let segments: Vec<_> = entries.iter().map(|e| e.segment).collect();
            prove(&home, &replica, &segments)?.0
        }
        false => vec![None; entries.len()],
    };
    let entry = |(e, logged): (&HistoryEntry, &Option<Proven>)| {
        let columns: Map<_, _> = e.columns.iter().map(|(name, what)| (name.clone(), effect(what))).collect();
        let log = logged.map(|p| json!({ "entry": p.index, "from": p.from.to_string() }));
        json!({ "time": written_json(e.time), "author": e.author.key.to_string(), "author_name": e.author.name, "kind": e.kind, "columns": columns,
                "segment": e.segment.to_string(), "state": e.state, "log": log })
    };
    let own = replica.author();
    result(
        || entries.iter().zip(&logged).map(entry).collect(),
        || entries.iter().zip(&logged).for_each(|(e, logged)| print(&replica, e, *logged, args.log, &own)),
    );
    Ok(())
}

/// What a change did to a column: the value it set, or what it added.
fn effect(what: &Effect) -> Json {
    match what {
        Effect::Set(set) => value(set),
        Effect::Add(n) => json!({ "add": n }),
        Effect::Text(edits) => json!({ "edits": edits }),
    }
}

fn print(replica: &Replica, e: &HistoryEntry, logged: Option<Proven>, asked: bool, own: &PeerId) {
    let column = |(name, what): &(String, Effect)| format!("{}={}", shown(name), shown(&what.to_string()));
    let columns: Vec<_> = e.columns.iter().map(column).collect();
    let state = if e.state == "counts" { String::new() } else { format!("  ({})", e.state) };
    let log = match logged {
        Some(p) => {
            format!("  [log entry {}, from {}]", number(p.index), author(&replica.author_with(p.from), own))
        }
        None if asked => "  [not in the log yet]".to_owned(),
        None => String::new(),
    };
    let (when, who) = (written(e.time), author(&e.author, own));
    say!("{when}  {who}  {:<6}  {}{state}{log}", e.kind, columns.join(" "));
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
        let (hint, code) = match error.kind() {
            ErrorKind::AlreadyExists => ("name a file that is not there yet", code::FILE_EXISTS),
            _ => ("is the folder there, and may you write it?", code::FILE),
        };
        Failure::new(format!("{}: {error}", file.display())).hint(hint).code(code)
    })?;
    let (changes, bytes) = (row.changes.len(), bytes.len());
    result(
        || json!({ "key": row.key, "changes": changes, "bytes": bytes, "file": file }),
        || say!("row {} with {}: {}", row.key, count(changes as u64, "change", "changes"), file.display()),
    );
    Ok(())
}
