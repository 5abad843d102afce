//! Values: SQL's as JavaScript's, and back. NULL is null, INTEGER a number or beyond 2^53 a BigInt, REAL a number,
//! TEXT a string, BLOB a Uint8Array.

use crate::fault::{Fault, fault};
use js_sys::{Array, BigInt, Object, Uint8Array};
use rusqlite::Statement;
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

/// What a statement's parameters are given: by position or by name.
#[derive(Debug, Clone)]
pub(crate) enum Parameters {
    List(Vec<Value>),
    Named(Vec<(String, Value)>),
}

impl Parameters {
    /// From a list, or from an object of names with or without their prefix; undefined and null: none.
    pub(crate) fn from_js(values: &JsValue) -> Result<Self, Fault> {
        if values.is_null() || values.is_undefined() {
            return Ok(Self::List(vec![]));
        }
        if Array::is_array(values) {
            let list = values.unchecked_ref::<Array>().iter();
            return Ok(Self::List(list.map(|value| from_js(&value)).collect::<Result<_, _>>()?));
        }
        let Some(object) = values.dyn_ref::<Object>().filter(|o| !o.is_instance_of::<Uint8Array>()) else {
            return Err(fault("VALUE", "parameters are a list of values, or an object of names and values"));
        };
        let entry = |entry: JsValue| {
            let entry: Array = entry.unchecked_into();
            Ok((entry.get(0).as_string().unwrap_or_default(), from_js(&entry.get(1))?))
        };
        Ok(Self::Named(Object::entries(object).iter().map(entry).collect::<Result<_, Fault>>()?))
    }

    /// Whether they are those that a statement has.
    pub(crate) fn check(&self, statement: &Statement<'_>) -> Result<(), Fault> {
        self.places(statement, 0).map(|_| ())
    }

    /// Binds them all to a statement, but for its last ones that are `others`.
    pub(crate) fn bind(&self, statement: &mut Statement<'_>, others: usize) -> Result<(), Fault> {
        for (n, value) in self.places(statement, others)?.into_iter().enumerate() {
            statement.raw_bind_parameter(n + 1, value)?;
        }
        Ok(())
    }

    /// The value of each parameter, in their order.
    fn places(&self, statement: &Statement<'_>, others: usize) -> Result<Vec<&Value>, Fault> {
        let wanted = statement.parameter_count() - others;
        let named = match self {
            Self::List(list) if list.len() == wanted => return Ok(list.iter().collect()),
            Self::List(list) => {
                let words =
                    format!("the statement has {wanted} parameters, and {} values were given", list.len());
                return Err(fault("VALUE", words));
            }
            Self::Named(named) => named,
        };
        let mut used = vec![false; named.len()];
        let mut places = vec![];
        for n in 1..=wanted {
            let Some(parameter) = statement.parameter_name(n) else {
                return Err(fault("VALUE", format!("parameter {n} of the statement has no name"))
                    .hint("give a list of values, or name all parameters, as in :id"));
            };
            let is_it = |name: &str| name == parameter || name == &parameter[1..];
            let mut found = named.iter().enumerate().filter(|(_, (name, _))| is_it(name));
            let Some((at, (_, value))) = found.next() else {
                return Err(fault("VALUE", format!("there is no value for the parameter {parameter}")));
            };
            if found.next().is_some() {
                return Err(fault("VALUE", format!("there are two values for the parameter {parameter}")));
            }
            used[at] = true;
            places.push(value);
        }
        match named.iter().zip(used).find(|(_, used)| !used) {
            Some(((name, _), _)) => Err(fault("VALUE", format!("the statement has no parameter {name}"))),
            None => Ok(places),
        }
    }
}
