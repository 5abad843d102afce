//! The command `piecewise-server`: start and stop.

mod check_command;
mod help;
mod log_command;

use piecewise_core::grant::{BadGrant, Grant};
use piecewise_core::id::Timestamp;
use piecewise_core::replica::Replica;
use piecewise_server::config::{
    CancelArgs, Cli, Command, EvictArgs, GrantArgs, InviteArgs, RevokeArgs, ServeArgs,
};
use piecewise_server::databases::existing as existing_databases;
use piecewise_server::disk::Disk;
use piecewise_server::listener::{Server, left_address};
use piecewise_server::say;
use piecewise_server::supervisor::{OpenInvite, Peer, Supervisor, SupervisorError};
use piecewise_server::terminal::{self, Table, count, device, left, manual, result, shown, time};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// What happened, what to do, and a word for programs that stays the same from version to version; docs/src/command-line.md
/// lists them.
struct Failure {
    message: String,
    hint: Option<String>,
    code: &'static str,
}

impl Failure {
    fn new(message: impl Into<String>, hint: impl Into<String>, code: &'static str) -> Self {
        Self { message: message.into(), hint: Some(hint.into()), code }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, hint: None, code: "failed" }
    }
}

impl From<SupervisorError> for Failure {
    fn from(error: SupervisorError) -> Self {
        let code = if matches!(error, SupervisorError::NoServer { .. }) { "no_server" } else { "file" };
        Self::new(error.to_string(), "check that the data folder is the server's and may be written", code)
    }
}

impl From<BadGrant> for Failure {
    fn from(error: BadGrant) -> Self {
        Self::new(error.to_string(), "such as 'shop/*=write'; read, write or admin", "bad_grant")
    }
}

fn main() -> ExitCode {
    let cli: Cli = terminal::parse(help::command(), |cli: &Cli| cli.output);
    run(cli.command).unwrap_or_else(|failure| {
        terminal::error(&failure.message, failure.hint.as_deref(), failure.code);
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    let done = match command {
        Command::Serve(args) => serve(*args),
        Command::Invite(args) => invite(&args),
        Command::Peers(args) => peers(&Supervisor::existing(&args.data)?),
        Command::StatusLink(args) => status_link(&args.data),
        Command::Grant(args) => {
            let until = args.until.map(|time| time_of(time.into()));
            change_grant(&args.grant, Some(until))
        }
        Command::Ungrant(args) => change_grant(&args, None),
        Command::Evict(args) => evict(&args),
        Command::Invites(args) => invites(&args.data),
        Command::CancelInvite(args) => cancel_invite(&args),
        Command::Revoke(args) => revoke(&args),
        Command::Log(command) => return log_command::run(command),
        Command::Check(args) => return check_command::run(&args),
        Command::Completions(args) => {
            manual::completions(&args, help::command());
            Ok(())
        }
        Command::Man(args) => manual::man(&args, help::command())
            .map_err(|e| Failure::new(e.to_string(), "name a folder that you may write", "file")),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn serve(args: ServeArgs) -> Result<(), Failure> {
    let config = args.resolve()?;
    let filter = tracing_subscriber::EnvFilter::try_from_env("PIECEWISE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(terminal::has_colors(&std::io::stderr()))
        .with_writer(std::io::stderr);
    if config.json_logs {
        logs.json().init()
    } else {
        logs.init()
    }
    let supervisor = Arc::new(Supervisor::open(&config.data)?);
    supervisor.log_check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| format!("no threads: {e}"))?;
    runtime.block_on(async {
        let stop = stop_signal().map_err(|e| format!("no signals: {e}"))?;
        let disk = Disk::of(&config.data, config.limits.disk_reserve);
        let server = Server::open(supervisor, &config, disk);
        server.run(&config, stop).await.map_err(|message| match message.contains("listen") {
            true => Failure::new(
                message,
                "is another server running there? choose another --listen",
                "address_in_use",
            ),
            false => message.into(),
        })
    })
}

/// Done once the server is told to stop. It listens from the call on, not only once it is waited for.
#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Done once the server is told to stop.
#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

fn invite(args: &InviteArgs) -> Result<(), Failure> {
    let grants: Vec<Grant> = args.grants.iter().map(|g| g.parse()).collect::<Result<_, BadGrant>>()?;
    let supervisor = match args.address {
        Some(_) => Supervisor::open(&args.data.data)?,
        None => Supervisor::existing(&args.data.data)?,
    };
    let address = args.address.clone().or_else(|| left_address(&args.data.data)).ok_or_else(|| {
        let hint = "start it with `piecewise-server serve`, or say --address ws://HOST:PORT";
        Failure::new("the server has not run yet, so its address is not known", hint, "not_run")
    })?;
    let now = piecewise_server::now();
    let expires = Timestamp(now.0 + args.expires * 3_600_000);
    let invites = supervisor.invites(args.count as usize, &grants, &address, now, expires)?;
    let invites: Vec<_> = invites.iter().map(ToString::to_string).collect();
    result(
        || json!({ "invites": invites, "address": address, "expires": time(expires) }),
        || invites.iter().for_each(|invite| say!("{invite}")),
    );
    Ok(())
}

fn status_link(data: &Path) -> Result<(), Failure> {
    let address = left_address(data).ok_or_else(|| {
        Failure::new("the server has not run yet", "start it with `piecewise-server serve`", "not_run")
    })?;
    let supervisor = Supervisor::existing(data)?;
    let operator = supervisor.identity.peer_id();
    let link = supervisor.status_link(&operator, piecewise_server::chance(), piecewise_server::now())?;
    let url = link.url(&address);
    result(|| json!({ "url": url, "opens_once_within_seconds": 300 }), || say!("{url}"));
    if !terminal::is_json() {
        terminal::news("it opens once, within five minutes");
    }
    Ok(())
}

fn peers(supervisor: &Supervisor) -> Result<(), Failure> {
    let peers = supervisor.peers()?;
    let grants = |peer: &Peer| peer.grants.iter().map(Grant::to_string).collect::<Vec<_>>();
    let entry = |peer: &Peer| {
        json!({ "key": peer.key.to_string(), "name": peer.name, "joined": time(peer.joined),
                "revoked": peer.revoked, "grants": grants(peer) })
    };
    result(
        || peers.iter().map(entry).collect(),
        || {
            let mut table = Table::new(&[left("key"), left("name"), left("may")]);
            for peer in &peers {
                let may = if peer.revoked { "revoked".to_owned() } else { grants(peer).join(" ") };
                table.add([peer.key.to_string(), shown(&peer.name), may]);
            }
            table.print();
        },
    );
    Ok(())
}

fn revoke(args: &RevokeArgs) -> Result<(), Failure> {
    let supervisor = Supervisor::existing(&args.data.data)?;
    let peer = find(&supervisor, &args.peer)?;
    supervisor.revoke(&peer.key, piecewise_server::now())?;
    result(
        || json!({ "key": peer.key.to_string(), "name": peer.name, "revoked": true }),
        || say!("{} may do nothing any more", who(&peer)),
    );
    Ok(())
}

/// A device with its whole key.
fn who(peer: &Peer) -> String {
    match peer.name.is_empty() {
        true => peer.key.to_string(),
        false => format!("{} ({})", shown(&peer.name), peer.key),
    }
}

fn time_of(time: std::time::SystemTime) -> Timestamp {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}

fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|b| format!("{b:02x}")).collect()
}

fn evict(args: &EvictArgs) -> Result<(), Failure> {
    let supervisor = Supervisor::existing(&args.data.data)?;
    let author = find(&supervisor, &args.author)?;
    let since = time_of(args.since.into());
    let mut databases = existing_databases(supervisor.folder());
    if let Some(name) = &args.database {
        let there = databases.join(", ");
        databases.retain(|known| known == name);
        if databases.is_empty() {
            return Err(no_database(name, &there));
        }
    }
    let mut all = vec![];
    for name in databases {
        let path = supervisor.folder().join(format!("{name}.db"));
        let failed = |error: piecewise_core::replica::ReplicaError| format!("{name}: {error}");
        let identity = supervisor.identity.clone();
        let replica = Replica::open(&path, false, identity, piecewise_server::chance()).map_err(failed)?;
        let evicted =
            replica.into_server().evict(&author.key, since, piecewise_server::now()).map_err(failed)?;
        if evicted.segments > 0 && !terminal::is_json() {
            let (rows, segments) =
                (count(evicted.rows, "row is", "rows are"), count(evicted.segments, "segment", "segments"));
            say!("{name}: {rows} as without {segments} of {}", device(&author.key, Some(&author.name)));
        }
        if !terminal::is_json() {
            for table in &evicted.described {
                terminal::note(&format!(
                    "{table}: it changed the table's description as well; look at that by hand"
                ));
            }
        }
        all.push(json!({ "database": name, "rows": evicted.rows, "segments": evicted.segments,
                         "described": evicted.described }));
    }
    result(|| all.into(), || {});
    Ok(())
}

fn no_database(name: &str, there: &str) -> Failure {
    Failure::new(format!("there is no database {name}"), format!("the folder has: {there}"), "no_database")
}

fn invites(data: &Path) -> Result<(), Failure> {
    let open = Supervisor::existing(data)?.open_invites()?;
    let now = piecewise_server::now();
    let short = |invite: &OpenInvite| hex(&invite.hash)[..12].to_owned();
    let entry = |invite: &OpenInvite| {
        json!({ "invite": short(invite), "grants": invite.grants.lines().collect::<Vec<_>>(),
                "expires": time(invite.expires), "expired": invite.expires <= now })
    };
    result(
        || open.iter().map(entry).collect(),
        || {
            let mut table = Table::new(&[left("invite"), left("good until"), left("grants")]);
            for invite in &open {
                let until = humantime::format_rfc3339_seconds(piecewise_server::system_time(invite.expires));
                let state = if invite.expires <= now { " (expired)" } else { "" };
                table.add([short(invite), format!("{until}{state}"), invite.grants.replace('\n', " ")]);
            }
            table.print();
        },
    );
    Ok(())
}

fn cancel_invite(args: &CancelArgs) -> Result<(), Failure> {
    let supervisor = Supervisor::existing(&args.data.data)?;
    let meant = args.invite.to_lowercase();
    let open = supervisor.open_invites()?;
    let mut found = open.iter().filter(|invite| !meant.is_empty() && hex(&invite.hash).starts_with(&meant));
    let (Some(invite), None) = (found.next(), found.next()) else {
        let message = format!("{meant:?} is not one invite that nobody has used");
        return Err(Failure::new(message, "`piecewise-server invites` lists them", "not_found"));
    };
    supervisor.cancel_invite(invite.hash, piecewise_server::now())?;
    let invite = &hex(&invite.hash)[..12];
    result(|| json!({ "invite": invite, "cancelled": true }), || say!("{invite} lets nobody in any more"));
    Ok(())
}

/// Gives a grant until a time, if any, or takes it away.
fn change_grant(args: &GrantArgs, give: Option<Option<Timestamp>>) -> Result<(), Failure> {
    let supervisor = Supervisor::existing(&args.data.data)?;
    let peer = find(&supervisor, &args.peer)?;
    let grant: Grant = args.grant.parse()?;
    let done = match give {
        Some(until) => supervisor.grant(&peer.key, &grant, until, piecewise_server::now())?,
        None => supervisor.ungrant(&peer.key, grant.pattern.as_str(), piecewise_server::now())?,
    };
    if !done {
        let message = format!("{} has no such grant", device(&peer.key, Some(&peer.name)));
        return Err(Failure::new(message, "`piecewise-server peers` lists them", "not_found"));
    }
    let until = give.flatten().map(time);
    result(
        || {
            json!({ "key": peer.key.to_string(), "name": peer.name, "grant": grant.to_string(),
                    "given": give.is_some(), "until": until })
        },
        || say!("{} {} {grant}", who(&peer), if give.is_some() { "has" } else { "has no more" }),
    );
    Ok(())
}

/// Whether a key is meant by its first digits, or by first and last as it is shown where space is short.
fn is_meant(key: &str, text: &str) -> bool {
    match text.split_once('…') {
        Some((first, last)) => !first.is_empty() && key.starts_with(first) && key.ends_with(last),
        None => !text.is_empty() && key.starts_with(text),
    }
}

fn find(supervisor: &Supervisor, text: &str) -> Result<Peer, Failure> {
    let mut matching: Vec<_> = supervisor
        .peers()?
        .into_iter()
        .filter(|p| is_meant(&p.key.to_string(), &text.to_lowercase()))
        .collect();
    match (matching.pop(), matching.len()) {
        (Some(peer), 0) => Ok(peer),
        (found, others) => {
            let found = others + usize::from(found.is_some());
            let message = format!("{found} devices have a key that begins with {text:?}");
            Err(Failure::new(message, "`piecewise-server peers` lists the devices that joined", "not_found"))
        }
    }
}
