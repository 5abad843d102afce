//! `identity`: this device's key and the servers it has joined.

use crate::args::JsonArgs;
use crate::home::Home;
use crate::output::print_json;
use crate::report::Failure;
use piecewise_server::say;
use serde_json::json;

pub(crate) fn run(args: &JsonArgs) -> Result<(), Failure> {
    let home = Home::open()?;
    let key = home.identity()?.peer_id();
    if args.json {
        let server =
            |s: &crate::home::KnownServer| json!({ "address": s.address, "key": s.key().to_string() });
        let servers: Vec<_> = home.servers().iter().map(server).collect();
        print_json(&json!({ "key": key.to_string(), "home": home.folder(), "servers": servers }));
        return Ok(());
    }
    say!("key   {key}");
    say!("home  {}", home.folder().display());
    for server in home.servers() {
        say!("server  {}  {}", server.address, server.key());
    }
    Ok(())
}
