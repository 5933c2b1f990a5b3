//! Conditions of a status: one of each type, each with the time of its last change.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::meta;

/// The condition of a type.
#[must_use]
pub fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array)?;
    conditions.iter().find(|condition| condition["type"] == type_)
}

/// Sets a condition; the time of transition stays where the status does.
pub fn set_condition(object: &mut Value, type_: &str, status: &str, reason: &str, message: &str, now: Timestamp) {
    let old = condition(object, type_).cloned();
    let since = match old {
        Some(old) if old["status"] == status => old["lastTransitionTime"].clone(),
        _ => json!(meta::time(now)),
    };
    let new = json!({ "type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": since });
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = object["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|condition| condition["type"] == type_) {
        Some(condition) => *condition = new,
        None => conditions.push(new),
    }
}
