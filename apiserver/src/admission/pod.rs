//! Pods: how important they are (`Priority`), and how long they bear a node that fails (`DefaultTolerationSeconds`).

use kontiki_api::{
    object::{meta, text},
    status::Status,
};
use serde_json::{Value, json};

/// Priority classes that every cluster has.
const CLASSES: [(&str, i64); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const FAILING: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// Seconds that a pod stays on a failing node.
const TOLERATED: i64 = 300;

/// Completes a new pod.
pub fn complete(pod: &mut Value) -> Result<(), Status> {
    prioritize(pod)?;
    let mut tolerations = pod.pointer("/spec/tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    for key in FAILING {
        let covers = |one: &Value| {
            let own = one["key"].as_str().unwrap_or_default();
            (own == key || own.is_empty()) && matches!(one["effect"].as_str().unwrap_or_default(), "NoExecute" | "")
        };
        if !tolerations.iter().any(covers) {
            tolerations.push(json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED }));
        }
    }
    pod["spec"]["tolerations"] = Value::Array(tolerations);
    Ok(())
}

fn prioritize(pod: &mut Value) -> Result<(), Status> {
    let class = text(pod, "/spec/priorityClassName").to_owned();
    let priority = if class.is_empty() {
        0
    } else {
        let found = CLASSES.iter().find(|(name, _)| *name == class).map(|(_, priority)| *priority);
        let why = format!("no PriorityClass with name {class} was found");
        found.ok_or_else(|| Status::forbidden("", "pods", meta::name(pod), &why))?
    };
    let spec = &mut pod["spec"];
    spec["priority"] = json!(priority);
    if spec["preemptionPolicy"].is_null() {
        spec["preemptionPolicy"] = json!("PreemptLowerPriority");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pod_bears_a_failing_node_for_five_minutes_unless_it_says_otherwise() {
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {"tolerations": [{"key": FAILING[0], "operator": "Exists"}]}});
        complete(&mut pod).unwrap();
        let tolerations = pod["spec"]["tolerations"].as_array().unwrap();
        assert_eq!((tolerations.len(), tolerations[1]["key"].as_str()), (2, Some(FAILING[1])));
        assert_eq!((pod["spec"]["priority"].as_i64(), tolerations[1]["tolerationSeconds"].as_i64()), (Some(0), Some(300)));
    }

    #[test]
    fn an_unknown_class_is_refused() {
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {"priorityClassName": "high"}});
        assert_eq!(complete(&mut pod).unwrap_err().message, "pods \"a\" is forbidden: no PriorityClass with name high was found");
    }
}
