//! `held`: rows that the documents have and the table cannot show; `choose`, `edit` and `discard` end that.

use super::{about, open_bound};
use crate::args::{HeldArgs, HeldCommand, HeldRowArgs};
use crate::home::Home;
use crate::output::{row, row_line};
use crate::report::{Failure, code};
use piecewise_core::replica::{HeldRow, ReplicaError};
use piecewise_server::say;
use piecewise_server::terminal::{Tone, paint, result, shown};
use serde_json::json;
use std::path::Path;

pub(crate) fn run(args: HeldArgs) -> Result<(), Failure> {
    match (args.command, args.file) {
        (Some(HeldCommand::Choose(row)), _) => choose(&row),
        (Some(HeldCommand::Edit { row, values }), _) => edit(&row, &values),
        (Some(HeldCommand::Discard(row)), _) => discard(&row),
        (None, Some(file)) => list(&file, args.table.as_deref()),
        (None, None) => Err(Failure::new("name a file")),
    }
}

fn list(file: &Path, table: Option<&str>) -> Result<(), Failure> {
    let mut replica = open_bound(&Home::open()?, file)?;
    replica.follow_schema(piecewise_server::now()).map_err(|e| about(file, e))?;
    let found = replica.held(table).map_err(|e| about(file, e))?;
    let entry =
        |h: &HeldRow| json!({ "table": h.table, "key": h.key, "cause": h.cause, "row": row(&h.values) });
    result(|| found.iter().map(entry).collect(), || print(&found));
    Ok(())
}

fn print(found: &[HeldRow]) {
    if found.is_empty() {
        say!("no rows are held");
    }
    for held in found {
        let place = paint(Tone::Title, &format!("{} {}", shown(&held.table), shown(&held.key)));
        say!("{place}: {}", shown(&held.cause));
        say!("  {}", row_line(&held.values));
    }
}

fn choose(row: &HeldRowArgs) -> Result<(), Failure> {
    let mut replica = open_bound(&Home::open()?, &row.file)?;
    let losers =
        replica.choose_held(piecewise_server::now(), &row.table, &row.key).map_err(|e| with_hint(row, e))?;
    result(
        || json!({ "table": row.table, "key": row.key, "shows": true, "held": losers }),
        || {
            // Rows that were held themselves, and have the same, are still.
            let instead = match losers.is_empty() {
                true => String::new(),
                false => format!("; held instead: {}", losers.join(" ")),
            };
            say!("{} {} shows now{instead}. It goes out at the next sync", row.table, row.key);
        },
    );
    Ok(())
}

fn edit(row: &HeldRowArgs, values: &[String]) -> Result<(), Failure> {
    let pair = |text: &String| {
        let (column, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("{text:?} is no COLUMN=VALUE")).code(code::INVALID))?;
        Ok((column.to_owned(), value.to_owned()))
    };
    let columns = values.iter().map(pair).collect::<Result<Vec<_>, Failure>>()?;
    let mut replica = open_bound(&Home::open()?, &row.file)?;
    let shows = replica
        .edit_held(piecewise_server::now(), &row.table, &row.key, &columns)
        .map_err(|e| with_hint(row, e))?;
    let file = row.file.display();
    result(
        || json!({ "table": row.table, "key": row.key, "shows": shows }),
        || match shows {
            true => say!("{} {} shows now; it goes out at the next sync", row.table, row.key),
            false => {
                say!("{} {} is edited and still held; `piecewise held {file}` says why", row.table, row.key)
            }
        },
    );
    Ok(())
}

fn discard(row: &HeldRowArgs) -> Result<(), Failure> {
    let mut replica = open_bound(&Home::open()?, &row.file)?;
    replica.discard_held(piecewise_server::now(), &row.table, &row.key).map_err(|e| with_hint(row, e))?;
    result(
        || json!({ "table": row.table, "key": row.key, "deleted": true }),
        || say!("{} {} is deleted; that goes out at the next sync", row.table, row.key),
    );
    Ok(())
}

fn with_hint(row: &HeldRowArgs, error: ReplicaError) -> Failure {
    about(&row.file, error).hint(format!("`piecewise held {}` lists them", row.file.display()))
}
