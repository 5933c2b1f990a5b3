//! `NodePorts`: ports of the node that are taken.

use super::Refusal;
use crate::{
    cluster::{Cluster, NodeInfo},
    model::Pod,
};

/// Name.
pub const NAME: &str = "NodePorts";

/// Refuses nodes where one of the pod's ports is taken: same number and protocol, and one address or all.
pub fn filter(pod: &Pod, info: &NodeInfo, _cluster: &Cluster) -> Option<Refusal> {
    if pod.spec.host_ports.is_empty() || info.with_ports == 0 {
        return None;
    }
    let mut taken = info.pods.iter().flat_map(|other| &other.spec.host_ports);
    let meets = taken.any(|port| pod.spec.host_ports.iter().any(|own| own.meets(port)));
    meets.then(|| Refusal::resolvable(NAME, "node(s) didn't have free ports for the requested pod ports"))
}
