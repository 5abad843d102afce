//! `piecewise-server log …`: what people ask of the supervisor's log.

use crate::Failure;
use piecewise_core::id::{PeerId, Timestamp};
use piecewise_core::message::RefusalReason;
use piecewise_core::supervisor_log::{Entry, Event};
use piecewise_server::audit::{self, Finding, TAMPERED};
use piecewise_server::config::{LogCommand, LogShowArgs};
use piecewise_server::say;
use piecewise_server::supervisor::Supervisor;
use piecewise_server::system_time;
use piecewise_server::terminal::{self, count, device, is_json, labelled, number, result, shown, time};
use serde_json::{Value, json};
use std::collections::HashMap;
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
            Ok(tell_verdict(verdict, |sound| {
                let as_json = json!({ "sound": true, "entries": sound.entries, "unsigned": sound.unsigned,
                                      "receipts": sound.receipts, "segments": sound.segments });
                let words = format!(
                    "the log is sound: {} under the checkpoint, {} after it, {}; the databases have {}, all of them in the log",
                    count(sound.entries, "entry", "entries"),
                    number(sound.unsigned),
                    count(sound.receipts, "receipt", "receipts"),
                    count(sound.segments, "segment", "segments"),
                );
                (as_json, words)
            }))
        }
        LogCommand::Prove(args) => {
            let supervisor = Supervisor::existing(&args.data.data)?;
            Ok(tell_verdict(audit::prove(&supervisor, args.index), |(entry, proof, note)| {
                let hashes: Vec<_> = proof.iter().map(|hash| hex(hash)).collect();
                let proof = json!({
                    "index": args.index, "entry": told(args.index, &entry), "leaf": hex(&entry.encode()),
                    "proof": hashes, "checkpoint": note.to_string(),
                });
                let words = format!("{proof:#}");
                (proof, words)
            }))
        }
        LogCommand::Export(args) => {
            let supervisor = Supervisor::existing(&args.data.data)?;
            let key = supervisor.log_status()?.key;
            Ok(tell_verdict(audit::export(&supervisor, &args.folder), |entries| {
                let as_json = json!({ "entries": entries, "folder": args.folder, "key": key.to_string() });
                let words = format!(
                    "{} in {1}; anyone verifies them with\n  piecewise log verify {1} --key '{key}'",
                    count(entries, "entry is", "entries are"),
                    args.folder.display()
                );
                (as_json, words)
            }))
        }
        LogCommand::Status(args) => {
            let status = Supervisor::existing(&args.data)?.log_status()?;
            let as_json = || {
                let checkpoint = status.note.as_ref().map(|note| note.checkpoint.size);
                json!({ "key": status.key.to_string(), "entries": status.size, "checkpoint": checkpoint,
                        "halted": status.halted })
            };
            let state = match (&status.note, &status.halted) {
                (_, Some(reason)) => {
                    ("halted", format!("{reason}; `piecewise-server log new-origin` goes on"))
                }
                (Some(note), None) => ("checkpoint", count(note.checkpoint.size, "entry", "entries")),
                (None, None) => ("checkpoint", "none yet".to_owned()),
            };
            result(as_json, || {
                labelled(&[("key", status.key.to_string()), ("entries", number(status.size)), state.clone()]);
            });
            Ok(ExitCode::SUCCESS)
        }
        LogCommand::NewOrigin(args) => {
            let key = Supervisor::existing(&args.data)?.log_new_origin(piecewise_server::now())?;
            let words = || {
                say!("the log goes on as {}\nclients show the change when they connect next", key.origin);
            };
            result(|| json!({ "origin": key.origin, "key": key.to_string() }), words);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Writes what was found, as JSON or in the words that `told` gives.
fn tell_verdict<T>(verdict: Result<T, Finding>, told: impl FnOnce(T) -> (Value, String)) -> ExitCode {
    match verdict {
        Ok(found) => {
            let (as_json, words) = told(found);
            result(|| as_json, || say!("{words}"));
            ExitCode::SUCCESS
        }
        Err(finding) => {
            let hint = "keep the data folder as it is; `piecewise-server log show` lists what can be read";
            let hint = (finding.exit_code() == TAMPERED).then_some(hint);
            terminal::error(&finding.verdict(), hint, finding.word());
            ExitCode::from(finding.exit_code())
        }
    }
}

impl From<Finding> for Failure {
    fn from(finding: Finding) -> Self {
        Self { message: finding.to_string(), hint: None, code: finding.word() }
    }
}

fn show(args: &LogShowArgs) -> Result<ExitCode, Failure> {
    let supervisor = Supervisor::existing(&args.data.data)?;
    let names: Names = supervisor.peers()?.into_iter().map(|peer| (peer.key, peer.name)).collect();
    let segments = args.row.as_ref().map(|row| audit::segments_of(&supervisor, row)).transpose()?;
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
        Ok(entry) if fits(&entry) => match is_json() {
            true => say!("{}", told(index, &entry)),
            false => say!("{}", line(index, &entry, &names)),
        },
        Ok(_) => {}
        Err(error) if !filtered && is_json() => {
            say!("{}", json!({ "index": index, "unreadable": error.to_string() }))
        }
        Err(error) if !filtered => say!("{index:>8}  cannot be read: {error}"),
        Err(_) => {}
    });
    shown?;
    Ok(ExitCode::SUCCESS)
}

/// What devices call themselves.
type Names = HashMap<PeerId, String>;

fn line(index: u64, entry: &Entry, names: &Names) -> String {
    let at = time(entry.time);
    let who = |key: &PeerId| device(key, names.get(key).map(String::as_str));
    let what = match &entry.event {
        Event::Accepted { container, segment, author, from, changes } => format!(
            "{}  {} by {} from {}  segment {}",
            container.name,
            count(u64::from(*changes), "change", "changes"),
            who(author),
            who(from),
            short(&segment.to_string())
        ),
        Event::Refused { container, segment, author, from, reason } => format!(
            "{}  by {} from {}: {}  segment {}",
            container.name,
            who(author),
            who(from),
            reason_text(*reason),
            short(&segment.to_string())
        ),
        Event::Delivered { container, peer, segments, reach, receipt } => format!(
            "{}  {} to {}, which has all up to {}{}",
            container.name,
            count(*segments, "segment", "segments"),
            who(peer),
            reach.seq.0,
            if receipt.is_some() { ", signed" } else { "" }
        ),
        Event::Repaired { container, peer } => format!("{}  with {}", container.name, who(peer)),
        Event::Invited { grants, expires, .. } => format!(
            "{} until {}",
            grants.replace('\n', " "),
            humantime::format_rfc3339_seconds(system_time(*expires))
        ),
        Event::Joined { peer, name, .. } => format!("{peer} {}", shown(name)),
        Event::Granted { peer, grant } | Event::Ungranted { peer, grant } => {
            format!("{} {grant}", who(peer))
        }
        Event::Revoked { peer } => who(peer),
        Event::Cancelled { secret_hash } => format!("invite {}", &hex(secret_hash)[..12]),
        Event::Origin { origin, .. } => origin.clone(),
    };
    format!("{index:>8}  {at}  {:<9}  {what}", entry.event.name())
}

fn told(index: u64, entry: &Entry) -> Value {
    let mut told = json!({ "index": index, "time": time(entry.time), "event": entry.event.name() });
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
