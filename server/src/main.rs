//! The command `piecewise-server`: start and stop.

mod check_command;
mod log_command;

use clap::Parser;
use piecewise_core::grant::Grant;
use piecewise_core::id::{PeerId, Timestamp};
use piecewise_core::replica::Replica;
use piecewise_server::config::{CancelArgs, Cli, Command, EvictArgs, GrantArgs, InviteArgs, ServeArgs};
use piecewise_server::databases::existing as existing_databases;
use piecewise_server::disk::Disk;
use piecewise_server::listener::{Server, left_address};
use piecewise_server::supervisor::{Supervisor, SupervisorError};
use piecewise_server::{say, tell};
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// What happened, and what to do.
struct Failure {
    message: String,
    hint: Option<String>,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, hint: None }
    }
}

impl From<SupervisorError> for Failure {
    fn from(error: SupervisorError) -> Self {
        let hint = "check that the data folder is the server's and may be written";
        Self { message: error.to_string(), hint: Some(hint.into()) }
    }
}

fn main() -> ExitCode {
    let command = match Cli::parse().command {
        Command::Log(command) => return exit(log_command::run(command)),
        Command::Check(args) => return exit(check_command::run(&args)),
        command => command,
    };
    exit(run(command).map(|()| ExitCode::SUCCESS))
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
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
        Command::Revoke(args) => {
            let supervisor = Supervisor::existing(&args.data.data)?;
            let peer = find(&supervisor, &args.peer)?;
            supervisor.revoke(&peer, piecewise_server::now())?;
            say!("{peer} may do nothing any more");
            Ok(())
        }
        Command::Log(command) => log_command::run(command).map(drop),
        Command::Check(args) => check_command::run(&args).map(drop),
    }
}

fn exit(done: Result<ExitCode, Failure>) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(failure) => {
            tell!("error: {}", failure.message);
            if let Some(hint) = failure.hint {
                tell!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(args: ServeArgs) -> Result<(), Failure> {
    let config = args.resolve()?;
    let filter = tracing_subscriber::EnvFilter::try_from_env("PIECEWISE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
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
        server.run(&config, stop).await.map_err(|message| Failure {
            hint: message
                .contains("listen")
                .then(|| "is another server running there? choose another --listen".into()),
            message,
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
    let grants: Vec<Grant> = args
        .grants
        .iter()
        .map(|g| g.parse())
        .collect::<Result<_, _>>()
        .map_err(|e: piecewise_core::grant::BadGrant| e.to_string())?;
    let supervisor = match args.address {
        Some(_) => Supervisor::open(&args.data.data)?,
        None => Supervisor::existing(&args.data.data)?,
    };
    let address = args.address.clone().or_else(|| left_address(&args.data.data)).ok_or_else(|| Failure {
        message: "the server has not run yet, so its address is not known".into(),
        hint: Some("start it with `piecewise-server serve`, or say --address ws://HOST:PORT".into()),
    })?;
    let now = piecewise_server::now();
    let expires = Timestamp(now.0 + args.expires * 3_600_000);
    let invites = supervisor.invites(args.count as usize, &grants, &address, now, expires)?;
    invites.iter().for_each(|invite| say!("{invite}"));
    Ok(())
}

fn status_link(data: &Path) -> Result<(), Failure> {
    let address = left_address(data).ok_or_else(|| Failure {
        message: "the server has not run yet".into(),
        hint: Some("start it with `piecewise-server serve`".into()),
    })?;
    let supervisor = Supervisor::existing(data)?;
    let operator = supervisor.identity.peer_id();
    let link = supervisor.status_link(&operator, piecewise_server::chance(), piecewise_server::now())?;
    say!("{}", link.url(&address));
    tell!("it opens once, within five minutes");
    Ok(())
}

fn peers(supervisor: &Supervisor) -> Result<(), Failure> {
    for peer in supervisor.peers()? {
        let grants: Vec<_> = peer.grants.iter().map(Grant::to_string).collect();
        let state = if peer.revoked { "revoked".to_owned() } else { grants.join(" ") };
        say!("{}  {}  {state}", peer.key, if peer.name.is_empty() { "-" } else { &peer.name });
    }
    Ok(())
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
        databases.retain(|known| known == name);
        if databases.is_empty() {
            return Err(format!("there is no database {name}").into());
        }
    }
    for name in databases {
        let path = supervisor.folder().join(format!("{name}.db"));
        let failed = |error: piecewise_core::replica::ReplicaError| format!("{name}: {error}");
        let identity = supervisor.identity.clone();
        let replica = Replica::open(&path, false, identity, piecewise_server::chance()).map_err(failed)?;
        let evicted = replica.into_server().evict(&author, since, piecewise_server::now()).map_err(failed)?;
        if evicted.segments > 0 {
            say!(
                "{name}: {} rows are as they were without {} segments of {}",
                evicted.rows,
                evicted.segments,
                author.short()
            );
        }
        for table in evicted.described {
            tell!("hint: {table}: it changed the table's description as well; look at that by hand");
        }
    }
    Ok(())
}

fn invites(data: &Path) -> Result<(), Failure> {
    let supervisor = Supervisor::existing(data)?;
    let now = piecewise_server::now();
    for invite in supervisor.open_invites()? {
        let until = humantime::format_rfc3339_seconds(piecewise_server::system_time(invite.expires));
        let state = if invite.expires <= now { "expired" } else { "until" };
        say!("{}  {state} {until}  {}", &hex(&invite.hash)[..12], invite.grants.replace('\n', " "));
    }
    Ok(())
}

fn cancel_invite(args: &CancelArgs) -> Result<(), Failure> {
    let supervisor = Supervisor::existing(&args.data.data)?;
    let meant = args.invite.to_lowercase();
    let open = supervisor.open_invites()?;
    let mut found = open.iter().filter(|invite| !meant.is_empty() && hex(&invite.hash).starts_with(&meant));
    let (Some(invite), None) = (found.next(), found.next()) else {
        return Err(Failure {
            message: format!("{meant:?} is not one invite that nobody has used"),
            hint: Some("`piecewise-server invites` lists them".into()),
        });
    };
    supervisor.cancel_invite(invite.hash, piecewise_server::now())?;
    say!("{} lets nobody in any more", &hex(&invite.hash)[..12]);
    Ok(())
}

/// Gives a grant until a time, if any, or takes it away.
fn change_grant(args: &GrantArgs, give: Option<Option<Timestamp>>) -> Result<(), Failure> {
    let supervisor = Supervisor::existing(&args.data.data)?;
    let peer = find(&supervisor, &args.peer)?;
    let grant: Grant = args.grant.parse().map_err(|e: piecewise_core::grant::BadGrant| e.to_string())?;
    let done = match give {
        Some(until) => supervisor.grant(&peer, &grant, until, piecewise_server::now())?,
        None => supervisor.ungrant(&peer, grant.pattern.as_str(), piecewise_server::now())?,
    };
    if !done {
        return Err(Failure {
            message: format!("{} has no such grant", peer.short()),
            hint: Some("`piecewise-server peers` lists them".into()),
        });
    }
    say!("{peer} {} {grant}", if give.is_some() { "has" } else { "has no more" });
    Ok(())
}

/// Whether a key is meant by its first digits, or by first and last as it is shown where space is short.
fn is_meant(key: &str, text: &str) -> bool {
    match text.split_once('…') {
        Some((first, last)) => !first.is_empty() && key.starts_with(first) && key.ends_with(last),
        None => !text.is_empty() && key.starts_with(text),
    }
}

fn find(supervisor: &Supervisor, text: &str) -> Result<PeerId, Failure> {
    let matching: Vec<_> = supervisor
        .peers()?
        .into_iter()
        .filter(|p| is_meant(&p.key.to_string(), &text.to_lowercase()))
        .collect();
    match matching.as_slice() {
        [peer] => Ok(peer.key),
        found => Err(Failure {
            message: format!("{} devices have a key that begins with {text:?}", found.len()),
            hint: Some("`piecewise-server peers` lists the devices that joined".into()),
        }),
    }
}
