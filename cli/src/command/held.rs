//! `held`: rows that the documents have and the table cannot show.

use super::{about, open_bound};
use crate::args::ReadTableArgs;
use crate::home::Home;
use crate::output::{print_json, row, row_line};
use crate::report::Failure;
use piecewise_server::say;
use serde_json::json;

pub(crate) fn run(args: &ReadTableArgs) -> Result<(), Failure> {
    let mut replica = open_bound(&Home::open()?, &args.file)?;
    let found = replica.held(args.table.as_deref()).map_err(|e| about(&args.file, e))?;
    if args.output.json {
        let entry = |h: &piecewise_core::replica::HeldRow| json!({ "table": h.table, "key": h.key, "cause": h.cause, "row": row(&h.values) });
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
