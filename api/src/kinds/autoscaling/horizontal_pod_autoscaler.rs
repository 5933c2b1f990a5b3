//! HorizontalPodAutoscaler: v2, which is stored, and what v1 leaves out otherwise.

use serde_json::{Value, json};

use super::metrics;
use crate::{
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, default, map_of, name},
        kind::{Errors, Kind},
    },
    names,
    object::text,
};

const STABILIZATION_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;

/// v1: only what it leaves out; everything else is judged in v2.
pub static HORIZONTAL_POD_AUTOSCALER_V1: Kind = Kind {
    defaults: |object| {
        if let Some(spec) = map_of(object, "spec") {
            default(spec, "minReplicas", 1);
        }
    },
    ..Kind::WITH_STATUS
};

/// HorizontalPodAutoscaler.
pub static HORIZONTAL_POD_AUTOSCALER: Kind = Kind {
    defaults: set_defaults,
    create: |object, _now| object["status"] = json!({"desiredReplicas": 0, "currentMetrics": null}),
    validate: check,
    validate_status: |new, _old, errors| {
        for field in ["currentReplicas", "desiredReplicas"] {
            At::root(new).get("status").get(field).not_negative(errors);
        }
    },
    columns: &[
        NAME,
        column("Reference", "string", 0, "What is scaled."),
        column("Targets", "string", 0, "What was measured, and what is aimed at."),
        column("MinPods", "string", 0, "Fewest pods."),
        column("MaxPods", "string", 0, "Most pods."),
        column("Replicas", "string", 0, "Pods that were seen last."),
        AGE,
    ],
    cells: |object, now| {
        let (spec, target) = (&object["spec"], &object["spec"]["scaleTargetRef"]);
        let least = spec["minReplicas"].as_i64().map_or("<unset>".to_owned(), |number| number.to_string());
        vec![
            name(object),
            json!(format!("{}/{}", text(target, "/kind"), text(target, "/name"))),
            json!(metrics::shown(object)),
            json!(least),
            json!(spec["maxReplicas"].as_i64().unwrap_or(0)),
            json!(object["status"]["currentReplicas"].as_i64().unwrap_or(0)),
            age(object, now),
        ]
    },
    ..Kind::WITH_STATUS
};

fn set_defaults(object: &mut Value) {
    let Some(spec) = map_of(object, "spec") else { return };
    default(spec, "minReplicas", 1);
    if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let target = json!({ "type": "Utilization", "averageUtilization": 80 });
        spec.insert("metrics".into(), json!([{ "type": "Resource", "resource": { "name": "cpu", "target": target } }]));
    }
    let Some(behavior) = spec.get_mut("behavior").and_then(Value::as_object_mut) else { return };
    for (direction, policies, window) in [
        ("scaleUp", json!([policy("Pods", 4), policy("Percent", 100)]), Some(0)),
        ("scaleDown", json!([policy("Percent", 100)]), None),
    ] {
        let Some(rules) = behavior.entry(direction).or_insert_with(|| json!({})).as_object_mut() else { continue };
        default(rules, "selectPolicy", "Max");
        default(rules, "policies", policies);
        if let Some(window) = window {
            default(rules, "stabilizationWindowSeconds", window);
        }
    }
}

fn policy(type_: &str, value: i64) -> Value {
    json!({ "type": type_, "value": value, "periodSeconds": 15 })
}

fn check(object: &Value, errors: &mut Errors) {
    let spec = At::root(object).get("spec");
    let (least, most) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    if least.number().is_some_and(|number| number < 1) {
        least.invalid("must be greater than or equal to 1", errors);
    }
    match most.number().unwrap_or(0) {
        0 => most.required("must be set and greater than 0", errors),
        number if number < 0 => most.invalid("must be greater than or equal to 1", errors),
        _ => {}
    }
    if least.number().is_some_and(|least| most.number().unwrap_or(0) < least) {
        most.invalid("must be greater than or equal to `minReplicas`", errors);
    }
    check_reference(&spec.get("scaleTargetRef"), errors);
    spec.items("metrics").for_each(|metric| metrics::check(&metric, errors));
    for direction in ["scaleUp", "scaleDown"].map(|direction| spec.get("behavior").get(direction)) {
        if direction.is_set() {
            check_rules(&direction, errors);
        }
    }
}

/// A reference to an object of any kind and version.
pub(super) fn check_reference(reference: &At<'_>, errors: &mut Errors) {
    reference.get("kind").must_be_named(names::path_segment, errors);
    reference.get("name").must_be_named(names::path_segment, errors);
    let version = reference.get("apiVersion");
    if version.text().matches('/').count() > 1 {
        version.invalid(format!("unexpected GroupVersion string: {}", version.text()), errors);
    }
}

fn check_rules(rules: &At<'_>, errors: &mut Errors) {
    let window = rules.get("stabilizationWindowSeconds");
    match window.number() {
        Some(number) if number < 0 => window.invalid("must be greater than or equal to zero", errors),
        Some(number) if number > STABILIZATION_SECONDS_MAX => {
            window.invalid(format!("must be less than or equal to {STABILIZATION_SECONDS_MAX}"), errors);
        }
        _ => {}
    }
    rules.get("selectPolicy").one_of(&["Disabled", "Max", "Min"], errors);
    let policies = rules.get("policies");
    if policies.is_empty() {
        policies.required("must specify at least one Policy", errors);
    }
    for policy in policies.each() {
        policy.get("type").one_of(&["Percent", "Pods"], errors);
        for field in ["value", "periodSeconds"].map(|field| policy.get(field)) {
            if field.number().unwrap_or(0) <= 0 {
                field.invalid("must be greater than zero", errors);
            }
        }
        let period = policy.get("periodSeconds");
        if period.number().is_some_and(|number| number > PERIOD_SECONDS_MAX) {
            period.invalid(format!("must be less than or equal to {PERIOD_SECONDS_MAX}"), errors);
        }
    }
    rules.get("tolerance").quantity(errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn a_bare_autoscaler_aims_at_eighty_percent() {
        let mut object = json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"},
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}});
        HORIZONTAL_POD_AUTOSCALER.set_defaults(&mut object);
        assert_eq!(object["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
        assert_eq!(object["spec"]["behavior"]["scaleUp"]["stabilizationWindowSeconds"], 0);
        assert_eq!(object["spec"]["behavior"]["scaleDown"]["policies"], json!([policy("Percent", 100)]));
        assert_eq!(HORIZONTAL_POD_AUTOSCALER.validate(&object), vec![]);
        object["spec"]["minReplicas"] = json!(5);
        let error = "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`";
        assert_eq!(HORIZONTAL_POD_AUTOSCALER.validate(&object)[0].to_string(), error);
    }
}
