//! `compare`: tables here against the server's, row by row.

use super::{block_on, connect_for, open_bound};
use crate::args::CompareArgs;
use crate::home::Home;
use crate::output::{print_columns, print_json};
use crate::report::{Failure, code};
use piecewise_core::compare::Comparison;
use piecewise_core::link::Link;
use piecewise_core::replica::Replica;
use piecewise_server::now;
use piecewise_server::say;
use serde_json::json;

/// Keys listed of each kind for people; JSON has all.
const KEYS_SHOWN: usize = 20;

pub(crate) fn run(args: &CompareArgs) -> Result<u8, Failure> {
    let home = Home::open()?;
    let mut replica = open_bound(&home, &args.file)?;
    let found = block_on(compare(&home, &mut replica, &args.tables))?;
    if args.output.json {
        let entry = |c: &Comparison| {
            json!({ "table": c.table, "matched": c.matched, "different": c.different,
                    "missing": c.missing, "extra": c.extra })
        };
        print_json(&found.iter().map(entry).collect());
    } else {
        print(&found);
    }
    Ok(if found.iter().all(Comparison::is_equal) { 0 } else { code::DIFFERENT })
}

async fn compare(home: &Home, replica: &mut Replica, tables: &[String]) -> Result<Vec<Comparison>, Failure> {
    let (mut connection, server) = connect_for(home, replica).await?;
    let mut link = Link::comparer(replica, server, tables)?;
    let lost = || Failure::new("the connection was lost").code(code::UNREACHABLE);
    loop {
        while let Some(frame) = link.next_frame(replica, now())? {
            if !connection.send(frame.to_vec()).await {
                return Err(lost());
            }
        }
        if let Some(found) = link.comparison() {
            let found = found.to_vec();
            connection.close().await;
            return Ok(found);
        }
        let arrived = connection.incoming.recv().await.ok_or_else(lost)??;
        link.receive(replica, arrived.frame, now())?;
    }
}

fn print(found: &[Comparison]) {
    let mut lines = vec![["table", "matched", "different", "missing", "extra"].map(str::to_owned).to_vec()];
    for c in found {
        let (different, missing, extra) = (c.different.len(), c.missing.len(), c.extra.len());
        let numbers = [c.matched.to_string(), different.to_string(), missing.to_string(), extra.to_string()];
        lines.push(std::iter::once(c.table.clone()).chain(numbers).collect());
    }
    print_columns(&lines);
    for c in found {
        for (what, keys) in
            [("different", &c.different), ("missing here", &c.missing), ("extra here", &c.extra)]
        {
            for key in keys.iter().take(KEYS_SHOWN) {
                say!("{} {key}: {what}", c.table);
            }
            if keys.len() > KEYS_SHOWN {
                say!("{}: {} more {what}; --json lists all", c.table, keys.len() - KEYS_SHOWN);
            }
        }
    }
}
