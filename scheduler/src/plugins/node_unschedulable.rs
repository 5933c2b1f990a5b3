//! `NodeUnschedulable`: nodes that an administrator closed.

use std::sync::LazyLock;

use super::Refusal;
use crate::{
    cluster::{Cluster, NodeInfo},
    model::{Pod, node::Taint},
};

/// Name.
pub const NAME: &str = "NodeUnschedulable";

static TAINT: LazyLock<Taint> = LazyLock::new(|| Taint {
    key: "node.kubernetes.io/unschedulable".to_owned(),
    value: String::new(),
    effect: "NoSchedule".to_owned(),
});

/// Refuses closed nodes, but for pods that tolerate it.
pub fn filter(pod: &Pod, info: &NodeInfo, _cluster: &Cluster) -> Option<Refusal> {
    let refused = info.node.spec.unschedulable && !pod.tolerates(&TAINT);
    refused.then(|| Refusal::unresolvable(NAME, "node(s) were unschedulable"))
}
