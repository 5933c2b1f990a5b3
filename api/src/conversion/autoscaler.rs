//! HorizontalPodAutoscaler: v1, stored as v2.
//!
//! v1 knows one metric, the CPU's utilization. All others, the behaviour and the conditions travel
//! in annotations under Kubernetes' names, in the forms that it gives them.

use serde_json::{Map, Value, json};

use super::Conversion;
use crate::object::text;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// Annotations that only a conversion writes.
const ROUND_TRIP: [&str; 6] = [
    METRICS,
    CURRENT_METRICS,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];
/// Utilization that is aimed at where no metric is named.
const DEFAULT_UTILIZATION: i64 = 80;

/// A member of a metric: path in v2, name in v1.
type Pair = (&'static str, &'static str);

const RESOURCE: &[Pair] = &[
    ("/name", "name"),
    ("/container", "container"),
    ("/target/averageUtilization", "targetAverageUtilization"),
    ("/target/averageValue", "targetAverageValue"),
    ("/current/averageUtilization", "currentAverageUtilization"),
    ("/current/averageValue", "currentAverageValue"),
];
const PODS: &[Pair] = &[
    ("/metric/name", "metricName"),
    ("/metric/selector", "selector"),
    ("/target/averageValue", "targetAverageValue"),
    ("/current/averageValue", "currentAverageValue"),
];
const OBJECT: &[Pair] = &[
    ("/describedObject", "target"),
    ("/metric/name", "metricName"),
    ("/metric/selector", "selector"),
    ("/target/value", "targetValue"),
    ("/current/value", "currentValue"),
    ("/target/averageValue", "averageValue"),
    ("/current/averageValue", "averageValue"),
];
const EXTERNAL: &[Pair] = &[
    ("/metric/name", "metricName"),
    ("/metric/selector", "metricSelector"),
    ("/target/value", "targetValue"),
    ("/target/averageValue", "targetAverageValue"),
    ("/current/value", "currentValue"),
    ("/current/averageValue", "currentAverageValue"),
];
/// Where a metric comes from: member of the metric, members below it.
const SOURCES: [(&str, &[Pair]); 5] =
    [("resource", RESOURCE), ("containerResource", RESOURCE), ("pods", PODS), ("object", OBJECT), ("external", EXTERNAL)];

/// Which half of an autoscaler a metric belongs to: what is aimed at, or what was seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Target,
    Current,
}

impl Half {
    fn takes(self, pointer: &str) -> bool {
        let other = if self == Self::Target { "/current/" } else { "/target/" };
        !pointer.starts_with(other)
    }
}

/// HorizontalPodAutoscaler.
pub struct AutoscalerConversion;

impl Conversion for AutoscalerConversion {
    fn to_stored(&self, mut served: Value) -> Value {
        served["apiVersion"] = "autoscaling/v2".into();
        let mut metrics = annotation(&served, METRICS).map_or_else(Vec::new, |list| each(&list, Half::Target, to_v2));
        if let Some(utilization) = take(&mut served, "spec", "targetCPUUtilizationPercentage") {
            metrics.push(cpu_target(utilization));
        }
        if metrics.is_empty() {
            metrics.push(cpu_target(DEFAULT_UTILIZATION.into()));
        }
        served["spec"]["metrics"] = metrics.into();
        if let Some(behavior) = annotation(&served, BEHAVIOR) {
            let behavior = rename_members(&behavior, str::to_ascii_lowercase);
            if behavior.as_object().is_some_and(|behavior| !behavior.is_empty()) {
                served["spec"]["behavior"] = behavior;
            }
        }
        let utilization = take(&mut served, "status", "currentCPUUtilizationPercentage");
        let seen = match annotation(&served, CURRENT_METRICS) {
            Some(list) => each(&list, Half::Current, to_v2),
            None => utilization.map(cpu_current).into_iter().collect(),
        };
        if !seen.is_empty() {
            served["status"]["currentMetrics"] = seen.into();
        }
        if let Some(conditions) = annotation(&served, CONDITIONS) {
            served["status"]["conditions"] = conditions;
        }
        drop_annotations(&mut served);
        served
    }

    fn to_served(&self, mut stored: Value) -> Value {
        stored["apiVersion"] = "autoscaling/v1".into();
        drop_annotations(&mut stored);
        let mut saved: Vec<(&str, Value)> = Vec::new();
        let metrics = take(&mut stored, "spec", "metrics").unwrap_or_default();
        let utilization = |metric: &&Value| !metric["resource"]["target"]["averageUtilization"].is_null();
        let (cpu, others): (Vec<&Value>, Vec<&Value>) =
            metrics.as_array().into_iter().flatten().partition(|metric| is_cpu(metric) && utilization(metric));
        if let Some(metric) = cpu.first() {
            stored["spec"]["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"].clone();
        }
        if !others.is_empty() {
            let others: Vec<Value> = others.into_iter().map(|metric| to_v1(metric, Half::Target)).collect();
            saved.push((METRICS, others.into()));
        }
        if let Some(behavior) = take(&mut stored, "spec", "behavior") {
            saved.push((BEHAVIOR, rename_members(&behavior, str::to_ascii_uppercase)));
        }
        if let Some(seen) = take(&mut stored, "status", "currentMetrics").filter(|seen| *seen != json!([])) {
            let cpu = seen.as_array().into_iter().flatten().filter(|metric| is_cpu(metric));
            for value in cpu.filter_map(|metric| metric.pointer("/resource/current/averageUtilization")) {
                stored["status"]["currentCPUUtilizationPercentage"] = value.clone();
            }
            saved.push((CURRENT_METRICS, each(&seen, Half::Current, to_v1).into()));
        }
        if let Some(conditions) = take(&mut stored, "status", "conditions").filter(|list| *list != json!([])) {
            saved.push((CONDITIONS, conditions));
        }
        for (name, value) in saved {
            stored["metadata"]["annotations"][name] = value.to_string().into();
        }
        stored
    }

    fn stored_field(&self, _served: &str) -> Option<&'static str> {
        None
    }
}

fn take(object: &mut Value, part: &str, field: &str) -> Option<Value> {
    object.get_mut(part)?.as_object_mut()?.remove(field)
}

/// JSON in an annotation; one that holds something else is as good as absent.
fn annotation(object: &Value, name: &str) -> Option<Value> {
    serde_json::from_str(object["metadata"]["annotations"][name].as_str()?).ok()
}

fn drop_annotations(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    annotations.retain(|name, _| !ROUND_TRIP.contains(&name.as_str()));
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

fn each(list: &Value, half: Half, convert: fn(&Value, Half) -> Value) -> Vec<Value> {
    list.as_array().into_iter().flatten().map(|metric| convert(metric, half)).collect()
}

fn is_cpu(metric: &Value) -> bool {
    text(metric, "/type") == "Resource" && text(metric, "/resource/name") == "cpu"
}

fn cpu_target(utilization: Value) -> Value {
    let target = json!({ "type": "Utilization", "averageUtilization": utilization });
    json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } })
}

fn cpu_current(utilization: Value) -> Value {
    json!({ "type": "Resource", "resource": { "name": "cpu", "current": { "averageUtilization": utilization } } })
}

fn to_v1(metric: &Value, half: Half) -> Value {
    let mut converted = json!({ "type": metric["type"] });
    for (source, pairs) in SOURCES {
        let Some(from) = metric.get(source) else { continue };
        let mut to = Map::new();
        for (v2, v1) in pairs.iter().filter(|(v2, _)| half.takes(v2)) {
            if let Some(value) = from.pointer(v2) {
                to.insert((*v1).to_owned(), value.clone());
            }
        }
        // Quantities that v1 cannot leave out.
        for field in always_written(source, half) {
            to.entry(*field).or_insert_with(|| "0".into());
        }
        converted[source] = to.into();
    }
    converted
}

fn always_written(source: &str, half: Half) -> &'static [&'static str] {
    match (source, half) {
        ("object", Half::Target) => &["targetValue"],
        ("pods", Half::Target) => &["targetAverageValue"],
        ("object" | "external", Half::Current) => &["currentValue"],
        ("resource" | "containerResource" | "pods", Half::Current) => &["currentAverageValue"],
        _ => &[],
    }
}

fn to_v2(metric: &Value, half: Half) -> Value {
    let mut converted = json!({ "type": metric["type"] });
    for (source, pairs) in SOURCES {
        let Some(from) = metric.get(source) else { continue };
        let mut to = json!({});
        for (v2, v1) in pairs.iter().filter(|(v2, _)| half.takes(v2)) {
            if let Some(value) = from.get(v1) {
                put(&mut to, v2, value);
            }
        }
        if half == Half::Target {
            set_target_type(source, &mut to["target"]);
        }
        converted[source] = to;
    }
    converted
}

/// v1 says what kind of target there is by which members it has.
fn set_target_type(source: &str, target: &mut Value) {
    let has = |field: &str| target.get(field).is_some();
    let type_ = match source {
        "resource" | "containerResource" if has("averageUtilization") => "Utilization",
        "object" if !has("averageValue") => "Value",
        "external" if has("value") => "Value",
        _ => "AverageValue",
    };
    target["type"] = type_.into();
    if source == "object" && type_ == "AverageValue" && target["value"] == "0" {
        target.as_object_mut().into_iter().for_each(|target| drop(target.remove("value")));
    }
}

fn put(object: &mut Value, pointer: &str, value: &Value) {
    let mut place = object;
    for step in pointer.trim_start_matches('/').split('/') {
        place = &mut place[step];
    }
    *place = value.clone();
}

/// The first letter of every member's name in another case: behaviour is saved under Go's names.
fn rename_members(value: &Value, case: fn(&str) -> String) -> Value {
    match value {
        Value::Object(members) => {
            let renamed = members.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| {
                let (first, rest) = name.split_at(name.chars().next().map_or(0, char::len_utf8));
                (case(first) + rest, rename_members(value, case))
            });
            Value::Object(renamed.collect())
        }
        Value::Array(items) => items.iter().map(|item| rename_members(item, case)).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2() -> Value {
        json!({"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 5, "scaleTargetRef": {"kind": "Deployment", "name": "d"},
                "behavior": {"scaleDown": {"selectPolicy": "Max", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}},
                "metrics": [
                    {"type": "Pods", "pods": {"metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                    {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "x"},
                        "target": {"type": "Value", "value": "3"}}},
                    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 7}}},
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}]},
            "status": {"currentReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": 9, "averageValue": "90m"}}}]}})
    }

    #[test]
    fn what_v1_does_not_know_survives_in_annotations() {
        let v1 = AutoscalerConversion.to_served(v2());
        assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 60);
        assert_eq!(v1["status"]["currentCPUUtilizationPercentage"], 9);
        let annotations = &v1["metadata"]["annotations"];
        assert!(annotations[BEHAVIOR].as_str().is_some_and(|text| text.contains("\"ScaleDown\":{")));
        assert!(annotations[METRICS].as_str().is_some_and(|text| text.contains("targetAverageValue")));
        assert!(v1["spec"].get("metrics").is_none() && v1["status"].get("conditions").is_none());
        assert_eq!(AutoscalerConversion.to_stored(v1), v2());
    }

    #[test]
    fn a_bare_v1_aims_at_eighty_percent() {
        let v1 = json!({"apiVersion": "autoscaling/v1", "metadata": {"name": "a"}, "spec": {"maxReplicas": 5}});
        let stored = AutoscalerConversion.to_stored(v1);
        assert_eq!(stored["spec"]["metrics"], json!([cpu_target(json!(80))]));
        assert_eq!(AutoscalerConversion.to_served(stored)["spec"]["targetCPUUtilizationPercentage"], 80);
    }
}
