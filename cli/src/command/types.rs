//! `types`: TypeScript types of the tables in a file, one for the rows of each, as the npm package gives them.

use super::open;
use crate::args::TypesArgs;
use crate::home::Home;
use crate::report::{Failure, code};
use piecewise_core::change::Merge;
use piecewise_core::replica::ReplicaError;
use piecewise_server::say;
use piecewise_server::terminal::result;
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Names that a type of ours must not have: the generated file uses them itself.
const TAKEN: [&str; 3] = ["SqlValue", "Tables", "Uint8Array"];

pub(crate) fn run(args: &TypesArgs) -> Result<(), Failure> {
    if !args.file.exists() {
        return Err(Failure::new(format!("there is no file {}", args.file.display()))
            .hint("check the path")
            .code(code::NO_FILE));
    }
    let conn = Connection::open_with_flags(&args.file, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let conn = conn.map_err(|e| Failure::from(ReplicaError::from(e)))?;
    let tables = tables(&conn).map_err(|e| Failure::from(ReplicaError::from(e)))?;
    let is_ours = tables.iter().any(|table| table.name == "piecewise_containers");
    let merges = if is_ours { merges(&args.file)? } else { HashMap::new() };
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    let tables: Vec<_> = tables.into_iter().filter(|table| !table.name.starts_with("piecewise_")).collect();
    let text = typescript(&name, &tables, &merges, args.bigint);
    result(|| json!({ "typescript": text }), || say!("{}", text.trim_end()));
    Ok(())
}

struct Table {
    name: String,
    is_strict: bool,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    declared_type: String,
    is_nullable: bool,
}

fn tables(conn: &Connection) -> rusqlite::Result<Vec<Table>> {
    let all =
        "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual')
        AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut statement = conn.prepare(all)?;
    let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut tables = vec![];
    for found in found {
        let (name, is_strict): (String, bool) = found?;
        // A row with NULL in its key takes no part in sync, though SQLite permits it.
        let columns =
            r#"SELECT name, type, NOT ("notnull" OR pk > 0) FROM pragma_table_xinfo(?1) WHERE hidden <> 1"#;
        let mut statement = conn.prepare(columns)?;
        let columns = statement.query_map([&name], |row| {
            Ok(Column { name: row.get(0)?, declared_type: row.get(1)?, is_nullable: row.get(2)? })
        })?;
        tables.push(Table { columns: columns.collect::<Result<_, _>>()?, name, is_strict });
    }
    Ok(tables)
}

/// How columns of tracked tables merge, by table and column.
fn merges(file: &Path) -> Result<HashMap<(String, String), Merge>, Failure> {
    let replica = open(&Home::open()?, file)?;
    Ok(replica.merge_kinds().into_iter().map(|(table, column, merge)| ((table, column), merge)).collect())
}

fn typescript(
    file: &str,
    tables: &[Table],
    merges: &HashMap<(String, String), Merge>,
    bigint: bool,
) -> String {
    let mut rows = String::new();
    let mut all = String::new();
    let mut taken: HashSet<String> = TAKEN.map(str::to_owned).into();
    for table in tables {
        let name = type_name(&table.name, &mut taken);
        rows += &format!("\nexport interface {name} {{\n");
        for column in &table.columns {
            let how = merges.get(&(table.name.clone(), column.name.clone()));
            rows += match how {
                Some(Merge::Text) => "  /** Text: concurrent edits merge by character. */\n",
                Some(Merge::Counter) => "  /** Counter: concurrent changes add up. */\n",
                _ => "",
            };
            let of = value_type(column, table.is_strict, bigint);
            let null = if column.is_nullable && of != "SqlValue" { " | null" } else { "" };
            rows += &format!("  {}: {of}{null};\n", property(&column.name));
        }
        rows += "}\n";
        all += &format!("  {}: {name};\n", property(&table.name));
    }
    let import = if rows.contains("SqlValue") { "import type { SqlValue } from 'piecewise';\n" } else { "" };
    let file: String = file.chars().filter(|c| !c.is_control()).collect();
    format!(
        "// Rows of the tables in {file}, made by `piecewise types`: make them anew after a migration.\n{import}{rows}
/** The rows of each table, by its name. */\nexport interface Tables {{\n{all}}}\n"
    )
}

/// The type of a column's values but NULL, by its type's affinity; a table that is not STRICT may hold others too.
fn value_type(column: &Column, is_strict: bool, bigint: bool) -> &'static str {
    let declared = column.declared_type.to_ascii_uppercase();
    let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
    let integer = if bigint { "number | bigint" } else { "number" };
    if is_strict && declared == "ANY" || declared.is_empty() {
        "SqlValue"
    } else if has(&["INT"]) {
        integer
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        "string"
    } else if has(&["BLOB"]) {
        "Uint8Array"
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        "number"
    } else if has(&["BOOL"]) {
        integer
    } else if has(&["DATE", "TIME"]) {
        // Texts stay texts there, and numbers numbers.
        if bigint { "string | number | bigint" } else { "string | number" }
    } else if bigint {
        "number | bigint | string"
    } else {
        "number | string"
    }
}

/// A field's name, in quotes if it is no identifier.
fn property(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if is_plain && !name.is_empty() { name.to_owned() } else { serde_json::Value::from(name).to_string() }
}

/// A type's name for a table, which no other has.
fn type_name(table: &str, taken: &mut HashSet<String>) -> String {
    let mut name = String::new();
    for word in
        table.split(|c: char| !c.is_alphabetic() && !c.is_ascii_digit()).filter(|word| !word.is_empty())
    {
        let mut letters = word.chars();
        name.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        name.extend(letters);
    }
    if !name.starts_with(|c: char| c.is_uppercase()) {
        name.insert_str(0, "Table");
    }
    let free = |name: &String| !taken.contains(name);
    let numbered = (2..).map(|n| format!("{name}{n}"));
    let name = std::iter::once(name.clone()).chain(numbered).find(free).unwrap_or(name);
    taken.insert(name.clone());
    name
}
