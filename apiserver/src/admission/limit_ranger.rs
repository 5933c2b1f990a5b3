//! `LimitRanger`: what a container requests and may use where it does not say, and bounds for what is said.
//! <https://kubernetes.io/docs/concepts/policy/limit-range/>

use async_trait::async_trait;
use kontiki_api::{
    kinds::pod::resources::{Amounts, amounts, pod_limits, pod_requests},
    object::meta,
    quantity::Quantity,
    resources::{LIMIT_RANGES, PERSISTENT_VOLUME_CLAIMS, PODS},
    status::Status,
};
use serde_json::{Map, Value, json};

use super::{Operation, Plugin, Request, lookup};
use crate::service::ApiServer;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The plugin.
pub struct LimitRanger;

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        match request.operation {
            Operation::Create => request.is(&PODS) || request.is(&PERSISTENT_VOLUME_CLAIMS),
            // The containers of a pod that runs change by `resize` alone.
            Operation::Update => request.is_part(&PODS, "resize") || request.is(&PERSISTENT_VOLUME_CLAIMS),
            Operation::Delete | Operation::Connect => false,
        }
    }

    async fn mutate(&self, server: &ApiServer, request: &Request<'_>, object: &mut Value, old: &Value) -> Result<(), Status> {
        if request.resource.key.plural == PODS.plural && !meta::is_deleting(old) {
            for range in lookup::list(server, &LIMIT_RANGES, request.namespace) {
                set_defaults(object, &range);
            }
        }
        Ok(())
    }

    async fn validate(&self, server: &ApiServer, request: &Request<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        if meta::is_deleting(old) {
            return Ok(());
        }
        for range in lookup::list(server, &LIMIT_RANGES, request.namespace) {
            let errors =
                if request.resource.key.plural == PODS.plural { check_pod(object, &range) } else { check_claim(object, &range) };
            match errors.as_slice() {
                [] => {}
                [one] => return Err(request.forbidden(one)),
                many => return Err(request.forbidden(format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

fn limits(range: &Value) -> impl Iterator<Item = &Value> {
    range.pointer("/spec/limits").and_then(Value::as_array).into_iter().flatten()
}

fn entries<'a>(limit: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    limit.get(field).and_then(Value::as_object).into_iter().flatten()
}

/// Gives containers what they do not say, and says so in an annotation.
fn set_defaults(pod: &mut Value, range: &Value) {
    let (mut requests, mut limit_defaults) = (Map::new(), Map::new());
    for limit in limits(range).filter(|limit| limit["type"] == "Container") {
        requests.extend(entries(limit, "defaultRequest").map(|(name, value)| (name.clone(), value.clone())));
        limit_defaults.extend(entries(limit, "default").map(|(name, value)| (name.clone(), value.clone())));
    }
    let mut notes = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        let Some(containers) = pod.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (field, word, defaults) in [("requests", "request", &requests), ("limits", "limit", &limit_defaults)] {
                let set = fill(container, field, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {word} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let mut annotations = meta::get(pod, "annotations").and_then(Value::as_object).cloned().unwrap_or_default();
        annotations.insert(ANNOTATION.to_owned(), json!(format!("LimitRanger plugin set: {}", notes.join("; "))));
        meta::set(pod, "annotations", annotations);
    }
}

/// Adds what is missing; names of what was added, sorted.
fn fill(container: &mut Value, field: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let mut own = container.pointer(&format!("/resources/{field}")).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut set: Vec<String> = defaults.keys().filter(|name| !own.contains_key(*name)).cloned().collect();
    set.sort();
    for name in &set {
        own.insert(name.clone(), defaults[name].clone());
    }
    if !set.is_empty() {
        container["resources"][field] = Value::Object(own);
    }
    set
}

fn check_pod(pod: &Value, range: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    let containers = ["/spec/containers", "/spec/initContainers"].into_iter();
    let containers: Vec<&Value> = containers.filter_map(|list| pod.pointer(list)?.as_array()).flatten().collect();
    for limit in limits(range) {
        match limit["type"].as_str() {
            Some("Container") => {
                for container in &containers {
                    check(limit, "Container", &amounts(container, "requests"), &amounts(container, "limits"), &mut errors);
                }
            }
            Some("Pod") => {
                let mut spec = pod["spec"].clone();
                if let Some(spec) = spec.as_object_mut() {
                    spec.remove("overhead");
                }
                check(limit, "Pod", &pod_requests(&spec), &pod_limits(&spec), &mut errors);
            }
            _ => {}
        }
    }
    errors
}

fn check(limit: &Value, kind: &str, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    for (name, bound) in entries(limit, "min") {
        errors.extend(minimum(kind, name, bound, requests.get(name), limits.get(name)));
    }
    for (name, bound) in entries(limit, "max") {
        errors.extend(maximum(kind, name, bound, requests.get(name), limits.get(name)));
    }
    for (name, bound) in entries(limit, "maxLimitRequestRatio") {
        errors.extend(ratio(kind, name, bound, requests.get(name), limits.get(name)));
    }
}

fn check_claim(claim: &Value, range: &Value) -> Vec<String> {
    let kind = "PersistentVolumeClaim";
    let requests = amounts(&claim["spec"], "requests");
    let mut errors = Vec::new();
    for limit in limits(range).filter(|limit| limit["type"] == kind) {
        for (name, bound) in entries(limit, "min") {
            errors.extend(minimum(kind, name, bound, requests.get(name), None));
        }
        for (name, bound) in entries(limit, "max") {
            let (text, bound) = parse(bound);
            match requests.get(name) {
                None => errors.push(format!("maximum {name} usage per {kind} is {text}.  No request is specified")),
                Some(request) if *request > bound => {
                    errors.push(format!(
                        "maximum {name} usage per {kind} is {text}, but request is {}",
                        said(&claim["spec"], name, *request)
                    ));
                }
                Some(_) => {}
            }
        }
    }
    errors
}

/// An amount as its owner wrote it.
fn said(holder: &Value, name: &str, amount: Quantity) -> String {
    holder["resources"]["requests"][name].as_str().map_or_else(|| amount.to_string(), str::to_owned)
}

fn parse(bound: &Value) -> (String, Quantity) {
    let text = bound.as_str().map_or_else(|| bound.to_string(), str::to_owned);
    let quantity = text.parse().unwrap_or_default();
    (text, quantity)
}

/// An amount in the form, binary or decimal, of the bound that it breaks.
fn like(bound: &str, amount: Quantity) -> String {
    if bound.ends_with('i') { amount.to_binary() } else { amount.to_string() }
}

fn minimum(kind: &str, name: &str, bound: &Value, request: Option<&Quantity>, limit: Option<&Quantity>) -> Option<String> {
    let (text, bound) = parse(bound);
    let rule = format!("minimum {name} usage per {kind} is {text}");
    match (request, limit) {
        (None, _) => Some(format!("{rule}.  No request is specified")),
        (Some(request), _) if *request < bound => Some(format!("{rule}, but request is {}", like(&text, *request))),
        (_, Some(limit)) if *limit < bound => Some(format!("{rule}, but limit is {}", like(&text, *limit))),
        _ => None,
    }
}

fn maximum(kind: &str, name: &str, bound: &Value, request: Option<&Quantity>, limit: Option<&Quantity>) -> Option<String> {
    let (text, bound) = parse(bound);
    let rule = format!("maximum {name} usage per {kind} is {text}");
    match (request, limit) {
        (_, None) => Some(format!("{rule}.  No limit is specified")),
        (_, Some(limit)) if *limit > bound => Some(format!("{rule}, but limit is {}", like(&text, *limit))),
        (Some(request), _) if *request > bound => Some(format!("{rule}, but request is {}", like(&text, *request))),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio is told to six places")]
fn ratio(kind: &str, name: &str, bound: &Value, request: Option<&Quantity>, limit: Option<&Quantity>) -> Option<String> {
    let (text, bound) = parse(bound);
    let rule = format!("{name} max limit to request ratio per {kind} is {text}");
    let Some(request) = request.filter(|request| !request.is_zero()) else {
        return Some(format!("{rule}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(|limit| !limit.is_zero()) else {
        return Some(format!("{rule}, but no limit is specified or limit is 0"));
    };
    let observed = limit.milli() as f64 / request.milli() as f64;
    (observed * 1000.0 > bound.milli() as f64).then(|| format!("{rule}, but provided ratio is {observed:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(limit: Value) -> Value {
        json!({"spec": {"limits": [limit]}})
    }

    fn pod(requests: Value, limits: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": {"requests": requests, "limits": limits}}]}})
    }

    #[test]
    fn what_a_container_does_not_say_is_filled_in_and_told() {
        let range = range(json!({
            "type": "Container", "default": {"cpu": "500m", "memory": "500Mi"}, "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
        }));
        let mut created = pod(json!({"cpu": "300m"}), json!({"memory": "1Gi"}));
        set_defaults(&mut created, &range);
        let resources = &created["spec"]["containers"][0]["resources"];
        assert_eq!(resources["requests"], json!({"cpu": "300m", "memory": "200Mi"}));
        assert_eq!(resources["limits"], json!({"cpu": "500m", "memory": "1Gi"}));
        let told = "LimitRanger plugin set: memory request for container c; cpu limit for container c";
        assert_eq!(created["metadata"]["annotations"][ANNOTATION], told);
        let before = created.clone();
        set_defaults(&mut created, &range);
        assert_eq!(created, before);
    }

    #[test]
    fn bounds_are_refused_in_kubernetes_words() {
        let cpu = |kind: &str, field: &str, bound: &str| range(json!({"type": kind, (field): {"cpu": bound}}));
        let said = pod(json!({"cpu": "100m"}), json!({"cpu": "1"}));
        let none = pod(json!({}), json!({}));
        for (range, pod, expected) in [
            (cpu("Container", "min", "50m"), &said, None),
            (cpu("Container", "min", "200m"), &said, Some("minimum cpu usage per Container is 200m, but request is 100m")),
            (cpu("Container", "min", "50m"), &none, Some("minimum cpu usage per Container is 50m.  No request is specified")),
            (cpu("Container", "max", "500m"), &said, Some("maximum cpu usage per Container is 500m, but limit is 1")),
            (cpu("Pod", "max", "500m"), &said, Some("maximum cpu usage per Pod is 500m, but limit is 1")),
            (cpu("Container", "max", "2"), &none, Some("maximum cpu usage per Container is 2.  No limit is specified")),
            (
                cpu("Container", "maxLimitRequestRatio", "3"),
                &said,
                Some("cpu max limit to request ratio per Container is 3, but provided ratio is 10.000000"),
            ),
            (cpu("Container", "maxLimitRequestRatio", "10"), &said, None),
        ] {
            assert_eq!(check_pod(pod, &range), expected.map(str::to_owned).into_iter().collect::<Vec<_>>());
        }
        let claim = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
        let storage = range(json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}));
        assert_eq!(check_claim(&claim, &storage), ["maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"]);
    }
}
