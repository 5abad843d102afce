//! Report: an error as the user reads it: what happened, what to do, and the exit code.

use piecewise_core::handshake::{HandshakeError, RefuseReason};
use piecewise_core::link::LinkError;
use piecewise_core::replica::ReplicaError;
use piecewise_core::store::StoreError;
use std::error::Error;

/// Exit codes, which stay the same from version to version. 2 is clap's: wrong arguments.
pub(crate) mod code {
    /// Anything that has no code of its own; and tables that are stopped while the others are in sync.
    pub(crate) const FAILED: u8 = 1;
    /// The server cannot be reached, or the connection broke.
    pub(crate) const UNREACHABLE: u8 = 3;
    /// The server does not let this device in, or grants it nothing here.
    pub(crate) const NOT_GRANTED: u8 = 4;
    /// The file is locked, damaged, full, or may not be written.
    pub(crate) const FILE: u8 = 5;
    /// `compare` found differences.
    pub(crate) const DIFFERENT: u8 = 6;
    /// The server takes nothing in now, or no more from this device.
    pub(crate) const NO_INTAKE: u8 = 7;
    /// `wait` has waited for as long as it was told to.
    pub(crate) const TIME_IS_UP: u8 = 8;
    /// `check` found rows that it could not heal.
    pub(crate) const UNHEALED: u8 = 9;
}

/// What happened, what to do, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) code: u8,
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

    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self.may_pass = matches!(code, code::UNREACHABLE | code::NO_INTAKE);
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

impl From<ReplicaError> for Failure {
    fn from(error: ReplicaError) -> Self {
        let is_file = matches!(
            &error,
            ReplicaError::Store(
                StoreError::Sqlite(_) | StoreError::Damaged { .. } | StoreError::UnknownFormat { .. }
            )
        );
        let code = if is_file { code::FILE } else { code::FAILED };
        let may_pass = matches!(&error, ReplicaError::Store(error) if error.may_pass());
        let may_return = match &error {
            ReplicaError::Store(error) => error.may_return(),
            // A file that is being copied over is empty at first.
            error => matches!(error, ReplicaError::NotBound),
        };
        Self { message: chain(&error), hint: error.hint(), code, may_pass, may_return }
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
                .code(code::UNREACHABLE),
            LinkError::UnknownVersion { .. } | LinkError::OlderServer => {
                Self::new(message).hint("use the same version of piecewise on both sides")
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
            HandshakeError::Refused { .. } => Self::new(message)
                .hint("ask for a new invite: `piecewise-server invite --grant 'DATABASE/*=write'`, then `piecewise join`")
                .code(code::NOT_GRANTED),
            HandshakeError::WrongServerKey { .. } | HandshakeError::WrongRealm => Self::new(message)
                .hint("another server listens there now; if that is meant, join it with an invite of its own")
                .code(code::NOT_GRANTED),
            _ => Self::new(message).hint("is that a piecewise-server?").code(code::UNREACHABLE),
        }
    }
}
