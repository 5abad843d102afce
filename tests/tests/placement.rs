//! What tables show where schemas, triggers and foreign keys stand around the rows: what the documents say, or the row is
//! held and says why.

use piecewise_core::grant::Access;
use piecewise_core::replica::{Choice, TrackOptions};
use piecewise_tests::network::Network;
use std::time::Instant;

fn network(clients: usize, schema: &str) -> Network {
    Network::new(11, clients, schema, &TrackOptions::default())
}

fn causes(net: &mut Network, n: usize) -> Vec<String> {
    net.replica(n).held(None).expect("a list").into_iter().map(|h| format!("{} {}", h.key, h.cause)).collect()
}

fn integers(values: &[i64]) -> Vec<String> {
    values.iter().map(|i| format!("Integer({i})")).collect()
}

#[test]
fn conflict_clauses_of_a_schema_do_nothing_to_rows_that_come() {
    for clause in ["REPLACE", "IGNORE", "ROLLBACK", "FAIL"] {
        let mut net = network(
            2,
            &format!(
                "CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE ON CONFLICT {clause}, n INT NOT NULL ON CONFLICT REPLACE DEFAULT 7)"
            ),
        );
        net.sync_all();
        net.run(1, "INSERT INTO t VALUES (1, 'x', 1)");
        net.run(2, "INSERT INTO t VALUES (2, 'x', 2)");
        net.sync_all();
        net.check_same("SELECT * FROM t");
        assert_eq!(net.query(0, "SELECT id FROM t"), integers(&[1]), "{clause}");
        assert_eq!(causes(&mut net, 2).len(), 1, "{clause}");
        net.run(1, "DELETE FROM t");
        net.sync_all();
        net.check_same("SELECT * FROM t");
        assert_eq!(net.query(1, "SELECT id FROM t"), integers(&[2]), "{clause}");
    }
}

#[test]
fn triggers_that_refuse_hold_a_row_and_say_which() {
    let schema =
        "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER); CREATE TABLE other(id INTEGER PRIMARY KEY)";
    for action in ["ROLLBACK, 'too small'", "ABORT, 'too small'", "FAIL, 'too small'", "IGNORE"] {
        let mut net = network(2, schema);
        net.sync_all();
        net.run(2, &format!(
            "CREATE TABLE seen(id); CREATE TRIGGER chk AFTER INSERT ON t WHEN NEW.n < 0 BEGIN INSERT INTO seen VALUES (NEW.id); SELECT RAISE({action}); END;
             CREATE TRIGGER first BEFORE INSERT ON t WHEN NEW.n = -9 BEGIN SELECT RAISE(IGNORE); END"
        ));
        for id in 0..40 {
            net.run(
                1,
                &format!("INSERT INTO t VALUES ({id}, {}); INSERT INTO other VALUES ({id})", id % 3 - 1),
            );
        }
        net.run(1, "INSERT INTO t VALUES (100, -9)");
        net.sync_all();
        net.check_same("SELECT * FROM other");
        let few = action == "IGNORE"; // RAISE(IGNORE) after the fact leaves the row in
        let held = causes(&mut net, 2);
        assert!(held.iter().any(|h| h.starts_with("100 ") && h.contains("first")), "{action}: {held:?}");
        assert_eq!(held.len(), if few { 1 } else { 15 }, "{action}: {held:?}");
        if !few {
            assert!(
                held.iter().all(|h| h.contains("chk: too small") || h.contains("first")),
                "{action}: {held:?}"
            );
            assert!(net.query(2, "SELECT * FROM seen").is_empty(), "{action}");
        }
        net.run(2, "DROP TRIGGER chk; DROP TRIGGER first");
        net.sync_all();
        net.check_same("SELECT * FROM t ORDER BY id");
        assert!(causes(&mut net, 2).is_empty(), "{action}");
    }
}

#[test]
fn a_trigger_that_never_ends_holds_its_tables_rows_and_nothing_else() {
    let mut net =
        network(2, "CREATE TABLE t(id INTEGER PRIMARY KEY, n); CREATE TABLE other(id INTEGER PRIMARY KEY)");
    net.sync_all();
    net.run(2, "CREATE TRIGGER endless AFTER INSERT ON t BEGIN
        SELECT max(i) FROM (WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s) SELECT i FROM s); END");
    net.run(1, "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3); INSERT INTO other VALUES (1)");
    net.sync_all();
    net.check_same("SELECT * FROM other");
    let held = causes(&mut net, 2);
    assert_eq!(held.len(), 3, "{held:?}");
    assert!(held.iter().any(|h| h.contains("do not end")), "{held:?}");
    net.run(2, "DROP TRIGGER endless");
    net.sync_all();
    net.check_same("SELECT * FROM t ORDER BY id");
}

#[test]
fn a_trigger_that_does_not_end_for_some_rows_lets_the_others_in() {
    let mut net = network(2, "CREATE TABLE t(id INTEGER PRIMARY KEY, n)");
    net.sync_all();
    net.run(2, "CREATE TRIGGER endless AFTER INSERT ON t WHEN NEW.n < 0 BEGIN
        SELECT max(i) FROM (WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s) SELECT i FROM s); END");
    net.run(1, "INSERT INTO t VALUES (1, -1), (2, 2), (3, -3), (4, 4)");
    net.sync_all();
    assert_eq!(net.query(2, "SELECT id FROM t"), integers(&[2, 4]));
    let held = causes(&mut net, 2);
    assert!(held.len() == 2 && held.iter().all(|h| h.contains("do not end")), "{held:?}");
    net.run(1, "INSERT INTO t VALUES (5, 5); UPDATE t SET n = 1 WHERE id = 1");
    net.sync_all();
    assert_eq!(net.query(2, "SELECT id FROM t"), integers(&[1, 2, 4, 5]));
}

#[test]
fn a_row_that_a_table_no_longer_takes_leaves_its_search_index_too() {
    let mut net = network(2, "CREATE TABLE t(id INTEGER PRIMARY KEY, n TEXT)");
    net.sync_all();
    net.run(2, "PRAGMA foreign_keys = OFF; BEGIN;
        CREATE TABLE u(id INTEGER PRIMARY KEY, n TEXT NOT NULL ON CONFLICT ROLLBACK); DROP TABLE t; ALTER TABLE u RENAME TO t;
        CREATE VIRTUAL TABLE f USING fts5(n, content='t', content_rowid='id');
        CREATE TRIGGER i AFTER INSERT ON t BEGIN INSERT INTO f(rowid, n) VALUES (NEW.id, NEW.n); END;
        CREATE TRIGGER d AFTER DELETE ON t BEGIN INSERT INTO f(f, rowid, n) VALUES ('delete', OLD.id, OLD.n); END;
        CREATE TRIGGER u AFTER UPDATE ON t BEGIN
          INSERT INTO f(f, rowid, n) VALUES ('delete', OLD.id, OLD.n); INSERT INTO f(rowid, n) VALUES (NEW.id, NEW.n); END;
        COMMIT");
    net.run(1, "INSERT INTO t VALUES (1, 'one'), (2, 'two')");
    net.sync_all();
    net.run(1, "UPDATE t SET n = NULL WHERE id = 1");
    net.sync_all();
    assert_eq!(net.query(2, "SELECT id FROM t"), integers(&[2]));
    assert_eq!(causes(&mut net, 2).len(), 1);
    net.run(2, "INSERT INTO f(f, rank) VALUES ('integrity-check', 1)");
}

#[test]
fn what_a_person_decides_is_done_where_a_trigger_ends_the_transaction_for_it() {
    let mut net = network(2, "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)");
    net.run(1, "INSERT INTO t VALUES (1, 'old')");
    net.sync_all();
    net.run(2, "UPDATE t SET v = 'no'");
    net.capture(2);
    net.wait(10);
    net.run(1, "UPDATE t SET v = 'yes'");
    net.run(1, "CREATE TRIGGER chk BEFORE UPDATE ON t WHEN NEW.v = 'no' BEGIN SELECT RAISE(ROLLBACK, 'not that'); END");
    net.sync_all();
    net.check_same("SELECT v FROM t");
    let now = net.now;
    let choice = Choice::Cell { column: "v".into(), number: 1 };
    net.replica(1).choose(now, "t", "1", &choice).expect("it is chosen");
    assert_eq!(causes(&mut net, 1), ["1 trigger chk: not that"]);
    net.sync_all();
    assert_eq!(net.query(2, "SELECT v FROM t"), ["Text(\"no\")"]);
}

#[test]
fn a_row_that_ends_the_transaction_stays_held_when_its_table_is_compared_after_a_migration() {
    let bad = "CREATE TRIGGER bad BEFORE INSERT ON t WHEN NEW.n = 3 BEGIN SELECT RAISE(ROLLBACK, 'no'); END;";
    let rebuilt = format!(
        "CREATE TABLE t2(id TEXT PRIMARY KEY NOT NULL, n INT); INSERT INTO t2 SELECT * FROM t; DROP TABLE t; ALTER TABLE t2 RENAME TO t; {bad}"
    );
    for migration in ["ALTER TABLE t RENAME COLUMN n TO m", &rebuilt] {
        let mut net = network(2, "CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL, n INT)");
        net.run(2, bad);
        net.run(1, "INSERT INTO t VALUES ('x', 3)");
        net.sync_all();
        net.run(2, migration);
        net.sync_all();
        assert_eq!(causes(&mut net, 2), ["x trigger bad: no"], "{migration}");
        assert!(net.check(2).is_empty(), "{migration}");
    }
}

#[test]
fn what_an_expression_cannot_take_is_held_until_the_schema_can() {
    let mut net = network(2, "CREATE TABLE t(id INTEGER PRIMARY KEY, data TEXT, n INTEGER, g AS (n % 10))");
    net.sync_all();
    net.run(2, "CREATE INDEX names ON t(json_extract(data, '$.name')); CREATE UNIQUE INDEX sums ON t(n + 1)");
    net.run(
        1,
        "INSERT INTO t VALUES (1, 'no json', 1), (2, '{}', 9223372036854775807), (3, '{}', 5), (4, '{}', 5)",
    );
    net.sync_all();
    let held = causes(&mut net, 2);
    assert!(held.iter().any(|h| h.starts_with("1 ") && h.contains("names")), "{held:?}");
    assert!(held.iter().any(|h| h.starts_with("4 ") && h.contains("row 3")), "{held:?}");
    net.run(2, "DROP INDEX names; DROP INDEX sums");
    net.sync_all();
    net.check_same("SELECT id, data, n FROM t ORDER BY id");
    net.run(2, "UPDATE t SET n = id WHERE id <> 3; CREATE UNIQUE INDEX ends ON t(g)");
    net.sync_all();
    net.run(1, "INSERT INTO t VALUES (9, '{}', 25)");
    net.sync_all();
    assert_eq!(causes(&mut net, 2).len(), 1);
    assert!(causes(&mut net, 2)[0].ends_with("row 3 has the same"), "{:?}", causes(&mut net, 2));
}

#[test]
fn a_row_held_for_a_trigger_returns_with_what_the_trigger_looks_for() {
    let mut net = network(
        2,
        "CREATE TABLE parents(id TEXT PRIMARY KEY); CREATE TABLE kids(id INTEGER PRIMARY KEY, parent TEXT)",
    );
    net.sync_all();
    net.run(2, "CREATE TRIGGER fk BEFORE INSERT ON kids WHEN NEW.parent NOT IN (SELECT id FROM parents) BEGIN SELECT RAISE(ABORT, 'no parent'); END");
    for id in 0..150 {
        net.run(1, &format!("INSERT INTO kids VALUES ({id}, 'p{id}')"));
    }
    net.sync_all();
    assert_eq!(causes(&mut net, 2).len(), 150);
    net.run(1, "INSERT INTO parents VALUES ('p140'), ('p3')");
    net.sync_all();
    assert_eq!(net.query(2, "SELECT id FROM kids ORDER BY id"), integers(&[3, 140]));
    // What comes by the application's own hand counts as well.
    net.run(2, "INSERT INTO parents SELECT 'p' || value FROM json_each('[7,8]')");
    net.sync_all();
    assert_eq!(net.query(2, "SELECT count(*) FROM kids"), integers(&[4]));
}

#[test]
fn what_triggers_do_to_tracked_tables_does_not_happen_and_what_they_derive_does() {
    let schema = "
        CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT, tags TEXT);
        CREATE TABLE tags(id TEXT PRIMARY KEY, note INTEGER, tag TEXT);
        CREATE TABLE audit(note INTEGER PRIMARY KEY, n INTEGER)";
    let triggers = "
        CREATE VIRTUAL TABLE fts USING fts5(body, tags, content='notes', content_rowid='id');
        CREATE TABLE journal(what TEXT);
        CREATE TRIGGER ai AFTER INSERT ON notes BEGIN
          INSERT INTO fts(rowid, body, tags) VALUES (new.id, new.body, new.tags);
          INSERT OR IGNORE INTO audit VALUES (new.id, 1); INSERT INTO journal VALUES ('note ' || new.id); END;
        CREATE TRIGGER ad AFTER DELETE ON notes BEGIN
          INSERT INTO fts(fts, rowid, body, tags) VALUES ('delete', old.id, old.body, old.tags); END;
        CREATE TRIGGER au AFTER UPDATE ON notes BEGIN
          INSERT INTO fts(fts, rowid, body, tags) VALUES ('delete', old.id, old.body, old.tags);
          INSERT INTO fts(rowid, body, tags) VALUES (new.id, new.body, new.tags); END;
        CREATE TRIGGER ti AFTER INSERT ON tags BEGIN
          UPDATE notes SET tags = (SELECT group_concat(tag, ' ') FROM tags WHERE note = new.note) WHERE id = new.note; END;
        CREATE TRIGGER td AFTER DELETE ON tags BEGIN
          UPDATE notes SET tags = coalesce((SELECT group_concat(tag, ' ') FROM tags WHERE note = old.note), '') WHERE id = old.note;
          DELETE FROM notes WHERE id = old.note + 1000; END";
    let mut net = network(2, schema);
    net.sync_all();
    for n in 1..=2 {
        net.run(n, triggers);
    }
    for step in [
        "INSERT INTO notes VALUES (1, 'hello', ''), (1001, 'far', '')",
        "INSERT INTO tags VALUES ('a', 1, 'red'), ('b', 1, 'blue')",
        "UPDATE notes SET body = 'goodbye' WHERE id = 1",
        "DELETE FROM tags WHERE id = 'a'",
        "INSERT INTO notes VALUES (1001, 'again', '')",
        "DELETE FROM tags",
    ] {
        net.run(1, step);
        net.sync_all();
        for table in ["notes", "tags", "audit"] {
            net.check_same(&format!("SELECT * FROM {table} ORDER BY 1"));
        }
        for n in 1..=2 {
            net.run(n, "INSERT INTO fts(fts, rank) VALUES ('integrity-check', 1)");
            assert!(causes(&mut net, n).is_empty());
        }
    }
    assert_eq!(net.query(2, "SELECT count(*) FROM journal"), integers(&[3]));
}

#[test]
fn a_row_that_a_trigger_deletes_comes_back() {
    let mut net = network(2, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    net.sync_all();
    net.run(
        2,
        "CREATE TABLE gone(id); CREATE TRIGGER keep_one AFTER INSERT ON t BEGIN
        INSERT INTO gone SELECT id FROM t WHERE id <> NEW.id; DELETE FROM t WHERE id <> NEW.id; END",
    );
    net.run(1, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    net.sync_all();
    net.check_same("SELECT * FROM t ORDER BY id");
    assert!(causes(&mut net, 2).is_empty());
}

#[test]
fn a_text_that_a_column_would_store_as_a_number_is_held() {
    let mut net = network(1, "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)");
    let other = net.add_machine(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)",
        piecewise_core::replica::Follow::Tracked,
    );
    net.track_again(other);
    net.sync_all();
    net.run(1, "INSERT INTO t VALUES (1, '007'), (2, 'seven')");
    net.sync_all();
    assert_eq!(net.query(other, "SELECT v FROM t"), ["Text(\"seven\")"]);
    assert_eq!(
        causes(&mut net, other),
        ["1 column v is INTEGER here and stores the text 007 as the integer 7"]
    );
}

#[test]
fn whose_value_was_accepted_first_keeps_it_whatever_its_author_says_of_the_time() {
    let mut net = network(3, "CREATE TABLE u(id TEXT PRIMARY KEY, name TEXT UNIQUE)");
    net.sync_all();
    net.run(1, "INSERT INTO u VALUES ('first', 'ann')");
    net.sync(1);
    net.run(2, "INSERT INTO u VALUES ('second', 'bob')");
    net.sync(2);
    // A device whose clock is behind, or that says so.
    net.run(3, "INSERT INTO u VALUES ('forged', 'ann'), ('late', 'bob'); UPDATE piecewise_log SET time = 5");
    net.sync_all();
    net.check_same("SELECT * FROM u ORDER BY id");
    assert_eq!(net.query(0, "SELECT id FROM u ORDER BY id"), ["Text(\"first\")", "Text(\"second\")"]);
    let held = causes(&mut net, 3);
    assert_eq!(held.len(), 2, "{held:?}");
    // The author of what was accepted knows that it was, and so does one that had never been in sync before.
    assert!(causes(&mut net, 2).iter().all(|h| h.starts_with("forged") || h.starts_with("late")));
}

#[test]
fn a_row_that_stands_keeps_each_of_its_values_whatever_else_of_it_is_edited() {
    let mut net = network(2, "CREATE TABLE u(id TEXT PRIMARY KEY, name TEXT UNIQUE, email TEXT UNIQUE)");
    net.sync_all();
    net.run(1, "INSERT INTO u VALUES ('z', 'cat', 'z@x')");
    net.run(2, "INSERT INTO u VALUES ('stands', 'cat', 'c@x')");
    net.sync(2);
    net.sync_all();
    for email in ["d@x", "e@x"] {
        net.run(2, &format!("UPDATE u SET email = '{email}' WHERE id = 'stands'"));
        net.sync_all();
        net.check_same("SELECT * FROM u ORDER BY id");
        assert_eq!(net.query(1, "SELECT id FROM u"), ["Text(\"stands\")"]);
    }
    // Its own claim to what another has is a later one.
    net.run(1, "INSERT INTO u VALUES ('other', 'dog', 'f@x')");
    net.sync_all();
    net.run(1, "UPDATE u SET email = 'g@x' WHERE id = 'other'");
    net.run(2, "UPDATE u SET email = 'g@x' WHERE id = 'stands'");
    net.sync(1);
    net.sync_all();
    net.check_same("SELECT * FROM u ORDER BY id");
    let held = causes(&mut net, 2);
    assert!(held.iter().any(|h| h.starts_with("stands UNIQUE (email): row other")), "{held:?}");
    assert_eq!(net.query(0, "SELECT id FROM u ORDER BY id"), ["Text(\"other\")", "Text(\"z\")"]);
}

#[test]
fn a_unique_value_in_the_key_belongs_to_whose_row_was_accepted_first() {
    let mut net = network(
        2,
        "CREATE TABLE t(a TEXT, b TEXT, v TEXT, d TEXT DEFAULT 'same', PRIMARY KEY (a, b)); CREATE UNIQUE INDEX x ON t(b)",
    );
    net.sync_all();
    net.run(2, "INSERT INTO t VALUES ('zy', 'b', 'stands', 1)");
    net.sync(2);
    net.run(1, "INSERT INTO t VALUES ('aa', 'b', 'later', 2)");
    net.sync_all();
    net.check_same("SELECT * FROM t");
    assert_eq!(net.query(0, "SELECT v FROM t"), ["Text(\"stands\")"]);
}

#[test]
fn an_author_learns_when_its_rows_were_accepted_even_if_the_first_answer_was_lost() {
    let mut net = network(2, "CREATE TABLE u(id TEXT PRIMARY KEY, name TEXT UNIQUE)");
    net.sync_all();
    for cut in 1..12 {
        let name = format!("n{cut}");
        net.run(1, &format!("INSERT INTO u VALUES ('a{cut}', '{name}')"));
        let _ = net.talk(1, Some(cut));
        net.run(2, &format!("INSERT INTO u VALUES ('b{cut}', '{name}'); UPDATE piecewise_log SET time = 5"));
        net.sync(2);
        net.wait(1000);
        net.sync_all();
        net.check_same("SELECT * FROM u ORDER BY id");
        assert_eq!(net.held(1), net.held(2), "cut after {cut}");
    }
}

#[test]
fn a_held_row_is_chosen_edited_and_discarded() {
    let mut net = network(2, "CREATE TABLE u(id INTEGER PRIMARY KEY, name TEXT UNIQUE)");
    net.sync_all();
    net.run(1, "INSERT INTO u VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    net.sync(1);
    net.run(2, "INSERT INTO u VALUES (11, 'a'), (12, 'b'), (13, 'c')");
    net.sync_all();
    assert_eq!(causes(&mut net, 1).len(), 3);
    let now = net.now;
    assert_eq!(net.replica(1).choose_held(now, "u", "11").expect("it shows"), ["1"]);
    let edits = [("name".to_owned(), "free".to_owned())];
    assert!(net.replica(1).edit_held(now, "u", "12", &edits).expect("it is edited"));
    net.replica(1).discard_held(now, "u", "13").expect("it is deleted");
    assert!(net.replica(1).discard_held(now, "u", "13").is_err());
    net.sync_all();
    net.check_same("SELECT * FROM u ORDER BY id");
    assert_eq!(net.query(0, "SELECT id FROM u ORDER BY id"), integers(&[2, 3, 11, 12]));
    assert_eq!(net.held(2), [("u".to_owned(), "1".to_owned())]);
}

#[test]
fn rows_and_tables_in_a_circle_show_everywhere() {
    let mut net = network(
        2,
        "CREATE TABLE v(id INTEGER PRIMARY KEY, prev INTEGER REFERENCES v(id), next INTEGER REFERENCES v(id));
         CREATE TABLE emp(id INTEGER PRIMARY KEY, dept INTEGER REFERENCES dept(id));
         CREATE TABLE dept(id INTEGER PRIMARY KEY, boss INTEGER REFERENCES emp(id));
         CREATE TABLE desk(id INTEGER PRIMARY KEY, emp INTEGER REFERENCES emp(id))",
    );
    net.sync_all();
    for id in 0..30 {
        net.run(1, &format!("PRAGMA foreign_keys = OFF; INSERT INTO v VALUES ({id}, nullif({id} - 1, -1), nullif({id} + 1, 30))"));
    }
    net.run(1, "PRAGMA foreign_keys = OFF; INSERT INTO emp VALUES (1, 1), (2, 1); INSERT INTO dept VALUES (1, 2); INSERT INTO desk VALUES (1, 1)");
    net.sync_all();
    for table in ["v", "emp", "dept", "desk"] {
        net.check_same(&format!("SELECT * FROM {table} ORDER BY id"));
    }
    assert_eq!(net.query(2, "SELECT count(*) FROM v"), integers(&[30]));
    assert_eq!(net.query(2, "SELECT count(*) FROM desk"), integers(&[1]));
    for n in 0..=2 {
        assert!(causes(&mut net, n).is_empty());
    }
}

#[test]
fn a_circle_without_one_of_its_rows_is_held_as_a_whole() {
    let mut net =
        network(2, "CREATE TABLE v(id INTEGER PRIMARY KEY, next INTEGER REFERENCES v(id), name TEXT UNIQUE)");
    net.sync_all();
    net.run(1, "INSERT INTO v VALUES (9, NULL, 'taken')");
    net.sync(1);
    net.run(2, "PRAGMA foreign_keys = OFF; INSERT INTO v VALUES (1, 2, 'a'), (2, 3, 'taken'), (3, 1, 'c')");
    net.sync_all();
    assert_eq!(net.query(0, "SELECT id FROM v"), integers(&[9]));
    assert_eq!(net.held(0).len(), 3);
    net.run(1, "UPDATE v SET name = 'other' WHERE id = 9");
    net.sync_all();
    assert_eq!(net.query(0, "SELECT id FROM v ORDER BY id"), integers(&[1, 2, 3, 9]));
    net.check_same("SELECT * FROM v ORDER BY id");
}

#[test]
fn orphans_that_an_application_had_or_wrote_stay_in_its_table() {
    let schema = "CREATE TABLE p(id TEXT PRIMARY KEY); CREATE TABLE c(id INTEGER PRIMARY KEY, p TEXT REFERENCES p(id))";
    // Those from before `track` show that the key is not kept: nobody keeps it.
    let mut net =
        network(1, &format!("{schema}; PRAGMA foreign_keys = OFF; INSERT INTO c VALUES (1, 'gone')"));
    let late = net.add_machine(schema, piecewise_core::replica::Follow::Tracked);
    net.track_again(late);
    net.sync_all();
    net.check_same("SELECT * FROM c");
    assert_eq!(net.query(late, "SELECT id FROM c"), integers(&[1]));
    // Where the key is kept, a row that its application wrote all the same stays in its table, and is held elsewhere.
    let mut net = network(2, schema);
    net.sync_all();
    net.run(1, "PRAGMA foreign_keys = OFF; INSERT INTO c VALUES (2, 'never'); INSERT INTO p VALUES ('x'); INSERT INTO c VALUES (3, 'x')");
    net.sync_all();
    net.run(1, "PRAGMA foreign_keys = OFF; DELETE FROM p");
    net.sync_all();
    assert_eq!(net.query(1, "SELECT id FROM c ORDER BY id"), integers(&[2, 3]));
    assert!(net.query(2, "SELECT id FROM c").is_empty());
    assert_eq!(net.held(2).len(), 2);
    net.stop(1);
    net.run(2, "INSERT INTO p VALUES ('never'), ('x')");
    net.sync_all();
    net.check_same("SELECT * FROM c ORDER BY id");
    assert!(net.held(2).is_empty());
    // Should the parent go again elsewhere, they are as any others.
    net.run(2, "PRAGMA foreign_keys = OFF; DELETE FROM p");
    net.sync_all();
    assert!(net.query(1, "SELECT id FROM c").is_empty());
}

#[test]
fn one_row_that_is_missing_from_a_net_takes_no_others_with_it() {
    let mut net = network(
        2,
        "CREATE TABLE l(id INTEGER PRIMARY KEY, prev INTEGER REFERENCES l(id), next INTEGER REFERENCES l(id), v TEXT UNIQUE)",
    );
    net.sync_all();
    net.run(1, "PRAGMA foreign_keys = OFF; WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 600)
        INSERT INTO l SELECT i, nullif(i - 1, 0), nullif(i + 1, 601), i FROM s");
    net.sync_all();
    net.check_same("SELECT * FROM l ORDER BY id");
    assert!(net.held(2).is_empty());
    // The application that deletes it does not keep the key: its own rows stay, whoever wrote them.
    net.run(2, "PRAGMA foreign_keys = OFF; DELETE FROM l WHERE id = 300");
    net.sync_all();
    assert_eq!(net.query(2, "SELECT count(*) FROM l"), integers(&[599]));
    assert!(net.held(2).is_empty());
    for n in 0..=1 {
        assert_eq!(net.query(n, "SELECT count(*) FROM l"), integers(&[597]), "{n}");
        let held = causes(&mut net, n);
        assert_eq!(
            held,
            ["299 FOREIGN KEY (next): no row of l has 300", "301 FOREIGN KEY (prev): no row of l has 300"]
        );
    }
    net.run(1, "PRAGMA foreign_keys = OFF; INSERT INTO l VALUES (300, 299, 301, 'again')");
    net.sync_all();
    net.check_same("SELECT * FROM l ORDER BY id");
    assert_eq!(net.query(1, "SELECT count(*) FROM l"), integers(&[600]));
    assert!(net.held(0).is_empty());
}

#[test]
fn a_row_of_a_net_leans_on_a_parent_that_lacks_one_itself_and_on_no_other() {
    let schema = "CREATE TABLE n(id INTEGER PRIMARY KEY, a INTEGER REFERENCES n(id), b TEXT REFERENCES n(name), name TEXT UNIQUE)";
    let mut net = network(3, schema);
    net.sync_all();
    net.run(1, "PRAGMA foreign_keys = OFF; INSERT INTO n VALUES (9, NULL, NULL, 'taken')");
    net.sync_all();
    // 1 and 2 name 3 by its key and by its name; 3 lacks 4.
    net.run(1, "PRAGMA foreign_keys = OFF; INSERT INTO n VALUES (1, 3, NULL, NULL)");
    net.run(2, "PRAGMA foreign_keys = OFF; INSERT INTO n VALUES (3, 4, NULL, 'three')");
    net.run(3, "PRAGMA foreign_keys = OFF; INSERT INTO n VALUES (2, NULL, 'three', NULL)");
    net.sync_all();
    assert_eq!(net.query(0, "SELECT id FROM n ORDER BY id"), integers(&[1, 2, 9]));
    assert_eq!(causes(&mut net, 0), ["3 FOREIGN KEY (a): no row of n has 4"]);
    // It has another name now: who named it by that lacks a parent.
    net.run(2, "PRAGMA foreign_keys = OFF; UPDATE n SET name = 'Three' WHERE id = 3");
    net.sync_all();
    assert_eq!(net.query(0, "SELECT id FROM n ORDER BY id"), integers(&[1, 9]));
    net.run(1, "PRAGMA foreign_keys = OFF; INSERT INTO n VALUES (5, NULL, NULL, 'three')");
    net.sync_all();
    assert_eq!(net.query(0, "SELECT id FROM n ORDER BY id"), integers(&[1, 2, 5, 9]));
    net.run(2, "PRAGMA foreign_keys = OFF; DELETE FROM n WHERE id = 3");
    net.sync_all();
    assert_eq!(net.query(0, "SELECT id FROM n ORDER BY id"), integers(&[2, 5, 9]));
    net.run(
        3,
        "PRAGMA foreign_keys = OFF; INSERT INTO n VALUES (3, NULL, NULL, NULL), (4, NULL, NULL, NULL)",
    );
    net.sync_all();
    net.check_same("SELECT * FROM n ORDER BY id");
    for n in 0..=3 {
        assert!(net.held(n).is_empty(), "{n}");
    }
}

#[test]
fn a_held_row_returns_once_its_constraint_is_gone_from_the_schema() {
    let mut net = network(
        2,
        "CREATE TABLE p(id TEXT PRIMARY KEY); CREATE TABLE t(id TEXT PRIMARY KEY, u TEXT, p TEXT REFERENCES p(id)); CREATE UNIQUE INDEX x ON t(u)",
    );
    net.sync_all();
    net.run(1, "PRAGMA foreign_keys = OFF; INSERT INTO t VALUES ('1', 'x', NULL), ('orphan', NULL, 'none')");
    net.sync(1);
    net.run(2, "INSERT INTO t VALUES ('2', 'x', NULL)");
    net.sync_all();
    assert_eq!(net.held(2).len(), 2);
    net.run(2, "DROP INDEX x");
    net.sync_all();
    assert_eq!(net.query(2, "SELECT id FROM t ORDER BY id"), ["Text(\"1\")", "Text(\"2\")"]);
    // The same between two starts.
    net.stop(2);
    net.run(
        2,
        "PRAGMA foreign_keys = OFF; BEGIN; CREATE TABLE n(id TEXT PRIMARY KEY, u TEXT, p TEXT);
        INSERT INTO n SELECT * FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT",
    );
    net.sync_all();
    assert_eq!(net.query(2, "SELECT count(*) FROM t"), integers(&[3]));
    assert!(net.held(2).is_empty());
    assert_eq!(net.held(0).len(), 2);
}

#[test]
fn a_full_text_index_is_sound_where_triggers_had_to_be_left_out() {
    const INDEX: &str = "CREATE VIRTUAL TABLE f USING fts5(v, content='t', content_rowid='id');
        CREATE TRIGGER fi AFTER INSERT ON t BEGIN INSERT INTO f(rowid, v) VALUES (NEW.id, NEW.v); END;
        CREATE TRIGGER fd AFTER DELETE ON t BEGIN INSERT INTO f(f, rowid, v) VALUES ('delete', OLD.id, OLD.v); END;
        CREATE TRIGGER fu AFTER UPDATE ON t BEGIN
          INSERT INTO f(f, rowid, v) VALUES ('delete', OLD.id, OLD.v); INSERT INTO f(rowid, v) VALUES (NEW.id, NEW.v); END;";
    let cases = [
        "AFTER INSERT ON t WHEN NEW.g = 1 BEGIN DELETE FROM t WHERE g = 1 AND id <> NEW.id; END",
        "BEFORE INSERT ON t WHEN NEW.g = 1 BEGIN DELETE FROM t WHERE g = 1; END",
        "AFTER INSERT ON t WHEN NEW.g = 1 BEGIN UPDATE OR IGNORE t SET id = id + 100 WHERE id <> NEW.id AND g = 1; END",
        "BEFORE DELETE ON t WHEN OLD.g = 0 BEGIN SELECT RAISE(ABORT, 'no'); END",
    ];
    for trigger in cases {
        let mut net = network(2, "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, g INT)");
        net.sync_all();
        net.run(1, "INSERT INTO t VALUES (9, 'nine', 0)");
        net.sync_all();
        for n in 1..=2 {
            let on_both = if n == 1 && trigger.contains("RAISE") { "" } else { trigger };
            let trigger =
                if on_both.is_empty() { String::new() } else { format!("CREATE TRIGGER z {on_both}") };
            net.run(n, &format!("{INDEX} INSERT INTO f(f) VALUES ('rebuild'); {trigger}"));
        }
        net.sync_all();
        net.run(1, "INSERT INTO t VALUES (1, 'a', 1)");
        net.run(2, "INSERT INTO t VALUES (2, 'b', 1)");
        if trigger.contains("RAISE") {
            net.run(1, "DELETE FROM t WHERE id = 9");
        }
        net.sync_all();
        net.check_same("SELECT * FROM t ORDER BY id");
        for n in 1..=2 {
            net.run(n, "INSERT INTO f(f, rank) VALUES ('integrity-check', 1)");
            assert!(net.replica(n).take_unsearchable().is_empty(), "{trigger}");
        }
    }
}

#[test]
fn a_row_that_the_server_refused_keeps_no_accepted_one_out() {
    let mut net = network(2, "CREATE TABLE t(id TEXT PRIMARY KEY, u TEXT UNIQUE, v TEXT)");
    net.sync_all();
    net.run(2, "INSERT INTO t VALUES ('stands', 's', 'accepted')");
    net.sync_all();
    net.run(2, "INSERT INTO t VALUES ('refused', 'x', 'mine'); UPDATE t SET u = 'y' WHERE id = 'stands'");
    net.capture(2);
    net.allow(2, Some(Access::Read));
    net.sync(2);
    assert_eq!(net.replica(2).refused().expect("a list").len(), 2);
    net.run(1, "INSERT INTO t VALUES ('one', 'x', 'theirs'), ('two', 'y', 'theirs')");
    net.sync_all();
    assert_eq!(net.query(2, "SELECT id FROM t WHERE u = 'x'"), ["Text(\"one\")"]);
    assert_eq!(
        causes(&mut net, 2),
        ["two UNIQUE (u): row stands, whose edit the server refused, has the same"]
    );
    assert_eq!(net.replica(2).refused().expect("a list").len(), 2);
    // What was written to it is kept.
    let now = net.now;
    net.allow(2, Some(Access::Write));
    net.sync(2);
    net.replica(2).retry_refused(now).expect("they are written again");
    net.sync_all();
    net.check_same("SELECT * FROM t ORDER BY id");
    let held = causes(&mut net, 1);
    assert!(held.iter().any(|cause| cause.starts_with("refused UNIQUE (u): row one")), "{held:?}");
}

#[test]
fn an_edit_costs_the_same_however_many_rows_are_held() {
    let mut net = network(2, "CREATE TABLE u(id INTEGER PRIMARY KEY, n INTEGER UNIQUE, x)");
    net.sync_all();
    let rows = |from: u32| {
        format!(
            "WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < 1999) INSERT INTO u SELECT {from} + i, i, 0 FROM s"
        )
    };
    net.run(1, &rows(0));
    net.sync(1);
    net.run(2, &rows(10_000));
    net.sync_all();
    assert_eq!(net.held(2).len(), 2000);
    net.run(1, "UPDATE u SET x = 1 WHERE id = 5");
    net.sync(1);
    let start = Instant::now();
    net.sync(2);
    let took = start.elapsed();
    assert!(took.as_millis() < 1000, "one edit beside 2,000 held rows took {took:?}");
    assert_eq!(net.query(2, "SELECT x FROM u WHERE id = 5"), integers(&[1]));
}

#[test]
fn a_conflict_clause_over_a_generated_column_takes_no_row_away_beside_triggers() {
    let mut net = network(2, "CREATE TABLE t(id TEXT PRIMARY KEY, u TEXT, v TEXT)");
    net.sync_all();
    net.run(
        2,
        "DROP TABLE t; CREATE TABLE t(id TEXT PRIMARY KEY, u TEXT, v TEXT, lu AS (lower(u)) UNIQUE ON CONFLICT REPLACE);
         CREATE TABLE notes(id TEXT); CREATE TRIGGER noting AFTER INSERT ON t BEGIN INSERT INTO notes VALUES (NEW.id); END;
         CREATE TRIGGER noting_too AFTER UPDATE ON t BEGIN INSERT INTO notes VALUES (NEW.id); END;",
    );
    net.sync_all();
    net.run(1, "INSERT INTO t VALUES ('1', 'x', 'first'), ('2', 'X', 'second'), ('3', 'y', 'third')");
    net.sync_all();
    assert_eq!(net.query(2, "SELECT id FROM t ORDER BY id"), ["Text(\"1\")", "Text(\"3\")"]);
    assert!(causes(&mut net, 2)[0].contains("row 1 has the same"), "{:?}", causes(&mut net, 2));
    net.run(1, "UPDATE t SET u = 'Y' WHERE id = '1'");
    net.sync_all();
    assert_eq!(net.query(2, "SELECT count(*) FROM t"), integers(&[2]));
    assert_eq!(causes(&mut net, 2).len(), 1, "{:?}", causes(&mut net, 2));
    net.check_same("SELECT id FROM t WHERE 0");
}

#[test]
fn a_row_that_takes_another_out_and_is_not_taken_itself_is_not_tried_for_ever() {
    let mut net = network(2, "CREATE TABLE t(id TEXT PRIMARY KEY, u TEXT UNIQUE, y TEXT)");
    net.sync_all();
    net.run(2, "CREATE UNIQUE INDEX alone ON t(lower(y))");
    net.run(1, "INSERT INTO t VALUES ('first', 'u', 'Y')");
    net.sync(1);
    net.run(2, "INSERT INTO t VALUES ('same y', NULL, 'y'), ('same u', 'u', 'other')");
    net.sync_all();
    for n in 1..4 {
        net.run(2, &format!("UPDATE t SET y = 'other {n}' WHERE id = 'same u'"));
        net.sync_all();
        let held = causes(&mut net, 2);
        assert!(held.len() == 1 && held[0].contains("row same y has the same"), "{held:?}");
    }
    net.run(2, "DELETE FROM t WHERE id = 'same y'");
    net.sync_all();
    net.check_same("SELECT * FROM t");
    assert_eq!(net.query(2, "SELECT id FROM t"), ["Text(\"first\")"]);
}

#[test]
fn an_index_over_a_view_of_two_tables_stays_sound_where_a_row_loses_its_parent() {
    let mut net = network(
        2,
        "CREATE TABLE kind(id TEXT PRIMARY KEY, name TEXT); CREATE TABLE n(id INTEGER PRIMARY KEY, title TEXT, kind TEXT REFERENCES kind(id))",
    );
    net.sync_all();
    for machine in [1, 2] {
        net.run(machine, "CREATE VIEW v AS SELECT n.id AS id, title, (SELECT name FROM kind WHERE kind.id = n.kind) AS kind FROM n;
            CREATE VIRTUAL TABLE words USING fts5(title, kind, content = 'v', content_rowid = 'id');
            CREATE TRIGGER n1 AFTER INSERT ON n BEGIN INSERT INTO words(rowid, title, kind) SELECT id, title, kind FROM v WHERE id = NEW.id; END;
            CREATE TRIGGER n2 BEFORE DELETE ON n BEGIN INSERT INTO words(words, rowid, title, kind) SELECT 'delete', id, title, kind FROM v WHERE id = OLD.id; END;
            CREATE TRIGGER n3 BEFORE UPDATE ON n BEGIN INSERT INTO words(words, rowid, title, kind) SELECT 'delete', id, title, kind FROM v WHERE id = OLD.id; END;
            CREATE TRIGGER n4 AFTER UPDATE ON n BEGIN INSERT INTO words(rowid, title, kind) SELECT id, title, kind FROM v WHERE id = NEW.id; END;
            CREATE TRIGGER k1 BEFORE DELETE ON kind BEGIN UPDATE n SET kind = NULL WHERE kind = OLD.id; END");
    }
    net.run(
        1,
        "INSERT INTO kind VALUES ('d', 'dogs'); INSERT INTO n VALUES (1, 'one', NULL), (3, 'three', NULL)",
    );
    net.sync_all();
    net.run(1, "DELETE FROM kind");
    net.run(2, "UPDATE n SET kind = 'd' WHERE id = 3");
    net.sync_all();
    assert_eq!(causes(&mut net, 2).len(), 1);
    for machine in [1, 2] {
        net.run(machine, "INSERT INTO words(words, rank) VALUES ('integrity-check', 1)");
        assert!(net.query(machine, "SELECT rowid FROM words('dogs')").is_empty(), "{machine}");
    }
    net.run(1, "INSERT INTO kind VALUES ('d', 'dogs')");
    net.sync_all();
    net.check_same("SELECT * FROM n");
    net.run(2, "INSERT INTO words(words, rank) VALUES ('integrity-check', 1)");
    assert_eq!(net.query(2, "SELECT rowid FROM words('dogs')"), integers(&[3]));
}

/// A server that was restored learns from the device again when it accepted what it lost, as others may know.
#[test]
fn a_server_restored_from_yesterday_keeps_the_order_of_claims() {
    let mut net = network(2, "CREATE TABLE t(id TEXT PRIMARY KEY, u TEXT UNIQUE)");
    net.sync_all();
    let yesterday = net.backup(0);
    net.run(1, "INSERT INTO t VALUES ('first', 'u')");
    net.sync(1);
    net.restore(0, &yesterday);
    net.wait(1000);
    net.run(2, "INSERT INTO t VALUES ('second', 'u')");
    net.sync(2);
    net.sync_all();
    net.check_same("SELECT * FROM t");
    assert_eq!(net.query(2, "SELECT id FROM t"), ["Text(\"first\")"]);
    assert_eq!(causes(&mut net, 1), ["second UNIQUE (u): row first has the same and was accepted first"]);
}

#[test]
fn the_last_of_several_rows_with_one_value_is_chosen() {
    let mut net = network(3, "CREATE TABLE u(id TEXT PRIMARY KEY, name TEXT UNIQUE)");
    net.sync_all();
    for n in 1..=3 {
        net.run(n, &format!("INSERT INTO u VALUES ('{n}', 's')"));
        net.wait(1000);
    }
    net.sync_all();
    assert_eq!(net.query(3, "SELECT id FROM u"), ["Text(\"1\")"]);
    let now = net.now;
    assert_eq!(net.replica(3).choose_held(now, "u", "3").expect("it shows"), ["1"]);
    net.sync_all();
    net.check_same("SELECT * FROM u");
    assert_eq!(net.query(1, "SELECT id FROM u"), ["Text(\"3\")"]);
    assert_eq!(net.held(1).len(), 2);
}

/// A row that lacks its parent keeps its claims while it is held: once it wrote them again, those who had waited come first, on
/// all machines and in any order.
#[test]
fn a_choice_over_a_row_that_lacks_its_parent_ends_alike_everywhere() {
    for order in [[1, 2], [2, 1]] {
        let mut net = network(
            2,
            "CREATE TABLE p(id TEXT PRIMARY KEY, u TEXT UNIQUE); CREATE TABLE c(id TEXT PRIMARY KEY, x TEXT UNIQUE, p TEXT REFERENCES p(id))",
        );
        net.sync_all();
        net.run(1, "INSERT INTO p VALUES ('a4', 's'); INSERT INTO c VALUES ('a2', 'y', 'a4')");
        net.sync(1);
        net.run(2, "INSERT INTO p VALUES ('b3', 's'); INSERT INTO c VALUES ('b5', 'y', NULL)");
        net.sync_all();
        let now = net.now;
        net.replica(1).choose_held(now, "c", "b5").expect("it shows");
        net.replica(2).choose_held(now, "p", "b3").expect("it shows");
        for n in order {
            net.sync(n);
        }
        net.sync_all();
        for table in ["p", "c"] {
            net.check_same(&format!("SELECT * FROM {table} ORDER BY id"));
        }
        assert_eq!(net.query(0, "SELECT id FROM c"), ["Text(\"b5\")"], "{order:?}");
        assert_eq!(net.held(1), net.held(2), "{order:?}");
        for n in 0..=2 {
            assert!(net.check(n).is_empty(), "machine {n}, {order:?}");
        }
    }
}

#[test]
fn a_row_that_others_keep_out_by_two_constraints_is_chosen() {
    let mut net = network(3, "CREATE TABLE t(id TEXT PRIMARY KEY, u TEXT UNIQUE, v TEXT UNIQUE)");
    net.sync_all();
    for (n, v) in [(1, "v0"), (2, "v0"), (3, "v1")] {
        net.run(n, &format!("INSERT INTO t VALUES ('{n}', 's', '{v}')"));
        net.wait(1000);
    }
    net.sync_all();
    let now = net.now;
    net.replica(2).choose_held(now, "t", "3").expect("it shows");
    net.sync_all();
    net.check_same("SELECT * FROM t");
    assert_eq!(net.query(1, "SELECT id FROM t"), ["Text(\"3\")"]);
}

#[test]
fn a_row_of_a_conflict_that_gets_another_key_leaves_the_other_row() {
    for (kind, keys) in [("TEXT", ["'5'", "'new'"]), ("INTEGER", ["5", "99"])] {
        let mut net = network(0, "");
        for n in 1..=2 {
            let schema = format!("CREATE TABLE t(id {kind} PRIMARY KEY, m TEXT)");
            net.add_machine(&schema, piecewise_core::replica::Follow::Tracked);
            net.run_unseen(n, &format!("INSERT INTO t VALUES ({}, 'of {n}')", keys[0]));
            net.track_again(n);
        }
        net.sync_all();
        assert_eq!(net.replica(2).conflicts(None).expect("a list").len(), 1);
        net.run(2, &format!("UPDATE t SET id = {} WHERE id = {}", keys[1], keys[0]));
        net.sync_all();
        net.check_same("SELECT * FROM t ORDER BY id");
        let all = net.query(1, "SELECT m FROM t ORDER BY m");
        assert_eq!(all, ["Text(\"of 1\")", "Text(\"of 2\")"], "{kind}");
        // A delete deletes both, also where the key was changed before.
        net.run(2, "INSERT INTO t VALUES ('7', 'x'); UPDATE t SET id = '8' WHERE id = '7'; DELETE FROM t");
        net.sync_all();
        net.check_same("SELECT * FROM t");
        assert!(net.query(1, "SELECT m FROM t").is_empty(), "{kind}");
    }
}

#[test]
fn a_held_row_that_refers_to_the_one_in_its_way_is_not_chosen() {
    let mut net =
        network(2, "CREATE TABLE g(id TEXT PRIMARY KEY, name TEXT UNIQUE, par TEXT REFERENCES g(id))");
    net.sync_all();
    net.run(1, "INSERT INTO g VALUES ('1', 'Ann', NULL), ('2', 'Bob', '1')");
    net.sync(1);
    net.run(2, "PRAGMA foreign_keys = OFF; INSERT INTO g VALUES ('5', 'Ann', '2')");
    net.sync_all();
    assert_eq!(net.held(2), [("g".to_owned(), "5".to_owned())]);
    let now = net.now;
    let error = net.replica(2).choose_held(now, "g", "5").expect_err("its grandparent would go");
    assert!(error.to_string().contains("held all the same"), "{error}");
    net.sync_all();
    net.check_same("SELECT * FROM g ORDER BY id");
    assert_eq!(net.query(2, "SELECT id FROM g ORDER BY id"), ["Text(\"1\")", "Text(\"2\")"]);
}
