//! Rights that change while a device is connected, by a command of another process.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{query, sql};
use piecewise_tests::process::{Device, Server, text, until};
use std::path::PathBuf;
use tempfile::TempDir;

struct Setting {
    folder: TempDir,
    server: Server,
    /// It may do everything, and its file has two tables.
    writer: Device,
    file: PathBuf,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&folder.path().join("server"));
        let writer = Device::joined(&folder.path().join("writer"), &server, &["app/*=admin"]);
        let file = folder.path().join("writer.db");
        sql(
            &file,
            "PRAGMA journal_mode = WAL; CREATE TABLE a(id TEXT PRIMARY KEY, v); CREATE TABLE b(id TEXT PRIMARY KEY, v);
             INSERT INTO a VALUES ('1', 'x'); INSERT INTO b VALUES ('1', 'y')",
        );
        writer.must(["track", text(&file), "--all", "--as", "app"]);
        writer.must(["sync", text(&file)]);
        Self { folder, server, writer, file }
    }

    /// A device with this grant, its key and a copy of what it may see.
    fn with_copy(&self, grant: &str) -> (Device, String, PathBuf) {
        let device = Device::joined(&self.folder.path().join("other"), &self.server, &[grant]);
        let key = device.json(&["identity"])["key"].as_str().unwrap().to_owned();
        let copy = self.folder.path().join("other.db");
        device.must(["clone", "app", text(&copy)]);
        (device, key, copy)
    }

    fn write(&self, statement: &str) {
        sql(&self.file, statement);
        self.writer.must(["sync", text(&self.file)]);
    }
}

#[test]
fn a_revoked_device_is_cut_off_while_it_is_connected_and_gets_nothing_more() {
    let it = Setting::new();
    let (device, key, copy) = it.with_copy("app/*=write");
    let watch = device.watch(&copy);
    assert_eq!(it.server.run("revoke", &[&key]).code, 0);
    it.server.wait_for_log("what it may do has changed");
    watch.wait_for_error("revoked");
    it.write("UPDATE a SET v = 'after'");
    sql(&copy, "UPDATE b SET v = 'too late'");
    assert_eq!(device.run(["sync", text(&copy)]).code, 4);
    assert_eq!(query(&copy, "SELECT v FROM a"), ["Text(\"x\")"]);
    assert_eq!(query(&it.server.file("app"), "SELECT v FROM b"), ["Text(\"y\")"]);
}

#[test]
fn a_table_granted_to_a_device_that_is_connected_appears_there_by_itself() {
    let it = Setting::new();
    let (device, key, copy) = it.with_copy("app/a=read");
    let _watch = device.watch(&copy);
    assert_eq!(query(&copy, "SELECT name FROM sqlite_schema WHERE name = 'b'"), Vec::<String>::new());
    assert_eq!(it.server.run("grant", &[&key, "app/b=read"]).code, 0);
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'b'";
    until("the table is there", || query(&copy, tables) == ["Integer(1)"]);
    until("its row is there", || query(&copy, "SELECT v FROM b") == ["Text(\"y\")"]);
}

#[test]
fn a_device_that_loses_one_of_its_tables_while_it_is_connected_goes_on_with_the_other() {
    let it = Setting::new();
    let (device, key, copy) = it.with_copy("app/*=write");
    assert_eq!(it.server.run("grant", &[&key, "app/b=write"]).code, 0);
    let watch = device.watch(&copy);
    assert_eq!(it.server.run("ungrant", &[&key, "app/*=write"]).code, 0);
    it.server.wait_for_log("what it may do has changed");
    watch.wait_for_error("the server does not grant app/a to this device");
    it.write("UPDATE a SET v = 'after'; UPDATE b SET v = 'after'");
    until("it hears of b", || query(&copy, "SELECT v FROM b") == ["Text(\"after\")"]);
    sql(&copy, "INSERT INTO b VALUES ('2', 'theirs')");
    until("b is sent", || query(&it.server.file("app"), "SELECT count(*) FROM b") == ["Integer(2)"]);
    assert_eq!(query(&copy, "SELECT v FROM a"), ["Text(\"x\")"]);
}

#[test]
fn devices_whose_rights_stay_keep_their_connection_when_another_s_change() {
    let it = Setting::new();
    let (device, _, copy) = it.with_copy("app/*=write");
    let watch = device.watch(&copy);
    let other = Device::joined(&it.folder.path().join("third"), &it.server, &["app/*=read"]);
    let key = other.json(&["identity"])["key"].as_str().unwrap().to_owned();
    let before = piecewise_tests::http::figure(&it.server.listen, "piecewise_connections_total");
    assert_eq!(it.server.run("revoke", &[&key]).code, 0);
    assert_eq!(other.run(["clone", "app", text(&it.folder.path().join("third.db"))]).code, 4);
    it.write("UPDATE a SET v = 'after'");
    until("it hears of it", || query(&copy, "SELECT v FROM a") == ["Text(\"after\")"]);
    // The figures were asked for twice; the third and the writer came once each.
    let after = piecewise_tests::http::figure(&it.server.listen, "piecewise_connections_total");
    assert_eq!(after - before, 3.0);
    drop(watch);
}

#[test]
fn many_invites_can_be_made_at_once_and_each_works_once() {
    let it = Setting::new();
    let said = it.server.run("invite", &["--grant", "app/*=read", "--count", "3"]);
    let invites: Vec<_> = said.out.lines().collect();
    assert_eq!((said.code, invites.len()), (0, 3), "{said}");
    for (n, invite) in invites.iter().enumerate() {
        Device { home: it.folder.path().join(format!("device {n}")) }.must(["join", invite]);
    }
    let late = Device { home: it.folder.path().join("late") };
    assert_ne!(late.run(["join", invites[0]]).code, 0);
}

#[test]
fn a_device_that_may_only_read_makes_nothing_on_the_server() {
    let it = Setting::new();
    let grants = ["new*/*=read", "app/*=read"];
    let reader = Device::joined(&it.folder.path().join("reader"), &it.server, &grants);
    let copy = it.folder.path().join("copy.db");
    let early = it.folder.path().join("early.db");
    assert_ne!(reader.run(["clone", "newdatabase", text(&early)]).code, 0);
    assert!(!it.server.file("newdatabase").exists(), "a reader made a database");
    // One who may write makes it, and then the reader finds it.
    let writer = Device::joined(&it.folder.path().join("maker"), &it.server, &["new*/*=write"]);
    let file = it.folder.path().join("maker.db");
    sql(&file, "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'x')");
    writer.must(["track", text(&file), "--all", "--as", "newdatabase"]);
    writer.must(["sync", text(&file)]);
    reader.must(["clone", "newdatabase", text(&copy)]);
    assert_eq!(query(&copy, "SELECT v FROM t"), ["Text(\"x\")"]);
    // A file system may take capitals for small letters: two databases would share a file.
    sql(&it.folder.path().join("other.db"), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    let other = it.folder.path().join("other.db");
    writer.must(["track", text(&other), "--all", "--as", "newDatabase"]);
    assert_ne!(writer.run(["sync", text(&other)]).code, 0);
    assert!(!it.server.file("newDatabase").exists());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(it.server.file("newdatabase")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_description_refers_to_no_table_that_its_author_may_not_see() {
    let it = Setting::new();
    let spy = Device::joined(&it.folder.path().join("spy"), &it.server, &["app/mine=write"]);
    let file = it.folder.path().join("spy.db");
    sql(
        &file,
        "PRAGMA foreign_keys = OFF; CREATE TABLE mine(id TEXT PRIMARY KEY, guess TEXT REFERENCES a(v) ON DELETE CASCADE ON UPDATE CASCADE);
         INSERT INTO mine VALUES ('1', 'x')",
    );
    spy.must(["track", text(&file), "mine", "--as", "app"]);
    let said = spy.run(["sync", text(&file)]);
    assert!(said.code != 0 && format!("{said}").contains("mine"), "{said}");
    let made = "SELECT count(*) FROM sqlite_master WHERE name = 'mine'";
    assert_eq!(query(&it.server.file("app"), made), ["Integer(0)"]);
    it.write("UPDATE a SET v = 'secret'");
    let _ = spy.run(["sync", text(&file)]);
    assert_eq!(query(&file, "SELECT guess FROM mine"), ["Text(\"x\")"]);
}
