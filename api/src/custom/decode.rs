//! Bodies and patches of custom resources.
//!
//! In: JSON and the version of a definition. Out: the object, pruned and with its metadata as every object's, with a
//! note on each unknown or repeated field; or the Status that refuses it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{definition::Version, prune, schema::Schema};
use crate::{
    decode::{Decoded, Dialect, FieldValidation, go_syntax_error, strict_error, walk_value},
    schema::{self, Type},
    status::Status,
};

/// Findings that are collected at most.
const FINDINGS_MAX: usize = 100;
/// How deep a body may nest.
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Decodes the body of a create or update.
///
/// # Errors
/// 400 BadRequest in the words of Kubernetes' decoder.
pub fn decode(
    body: &[u8],
    api_version: &str,
    kind: &str,
    version: &Version,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let mut duplicates = Vec::new();
    let mut parser = serde_json::Deserializer::from_slice(body);
    let parsed = Walk { duplicates: &mut duplicates, path: &mut String::new() }
        .deserialize(&mut parser)
        .and_then(|value| parser.end().map(|()| value));
    let mut object = match parsed {
        Ok(object @ Value::Object(_)) => object,
        Ok(_) => return Err(Status::bad_request("error decoding request body: not a JSON object")),
        Err(error) => {
            let message = go_syntax_error(&error, body);
            return Err(Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {message}"
            )));
        }
    };
    for (field, wanted) in [("apiVersion", api_version), ("kind", kind)] {
        match object.get(field).and_then(Value::as_str).unwrap_or_default() {
            "" => object[field] = wanted.into(),
            found if found == wanted => {}
            found => {
                let what = if field == "kind" { "kind" } else { "API version" };
                return Err(Status::bad_request(format!(
                    "the {what} in the data ({found}) does not match the expected {what} ({wanted})"
                )));
            }
        }
    }
    let strict = clean(&mut object, version, duplicates)?;
    match validation {
        FieldValidation::Ignore => Ok(Decoded { object, warnings: Vec::new() }),
        FieldValidation::Warn => Ok(Decoded { object, warnings: strict }),
        FieldValidation::Strict if strict.is_empty() => Ok(Decoded { object, warnings: Vec::new() }),
        FieldValidation::Strict => Err(Status::bad_request(strict_error(&strict))),
    }
}

/// Brings an object to the form of its version: unknown fields and forbidden nulls out, metadata as every object's.
/// Returns notes on what was unknown, after those that are handed in.
///
/// # Errors
/// Metadata that is none.
pub fn clean(object: &mut Value, version: &Version, mut notes: Vec<String>) -> Result<Vec<String>, Status> {
    let mut unknown = Vec::new();
    if let Some(metadata) = object.get_mut("metadata") {
        unknown.extend(clean_metadata(metadata, "metadata")?);
    }
    if let Some(schema) = &version.schema {
        prune::prune(object, schema, true, Some(&mut unknown));
        prune::prune_nulls(object, schema);
        embedded(object, schema, "", &mut unknown)?;
    }
    notes.extend(unknown.into_iter().map(|path| format!("unknown field \"{path}\"")));
    notes.truncate(FINDINGS_MAX);
    Ok(notes)
}

fn clean_metadata(metadata: &mut Value, path: &str) -> Result<Vec<String>, Status> {
    let Some(type_): Option<&'static Type> = schema::find(OBJECT_META) else {
        return Err(Status::internal_error("no type for ObjectMeta"));
    };
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    let (cleaned, findings) = walk_value(metadata.take(), type_, Dialect::Json);
    if let Some(error) = findings.error {
        return Err(Status::bad_request(format!("{path}: {error}")));
    }
    *metadata = cleaned;
    let strip = |finding: &String| {
        let field = finding.strip_prefix("unknown field \"").and_then(|field| field.strip_suffix('"'));
        field.map(|field| format!("{path}.{field}"))
    };
    Ok(findings.strict.iter().filter_map(strip).collect())
}

/// Metadata of objects inside the object.
fn embedded(value: &mut Value, schema: &Schema, path: &str, unknown: &mut Vec<String>) -> Result<(), Status> {
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                let Some(field) = schema.member(name) else { continue };
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if field.embedded_resource
                    && let Some(metadata) = value.get_mut("metadata")
                {
                    unknown.extend(clean_metadata(metadata, &format!("{path}.metadata"))?);
                }
                embedded(value, field, &path, unknown)?;
            }
        }
        Value::Array(items) => {
            let Some(item_schema) = &schema.items else { return Ok(()) };
            for (index, item) in items.iter_mut().enumerate() {
                embedded(item, item_schema, &format!("{path}[{index}]"), unknown)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Reads any JSON and notes fields that are given twice.
struct Walk<'a> {
    duplicates: &'a mut Vec<String>,
    path: &'a mut String,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        let length = self.path.len();
        loop {
            self.path.push_str(&format!("[{}]", items.len()));
            let next = sequence.next_element_seed(Walk { duplicates: &mut *self.duplicates, path: &mut *self.path });
            self.path.truncate(length);
            match next? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        let length = self.path.len();
        while let Some(name) = map.next_key::<String>()? {
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&name);
            let value = map.next_value_seed(Walk { duplicates: &mut *self.duplicates, path: &mut *self.path });
            if members.contains_key(&name) && self.duplicates.len() < FINDINGS_MAX {
                self.duplicates.push(format!("duplicate field \"{}\"", self.path));
            }
            self.path.truncate(length);
            members.insert(name, value?);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::custom::definition::Definition;
    use serde_json::json;

    fn definition(schema: Value) -> Definition {
        Definition::parse(&json!({"spec": {"group": "g", "names": {"kind": "K"},
            "versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}}))
    }

    #[test]
    fn unknown_and_repeated_fields_are_told() {
        let definition = definition(json!({"type": "object", "properties": {"spec": {"type": "object",
            "properties": {"a": {"type": "string"}, "e": {"type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true}}}}}));
        let version = definition.version("v1").unwrap();
        let body = br#"{"metadata": {"name": "x", "unknownMeta": 1}, "spec": {"a": "1", "a": "2", "z": 1,
            "e": {"metadata": {"name": "p", "y": 1}}}}"#;
        let refused = decode(body, "g/v1", "K", version, FieldValidation::Strict).unwrap_err();
        assert_eq!(
            refused.message,
            "strict decoding error: duplicate field \"spec.a\", unknown field \"metadata.unknownMeta\", unknown field \"spec.z\", unknown field \"spec.e.metadata.y\""
        );
        let decoded = decode(body, "g/v1", "K", version, FieldValidation::Warn).unwrap();
        assert_eq!(decoded.warnings.len(), 4);
        assert_eq!(
            decoded.object,
            json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "x"}, "spec": {"a": "2", "e": {"metadata": {"name": "p"}}}})
        );
    }

    #[test]
    fn another_kind_is_refused() {
        let definition = definition(json!({"type": "object"}));
        let version = definition.version("v1").unwrap();
        let refused = decode(br#"{"kind": "X"}"#, "g/v1", "K", version, FieldValidation::Warn).unwrap_err();
        assert_eq!(refused.message, "the kind in the data (X) does not match the expected kind (K)");
        assert_eq!(decode(b"[", "g/v1", "K", version, FieldValidation::Warn).unwrap_err().code, 400);
        assert_eq!(decode(b"[]", "g/v1", "K", version, FieldValidation::Warn).unwrap_err().code, 400);
    }
}
