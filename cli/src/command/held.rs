//! `held`: rows that the documents have and the table cannot show; `choose`, `edit` and `discard` end that.

use super::{about, open_bound};
use crate::args::{HeldArgs, HeldCommand, HeldRowArgs};
use crate::home::Home;
use crate::output::{print_json, row, row_line};
use crate::report::Failure;
use piecewise_core::replica::{HeldRow, ReplicaError};
use piecewise_server::say;
use serde_json::json;
use std::path::Path;

pub(crate) fn run(args: HeldArgs) -> Result<(), Failure> {
    match (args.command, args.file) {
        (Some(HeldCommand::Choose(row)), _) => choose(&row),
        (Some(HeldCommand::Edit { row, values }), _) => edit(&row, &values),
        (Some(HeldCommand::Discard(row)), _) => discard(&row),
        (None, Some(file)) => list(&file, args.table.as_deref(), args.output.json),
        (None, None) => Err(Failure::new("name a file")),
    }
}

fn list(file: &Path, table: Option<&str>, as_json: bool) -> Result<(), Failure> {
    let mut replica = open_bound(&Home::open()?, file)?;
    let found = replica.held(table).map_err(|e| about(file, e))?;
    if as_json {
        let entry =
            |h: &HeldRow| json!({ "table": h.table, "key": h.key, "cause": h.cause, "row": row(&h.values) });
        print_json(&found.iter().map(entry).collect());
        return Ok(());
    }
    if found.is_empty() {
        say!("no rows are held");
    }
    for held in &found {
        say!("{} {}: {}", held.table, held.key, held.cause);
        say!("  {}", row_line(&held.values));
    }
    Ok(())
}

fn choose(row: &HeldRowArgs) -> Result<(), Failure> {
    let mut replica = open_bound(&Home::open()?, &row.file)?;
    let losers =
        replica.choose_held(piecewise_server::now(), &row.table, &row.key).map_err(|e| with_hint(row, e))?;
    say!(
        "{} {} shows now; held instead: {}. It goes out at the next sync",
        row.table,
        row.key,
        losers.join(" ")
    );
    Ok(())
}

fn edit(row: &HeldRowArgs, values: &[String]) -> Result<(), Failure> {
    let pair = |text: &String| {
        let (column, value) =
            text.split_once('=').ok_or_else(|| Failure::new(format!("{text:?} is no COLUMN=VALUE")))?;
        Ok((column.to_owned(), value.to_owned()))
    };
    let columns = values.iter().map(pair).collect::<Result<Vec<_>, Failure>>()?;
    let mut replica = open_bound(&Home::open()?, &row.file)?;
    let shows = replica
        .edit_held(piecewise_server::now(), &row.table, &row.key, &columns)
        .map_err(|e| with_hint(row, e))?;
    match shows {
        true => say!("{} {} shows now; it goes out at the next sync", row.table, row.key),
        false => say!(
            "{} {} is edited and still held; `piecewise held {}` says why",
            row.table,
            row.key,
            row.file.display()
        ),
    }
    Ok(())
}

fn discard(row: &HeldRowArgs) -> Result<(), Failure> {
    let mut replica = open_bound(&Home::open()?, &row.file)?;
    replica.discard_held(piecewise_server::now(), &row.table, &row.key).map_err(|e| with_hint(row, e))?;
    say!("{} {} is deleted; that goes out at the next sync", row.table, row.key);
    Ok(())
}

fn with_hint(row: &HeldRowArgs, error: ReplicaError) -> Failure {
    about(&row.file, error).hint(format!("`piecewise held {}` lists them", row.file.display()))
}
