//! Connections that are cut every few dozen kilobytes bring everything all the same.

use piecewise_tests::data::{fingerprint, open, query};
use piecewise_tests::process::{Device, Server, text};
use piecewise_tests::proxy::Proxy;
use piecewise_tests::rng::Rng;
use std::path::Path;

/// Rows of about a kilobyte that no compression makes smaller, one of them larger than any cut lets through.
fn fill(file: &Path, kilobytes: u64) {
    let conn = open(file);
    conn.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB); BEGIN").expect("SQLite takes it");
    let mut rng = Rng(11);
    let mut bytes = |len: usize| (0..len).map(|_| rng.number() as u8).collect::<Vec<_>>();
    for n in 0..kilobytes {
        conn.execute("INSERT INTO t VALUES (?, ?)", (n as i64, bytes(1000))).expect("SQLite takes it");
    }
    conn.execute("INSERT INTO t VALUES (?, ?)", (kilobytes as i64, bytes(300_000))).expect("SQLite takes it");
    conn.execute_batch("COMMIT").expect("SQLite takes it");
}

/// A first sync and a clone over lines that are cut after so many bytes.
fn cut_every(bytes: u64, kilobytes: u64) {
    let folder = tempfile::tempdir().expect("SQLite takes it");
    let at = |name: &str| folder.path().join(name);
    let server = Server::start(&at("server"));
    let (file, copy) = (at("a.db"), at("b.db"));
    fill(&file, kilobytes);
    let device = |name: &str| {
        let proxy = Proxy::cutting(&server.listen, bytes);
        let device = Device { home: at(name) };
        device.must(["join", &server.invite(&["app/*=write"]), "--address", proxy.address()]);
        (device, proxy)
    };
    // What a connection costs beside data, and half a piece that is sent in vain.
    let expected = |total: u64| 4 * total / (bytes - 20_000) + 20;
    let total = kilobytes * 1000 + 300_000;

    let (author, line) = device("home-a");
    author.must(["track", text(&file), "--all", "--as", "app"]);
    while author.run(["sync", text(&file), "--quiet"]).code == 3 {
        assert!(line.connections() < expected(total), "{} connections", line.connections());
    }
    assert_eq!(fingerprint(&server.file("app"), "t"), fingerprint(&file, "t"));

    let (reader, line) = device("home-b");
    let begun = reader.run(["clone", "app", text(&copy)]);
    assert!(begun.code == 3 && copy.exists(), "{begun}");
    while reader.run(["sync", text(&copy), "--quiet"]).code == 3 {
        assert!(line.connections() < expected(total), "{} connections", line.connections());
    }
    assert_eq!(fingerprint(&copy, "t"), fingerprint(&file, "t"));
    // Nothing is left of frames that came in pieces.
    let pieces = "SELECT count(*) FROM piecewise_pieces";
    assert_eq!(query(&copy, pieces), ["Integer(0)"]);
}

#[test]
fn lines_that_are_cut_every_50_kilobytes_bring_all() {
    cut_every(50_000, 10_000);
}

#[test]
fn lines_that_are_cut_every_100_kilobytes_bring_all() {
    cut_every(100_000, 10_000);
}

#[test]
fn lines_that_are_cut_every_200_kilobytes_bring_all() {
    cut_every(200_000, 10_000);
}
