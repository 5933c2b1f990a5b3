//! Reading and writing `metadata` of a decoded object.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// A text field of metadata; empty where absent.
#[must_use]
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    get(object, field).and_then(Value::as_str).unwrap_or_default()
}

/// A field of metadata; `None` where absent or null.
#[must_use]
pub fn get<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get("metadata")?.get(field).filter(|value| !value.is_null())
}

/// Sets a field of metadata.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(object) = object.as_object_mut() {
        let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if !metadata.is_object() {
            *metadata = Value::Object(Map::new());
        }
        metadata[field] = value.into();
    }
}

/// Removes a field of metadata.
pub fn remove(object: &mut Value, field: &str) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove(field)
}

/// Makes a field of `to` what it is in `from`, absent included.
pub fn copy(to: &mut Value, from: &Value, field: &str) {
    match get(from, field) {
        Some(value) => set(to, field, value.clone()),
        None => {
            remove(to, field);
        }
    }
}

/// Name of the object.
#[must_use]
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// Namespace of the object; empty for cluster-scoped ones.
#[must_use]
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// Unique identifier of the object.
#[must_use]
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// Resource version as the client sent it; empty where absent.
#[must_use]
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// Generation; 0 where absent.
#[must_use]
pub fn generation(object: &Value) -> i64 {
    get(object, "generation").and_then(Value::as_i64).unwrap_or_default()
}

/// Whether a deletion was asked for.
#[must_use]
pub fn is_deleting(object: &Value) -> bool {
    get(object, "deletionTimestamp").is_some()
}

/// Value of a label.
#[must_use]
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    get(object, "labels")?.get(key)?.as_str()
}

/// Value of an annotation.
#[must_use]
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    get(object, "annotations")?.get(key)?.as_str()
}

/// Finalizers in order.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    get(object, "finalizers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// A time as metadata carries it: RFC 3339 in UTC, whole seconds.
#[must_use]
pub fn time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
