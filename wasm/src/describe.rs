//! Describe: status, conflicts, held and refused rows and history, as JSON for the npm package.

use piecewise_core::id::Timestamp;
use piecewise_core::replica::{
    Attention, Conflict, ConflictKind, HeldRow, HistoryEntry, RefusedRow, Status, Stopped, Written,
};
use piecewise_core::scrub::{CheckStatus, Checked, Finding, TableCheck};
use piecewise_core::value::Value;
use serde_json::{Map, Value as Json, json};

fn value(value: &Value) -> Json {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    match value {
        Value::Null => Json::Null,
        Value::Integer(i) => json!(i),
        Value::Real(f) => json!(f),
        Value::Text(text) => json!(text),
        Value::Blob(bytes) | Value::RawText(bytes) => json!({ "blob": hex(bytes) }),
    }
}

fn row(values: &[(String, Value)]) -> Json {
    values.iter().map(|(name, v)| (name.clone(), value(v))).collect::<Map<_, _>>().into()
}

fn written(written: &Written) -> Json {
    json!({ "value": value(&written.value), "author": written.author.key.to_string(), "authorName": written.author.name, "time": written.time.0 })
}

fn stopped(stopped: &Stopped) -> Json {
    json!({ "cause": stopped.kind.name(), "words": stopped.why, "since": stopped.since.0 })
}

pub(crate) fn status(status: &Status, attention: &Attention, database: Option<&str>) -> Json {
    let tables: Vec<_> = status
        .tables
        .iter()
        .map(|t| {
            json!({ "table": t.table, "container": t.container, "rows": t.rows, "segments": t.segments,
                    "segmentsWaiting": t.waiting_segments, "changesWaiting": t.waiting_changes, "held": t.held, "refused": t.refused, "root": t.root,
                    "readOnly": t.read_only, "met": t.met,
                    "stopped": t.stopped.as_ref().map(stopped) })
        })
        .collect();
    let last = status.last_level.map(|t: Timestamp| t.0);
    json!({ "database": database, "tables": tables, "writesWaiting": status.waiting_rows, "lastLevel": last,
            "conflicts": attention.conflicts, "held": attention.held, "refused": attention.refused })
}

pub(crate) fn conflict(conflict: &Conflict) -> Json {
    let (table, key) = (&conflict.table, &conflict.key);
    match &conflict.kind {
        ConflictKind::Cell { column, shown, others } => {
            let others: Vec<_> = others.iter().map(written).collect();
            json!({ "table": table, "key": key, "kind": "cell", "column": column,
                    "shown": written(shown), "others": others })
        }
        ConflictKind::Row { shown, others } => {
            let other = |o: &piecewise_core::replica::OtherRow| json!({ "row": row(&o.values), "author": o.author.key.to_string(), "authorName": o.author.name, "time": o.time.0 });
            let others: Vec<_> = others.iter().map(other).collect();
            json!({ "table": table, "key": key, "kind": "row", "shown": row(shown), "others": others })
        }
    }
}

pub(crate) fn checked(checked: &Checked, status: Option<&CheckStatus>) -> Json {
    let finding = |f: &Finding| {
        json!({ "table": f.table, "key": f.key, "fault": f.fault.name(), "healing": f.healing.name(),
                "text": format!("{}; {}", f.fault, f.healing) })
    };
    let table = |t: &TableCheck| json!({ "table": t.table, "rows": t.rows, "found": t.found, "unhealed": t.unhealed, "leftOut": t.left_out });
    let findings: Vec<_> = checked.findings.iter().map(finding).collect();
    let tables = status.map(|status| status.tables.iter().map(table).collect::<Vec<_>>());
    json!({ "findings": findings, "tables": tables })
}

pub(crate) fn held(held: &HeldRow) -> Json {
    json!({ "table": held.table, "key": held.key, "cause": held.cause, "row": row(&held.values) })
}

pub(crate) fn refused(refused: &RefusedRow) -> Json {
    json!({ "table": refused.table, "key": refused.key, "reason": refused.reason, "time": refused.time.0 })
}

pub(crate) fn history(entry: &HistoryEntry) -> Json {
    let columns: Map<_, _> =
        entry.columns.iter().map(|(name, what)| (name.clone(), json!(what.to_string()))).collect();
    json!({ "time": entry.time.0, "author": entry.author.key.to_string(), "authorName": entry.author.name, "kind": entry.kind, "columns": columns,
            "segment": entry.segment.to_string(), "state": entry.state })
}
