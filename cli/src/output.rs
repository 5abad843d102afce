//! Output: SQL values and rows as people and programs read them.

use piecewise_core::id::{PeerId, Timestamp};
use piecewise_core::replica::Author;
use piecewise_core::value::Value;
use piecewise_server::terminal::{device, shown, time};
use serde_json::{Map, json};

/// When something was written, for people.
pub(crate) fn written(at: Timestamp) -> String {
    if at.is_before_tracking() { "before tracking".to_owned() } else { time(at) }
}

/// When something was written, for programs; null: before tracking.
pub(crate) fn written_json(at: Timestamp) -> serde_json::Value {
    if at.is_before_tracking() { json!(null) } else { json!(time(at)) }
}

/// Who wrote something, for people on the device `own`.
pub(crate) fn author(author: &Author, own: &PeerId) -> String {
    if author.key == *own { "this device".to_owned() } else { device(&author.key, author.name.as_deref()) }
}

/// An SQL value as JSON: a blob as `{"blob": hex}`, text that is not UTF-8 as `{"text": hex}`.
pub(crate) fn value(value: &Value) -> serde_json::Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    match value {
        Value::Null => json!(null),
        Value::Integer(i) => json!(i),
        Value::Real(f) if f.is_finite() => json!(f),
        Value::Real(f) => json!(f.to_string()),
        Value::Text(s) => json!(s),
        Value::Blob(b) => json!({ "blob": hex(b) }),
        Value::RawText(b) => json!({ "text": hex(b) }),
    }
}

/// A row as a JSON object.
pub(crate) fn row(values: &[(String, Value)]) -> serde_json::Value {
    values.iter().map(|(name, v)| (name.clone(), value(v))).collect::<Map<_, _>>().into()
}

/// A row on one line.
pub(crate) fn row_line(values: &[(String, Value)]) -> String {
    let cell = |(name, value): &(String, Value)| format!("{}={}", shown(name), shown(&value.to_string()));
    values.iter().map(cell).collect::<Vec<_>>().join(" ")
}
