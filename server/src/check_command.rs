//! `check`: tables against their documents, from the command line, while the server runs or not.

use crate::{Failure, no_database};
use piecewise_core::replica::{HeldRow, Replica, ReplicaError};
use piecewise_core::scrub::CheckStatus;
use piecewise_server::config::CheckArgs;
use piecewise_server::databases::existing;
use piecewise_server::say;
use piecewise_server::scrubber::{Found, check_all};
use piecewise_server::supervisor::Supervisor;
use piecewise_server::terminal::{is_json, result, shown};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// Held rows of a database listed at most.
const HELD_TOLD: usize = 20;

pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let folder = &args.data.data;
    let supervisor = Supervisor::existing(folder)?;
    let names = existing(folder);
    let names = match &args.database {
        None => names,
        Some(name) if names.contains(name) => vec![name.clone()],
        Some(name) => {
            return Err(no_database(name, &names.join(", ")));
        }
    };
    let (mut unhealed, mut entries) = (0, vec![]);
    for name in names {
        let about = |error: ReplicaError| Failure::from(format!("{name}: {error}"));
        let (status, found, held) = check(&supervisor, folder, &name).map_err(about)?;
        unhealed += status.unhealed;
        if is_json() {
            let row = |row: &HeldRow| json!({ "table": row.table, "key": row.key, "cause": row.cause });
            let held: Vec<_> = held.iter().map(row).collect();
            entries.push(json!({ "database": name, "tables": found.as_json(&status), "held": held }));
            continue;
        }
        found.lines(&status).iter().for_each(|line| say!("{name}/{line}"));
        for row in held.iter().take(HELD_TOLD) {
            say!("{}", shown(&format!("{name}/{}: row {} is held: {}", row.table, row.key, row.cause)));
        }
        if held.len() > HELD_TOLD {
            say!("{name}: {} more rows are held; `--json` lists all", held.len() - HELD_TOLD);
        }
    }
    result(|| entries.into(), || {});
    Ok(if unhealed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(
    supervisor: &Supervisor,
    folder: &Path,
    name: &str,
) -> Result<(CheckStatus, Found, Vec<HeldRow>), ReplicaError> {
    let path = folder.join(format!("{name}.db"));
    let identity = supervisor.identity.clone();
    let mut replica = Replica::open(&path, false, identity, piecewise_server::chance())?.into_server();
    let found = check_all(&mut replica, |_| {})?;
    Ok((replica.check_status()?, found, replica.held(None)?))
}
