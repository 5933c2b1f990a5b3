//! The annotation in which client-side `kubectl apply` remembers what it applied.
//!
//! kubectl's server-side apply takes over the fields that the annotation names and that are still as it says, and
//! keeps the annotation true, so that an older kubectl can go on.

use serde_json::Value;

use super::{
    Owned,
    compare::compare,
    fields::FieldSet,
    walk::{check, collect},
};
use crate::object::{meta, text};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Fields that were applied by the client and have not changed since.
pub(super) fn unchanged(owned: &Owned<'_>, live: &Value, api_version: &str) -> Option<FieldSet> {
    let applied: Value = serde_json::from_str(meta::annotation(live, ANNOTATION)?).ok()?;
    if text(&applied, "/apiVersion") != api_version || check(owned.node, &applied).is_err() {
        return None;
    }
    let since = compare(owned.node, &applied, live);
    Some(collect(owned.node, &applied).difference(&since.changed()).difference(&since.removed))
}

/// Sets the annotation, where there is one, to what was applied.
pub(super) fn follow(object: &mut Value, config: &Value) {
    if meta::annotation(object, ANNOTATION).is_none_or(str::is_empty) {
        return;
    }
    let mut applied = config.clone();
    if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    object["metadata"]["annotations"][ANNOTATION] = format!("{applied}\n").into();
}
