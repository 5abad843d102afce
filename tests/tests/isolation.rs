//! Isolation: what goes wrong with one table or one database is told in words, stops nothing else, and ends by itself.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{open, query, sql};
use piecewise_tests::process::{Device, Said, Server, text, until};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const NOTES: &str = "PRAGMA journal_mode = WAL; CREATE TABLE notes(id TEXT PRIMARY KEY, body TEXT);";

struct Setting {
    folder: tempfile::TempDir,
    device: Device,
    server: Server,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::start(&folder.path().join("server"));
        let device = Device::joined(&folder.path().join("home"), &server, &["**=write"]);
        Self { folder, device, server }
    }

    /// A file with a table, synced with a database.
    fn synced(&self, database: &str) -> PathBuf {
        let file = self.folder.path().join(format!("{database}.db"));
        sql(&file, NOTES);
        self.device.must(["track", text(&file), "notes", "--as", database]);
        self.device.must(["sync", text(&file)]);
        file
    }

    fn sync(&self, file: &Path) -> Said {
        self.device.run(["sync", text(file)])
    }

    /// Stops the server, changes its files, and starts it again at the same address.
    fn restart(&mut self, meanwhile: impl FnOnce(&Path)) {
        let (data, listen) = (self.server.data.clone(), self.server.listen.clone());
        let stopped = std::mem::replace(&mut self.server, Server::start(&self.folder.path().join("other")));
        assert_eq!(stopped.stop(), 0);
        meanwhile(&data);
        self.server = Server::start_at(&data, &listen, &[]);
    }
}

#[test]
fn a_database_that_cannot_be_opened_is_said_to_be_so_and_opens_by_itself() {
    let mut it = Setting::new();
    let [fine, bad] = ["fine", "bad"].map(|database| it.synced(database));
    let kept = it.folder.path().join("kept.db");
    it.restart(|data| {
        std::fs::copy(data.join("bad.db"), &kept).unwrap();
        std::fs::write(data.join("bad.db"), "not a database at all ".repeat(400)).unwrap();
    });
    it.server.wait_for_log("cannot be opened");
    sql(&fine, "INSERT INTO notes VALUES ('1', 'goes on')");
    sql(&bad, "INSERT INTO notes VALUES ('1', 'waits')");
    assert_eq!(it.sync(&fine).code, 0);
    let said = it.sync(&bad);
    assert_eq!(said.code, 3, "{said}");
    assert!(said.err.contains("cannot open database bad now: the file is not a SQLite database"), "{said}");
    std::fs::copy(&kept, it.server.file("bad")).unwrap();
    it.server.wait_for_log("can be opened again");
    until("it syncs again", || it.sync(&bad).code == 0);
    assert_eq!(query(&it.server.file("bad"), "SELECT body FROM notes"), ["Text(\"waits\")"]);
}

#[test]
fn a_database_that_is_locked_holds_up_no_other() {
    let mut it = Setting::new();
    let [fine, locked] = ["fine", "locked"].map(|database| it.synced(database));
    let mut lock = None;
    it.restart(|data| {
        let conn = open(&data.join("locked.db"));
        conn.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; COMMIT").unwrap();
        lock = Some(conn);
    });
    let waiting = Instant::now();
    let mut command = it.device.command();
    let mut other = command.args(["sync", text(&locked)]).spawn().unwrap();
    for n in 0..5 {
        sql(&fine, &format!("INSERT INTO notes VALUES ('{n}', 'goes on')"));
        assert_eq!(it.sync(&fine).code, 0);
    }
    assert!(waiting.elapsed() < Duration::from_secs(60));
    assert_eq!(other.wait().unwrap().code(), Some(3), "it cannot be opened");
    drop(lock);
    until("it syncs again", || it.sync(&locked).code == 0);
}
