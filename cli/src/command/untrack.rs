//! `untrack`: tables end to take part in sync.

use super::{about, open_bound};
use crate::args::TablesArgs;
use crate::home::Home;
use crate::output::{row, row_line};
use crate::report::{Failure, code};
use piecewise_core::replica::{HeldRow, ReplicaError};
use piecewise_server::terminal::{count, is_json, result, shown};
use piecewise_server::{say, tell};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

pub(crate) fn run(args: &TablesArgs) -> Result<(), Failure> {
    let home = Home::open()?;
    let mut replica = open_bound(&home, &args.file)?;
    let tables: Vec<_> = match args.all {
        true => replica.status()?.tables.into_iter().map(|t| t.table).collect(),
        false => args.tables.clone(),
    };
    let mut written = Ok(0);
    let done = replica.untrack_leaving(&tables, |rows| match &args.leave_held {
        Some(path) => {
            written = write_held(path, rows).map(|()| rows.len());
            let failed = written.as_ref().err().map(|failure| failure.message.clone());
            failed.map_or(Ok(()), |what| Err(ReplicaError::Invalid { what }))
        }
        None => Err(ReplicaError::Held { rows: rows.to_vec() }),
    });
    let left = written?;
    let back = done.map_err(|error| {
        if let ReplicaError::Held { rows } = &error {
            rows.iter().for_each(tell_held);
        }
        about(&args.file, error)
    })?;
    let as_json =
        || json!({ "tables": tables, "put_back": back, "left_held": left, "file": args.leave_held });
    result(as_json, || {
        tables.iter().for_each(|table| say!("{table} is no longer tracked"));
        if back > 0 {
            say!("{} put back into their tables", count(back, "held row was", "held rows were"));
        }
        if let (1.., Some(path)) = (left, &args.leave_held) {
            say!("{} in {}", count(left as u64, "held row is", "held rows are"), path.display());
        }
    });
    Ok(())
}

fn as_json(held: &HeldRow) -> Value {
    json!({ "table": held.table, "key": held.key, "cause": held.cause, "row": row(&held.values) })
}

/// Names a row that keeps its table from being let go.
fn tell_held(held: &HeldRow) {
    if is_json() {
        return tell!("{}", json!({ "held": as_json(held) }));
    }
    tell!("{} {}: {}", shown(&held.table), shown(&held.key), shown(&held.cause));
    tell!("  {}", row_line(&held.values));
}

/// Writes held rows to a new file that others cannot read, and waits until it is on the disk.
fn write_held(path: &Path, rows: &[HeldRow]) -> Result<(), Failure> {
    let text = Value::from(rows.iter().map(as_json).collect::<Vec<_>>()).to_string();
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let write = || -> std::io::Result<()> {
        let mut file = options.open(path)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        // The name is on the disk once its folder is.
        #[cfg(unix)]
        if let Some(folder) = path.canonicalize()?.parent() {
            std::fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|error| {
        Failure::new(format!("{} could not be written: {error}", path.display()))
            .hint("name a file that does not exist yet, in a folder that can be written; nothing was done")
            .code(code::FILE)
    })
}
