//! A node that keeps others away because it is a server is labelled as one: nodes may not give themselves a role.
//!
//! <https://kubernetes.io/docs/reference/labels-annotations-taints/#node-role-kubernetes-io-control-plane>

use std::sync::Arc;

use futures::future::BoxFuture;
use kontiki_api::resources::NODES;
use kontiki_client::{Patch, reflector::ObjectKey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    node_lifecycle::Node,
    run::{self, Reconciled, gone},
};

/// Key of both the taint and the label.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Whether a node lacks the label of its role.
pub fn lacks_role(node: &Node) -> bool {
    let tainted = node.spec.taints.iter().any(|taint| taint.key == CONTROL_PLANE);
    tainted && !node.metadata.labels.contains_key(CONTROL_PLANE)
}

/// Begins to label servers.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("node_role");
    run::tell_own(&context.nodes, &queue);
    run::controller(context, &queue, "node_role", cancel, reconcile)
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    if !context.nodes.get("", &key.name).is_some_and(|node| lacks_role(&node)) {
        return Ok(None);
    }
    let patch = Patch::Merge(json!({ "metadata": { "labels": { CONTROL_PLANE: "" } } }));
    gone(context.client().patch::<Value>(NODES, "", &key.name, None, patch).await.map(drop)).map(|()| None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn servers_get_their_label_once() {
        let node = |taints: Value, labels: Value| -> Node {
            serde_json::from_value(json!({"metadata": {"labels": labels}, "spec": {"taints": taints}})).unwrap()
        };
        let taint = json!([{"key": CONTROL_PLANE, "effect": "NoSchedule"}]);
        assert!(lacks_role(&node(taint.clone(), json!({}))));
        assert!(!lacks_role(&node(taint, json!({CONTROL_PLANE: ""}))));
        assert!(!lacks_role(&node(json!([]), json!({}))));
    }
}
