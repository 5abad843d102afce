//! Real files of public packages: tracked whole, edited on two devices, compared, checked, and let go as they were. `make real` gets them.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{open, query};
use piecewise_tests::process::{Device, Server, text};
use std::path::{Path, PathBuf};

/// What SQLite's schema says of everything that is the application's.
const SCHEMA: &str = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid";
/// Rows of each table that each device edits.
const EDITS: i64 = 3;

fn file(name: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/real/files").join(name);
    assert!(file.exists(), "{} is not there; run `make real`", file.display());
    file
}

fn tables(file: &Path) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'piecewise_%'
               AND EXISTS (SELECT 1 FROM pragma_table_info(sqlite_master.name) WHERE pk > 0) ORDER BY name";
    names(file, sql)
}

fn names(file: &Path, sql: &str) -> Vec<String> {
    let conn = open(file);
    let mut stmt = conn.prepare(sql).unwrap();
    stmt.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Edits texts of some rows of each table and deletes a row, as far as the file's own constraints and triggers let it; how many
/// statements they let.
fn edit(file: &Path, who: &str, offset: i64) -> usize {
    let conn = open(file);
    conn.pragma_update(None, "foreign_keys", true).unwrap();
    let mut done = 0;
    for table in tables(file) {
        let columns = |filter: &str| -> Vec<String> {
            let sql = format!("SELECT name FROM pragma_table_info(?) WHERE {filter} ORDER BY pk, cid");
            let mut stmt = conn.prepare(&sql).unwrap();
            stmt.query_map([&table], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap).collect()
        };
        let keys = columns("pk > 0").join(", ");
        let rows = |limit: i64| {
            format!(
                "({keys}) IN (SELECT {keys} FROM \"{table}\" ORDER BY {keys} LIMIT {limit} OFFSET {offset})"
            )
        };
        for column in columns("pk = 0 AND (type LIKE '%char%' OR type LIKE '%text%')") {
            let sql = format!(
                "UPDATE \"{table}\" SET \"{column}\" = \"{column}\" || ' {who}' WHERE {}",
                rows(EDITS)
            );
            done += usize::from(conn.execute(&sql, []).is_ok_and(|n| n > 0));
        }
        let sql = format!("DELETE FROM \"{table}\" WHERE {}", rows(1).replace("OFFSET", "OFFSET 5 +"));
        done += usize::from(conn.execute(&sql, []).is_ok_and(|n| n > 0));
    }
    done
}

fn is_synced_whole_and_let_go(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("server"));
    let device = |name: &str| Device::joined(&folder.path().join(name), &server, &["app/*=admin"]);
    let devices = [device("home-a"), device("home-b")];
    let files = ["a.db", "b.db"].map(|name| folder.path().join(name));
    files.iter().for_each(|to| {
        std::fs::copy(file(name), to).unwrap();
    });
    let (before, all) = (query(&files[0], SCHEMA), tables(&files[0]));
    for (device, file) in devices.iter().zip(&files) {
        device.must(["track", text(file), "--all", "--as", "app"]);
        device.must(["sync", text(file), "--quiet"]);
    }
    assert!(edit(&files[0], "by a", 0) > all.len() / 2);
    assert!(edit(&files[1], "by b", 2) > all.len() / 2);
    for n in [0, 1, 0] {
        devices[n].must(["sync", text(&files[n]), "--quiet"]);
    }
    for (device, file) in devices.iter().zip(&files) {
        device.must(["compare", text(file)]);
        let checked = device.json(&["check", text(file)]);
        assert_eq!(checked["found"], 0, "{checked:#}");
        for table in &all {
            // Rows with NULL in their key stay where they are.
            let keys = format!("SELECT name FROM pragma_table_info('{table}') WHERE pk > 0");
            let keys: Vec<_> = names(file, &keys).iter().map(|key| format!("{key} IS NOT NULL")).collect();
            let rows = |file: &Path| {
                let mut rows =
                    query(file, &format!("SELECT * FROM \"{table}\" WHERE {}", keys.join(" AND ")));
                rows.sort();
                rows
            };
            assert_eq!(rows(file), rows(&files[0]), "{table}");
        }
        assert_eq!(query(file, "SELECT * FROM pragma_integrity_check"), ["Text(\"ok\")"]);
    }
    let of_server = server.run("check", &["app", "--json"]);
    assert_eq!(of_server.code, 0, "{of_server}");
    for (device, file) in devices.iter().zip(&files) {
        let held: u64 = device.json(&["status", text(file)])["held"].as_u64().unwrap();
        let rows: Vec<_> =
            all.iter().map(|t| query(file, &format!("SELECT count(*) FROM \"{t}\""))).collect();
        if held == 0 {
            let untrack = ["untrack", text(file)].into_iter().map(str::to_owned).chain(all.clone());
            device.must(untrack);
            assert_eq!(query(file, SCHEMA), before);
            let after: Vec<_> =
                all.iter().map(|t| query(file, &format!("SELECT count(*) FROM \"{t}\""))).collect();
            assert_eq!(after, rows);
        }
    }
}

#[test]
fn the_database_of_coordinate_systems_is_synced_whole_and_let_go() {
    is_synced_whole_and_let_go("proj.db");
}

#[test]
fn what_django_makes_is_synced_whole_and_let_go() {
    is_synced_whole_and_let_go("django.db");
}
