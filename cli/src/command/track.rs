//! `track` and `untrack`: tables begin and end to take part in sync.

use super::{about, open, open_bound};
use crate::args::{Prefer, TablesArgs, TrackArgs};
use crate::home::Home;
use crate::report::Failure;
use piecewise_core::replica::{Binding, Follow, Replica, ReplicaError, TrackOptions};
use piecewise_server::{say, tell};

pub(crate) fn track(args: &TrackArgs) -> Result<(), Failure> {
    let home = Home::open()?;
    let mut replica = open(&home, &args.file)?;
    let tables = if args.all { replica.untracked()? } else { args.tables.clone() };
    check_columns(&tables, args)?;
    let was_bound = replica.binding().is_some();
    bind(&home, &mut replica, args)?;
    let done = track_tables(&mut replica, &tables, args);
    if done.is_err() && !was_bound {
        replica.unbind()?; // if nothing was tracked, the file stays as it was
    }
    done
}

fn track_tables(replica: &mut Replica, tables: &[String], args: &TrackArgs) -> Result<(), Failure> {
    let options = |table: &String| TrackOptions {
        text: columns_of(table, &args.text),
        counter: columns_of(table, &args.counter),
        prefer_local: args.prefer == Prefer::Local,
    };
    let tables: Vec<_> = tables.iter().map(|table| (table.clone(), options(table))).collect();
    let (mut tracked, mut notes) = (vec![], vec![]);
    let done = replica.track_all(&tables, |table, done| {
        match done {
            Ok(warnings) => {
                tracked.push(table.to_owned());
                notes.extend(warnings);
            }
            // With --all, what cannot be tracked is told and left.
            Err(error @ ReplicaError::Refused(_)) if args.all => notes.push(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(())
    });
    done.map_err(|e| about(&args.file, e))?;
    tracked.iter().for_each(|table| say!("{table} is tracked"));
    notes.iter().for_each(|note| tell!("note: {note}"));
    say!("`piecewise sync {0}` or `piecewise watch {0}` exchanges rows with the server", args.file.display());
    Ok(())
}

fn bind(home: &Home, replica: &mut Replica, args: &TrackArgs) -> Result<(), Failure> {
    if let Some(binding) = replica.binding() {
        return match &args.database {
            Some(database) if *database != binding.database => {
                Err(ReplicaError::AlreadyBound { database: binding.database.clone() }.into())
            }
            _ => Ok(()),
        };
    }
    let Some(database) = args.database.clone() else {
        return Err(Failure::new("this file is not connected to a database yet")
            .hint("say which one on the server it is part of: --as DATABASE"));
    };
    if !piecewise_server::databases::is_new_database_name(&database) {
        return Err(Failure::new(format!("{database:?} cannot be the name of a database"))
            .hint("use letters, digits, _ - and ., such as `shop`"));
    }
    let server = home.choose(args.server.as_deref())?;
    let (realm, server) = (server.realm(), server.key());
    replica
        .bind(Binding { database, realm, server, follow: Follow::Tracked })
        .map_err(|e| about(&args.file, e))
}

/// The columns of a table in a list of `table.column`.
fn columns_of(table: &str, list: &[String]) -> Vec<String> {
    let of_table = |entry: &String| {
        let (before, column) = entry.split_at_checked(table.len())?;
        before.eq_ignore_ascii_case(table).then(|| column.strip_prefix('.').map(str::to_owned)).flatten()
    };
    list.iter().filter_map(of_table).collect()
}

fn check_columns(tables: &[String], args: &TrackArgs) -> Result<(), Failure> {
    for entry in args.text.iter().chain(&args.counter) {
        if tables.iter().all(|t| columns_of(t, std::slice::from_ref(entry)).is_empty()) {
            return Err(Failure::new(format!("{entry} is not a column of a table that is being tracked"))
                .hint("write it as TABLE.COLUMN, with one of the tables named"));
        }
    }
    Ok(())
}

pub(crate) fn untrack(args: &TablesArgs) -> Result<(), Failure> {
    let home = Home::open()?;
    let mut replica = open_bound(&home, &args.file)?;
    let tables: Vec<_> = match args.all {
        true => replica.status()?.tables.into_iter().map(|t| t.table).collect(),
        false => args.tables.clone(),
    };
    replica.untrack(&tables).map_err(|e| about(&args.file, e))?;
    tables.iter().for_each(|table| say!("{table} is no longer tracked"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::columns_of;

    #[test]
    fn columns_belong_to_the_table_that_is_named_before_them() {
        let list = ["a.b.c".to_owned(), "A.d".to_owned(), "ab.e".to_owned(), "a".to_owned()];
        assert_eq!(columns_of("a", &list), ["b.c", "d"]);
        assert_eq!(columns_of("a.b", &list), ["c"]);
        assert_eq!(columns_of("ä", &list), Vec::<String>::new());
    }
}
