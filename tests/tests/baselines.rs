//! Baselines: the states of rows with several changes, which make edits independent of history and may be gone at any time.

use piecewise_core::grant::Access;
use piecewise_core::replica::TrackOptions;
use piecewise_core::scrub::{Healing, RowFault};
use piecewise_tests::network::Network;

const SCHEMA: &str = "
CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, body TEXT, done INTEGER DEFAULT 0);
CREATE TABLE words(word TEXT PRIMARY KEY, meaning TEXT, uses INTEGER, slug TEXT UNIQUE);
";
const ALL: [&str; 2] = ["SELECT * FROM notes ORDER BY id", "SELECT * FROM words ORDER BY word"];

/// Two clients with rows of both tables, each of which was edited several times.
fn shop() -> Network {
    let options = TrackOptions { counter: vec!["words.uses".into()], ..TrackOptions::default() };
    let mut net = Network::new(5, 2, SCHEMA, &options);
    net.run(
        1,
        "WITH RECURSIVE n(n) AS (SELECT -20 UNION ALL SELECT n + 1 FROM n WHERE n < 200)
         INSERT INTO notes(id, title, body) SELECT n, 'note ' || n, printf('%.*c', n + 200, 'x') FROM n;
         INSERT INTO words SELECT 'word' || id, title, 1, 's' || id FROM notes WHERE id > 0",
    );
    net.sync_all();
    for round in 0..4 {
        net.wait(1000);
        let n = 1 + round % 2;
        net.run(
            n,
            &format!(
                "UPDATE notes SET done = done + 1, title = 'round {round} of ' || id WHERE id % 3 = 0;
                 UPDATE notes SET body = 'body {round} ' || printf('%.*c', 400, 'y') WHERE id % 9 = 0;
                 UPDATE words SET uses = uses + 1, meaning = NULL WHERE word < 'word4';
                 DELETE FROM words WHERE word = 'word7'; INSERT INTO words VALUES ('word7', 'again {round}', 0, 's7')"
            ),
        );
        net.sync_all();
    }
    net
}

#[track_caller]
fn all_same(net: &mut Network) {
    net.sync_all();
    ALL.iter().for_each(|sql| net.check_same(sql));
    for n in 0..3 {
        assert_eq!(net.check(n), [], "machine {n}");
    }
}

fn count(net: &mut Network, n: usize) -> u64 {
    let count = net.query(n, "SELECT count(*) FROM piecewise_baselines");
    count[0].trim_start_matches("Integer(").trim_end_matches(')').parse().expect("a number")
}

#[test]
fn rows_that_were_edited_have_a_baseline_on_each_machine() {
    let mut net = shop();
    for n in 0..3 {
        assert!(count(&mut net, n) > 150, "machine {n}");
    }
    all_same(&mut net);
}

#[test]
fn an_edit_of_a_row_with_a_baseline_reads_none_of_its_segments() {
    let mut net = shop();
    // Not read: what an insert said of a column that nobody edited. From now on each machine knows it.
    net.run(
        1,
        "UPDATE notes SET done = 10 WHERE id % 3 = 0; UPDATE words SET meaning = 'm' WHERE word < 'word4'",
    );
    net.sync_all();
    net.wait(1000);
    net.run(
        2,
        "UPDATE notes SET done = 11 WHERE id % 3 = 0; UPDATE words SET meaning = 'n' WHERE word < 'word4'",
    );
    net.sync_all();
    for n in 0..3 {
        net.stop(n);
        net.run_unseen(
            n,
            "UPDATE piecewise_segments SET bytes = x'00' WHERE seq > 1 AND no < (SELECT max(no) FROM piecewise_segments)",
        );
    }
    for round in 0..3 {
        net.wait(1000);
        let sql = format!(
            "UPDATE notes SET title = 'later {round}' WHERE id % 3 = 0; UPDATE notes SET body = 'other' WHERE id = 9;
             UPDATE words SET uses = uses + 5 WHERE word < 'word4'; DELETE FROM notes WHERE id = 3 * {round}"
        );
        net.run(1 + round % 2, &sql);
        net.sync(1 + round % 2);
        net.sync(2 - round % 2);
    }
    ALL.iter().for_each(|sql| net.check_same(sql));
    assert_eq!(net.query(2, "SELECT count(*) FROM notes WHERE title = 'later 2'"), ["Integer(70)"]);
}

#[test]
fn nobody_notices_that_baselines_are_gone_or_of_another_version() {
    let mut net = shop();
    for (n, sql) in [
        (0, "DELETE FROM piecewise_baselines"),
        (1, "UPDATE piecewise_baselines SET baseline = x'ff00' WHERE container % 2 = 0"),
        (2, "DELETE FROM piecewise_baselines WHERE length(baseline) % 2 = 0"),
    ] {
        net.run(n, sql);
    }
    net.run(1, "UPDATE notes SET title = 'one' WHERE id % 3 = 0; UPDATE words SET uses = uses + 1");
    net.run(2, "UPDATE notes SET done = 5 WHERE id % 3 = 0; UPDATE words SET uses = uses + 1");
    all_same(&mut net);
    assert!(count(&mut net, 0) > 100);
}

#[test]
fn files_of_format_5_get_baselines_as_rows_are_edited() {
    let mut net = shop();
    for n in 0..3 {
        net.stop(n);
        net.run(
            n,
            "DROP TABLE piecewise_baselines; UPDATE piecewise_meta SET value = 5 WHERE name = 'format'",
        );
    }
    net.run(1, "UPDATE notes SET title = 'one' WHERE id % 2 = 0");
    all_same(&mut net);
    assert!(count(&mut net, 2) > 100);
}

#[test]
fn what_is_refused_or_untracked_takes_its_baselines_along() {
    let mut net = shop();
    net.allow(1, Some(Access::Read));
    net.run(
        1,
        "UPDATE notes SET title = 'refused' WHERE id % 3 = 0; UPDATE notes SET title = 'both' WHERE id = 1",
    );
    net.sync_all();
    net.run(2, "UPDATE notes SET done = 77 WHERE id % 3 = 0");
    net.sync_all();
    net.allow(1, Some(Access::Admin));
    let now = net.now;
    net.replica(1).retry_refused(now).expect("they are written again");
    all_same(&mut net);
    assert_eq!(net.query(0, "SELECT count(*) FROM notes WHERE title = 'refused'"), ["Integer(73)"]);
    net.replica(2).untrack(&["notes".into()]).expect("it is untracked");
    net.run(2, "UPDATE notes SET title = 'apart' WHERE id = 3");
    net.wait(1000);
    net.run(1, "UPDATE notes SET title = 'meanwhile' WHERE id = 6");
    net.sync_all();
    net.track_again(2);
    all_same(&mut net);
}

#[test]
fn edits_beside_each_other_and_by_two_programs_leave_baselines_that_are_right() {
    let mut net = shop();
    for round in 0..3 {
        net.wait(1000);
        net.run(
            1,
            &format!(
                "UPDATE notes SET title = 'a{round}' WHERE id % 6 = 0; UPDATE words SET uses = uses + 1"
            ),
        );
        net.run(
            2,
            &format!("UPDATE notes SET title = 'b{round}' WHERE id % 9 = 0; UPDATE words SET meaning = 'b'"),
        );
        let now = net.now;
        let mut other = net.another(1);
        while other.capture(now).expect("capture").more {}
        drop(other);
        net.run(1, "UPDATE notes SET done = done + 1 WHERE id % 6 = 0");
        all_same(&mut net);
    }
}

#[test]
fn a_baseline_that_is_wrong_is_found_and_made_anew() {
    let mut net = shop();
    assert_eq!(net.check(1), []);
    net.run(
        1,
        "UPDATE piecewise_baselines SET baseline = CAST(replace(baseline, 'round', 'wrong') AS BLOB)
         WHERE key = x'8000000000000003' OR key = x'0000000000000003'",
    );
    let found: Vec<_> = net.check(1).into_iter().map(|f| (f.table, f.key, f.fault, f.healing)).collect();
    assert_eq!(found, [("notes".into(), "3".into(), RowFault::Baseline, Healing::PutRight)]);
    all_same(&mut net);
}
