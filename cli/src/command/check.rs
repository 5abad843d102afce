//! `check`: the tables of a file against their documents, row by row; what differs is healed.

use super::open_bound;
use super::sync::stopped_json;
use crate::args::ReadArgs;
use crate::home::Home;
use crate::report::{Failure, code};
use piecewise_server::say;
use piecewise_server::scrubber::check_all;
use piecewise_server::terminal::result;
use serde_json::json;

pub(crate) fn run(args: &ReadArgs) -> Result<u8, Failure> {
    let home = Home::open()?;
    let mut replica = open_bound(&home, &args.file)?;
    let found = check_all(&mut replica, |_| {})?;
    let status = replica.check_status()?;
    let stopped = replica.stopped();
    let as_json = || {
        let stopped: Vec<_> = stopped.iter().map(|(table, s)| stopped_json(table, s)).collect();
        json!({
            "found": status.found, "unhealed": status.unhealed, "tables": found.as_json(&status), "stopped": stopped,
        })
    };
    result(as_json, || found.lines(&status).iter().for_each(|line| say!("{line}")));
    for (table, stopped) in &stopped {
        Failure::new(format!("table {table} was not checked, it is stopped: {stopped}"))
            .hint(stopped.hint(&args.file.display().to_string(), table))
            .code(code::STOPPED)
            .tell();
    }
    Ok(match (status.unhealed, stopped.is_empty()) {
        (0, true) => 0,
        (0, false) => code::STOPPED.exit,
        _ => code::UNHEALED.exit,
    })
}
