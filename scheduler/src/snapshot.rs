//! The cluster at one moment: each node with what its pods take.

use std::{collections::BTreeMap, sync::Arc};

use kontiki_api::{kinds::pod::resources::Amounts, quantity::Quantity};

use crate::model::{Node, Pod};

/// A node and its pods.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The node.
    pub node: Arc<Node>,
    /// Its pods, those included whose binding is on its way.
    pub pods: Vec<Arc<Pod>>,
    /// What they ask for together.
    pub requested: Amounts,
}

impl NodeInfo {
    /// Of a resource: what pods may take, and what they have taken.
    pub fn amounts(&self, resource: &str) -> (Quantity, Quantity) {
        let of = |amounts: &Amounts| amounts.get(resource).copied().unwrap_or_default();
        (of(&self.node.status.allocatable), of(&self.requested))
    }
}

/// All nodes, by name.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The nodes.
    pub nodes: Vec<NodeInfo>,
}

/// Puts pods on their nodes. `assumed` are bindings that the watch has not shown yet, by the pod's UID.
pub fn snapshot(nodes: Vec<Arc<Node>>, pods: &[Arc<Pod>], assumed: &BTreeMap<String, String>) -> Snapshot {
    let mut by_node: BTreeMap<String, NodeInfo> = nodes
        .into_iter()
        .map(|node| (node.metadata.name.clone(), NodeInfo { node, pods: Vec::new(), requested: Amounts::new() }))
        .collect();
    for pod in pods.iter().filter(|pod| !pod.has_ended()) {
        let node = if pod.spec.node_name.is_empty() { assumed.get(&pod.metadata.uid) } else { Some(&pod.spec.node_name) };
        if let Some(info) = node.and_then(|node| by_node.get_mut(node)) {
            add(info, Arc::clone(pod));
        }
    }
    Snapshot { nodes: by_node.into_values().collect() }
}

/// Puts one more pod on a node.
pub fn add(info: &mut NodeInfo, pod: Arc<Pod>) {
    for (name, amount) in &pod.spec.requests {
        let sum = info.requested.entry(name.clone()).or_default();
        *sum = *sum + *amount;
    }
    info.pods.push(pod);
}
