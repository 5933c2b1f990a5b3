//! Nodes: tainted until they are ready (`TaintNodesByCondition`), and kept to what is theirs (`NodeRestriction`).

use kontiki_api::{
    object::{meta, text},
    registry::Resource,
    resources::{LEASES, NODES, PODS},
    status::Status,
};
use serde_json::{Value, json};

use crate::auth::UserInfo;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// A new node takes no pods before its controller has seen it ready.
pub fn taint(node: &mut Value) {
    let mut taints = node.pointer("/spec/taints").and_then(Value::as_array).cloned().unwrap_or_default();
    if !taints.iter().any(|taint| taint["key"] == NOT_READY) {
        taints.push(json!({ "key": NOT_READY, "effect": "NoSchedule" }));
        node["spec"]["taints"] = Value::Array(taints);
    }
}

/// A node creates only its own Node object and its own Lease, and no pods.
pub fn restrict(user: &UserInfo, resource: &Resource, object: &Value) -> Result<(), Status> {
    let Some(node) = user.name.strip_prefix("system:node:") else { return Ok(()) };
    let name = meta::name(object);
    let refuse = |why: String| Err(Status::forbidden(resource.key.group, resource.key.plural, name, &why));
    if resource.key == NODES && name != node {
        return refuse(format!("node \"{node}\" is not allowed to modify node \"{name}\""));
    }
    if resource.key == LEASES && (name != node || text(object, "/metadata/namespace") != "kube-node-lease") {
        return refuse("can only access node lease with the same name as the requesting node".to_owned());
    }
    if resource.key == PODS {
        return refuse(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"{node}\" can only create mirror pods"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kontiki_api::registry;

    use super::*;

    #[test]
    fn a_node_makes_only_itself() {
        let nodes = registry::of(&NODES).unwrap();
        let user = UserInfo::authenticated("system:node:a", ["system:nodes"]);
        let node = |name: &str| json!({"metadata": {"name": name}});
        assert!(restrict(&user, nodes, &node("a")).is_ok());
        assert!(restrict(&user, nodes, &node("b")).unwrap_err().message.contains("is not allowed to modify node \"b\""));
        assert!(restrict(&UserInfo::apiserver(), nodes, &node("b")).is_ok());
    }

    #[test]
    fn a_new_node_is_tainted_once() {
        let mut node = json!({"metadata": {"name": "a"}, "spec": {}});
        taint(&mut node);
        taint(&mut node);
        assert_eq!(node["spec"]["taints"].as_array().unwrap().len(), 1);
    }
}
