//! What an autoscaler measures: checks of its metrics, and how a table shows them.

use serde_json::Value;

use super::horizontal_pod_autoscaler::check_reference;
use crate::{
    kinds::{check::At, common::items, kind::Errors},
    object::text,
    quantity::Quantity,
};

/// Types of metrics, and the member that each fills.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];
const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
/// Metrics that a table names before it only counts.
const SHOWN_MAX: usize = 2;

/// One metric.
pub(super) fn check(metric: &At<'_>, errors: &mut Errors) {
    let type_ = metric.get("type");
    if type_.is_empty() {
        type_.required("must specify a metric source type", errors);
    }
    type_.one_of(TYPES, errors);
    let expected = SOURCES.iter().find(|(known, _)| *known == type_.text()).map(|(_, field)| *field);
    for (_, field) in SOURCES {
        let source = metric.get(field);
        match (source.is_set(), expected == Some(field)) {
            (true, true) => check_source(field, &source, errors),
            (true, false) => source.forbidden("must populate the given metric source only", errors),
            (false, true) => source.required("must populate information for the given metric source", errors),
            (false, false) => {}
        }
    }
}

fn check_source(field: &str, source: &At<'_>, errors: &mut Errors) {
    let target = source.get("target");
    let [value, average, utilization] = ["value", "averageValue", "averageUtilization"].map(|field| target.get(field));
    match field {
        "resource" | "containerResource" => {
            if source.get("name").is_empty() {
                source.get("name").required("must specify a resource name", errors);
            }
            if field == "containerResource" && source.get("container").is_empty() {
                source.get("container").required("must specify a container", errors);
            }
        }
        _ => {
            if field == "object" {
                check_reference(&source.get("describedObject"), errors);
            }
            let metric = source.get("metric.name");
            if metric.is_empty() {
                metric.required("must specify a metric name", errors);
            }
            source.get("metric.selector").label_selector(errors);
        }
    }
    check_target(&target, errors);
    match field {
        "resource" | "containerResource" => match (utilization.is_set(), average.is_set()) {
            (false, false) => utilization.required("must set either a target raw value or a target utilization", errors),
            (true, true) => average.forbidden("may not set both a target raw value and a target utilization", errors),
            _ => {}
        },
        "pods" if average.is_absent() => {
            average.required("must specify a positive target averageValue", errors);
        }
        "object" if value.is_absent() && average.is_absent() => {
            average.required("must set either a target value or averageValue", errors);
        }
        "external" => match (value.is_set(), average.is_set()) {
            (false, false) => average.required("must set either a target value for metric or a per-pod target", errors),
            (true, true) => value.forbidden("may not set both a target value for metric and a per-pod target", errors),
            _ => {}
        },
        _ => {}
    }
}

fn check_target(target: &At<'_>, errors: &mut Errors) {
    let type_ = target.get("type");
    if type_.is_empty() {
        type_.required("must specify a metric target type", errors);
    } else if !["Utilization", "Value", "AverageValue"].contains(&type_.text()) {
        type_.invalid("must be either Utilization, Value, or AverageValue", errors);
    }
    for field in ["value", "averageValue"].map(|field| target.get(field)) {
        if field.is_set()
            && !field.text().parse::<Quantity>().is_ok_and(|quantity| !quantity.is_negative() && !quantity.is_zero())
        {
            field.invalid("must be positive", errors);
        }
    }
    let utilization = target.get("averageUtilization");
    if utilization.number().is_some_and(|number| number < 1) {
        utilization.invalid("must be greater than 0", errors);
    }
}

/// `cpu: 10%/80%` for each metric.
pub(super) fn shown(object: &Value) -> String {
    let list: Vec<String> = items(object, "/spec/metrics")
        .enumerate()
        .map(|(index, metric)| {
            let source = SOURCES.iter().find(|(known, _)| *known == text(metric, "/type")).map(|(_, field)| *field);
            let seen = &object["status"]["currentMetrics"][index];
            source.map_or_else(|| "<unknown type>".to_owned(), |field| one(field, &metric[field], &seen[field]["current"]))
        })
        .collect();
    match list.len() {
        0 => "<none>".to_owned(),
        count if count > SHOWN_MAX => format!("{} + {} more...", list[..SHOWN_MAX].join(", "), count - SHOWN_MAX),
        _ => list.join(", "),
    }
}

fn one(field: &str, source: &Value, seen: &Value) -> String {
    let (target, of_resource) = (&source["target"], field.ends_with("esource"));
    let written = |value: &Value, otherwise: &str| match value {
        Value::Null => otherwise.to_owned(),
        Value::String(text) => text.clone(),
        other => format!("{other}%"),
    };
    let pair =
        |field: &str, otherwise: &str| format!("{}/{}", written(&seen[field], "<unknown>"), written(&target[field], otherwise));
    let average = target.get("averageValue").is_some();
    match (of_resource, average) {
        (true, true) => format!("{}: {}", text(source, "/name"), pair("averageValue", "")),
        (true, false) => format!("{}: {}", text(source, "/name"), pair("averageUtilization", "<auto>")),
        (false, true) if field == "pods" => pair("averageValue", ""),
        (false, true) => format!("{} (avg)", pair("averageValue", "")),
        (false, false) => pair("value", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_shows_what_was_seen_and_what_is_aimed_at() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}});
        let pods = json!({"type": "Pods", "pods": {"target": {"averageValue": "10"}}});
        let seen = json!([{"resource": {"current": {"averageUtilization": 9}}}]);
        let object = json!({"spec": {"metrics": [cpu, pods]}, "status": {"currentMetrics": seen}});
        assert_eq!(shown(&object), "cpu: 9%/80%, <unknown>/10");
    }

    #[test]
    fn a_metric_has_one_source_and_one_target() {
        let metric = json!({"type": "Resource", "pods": {}, "resource": {"name": "cpu", "target": {"type": "Utilization"}}});
        let mut errors = Vec::new();
        check(&At::new(&metric, "m"), &mut errors);
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["m.pods", "m.resource.target.averageUtilization"]);
    }
}
