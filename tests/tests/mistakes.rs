//! Mistakes: what a user can do wrong ends with what happened, what to do, and an exit code; data stay.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{query, sql};
use piecewise_tests::process::{Device, Said, Server, binary, text};
use std::path::PathBuf;
use tempfile::TempDir;

struct Setting {
    folder: TempDir,
    server: Server,
    device: Device,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::start(&folder.path().join("server"));
        let device = Device::joined(&folder.path().join("home"), &server, &["app/*=write"]);
        Self { folder, server, device }
    }

    fn file(&self, name: &str, schema: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        sql(&file, &format!("PRAGMA journal_mode = WAL; {schema}"));
        file
    }

    fn tracked(&self, name: &str) -> PathBuf {
        let file = self.file(name, "CREATE TABLE t(id TEXT PRIMARY KEY, v)");
        self.device.must(["track", text(&file), "t", "--as", "app"]);
        file
    }
}

/// The command failed with this code, said this, and a hint with this.
#[track_caller]
fn failed(said: Said, code: i32, error: &str, hint: &str) {
    assert_eq!(said.code, code, "{said}");
    let lines: Vec<_> =
        said.err.lines().filter(|l| l.starts_with("error: ") || l.starts_with("hint: ")).collect();
    assert!(lines.iter().any(|l| l.starts_with("error: ") && l.contains(error)), "no {error:?} in: {said}");
    assert!(lines.iter().any(|l| l.starts_with("hint: ") && l.contains(hint)), "no {hint:?} in: {said}");
}

#[test]
fn tables_that_cannot_be_tracked_are_refused_with_a_way_out() {
    let it = Setting::new();
    let file = it.file(
        "a.db",
        "CREATE TABLE keyless(a, b); CREATE VIEW v AS SELECT 1; CREATE VIRTUAL TABLE search USING fts5(body);
         CREATE TABLE good(id TEXT PRIMARY KEY, n INTEGER, s TEXT)",
    );
    let track =
        |arguments: &[&str]| it.device.run([&["track", text(&file), "--as", "app"][..], arguments].concat());
    failed(track(&["keyless"]), 1, "primary key", "PRIMARY KEY");
    failed(track(&["v"]), 1, "view", "table");
    failed(track(&["search"]), 1, "virtual", "table");
    failed(track(&["nothing"]), 1, "nothing", "");
    failed(track(&["good", "--text", "good.n"]), 1, "", "");
    failed(track(&["good", "--text", "other.s"]), 1, "other.s", "TABLE.COLUMN");
    failed(it.device.run(["track", text(&file), "good", "--as", "../etc"]), 1, "../etc", "letters");
    let before = "SELECT count(*) FROM sqlite_master WHERE name LIKE 'piecewise%'";
    assert_eq!(query(&file, before), ["Integer(0)"]);
    let said = track(&["good"]);
    assert_eq!((said.code, said.out.matches("piecewise sync").count()), (0, 1), "{said}");
    failed(track(&["good"]), 1, "already", "status");
    failed(it.device.run(["track", text(&file), "good", "--as", "other"]), 1, "app", "--as app");
}

#[test]
fn wrong_files_are_named_and_left_alone() {
    let it = Setting::new();
    let missing = it.folder.path().join("missing.db");
    failed(it.device.run(["sync", text(&missing)]), 5, "no file", "clone");
    assert!(!missing.exists());
    let noise = it.folder.path().join("noise.db");
    std::fs::write(&noise, "this is not a database, although it is long enough to look like one".repeat(50))
        .unwrap();
    failed(it.device.run(["track", text(&noise), "t", "--as", "app"]), 5, "not a SQLite database", "SQLite");
    let plain = it.file("plain.db", "CREATE TABLE t(id TEXT PRIMARY KEY)");
    failed(it.device.run(["sync", text(&plain)]), 1, "not connected", "track");
    failed(it.device.run(["clone", "app", text(&plain)]), 5, "exists", "new file");
    let said = it.device.run(["track", text(&plain), "t"]);
    failed(said, 1, "not connected", "--as");
}

#[test]
fn a_damaged_file_stops_the_sync_and_stays_as_it_was() {
    let it = Setting::new();
    let file = it.tracked("a.db");
    let rows: Vec<_> = (0..5000).map(|n| format!("('{n}', 'some text to fill pages with {n}')")).collect();
    sql(&file, &format!("INSERT INTO t VALUES {}; PRAGMA wal_checkpoint(TRUNCATE)", rows.join(",")));
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 60_000].fill(0xa5);
    std::fs::write(&file, &bytes).unwrap();
    let said = it.device.run(["sync", text(&file)]);
    failed(said, 5, "damaged", ".recover");
}

#[test]
fn a_locked_or_read_only_file_is_said_to_be_so() {
    let it = Setting::new();
    let file = it.tracked("a.db");
    let lock = piecewise_tests::data::open(&file);
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let said = it.device.run(["sync", text(&file)]);
    failed(said, 5, "locked", "try again");
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(it.device.run(["sync", text(&file)]).code, 0);
}

#[test]
fn a_watch_that_begins_while_the_file_is_locked_waits_for_its_turn() {
    let it = Setting::new();
    let file = it.tracked("a.db");
    let lock = piecewise_tests::data::open(&file);
    lock.execute_batch("PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t VALUES ('1', 'x')").unwrap();
    let watch = it.device.start_watch(&file);
    watch.wait_for_error("locked");
    drop(lock);
    watch.next_level();
    assert_eq!(query(&it.server.file("app"), "SELECT v FROM t"), ["Text(\"x\")"]);
    assert_eq!(watch.stop(), 0);
}

#[test]
fn a_pipe_that_closes_and_an_output_that_is_full_are_no_panic() {
    let it = Setting::new();
    let file = it.tracked("a.db");
    let run = |script: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).env("PIECEWISE_HOME", &it.device.home).env("FILE", &file);
        command.env("PIECEWISE", binary("piecewise"));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run("{ \"$PIECEWISE\" completions bash; echo $? >&2; } | true"), (Some(0), "0\n".into()));
    for command in ["status \"$FILE\"", "man", "identity --json"] {
        let (code, error) = run(&format!("\"$PIECEWISE\" {command} > /dev/full"));
        assert_eq!(code, Some(1), "{command}: {error}");
        assert!(error.starts_with("error: the output cannot be written"), "{command}: {error}");
    }
    assert_eq!(run("\"$PIECEWISE\" sync \"$FILE.none\" 2> /dev/full").0, Some(5));
}

#[test]
fn commands_on_a_file_that_belongs_to_no_database_say_so() {
    let it = Setting::new();
    let file = it.file("a.db", "CREATE TABLE t(id TEXT PRIMARY KEY, v)");
    for command in ["sync", "watch", "conflicts", "held", "refused", "compare"] {
        failed(it.device.run([command, text(&file)]), 1, "not connected", "track");
    }
    failed(it.device.run(["log", "check", text(&file)]), 1, "not connected", "track");
    failed(it.device.run(["refused", "retry", text(&file)]), 1, "not connected", "track");
    failed(it.device.run(["untrack", text(&file), "--all"]), 1, "not connected", "track");
    failed(it.device.run(["history", text(&file), "t", "1"]), 1, "not connected", "track");
}

#[test]
fn a_wrong_data_folder_is_told_and_not_made() {
    let it = Setting::new();
    let wrong = it.folder.path().join("wrong");
    let server = |arguments: &[&str]| Server::command(&wrong, arguments);
    for arguments in [
        &["peers"][..],
        &["invite", "--grant", "app/*=write"],
        &["revoke", "abcd"],
        &["log", "status"],
        &["log", "show"],
        &["log", "verify"],
    ] {
        failed(server(arguments), 1, "not the data folder of a server", "data folder");
        assert!(!wrong.exists(), "{arguments:?}");
    }
}

#[test]
fn a_device_is_named_by_the_digits_that_are_shown_and_never_by_none() {
    let it = Setting::new();
    let key = it.device.json(&["identity"])["key"].as_str().unwrap().to_owned();
    assert_eq!(it.server.run("revoke", &[""]).code, 1, "the only device is not meant by nothing");
    let shown = format!("{}…{}", &key[..4], &key[key.len() - 2..]);
    assert_eq!(it.server.run("grant", &[&shown, "other/*=read"]).code, 0);
    assert!(it.server.run("peers", &[]).out.contains("other/*=read"));
}

#[cfg(unix)]
#[test]
fn keys_and_their_folders_are_their_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt;
    let it = Setting::new();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(it.device.home.clone()), 0o700);
    assert_eq!(mode(it.device.home.join("identity.key")), 0o600);
    assert_eq!(mode(it.server.data.clone()), 0o700);
    for file in ["server.key", "log.key", "supervisor.db"] {
        assert_eq!(mode(it.server.data.join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_table_that_only_its_application_can_write_is_refused() {
    let it = Setting::new();
    let file = it.folder.path().join("a.db");
    let application = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.create_function('mine', 1, lambda v: 1, deterministic=True)
db.execute('CREATE TABLE t(id TEXT PRIMARY KEY, v CHECK (mine(v)))')
";
    let made = std::process::Command::new("python3").args(["-c", application, text(&file)]).status();
    assert!(made.unwrap().success());
    failed(it.device.run(["track", text(&file), "t", "--as", "app"]), 1, "mine", "functions");
    assert_eq!(
        query(&file, "SELECT count(*) FROM sqlite_master WHERE name LIKE 'piecewise%'"),
        ["Integer(0)"]
    );
}

#[test]
fn a_server_that_is_gone_leaves_the_changes_waiting() {
    let it = Setting::new();
    let file = it.tracked("a.db");
    sql(&file, "INSERT INTO t VALUES ('1', 'kept')");
    let (data, listen) = (it.server.data.clone(), it.server.listen.clone());
    it.server.kill();
    failed(it.device.run(["sync", text(&file)]), 3, "cannot be reached", "running");
    assert_eq!(query(&file, "SELECT v FROM t"), ["Text(\"kept\")"]);
    let server = Server::start_at(&data, &listen, &[]);
    it.device.must(["sync", text(&file)]);
    assert_eq!(query(&server.file("app"), "SELECT v FROM t"), ["Text(\"kept\")"]);
}

#[test]
fn wrong_invites_are_told_apart() {
    let it = Setting::new();
    let stranger = Device { home: it.folder.path().join("stranger") };
    failed(stranger.run(["join", "hello"]), 1, "not an invite", "whole line");
    let invite = it.server.invite(&["app/*=read"]);
    let mut damaged = invite.clone();
    damaged.truncate(invite.len() - 3);
    failed(stranger.run(["join", &damaged]), 1, "damaged", "whole line");
    stranger.must(["join", &invite]);
    let second = Device { home: it.folder.path().join("second") };
    failed(second.run(["join", &invite]), 4, "used before", "new invite");
    failed(second.run(["clone", "app", "x.db"]), 1, "not joined", "join");
    let elsewhere = it.server.invite(&["app/*=read"]);
    failed(
        second.run(["join", &elsewhere, "--address", "ws://127.0.0.1:1"]),
        3,
        "cannot be reached",
        "running",
    );
    failed(
        second.run(["join", &elsewhere, "--address", "http://127.0.0.1:1"]),
        1,
        "not the address",
        "ws://",
    );
}

#[test]
fn what_is_not_granted_is_said_and_a_revoked_device_is_turned_away() {
    let it = Setting::new();
    let file = it.tracked("a.db");
    let other = it.file("b.db", "CREATE TABLE t(id TEXT PRIMARY KEY, v)");
    it.device.must(["track", text(&other), "t", "--as", "secret"]);
    failed(it.device.run(["sync", text(&other)]), 4, "no database secret", "invite");
    failed(it.device.run(["clone", "secret", text(&it.folder.path().join("c.db"))]), 4, "secret", "invite");
    assert!(!it.folder.path().join("c.db").exists());
    let key = it.device.json(&["identity"])["key"].as_str().unwrap().to_owned();
    assert_eq!(it.server.run("revoke", &[&key]).code, 0);
    failed(it.device.run(["sync", text(&file)]), 4, "revoked", "invite");
}

#[test]
fn a_reader_cannot_write_and_what_a_writer_may_not_is_refused_visibly() {
    let it = Setting::new();
    let file = it.tracked("a.db");
    sql(&file, "INSERT INTO t VALUES ('1', 'first')");
    it.device.must(["sync", text(&file)]);
    let reader = Device::joined(&it.folder.path().join("reader"), &it.server, &["app/*=read"]);
    let copy = it.folder.path().join("copy.db");
    reader.must(["clone", "app", text(&copy)]);
    let error =
        piecewise_tests::data::open(&copy).execute("UPDATE t SET v = 'x'", []).expect_err("read only");
    assert!(error.to_string().contains("read"), "{error}");

    // A grant taken away while the device was offline: its rows stay and are listed.
    let key = it.device.json(&["identity"])["key"].as_str().unwrap().to_owned();
    assert_eq!(it.server.run("grant", &[&key, "app/*=read"]).code, 0);
    sql(&file, "UPDATE t SET v = 'too late' WHERE id = '1'");
    it.device.run(["sync", text(&file)]);
    assert_eq!(query(&it.server.file("app"), "SELECT v FROM t"), ["Text(\"first\")"]);
    assert_eq!(query(&file, "SELECT v FROM t"), ["Text(\"too late\")"]);
    let refused = it.device.json(&["refused", text(&file)]);
    assert_eq!(refused[0]["key"], "1", "{refused}");
    assert_eq!(it.server.run("grant", &[&key, "app/*=write"]).code, 0);
    it.device.must(["refused", "retry", text(&file)]);
    it.device.must(["sync", text(&file)]);
    assert_eq!(query(&it.server.file("app"), "SELECT v FROM t"), ["Text(\"too late\")"]);
    assert_eq!(it.device.json(&["refused", text(&file)]), serde_json::json!([]));
}

#[test]
fn wrong_keys_tables_and_numbers_are_told() {
    let it = Setting::new();
    let file = it.tracked("a.db");
    sql(&file, "INSERT INTO t VALUES ('1', 'x')");
    it.device.must(["sync", text(&file)]);
    failed(
        it.device.run(["conflicts", "choose", text(&file), "t", "1", "1", "--column", "v"]),
        1,
        "no conflict",
        "conflicts",
    );
    assert_eq!(it.device.run(["history", text(&file), "t", "nope"]).code, 1);
    assert_eq!(it.device.run(["history", text(&file), "other", "1"]).code, 1);
    assert_eq!(it.device.run(["frobnicate"]).code, 2);
    assert_eq!(it.device.run(["compare", text(&file), "other"]).code, 1);
}

#[test]
fn rows_with_null_in_their_key_are_counted_by_track_and_status() {
    let it = Setting::new();
    let file = it.file(
        "a.db",
        "CREATE TABLE prefs(user TEXT, scope TEXT, v TEXT, PRIMARY KEY (user, scope));
         INSERT INTO prefs VALUES ('ann', 'site', '1'), ('ann', NULL, '2'), (NULL, NULL, '3')",
    );
    let said = it.device.run(["track", text(&file), "prefs", "--as", "app"]);
    assert!(said.err.contains("2 rows have NULL in their primary key"), "{said}");
    it.device.must(["sync", text(&file)]);
    assert!(it.device.must(["status", text(&file)]).contains("2 rows with NULL in the key"));
    assert_eq!(it.device.json(&["status", text(&file)])["tables"][0]["null_keys"], 2);
    // What the application does with them is its own affair, and is not synced.
    sql(&file, "UPDATE prefs SET v = '4' WHERE scope IS NULL; INSERT INTO prefs VALUES ('eve', NULL, '5')");
    it.device.must(["sync", text(&file)]);
    assert_eq!(it.device.json(&["status", text(&file)])["tables"][0]["null_keys"], 3);
    sql(&file, "DELETE FROM prefs WHERE user = 'eve'");
    sql(&file, "UPDATE prefs SET user = 'bob', scope = 'site' WHERE user IS NULL");
    assert_eq!(it.device.json(&["status", text(&file)])["tables"][0]["null_keys"], 1);
}

#[test]
fn a_table_that_the_server_has_in_other_capitals_is_named_with_a_way_out() {
    let it = Setting::new();
    let schema = |table: &str| {
        format!("CREATE TABLE {table}(id TEXT PRIMARY KEY, v); INSERT INTO {table} VALUES ('{table}', 'x')")
    };
    let [first, second] =
        [("a.db", "Users"), ("b.db", "users")].map(|(file, table)| it.file(file, &schema(table)));
    for file in [&first, &second] {
        it.device.must(["track", text(file), "--all", "--as", "app"]);
    }
    it.device.must(["sync", text(&first)]);
    let said = it.device.run(["sync", text(&second)]);
    let way_out = "ALTER TABLE \"users\" RENAME TO \"users_\"";
    failed(said, 1, "the server has this table as app/Users", way_out);
    let status = it.device.run(["status", text(&second)]);
    assert!(status.code == 1 && status.out.contains(way_out) && !status.out.contains("grant"), "{status}");
    it.device.must(["untrack", text(&second), "--all"]);
    sql(&second, "ALTER TABLE users RENAME TO Users_; ALTER TABLE Users_ RENAME TO Users");
    it.device.must(["track", text(&second), "--all", "--as", "app"]);
    it.device.must(["sync", text(&second)]);
    assert_eq!(query(&second, "SELECT id FROM users ORDER BY id"), ["Text(\"Users\")", "Text(\"users\")"]);
}

#[test]
fn what_track_all_leaves_out_is_one_note_that_begins_with_what_is_particular() {
    let it = Setting::new();
    let plain: String = (0..12)
        .map(|n| format!("CREATE TABLE log{n}(v); CREATE TABLE k{n}(id INTEGER PRIMARY KEY);"))
        .collect();
    let file = it.file(
        "a.db",
        &format!(
            "{plain} CREATE VIRTUAL TABLE search USING fts5(body); CREATE TABLE books(id TEXT PRIMARY KEY, v)"
        ),
    );
    sql(&file, "CREATE TRIGGER sorts BEFORE INSERT ON books BEGIN SELECT title_sort(NEW.v); END");
    let said = it.device.run(["track", text(&file), "--all", "--as", "app"]);
    assert_eq!(said.code, 0, "{said}");
    let notes: Vec<_> = said.err.lines().filter(|line| line.starts_with("note: ")).collect();
    assert_eq!(notes.len(), 2, "{said}");
    let left: Vec<_> = said.err.lines().skip_while(|line| !line.contains("left out")).collect();
    assert!(
        left[0].contains("19 tables") && left[1].contains("books") && left[1].contains("title_sort"),
        "{said}"
    );
    assert!(left.iter().any(|line| line.ends_with("and 4 more")), "{said}");
}

#[test]
fn a_table_whose_name_cannot_travel_is_left_out_by_itself() {
    let it = Setting::new();
    let file =
        it.file("a.db", "CREATE TABLE \"a/b\"(id TEXT PRIMARY KEY); CREATE TABLE c(id TEXT PRIMARY KEY)");
    let said = it.device.run(["track", text(&file), "--all", "--as", "app"]);
    assert_eq!(said.code, 0, "{said}");
    assert!(said.out.contains("c is tracked") && said.err.contains("table a/b has a name"), "{said}");
}

#[test]
fn what_becomes_of_clashing_numbers_is_told_as_it_is_also_in_a_circle() {
    let it = Setting::new();
    let file = it.file(
        "a.db",
        "CREATE TABLE teams(id INTEGER PRIMARY KEY, lead INTEGER REFERENCES people(id));
         CREATE TABLE people(id INTEGER PRIMARY KEY, team INTEGER REFERENCES teams(id));
         CREATE TABLE trees(id INTEGER PRIMARY KEY, under INTEGER REFERENCES trees(id));",
    );
    let said = it.device.run(["track", text(&file), "--all", "--as", "app"]);
    let of = |table: &str| {
        let line = said.err.lines().find(|line| line.contains(&format!("{table}.id is an INTEGER")));
        line.unwrap_or_default().to_owned()
    };
    for table in ["teams", "people"] {
        assert!(of(table).contains("in a circle") && !of(table).contains("gets another"), "{said}");
    }
    assert!(of("trees").contains("gets another"), "{said}");
}
