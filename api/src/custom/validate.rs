//! Whether a value is of a schema, in the words of Kubernetes' OpenAPI validator.
//!
//! In: a value and its schema. Out: a [`FieldError`] for each restriction that it breaks. Rules in CEL are not
//! judged here, `kontiki-cel` does that.

use serde_json::{Value, json};

use super::{
    formats,
    schema::{Additional, Checks, Schema},
};
use crate::field::{ErrorType, FieldError};

/// Errors that are collected at most.
const ERRORS_MAX: usize = 100;

/// Restrictions that the value breaks.
#[must_use]
pub fn validate(value: &Value, schema: &Schema) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check(value, schema, "", &mut errors);
    errors.truncate(ERRORS_MAX);
    errors
}

/// Duplicates in lists that are sets or maps.
#[must_use]
pub fn validate_lists(value: &Value, schema: &Schema) -> Vec<FieldError> {
    let mut errors = Vec::new();
    lists(value, schema, "", &mut errors);
    errors.truncate(ERRORS_MAX);
    errors
}

/// JSON's name of a value's type.
#[must_use]
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() && number.as_f64().is_some_and(|number| number.fract() != 0.0) => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn at_root(path: &str) -> String {
    if path.is_empty() { "<nil>".to_owned() } else { path.to_owned() }
}

fn error(type_: ErrorType, path: &str, value: Value, detail: String) -> FieldError {
    let invalid = FieldError::invalid(at_root(path), &value, detail);
    FieldError { type_, ..invalid }
}

fn check(value: &Value, schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    if errors.len() >= ERRORS_MAX {
        return;
    }
    if !check_type(value, schema, path, errors) {
        return;
    }
    if !schema.checks.enum_.is_empty() && !schema.checks.enum_.iter().any(|allowed| same(allowed, value)) {
        let text = |allowed: &Value| allowed.as_str().map_or_else(|| allowed.to_string(), str::to_owned);
        let allowed: Vec<String> = schema.checks.enum_.iter().map(text).collect();
        let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
        errors.push(FieldError::not_supported(at_root(path), value, &allowed));
    }
    match value {
        Value::String(text) => check_text(text, &schema.checks, path, errors),
        Value::Number(_) => check_number(value, &schema.checks, path, errors),
        Value::Array(items) => check_array(items, schema, path, errors),
        Value::Object(map) => check_object(map, schema, path, errors),
        Value::Null | Value::Bool(_) => {}
    }
    if !value.is_null() {
        check_combinations(value, &schema.checks, path, errors);
    }
}

/// Whether the value's type is the schema's; nothing else is looked at if not.
fn check_type(value: &Value, schema: &Schema, path: &str, errors: &mut Vec<FieldError>) -> bool {
    let found = type_of(value);
    let fits = match (schema.type_.as_str(), found) {
        (_, "null") => schema.nullable || schema.type_.is_empty() && !schema.int_or_string,
        ("", found) if schema.int_or_string => matches!(found, "integer" | "string"),
        ("", _) | ("number", "integer") => true,
        (wanted, found) => wanted == found,
    };
    if !fits {
        let wanted = if schema.int_or_string { "integer,string" } else { schema.type_.as_str() };
        let detail = format!("{path} in body must be of type {wanted}: {found:?}");
        errors.push(error(ErrorType::TypeInvalid, path, found.into(), detail));
    }
    fits
}

/// Equal, where 1 and 1.0 are the same number.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        _ => left == right,
    }
}

fn check_text(text: &str, checks: &Checks, path: &str, errors: &mut Vec<FieldError>) {
    let length = text.chars().count() as u64;
    if let Some(max) = checks.max_length.filter(|max| length > *max) {
        errors.push(FieldError::too_long(at_root(path), usize::try_from(max).unwrap_or(usize::MAX)));
    }
    if let Some(min) = checks.min_length.filter(|min| length < *min) {
        let detail = format!("{path} in body should be at least {min} chars long");
        errors.push(error(ErrorType::Invalid, path, text.into(), detail));
    }
    if checks.expression.as_ref().is_some_and(|expression| !expression.is_match(text)) {
        let detail = format!("{path} in body should match '{}'", checks.pattern);
        errors.push(error(ErrorType::Invalid, path, text.into(), detail));
    }
    if !formats::is_valid(&checks.format, text) {
        let detail = format!("{path} in body must be of type {}: {text:?}", checks.format);
        errors.push(error(ErrorType::TypeInvalid, path, text.into(), detail));
    }
}

fn check_number(value: &Value, checks: &Checks, path: &str, errors: &mut Vec<FieldError>) {
    let Some(number) = value.as_f64() else { return };
    let mut refuse = |detail: String| errors.push(error(ErrorType::Invalid, path, value.clone(), detail));
    if let Some(factor) = checks.multiple_of.filter(|factor| (number / factor).fract() != 0.0) {
        refuse(format!("{path} in body should be a multiple of {factor}"));
    }
    if let Some(max) = checks.maximum {
        if checks.exclusive_maximum && number >= max {
            refuse(format!("{path} in body should be less than {max}"));
        } else if !checks.exclusive_maximum && number > max {
            refuse(format!("{path} in body should be less than or equal to {max}"));
        }
    }
    if let Some(min) = checks.minimum {
        if checks.exclusive_minimum && number <= min {
            refuse(format!("{path} in body should be greater than {min}"));
        } else if !checks.exclusive_minimum && number < min {
            refuse(format!("{path} in body should be greater than or equal to {min}"));
        }
    }
    let fits = match checks.format.as_str() {
        "int32" => number.fract() != 0.0 || (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number),
        _ => true,
    };
    if !fits {
        let detail = format!("{path} in body must be of type {}: \"{value}\"", checks.format);
        errors.push(error(ErrorType::TypeInvalid, path, value.clone(), detail));
    }
}

fn check_array(items: &[Value], schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let (count, checks) = (items.len() as u64, &schema.checks);
    if let Some(min) = checks.min_items.filter(|min| count < *min) {
        let detail = format!("{path} in body should have at least {min} items");
        errors.push(error(ErrorType::Invalid, path, count.into(), detail));
    }
    if let Some(max) = checks.max_items.filter(|max| count > *max) {
        errors.push(error(ErrorType::TooMany, path, count.into(), format!("must have at most {max} items")));
        // A list that is too long is not read item by item.
        return;
    }
    if let Some(schema) = &schema.items {
        for (index, item) in items.iter().enumerate() {
            check(item, schema, &format!("{path}[{index}]"), errors);
        }
    }
}

fn check_object(map: &serde_json::Map<String, Value>, schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let (count, checks) = (map.len() as u64, &schema.checks);
    if let Some(min) = checks.min_properties.filter(|min| count < *min) {
        let detail = format!("{path} in body should have at least {min} properties");
        errors.push(error(ErrorType::Invalid, path, count.into(), detail));
    }
    if let Some(max) = checks.max_properties.filter(|max| count > *max) {
        errors.push(error(ErrorType::TooMany, path, count.into(), format!("must have at most {max} items")));
        return;
    }
    for name in checks.required.iter().filter(|name| !map.contains_key(*name)) {
        errors.push(FieldError::required(child(path, name), ""));
    }
    for (name, value) in map {
        match (schema.properties.get(name), &schema.additional) {
            (Some(field), _) => check(value, field, &child(path, name), errors),
            (None, Additional::Schema(values)) => check(value, values, &child(path, name), errors),
            (None, Additional::Unset | Additional::Any(_)) => {}
        }
    }
}

fn check_combinations(value: &Value, checks: &Checks, path: &str, errors: &mut Vec<FieldError>) {
    let judge = |schema: &Schema| -> Vec<FieldError> {
        let mut errors = Vec::new();
        check(value, schema, path, &mut errors);
        errors
    };
    let mut refuse = |detail: String, further: Vec<FieldError>| {
        errors.push(error(ErrorType::Invalid, "", json!(""), detail));
        errors.extend(further);
    };
    if !checks.any_of.is_empty() {
        let failures: Vec<_> = checks.any_of.iter().map(judge).collect();
        if failures.iter().all(|errors| !errors.is_empty()) {
            let best = failures.into_iter().min_by_key(Vec::len).unwrap_or_default();
            refuse(format!("{path:?} must validate at least one schema (anyOf)"), best);
        }
    }
    if !checks.one_of.is_empty() {
        let failures: Vec<_> = checks.one_of.iter().map(judge).collect();
        match failures.iter().filter(|errors| errors.is_empty()).count() {
            1 => {}
            0 => {
                let best = failures.into_iter().min_by_key(Vec::len).unwrap_or_default();
                refuse(format!("{path:?} must validate one and only one schema (oneOf). Found none valid"), best);
            }
            count => refuse(
                format!("{path:?} must validate one and only one schema (oneOf). Found {count} valid alternatives"),
                Vec::new(),
            ),
        }
    }
    if !checks.all_of.is_empty() {
        let failures: Vec<_> = checks.all_of.iter().map(judge).filter(|errors| !errors.is_empty()).collect();
        if !failures.is_empty() {
            let none = if failures.len() == checks.all_of.len() { ". None validated" } else { "" };
            let detail = format!("{path:?} must validate all the schemas (allOf){none}");
            refuse(detail, failures.into_iter().flatten().collect());
        }
    }
    if checks.not.as_deref().is_some_and(|schema| judge(schema).is_empty()) {
        refuse(format!("{path:?} must not validate the schema (not)"), Vec::new());
    }
}

fn lists(value: &Value, schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if let Some(field) = schema.member(name) {
                    let step = if schema.properties.contains_key(name) { child(path, name) } else { format!("{path}[{name}]") };
                    lists(value, field, &step, errors);
                }
            }
        }
        Value::Array(items) => {
            unique(items, schema, path, errors);
            if let Some(schema) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    lists(item, schema, &format!("{path}[{index}]"), errors);
                }
            }
        }
        _ => {}
    }
}

fn unique(items: &[Value], schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let keys: Vec<Value> = match schema.list_type.as_str() {
        "set" => items.to_vec(),
        "map" => {
            let key = |item: &Value| -> Value {
                let member = |name: &String| item.get(name).map(|value| (name.clone(), value.clone()));
                schema.list_map_keys.iter().filter_map(member).collect::<serde_json::Map<_, _>>().into()
            };
            items.iter().map(key).collect()
        }
        _ => return,
    };
    let mut seen = std::collections::HashSet::new();
    for (index, key) in keys.iter().enumerate() {
        if !seen.insert(key.to_string()) {
            errors.push(FieldError::duplicate(format!("{path}[{index}]"), key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: Value, value: Value, expected: &[&str]) {
        let schema = Schema::parse(&json!({"type": "object", "properties": {"a": schema}}));
        let value = json!({ "a": value });
        let errors = validate(&value, &schema).into_iter().chain(validate_lists(&value, &schema));
        assert_eq!(errors.map(|error| error.to_string()).collect::<Vec<_>>(), expected, "{value}");
    }

    #[test]
    fn each_restriction_has_kubernetes_words() {
        check(json!({"type": "string"}), json!("x"), &[]);
        check(
            json!({"type": "string"}),
            json!(1),
            &["a: Invalid value: \"integer\": a in body must be of type string: \"integer\""],
        );
        check(
            json!({"type": "string"}),
            json!(null),
            &["a: Invalid value: \"null\": a in body must be of type string: \"null\""],
        );
        check(json!({"type": "string", "nullable": true}), json!(null), &[]);
        check(json!({"type": "integer"}), json!(1.0), &[]);
        check(json!({"type": "number"}), json!(1), &[]);
        check(json!({"x-kubernetes-int-or-string": true}), json!("1"), &[]);
        check(
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            &["a: Invalid value: \"boolean\": a in body must be of type integer,string: \"boolean\""],
        );
        check(json!({"type": "string", "maxLength": 1}), json!("xy"), &["a: Too long: may not be more than 1 bytes"]);
        check(
            json!({"type": "string", "minLength": 1}),
            json!(""),
            &["a: Invalid value: \"\": a in body should be at least 1 chars long"],
        );
        check(
            json!({"type": "string", "pattern": "^a$"}),
            json!("b"),
            &["a: Invalid value: \"b\": a in body should match '^a$'"],
        );
        check(
            json!({"type": "string", "enum": ["x", "y"]}),
            json!("z"),
            &["a: Unsupported value: \"z\": supported values: \"x\", \"y\""],
        );
        check(
            json!({"type": "string", "format": "date-time"}),
            json!("z"),
            &["a: Invalid value: \"z\": a in body must be of type date-time: \"z\""],
        );
        check(
            json!({"type": "integer", "maximum": 3}),
            json!(4),
            &["a: Invalid value: 4: a in body should be less than or equal to 3"],
        );
        check(
            json!({"type": "integer", "minimum": 3, "exclusiveMinimum": true}),
            json!(3),
            &["a: Invalid value: 3: a in body should be greater than 3"],
        );
        check(
            json!({"type": "integer", "multipleOf": 2}),
            json!(3),
            &["a: Invalid value: 3: a in body should be a multiple of 2"],
        );
        let list =
            json!({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2, "x-kubernetes-list-type": "set"});
        check(list.clone(), json!([]), &["a: Invalid value: 0: a in body should have at least 2 items"]);
        check(list.clone(), json!(["x", "y", "z"]), &["a: Too many: 3: must have at most 2 items"]);
        check(list, json!(["x", "x"]), &["a[1]: Duplicate value: \"x\""]);
        check(
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                   "items": {"type": "object", "properties": {"n": {"type": "string"}}}}),
            json!([{"n": "x"}, {"n": "x"}]),
            &["a[1]: Duplicate value: {\"n\":\"x\"}"],
        );
        check(json!({"type": "object", "required": ["b"]}), json!({}), &["a.b: Required value"]);
        check(
            json!({"type": "object", "additionalProperties": {"type": "integer"}}),
            json!({"k": "x"}),
            &["a.k: Invalid value: \"string\": a.k in body must be of type integer: \"string\""],
        );
    }

    #[test]
    fn combinations_are_judged_as_a_whole() {
        let one_of = json!({"type": "object", "oneOf": [{"required": ["x"]}, {"required": ["y"]}]});
        check(one_of.clone(), json!({"x": 1}), &[]);
        check(
            one_of.clone(),
            json!({"x": 1, "y": 1}),
            &["<nil>: Invalid value: \"\": \"a\" must validate one and only one schema (oneOf). Found 2 valid alternatives"],
        );
        check(
            one_of,
            json!({}),
            &[
                "<nil>: Invalid value: \"\": \"a\" must validate one and only one schema (oneOf). Found none valid",
                "a.x: Required value",
            ],
        );
        check(
            json!({"type": "string", "not": {"enum": ["x"]}}),
            json!("x"),
            &["<nil>: Invalid value: \"\": \"a\" must not validate the schema (not)"],
        );
        check(json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]}), json!(6), &[]);
        check(
            json!({"type": "integer", "allOf": [{"minimum": 5}, {"maximum": 1}]}),
            json!(6),
            &[
                "<nil>: Invalid value: \"\": \"a\" must validate all the schemas (allOf)",
                "a: Invalid value: 6: a in body should be less than or equal to 1",
            ],
        );
    }
}
