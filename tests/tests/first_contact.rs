//! What happens to rows that are here already when their table meets its counterpart.

use piecewise_core::replica::{Follow, TrackOptions};
use piecewise_tests::network::Network;

const NOTES: &str = "CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, body TEXT, votes INTEGER)";
const ALL: &str = "SELECT * FROM notes ORDER BY id";
/// More than are joined at once.
const MANY: i64 = 4200;

/// A server and a machine with rows that were edited and deleted, all in sync.
fn lived_in(rows: i64) -> Network {
    let options = TrackOptions {
        text: vec!["notes.body".into()],
        counter: vec!["notes.votes".into()],
        ..TrackOptions::default()
    };
    let mut net = Network::new(3, 1, NOTES, &options);
    net.run(
        1,
        &format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO notes SELECT i, 'title ' || i, 'body ' || i, 0 FROM n"
        ),
    );
    net.sync(1);
    net
}

/// Edits some rows and deletes others, so that their documents have a history.
fn live_on(net: &mut Network) {
    for sql in [
        "UPDATE notes SET title = title || '!' WHERE id % 10 = 1",
        "UPDATE notes SET body = 'the ' || body, votes = votes + 2 WHERE id % 10 = 2",
        "UPDATE notes SET body = body || ' end', votes = votes + 1 WHERE id % 20 = 2",
        "DELETE FROM notes WHERE id % 10 = 3",
    ] {
        net.wait(1000);
        net.run(1, sql);
        net.sync(1);
    }
}

fn copy_of(net: &mut Network, rows: &[String]) -> usize {
    let inserts: String = rows.iter().map(|row| format!("INSERT INTO notes VALUES ({row});")).collect();
    let copy = net.add_machine(&format!("{NOTES}; BEGIN; {inserts} COMMIT"), Follow::Tracked);
    net.track_again(copy);
    copy
}

/// The rows of a machine as SQL values.
fn rows(net: &mut Network, n: usize) -> Vec<String> {
    let quoted = "SELECT quote(id) || ',' || quote(title) || ',' || quote(body) || ',' || votes FROM notes";
    let text = |line: String| line.trim_start_matches("Text(\"").trim_end_matches("\")").to_owned();
    net.query(n, quoted).into_iter().map(text).collect()
}

#[test]
fn a_second_copy_of_rows_with_a_history_costs_nothing_and_is_in_no_conflict() {
    let mut net = lived_in(MANY);
    live_on(&mut net);
    let same = rows(&mut net, 1);
    let before = net.roots(0);
    let copy = copy_of(&mut net, &same);
    net.sync_all();
    net.check_same(ALL);
    assert_eq!(net.roots(0), before, "no change was made");
    assert_eq!(net.replica(copy).attention().expect("attention").conflicts, 0);
}

#[test]
fn an_old_copy_catches_up_and_brings_no_deleted_row_back() {
    let mut net = lived_in(MANY);
    let old = rows(&mut net, 1);
    live_on(&mut net);
    let before = (net.roots(0), net.query(1, ALL));
    let copy = copy_of(&mut net, &old);
    net.sync_all();
    net.check_same(ALL);
    assert_eq!((net.roots(0), net.query(copy, ALL)), before);
    assert_eq!(net.replica(copy).attention().expect("attention").conflicts, 0);
}

#[test]
fn rows_that_differ_stay_as_conflicts_and_what_is_only_here_goes_out() {
    let mut net = lived_in(MANY);
    live_on(&mut net);
    let mut mine = rows(&mut net, 1);
    mine[0] = "1,'mine','other',7".into();
    mine.push(format!("{},'new','row',1", MANY + 1));
    let copy = copy_of(&mut net, &mine);
    // Written after `track` and before the first contact: in time as any write.
    net.run(copy, "UPDATE notes SET title = 'written apart' WHERE id = 5");
    net.run(copy, "DELETE FROM notes WHERE id = 6");
    net.sync_all();
    net.check_same(ALL);
    let titles = format!("SELECT title FROM notes WHERE id IN (1, 5, 6) OR id > {MANY} ORDER BY id");
    let wanted = ["title 1!", "written apart", "title 6", "new"].map(|t| format!("Text(\"{t}\")"));
    let shown = net.query(0, &titles);
    assert_eq!((&shown[0], &shown[2], &shown[3]), (&wanted[0], &wanted[2], &wanted[3]));
    let conflicts = net.replica(copy).conflicts(None).expect("conflicts");
    assert_eq!(conflicts.iter().map(|c| c.key.as_str()).collect::<Vec<_>>(), ["1", "5"]);
}

#[test]
fn a_first_contact_that_is_cut_anywhere_ends_the_same() {
    for cut in 0..30 {
        let mut net = lived_in(60);
        live_on(&mut net);
        let mut mine = rows(&mut net, 1);
        mine[10] = "12,'mine','other',7".into();
        let copy = copy_of(&mut net, &mine);
        net.talk(copy, Some(cut)).expect("a talk");
        net.stop(copy);
        net.run(copy, "UPDATE notes SET votes = votes + 5 WHERE id = 4");
        net.sync_all();
        net.check_same(ALL);
        let found = net.query(0, "SELECT votes FROM notes WHERE id IN (4, 12) ORDER BY id");
        assert_eq!(found, ["Integer(5)", "Integer(2)"], "cut after {cut}");
    }
}

/// Machines 1 and 2 have rows of their own, before they track the table or only before the first sync; then both meet.
fn meet(schema: &str, rows: [&str; 2], before: bool, trigger: &str) -> Network {
    let mut net = Network::new(5, 0, "", &TrackOptions::default());
    for sql in rows {
        let n = net.add_machine(schema, Follow::Tracked);
        if before {
            net.run_unseen(n, sql);
        }
        net.track_again(n);
        if !before {
            net.run(n, sql);
        }
    }
    net.sync(1);
    net.run(2, trigger);
    net.sync_all();
    net.sync_all();
    for n in 1..=2 {
        assert!(net.check(n).is_empty(), "{rows:?}");
    }
    net
}

#[test]
fn a_row_that_no_document_knows_outlives_its_parent_that_gives_way() {
    const FOLDERS: &str =
        "CREATE TABLE f(id TEXT PRIMARY KEY, name TEXT UNIQUE, parent TEXT REFERENCES f(id))";
    for [theirs, mine] in [
        ["('r1', 'A', NULL), ('r2', 'B', NULL)", "('r1', 'B', NULL), ('r2', 'A', NULL), ('y', 'mine', 'r2')"],
        ["('r1', 'A', NULL), ('r2', 'B', NULL)", "('r1', 'B', NULL), ('r2', 'A', NULL), ('y', 'mine', 'r1')"],
        ["('r1', 'A', NULL), ('r2', 'B', NULL)", "('r1', 'Z', NULL), ('r2', 'A', NULL), ('y', 'mine', 'r2')"],
        ["('r1', 'A', NULL)", "('r1', 'Z', NULL), ('p', 'A', NULL), ('y', 'mine', 'r1')"],
    ] {
        for before in [true, false] {
            let rows = [theirs, mine].map(|rows| format!("INSERT INTO f VALUES {rows}"));
            let mut net = meet(FOLDERS, [&rows[0], &rows[1]], before, "");
            for n in 0..=2 {
                let shown: Vec<_> = net.rows(n, "f").into_iter().map(|(key, _)| key).collect();
                let held: Vec<_> = net.held(n).into_iter().map(|(_, key)| key).collect();
                assert!(
                    shown.iter().chain(&held).any(|key| key.contains('y')),
                    "machine {n}: {mine}: {shown:?}, {held:?}"
                );
            }
        }
    }
}

/// A parent that gave way to one of the server's is held or in conflict; what refers to it is held on all machines alike, and comes
/// back with it.
#[test]
fn children_of_a_parent_that_gave_way_are_held_everywhere() {
    for (parents, free) in [
        // Held, since its name is taken.
        (["(1, 'x', NULL)", "(2, 'x', NULL)"], "UPDATE p SET name = 'other' WHERE id = 1"),
        // Another row shows under its key.
        (["('k', NULL, 10)", "('k', NULL, 2)"], "UPDATE p SET code = 2"),
    ] {
        let id = if parents[0].contains("'k'") { "TEXT" } else { "INTEGER" };
        let named = if id == "TEXT" { "code" } else { "id" };
        let schema = format!(
            "CREATE TABLE p(id {id} PRIMARY KEY, name TEXT UNIQUE, code INTEGER UNIQUE);
             CREATE TABLE c(id TEXT PRIMARY KEY, p INTEGER REFERENCES p({named}));
             CREATE TABLE l(id TEXT PRIMARY KEY, c TEXT REFERENCES c(id))"
        );
        let mine = format!(
            "INSERT INTO p VALUES {}; INSERT INTO c VALUES ('5', 2); INSERT INTO l VALUES ('6', '5')",
            parents[1]
        );
        for before in [true, false] {
            let mut net = meet(&schema, [&format!("INSERT INTO p VALUES {}", parents[0]), &mine], before, "");
            for n in 0..=2 {
                let held: Vec<_> = net.held(n).into_iter().map(|(table, _)| table).collect();
                assert!(net.query(n, "SELECT * FROM c").is_empty(), "machine {n}: {parents:?}, {before}");
                assert!(["c", "l"].iter().all(|table| held.contains(&(*table).to_owned())), "{n}: {held:?}");
            }
            net.run(1, free);
            net.sync_all();
            net.sync_all();
            net.check_same("SELECT * FROM c, l");
            assert_eq!(net.query(0, "SELECT * FROM c, l").len(), 1, "{parents:?}, {before}");
        }
    }
}

/// A row that the application left without a parent stays where it was written.
#[test]
fn an_orphan_that_was_written_before_the_tables_met_stays_in_its_table() {
    const SCHEMA: &str =
        "CREATE TABLE p(id TEXT PRIMARY KEY); CREATE TABLE c(id TEXT PRIMARY KEY, p TEXT REFERENCES p(id))";
    let orphan = "PRAGMA foreign_keys = OFF; INSERT INTO c VALUES ('5', 'none')";
    let mut net = meet(SCHEMA, ["INSERT INTO p VALUES ('1')", orphan], false, "");
    assert_eq!(net.query(2, "SELECT id FROM c"), ["Text(\"5\")"]);
    assert_eq!(net.held(1), [("c".to_owned(), "5".to_owned())]);
}

#[test]
fn what_a_trigger_does_to_a_row_that_no_document_knows_is_put_back() {
    const T: &str = "CREATE TABLE t(id TEXT PRIMARY KEY, g TEXT, v TEXT, n INTEGER)";
    for (trigger, keys) in [
        ("AFTER INSERT ON t BEGIN UPDATE t SET n = n + 1 WHERE g = NEW.g AND id <> NEW.id; END", ["1", "2"]),
        ("AFTER INSERT ON t BEGIN UPDATE t SET n = n + 1 WHERE g = NEW.g AND id <> NEW.id; END", ["2", "1"]),
        ("AFTER INSERT ON t BEGIN DELETE FROM t WHERE g = NEW.g AND id <> NEW.id; END", ["1", "2"]),
        ("AFTER INSERT ON t BEGIN DELETE FROM t WHERE g = NEW.g AND id <> NEW.id; END", ["2", "1"]),
    ] {
        for before in [true, false] {
            let [mine, theirs] =
                keys.map(|key| format!("INSERT INTO t VALUES ('{key}', 'grp', 'of {key}', 0)"));
            let mut net = meet(T, [&theirs, &mine], before, &format!("CREATE TRIGGER s {trigger}"));
            for n in 0..=2 {
                let all = "SELECT id, v, n FROM t ORDER BY id";
                let expected = ["1", "2"].map(|key| format!("Text(\"{key}\") Text(\"of {key}\") Integer(0)"));
                assert_eq!(net.query(n, all), expected, "machine {n}: {trigger}, {before}");
                assert_eq!(net.replica(n).attention().expect("attention").conflicts, 0);
            }
        }
    }
}

#[test]
fn a_trigger_that_reaches_rows_of_a_table_that_has_not_met_loses_none() {
    const SCHEMA: &str = "CREATE TABLE par(id TEXT PRIMARY KEY, n INTEGER);
        CREATE TABLE kid(id TEXT PRIMARY KEY, v TEXT, n INTEGER, p TEXT REFERENCES par(id))";
    for before in [true, false] {
        for action in ["DELETE FROM kid WHERE n = NEW.n", "UPDATE kid SET v = 'taken' WHERE n = NEW.n"] {
            let rows = ["INSERT INTO par VALUES ('9', 7)", "INSERT INTO kid VALUES ('1', 'mine', 7, NULL)"];
            let trigger = format!("CREATE TRIGGER g AFTER INSERT ON par BEGIN {action}; END");
            let mut net = meet(SCHEMA, rows, before, &trigger);
            for n in 0..=2 {
                let kids = net.query(n, "SELECT id, v FROM kid");
                assert_eq!(kids, ["Text(\"1\") Text(\"mine\")"], "machine {n}: {action}, {before}");
                let parents = net.query(n, "SELECT id FROM par").len() + net.held(n).len();
                assert_eq!(parents, 1, "machine {n}: {action}, {before}");
            }
        }
    }
}

#[test]
fn a_row_that_is_held_and_not_sent_outlives_another_that_is_moved_to_its_key() {
    const T: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, u TEXT UNIQUE)";
    let rows = |from: i64, name: &str| -> String {
        let row = |n: i64| format!("({}, '{name}{n}', 'U{n}')", from + n);
        let all: Vec<_> = (1..=300).map(row).collect();
        format!("INSERT INTO t VALUES {}", all.join(", "))
    };
    let mut moved = 0;
    for cut in 4..16 {
        let mut net = Network::new(6 + cut as u64, 0, "", &TrackOptions::default());
        for (sql, name) in [(rows(0, "theirs"), 1), (rows(2000, "mine"), 2)] {
            let n = net.add_machine(T, Follow::Tracked);
            assert_eq!(n, name);
            net.run_unseen(n, &sql);
            net.track_again(n);
        }
        net.run(2, "INSERT INTO t VALUES (5, 'clashes', 'V')");
        net.sync(1);
        let _ = net.talk(2, Some(cut));
        for n in 1..=300 {
            let is_hidden = format!(
                "SELECT 1 FROM t WHERE id = {n} AND NOT EXISTS (SELECT 1 FROM t WHERE id = {})",
                2000 + n
            );
            if n % 3 == 0 && !net.query(2, &is_hidden).is_empty() {
                net.run(2, &format!("UPDATE t SET id = {} WHERE id = {n}", 2000 + n));
                moved += 1;
            }
        }
        net.sync_all();
        net.sync_all();
        let mut found = String::new();
        for n in 1..=2 {
            found += &net.query(n, "SELECT v FROM t").concat();
            found += &format!("{:?}", net.replica(n).held(None).expect("a list"));
            found += &format!("{:?}", net.replica(n).conflicts(None).expect("a list"));
        }
        for n in 1..=300 {
            assert!(found.contains(&format!("\"mine{n}\"")), "cut after {cut}: mine{n} is nowhere");
            assert!(found.contains(&format!("\"theirs{n}\"")), "cut after {cut}: theirs{n} is nowhere");
        }
    }
    assert!(moved > 0, "none was moved onto a held row");
}
