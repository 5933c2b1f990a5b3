//! Strings, and regular expressions on them.

use regex::Regex;

use super::{Result, text_format};
use crate::{error::EvalError, value::Value};

/// Calls a function of this library; `None` where it has none.
pub fn call(function: &str, target: Option<&Value>, arguments: &[Value]) -> Option<Result> {
    if let (None, "matches", [Value::String(text), Value::String(pattern)]) = (target, function, arguments) {
        return Some(matches(text, pattern));
    }
    if let (None, "strings.quote", [Value::String(text)]) = (target, function, arguments) {
        return Some(Ok(Value::text(&format!("{text:?}"))));
    }
    if let (None, "jsonpatch.escapeKey", [Value::String(text)]) = (target, function, arguments) {
        return Some(Ok(Value::text(&text.replace('~', "~0").replace('/', "~1"))));
    }
    let Some(Value::String(text)) = target else { return None };
    Some(match (function, arguments) {
        ("contains", [Value::String(part)]) => Ok(Value::Bool(text.contains(part.as_ref()))),
        ("startsWith", [Value::String(part)]) => Ok(Value::Bool(text.starts_with(part.as_ref()))),
        ("endsWith", [Value::String(part)]) => Ok(Value::Bool(text.ends_with(part.as_ref()))),
        ("matches", [Value::String(pattern)]) => matches(text, pattern),
        ("find", [Value::String(pattern)]) => {
            expression(pattern).map(|regex| Value::text(regex.find(text).map_or("", |found| found.as_str())))
        }
        ("findAll", [Value::String(pattern)]) => find_all(text, pattern, -1),
        ("findAll", [Value::String(pattern), Value::Int(limit)]) => find_all(text, pattern, *limit),
        ("lowerAscii", []) => Ok(Value::text(&text.to_ascii_lowercase())),
        ("upperAscii", []) => Ok(Value::text(&text.to_ascii_uppercase())),
        ("trim", []) => Ok(Value::text(text.trim())),
        ("reverse", []) => Ok(Value::text(&text.chars().rev().collect::<String>())),
        ("charAt", [Value::Int(at)]) => char_at(text, *at),
        ("indexOf", [Value::String(part)]) => Ok(index_of(text, part, 0)),
        ("indexOf", [Value::String(part), Value::Int(from)]) => within(text, *from).map(|from| index_of(text, part, from)),
        ("lastIndexOf", [Value::String(part)]) => Ok(last_index_of(text, part, usize::MAX)),
        ("lastIndexOf", [Value::String(part), Value::Int(to)]) => within(text, *to).map(|to| last_index_of(text, part, to)),
        ("substring", [Value::Int(from)]) => substring(text, *from, text.chars().count() as i64),
        ("substring", [Value::Int(from), Value::Int(to)]) => substring(text, *from, *to),
        ("replace", [Value::String(old), Value::String(new)]) => Ok(Value::text(&text.replace(old.as_ref(), new))),
        ("replace", [Value::String(old), Value::String(new), Value::Int(limit)]) => Ok(match usize::try_from(*limit) {
            Ok(limit) => Value::text(&text.replacen(old.as_ref(), new, limit)),
            Err(_) => Value::text(&text.replace(old.as_ref(), new)),
        }),
        ("split", [Value::String(separator)]) => Ok(split(text, separator, -1)),
        ("split", [Value::String(separator), Value::Int(limit)]) => Ok(split(text, separator, *limit)),
        ("format", [Value::List(values)]) => text_format::format(text, values),
        _ => return None,
    })
}

fn expression(pattern: &str) -> std::result::Result<Regex, EvalError> {
    Regex::new(pattern).map_err(|error| EvalError::new(format!("error parsing regexp: {error}")))
}

fn matches(text: &str, pattern: &str) -> Result {
    expression(pattern).map(|regex| Value::Bool(regex.is_match(text)))
}

fn find_all(text: &str, pattern: &str, limit: i64) -> Result {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let regex = expression(pattern)?;
    Ok(Value::list(regex.find_iter(text).take(limit).map(|found| Value::text(found.as_str())).collect()))
}

fn out_of_range(at: i64) -> EvalError {
    EvalError::new(format!("index out of range: {at}"))
}

/// An index of a letter, or of the end.
fn within(text: &str, at: i64) -> std::result::Result<usize, EvalError> {
    usize::try_from(at).ok().filter(|at| *at <= text.chars().count()).ok_or_else(|| out_of_range(at))
}

fn char_at(text: &str, at: i64) -> Result {
    let at = within(text, at)?;
    Ok(Value::text(&text.chars().nth(at).map(String::from).unwrap_or_default()))
}

fn positions(text: &str, part: &str) -> Vec<usize> {
    let (letters, part): (Vec<char>, Vec<char>) = (text.chars().collect(), part.chars().collect());
    let last = letters.len().checked_sub(part.len());
    last.map(|last| (0..=last).filter(|at| letters[*at..].starts_with(&part)).collect()).unwrap_or_default()
}

fn index_of(text: &str, part: &str, from: usize) -> Value {
    let found = positions(text, part).into_iter().find(|at| *at >= from);
    Value::Int(found.map_or(-1, |at| at as i64))
}

fn last_index_of(text: &str, part: &str, to: usize) -> Value {
    let found = positions(text, part).into_iter().rev().find(|at| *at <= to);
    Value::Int(found.map_or(-1, |at| at as i64))
}

fn substring(text: &str, from: i64, to: i64) -> Result {
    let (start, end) = (within(text, from)?, within(text, to)?);
    if start > end {
        return Err(EvalError::new(format!("invalid substring range. start: {from}, end: {to}")));
    }
    Ok(Value::text(&text.chars().skip(start).take(end - start).collect::<String>()))
}

fn split(text: &str, separator: &str, limit: i64) -> Value {
    let parts: Vec<Value> = match limit {
        0 => Vec::new(),
        _ if separator.is_empty() => text.chars().map(|letter| Value::text(&letter.to_string())).collect(),
        limit if limit < 0 => text.split(separator).map(Value::text).collect(),
        limit => text.splitn(usize::try_from(limit).unwrap_or(usize::MAX), separator).map(Value::text).collect(),
    };
    Value::list(parts)
}
