//! `NodeAffinity`: node selectors, required and preferred node affinity.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity>

use super::Refusal;
use crate::{
    cluster::{Cluster, NodeInfo},
    model::Pod,
};

/// Name.
pub const NAME: &str = "NodeAffinity";
/// Weight of the score.
pub const WEIGHT: i64 = 2;

/// Refuses nodes that the pod does not select.
pub fn filter(pod: &Pod, info: &NodeInfo, _cluster: &Cluster) -> Option<Refusal> {
    (!pod.selects(&info.node)).then(|| Refusal::unresolvable(NAME, "node(s) didn't match Pod's node affinity/selector"))
}

/// Weights of the preferences that the node meets.
pub fn score(pod: &Pod, info: &NodeInfo) -> i64 {
    let met = pod.spec.node_affinity.preferred.iter().filter(|(_, term)| term.matches(info.name(), &info.node.metadata.labels));
    met.map(|(weight, _)| weight).sum()
}
