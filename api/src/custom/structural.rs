//! Whether a schema is structural: every value has one type, stated outside of combinations.
//!
//! In: a schema and its path. Out: a [`FieldError`] for each rule that it breaks, sorted. A CRD that breaks one
//! is not accepted; one that was stored before carries the condition `NonStructuralSchema`.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>

use serde_json::Value;

use super::schema::{Additional, Checks, Schema};
use crate::field::FieldError;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Rules that the schema breaks.
#[must_use]
pub fn validate(path: &str, schema: &Schema) -> Vec<FieldError> {
    let mut errors = Vec::new();
    invariants(schema, Level::Root, path, &mut errors);
    completeness(&schema.checks, schema, path, &mut errors);
    errors.sort_by_key(ToString::to_string);
    errors
}

fn property(path: &str, name: &str) -> String {
    format!("{path}.properties[{name}]")
}

fn invariants(schema: &Schema, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    if schema.type_ == "array" && schema.items.is_none() {
        errors.push(FieldError::required(format!("{path}.items"), "must be specified"));
    }
    if let Some(items) = &schema.items {
        invariants(items, Level::Item, &format!("{path}.items"), errors);
    }
    for (name, field) in &schema.properties {
        invariants(field, Level::Field, &property(path, name), errors);
    }
    if !matches!(schema.additional, Additional::Unset) && level == Level::Root {
        errors.push(FieldError::forbidden(format!("{path}.additionalProperties"), "must not be used at the root"));
    }
    if let Additional::Schema(values) = &schema.additional {
        invariants(values, Level::Field, &format!("{path}.additionalProperties"), errors);
    }
    extensions(schema, path, errors);
    let first_all_of = schema.checks.all_of.first().is_some_and(|first| is_int_or_string(&first.checks.any_of));
    values(&schema.checks, is_int_or_string(&schema.checks.any_of), first_all_of, path, errors);
    check_type(schema, level, path, errors);
    let has_metadata = level == Level::Root || schema.embedded_resource;
    for name in ["kind", "apiVersion"] {
        if let Some(field) = schema.properties.get(name).filter(|field| has_metadata && field.type_ != "string") {
            let at = format!("{}.type", property(path, name));
            errors.push(FieldError::invalid(at, &field.type_.as_str().into(), "must be string"));
        }
    }
    if let Some(metadata) = schema.properties.get("metadata") {
        check_metadata(metadata, has_metadata, level, &property(path, "metadata"), errors);
    }
    if schema.embedded_resource && !schema.preserve_unknown_fields && schema.properties.is_empty() {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(format!("{path}.properties"), detail));
    }
}

fn extensions(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let detail = "must be false if x-kubernetes-int-or-string is true";
    if schema.int_or_string && schema.preserve_unknown_fields {
        errors.push(FieldError::invalid(format!("{path}.x-kubernetes-preserve-unknown-fields"), &true.into(), detail));
    }
    if schema.int_or_string && schema.embedded_resource {
        errors.push(FieldError::invalid(format!("{path}.x-kubernetes-embedded-resource"), &true.into(), detail));
    }
}

fn check_type(schema: &Schema, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    let at = format!("{path}.type");
    if schema.embedded_resource && schema.type_ != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if schema.type_.is_empty() {
            FieldError::required(at.clone(), detail)
        } else {
            FieldError::invalid(at.clone(), &schema.type_.as_str().into(), detail)
        });
    } else if schema.type_.is_empty() && !schema.int_or_string && !schema.preserve_unknown_fields {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(at.clone(), detail));
    }
    if schema.embedded_resource && !matches!(schema.additional, Additional::Unset) {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(format!("{path}.additionalProperties"), detail));
    }
    if level == Level::Root && !schema.type_.is_empty() && schema.type_ != "object" {
        errors.push(FieldError::invalid(at, &schema.type_.as_str().into(), "must be object at the root"));
    }
}

fn check_metadata(metadata: &Schema, required: bool, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    if required && metadata.type_ != "object" {
        errors.push(FieldError::invalid(format!("{path}.type"), &metadata.type_.as_str().into(), "must be object"));
    }
    let only_names = metadata.properties.keys().all(|name| matches!(name.as_str(), "name" | "generateName"));
    let bare = metadata.items.is_none()
        && matches!(metadata.additional, Additional::Unset)
        && !metadata.nullable
        && !metadata.preserve_unknown_fields
        && !metadata.embedded_resource
        && !metadata.int_or_string
        && metadata.description.is_empty()
        && metadata.title.is_empty()
        && metadata.rules.is_empty()
        && metadata.checks.is_empty();
    if level == Level::Root && !(only_names && bare) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(path, detail));
    }
}

/// The one combination that may name types: an integer or a string.
fn is_int_or_string(any_of: &[Schema]) -> bool {
    let bare = |schema: &Schema, type_: &str| schema.type_ == type_ && schema.checks.is_empty() && schema.properties.is_empty();
    matches!(any_of, [first, second] if bare(first, "integer") && bare(second, "string"))
}

impl Checks {
    /// Whether nothing is restricted.
    fn is_empty(&self) -> bool {
        let numbers = [self.maximum, self.minimum, self.multiple_of];
        let counts = [self.max_length, self.min_length, self.max_items, self.min_items, self.max_properties, self.min_properties];
        self.format.is_empty()
            && self.pattern.is_empty()
            && numbers.iter().all(Option::is_none)
            && counts.iter().all(Option::is_none)
            && self.required.is_empty()
            && self.enum_.is_empty()
            && self.all_of.is_empty()
            && self.any_of.is_empty()
            && self.one_of.is_empty()
            && self.not.is_none()
    }
}

fn values(checks: &Checks, skip_any_of: bool, skip_first_all_of: bool, path: &str, errors: &mut Vec<FieldError>) {
    if !skip_any_of {
        for (index, schema) in checks.any_of.iter().enumerate() {
            nested(schema, false, &format!("{path}.anyOf[{index}]"), errors);
        }
    }
    for (index, schema) in checks.all_of.iter().enumerate() {
        nested(schema, skip_first_all_of && index == 0, &format!("{path}.allOf[{index}]"), errors);
    }
    for (index, schema) in checks.one_of.iter().enumerate() {
        nested(schema, false, &format!("{path}.oneOf[{index}]"), errors);
    }
    if let Some(schema) = &checks.not {
        nested(schema, false, &format!("{path}.not"), errors);
    }
    if !checks.pattern.is_empty()
        && let Err(error) = regex::Regex::new(&checks.pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(format!("{path}.pattern"), &checks.pattern.as_str().into(), detail));
    }
}

/// A schema inside a combination restricts and says nothing of its own.
fn nested(schema: &Schema, skip_any_of: bool, path: &str, errors: &mut Vec<FieldError>) {
    values(&schema.checks, skip_any_of, false, path, errors);
    if let Some(items) = &schema.items {
        nested(items, false, &format!("{path}.items"), errors);
    }
    for (name, field) in &schema.properties {
        nested(field, false, &property(path, name), errors);
    }
    let forbidden = [
        (!schema.type_.is_empty(), "type", "must be empty to be structural"),
        (!matches!(schema.additional, Additional::Unset), "additionalProperties", "must be undefined to be structural"),
        (schema.default.is_some(), "default", "must be undefined to be structural"),
        (!schema.title.is_empty(), "title", "must be empty to be structural"),
        (!schema.description.is_empty(), "description", "must be empty to be structural"),
        (schema.nullable, "nullable", "must be false to be structural"),
        (schema.preserve_unknown_fields, "x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        (schema.embedded_resource, "x-kubernetes-embedded-resource", "must be false to be structural"),
        (schema.int_or_string, "x-kubernetes-int-or-string", "must be false to be structural"),
        (!schema.list_map_keys.is_empty(), "x-kubernetes-list-map-keys", "must be empty to be structural"),
        (!schema.list_type.is_empty(), "x-kubernetes-list-type", "must be undefined to be structural"),
        (!schema.map_type.is_empty(), "x-kubernetes-map-type", "must be undefined to be structural"),
        (!schema.rules.is_empty(), "x-kubernetes-validations", "must be empty to be structural"),
    ];
    for (broken, field, detail) in forbidden {
        if broken {
            errors.push(FieldError::forbidden(format!("{path}.{field}"), detail));
        }
    }
    if schema.properties.contains_key("metadata") {
        errors.push(FieldError::forbidden(property(path, "metadata"), "must not be specified in a nested context"));
    }
}

/// What a combination restricts must also be stated outside of it.
fn completeness(checks: &Checks, skeleton: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let lists = [("allOf", &checks.all_of), ("anyOf", &checks.any_of), ("oneOf", &checks.one_of)];
    for (name, schemas) in lists {
        for (index, schema) in schemas.iter().enumerate() {
            complete_nested(schema, Some(skeleton), &format!("{path}.{name}[{index}]"), path, errors);
        }
    }
    if let Some(schema) = &checks.not {
        complete_nested(schema, Some(skeleton), &format!("{path}.not"), path, errors);
    }
    for (name, field) in &skeleton.properties {
        completeness(&field.checks, field, &property(path, name), errors);
    }
    if let Some(items) = &skeleton.items {
        completeness(&items.checks, items, &format!("{path}.items"), errors);
    }
    if let Additional::Schema(schema) = &skeleton.additional {
        completeness(&schema.checks, schema, &format!("{path}.additionalProperties"), errors);
    }
}

fn complete_nested(schema: &Schema, skeleton: Option<&Schema>, from: &str, to: &str, errors: &mut Vec<FieldError>) {
    let Some(skeleton) = skeleton else {
        errors.push(FieldError::required(to, format!("because it is defined in {from}")));
        return;
    };
    let checks = &schema.checks;
    let lists = [("allOf", &checks.all_of), ("anyOf", &checks.any_of), ("oneOf", &checks.one_of)];
    for (name, schemas) in lists {
        for (index, inner) in schemas.iter().enumerate() {
            complete_nested(inner, Some(skeleton), &format!("{from}.{name}[{index}]"), to, errors);
        }
    }
    if let Some(items) = &schema.items {
        complete_nested(items, skeleton.items.as_deref(), &format!("{from}.items"), &format!("{to}.items"), errors);
    }
    for (name, field) in &schema.properties {
        complete_nested(field, skeleton.properties.get(name), &property(from, name), &property(to, name), errors);
    }
}

/// Defaults must be values of their own schema.
pub fn validate_defaults(path: &str, schema: &Schema, errors: &mut Vec<FieldError>) {
    if let Some(default) = &schema.default {
        let mut pruned = default.clone();
        super::prune::prune(&mut pruned, schema, schema.embedded_resource, None);
        if pruned != *default {
            let at = format!("{path}.default");
            errors.push(FieldError::invalid(at, default, "must not have unknown fields"));
        }
        for mut error in super::validate::validate(default, schema) {
            error.field = if error.field.is_empty() || error.field == "<nil>" {
                format!("{path}.default")
            } else {
                format!("{path}.default.{}", error.field)
            };
            errors.push(error);
        }
    }
    for (name, field) in &schema.properties {
        validate_defaults(&property(path, name), field, errors);
    }
    if let Some(items) = &schema.items {
        validate_defaults(&format!("{path}.items"), items, errors);
    }
    if let Additional::Schema(values) = &schema.additional {
        validate_defaults(&format!("{path}.additionalProperties"), values, errors);
    }
}

/// The condition `NonStructuralSchema` of a stored definition; `None` where all schemas are structural.
#[must_use]
pub fn condition_message(versions: &[(String, Option<Value>)]) -> Option<String> {
    let mut errors = Vec::new();
    for (index, (_, schema)) in versions.iter().enumerate() {
        if let Some(schema) = schema {
            errors.extend(validate(&format!("spec.versions[{index}].schema.openAPIV3Schema"), &Schema::parse(schema)));
        }
    }
    match errors.as_slice() {
        [] => None,
        [one] => Some(one.to_string()),
        many => Some(format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: Value, expected: &[&str]) {
        let errors: Vec<String> = validate("s", &Schema::parse(&schema)).iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected, "{schema}");
    }

    #[test]
    fn rules_of_structural_schemas_one_by_one() {
        check(json!({"type": "object", "properties": {"spec": {"type": "object"}, "metadata": {"type": "object"}}}), &[]);
        check(json!({}), &["s.type: Required value: must not be empty at the root"]);
        check(json!({"type": "string"}), &["s.type: Invalid value: \"string\": must be object at the root"]);
        check(
            json!({"type": "object", "properties": {"a": {}}}),
            &["s.properties[a].type: Required value: must not be empty for specified object fields"],
        );
        check(
            json!({"type": "object", "properties": {"a": {"type": "array"}}}),
            &["s.properties[a].items: Required value: must be specified"],
        );
        check(
            json!({"type": "object", "properties": {"a": {"type": "array", "items": {}}}}),
            &["s.properties[a].items.type: Required value: must not be empty for specified array items"],
        );
        check(
            json!({"type": "object", "anyOf": [{"properties": {"b": {"type": "string"}}}]}),
            &[
                "s.anyOf[0].properties[b].type: Forbidden: must be empty to be structural",
                "s.properties[b]: Required value: because it is defined in s.anyOf[0].properties[b]",
            ],
        );
        check(
            json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}]}}}),
            &[],
        );
        check(
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            &[
                "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        );
        check(
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            &["s.additionalProperties: Forbidden: must not be used at the root"],
        );
    }

    #[test]
    fn defaults_are_values_of_their_schema() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}});
        let mut errors = Vec::new();
        validate_defaults("s", &Schema::parse(&schema), &mut errors);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().starts_with("s.properties[a].default: Invalid value: \"string\""), "{}", errors[0]);
    }
}
