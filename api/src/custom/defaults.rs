//! Defaults of a structural schema.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#defaulting>

use serde_json::Value;

use super::schema::Schema;

/// Fills in absent fields, also below defaults, and gives a default in place of a null that is no value.
pub fn apply(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            for (name, field) in &schema.properties {
                let Some(default) = &field.default else { continue };
                match map.get(name) {
                    None => {}
                    Some(Value::Null) if !field.nullable => {}
                    Some(_) => continue,
                }
                map.insert(name.clone(), default.clone());
            }
            for (name, inner) in map.iter_mut() {
                let Some(field) = schema.member(name) else { continue };
                if inner.is_null()
                    && !field.nullable
                    && let Some(default) = &field.default
                {
                    *inner = default.clone();
                }
                apply(inner, field);
            }
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            for item in items.iter_mut() {
                if item.is_null()
                    && !schema.nullable
                    && let Some(default) = &schema.default
                {
                    *item = default.clone();
                }
                apply(item, schema);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_fields_are_filled_in_at_every_depth() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "a": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 1}}},
            "c": {"type": "string", "default": "x"}, "n": {"type": "string", "nullable": true, "default": "y"},
            "l": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}},
            "o": {"type": "object", "properties": {"q": {"type": "string", "default": "z"}}},
            "m": {"type": "object", "additionalProperties": {"type": "object", "properties": {"r": {"type": "boolean", "default": true}}}}}}));
        let mut value = json!({"c": null, "n": null, "l": [{}, {"p": "UDP"}], "m": {"k": {}}});
        apply(&mut value, &schema);
        assert_eq!(
            value,
            json!({"a": {"b": 1}, "c": "x", "n": null, "l": [{"p": "TCP"}, {"p": "UDP"}], "m": {"k": {"r": true}}})
        );
    }
}
