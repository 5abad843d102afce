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
