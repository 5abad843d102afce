//! Faults: errors as JavaScript sees them, with a `code` that programs can act on and a `hint` for people.

use piecewise_core::container::SyncError;
use piecewise_core::handshake::{HandshakeError, RefuseReason};
use piecewise_core::link::LinkError;
use piecewise_core::replica::ReplicaError;
use piecewise_core::store::StoreError;
use wasm_bindgen::JsValue;

/// An error on its way to JavaScript.
#[derive(Debug)]
pub(crate) struct Fault {
    code: &'static str,
    message: String,
    hint: Option<String>,
}

pub(crate) fn fault(code: &'static str, message: impl Into<String>) -> Fault {
    Fault { code, message: message.into(), hint: None }
}

impl Fault {
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Fault> for JsValue {
    fn from(fault: Fault) -> Self {
        let error = js_sys::Error::new(&fault.message);
        error.set_name("PiecewiseError");
        let set = |name: &str, value: &str| {
            // A plain object takes any property.
            let _ = js_sys::Reflect::set(&error, &name.into(), &value.into());
        };
        set("code", fault.code);
        if let Some(hint) = &fault.hint {
            set("hint", hint);
        }
        error.into()
    }
}

/// An error with all that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// SQLite's error codes, as ours.
fn sqlite_code(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode as C;
    match error.sqlite_error_code() {
        Some(C::ConstraintViolation) => "CONSTRAINT",
        Some(C::DiskFull) => "QUOTA",
        Some(C::DatabaseCorrupt | C::NotADatabase) => "DAMAGED",
        Some(C::SystemIoFailure | C::CannotOpen) => "STORAGE",
        Some(C::DatabaseBusy | C::DatabaseLocked) => "BUSY",
        _ => "SQL",
    }
}

/// What to do about an error that has one of these codes.
fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "QUOTA" => {
            "the browser gives this site no more room: nothing of this was kept, all before it was; remove something, or let the user free some space"
        }
        "STORAGE" => "nothing of this was kept, all before it was; the browser may have no room left",
        "DAMAGED" => {
            "keep a copy of the file, and open the database with { file } from an export, or under another name to sync it anew"
        }
        "VERSION" => "use the version of the package that fits, or a newer one",
        "NOT_BOUND" => "join a server first",
        "BOUND" => "a file belongs to one database: use that name, or open another file",
        "NOT_GRANTED" => "ask for an invite that grants it",
        _ => return None,
    })
}

fn with_hint(code: &'static str, message: String) -> Fault {
    Fault { code, message, hint: hint(code).map(str::to_owned) }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        with_hint(sqlite_code(&error), error.to_string())
    }
}

impl From<ReplicaError> for Fault {
    fn from(error: ReplicaError) -> Self {
        let code = match &error {
            ReplicaError::Store(StoreError::Sqlite(error)) => sqlite_code(error),
            ReplicaError::Store(StoreError::UnknownFormat { .. }) => "VERSION",
            ReplicaError::Store(_) => "DAMAGED",
            ReplicaError::Table { .. } => "STOPPED",
            ReplicaError::Held { .. } => "HELD",
            ReplicaError::NotBound => "NOT_BOUND",
            ReplicaError::AlreadyBound { .. } => "BOUND",
            ReplicaError::NotFound { .. } | ReplicaError::NotTracked { .. } => "NOT_FOUND",
            ReplicaError::AlreadyTracked { .. } => "TRACKED",
            _ => "REPLICA",
        };
        let own = match &error {
            ReplicaError::Refused(refusal) => refusal.hint(),
            _ => None,
        };
        let fault = with_hint(code, chain(&error));
        Self { hint: own.or(fault.hint), ..fault }
    }
}

impl From<LinkError> for Fault {
    fn from(error: LinkError) -> Self {
        let message = chain(&error);
        let code = match error {
            LinkError::Denied { .. } => "NOT_GRANTED",
            LinkError::UnknownVersion { .. } | LinkError::OlderServer => "VERSION",
            LinkError::Replica(error) | LinkError::Sync { source: SyncError::Replica(error), .. } => {
                return Self { message, ..Self::from(error) };
            }
            _ => "SYNC",
        };
        with_hint(code, message)
    }
}

impl From<HandshakeError> for Fault {
    fn from(error: HandshakeError) -> Self {
        let (code, hint) = match &error {
            HandshakeError::WrongServerKey { .. } | HandshakeError::WrongRealm => (
                "WRONG_SERVER",
                "somebody else answers at this address, or the server was set up anew; ask for a new invite",
            ),
            HandshakeError::Refused { reason: RefuseReason::BadInvite } => {
                ("BAD_INVITE", "ask for a new invite")
            }
            HandshakeError::Refused { reason: RefuseReason::Busy } => ("BUSY", "try again later"),
            HandshakeError::Refused { .. } => ("NOT_GRANTED", "ask for a new invite"),
            HandshakeError::NotPiecewise => {
                ("VERSION", "use the version of the package that fits the server")
            }
            _ => ("HANDSHAKE", "connect again"),
        };
        fault(code, chain(&error)).hint(hint)
    }
}
