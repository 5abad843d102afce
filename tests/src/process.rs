//! Process: the real binaries, started and stopped as a user would.

use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything that should happen may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The path of a binary of this workspace, built before.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|f| f.join(name)).find(|p| p.exists());
    found
        .unwrap_or_else(|| panic!("{name} is not built; run `cargo build --workspace` (as `make test` does)"))
}

/// A path as text, as commands take it.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// What a command said and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it wrote to its output.
    pub out: String,
    /// What it wrote to its error output.
    pub err: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}\n{}{}", self.code, self.out, self.err)
    }
}

fn run(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Its data folder.
    pub data: PathBuf,
    /// Where it listens, as HOST:PORT.
    pub listen: String,
    log: Receiver<String>,
}

impl Server {
    /// Starts a server on a port of 127.0.0.1 that is free.
    pub fn start(data: &Path) -> Self {
        Self::start_at(data, "127.0.0.1:0", &[])
    }

    /// Starts a server at an address, with more arguments.
    pub fn start_at(data: &Path, listen: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary("piecewise-server"));
        command.arg("serve").arg("--data").arg(data).args(["--listen", listen, "--log-format", "json"]);
        command.args(arguments).env_remove("PIECEWISE_LOG").stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the server starts");
        let log = lines(child.stderr.take().expect("it is piped"));
        let mut listen = None;
        let mut seen = String::new();
        while listen.is_none() {
            let Ok(line) = log.recv_timeout(PATIENCE) else { panic!("the server does not listen:\n{seen}") };
            let fields: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            listen = fields["fields"]["address"].as_str().map(str::to_owned);
            seen.push_str(&line);
            seen.push('\n');
        }
        Self { child, data: data.to_owned(), listen: listen.unwrap_or_default(), log }
    }

    /// Starts a server at an address or, if another program listens there, on a port that is free.
    pub fn start_or_elsewhere(data: &Path, listen: &str) -> Self {
        let free = std::net::TcpListener::bind(listen).is_ok();
        Self::start_at(data, if free { listen } else { "127.0.0.1:0" }, &[])
    }

    /// Waits until it ends by itself, such as by Ctrl-C in its terminal; its exit code.
    pub fn wait(mut self) -> i32 {
        self.child.wait().expect("it can be waited for").code().unwrap_or(-1)
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An invite with these grants.
    pub fn invite(&self, grants: &[&str]) -> String {
        let mut command = Command::new(binary("piecewise-server"));
        command.arg("invite").arg("--data").arg(&self.data);
        for grant in grants {
            command.args(["--grant", grant]);
        }
        let said = run(&mut command);
        assert_eq!(said.code, 0, "{said}");
        said.out.trim().to_owned()
    }

    /// Runs `piecewise-server` with its data folder.
    pub fn run(&self, command: &str, arguments: &[&str]) -> Said {
        run(Command::new(binary("piecewise-server"))
            .arg(command)
            .arg("--data")
            .arg(&self.data)
            .args(arguments))
    }

    /// Runs `piecewise-server log …`; it works on the data folder of a server that has stopped as well.
    pub fn log(data: &Path, arguments: &[&str]) -> Said {
        let (what, rest) = arguments.split_first().expect("what to do with the log");
        run(Command::new(binary("piecewise-server")).args(["log", what, "--data"]).arg(data).args(rest))
    }

    /// Runs `piecewise-server` with any data folder.
    pub fn command(data: &Path, arguments: &[&str]) -> Said {
        run(Command::new(binary("piecewise-server")).args(arguments).arg("--data").arg(data))
    }

    /// The path of a database's file.
    pub fn file(&self, database: &str) -> PathBuf {
        self.data.join(format!("{database}.db"))
    }

    /// Waits for a line of the log that has this text.
    pub fn wait_for_log(&self, text: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("the server's log never said {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The lines of the log that nobody has read yet.
    pub fn log_so_far(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    /// Asks it to stop, and waits until it has; its exit code.
    pub fn stop(mut self) -> i32 {
        terminate(&self.child);
        self.child.wait().expect("it can be waited for").code().unwrap_or(-1)
    }

    /// Ends it at once, as a power cut would end the process.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A machine with a home of its own, on which `piecewise` runs.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its `PIECEWISE_HOME`.
    pub home: PathBuf,
}

impl Device {
    /// A device that has joined a server with these grants.
    pub fn joined(home: &Path, server: &Server, grants: &[&str]) -> Self {
        let device = Self { home: home.to_owned() };
        device.must(["join", &server.invite(grants)]);
        device
    }

    /// The command `piecewise` on this device.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary("piecewise"));
        command.env("PIECEWISE_HOME", &self.home);
        command
    }

    /// Runs `piecewise`.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Said {
        run(self.command().args(arguments))
    }

    /// Runs `piecewise`, which must succeed; its output.
    #[track_caller]
    pub fn must(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "{said}");
        said.out
    }

    /// Runs `piecewise … --json`, which must succeed.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let out = self.must(arguments.iter().chain(&["--json"]));
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// Starts `piecewise watch FILE` and waits until it is level.
    pub fn watch(&self, file: &Path) -> Watch {
        let watch = self.start_watch(file);
        watch.next_level();
        watch
    }

    /// Starts `piecewise watch FILE --every TIME`.
    pub fn watch_every(&self, file: &Path, time: &str) -> Watch {
        self.start_watch_with(file, &["--every", time])
    }

    /// Starts `piecewise watch` on a file or a folder.
    pub fn start_watch(&self, file: &Path) -> Watch {
        self.start_watch_with(file, &[])
    }

    fn start_watch_with(&self, file: &Path, arguments: &[&str]) -> Watch {
        let mut command = self.command();
        command.arg("watch").arg(file).arg("--json").args(arguments).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let out = lines(child.stdout.take().expect("it is piped"));
        let err = lines(child.stderr.take().expect("it is piped"));
        Watch { child, out, err }
    }
}

/// A `piecewise watch` that runs until it is dropped.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Watch {
    /// Waits until it says again that both sides are level; what moved.
    pub fn next_level(&self) -> serde_json::Value {
        let line = self.out.recv_timeout(PATIENCE);
        let line =
            line.unwrap_or_else(|_| panic!("not level: {:?}", self.err.try_iter().collect::<Vec<_>>()));
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// What it says of the next time both sides are level, if that comes soon.
    pub fn level_within(&self, time: Duration) -> Option<serde_json::Value> {
        let line = self.out.recv_timeout(time).ok()?;
        Some(serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}")))
    }

    /// Waits for a line of its error output that has this text.
    pub fn wait_for_error(&self, text: &str) {
        loop {
            let line = self.err.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it never said {text:?}"));
            if line.contains(text) {
                return;
            }
        }
    }

    /// The lines of its error output that nobody has read yet.
    pub fn errors_so_far(&self) -> Vec<String> {
        self.err.try_iter().collect()
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and waits until it has; its exit code.
    pub fn stop(mut self) -> i32 {
        terminate(&self.child);
        self.child.wait().expect("it can be waited for").code().unwrap_or(-1)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn terminate(child: &Child) {
    let sent = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
    assert!(sent.is_ok_and(|s| s.success()), "the signal is sent");
}

/// The lines of a pipe, read as they come so that the writer never waits.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Also when nobody listens any more: the process would stop at a full pipe.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// Tries until it is so; each try takes its own time.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
    }
}
