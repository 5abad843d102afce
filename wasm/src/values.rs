//! Values: SQL's as JavaScript's, and back. NULL is null, INTEGER a number or beyond 2^53 a BigInt, REAL a number,
//! TEXT a string, BLOB a Uint8Array.

use crate::fault::{Fault, fault};
use js_sys::{Array, BigInt, Uint8Array};
use rusqlite::types::{Value, ValueRef};
use wasm_bindgen::{JsCast, JsValue};

/// The greatest integer that every smaller one can be told from as a double: 2^53 - 1.
const SAFE: i64 = (1 << 53) - 1;

/// An SQL value as JavaScript's.
pub(crate) fn to_js(value: ValueRef<'_>) -> JsValue {
    match value {
        ValueRef::Null => JsValue::NULL,
        ValueRef::Integer(i) if (-SAFE..=SAFE).contains(&i) => JsValue::from_f64(i as f64),
        ValueRef::Integer(i) => BigInt::from(i).into(),
        ValueRef::Real(f) => JsValue::from_f64(f),
        ValueRef::Text(text) => JsValue::from_str(&String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => Uint8Array::from(bytes).into(),
    }
}

/// A JavaScript value as SQL's; a whole number becomes an INTEGER, true and false 1 and 0.
pub(crate) fn from_js(value: &JsValue) -> Result<Value, Fault> {
    if value.is_null() || value.is_undefined() {
        return Ok(Value::Null);
    }
    if let Some(truth) = value.as_bool() {
        return Ok(Value::Integer(i64::from(truth)));
    }
    if let Some(number) = value.as_f64() {
        let whole = number.fract() == 0.0 && number.abs() <= SAFE as f64;
        return Ok(if whole { Value::Integer(number as i64) } else { Value::Real(number) });
    }
    if let Some(text) = value.as_string() {
        return Ok(Value::Text(text));
    }
    if let Some(bytes) = value.dyn_ref::<Uint8Array>() {
        return Ok(Value::Blob(bytes.to_vec()));
    }
    if value.is_bigint() {
        let text = value.clone().unchecked_into::<BigInt>().to_string(10).ok().and_then(|s| s.as_string());
        let number = text.and_then(|t| t.parse().ok());
        return number
            .map(Value::Integer)
            .ok_or_else(|| fault("VALUE", "a BigInt does not fit into 64 bits"));
    }
    Err(fault(
        "VALUE",
        "a parameter is no SQL value: use null, number, bigint, string, boolean or Uint8Array",
    ))
}

/// A list of parameters.
pub(crate) fn list(values: &Array) -> Result<Vec<Value>, Fault> {
    values.iter().map(|value| from_js(&value)).collect()
}
