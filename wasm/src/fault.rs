//! Faults: errors as JavaScript sees them, with a `code` that programs can act on and a `hint` for people.

use piecewise_core::handshake::{HandshakeError, RefuseReason};
use piecewise_core::link::LinkError;
use piecewise_core::replica::ReplicaError;
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

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as C;
        let code = match error.sqlite_error_code() {
            Some(C::ConstraintViolation) => "CONSTRAINT",
            Some(C::DiskFull) => "QUOTA",
            Some(C::DatabaseCorrupt | C::NotADatabase) => "DAMAGED",
            Some(C::SystemIoFailure | C::CannotOpen) => "STORAGE",
            Some(C::DatabaseBusy | C::DatabaseLocked) => "BUSY",
            _ => "SQL",
        };
        let hint = match code {
            "QUOTA" | "STORAGE" => Some("the browser gives this site no more room; nothing of this statement was kept, all before it was".into()),
            _ => None,
        };
        Self { code, message: error.to_string(), hint }
    }
}

impl From<ReplicaError> for Fault {
    fn from(error: ReplicaError) -> Self {
        let code = match &error {
            ReplicaError::NotBound => "NOT_BOUND",
            ReplicaError::NotFound { .. } => "NOT_FOUND",
            ReplicaError::AlreadyTracked { .. } => "TRACKED",
            _ => "REPLICA",
        };
        let hint = error.hint();
        Self { code, message: chain(&error), hint }
    }
}

impl From<LinkError> for Fault {
    fn from(error: LinkError) -> Self {
        let code = match &error {
            LinkError::Denied { .. } => "NOT_GRANTED",
            LinkError::UnknownVersion { .. } => "VERSION",
            _ => "SYNC",
        };
        fault(code, chain(&error))
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
            HandshakeError::Refused { .. } => ("NOT_GRANTED", "ask for a new invite"),
            HandshakeError::NotPiecewise => {
                ("VERSION", "use the version of the package that fits the server")
            }
            _ => ("HANDSHAKE", "connect again"),
        };
        fault(code, chain(&error)).hint(hint)
    }
}
