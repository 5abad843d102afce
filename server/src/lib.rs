//! Piecewise server: the side that accepts connections and keeps every table in a SQLite file.
//!
//! `listener` accepts sockets, `web` answers their requests within a `deadline`, `connection` is one WebSocket, `databases` knows which files are open, `database` is one with its thread, `outbox` what it gives a connection to send,
//! `surveys` answers for all of them;
//! `supervisor` knows who may do what, `rights` has it at hand, `admission` lets devices in; `log` is its signed record, `audit` checks it; `commits` hears of writes by other programs,
//! `turns` lets them have the write lock as well, `scrubber` checks tables against their documents, `checkpoints` brings what was written from the WAL into the file.
//! `limits`, `disk`, `backlog` and `ledger` keep what peers take within bounds; `metrics`, `report` and `status` tell how it goes;
//! `say` and `terminal` write what people read.

mod admission;
pub mod audit;
pub mod backlog;
pub mod checkpoints;
pub mod commits;
pub mod config;
mod connection;
mod database;
pub mod databases;
mod deadline;
pub mod disk;
mod ledger;
pub mod limits;
pub mod listener;
pub mod log;
mod metrics;
mod outbox;
mod report;
mod rights;
pub mod say;
pub mod scrubber;
mod status;
pub mod supervisor;
mod surveys;
pub mod terminal;
mod tls;
pub mod turns;
mod upkeep;
mod web;

pub use connection::websocket_config;
use piecewise_core::id::Timestamp;
pub use status::{StatusLink, link_url};
use std::time::{SystemTime, UNIX_EPOCH};

/// The time by this machine's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}

/// A time as the standard library has it.
pub fn system_time(time: Timestamp) -> SystemTime {
    UNIX_EPOCH + std::time::Duration::from_millis(time.0.min(Timestamp::MAX.0))
}

/// 32 bytes that cannot be guessed.
pub fn chance() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
