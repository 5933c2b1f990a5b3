//! Deployment.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    common::{AGE, NAME, age, column, default, items, joined, keep, map_of, name},
    pod::{set_template_defaults, validate_lasting_template},
    validate,
};
use crate::{
    field::FieldError,
    object::text,
    strategy::{Column, Strategy},
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", 0, "Pods that are ready, of those wanted."),
    column("Up-to-date", "string", 0, "Pods of the newest template."),
    column("Available", "string", 0, "Pods that have been ready long enough."),
    AGE,
    column("Containers", "string", 1, "Names of the template's containers."),
    column("Images", "string", 1, "Images of the template's containers."),
    column("Selector", "string", 1, "Labels of its pods."),
];

/// Deployment.
pub struct DeploymentStrategy;

impl Strategy for DeploymentStrategy {
    fn metadata_kept_by_status(&self) -> &'static [&'static str] {
        &["labels"]
    }

    fn set_defaults(&self, object: &mut Value) {
        if let Some(spec) = map_of(object, "spec") {
            default(spec, "replicas", 1);
            default(spec, "revisionHistoryLimit", 10);
            default(spec, "progressDeadlineSeconds", 600);
            let strategy = spec.entry("strategy").or_insert_with(|| json!({}));
            if let Some(strategy) = strategy.as_object_mut() {
                default(strategy, "type", "RollingUpdate");
            }
            if strategy["type"] == "RollingUpdate"
                && let Some(rolling) = map_of(strategy, "rollingUpdate")
            {
                default(rolling, "maxUnavailable", "25%");
                default(rolling, "maxSurge", "25%");
            }
        }
        if let Some(template) = object.pointer_mut("/spec/template") {
            set_template_defaults(template);
        }
    }

    fn prepare_for_create(&self, object: &mut Value, _now: Timestamp) {
        object["status"] = json!({});
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        validate::not_negative(object, "/spec/replicas", &mut errors);
        validate::workload_selector(object, &mut errors);
        errors.extend(validate_lasting_template(&object["spec"]["template"], "spec.template", "Deployment"));
        validate_strategy(&object["spec"]["strategy"], &mut errors);
        for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
            validate::not_negative(object, &format!("/spec/{field}"), &mut errors);
        }
        let spec = &object["spec"];
        let (deadline, ready) = (spec["progressDeadlineSeconds"].as_i64(), spec["minReadySeconds"].as_i64().unwrap_or(0));
        if deadline.is_some_and(|deadline| deadline >= 0 && deadline <= ready) {
            let detail = "must be greater than minReadySeconds";
            errors.push(FieldError::invalid("spec.progressDeadlineSeconds", &spec["progressDeadlineSeconds"], detail));
        }
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

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        let mut cells = vec![
            name(object),
            json!(format!("{}/{}", number("/status/readyReplicas"), number("/spec/replicas"))),
            json!(number("/status/updatedReplicas")),
            json!(number("/status/availableReplicas")),
            age(object, now),
        ];
        cells.extend(template_cells(object));
        cells
    }
}

/// Containers, images and selector of a workload.
pub(super) fn template_cells(object: &Value) -> [Value; 3] {
    let containers = |field: &str| {
        let text = items(object, "/spec/template/spec/containers").map(|container| text(container, field).to_owned());
        json!(joined(text))
    };
    [containers("/name"), containers("/image"), json!(selector_text(&object["spec"]["selector"]))]
}

/// A label selector as text.
pub(super) fn selector_text(selector: &Value) -> String {
    let pairs = selector["matchLabels"].as_object().into_iter().flatten();
    let pairs = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let expression = |expression: &Value| {
        let (key, values) = (text(expression, "/key"), items(expression, "/values").filter_map(Value::as_str));
        let values = values.collect::<Vec<_>>().join(",");
        match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        }
    };
    joined(pairs.chain(items(selector, "/matchExpressions").map(expression)))
}

fn validate_strategy(strategy: &Value, errors: &mut Vec<FieldError>) {
    match text(strategy, "/type") {
        "Recreate" => {
            if strategy.get("rollingUpdate").is_some() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(FieldError::forbidden("spec.strategy.rollingUpdate", detail));
            }
        }
        "RollingUpdate" => {
            let rolling = &strategy["rollingUpdate"];
            let zero = |field: &str| {
                matches!(&rolling[field], Value::Number(number) if number.as_i64() == Some(0)) || rolling[field] == "0%"
            };
            for field in ["maxUnavailable", "maxSurge"] {
                validate_count(&rolling[field], &format!("spec.strategy.rollingUpdate.{field}"), errors);
            }
            if zero("maxUnavailable") && zero("maxSurge") {
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.push(FieldError::invalid(
                    "spec.strategy.rollingUpdate.maxUnavailable",
                    &rolling["maxUnavailable"],
                    detail,
                ));
            }
        }
        other => errors.push(FieldError::not_supported("spec.strategy", &json!(other), &["Recreate", "RollingUpdate"])),
    }
}

/// A number that is not negative, or a percentage.
fn validate_count(value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let good = match value {
        Value::Number(number) => number.as_i64().is_some_and(|number| number >= 0),
        Value::String(text) => {
            let percent = text.strip_suffix('%').and_then(|number| number.parse::<u32>().ok());
            if percent.is_none() {
                let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex \
                              used for validation is '[0-9]+%')";
                errors.push(FieldError::invalid(field, value, detail));
            }
            true
        }
        _ => true,
    };
    if !good {
        errors.push(FieldError::invalid(field, value, validate::NOT_NEGATIVE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        let mut object = json!({"metadata": {"name": "nginx"}, "spec": {"selector": {"matchLabels": {"app": "nginx"}},
            "template": {"metadata": {"labels": {"app": "nginx"}}, "spec": {"containers": [{"name": "nginx", "image": "nginx:1.21"}]}}}});
        DeploymentStrategy.set_defaults(&mut object);
        object
    }

    #[test]
    fn defaults_are_those_of_kubernetes() {
        let object = deployment();
        assert_eq!(
            object["spec"]["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        );
        assert_eq!(object["spec"]["template"]["spec"]["restartPolicy"], "Always");
        assert!(object["spec"]["template"]["spec"].get("enableServiceLinks").is_none());
        assert!(DeploymentStrategy.validate(&object).is_empty());
    }

    #[test]
    fn mistakes_are_refused_in_kubernetes_words() {
        for (pointer, value, message) in [
            ("/spec/replicas", json!(-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
            (
                "/spec/template/metadata/labels",
                json!({"app": "other"}),
                "spec.template.metadata.labels: Invalid value: map[string]string{\"app\":\"other\"}: `selector` does not match template `labels`",
            ),
        ] {
            let mut object = deployment();
            if let Some(field) = object.pointer_mut(pointer) {
                *field = value;
            }
            let errors: Vec<_> = DeploymentStrategy.validate(&object).iter().map(ToString::to_string).collect();
            assert_eq!(errors, [message]);
        }
    }
}
