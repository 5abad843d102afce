//! `clone`, `sync`, `watch`, `wait` and `status` of a folder: many databases over one connection.

use super::block_on;
use super::clone::{databases, seen_words};
use super::sync::{Patience, line, print_line, stop_signal};
use super::wait::{describe, needs_somebody, refused_words};
use crate::args::{CloneArgs, ReadArgs, SyncArgs, WaitArgs, WatchArgs};
use crate::connection::connect;
use crate::drive::Summary;
use crate::folder::Folder;
use crate::folder::fleet::Fleet;
use crate::folder::voyage::{Told, Until, Voyage};
use crate::folder::writes::Writes;
use crate::home::{Home, KnownServer};
use crate::progress::Progress;
use crate::report::{Failure, code};
use piecewise_core::survey::Pattern;
use piecewise_server::say;
use piecewise_server::terminal::{Table, count, is_json, left, note, number, result, right, shown};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

pub(crate) fn clone(home: &Home, args: &CloneArgs, server: &KnownServer) -> Result<u8, Failure> {
    let pattern: Pattern = args.database.parse().map_err(|e| {
        Failure::new(format!("{e}")).hint("such as `piecewise clone 'tenant*' FOLDER`").code(code::BAD_NAME)
    })?;
    if args.file.exists() && !args.file.is_dir() {
        return Err(Failure::new(format!("{} is a file", args.file.display()))
            .hint("name a folder: each database gets a file in it")
            .code(code::FILE_EXISTS));
    }
    let folder = Folder::follow(&args.file, &pattern, server)?;
    let exit = once(home, &folder, false)?;
    if !folder.has_file_of(&pattern)? {
        let seen = seen_words(&block_on(databases(home, server))?);
        note(&format!(
            "no database fits {pattern} now; {seen}. The folder follows that name: `piecewise sync {}` brings those that come",
            args.file.display()
        ));
    }
    Ok(exit)
}

pub(super) fn sync(home: &Home, args: &SyncArgs) -> Result<u8, Failure> {
    once(home, &Folder::open(&args.file)?, args.quiet)
}

fn once(home: &Home, folder: &Folder, quiet: bool) -> Result<u8, Failure> {
    let mut fleet = Fleet::new(folder, folder.server(home)?, home)?;
    block_on(talk_once(home, &mut fleet, quiet))?;
    fleet.tell_rest();
    Ok(fleet.code())
}

/// Talks until all files are level that can be.
async fn talk_once(home: &Home, fleet: &mut Fleet<'_>, quiet: bool) -> Result<(), Failure> {
    let path = fleet.folder().path();
    let mut connection = connect(home, fleet.server(), None).await?;
    let voyage = Voyage::new(fleet, &mut connection, None, Progress::new(!quiet))?;
    let told = |told: Told<'_>| match told {
        Told::Folder(databases, summary, failed) if !quiet => print(path, databases, summary, &failed),
        _ => {}
    };
    voyage.run(Until::Level, told).await?;
    connection.close().await;
    Ok(())
}

/// Talks again and again until all files are level.
pub(super) fn wait(home: &Home, args: &WaitArgs) -> Result<(), Failure> {
    let folder = Folder::open(&args.file)?;
    let mut fleet = Fleet::new(&folder, folder.server(home)?, home)?;
    let time = args.timeout.map_or(Duration::MAX, Duration::from_secs);
    let done = block_on(async {
        let level = async {
            let mut patience = Patience::default();
            loop {
                match talk_once(home, &mut fleet, true).await {
                    Ok(()) if fleet.code() == 0 => return all_are_well(home, &folder),
                    Ok(()) => patience.wait(fleet.failure()).await?,
                    Err(failure) => patience.wait(failure).await?,
                }
            }
        };
        match tokio::time::timeout(time, level).await {
            Ok(level) => level.map(|()| true),
            Err(_) => Ok(false),
        }
    })?;
    match done {
        true => {
            result(|| json!({ "level": true }), || {});
            Ok(())
        }
        false => Err(Failure::new("not level in time")
            .hint("`piecewise status FOLDER` shows more")
            .code(code::TIME_IS_UP)),
    }
}

/// Looks for what no talk ends: tables that are stopped, rows that were refused, also in files that were not opened for it.
fn all_are_well(home: &Home, folder: &Folder) -> Result<(), Failure> {
    for file in folder.files()? {
        let replica = super::open(home, &folder.path_of(&file))?;
        if replica.binding().is_some() {
            let needs = needs_somebody(&replica, &replica.waiting()?);
            needs
                .map_err(|failure| Failure { message: format!("{file}: {}", failure.message), ..failure })?;
        }
    }
    Ok(())
}

/// A line for each file that takes part in sync.
/// A table that is stopped makes the exit code 1, as in the status of its file alone.
pub(super) fn status(home: &Home, args: &ReadArgs) -> Result<u8, Failure> {
    let mut exit = 0;
    let folder = Folder::open(&args.file)?;
    let mut table = Table::new(&[left("file"), left("database"), right("tables"), left("caught up")]);
    let mut told = vec![];
    for file in folder.files()? {
        let seen = super::open(home, &folder.path_of(&file)).and_then(|replica| {
            let Some(binding) = replica.binding() else { return Ok(None) };
            let tables = replica.overview(|_| true)?.containers.len();
            let refused = replica.attention()?.refused;
            Ok(Some((binding.database.clone(), tables, replica.waiting()?, refused)))
        });
        let (database, tables, caught_up, why) = match seen {
            Ok(None) => continue,
            Ok(Some((database, tables, waiting, refused))) => {
                let mut why = describe(&waiting);
                why.extend((refused > 0).then(|| refused_words(refused)));
                if waiting.stopped > 0 {
                    exit = code::STOPPED.exit;
                }
                (database, tables, waiting.is_caught_up() && refused == 0, why.join(", "))
            }
            Err(failure) => (String::new(), 0, false, failure.message),
        };
        let words = if caught_up { "yes".to_owned() } else { format!("no: {why}") };
        table.add([shown(&file), shown(&database), number(tables as u64), words]);
        told.push(json!({ "file": file, "database": database, "tables": tables, "caught_up": caught_up, "waits_for": why }));
    }
    let follow: Vec<_> = folder.patterns()?.iter().map(ToString::to_string).collect();
    let path = folder.path().display().to_string();
    result(
        || json!({ "folder": path, "follows": follow, "files": told }),
        || {
            match follow.is_empty() {
                true => say!("follows no pattern: these files alone sync"),
                false => say!("follows {}", follow.join(", ")),
            }
            table.print();
        },
    );
    Ok(exit)
}

pub(super) fn watch(home: &Home, WatchArgs { sync: args, every, .. }: &WatchArgs) -> Result<(), Failure> {
    let folder = Folder::open(&args.file)?;
    let mut fleet = Fleet::new(&folder, folder.server(home)?, home)?;
    (fleet.every, fleet.as_events) = (*every, is_json());
    block_on(async {
        let watching = async {
            // Begun before the first look, so that nothing is missed in between.
            let mut writes = Writes::of(folder.path());
            let mut patience = Patience::default();
            loop {
                let watched = watch_once(home, &mut fleet, &mut writes, &mut patience, args).await;
                let Err(failure) = watched else { continue };
                patience.wait(failure).await?;
            }
        };
        tokio::select! {
            result = watching => result,
            () = stop_signal() => Ok(()),
        }
    })
}

async fn watch_once(
    home: &Home,
    fleet: &mut Fleet<'_>,
    writes: &mut Writes,
    patience: &mut Patience,
    args: &SyncArgs,
) -> Result<(), Failure> {
    let path = fleet.folder().path();
    let mut connection = connect(home, fleet.server(), None).await?;
    let progress = Progress::new(!args.quiet);
    let told = |told: Told<'_>| {
        patience.all_is_well();
        match told {
            _ if args.quiet => {}
            Told::Folder(databases, summary, failed) => print(path, databases, summary, &failed),
            Told::Database(database, summary) => print_line(database, summary),
        }
    };
    let result = Voyage::new(fleet, &mut connection, Some(writes), progress)?.run(Until::Lost, told).await;
    patience.moved(connection.bytes());
    result
}

/// What was exchanged until all databases were level.
fn print(folder: &Path, databases: usize, summary: &Summary, failed: &[&str]) {
    let folder = folder.display().to_string();
    if is_json() {
        let level = failed.is_empty();
        let told = json!({
            "folder": folder, "databases": databases, "level": level, "failed": failed, "moved": summary,
        });
        return say!("{told}");
    }
    let databases = count(databases as u64, "database", "databases");
    say!("{}", line(&format!("{folder}, {databases}"), summary));
}
