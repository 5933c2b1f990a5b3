//! Namespace.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::common::{AGE, NAME, age, column, keep, name};
use crate::{
    field::FieldError,
    names,
    object::text,
    strategy::{Column, Strategy},
};

const COLUMNS: &[Column] = &[NAME, column("Status", "string", 0, "Whether the namespace is in use or being removed."), AGE];

/// Namespace.
pub struct NamespaceStrategy;

impl Strategy for NamespaceStrategy {
    fn set_defaults(&self, object: &mut Value) {
        let own = json!(text(object, "/metadata/name"));
        if own != "" && object["metadata"]["labels"]["kubernetes.io/metadata.name"] != own {
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = own;
        }
    }

    fn prepare_for_create(&self, object: &mut Value, _now: Timestamp) {
        object["spec"] = json!({ "finalizers": ["kubernetes"] });
        object["status"] = json!({ "phase": "Active" });
    }

    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        keep(new, old, "status");
    }

    fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::dns_label(name)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![name(object), json!(text(object, "/status/phase")), age(object, now)]
    }
}
