//! Declarations for CEL from structural schemas.
//!
//! In: a schema. Out: its type, and a table of the object types below it. Fields that an expression cannot name are
//! left out.

use std::collections::BTreeMap;

use kontiki_cel::{Type, TypeTable, escape};

use super::schema::{Additional, Schema};

/// Type of a schema's values; object types go into the table under names that begin with `name`.
pub fn declare(schema: &Schema, name: &str, is_resource: bool, table: &mut TypeTable) -> Type {
    if schema.int_or_string {
        return Type::Dyn;
    }
    match schema.type_.as_str() {
        "object" => object(schema, name, is_resource, table),
        "array" => match &schema.items {
            Some(items) => Type::list(declare(items, &format!("{name}.@items"), items.embedded_resource, table)),
            None => Type::list(Type::Dyn),
        },
        "string" => match schema.checks.format.as_str() {
            "byte" => Type::Bytes,
            "date-time" | "date" => Type::Timestamp,
            "duration" => Type::Duration,
            _ => Type::String,
        },
        "boolean" => Type::Bool,
        "number" => Type::Double,
        "integer" => Type::Int,
        _ => Type::Dyn,
    }
}

fn object(schema: &Schema, name: &str, is_resource: bool, table: &mut TypeTable) -> Type {
    let is_resource = is_resource || schema.embedded_resource;
    match &schema.additional {
        Additional::Schema(values) => {
            return Type::map(declare(values, &format!("{name}.@values"), values.embedded_resource, table));
        }
        Additional::Any(true) => return Type::map(Type::Dyn),
        Additional::Unset | Additional::Any(false) => {}
    }
    if schema.properties.is_empty() && schema.preserve_unknown_fields && !is_resource {
        return Type::Dyn;
    }
    let mut fields: BTreeMap<String, Type> = BTreeMap::new();
    for (property, field) in &schema.properties {
        if let Some(escaped) = escape(property) {
            let type_ = declare(field, &format!("{name}.{property}"), field.embedded_resource, table);
            fields.insert(escaped, type_);
        }
    }
    if is_resource {
        let metadata = format!("{name}.metadata");
        let names = ["name", "generateName"].map(|field| (field.to_owned(), Type::String));
        table.insert(metadata.clone(), BTreeMap::from(names));
        fields.insert("kind".into(), Type::String);
        fields.insert("apiVersion".into(), Type::String);
        fields.insert("metadata".into(), Type::object(&metadata));
    }
    table.insert(name, fields);
    Type::object(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_cel::Types;
    use serde_json::json;

    #[test]
    fn types_follow_the_schema() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "a-b": {"type": "integer"}, "t": {"type": "string", "format": "date-time"},
                "l": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "boolean"}}}},
                "m": {"type": "object", "additionalProperties": {"type": "number"}},
                "i": {"x-kubernetes-int-or-string": true}}}}}));
        let mut table = TypeTable::default();
        assert_eq!(declare(&schema, "self", true, &mut table), Type::object("self"));
        for (field, expected) in [
            ("a__dash__b", Type::Int),
            ("t", Type::Timestamp),
            ("l", Type::list(Type::object("self.spec.l.@items"))),
            ("m", Type::map(Type::Double)),
            ("i", Type::Dyn),
        ] {
            assert_eq!(table.field("self.spec", field), Some(expected), "{field}");
        }
        assert_eq!(table.field("self.metadata", "name"), Some(Type::String));
        assert_eq!(table.field("self.metadata", "labels"), None);
    }
}
