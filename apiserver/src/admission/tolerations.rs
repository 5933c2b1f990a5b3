//! `DefaultTolerationSeconds`: how long a pod bears a node that fails, where it does not say.

use async_trait::async_trait;
use kontiki_api::{resources::PODS, status::Status};
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::service::ApiServer;

const FAILING: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// Seconds that a pod stays on a failing node.
const TOLERATED: i64 = 300;

/// The plugin.
pub struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update) && request.is(&PODS)
    }

    async fn mutate(&self, _: &ApiServer, _: &Request<'_>, object: &mut Value, _: &Value) -> Result<(), Status> {
        tolerate(object);
        Ok(())
    }
}

fn tolerate(pod: &mut Value) {
    let mut tolerations = pod.pointer("/spec/tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let before = tolerations.len();
    for key in FAILING {
        let covers = |one: &Value| {
            let own = one["key"].as_str().unwrap_or_default();
            (own == key || own.is_empty()) && matches!(one["effect"].as_str().unwrap_or_default(), "NoExecute" | "")
        };
        if !tolerations.iter().any(covers) {
            tolerations.push(json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED }));
        }
    }
    if tolerations.len() > before {
        pod["spec"]["tolerations"] = Value::Array(tolerations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_bears_a_failing_node_for_five_minutes_unless_it_says_otherwise() {
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {"tolerations": [{"key": FAILING[0], "operator": "Exists"}]}});
        tolerate(&mut pod);
        let added = json!({"key": FAILING[1], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        assert_eq!(pod["spec"]["tolerations"], json!([{"key": FAILING[0], "operator": "Exists"}, added]));
        let everything = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        let mut pod = everything.clone();
        tolerate(&mut pod);
        assert_eq!(pod, everything);
    }
}
