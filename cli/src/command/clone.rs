//! `clone`: a new file with every table of a database that one may see; or a folder with many, see `folder`.

use super::{about, block_on};
use crate::args::CloneArgs;
use crate::connection::connect;
use crate::drive::Drive;
use crate::home::Home;
use crate::progress::Progress;
use crate::report::{Failure, code};
use piecewise_core::replica::{Binding, Follow, Replica};
use piecewise_server::{say, tell};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) fn run(args: &CloneArgs) -> Result<u8, Failure> {
    let home = Home::open()?;
    let server = home.choose(args.server.as_deref())?;
    if args.database.contains('*') || args.file.is_dir() {
        return super::folder::clone(&home, args, server);
    }
    if args.file.exists() {
        return Err(Failure::new(format!("{} exists already", args.file.display()))
            .hint("name a new file; to connect an existing one, use `piecewise track`")
            .code(code::FILE));
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
        let progress = Progress::new(!args.output.json);
        let talked = Drive::new(&mut replica, &mut connection, server.key(), progress)?.until_level().await?;
        connection.close().await;
        let exit = super::sync::tell_what_is_left_out(&talked.left_out, &replica);
        Ok((talked, exit, replica.status()?, replica.not_carried()?))
    });
    let (talked, exit, status, not_carried) = match done {
        Ok(done) => done,
        Err(failure) => {
            if failure.code == code::NOT_GRANTED {
                remove(&args.file);
            }
            return Err(match args.file.exists() {
                true => failure
                    .hint(format!("what came is kept; go on with `piecewise sync {}`", args.file.display())),
                false => failure,
            });
        }
    };
    super::sync::print_summary(&args.database, &talked.summary, &talked, 0, args.output.json);
    if !args.output.json {
        for table in &status.tables {
            say!("  {}: {}", table.table, crate::output::count(table.rows, "row", "rows"));
        }
        if status.tables.is_empty() {
            say!("there are no tables yet; those that others make will come with `piecewise sync`");
        }
        tell_what_is_not_carried(&not_carried);
    }
    Ok(exit)
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
        tell!(
            "note: table {table} does not have here: {}",
            kinds.iter().map(kind).collect::<Vec<_>>().join("; ")
        );
    }
    if !tables.is_empty() {
        tell!(
            "hint: to have all of it, let the application make its tables in a new file and `piecewise track` them there"
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
