//! `TaintToleration`: taints that a pod does not tolerate.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>

use super::Refusal;
use crate::{
    cluster::{Cluster, NodeInfo},
    model::Pod,
};

/// Name.
pub const NAME: &str = "TaintToleration";
/// Weight of the score.
pub const WEIGHT: i64 = 3;

/// Refuses nodes with a hard taint that is not tolerated.
pub fn filter(pod: &Pod, info: &NodeInfo, _cluster: &Cluster) -> Option<Refusal> {
    pod.untolerated(&info.node).map(|_| Refusal::unresolvable(NAME, "node(s) had untolerated taint(s)"))
}

/// Soft taints that are not tolerated: the fewer the better.
pub fn score(pod: &Pod, info: &NodeInfo) -> i64 {
    let soft = info.node.spec.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    i64::try_from(soft.filter(|taint| !pod.tolerates(taint)).count()).unwrap_or(i64::MAX)
}
