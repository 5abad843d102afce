//! The terminal: JSON of every command, one shape for errors, colours and progress where somebody looks, and words for what surprises.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{query, sql};
use piecewise_tests::process::{Device, Said, Server, binary, text};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

struct Setting {
    folder: TempDir,
    server: Server,
    device: Device,
}

impl Setting {
    fn new(grant: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::start(&folder.path().join("server"));
        let device = Device::joined(&folder.path().join("home"), &server, &[grant]);
        Self { folder, server, device }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, schema: &str) -> PathBuf {
        let file = self.path(name);
        sql(&file, &format!("PRAGMA journal_mode = WAL; {schema}"));
        file
    }

    /// Runs a command of the server with its data folder, which must succeed with JSON.
    fn serve(&self, arguments: &[&str]) -> Value {
        let said = Server::command(&self.server.data, &[arguments, &["--json"]].concat());
        assert_eq!(said.code, 0, "{said}");
        serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {said}"))
    }

    fn key(&self) -> String {
        self.device.json(&["identity"])["key"].as_str().unwrap().to_owned()
    }
}

/// The only error of a command that was run with --json.
#[track_caller]
fn error(said: &Said) -> Value {
    assert_eq!(said.out, "", "{said}");
    let lines =
        said.err.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {said}")));
    let errors: Vec<Value> = lines.filter(|line: &Value| line.get("error").is_some()).collect();
    let [error] = errors.as_slice() else { panic!("not one error: {said}") };
    let mut names: Vec<_> = error.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["code", "error", "hint"], "{said}");
    error.clone()
}

/// Runs a line of shell on a terminal; what that shows.
fn on_terminal(home: &Path, line: &str, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new("script");
    command.args(["-qec", line, "/dev/null"]).env("PIECEWISE_HOME", home).env("TERM", "xterm-256color");
    command.env("PIECEWISE", binary("piecewise")).env("SHELL", "/bin/sh").env_remove("NO_COLOR");
    command.envs(environment.iter().copied()).stdin(Stdio::null());
    String::from_utf8_lossy(&command.output().expect("script, of util-linux").stdout).into_owned()
}

#[test]
fn every_command_of_a_device_writes_json() {
    let it = Setting::new("app/*=write");
    let file = it.file(
        "a.db",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, s TEXT, b BLOB, r REAL);
         CREATE TABLE u(id TEXT PRIMARY KEY, email TEXT UNIQUE);
         INSERT INTO t VALUES (1, 7, NULL, x'00ff', 1.5); INSERT INTO u VALUES ('a', 'x'), ('b', 'y')",
    );
    let file = text(&file);
    let other = Device { home: it.path("other") };
    let invite = it.server.invite(&["app/*=write"]);
    let said = other.run(["join", &invite, "--name", "a\tb", "--json"]);
    assert_eq!((said.code, error(&said)["code"].as_str()), (1, Some("bad_name")), "{said}");
    let joined = other.json(&["join", &invite, "--name", "Ada's phone"]);
    assert!(it.serve(&["peers"]).to_string().contains("\"Ada's phone\""));
    assert!(joined["server"].as_str().unwrap().contains(&it.server.listen), "{joined}");
    assert_eq!(joined["key"], other.json(&["identity"])["key"]);
    let tracked = it.device.json(&["track", file, "--all", "--as", "app"]);
    assert_eq!((&tracked["database"], &tracked["tables"]), (&json!("app"), &json!(["t", "u"])), "{tracked}");
    assert_eq!(tracked["notes"][0]["kind"], "integer_key", "{tracked}");
    assert_eq!(it.device.json(&["sync", file])["caught_up"], true);
    let copy = it.path("copy.db");
    let copy = text(&copy);
    let cloned = other.json(&["clone", "app", copy]);
    let tables = json!([{ "table": "t", "rows": 1 }, { "table": "u", "rows": 2 }]);
    assert_eq!(cloned["tables"], tables, "{cloned}");
    assert_eq!(it.device.json(&["wait", file]), json!({ "level": true }), "no flag is needed");
    assert_eq!(it.device.json(&["status", file])["caught_up"], true);
    assert_eq!(it.device.json(&["check", file])["unhealed"], 0);
    assert_eq!(it.device.json(&["compare", file])[0]["matched"], 1);

    // Values have their types.
    let history = it.device.json(&["history", file, "t", "1"]);
    let columns = json!({ "n": 7, "s": null, "b": { "blob": "00ff" }, "r": 1.5 });
    let written: &Value = &history[0]["columns"];
    for (name, value) in columns.as_object().unwrap() {
        assert_eq!(&written[name], value, "{history}");
    }
    assert!(it.device.json(&["types", file])["typescript"].as_str().unwrap().contains("export interface T"));
    assert!(it.device.json(&["man"])["page"].as_str().unwrap().contains(".TH piecewise"));
    assert!(it.device.json(&["completions", "bash"])["script"].as_str().unwrap().contains("_piecewise()"));

    // A conflict and its end.
    sql(Path::new(file), "UPDATE t SET n = 8");
    sql(Path::new(copy), "UPDATE t SET n = 9");
    it.device.json(&["sync", file]);
    other.json(&["sync", copy]);
    let conflicts = other.json(&["conflicts", copy]);
    assert!(conflicts[0]["shown"]["value"].is_i64(), "{conflicts}");
    let chosen = other.json(&["conflicts", "choose", copy, "t", "1", "1", "--column", "n"]);
    assert_eq!(
        (&chosen["key"], &chosen["number"], &chosen["new_key"]),
        (&json!("1"), &json!(1), &Value::Null)
    );

    // A row that is held, edited and given up.
    sql(Path::new(file), "INSERT INTO u VALUES ('mine', 'same')");
    sql(Path::new(copy), "INSERT INTO u VALUES ('theirs', 'same')");
    it.device.json(&["sync", file]);
    other.json(&["sync", copy]);
    let third = Device::joined(&it.path("third"), &it.server, &["app/*=write"]);
    let cloned = third.run(["clone", "app", text(&it.path("third.db")), "--json"]);
    assert!(cloned.out.contains("\"held\": 1") && cloned.err.contains("1 row held"), "{cloned}");
    let held = other.json(&["held", copy]);
    assert_eq!(held[0]["row"]["email"], "same", "{held}");
    let key = held[0]["key"].as_str().unwrap();
    let edited = other.json(&["held", "edit", copy, "u", key, "email=other"]);
    assert_eq!(edited, json!({ "table": "u", "key": key, "shows": true }));
    assert_eq!(other.json(&["refused", copy]), json!([]));
    assert_eq!(other.json(&["refused", "retry", copy]), json!({ "rows": 0 }));
    assert_eq!(other.json(&["refused", "revert", copy]), json!({ "rows": 0 }));

    assert_eq!(it.device.json(&["log", "status"])[0]["verified"], true);
    let status = it.serve(&["log", "status"]);
    let export = it.path("export");
    let exported = it.serve(&["log", "export", text(&export)]);
    let verified =
        it.device.json(&["log", "verify", text(&export), "--key", status["key"].as_str().unwrap()]);
    assert_eq!((&verified["sound"], &verified["entries"]), (&json!(true), &exported["entries"]));
    let untracked = it.device.json(&["untrack", file, "u"]);
    assert_eq!(untracked["tables"], json!(["u"]));
    let forgotten = it.device.json(&["forget", &it.server.listen]);
    assert!(forgotten["forgotten"].as_str().unwrap().contains(&it.server.listen));
    assert_eq!(it.device.json(&["identity"])["servers"], json!([]));
    let said = it.device.run(["sync", file, "--json"]);
    assert_eq!((said.code, &error(&said)["code"]), (1, &json!("not_joined")));
    assert_eq!(query(Path::new(file), "SELECT count(*) FROM t"), ["Integer(1)"], "its rows stay");
}

#[test]
fn every_command_of_the_server_writes_json_and_names_devices() {
    let it = Setting::new("app/*=admin");
    let key = it.key();
    let invites = it.serve(&["invite", "--grant", "app/*=read", "--count", "2"]);
    assert_eq!(invites["invites"].as_array().unwrap().len(), 2);
    let open = it.serve(&["invites"]);
    assert_eq!((open.as_array().unwrap().len(), &open[0]["expired"]), (2, &json!(false)), "{open}");
    let cancelled = it.serve(&["cancel-invite", open[0]["invite"].as_str().unwrap()]);
    assert_eq!(cancelled["cancelled"], true);
    let peers = it.serve(&["peers"]);
    assert_eq!((&peers[0]["key"], &peers[0]["grants"]), (&json!(key), &json!(["app/*=admin"])), "{peers}");
    let name = peers[0]["name"].as_str().unwrap();
    let given = it.serve(&["grant", &key[..8], "b/*=read", "--until", "2100-01-01T00:00:00Z"]);
    assert_eq!(
        (&given["given"], &given["until"]),
        (&json!(true), &json!("2100-01-01T00:00:00.000Z")),
        "{given}"
    );
    assert_eq!(it.serve(&["ungrant", &key[..8], "b/*=read"])["given"], false);
    let file = it.file("a.db", "CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('1', 'x')");
    it.device.must(["track", text(&file), "t", "--as", "app"]);
    sql(&file, "INSERT INTO t VALUES ('2', 'y')"); // the row from before has no time
    it.device.must(["sync", text(&file)]);
    assert_eq!(it.serve(&["check", "app"])[0]["database"], "app");
    assert!(it.serve(&["status-link"])["url"].as_str().unwrap().starts_with("http"));
    assert!(it.device.json(&["admin"])["url"].as_str().unwrap().starts_with("http"));
    // What was accepted comes into the log a moment later.
    let mut looks = (0..1000).map(|_| Server::log(&it.server.data, &["show"]));
    let shown = looks.find(|shown| shown.out.contains("accepted")).expect("the row is in the log");
    assert!(name.is_empty() || shown.out.contains(&format!("by {name} (")), "{shown}");
    let entries = Server::log(&it.server.data, &["show", "--json"]);
    assert!(entries.out.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{entries}");
    let evicted = it.serve(&["evict", "--author", &key, "--since", "2000-01-01T00:00:00Z"]);
    assert_eq!((&evicted[0]["database"], &evicted[0]["rows"]), (&json!("app"), &json!(1)), "{evicted}");
    assert_eq!(it.serve(&["log", "verify"])["sound"], true);
    assert_eq!(it.serve(&["revoke", &key])["revoked"], true);
    assert_eq!(it.serve(&["peers"])[0]["revoked"], true);
}

#[test]
fn errors_have_one_shape_and_stable_codes() {
    let it = Setting::new("app/*=write");
    let file = it.file("a.db", "CREATE TABLE t(id TEXT PRIMARY KEY, v); CREATE TABLE bare(v)");
    let file = text(&file);
    let fails = |arguments: &[&str], exit: i32, code: &str| {
        let said = it.device.run(arguments.iter().chain(&["--json"]));
        assert_eq!((said.code, error(&said)["code"].as_str()), (exit, Some(code)), "{arguments:?}: {said}");
    };
    fails(&["sync", "nowhere.db"], 5, "no_file");
    fails(&["sync", file], 1, "not_connected");
    fails(&["track", file, "bare", "--as", "app"], 1, "cannot_track");
    fails(&["track", file, "t", "--as", "a/b"], 1, "bad_name");
    it.device.must(["track", file, "t", "--as", "app"]);
    fails(&["track", file, "t"], 1, "tracked");
    fails(&["track", file, "t", "--as", "other"], 1, "other_database");
    fails(&["history", file, "t", "none"], 1, "not_found");
    fails(&["history", file, "bare", "1"], 1, "not_tracked");
    fails(&["clone", "app", file], 5, "file_exists");
    fails(&["clone", "secret", text(&it.path("b.db"))], 4, "not_granted");
    fails(&["join", "hello"], 1, "bad_invite");
    fails(&["clone", "app", "b.db", "--server", "elsewhere"], 1, "which_server");
    fails(&["frobnicate"], 2, "usage");
    fails(&["sync"], 2, "usage");
    let lock = piecewise_tests::data::open(Path::new(file));
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    fails(&["sync", file], 5, "busy");
    lock.execute_batch("ROLLBACK").unwrap();
    let server = |arguments: &[&str], code: &str| {
        let said = Server::command(&it.server.data, &[arguments, &["--json"]].concat());
        assert_eq!((said.code, error(&said)["code"].as_str()), (1, Some(code)), "{arguments:?}: {said}");
    };
    server(&["invite", "--grant", "app/*=everything"], "bad_grant");
    server(&["revoke", "zz"], "not_found");
    server(&["check", "nothing"], "no_database");
    let said = Server::command(&it.path("nowhere"), &["peers", "--json"]);
    assert_eq!(error(&said)["code"], "no_server");
    let Setting { server, device, folder: _folder } = it;
    server.kill();
    let said = device.run(["sync", file, "--json"]);
    assert_eq!((said.code, error(&said)["code"].as_str()), (3, Some("unreachable")), "{said}");
}

#[test]
fn the_help_has_groups_and_each_command_has_examples() {
    let it = Setting::new("app/*=write");
    let help = it.device.must(["--help"]);
    for title in ["Begin:", "Sync:", "Look:", "Decide:", "Servers:"] {
        assert!(help.contains(title), "{title}: {help}");
    }
    let commands = help.lines().filter(|l| l.starts_with("  ") && !l.trim_start().starts_with('-'));
    let names: Vec<_> = commands.filter_map(|l| l.split_whitespace().next()).collect();
    assert!(names.len() > 15 && names.contains(&"forget"), "{names:?}");
    for name in ["join", "sync", "conflicts", "forget", "log"] {
        let help = it.device.must([name, "--help"]);
        assert!(help.contains("Examples:\n  piecewise "), "{name}: {help}");
    }
    assert!(Server::log(&it.server.data, &["show", "--help"]).out.contains("--row"));
    let help = Command::new(binary("piecewise-server")).arg("--help").output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("Devices and what they may do:"));
}

#[test]
fn colors_are_for_terminals_and_figures_stand_right() {
    let it = Setting::new("app/*=write");
    let file = it.file(
        "a.db",
        "CREATE TABLE small(id TEXT PRIMARY KEY); CREATE TABLE large(id TEXT PRIMARY KEY); INSERT INTO small VALUES ('1');
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1234) INSERT INTO large SELECT i FROM n",
    );
    it.device.must(["track", text(&file), "--all", "--as", "app"]);
    let status = it.device.must(["status", text(&file)]);
    let line = |table: &str| status.lines().find(|line| line.starts_with(table)).unwrap();
    assert!(
        line("large").starts_with("large  1,234  ") && line("small").starts_with("small      1  "),
        "{status}"
    );
    assert!(!status.contains('\u{1b}'), "a pipe is no terminal");
    let forced = it.device.must(["status", text(&file), "--color", "always"]);
    assert!(forced.contains('\u{1b}'), "{forced}");
    let status = format!("\"$PIECEWISE\" status '{}'", text(&file));
    let home = &it.device.home;
    assert!(on_terminal(home, &status, &[]).contains("\u{1b}["));
    assert!(!on_terminal(home, &status, &[("NO_COLOR", "1")]).contains("\u{1b}["));
    assert!(!on_terminal(home, &format!("{status} --color=never"), &[]).contains("\u{1b}["));
    assert!(on_terminal(home, "\"$PIECEWISE\" sync nowhere.db", &[]).contains("\u{1b}[1m\u{1b}[31merror:"));
}

#[test]
fn a_share_of_the_whole_never_falls_and_is_shown_only_once_the_whole_is_known() {
    let it = Setting::new("app/*=write");
    let file = it.file(
        "a.db",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500000)
         INSERT INTO t SELECT i, hex(randomblob(40)), hex(randomblob(40)) FROM n",
    );
    it.device.must(["track", text(&file), "t", "--as", "app"]);
    let shown = on_terminal(&it.device.home, &format!("\"$PIECEWISE\" sync '{}'", text(&file)), &[]);
    let frames: Vec<_> = shown.split(['\r', '\n']).filter(|line| line.contains("exchanged")).collect();
    assert!(
        frames.iter().any(|frame| frame.contains("captured")),
        "nothing was told while rows were captured: {shown}"
    );
    let share = |frame: &&str| frame.split('%').next()?.split_whitespace().last()?.parse::<u32>().ok();
    let shares: Vec<_> = frames.iter().filter(|frame| frame.contains('%')).filter_map(share).collect();
    assert!(shares.is_sorted(), "{shares:?}");
    let ends = frames.iter().position(|frame| frame.contains("100%")).unwrap_or(frames.len());
    assert!(frames[ends..].iter().all(|frame| !frame.contains("captured")), "{frames:?}");
    let compared = on_terminal(&it.device.home, &format!("\"$PIECEWISE\" compare '{}'", text(&file)), &[]);
    assert!(compared.contains("of 500,000 rows compared"), "{compared}");
    assert!(!it.device.run(["compare", text(&file)]).err.contains("compared"));
}

#[test]
fn many_tables_are_tracked_in_few_lines() {
    let it = Setting::new("app/*=write");
    let tables: String = (0..45)
        .map(|n| format!("CREATE TABLE t{n:02}(id INTEGER PRIMARY KEY, x, parent REFERENCES gone{n}(id)); CREATE UNIQUE INDEX i{n} ON t{n:02}(x) WHERE x > 0;"))
        .collect();
    let file = it.file("a.db", &tables);
    let said = it.device.run(["track", text(&file), "--all", "--as", "app"]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(said.out.lines().count(), 2, "{said}");
    assert!(said.out.starts_with("45 tables are tracked: t00, "), "{said}");
    assert_eq!(said.err.lines().count(), 1, "{said}");
    for part in
        ["45 tables number their rows", "45 have UNIQUE indexes of this machine alone", "45 refer to tables"]
    {
        assert!(said.err.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_merge_kind_for_a_table_that_is_tracked_says_how() {
    let it = Setting::new("app/*=write");
    let file = it.file("a.db", "CREATE TABLE t(id TEXT PRIMARY KEY, body TEXT)");
    let file = text(&file);
    it.device.must(["track", file, "t", "--as", "app"]);
    let said = it.device.run(["track", file, "t", "--text", "t.body"]);
    assert!(said.code == 1 && said.err.contains("column body merges as before"), "{said}");
    assert!(said.err.contains("`piecewise untrack`"), "{said}");
    // What it says works: the table has not met the server's yet.
    it.device.must(["untrack", file, "t"]);
    it.device.must(["track", file, "t", "--text", "t.body", "--as", "app"]);
    it.device.must(["sync", file]);
    let types = it.device.must(["types", file]);
    assert!(types.contains("Text: concurrent edits merge by character"), "{types}");
    let said = it.device.run(["track", file, "t", "--text", "t.body"]);
    assert!(said.code == 1 && said.err.contains("nothing needs doing"), "{said}");
}

#[test]
fn a_clone_that_finds_nothing_says_what_this_device_may_see() {
    let it = Setting::new("shop*/*=write");
    let file = it.file("a.db", "CREATE TABLE t(id TEXT PRIMARY KEY)");
    it.device.must(["track", text(&file), "t", "--as", "shop1"]);
    it.device.must(["sync", text(&file)]);
    let folder = it.path("tenants");
    let said = it.device.run(["clone", "tenant*", text(&folder)]);
    assert!(
        said.code == 0 && said.err.contains("no database fits tenant* now; this device may see shop1."),
        "{said}"
    );
    let said = it.device.run(["clone", "tenant1", text(&it.path("b.db"))]);
    assert!(said.code == 4 && said.err.contains("this device may see shop1"), "{said}");
    let said = it.device.run(["clone", "shop*", text(&it.path("shops"))]);
    assert!(said.code == 0 && said.err.is_empty(), "{said}");
    let stranger = Device::joined(&it.path("stranger"), &it.server, &["other/*=read"]);
    let said = stranger.run(["clone", "tenant*", text(&it.path("none"))]);
    assert!(said.err.contains("may see no database that is there now"), "{said}");
}

#[test]
fn an_invite_that_other_machines_cannot_use_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let everywhere = folder.path().join("everywhere");
    let server = Server::start_at(&everywhere, "0.0.0.0:0", &["--invite", "app/*=write"]);
    server.wait_for_log("--public-address");
    let said = server.run("invite", &["--grant", "app/*=write"]);
    assert!(said.code == 0 && said.err.contains("--public-address"), "{said}");
    let device = Device { home: folder.path().join("home") };
    device.must(["join", said.out.trim()]);
    let said = server.run("invite", &["--grant", "app/*=write", "--address", "ws://shop.example:7171"]);
    assert!(said.code == 0 && said.err.is_empty(), "{said}");
    let named = Server::start_at(
        &folder.path().join("named"),
        "0.0.0.0:0",
        &["--public-address", "ws://shop.example:7171"],
    );
    let said = named.run("invite", &["--grant", "app/*=write"]);
    assert!(said.code == 0 && said.err.is_empty(), "{said}");
    let local = Server::start(&folder.path().join("local"));
    assert!(local.run("invite", &["--grant", "app/*=write"]).err.is_empty());
}

#[test]
fn of_several_servers_an_address_means_the_one_that_answers_there() {
    let it = Setting::new("app/*=write");
    let (listen, folder) = (it.server.listen.clone(), it.folder);
    it.server.kill();
    // Another server takes the place of the first.
    let server = Server::start_at(&folder.path().join("second"), &listen, &[]);
    it.device.must(["join", &server.invite(&["app/*=write"])]);
    let elsewhere = Server::start(&folder.path().join("third"));
    it.device.must(["join", &elsewhere.invite(&["app/*=write"])]);
    let file = folder.path().join("a.db");
    sql(&file, "PRAGMA journal_mode = WAL; CREATE TABLE t(id TEXT PRIMARY KEY); INSERT INTO t VALUES ('1')");
    let said = it.device.run(["track", text(&file), "t", "--as", "app"]);
    assert!(said.code == 1 && said.err.contains(&listen) && said.err.contains("--server"), "{said}");
    it.device.must(["track", text(&file), "t", "--as", "app", "--server", &format!("ws://{listen}")]);
    it.device.must(["sync", text(&file)]);
    assert_eq!(query(&server.file("app"), "SELECT id FROM t"), ["Text(\"1\")"]);
}

#[test]
fn a_merge_kind_that_the_servers_table_does_not_have_is_told_of() {
    let it = Setting::new("app/*=write");
    let schema = "CREATE TABLE t(id TEXT PRIMARY KEY, a TEXT, n INTEGER)";
    let first = it.file("a.db", schema);
    it.device.must(["track", text(&first), "t", "--as", "app"]);
    it.device.must(["sync", text(&first)]);
    let second = it.file("b.db", schema);
    it.device.must(["track", text(&second), "t", "--as", "app", "--text", "t.a", "--counter", "t.n"]);
    let said = it.device.run(["sync", text(&second)]);
    assert_eq!(said.code, 0, "{said}");
    for column in ["t.a merges as a whole", "t.n merges as a whole"] {
        assert!(said.err.contains(column), "{said}");
    }
    assert!(!it.device.run(["sync", text(&second)]).err.contains("merges"), "it is told once");
    let wrong = it.device.run(["track", text(&second), "t", "--text", "t.zz"]);
    assert!(wrong.code == 1 && wrong.err.contains("table t has no column zz"), "{wrong}");
    // What the hint says: a table of another name.
    let tracked = it.device.run(["track", text(&second), "t", "--text", "t.a"]);
    assert!(tracked.code != 0 && tracked.err.contains("a table of another name"), "{tracked}");
    sql(&second, "CREATE TABLE t2(id TEXT PRIMARY KEY, a TEXT, n INTEGER); INSERT INTO t2 SELECT * FROM t");
    it.device.must(["track", text(&second), "t2", "--text", "t2.a"]);
    assert!(!it.device.run(["sync", text(&second)]).err.contains("merges"), "it merges as it was asked to");
}

#[test]
fn of_two_servers_at_one_address_none_is_forgotten_by_it() {
    let it = Setting::new("app/*=write");
    let address = it.device.json(&["identity"])["servers"][0]["address"].as_str().unwrap().to_owned();
    let listen = it.server.listen.clone();
    let device = it.device.home.clone();
    drop(it.server);
    let other = Server::start_at(&it.folder.path().join("other"), &listen, &[]);
    let device = Device { home: device };
    device.must(["join", &other.invite(&["app/*=write"])]);
    let said = device.run(["forget", &address]);
    assert!(said.code != 0 && said.err.contains("2 servers"), "{said}");
    let servers = device.json(&["identity"])["servers"].clone();
    assert_eq!(servers.as_array().unwrap().len(), 2, "{servers}");
    let key = servers[0]["key"].as_str().unwrap().to_owned();
    device.must(["forget", &key[..8]]);
    assert_eq!(device.json(&["identity"])["servers"].as_array().unwrap().len(), 1);
}

#[test]
fn who_wrote_something_is_told_by_the_name_that_the_server_knows() {
    let it = Setting::new("app/*=write");
    let other = Device::joined(&it.path("other"), &it.server, &["app/*=write"]);
    let stranger = Device::joined(&it.path("stranger"), &it.server, &["elsewhere/*=write"]);
    let file = it.file("a.db", "CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('1', 'x')");
    it.device.must(["track", text(&file), "t", "--as", "app"]);
    it.device.must(["sync", text(&file)]);
    let copy = it.path("b.db");
    other.must(["clone", "app", text(&copy)]);
    sql(&copy, "UPDATE t SET v = 'theirs'");
    sql(&file, "UPDATE t SET v = 'ours'");
    other.must(["sync", text(&copy)]);
    it.device.must(["sync", text(&file)]);
    other.must(["sync", text(&copy)]);
    let key = |device: &Device| device.json(&["identity"])["key"].as_str().unwrap().to_owned();
    let peers = it.serve(&["peers"]);
    let name = |device: &Device| {
        let key = key(device);
        let peer = peers.as_array().unwrap().iter().find(|peer| peer["key"] == json!(key));
        peer.unwrap()["name"].as_str().unwrap().to_owned()
    };
    for (device, file, of) in [(&it.device, &file, &other), (&other, &copy, &it.device)] {
        let conflict = device.json(&["conflicts", text(file)])[0].clone();
        let written = [conflict["shown"].clone(), conflict["others"][0].clone()];
        let theirs = written.iter().find(|w| w["author"] == json!(key(of))).unwrap();
        assert_eq!(theirs["author_name"], json!(name(of)), "{conflict}");
        let said = device.must(["conflicts", text(file)]);
        assert!(said.contains(&format!("by {} (", name(of))) && said.contains("by this device"), "{said}");
        let history = device.must(["history", text(file), "t", "1"]);
        assert!(history.contains(&name(of)), "{history}");
        let known = query(file, "SELECT count(*) FROM piecewise_authors WHERE name IS NOT NULL");
        assert_eq!(known, ["Integer(1)"], "the other device");
    }
    assert_ne!(stranger.run(["clone", "app", text(&it.path("c.db"))]).code, 0, "it hears nothing of app");
}
