//! Custom resources in OpenAPI documents.
//!
//! In: a served version. Out: its schema as version 2 or 3 of OpenAPI has it. Version 2 cannot say everything that a
//! definition can, and kubectl misreads what it half says: that is left out.

use serde_json::{Map, Value, json};

use super::strategy::Served;
use crate::openapi::describe;

/// Name of a type: `com.example.v1.Foo` of group `example.com`.
#[must_use]
pub fn type_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}

/// The schema of a version's objects; `reference` refers to ObjectMeta.
#[must_use]
pub fn schema(served: &Served, reference: &Value, v2: bool) -> Value {
    let version = served.version();
    let definition = &served.definition;
    let preserves = |schema: &Value| schema["x-kubernetes-preserve-unknown-fields"] == true;
    let mut schema = match &version.raw_schema {
        // A schema that names no field but some would make kubectl refuse all others.
        Value::Null => json!({ "type": "object" }),
        raw if v2 && (preserves(raw) || definition.preserve_unknown_fields) => json!({ "type": "object" }),
        raw => {
            let mut schema = raw.clone();
            if v2 {
                reduce(&mut schema);
            }
            embed(&mut schema, reference, v2);
            let name = |text: &str| json!({ "type": "string", "description": text });
            add_property(&mut schema, "apiVersion", name(describe::API_VERSION));
            add_property(&mut schema, "kind", name(describe::KIND));
            // Version 3 ignores what stands beside a reference.
            let mut metadata = if v2 { reference.clone() } else { json!({ "allOf": [reference] }) };
            metadata["description"] = json!(describe::METADATA);
            add_property(&mut schema, "metadata", metadata);
            schema
        }
    };
    let kind = json!({ "group": definition.group, "version": version.name, "kind": definition.names.kind });
    schema["x-kubernetes-group-version-kind"] = json!([kind]);
    if !version.selectable_fields.is_empty() {
        let fields = version.selectable_fields.iter().map(|(path, _)| json!({ "fieldPath": path }));
        schema["x-kubernetes-selectable-fields"] = fields.collect();
    }
    schema
}

fn add_property(schema: &mut Value, name: &str, property: Value) {
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    schema["properties"][name] = property;
}

/// Calls for each schema directly below.
fn below(schema: &mut Map<String, Value>, mut call: impl FnMut(&mut Value)) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(&mut call);
    }
    for field in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(field).filter(|inner| inner.is_object()) {
            call(inner);
        }
    }
}

/// Leaves out what version 2 does not have.
fn reduce(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for field in ["allOf", "anyOf", "oneOf", "not"] {
        map.remove(field);
    }
    if map.get("nullable") == Some(&json!(true)) {
        for field in ["type", "nullable", "items", "properties"] {
            map.remove(field);
        }
    }
    let preserves = map.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
    if preserves {
        map.remove("items");
        map.remove("properties");
    }
    let is = |type_: &str| map.get("type").is_some_and(|found| found == type_);
    if is("array") && !map.contains_key("items") || is("object") && preserves {
        map.remove("type");
    }
    let nullable: Vec<String> = map
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, property)| property["nullable"] == true)
        .map(|(name, _)| name.clone())
        .collect();
    if let Some(required) = map.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !nullable.iter().any(|nullable| name == nullable.as_str()));
        if required.is_empty() {
            map.remove("required");
        }
    }
    below(map, reduce);
}

/// Gives objects inside the object what every object has.
fn embed(schema: &mut Value, reference: &Value, v2: bool) {
    let Some(map) = schema.as_object_mut() else { return };
    below(map, |inner| embed(inner, reference, v2));
    let is = |field: &str| map.get(field) == Some(&json!(true));
    if !is("x-kubernetes-embedded-resource") || v2 && is("x-kubernetes-preserve-unknown-fields") {
        return;
    }
    for name in ["apiVersion", "kind"] {
        add_property(schema, name, json!({ "type": "string" }));
    }
    add_property(schema, "metadata", reference.clone());
    let mut required = schema["required"].as_array().cloned().unwrap_or_default();
    for name in ["kind", "apiVersion"] {
        if !required.iter().any(|known| known == name) {
            required.push(name.into());
        }
    }
    schema["required"] = required.into();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::custom::definition::Definition;
    use std::sync::Arc;

    fn served(schema: Value) -> Served {
        let definition = Definition::parse(&json!({"spec": {"group": "example.com", "names": {"kind": "Foo"},
            "versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}}));
        Served::new(&Arc::new(definition), 0).unwrap()
    }

    #[test]
    fn version_2_says_only_what_it_can() {
        let raw = json!({"type": "object", "properties": {
            "a": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "b": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"c": {"type": "string"}}},
            "n": {"type": "string", "nullable": true}}, "required": ["a", "n"]});
        let reference = json!({"$ref": "m"});
        let v2 = schema(&served(raw.clone()), &reference, true);
        assert_eq!(v2["properties"]["a"], json!({"x-kubernetes-int-or-string": true}));
        assert_eq!(v2["properties"]["b"], json!({"x-kubernetes-preserve-unknown-fields": true}));
        assert_eq!((&v2["properties"]["n"], &v2["required"]), (&json!({}), &json!(["a"])));
        assert_eq!(v2["properties"]["metadata"]["$ref"], reference["$ref"]);
        let v3 = schema(&served(raw.clone()), &reference, false);
        assert_eq!(v3["properties"]["b"], raw["properties"]["b"]);
        let open =
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"spec": {"type": "object"}}});
        assert_eq!(schema(&served(open), &reference, true).get("properties"), None);
        assert_eq!(type_name("stable.example.com", "v1", "Foo"), "com.example.stable.v1.Foo");
    }
}
