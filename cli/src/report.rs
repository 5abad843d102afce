//! Report: an error as the user reads it: what happened, what to do, and the exit code.

use piecewise_core::handshake::{HandshakeError, RefuseReason};
use piecewise_core::link::LinkError;
use piecewise_core::replica::ReplicaError;
use piecewise_core::store::StoreError;
use piecewise_server::terminal;
use std::error::Error;

/// What kind of failure it was: a word for programs, which stays the same from version to version, and the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) word: &'static str,
    pub(crate) exit: u8,
}

/// The codes, listed in docs/src/command-line.md. 2 is clap's exit code: wrong arguments.
pub(crate) mod code {
    use super::Code;

    const fn new(word: &'static str, exit: u8) -> Code {
        Code { word, exit }
    }

    /// Anything that has no code of its own.
    pub(crate) const FAILED: Code = new("failed", 1);
    pub(crate) const NOT_JOINED: Code = new("not_joined", 1);
    pub(crate) const WHICH_SERVER: Code = new("which_server", 1);
    pub(crate) const BAD_INVITE: Code = new("bad_invite", 1);
    pub(crate) const BAD_ADDRESS: Code = new("bad_address", 1);
    pub(crate) const BAD_NAME: Code = new("bad_name", 1);
    pub(crate) const NOT_CONNECTED: Code = new("not_connected", 1);
    pub(crate) const OTHER_DATABASE: Code = new("other_database", 1);
    pub(crate) const TRACKED: Code = new("tracked", 1);
    pub(crate) const NOT_TRACKED: Code = new("not_tracked", 1);
    pub(crate) const CANNOT_TRACK: Code = new("cannot_track", 1);
    pub(crate) const BAD_MERGE: Code = new("bad_merge", 1);
    pub(crate) const NOT_FOUND: Code = new("not_found", 1);
    pub(crate) const INVALID: Code = new("invalid", 1);
    /// A table is stopped while the others are in sync.
    pub(crate) const STOPPED: Code = new("stopped", 1);
    /// Rows are held and would be in no table.
    pub(crate) const HELD: Code = new("held", 1);
    /// The server refused rows.
    pub(crate) const REFUSED: Code = new("refused", 1);
    pub(crate) const VERSION: Code = new("version", 1);
    /// The server cannot be reached, or the connection broke.
    pub(crate) const UNREACHABLE: Code = new("unreachable", 3);
    pub(crate) const CANNOT_OPEN: Code = new("cannot_open", 3);
    /// The server does not let this device in, or grants it nothing here.
    pub(crate) const NOT_GRANTED: Code = new("not_granted", 4);
    pub(crate) const REVOKED: Code = new("revoked", 4);
    pub(crate) const INVITE_USED: Code = new("invite_used", 4);
    pub(crate) const WRONG_SERVER: Code = new("wrong_server", 4);
    /// The file is damaged, full, of another version or no database.
    pub(crate) const FILE: Code = new("file", 5);
    pub(crate) const NO_FILE: Code = new("no_file", 5);
    pub(crate) const FILE_EXISTS: Code = new("file_exists", 5);
    pub(crate) const BUSY: Code = new("busy", 5);
    /// `compare` found differences.
    pub(crate) const DIFFERENT: Code = new("different", 6);
    /// The server takes nothing in now, or no more from this device.
    pub(crate) const NO_INTAKE: Code = new("no_intake", 7);
    /// `wait` has waited for as long as it was told to.
    pub(crate) const TIME_IS_UP: Code = new("timeout", 8);
    /// `check` found rows that it could not heal.
    pub(crate) const UNHEALED: Code = new("unhealed", 9);
}

/// What happened, what to do, and which kind of failure it is.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) code: Code,
    /// Whether trying again later may help.
    pub(crate) may_pass: bool,
    /// Whether it may help where all was well before: what was there may come back.
    pub(crate) may_return: bool,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: code::FAILED, may_pass: false, may_return: false }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn code(mut self, code: Code) -> Self {
        self.code = code;
        self.may_pass = matches!(code, code::UNREACHABLE | code::CANNOT_OPEN | code::NO_INTAKE);
        self
    }

    /// Trying again later may help.
    pub(crate) fn may_pass(mut self) -> Self {
        self.may_pass = true;
        self
    }

    /// Trying again later may help where all was well before.
    pub(crate) fn may_return(mut self) -> Self {
        self.may_return = true;
        self
    }

    /// Writes it to the error output.
    pub(crate) fn tell(&self) {
        terminal::error(&self.message, self.hint.as_deref(), self.code.word);
    }
}

/// An error with all its causes, once each.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<rusqlite::Error>() {
            break; // what it has to say was said in words of ours
        }
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}

fn code_of(error: &ReplicaError) -> Code {
    match error {
        ReplicaError::Store(StoreError::Sqlite(error)) if is_busy(error) => code::BUSY,
        ReplicaError::Store(
            StoreError::Sqlite(_) | StoreError::Damaged { .. } | StoreError::UnknownFormat { .. },
        ) => code::FILE,
        ReplicaError::NotBound => code::NOT_CONNECTED,
        ReplicaError::AlreadyBound { .. } => code::OTHER_DATABASE,
        ReplicaError::Refused(_) => code::CANNOT_TRACK,
        ReplicaError::AlreadyTracked { .. } => code::TRACKED,
        ReplicaError::NotTracked { .. } => code::NOT_TRACKED,
        ReplicaError::BadMerge { .. } => code::BAD_MERGE,
        ReplicaError::BadName { .. } => code::BAD_NAME,
        ReplicaError::NotFound { .. } => code::NOT_FOUND,
        ReplicaError::Table { .. } => code::STOPPED,
        ReplicaError::Held { .. } => code::HELD,
        ReplicaError::Invalid { .. } => code::INVALID,
        _ => code::FAILED,
    }
}

impl From<ReplicaError> for Failure {
    fn from(error: ReplicaError) -> Self {
        let may_pass = matches!(&error, ReplicaError::Store(error) if error.may_pass());
        let may_return = match &error {
            ReplicaError::Store(error) => error.may_return(),
            // A file that is being copied over is empty at first.
            error => matches!(error, ReplicaError::NotBound),
        };
        Self { message: chain(&error), hint: error.hint(), code: code_of(&error), may_pass, may_return }
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        let message = chain(&error);
        match error {
            LinkError::Replica(error) => error.into(),
            LinkError::Sync { container, source: piecewise_core::container::SyncError::Replica(error) } => {
                let failure = Self::from(error);
                Self { message: format!("table {container}: {}", failure.message), ..failure }
            }
            LinkError::Denied { database } => Self::new(message)
                .hint(format!("ask for an invite: `piecewise-server invite --grant '{database}/*=write'`"))
                .code(code::NOT_GRANTED)
                .may_return(),
            LinkError::Ended { .. } => Self::new(message).may_pass(),
            LinkError::CannotOpen { .. } => Self::new(message)
                .hint("try again; what was written here waits. Whoever runs the server finds more in its log")
                .code(code::CANNOT_OPEN),
            LinkError::UnknownVersion { .. } | LinkError::OlderServer => {
                Self::new(message).hint("use the same version of piecewise on both sides").code(code::VERSION)
            }
            _ => Self::new(message).code(code::UNREACHABLE),
        }
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        let message = chain(&error);
        match &error {
            HandshakeError::Refused { reason: RefuseReason::Busy } => {
                Self::new(message).hint("try again later").code(code::UNREACHABLE)
            }
            HandshakeError::Refused { reason } => Self::new(message)
                .hint("ask for a new invite: `piecewise-server invite --grant 'DATABASE/*=write'`, then `piecewise join`")
                .code(match reason {
                    RefuseReason::Revoked => code::REVOKED,
                    RefuseReason::BadInvite => code::INVITE_USED,
                    _ => code::NOT_GRANTED,
                }),
            HandshakeError::WrongServerKey { .. } | HandshakeError::WrongRealm => Self::new(message)
                .hint("another server listens there now; if that is meant, join it with an invite of its own")
                .code(code::WRONG_SERVER),
            _ => Self::new(message).hint("is that a piecewise-server?").code(code::UNREACHABLE),
        }
    }
}
