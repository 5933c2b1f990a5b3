//! Lease.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::common::{AGE, NAME, age, column, name};
use crate::{
    field::FieldError,
    object::text,
    strategy::{Column, Strategy},
};

const COLUMNS: &[Column] = &[NAME, column("Holder", "string", 0, "Who holds the lease."), AGE];

/// Lease.
pub struct LeaseStrategy;

impl Strategy for LeaseStrategy {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (field, rule) in [("leaseDurationSeconds", 1), ("leaseTransitions", 0)] {
            let value = &object["spec"][field];
            if value.as_i64().is_some_and(|number| number < rule) {
                let detail = if rule == 1 { "must be greater than 0" } else { "must be greater than or equal to 0" };
                errors.push(FieldError::invalid(format!("spec.{field}"), value, detail));
            }
        }
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![name(object), json!(text(object, "/spec/holderIdentity")), age(object, now)]
    }
}
