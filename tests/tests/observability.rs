//! What a server and a replica tell of themselves: health, metrics, the status page, `status` and `wait`.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{query, sql};
use piecewise_tests::http::{Answer, figure, get, request};
use piecewise_tests::process::{Device, Server, text, until};
use std::io::{Read, Write};
use std::path::PathBuf;
use tempfile::TempDir;

struct Setting {
    folder: TempDir,
    server: Server,
}

impl Setting {
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::start_at(&folder.path().join("server"), "127.0.0.1:0", arguments);
        Self { folder, server }
    }

    fn device(&self, name: &str, grant: &str) -> Device {
        Device::joined(&self.folder.path().join(name), &self.server, &[grant])
    }

    /// A file of one table that this device tracks as a database.
    fn tracked(&self, device: &Device, database: &str, table: &str) -> PathBuf {
        let file = self.folder.path().join(format!("{database}-{table}.db"));
        sql(&file, &format!("PRAGMA journal_mode = WAL; CREATE TABLE {table}(id TEXT PRIMARY KEY, v)"));
        device.must(["track", text(&file), table, "--as", database]);
        file
    }

    fn now(&self, cookie: &str) -> Answer {
        request(&self.server.listen, "GET", "/status/now", &[&format!("cookie: {cookie}")])
    }

    /// Opens a link as the page does.
    fn open(&self, link: &str) -> Answer {
        let (_, secret) = link.trim().split_once("/status#").expect("a link to the status page");
        request(&self.server.listen, "POST", "/status/open", &[&format!("authorization: Bearer {secret}")])
    }

    /// The cookie that a link opens with.
    fn cookie(&self, link: &str) -> String {
        let opened = self.open(link);
        assert_eq!(opened.code, 200, "{opened:?}");
        opened.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    }
}

#[test]
fn health_and_metrics_tell_what_happened() {
    let it = Setting::new(&[]);
    let device = it.device("home", "app/*=write");
    let file = it.tracked(&device, "app", "t");
    sql(&file, "INSERT INTO t VALUES ('1', 'x'), ('2', 'y')");
    device.must(["sync", text(&file)]);
    let listen = &it.server.listen;
    assert_eq!((get(listen, "/healthz").code, get(listen, "/healthz").body.as_str()), (200, "ok\n"));
    assert_eq!(figure(listen, "piecewise_received_rows_total{database=\"app\"}"), 2.0);
    assert!(figure(listen, "piecewise_received_bytes_total{database=\"app\"}") > 200.0);
    assert!(figure(listen, "piecewise_apply_seconds_count") >= 1.0);
    assert_eq!(figure(listen, "piecewise_databases_open"), 1.0);
    assert_eq!(figure(listen, "piecewise_containers"), 1.0);
    assert_eq!(figure(listen, "piecewise_peers"), 1.0);
    assert!(figure(listen, "piecewise_disk_free_bytes") > 0.0);
    assert_eq!(figure(listen, "piecewise_limits_hit_total{limit=\"disk_reserve\"}"), 0.0);
    let stranger = Device { home: it.folder.path().join("stranger") };
    let invite = it.server.invite(&["app/*=read"]);
    stranger.must(["join", &invite]);
    Device { home: it.folder.path().join("late") }.run(["join", &invite]);
    // It is counted after the answer went out.
    let counted = "piecewise_handshakes_failed_total{reason=\"bad_invite\"} 1\n";
    until("a join with a used invite is counted", || get(listen, "/metrics").body.contains(counted));
}

#[test]
fn metrics_are_for_this_machine_unless_a_setting_says_otherwise() {
    let it = Setting::new(&[]);
    let forwarded = ["x-forwarded-for: 192.0.2.1"];
    assert_eq!(get(&it.server.listen, "/metrics").code, 200);
    assert_eq!(request(&it.server.listen, "GET", "/metrics", &forwarded).code, 404);
    let all = Setting::new(&["--metrics", "all"]);
    assert_eq!(request(&all.server.listen, "GET", "/metrics", &forwarded).code, 200);
    // A page that a browser of this machine was led to under another name.
    let other_name = |host: &str| {
        let mut stream = std::net::TcpStream::connect(&it.server.listen).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(
        ["evil.example:7171", "localhost.evil.example", "127.0.0.1", "[::1]:7171"].map(other_name),
        ["404", "404", "200", "200"]
    );
    let off = Setting::new(&["--metrics", "off"]);
    assert_eq!(get(&off.server.listen, "/metrics").code, 404);
    #[cfg(unix)]
    {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("metrics");
        let _own =
            Setting::new(&["--metrics", "off", "--metrics-listen", &format!("unix:{}", socket.display())]);
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("piecewise_"), "{answer}");
    }
}

#[test]
fn a_status_link_opens_once_and_shows_what_its_holder_administers() {
    let it = Setting::new(&[]);
    let (shop, stock) = (it.device("shop", "shop/*=admin"), it.device("stock", "stock/*=admin"));
    let file = it.tracked(&shop, "shop", "orders");
    sql(&file, "INSERT INTO orders VALUES ('1', 'x')");
    shop.must(["sync", text(&file)]);
    stock.must(["sync", text(&it.tracked(&stock, "stock", "items"))]);

    let link = shop.must(["admin", text(&file)]);
    assert!(link.starts_with(&format!("http://{}/status#", it.server.listen)), "{link}");
    let opened = it.open(&link);
    let cookie = opened.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert_eq!(it.open(&link).code, 401);

    let seen = it.now(cookie.split(';').next().unwrap());
    assert_eq!(seen.header("cache-control"), Some("no-store"));
    let seen = seen.json();
    assert_eq!(seen["databases"].as_array().unwrap().len(), 1, "{seen}");
    assert_eq!(seen["databases"][0]["name"], "shop");
    assert_eq!(seen["databases"][0]["containers"][0]["name"], "shop/orders");
    assert_eq!(seen["databases"][0]["counts"]["received_rows"], 1);
    assert_eq!(seen["peers"].as_array().unwrap().len(), 1, "{seen}");
    assert!(!seen.to_string().contains("stock"), "{seen}");

    // The operator, who has the data folder, sees everything.
    let all = it.now(&it.cookie(&it.server.run("status-link", &[]).out)).json();
    assert_eq!(all["databases"].as_array().unwrap().len(), 2, "{all}");
    assert_eq!(all["peers"].as_array().unwrap().len(), 2, "{all}");
}

#[test]
fn databases_at_rest_are_told_of_as_well() {
    let it = Setting::new(&["--open-databases", "1"]);
    for name in ["shop", "stock", "tills"] {
        let device = it.device(name, &format!("{name}/*=admin"));
        device.must(["sync", text(&it.tracked(&device, name, "items"))]);
    }
    let listen = &it.server.listen;
    until("one is open", || figure(listen, "piecewise_databases_open") == 1.0);
    assert_eq!(figure(listen, "piecewise_databases"), 3.0);
    assert_eq!(figure(listen, "piecewise_containers"), 3.0);
    let all = it.now(&it.cookie(&it.server.run("status-link", &[]).out)).json();
    let listed = all["databases"].as_array().unwrap();
    let at_rest: Vec<_> = listed.iter().map(|d| d["at_rest"].as_bool().unwrap()).collect();
    assert_eq!(at_rest, [false, true, true], "{all}");
    assert!(listed.iter().all(|d| d["tables"] == 1 && d["segments"] == 1), "{all}");
    assert_eq!((&all["totals"]["databases"], &all["totals"]["at_rest"]), (&3.into(), &2.into()));
}

#[test]
fn the_status_page_ends_with_the_grant_and_is_for_nobody_else() {
    let it = Setting::new(&[]);
    let admin = it.device("admin", "shop/*=admin");
    let cookie = it.cookie(&admin.must(["admin"]));
    assert_eq!(it.now(&cookie).code, 200);
    let key = admin.json(&["identity"])["key"].as_str().unwrap().to_owned();
    assert_eq!(it.server.run("revoke", &[&key]).code, 0);
    assert_eq!(it.now(&cookie).code, 401);
    assert_eq!(it.now("piecewise_status=00").code, 401);
    assert_eq!(get(&it.server.listen, "/status/now").code, 401);
    let writer = it.device("writer", "shop/*=write");
    let said = writer.run(["admin"]);
    assert_eq!(said.code, 4, "{said}");
    let page = get(&it.server.listen, "/status");
    assert_eq!(page.code, 200);
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
}

#[test]
fn a_page_is_sent_compressed_to_who_takes_it_and_only_once() {
    let it = Setting::new(&[]);
    let plain = get(&it.server.listen, "/status");
    assert!(plain.body.starts_with("<!doctype html>") && plain.header("content-encoding").is_none());
    let tag = plain.header("etag").expect("a tag");
    let ask = |method, header: &str| request(&it.server.listen, method, "/status", &[header]);
    for (accepted, given) in [("gzip, br", "br"), ("gzip", "gzip")] {
        let packed = ask("HEAD", &format!("accept-encoding: {accepted}"));
        assert_eq!((packed.header("content-encoding"), packed.header("etag")), (Some(given), Some(tag)));
    }
    let again = ask("GET", &format!("if-none-match: {tag}"));
    assert_eq!((again.code, again.body.as_str()), (304, ""));
    assert_eq!(ask("GET", "if-none-match: \"other\"").code, 200);
}

#[test]
fn what_the_board_loads_has_its_version_in_the_address_and_is_kept() {
    let it = Setting::new(&[]);
    let page = get(&it.server.listen, "/");
    assert_eq!(page.header("cache-control"), Some("no-cache"), "{page:?}");
    let name = |text: &str| text.split("src=\"").nth(1)?.split('"').next().map(str::to_owned);
    let name = name(page.body.split("type=\"module\"").nth(1).unwrap()).unwrap();
    let (folder, file) = name.rsplit_once('/').unwrap();
    assert!(folder.starts_with("v/") && file == "app.js", "{name}");
    let script = get(&it.server.listen, &format!("/{name}"));
    assert_eq!(script.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(script.body, get(&it.server.listen, "/app.js").body, "the plain address has the same");
    // A page that was loaded before goes on, and keeps nothing under its old version.
    let old = get(&it.server.listen, "/v/000000000000/app.js");
    assert_eq!((old.code, old.header("cache-control")), (200, Some("no-cache")));
    assert_eq!(get(&it.server.listen, &format!("/{folder}/nothing.js")).code, 404);
    let worker = get(&it.server.listen, "/sw.js").body;
    assert!(worker.contains(&format!("const VERSION = '{}'", &folder[2..])), "{worker}");
}

#[test]
fn the_status_page_tells_who_is_connected_and_when_others_were_here_last() {
    let it = Setting::new(&[]);
    let device = it.device("home", "app/*=write");
    let file = it.tracked(&device, "app", "t");
    let cookie = it.cookie(&it.server.run("status-link", &[]).out);
    let watch = device.watch(&file);
    let peer = it.now(&cookie).json()["peers"][0].clone();
    assert_eq!((&peer["connected"], &peer["to_send"]), (&true.into(), &0.into()), "{peer}");
    assert_eq!(watch.stop(), 0);
    let (data, listen) = (it.server.data.clone(), it.server.listen.clone());
    let folder = it.folder;
    assert_eq!(it.server.stop(), 0);
    // Who was here is known after a restart as well, and so is who may look.
    let it = Setting { folder, server: Server::start_at(&data, &listen, &[]) };
    let peer = it.now(&cookie).json()["peers"][0].clone();
    assert_eq!(peer["connected"], false, "{peer}");
    assert!(peer["seen_ms"].as_u64().unwrap() > 1_000_000_000_000, "{peer}");
}

#[test]
fn status_tells_what_waits_and_whether_the_file_is_caught_up() {
    let it = Setting::new(&[]);
    let device = it.device("home", "app/*=write");
    let file = it.tracked(&device, "app", "t");
    let status = || device.json(&["status", text(&file)]);
    assert_eq!((&status()["caught_up"], &status()["last_talk"]), (&false.into(), &serde_json::Value::Null));
    device.must(["sync", text(&file)]);
    let level = status();
    assert_eq!((&level["caught_up"], &level["segments_to_come"]), (&true.into(), &0.into()), "{level}");
    assert_eq!(
        (&level["last_talk"]["level"], &level["log"]["alarm"]),
        (&true.into(), &serde_json::Value::Null)
    );
    sql(&file, "INSERT INTO t VALUES ('1', 'x')");
    let behind = status();
    assert_eq!((&behind["caught_up"], &behind["writes_waiting"]), (&false.into(), &1.into()), "{behind}");
    let out = device.must(["status", text(&file)]);
    assert!(out.contains("caught up   no: 1 write not captured"), "{out}");
    let watch = device.watch(&file);
    let watched = status();
    assert_eq!((&watched["caught_up"], &watched["watched"]), (&true.into(), &true.into()), "{watched}");
    drop(watch);
    assert_eq!(status()["watched"], false);
}

#[test]
fn wait_returns_once_a_running_watch_has_brought_everything_over() {
    let it = Setting::new(&[]);
    let device = it.device("home", "app/*=write");
    let file = it.tracked(&device, "app", "t");
    let _watch = device.watch(&file);
    for n in 0..20 {
        sql(&file, &format!("INSERT INTO t VALUES ('{n}', 'x')"));
        device.must(["wait", text(&file)]);
        assert_eq!(query(&it.server.file("app"), "SELECT count(*) FROM t"), [format!("Integer({})", n + 1)]);
    }
}

#[test]
fn wait_talks_by_itself_when_no_watch_runs_and_gives_up_in_time() {
    let it = Setting::new(&[]);
    let device = it.device("home", "app/*=write");
    let file = it.tracked(&device, "app", "t");
    sql(&file, "INSERT INTO t VALUES ('1', 'x')");
    device.must(["wait", text(&file), "--timeout", "60"]);
    assert_eq!(query(&it.server.file("app"), "SELECT v FROM t"), ["Text(\"x\")"]);
    sql(&file, "INSERT INTO t VALUES ('2', 'y')");
    it.server.kill();
    let said = device.run(["wait", text(&file), "--timeout", "1"]);
    assert_eq!(said.code, 8, "{said}");
    assert!(said.err.contains("not level in time") && said.err.contains("cannot be reached"), "{said}");
}

#[test]
fn wait_is_not_content_with_a_watch_that_has_lost_its_server() {
    let it = Setting::new(&[]);
    let device = it.device("home", "app/*=write");
    let file = it.tracked(&device, "app", "t");
    let watch = device.watch(&file);
    device.must(["wait", text(&file)]);
    it.server.kill();
    watch.wait_for_error("trying again");
    let said = device.run(["wait", text(&file), "--timeout", "1"]);
    assert_eq!(said.code, 8, "{said}");
}
