//! The demo, which `make demo` runs: `story FOLDER` has a server and two replicas with real files that both edit offline, then
//! sync; `page FOLDER` serves the board on what the story left, until it is interrupted.

use piecewise_tests::process::{Device, Server, binary, text};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use std::path::{Path, PathBuf};

const SCHEMA: &str = "
CREATE TABLE todos(
  id TEXT PRIMARY KEY, title TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0,
  note TEXT NOT NULL DEFAULT '', votes INTEGER NOT NULL DEFAULT 0, slug TEXT UNIQUE);";

const FIRST: &str = "
INSERT INTO todos(id, title, note, slug) VALUES
  ('a1', 'Buy milk', 'two bottles', 'milk'),
  ('b2', 'Call the plumber', '', 'plumber'),
  ('c3', 'Water the plants', '', 'plants');";

const ON_PHONE: &[(&str, &str)] = &[
    ("another column of one row", "UPDATE todos SET done = 1 WHERE id = 'a1'"),
    ("the same column", "UPDATE todos SET title = 'Buy oat milk' WHERE id = 'a1'"),
    ("a text column", "UPDATE todos SET note = 'two big bottles' WHERE id = 'a1'"),
    ("a counter", "UPDATE todos SET votes = votes + 1 WHERE id = 'a1'"),
    ("a delete …", "DELETE FROM todos WHERE id = 'b2'"),
    ("a UNIQUE slug", "INSERT INTO todos(id, title, slug) VALUES ('d4', 'Plan a trip', 'trip')"),
];

const ON_LAPTOP: &[(&str, &str)] = &[
    ("another column of one row", "UPDATE todos SET slug = 'groceries' WHERE id = 'a1'"),
    ("the same column", "UPDATE todos SET title = 'Buy whole milk' WHERE id = 'a1'"),
    ("a text column", "UPDATE todos SET note = 'two bottles, please' WHERE id = 'a1'"),
    ("a counter", "UPDATE todos SET votes = votes + 2 WHERE id = 'a1'"),
    ("… against an edit", "UPDATE todos SET done = 1 WHERE id = 'b2'"),
    ("the same UNIQUE slug", "INSERT INTO todos(id, title, slug) VALUES ('e5', 'Trip to the sea', 'trip')"),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_else(|| "story".into());
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "demo-data".into()));
    match what.as_str() {
        "page" => page(&folder),
        _ => story(&folder),
    }
}

fn story(folder: &Path) {
    if folder.exists() {
        std::fs::remove_dir_all(folder).expect("the old demo can be removed");
    }
    std::fs::create_dir_all(folder).expect("a folder for the demo");
    let folder = folder.canonicalize().expect("it exists");

    step("A server, and two machines that join it with an invite each");
    let server = Server::start(&folder.join("server"));
    say(&format!("piecewise-server serve --data {} --listen {}", server.data.display(), server.listen));
    say("piecewise-server invite --data … --grant 'home/*=write'");
    let join = |name: &str| Device::joined(&folder.join(format!("{name}-home")), &server, &["home/*=write"]);
    let (phone, laptop) = (join("phone"), join("laptop"));
    let files = [folder.join("phone.db"), folder.join("laptop.db")];
    let devices = [&phone, &laptop];

    step("Each has an application's SQLite file; the phone's has rows");
    for file in &files {
        sql(file, &format!("PRAGMA journal_mode = WAL; {SCHEMA}"));
    }
    sql(&files[0], FIRST);
    for (device, file) in devices.iter().zip(&files) {
        let track = ["track", text(file), "todos", "--as", "home"];
        show(device, &[&track[..], &["--text", "todos.note", "--counter", "todos.votes"]].concat());
        show(device, &["sync", text(file)]);
    }
    table("Both files, and the server's", &files[1]);

    step("Both go offline and write plain SQL");
    for (name, file, edits) in [("phone", &files[0], ON_PHONE), ("laptop", &files[1], ON_LAPTOP)] {
        println!("\n  {name}");
        for (what, edit) in edits {
            sql(file, edit);
            println!("    {what:<26} {edit}");
            // The next edit is a moment later, as it is with people.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    table("The phone before sync", &files[0]);
    table("The laptop before sync", &files[1]);

    step("Then they sync");
    for (device, file) in [(&phone, &files[0]), (&laptop, &files[1]), (&phone, &files[0])] {
        show(device, &["sync", text(file)]);
    }
    table("All three after sync", &files[0]);
    println!(
        "
  Both columns stand; the later title shows; the note has both edits; the counter has all 3 votes;
  the edit outlived the delete; of two rows with one slug the earlier shows."
    );

    step("Nothing is lost: the other title is a conflict, the other trip is held");
    show(&laptop, &["conflicts", text(&files[1])]);
    show(&laptop, &["held", text(&files[1])]);

    step("The proof that all three are equal");
    for (device, file) in devices.iter().zip(&files) {
        show(device, &["compare", text(file)]);
    }
    let roots: Vec<_> = devices.iter().zip(&files).map(|(d, f)| root(d, f)).collect();
    let tables: Vec<_> = [&files[0], &files[1], &server.file("home")].map(|f| rows(f)).into();
    assert_eq!(roots[0], roots[1], "the roots are equal");
    assert!(tables.iter().all(|t| *t == tables[0]), "the tables are equal");
    println!("  roots: {}… on both machines; the rows of all three files are the same", &roots[0][..32]);

    let (data, listen) = (server.data.clone(), server.listen.clone());
    server.stop();
    step("The server kept a signed record of it all, which anyone can verify with its public key");
    say("piecewise-server log show --data server; piecewise-server log verify --data server");
    for arguments in [&["show"][..], &["verify"]] {
        let said = Server::log(&data, arguments);
        said.out.lines().for_each(|line| println!("  {line}"));
        assert_eq!(said.code, 0, "the log is sound");
    }
    go_on(&folder, &listen);
}

/// The same in a browser: a page with two replicas, served until Ctrl-C.
fn page(folder: &Path) {
    step("In the browser: two copies of a board, side by side, each with its own offline switch");
    let server = Server::start_or_elsewhere(&folder.join("server"), "127.0.0.1:7171");
    let invites = [server.invite(&["board/*=admin"]), server.invite(&["board/*=admin"])].join(",");
    let listen = &server.listen;
    println!("  open  http://{listen}/#invites={invites}");
    println!("  and press \"Show me\". The invites work once; from then on http://{listen}/ is the board.");
    println!("  Ctrl-C ends the server.");
    std::process::exit(server.wait());
}

fn step(title: &str) {
    println!("\n\x1b[1m== {title}\x1b[0m");
}

fn say(line: &str) {
    println!("  \x1b[2m$ {line}\x1b[0m");
}

fn name(path: &str) -> &str {
    Path::new(path).file_name().and_then(|n| n.to_str()).unwrap_or(path)
}

/// Runs `piecewise` and shows the command with what it said.
fn show(device: &Device, arguments: &[&str]) {
    let short: Vec<_> = arguments.iter().map(|a| if a.starts_with('/') { name(a) } else { a }).collect();
    say(&format!("piecewise {}", short.join(" ")));
    let said = device.run(arguments);
    for line in said.out.lines().chain(said.err.lines()) {
        println!("  {line}");
    }
    assert_eq!(said.code, 0, "the command works");
}

fn sql(file: &Path, sql: &str) {
    let conn = Connection::open(file).expect("the file opens");
    conn.execute_batch(sql).expect("the SQL works");
}

fn rows(file: &Path) -> Vec<Vec<String>> {
    let conn = Connection::open(file).expect("the file opens");
    let mut stmt = conn.prepare("SELECT * FROM todos ORDER BY id").expect("the table is there");
    let names: Vec<_> = stmt.column_names().map(str::to_owned).collect();
    let cell = |v: ValueRef<'_>| match v {
        ValueRef::Integer(i) => i.to_string(),
        ValueRef::Text(t) => String::from_utf8_lossy(t).into_owned(),
        _ => "NULL".into(),
    };
    let lines = stmt.query_map([], |row| (0..names.len()).map(|n| row.get_ref(n).map(cell)).collect());
    let lines: Vec<_> = lines.expect("a query").map(|l| l.expect("a row")).collect();
    std::iter::once(names).chain(lines).collect()
}

fn table(title: &str, file: &Path) {
    println!("\n  {title}");
    let lines = rows(file);
    let width = |n: usize| lines.iter().map(|l| l[n].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
    for line in &lines {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        println!("    {}", cells.join("  ").trim_end());
    }
}

fn root(device: &Device, file: &Path) -> String {
    let status = device.json(&["status", text(file)]);
    status["tables"][0]["root"].as_str().expect("a root").to_owned()
}

fn go_on(folder: &Path, listen: &str) {
    step("Go on by hand");
    let bin = binary("piecewise");
    let bin = bin.parent().expect("a folder");
    println!(
        "  cd {0}; PATH={1}:$PATH
  piecewise-server serve --data server --listen {2} &
  PIECEWISE_HOME=phone-home piecewise watch phone.db &
  PIECEWISE_HOME=laptop-home piecewise watch laptop.db &
  sqlite3 phone.db \"UPDATE todos SET title = 'Hello from the phone' WHERE id = 'c3'\"
  sqlite3 laptop.db 'SELECT * FROM todos'; sqlite3 server/home.db 'SELECT * FROM todos'
  PIECEWISE_HOME=laptop-home piecewise conflicts choose laptop.db todos a1 1 --column title",
        folder.display(),
        bin.display(),
        listen
    );
}
