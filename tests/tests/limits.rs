//! Limits and backpressure: what is over a limit is told clearly, harms nobody else, and goes on by itself.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_server::config::{ServeArgs, ServeConfig};
use piecewise_server::disk::Disk;
use piecewise_server::supervisor::Supervisor;
use piecewise_tests::data::{query, sql};
use piecewise_tests::http::{figure, get};
use piecewise_tests::process::{Device, Said, Server, text, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

struct Setting {
    folder: TempDir,
    server: Server,
    device: Device,
}

impl Setting {
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::start_at(&folder.path().join("server"), "127.0.0.1:0", arguments);
        let device = Device::joined(&folder.path().join("home"), &server, &["app/*=write"]);
        Self { folder, server, device }
    }

    /// The same server, stopped and started with other settings.
    fn restarted(self, arguments: &[&str]) -> Self {
        let (data, listen) = (self.server.data.clone(), self.server.listen.clone());
        assert_eq!(self.server.stop(), 0);
        Self { server: Server::start_at(&data, &listen, arguments), ..self }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file with tables that track as `app`.
    fn tracked(&self, name: &str, tables: &[&str]) -> PathBuf {
        let file = self.path(name);
        sql(&file, "PRAGMA journal_mode = WAL");
        for table in tables {
            sql(&file, &format!("CREATE TABLE {table}(id TEXT PRIMARY KEY, v)"));
        }
        self.device.must([&["track", text(&file), "--as", "app"][..], tables].concat());
        file
    }

    fn another(&self, name: &str) -> Device {
        Device::joined(&self.path(name), &self.server, &["app/*=write"])
    }
}

#[track_caller]
fn failed(said: &Said, code: i32, error: &str) {
    assert_eq!(said.code, code, "{said}");
    assert!(said.err.contains(error), "no {error:?} in: {said}");
}

#[test]
fn a_connection_over_the_limit_of_its_address_is_told_so_and_gets_in_once_another_leaves() {
    let it = Setting::new(&["--connections-per-address", "1"]);
    let file = it.tracked("a.db", &["t"]);
    let watch = it.device.watch(&file);
    let said = it.device.run(["sync", text(&file)]);
    failed(&said, 3, "it has too many connections");
    assert!(said.err.contains("try again"), "{said}");
    assert_eq!(watch.stop(), 0);
    until("there is room again", || it.device.run(["sync", text(&file)]).code == 0);
    until("the metrics can be read", || {
        get(&it.server.listen, "/metrics")
            .body
            .contains("connections_refused_total{reason=\"connections_per_address\"}")
    });
}

/// A connection that has asked for a WebSocket and says nothing more.
fn stranger(listen: &str) -> TcpStream {
    let mut stream = TcpStream::connect(listen).unwrap();
    let ask = "GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
               sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(ask.as_bytes()).unwrap();
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    stream
}

#[test]
fn a_stranger_who_says_nothing_is_put_out_and_those_in_line_behind_it_get_in() {
    let it = Setting::new(&["--handshake-seconds", "2", "--handshakes-max", "1"]);
    let file = it.tracked("a.db", &["t"]);
    let mut silent = stranger(&it.server.listen);
    // There is one place for strangers, and this waits for it.
    it.device.must(["sync", text(&file)]);
    let mut rest = vec![];
    silent.read_to_end(&mut rest).unwrap();
    assert_eq!(figure(&it.server.listen, "piecewise_handshakes_failed_total{reason=\"too_slow\"}"), 1.0);
}

#[test]
fn a_stranger_cannot_make_the_server_hold_a_large_message() {
    let it = Setting::new(&[]);
    let mut stream = stranger(&it.server.listen);
    // A binary frame that claims 60 MiB, and its first MiB.
    let _ = stream.write_all(&[0x82, 0xff, 0, 0, 0, 0, 3, 0xc0, 0, 0, 0, 0, 0, 0]);
    let _ = stream.write_all(&vec![0; 1 << 20]);
    let mut rest = vec![];
    let _ = stream.read_to_end(&mut rest);
    let name = "piecewise_handshakes_failed_total{reason=\"websocket\"}";
    until("it is put out", || get(&it.server.listen, "/metrics").body.contains(&format!("{name} 1")));
}

#[test]
fn a_device_creates_no_more_tables_than_it_may_and_the_others_wait() {
    let it = Setting::new(&["--containers-per-peer", "1"]);
    let file = it.tracked("a.db", &["first", "second"]);
    sql(&file, "INSERT INTO first VALUES ('1', 'x'); INSERT INTO second VALUES ('1', 'y')");
    let said = it.device.run(["sync", text(&file)]);
    failed(&said, 7, "as many there as it may");
    let there = |it: &Setting, table| query(&it.server.file("app"), &format!("SELECT v FROM {table}"));
    assert_eq!(there(&it, "first"), ["Text(\"x\")"]);
    assert_eq!(it.device.json(&["refused", text(&file)]), serde_json::json!([]));
    // What was created counts after a restart as well.
    let it = it.restarted(&["--containers-per-peer", "1"]);
    failed(&it.device.run(["sync", text(&file)]), 7, "app/second");
    let it = it.restarted(&[]);
    it.device.must(["sync", text(&file)]);
    assert_eq!(there(&it, "second"), ["Text(\"y\")"]);
}

#[test]
fn what_is_over_a_device_s_quota_is_refused_and_goes_in_once_there_is_room() {
    let it = Setting::new(&["--bytes-per-peer", "100k"]);
    let file = it.tracked("a.db", &["t"]);
    sql(&file, "INSERT INTO t VALUES ('small', 1)");
    it.device.must(["sync", text(&file)]);
    sql(&file, "INSERT INTO t VALUES ('large', randomblob(200000))");
    let said = it.device.run(["sync", text(&file)]);
    assert!(said.code == 1 && said.err.contains("the server did not take 1 row of this device"), "{said}");
    let status = it.device.json(&["status", text(&file)]);
    assert_eq!((&status["caught_up"], &status["refused"]), (&false.into(), &1.into()), "{status}");
    let said = it.device.run(["status", text(&file)]);
    assert!(said.out.contains("caught up   no: 1 row was refused"), "{said}");
    let refused = it.device.json(&["refused", text(&file)]);
    assert_eq!(refused[0]["key"], "large", "{refused}");
    assert!(refused[0]["reason"].as_str().unwrap().contains("limit"), "{refused}");
    assert_eq!(figure(&it.server.listen, "piecewise_refused_rows_total{database=\"app\"}"), 1.0);
    let it = it.restarted(&["--bytes-per-peer", "1M"]);
    it.device.must(["refused", "retry", text(&file)]);
    it.device.must(["sync", text(&file)]);
    assert_eq!(
        query(&it.server.file("app"), "SELECT id FROM t ORDER BY id"),
        ["Text(\"large\")", "Text(\"small\")"]
    );
}

#[test]
fn many_small_rows_count_with_what_they_take_besides_their_values() {
    let it = Setting::new(&["--bytes-per-peer", "100k"]);
    let file = it.tracked("a.db", &["t"]);
    let few = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO t SELECT i, 1 FROM n";
    sql(&file, few);
    it.device.must(["sync", text(&file)]);
    // Some 10 bytes of values each, and compressed next to nothing.
    sql(&file, &few.replace("200", "3000").replace("SELECT i, 1", "SELECT 'm' || i, 1"));
    let said = it.device.run(["sync", text(&file)]);
    assert!(said.code == 1 && said.err.contains("the server did not take"), "{said}");
    assert!(query(&it.server.file("app"), "SELECT count(*) FROM t")[0] != "Integer(3200)");
}

#[test]
fn a_row_larger_than_the_server_takes_stays_with_its_writer_and_others_go() {
    let it = Setting::new(&["--row-bytes-max", "1M"]);
    let file = it.tracked("a.db", &["t"]);
    sql(&file, "INSERT INTO t VALUES ('large', randomblob(3000000)), ('small', 1)");
    assert_eq!(it.device.run(["sync", text(&file)]).code, 1);
    let refused = it.device.json(&["refused", text(&file)]);
    assert_eq!((refused.as_array().unwrap().len(), &refused[0]["key"]), (1, &"large".into()), "{refused}");
    assert!(refused[0]["reason"].as_str().unwrap().contains("larger"), "{refused}");
    assert_eq!(query(&it.server.file("app"), "SELECT id FROM t"), ["Text(\"small\")"]);
    assert_eq!(query(&file, "SELECT count(*) FROM t"), ["Integer(2)"]);
}

#[test]
fn limits_may_stand_in_a_settings_file() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("server.toml");
    std::fs::write(&settings, "metrics = \"off\"\n[limits]\ndisk_reserve = \"1000000T\"\n").unwrap();
    let server = Server::start_at(&folder.path().join("d"), "127.0.0.1:0", &["--config", text(&settings)]);
    assert_eq!((get(&server.listen, "/metrics").code, get(&server.listen, "/healthz").code), (404, 503));
}

#[test]
fn a_server_short_of_disk_gives_all_it_has_and_takes_nothing_until_it_has_room() {
    let it = Setting::new(&[]);
    let file = it.tracked("a.db", &["t"]);
    sql(&file, "INSERT INTO t VALUES ('1', 'before')");
    it.device.must(["sync", text(&file)]);

    let it = it.restarted(&["--disk-reserve", "1000000T"]);
    let health = get(&it.server.listen, "/healthz");
    assert_eq!(health.code, 503);
    assert!(health.body.contains("reserve"), "{health:?}");
    assert_eq!(figure(&it.server.listen, "piecewise_intake_stopped"), 1.0);
    let reader = it.another("reader");
    let copy = it.path("copy.db");
    reader.must(["clone", "app", text(&copy)]);
    assert_eq!(query(&copy, "SELECT v FROM t"), ["Text(\"before\")"]);
    // With nothing to bring, a sync is level.
    it.device.must(["sync", text(&file)]);
    sql(&file, "INSERT INTO t VALUES ('2', 'meanwhile')");
    sql(&file, "CREATE TABLE new(id TEXT PRIMARY KEY, v); INSERT INTO new VALUES ('1', 'n');
                CREATE TABLE child(id TEXT PRIMARY KEY, of TEXT REFERENCES new(id)); INSERT INTO child VALUES ('c', '1')");
    it.device.must(["track", text(&file), "new", "child"]);
    let said = it.device.run(["sync", text(&file)]);
    failed(&said, 7, "the server takes nothing in now");
    assert!(said.err.contains("hint: changes made here stay"), "{said}");
    let status = it.device.json(&["status", text(&file)]);
    assert_eq!(status["caught_up"], false, "{status}");
    assert!(status["last_talk"]["server_stopped"].as_str().unwrap().contains("reserve"), "{status}");
    assert_eq!(query(&it.server.file("app"), "SELECT count(*) FROM t"), ["Integer(1)"]);

    let it = it.restarted(&[]);
    it.device.must(["sync", text(&file)]);
    assert_eq!(it.device.json(&["refused", text(&file)]), serde_json::json!([]));
    assert_eq!(
        query(&it.server.file("app"), "SELECT v FROM t ORDER BY id"),
        ["Text(\"before\")", "Text(\"meanwhile\")"]
    );
    let child = "SELECT v FROM new JOIN child ON new.id = of"; // it waited for its parent, which waited for room
    assert_eq!(query(&it.server.file("app"), child), ["Text(\"n\")"]);
    assert_eq!(
        it.device.json(&["status", text(&file)])["last_talk"]["server_stopped"],
        serde_json::Value::Null
    );
}

/// A server in this process, whose disk has as much free as the test says.
struct OnDisk {
    free: Arc<AtomicU64>,
    config: ServeConfig,
    supervisor: Arc<Supervisor>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl OnDisk {
    fn start(data: &Path) -> Self {
        let args = ServeArgs {
            data: Some(data.to_owned()),
            listen: Some("127.0.0.1:0".into()),
            ..ServeArgs::default()
        };
        let config = args.resolve().unwrap();
        let supervisor = Arc::new(Supervisor::open(data).unwrap());
        let free = Arc::new(AtomicU64::new(u64::MAX / 2));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (told, asked, settings) = (free.clone(), supervisor.clone(), config.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let disk = Disk::measured_by(1 << 30, move || Ok(told.load(Ordering::Relaxed)));
                let server = piecewise_server::listener::Server::open(asked, &settings, disk);
                let until = async { drop(stopped.await) };
                server.run(&settings, until).await.unwrap();
            });
        });
        let started = Self { free, config, supervisor, stop: Some(stop), thread: Some(thread) };
        until("it listens", || started.address().is_some());
        started
    }

    fn address(&self) -> Option<String> {
        piecewise_server::listener::left_address(&self.config.data)
    }

    fn joined(&self, home: &Path) -> Device {
        let grants = ["app/*=write".parse().unwrap()];
        let (now, secret) = (piecewise_server::now(), piecewise_server::chance());
        let expires = piecewise_core::id::Timestamp(now.0 + 60_000);
        let invite = self.supervisor.invite(&grants, &self.address().unwrap(), secret, now, expires).unwrap();
        let device = Device { home: home.to_owned() };
        device.must(["join", &invite.to_string()]);
        device
    }

    fn set_free(&self, bytes: u64) {
        self.free.store(bytes, Ordering::Relaxed);
    }

    fn rows(&self) -> Vec<String> {
        query(&self.config.data.join("app.db"), "SELECT id FROM t ORDER BY id")
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn connections_that_live_through_a_full_disk_say_so_read_on_and_bring_what_waited_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let server = OnDisk::start(&folder.path().join("server"));
    let (one, two) = (server.joined(&folder.path().join("one")), server.joined(&folder.path().join("two")));
    let (a, b) = (folder.path().join("a.db"), folder.path().join("b.db"));
    sql(&a, "PRAGMA journal_mode = WAL; CREATE TABLE t(id TEXT PRIMARY KEY, v)");
    one.must(["track", text(&a), "t", "--as", "app"]);
    let first = one.watch(&a);
    two.must(["clone", "app", text(&b)]);
    let second = two.watch(&b);

    server.set_free(0);
    first.wait_for_error("the server takes nothing in now");
    second.wait_for_error("the server takes nothing in now");
    sql(&a, "INSERT INTO t VALUES ('a1', 'x')");
    sql(&b, "INSERT INTO t VALUES ('b1', 'x')");
    // Written on the central machine: it reaches those who listen all the same.
    sql(&server.config.data.join("app.db"), "INSERT INTO t VALUES ('central', 'x')");
    until("rows of the central machine arrive", || {
        query(&a, "SELECT id FROM t").len() == 2 && query(&b, "SELECT id FROM t").len() == 2
    });
    let said = one.run(["wait", text(&a), "--timeout", "1"]);
    failed(&said, 8, "takes nothing in");
    assert_eq!(server.rows(), ["Text(\"central\")"]);

    server.set_free(2 << 30);
    first.wait_for_error("takes changes in again");
    second.wait_for_error("takes changes in again");
    for (device, file) in [(&one, &a), (&two, &b)] {
        device.must(["wait", text(file), "--timeout", "60"]);
        assert_eq!(device.json(&["refused", text(file)]), serde_json::json!([]));
    }
    assert_eq!(server.rows(), ["Text(\"a1\")", "Text(\"b1\")", "Text(\"central\")"]);
}

#[test]
fn a_disk_that_fills_while_much_comes_in_stops_it_and_it_comes_in_whole_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let server = OnDisk::start(&folder.path().join("server"));
    let device = server.joined(&folder.path().join("home"));
    let file = folder.path().join("a.db");
    sql(&file, "PRAGMA journal_mode = WAL; CREATE TABLE t(id TEXT PRIMARY KEY, v)");
    device.must(["track", text(&file), "t", "--as", "app"]);
    let watch = device.watch(&file);
    let many = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199)
                INSERT INTO t SELECT printf('%03d', i), randomblob(100000) FROM n";
    sql(&file, many);
    until("some of it has come", || {
        figure_of(&server, "piecewise_received_segments_total{database=\"app\"}") > 2.0
    });
    server.set_free(0);
    watch.wait_for_error("the server takes nothing in now");
    let there = server.rows().len();
    server.set_free(u64::MAX / 2);
    device.must(["wait", text(&file), "--timeout", "60"]);
    assert_eq!(server.rows().len(), 200, "{there} before the disk was full");
    assert_eq!(device.json(&["refused", text(&file)]), serde_json::json!([]));
    assert_eq!(device.run(["compare", text(&file)]).code, 0);
}

fn figure_of(server: &OnDisk, name: &str) -> f64 {
    let address = server.address().unwrap();
    figure(address.trim_start_matches("ws://"), name)
}

/// Memory of a process, in KiB.
#[cfg(target_os = "linux")]
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_that_does_not_read_harms_no_other_and_grows_nothing() {
    let signal = |pid: u32, name: &str| {
        let sent = std::process::Command::new("kill").args([name, &pid.to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    };
    let it = Setting::new(&[]);
    let file = it.tracked("a.db", &["t"]);
    it.device.must(["sync", text(&file)]);
    let (slow, quick) = (it.another("slow"), it.another("quick"));
    let (behind, ahead) = (it.path("behind.db"), it.path("ahead.db"));
    slow.must(["clone", "app", text(&behind)]);
    quick.must(["clone", "app", text(&ahead)]);
    let (stopped, _reads) = (slow.watch(&behind), quick.watch(&ahead));
    let write = |from: u32, to: u32| {
        for part in (from..to).step_by(20) {
            let rows: Vec<_> = (part..part + 20).map(|n| format!("('{n:04}', randomblob(200000))")).collect();
            sql(&file, &format!("INSERT INTO t VALUES {}", rows.join(",")));
            it.device.must(["sync", "--quiet", text(&file)]);
        }
        until("the other has it", || query(&ahead, "SELECT count(*) FROM t") == [format!("Integer({to})")]);
    };
    // Caches fill first.
    write(0, 100);
    signal(stopped.pid(), "-STOP");
    let before = resident(it.server.pid());
    write(100, 500);
    let grown = resident(it.server.pid()).saturating_sub(before);
    signal(stopped.pid(), "-CONT");
    // 80 MB went to the other meanwhile.
    assert!(grown < 40 << 10, "the server grew by {grown} KiB");
    until("it comes after", || query(&behind, "SELECT count(*) FROM t") == ["Integer(500)"]);
}
