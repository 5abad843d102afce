//! What passes ends no watch: locks, files that are away for a moment, servers that are.

use piecewise_tests::data::{open, query, sql};
use piecewise_tests::pair::{Pair, wait_for};
use piecewise_tests::process::{Device, Server, text};

const TABLE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)";

/// A file on the first device that is tracked, synced and watched.
fn watched(journal_mode: &str) -> (Pair, piecewise_tests::process::Watch) {
    let it = Pair::new(journal_mode, TABLE);
    it.track(0);
    let watch = it.devices[0].watch(&it.files[0]);
    (it, watch)
}

#[test]
fn a_program_that_commits_without_a_pause_in_delete_mode_ends_no_watch() {
    let (it, watch) = watched("DELETE");
    let application = open(&it.files[0]);
    for n in 0..1500 {
        application.execute("INSERT INTO t(v) VALUES (?)", [n]).unwrap();
    }
    wait_for(&it.server.file("app"), "SELECT count(*) FROM t", &["Integer(1500)"]);
    assert_eq!(watch.stop(), 0);
}

#[test]
fn a_file_that_is_moved_away_and_back_is_gone_on_with_and_told_of_once() {
    let (it, watch) = watched("WAL");
    let away = it.folder.path().join("away.db");
    std::fs::rename(&it.files[0], &away).unwrap();
    watch.wait_for_error("trying again");
    std::fs::rename(&away, &it.files[0]).unwrap();
    sql(&it.files[0], "INSERT INTO t VALUES (1, 'back')");
    wait_for(&it.server.file("app"), "SELECT v FROM t", &["Text(\"back\")"]);
    watch.wait_for_error("level with the server again");
    assert_eq!(watch.stop(), 0);
}

#[test]
fn a_server_that_cannot_open_the_database_for_a_while_ends_no_watch() {
    let (it, watch) = watched("WAL");
    let (data, listen) = (it.server.data.clone(), it.server.listen.clone());
    let (file, away) = (it.server.file("app"), it.folder.path().join("away.db"));
    assert_eq!(it.server.stop(), 0);
    watch.wait_for_error("trying again");
    std::fs::rename(&file, &away).unwrap();
    std::fs::create_dir(&file).unwrap();
    let server = Server::start_at(&data, &listen, &[]);
    watch.wait_for_error("database");
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&away, &file).unwrap();
    sql(&it.files[0], "INSERT INTO t VALUES (1, 'kept')");
    wait_for(&file, "SELECT v FROM t", &["Text(\"kept\")"]);
    watch.wait_for_error("level with the server again");
    let attempts = watch.errors_so_far();
    assert!(attempts.len() < 10, "{attempts:?}");
    assert_eq!(watch.stop(), 0);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_locked_database_costs_its_server_a_line_and_disturbs_no_other() {
    let it = Pair::new("WAL", TABLE);
    it.track(0);
    it.sync(0);
    let other = Device::joined(&it.folder.path().join("home-c"), &it.server, &["other/*=write"]);
    other.must(["track", it.path(1), "t", "--as", "other"]);
    other.must(["sync", it.path(1)]);
    let Pair { server, files, folder, devices } = it;
    let (data, listen, file) = (server.data.clone(), server.listen.clone(), server.file("app"));
    assert_eq!(server.stop(), 0);
    // A row waits to be captured, and another program holds the lock.
    sql(&file, "INSERT INTO t VALUES (1, 'by SQL')");
    let writer = open(&file);
    writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2, 'later')").unwrap();
    let server = Server::start_at(&data, &listen, &[]);
    for n in 1..20 {
        sql(&files[1], &format!("INSERT INTO t VALUES ({n}, 'x')"));
        other.must(["sync", text(&files[1])]);
    }
    assert_eq!(query(&server.file("other"), "SELECT count(*) FROM t"), ["Integer(19)"]);
    server.wait_for_log("capture failed");
    let said = server.log_so_far();
    assert!(said.iter().filter(|line| line.contains("\"app\"")).count() < 10, "{said:?}");
    writer.execute_batch("COMMIT").unwrap();
    server.wait_for_log("capture goes on");
    devices[0].must(["sync", text(&files[0])]);
    assert_eq!(query(&files[0], "SELECT count(*) FROM t"), ["Integer(2)"]);
    drop(folder);
}

#[test]
fn writes_that_gather_while_connected_are_one_change_of_a_row_and_received_rows_come_at_once() {
    let it = Pair::new("WAL", TABLE);
    it.track(0);
    sql(&it.files[0], "INSERT INTO t VALUES (1, 'first')");
    let watch = it.devices[0].watch_every(&it.files[0], "2s");
    watch.next_level();
    it.track(1);
    it.sync(1);
    for n in 0..50 {
        sql(&it.files[0], &format!("UPDATE t SET v = 'typed {n}' WHERE id = 1"));
    }
    sql(&it.files[1], "INSERT INTO t VALUES (2, 'from another device')");
    it.sync(1);
    wait_for(&it.files[0], "SELECT v FROM t WHERE id = 2", &["Text(\"from another device\")"]);
    wait_for(&it.server.file("app"), "SELECT v FROM t WHERE id = 1", &["Text(\"typed 49\")"]);
    let changes = it.devices[0].json(&["history", it.path(0), "t", "1"]);
    let changes = changes.as_array().map_or(0, Vec::len);
    assert!((2..=4).contains(&changes), "{changes} changes");
    assert_eq!(watch.stop(), 0);
}

#[test]
fn what_sql_writes_at_a_server_without_devices_becomes_one_change_once_one_comes() {
    let it = Pair::new("WAL", TABLE);
    it.track(0);
    sql(&it.files[0], "INSERT INTO t VALUES (1, 'first')");
    it.sync(0);
    for n in 0..50 {
        sql(&it.server.file("app"), &format!("UPDATE t SET v = 'by SQL {n}' WHERE id = 1"));
    }
    it.sync(0);
    assert_eq!(query(&it.files[0], "SELECT v FROM t"), ["Text(\"by SQL 49\")"]);
    let changes = it.devices[0].json(&["history", it.path(0), "t", "1"]);
    assert_eq!(changes.as_array().map(Vec::len), Some(2), "{changes}");
    let status = it.devices[0].json(&["status", it.path(0)]);
    assert!(status["history"]["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{status}");
    assert_eq!(status["history"]["bytes_older_than_30_days"], 0);
}
