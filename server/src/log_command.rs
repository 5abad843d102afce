//! `piecewise-server log …`: what people ask of the supervisor's log.

use crate::Failure;
use piecewise_core::id::{PeerId, Timestamp};
use piecewise_core::message::RefusalReason;
use piecewise_core::supervisor_log::{Entry, Event};
use piecewise_server::audit::{self, Finding, TAMPERED};
use piecewise_server::config::{LogCommand, LogShowArgs};
use piecewise_server::supervisor::Supervisor;
use piecewise_server::system_time;
use piecewise_server::{say, tell};
use serde_json::{Value, json};
use std::process::ExitCode;

pub(crate) fn run(command: LogCommand) -> Result<ExitCode, Failure> {
    match command {
        LogCommand::Show(args) => show(&args),
        LogCommand::Verify(args) => {
            let supervisor = Supervisor::existing(&args.data.data)?;
            let key = supervisor.log_status()?.key;
            let older = args.against.iter().map(|path| audit::read_older_note(path, &key));
            let older = older.collect::<Result<Vec<_>, _>>();
            let verdict = older.and_then(|older| audit::verify_server(&supervisor, &older));
            Ok(tell_verdict(verdict.map(|sound| {
                format!(
                    "the log is sound: {} entries under the checkpoint, {} after it, {} receipts; \
                     the databases have {} segments, all of them in the log",
                    sound.entries, sound.unsigned, sound.receipts, sound.segments
                )
            })))
        }
        LogCommand::Prove(args) => {
            let supervisor = Supervisor::existing(&args.data.data)?;
            Ok(tell_verdict(audit::prove(&supervisor, args.index).map(|(entry, proof, note)| {
                let hashes: Vec<_> = proof.iter().map(|hash| hex(hash)).collect();
                let proof = json!({
                    "index": args.index, "entry": told(args.index, &entry), "leaf": hex(&entry.encode()),
                    "proof": hashes, "checkpoint": note.to_string(),
                });
                format!("{proof:#}")
            })))
        }
        LogCommand::Export(args) => {
            let supervisor = Supervisor::existing(&args.data.data)?;
            let key = supervisor.log_status()?.key;
            Ok(tell_verdict(audit::export(&supervisor, &args.folder).map(|entries| {
                format!(
                    "{entries} entries are in {0}; anyone verifies them with\n  piecewise log verify {0} --key '{key}'",
                    args.folder.display()
                )
            })))
        }
        LogCommand::Status(args) => {
            let status = Supervisor::existing(&args.data)?.log_status()?;
            say!("key         {}\nentries     {}", status.key, status.size);
            match (&status.note, &status.halted) {
                (_, Some(reason)) => {
                    say!("halted      {reason}; `piecewise-server log new-origin` goes on")
                }
                (Some(note), None) => say!("checkpoint  {} entries", note.checkpoint.size),
                (None, None) => say!("checkpoint  none yet"),
            }
            Ok(ExitCode::SUCCESS)
        }
        LogCommand::NewOrigin(args) => {
            let key = Supervisor::existing(&args.data)?.log_new_origin(piecewise_server::now())?;
            say!("the log goes on as {}\nclients show the change when they connect next", key.origin);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn tell_verdict(verdict: Result<String, Finding>) -> ExitCode {
    match verdict {
        Ok(text) => {
            say!("{text}");
            ExitCode::SUCCESS
        }
        Err(finding) => {
            tell!("error: {}", finding.verdict());
            if finding.exit_code() == TAMPERED {
                tell!(
                    "hint: keep the data folder as it is; `piecewise-server log show` lists what can be read"
                );
            }
            ExitCode::from(finding.exit_code())
        }
    }
}

fn show(args: &LogShowArgs) -> Result<ExitCode, Failure> {
    let supervisor = Supervisor::existing(&args.data.data)?;
    let segments = args.row.as_ref().map(|row| audit::segments_of(&supervisor, row)).transpose();
    let segments = segments.map_err(|finding| Failure { message: finding.to_string(), hint: None })?;
    let time = |time: &humantime::Timestamp| {
        let since = std::time::SystemTime::from(*time).duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.unwrap_or_default().as_millis() as u64)
    };
    let (since, until) = (args.since.as_ref().map(time), args.until.as_ref().map(time));
    let fits = |entry: &Entry| {
        let event = &entry.event;
        let peer =
            |p: &String| event.peers().iter().any(|peer| peer.to_string().starts_with(&p.to_lowercase()));
        args.peer.as_ref().is_none_or(peer)
            && args.container.as_ref().is_none_or(|c| event.container().is_some_and(|place| place.name == *c))
            && segments.as_ref().is_none_or(|s| event.segment().is_some_and(|id| s.contains(id)))
            && since.is_none_or(|since| entry.time >= since)
            && until.is_none_or(|until| entry.time < until)
    };
    let filtered = args.peer.is_some() || args.container.is_some() || segments.is_some();
    let shown = audit::each_entry(&supervisor, |index, entry| match entry {
        Ok(entry) if fits(&entry) => {
            if args.json {
                say!("{}", told(index, &entry));
            } else {
                say!("{}", line(index, &entry));
            }
        }
        Ok(_) => {}
        Err(error) if !filtered => say!("{index:>8}  cannot be read: {error}"),
        Err(_) => {}
    });
    shown.map_err(|finding| Failure { message: finding.to_string(), hint: None })?;
    Ok(ExitCode::SUCCESS)
}

fn line(index: u64, entry: &Entry) -> String {
    let time = humantime::format_rfc3339_millis(system_time(entry.time));
    let what = match &entry.event {
        Event::Accepted { container, segment, author, from, changes } => format!(
            "{}  {changes} changes by {} from {}  segment {}",
            container.name,
            author.short(),
            from.short(),
            short(&segment.to_string())
        ),
        Event::Refused { container, segment, author, from, reason } => format!(
            "{}  by {} from {}: {}  segment {}",
            container.name,
            author.short(),
            from.short(),
            reason_text(*reason),
            short(&segment.to_string())
        ),
        Event::Delivered { container, peer, segments, reach, receipt } => format!(
            "{}  {segments} segments to {}, which has all up to {}{}",
            container.name,
            peer.short(),
            reach.seq.0,
            if receipt.is_some() { ", signed" } else { "" }
        ),
        Event::Repaired { container, peer } => format!("{}  with {}", container.name, peer.short()),
        Event::Invited { grants, expires, .. } => format!(
            "{} until {}",
            grants.replace('\n', " "),
            humantime::format_rfc3339_seconds(system_time(*expires))
        ),
        Event::Joined { peer, name, .. } => format!("{peer} {name}"),
        Event::Granted { peer, grant } | Event::Ungranted { peer, grant } => {
            format!("{} {grant}", peer.short())
        }
        Event::Revoked { peer } => peer.to_string(),
        Event::Cancelled { secret_hash } => format!("invite {}", &hex(secret_hash)[..12]),
        Event::Origin { origin, .. } => origin.clone(),
    };
    format!("{index:>8}  {time}  {:<9}  {what}", entry.event.name())
}

fn told(index: u64, entry: &Entry) -> Value {
    let time = humantime::format_rfc3339_millis(system_time(entry.time)).to_string();
    let mut told = json!({ "index": index, "time": time, "event": entry.event.name() });
    let mut put = |name: &str, value: Value| {
        told[name] = value;
    };
    let key = |peer: &PeerId| json!(peer.to_string());
    if let Some(container) = entry.event.container() {
        put("container", json!(container.name));
    }
    match &entry.event {
        Event::Accepted { segment, author, from, changes, .. } => {
            put("segment", json!(segment.to_string()));
            put("author", key(author));
            put("from", key(from));
            put("changes", json!(changes));
        }
        Event::Refused { segment, author, from, reason, .. } => {
            put("segment", json!(segment.to_string()));
            put("author", key(author));
            put("from", key(from));
            put("reason", json!(reason_text(*reason)));
        }
        Event::Delivered { peer, segments, reach, receipt, .. } => {
            put("peer", key(peer));
            put("segments", json!(segments));
            put("reach", json!(reach.seq.0));
            put("receipt", json!(receipt.map(|r| hex(&r))));
        }
        Event::Repaired { peer, .. } | Event::Revoked { peer } => put("peer", key(peer)),
        Event::Invited { secret_hash, grants, .. } => {
            put("invite", json!(hex(secret_hash)));
            put("grants", json!(grants.lines().collect::<Vec<_>>()));
        }
        Event::Joined { peer, name, secret_hash } => {
            put("peer", key(peer));
            put("name", json!(name));
            put("invite", json!(hex(secret_hash)));
        }
        Event::Granted { peer, grant } | Event::Ungranted { peer, grant } => {
            put("peer", key(peer));
            put("grant", json!(grant));
        }
        Event::Cancelled { secret_hash } => put("invite", json!(hex(secret_hash))),
        Event::Origin { origin, before } => {
            put("origin", json!(origin));
            put("before", json!(before));
        }
    }
    told
}

fn reason_text(code: u8) -> String {
    RefusalReason::from_code(code).map_or("unknown".into(), |reason| reason.to_string())
}

fn short(hex: &str) -> &str {
    &hex[..hex.len().min(12)]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
