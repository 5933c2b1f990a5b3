//! `NodeVolumeLimits`: a CSI driver takes so many volumes on one node.

use std::collections::{BTreeMap, BTreeSet};

use super::Refusal;
use crate::{
    cluster::{Cluster, NodeInfo},
    model::Pod,
};

/// Name.
pub const NAME: &str = "NodeVolumeLimits";

/// Driver and handle of a pod's CSI volumes.
fn volumes<'a>(pod: &'a Pod, cluster: &'a Cluster) -> impl Iterator<Item = (&'a str, &'a str)> {
    let claims = pod.spec.claims.iter().filter_map(|name| cluster.claim(&pod.metadata.namespace, name));
    claims.filter_map(|claim| match cluster.volumes.get(&claim.volume_name) {
        Some(volume) => volume.csi.as_ref().map(|(driver, handle)| (driver.as_str(), handle.as_str())),
        // A volume that is still to be made will come from the class's driver.
        None => {
            let class = cluster.classes.get(&claim.class)?;
            Some((class.provisioner.as_str(), claim.metadata.uid.as_str()))
        }
    })
}

/// Refuses nodes that would have more volumes of a driver than it takes.
pub fn filter(pod: &Pod, info: &NodeInfo, cluster: &Cluster) -> Option<Refusal> {
    if pod.spec.claims.is_empty() {
        return None;
    }
    let limits = &cluster.csi_nodes.get(info.name())?.limits;
    let mut there: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (driver, handle) in info.pods.iter().flat_map(|other| volumes(other, cluster)) {
        there.entry(driver).or_default().insert(handle);
    }
    let mut fresh = BTreeSet::new();
    for (driver, handle) in volumes(pod, cluster) {
        if there.entry(driver).or_default().insert(handle) {
            fresh.insert(driver);
        }
    }
    let full = |driver: &&str| {
        let limit = limits.get(*driver).and_then(|limit| usize::try_from(*limit).ok());
        limit.is_some_and(|limit| there.get(*driver).is_some_and(|volumes| volumes.len() > limit))
    };
    fresh.iter().any(full).then(|| Refusal::resolvable(NAME, "node(s) exceed max volume count"))
}
