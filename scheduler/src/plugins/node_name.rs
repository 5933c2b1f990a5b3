//! `NodeName`: a pod that names its node.

use super::Refusal;
use crate::{
    cluster::{Cluster, NodeInfo},
    model::Pod,
};

/// Name.
pub const NAME: &str = "NodeName";

/// Refuses all other nodes.
pub fn filter(pod: &Pod, info: &NodeInfo, _cluster: &Cluster) -> Option<Refusal> {
    let other = !pod.spec.node_name.is_empty() && pod.spec.node_name != info.name();
    other.then(|| Refusal::unresolvable(NAME, "node(s) didn't match the requested node name"))
}
