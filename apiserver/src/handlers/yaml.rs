//! YAML bodies, bounded: a few aliases must not become gigabytes.

use std::{cell::Cell, collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What aliases may add to a document, beyond several times its own size.
const EXPANSION_FREE: usize = 1 << 20;
const EXPANSION_FACTOR: usize = 4;

/// A decoded document.
#[derive(Debug, PartialEq)]
pub struct Document {
    /// Its content.
    pub value: Value,
    /// The first key that is given twice, in the words of Kubernetes.
    pub duplicate: Option<String>,
}

/// Decodes one document; JSON is YAML.
///
/// # Errors
/// The parser's words, or that the document expands to too much.
pub fn decode(text: &[u8]) -> Result<Document, String> {
    let budget = Cell::new(EXPANSION_FREE + EXPANSION_FACTOR * text.len());
    let twice = Cell::new(false);
    let node = |strict: bool| Node { budget: &budget, twice: &twice, strict };
    let is_json = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if is_json {
        let mut parser = serde_json::Deserializer::from_slice(text);
        if let Ok(value) = node(false).deserialize(&mut parser).and_then(|value| parser.end().map(|()| value)) {
            let line = |_: &Cell<bool>| {
                let again = node(true).deserialize(&mut serde_json::Deserializer::from_slice(text));
                again.err().map(|error| (error.line(), error.to_string()))
            };
            let duplicate = if twice.get() { line(&twice).and_then(|(line, error)| describe(line, &error)) } else { None };
            return Ok(Document { value, duplicate });
        }
        budget.set(EXPANSION_FREE + EXPANSION_FACTOR * text.len());
    }
    let value = node(false).deserialize(serde_norway::Deserializer::from_slice(text)).map_err(|error| error.to_string())?;
    let mut duplicate = None;
    if twice.get() {
        budget.set(EXPANSION_FREE + EXPANSION_FACTOR * text.len());
        let again = node(true).deserialize(serde_norway::Deserializer::from_slice(text));
        duplicate = again.err().and_then(|error| describe(error.location().map_or(0, |at| at.line()), &error.to_string()));
    }
    Ok(Document { value, duplicate })
}

fn describe(line: usize, error: &str) -> Option<String> {
    let start = error.find("key \"")?;
    let end = error.find(ALREADY_SET)?;
    let key = error.get(start..end)?;
    Some(format!("error converting YAML to JSON: yaml: unmarshal errors:\n  line {line}: {key}{ALREADY_SET}"))
}

const ALREADY_SET: &str = " already set in map";

#[derive(Clone, Copy)]
struct Node<'b> {
    budget: &'b Cell<usize>,
    twice: &'b Cell<bool>,
    /// Whether a key that is given twice is an error, which says where it stands.
    strict: bool,
}

impl Node<'_> {
    fn spend<E: Error>(&self, cost: usize) -> Result<(), E> {
        let left = self.budget.get().checked_sub(cost + 1).ok_or_else(|| E::custom("document contains excessive aliasing"))?;
        self.budget.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.spend(0).map(|()| Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.spend(0).map(|()| value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.spend(0).map(|()| value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.spend(0).map(|()| value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.spend(0).map(|()| Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len()).map(|()| value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(self)? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut members = Map::new();
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key_seed(Key { node: self, seen: &mut seen })? {
            members.insert(name, map.next_value_seed(self)?);
        }
        Ok(members.into())
    }
}

struct Key<'s, 'b> {
    node: Node<'b>,
    seen: &'s mut HashSet<String>,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, '_> {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<String, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<String, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
        self.node.spend(value.len())?;
        if !self.seen.insert(value.to_owned()) {
            self.node.twice.set(true);
            if self.node.strict {
                return Err(E::custom(format!("key {value:?}{ALREADY_SET}")));
            }
        }
        Ok(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_and_json_read_the_same() {
        let wanted = json!({"a": [1, "x", null, true, 1.5], "80": {"b": {}}});
        for text in [
            "a: [1, x, null, true, 1.5]\n80:\n  b: {}\n",
            r#" {"a": [1, "x", null, true, 1.5], "80": {"b": {}}}"#,
            "{a: [1, x, ~, true, 1.5], 80: {b: {}}}",
        ] {
            assert_eq!(decode(text.as_bytes()).unwrap(), Document { value: wanted.clone(), duplicate: None }, "{text}");
        }
        assert!(decode(b"a: [").is_err());
        assert!(decode(b"a: b: c").is_err());
    }

    #[test]
    fn a_key_that_stands_twice_is_named_with_its_line() {
        let text = "\napiVersion: v1\nspec:\n  foo: 1\n  bar: 2\n  foo: 3\n";
        let found = decode(text.as_bytes()).unwrap();
        assert_eq!(found.value["spec"]["foo"], 3);
        assert_eq!(
            found.duplicate.unwrap(),
            "error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key \"foo\" already set in map"
        );
        let found = decode(b"{\"a\": 1,\n \"a\": 2}").unwrap();
        assert!(found.duplicate.unwrap().ends_with("line 2: key \"a\" already set in map"));
    }

    #[test]
    fn aliases_do_not_become_gigabytes() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 9].join(", ")));
        }
        let refused = decode(bomb.as_bytes()).unwrap_err();
        assert!(refused.contains("excessive aliasing") || refused.contains("repetition limit"), "{refused}");
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(decode(deep.as_bytes()).is_err());
        let deep = format!("{}{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
        assert!(decode(deep.as_bytes()).is_err());
    }
}
