//! Reviews and other bodies that are answered and not stored.

use jiff::Timestamp;
use serde_json::Value;

use super::common;
use crate::{
    field::FieldError,
    strategy::{Column, Strategy},
};

/// Nothing particular.
pub struct ReviewStrategy;

impl Strategy for ReviewStrategy {
    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate_name(&self, _name: &str) -> Vec<String> {
        Vec::new()
    }

    fn columns(&self) -> &'static [Column] {
        &[common::NAME]
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        vec![common::name(object)]
    }
}
