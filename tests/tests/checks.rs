//! Tables are checked against their documents: what no trigger saw, what apply left out, what is held for nothing.

use piecewise_core::grant::Access;
use piecewise_core::replica::TrackOptions;
use piecewise_core::scrub::{Finding, Healing, RowFault};
use piecewise_tests::network::Network;

const SCHEMA: &str = "
CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, done INTEGER DEFAULT 0, slug TEXT UNIQUE);
CREATE TABLE words(word TEXT PRIMARY KEY COLLATE NOCASE, meaning TEXT, uses INTEGER) WITHOUT ROWID;
";
const ALL: [&str; 2] = ["SELECT * FROM notes ORDER BY id", "SELECT * FROM words ORDER BY word"];

/// Two clients with rows of both tables, some of which were edited on either.
fn shop() -> Network {
    let options = TrackOptions { counter: vec!["words.uses".into()], ..TrackOptions::default() };
    let mut net = Network::new(11, 2, SCHEMA, &options);
    net.run(
        1,
        "WITH RECURSIVE n(n) AS (SELECT -20 UNION ALL SELECT n + 1 FROM n WHERE n < 300)
         INSERT INTO notes(id, title, slug) SELECT n * 3, 'note ' || n, 's' || n FROM n;
         INSERT INTO words SELECT 'Word' || id, title, 1 FROM notes WHERE id > 0",
    );
    net.sync_all();
    net.wait(1000);
    net.run(2, "UPDATE notes SET title = 'two ' || id WHERE id % 15 = 0; DELETE FROM notes WHERE id = 33");
    net.run(
        1,
        "UPDATE notes SET done = 1 WHERE id % 10 = 0; UPDATE words SET uses = uses + 2 WHERE word < 'word3'",
    );
    net.sync_all();
    net.wait(1000);
    net
}

#[track_caller]
fn finds(net: &mut Network, n: usize, expected: &[(&str, RowFault, Healing)]) {
    let found = net.check(n);
    let brief = |f: Finding| (format!("{} {}", f.table, f.key), f.fault, f.healing);
    let mut found: Vec<_> = found.into_iter().map(brief).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let expected: Vec<_> =
        expected.iter().map(|(row, fault, healing)| ((*row).to_owned(), *fault, healing.clone())).collect();
    assert_eq!(found, expected);
    assert_eq!(net.check(n), [], "nothing is left to find");
}

#[track_caller]
fn all_same(net: &mut Network) {
    net.sync_all();
    ALL.iter().for_each(|sql| net.check_same(sql));
    for n in 0..3 {
        assert_eq!(net.check(n), [], "machine {n}");
    }
}

#[test]
fn tables_that_are_as_their_documents_give_nothing_to_find() {
    let mut net = shop();
    for n in 0..3 {
        assert_eq!(net.check(n), []);
        let status = net.replica(n).check_status().expect("a status");
        assert_eq!((status.found, status.checked), (0, Some(net.now)));
        assert!(status.tables.iter().all(|t| t.rows > 250), "{status:?}");
    }
}

#[test]
fn writes_that_no_trigger_saw_are_captured() {
    let mut net = shop();
    net.run_unseen(
        1,
        "UPDATE notes SET title = 'unseen' WHERE id IN (-60, 45, 60, 99); INSERT INTO notes(id, title) VALUES (1000, 'new');
         UPDATE words SET meaning = 'unseen' WHERE word = 'word9'; INSERT INTO words VALUES ('Apple', 'a fruit', 1);
         UPDATE words SET uses = uses + 1 WHERE word = 'word12'; INSERT INTO notes(id, title) VALUES (33, 'again')",
    );
    use {
        Healing::Captured,
        RowFault::{Differs, Unknown},
    };
    let expected = [
        ("notes -60", Differs, Captured),
        ("notes 1000", Unknown, Captured),
        ("notes 33", Unknown, Captured),
        ("notes 45", Differs, Captured),
        ("notes 60", Differs, Captured),
        ("notes 99", Differs, Captured),
        ("words apple", Unknown, Captured),
        ("words word12", Differs, Captured),
        ("words word9", Differs, Captured),
    ];
    finds(&mut net, 1, &expected);
    all_same(&mut net);
    assert_eq!(
        net.query(2, "SELECT count(*) FROM notes WHERE title IN ('unseen', 'new', 'again')"),
        ["Integer(6)"]
    );
    assert_eq!(net.query(2, "SELECT uses FROM words WHERE word = 'word12'"), ["Integer(4)"]);
    // The server's tables as well.
    net.run_unseen(0, "UPDATE notes SET title = 'on the server' WHERE id = 3");
    finds(&mut net, 0, &[("notes 3", Differs, Captured)]);
    all_same(&mut net);
    assert_eq!(net.query(1, "SELECT title FROM notes WHERE id = 3"), ["Text(\"on the server\")"]);
}

#[test]
fn rows_that_are_missing_are_put_back() {
    let mut net = shop();
    net.run_unseen(2, "DELETE FROM notes WHERE id IN (30, 99); DELETE FROM words WHERE word = 'word3'");
    use {Healing::PutRight, RowFault::Missing};
    finds(
        &mut net,
        2,
        &[
            ("notes 30", Missing, PutRight),
            ("notes 99", Missing, PutRight),
            ("words word3", Missing, PutRight),
        ],
    );
    all_same(&mut net);
    assert_eq!(net.query(0, "SELECT count(*) FROM notes WHERE id IN (30, 99)"), ["Integer(2)"]);
}

#[test]
fn a_row_that_apply_left_behind_is_put_right_and_one_written_after_it_is_captured() {
    let mut net = shop();
    net.run(1, "UPDATE notes SET title = 'newer' WHERE id IN (3, 6, 9, 12); DELETE FROM notes WHERE id = 21");
    net.sync_all();
    let undo = |title: &str, id: i64| format!("UPDATE notes SET title = '{title}' WHERE id = {id};");
    // 3 and 21 are as before; 6 was written unseen; on machine 1, which wrote it, what is old was written again.
    net.run_unseen(
        2,
        &(undo("note 1", 3) + &undo("mine", 6) + "INSERT INTO notes VALUES (21, 'note 7', 0, 's7')"),
    );
    net.run_unseen(1, &undo("note 3", 9));
    use {
        Healing::{Captured, PutRight},
        RowFault::{Differs, Unknown},
    };
    finds(
        &mut net,
        2,
        &[("notes 21", Unknown, PutRight), ("notes 3", Differs, PutRight), ("notes 6", Differs, Captured)],
    );
    finds(&mut net, 1, &[("notes 9", Differs, Captured)]);
    all_same(&mut net);
    let titles = "SELECT title FROM notes WHERE id IN (3, 6, 9, 12, 21) ORDER BY id";
    assert_eq!(net.query(0, titles), ["newer", "mine", "note 3", "newer"].map(|t| format!("Text({t:?})")));
}

#[test]
fn a_row_that_is_held_for_nothing_comes_back_and_one_with_a_cause_stays() {
    let mut net = shop();
    net.run(1, "INSERT INTO notes(id, slug) VALUES (2000, 'same')");
    net.capture(1);
    net.wait(1000);
    net.run(2, "INSERT INTO notes(id, slug) VALUES (2001, 'same')");
    net.sync_all();
    let held = net.held(2);
    assert_eq!(held.len(), 1);
    net.run_unseen(
        2,
        "INSERT INTO piecewise_held(container, key, kind, cause) SELECT no, x'0000000000000006', 1, 'nothing' FROM piecewise_containers WHERE table_name = 'notes';
         DELETE FROM notes WHERE id = 6",
    );
    finds(&mut net, 2, &[("notes 6", RowFault::HeldWithoutCause, Healing::PutRight)]);
    assert_eq!(net.held(2), held);
    all_same(&mut net);
}

#[test]
fn a_row_that_is_put_back_and_not_taken_is_held() {
    let mut net = shop();
    net.run(1, "INSERT INTO notes(id, slug) VALUES (2000, 'same')");
    net.sync_all();
    net.run_unseen(2, "DELETE FROM notes WHERE id = 2000");
    net.run(2, "INSERT INTO notes(id, slug) VALUES (2001, 'same')");
    let found = net.check(2);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].fault, &found[0].key[..]), (RowFault::Missing, "2000"));
    all_same(&mut net);
    assert_eq!(net.held(2).len(), 1);
}

#[test]
fn where_a_device_may_not_write_what_it_wrote_is_refused() {
    let mut net = shop();
    net.allow(2, Some(Access::Read));
    net.run(0, "UPDATE notes SET title = 'server' WHERE id = 9");
    net.sync(2);
    net.run_unseen(2, "UPDATE notes SET title = 'mine' WHERE id = 3");
    finds(&mut net, 2, &[("notes 3", RowFault::Differs, Healing::Refused)]);
    net.run_unseen(2, "UPDATE notes SET title = 'mine again' WHERE id = 3");
    finds(&mut net, 2, &[("notes 3", RowFault::RefusedChanged, Healing::Refused)]);
    assert_eq!(net.replica(2).refused().expect("a list").len(), 1);
}

#[test]
fn what_waits_in_the_log_is_no_fault_and_is_left_to_capture() {
    let mut net = shop();
    net.run(1, "UPDATE notes SET title = 'logged'; INSERT INTO notes(id) VALUES (5000); DELETE FROM words WHERE uses > 1");
    assert_eq!(net.check(1), []);
    let waiting = net.replica(1).status().expect("a status").waiting_rows;
    assert!(waiting > 300, "{waiting} rows wait");
}

#[test]
fn a_check_goes_on_where_another_program_left_it() {
    let mut net = shop();
    let now = net.now;
    net.replica(1).begin_check(now).expect("it begins");
    net.replica(1).check_some(now, 1).expect("a step");
    net.wait(60_000);
    let now = net.now;
    let first = net.replica(1).check_some(now, 300).expect("a step");
    assert!(!first.is_over && first.rows >= 300);
    net.stop(1);
    let mut rows = 0;
    loop {
        let step = net.replica(1).check_some(now, 300).expect("a step");
        rows += step.rows;
        if step.is_over {
            break;
        }
    }
    let all: u64 = net.replica(1).check_status().expect("a status").tables.iter().map(|t| t.rows).sum();
    assert!(rows <= all - first.rows, "{rows} of {all} rows after {}", first.rows);
}

/// Rows of which each has many changes in many segments, of which some come while they are being gone through.
#[test]
fn rows_with_a_long_history_are_compared_while_more_is_written() {
    let mut net = shop();
    for round in 0..12 {
        net.wait(1000);
        net.run(
            1,
            &format!(
                "UPDATE notes SET title = title || {round}, done = {round} WHERE id % 4 <> {}",
                round % 4
            ),
        );
        net.run(2, "UPDATE words SET uses = uses + 1 WHERE word < 'word5'");
        net.sync_all();
    }
    net.run_unseen(
        2,
        "UPDATE notes SET done = 99 WHERE id IN (6, 300); DELETE FROM words WHERE word = 'word30'",
    );
    let now = net.now;
    net.replica(2).begin_check(now).expect("it begins");
    let (mut found, mut steps) = (vec![], 0);
    loop {
        let step = net.replica(2).check_some(now, 50).expect("a step");
        found.extend(step.findings.into_iter().map(|f| (format!("{} {}", f.table, f.key), f.fault)));
        if step.is_over {
            break;
        }
        steps += 1;
        if steps % 8 == 0 {
            net.run(
                1,
                &format!(
                    "UPDATE notes SET title = 'while {steps}' WHERE id % 7 = {} AND id > 6 AND id < 300",
                    steps % 7
                ),
            );
            net.sync_all();
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("notes 300", RowFault::Differs),
        ("notes 6", RowFault::Differs),
        ("words word30", RowFault::Missing),
    ];
    assert_eq!(found, expected.map(|(row, fault)| (row.to_owned(), fault)));
    assert!(steps > 40, "{steps} steps: the rows were gone through in pieces");
    all_same(&mut net);
}

#[test]
fn the_next_check_is_due_after_a_write_or_a_day() {
    let mut net = shop();
    assert_eq!(net.check(1), []);
    let due = |net: &mut Network| {
        let now = net.now;
        net.replica(1).check_is_due(now).expect("an answer")
    };
    assert_eq!(due(&mut net), Err(24 * 3_600_000));
    net.run_unseen(1, "UPDATE notes SET title = 'x' WHERE id = 3");
    assert_eq!(due(&mut net), Err(60_000));
    net.wait(60_000);
    assert_eq!(due(&mut net), Ok(()));
    assert_eq!(net.go_on_checking(1).len(), 1);
    net.wait(60_000);
    assert!(due(&mut net).is_err());
    net.wait(24 * 3_600_000);
    assert_eq!(due(&mut net), Ok(()));
}
