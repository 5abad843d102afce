//! The commands, one file each, and what they share: opening a file, connecting to its server.

pub(crate) mod admin;
pub(crate) mod check;
pub(crate) mod clone;
pub(crate) mod compare;
pub(crate) mod conflicts;
pub(crate) mod folder;
pub(crate) mod held;
pub(crate) mod history;
pub(crate) mod identity;
pub(crate) mod join;
pub(crate) mod log;
pub(crate) mod refused;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod track;
pub(crate) mod types;
pub(crate) mod untrack;
pub(crate) mod wait;

use crate::connection::{Connection, connect};
use crate::home::Home;
use crate::report::Failure;
use crate::witness::Proven;
use piecewise_core::id::{PeerId, SegmentId};
use piecewise_core::replica::{Replica, ReplicaError};
use std::path::Path;

/// Opens a file that exists.
fn open(home: &Home, file: &Path) -> Result<Replica, Failure> {
    if !file.exists() {
        return Err(Failure::new(format!("there is no file {}", file.display()))
            .hint("check the path; `piecewise clone DATABASE FILE` makes a new file")
            .code(crate::report::code::NO_FILE)
            .may_return());
    }
    let opened = Replica::open(file, false, home.identity()?, piecewise_server::chance());
    opened.map_err(|e| about(file, e))
}

/// Opens a file that belongs to a database.
fn open_bound(home: &Home, file: &Path) -> Result<Replica, Failure> {
    let replica = open(home, file)?;
    match replica.binding() {
        Some(_) => Ok(replica),
        None => Err(about(file, ReplicaError::NotBound)),
    }
}

/// An error with the file that it is about.
fn about(file: &Path, error: ReplicaError) -> Failure {
    let failure = Failure::from(error);
    Failure { message: format!("{}: {}", file.display(), failure.message), ..failure }
}

/// Connects to the server that a file belongs to.
async fn connect_for(home: &Home, replica: &Replica) -> Result<(Connection, PeerId), Failure> {
    let binding = replica.binding().ok_or(ReplicaError::NotBound)?;
    let server = home.of_realm(&binding.realm)?;
    Ok((connect(home, server, None).await?, server.key()))
}

/// Asks the server for the proof that segments are in its log; and the size of the checkpoint that proves them.
fn prove(
    home: &Home,
    replica: &Replica,
    segments: &[SegmentId],
) -> Result<(Vec<Option<Proven>>, u64), Failure> {
    block_on(async {
        let (mut connection, _) = connect_for(home, replica).await?;
        let mut talk = connection.witnessed().await?;
        let proven = talk.prove(segments).await?;
        let size = talk.witness.size();
        drop(talk);
        connection.close().await;
        Ok((proven, size))
    })
}

/// Runs a future with a thread beside it for sockets and encryption.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|e| Failure::new(format!("no threads: {e}")))?.block_on(work)
}
