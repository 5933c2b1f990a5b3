//! What all nodes say together: counts by topology domain.

use ahash::AHashMap;

use super::{
    Refusal, inter_pod_affinity,
    local::{Local, Subject},
    pod_topology_spread, volume_restrictions,
};
use crate::{cluster::NodeInfo, model::HOSTNAME};

/// Nodes and pods of a topology domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    /// Nodes that count.
    pub nodes: i64,
    /// Matching pods on them.
    pub pods: i64,
}

/// Domains by their value.
pub type Domains<'a> = AHashMap<&'a str, Domain>;
/// Sums by topology key and value.
pub type Sums<'a> = AHashMap<&'a str, AHashMap<&'a str, i64>>;

/// The sums.
#[derive(Clone, Debug, Default)]
pub struct Global<'a> {
    /// Domains of each hard constraint.
    pub hard: Vec<Domains<'a>>,
    /// The fewest pods in a domain of each hard constraint.
    pub fewest: Vec<i64>,
    /// Domains of each soft constraint.
    pub soft: Vec<Domains<'a>>,
    /// Pods that meet the required affinity, by term and domain.
    pub affinity: Vec<AHashMap<&'a str, i64>>,
    /// Pods that meet it anywhere.
    pub affinity_anywhere: i64,
    /// Pods per required anti-affinity term and domain.
    pub anti: Vec<AHashMap<&'a str, i64>>,
    /// Pods that keep the pod out of their domains.
    pub kept_out: Sums<'a>,
    /// Weights of wishes.
    pub wishes: Sums<'a>,
    /// Uses of the claims that no other pod may use.
    pub exclusive: i64,
}

impl<'a> Global<'a> {
    /// Adds up what nodes say.
    pub fn of(subject: &'a Subject, nodes: impl Iterator<Item = (&'a NodeInfo, &'a Local)>) -> Self {
        let spec = &subject.pod.spec;
        let mut global = Self {
            hard: vec![Domains::default(); subject.hard.len()],
            soft: vec![Domains::default(); subject.soft.len()],
            affinity: vec![AHashMap::default(); spec.pod_affinity.required.len()],
            anti: vec![AHashMap::default(); spec.pod_anti_affinity.required.len()],
            ..Self::default()
        };
        nodes.for_each(|(info, local)| global.add(subject, info, local, 1));
        global.settle(subject);
        global
    }

    /// Adds what one node says, or with `sign` -1 takes it away; [`Global::settle`] must follow.
    pub fn add(&mut self, subject: &'a Subject, info: &'a NodeInfo, local: &'a Local, sign: i64) {
        let labels = &info.node.metadata.labels;
        let value = |key: &str| labels.get(key).map(String::as_str);
        for (domains, counts, constraints, soft) in
            [(&mut self.hard, &local.hard, &subject.hard, false), (&mut self.soft, &local.soft, &subject.soft, true)]
        {
            for ((domains, count), constraint) in domains.iter_mut().zip(counts).zip(constraints) {
                // A wish about hosts is scored by each host's own count.
                if soft && constraint.topology_key == HOSTNAME {
                    continue;
                }
                if let (Some(count), Some(value)) = (count, value(&constraint.topology_key)) {
                    let domain = domains.entry(value).or_default();
                    domain.nodes += sign;
                    domain.pods += sign * count;
                }
            }
        }
        let spec = &subject.pod.spec;
        if local.affinity != 0 {
            for (sums, term) in self.affinity.iter_mut().zip(&spec.pod_affinity.required) {
                if let Some(value) = value(&term.topology_key) {
                    *sums.entry(value).or_default() += sign * local.affinity;
                    self.affinity_anywhere += sign * local.affinity;
                }
            }
        }
        for ((sums, term), count) in self.anti.iter_mut().zip(&spec.pod_anti_affinity.required).zip(&local.anti) {
            if let Some(value) = value(&term.topology_key).filter(|_| *count != 0) {
                *sums.entry(value).or_default() += sign * count;
            }
        }
        for (sums, own) in [(&mut self.kept_out, &local.kept_out), (&mut self.wishes, &local.wishes)] {
            for (key, amount) in own {
                if let Some(value) = value(key) {
                    *sums.entry(key.as_str()).or_default().entry(value).or_default() += sign * amount;
                }
            }
        }
        self.exclusive += sign * local.exclusive;
    }

    /// Makes the sums ready to be asked.
    pub fn settle(&mut self, subject: &Subject) {
        self.fewest = pod_topology_spread::fewest(&self.hard, &subject.hard);
    }

    /// Why the pod cannot run on the node with regard to the whole cluster.
    pub fn check(&self, subject: &Subject, info: &NodeInfo) -> Option<Refusal> {
        volume_restrictions::check(self.exclusive)
            .or_else(|| pod_topology_spread::check(self, subject, info))
            .or_else(|| inter_pod_affinity::check(self, subject, info))
    }
}
