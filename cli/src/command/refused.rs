//! `refused`: rows that the server did not take; `retry` and `revert` end that.

use super::{about, open_bound};
use crate::args::{RefusedArgs, RefusedCommand};
use crate::home::Home;
use crate::report::Failure;
use piecewise_core::replica::RefusedRow;
use piecewise_server::say;
use piecewise_server::terminal::{Tone, count, paint, result, shown, time};
use serde_json::json;

pub(crate) fn run(args: RefusedArgs) -> Result<(), Failure> {
    let home = Home::open()?;
    match (args.command, args.file) {
        (Some(RefusedCommand::Retry { file }), _) => {
            let rows = open_bound(&home, &file)?
                .retry_refused(piecewise_server::now())
                .map_err(|e| about(&file, e))?;
            let words = || {
                let (rows, file) = (count(rows, "row", "rows"), file.display());
                say!("{rows} written again; `piecewise sync {file}` sends them");
            };
            result(|| json!({ "rows": rows }), words);
        }
        (Some(RefusedCommand::Revert { file }), _) => {
            let rows = open_bound(&home, &file)?.revert_refused().map_err(|e| about(&file, e))?;
            result(|| json!({ "rows": rows }), || say!("{} given up", count(rows, "row", "rows")));
        }
        (None, Some(file)) => {
            let found = open_bound(&home, &file)?.refused().map_err(|e| about(&file, e))?;
            let entry = |r: &RefusedRow| json!({ "table": r.table, "key": r.key, "reason": r.reason, "time": time(r.time) });
            result(|| found.iter().map(entry).collect(), || print(&found));
        }
        (None, None) => return Err(Failure::new("name a file")),
    }
    Ok(())
}

fn print(found: &[RefusedRow]) {
    if found.is_empty() {
        say!("no rows were refused");
    }
    for row in found {
        let place = paint(Tone::Title, &format!("{} {}", shown(&row.table), shown(&row.key)));
        say!("{place}: {} ({})", row.reason, time(row.time));
    }
}
