//! Checks that several kinds share, with Kubernetes' messages.

use serde_json::{Value, json};

use crate::{field::FieldError, names, object::text, quantity::Quantity, selector::LabelSelector};

/// What numbers that count something must be.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// What a field says that may not change.
pub const IMMUTABLE: &str = "field is immutable";

/// A number that may not be negative.
pub fn not_negative(object: &Value, pointer: &str, errors: &mut Vec<FieldError>) {
    if let Some(value) = object.pointer(pointer)
        && value.as_i64().is_some_and(|number| number < 0)
    {
        errors.push(FieldError::invalid(path(pointer), value, NOT_NEGATIVE));
    }
}

/// A field that may not change.
pub fn immutable(new: &Value, old: &Value, pointer: &str, errors: &mut Vec<FieldError>) {
    let (before, after) = (old.pointer(pointer), new.pointer(pointer));
    if before != after {
        errors.push(FieldError::invalid(path(pointer), after.unwrap_or(&Value::Null), IMMUTABLE));
    }
}

/// `/spec/replicas` as `spec.replicas`.
#[must_use]
pub fn path(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// Labels: keys and values.
pub fn labels(labels: Option<&Value>, field: &str, errors: &mut Vec<FieldError>) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        for reason in names::qualified_name(key) {
            errors.push(FieldError::invalid(field, &json!(key), reason));
        }
        for reason in names::label_value(value.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(field, value, reason));
        }
    }
}

/// `spec.selector` of a workload: there, not empty, and matching its template's labels.
pub fn workload_selector(object: &Value, errors: &mut Vec<FieldError>) {
    let empty = json!({});
    let selector = object.pointer("/spec/selector").unwrap_or(&Value::Null);
    if selector.is_null() {
        errors.push(FieldError::required("spec.selector", ""));
    } else if LabelSelector::from_value(selector).is_empty() || selector == &empty {
        errors.push(FieldError::invalid("spec.selector", selector, "empty selector is invalid for deployment"));
    }
    labels(selector.get("matchLabels"), "spec.selector.matchLabels", errors);
    let template = object.pointer("/spec/template/metadata/labels").unwrap_or(&empty);
    labels(Some(template), "spec.template.labels", errors);
    let set = template.as_object().into_iter().flatten();
    let set: std::collections::BTreeMap<_, _> =
        set.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
    if !selector.is_null() && !LabelSelector::from_value(selector).matches(&set) {
        let mut error =
            FieldError::invalid("spec.template.metadata.labels", template, "`selector` does not match template `labels`");
        error.value = go_map(template);
        errors.push(error);
    }
}

/// A map of strings as Go prints it, which Kubernetes' messages show.
fn go_map(map: &Value) -> String {
    let pair = |(key, value): (&String, &Value)| format!("{key:?}:{:?}", value.as_str().unwrap_or_default());
    let pairs: Vec<_> = map.as_object().into_iter().flatten().map(pair).collect();
    format!("map[string]string{{{}}}", pairs.join(", "))
}

/// A quantity that parses and is not negative.
pub fn quantity(value: &Value, field: &str, errors: &mut Vec<FieldError>) -> Option<Quantity> {
    let written = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match written.parse::<Quantity>() {
        Ok(quantity) if quantity.is_negative() => {
            errors.push(FieldError::invalid(field, &json!(written), NOT_NEGATIVE));
            None
        }
        Ok(quantity) => Some(quantity),
        Err(error) => {
            errors.push(FieldError::invalid(field, value, error.to_string()));
            None
        }
    }
}

/// A port number.
pub fn port(value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    if !value.as_i64().is_some_and(|port| (1..=65_535).contains(&port)) {
        errors.push(FieldError::invalid(field, value, "must be between 1 and 65535, inclusive"));
    }
}

/// A value out of a list, if it is there.
pub fn one_of(object: &Value, pointer: &str, supported: &[&str], errors: &mut Vec<FieldError>) {
    let value = text(object, pointer);
    if !value.is_empty() && !supported.contains(&value) {
        errors.push(FieldError::not_supported(path(pointer), &json!(value), supported));
    }
}
