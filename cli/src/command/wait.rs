//! `wait`: until a file and its server hold the same.

use super::{block_on, folder, open, sync};
use crate::args::WaitArgs;
use crate::drive::{Writes, back_off};
use crate::home::Home;
use crate::progress::Progress;
use crate::report::{Failure, code};
use crate::watching::Watching;
use piecewise_core::replica::{Replica, ReplicaError, Waiting};
use piecewise_server::terminal::{count, result};
use serde_json::json;
use std::time::Duration;

pub(crate) fn run(args: &WaitArgs) -> Result<(), Failure> {
    let home = Home::open()?;
    if args.file.is_dir() {
        return folder::wait(&home, args);
    }
    let mut replica = open(&home, &args.file)?;
    replica.binding().ok_or(ReplicaError::NotBound)?;
    let mut last = None;
    let done = block_on(async {
        let level = until_level(args, &home, &mut replica, &mut last);
        match args.timeout {
            None => level.await.map(|()| true),
            Some(seconds) => match tokio::time::timeout(Duration::from_secs(seconds), level).await {
                Ok(level) => level.map(|()| true),
                Err(_) => Ok(false),
            },
        }
    })?;
    match done {
        true => {
            result(|| json!({ "level": true }), || {});
            Ok(())
        }
        false => Err(time_is_up(&replica.waiting()?, last)),
    }
}

/// `last` is told why the last try of this command's own failed.
async fn until_level(
    args: &WaitArgs,
    home: &Home,
    replica: &mut Replica,
    last: &mut Option<Failure>,
) -> Result<(), Failure> {
    let mut writes = Writes::of(&args.file);
    let mut attempt = 0;
    loop {
        // What a watch notes is written to the file, so its writes tell when to look again.
        while Watching::is_on(home, replica)? {
            let waiting = replica.waiting()?;
            if waiting.is_over() {
                return needs_somebody(replica, &waiting);
            }
            writes.wait(replica).await?;
            writes.any(replica)?;
        }
        match sync::once(home, replica, Progress::new(false)).await {
            Ok(done) => {
                let exit = sync::tell_what_is_left_out(&done.left_out, replica, &args.file);
                return match exit {
                    0 => Ok(()),
                    exit if exit == code::FAILED.exit => needs_somebody(replica, &replica.waiting()?),
                    _ => Err(left_out()),
                };
            }
            Err(failure) if failure.may_pass => *last = Some(failure),
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(back_off(attempt)).await;
        attempt += 1;
    }
}

/// Both sides are level, as far as they can be without anybody's help; fails if a table is stopped or rows were refused.
pub(crate) fn needs_somebody(replica: &Replica, waiting: &Waiting) -> Result<(), Failure> {
    if waiting.stopped > 0 {
        let tables = count(waiting.stopped, "table is", "tables are");
        return Err(Failure::new(format!("{tables} stopped, all others are level"))
            .hint("`piecewise status FILE` says why")
            .code(code::STOPPED));
    }
    match replica.attention()?.refused {
        0 => Ok(()),
        rows => Err(Failure::new(format!("{}, all others are level", refused_words(rows)))
            .hint("`piecewise refused FILE` says which and why")
            .code(code::REFUSED)),
    }
}

fn left_out() -> Failure {
    Failure::new("not all tables can become level").code(code::NO_INTAKE)
}

fn time_is_up(waiting: &Waiting, last: Option<Failure>) -> Failure {
    let told = describe(waiting).join(", ");
    let message = match last {
        Some(failure) => format!("not level in time: {told}; {}", failure.message),
        None => format!("not level in time: {told}"),
    };
    Failure::new(message).hint("`piecewise status FILE` shows more").code(code::TIME_IS_UP)
}

/// That rows of this device were refused, in words.
pub(super) fn refused_words(rows: u64) -> String {
    format!("{} refused", count(rows, "row was", "rows were"))
}

/// What keeps the two sides apart, in words.
pub(super) fn describe(waiting: &Waiting) -> Vec<String> {
    let mut parts = vec![];
    if waiting.stopped > 0 {
        parts.push(format!("{} stopped", count(waiting.stopped, "table is", "tables are")));
    }
    if waiting.unmet > 0 && waiting.talk.is_some() {
        let tables = count(waiting.unmet, "table has", "tables have");
        parts.push(format!("{tables} not met the server's yet"));
    }
    if waiting.schema_changed {
        parts.push("the schema has changed since it was synced".into());
    }
    if waiting.rows > 0 {
        parts.push(format!("{} not captured", count(waiting.rows, "write", "writes")));
    }
    if waiting.segments > 0 {
        parts.push(format!("{} not acknowledged", count(waiting.segments, "segment", "segments")));
    }
    match waiting.talk {
        None => parts.push("the server has not been met".into()),
        Some(talk) => {
            if talk.segments_to_come > 0 {
                parts.push(format!("{} to come", count(talk.segments_to_come, "segment", "segments")));
            }
            if let Some(stop) = talk.stopped {
                parts.push(format!("the server takes nothing in: {stop}"));
            }
            if parts.is_empty() && !talk.level {
                parts.push("the last talk with the server did not end level".into());
            }
        }
    }
    parts
}
