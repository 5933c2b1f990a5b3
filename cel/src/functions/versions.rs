//! Quantities and semantic versions.

use std::sync::Arc;

use super::Result;
use crate::{error::EvalError, quantity::Quantity, semver::Semver, value::Value};

/// Calls a function of this library; `None` where it has none.
pub fn call(function: &str, target: Option<&Value>, arguments: &[Value]) -> Option<Result> {
    match (target, arguments) {
        (None, [Value::String(text)]) => Some(match function {
            "quantity" => {
                let wrong = || {
                    EvalError::new("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
                };
                Quantity::parse(text).map(Value::Quantity).ok_or_else(wrong)
            }
            "isQuantity" => Ok(Value::Bool(Quantity::parse(text).is_some())),
            "semver" => parse_semver(text, false),
            "isSemver" => Ok(Value::Bool(Semver::parse(text, false).is_some())),
            _ => return None,
        }),
        (None, [Value::String(text), Value::Bool(lenient)]) => Some(match function {
            "semver" => parse_semver(text, *lenient),
            "isSemver" => Ok(Value::Bool(Semver::parse(text, *lenient).is_some())),
            _ => return None,
        }),
        (Some(Value::Quantity(quantity)), arguments) => of_quantity(function, quantity, arguments),
        (Some(Value::Semver(version)), arguments) => of_semver(function, version, arguments).map(Ok),
        _ => None,
    }
}

fn parse_semver(text: &str, lenient: bool) -> Result {
    let parsed = Semver::parse(text, lenient).map(|version| Value::Semver(Arc::new(version)));
    parsed.ok_or_else(|| EvalError::new(format!("parse error during conversion from string: invalid version {text:?}")))
}

fn of_quantity(function: &str, quantity: &Quantity, arguments: &[Value]) -> Option<Result> {
    let whole = |number: i64| Quantity::from_int(number);
    let overflow = || EvalError::new("quantity overflow");
    Some(match (function, arguments) {
        ("sign", []) => Ok(Value::Int(quantity.sign())),
        ("isInteger", []) => Ok(Value::Bool(quantity.as_integer().is_some())),
        ("asInteger", []) => {
            quantity.as_integer().map(Value::Int).ok_or_else(|| EvalError::new("cannot convert value to integer"))
        }
        ("asApproximateFloat", []) => Ok(Value::Double(quantity.as_float())),
        ("add", [Value::Quantity(other)]) => quantity.plus(other).map(Value::Quantity).ok_or_else(overflow),
        ("add", [Value::Int(other)]) => quantity.plus(&whole(*other)).map(Value::Quantity).ok_or_else(overflow),
        ("sub", [Value::Quantity(other)]) => quantity.minus(other).map(Value::Quantity).ok_or_else(overflow),
        ("sub", [Value::Int(other)]) => quantity.minus(&whole(*other)).map(Value::Quantity).ok_or_else(overflow),
        ("isGreaterThan", [Value::Quantity(other)]) => Ok(Value::Bool(quantity.compare(other).is_gt())),
        ("isLessThan", [Value::Quantity(other)]) => Ok(Value::Bool(quantity.compare(other).is_lt())),
        ("compareTo", [Value::Quantity(other)]) => Ok(Value::Int(quantity.compare(other) as i64)),
        _ => return None,
    })
}

fn of_semver(function: &str, version: &Semver, arguments: &[Value]) -> Option<Value> {
    let number = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
    Some(match (function, arguments) {
        ("major", []) => number(version.major),
        ("minor", []) => number(version.minor),
        ("patch", []) => number(version.patch),
        ("isGreaterThan", [Value::Semver(other)]) => Value::Bool(version.compare(other).is_gt()),
        ("isLessThan", [Value::Semver(other)]) => Value::Bool(version.compare(other).is_lt()),
        ("compareTo", [Value::Semver(other)]) => Value::Int(version.compare(other) as i64),
        _ => return None,
    })
}
