//! Restored backups, copied files, killed processes: all heal at the next sync.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{open, query, sql};
use piecewise_tests::process::{Device, Server, text};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const NOTES: &str = "CREATE TABLE notes(id TEXT PRIMARY KEY, body TEXT);";
const ALL: &str = "SELECT id, body FROM notes ORDER BY id";

struct Setting {
    folder: TempDir,
    server: Server,
    device: Device,
    file: PathBuf,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::start(&folder.path().join("server"));
        let device = Device::joined(&folder.path().join("home"), &server, &["app/*=write"]);
        let file = folder.path().join("a.db");
        sql(&file, &format!("PRAGMA journal_mode = WAL; {NOTES}"));
        device.must(["track", text(&file), "notes", "--as", "app"]);
        Self { folder, server, device, file }
    }

    fn sync(&self) {
        self.device.must(["sync", text(&self.file), "--quiet"]);
    }
}

/// Copies a database as a backup tool does: whole, with what its WAL holds.
fn copy(from: &Path, to: &Path) {
    open(from).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{ending}", text(to)));
    }
    std::fs::copy(from, to).expect("a copy");
}

#[test]
fn an_old_backup_of_a_client_gets_back_what_it_had_sent() {
    let it = Setting::new();
    sql(&it.file, "INSERT INTO notes VALUES ('1', 'before')");
    it.sync();
    let backup = it.folder.path().join("backup.db");
    copy(&it.file, &backup);
    sql(
        &it.file,
        "INSERT INTO notes VALUES ('2', 'after'); UPDATE notes SET body = 'changed' WHERE id = '1'",
    );
    it.sync();
    copy(&backup, &it.file);
    sql(&it.file, "INSERT INTO notes VALUES ('3', 'after the restore')");
    it.sync();
    assert_eq!(query(&it.file, ALL), query(&it.server.file("app"), ALL));
    assert_eq!(
        query(&it.file, "SELECT body FROM notes ORDER BY id"),
        ["Text(\"changed\")", "Text(\"after\")", "Text(\"after the restore\")"]
    );
}

#[test]
fn a_file_copied_to_a_second_machine_goes_its_own_way() {
    let it = Setting::new();
    sql(&it.file, "INSERT INTO notes VALUES ('1', 'shared')");
    it.sync();
    let (twin, file) = (it.device.clone(), it.folder.path().join("twin.db"));
    copy(&it.file, &file);
    for (n, f) in [&it.file, &file].into_iter().enumerate() {
        sql(
            f,
            &format!(
                "INSERT INTO notes VALUES ('from {n}', 'x'); UPDATE notes SET body = 'by {n}' WHERE id = '1'"
            ),
        );
    }
    for f in [&it.file, &file, &it.file] {
        twin.must(["sync", text(f), "--quiet"]);
    }
    assert_eq!(query(&it.file, ALL), query(&file, ALL));
    assert_eq!(query(&file, "SELECT count(*) FROM notes"), ["Integer(3)"]);
    let conflicts = twin.json(&["conflicts", text(&file)]);
    assert_eq!(conflicts[0]["others"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_server_restored_from_yesterday_gets_back_what_clients_had_sent() {
    let it = Setting::new();
    sql(&it.file, "INSERT INTO notes VALUES ('1', 'yesterday')");
    it.sync();
    let (data, listen) = (it.server.data.clone(), it.server.listen.clone());
    assert_eq!(it.server.stop(), 0);
    let yesterday = it.folder.path().join("yesterday.db");
    copy(&data.join("app.db"), &yesterday);
    let server = Server::start_at(&data, &listen, &[]);
    sql(&it.file, "INSERT INTO notes VALUES ('2', 'today')");
    it.device.must(["sync", text(&it.file), "--quiet"]);
    server.kill();
    copy(&yesterday, &data.join("app.db"));
    let server = Server::start_at(&data, &listen, &[]);
    assert_eq!(query(&server.file("app"), "SELECT count(*) FROM notes"), ["Integer(1)"]);
    it.device.must(["sync", text(&it.file), "--quiet"]);
    assert_eq!(query(&server.file("app"), ALL), query(&it.file, ALL));
    assert_eq!(query(&it.file, "SELECT count(*) FROM notes"), ["Integer(2)"]);
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_server_is_killed() {
    let it = Setting::new();
    let (data, listen) = (it.server.data.clone(), it.server.listen.clone());
    let mut server = it.server;
    for round in 0..5 {
        let rows: Vec<_> = (0..4000).map(|n| format!("('{round}-{n}', 'body {n}')")).collect();
        sql(&it.file, &format!("INSERT INTO notes VALUES {}", rows.join(", ")));
        // Killed in the middle of a sync …
        let mut command = it.device.command();
        let syncing = command.args(["sync", text(&it.file), "--json"]).stdout(std::process::Stdio::null());
        let mut syncing = syncing.stderr(std::process::Stdio::null()).spawn().expect("it starts");
        server.wait_for_log("attached");
        server.kill();
        let _ = syncing.wait();
        server = Server::start_at(&data, &listen, &[]);
        // … and right after one whose success was reported.
        it.device.must(["sync", text(&it.file), "--quiet"]);
        server.kill();
        assert_eq!(query(&data.join("app.db"), "PRAGMA integrity_check"), ["Text(\"ok\")"]);
        assert_eq!(query(&data.join("app.db"), ALL), query(&it.file, ALL), "round {round}");
        server = Server::start_at(&data, &listen, &[]);
    }
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_client_killed_in_the_middle_goes_on_where_it_was() {
    let it = Setting::new();
    let rows: Vec<_> = (0..30_000).map(|n| format!("('{n}', 'body {n}')")).collect();
    sql(&it.file, &format!("INSERT INTO notes VALUES {}", rows.join(", ")));
    for _ in 0..3 {
        let mut command = it.device.command();
        let mut syncing = command.args(["sync", text(&it.file), "--quiet"]).spawn().expect("it starts");
        it.server.wait_for_log("attached");
        syncing.kill().expect("it is killed");
        syncing.wait().expect("it ends");
        assert_eq!(query(&it.file, "PRAGMA integrity_check"), ["Text(\"ok\")"]);
    }
    it.sync();
    assert_eq!(query(&it.server.file("app"), ALL), query(&it.file, ALL));
}
