//! Output: values, times and tables as people and programs read them.

use piecewise_core::id::Timestamp;
use piecewise_core::value::Value;
use piecewise_server::say;
use serde_json::{Map, json};
use std::time::{Duration, UNIX_EPOCH};

/// Prints a value as JSON on the output.
pub(crate) fn print_json(value: &serde_json::Value) {
    say!("{value:#}");
}

/// A time as RFC 3339 in UTC.
pub(crate) fn time(time: Timestamp) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(time.0);
    humantime::format_rfc3339_millis(time).to_string()
}

/// When something was written, for people; time 0 is "before the table was tracked".
pub(crate) fn written(at: Timestamp) -> String {
    if at == Timestamp(0) { "before tracking".to_owned() } else { time(at) }
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
    values.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// Prints lines in columns; the first line is their titles.
pub(crate) fn print_columns(lines: &[Vec<String>]) {
    let width = |n: usize| lines.iter().map(|l| l[n].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..lines.first().map_or(0, Vec::len)).map(width).collect();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect::<Vec<_>>();
        say!("{}", cells.join("  ").trim_end());
    }
}

/// A number with a word that fits it.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", indicatif::HumanCount(n), if n == 1 { one } else { many })
}

/// Bytes as people read them.
pub(crate) fn bytes(n: u64) -> String {
    indicatif::DecimalBytes(n).to_string()
}

/// A span of time as people read it, in its largest unit.
pub(crate) fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
