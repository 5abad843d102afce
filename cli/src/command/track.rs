//! `track` and `untrack`: tables begin and end to take part in sync.

use super::{about, open, open_bound};
use crate::args::{Prefer, TablesArgs, TrackArgs};
use crate::home::Home;
use crate::output::{count, row, row_line};
use crate::report::{Failure, code};
use piecewise_core::replica::{Binding, Follow, HeldRow, Reference, Replica, ReplicaError, TrackOptions};
use piecewise_core::store::schema::{NoteKind, TrackNote, TrackRefusal};
use piecewise_server::{now, say, tell};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Tables named in one note.
const NAMES_SHOWN: usize = 8;

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
    let known: Vec<_> = replica.status()?.tables.into_iter().map(|t| t.table).collect();
    let known_as = |table: &String| known.iter().find(|known| known.eq_ignore_ascii_case(table));
    if changes_numbers(args) {
        let wanted: Vec<&String> = match args.all {
            true => known.iter().collect(),
            false => tables.iter().filter_map(known_as).collect(),
        };
        for table in &wanted {
            change_numbers(replica, table, args).map_err(|e| about(&args.file, e))?;
        }
        if !wanted.is_empty() && tables.iter().all(|table| known_as(table).is_some()) {
            return Ok(());
        }
    }
    let is_new = |table: &&String| !changes_numbers(args) || known_as(table).is_none();
    let options = |table: &String| TrackOptions {
        text: columns_of(table, &args.text),
        counter: columns_of(table, &args.counter),
        prefer_local: args.prefer == Prefer::Local,
        keep_numbers: args.keep_numbers,
        references: references_of(table, &args.references),
        renumber_mine: args.renumber_mine,
        autoincrement: args.autoincrement,
    };
    let tables: Vec<_> = tables.iter().filter(is_new).map(|table| (table.clone(), options(table))).collect();
    let (mut tracked, mut notes, mut left) = (vec![], vec![], vec![]);
    let done = replica.track_all(&tables, |table, done| {
        match done {
            Ok(of_table) => {
                tracked.push(table.to_owned());
                notes.extend(of_table.into_iter().map(|note| (table.to_owned(), note)));
            }
            // With --all, what cannot be tracked is told and left.
            Err(ReplicaError::Refused(refusal)) if args.all => left.push((table.to_owned(), refusal)),
            Err(error) => return Err(error),
        }
        Ok(())
    });
    done.map_err(|e| about(&args.file, e))?;
    tracked.iter().for_each(|table| say!("{table} is tracked"));
    tell_notes(&notes, args);
    tell_what_is_left(&left);
    say!("`piecewise sync {0}` or `piecewise watch {0}` exchanges rows with the server", args.file.display());
    Ok(())
}

/// Whether it is said how tables are numbered that may be tracked already, and nothing that only a first contact decides.
fn changes_numbers(args: &TrackArgs) -> bool {
    let is_set =
        args.keep_numbers || args.no_keep_numbers || args.autoincrement || !args.references.is_empty();
    is_set
        && args.text.is_empty()
        && args.counter.is_empty()
        && !args.renumber_mine
        && args.prefer == Prefer::Server
}

/// Changes how a table that is tracked is numbered, and says so.
fn change_numbers(replica: &mut Replica, table: &str, args: &TrackArgs) -> Result<(), ReplicaError> {
    let told = |is_new: bool, what: &str| match is_new {
        true => say!("{table}: {what} from now on"),
        false => say!("{table}: {what} already"),
    };
    if args.keep_numbers || args.no_keep_numbers {
        let is_new = replica.keep_numbers(now(), table, args.keep_numbers)?;
        let what = match args.keep_numbers {
            true => "rows keep their numbers, also those that other rows have,",
            false => "rows whose numbers other rows have get others",
        };
        told(is_new, what);
    }
    for reference in references_of(table, &args.references) {
        let Reference { column, parent, parent_column } = &reference;
        let is_new = replica.add_reference(now(), table, column, parent, parent_column)?;
        told(is_new, &format!("{column} names rows of {parent} by {parent_column}"));
    }
    if args.autoincrement {
        match replica.autoincrement(now(), table) {
            Ok(is_new) => told(is_new, "AUTOINCREMENT numbers its rows"),
            Err(ReplicaError::Refused(refusal)) if args.all => tell!("note: {refusal}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Tells what may surprise; what is the same for many tables once.
fn tell_notes(notes: &[(String, TrackNote)], args: &TrackArgs) {
    let of_kind = |kind: NoteKind| -> Vec<&str> {
        notes.iter().filter(|(_, note)| note.kind == kind).map(|(table, _)| table.as_str()).collect()
    };
    let (tables, met) = (of_kind(NoteKind::IntegerKey), of_kind(NoteKind::FirstContact));
    for (_, note) in notes {
        let alike = match note.kind {
            NoteKind::IntegerKey => tables.len(),
            NoteKind::FirstContact if args.renumber_mine || args.prefer == Prefer::Local => continue,
            NoteKind::FirstContact => met.len(),
            _ => 1,
        };
        if alike == 1 {
            tell!("note: {}", note.text);
        }
    }
    if tables.len() > 1 {
        tell!(
            "note: {} tables have an INTEGER PRIMARY KEY ({}): where two machines give out one number offline, the later row gets \
             another, and declared references to it follow. `--ref` names others; numbers in JSON or URLs do not follow",
            tables.len(),
            some_of(&tables)
        );
    }
    if met.len() > 1 && !args.renumber_mine && args.prefer == Prefer::Server {
        tell!(
            "note: {} of them have rows ({}): one whose number another row has at the server is kept beside that as a conflict, and \
             the server's shows. `--renumber-mine` gives it another number, with all that refers to it; with `--prefer local` it shows",
            met.len(),
            some_of(&met)
        );
    }
}

/// Tells in one summary which tables are left out: first those with a reason of their own.
fn tell_what_is_left(left: &[(String, TrackRefusal)]) {
    if left.is_empty() {
        return;
    }
    let mut lines = vec![format!("note: {} left out", count(left.len() as u64, "table is", "tables are"))];
    let mut alike: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (table, refusal) in left {
        match refusal.common() {
            Some(reason) => alike.entry(reason).or_default().push(table),
            None => lines.push(format!("  {refusal}")),
        }
    }
    lines.extend(alike.iter().map(|(reason, tables)| format!("  {reason}: {}", some_of(tables))));
    tell!("{}", lines.join("\n"));
}

/// Some names of a list, and how many more there are.
fn some_of(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES_SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMES_SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{shown} and {more} more"),
        None => shown,
    }
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

/// The references of a table in a list of `table.column=parent.column`.
fn references_of(table: &str, list: &[String]) -> Vec<Reference> {
    let of_table = |entry: &String| {
        let (child, parent) = entry.split_once('=')?;
        let column = columns_of(table, &[child.to_owned()]).pop()?;
        let (parent, parent_column) = parent.rsplit_once('.')?;
        Some(Reference { column, parent: parent.to_owned(), parent_column: parent_column.to_owned() })
    };
    list.iter().filter_map(of_table).collect()
}

fn check_columns(tables: &[String], args: &TrackArgs) -> Result<(), Failure> {
    for entry in &args.references {
        if tables.iter().all(|table| references_of(table, std::slice::from_ref(entry)).is_empty()) {
            return Err(Failure::new(format!("{entry} is not a reference of a table that is being tracked"))
                .hint("write it as TABLE.COLUMN=PARENT.COLUMN, with TABLE among the tables named"));
        }
    }
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
            for held in rows {
                tell!("{} {}: {}", held.table, held.key, held.cause);
                tell!("  {}", row_line(&held.values));
            }
        }
        about(&args.file, error)
    })?;
    tables.iter().for_each(|table| say!("{table} is no longer tracked"));
    if back > 0 {
        say!("{} put back into their tables", count(back, "held row was", "held rows were"));
    }
    if let (1.., Some(path)) = (left, &args.leave_held) {
        say!("{} in {}", count(left as u64, "held row is", "held rows are"), path.display());
    }
    Ok(())
}

/// Writes held rows to a new file that others cannot read, and waits until it is on the disk.
fn write_held(path: &Path, rows: &[HeldRow]) -> Result<(), Failure> {
    let entry =
        |h: &HeldRow| json!({ "table": h.table, "key": h.key, "cause": h.cause, "row": row(&h.values) });
    let text = Value::from(rows.iter().map(entry).collect::<Vec<_>>()).to_string();
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
