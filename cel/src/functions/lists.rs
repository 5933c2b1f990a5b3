//! Lists and sets.

use super::Result;
use crate::{
    error::EvalError,
    operators::{add, compare, equal},
    value::Value,
};

/// Longest list that `lists.range` makes.
const RANGE_MAX: i64 = 100_000;

/// Calls a function of this library; `None` where it has none.
pub fn call(function: &str, target: Option<&Value>, arguments: &[Value]) -> Option<Result> {
    match (function, target, arguments) {
        ("lists.range", None, [Value::Int(count)]) => {
            if *count > RANGE_MAX {
                return Some(Err(EvalError::new("lists.range: too many items")));
            }
            return Some(Ok(Value::list((0..*count).map(Value::Int).collect())));
        }
        ("sets.contains", None, [Value::List(set), Value::List(part)]) => return Some(Ok(Value::Bool(includes(set, part)))),
        ("sets.equivalent", None, [Value::List(left), Value::List(right)]) => {
            return Some(Ok(Value::Bool(includes(left, right) && includes(right, left))));
        }
        ("sets.intersects", None, [Value::List(left), Value::List(right)]) => {
            return Some(Ok(Value::Bool(left.iter().any(|item| includes(right, std::slice::from_ref(item))))));
        }
        _ => {}
    }
    let Some(Value::List(items)) = target else { return None };
    Some(match (function, arguments) {
        ("join", []) => join(items, ""),
        ("join", [Value::String(separator)]) => join(items, separator),
        ("isSorted", []) => {
            let ordered = items.windows(2).map(|pair| compare(&pair[0], &pair[1]).map(std::cmp::Ordering::is_le));
            ordered
                .collect::<Option<Vec<_>>>()
                .map(|all| Value::Bool(all.into_iter().all(|is| is)))
                .ok_or_else(EvalError::no_such_overload)
        }
        ("sum", []) => {
            let mut rest = items.iter();
            let first = rest.next().cloned().unwrap_or(Value::Int(0));
            rest.try_fold(first, |sum, item| add(&sum, item))
        }
        ("min", []) => extreme(items, std::cmp::Ordering::Less, "min"),
        ("max", []) => extreme(items, std::cmp::Ordering::Greater, "max"),
        ("indexOf", [item]) => Ok(place(items.iter().position(|other| equal(item, other)))),
        ("lastIndexOf", [item]) => Ok(place(items.iter().rposition(|other| equal(item, other)))),
        ("slice", [Value::Int(from), Value::Int(to)]) => slice(items, *from, *to),
        ("flatten", []) => Ok(Value::list(flatten(items, 1))),
        ("flatten", [Value::Int(depth)]) => match u32::try_from(*depth) {
            Ok(depth) => Ok(Value::list(flatten(items, depth))),
            Err(_) => Err(EvalError::new("level must be non-negative")),
        },
        ("distinct", []) => {
            let mut distinct: Vec<Value> = Vec::new();
            for item in items.iter() {
                if !distinct.iter().any(|other| equal(item, other)) {
                    distinct.push(item.clone());
                }
            }
            Ok(Value::list(distinct))
        }
        ("sort", []) => {
            if items.windows(2).any(|pair| compare(&pair[0], &pair[1]).is_none()) {
                return Some(Err(EvalError::no_such_overload()));
            }
            let mut sorted = items.to_vec();
            sorted.sort_by(|left, right| compare(left, right).unwrap_or(std::cmp::Ordering::Equal));
            Ok(Value::list(sorted))
        }
        ("reverse", []) => Ok(Value::list(items.iter().rev().cloned().collect())),
        ("first", []) => Ok(Value::Optional(items.first().cloned().map(Box::new))),
        ("last", []) => Ok(Value::Optional(items.last().cloned().map(Box::new))),
        _ => return None,
    })
}

fn includes(set: &[Value], part: &[Value]) -> bool {
    part.iter().all(|item| set.iter().any(|other| equal(item, other)))
}

fn join(items: &[Value], separator: &str) -> Result {
    let texts: Option<Vec<&str>> = items.iter().map(Value::as_text).collect();
    texts.map(|texts| Value::text(&texts.join(separator))).ok_or_else(EvalError::no_such_overload)
}

fn extreme(items: &[Value], wanted: std::cmp::Ordering, name: &str) -> Result {
    let mut items = items.iter();
    let mut best = items.next().ok_or_else(|| EvalError::new(format!("{name} called on empty list")))?;
    for item in items {
        if compare(item, best).ok_or_else(EvalError::no_such_overload)? == wanted {
            best = item;
        }
    }
    Ok(best.clone())
}

fn place(found: Option<usize>) -> Value {
    Value::Int(found.map_or(-1, |at| at as i64))
}

fn slice(items: &[Value], from: i64, to: i64) -> Result {
    let bounds = usize::try_from(from).ok().zip(usize::try_from(to).ok());
    let part = bounds.and_then(|(from, to)| items.get(from..to));
    part.map(|part| Value::list(part.to_vec()))
        .ok_or_else(|| EvalError::new(format!("cannot slice({from}, {to}), list is length {}", items.len())))
}

fn flatten(items: &[Value], depth: u32) -> Vec<Value> {
    let mut flat = Vec::new();
    for item in items {
        match item {
            Value::List(inner) if depth > 0 => flat.extend(flatten(inner, depth - 1)),
            other => flat.push(other.clone()),
        }
    }
    flat
}
