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

/// A device with two tables, a server that has them, and another device with a clone.
struct Pair {
    it: Setting,
    ours: PathBuf,
    theirs: PathBuf,
}

const BOTH: &str = "PRAGMA journal_mode = WAL; CREATE TABLE t(id TEXT PRIMARY KEY, v TEXT);
                    CREATE TABLE fine(id TEXT PRIMARY KEY, v TEXT); INSERT INTO t VALUES ('1', 'x'), ('2', 'y');";

impl Pair {
    fn new() -> Self {
        let it = Setting::new();
        let (ours, theirs) = (it.folder.path().join("ours.db"), it.folder.path().join("theirs.db"));
        sql(&ours, BOTH);
        it.device.must(["track", text(&ours), "--all", "--as", "app"]);
        it.device.must(["sync", text(&ours)]);
        it.device.must(["clone", "app", text(&theirs)]);
        Self { it, ours, theirs }
    }

    /// The table is stopped here for this cause, says so everywhere, and the other table goes on both ways.
    #[track_caller]
    fn is_stopped(&self, cause: &str, words: &str) {
        let id = format!("'{cause}'");
        sql(&self.ours, &format!("INSERT INTO fine VALUES ({id}, 'from ours')"));
        sql(&self.theirs, &format!("INSERT INTO t VALUES ({id}, 'while stopped')"));
        assert_eq!(self.it.sync(&self.theirs).code, 0);
        let said = self.it.sync(&self.ours);
        assert_eq!(said.code, 1, "{said}");
        assert!(said.err.contains("error: table t is stopped: ") && said.err.contains(words), "{said}");
        assert!(said.err.contains("hint: "), "{said}");
        let said = self.it.device.run(["status", text(&self.ours)]);
        assert_eq!(said.code, 1, "{said}");
        assert!(
            said.out.contains("caught up   no: 1 table is stopped") && said.out.contains(words),
            "{said}"
        );
        let said = self.it.device.run(["status", text(&self.ours), "--json"]);
        let status: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(status["caught_up"], false);
        let t = status["tables"].as_array().unwrap().iter().find(|t| t["table"] == "t").unwrap();
        assert_eq!(t["stopped"]["cause"], cause);
        let said = self.it.device.run(["check", text(&self.ours)]);
        assert!(said.code == 1 && said.err.contains("table t was not checked, it is stopped: "), "{said}");
        self.it.device.must(["sync", text(&self.theirs)]);
        let other = format!("SELECT v FROM fine WHERE id = {id}");
        assert_eq!(query(&self.theirs, &other), ["Text(\"from ours\")"]);
    }

    /// The table goes on, and shows the same everywhere.
    #[track_caller]
    fn goes_on(&self) {
        for file in [&self.ours, &self.theirs, &self.ours] {
            let said = self.it.sync(file);
            assert_eq!(said.code, 0, "{said}");
        }
        let said = self.it.device.run(["status", text(&self.ours)]);
        assert!(said.code == 0 && said.out.contains("caught up   yes"), "{said}");
        let all = "SELECT id, v FROM t ORDER BY id";
        let rows = query(&self.ours, all);
        assert!(rows.len() >= 3, "{rows:?}");
        assert_eq!(rows, query(&self.theirs, all));
        assert_eq!(rows, query(&self.it.server.file("app"), all));
    }
}

#[test]
fn a_table_that_has_another_name_for_a_while_is_stopped_and_its_writes_are_kept() {
    let it = Pair::new();
    sql(
        &it.ours,
        "ALTER TABLE t RENAME TO u; INSERT INTO u VALUES ('3', 'z'); UPDATE u SET v = 'edited' WHERE id = '1'",
    );
    it.is_stopped("missing", "not in this file");
    sql(&it.ours, "DELETE FROM u WHERE id = '2'; ALTER TABLE u RENAME TO t");
    it.goes_on();
    let rows = query(&it.ours, "SELECT id || '=' || v FROM t ORDER BY id");
    assert_eq!(rows, ["Text(\"1=edited\")", "Text(\"3=z\")", "Text(\"missing=while stopped\")"]);
}

#[test]
fn a_table_whose_key_changes_is_stopped_until_it_is_as_before() {
    let it = Pair::new();
    let rebuild = |key: &str, columns: &str, from: &str| {
        format!(
            "BEGIN; CREATE TABLE n({columns}, PRIMARY KEY ({key})); INSERT INTO n SELECT {from} FROM t; DROP TABLE t;
             ALTER TABLE n RENAME TO t; COMMIT;"
        )
    };
    sql(&it.ours, &rebuild("id, part", "id TEXT, part TEXT, v TEXT", "id, '', v"));
    sql(&it.ours, "INSERT INTO t VALUES ('2', 'p', 'more')");
    it.is_stopped("key", "primary key has changed from (id) to (id, part)");
    sql(&it.ours, "DELETE FROM t WHERE part = 'p'");
    sql(&it.ours, &rebuild("id", "id TEXT, v TEXT", "id, v"));
    sql(&it.ours, "UPDATE t SET v = 'late' WHERE id = '1'");
    it.goes_on();
}

#[test]
fn a_view_in_place_of_a_table_stops_it() {
    let it = Pair::new();
    sql(&it.ours, "ALTER TABLE t RENAME TO kept; CREATE VIEW t AS SELECT * FROM kept");
    it.is_stopped("unfit", "is a view");
    sql(&it.ours, "DROP VIEW t; ALTER TABLE kept RENAME TO t");
    it.goes_on();
}

/// Runs SQL as an application that has the function `own`.
fn by_an_application_with_a_function(file: &Path, sql: &str) {
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                  c.create_function('own', 1, lambda v: v, deterministic=True); c.executescript(sys.argv[2]); c.commit()";
    let status = std::process::Command::new("python3").args(["-c", script, text(file), sql]).status();
    assert!(status.is_ok_and(|status| status.success()), "the application runs");
}

#[test]
fn a_table_that_needs_a_function_of_its_application_is_stopped() {
    let it = Pair::new();
    by_an_application_with_a_function(
        &it.ours,
        "CREATE INDEX by_own ON t(own(v)); INSERT INTO t VALUES ('3', 'by the application')",
    );
    it.is_stopped("not_writable", "unknown function: own");
    by_an_application_with_a_function(&it.ours, "DROP INDEX by_own");
    it.goes_on();
}

#[test]
fn a_view_in_the_way_on_the_server_stops_only_what_the_server_shows() {
    let it = Setting::new();
    let [ours, theirs] = ["ours.db", "theirs.db"].map(|name| it.folder.path().join(name));
    sql(&ours, BOTH);
    it.device.must(["track", text(&ours), "fine", "--as", "app"]);
    it.device.must(["sync", text(&ours)]);
    sql(&it.server.file("app"), "CREATE VIEW t AS SELECT 1 AS id");
    it.device.must(["track", text(&ours), "t"]);
    it.device.must(["sync", text(&ours)]);
    assert!(it.server.wait_for_log("a table is stopped").contains("a view of this name"));
    it.device.must(["clone", "app", text(&theirs)]);
    let all = "SELECT id, v FROM t ORDER BY id";
    assert_eq!(query(&theirs, all), query(&ours, all));
    sql(&it.server.file("app"), "DROP VIEW t");
    // With nobody connected the server looks at its file once a minute; a device that comes makes it look at once.
    it.device.must(["sync", text(&ours)]);
    it.server.wait_for_log("a table goes on");
    until("the server shows it", || {
        let there = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 't'";
        query(&it.server.file("app"), there) == ["Integer(1)"]
            && query(&it.server.file("app"), all) == query(&ours, all)
    });
}

#[test]
fn many_kept_writes_of_a_stopped_table_cost_the_others_nothing() {
    let it = Pair::new();
    let many = "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 20000)
                INSERT INTO u SELECT 'k' || i, 'kept' FROM s";
    sql(&it.ours, &format!("ALTER TABLE t RENAME TO u; {many}"));
    assert_eq!(it.it.sync(&it.ours).code, 1);
    let kept = "SELECT count(*) FROM piecewise_log";
    assert_eq!(query(&it.ours, kept), ["Integer(20000)"]);
    sql(&it.ours, "INSERT INTO fine VALUES ('1', 'x')");
    assert_eq!(it.it.sync(&it.ours).code, 1);
    assert_eq!(query(&it.ours, kept), ["Integer(20000)"]);
    sql(&it.ours, "ALTER TABLE u RENAME TO t");
    it.goes_on();
    assert_eq!(query(&it.theirs, "SELECT count(*) FROM t"), ["Integer(20002)"]);
}

#[test]
fn untrack_puts_held_rows_back_or_lists_them() {
    let it = Setting::new();
    let [ours, theirs] = ["ours.db", "theirs.db"].map(|name| it.folder.path().join(name));
    sql(&ours, "PRAGMA journal_mode = WAL; CREATE TABLE u(id TEXT PRIMARY KEY, n TEXT UNIQUE);");
    it.device.must(["track", text(&ours), "u", "--as", "app"]);
    it.device.must(["sync", text(&ours)]);
    it.device.must(["clone", "app", text(&theirs)]);
    sql(&theirs, "INSERT INTO u VALUES ('b', 'same')");
    it.device.must(["sync", text(&theirs)]);
    sql(&ours, "INSERT INTO u VALUES ('a', 'same')");
    it.device.must(["sync", text(&ours)]);
    let status = it.device.must(["status", text(&ours)]);
    assert!(status.contains("held: u 'a'") || status.contains("held: u a"), "{status}");
    let said = it.device.run(["untrack", text(&ours), "--all"]);
    assert_eq!(said.code, 1, "{said}");
    assert!(
        said.err.contains("1 row is held and in no table") && said.err.contains("--leave-held"),
        "{said}"
    );
    let left = it.folder.path().join("left.json");
    it.device.must(["untrack", text(&ours), "--all", "--leave-held", text(&left)]);
    let rows: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&left).unwrap()).unwrap();
    assert_eq!(rows[0]["row"]["n"], "same");
    assert_eq!(
        query(&ours, "SELECT count(*) FROM sqlite_master WHERE name LIKE 'piecewise%'"),
        ["Integer(0)"]
    );
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&left).unwrap().permissions()) & 0o777,
        0o600
    );
}

/// A held row whose table has these clauses and triggers on our device: `untrack` lists it, and what is there stays.
fn untrack_lists_the_held_row(schema: &str, rows: [&str; 2], there: &str) {
    let it = Setting::new();
    let [ours, theirs] = ["ours.db", "theirs.db"].map(|name| it.folder.path().join(name));
    for file in [&ours, &theirs] {
        sql(file, "PRAGMA journal_mode = WAL");
        sql(file, schema);
        it.device.must(["track", text(file), "--all", "--as", "app"]);
        it.device.must(["sync", text(file)]);
    }
    sql(&theirs, "DROP TRIGGER IF EXISTS here");
    sql(&ours, rows[0]);
    it.device.must(["sync", text(&ours)]);
    sql(&theirs, rows[1]);
    it.device.must(["sync", text(&theirs)]);
    it.device.must(["sync", text(&ours)]);
    let before = query(&ours, there);
    let left = it.folder.path().join("left.json");
    it.device.must(["untrack", text(&ours), "--all", "--leave-held", text(&left)]);
    assert_eq!(query(&ours, there), before);
    let rows: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&left).unwrap()).unwrap();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
}

#[test]
fn untrack_lets_no_clause_or_trigger_take_a_row_away_for_one_that_was_held() {
    untrack_lists_the_held_row(
        "CREATE TABLE t(id TEXT PRIMARY KEY, u TEXT UNIQUE ON CONFLICT REPLACE, v TEXT); CREATE TABLE log(x PRIMARY KEY);
         CREATE TRIGGER after AFTER INSERT ON t BEGIN INSERT OR IGNORE INTO log VALUES (NEW.id); END",
        ["INSERT INTO t VALUES ('a', 'same', 'shown')", "INSERT INTO t VALUES ('b', 'same', 'held')"],
        "SELECT * FROM t",
    );
    untrack_lists_the_held_row(
        "CREATE TABLE t(id TEXT PRIMARY KEY, n INTEGER);
         CREATE TRIGGER here BEFORE INSERT ON t WHEN NEW.n < 0 BEGIN SELECT RAISE(ROLLBACK, 'negative'); END",
        ["INSERT INTO t VALUES ('a', 1)", "INSERT INTO t VALUES ('b', -1)"],
        "SELECT * FROM t",
    );
}

#[test]
fn untrack_runs_no_trigger_whose_writes_have_come_as_data() {
    let it = Setting::new();
    let [ours, theirs] = ["ours.db", "theirs.db"].map(|name| it.folder.path().join(name));
    let schema = "PRAGMA journal_mode = WAL; CREATE TABLE p(id TEXT PRIMARY KEY, n INTEGER); CREATE TABLE g(id TEXT PRIMARY KEY);
        CREATE TABLE c(id TEXT PRIMARY KEY, p TEXT, g TEXT REFERENCES g(id)); CREATE TABLE seen(id TEXT);
        CREATE TRIGGER counts AFTER INSERT ON c BEGIN UPDATE p SET n = n + 1 WHERE id = NEW.p; INSERT INTO seen VALUES (NEW.id); END";
    for file in [&ours, &theirs] {
        sql(file, schema);
        it.device.must(["track", text(file), "p", "g", "c", "--as", "app"]);
        it.device.must(["sync", text(file)]);
    }
    sql(&ours, "INSERT INTO p VALUES ('p', 0); INSERT INTO g VALUES ('g')");
    it.device.must(["sync", text(&ours)]);
    it.device.must(["sync", text(&theirs)]);
    sql(&theirs, "INSERT INTO c VALUES ('1', 'p', 'g')");
    sql(&ours, "DELETE FROM g");
    for file in [&ours, &theirs, &ours] {
        it.device.must(["sync", text(file)]);
    }
    assert_eq!(it.device.json(&["held", text(&ours)]).as_array().map(Vec::len), Some(1));
    it.device.must(["untrack", text(&ours), "--all"]);
    let now = query(&ours, "SELECT (SELECT n FROM p), (SELECT count(*) FROM c), (SELECT count(*) FROM seen)");
    assert_eq!(
        now,
        ["Integer(1) Integer(1) Integer(1)"],
        "it counts once, and what is derived from it is there"
    );
}

#[test]
fn a_log_in_which_somebody_wrote_nonsense_stops_nothing() {
    let it = Setting::new();
    let [ours, theirs] = ["ours.db", "theirs.db"].map(|name| it.folder.path().join(name));
    sql(&ours, BOTH);
    it.device.must(["track", text(&ours), "--all", "--as", "app"]);
    it.device.must(["sync", text(&ours)]);
    sql(
        &ours,
        "INSERT INTO t VALUES ('n1', 'x'); UPDATE piecewise_log SET time = '2020-01-01'; INSERT INTO fine VALUES ('n2', 'y')",
    );
    sql(&ours, "INSERT INTO piecewise_log(container, time, k0) VALUES ('none', NULL, x'00')");
    it.device.must(["sync", text(&ours)]);
    it.device.must(["clone", "app", text(&theirs)]);
    assert_eq!(
        query(&theirs, "SELECT v FROM t WHERE id = 'n1' UNION ALL SELECT v FROM fine WHERE id = 'n2'"),
        ["Text(\"x\")", "Text(\"y\")"]
    );
}

#[test]
fn untrack_puts_a_child_back_whose_parent_never_came() {
    let it = Setting::new();
    let [ours, theirs] = ["ours.db", "theirs.db"].map(|name| it.folder.path().join(name));
    sql(
        &ours,
        "PRAGMA journal_mode = WAL; CREATE TABLE p(id TEXT PRIMARY KEY); CREATE TABLE c(id TEXT PRIMARY KEY, p REFERENCES p(id));
         INSERT INTO p VALUES ('x')",
    );
    it.device.must(["track", text(&ours), "--all", "--as", "app"]);
    it.device.must(["sync", text(&ours)]);
    it.device.must(["clone", "app", text(&theirs)]);
    sql(&theirs, "DELETE FROM p");
    it.device.must(["sync", text(&theirs)]);
    sql(&ours, "INSERT INTO c VALUES ('1', 'x')");
    it.device.must(["sync", text(&ours)]);
    it.device.must(["sync", text(&theirs)]);
    let held: serde_json::Value = it.device.json(&["held", text(&theirs)]);
    it.device.must(["untrack", text(&theirs), "--all"]);
    let rows = query(&theirs, "SELECT id FROM c");
    assert_eq!(rows, ["Text(\"1\")"], "held before: {held}");
}

#[test]
fn a_table_with_another_kind_of_key_is_told_of_and_stops_no_other() {
    let it = Setting::new();
    let [ours, theirs] = ["ours.db", "theirs.db"].map(|name| it.folder.path().join(name));
    sql(&ours, BOTH);
    it.device.must(["track", text(&ours), "--all", "--as", "app"]);
    it.device.must(["sync", text(&ours)]);
    let other = "PRAGMA journal_mode = WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT);
                 CREATE TABLE fine(id TEXT PRIMARY KEY, v TEXT);
                 INSERT INTO t VALUES (7, 'mine'); INSERT INTO fine VALUES ('theirs', 'too');";
    sql(&theirs, other);
    it.device.must(["track", text(&theirs), "--all", "--as", "app"]);
    let said = it.sync(&theirs);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.err.contains("table t is stopped: ") && said.err.contains("key"), "{said}");
    it.device.must(["sync", text(&ours)]);
    assert_eq!(query(&ours, "SELECT v FROM fine"), ["Text(\"too\")"]);
    assert_eq!(query(&theirs, "SELECT v FROM t"), ["Text(\"mine\")"], "it is as it was");
}

#[test]
fn rows_in_a_circle_that_come_and_go_in_turn_come_to_rest_in_their_table() {
    let it = Setting::new();
    let join = |name: &str| Device::joined(&it.folder.path().join(name), &it.server, &["app/*=write"]);
    let devices = ["home-a", "home-b", "home-c"].map(join);
    let files = ["a.db", "b.db", "c.db"].map(|name| it.folder.path().join(name));
    let schema = "PRAGMA journal_mode = WAL; CREATE TABLE t(id TEXT PRIMARY KEY, w TEXT,
        r TEXT REFERENCES t(id) ON DELETE SET NULL ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED)";
    for (device, file) in devices.iter().zip(&files) {
        sql(file, schema);
        device.must(["track", text(file), "--all", "--as", "app"]);
        device.must(["sync", text(file)]);
    }
    // Each statement in a transaction of its own, on two of the three with foreign keys enforced.
    let write = |n: usize, all: &[&str]| {
        let enforced = if n == 1 { "OFF" } else { "ON" };
        all.iter().for_each(|one| sql(&files[n], &format!("PRAGMA foreign_keys = {enforced}; {one}")));
    };
    let sync = |who: &[usize]| {
        who.iter().for_each(|n| drop(devices[*n].run(["sync", text(&files[*n])])));
    };
    write(1, &["INSERT INTO t VALUES (1, 'b1', NULL)", "INSERT INTO t VALUES (2, 'b2', 1)"]);
    sync(&[1, 0]);
    write(0, &["INSERT INTO t VALUES (3, 'a3', 1)", "INSERT INTO t VALUES (6, 'a6', 3)"]);
    sync(&[2]);
    write(2, &["INSERT INTO t VALUES (3, 'c3', 1)", "DELETE FROM t WHERE id = 1"]);
    write(2, &["INSERT INTO t VALUES (6, 'c6', 3)", "INSERT INTO t VALUES (1, 'c1', 6)"]);
    sync(&[2, 1]);
    write(1, &["DELETE FROM t WHERE id = 6"]);
    sync(&[1, 0, 1, 2, 0, 1, 2]);
    for (device, file) in devices.iter().zip(&files) {
        let held = device.json(&["held", text(file)]);
        assert_eq!(held.as_array().map(Vec::len), Some(0), "{held}");
        assert_eq!(query(file, "SELECT count(*) FROM t"), ["Integer(4)"], "{}", file.display());
    }
}
