//! `log`: what this device knows of its servers' logs, and checks of them.

use super::{open_bound, prove};
use crate::args::{LogCheckArgs, LogCommand, LogVerifyArgs};
use crate::home::Home;
use crate::output::{print_json, time};
use crate::report::Failure;
use crate::witness::{self, Proven};
use piecewise_core::id::SegmentId;
use piecewise_core::supervisor_log::note::LogKey;
use piecewise_server::audit::{self, Finding};
use piecewise_server::{say, tell};
use serde_json::json;

pub(crate) fn run(command: LogCommand) -> Result<u8, Failure> {
    match command {
        LogCommand::Status(args) => status(args.json).map(|()| 0),
        LogCommand::Check(args) => check(&args),
        LogCommand::Verify(args) => Ok(verify(&args)),
    }
}

fn status(as_json: bool) -> Result<(), Failure> {
    let home = Home::open()?;
    let mut list = vec![];
    for server in home.servers() {
        let known = witness::load(&witness::path(home.folder(), &server.key()))?;
        list.push((server, known));
    }
    if as_json {
        let entries = list.iter().map(|(server, known)| {
            let alarm = known.alarm.as_ref().map(|alarm| {
                json!({ "time": time(alarm.time), "reason": alarm.reason,
                        "ours": alarm.ours.as_ref().map(ToString::to_string),
                        "theirs": alarm.theirs.as_ref().map(ToString::to_string) })
            });
            json!({ "server": server.address, "log": known.log.as_ref().map(ToString::to_string),
                    "entries": known.size(), "checkpoint": known.note.as_ref().map(ToString::to_string),
                    "verified": known.note.is_some() && alarm.is_none(), "alarm": alarm })
        });
        print_json(&entries.collect());
        return Ok(());
    }
    for (server, known) in &list {
        say!("server      {}", server.address);
        say!("log         {}", known.log.as_ref().map_or("not met yet".into(), ToString::to_string));
        say!("checkpoint  {} entries", known.size());
        let Some(alarm) = &known.alarm else { continue };
        say!("UNVERIFIED  since {}: {}", time(alarm.time), alarm.reason);
        for (whose, note) in [("held here", &alarm.ours), ("told by the server", &alarm.theirs)] {
            say!("--- {whose}\n{}", note.as_ref().map_or("none\n".into(), ToString::to_string));
        }
        say!(
            "data go on syncing: each change proves itself. The server's operator can declare a new log with"
        );
        say!(
            "`piecewise-server log new-origin`; keep the two notes as evidence until it is clear what happened."
        );
    }
    Ok(())
}

fn check(args: &LogCheckArgs) -> Result<u8, Failure> {
    let home = Home::open()?;
    let replica = open_bound(&home, &args.file)?;
    let segments = replica.own_segments()?;
    let (proven, size) = prove(&home, &replica, &segments)?;
    let found = proven.iter().flatten().count();
    let missing: Vec<_> = segments.iter().zip(&proven).filter(|(_, p)| p.is_none()).map(|(s, _)| s).collect();
    if args.output.json {
        let proof = |(segment, p): (&SegmentId, &Option<Proven>)| json!({ "segment": segment.to_string(), "entry": p.map(|p| p.index), "from": p.map(|p| p.from.to_string()) });
        let proofs: Vec<_> = segments.iter().zip(&proven).map(proof).collect();
        print_json(&json!({ "entries": size, "segments": proofs, "missing": missing.len() }));
    } else {
        say!(
            "{found} of {} segments made here are in the log, each proven under its checkpoint of {size} entries",
            segments.len()
        );
        if !missing.is_empty() {
            say!("not in it: {}, not sent or under no checkpoint yet", missing.len());
        }
    }
    Ok(u8::from(!missing.is_empty()))
}

fn verify(args: &LogVerifyArgs) -> u8 {
    let verdict = || -> Result<audit::Sound, Finding> {
        let key: LogKey = args.key.parse().map_err(|_| Finding::Unchecked {
            what: "the key is not one of a log; `piecewise-server log status` prints it".into(),
        })?;
        let older: Vec<_> =
            args.against.iter().map(|p| audit::read_older_note(p, &key)).collect::<Result<_, _>>()?;
        audit::verify_folder(&args.folder, &key, &older)
    };
    match verdict() {
        Ok(sound) => {
            say!("the log is sound: {} entries, {} receipts", sound.entries, sound.receipts);
            0
        }
        Err(finding) => {
            tell!("error: {}", finding.verdict());
            finding.exit_code()
        }
    }
}
