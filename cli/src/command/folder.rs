//! `clone`, `sync` and `watch` of a folder: many databases over one connection.

use super::block_on;
use super::sync::{Patience, line, print_line, stop_signal};
use crate::args::{CloneArgs, SyncArgs};
use crate::connection::connect;
use crate::drive::Summary;
use crate::folder::Folder;
use crate::folder::fleet::Fleet;
use crate::folder::voyage::{Told, Until, Voyage};
use crate::folder::writes::Writes;
use crate::home::{Home, KnownServer};
use crate::output::count;
use crate::progress::Progress;
use crate::report::Failure;
use piecewise_core::survey::Pattern;
use piecewise_server::say;
use serde_json::json;
use std::path::Path;

pub(crate) fn clone(home: &Home, args: &CloneArgs, server: &KnownServer) -> Result<u8, Failure> {
    let pattern: Pattern = args
        .database
        .parse()
        .map_err(|e| Failure::new(format!("{e}")).hint("such as `piecewise clone 'tenant*' FOLDER`"))?;
    if args.file.exists() && !args.file.is_dir() {
        return Err(Failure::new(format!("{} is a file", args.file.display()))
            .hint("name a folder: each database gets a file in it"));
    }
    let folder = Folder::follow(&args.file, &pattern, server)?;
    once(home, &folder, false, args.output.json)
}

pub(super) fn sync(home: &Home, args: &SyncArgs) -> Result<u8, Failure> {
    once(home, &Folder::open(&args.file)?, args.quiet, args.output.json)
}

fn once(home: &Home, folder: &Folder, quiet: bool, as_json: bool) -> Result<u8, Failure> {
    let mut fleet = Fleet::new(folder, folder.server(home)?, home)?;
    block_on(async {
        let mut connection = connect(home, fleet.server(), None).await?;
        let voyage = Voyage::new(&mut fleet, &mut connection, None, Progress::new(!quiet && !as_json))?;
        let told = |told: Told<'_>| match told {
            Told::Folder(databases, summary, failed) if !quiet => {
                print(folder.path(), databases, summary, &failed, as_json);
            }
            _ => {}
        };
        voyage.run(Until::Level, told).await?;
        connection.close().await;
        Ok(())
    })?;
    fleet.tell_rest();
    Ok(fleet.code())
}

pub(super) fn watch(home: &Home, args: &SyncArgs) -> Result<(), Failure> {
    let folder = Folder::open(&args.file)?;
    let mut fleet = Fleet::new(&folder, folder.server(home)?, home)?;
    block_on(async {
        let watching = async {
            // Begun before the first look, so that nothing is missed in between.
            let mut writes = Writes::of(folder.path());
            let mut patience = Patience::default();
            loop {
                let Err(failure) = watch_once(home, &mut fleet, &mut writes, args).await else { continue };
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
    args: &SyncArgs,
) -> Result<(), Failure> {
    let (as_json, path) = (args.output.json, fleet.folder().path());
    let mut connection = connect(home, fleet.server(), None).await?;
    let progress = Progress::new(!args.quiet && !as_json);
    let told = |told: Told<'_>| match told {
        _ if args.quiet => {}
        Told::Folder(databases, summary, failed) => print(path, databases, summary, &failed, as_json),
        Told::Database(database, summary) => print_line(database, summary, as_json),
    };
    Voyage::new(fleet, &mut connection, Some(writes), progress)?.run(Until::Lost, told).await
}

/// What was exchanged until all databases were level.
fn print(folder: &Path, databases: usize, summary: &Summary, failed: &[&str], as_json: bool) {
    let folder = folder.display().to_string();
    if as_json {
        let level = failed.is_empty();
        let told = json!({
            "folder": folder, "databases": databases, "level": level, "failed": failed, "moved": summary,
        });
        return say!("{told}");
    }
    let databases = count(databases as u64, "database", "databases");
    say!("{}", line(&format!("{folder}, {databases}"), summary));
}
