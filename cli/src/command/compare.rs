//! `compare`: tables here against the server's, row by row.

use super::{block_on, connect_for, open_bound};
use crate::args::CompareArgs;
use crate::drive::lost;
use crate::home::Home;
use crate::progress::Progress;
use crate::report::{Failure, code};
use piecewise_core::compare::Comparison;
use piecewise_core::link::Link;
use piecewise_core::replica::Replica;
use piecewise_server::terminal::{Table, left, number, result, right, shown};
use piecewise_server::{now, say};
use serde_json::json;

/// Keys listed of each kind for people; JSON has all.
const KEYS_SHOWN: usize = 20;

pub(crate) fn run(args: &CompareArgs) -> Result<u8, Failure> {
    let home = Home::open()?;
    let mut replica = open_bound(&home, &args.file)?;
    let found = block_on(compare(&home, &mut replica, &args.tables))?;
    let entry = |c: &Comparison| {
        json!({ "table": c.table, "matched": c.matched, "different": c.different,
                "missing": c.missing, "extra": c.extra })
    };
    result(|| found.iter().map(entry).collect(), || print(&found));
    Ok(if found.iter().all(Comparison::is_equal) { 0 } else { code::DIFFERENT.exit })
}

async fn compare(home: &Home, replica: &mut Replica, tables: &[String]) -> Result<Vec<Comparison>, Failure> {
    let (mut connection, server) = connect_for(home, replica).await?;
    let mut link = Link::comparer(replica, server, tables)?;
    let is_meant = |table: &String| tables.is_empty() || tables.iter().any(|t| t.eq_ignore_ascii_case(table));
    let mut progress = Progress::new(true);
    let rows = match progress.is_shown() {
        true => replica.status()?.tables.iter().filter(|t| is_meant(&t.table)).map(|t| t.rows).sum(),
        false => 0,
    };
    loop {
        while let Some(frame) = link.next_frame(replica, now())? {
            if !connection.send(frame.to_vec()).await {
                return Err(lost());
            }
        }
        if let Some(found) = link.comparison() {
            let found = found.to_vec();
            progress.finish();
            connection.close().await;
            return Ok(found);
        }
        let arrived = connection.incoming.recv().await.ok_or_else(lost)??;
        link.receive(replica, arrived.frame, now())?;
        progress.compared(link.compared(), rows);
    }
}

fn print(found: &[Comparison]) {
    let mut table =
        Table::new(&[left("table"), right("matched"), right("different"), right("missing"), right("extra")]);
    for c in found {
        let figures = [c.matched, c.different.len() as u64, c.missing.len() as u64, c.extra.len() as u64];
        table.add([shown(&c.table)].into_iter().chain(figures.map(number)));
    }
    table.print();
    for c in found {
        for (what, keys) in
            [("different", &c.different), ("missing here", &c.missing), ("extra here", &c.extra)]
        {
            for key in keys.iter().take(KEYS_SHOWN) {
                say!("{} {}: {what}", shown(&c.table), shown(key));
            }
            if keys.len() > KEYS_SHOWN {
                let more = number((keys.len() - KEYS_SHOWN) as u64);
                say!("{}: {more} more {what}; --json lists all", shown(&c.table));
            }
        }
    }
}
