//! `compare`: tables here against the server's, row by row.

use super::{block_on, connect_for, open_bound};
use crate::args::CompareArgs;
use crate::drive::lost;
use crate::home::Home;
use crate::progress::Progress;
use crate::report::{Failure, code};
use piecewise_core::compare::Comparison;
use piecewise_core::link::Link;
use piecewise_core::replica::{Replica, TableStatus};
use piecewise_server::terminal::{Table, Tone, left, number, paint, result, right, shown};
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
    let is_left_out =
        |t: &TableStatus| is_meant(&t.table, &args.tables) && !found.iter().any(|c| c.table == t.table);
    let left_out: Vec<_> = replica.status()?.tables.into_iter().filter(is_left_out).collect();
    let why = |t: &TableStatus| {
        t.stopped.as_ref().map_or("it has not met the server's table".to_owned(), ToString::to_string)
    };
    result(
        || {
            let left_out = left_out.iter().map(|t| json!({ "table": t.table, "not_compared": why(t) }));
            found.iter().map(entry).chain(left_out).collect()
        },
        || {
            print(&found);
            for table in &left_out {
                say!("{}: not compared: {}", paint(Tone::Bad, &shown(&table.table)), shown(&why(table)));
            }
        },
    );
    let is_equal = left_out.is_empty() && found.iter().all(Comparison::is_equal);
    Ok(if is_equal { 0 } else { code::DIFFERENT.exit })
}

fn is_meant(table: &str, tables: &[String]) -> bool {
    tables.is_empty() || tables.iter().any(|t| t.eq_ignore_ascii_case(table))
}

async fn compare(home: &Home, replica: &mut Replica, tables: &[String]) -> Result<Vec<Comparison>, Failure> {
    let (mut connection, server) = connect_for(home, replica).await?;
    let mut link = Link::comparer(replica, server, tables)?;
    let mut progress = Progress::new(true);
    let rows = match progress.is_shown() {
        true => replica.status()?.tables.iter().filter(|t| is_meant(&t.table, tables)).map(|t| t.rows).sum(),
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
