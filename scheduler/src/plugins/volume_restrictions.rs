//! `VolumeRestrictions`: disks that only one node may have, claims that only one pod may use.

use super::Refusal;
use crate::{
    cluster::{Cluster, NodeInfo},
    model::{Pod, pod::Disk},
};

/// Name.
pub const NAME: &str = "VolumeRestrictions";

fn conflicts(own: &Disk, other: &Disk) -> bool {
    own.name == other.name && (own.exclusive || !(own.read_only && other.read_only))
}

/// Refuses nodes where another pod has one of the pod's disks.
pub fn filter(pod: &Pod, info: &NodeInfo, _cluster: &Cluster) -> Option<Refusal> {
    if pod.spec.disks.is_empty() {
        return None;
    }
    let mut there = info.pods.iter().flat_map(|other| &other.spec.disks);
    let taken = there.any(|other| pod.spec.disks.iter().any(|own| conflicts(own, other)));
    taken.then(|| Refusal::resolvable(NAME, "node(s) had no available disk"))
}

/// Claims of the pod that one pod alone may use.
pub fn exclusive_claims<'a>(pod: &'a Pod, cluster: &Cluster) -> Vec<&'a str> {
    let exclusive = |name: &&str| cluster.claim(&pod.metadata.namespace, name).is_some_and(|claim| claim.is_for_one_pod());
    pod.spec.claims.iter().map(String::as_str).filter(exclusive).collect()
}

/// How often pods of a node use one of these claims.
pub fn uses(claims: &[&str], namespace: &str, info: &NodeInfo) -> i64 {
    if claims.is_empty() {
        return 0;
    }
    let own = info.pods.iter().filter(|other| other.metadata.namespace == namespace);
    let used = own.flat_map(|other| &other.spec.claims).filter(|name| claims.contains(&name.as_str()));
    i64::try_from(used.count()).unwrap_or(i64::MAX)
}

/// Refuses every node while some pod uses such a claim.
pub fn check(uses: i64) -> Option<Refusal> {
    const REASON: &str =
        "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
    (uses > 0).then(|| Refusal::resolvable(NAME, REASON))
}
