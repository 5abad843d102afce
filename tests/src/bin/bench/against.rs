//! Against: the same work by these binaries and by those of another version, in turns. `bench --against FOLDER` starts this
//! program again for each turn, once from its own folder and once as a copy beside the other version's binaries.

use super::{Bench, Key, ROUNDS, fill, insert, make};
use piecewise_tests::measure::{Cpu, argument};
use piecewise_tests::process::text;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Rows of each first sync and of each write benchmark.
const ROWS: u64 = 200_000;

/// What one turn measures, in seconds, by name.
type Figures = BTreeMap<String, f64>;

/// The ratio of these binaries to those in `folder` for each figure: the median of the ratios of all rounds, with the least and the greatest.
pub(super) fn table(folder: &Path) -> String {
    let own = std::env::current_exe().expect("this program has a path");
    let copy = folder.join("bench");
    std::fs::copy(&own, &copy).expect("this program can be copied beside the other version's binaries");
    let rounds = argument("--rounds").unwrap_or(ROUNDS as u64);
    let mut ratios: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for round in 0..rounds {
        // Each goes first every other time.
        let mut programs = [&own, &copy];
        programs.rotate_left((round % 2) as usize);
        let mut turns = programs.map(|program| turn_of(program));
        turns.rotate_left((round % 2) as usize);
        let [ours, theirs] = turns;
        for (name, ours) in ours {
            ratios.entry(name.clone()).or_default().push((ours, theirs[&name]));
        }
    }
    let mut table = format!(
        "`bench --against FOLDER`: {ROWS} rows of 10 columns; {rounds} rounds, each with the other version's binaries in turn.\n\n\
         | what | ratio | least to greatest | here | there |\n|---|---|---|---|---|\n"
    );
    for (name, mut pairs) in ratios {
        pairs.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let ratio = |(ours, theirs): &(f64, f64)| ours / theirs;
        let [least, median, greatest] = [0, pairs.len() / 2, pairs.len() - 1].map(|n| ratio(&pairs[n]));
        let (ours, theirs) = pairs[pairs.len() / 2];
        let ms = |s: f64| format!("{:.2} ms", s * 1000.0);
        let _ = writeln!(
            table,
            "| {name} | {median:.3} | {least:.3} to {greatest:.3} | {} | {} |",
            ms(ours),
            ms(theirs)
        );
    }
    table
}

fn turn_of(program: &Path) -> Figures {
    let output = Command::new(program).arg("--turn").output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("figures")
}

/// One turn of the binaries beside this program: prints its figures.
pub(super) fn turn(folder: &Path) {
    let mut figures = Figures::new();
    let mut put = |name: &str, time: Duration| figures.insert(name.to_owned(), time.as_secs_f64());
    let all = |cpu: Cpu| cpu.user + cpu.system;

    for (key, name) in [(Key::Integer, "INTEGER"), (Key::Uuid, "TEXT")] {
        let mut bench = Bench::new(&folder.join(name), key);
        let before = Cpu::of_children();
        let first = bench.first_sync(ROWS);
        put(&format!("first sync, {name}, clock"), first.sync);
        // Both devices' processes have ended; `track` and `clone` are among them.
        let cpu = all(Cpu::of_children() - before) + all(Cpu::of(bench.server.pid()));
        put(&format!("first sync, {name}, CPU of all"), cpu);
        if key == Key::Integer {
            // SQLite's default, and what most frameworks set for WAL.
            for (synchronous, waits) in [("full", "waits for the disk"), ("normal", "does not wait")] {
                let (times, cpu) = bench.live_cpu("items", super::spread, synchronous);
                put(&format!("live edit, the writer {waits}, p50, clock"), times.percentile(50));
                put(&format!("live edit, the writer {waits}, CPU of all"), cpu / super::EDITS as u32);
            }
        }

        let bench = Bench::new(&folder.join(format!("writes-{name}")), key);
        make(&bench.files[0], key);
        bench.devices[0].must(["track", text(&bench.files[0]), "items", "--as", "bench"]);
        bench.devices[0].must(["sync", text(&bench.files[0]), "--quiet"]);
        let mut conn = super::open(&bench.files[0]);
        let started = Instant::now();
        insert(&mut conn, key, ROWS);
        put(&format!("tracked inserts, {name}, clock"), started.elapsed());
        let started = Instant::now();
        conn.execute_batch("UPDATE items SET amount = amount + 1").expect("an update");
        put(&format!("tracked updates, {name}, clock"), started.elapsed());
        let (plain, _) = fill(&folder.join(format!("plain-{name}.db")), key, ROWS);
        put(&format!("plain inserts, {name}, clock"), plain);
    }
    println!("{}", serde_json::to_string(&figures).expect("JSON"));
}
