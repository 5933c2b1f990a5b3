//! Checks that say where they look: a value together with its field path.
//!
//! Strategies walk down from the object with [`At`] and push what they find in Kubernetes' words;
//! so a rule is one line, and a path is written once.

use serde_json::{Value, json};

use super::{kind::Errors, validate};
use crate::{
    field::{ErrorType, FieldError},
    names,
    selector::LabelSelector,
};

/// A value and where it lies.
#[derive(Clone, Debug)]
pub struct At<'a> {
    /// The value; null where it is absent.
    pub value: &'a Value,
    /// Path of the field, such as `spec.ports[0]`; empty for the object itself.
    pub path: String,
}

impl<'a> At<'a> {
    /// The object itself.
    #[must_use]
    pub fn root(object: &'a Value) -> Self {
        Self { value: object, path: String::new() }
    }

    /// A value at a path that the caller knows.
    #[must_use]
    pub fn new(value: &'a Value, path: impl Into<String>) -> Self {
        Self { value, path: path.into() }
    }

    /// A field; steps may be joined by dots.
    #[must_use]
    pub fn get(&self, field: &str) -> Self {
        let mut value = self.value;
        for step in field.split('.') {
            value = value.get(step).unwrap_or(&Value::Null);
        }
        Self { value, path: self.join(field) }
    }

    fn join(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// Items of the list in a field.
    pub fn items(&self, field: &str) -> impl Iterator<Item = Self> + use<'a> {
        self.get(field).each()
    }

    /// Items, this value being a list.
    pub fn each(&self) -> impl Iterator<Item = Self> + use<'a> {
        let path = self.path.clone();
        let list = self.value.as_array().into_iter().flatten();
        list.enumerate().map(move |(index, value)| Self { value, path: format!("{path}[{index}]") })
    }

    /// Members of the map in a field.
    pub fn members(&self, field: &str) -> impl Iterator<Item = (&'a str, Self)> + use<'a> {
        let at = self.get(field);
        let map = at.value.as_object().into_iter().flatten();
        map.map(move |(key, value)| (key.as_str(), Self { value, path: format!("{}[{key}]", at.path) }))
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    /// Whether there is something.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// The text; empty where there is none.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// The number.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// Number of items or members.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(members) => members.len(),
            Value::String(text) => text.len(),
            _ => 0,
        }
    }

    /// Whether it has no items, members or letters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value breaks a rule.
    pub fn invalid(&self, detail: impl Into<String>, errors: &mut Errors) {
        errors.push(FieldError::invalid(&self.path, self.value, detail));
    }

    /// The value breaks a rule and is not quoted.
    pub fn invalid_unquoted(&self, detail: impl Into<String>, errors: &mut Errors) {
        errors.push(FieldError { value: String::new(), ..FieldError::invalid(&self.path, self.value, detail) });
    }

    /// The value is missing.
    pub fn required(&self, detail: &str, errors: &mut Errors) {
        errors.push(FieldError::required(&self.path, detail));
    }

    /// The value may not be set.
    pub fn forbidden(&self, detail: impl Into<String>, errors: &mut Errors) {
        errors.push(FieldError::forbidden(&self.path, detail));
    }

    /// The value occurs twice.
    pub fn duplicate(&self, errors: &mut Errors) {
        errors.push(FieldError::duplicate(&self.path, self.value));
    }

    /// What the value names does not exist.
    pub fn not_found(&self, errors: &mut Errors) {
        errors.push(FieldError { type_: ErrorType::NotFound, ..FieldError::duplicate(&self.path, self.value) });
    }

    /// There are more items than `limit`.
    pub fn too_many(&self, limit: usize, errors: &mut Errors) {
        if self.len() > limit {
            errors.push(FieldError {
                type_: ErrorType::TooMany,
                field: self.path.clone(),
                value: self.len().to_string(),
                detail: format!("must have at most {limit} items"),
            });
        }
    }

    /// Text of at most `limit` bytes.
    pub fn at_most_bytes(&self, limit: usize, errors: &mut Errors) {
        if self.text().len() > limit {
            errors.push(FieldError::too_long(&self.path, limit));
        }
    }

    /// The value must be there, and not be empty text.
    pub fn must_be_set(&self, errors: &mut Errors) -> bool {
        let set = self.is_set() && self.value != "";
        if !set {
            self.required("", errors);
        }
        set
    }

    /// The value is one of the supported ones, or absent.
    pub fn one_of(&self, supported: &[&str], errors: &mut Errors) {
        if self.is_set() && !supported.contains(&self.text()) {
            errors.push(FieldError::not_supported(&self.path, self.value, supported));
        }
    }

    /// The value is there, and one of the supported ones.
    pub fn required_one_of(&self, supported: &[&str], errors: &mut Errors) {
        if self.must_be_set(errors) {
            self.one_of(supported, errors);
        }
    }

    /// A number that counts something, or nothing.
    pub fn not_negative(&self, errors: &mut Errors) {
        if self.number().is_some_and(|number| number < 0) {
            self.invalid(validate::NOT_NEGATIVE, errors);
        }
    }

    /// A number above zero, or nothing.
    pub fn positive(&self, errors: &mut Errors) {
        if self.number().is_some_and(|number| number <= 0) {
            self.invalid("must be greater than 0", errors);
        }
    }

    /// Reasons why the text is no valid name; none for empty text.
    pub fn named(&self, rule: fn(&str) -> Vec<String>, errors: &mut Errors) {
        if !self.text().is_empty() {
            rule(self.text()).into_iter().for_each(|reason| self.invalid(reason, errors));
        }
    }

    /// A name that must be there.
    pub fn must_be_named(&self, rule: fn(&str) -> Vec<String>, errors: &mut Errors) {
        if self.must_be_set(errors) {
            self.named(rule, errors);
        }
    }

    /// A port number.
    pub fn port(&self, errors: &mut Errors) {
        validate::port(self.value, &self.path, errors);
    }

    /// A quantity that is not negative, if it is there.
    pub fn quantity(&self, errors: &mut Errors) {
        if self.is_set() {
            let _ = validate::quantity(self.value, &self.path, errors);
        }
    }

    /// The value may not change.
    pub fn immutable(&self, old: &At<'_>, errors: &mut Errors) {
        if self.value != old.value {
            self.invalid(validate::IMMUTABLE, errors);
        }
    }

    /// A number that is not negative, or a percentage.
    pub fn count_or_percent(&self, errors: &mut Errors) {
        match self.value {
            Value::String(text) if percent(text).is_none() => self.invalid(NO_PERCENT, errors),
            _ => self.not_negative(errors),
        }
    }

    /// A percentage above 100.
    pub fn at_most_all(&self, errors: &mut Errors) {
        if self.value.as_str().and_then(percent).is_some_and(|percent| percent > 100) {
            self.invalid("must not be greater than 100%", errors);
        }
    }

    /// A label selector; nothing is one too.
    pub fn label_selector(&self, errors: &mut Errors) {
        validate::labels(self.value.get("matchLabels"), &format!("{}.matchLabels", self.path), errors);
        for expression in self.items("matchExpressions") {
            let (operator, values) = (expression.get("operator"), expression.get("values"));
            match operator.text() {
                "In" | "NotIn" if values.is_empty() => {
                    values.required("must be specified when `operator` is 'In' or 'NotIn'", errors);
                }
                "Exists" | "DoesNotExist" if !values.is_empty() => {
                    values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", errors);
                }
                "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
                _ => operator.invalid("not a valid selector operator", errors),
            }
            let key = expression.get("key");
            names::qualified_name(key.text()).into_iter().for_each(|reason| key.invalid(reason, errors));
            for value in values.each() {
                names::label_value(value.text()).into_iter().for_each(|reason| value.invalid(reason, errors));
            }
        }
    }
}

const NO_PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/// The number in a percentage.
fn percent(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// Whether a selector matches labels that stand in an object.
#[must_use]
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let labels = labels.as_object().into_iter().flatten();
    let labels: std::collections::BTreeMap<String, String> =
        labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
    LabelSelector::from_value(selector).matches(&labels)
}

/// Whether two objects agree but for the fields of their `spec` that are named.
#[must_use]
pub fn same_spec_but(new: &Value, old: &Value, fields: &[&str]) -> bool {
    let rest = |object: &Value| {
        let mut spec = object["spec"].as_object().cloned().unwrap_or_default();
        spec.retain(|name, _| !fields.contains(&name.as_str()));
        spec
    };
    rest(new) == rest(old)
}

/// Whether a condition of that type is true.
#[must_use]
pub fn has_condition(object: &Value, type_: &str) -> bool {
    super::common::items(object, "/status/conditions")
        .any(|condition| condition["type"] == type_ && condition["status"] == json!("True"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_carry_the_path_that_was_walked() {
        let object = json!({"spec": {"ports": [{"port": 80}, {"port": -1}], "max": "1x%",
            "selector": {"matchExpressions": [{"key": "a b", "operator": "In"}]}}});
        let spec = At::root(&object).get("spec");
        let mut errors = Vec::new();
        spec.items("ports").for_each(|port| port.get("port").not_negative(&mut errors));
        spec.get("max").count_or_percent(&mut errors);
        spec.get("none").must_be_set(&mut errors);
        spec.get("selector").label_selector(&mut errors);
        let paths: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        let expression = "spec.selector.matchExpressions[0]";
        let wanted = ["spec.ports[1].port", "spec.max", "spec.none"].map(str::to_owned);
        let wanted: Vec<_> = wanted.into_iter().chain([format!("{expression}.values"), format!("{expression}.key")]).collect();
        assert_eq!(paths, wanted);
    }

    #[test]
    fn percentages_are_whole_and_end() {
        assert_eq!((percent("93%"), percent("93"), percent("-1%"), percent("%")), (Some(93), None, None, None));
    }
}
