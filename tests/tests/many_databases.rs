//! More databases than a server keeps open: those that rest wake up for whoever has something to say.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{query, sql};
use piecewise_tests::process::{Device, Server, Watch, text, until};
use std::path::PathBuf;

const NOTES: &str = "CREATE TABLE notes(id TEXT PRIMARY KEY, body TEXT);";
const ALL: &str = "SELECT id, body FROM notes ORDER BY id";
const DATABASES: usize = 8;

struct Setting {
    folder: tempfile::TempDir,
    server: Server,
    devices: [Device; 2],
}

impl Setting {
    /// A server that keeps two databases open, and two devices with a file of each of eight.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server =
            Server::start_at(&folder.path().join("server"), "127.0.0.1:0", &["--open-databases", "2"]);
        let device = |name: &str| Device::joined(&folder.path().join(name), &server, &["d*/*=write"]);
        let devices = [device("home-0"), device("home-1")];
        let it = Self { devices, server, folder };
        for n in 0..DATABASES {
            sql(&it.file(0, n), &format!("PRAGMA journal_mode = WAL; {NOTES}"));
            it.devices[0].must(["track", text(&it.file(0, n)), "notes", "--as", &format!("d{n}")]);
            it.devices[0].must(["sync", text(&it.file(0, n)), "--quiet"]);
            it.devices[1].must(["clone", &format!("d{n}"), text(&it.file(1, n))]);
        }
        it
    }

    fn file(&self, device: usize, n: usize) -> PathBuf {
        self.folder.path().join(format!("{device}-{n}.db"))
    }

    fn watch_all(&self, device: usize) -> Vec<Watch> {
        (0..DATABASES).map(|n| self.devices[device].watch(&self.file(device, n))).collect()
    }

    /// Files of databases that the server has open.
    fn open_files(&self) -> usize {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.server.pid())).unwrap();
        let targets = descriptors.flatten().filter_map(|d| std::fs::read_link(d.path()).ok());
        targets.filter(|t| t.to_string_lossy().ends_with(".db") && !t.ends_with("supervisor.db")).count()
    }
}

#[test]
fn links_at_rest_hear_of_edits_and_bring_their_own() {
    let it = Setting::new();
    let (ours, theirs) = (it.watch_all(0), it.watch_all(1));
    for round in 0..2 {
        for n in 0..DATABASES {
            sql(&it.file(0, n), &format!("INSERT INTO notes VALUES ('a{round}', 'from 0')"));
            theirs[n].next_level();
            sql(&it.file(1, n), &format!("INSERT INTO notes VALUES ('b{round}', 'from 1')"));
            while query(&it.file(0, n), ALL).len() < 2 * (round + 1) {
                ours[n].next_level();
            }
        }
        until("the server closes files that rest", || it.open_files() < DATABASES);
    }
    for n in 0..DATABASES {
        assert_eq!(query(&it.file(0, n), ALL), query(&it.file(1, n), ALL));
        assert_eq!(query(&it.file(0, n), ALL), query(&it.server.file(&format!("d{n}")), ALL));
    }
}

#[test]
fn what_is_written_to_a_database_at_rest_by_sql_reaches_everyone() {
    let it = Setting::new();
    let theirs = it.watch_all(1);
    for (n, watch) in theirs.iter().enumerate() {
        sql(&it.server.file(&format!("d{n}")), "INSERT INTO notes VALUES ('s', 'on the server')");
        watch.next_level();
        assert_eq!(query(&it.file(1, n), ALL), ["Text(\"s\") Text(\"on the server\")"]);
    }
}
