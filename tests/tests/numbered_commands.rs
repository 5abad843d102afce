//! What commands say and do about numbers, with the real binaries.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{query, sql};
use piecewise_tests::pair::Pair;
use piecewise_tests::process::text;
use serde_json::json;

const SHOP: &str = "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE notes(id TEXT PRIMARY KEY, about_id INTEGER, of TEXT)";

#[test]
fn track_changes_how_a_tracked_table_is_numbered_and_says_so() {
    let it = Pair::new("WAL", SHOP);
    let before = query(&it.files[0], "SELECT * FROM sqlite_master ORDER BY rowid");
    // To change what the server has been told of numbers takes more than to write.
    let key = it.devices[0].json(&["identity"])["key"].as_str().unwrap().to_owned();
    assert_eq!(it.server.run("grant", &[&key, "app/*=admin"]).code, 0);
    it.track(0);
    it.sync(0);
    let track = |more: &[&str]| {
        let mut arguments = vec!["track", it.path(0)];
        arguments.extend(more);
        it.devices[0].run(arguments)
    };
    for (more, said) in [
        (
            &["customers", "--keep-numbers"][..],
            "customers: rows keep their numbers, also those that other rows have, from now on\n",
        ),
        (
            &["customers", "--keep-numbers"],
            "customers: rows keep their numbers, also those that other rows have, already\n",
        ),
        (
            &["customers", "--no-keep-numbers"],
            "customers: rows whose numbers other rows have get others from now on\n",
        ),
        (
            &["notes", "--ref", "notes.about_id=customers.id"],
            "notes: about_id names rows of customers by id from now on\n",
        ),
        (&["customers", "--autoincrement"], "customers: AUTOINCREMENT numbers its rows from now on\n"),
        (&["customers", "--autoincrement"], "customers: AUTOINCREMENT numbers its rows already\n"),
    ] {
        let done = track(more);
        assert_eq!((done.code, done.out.as_str()), (0, said), "{more:?}: {}", done.err);
    }
    assert_ne!(track(&["customers"]).code, 0, "nothing is asked of it that could change");
    assert_ne!(track(&["customers", "--text", "customers.name", "--keep-numbers"]).code, 0);
    assert_ne!(track(&["notes", "--autoincrement"]).code, 0, "it has no integer key");
    it.sync(0);
    let has = "SELECT count(*) FROM sqlite_master WHERE sql LIKE '%PRIMARY KEY AUTOINCREMENT%' AND name = 'customers'";
    assert_eq!(query(&it.server.file("app"), has), ["Integer(1)"]);
    // The reference follows from now on, on each device that has the table's description.
    std::fs::remove_file(&it.files[1]).unwrap();
    it.devices[1].must(["clone", "app", it.path(1)]);
    for (n, name) in [(0, "Carl"), (1, "Dora")] {
        let write = "INSERT INTO customers(name) VALUES ('NAME'); INSERT INTO notes SELECT 'NAME', id, name FROM customers WHERE name = 'NAME'";
        sql(&it.files[n], &write.replace("NAME", name));
    }
    it.sync_both();
    let stray = "SELECT of, name FROM notes LEFT JOIN customers c ON c.id = about_id WHERE name IS NOT of";
    assert_eq!(it.same(stray), [""; 0]);
    assert_eq!(it.same("SELECT name FROM customers ORDER BY name"), ["Text(\"Carl\")", "Text(\"Dora\")"]);
    it.devices[0].must(["untrack", it.path(0), "--all"]);
    assert_eq!(query(&it.files[0], "SELECT * FROM sqlite_master ORDER BY rowid"), before);
}

#[test]
fn status_shows_the_numbers_that_a_device_gives_out() {
    let it = Pair::cloned("CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, x)");
    let blocks = |n: usize| it.devices[n].json(&["status", it.path(n)])["tables"][0]["leases"].clone();
    assert_eq!(blocks(0), json!([{ "first": 1, "last": 512 }]));
    sql(&it.files[0], "INSERT INTO t(x) VALUES (1)");
    it.sync(0);
    assert_eq!(blocks(0), json!([{ "first": 1, "last": 512 }, { "first": 1025, "last": 1536 }]));
    let words = it.devices[0].must(["status", it.path(0)]);
    assert!(words.contains("gives out the numbers 1 to 512, then 1025 to 1536"), "{words}");
    // Nothing new: what is told of blocks costs less than a kilobyte.
    let nothing = it.devices[0].json(&["sync", it.path(0)]);
    let bytes = ["bytes_sent", "bytes_received"].map(|what| nothing["moved"][what].as_u64().unwrap());
    assert!(bytes.iter().sum::<u64>() < 1024, "{nothing}");
}

#[test]
fn at_first_contact_sync_tells_how_many_rows_clash_and_what_can_be_done() {
    let it = Pair::new("WAL", SHOP);
    sql(&it.files[0], "INSERT INTO customers VALUES (1, 'Ann'), (2, 'Bob')");
    sql(&it.files[1], "INSERT INTO customers VALUES (1, 'Ann'), (2, 'Bea'), (3, 'Cid')");
    it.track(0);
    it.sync(0);
    let tracked = it.devices[1].run(["track", it.path(1), "--all", "--as", "app"]);
    assert!(
        tracked.err.contains("customers has rows") && tracked.err.contains("--renumber-mine"),
        "{}",
        tracked.err
    );
    let synced = it.devices[1].run(["sync", it.path(1), "--json"]);
    let summary: serde_json::Value = serde_json::from_str(&synced.out).unwrap();
    assert_eq!(summary["clashed"], json!({ "customers": 1 }));
    assert!(synced.err.contains("customers: 1 row of this file has a number under which"), "{}", synced.err);
    let again = it.devices[1].json(&["sync", it.path(1)]);
    assert_eq!(again["clashed"], json!({}));
    let chosen = it.devices[1].must([
        "conflicts",
        "choose",
        it.path(1),
        "customers",
        "2",
        "1",
        "--as-new-row",
        "--with-references",
    ]);
    assert!(chosen.contains("the other row is 4 now, and 0 references follow"), "{chosen}");
}

#[test]
fn a_watch_of_a_folder_tells_of_renumbered_rows_as_events() {
    let it = Pair::new("WAL", SHOP);
    for n in 0..2 {
        let place = it.folder.path().join(format!("files-{n}"));
        std::fs::create_dir(&place).unwrap();
        it.track(n);
        it.sync(n);
        sql(
            &it.files[n],
            "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE; PRAGMA journal_mode = WAL",
        );
        std::fs::rename(&it.files[n], place.join("app.db")).unwrap();
    }
    let file = |n: usize| it.folder.path().join(format!("files-{n}/app.db"));
    for n in 0..2 {
        sql(&file(n), &format!("INSERT INTO customers(name) VALUES ('of {n}')"));
    }
    it.devices[0].must(["sync", text(&file(0))]);
    let watch = it.devices[1].start_watch(file(1).parent().unwrap());
    loop {
        let event = watch.next_level();
        if event["event"] == "renumbered" {
            assert_eq!(
                (&event["table"], &event["old"], &event["new"]),
                (&json!("customers"), &json!(1), &json!(2))
            );
            assert!(event["file"].as_str().unwrap().ends_with("app.db"));
            break;
        }
    }
}

#[test]
fn a_table_that_keeps_its_numbers_is_not_said_to_change_them() {
    let it = Pair::new("WAL", SHOP);
    let said = it.devices[0].run(["track", it.path(0), "customers", "--as", "app", "--keep-numbers"]);
    let said = format!("{}{}", said.out, said.err);
    assert!(!said.contains("another") && said.contains("kept beside it as a conflict"), "{said}");
}

#[test]
fn a_table_without_numbers_that_are_left_is_named() {
    let it = Pair::new(
        "WAL",
        &SHOP.replace("customers(id INTEGER PRIMARY KEY", "customers(id INTEGER PRIMARY KEY AUTOINCREMENT"),
    );
    it.track(0);
    it.track(1);
    sql(&it.files[0], "INSERT INTO customers VALUES (9223372036854775807, 'last')");
    it.sync(0);
    let said = it.devices[1].run(["sync", it.path(1)]);
    assert!(said.err.contains("no number is left in customers"), "{}", said.err);
    let said = it.devices[1].run(["status", it.path(1)]);
    assert!(said.out.contains("no number is left"), "{}", said.out);
    let tables = &it.devices[1].json(&["status", it.path(1)])["tables"];
    assert_eq!((&tables[0]["table"], &tables[0]["numbers_used_up"]), (&json!("customers"), &json!(true)));
}
