//! `admin`: a link to a server's status page, asked for over the encrypted connection.

use super::{block_on, open};
use crate::args::AdminArgs;
use crate::connection::connect;
use crate::home::{Home, KnownServer};
use crate::report::{Failure, code};
use piecewise_core::replica::ReplicaError;
use piecewise_server::say;
use piecewise_server::terminal::{is_json, news, result};
use serde_json::json;
use std::path::Path;

pub(crate) fn run(args: &AdminArgs) -> Result<(), Failure> {
    let home = Home::open()?;
    let server = meant(&home, args.server.as_deref())?;
    let secret = block_on(async {
        let mut connection = connect(&home, &server, None).await?;
        let mut talk = connection.witnessed().await?;
        let secret = talk.ask_status().await?;
        drop(talk);
        connection.close().await;
        Ok(secret)
    })?;
    let Some(secret) = secret else {
        return Err(Failure::new("this device administers nothing on the server")
            .hint("on the server, run `piecewise-server grant KEY 'DATABASE/*=admin'`, or `piecewise-server status-link`")
            .code(code::NOT_GRANTED));
    };
    let url = piecewise_server::link_url(&server.address, &secret);
    result(|| json!({ "url": url, "opens_once_within_seconds": 300 }), || say!("{url}"));
    if !is_json() {
        news("it opens once, within five minutes");
    }
    Ok(())
}

/// The server of a file, or the one that is named.
fn meant(home: &Home, named: Option<&str>) -> Result<KnownServer, Failure> {
    match named.map(Path::new).filter(|path| path.exists()) {
        None => home.choose(named).cloned(),
        Some(file) => {
            let replica = open(home, file)?;
            let binding = replica.binding().ok_or(ReplicaError::NotBound)?;
            home.of_realm(&binding.realm).cloned()
        }
    }
}
