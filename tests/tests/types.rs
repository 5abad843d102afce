//! `piecewise types`: TypeScript types of the tables in a file, synced or not.

use piecewise_tests::data::sql;
use piecewise_tests::process::{Device, Server, text};

const SCHEMA: &str = r#"
CREATE TABLE todos(id TEXT PRIMARY KEY, title TEXT, note TEXT NOT NULL DEFAULT '', votes INTEGER NOT NULL DEFAULT 0);
CREATE TABLE "order items"("order" INT, "line no" INTEGER NOT NULL, price DECIMAL(8, 2), due DATE, open BOOLEAN,
  picture BLOB, weight DOUBLE, anything, double AS (weight * 2), PRIMARY KEY("order", "line no")) WITHOUT ROWID;
CREATE TABLE strict_ones(id INTEGER PRIMARY KEY, n INT NOT NULL, x ANY, b BLOB NOT NULL, r REAL) STRICT;
CREATE TABLE "2 fast"(id INTEGER PRIMARY KEY, "it's ""so""" TEXT);
CREATE TABLE "Order-Items"(id INTEGER PRIMARY KEY);
CREATE VIEW v AS SELECT * FROM todos;"#;

const TYPES: &str = r#"// Rows of the tables in app.db, made by `piecewise types`: make them anew after a migration.
import type { SqlValue } from 'piecewise';

export interface Table2Fast {
  id: number;
  "it's \"so\"": string | null;
}

export interface OrderItems {
  id: number;
}

export interface OrderItems2 {
  order: number;
  "line no": number;
  price: number | string | null;
  due: string | number | null;
  open: number | null;
  picture: Uint8Array | null;
  weight: number | null;
  anything: SqlValue;
  double: SqlValue;
}

export interface StrictOnes {
  id: number;
  n: number;
  x: SqlValue;
  b: Uint8Array;
  r: number | null;
}

export interface Todos {
  id: string;
  title: string | null;
  note: string;
  votes: number;
}

/** The rows of each table, by its name. */
export interface Tables {
  "2 fast": Table2Fast;
  "Order-Items": OrderItems;
  "order items": OrderItems2;
  strict_ones: StrictOnes;
  todos: Todos;
}
"#;

#[test]
fn each_table_has_a_type_for_its_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("app.db");
    sql(&file, SCHEMA);
    let device = Device { home: folder.path().join("home") };
    assert_eq!(device.must(["types", text(&file)]), TYPES);
    assert!(!folder.path().join("home").exists(), "a file that does not sync needs no identity");
    let big = device.must(["types", text(&file), "--bigint"]);
    assert!(big.contains("  votes: number | bigint;\n"), "{big}");
}

#[test]
fn columns_of_tracked_tables_say_how_they_merge() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("server"));
    let device = Device::joined(&folder.path().join("home"), &server, &["app/*=write"]);
    let file = folder.path().join("app.db");
    sql(&file, SCHEMA);
    device.must([
        "track",
        text(&file),
        "todos",
        "--as",
        "app",
        "--text",
        "todos.note",
        "--counter",
        "todos.votes",
    ]);
    let types = device.must(["types", text(&file)]);
    let note = "  /** Text: concurrent edits merge by character. */\n  note: string;\n";
    let votes = "  /** Counter: concurrent changes add up. */\n  votes: number;\n";
    assert!(types.contains(note) && types.contains(votes) && !types.contains("piecewise_"), "{types}");
}

#[test]
fn a_file_that_is_none_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let device = Device { home: folder.path().join("home") };
    let said = device.run(["types", text(&folder.path().join("nowhere.db"))]);
    assert_eq!(said.code, 5, "{said}");
    let file = folder.path().join("text.db");
    std::fs::write(&file, "this is no database, and it is long enough to be read as one".repeat(20))
        .expect("a file");
    let said = device.run(["types", text(&file)]);
    assert_eq!(said.code, 5, "{said}");
}
