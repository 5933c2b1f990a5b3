//! Secret.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    common::{AGE, NAME, age, column, default, name},
    config_map::{count_keys, validate_keys},
    validate::{IMMUTABLE, immutable},
};
use crate::{
    field::FieldError,
    object::text,
    strategy::{Column, Strategy},
};

const COLUMNS: &[Column] =
    &[NAME, column("Type", "string", 0, "What the secret is for."), column("Data", "string", 0, "Number of keys."), AGE];

/// Secret.
pub struct SecretStrategy;

impl Strategy for SecretStrategy {
    fn set_defaults(&self, object: &mut Value) {
        let Some(map) = object.as_object_mut() else { return };
        default(map, "type", "Opaque");
        // What was written as text joins what was written as base64, and wins.
        if let Some(Value::Object(plain)) = map.remove("stringData") {
            let data = map.entry("data").or_insert_with(|| Value::Object(Map::new()));
            for (key, value) in plain {
                data[key] = json!(BASE64_STANDARD.encode(value.as_str().unwrap_or_default()));
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        validate_keys(object, "data", &mut errors);
        for (key, value) in object["data"].as_object().into_iter().flatten() {
            if BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).is_err() {
                errors.push(FieldError::invalid(
                    format!("data[{key}]"),
                    &json!("<secret contents redacted>"),
                    "illegal base64 data",
                ));
            }
        }
        let required: &[&str] = match text(object, "/type") {
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            _ => &[],
        };
        for key in required.iter().filter(|key| object["data"].get(**key).is_none()) {
            errors.push(FieldError::required(format!("data[{key}]"), ""));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        immutable(new, old, "/type", &mut errors);
        if old["immutable"] == json!(true) && (new.get("data") != old.get("data") || new["immutable"] != json!(true)) {
            errors.push(FieldError::forbidden("data", format!("{IMMUTABLE} when `immutable` is set")));
        }
        errors.extend(self.validate(new));
        errors
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![name(object), json!(text(object, "/type")), json!(count_keys(object, &["data"])), age(object, now)]
    }
}
