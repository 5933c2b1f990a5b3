//! What one node says to pods of one shape: computed once per change of the node, and re-used by all of them.

use std::sync::Arc;

use super::{
    Refusal, filter, image_locality, inter_pod_affinity, node_affinity, node_resources_balanced_allocation, node_resources_fit,
    pod_topology_spread, taint_toleration, volume_restrictions,
};
use crate::{
    cluster::{Cluster, NodeInfo},
    model::{Pod, affinity::SpreadConstraint},
};

/// The pod that is to be placed, with what its surroundings make of it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Spread constraints that must hold.
    pub hard: Vec<SpreadConstraint>,
    /// Those that are wishes.
    pub soft: Vec<SpreadConstraint>,
    /// Whether a node without one of the wishes' labels is left out of all of them.
    pub soft_wants_all: bool,
    /// Claims that no other pod may use.
    pub exclusive_claims: Vec<String>,
    /// Whether the pod itself meets all of its required affinity terms.
    pub meets_itself: bool,
}

impl Subject {
    /// A pod amid its surroundings.
    pub fn new(pod: Arc<Pod>, cluster: &Cluster) -> Self {
        let (soft, soft_wants_all) = pod_topology_spread::wishes(&pod, cluster);
        let hard = pod.spec.spread.iter().filter(|constraint| !constraint.soft).cloned().collect();
        let exclusive = volume_restrictions::exclusive_claims(&pod, cluster);
        let exclusive_claims = exclusive.into_iter().map(str::to_owned).collect();
        let terms = &pod.spec.pod_affinity.required;
        let meets_itself = terms.iter().all(|term| term.matches(&pod, |namespace| cluster.namespace(namespace)));
        Self { hard, soft, soft_wants_all, exclusive_claims, meets_itself, pod }
    }

    /// Whether nodes must be looked at together for this pod, even where no pod there speaks of others.
    #[must_use]
    pub fn looks_around(&self) -> bool {
        !self.hard.is_empty() || !self.soft.is_empty() || !self.exclusive_claims.is_empty() || self.pod.has_pod_affinity()
    }
}

/// Scores before they are normalized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scores {
    /// `TaintToleration`.
    pub taints: i64,
    /// `NodeAffinity`.
    pub affinity: i64,
    /// The sum of those that need no normalizing: `NodeResourcesFit`, `NodeResourcesBalancedAllocation`,
    /// `ImageLocality`, each with its weight.
    pub settled: i64,
}

/// What one node says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Local {
    /// Generation of the node that this is true of.
    pub generation: u64,
    /// Why the node by itself will not do.
    pub refusal: Option<Refusal>,
    /// Scores.
    pub scores: Scores,
    /// Matching pods per hard constraint; `None` where the node does not count.
    pub hard: Vec<Option<i64>>,
    /// The same per soft constraint.
    pub soft: Vec<Option<i64>>,
    /// Pods that meet all of the pod's required affinity terms.
    pub affinity: i64,
    /// Pods per required anti-affinity term.
    pub anti: Vec<i64>,
    /// Pods that keep the pod out of their domains, by topology key.
    pub kept_out: Vec<(String, i64)>,
    /// Weights of wishes, by topology key.
    pub wishes: Vec<(String, i64)>,
    /// Uses of the claims that no other pod may use.
    pub exclusive: i64,
}

impl Local {
    /// Looks at a node.
    #[must_use]
    pub fn of(subject: &Subject, info: &NodeInfo, cluster: &Cluster) -> Self {
        let pod = &*subject.pod;
        let mut local = Self { generation: info.generation, refusal: filter(pod, info, cluster), ..Self::default() };
        if local.refusal.is_none() {
            let settled = node_resources_fit::WEIGHT * node_resources_fit::score(pod, info)
                + node_resources_balanced_allocation::WEIGHT * node_resources_balanced_allocation::score(pod, info)
                + image_locality::WEIGHT * image_locality::score(pod, info, cluster);
            local.scores =
                Scores { taints: taint_toleration::score(pod, info), affinity: node_affinity::score(pod, info), settled };
        }
        local.hard = pod_topology_spread::counts(pod, &subject.hard, true, info);
        local.soft = pod_topology_spread::counts(pod, &subject.soft, subject.soft_wants_all, info);
        inter_pod_affinity::look(pod, info, cluster, &mut local);
        let claims: Vec<&str> = subject.exclusive_claims.iter().map(String::as_str).collect();
        local.exclusive = volume_restrictions::uses(&claims, &pod.metadata.namespace, info);
        local
    }
}
