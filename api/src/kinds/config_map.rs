//! ConfigMap.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    common::{AGE, NAME, age, column, name},
    validate::IMMUTABLE,
};
use crate::{
    field::FieldError,
    names,
    strategy::{Column, Strategy},
};

/// Largest sum of all values.
const BYTES_MAX: usize = 1 << 20;
const COLUMNS: &[Column] = &[NAME, column("Data", "string", 0, "Number of keys."), AGE];

/// ConfigMap.
pub struct ConfigMapStrategy;

impl Strategy for ConfigMapStrategy {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for field in ["data", "binaryData"] {
            validate_keys(object, field, &mut errors);
        }
        let both = object["data"].as_object().into_iter().flatten().filter(|(key, _)| object["binaryData"].get(key).is_some());
        errors.extend(
            both.map(|(key, _)| {
                FieldError::invalid(format!("data[{key}]"), &json!(key), "duplicate of key present in binaryData")
            }),
        );
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if old["immutable"] == json!(true) {
            if new["immutable"] != json!(true) {
                errors.push(FieldError::forbidden("immutable", "field is immutable when `immutable` is set"));
            }
            for field in ["data", "binaryData"] {
                if new.get(field) != old.get(field) {
                    errors.push(FieldError::forbidden(field, format!("{IMMUTABLE} when `immutable` is set")));
                }
            }
        }
        errors.extend(self.validate(new));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![name(object), json!(count_keys(object, &["data", "binaryData"])), age(object, now)]
    }
}

/// Number of keys in several maps.
pub(super) fn count_keys(object: &Value, fields: &[&str]) -> usize {
    fields.iter().map(|field| object[*field].as_object().map_or(0, serde_json::Map::len)).sum()
}

/// Keys of a map of values, and the size of them all.
pub(super) fn validate_keys(object: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in object[field].as_object().into_iter().flatten() {
        size += value.as_str().map_or(0, str::len);
        errors.extend(
            names::config_map_key(key)
                .into_iter()
                .map(|reason| FieldError::invalid(format!("{field}[{key}]"), &json!(key), reason)),
        );
    }
    if size > BYTES_MAX {
        errors.push(FieldError::too_long(field, BYTES_MAX));
    }
}
