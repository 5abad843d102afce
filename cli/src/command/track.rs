//! `track`: tables begin to take part in sync.

use super::{about, open};
use crate::args::{Prefer, TrackArgs};
use crate::home::Home;
use crate::report::{Failure, code};
use piecewise_core::change::Merge;
use piecewise_core::replica::{Binding, Follow, Reference, Replica, ReplicaError, TrackOptions};
use piecewise_core::store::schema::{NoteKind, TrackNote, TrackRefusal};
use piecewise_server::terminal::{count, is_json, note, result};
use piecewise_server::{now, say};
use serde_json::{Value, json};
use std::collections::BTreeMap;

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
    let mut changes = vec![];
    if changes_numbers(args) {
        let wanted: Vec<&String> = match args.all {
            true => known.iter().collect(),
            false => tables.iter().filter_map(known_as).collect(),
        };
        for table in &wanted {
            change_numbers(replica, table, args, &mut changes).map_err(|e| about(&args.file, e))?;
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
    let is_decided = args.renumber_mine || args.prefer == Prefer::Local;
    let (mut tracked, mut notes, mut left) = (vec![], vec![], vec![]);
    let done = replica.track_all(&tables, |table, done| {
        match done {
            Ok(of_table) => {
                tracked.push(table.to_owned());
                let of_table =
                    of_table.into_iter().filter(|note| note.kind != NoteKind::FirstContact || !is_decided);
                notes.extend(of_table.map(|note| (table.to_owned(), note)));
            }
            // With --all, what cannot be tracked is told and left.
            Err(ReplicaError::Refused(refusal)) if args.all => left.push((table.to_owned(), refusal)),
            Err(error) => return Err(error),
        }
        Ok(())
    });
    done.map_err(|error| match error {
        ReplicaError::AlreadyTracked { table } => tracked_already(replica, &table, args),
        error => about(&args.file, error),
    })?;
    let database = replica.binding().map(|binding| &binding.database);
    let as_json = || {
        let note = |(table, n): &(String, TrackNote)| json!({ "table": table, "kind": name(n.kind), "text": n.text });
        let refusal = |(table, refusal): &(String, TrackRefusal)| json!({ "table": table, "reason": refusal.to_string() });
        json!({ "database": database, "tables": tracked, "changes": changes, "notes": notes.iter().map(note).collect::<Vec<_>>(),
                "left_out": left.iter().map(refusal).collect::<Vec<_>>() })
    };
    result(as_json, || match tracked.len() {
        0..=NAMES_SHOWN => tracked.iter().for_each(|table| say!("{table} is tracked")),
        all => {
            let names: Vec<_> = tracked.iter().map(String::as_str).collect();
            say!("{} tracked: {}", count(all as u64, "table is", "tables are"), some_of(&names));
        }
    });
    if is_json() {
        return Ok(());
    }
    tell_notes(&notes);
    tell_what_is_left(&left);
    if is_decided && args.all && !known.is_empty() {
        note(
            "what `--renumber-mine` and `--prefer` say counts for tables that are tracked now; of others it was decided before",
        );
    }
    if changes.is_empty() || !tracked.is_empty() {
        let file = args.file.display();
        say!("`piecewise sync {file}` or `piecewise watch {file}` exchanges rows with the server");
    }
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

/// Changes how a table that is tracked is numbered, and says so; what is said comes into `changes` for programs.
fn change_numbers(
    replica: &mut Replica,
    table: &str,
    args: &TrackArgs,
    changes: &mut Vec<Value>,
) -> Result<(), ReplicaError> {
    let mut told = |is_new: bool, what: &str| {
        changes.push(json!({ "table": table, "change": what.trim_end_matches(','), "new": is_new }));
        match is_new {
            _ if is_json() => {}
            true => say!("{table}: {what} from now on"),
            false => say!("{table}: {what} already"),
        }
    };
    if args.keep_numbers || args.no_keep_numbers {
        let is_new = replica.keep_numbers(now(), table, args.keep_numbers)?;
        let what = match args.keep_numbers {
            true => "rows keep their numbers, also those that other rows have,",
            false => "rows whose numbers other rows have get others",
        };
        told(is_new, what);
        if is_new && !is_json() {
            note(
                "the server takes that from a device with an `admin` grant; from others it is refused, and rows get other numbers as before",
            );
        }
    }
    for reference in references_of(table, &args.references) {
        let Reference { column, parent, parent_column } = &reference;
        let is_new = replica.add_reference(now(), table, column, parent, parent_column)?;
        told(is_new, &format!("{column} names rows of {parent} by {parent_column}"));
    }
    if args.autoincrement {
        match replica.autoincrement(now(), table) {
            Ok(is_new) => told(is_new, "AUTOINCREMENT numbers its rows"),
            Err(ReplicaError::Refused(refusal)) if args.all => note(&refusal.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The table is tracked: says how its columns get the merge kinds that are asked for, if they have others.
fn tracked_already(replica: &Replica, table: &str, args: &TrackArgs) -> Failure {
    let kinds = replica.merge_kinds();
    let asked = [(&args.text, Merge::Text), (&args.counter, Merge::Counter)];
    let other = asked.iter().flat_map(|(list, kind)| columns_of(table, list).into_iter().map(|c| (c, *kind)));
    let other = other.filter(|(column, kind)| {
        let is_it = |(t, c, k): &(String, String, Merge)| {
            t.eq_ignore_ascii_case(table) && c.eq_ignore_ascii_case(column) && k == kind
        };
        !kinds.iter().any(is_it)
    });
    let columns: Vec<_> = other.map(|(column, _)| column).collect();
    let is_there = |column: &str| {
        let sql = "SELECT count(*) FROM pragma_table_info(?) WHERE name = ? COLLATE NOCASE";
        let count = replica.connection().query_row(sql, [table, column], |row| row.get::<_, i64>(0));
        count.is_ok_and(|count| count > 0)
    };
    if let Some(missing) = columns.iter().find(|column| !is_there(column)) {
        return Failure::new(format!("{}: table {table} has no column {missing}", args.file.display()))
            .code(code::INVALID);
    }
    let tracked = ReplicaError::AlreadyTracked { table: table.to_owned() };
    if columns.is_empty() {
        return about(&args.file, tracked);
    }
    let message = format!(
        "{}: {tracked}, and {} as before",
        args.file.display(),
        match columns.as_slice() {
            [one] => format!("column {one} merges"),
            many => format!("columns {} merge", many.join(", ")),
        }
    );
    Failure::new(message)
        .hint(format!(
            "how a column merges is settled when its table meets the server's. If it never did: `piecewise untrack` it, then \
             `track` it with these options. Else make a table of another name with the rows of {table}, `track` that with these \
             options, and drop {table}: a name that the server knows keeps how its columns merge"
        ))
        .code(code::TRACKED)
}

fn name(kind: NoteKind) -> &'static str {
    match kind {
        NoteKind::IntegerKey => "integer_key",
        NoteKind::KeptNumbers => "kept_numbers",
        NoteKind::FirstContact => "first_contact",
        NoteKind::Orphans => "orphans",
        NoteKind::LocalIndex => "local_index",
        NoteKind::NoParent => "no_parent",
        NoteKind::GeneratedReference => "generated_reference",
        NoteKind::NullKeys => "null_keys",
        _ => "other",
    }
}

/// Tells what may surprise: of a few tables note by note, of many in one line.
fn tell_notes(notes: &[(String, TrackNote)]) {
    if notes.len() <= NOTES_SHOWN {
        return notes.iter().for_each(|(_, n)| note(&n.text));
    }
    let mut parts = vec![];
    for (kind, one, many) in KINDS {
        let mut tables: Vec<_> =
            notes.iter().filter(|(_, n)| n.kind == kind).map(|(t, _)| t.as_str()).collect();
        tables.dedup();
        if !tables.is_empty() {
            parts.push(format!("{} ({})", count(tables.len() as u64, one, many), some_of(&tables)));
        }
    }
    note(&format!("{}; `track --json` says more of each", parts.join("; ")));
}

/// Notes told one by one.
const NOTES_SHOWN: usize = 3;

/// What many tables have in common.
const KINDS: [(NoteKind, &str, &str); 8] = [
    (
        NoteKind::IntegerKey,
        "table numbers its rows, which get other numbers where two devices give out one; what `--ref` names follows",
        "tables number their rows, which get other numbers where two devices give out one; what `--ref` names follows",
    ),
    (
        NoteKind::KeptNumbers,
        "table numbers its rows, which keep their numbers: where two devices give out one, one row shows and the other is in conflict",
        "tables number their rows, which keep their numbers: where two devices give out one, one row shows and the other is in conflict",
    ),
    (
        NoteKind::FirstContact,
        "has rows: those whose numbers other rows have at the server are kept beside them as conflicts, or get others with `--renumber-mine`",
        "have rows: those whose numbers other rows have at the server are kept beside them as conflicts, or get others with `--renumber-mine`",
    ),
    (
        NoteKind::NullKeys,
        "has rows with NULL in the key, which do not sync",
        "have rows with NULL in the key, which do not sync",
    ),
    (NoteKind::Orphans, "has rows whose parents do not exist", "have rows whose parents do not exist"),
    (
        NoteKind::LocalIndex,
        "has a UNIQUE index of this machine alone",
        "have UNIQUE indexes of this machine alone",
    ),
    (
        NoteKind::NoParent,
        "refers to tables that are not in this file",
        "refer to tables that are not in this file",
    ),
    (
        NoteKind::GeneratedReference,
        "has a reference by a generated column, which cannot follow",
        "have references by generated columns, which cannot follow",
    ),
];

/// Tells in one summary which tables are left out: first those with a reason of their own.
fn tell_what_is_left(left: &[(String, TrackRefusal)]) {
    if left.is_empty() {
        return;
    }
    let mut lines = vec![format!("{} left out", count(left.len() as u64, "table is", "tables are"))];
    let mut alike: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (table, refusal) in left {
        match refusal.common() {
            Some(reason) => alike.entry(reason).or_default().push(table),
            None => lines.push(format!("  {refusal}")),
        }
    }
    lines.extend(alike.iter().map(|(reason, tables)| format!("  {reason}: {}", some_of(tables))));
    note(&lines.join("\n"));
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
            .hint("say which one on the server it is part of: --as DATABASE")
            .code(code::NOT_CONNECTED));
    };
    if !piecewise_server::databases::is_new_database_name(&database) {
        return Err(Failure::new(format!("{database:?} cannot be the name of a database"))
            .hint("use letters, digits, _ - and ., such as `shop`")
            .code(code::BAD_NAME));
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
                .hint("write it as TABLE.COLUMN=PARENT.COLUMN, with TABLE among the tables named")
                .code(code::INVALID));
        }
    }
    for entry in args.text.iter().chain(&args.counter) {
        if tables.iter().all(|t| columns_of(t, std::slice::from_ref(entry)).is_empty()) {
            return Err(Failure::new(format!("{entry} is not a column of a table that is being tracked"))
                .hint("write it as TABLE.COLUMN, with one of the tables named")
                .code(code::INVALID));
        }
    }
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
