//! `log`: what this device knows of its servers' logs, and checks of them.

use super::{open_bound, prove};
use crate::args::{LogCheckArgs, LogCommand, LogVerifyArgs};
use crate::home::{Home, KnownServer};
use crate::report::Failure;
use crate::witness::{self, Proven};
use piecewise_core::id::SegmentId;
use piecewise_core::supervisor_log::Witness;
use piecewise_core::supervisor_log::note::LogKey;
use piecewise_server::audit::{self, Finding};
use piecewise_server::say;
use piecewise_server::terminal::{self, Tone, count, labelled, number, paint, result, time};
use serde_json::{Value, json};

pub(crate) fn run(command: LogCommand) -> Result<u8, Failure> {
    match command {
        LogCommand::Status => status().map(|()| 0),
        LogCommand::Check(args) => check(&args),
        LogCommand::Verify(args) => Ok(verify(&args)),
    }
}

fn status() -> Result<(), Failure> {
    let home = Home::open()?;
    let mut list = vec![];
    for server in home.servers() {
        let known = witness::load(&witness::path(home.folder(), &server.key()))?;
        list.push((server, known));
    }
    result(
        || list.iter().map(|(server, known)| as_json(server, known)).collect(),
        || {
            list.iter().for_each(|(server, known)| print(server, known));
        },
    );
    Ok(())
}

fn as_json(server: &KnownServer, known: &Witness) -> Value {
    let alarm = known.alarm.as_ref().map(|alarm| {
        json!({ "time": time(alarm.time), "reason": alarm.reason,
                "ours": alarm.ours.as_ref().map(ToString::to_string),
                "theirs": alarm.theirs.as_ref().map(ToString::to_string) })
    });
    json!({ "server": server.address, "log": known.log.as_ref().map(ToString::to_string),
            "entries": known.size(), "checkpoint": known.note.as_ref().map(ToString::to_string),
            "verified": known.note.is_some() && alarm.is_none(), "alarm": alarm })
}

fn print(server: &KnownServer, known: &Witness) {
    labelled(&[
        ("server", server.address.clone()),
        ("log", known.log.as_ref().map_or("not met yet".into(), ToString::to_string)),
        ("checkpoint", count(known.size(), "entry", "entries")),
    ]);
    let Some(alarm) = &known.alarm else { return };
    say!("{}", paint(Tone::Bad, &format!("UNVERIFIED since {}: {}", time(alarm.time), alarm.reason)));
    for (whose, note) in [("held here", &alarm.ours), ("told by the server", &alarm.theirs)] {
        say!("--- {whose}\n{}", note.as_ref().map_or("none\n".into(), ToString::to_string));
    }
    say!("data go on syncing: each change proves itself. The server's operator can declare a new log with");
    say!(
        "`piecewise-server log new-origin`; keep the two notes as evidence until it is clear what happened."
    );
}

fn check(args: &LogCheckArgs) -> Result<u8, Failure> {
    let home = Home::open()?;
    let replica = open_bound(&home, &args.file)?;
    let segments = replica.own_segments()?;
    let (proven, size) = prove(&home, &replica, &segments)?;
    let found = proven.iter().flatten().count();
    let missing = segments.len() - found;
    let as_json = || {
        let proof = |(segment, p): (&SegmentId, &Option<Proven>)| json!({ "segment": segment.to_string(), "entry": p.map(|p| p.index), "from": p.map(|p| p.from.to_string()) });
        let proofs: Vec<_> = segments.iter().zip(&proven).map(proof).collect();
        json!({ "entries": size, "segments": proofs, "missing": missing })
    };
    result(as_json, || {
        let (found, all) = (number(found as u64), count(segments.len() as u64, "segment", "segments"));
        let size = count(size, "entry", "entries");
        say!("{found} of {all} made here are in the log, each proven under its checkpoint of {size}");
        if missing > 0 {
            say!("not in it: {}, not sent or under no checkpoint yet", number(missing as u64));
        }
    });
    Ok(u8::from(missing > 0))
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
            let (entries, receipts) =
                (count(sound.entries, "entry", "entries"), count(sound.receipts, "receipt", "receipts"));
            result(
                || json!({ "sound": true, "entries": sound.entries, "receipts": sound.receipts }),
                || say!("the log is sound: {entries}, {receipts}"),
            );
            0
        }
        Err(finding) => {
            terminal::error(&finding.verdict(), None, finding.word());
            finding.exit_code()
        }
    }
}
