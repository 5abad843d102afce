//! A folder of databases: one process and one connection for all of them.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{query, sql};
use piecewise_tests::process::{Device, Server, Watch, text};
use serde_json::Value;
use std::path::{Path, PathBuf};

const NOTES: &str = "CREATE TABLE notes(id TEXT PRIMARY KEY, body TEXT)";
const ALL: &str = "SELECT id, body FROM notes ORDER BY id";

/// Bytes both ways of one question for all databases; a new checkpoint of the server's log may come beside the answer.
const ONE_QUESTION: u64 = 2_000;

/// A server that keeps two databases open, and two devices with a folder each.
struct Setting {
    folder: tempfile::TempDir,
    server: Server,
    devices: [Device; 2],
}

impl Setting {
    /// The first device has files of so many databases, with a row each, and has synced them.
    fn new(databases: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = start(&folder.path().join("server"), "127.0.0.1:0");
        let device = |n: usize| {
            std::fs::create_dir(folder.path().join(format!("{n}"))).unwrap();
            Device::joined(&folder.path().join(format!("home-{n}")), &server, &["d*/*=write"])
        };
        let devices = [device(0), device(1)];
        let it = Self { devices, server, folder };
        (0..databases).for_each(|n| it.make(n));
        if databases > 0 {
            it.sync(0);
        }
        it
    }

    /// Makes a database in the first device's folder.
    fn make(&self, n: usize) {
        sql(&self.file(0, n), &format!("PRAGMA journal_mode = WAL; {NOTES}"));
        sql(&self.file(0, n), &format!("INSERT INTO notes VALUES ('a', 'first of {n}')"));
        self.devices[0].must(["track", text(&self.file(0, n)), "notes", "--as", &format!("d{n}")]);
    }

    fn clone_all(&self) -> Value {
        self.devices[1].json(&["clone", "d*", text(&self.place(1))])
    }

    fn place(&self, device: usize) -> PathBuf {
        self.folder.path().join(format!("{device}"))
    }

    fn file(&self, device: usize, n: usize) -> PathBuf {
        self.place(device).join(format!("d{n}.db"))
    }

    fn sync(&self, device: usize) -> Value {
        self.devices[device].json(&["sync", text(&self.place(device))])
    }

    fn watch(&self, device: usize) -> Watch {
        self.devices[device].watch(&self.place(device))
    }

    fn write(&self, device: usize, n: usize, id: &str) {
        sql(&self.file(device, n), &format!("INSERT INTO notes VALUES ('{id}', 'from {device}')"));
    }

    fn rows(&self, device: usize, n: usize) -> Vec<String> {
        query(&self.file(device, n), ALL)
    }

    /// Waits for words of a watch until something is so.
    fn until(&self, watch: &Watch, mut done: impl FnMut() -> bool) {
        while !done() {
            watch.next_level();
        }
    }
}

fn start(data: &Path, listen: &str) -> Server {
    Server::start_at(data, listen, &["--open-databases", "2"])
}

fn bytes(synced: &Value) -> u64 {
    let moved = |what: &str| synced["moved"][what].as_u64().unwrap();
    moved("bytes_sent") + moved("bytes_received")
}

/// SQLite files that a process has open.
fn open_files(pid: u32) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = descriptors.flatten().filter_map(|d| std::fs::read_link(d.path()).ok());
    targets.filter(|t| t.to_string_lossy().ends_with(".db") && !t.ends_with("supervisor.db")).count()
}

#[test]
fn a_folder_gets_every_database_that_a_pattern_means_and_what_both_sides_write() {
    let it = Setting::new(5);
    let cloned = it.clone_all();
    assert_eq!((&cloned["databases"], &cloned["moved"]["rows_received"]), (&5.into(), &5.into()), "{cloned}");
    it.write(0, 3, "b");
    it.write(1, 3, "c");
    it.write(1, 4, "d");
    for device in [0, 1, 0] {
        it.sync(device);
    }
    for n in 0..5 {
        assert_eq!(it.rows(0, n), it.rows(1, n));
        assert_eq!(it.rows(0, n), query(&it.server.file(&format!("d{n}")), ALL));
    }
    assert_eq!((it.rows(1, 3).len(), it.rows(1, 4).len(), it.rows(1, 0).len()), (3, 2, 1));
}

#[test]
fn a_sync_with_nothing_new_is_one_question_for_all_databases() {
    let it = Setting::new(5);
    it.clone_all();
    for device in [0, 1] {
        it.sync(device);
        let synced = it.sync(device);
        assert!(bytes(&synced) < ONE_QUESTION, "{synced}");
        assert_eq!(synced["moved"]["segments_received"], 0);
    }
    it.write(0, 2, "b");
    it.sync(0);
    let one = it.sync(1);
    assert_eq!(one["moved"]["rows_received"], 1);
    let nothing = it.sync(1);
    assert!(bytes(&nothing) < ONE_QUESTION, "{nothing}");
}

#[test]
fn a_watch_brings_edits_new_tables_and_new_databases_by_itself() {
    let it = Setting::new(3);
    it.clone_all();
    let (ours, theirs) = (it.watch(0), it.watch(1));
    it.write(0, 1, "b");
    it.until(&theirs, || it.rows(1, 1).len() == 2);
    it.write(1, 2, "b");
    it.until(&ours, || it.rows(0, 2).len() == 2);
    // Tables, in files that a watch may just have looked into and be about to close.
    for (n, table) in [(0, "more"), (1, "more"), (2, "more"), (0, "yet"), (1, "yet"), (2, "yet")] {
        let writer = piecewise_tests::data::open(&it.file(0, n));
        writer.execute_batch(&format!("CREATE TABLE {table}(id TEXT PRIMARY KEY)")).unwrap();
        writer.execute_batch(&format!("INSERT INTO {table} VALUES ('x')")).unwrap();
        it.devices[0].must(["track", text(&it.file(0, n)), table]);
        let tables = format!("SELECT count(*) FROM sqlite_schema WHERE name = '{table}'");
        it.until(&theirs, || query(&it.file(1, n), &tables) == ["Integer(1)"]);
    }
    // A database.
    it.make(7);
    it.until(&theirs, || it.file(1, 7).exists() && it.rows(1, 7).len() == 1);
    it.write(1, 7, "b");
    it.until(&ours, || it.rows(0, 7).len() == 2);
    assert_eq!((ours.stop(), theirs.stop()), (0, 0));
}

#[test]
fn more_databases_than_may_be_open_are_edited_on_both_sides_and_few_are_open() {
    const DATABASES: usize = 60;
    let it = Setting::new(DATABASES);
    it.clone_all();
    let (ours, theirs) = (it.watch(0), it.watch(1));
    for round in 0..2 {
        for n in 0..DATABASES {
            it.write(0, n, &format!("x{round}"));
            it.write(1, n, &format!("y{round}"));
        }
        let rows = 1 + 2 * (round + 1);
        it.until(&ours, || (0..DATABASES).all(|n| it.rows(0, n).len() == rows));
        it.until(&theirs, || (0..DATABASES).all(|n| it.rows(1, n).len() == rows));
    }
    for n in 0..DATABASES {
        assert_eq!(it.rows(0, n), it.rows(1, n));
    }
    for pid in [ours.pid(), theirs.pid()] {
        assert!(open_files(pid) <= 48, "{}", open_files(pid));
    }
    assert!(open_files(it.server.pid()) < DATABASES);
}

#[test]
fn what_was_written_to_the_servers_files_by_sql_reaches_a_folder() {
    let it = Setting::new(4);
    it.clone_all();
    let theirs = it.watch(1);
    for n in 0..4 {
        sql(&it.server.file(&format!("d{n}")), "INSERT INTO notes VALUES ('s', 'on the server')");
        it.until(&theirs, || it.rows(1, n).len() == 2);
    }
}

#[test]
fn a_write_that_leaves_a_file_as_long_as_it_was_is_not_missed() {
    let it = Setting::new(2);
    it.clone_all();
    for round in 0..6 {
        // At once after a sync has closed the file, without a WAL that would stay.
        sql(&it.file(1, 0), &format!("UPDATE notes SET body = 'round {round}' WHERE id = 'a'"));
        let synced = it.sync(1);
        assert_eq!(synced["moved"]["rows_sent"], 1, "{synced}");
    }
    it.sync(0);
    assert_eq!(it.rows(0, 0), ["Text(\"a\") Text(\"round 5\")"]);
}

#[test]
fn a_broken_file_is_named_and_the_others_are_synced() {
    let it = Setting::new(4);
    it.clone_all();
    std::fs::write(it.file(1, 1), "this is no database, however long one looks at it").unwrap();
    it.write(1, 2, "b");
    let said = it.devices[1].run(["sync", text(&it.place(1))]);
    assert_eq!(said.code, 5, "{said}");
    assert!(said.err.contains("d1.db") && said.err.contains("not a SQLite database"), "{said}");
    assert!(!said.err.contains("d2.db"), "{said}");
    it.sync(0);
    assert_eq!(it.rows(0, 2).len(), 2);
    // A watch tells of it as well, and goes on.
    let watch = it.devices[1].start_watch(&it.place(1));
    watch.wait_for_error("d1.db");
    it.write(0, 3, "b");
    it.sync(0);
    it.until(&watch, || it.rows(1, 3).len() == 2);
}

#[test]
fn a_file_that_was_removed_is_made_again_by_the_next_sync() {
    let it = Setting::new(2);
    it.clone_all();
    std::fs::remove_file(it.file(1, 1)).unwrap();
    let synced = it.sync(1);
    assert_eq!(synced["moved"]["rows_received"], 1, "{synced}");
    assert_eq!(it.rows(1, 1), it.rows(0, 1));
    // A folder that follows nothing is a set of files.
    std::fs::remove_file(it.file(0, 1)).unwrap();
    assert_eq!(it.sync(0)["databases"], 1);
    assert!(!it.file(0, 1).exists());
}

#[test]
fn a_file_in_the_place_of_a_database_is_left_alone_and_told_of() {
    let it = Setting::new(2);
    sql(&it.file(1, 0), "CREATE TABLE mine(a); INSERT INTO mine VALUES (1)");
    let before = std::fs::read(it.file(1, 0)).unwrap();
    let said = it.devices[1].run(["clone", "d*", text(&it.place(1))]);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.err.contains("d0.db") && said.err.contains("in the place of database d0"), "{said}");
    assert_eq!(std::fs::read(it.file(1, 0)).unwrap(), before);
    assert_eq!(it.rows(1, 1), it.rows(0, 1));
}

#[test]
fn a_file_may_have_another_name_than_its_database() {
    let it = Setting::new(2);
    let file = it.place(1).join("mine.sqlite");
    sql(&file, &format!("{NOTES}; INSERT INTO notes VALUES ('z', 'from 1')"));
    it.devices[1].must(["track", text(&file), "notes", "--as", "d0"]);
    it.clone_all();
    assert!(it.file(1, 1).exists() && !it.file(1, 0).exists());
    it.sync(0);
    assert_eq!(query(&file, ALL), it.rows(0, 0));
    assert_eq!(it.rows(0, 0).len(), 2);
}

#[test]
fn tables_that_a_device_may_not_see_do_not_count() {
    let it = Setting::new(2);
    sql(&it.file(0, 0), "CREATE TABLE secret(id TEXT PRIMARY KEY); INSERT INTO secret VALUES ('x')");
    it.devices[0].must(["track", text(&it.file(0, 0)), "secret"]);
    it.sync(0);
    let device = Device::joined(&it.folder.path().join("home-2"), &it.server, &["d*/notes=read"]);
    let place = it.folder.path().join("2");
    let cloned = device.json(&["clone", "*", text(&place)]);
    assert_eq!((&cloned["databases"], &cloned["moved"]["rows_received"]), (&2.into(), &2.into()), "{cloned}");
    device.json(&["sync", text(&place)]);
    sql(&it.file(0, 0), "INSERT INTO secret VALUES ('y')");
    it.sync(0);
    let synced = device.json(&["sync", text(&place)]);
    assert!(bytes(&synced) < 1_900, "{synced}");
}

#[test]
fn files_with_some_of_their_databases_tables_are_asked_about_once() {
    let it = Setting::new(2);
    it.clone_all();
    sql(&it.file(1, 0), "CREATE TABLE more(id TEXT PRIMARY KEY); INSERT INTO more VALUES ('x')");
    it.devices[1].must(["track", text(&it.file(1, 0)), "more"]);
    it.sync(1);
    // The first device's file has only what was tracked there.
    it.sync(0);
    let synced = it.sync(0);
    assert_eq!(
        query(&it.file(0, 0), "SELECT count(*) FROM sqlite_schema WHERE name = 'more'"),
        ["Integer(0)"]
    );
    let attached = bytes(&synced);
    assert!(attached < 2_500, "{synced}");
    it.write(1, 0, "b");
    it.sync(1);
    it.sync(0);
    assert_eq!(it.rows(0, 0), it.rows(1, 0));
}

#[test]
fn a_server_that_was_killed_knows_what_it_holds_and_what_was_written_meanwhile() {
    let it = Setting::new(3);
    it.clone_all();
    it.sync(1);
    let Setting { folder, server, devices } = it;
    let (data, listen) = (server.data.clone(), server.listen.clone());
    server.kill();
    sql(&data.join("d2.db"), "INSERT INTO notes VALUES ('s', 'while it was down')");
    let server = start(&data, &listen);
    let it = Setting { folder, server, devices };
    let synced = it.sync(1);
    assert_eq!(synced["moved"]["rows_received"], 1, "{synced}");
    assert_eq!(it.rows(1, 2).len(), 2);
    assert!(bytes(&it.sync(1)) < ONE_QUESTION);
}

#[test]
fn a_watch_of_a_folder_goes_on_after_the_server_was_away() {
    let it = Setting::new(3);
    it.clone_all();
    let theirs = it.watch(1);
    let Setting { folder, server, devices } = it;
    let (data, listen) = (server.data.clone(), server.listen.clone());
    server.kill();
    theirs.wait_for_error("trying again");
    let it = Setting { server: start(&data, &listen), folder, devices };
    it.write(1, 0, "while the server was away");
    it.until(&theirs, || query(&it.server.file("d0"), ALL).len() == 2);
    it.write(0, 1, "b");
    it.sync(0);
    it.until(&theirs, || it.rows(1, 1).len() == 2);
}

#[test]
fn status_and_wait_know_folders() {
    let it = Setting::new(2);
    it.clone_all();
    it.write(1, 1, "b");
    let caught_up = || -> Vec<bool> {
        let status = it.devices[1].json(&["status", text(&it.place(1))]);
        assert_eq!(status["follows"], serde_json::json!(["d*"]));
        status["files"].as_array().unwrap().iter().map(|file| file["caught_up"] == true).collect()
    };
    assert_eq!(caught_up(), [true, false]);
    it.devices[1].must(["wait", text(&it.place(1))]);
    assert_eq!(caught_up(), [true, true]);
    assert_eq!(query(&it.server.file("d1"), ALL).len(), 2);
    std::fs::write(it.file(1, 0), "broken, for good, whatever one does about it").unwrap();
    let said = it.devices[1].run(["wait", text(&it.place(1))]);
    assert!(said.code == 5 && said.err.contains("d0.db"), "{said}");
}

#[test]
fn a_table_that_is_stopped_fails_the_status_of_its_folder_and_a_wait_for_it() {
    let it = Setting::new(2);
    sql(&it.file(0, 0), "ALTER TABLE notes RENAME TO other");
    let folder = it.place(0);
    assert_eq!(it.devices[0].run(["sync", text(&folder)]).code, 1);
    let said = it.devices[0].run(["status", text(&folder)]);
    assert!(said.code == 1 && said.out.contains("no: 1 table is stopped"), "{said}");
    assert_eq!(it.devices[0].run(["status", text(&folder), "--json"]).code, 1);
    let said = it.devices[0].run(["wait", text(&folder)]);
    assert!(said.code == 1 && said.err.contains("d0.db: 1 table is stopped"), "{said}");
    sql(&it.file(0, 0), "ALTER TABLE other RENAME TO notes");
    it.devices[0].must(["wait", text(&folder)]);
    it.devices[0].must(["status", text(&folder)]);
}

#[test]
fn mistakes_about_folders_are_told() {
    let it = Setting::new(1);
    let said = it.devices[1].run(["sync", text(&it.place(1))]);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.err.contains("no file") && said.err.contains("piecewise clone"), "{said}");
    let said = it.devices[1].run(["clone", "d/*", text(&it.place(1))]);
    assert!(said.code == 1 && said.err.contains("means no databases"), "{said}");
    let said = it.devices[0].run(["clone", "d*", text(&it.file(0, 0))]);
    assert!(said.code == 5 && said.err.contains("is a file"), "{said}");
    std::fs::write(it.place(1).join("piecewise.toml"), "follow = 7").unwrap();
    let said = it.devices[1].run(["sync", text(&it.place(1))]);
    assert!(said.code == 1 && said.err.contains("piecewise.toml"), "{said}");
}
