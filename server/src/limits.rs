//! Limits: what connections may take of this machine. The settings, and the gate at which connections are counted.
//!
//! `disk` guards the file system, `backlog` memory, `ledger` what each peer stores.

use clap::Args;
use piecewise_core::segment::{PLAIN_LEN_MAX, ROW_LEN_MAX};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of bytes, as a plain number or with k, M, G or T behind it (powers of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Bytes(pub u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Number(u64),
    Text(String),
}

impl TryFrom<Raw> for Bytes {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        match raw {
            Raw::Number(n) => Ok(Self(n)),
            Raw::Text(text) => text.parse(),
        }
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a size; write bytes, or such as 256M or 2G");
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match text[digits.len()..].trim_end_matches("iB").trim_end_matches('B') {
            "" => 0,
            "k" | "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => return Err(bad()),
        };
        let n: u64 = digits.parse().map_err(|_| bad())?;
        n.checked_mul(1 << shift).map(Self).ok_or_else(bad)
    }
}

/// Limits as settings; in a settings file they stand under `[limits]`. 0 is no limit, where that is said.
#[derive(Debug, Default, Clone, Args, Deserialize)]
#[command(next_help_heading = "Limits")]
#[serde(deny_unknown_fields, default)]
pub struct LimitArgs {
    /// Connections at once; 0: no limit [default: 20000].
    #[arg(long, env = "PIECEWISE_CONNECTIONS_MAX", value_name = "N")]
    pub connections_max: Option<usize>,
    /// Connections at once from one address, or one /64 of IPv6; 0: no limit, as behind a proxy [default: 1000].
    #[arg(long, env = "PIECEWISE_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    pub connections_per_address: Option<usize>,
    /// Connections at once that have not proven yet who they are; more wait in line [default: 512].
    #[arg(long, env = "PIECEWISE_HANDSHAKES_MAX", value_name = "N")]
    pub handshakes_max: Option<usize>,
    /// Seconds in which a connection must have proven who it is, or have asked for a page [default: 10].
    #[arg(long, env = "PIECEWISE_HANDSHAKE_SECONDS", value_name = "N")]
    pub handshake_seconds: Option<u64>,
    /// The largest row, from 1M to 64M; a larger one is refused, and stays with its writer [default: 64M].
    #[arg(long, env = "PIECEWISE_ROW_BYTES_MAX", value_name = "BYTES")]
    pub row_bytes_max: Option<Bytes>,
    /// Tables that one device may create; 0: no limit [default: 20000].
    #[arg(long, env = "PIECEWISE_CONTAINERS_PER_PEER", value_name = "N")]
    pub containers_per_peer: Option<u64>,
    /// Databases that one device may create; 0: no limit [default: 5000].
    #[arg(long, env = "PIECEWISE_DATABASES_PER_PEER", value_name = "N")]
    pub databases_per_peer: Option<u64>,
    /// Bytes of history that one device may store: uncompressed, with 100 for each change and 512 for each segment; what is over is
    /// refused; 0: no limit [default: 64G].
    #[arg(long, env = "PIECEWISE_BYTES_PER_PEER", value_name = "BYTES")]
    pub bytes_per_peer: Option<Bytes>,
    /// Databases whose files stay open; others are opened when they are needed [default: 64].
    #[arg(long, env = "PIECEWISE_OPEN_DATABASES", value_name = "N")]
    pub open_databases: Option<usize>,
    /// Bytes of the data folder's file system to leave free: with less, nothing is taken in until there is
    /// more again, while everything can be read; 0: no reserve [default: 256M].
    #[arg(long, env = "PIECEWISE_DISK_RESERVE", value_name = "BYTES")]
    pub disk_reserve: Option<Bytes>,
}

/// Limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address.
    pub per_address: usize,
    /// Connections at once that have not proven who they are.
    pub handshakes: usize,
    /// How long that may take.
    pub handshake_time: Duration,
    /// The largest row.
    pub row_bytes: usize,
    /// Containers that a peer may create.
    pub containers_per_peer: u64,
    /// Databases that a peer may create.
    pub databases_per_peer: u64,
    /// Bytes, uncompressed, that a peer may store.
    pub bytes_per_peer: u64,
    /// Databases whose files stay open.
    pub open_databases: usize,
    /// Bytes to leave free on the disk.
    pub disk_reserve: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            per_address: 1000,
            handshakes: 512,
            handshake_time: Duration::from_secs(10),
            row_bytes: ROW_LEN_MAX,
            containers_per_peer: 20_000,
            databases_per_peer: 5000,
            bytes_per_peer: 64 << 30,
            open_databases: 64,
            disk_reserve: 256 << 20,
        }
    }
}

impl LimitArgs {
    /// The limits, with those of a settings file behind flags and environment.
    pub fn resolve(self, file: Self) -> Result<Limits, String> {
        let default = Limits::default();
        let or_none = |n: u64| if n == 0 { u64::MAX } else { n };
        let count = |flag: Option<usize>, file: Option<usize>, default: usize| match flag.or(file) {
            Some(0) => usize::MAX,
            n => n.unwrap_or(default),
        };
        let handshakes = self.handshakes_max.or(file.handshakes_max).unwrap_or(default.handshakes);
        let seconds = self.handshake_seconds.or(file.handshake_seconds);
        let row = self.row_bytes_max.or(file.row_bytes_max).map_or(default.row_bytes as u64, |b| b.0);
        if !(PLAIN_LEN_MAX as u64..=ROW_LEN_MAX as u64).contains(&row) {
            return Err(format!("--row-bytes-max is {row}; it can be from 1M to 64M"));
        }
        if handshakes == 0 || handshakes > Semaphore::MAX_PERMITS || seconds == Some(0) {
            return Err("--handshakes-max and --handshake-seconds must be at least 1".into());
        }
        Ok(Limits {
            connections: count(self.connections_max, file.connections_max, default.connections),
            per_address: count(
                self.connections_per_address,
                file.connections_per_address,
                default.per_address,
            ),
            handshakes,
            handshake_time: seconds.map_or(default.handshake_time, Duration::from_secs),
            row_bytes: row as usize,
            containers_per_peer: self
                .containers_per_peer
                .or(file.containers_per_peer)
                .map_or(default.containers_per_peer, or_none),
            databases_per_peer: self
                .databases_per_peer
                .or(file.databases_per_peer)
                .map_or(default.databases_per_peer, or_none),
            bytes_per_peer: self
                .bytes_per_peer
                .or(file.bytes_per_peer)
                .map_or(default.bytes_per_peer, |b| or_none(b.0)),
            open_databases: self
                .open_databases
                .or(file.open_databases)
                .unwrap_or(default.open_databases)
                .max(1),
            disk_reserve: self.disk_reserve.or(file.disk_reserve).map_or(default.disk_reserve, |b| b.0),
        })
    }
}

/// A limit that was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Hit {
    Connections,
    Address,
    Handshakes,
    HandshakeTime,
    Stalled,
    Row,
    Containers,
    Databases,
    Bytes,
    Disk,
}

impl Hit {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Connections,
        Self::Address,
        Self::Handshakes,
        Self::HandshakeTime,
        Self::Stalled,
        Self::Row,
        Self::Containers,
        Self::Databases,
        Self::Bytes,
        Self::Disk,
    ];

    /// Its name in figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "connections_per_address",
            Self::Handshakes => "handshakes",
            Self::HandshakeTime => "handshake_time",
            Self::Stalled => "stalled",
            Self::Row => "row_bytes",
            Self::Containers => "containers_per_peer",
            Self::Databases => "databases_per_peer",
            Self::Bytes => "bytes_per_peer",
            Self::Disk => "disk_reserve",
        }
    }
}

/// Where connections are counted as they come and go.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    inside: Mutex<Inside>,
    strangers: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Inside {
    connections: usize,
    by_address: HashMap<IpAddr, Here>,
}

/// The connections of one address.
#[derive(Debug)]
struct Here {
    connections: usize,
    /// Its share of the places among strangers.
    strangers: Arc<Semaphore>,
}

/// A place among the strangers, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _share: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let strangers = Arc::new(Semaphore::new(limits.handshakes));
        Arc::new(Self { limits, inside: Mutex::default(), strangers })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, or says which limit it is over.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr) -> Result<Pass, Hit> {
        let address = counted(from);
        let mut inside = self.inside();
        if inside.connections >= self.limits.connections {
            return Err(Hit::Connections);
        }
        let here = inside.by_address.entry(address).or_insert_with(|| Here {
            connections: 0,
            strangers: Arc::new(Semaphore::new(self.limits.handshakes.div_ceil(2))),
        });
        if here.connections >= self.limits.per_address {
            return Err(Hit::Address);
        }
        here.connections += 1;
        inside.connections += 1;
        Ok(Pass { gate: self.clone(), address })
    }

    /// Waits in line for a place among the strangers; held until it is known who is there. Those of one address wait for each
    /// other first, so that it cannot take the whole line.
    pub(crate) async fn stranger(&self, pass: &Pass) -> Result<Place, Hit> {
        let share = self.inside().by_address.get(&pass.address).map(|here| here.strangers.clone());
        let place = async {
            let share = share.ok_or(Hit::Handshakes)?.acquire_owned().await.map_err(|_| Hit::Handshakes)?;
            let all = self.strangers.clone().acquire_owned().await.map_err(|_| Hit::Handshakes)?;
            Ok(Place { _share: share, _all: all })
        };
        tokio::time::timeout(self.limits.handshake_time, place).await.unwrap_or(Err(Hit::Handshakes))
    }

    /// How long a stranger may take.
    pub(crate) fn handshake_time(&self) -> Duration {
        self.limits.handshake_time
    }

    /// Connections inside.
    pub(crate) fn connections(&self) -> usize {
        self.inside().connections
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.gate.inside();
        inside.connections -= 1;
        if let Some(here) = inside.by_address.get_mut(&self.address) {
            here.connections -= 1;
            if here.connections == 0 {
                inside.by_address.remove(&self.address);
            }
        }
    }
}

/// An address as it is counted: who has one of IPv6 mostly has a whole /64.
fn counted(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units_and_nonsense_is_refused() {
        let size = |text: &str| text.parse::<Bytes>().map(|b| b.0);
        assert_eq!(
            (size("17"), size("2k"), size("3MiB"), size("1G")),
            (Ok(17), Ok(2048), Ok(3 << 20), Ok(1 << 30))
        );
        for bad in ["", "M", "1.5G", "-1", "1X", "99999999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_come_before_the_file_and_zero_is_no_limit() {
        let flags = LimitArgs { connections_max: Some(3), ..Default::default() };
        let file: LimitArgs =
            toml::from_str("connections_max = 5\nconnections_per_address = 0\ndisk_reserve = \"1G\"")
                .expect("it reads");
        let limits = flags.resolve(file).expect("limits");
        assert_eq!((limits.connections, limits.per_address, limits.disk_reserve), (3, usize::MAX, 1 << 30));
        assert!(toml::from_str::<LimitArgs>("conections_max = 5").is_err());
        let small = LimitArgs { row_bytes_max: Some(Bytes(10)), ..Default::default() };
        assert!(small.resolve(LimitArgs::default()).is_err());
    }

    #[tokio::test]
    async fn one_address_cannot_take_the_whole_line_of_strangers() {
        let limits = Limits { handshakes: 4, handshake_time: Duration::from_millis(20), ..Limits::default() };
        let gate = Gate::new(limits);
        let pass = |text: &str| gate.enter(text.parse().expect("an address")).expect("it is let in");
        let mut places = vec![];
        for n in 0..6 {
            let pass = pass("192.0.2.1");
            let place = gate.stranger(&pass).await;
            assert_eq!(place.is_ok(), n < 2);
            places.push((place, pass));
        }
        assert!(gate.stranger(&pass("192.0.2.2")).await.is_ok());
    }

    #[test]
    fn a_connection_that_leaves_makes_room_and_a_whole_64_of_ipv6_counts_as_one() {
        let gate = Gate::new(Limits { connections: 3, per_address: 1, ..Limits::default() });
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let first = gate.enter(address("2001:db8::1")).expect("it is let in");
        assert_eq!(gate.enter(address("2001:db8::2")).err(), Some(Hit::Address));
        let _second = gate.enter(address("2001:db8:0:1::1")).expect("it is let in");
        let _third = gate.enter(address("127.0.0.1")).expect("it is let in");
        assert_eq!(gate.enter(address("::ffff:127.0.0.1")).err(), Some(Hit::Connections));
        drop(first);
        assert_eq!(gate.enter(address("::ffff:127.0.0.1")).err(), Some(Hit::Address));
        gate.enter(address("2001:db8::2")).expect("there is room again");
    }
}
