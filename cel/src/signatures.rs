//! What functions there are: one line each in `signatures.txt`.
//!
//! `function(arguments) result` is called bare, `type.function(arguments) result` on a value. A name such as
//! `sets.contains` that no type begins with is bare too. `A` and `B` are parameters.

use std::{collections::HashMap, sync::LazyLock};

use crate::types::Type;

/// One way to call a function.
#[derive(Debug)]
pub struct Signature {
    /// Type of the value that it is called on.
    pub receiver: Option<Type>,
    /// Types of the arguments.
    pub arguments: Vec<Type>,
    /// Type of the result.
    pub result: Type,
}

/// Namespaces of bare functions.
const NAMESPACES: [&str; 8] = ["strings", "sets", "lists", "optional", "format", "ip", "jsonpatch", "math"];

static TABLE: LazyLock<HashMap<&'static str, Vec<Signature>>> = LazyLock::new(|| {
    let mut table: HashMap<&'static str, Vec<Signature>> = HashMap::new();
    for line in include_str!("signatures.txt").lines() {
        let Some((call, result)) = line.rsplit_once(") ") else { continue };
        let Some((name, arguments)) = call.split_once('(') else { continue };
        let (receiver, function) = receiver(name);
        let arguments = split(arguments).into_iter().map(parse_type).collect();
        let signature = Signature { receiver, arguments, result: parse_type(result) };
        table.entry(function).or_default().push(signature);
    }
    table
});

/// Every way to call a function; on values a function has its own name, elsewhere its full one.
#[must_use]
pub fn of(function: &str) -> &'static [Signature] {
    TABLE.get(function).map_or(&[], Vec::as_slice)
}

/// Whether a qualified name is a function's.
#[must_use]
pub fn is_bare(function: &str) -> bool {
    of(function).iter().any(|signature| signature.receiver.is_none())
}

fn receiver(name: &'static str) -> (Option<Type>, &'static str) {
    if name.starts_with(['_', '!', '-', '@']) {
        return (None, name);
    }
    match name.rsplit_once('.') {
        Some((type_, _)) if NAMESPACES.contains(&type_) => (None, name),
        Some((type_, function)) => (Some(parse_type(type_)), function),
        None => (None, name),
    }
}

/// Splits at commas that lie in no brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if start < text.len() {
        parts.push(&text[start..]);
    }
    parts
}

fn parse_type(text: &str) -> Type {
    let inside = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>'));
    if let Some(item) = inside("list<") {
        return Type::list(parse_type(item));
    }
    if let Some(value) = inside("optional<") {
        return Type::Optional(parse_type(value).into());
    }
    if let Some(entries) = inside("map<")
        && let [key, value] = split(entries).as_slice()
    {
        return Type::Map(parse_type(key).into(), parse_type(value).into());
    }
    match text {
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "type" => Type::Type,
        "A" => Type::Parameter('A'),
        "B" => Type::Parameter('B'),
        other => Type::opaque(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_signature() {
        let count: usize = TABLE.values().map(Vec::len).sum();
        assert_eq!(count, include_str!("signatures.txt").lines().count());
        assert!(is_bare("sets.contains") && !is_bare("contains"));
        assert_eq!(of("join")[1].arguments, [Type::String]);
    }
}
