//! Which quotas an object falls under by their scopes.

use serde_json::{Value, json};

use crate::{kinds::pod::resources::qos_class, object::text};

/// The scopes of a quota as requirements: name, operator, values.
fn requirements(quota: &Value) -> Vec<Value> {
    let named = quota.pointer("/spec/scopes").and_then(Value::as_array).into_iter().flatten();
    let named = named.map(|scope| json!({ "scopeName": scope, "operator": "Exists" }));
    let selected = quota.pointer("/spec/scopeSelector/matchExpressions").and_then(Value::as_array).into_iter().flatten();
    named.chain(selected.cloned()).collect()
}

/// Whether an object has every scope of a quota. Objects that know no scopes fall under quotas without any.
pub(super) fn matches(plural: &str, object: &Value, quota: &Value) -> bool {
    requirements(quota).iter().all(|requirement| {
        let scope = requirement["scopeName"].as_str().unwrap_or_default();
        match plural {
            "pods" => pod_matches(scope, requirement, object),
            "persistentvolumeclaims" => scope == "VolumeAttributesClass" && selects(requirement, &attributes_classes(object)),
            _ => false,
        }
    })
}

fn pod_matches(scope: &str, requirement: &Value, pod: &Value) -> bool {
    let terminating = || pod.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds >= 0);
    let best_effort = || qos_class(&pod["spec"]) == "BestEffort";
    match scope {
        "Terminating" => terminating(),
        "NotTerminating" => !terminating(),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let class = text(pod, "/spec/priorityClassName");
            let classes: Vec<&str> = (!class.is_empty()).then_some(class).into_iter().collect();
            selects(requirement, &classes)
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn selects(requirement: &Value, found: &[&str]) -> bool {
    let wanted: Vec<&str> = requirement["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let any = || found.iter().any(|value| wanted.contains(value));
    match requirement["operator"].as_str().unwrap_or_default() {
        "Exists" => !found.is_empty(),
        "DoesNotExist" => found.is_empty(),
        "In" => any(),
        "NotIn" => found.is_empty() || found.iter().any(|value| !wanted.contains(value)),
        _ => false,
    }
}

fn attributes_classes(claim: &Value) -> Vec<&str> {
    const FIELDS: [&str; 3] = [
        "/spec/volumeAttributesClassName",
        "/status/currentVolumeAttributesClassName",
        "/status/modifyVolumeStatus/targetVolumeAttributesClassName",
    ];
    FIELDS.iter().map(|field| text(claim, field)).filter(|name| !name.is_empty()).collect()
}

fn crosses_namespaces(pod: &Value) -> bool {
    let crosses = |term: &Value| {
        let named = term["namespaces"].as_array().is_some_and(|names| !names.is_empty());
        named || term.get("namespaceSelector").is_some_and(|selector| !selector.is_null())
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|affinity| {
        let terms = |field: &str| {
            let list = pod.pointer(&format!("/spec/affinity/{affinity}/{field}")).and_then(Value::as_array);
            list.cloned().unwrap_or_default()
        };
        terms("requiredDuringSchedulingIgnoredDuringExecution").iter().any(crosses)
            || terms("preferredDuringSchedulingIgnoredDuringExecution").iter().any(|term| crosses(&term["podAffinityTerm"]))
    })
}
