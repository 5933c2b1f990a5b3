//! ServiceAccount.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::common::{AGE, NAME, age, column, items, name};
use crate::{
    field::FieldError,
    strategy::{Column, Strategy},
};

const COLUMNS: &[Column] = &[NAME, column("Secrets", "string", 0, "Number of secrets that pods may use."), AGE];

/// ServiceAccount.
pub struct ServiceAccountStrategy;

impl Strategy for ServiceAccountStrategy {
    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![name(object), json!(items(object, "/secrets").count()), age(object, now)]
    }
}
