//! Equality, order and arithmetic.

use std::{cmp::Ordering, sync::Arc};

use crate::{error::EvalError, value::Value};

type Result = std::result::Result<Value, EvalError>;

fn overflow(kind: &str) -> EvalError {
    EvalError::new(format!("{kind} overflow"))
}

/// Whether two values are equal; numbers of different types are compared by value.
#[must_use]
pub fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::String(left), Value::String(right)) => left == right,
        (Value::Bytes(left), Value::Bytes(right)) => left == right,
        (Value::Type(left), Value::Type(right)) => left == right,
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len() && left.iter().zip(right.iter()).all(|(left, right)| equal(left, right))
        }
        (Value::Map(left), Value::Map(right)) => {
            let same = |(key, value): (_, &Value)| right.get(key).is_some_and(|other| equal(value, other));
            left.len() == right.len() && left.iter().all(same)
        }
        (Value::Optional(left), Value::Optional(right)) => match (left, right) {
            (Some(left), Some(right)) => equal(left, right),
            (None, None) => true,
            _ => false,
        },
        (Value::Ip(left), Value::Ip(right)) => left == right,
        (Value::Cidr(left, length), Value::Cidr(right, other)) => left == right && length == other,
        (Value::Url(left), Value::Url(right)) => left == right,
        (Value::Format(left), Value::Format(right)) => left == right,
        _ => compare(left, right).is_some_and(Ordering::is_eq),
    }
}

/// Order of two values; `None` where they have none.
#[must_use]
pub fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Uint(left), Value::Uint(right)) => Some(left.cmp(right)),
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
        (Value::Int(left), Value::Uint(right)) => Some(i128::from(*left).cmp(&i128::from(*right))),
        (Value::Uint(left), Value::Int(right)) => Some(i128::from(*left).cmp(&i128::from(*right))),
        (Value::Int(left), Value::Double(right)) => (*left as f64).partial_cmp(right),
        (Value::Uint(left), Value::Double(right)) => (*left as f64).partial_cmp(right),
        (Value::Double(_), Value::Int(_) | Value::Uint(_)) => compare(right, left).map(Ordering::reverse),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bytes(left), Value::Bytes(right)) => Some(left.cmp(right)),
        (Value::Timestamp(left), Value::Timestamp(right)) => Some(left.cmp(right)),
        (Value::Duration(left), Value::Duration(right)) => Some(left.cmp(right)),
        (Value::Quantity(left), Value::Quantity(right)) => Some(left.compare(right)),
        (Value::Semver(left), Value::Semver(right)) => Some(left.compare(right)),
        _ => None,
    }
}

/// `left + right`.
pub fn add(left: &Value, right: &Value) -> Result {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.checked_add(*right).map(Value::Int).ok_or_else(|| overflow("integer")),
        (Value::Uint(left), Value::Uint(right)) => {
            left.checked_add(*right).map(Value::Uint).ok_or_else(|| overflow("unsigned integer"))
        }
        (Value::Double(left), Value::Double(right)) => Ok(Value::Double(left + right)),
        (Value::String(left), Value::String(right)) => Ok(Value::String(Arc::from(format!("{left}{right}")))),
        (Value::Bytes(left), Value::Bytes(right)) => Ok(Value::Bytes([&left[..], &right[..]].concat().into())),
        (Value::List(left), Value::List(right)) => Ok(Value::list(left.iter().chain(right.iter()).cloned().collect())),
        (Value::Timestamp(time), Value::Duration(duration)) | (Value::Duration(duration), Value::Timestamp(time)) => {
            time.checked_add(*duration).map(Value::Timestamp).map_err(|_| overflow("timestamp"))
        }
        (Value::Duration(left), Value::Duration(right)) => {
            left.checked_add(*right).map(Value::Duration).ok_or_else(|| overflow("duration"))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

/// `left - right`.
pub fn subtract(left: &Value, right: &Value) -> Result {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.checked_sub(*right).map(Value::Int).ok_or_else(|| overflow("integer")),
        (Value::Uint(left), Value::Uint(right)) => {
            left.checked_sub(*right).map(Value::Uint).ok_or_else(|| overflow("unsigned integer"))
        }
        (Value::Double(left), Value::Double(right)) => Ok(Value::Double(left - right)),
        (Value::Timestamp(left), Value::Timestamp(right)) => Ok(Value::Duration(left.duration_since(*right))),
        (Value::Timestamp(time), Value::Duration(duration)) => {
            time.checked_sub(*duration).map(Value::Timestamp).map_err(|_| overflow("timestamp"))
        }
        (Value::Duration(left), Value::Duration(right)) => {
            left.checked_sub(*right).map(Value::Duration).ok_or_else(|| overflow("duration"))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

/// `left * right`.
pub fn multiply(left: &Value, right: &Value) -> Result {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.checked_mul(*right).map(Value::Int).ok_or_else(|| overflow("integer")),
        (Value::Uint(left), Value::Uint(right)) => {
            left.checked_mul(*right).map(Value::Uint).ok_or_else(|| overflow("unsigned integer"))
        }
        (Value::Double(left), Value::Double(right)) => Ok(Value::Double(left * right)),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// `left / right`.
pub fn divide(left: &Value, right: &Value) -> Result {
    let zero = || EvalError::new("division by zero");
    match (left, right) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(zero()),
        (Value::Int(left), Value::Int(right)) => left.checked_div(*right).map(Value::Int).ok_or_else(|| overflow("integer")),
        (Value::Uint(left), Value::Uint(right)) => Ok(Value::Uint(left / right)),
        (Value::Double(left), Value::Double(right)) => Ok(Value::Double(left / right)),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// `left % right`.
pub fn remainder(left: &Value, right: &Value) -> Result {
    match (left, right) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(EvalError::new("modulus by zero")),
        (Value::Int(left), Value::Int(right)) => left.checked_rem(*right).map(Value::Int).ok_or_else(|| overflow("integer")),
        (Value::Uint(left), Value::Uint(right)) => Ok(Value::Uint(left % right)),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// `-value`.
pub fn negate(value: &Value) -> Result {
    match value {
        Value::Int(value) => value.checked_neg().map(Value::Int).ok_or_else(|| overflow("integer")),
        Value::Double(value) => Ok(Value::Double(-value)),
        Value::Duration(value) => value.checked_neg().map(Value::Duration).ok_or_else(|| overflow("duration")),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// `item in container`.
pub fn contains(item: &Value, container: &Value) -> Result {
    match container {
        Value::List(items) => Ok(Value::Bool(items.iter().any(|other| equal(item, other)))),
        Value::Map(entries) => Ok(Value::Bool(item.as_key().is_some_and(|key| entries.contains_key(&key)))),
        _ => Err(EvalError::no_such_overload()),
    }
}
