//! The libraries: what is not an operator.
//!
//! In: a function's name, the value it is called on, its arguments. Out: its value. One file a library.

mod convert;
mod formats;
mod lists;
mod network;
mod optional;
mod strings;
mod text_format;
pub mod time;
mod versions;

use crate::{error::EvalError, eval::Budget, operators, value::Value};

type Result = std::result::Result<Value, EvalError>;

/// Calls a function.
pub fn call(function: &str, target: Option<&Value>, arguments: &[Value], budget: &mut Budget) -> Result {
    let size: u64 = target.into_iter().chain(arguments).map(Value::size).sum();
    budget.spend(1 + size / 10)?;
    match (function, target, arguments) {
        ("!_", None, [Value::Bool(value)]) => return Ok(Value::Bool(!value)),
        ("-_", None, [value]) => return operators::negate(value),
        ("size", Some(value), []) | ("size", None, [value]) => return length(value),
        _ => {}
    }
    if let Some(Value::Host(host)) = target {
        return host.call(function, arguments);
    }
    let libraries =
        [convert::call, strings::call, lists::call, time::call, network::call, versions::call, formats::call, optional::call];
    for library in libraries {
        if let Some(result) = library(function, target, arguments) {
            return result;
        }
    }
    Err(EvalError::no_such_overload())
}

fn length(value: &Value) -> Result {
    let length = match value {
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        _ => return Err(EvalError::no_such_overload()),
    };
    Ok(Value::Int(length as i64))
}
