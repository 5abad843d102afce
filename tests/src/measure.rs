//! Measure: what the benchmarks share: arguments, times, and what the system knows of a process.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a process that runs is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Ticks of the kernel's clock for CPU time in a second; the same on every Linux machine that people use.
const TICKS: f64 = 100.0;

/// The page to write, if the first argument names one.
pub fn page_path() -> Option<PathBuf> {
    std::env::args().nth(1).filter(|a| !a.starts_with('-')).map(PathBuf::from)
}

/// The number after an argument such as `--rows`.
pub fn argument(name: &str) -> Option<u64> {
    text_argument(name).map(|n| n.replace('_', "").parse().expect("a number"))
}

/// The text after an argument.
pub fn text_argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|a| a != name).nth(1)
}

/// Whether an argument was given.
pub fn flag(name: &str) -> bool {
    std::env::args().any(|a| a == name)
}

/// Times of one thing done several times, shown as the median with minimum and maximum.
#[derive(Debug, Clone, Default)]
pub struct Times(Vec<Duration>);

impl FromIterator<Duration> for Times {
    fn from_iter<T: IntoIterator<Item = Duration>>(times: T) -> Self {
        let mut times: Vec<_> = times.into_iter().collect();
        times.sort();
        Self(times)
    }
}

impl Times {
    /// The time below which `percent` of them are.
    pub fn percentile(&self, percent: usize) -> Duration {
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or_default()
    }

    /// The median.
    pub fn median(&self) -> Duration {
        self.percentile(50)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("–"),
            [only] => f.write_str(&time(*only)),
            [min, .., max] => write!(f, "{} ({} to {})", time(self.median()), time(*min), time(*max)),
        }
    }
}

/// A time as people read it.
pub fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 1.0 => format!("{:.1} ms", s * 1000.0),
        s if s < 600.0 => format!("{s:.1} s"),
        s => format!("{:.1} min", s / 60.0),
    }
}

/// A number of bytes as people read it.
pub fn size(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 10_000.0 => format!("{bytes} B"),
        b if b < 1e7 => format!("{:.1} kB", b / 1e3),
        b if b < 1e10 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.2} GB", b / 1e9),
    }
}

/// What the system knows of a process now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Memory it holds, in KiB.
    pub memory_kib: u64,
    /// The most it has held, in KiB.
    pub peak_kib: u64,
    /// Files, sockets and watches that are open.
    pub handles: u64,
    /// Threads.
    pub threads: u64,
    /// CPU time so far.
    pub cpu: Duration,
}

impl Usage {
    /// Of the process with this number; None once it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
        };
        let cpu = Cpu::at(&format!("/proc/{pid}/stat"), OWN)?;
        Some(Self {
            memory_kib: field("VmRSS")?,
            peak_kib: field("VmHWM")?,
            handles: std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
            threads: field("Threads")?,
            cpu: cpu.user + cpu.system,
        })
    }

    /// Memory now, as people read it.
    pub fn memory(&self) -> String {
        format!("{} MiB", self.memory_kib >> 10)
    }

    /// The most memory, as people read it.
    pub fn peak(&self) -> String {
        format!("{} MiB", self.peak_kib >> 10)
    }
}

/// CPU time of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cpu {
    /// In its own code.
    pub user: Duration,
    /// In the kernel, for it.
    pub system: Duration,
}

/// Where the times of a process stand behind its name in `stat`, and those of its children that have ended.
const OWN: usize = 11;
const CHILDREN: usize = 13;

impl Cpu {
    /// Of a process that runs.
    pub fn of(pid: u32) -> Self {
        Self::at(&format!("/proc/{pid}/stat"), OWN).unwrap_or_default()
    }

    /// Of all processes that this one has started and seen end.
    pub fn of_children() -> Self {
        Self::at("/proc/self/stat", CHILDREN).unwrap_or_default()
    }

    fn at(path: &str, place: usize) -> Option<Self> {
        let stat = std::fs::read_to_string(path).ok()?;
        // The command's name, in parentheses, may hold spaces.
        let mut ticks = stat.rsplit(')').next()?.split_whitespace().skip(place);
        let mut next = || Some(Duration::from_secs_f64(ticks.next()?.parse::<f64>().ok()? / TICKS));
        Some(Self { user: next()?, system: next()? })
    }
}

impl std::ops::Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} ms, system {} ms", self.user.as_millis(), self.system.as_millis())
    }
}

/// A command that ran to its end.
#[derive(Debug, Clone, Default)]
pub struct Ran {
    /// From start to end.
    pub time: Duration,
    /// Its memory and CPU time, as they were seen last.
    pub usage: Usage,
    /// Whether it succeeded.
    pub success: bool,
    /// What it wrote to its output.
    pub out: String,
    /// What it wrote to its error output.
    pub err: String,
}

/// Runs a command to its end and looks at what it uses.
pub fn run(command: &mut Command) -> Ran {
    let started = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let out = read(child.stdout.take().expect("it is piped"));
    let err = read(child.stderr.take().expect("it is piped"));
    let mut usage = Usage::default();
    let status = loop {
        usage = Usage::of(child.id()).unwrap_or(usage);
        match child.try_wait().expect("it can be waited for") {
            Some(status) => break status,
            None => std::thread::sleep(LOOK_EVERY),
        }
    };
    let time = started.elapsed();
    let text = |pipe: JoinHandle<_>| pipe.join().expect("it is read");
    Ran { time, usage, success: status.success(), out: text(out), err: text(err) }
}

fn read(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("output is UTF-8");
        text
    })
}

/// Runs a command that must succeed.
#[track_caller]
pub fn must(command: &mut Command) -> Ran {
    let ran = run(command);
    assert!(ran.success, "{command:?} fails: {}{}", ran.out, ran.err);
    ran
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_show_the_median_with_minimum_and_maximum() {
        let times: Times = [5, 1, 2, 4, 3].map(Duration::from_millis).into_iter().collect();
        assert_eq!(times.to_string(), "3.0 ms (1.0 ms to 5.0 ms)");
        assert_eq!(times.percentile(99), Duration::from_millis(5));
        assert_eq!(Times::default().to_string(), "–");
    }

    #[test]
    fn the_system_tells_what_this_process_uses() {
        let usage = Usage::of(std::process::id()).expect("it runs");
        assert!(usage.memory_kib > 0 && usage.peak_kib >= usage.memory_kib);
        assert!(usage.handles > 0 && usage.threads > 0);
        assert_eq!(Usage::of(u32::MAX), None);
    }
}
