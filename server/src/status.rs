//! Status: the page that shows how the server does, to those who administer something, and the figures behind it.
//!
//! `GET /status` is the page; `POST /status/open` turns the secret of a link into a cookie; `GET /status/now` gives the figures
//! as JSON, those of containers that the asker administers. `access` knows who may look.

mod access;

pub(crate) use access::TABLE;
pub use access::{StatusLink, link_url};

use crate::listener::Server;
use crate::metrics::Meter;
use crate::report::{Report, administers, administers_all};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, COOKIE};
use hyper::{Method, Request, StatusCode};
use piecewise_core::grant::{Access, Grant};
use piecewise_core::id::PeerId;
use piecewise_core::replica::Stopped;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// Databases, containers of one of them, and peers that are listed; the rest is told as a number.
const LISTED_MAX: usize = 200;
const COOKIE_NAME: &str = "piecewise_status";

/// What to answer.
pub(crate) enum Answer {
    /// Figures.
    Json(String),
    /// Done, with a cookie to set.
    Cookie(String),
    /// No.
    No(StatusCode, &'static str),
}

const NO_LINK: &str = "this link has been opened before, or is too old; ask for a new one with `piecewise admin` or \
                       `piecewise-server status-link`\n";
const NOT_OPENED: &str = "open a link from `piecewise admin` or `piecewise-server status-link` first\n";
const FAILED: &str = "the server cannot read its supervisor.db now\n";

/// Answers a request below /status/; None: it is for a file.
pub(crate) async fn answer(server: &Server, request: &Request<Incoming>) -> Option<Answer> {
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/status/open") => Some(open(server, request)),
        (&Method::GET, "/status/now") => Some(now(server, request).await),
        _ => None,
    }
}

fn open(server: &Server, request: &Request<Incoming>) -> Answer {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(link) = header.and_then(|h| from_hex(h.strip_prefix("Bearer ")?)) else {
        return Answer::No(StatusCode::UNAUTHORIZED, NO_LINK);
    };
    let secret = crate::chance();
    match server.supervisor.status_open(&link, &secret, crate::now()) {
        Ok(true) => {
            let secure = if server.is_https() { "; Secure" } else { "" };
            let (secret, seconds) = (to_hex(&secret), access::LOOK_MS / 1000);
            Answer::Cookie(format!(
                "{COOKIE_NAME}={secret}; Path=/status; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
            ))
        }
        Ok(false) => Answer::No(StatusCode::UNAUTHORIZED, NO_LINK),
        Err(error) => {
            tracing::error!(%error, "who may see the status cannot be told");
            Answer::No(StatusCode::INTERNAL_SERVER_ERROR, FAILED)
        }
    }
}

async fn now(server: &Server, request: &Request<Incoming>) -> Answer {
    let cookies = request.headers().get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut secrets = cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|cookie| from_hex(cookie.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('=')?));
    let Some(secret) = secrets.next() else { return Answer::No(StatusCode::UNAUTHORIZED, NOT_OPENED) };
    let found = server.supervisor.status_grants(&secret, crate::now());
    let seen = match found {
        Ok(None) => return Answer::No(StatusCode::UNAUTHORIZED, NOT_OPENED),
        Ok(Some(grants)) => figures(server, &grants).await,
        Err(error) => Err(error),
    };
    match seen {
        Ok(figures) => Answer::Json(figures.to_string()),
        Err(error) => {
            tracing::error!(%error, "the status cannot be told");
            Answer::No(StatusCode::INTERNAL_SERVER_ERROR, FAILED)
        }
    }
}

/// The figures that these grants let their holder see.
async fn figures(server: &Server, grants: &[Grant]) -> Result<Value, crate::supervisor::SupervisorError> {
    let reports = server.reports(grants).await;
    let log = server.supervisor.log_status()?;
    let reports: Vec<_> =
        reports.into_iter().filter(|r| !r.containers.is_empty() || r.failed.is_some()).collect();
    let (peers, more_peers) = peers(server, &reports, grants)?;
    // Those that are in use come first, and then those where something is held.
    let mut listed: Vec<_> = reports.iter().collect();
    listed.sort_by_key(|report| {
        let quiet = report.containers.iter().all(|c| c.held == 0 && c.stopped.is_none());
        (report.failed.is_none(), report.at_rest, quiet)
    });
    listed.truncate(LISTED_MAX);
    Ok(json!({
        "now_ms": crate::now().0,
        "version": env!("CARGO_PKG_VERSION"),
        "up_seconds": server.metrics.started.elapsed().as_secs(),
        "grants": grants.iter().filter(|g| g.access == Access::Admin)
            .map(Grant::to_string).collect::<Vec<_>>(),
        "disk": {
            "free": server.disk.free(), "reserve": server.disk.reserve(),
            "stopped": server.disk.stop().map(|stop| stop.to_string()),
        },
        "log": {
            "entries": log.size, "checkpoint": log.note.map(|note| note.checkpoint.size),
            "age_seconds": server.supervisor.checkpoint_age().map(|age| age.as_secs()), "halted": log.halted,
        },
        "totals": totals(server, &reports, grants),
        "databases": listed.iter().map(|report| database(server, report, grants)).collect::<Vec<_>>(),
        "more_databases": reports.len() - listed.len(),
        "peers": peers,
        "more_peers": more_peers,
    }))
}

/// What all databases come to.
fn totals(server: &Server, reports: &[Report], grants: &[Grant]) -> Value {
    let counted = |report: &&Report| administers_all(grants, &report.database);
    let meters: Vec<_> =
        reports.iter().filter(counted).map(|report| server.metrics.meter(&report.database)).collect();
    let sum = |count: fn(&Meter) -> u64| meters.iter().map(|meter| count(meter)).sum::<u64>();
    json!({
        "databases": reports.len(),
        "at_rest": reports.iter().filter(|report| report.at_rest).count(),
        "held": reports.iter().flat_map(|report| &report.containers).map(|c| c.held).sum::<u64>(),
        "stopped": reports.iter().flat_map(|r| &r.containers).filter(|c| c.stopped.is_some()).count(),
        "cannot_be_opened": reports.iter().filter(|report| report.failed.is_some()).count(),
        "counts": (!meters.is_empty()).then(|| json!({
            "rows": sum(|m| m.received_rows.get() + m.sent_rows.get()),
            "bytes": sum(|m| m.received_bytes.get() + m.sent_bytes.get()),
            "refused_rows": sum(|m| m.refused_rows.get()),
        })),
    })
}

/// Why a table is stopped, and since when.
fn stopped(stopped: &Stopped) -> Value {
    json!({ "cause": stopped.kind.name(), "words": stopped.why, "since_ms": stopped.since.0 })
}

fn database(server: &Server, report: &Report, grants: &[Grant]) -> Value {
    let listed = report.containers.iter().take(LISTED_MAX);
    let containers: Vec<_> =
        listed
            .map(|c| {
                json!({ "name": c.name, "segments": c.segments, "held": c.held, "checked_ms": c.checked.map(|t| t.0),
                        "check_found": c.found, "check_unhealed": c.unhealed, "stopped": c.stopped.as_ref().map(stopped) })
            })
            .collect();
    // Counts of the whole database are for those alone who may see all of it.
    let meter = administers_all(grants, &report.database).then(|| server.metrics.meter(&report.database));
    json!({
        "name": report.database,
        "tables": report.containers.len(),
        "containers": containers,
        "segments": report.containers.iter().map(|c| c.segments).sum::<u64>(),
        "held": report.containers.iter().map(|c| c.held).sum::<u64>(),
        "stopped": report.containers.iter().filter(|c| c.stopped.is_some()).count(),
        "checked_ms": report.containers.iter().map(|c| c.checked).min().flatten().map(|t| t.0),
        "check_found": report.containers.iter().map(|c| c.found).sum::<u64>(),
        "check_unhealed": report.containers.iter().map(|c| c.unhealed).sum::<u64>(),
        "connected": report.links.len(),
        "at_rest": report.at_rest,
        "cannot_be_opened": report.failed,
        "counts": meter.map(|m| json!({
            "received_rows": m.received_rows.get(), "received_bytes": m.received_bytes.get(),
            "sent_rows": m.sent_rows.get(), "sent_bytes": m.sent_bytes.get(),
            "refused_rows": m.refused_rows.get(),
        })),
    })
}

/// Peers that may see something of what the asker administers: who is connected comes first, then who was here last.
fn peers(
    server: &Server,
    reports: &[Report],
    grants: &[Grant],
) -> Result<(Vec<Value>, usize), crate::supervisor::SupervisorError> {
    let mut lag: BTreeMap<PeerId, (u64, u64)> = BTreeMap::new();
    for (peer, traffic) in reports.iter().flat_map(|report| &report.links) {
        let (to_send, to_come) = lag.entry(*peer).or_default();
        *to_send += traffic.segments_to_send;
        *to_come += traffic.segments_to_come;
    }
    // Many peers have the same few grants, or one of a database of their own: each is held against the containers once,
    // and against those of that database alone.
    let mut known: HashMap<String, bool> = HashMap::new();
    let by_name: HashMap<_, _> = reports.iter().map(|report| (report.database.as_str(), report)).collect();
    let mut is_near = |grant: &Grant| {
        let pattern = grant.pattern.as_str();
        *known.entry(pattern.to_owned()).or_insert_with(|| {
            let covers = |report: &Report| report.containers.iter().any(|c| grant.pattern.covers(&c.name));
            match pattern.split_once('/') {
                Some((database, _)) if !database.contains('*') => {
                    by_name.get(database).is_some_and(|report| covers(report))
                }
                _ => reports.iter().any(covers),
            }
        })
    };
    let mut peers: Vec<_> = server
        .supervisor
        .peers()?
        .into_iter()
        .filter(|peer| peer.grants.iter().any(&mut is_near))
        .map(|peer| (server.supervisor.ledger.account(&peer.key), peer))
        .collect();
    peers.sort_by_key(|(account, _)| (account.connections == 0, std::cmp::Reverse(account.seen)));
    let more = peers.len().saturating_sub(LISTED_MAX);
    peers.truncate(LISTED_MAX);
    let rows = peers.into_iter().map(|(account, peer)| {
        let lag = lag.get(&peer.key);
        let may: Vec<_> = peer
            .grants
            .iter()
            .filter(|grant| is_near(grant))
            .filter(|grant| administers(grants, grant.pattern.as_str()) || grants.contains(grant))
            .map(Grant::to_string)
            .collect();
        json!({
            "key": peer.key.short(), "name": peer.name, "may": may,
            "connected": account.connections > 0 && lag.is_some(), "seen_ms": account.seen.0,
            "to_send": lag.map(|l| l.0), "to_come": lag.map(|l| l.1),
        })
    });
    Ok((rows.collect(), more))
}

fn to_hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |n: usize| text.get(2 * n..2 * n + 2).and_then(|d| u8::from_str_radix(d, 16).ok());
    let bytes: Option<Vec<u8>> = (0..32).map(digit).collect();
    bytes.filter(|_| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()))?.try_into().ok()
}
