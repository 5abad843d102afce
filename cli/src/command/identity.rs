//! `identity`: this device's key and the servers it has joined; `forget` drops one of them.

use crate::args::ForgetArgs;
use crate::home::{Home, KnownServer};
use crate::report::{Failure, code};
use piecewise_server::say;
use piecewise_server::terminal::{labelled, note, result};
use serde_json::json;

pub(crate) fn run() -> Result<(), Failure> {
    let home = Home::open()?;
    let key = home.identity()?.peer_id();
    let as_json = || {
        let server = |s: &KnownServer| json!({ "address": s.address, "key": s.key().to_string() });
        let servers: Vec<_> = home.servers().iter().map(server).collect();
        json!({ "key": key.to_string(), "home": home.folder(), "servers": servers })
    };
    result(as_json, || {
        let mut lines = vec![("key", key.to_string()), ("home", home.folder().display().to_string())];
        lines.extend(home.servers().iter().map(|s| ("server", format!("{}  {}", s.address, s.key()))));
        labelled(&lines);
    });
    Ok(())
}

pub(crate) fn forget(args: &ForgetArgs) -> Result<(), Failure> {
    let mut home = Home::open()?;
    // Of several at one address each may be the one that is not needed any more.
    let named: Vec<_> = home.servers().iter().filter(|s| s.address == args.server).collect();
    if named.len() > 1 {
        let keys: Vec<_> = named.iter().map(|s| s.key().to_string()[..8].to_owned()).collect();
        return Err(Failure::new(format!(
            "{} servers were joined at {}: {}",
            named.len(),
            args.server,
            keys.join(", ")
        ))
        .hint("say which by how its key begins; the last of them is the one that answers there now")
        .code(code::WHICH_SERVER));
    }
    let server = home.choose(Some(&args.server))?.clone();
    home.forget(&server)?;
    let (address, key) = (&server.address, server.key());
    result(
        || json!({ "forgotten": address, "server_key": key.to_string() }),
        || say!("forgot {address} ({})", key.short()),
    );
    note(
        "files and folders that belong to it keep their rows and what waits to be sent, and do not sync until it is joined \
         again; `piecewise-server revoke` there ends what this device may do",
    );
    Ok(())
}
