//! EndpointSlice.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    common::{AGE, NAME, age, column, items, joined, name},
    validate,
};
use crate::{
    field::FieldError,
    object::text,
    strategy::{Column, Strategy},
};

const COLUMNS: &[Column] = &[
    NAME,
    column("AddressType", "string", 0, "Kind of the addresses."),
    column("Ports", "string", 0, "Ports of the endpoints."),
    column("Endpoints", "string", 0, "Addresses of the endpoints."),
    AGE,
];
/// Addresses that the table shows.
const SHOWN_MAX: usize = 3;

/// EndpointSlice.
pub struct EndpointSliceStrategy;

impl Strategy for EndpointSliceStrategy {
    fn set_defaults(&self, object: &mut Value) {
        for port in super::common::items_mut(object, "/ports") {
            if let Some(port) = port.as_object_mut() {
                super::common::default(port, "name", "");
                super::common::default(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if text(object, "/addressType").is_empty() {
            errors.push(FieldError::required("addressType", ""));
        }
        validate::one_of(object, "/addressType", &["FQDN", "IPv4", "IPv6"], &mut errors);
        for (index, endpoint) in items(object, "/endpoints").enumerate() {
            if items(endpoint, "/addresses").next().is_none() {
                errors.push(FieldError::required(format!("endpoints[{index}].addresses"), "must contain at least 1 address"));
            }
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        validate::immutable(new, old, "/addressType", &mut errors);
        errors
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let ports = joined(items(object, "/ports").map(|port| port["port"].as_i64().map_or("*".into(), |port| port.to_string())));
        let addresses: Vec<_> = items(object, "/endpoints")
            .flat_map(|endpoint| items(endpoint, "/addresses"))
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        let more = addresses.len().saturating_sub(SHOWN_MAX);
        let mut shown = joined(addresses.into_iter().take(SHOWN_MAX));
        if more > 0 {
            shown = format!("{shown} + {more} more...");
        }
        let none = |text: String| json!(if text == "<none>" { "<unset>".to_owned() } else { text });
        vec![name(object), json!(text(object, "/addressType")), none(ports), none(shown), age(object, now)]
    }
}
