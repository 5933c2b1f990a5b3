//! The cluster is as it was declared to be: nodes ready, replicas available, endpoints those pods that are ready.

use std::collections::BTreeSet;

use serde_json::Value;

/// What a namespace and the nodes look like: lists as the API gives them.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Nodes.
    pub nodes: Value,
    /// Deployments.
    pub deployments: Value,
    /// Jobs.
    pub jobs: Value,
    /// Pods.
    pub pods: Value,
    /// EndpointSlices.
    pub slices: Value,
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn has(object: &Value, condition: &str) -> bool {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|one| one["type"] == condition && one["status"] == "True")
}

/// Where the cluster differs from what is declared.
#[must_use]
pub fn differences(observed: &Observed) -> Vec<String> {
    let mut found = Vec::new();
    for node in items(&observed.nodes).filter(|node| !has(node, "Ready")) {
        found.push(format!("node {} is not ready", name(node)));
    }
    for deployment in items(&observed.deployments) {
        let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
        for field in ["replicas", "updatedReplicas", "availableReplicas"] {
            let number = deployment["status"][field].as_u64().unwrap_or(0);
            if number != wanted {
                found.push(format!("deployment {} has {field} {number}, not {wanted}", name(deployment)));
            }
        }
    }
    for job in items(&observed.jobs).filter(|job| !has(job, "Complete")) {
        found.push(format!("job {} is not complete", name(job)));
    }
    let mut ready = BTreeSet::new();
    for pod in items(&observed.pods) {
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            found.push(format!("pod {} does not end", name(pod)));
        } else if has(pod, "Ready") && pod["metadata"]["labels"]["app"].is_string() {
            ready.extend(pod["status"]["podIP"].as_str());
        }
    }
    let endpoints = items(&observed.slices).flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let live = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
    let addresses: BTreeSet<&str> = live.filter_map(|endpoint| endpoint["addresses"][0].as_str()).collect();
    if addresses != ready {
        found.push(format!("endpoints are {addresses:?}, ready pods {ready:?}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn healthy() -> Observed {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let status = json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        let pod =
            json!({"metadata": {"name": "p", "labels": {"app": "a"}}, "status": {"podIP": "10.244.0.2", "conditions": ready}});
        Observed {
            nodes: json!({"items": [{"metadata": {"name": "n"}, "status": {"conditions": ready}}]}),
            deployments: json!({"items": [{"metadata": {"name": "d"}, "spec": {"replicas": 1}, "status": status}]}),
            jobs: json!({"items": [{"metadata": {"name": "j"}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}]}),
            pods: json!({ "items": [pod] }),
            slices: json!({"items": [{"endpoints": [{"addresses": ["10.244.0.2"], "conditions": {"ready": true}}]}]}),
        }
    }

    fn check(expected: &str, plant: impl Fn(&mut Observed)) {
        let mut observed = healthy();
        plant(&mut observed);
        assert_eq!(differences(&observed), [expected]);
    }

    #[test]
    fn every_difference_is_found() {
        assert_eq!(differences(&healthy()), [""; 0]);
        check("node n is not ready", |seen| seen.nodes["items"][0]["status"]["conditions"][0]["status"] = json!("Unknown"));
        check("deployment d has availableReplicas 0, not 1", |seen| {
            seen.deployments["items"][0]["status"]["availableReplicas"] = json!(0);
        });
        check("job j is not complete", |seen| seen.jobs["items"][0]["status"] = json!({}));
        check("endpoints are {}, ready pods {\"10.244.0.2\"}", |seen| seen.slices = json!({"items": []}));
        let mut ending = healthy();
        ending.pods["items"][0]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(differences(&ending).contains(&"pod p does not end".to_owned()));
    }
}
