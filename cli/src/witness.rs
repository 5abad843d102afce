//! Witness: what this device knows of its servers' logs, on disk, and the talk about it at each connect.
//!
//! `log-KEY.json` in the home folder keeps the last checkpoint of a server and, after an alarm, both notes as evidence.

use crate::connection::Frame;
use crate::report::{Failure, code};
use piecewise_core::channel::LOG_CHANNEL;
use piecewise_core::id::{PeerId, SegmentId, Timestamp};
use piecewise_core::identity::Identity;
use piecewise_core::supervisor_log::note::Note;
use piecewise_core::supervisor_log::talk::{LogMessage, Told};
use piecewise_core::supervisor_log::{Alarm, Entry, Event, Verdict, Witness};
use piecewise_server::now;
use piecewise_server::terminal::note;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Questions about segments that wait for their answers.
const QUESTIONS: usize = 4;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    log: Option<String>,
    checkpoint: Option<String>,
    alarm: Option<StoredAlarm>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredAlarm {
    time_ms: u64,
    reason: String,
    ours: Option<String>,
    theirs: Option<String>,
}

/// Where the witness of a server is kept.
pub(crate) fn path(home: &Path, server: &PeerId) -> PathBuf {
    home.join(format!("log-{}.json", &server.to_string()[..16]))
}

/// What is known of a server's log; nothing if there is no file.
pub(crate) fn load(path: &Path) -> Result<Witness, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Witness::default()),
        Err(error) => return Err(Failure::new(format!("{}: {error}", path.display()))),
    };
    let damaged = || {
        Failure::new(format!("{} cannot be read", path.display()))
            .hint("it holds what this device knows of the server's log; move it away to begin anew")
    };
    let stored: Stored = serde_json::from_str(&text).map_err(|_| damaged())?;
    let note = |text: Option<String>| text.map(|t| t.parse::<Note>().map_err(|_| damaged())).transpose();
    let alarm = match stored.alarm {
        None => None,
        Some(alarm) => Some(Alarm {
            time: Timestamp(alarm.time_ms),
            reason: alarm.reason,
            ours: note(alarm.ours)?,
            theirs: note(alarm.theirs)?,
        }),
    };
    let log = stored.log.map(|log| log.parse().map_err(|_| damaged())).transpose()?;
    Ok(Witness { log, note: note(stored.checkpoint)?, alarm })
}

fn save(path: &Path, witness: &Witness) -> Result<(), Failure> {
    let text = |note: &Option<Note>| note.as_ref().map(Note::to_string);
    let alarm = witness.alarm.as_ref().map(|alarm| StoredAlarm {
        time_ms: alarm.time.0,
        reason: alarm.reason.clone(),
        ours: text(&alarm.ours),
        theirs: text(&alarm.theirs),
    });
    let log = witness.log.as_ref().map(ToString::to_string);
    let stored = Stored { log, checkpoint: text(&witness.note), alarm };
    let json = serde_json::to_string_pretty(&stored).map_err(|e| Failure::new(e.to_string()))?;
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, json)
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

/// A segment's entry in the log, and who brought the segment to the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proven {
    pub(crate) index: u64,
    pub(crate) from: PeerId,
}

fn proven((index, entry): (u64, Entry)) -> Option<Proven> {
    match entry.event {
        Event::Accepted { from, .. } => Some(Proven { index, from }),
        _ => None,
    }
}

/// The talk about the log on one connection.
#[derive(Debug)]
pub(crate) struct LogTalk {
    pub(crate) path: PathBuf,
    pub(crate) server: PeerId,
    pub(crate) identity: Identity,
    pub(crate) incoming: mpsc::Receiver<Vec<u8>>,
    pub(crate) outgoing: mpsc::Sender<Frame>,
    pub(crate) witness: Witness,
}

impl LogTalk {
    /// Asks for the present checkpoint and demands that it continues the last.
    pub(crate) async fn meet(mut self) -> Result<Self, Failure> {
        self.witness = load(&self.path)?;
        self.say(&self.witness.ask()).await?;
        if let LogMessage::Told(told) = self.hear().await? {
            self.judge(told).await?;
        }
        if let Some(alarm) = &self.witness.alarm {
            note(&format!("this server is unverified: {}; see `piecewise log status`", alarm.reason));
        }
        Ok(self)
    }

    async fn judge(&mut self, told: Told) -> Result<(), Failure> {
        let verdict = self.witness.receive(&self.server, told, &self.identity, now());
        match &verdict {
            Verdict::NewOrigin { before, .. } => {
                let log = self.witness.log.as_ref().map_or("", |log| &log.origin);
                note(&format!("the server's operator declared a new log, {log}, in place of {before}"));
            }
            Verdict::Silent => {
                note("the server signs no checkpoint of its log; see `piecewise log status`");
            }
            _ => {}
        }
        save(&self.path, &self.witness)?;
        match self.witness.answer(&verdict) {
            Some(answer) => self.say(&answer).await,
            None => Ok(()),
        }
    }

    /// For each segment the proof, under the last checkpoint, that the log says it was accepted, if there is one.
    pub(crate) async fn prove(&mut self, segments: &[SegmentId]) -> Result<Vec<Option<Proven>>, Failure> {
        let (size, mut found, mut asked) = (self.witness.size(), vec![], 0);
        while found.len() < segments.len() {
            while asked < segments.len() && asked < found.len() + QUESTIONS {
                self.say(&LogMessage::Prove { segment: segments[asked], size }).await?;
                asked += 1;
            }
            let segment = &segments[found.len()];
            found.push(match self.hear().await? {
                LogMessage::Proof(proof) => self.witness.check(segment, &proof).and_then(proven),
                _ => None,
            });
        }
        Ok(found)
    }

    /// Asks for the secret of a link to the server's status page; None: this device administers nothing there.
    pub(crate) async fn ask_status(&mut self) -> Result<Option<[u8; 32]>, Failure> {
        self.say(&LogMessage::AskStatus).await?;
        match self.hear().await? {
            LogMessage::StatusLink(secret) => Ok(secret),
            _ => Err(Failure::new("the server has no status page").hint("is it of the same version?")),
        }
    }

    async fn say(&self, message: &LogMessage) -> Result<(), Failure> {
        let sent = self.outgoing.send((LOG_CHANNEL, message.encode())).await;
        sent.map_err(|_| Failure::new("the connection was lost").code(code::UNREACHABLE))
    }

    async fn hear(&mut self) -> Result<LogMessage, Failure> {
        let lost = || Failure::new("the connection was lost").code(code::UNREACHABLE);
        let bytes = self.incoming.recv().await.ok_or_else(lost)?;
        LogMessage::decode(&bytes)
            .map_err(|_| Failure::new("the server's words about its log cannot be read"))
    }
}
