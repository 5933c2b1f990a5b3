//! What a pod asks for and may use: the arithmetic that scheduler and kubelet share.
//!
//! <https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers>

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{kinds::common::items, quantity::Quantity};

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// What is written down under `requests` or `limits` of a container.
#[must_use]
pub fn amounts(container: &Value, field: &str) -> Amounts {
    let list = container.pointer(&format!("/resources/{field}")).and_then(Value::as_object);
    let parse = |(name, value): (&String, &Value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.parse().ok().map(|quantity| (name.clone(), quantity))
    };
    list.into_iter().flatten().filter_map(parse).collect()
}

fn add(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        let sum = to.entry(name.clone()).or_default();
        *sum = *sum + *amount;
    }
}

fn raise(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        let most = to.entry(name.clone()).or_default();
        *most = (*most).max(*amount);
    }
}

/// What a pod requests in all: its containers together with the sidecars, or the hungriest init
/// container with the sidecars before it, whichever is more; and the overhead.
#[must_use]
pub fn pod_requests(spec: &Value) -> Amounts {
    total(spec, "requests", &Amounts::new())
}

/// The same, where a container that names no amount of a resource counts with `default`.
#[must_use]
pub fn pod_requests_or(spec: &Value, default: &Amounts) -> Amounts {
    total(spec, "requests", default)
}

/// What a pod may use in all, by the same rule.
#[must_use]
pub fn pod_limits(spec: &Value) -> Amounts {
    total(spec, "limits", &Amounts::new())
}

/// Resources that a pod may name as a whole; its containers then share them.
fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn total(spec: &Value, field: &str, default: &Amounts) -> Amounts {
    let amounts_of = |container: &Value| {
        let mut own = default.clone();
        own.extend(amounts(container, field));
        own
    };
    let mut running = Amounts::new();
    items(spec, "/containers").for_each(|container| add(&mut running, &amounts_of(container)));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in items(spec, "/initContainers") {
        let own = amounts_of(container);
        if container["restartPolicy"] == "Always" {
            add(&mut sidecars, &own);
            raise(&mut peak, &sidecars);
        } else {
            let mut during = sidecars.clone();
            add(&mut during, &own);
            raise(&mut peak, &during);
        }
    }
    add(&mut running, &sidecars);
    raise(&mut running, &peak);
    running.extend(amounts(spec, field).into_iter().filter(|(name, _)| is_pod_level(name)));
    let overhead = spec.get("overhead").and_then(Value::as_object).into_iter().flatten();
    let overhead = overhead.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.parse().ok()?)));
    add(&mut running, &overhead.collect());
    running
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
#[must_use]
pub fn qos_class(spec: &Value) -> &'static str {
    let containers = || items(spec, "/initContainers").chain(items(spec, "/containers"));
    let counted = |amounts: Amounts| -> Amounts {
        amounts.into_iter().filter(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && !amount.is_zero()).collect()
    };
    let (mut any, mut guaranteed) = (false, true);
    for container in containers() {
        let (requests, limits) = (counted(amounts(container, "requests")), counted(amounts(container, "limits")));
        any |= !requests.is_empty() || !limits.is_empty();
        let equal = requests.iter().all(|(name, amount)| limits.get(name) == Some(amount));
        guaranteed &= limits.len() == 2 && equal;
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(cpu: &str) -> Value {
        json!({"resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn init_containers_count_only_where_they_need_more() {
        let spec = json!({"containers": [container("100m"), container("200m")], "initContainers": [container("250m")]});
        assert_eq!(pod_requests(&spec)["cpu"].milli(), 300);
        let spec = json!({"containers": [container("100m")], "initContainers": [container("1")], "overhead": {"cpu": "10m"}});
        assert_eq!(pod_requests(&spec)["cpu"].milli(), 1010);
    }

    #[test]
    fn sidecars_add_to_what_runs_beside_them() {
        let mut sidecar = container("50m");
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({"containers": [container("100m")], "initContainers": [sidecar, container("120m")]});
        assert_eq!(pod_requests(&spec)["cpu"].milli(), 170);
    }

    #[test]
    fn what_the_pod_names_as_a_whole_counts() {
        let spec =
            json!({"containers": [container("100m"), container("100m")], "resources": {"requests": {"cpu": "1", "x/y": "3"}}});
        assert_eq!(pod_requests(&spec)["cpu"].milli(), 1000);
        assert!(!pod_requests(&spec).contains_key("x/y"));
    }

    #[test]
    fn the_class_follows_requests_and_limits() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (resources, class) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"requests": both, "limits": both}), "Guaranteed"),
            (json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}), "Burstable"),
        ] {
            assert_eq!(qos_class(&json!({"containers": [{"resources": resources}]})), class, "{resources}");
        }
    }
}
