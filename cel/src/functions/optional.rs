//! Values that may be absent.

use super::Result;
use crate::{error::EvalError, value::Value};

/// Calls a function of this library; `None` where it has none.
pub fn call(function: &str, target: Option<&Value>, arguments: &[Value]) -> Option<Result> {
    match (function, target, arguments) {
        ("optional.of", None, [value]) => Some(Ok(Value::some(value.clone()))),
        ("optional.none", None, []) => Some(Ok(Value::Optional(None))),
        ("optional.ofNonZeroValue", None, [value]) => {
            Some(Ok(if is_zero(value) { Value::Optional(None) } else { Value::some(value.clone()) }))
        }
        ("optional.unwrap", None, [Value::List(items)]) | ("unwrapOpt", Some(Value::List(items)), []) => {
            let present = items.iter().filter_map(|item| match item {
                Value::Optional(Some(value)) => Some(value.as_ref().clone()),
                _ => None,
            });
            Some(Ok(Value::list(present.collect())))
        }
        ("hasValue", Some(Value::Optional(value)), []) => Some(Ok(Value::Bool(value.is_some()))),
        ("value", Some(Value::Optional(value)), []) => {
            let value = value.as_ref().map(|value| value.as_ref().clone());
            Some(value.ok_or_else(|| EvalError::new("optional.none() dereference")))
        }
        _ => None,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Optional(None) => true,
        Value::Bool(value) => !value,
        Value::Int(number) => *number == 0,
        Value::Uint(number) => *number == 0,
        Value::Double(number) => *number == 0.0,
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => value.size() == 0,
        Value::Duration(duration) => duration.is_zero(),
        _ => false,
    }
}
