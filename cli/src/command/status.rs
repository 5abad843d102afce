//! `status`: which tables sync, and what waits.

use super::open;
use crate::args::ReadArgs;
use crate::home::Home;
use crate::output::{print_columns, print_json, time};
use crate::report::Failure;
use piecewise_server::say;
use serde_json::json;

pub(crate) fn run(args: &ReadArgs) -> Result<(), Failure> {
    let home = Home::open()?;
    let replica = open(&home, &args.file)?;
    let status = replica.status()?;
    let untracked = replica.untracked()?;
    let binding = replica.binding();
    let server = binding.and_then(|b| home.of_realm(&b.realm).ok()).map(|s| s.address.clone());
    if args.output.json {
        let tables: Vec<_> = status
            .tables
            .iter()
            .map(|t| {
                json!({
                    "table": t.table, "container": t.container, "rows": t.rows, "segments": t.segments,
                    "segments_waiting": t.waiting_segments, "held": t.held, "refused": t.refused,
                    "root": t.root, "read_only": t.read_only, "met": t.met,
                })
            })
            .collect();
        print_json(&json!({
            "database": binding.map(|b| &b.database), "server": server, "tables": tables, "untracked": untracked,
            "writes_waiting": status.waiting_rows, "last_level": status.last_level.map(time),
        }));
        return Ok(());
    }
    let Some(binding) = binding else {
        say!("{} is not connected to a database", args.file.display());
        say!("tables: {}", untracked.join(", "));
        say!("`piecewise track FILE TABLE --as DATABASE` lets tables take part in sync");
        return Ok(());
    };
    say!("database    {}", binding.database);
    say!("server      {}", server.as_deref().unwrap_or("not joined from this home"));
    say!("last level  {}", status.last_level.map_or("never".into(), time));
    say!("writes not captured yet  {}", status.waiting_rows);
    let title = ["table", "rows", "segments", "to send", "held", "refused", "root", ""];
    let mut lines = vec![title.map(str::to_owned).to_vec()];
    for t in &status.tables {
        let note = match (t.met, t.read_only) {
            (false, _) => "the server has not been met yet",
            (_, true) => "read only",
            _ => "",
        };
        lines.push(vec![
            t.table.clone(),
            t.rows.to_string(),
            t.segments.to_string(),
            t.waiting_segments.to_string(),
            t.held.to_string(),
            t.refused.to_string(),
            t.root.chars().take(16).collect(),
            note.to_owned(),
        ]);
    }
    print_columns(&lines);
    if !untracked.is_empty() {
        say!("not tracked: {}", untracked.join(", "));
    }
    Ok(())
}
