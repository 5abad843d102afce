//! Held: what rows that a table cannot show cost everybody else, and what it costs to check tables against their documents.

use super::{Bench, EDITS, Key, PATIENCE, open, text};
use piecewise_tests::measure::{Cpu, Times, time};
use std::path::Path;
use std::time::{Duration, Instant};

/// Rows that are held, of a table with twice as many.
const HELD: u64 = 10_000;
/// Rows of the table that is checked.
const CHECKED: u64 = 1_000_000;

/// The section of BENCHMARKS.md.
pub(super) fn table(folder: &Path) -> String {
    let (clashing, edits, cpu) = held(&folder.join("held"));
    let checked = checked(&folder.join("checked"));
    format!(
        "`bench --held`. Two devices and the server, whole processes.

| {HELD} rows held by UNIQUE on the device that wrote them | | aim |
|---|---|---|
| the `sync` in which all of them become held | {} | |
| an edit of a row with which a held one clashes, `watch` to `watch`, commit to commit: p50 | {} | 10 ms |
| p99 | {} | |
| CPU of all three processes for one | {} | |

{checked}",
        time(clashing),
        time(edits.percentile(50)),
        time(edits.percentile(99)),
        time(cpu / EDITS as u32),
    )
}

/// Both devices have rows with the same values of a UNIQUE column; those that the server hears of later are held.
fn held(folder: &Path) -> (Duration, Times, Duration) {
    let bench = Bench::new(folder, Key::Integer);
    for (file, first) in bench.files.iter().zip([0, 1_000_000]) {
        let fill = format!(
            "PRAGMA journal_mode = WAL; CREATE TABLE people(id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {HELD})
               INSERT INTO people SELECT {first} + i, 'p' || i || '@example.org', 'person ' || i FROM n;"
        );
        open(file).execute_batch(&fill).expect("rows");
    }
    for (device, file) in bench.devices.iter().zip(&bench.files) {
        device.must(["track", text(file), "people", "--as", "bench"]);
    }
    bench.sync(0, false);
    let started = Instant::now();
    // Its exit code says that rows are held.
    bench.devices[1].run(["sync", text(&bench.files[1]), "--quiet"]);
    let clashing = started.elapsed();
    let list = bench.devices[1].run(["held", text(&bench.files[1]), "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list.out).expect("JSON");
    let count = list["held"].as_array().or(list.as_array()).map_or(0, Vec::len) as u64;
    assert_eq!(count, HELD, "all of the second device's rows are held");

    let (times, cpu) = bench.live_cpu("people", |n| 1 + (n as i64 * 31) % HELD as i64, "normal");
    (clashing, times, cpu)
}

/// A table is compared with its documents, first at the pace of a watch, then at full speed.
fn checked(folder: &Path) -> String {
    let bench = Bench::new(folder, Key::Integer);
    super::fill(&bench.files[0], Key::Integer, CHECKED);
    let (device, file) = (&bench.devices[0], text(&bench.files[0]));
    device.must(["track", file, "items", "--as", "bench"]);
    device.must(["sync", file, "--quiet"]);
    let watch = device.watch(&bench.files[0]);
    let is_checked = || device.json(&["status", file])["check"]["time"] != serde_json::Value::Null;
    let (before, started) = (Cpu::of(watch.pid()), Instant::now());
    while !is_checked() {
        assert!(started.elapsed() < PATIENCE * 10, "the check does not end");
        std::thread::sleep(Duration::from_secs(1));
    }
    let (paced, used) = (started.elapsed(), Cpu::of(watch.pid()) - before);
    watch.stop();
    let (before, started) = (Cpu::of_children(), Instant::now());
    device.must(["check", file]);
    let (whole, cpu) = (started.elapsed(), Cpu::of_children() - before);
    let rate = |time: Duration| CHECKED as f64 / time.as_secs_f64();
    let share = (used.user + used.system).as_secs_f64() * 100.0 / paced.as_secs_f64();
    format!(
        "| {CHECKED} rows of 10 columns compared with their documents | elapsed | rows/s | CPU |
|---|---|---|---|
| by `watch`, at 1 % of a core | {} | {:.0} | {share:.1} % of a core |
| by `piecewise check`, at full speed | {} | {:.0} | {} |
",
        time(paced),
        rate(paced),
        time(whole),
        rate(whole),
        time(cpu.user + cpu.system),
    )
}
