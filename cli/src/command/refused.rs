//! `refused`: rows that the server did not take; `retry` and `revert` end that.

use super::{about, open_bound};
use crate::args::{RefusedArgs, RefusedCommand};
use crate::home::Home;
use crate::output::{count, print_json, time};
use crate::report::Failure;
use piecewise_server::say;
use serde_json::json;

pub(crate) fn run(args: RefusedArgs) -> Result<(), Failure> {
    let home = Home::open()?;
    match (args.command, args.file) {
        (Some(RefusedCommand::Retry { file }), _) => {
            let rows = open_bound(&home, &file)?
                .retry_refused(piecewise_server::now())
                .map_err(|e| about(&file, e))?;
            say!(
                "{} written again; `piecewise sync {}` sends them",
                count(rows, "row", "rows"),
                file.display()
            );
        }
        (Some(RefusedCommand::Revert { file }), _) => {
            let rows = open_bound(&home, &file)?.revert_refused().map_err(|e| about(&file, e))?;
            say!("{} given up", count(rows, "row", "rows"));
        }
        (None, Some(file)) => {
            let found = open_bound(&home, &file)?.refused().map_err(|e| about(&file, e))?;
            if args.output.json {
                let entry = |r: &piecewise_core::replica::RefusedRow| json!({ "table": r.table, "key": r.key, "reason": r.reason, "time": time(r.time) });
                print_json(&found.iter().map(entry).collect());
                return Ok(());
            }
            if found.is_empty() {
                say!("no rows were refused");
            }
            for row in &found {
                say!("{} {}: {} ({})", row.table, row.key, row.reason, time(row.time));
            }
        }
        (None, None) => return Err(Failure::new("name a file")),
    }
    Ok(())
}
