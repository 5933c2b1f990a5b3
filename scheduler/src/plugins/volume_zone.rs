//! `VolumeZone`: volumes that carry the label of a zone or region.

use super::Refusal;
use crate::{
    cluster::{Cluster, NodeInfo},
    model::Pod,
};

/// Name.
pub const NAME: &str = "VolumeZone";

/// Labels, and what the older ones are called now.
const LABELS: [(&str, &str); 4] = [
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// Refuses nodes of another zone or region than one of the pod's volumes.
pub fn filter(pod: &Pod, info: &NodeInfo, cluster: &Cluster) -> Option<Refusal> {
    let labels = &info.node.metadata.labels;
    if pod.spec.claims.is_empty() || !LABELS.iter().any(|(label, _)| labels.contains_key(*label)) {
        return None;
    }
    let claims = pod.spec.claims.iter().filter_map(|name| cluster.claim(&pod.metadata.namespace, name));
    for volume in claims.filter_map(|claim| cluster.volumes.get(&claim.volume_name)) {
        for (label, newer) in LABELS {
            let Some(value) = volume.metadata.labels.get(label) else { continue };
            // Several values stand in one label, with two underscores between them.
            let own = labels.get(label).or_else(|| labels.get(newer));
            if !own.is_some_and(|own| value.split("__").any(|one| one == own)) {
                return Some(Refusal::unresolvable(NAME, "node(s) had no available volume zone"));
            }
        }
    }
    None
}
