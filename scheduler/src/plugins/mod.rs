//! The plugins under Kubernetes' names: why a pod cannot run on a node, and how good a node is. All pure.
//!
//! Filters that look at one node alone are in [`FILTERS`], in the order in which they are asked; the first refusal
//! counts. `PodTopologySpread`, `InterPodAffinity` and part of `VolumeRestrictions` look at the whole cluster: what
//! each node contributes is computed once per change of the node ([`local`]) and added up ([`global`]).
//! <https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins>

pub mod default_preemption;
pub mod global;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod local;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_balanced_allocation;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod node_volume_limits;
pub mod pod_topology_spread;
pub mod taint_toleration;
pub mod volume_binding;
pub mod volume_restrictions;
pub mod volume_zone;

use crate::{
    cluster::{Cluster, NodeInfo},
    model::Pod,
};

/// The highest score of a plugin.
pub const SCORE_MAX: i64 = 100;

/// Why not, and whether evicting other pods could help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who says so.
    pub plugin: &'static str,
    /// The words; one node may have several.
    pub reasons: Vec<String>,
    /// Whether pods of lower priority stand in the way.
    pub resolvable: bool,
}

impl Refusal {
    /// One that evictions could lift.
    pub fn resolvable(plugin: &'static str, reason: impl Into<String>) -> Self {
        Self { plugin, reasons: vec![reason.into()], resolvable: true }
    }

    /// One that no eviction lifts.
    pub fn unresolvable(plugin: &'static str, reason: impl Into<String>) -> Self {
        Self { plugin, reasons: vec![reason.into()], resolvable: false }
    }
}

/// A filter.
pub type Filter = fn(&Pod, &NodeInfo, &Cluster) -> Option<Refusal>;

/// The filters of one node, in the order in which they are asked.
pub const FILTERS: [Filter; 10] = [
    node_unschedulable::filter,
    node_name::filter,
    taint_toleration::filter,
    node_affinity::filter,
    node_ports::filter,
    node_resources_fit::filter,
    volume_restrictions::filter,
    node_volume_limits::filter,
    volume_binding::filter,
    volume_zone::filter,
];

/// The first refusal of a node's own filters.
pub fn filter(pod: &Pod, info: &NodeInfo, cluster: &Cluster) -> Option<Refusal> {
    FILTERS.iter().find_map(|filter| filter(pod, info, cluster))
}

/// Scores from 0 to 100 where the highest raw one is 100; upside down where less is better.
pub fn normalized(scores: &mut [i64], reversed: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let normal = if highest == 0 { 0 } else { *score * SCORE_MAX / highest };
        *score = if reversed { SCORE_MAX - normal } else { normal };
    }
}
