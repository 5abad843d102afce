//! `clone`: a new file with every table of a database that one may see; or a folder with many, see `folder`.

use super::{about, block_on};
use crate::args::CloneArgs;
use crate::connection::connect;
use crate::drive::{Drive, lost};
use crate::home::{Home, KnownServer};
use crate::progress::Progress;
use crate::report::{Failure, code};
use piecewise_core::replica::{Binding, Follow, Replica, TableStatus};
use piecewise_core::survey::{BadPattern, Named, Pattern, Surveyor};
use piecewise_server::say;
use piecewise_server::terminal::{Table, is_json, left, note, number, right, shown};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Databases named to people.
const SEEN_SHOWN: usize = 20;

pub(crate) fn run(args: &CloneArgs) -> Result<u8, Failure> {
    let home = Home::open()?;
    let server = home.choose(args.server.as_deref())?;
    if args.database.contains('*') || args.file.is_dir() {
        return super::folder::clone(&home, args, server);
    }
    if args.file.exists() {
        return Err(Failure::new(format!("{} exists already", args.file.display()))
            .hint("name a new file; to connect an existing one, use `piecewise track`")
            .code(code::FILE_EXISTS));
    }
    let done = block_on(async {
        // Connected first: without a server no file is made.
        let mut connection = connect(&home, server, None).await?;
        let mut replica = Replica::open(&args.file, true, home.identity()?, piecewise_server::chance())
            .map_err(|e| about(&args.file, e))?;
        replica.bind(Binding {
            database: args.database.clone(),
            realm: server.realm(),
            server: server.key(),
            follow: Follow::All,
        })?;
        let progress = Progress::new(true);
        let talked = Drive::new(&mut replica, &mut connection, server.key(), progress)?.until_level().await?;
        connection.close().await;
        let exit = super::sync::tell_what_is_left_out(&talked.left_out, &replica, &args.file);
        Ok((talked, exit, replica.status()?, replica.not_carried()?))
    });
    let (talked, exit, status, not_carried) = match done {
        Ok(done) => done,
        Err(failure) if failure.code == code::NOT_GRANTED => {
            remove(&args.file);
            return Err(with_what_is_seen(failure, &home, server));
        }
        Err(failure) => {
            return Err(match args.file.exists() {
                true => failure
                    .hint(format!("what came is kept; go on with `piecewise sync {}`", args.file.display())),
                false => failure,
            });
        }
    };
    let rows = |t: &TableStatus| json!({ "table": t.table, "rows": t.rows });
    let more =
        json!({ "tables": status.tables.iter().map(rows).collect::<Vec<_>>(), "not_carried": not_carried });
    super::sync::print_summary(&args.database, &talked.summary, &talked, 0, more);
    if is_json() {
        return Ok(exit);
    }
    let mut table = Table::new(&[left("table"), right("rows")]);
    status.tables.iter().for_each(|t| table.add([shown(&t.table), number(t.rows)]));
    match status.tables.is_empty() {
        true => say!("there are no tables yet; those that others make will come with `piecewise sync`"),
        false => table.print(),
    }
    tell_what_is_not_carried(&not_carried);
    Ok(exit)
}

/// Adds to a failure which databases of the server this device may see.
fn with_what_is_seen(failure: Failure, home: &Home, server: &KnownServer) -> Failure {
    let Ok(seen) = block_on(databases(home, server)) else { return failure };
    let hint = failure.hint.clone().unwrap_or_default();
    failure.hint(format!("{}; {hint}", seen_words(&seen)))
}

/// Names the databases that this device may see.
pub(super) fn seen_words(databases: &[String]) -> String {
    let more = match databases.len().saturating_sub(SEEN_SHOWN) {
        0 => String::new(),
        more => format!(" and {} more", number(more as u64)),
    };
    let shown: Vec<_> = databases.iter().take(SEEN_SHOWN).map(|name| shown(name)).collect();
    match databases.is_empty() {
        true => "this device may see no database that is there now".to_owned(),
        false => format!("this device may see {}{more}", shown.join(", ")),
    }
}

/// The databases of a server that this device may see and that are there now.
pub(super) async fn databases(home: &Home, server: &KnownServer) -> Result<Vec<String>, Failure> {
    let all: Pattern = "*".parse().map_err(|e: BadPattern| Failure::new(e.to_string()))?;
    let mut surveyor = Surveyor::new(vec![all], Named::new());
    let mut connection = connect(home, server, None).await?;
    if !connection.send(surveyor.survey()).await {
        return Err(lost());
    }
    while !surveyor.is_done() {
        let arrived = connection.incoming.recv().await.ok_or_else(lost)??;
        surveyor.receive(arrived.frame.other()).map_err(|_| lost())?;
    }
    connection.close().await;
    Ok(surveyor.named().map(str::to_owned).collect())
}

/// Names what of the tables stays on the devices that have it.
fn tell_what_is_not_carried(tables: &BTreeMap<String, Vec<(String, String)>>) {
    for (table, parts) in tables {
        let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        parts.iter().for_each(|(kind, name)| kinds.entry(kind).or_default().push(name));
        let kind = |(kind, names): (&&str, &Vec<&str>)| match *kind {
            "CHECK" => "CHECK constraints".to_owned(),
            kind => format!("{kind} {}", names.join(", ")),
        };
        let kinds: Vec<_> = kinds.iter().map(kind).collect();
        note(&format!("table {} does not have here: {}", shown(table), shown(&kinds.join("; "))));
    }
    if !tables.is_empty() {
        note(
            "to have all of it, let the application make its tables in a new file and `piecewise track` them there",
        );
    }
}

/// Takes away a file that was made here and holds nothing.
fn remove(file: &Path) {
    for ending in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(ending);
        let _ = std::fs::remove_file(Path::new(&name));
    }
}
