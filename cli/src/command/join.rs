//! `join`: this device becomes known to a server.

use super::block_on;
use crate::args::JoinArgs;
use crate::connection::connect;
use crate::home::{Home, KnownServer};
use crate::report::{Failure, code};
use piecewise_core::invite::{Invite, InviteError};
use piecewise_server::say;
use piecewise_server::terminal::{news, result};
use serde_json::json;

pub(crate) fn run(args: &JoinArgs) -> Result<(), Failure> {
    let text = match args.invite.as_deref() {
        Some("-") => std::io::read_to_string(std::io::stdin()).map_err(|e| Failure::new(e.to_string()))?,
        Some(text) => text.to_owned(),
        None => {
            news("paste the invite, then press Enter:");
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map_err(|e| Failure::new(e.to_string()))?;
            line.trim().to_owned()
        }
    };
    let mut invite: Invite = text.parse().map_err(|error: InviteError| match error {
        InviteError::NewerVersion => {
            Failure::new(error.to_string()).hint("use the server's version of piecewise").code(code::VERSION)
        }
        _ => Failure::new(error.to_string())
            .hint("copy the whole line that `piecewise-server invite` printed")
            .code(code::BAD_INVITE),
    })?;
    if let Some(address) = &args.address {
        invite.address.clone_from(address);
    }
    let mut home = Home::open()?;
    if let Some(name) = &args.name {
        home.set_name(name)?;
    }
    let key = home.identity()?.peer_id();
    let server = KnownServer::from(&invite);
    block_on(async {
        let mut connection = connect(&home, &server, Some(invite.secret)).await?;
        connection.witnessed().await?;
        connection.close().await;
        Ok(())
    })?;
    let server_key = server.key().to_string();
    home.remember(server)?;
    result(
        || json!({ "server": invite.address, "server_key": server_key, "key": key.to_string() }),
        || say!("joined {} as {}", invite.address, key.short()),
    );
    Ok(())
}
