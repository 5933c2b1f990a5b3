//! `TaintNodesByCondition`: a new node takes no pods before its controller has seen it ready.

use async_trait::async_trait;
use kontiki_api::{resources::NODES, status::Status};
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::service::ApiServer;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The plugin.
pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is(&NODES)
    }

    async fn mutate(&self, _: &ApiServer, _: &Request<'_>, object: &mut Value, _: &Value) -> Result<(), Status> {
        taint(object);
        Ok(())
    }
}

fn taint(node: &mut Value) {
    let mut taints = node.pointer("/spec/taints").and_then(Value::as_array).cloned().unwrap_or_default();
    if !taints.iter().any(|taint| taint["key"] == NOT_READY) {
        taints.push(json!({ "key": NOT_READY, "effect": "NoSchedule" }));
        node["spec"]["taints"] = Value::Array(taints);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_new_node_is_tainted_once() {
        let mut node = json!({"metadata": {"name": "a"}, "spec": {}});
        taint(&mut node);
        taint(&mut node);
        assert_eq!(node["spec"]["taints"].as_array().unwrap().len(), 1);
    }
}
