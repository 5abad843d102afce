//! Pair: a server and the files of one application on two devices, with the real binaries.

use crate::data::{query, sql};
use crate::process::{Device, PATIENCE, Server, text};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tempfile::TempDir;

/// A server and two files of an application on devices of their own.
#[derive(Debug)]
pub struct Pair {
    /// Where all of it is.
    pub folder: TempDir,
    /// The server.
    pub server: Server,
    /// The two devices.
    pub devices: [Device; 2],
    /// Their files.
    pub files: [PathBuf; 2],
}

impl Pair {
    /// Two files with a schema, not tracked yet.
    pub fn new(journal_mode: &str, schema: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let server = Server::start(&at("server"));
        let join = |name: &str| Device::joined(&at(name), &server, &["app/*=write"]);
        let devices = [join("home-a"), join("home-b")];
        let files = [at("a.db"), at("b.db")];
        for file in &files {
            sql(file, &format!("PRAGMA journal_mode = {journal_mode}; {schema}"));
        }
        Self { folder, server, devices, files }
    }

    /// A file with a schema, tracked, and a clone of it.
    pub fn cloned(schema: &str) -> Self {
        let pair = Self::new("WAL", schema);
        pair.track(0);
        pair.sync(0);
        std::fs::remove_file(&pair.files[1]).expect("it was there");
        pair.devices[1].must(["clone", "app", pair.path(1)]);
        pair
    }

    /// Tracks all tables of a file.
    pub fn track(&self, n: usize) {
        self.devices[n].must(["track", self.path(n), "--all", "--as", "app"]);
    }

    /// Syncs a file once.
    #[track_caller]
    pub fn sync(&self, n: usize) {
        self.devices[n].must(["sync", self.path(n), "--quiet"]);
    }

    /// Syncs both until each has what the other wrote.
    #[track_caller]
    pub fn sync_both(&self) {
        [0, 1, 0].into_iter().for_each(|n| self.sync(n));
    }

    /// A file's path as text.
    pub fn path(&self, n: usize) -> &str {
        text(&self.files[n])
    }

    /// A query gives the same in both files and at the server; what.
    #[track_caller]
    pub fn same(&self, wanted: &str) -> Vec<String> {
        let rows = query(&self.files[0], wanted);
        assert_eq!(query(&self.files[1], wanted), rows, "{wanted} in the second file");
        assert_eq!(query(&self.server.file("app"), wanted), rows, "{wanted} at the server");
        rows
    }
}

/// Waits until a query gives this; the file is watched by nobody but SQLite.
#[track_caller]
pub fn wait_for(file: &Path, wanted: &str, lines: &[&str]) {
    let started = Instant::now();
    loop {
        let found = query(file, wanted);
        if found == lines {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{wanted} gives {found:?}");
        std::thread::yield_now();
    }
}
