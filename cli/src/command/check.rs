//! `check`: the tables of a file against their documents, row by row; what differs is healed.

use super::open_bound;
use crate::args::ReadArgs;
use crate::home::Home;
use crate::output::print_json;
use crate::report::{Failure, code};
use piecewise_server::say;
use piecewise_server::scrubber::check_all;
use serde_json::json;

pub(crate) fn run(args: &ReadArgs) -> Result<u8, Failure> {
    let home = Home::open()?;
    let mut replica = open_bound(&home, &args.file)?;
    let found = check_all(&mut replica, |_| {})?;
    let status = replica.check_status()?;
    if args.output.json {
        print_json(&json!({
            "found": status.found, "unhealed": status.unhealed, "tables": found.as_json(&status),
        }));
    } else {
        found.lines(&status).iter().for_each(|line| say!("{line}"));
    }
    Ok(if status.unhealed == 0 { 0 } else { code::UNHEALED })
}
