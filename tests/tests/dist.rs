//! What `make dist` made: binaries that need nothing of the system, packages, a container, and the script that installs them. `make dist-check`
//! runs this as root, for a root folder of its own takes that.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use piecewise_tests::data::{query, sql};
use piecewise_tests::http::{get, request};
use piecewise_tests::process::{PATIENCE, text, until};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;

fn dist() -> PathBuf {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist").canonicalize();
    dist.expect("dist/ is there; run `make dist`")
}

/// A file of dist/ whose name begins and ends so.
fn made(begins: &str, ends: &str) -> PathBuf {
    let files = std::fs::read_dir(dist()).unwrap().flatten().map(|file| file.path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut found: Vec<_> =
        files.filter(|p| name(p).starts_with(begins) && name(p).ends_with(ends)).collect();
    assert_eq!(found.len(), 1, "{begins}…{ends}: {found:?}");
    found.remove(0)
}

#[track_caller]
fn done(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{out}{err}");
    out.into_owned()
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a line of a server's log that tells where it listens.
fn address(child: &mut Child) -> String {
    let (sender, lines) = channel();
    let log = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let mut seen = String::new();
    loop {
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it does not listen:\n{seen}"));
        let fields: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(address) = fields["fields"]["address"].as_str() {
            return address.to_owned();
        }
        seen.push_str(&line);
        seen.push('\n');
    }
}

/// A folder that has the binaries and nothing else.
fn empty_root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for name in ["piecewise", "piecewise-server"] {
        std::fs::copy(dist().join("stage/bin").join(name), root.path().join(name)).unwrap();
    }
    root
}

fn chroot(root: &Path, program: &str) -> Command {
    let mut command = Command::new(chroot_program());
    command.arg(root).arg(program).env_clear();
    command
}

/// By its path: with an empty environment no name is looked up in folders of administrators.
fn chroot_program() -> &'static str {
    let places = ["/usr/sbin/chroot", "/usr/bin/chroot"];
    places.into_iter().find(|place| Path::new(place).exists()).expect("there is a chroot")
}

#[test]
fn binaries_name_no_shared_library_and_are_stripped() {
    for name in ["piecewise", "piecewise-server"] {
        let file = dist().join("stage/bin").join(name);
        let told = Command::new("ldd").arg(&file).output().unwrap();
        let told =
            format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
        assert!(told.contains("not a dynamic executable") || told.contains("statically linked"), "{told}");
        let sections = done(Command::new("readelf").args(["-S", "-W"]).arg(&file));
        assert!(!sections.contains(".symtab") && !sections.contains(".debug_info"), "{sections}");
    }
}

#[test]
fn a_server_and_two_devices_sync_in_an_empty_root() {
    let root = empty_root();
    let place = root.path();
    let mut server = chroot(place, "/piecewise-server");
    server.args(["serve", "--data", "/data", "--listen", "127.0.0.1:0", "--log-format", "json"]);
    let mut server = Running(server.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let address = address(&mut server.0);
    sql(
        &place.join("app.db"),
        "PRAGMA journal_mode = WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'kept')",
    );
    let device = |home: &str, arguments: &[&str]| {
        done(chroot(place, "/piecewise").env("PIECEWISE_HOME", home).args(arguments))
    };
    let invite = |place: &Path| {
        let mut command = chroot(place, "/piecewise-server");
        done(command.args(["invite", "--data", "/data", "--grant", "app/*=write"])).trim().to_owned()
    };
    device("/laptop", &["join", &invite(place)]);
    device("/laptop", &["track", "/app.db", "t", "--as", "app"]);
    device("/laptop", &["sync", "/app.db"]);
    // By a name: how names are looked up is in the binary, too.
    std::fs::create_dir(place.join("etc")).unwrap();
    std::fs::write(place.join("etc/hosts"), "127.0.0.1 sync.test\n").unwrap();
    let by_name = format!("ws://sync.test:{}", address.rsplit_once(':').unwrap().1);
    device("/phone", &["join", &invite(place), "--address", &by_name]);
    device("/phone", &["clone", "app", "/phone.db"]);
    assert_eq!(query(&place.join("phone.db"), "SELECT v FROM t"), ["Text(\"kept\")"]);
    sql(&place.join("phone.db"), "UPDATE t SET v = 'edited'");
    device("/phone", &["sync", "/phone.db"]);
    device("/laptop", &["sync", "/app.db"]);
    assert_eq!(query(&place.join("app.db"), "SELECT v FROM t"), ["Text(\"edited\")"]);
    let page = get(&address, "/");
    assert!(page.code == 200 && page.body.contains("Piecewise board"), "{page:?}");
    let engine = request(&address, "HEAD", "/piecewise/engine/piecewise_wasm_bg.wasm", &[]);
    assert_eq!(engine.code, 200, "the engine of browsers is in it");
}

/// Does what the lines of the Containerfile say, in a folder instead of an image.
#[test]
fn the_container_holds_all_that_it_needs() {
    let context = dist().join("container");
    let file = std::fs::read_to_string(context.join("Containerfile")).unwrap();
    let root = tempfile::tempdir().unwrap();
    let (mut environment, mut user, mut command) = (vec![], String::new(), vec![]);
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "COPY" => {
                let mut words: Vec<_> = rest.split(' ').collect();
                let owner = words[0].strip_prefix("--chown=").map(str::to_owned);
                words.drain(..usize::from(owner.is_some()));
                let target = words.pop().unwrap();
                let place = root.path().join(target.trim_matches('/'));
                for word in words {
                    let from = context.join(word);
                    match (from.is_dir(), target.ends_with('/')) {
                        (true, _) => std::fs::create_dir_all(&place).unwrap(),
                        (false, true) => {
                            std::fs::create_dir_all(&place).unwrap();
                            std::fs::copy(from, place.join(word)).unwrap();
                        }
                        (false, false) => drop(std::fs::copy(from, &place).unwrap()),
                    }
                }
                if let Some(owner) = owner {
                    done(Command::new("chown").arg("-R").arg(owner).arg(&place));
                }
            }
            "ENV" => environment.push(rest.split_once('=').unwrap()),
            "USER" => user = rest.to_owned(),
            "ENTRYPOINT" | "CMD" => command.extend(serde_json::from_str::<Vec<String>>(rest).unwrap()),
            "FROM" => assert_eq!(rest, "scratch"),
            "VOLUME" | "EXPOSE" | "STOPSIGNAL" | "" => {}
            other => panic!("{other}: what does it do?"),
        }
    }
    let run = |environment: &[(&str, &str)]| {
        let mut command = Command::new(chroot_program());
        command.arg(format!("--userspec={user}")).arg(root.path()).env_clear();
        command.envs(environment.iter().copied());
        command
    };
    // A port that is free: the image's own may be taken here.
    let environment: Vec<_> = environment
        .into_iter()
        .map(|(name, value)| if name == "PIECEWISE_LISTEN" { (name, "127.0.0.1:0") } else { (name, value) })
        .collect();
    let mut server = run(&environment);
    server.args(&command).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut server = Running(server.spawn().unwrap());
    let address = address(&mut server.0);
    assert_eq!(get(&address, "/healthz").code, 200);
    let invite = done(run(&environment).args([&command[0], "invite", "--grant", "app/*=write"]));
    assert!(invite.starts_with("piecewise1-"), "{invite}");
    let mode = std::fs::metadata(root.path().join("data/server.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    done(Command::new("kill").arg("-TERM").arg(server.0.id().to_string()));
    until("the server ends by itself", || server.0.try_wait().unwrap().is_some());
    assert!(server.0.wait().unwrap().success());
}

#[test]
fn the_script_installs_what_its_checksum_says_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let script = dist().join("install.sh");
    let install = |from: &str, prefix: &Path| {
        let mut command = Command::new("sh");
        command.arg(&script).args(["--from", from, "--prefix", text(prefix)]);
        command
    };
    for from in [text(&dist()).to_owned(), format!("file://{}", text(&dist()))] {
        let prefix = folder.path().join("with space");
        let said = done(&mut install(&from, &prefix));
        assert!(said.starts_with("installed piecewise "), "{said}");
        done(Command::new(prefix.join("bin/piecewise-server")).arg("--version"));
        for file in [
            "share/man/man1/piecewise-sync.1.gz",
            "share/bash-completion/completions/piecewise",
            "share/zsh/site-functions/_piecewise-server",
            "share/fish/vendor_completions.d/piecewise.fish",
            "share/doc/piecewise/LICENSE-MIT",
        ] {
            assert!(prefix.join(file).exists(), "{file}");
        }
        std::fs::remove_dir_all(&prefix).unwrap();
    }
    // A byte of the archive is another.
    let forged = folder.path().join("forged");
    std::fs::create_dir(&forged).unwrap();
    let archive = made("piecewise-0", ".tar.gz");
    let mut bytes = std::fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(forged.join(archive.file_name().unwrap()), bytes).unwrap();
    std::fs::copy(dist().join("SHA256SUMS"), forged.join("SHA256SUMS")).unwrap();
    let prefix = folder.path().join("never");
    let said = install(text(&forged), &prefix).output().unwrap();
    let err = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success() && err.contains("nothing was installed"), "{err}");
    assert!(!prefix.exists());
    let said = install(text(folder.path()), &prefix).output().unwrap();
    assert!(!said.status.success() && !prefix.exists());
    done(Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(dist()));
}

#[test]
fn the_packages_hold_binaries_manuals_completions_and_a_unit_that_systemd_takes() {
    let root = tempfile::tempdir().unwrap();
    for (package, own, others) in [
        ("piecewise_", "piecewise", "piecewise-server"),
        ("piecewise-server_", "piecewise-server", "piecewise"),
    ] {
        let file = made(package, ".deb");
        let listed = done(Command::new("dpkg-deb").arg("--contents").arg(&file));
        for path in [
            format!("./usr/bin/{own}\n"),
            format!("./usr/share/man/man1/{own}.1.gz\n"),
            format!("./usr/share/bash-completion/completions/{own}\n"),
        ] {
            assert!(listed.contains(&path), "{path}: {listed}");
        }
        assert!(!listed.contains(&format!("./usr/bin/{others}\n")), "{listed}");
        let needs = done(Command::new("dpkg-deb").args(["--field"]).arg(&file).arg("Depends"));
        assert_eq!(needs.trim(), "", "it needs nothing");
        done(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(root.path()));
    }
    assert!(root.path().join("etc/default/piecewise-server").exists());
    // Not every machine has systemd.
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let units = root.path().join("usr/lib/systemd/system");
    let drop_in = units.join("piecewise-server.service.d");
    std::fs::create_dir_all(&drop_in).unwrap();
    std::fs::copy(
        root.path().join("usr/share/doc/piecewise-server/examples/tls.conf"),
        drop_in.join("tls.conf"),
    )
    .unwrap();
    let place = format!("--root={}", text(root.path()));
    let mut security = Command::new("systemd-analyze");
    security.args([
        "security",
        "--offline=true",
        "--no-pager",
        "--threshold=15",
        &place,
        "piecewise-server.service",
    ]);
    let security = done(&mut security);
    assert!(security.contains("Overall exposure level"), "{security}");
    // It looks for the program where it would be installed.
    let unit = units.join("piecewise-server.service");
    let program = root.path().join("usr/bin/piecewise-server");
    let there = std::fs::read_to_string(&unit).unwrap().replace("/usr/bin/piecewise-server", text(&program));
    std::fs::write(&unit, there).unwrap();
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    let err = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && err.is_empty(), "{err}");
}
