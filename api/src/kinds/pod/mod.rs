//! Pod: defaults, checks and columns, and what others need to know of a pod's specification.

mod columns;
mod defaults;
mod details;
mod placement;
pub mod resources;
mod subresources;
mod validation;
mod volumes;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::common::keep;
use crate::{
    field::FieldError,
    object::text,
    strategy::{Column, Strategy},
};

pub use defaults::set_template_defaults;
pub(crate) use placement::check_node_selector;
pub use validation::{validate_lasting_template, validate_spec, validate_template};

/// Pod.
pub struct PodStrategy;

impl Strategy for PodStrategy {
    fn metadata_kept_by_status(&self) -> &'static [&'static str] {
        &["ownerReferences"]
    }

    fn set_defaults(&self, object: &mut Value) {
        defaults::set_spec_defaults(object);
    }

    fn prepare_for_create(&self, object: &mut Value, _now: Timestamp) {
        object["status"] = json!({ "phase": "Pending", "qosClass": resources::qos_class(&object["spec"]) });
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate_spec(&object["spec"], "spec")
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::validate_update(new, old)
    }

    fn prepare_for_part_update(&self, part: &str, new: &mut Value, old: &Value) {
        subresources::prepare(part, new, old);
    }

    fn validate_part_update(&self, part: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        subresources::validate(part, new, old)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn grace_period_seconds(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        let finished = matches!(text(object, "/status/phase"), "Succeeded" | "Failed");
        if finished || text(object, "/spec/nodeName").is_empty() {
            return Some(0);
        }
        let default = object.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30);
        let seconds = requested.unwrap_or(default);
        // A negative period means as soon as possible, in an orderly way.
        Some(if seconds < 0 { 1 } else { seconds })
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    fn field_value(&self, object: &Value, path: &str) -> String {
        if path == "spec.hostNetwork" {
            return object.pointer("/spec/hostNetwork").and_then(Value::as_bool).unwrap_or(false).to_string();
        }
        text(object, &format!("/{}", path.replace('.', "/"))).to_owned()
    }

    fn columns(&self) -> &'static [Column] {
        columns::COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        columns::cells(object, now)
    }
}
