//! End to end on public data sets: real binaries, real files, real sockets.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{cities, fingerprint, query, sql, wordnet};
use piecewise_tests::process::{Device, Server};

#[test]
fn all_cities_of_the_world_reach_another_machine_and_edits_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let server = Server::start(&at("server"));
    let (a, b) = (at("a.db"), at("b.db"));
    let rows = cities(&a);
    assert!(rows >= 100_000);
    let one = Device::joined(&at("home-a"), &server, &["world/*=write"]);
    let two = Device::joined(&at("home-b"), &server, &["world/*=write"]);
    one.must(["track", a.to_str().unwrap(), "cities", "--as", "world"]);
    let moved = one.json(&["sync", a.to_str().unwrap()]);
    assert_eq!(moved["moved"]["rows_sent"], rows);
    two.must(["clone", "world", b.to_str().unwrap()]);
    assert_eq!(fingerprint(&b, "cities"), fingerprint(&a, "cities"));
    assert_eq!(fingerprint(&server.file("world"), "cities"), fingerprint(&a, "cities"));

    sql(
        &a,
        "UPDATE cities SET name = upper(name) WHERE id % 50 = 0; DELETE FROM cities WHERE country = 'AD'",
    );
    sql(
        &b,
        "UPDATE cities SET lat = lat + 1 WHERE id % 75 = 0; INSERT INTO cities(name, country) VALUES ('Atlantis', 'XX')",
    );
    sql(&server.file("world"), "UPDATE cities SET admin2 = 'seen' WHERE country = 'LI'");
    for (device, file) in [(&one, &a), (&two, &b), (&one, &a)] {
        device.must(["sync", file.to_str().unwrap()]);
    }
    assert_eq!(fingerprint(&b, "cities"), fingerprint(&a, "cities"));
    assert_eq!(fingerprint(&server.file("world"), "cities"), fingerprint(&a, "cities"));
    let both = "SELECT count(*) FROM cities WHERE id % 150 = 0 AND name = upper(name) AND country <> 'AD'";
    assert_ne!(query(&b, both), ["Integer(0)"]);
    assert_eq!(query(&a, "SELECT count(*) FROM cities WHERE country = 'AD'"), ["Integer(0)"]);
    assert_eq!(query(&a, "SELECT count(*) FROM cities WHERE country = 'XX'"), ["Integer(1)"]);
    let compared = two.json(&["compare", b.to_str().unwrap()]);
    assert_eq!(compared[0]["matched"], fingerprint(&a, "cities").0);
}

#[test]
fn tables_that_refer_to_each_other_arrive_whole_and_stay_consistent() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let server = Server::start(&at("server"));
    let (a, b) = (at("a.db"), at("b.db"));
    let rows = wordnet(&a, 4);
    assert!(rows >= 100_000, "{rows}");
    let one = Device::joined(&at("home-a"), &server, &["words/*=write"]);
    let two = Device::joined(&at("home-b"), &server, &["words/*=write"]);
    one.must(["track", a.to_str().unwrap(), "--all", "--as", "words", "--text", "synsets.gloss"]);
    one.must(["sync", a.to_str().unwrap()]);
    two.must(["clone", "words", b.to_str().unwrap()]);
    let same = |what: &str| {
        for table in ["synsets", "words", "senses"] {
            assert_eq!(fingerprint(&b, table), fingerprint(&a, table), "{table} {what}");
            assert_eq!(fingerprint(&server.file("words"), table), fingerprint(&a, table), "{table} {what}");
        }
    };
    same("after the first sync");
    for file in [&a, &b] {
        assert_eq!(query(file, "SELECT * FROM pragma_foreign_key_check"), [""; 0]);
    }

    // One deletes words that the other gives new senses, both give one word to the lexicon.
    sql(
        &a,
        "PRAGMA foreign_keys = ON;
             DELETE FROM synsets WHERE id LIKE '%42';
             DELETE FROM words WHERE id % 101 = 0 AND id NOT IN (SELECT word FROM senses);
             UPDATE synsets SET gloss = gloss || ' (seen)' WHERE id LIKE '%7';
             INSERT INTO words VALUES (1000001, 'offline-first')",
    );
    sql(
        &b,
        "PRAGMA foreign_keys = ON;
             UPDATE synsets SET gloss = 'NB: ' || gloss WHERE id LIKE '%7';
             INSERT INTO senses SELECT id, 900, 7 FROM synsets WHERE id LIKE '%42';
             INSERT INTO words VALUES (1000002, 'offline-first')",
    );
    for (device, file) in [(&one, &a), (&two, &b), (&one, &a)] {
        device.must(["sync", file.to_str().unwrap()]);
    }
    same("after both wrote");
    for file in [&a, &b] {
        assert_eq!(query(file, "SELECT * FROM pragma_foreign_key_check"), [""; 0]);
        assert_eq!(query(file, "SELECT count(*) FROM words WHERE lemma = 'offline-first'"), ["Integer(1)"]);
        assert_ne!(
            query(file, "SELECT count(*) FROM synsets WHERE gloss LIKE 'NB: % (seen)'"),
            ["Integer(0)"]
        );
    }
    // A sense of a synset that was deleted is held, as is the later of two equal words: nothing is gone.
    let held = one.json(&["held", a.to_str().unwrap()]);
    let held = held.as_array().expect("a list");
    assert_eq!(held.iter().filter(|h| h["table"] == "words").count(), 1);
    assert!(held.iter().filter(|h| h["table"] == "senses").count() > 10);
    assert_eq!(Some(held.len()), two.json(&["held", b.to_str().unwrap()]).as_array().map(Vec::len));
}
