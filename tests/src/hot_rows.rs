//! Hot rows: what an edit costs that is one of very many of the same row, beside its floor in the same run.
//!
//! One server, a sender and a receiver in this process, on real files and without sockets. Each edit is a commit
//! of its own, captured, accepted and applied by itself, as when somebody types.

use crate::hot_paths::{Line, Talk, cost, open, replica};
use crate::rng::Rng;
use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjType, ROOT, ReadDoc};
use piecewise_core::replica::{Follow, Replica, TrackOptions};
use rusqlite::{Connection, params};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Characters of the text that is typed in.
const TEXT: usize = 4096;
/// Characters of the large text.
const LARGE: usize = 1 << 20;
/// Characters of one edit.
const WORD: usize = 20;
/// Edits at the end of each stretch that are measured: many, since the system counts CPU time in steps of milliseconds.
const MEASURED: u64 = 500;
const SCHEMA: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
  CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT);
  CREATE TABLE sums(id INTEGER PRIMARY KEY, total INTEGER);
  CREATE TABLE marks(id INTEGER PRIMARY KEY, place INTEGER, label TEXT)";

/// What is edited.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Large,
    Counter,
    Plain,
}

/// Three machines, and a program that edits a row of one of them.
struct Bench {
    file: PathBuf,
    program: Connection,
    server: Replica,
    sender: Replica,
    receiver: Replica,
    up: Line,
    down: Line,
    rng: Rng,
    text: String,
}

/// Measures, and gives lines of the table.
pub fn table(folder: &Path, edits: u64) -> String {
    let mut page = format!(
        "One row edited again and again: µs of CPU time an edit ({WORD} characters come or go at a random place of a text of about {TEXT}),
mean of {MEASURED} edits, or of what there are, after so many. The floor of a text is Automerge's own splice and commit in a document kept in memory.

| row | edits before | captured | accepted | applied | three plain commits | Automerge |
|---|---|---|---|---|---|---|
"
    );
    let stretches: Vec<u64> =
        [MEASURED, 2_000, 10_000, 50_000].into_iter().filter(|n| *n < edits).chain([edits]).collect();
    for (name, kind) in [("text", Kind::Text), ("counter", Kind::Counter), ("plain", Kind::Plain)] {
        run(&folder.join(name), name, kind, &stretches, &mut page);
    }
    run(&folder.join("large"), "text of 1 MiB", Kind::Large, &[MEASURED], &mut page);
    page
}

fn run(folder: &Path, name: &str, kind: Kind, stretches: &[u64], page: &mut String) {
    std::fs::create_dir_all(folder).expect("a folder");
    let mut bench = Bench::new(folder, kind);
    let mut floor = Floor::new(&bench.text);
    let mut done = 0;
    for end in stretches {
        let (mut sum, mut plain, mut automerge) = (Talk::default(), 0.0, 0.0);
        let from = end.saturating_sub(MEASURED).max(done);
        while done < *end {
            let (mut talk, before) = (Talk::default(), bench.text.clone());
            let commit = bench.edit(kind, done, &mut talk);
            let splice = if before == bench.text { 0.0 } else { floor.edit(&before, &bench.text) };
            if done >= from {
                sum.capture += talk.capture;
                sum.server += talk.server;
                sum.client += talk.client;
                plain += commit;
                automerge += splice;
            }
            done += 1;
        }
        let each = (end - from) as f64;
        let sum = sum.each(each);
        let automerge = match kind {
            Kind::Text | Kind::Large => format!("{:.0}", automerge / each),
            _ => "".into(),
        };
        let _ = writeln!(
            page,
            "| {name} | {from} | {:.0} | {:.0} | {:.0} | {:.0} | {automerge} |",
            sum.capture,
            sum.server,
            sum.client,
            3.0 * plain / each
        );
    }
    let first = bench.first_after_start(kind, done);
    let _ = writeln!(page, "| {name}, the first after a start | {done} | {first:.0} | | | | |");
    bench.check();
}

impl Bench {
    fn new(folder: &Path, kind: Kind) -> Self {
        let file = folder.join("sender.db");
        let program = Connection::open(&file).expect("a new file");
        program.execute_batch(SCHEMA).expect("tables");
        let mut rng = Rng(3);
        let len = if matches!(kind, Kind::Large) { LARGE } else { TEXT };
        let text: String = std::iter::repeat_with(|| word(&mut rng))
            .flat_map(|w| w.into_bytes())
            .take(len)
            .map(char::from)
            .collect();
        program.execute("INSERT INTO notes VALUES (1, ?)", [&text]).expect("a row");
        program
            .execute_batch("INSERT INTO sums VALUES (1, 0); INSERT INTO marks VALUES (1, 0, 'a')")
            .expect("rows");
        let mut server = replica(&folder.join("server.db"), 1, Follow::All);
        let mut sender = replica(&file, 2, Follow::Tracked);
        let mut receiver = replica(&folder.join("receiver.db"), 3, Follow::All);
        let kinds = |text: &[&str], counter: &[&str]| TrackOptions {
            text: text.iter().map(|c| (*c).to_owned()).collect(),
            counter: counter.iter().map(|c| (*c).to_owned()).collect(),
            ..TrackOptions::default()
        };
        sender.track("notes", &kinds(&["body"], &[])).expect("it is tracked");
        sender.track("sums", &kinds(&[], &["total"])).expect("it is tracked");
        sender.track("marks", &kinds(&[], &[])).expect("it is tracked");
        let mut up = Line::new(&mut server, &mut sender);
        let mut down = Line::new(&mut server, &mut receiver);
        up.talk(&mut server, &mut sender, &mut Talk::default());
        down.talk(&mut server, &mut receiver, &mut Talk::default());
        Self { file, program, server, sender, receiver, up, down, rng, text }
    }

    /// One edit on its way from the sender to the receiver; what its commit costs.
    fn edit(&mut self, kind: Kind, n: u64, talk: &mut Talk) -> f64 {
        let commit = match kind {
            Kind::Text | Kind::Large => {
                let at = self.rng.below((self.text.len() - WORD) as u64) as usize;
                match n % 2 {
                    0 => self.text.insert_str(at, &word(&mut self.rng)),
                    _ => self.text.replace_range(at..at + WORD, ""),
                }
                let sql = "UPDATE notes SET body = ? WHERE id = 1";
                cost(|| self.program.execute(sql, [&self.text]).expect("an update")).0
            }
            Kind::Counter => {
                let sql = "UPDATE sums SET total = total + ? WHERE id = 1";
                cost(|| self.program.execute(sql, [1 + (n % 7) as i64]).expect("an update")).0
            }
            Kind::Plain => {
                let sql = "UPDATE marks SET place = ?, label = ? WHERE id = 1";
                let label = word(&mut self.rng);
                cost(|| self.program.execute(sql, params![n as i64, label]).expect("an update")).0
            }
        };
        self.up.talk(&mut self.server, &mut self.sender, talk);
        let mut down = Talk::default();
        self.down.talk(&mut self.server, &mut self.receiver, &mut down);
        talk.client = down.client;
        commit
    }

    /// What it costs to capture an edit in a process that begins anew.
    fn first_after_start(&mut self, kind: Kind, n: u64) -> f64 {
        self.sender = open(&self.file, 2);
        self.up = Line::new(&mut self.server, &mut self.sender);
        let mut talk = Talk::default();
        self.edit(kind, n, &mut talk);
        talk.capture
    }

    /// The receiver shows what the program wrote.
    fn check(&self) {
        let all = "SELECT (SELECT body FROM notes) || (SELECT total FROM sums) || (SELECT place || label FROM marks)";
        let shown = |conn: &Connection| conn.query_row(all, [], |row| row.get::<_, String>(0)).expect("rows");
        assert_eq!(
            shown(&self.program),
            shown(self.receiver.connection()),
            "the receiver shows what was written"
        );
    }
}

/// A text in Automerge alone, kept in memory.
struct Floor {
    doc: AutoCommit,
    text: automerge::ObjId,
}

impl Floor {
    fn new(text: &str) -> Self {
        let mut doc = AutoCommit::new();
        let object = doc.put_object(ROOT, "body", ObjType::Text).expect("a text");
        doc.splice_text(&object, 0, 0, text).expect("its characters");
        doc.commit();
        Self { doc, text: object }
    }

    /// The same edit; what its splice and commit cost.
    fn edit(&mut self, before: &str, after: &str) -> f64 {
        let at = before.bytes().zip(after.bytes()).take_while(|(a, b)| a == b).count();
        let (gone, come) = match after.len().checked_sub(before.len()) {
            Some(more) => (0, &after[at..at + more]),
            None => (before.len() - after.len(), ""),
        };
        let (us, ()) = cost(|| {
            self.doc.splice_text(&self.text, at, gone as isize, come).expect("a splice");
            self.doc.commit();
        });
        debug_assert_eq!(self.doc.text(&self.text).ok().as_deref(), Some(after));
        us
    }
}

fn word(rng: &mut Rng) -> String {
    (0..WORD).map(|n| if n == 0 { ' ' } else { char::from(b'a' + rng.below(26) as u8) }).collect()
}
