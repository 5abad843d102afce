//! `history`: all that was ever done to a row.

use super::{about, open};
use crate::args::HistoryArgs;
use crate::home::Home;
use crate::output::{print_json, time, written};
use crate::report::Failure;
use serde_json::{Map, json};

pub(crate) fn run(args: &HistoryArgs) -> Result<(), Failure> {
    let mut replica = open(&Home::open()?, &args.file)?;
    let entries = replica.history(&args.table, &args.key).map_err(|e| about(&args.file, e))?;
    if args.output.json {
        let entry = |e: &piecewise_core::replica::HistoryEntry| {
            let columns: Map<_, _> =
                e.columns.iter().map(|(name, what)| (name.clone(), json!(what))).collect();
            json!({ "time": time(e.time), "author": e.author.to_string(), "kind": e.kind, "columns": columns,
                    "segment": e.segment.to_string(), "state": e.state })
        };
        print_json(&entries.iter().map(entry).collect());
        return Ok(());
    }
    for e in &entries {
        let columns: Vec<_> = e.columns.iter().map(|(name, what)| format!("{name}={what}")).collect();
        let state = if e.state == "counts" { String::new() } else { format!("  ({})", e.state) };
        println!("{}  {}  {:<6}  {}{state}", written(e.time), e.author.short(), e.kind, columns.join(" "));
    }
    Ok(())
}
