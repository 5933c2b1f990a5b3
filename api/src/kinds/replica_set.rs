//! ReplicaSet.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    common::{AGE, NAME, age, column, default, keep, map_of, name},
    deployment::template_cells,
    pod::{set_template_defaults, validate_lasting_template},
    validate,
};
use crate::{
    field::FieldError,
    strategy::{Column, Strategy},
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Desired", "integer", 0, "Pods that are wanted."),
    column("Current", "integer", 0, "Pods that are there."),
    column("Ready", "integer", 0, "Pods that are ready."),
    AGE,
    column("Containers", "string", 1, "Names of the template's containers."),
    column("Images", "string", 1, "Images of the template's containers."),
    column("Selector", "string", 1, "Labels of its pods."),
];

/// ReplicaSet.
pub struct ReplicaSetStrategy;

impl Strategy for ReplicaSetStrategy {
    fn set_defaults(&self, object: &mut Value) {
        if let Some(spec) = map_of(object, "spec") {
            default(spec, "replicas", 1);
        }
        if let Some(template) = object.pointer_mut("/spec/template") {
            set_template_defaults(template);
        }
    }

    fn prepare_for_create(&self, object: &mut Value, _now: Timestamp) {
        object["status"] = json!({ "replicas": 0 });
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        validate::not_negative(object, "/spec/replicas", &mut errors);
        validate::not_negative(object, "/spec/minReadySeconds", &mut errors);
        validate::workload_selector(object, &mut errors);
        errors.extend(validate_lasting_template(&object["spec"]["template"], "spec.template", "ReplicaSet"));
        errors
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        validate::immutable(new, old, "/spec/selector", &mut errors);
        errors
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let number = |pointer: &str| json!(object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0));
        let mut cells = vec![
            name(object),
            number("/spec/replicas"),
            number("/status/replicas"),
            number("/status/readyReplicas"),
            age(object, now),
        ];
        cells.extend(template_cells(object));
        cells
    }
}
