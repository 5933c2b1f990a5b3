//! Conversions between types.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Result, time};
use crate::{
    error::EvalError,
    value::{Value, duration_text},
};

/// Calls a function of this library; `None` where it has none.
pub fn call(function: &str, target: Option<&Value>, arguments: &[Value]) -> Option<Result> {
    let ([value], None) = (arguments, target) else { return None };
    Some(match function {
        "dyn" => Ok(value.clone()),
        "type" => Ok(Value::Type(Arc::from(value.type_name()))),
        "bool" => to_bool(value),
        "int" => to_int(value),
        "uint" => to_uint(value),
        "double" => to_double(value),
        "string" => to_string(value),
        "bytes" => match value {
            Value::String(text) => Ok(Value::Bytes(text.as_bytes().into())),
            Value::Bytes(_) => Ok(value.clone()),
            _ => Err(EvalError::no_such_overload()),
        },
        "timestamp" => to_timestamp(value),
        "duration" => match value {
            Value::Duration(_) => Ok(value.clone()),
            Value::String(text) => {
                let parsed = time::parse_duration(text).map(Value::Duration);
                parsed.ok_or_else(|| EvalError::new(format!("time: invalid duration {text:?}")))
            }
            _ => Err(EvalError::no_such_overload()),
        },
        _ => return None,
    })
}

fn to_bool(value: &Value) -> Result {
    match value {
        Value::Bool(_) => Ok(value.clone()),
        Value::String(text) => match text.as_ref() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            other => Err(EvalError::new(format!("strconv.ParseBool: parsing {other:?}: invalid syntax"))),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn range(kind: &str) -> EvalError {
    EvalError::new(format!("{kind} overflow"))
}

fn to_int(value: &Value) -> Result {
    match value {
        Value::Int(_) => Ok(value.clone()),
        Value::Uint(number) => i64::try_from(*number).map(Value::Int).map_err(|_| range("integer")),
        Value::Double(number) if number.is_finite() && number.abs() < 9.223_372_036_854_775e18 => Ok(Value::Int(*number as i64)),
        Value::Double(_) => Err(range("integer")),
        Value::Timestamp(time) => Ok(Value::Int(time.as_second())),
        Value::String(text) => {
            let parsed = text.parse().map(Value::Int);
            parsed.map_err(|_| EvalError::new(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

fn to_uint(value: &Value) -> Result {
    match value {
        Value::Uint(_) => Ok(value.clone()),
        Value::Int(number) => u64::try_from(*number).map(Value::Uint).map_err(|_| range("unsigned integer")),
        Value::Double(number) if (0.0..1.8e19).contains(number) => Ok(Value::Uint(*number as u64)),
        Value::Double(_) => Err(range("unsigned integer")),
        Value::String(text) => {
            let parsed = text.parse().map(Value::Uint);
            parsed.map_err(|_| EvalError::new(format!("strconv.ParseUint: parsing {text:?}: invalid syntax")))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

fn to_double(value: &Value) -> Result {
    match value {
        Value::Double(_) => Ok(value.clone()),
        Value::Int(number) => Ok(Value::Double(*number as f64)),
        Value::Uint(number) => Ok(Value::Double(*number as f64)),
        Value::String(text) => {
            let parsed = text.parse().map(Value::Double);
            parsed.map_err(|_| EvalError::new(format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

fn to_string(value: &Value) -> Result {
    match value {
        Value::String(_) => Ok(value.clone()),
        Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::Timestamp(_)
        | Value::Ip(_)
        | Value::Cidr(..) => Ok(Value::text(&value.to_string())),
        Value::Duration(duration) => Ok(Value::text(&duration_text(*duration))),
        Value::Bytes(bytes) => {
            let text =
                std::str::from_utf8(bytes).map_err(|_| EvalError::new("invalid UTF-8 in bytes, cannot convert to string"))?;
            Ok(Value::text(text))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

fn to_timestamp(value: &Value) -> Result {
    match value {
        Value::Timestamp(_) => Ok(value.clone()),
        Value::Int(seconds) => Timestamp::from_second(*seconds).map(Value::Timestamp).map_err(|_| range("timestamp")),
        Value::String(text) => {
            let parsed = text.parse().map(Value::Timestamp);
            parsed.map_err(|_| EvalError::new(format!("parsing time {text:?}: not RFC 3339")))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}
