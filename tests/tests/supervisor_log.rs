//! The supervisor's log, with the real binaries: what happens is in it, what is changed in it is found.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{query, sql};
use piecewise_tests::process::{Device, Server, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const NOTES: &str = "CREATE TABLE notes(id TEXT PRIMARY KEY, body TEXT);";

struct Setting {
    folder: TempDir,
    data: PathBuf,
    devices: [(Device, PathBuf); 2],
}

impl Setting {
    /// A server that has stopped, with two devices that synced through it.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("server");
        let server = Server::start(&data);
        let device = |name: &str| {
            let device = Device::joined(&folder.path().join(name), &server, &["app/*=write"]);
            let file = folder.path().join(format!("{name}.db"));
            sql(&file, &format!("PRAGMA journal_mode = WAL; {NOTES}"));
            device.must(["track", text(&file), "notes", "--as", "app"]);
            (device, file)
        };
        let devices = [device("one"), device("two")];
        let it = Self { data, devices, folder };
        it.write(0, "a");
        it.sync_both();
        it.write(1, "b");
        it.sync_both();
        it.sync_both();
        assert_eq!(server.stop(), 0);
        it
    }

    fn write(&self, device: usize, id: &str) {
        sql(&self.devices[device].1, &format!("INSERT INTO notes VALUES ('{id}', 'by {device}')"));
    }

    fn sync_both(&self) {
        for (device, file) in &self.devices {
            device.must(["sync", text(file), "--quiet"]);
        }
    }

    fn start(&self) -> Server {
        // The same address as before, which the devices know.
        let address = std::fs::read_to_string(self.data.join("server.address")).unwrap();
        Server::start_at(&self.data, address.strip_prefix("ws://").unwrap(), &[])
    }

    fn log(&self, arguments: &[&str]) -> piecewise_tests::process::Said {
        Server::log(&self.data, arguments)
    }

    /// The entries that `log show` lists with these filters.
    fn entries(&self, filters: &[&str]) -> Vec<Value> {
        let said = self.log(&[&["show", "--json"], filters].concat());
        assert_eq!(said.code, 0, "{said}");
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn key(&self) -> String {
        let status = self.log(&["status"]).out;
        status.lines().find_map(|l| l.strip_prefix("key ")).unwrap().trim().to_owned()
    }

    fn export(&self) -> PathBuf {
        let folder = self.folder.path().join("export");
        assert_eq!(self.log(&["export", text(&folder)]).code, 0);
        folder
    }
}

/// Puts a backup in the place of a file.
fn restore(file: &Path, backup: &[u8]) {
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{ending}", text(file)));
    }
    std::fs::write(file, backup).expect("a file");
}

fn verify(folder: &Path, key: &str) -> (i32, String) {
    let device = Device { home: folder.join("nobody") };
    let said = device.run(["log", "verify", text(folder), "--key", key]);
    (said.code, said.to_string())
}

#[test]
fn all_that_happened_is_in_the_log_which_verifies_with_its_key_alone() {
    let it = Setting::new();
    let mut kinds = BTreeMap::new();
    for entry in it.entries(&[]) {
        *kinds.entry(entry["event"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    // The description and a row of the first device, a row of the second, which got three segments.
    let wanted = [("accepted", 3), ("delivered", 2), ("invited", 2), ("joined", 2)];
    assert_eq!(kinds, wanted.map(|(kind, n)| (kind.to_owned(), n)).into());
    let delivered = it.entries(&["--container", "app/notes"]);
    assert!(delivered.iter().filter(|e| e["event"] == "delivered").all(|e| e["receipt"].is_string()));
    let row = it.entries(&["--row", "app/notes/b"]);
    assert_eq!(row.len(), 1, "{row:?}");
    assert_eq!(row[0]["changes"], 1);
    assert_eq!(it.entries(&["--peer", row[0]["author"].as_str().unwrap()]).len(), 3);
    assert!(it.entries(&["--until", "2020-01-01T00:00:00Z"]).is_empty());
    let said = it.log(&["verify"]);
    assert_eq!(said.code, 0, "{said}");
    assert!(said.out.contains("the databases have 3 segments"), "{said}");
    let (code, said) = verify(&it.export(), &it.key());
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("9 entries, 2 receipts"), "{said}");
}

#[test]
fn whatever_is_changed_in_an_export_is_found_and_what_is_missing_is_said() {
    let it = Setting::new();
    let (folder, key) = (it.export(), it.key());
    let bundle = folder.join("tile/entries/000.p/9");
    let good = std::fs::read(&bundle).unwrap();
    for at in [40, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&bundle, bad).unwrap();
        let (code, said) = verify(&folder, &key);
        assert_eq!(code, 1, "{said}");
    }
    std::fs::write(&bundle, &good[..good.len() - 1]).unwrap();
    assert_eq!(verify(&folder, &key).0, 1, "a bundle that is cut off");
    std::fs::remove_file(&bundle).unwrap();
    let (code, said) = verify(&folder, &key);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("entries from 0 on"), "{said}");
    std::fs::write(&bundle, good).unwrap();
    assert_eq!(verify(&folder, &key).0, 0);
    let tile = folder.join("tile/0/000.p/9");
    let mut hashes = std::fs::read(&tile).unwrap();
    hashes[64] ^= 1;
    std::fs::write(&tile, hashes).unwrap();
    let (code, said) = verify(&folder, &key);
    assert!(code == 1 && said.contains("entry 2 "), "{said}");
    assert_eq!(verify(&folder, "nonsense").0, 2);
    let other = Setting::new();
    assert_eq!(verify(&folder, &other.key()).0, 2, "the key of another log");
}

#[test]
fn an_entry_that_is_changed_or_taken_out_on_the_server_is_found_by_its_index() {
    let it = Setting::new();
    let db = it.data.join("supervisor.db");
    let backup = std::fs::read(&db).unwrap();
    for (change, found) in [
        ("UPDATE log_entries SET entry = CAST(entry || x'00' AS BLOB) WHERE no = 4", "entry 4 "),
        ("DELETE FROM log_entries WHERE no = 5", "entry 5 "),
        ("UPDATE log_nodes SET hash = zeroblob(32) WHERE level = 1 AND n = 2", "tile 1/2 "),
        ("DELETE FROM log_entries WHERE no = 8", "root"),
    ] {
        sql(&db, change);
        let said = it.log(&["verify"]);
        assert_eq!(said.code, 1, "{change}: {said}");
        assert!(said.to_string().contains(found) || found == "root", "{change}: {said}");
        restore(&db, &backup);
    }
    assert_eq!(it.log(&["verify"]).code, 0);
    sql(&it.data.join("app.db"), "DELETE FROM piecewise_segments WHERE no = 2");
    let said = it.log(&["verify"]);
    assert!(said.code == 1 && said.to_string().contains("in no database"), "{said}");
}

#[test]
fn after_a_kill_at_any_moment_every_segment_is_in_the_log_exactly_once() {
    let it = Setting::new();
    for round in 0..3 {
        let server = it.start();
        it.write(0, &format!("c{round}"));
        it.devices[0].0.must(["sync", text(&it.devices[0].1), "--quiet"]);
        server.kill();
    }
    assert_eq!(it.start().stop(), 0);
    let accepted: Vec<_> = it.entries(&[]).into_iter().filter(|e| e["event"] == "accepted").collect();
    let segments: std::collections::BTreeSet<_> = accepted.iter().map(|e| e["segment"].to_string()).collect();
    assert_eq!((accepted.len(), segments.len()), (6, 6));
    let said = it.log(&["verify"]);
    assert_eq!(said.code, 0, "{said}");
}

#[test]
fn a_client_demands_proof_that_what_it_wrote_is_in_the_log() {
    let it = Setting::new();
    let _server = it.start();
    let (device, file) = &it.devices[0];
    let checked = device.json(&["log", "check", text(file)]);
    assert_eq!((checked["missing"].as_u64(), checked["segments"].as_array().unwrap().len()), (Some(0), 2));
    let history = device.json(&["history", text(file), "notes", "b", "--log"]);
    let entry = history[0]["log"]["entry"].as_u64().unwrap();
    assert_eq!(it.entries(&["--row", "app/notes/b"])[0]["index"], entry);
    let status = device.json(&["log", "status"]);
    assert_eq!(status[0]["verified"], true);
}

#[test]
fn a_log_restored_from_a_backup_signs_nothing_until_a_new_origin_is_declared() {
    let it = Setting::new();
    let backup = std::fs::read(it.data.join("supervisor.db")).unwrap();
    let server = it.start();
    it.write(0, "later");
    it.sync_both();
    assert_eq!(server.stop(), 0);
    // Only the database was restored: the note beside it shows that.
    restore(&it.data.join("supervisor.db"), &backup);
    let server = it.start();
    let status = it.log(&["status"]).out;
    assert!(status.contains("halted"), "{status}");
    it.write(1, "after");
    let (device, file) = &it.devices[1];
    let said = device.run(["sync", text(file)]);
    assert!(said.code == 0 && said.to_string().contains("signs no checkpoint"), "{said}");
    assert_eq!(
        query(&server.file("app"), "SELECT count(*) FROM notes"),
        ["Integer(4)"],
        "data sync as before"
    );
    assert_eq!(server.stop(), 0);
    assert_eq!(it.log(&["new-origin"]).code, 0);
    let _server = it.start();
    for (device, file) in &it.devices {
        let said = device.run(["sync", text(file)]);
        assert!(said.code == 0 && said.to_string().contains("declared a new log"), "{said}");
        assert_eq!(device.json(&["log", "status"])[0]["verified"], true);
    }
}

#[test]
fn a_rewritten_log_alarms_the_clients_that_saw_the_old_one_and_data_go_on_syncing() {
    let it = Setting::new();
    let save = |name: &str| std::fs::read(it.data.join(name)).unwrap();
    let backup = ["supervisor.db", "log.checkpoint"].map(|name| (name, save(name)));
    let server = it.start();
    it.write(0, "later");
    it.sync_both();
    assert_eq!(server.stop(), 0);
    let server = it.start(); // the devices see the checkpoint with what came last
    it.sync_both();
    assert_eq!(server.stop(), 0);
    // The database and the note are as they were before.
    backup.iter().for_each(|(name, bytes)| restore(&it.data.join(name), bytes));
    let server = it.start();
    it.write(1, "after");
    let (device, file) = &it.devices[1];
    let said = device.run(["sync", text(file)]);
    assert!(said.code == 0 && said.to_string().contains("this server is unverified"), "{said}");
    server.wait_for_log("has a checkpoint that the log does not continue");
    let status = &device.json(&["log", "status"])[0];
    assert_eq!(status["verified"], false);
    assert!(status["alarm"]["ours"].is_string() && status["alarm"]["theirs"].is_string(), "{status}");
    assert_eq!(query(&server.file("app"), "SELECT count(*) FROM notes"), ["Integer(4)"]);
    assert_eq!(server.stop(), 0);
    assert_eq!(it.log(&["verify"]).code, 1);
    assert_eq!(it.log(&["new-origin"]).code, 0);
    let _server = it.start();
    device.must(["sync", text(file), "--quiet"]);
    assert_eq!(device.json(&["log", "status"])[0]["verified"], true);
}
