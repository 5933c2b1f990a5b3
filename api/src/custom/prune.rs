//! Fields that a schema does not know are taken out, and nulls that it does not allow.
//!
//! In: an object and its schema. Out: the object, cleaned, and the paths of what was taken out.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#field-pruning>

use serde_json::Value;

use super::schema::{Additional, Schema};

/// Unknown fields that are collected at most.
const UNKNOWN_MAX: usize = 100;

/// Prunes a value. `is_resource`: kind, apiVersion and metadata belong to it whatever the schema says.
/// `unknown` collects the paths of what is taken out, where somebody wants to know.
pub fn prune(value: &mut Value, schema: &Schema, is_resource: bool, unknown: Option<&mut Vec<String>>) {
    let mut walk = Walk { path: Vec::new(), unknown };
    walk.value(value, schema, is_resource, false);
}

struct Walk<'a> {
    path: Vec<String>,
    unknown: Option<&'a mut Vec<String>>,
}

impl Walk<'_> {
    fn value(&mut self, value: &mut Value, schema: &Schema, is_resource: bool, preserved: bool) {
        let preserve = schema.preserve_unknown_fields;
        match value {
            Value::Object(map) => {
                let names: Vec<String> = map.keys().cloned().collect();
                for name in names {
                    if is_resource && matches!(name.as_str(), "kind" | "apiVersion" | "metadata") {
                        continue;
                    }
                    let known = schema.properties.get(&name).map(|known| (known, false)).or(match &schema.additional {
                        Additional::Schema(values) => Some((values.as_ref(), true)),
                        Additional::Unset | Additional::Any(_) => None,
                    });
                    match known {
                        Some((known, in_map)) => {
                            if let Some(inner) = map.get_mut(&name) {
                                self.path.push(name.clone());
                                let _ = in_map;
                                self.value(inner, known, known.embedded_resource, false);
                                self.path.pop();
                            }
                        }
                        None if preserve || preserved || matches!(schema.additional, Additional::Any(true)) => {}
                        None => {
                            map.remove(&name);
                            self.note(&name);
                        }
                    }
                }
            }
            Value::Array(items) => {
                let Some(item_schema) = &schema.items else { return };
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push(format!("[{index}]"));
                    self.value(item, item_schema, item_schema.embedded_resource, preserve);
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, name: &str) {
        let Some(unknown) = &mut self.unknown else { return };
        if unknown.len() < UNKNOWN_MAX {
            let mut path = String::new();
            for step in self.path.iter().map(String::as_str).chain([name]) {
                if !path.is_empty() && !step.starts_with('[') {
                    path.push('.');
                }
                path.push_str(step);
            }
            unknown.push(path);
        }
    }
}

/// Takes out nulls of fields that are not nullable; defaults then fill the places.
pub fn prune_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            map.retain(|name, value| {
                let Some(known) = schema.member(name) else { return true };
                !value.is_null() || known.nullable || known.preserve_unknown_fields && known.type_.is_empty()
            });
            for (name, value) in map.iter_mut() {
                if let Some(known) = schema.member(name) {
                    prune_nulls(value, known);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter_mut().for_each(|item| prune_nulls(item, schema));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: Value, mut value: Value, expected: Value, unknown: &[&str]) {
        let mut found = Vec::new();
        prune(&mut value, &Schema::parse(&schema), true, Some(&mut found));
        assert_eq!(value, expected, "{schema}");
        assert_eq!(found, unknown);
    }

    #[test]
    fn only_known_fields_stay() {
        let list = json!({"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}});
        check(
            json!({"type": "object", "properties": {"a": {"type": "object", "properties": {"l": list}}}}),
            json!({"kind": "K", "metadata": {"z": 1}, "b": 1, "a": {"l": [{"x": "", "y": 1}], "m": 1}}),
            json!({"kind": "K", "metadata": {"z": 1}, "a": {"l": [{"x": ""}]}}),
            &["a.l[0].y", "a.m", "b"],
        );
        check(
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                   "properties": {"a": {"type": "object", "properties": {"c": {"type": "string"}}}}}),
            json!({"b": {"any": 1}, "a": {"c": "", "d": 1}}),
            json!({"b": {"any": 1}, "a": {"c": ""}}),
            &["a.d"],
        );
        check(
            json!({"type": "object", "properties": {"m": {"type": "object", "additionalProperties": {"type": "object"}}}}),
            json!({"m": {"k": {"x": 1}}}),
            json!({"m": {"k": {}}}),
            &["m.k.x"],
        );
        check(
            json!({"type": "object", "properties": {"e": {"type": "object", "x-kubernetes-embedded-resource": true,
                   "properties": {"spec": {"type": "object"}}}}}),
            json!({"e": {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x"}, "spec": {"a": 1}, "status": 1}}),
            json!({"e": {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x"}, "spec": {}}}),
            &["e.spec.a", "e.status"],
        );
    }

    #[test]
    fn nulls_stay_where_they_are_values() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "a": {"type": "string"}, "b": {"type": "string", "nullable": true}}}));
        let mut value = json!({"a": null, "b": null, "c": null});
        prune_nulls(&mut value, &schema);
        assert_eq!(value, json!({"b": null, "c": null}));
    }
}
