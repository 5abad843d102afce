//! `conflicts`: what was written at the same time as what shows; and `choose`, which ends a conflict.

use super::{about, open_bound};
use crate::args::{ChooseArgs, ConflictsArgs, ConflictsCommand};
use crate::home::Home;
use crate::output::{author, row, row_line, value, written, written_json as written_time};
use crate::report::Failure;
use piecewise_core::id::PeerId;
use piecewise_core::replica::{Choice, Conflict, ConflictKind, MadeRow, OtherRow, Written};
use piecewise_server::say;
use piecewise_server::terminal::{Tone, count, paint, result, shown};
use serde_json::json;

pub(crate) fn run(args: ConflictsArgs) -> Result<(), Failure> {
    match (args.choose, args.file) {
        (Some(ConflictsCommand::Choose(args)), _) => choose(&args),
        (None, Some(file)) => {
            let mut replica = open_bound(&Home::open()?, &file)?;
            replica.follow_schema(piecewise_server::now()).map_err(|e| about(&file, e))?;
            let found = replica.conflicts(args.table.as_deref()).map_err(|e| about(&file, e))?;
            let own = replica.author();
            result(|| found.iter().map(as_json).collect(), || print(&found, &own));
            Ok(())
        }
        (None, None) => Err(Failure::new("name a file")),
    }
}

fn written_json(w: &Written) -> serde_json::Value {
    json!({ "value": value(&w.value), "author": w.author.key.to_string(), "author_name": w.author.name, "time": written_time(w.time) })
}

fn as_json(conflict: &Conflict) -> serde_json::Value {
    let (table, key) = (&conflict.table, &conflict.key);
    match &conflict.kind {
        ConflictKind::Cell { column, shown, others } => {
            let other = |(n, w): (usize, &Written)| {
                let mut entry = written_json(w);
                entry["number"] = json!(n + 1);
                entry
            };
            let others: Vec<_> = others.iter().enumerate().map(other).collect();
            json!({ "table": table, "key": key, "kind": "cell", "column": column,
                    "shown": written_json(shown), "others": others })
        }
        ConflictKind::Row { shown, others } => {
            let other = |(n, r): (usize, &OtherRow)| json!({ "number": n + 1, "row": row(&r.values), "author": r.author.key.to_string(), "author_name": r.author.name, "time": written_time(r.time) });
            let others: Vec<_> = others.iter().enumerate().map(other).collect();
            json!({ "table": table, "key": key, "kind": "row", "shown": row(shown), "others": others })
        }
    }
}

fn print(found: &[Conflict], own: &PeerId) {
    if found.is_empty() {
        say!("no conflicts");
    }
    for conflict in found {
        let place = paint(Tone::Title, &format!("{} {}", shown(&conflict.table), shown(&conflict.key)));
        match &conflict.kind {
            ConflictKind::Cell { column, shown: first, others } => {
                say!("{place} {}", shown(column));
                let line = |n: usize, w: &Written| {
                    let (who, when) = (author(&w.author, own), written(w.time));
                    say!("  {n}  {}  by {who}, {when}", shown(&w.value.to_string()));
                };
                line(0, first);
                others.iter().enumerate().for_each(|(n, w)| line(n + 1, w));
            }
            ConflictKind::Row { shown: first, others } => {
                say!("{place} whole rows");
                say!("  0  {}", row_line(first));
                for (n, other) in others.iter().enumerate() {
                    let (who, when) = (author(&other.author, own), written(other.time));
                    say!("  {}  {}  by {who}, {when}", n + 1, row_line(&other.values));
                }
            }
        }
    }
}

fn choose(args: &ChooseArgs) -> Result<(), Failure> {
    let choice = match (&args.column, args.as_new_row) {
        (Some(column), _) => Choice::Cell { column: column.clone(), number: args.number },
        (None, false) => Choice::Row { number: args.number },
        (None, true) => Choice::AsNewRow {
            number: args.number,
            key: args.new_key.clone(),
            with_references: args.with_references,
        },
    };
    let mut replica = open_bound(&Home::open()?, &args.file)?;
    let made = replica.choose(piecewise_server::now(), &args.table, &args.key, &choice).map_err(|e| {
        about(&args.file, e).hint(format!("`piecewise conflicts {}` lists them", args.file.display()))
    })?;
    let (table, number) = (shown(&args.table), args.number);
    let as_json = || {
        json!({ "table": args.table, "key": args.key, "column": args.column, "number": number,
                "new_key": made.as_ref().map(|made| &made.key), "references": made.as_ref().map(|made| made.references) })
    };
    result(as_json, || match &made {
        Some(MadeRow { key, references }) => {
            let followed = match args.with_references {
                true => format!(", and {}", count(*references, "reference follows", "references follow")),
                false => String::new(),
            };
            say!("{table} {} stays as it shows; the other row is {key} now{followed}", args.key);
        }
        None => say!("{table} {} shows number {number} now; it goes out at the next sync", args.key),
    });
    Ok(())
}
