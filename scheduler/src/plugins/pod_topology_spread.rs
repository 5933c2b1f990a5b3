//! `PodTopologySpread`: pods evenly over hosts, zones or whatever label divides nodes into domains.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/>

use std::collections::BTreeSet;

use kontiki_api::selector::{LabelSelector, Requirement};

use super::{
    Refusal, SCORE_MAX,
    global::{Domains, Global},
    local::{Local, Subject},
};
use crate::{
    cluster::{Cluster, NodeInfo},
    model::{HOSTNAME, Pod, affinity::SpreadConstraint},
};

/// Name.
pub const NAME: &str = "PodTopologySpread";
/// Weight of the score.
pub const WEIGHT: i64 = 2;

/// A pod's wishes, and whether a node needs the labels of all of them. A pod without any constraint, whose kind
/// something owns or groups, is spread loosely all the same.
pub fn wishes(pod: &Pod, cluster: &Cluster) -> (Vec<SpreadConstraint>, bool) {
    if !pod.spec.spread.is_empty() {
        return (pod.spec.spread.iter().filter(|constraint| constraint.soft).cloned().collect(), true);
    }
    let selector = kindred(pod, cluster);
    let wishes = if selector.is_empty() { Vec::new() } else { SpreadConstraint::system_defaults(&selector) };
    (wishes, false)
}

/// What pods of its kind have in common: the selectors of its Services and of its owner.
fn kindred(pod: &Pod, cluster: &Cluster) -> LabelSelector {
    let (namespace, labels) = (&pod.metadata.namespace, &pod.metadata.labels);
    let mut requirements: Vec<Requirement> = Vec::new();
    let mut add = |selector: &LabelSelector| {
        for requirement in selector.requirements() {
            if !requirements.contains(requirement) {
                requirements.push(requirement.clone());
            }
        }
    };
    for service in cluster.workloads("Service", namespace) {
        service.selector.iter().filter(|selector| selector.matches(labels)).for_each(&mut add);
    }
    if let Some(owner) = pod.metadata.controller() {
        let kind = ["ReplicaSet", "StatefulSet", "ReplicationController"].into_iter().find(|kind| *kind == owner.kind);
        let own = kind.and_then(|kind| cluster.workloads(kind, namespace).find(|workload| workload.metadata.name == owner.name));
        own.and_then(|workload| workload.selector.as_ref()).into_iter().for_each(add);
    }
    LabelSelector::new(requirements)
}

/// Matching pods of a node per constraint; `None` where the node does not count.
pub fn counts(pod: &Pod, constraints: &[SpreadConstraint], wants_all: bool, info: &NodeInfo) -> Vec<Option<i64>> {
    let labels = &info.node.metadata.labels;
    let has = |constraint: &SpreadConstraint| labels.contains_key(&constraint.topology_key);
    if wants_all && !constraints.iter().all(has) {
        return vec![None; constraints.len()];
    }
    let count = |constraint: &SpreadConstraint| {
        let counts = has(constraint) && constraint.counts(pod, &info.node);
        counts.then(|| matching(info, &constraint.selector, &pod.metadata.namespace))
    };
    constraints.iter().map(count).collect()
}

/// Pods of a namespace that a selector selects; those that are going do not count.
fn matching(info: &NodeInfo, selector: &LabelSelector, namespace: &str) -> i64 {
    if selector.is_empty() {
        return 0;
    }
    let own =
        info.pods.iter().filter(|other| other.metadata.deletion_timestamp.is_none() && other.metadata.namespace == namespace);
    i64::try_from(own.filter(|other| selector.matches(&other.metadata.labels)).count()).unwrap_or(i64::MAX)
}

/// The fewest pods in a domain of each constraint; none where there are fewer domains than there should be.
pub fn fewest(domains: &[Domains<'_>], constraints: &[SpreadConstraint]) -> Vec<i64> {
    let of = |(domains, constraint): (&Domains<'_>, &SpreadConstraint)| {
        let known = domains.values().filter(|domain| domain.nodes > 0);
        let (count, fewest) = known.fold((0, i64::MAX), |(count, fewest), domain| (count + 1, fewest.min(domain.pods)));
        if count < constraint.min_domains { 0 } else { fewest }
    };
    domains.iter().zip(constraints).map(of).collect()
}

/// Refuses nodes that would make a domain too full.
pub fn check(global: &Global<'_>, subject: &Subject, info: &NodeInfo) -> Option<Refusal> {
    const REASON: &str = "node(s) didn't match pod topology spread constraints";
    for (index, constraint) in subject.hard.iter().enumerate() {
        let Some(value) = info.node.metadata.labels.get(&constraint.topology_key) else {
            return Some(Refusal::unresolvable(NAME, format!("{REASON} (missing required label)")));
        };
        let there = global.hard[index].get(value.as_str()).map_or(0, |domain| domain.pods);
        let own = i64::from(constraint.selector.matches(&subject.pod.metadata.labels));
        // Where no node counts there is no fewest, and no skew.
        if there.saturating_add(own).saturating_sub(global.fewest[index]) > constraint.max_skew {
            return Some(Refusal::resolvable(NAME, REASON));
        }
    }
    None
}

/// Scores of nodes that fit: the emptier their domains the better.
pub fn scores(global: &Global<'_>, subject: &Subject, fitting: &[(&NodeInfo, &Local)]) -> Option<Vec<i64>> {
    if subject.soft.is_empty() {
        return None;
    }
    let left_out = |info: &NodeInfo| {
        subject.soft_wants_all && !subject.soft.iter().all(|one| info.node.metadata.labels.contains_key(&one.topology_key))
    };
    let counted: Vec<bool> = fitting.iter().map(|(info, _)| !left_out(info)).collect();
    let weight = |constraint: &SpreadConstraint| {
        let nodes = || fitting.iter().zip(&counted).filter(|(_, counted)| **counted).map(|((info, _), _)| *info);
        let domains = if constraint.topology_key == HOSTNAME {
            nodes().count()
        } else {
            nodes().map(|info| info.node.metadata.labels.get(&constraint.topology_key)).collect::<BTreeSet<_>>().len()
        };
        (domains as f64 + 2.0).ln()
    };
    let weights: Vec<f64> = subject.soft.iter().map(weight).collect();
    let raw = |(info, local): &(&NodeInfo, &Local)| {
        let mut score = 0.0;
        for (index, constraint) in subject.soft.iter().enumerate() {
            let Some(value) = info.node.metadata.labels.get(&constraint.topology_key) else { continue };
            let pods = if constraint.topology_key == HOSTNAME {
                local.soft[index].unwrap_or(0)
            } else {
                global.soft[index].get(value.as_str()).map_or(0, |domain| domain.pods)
            };
            score += pods as f64 * weights[index] + (constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    };
    let raw: Vec<i64> = fitting.iter().map(raw).collect();
    let known = || raw.iter().zip(&counted).filter(|(_, counted)| **counted).map(|(score, _)| *score);
    let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    let normal = |(score, counted): (&i64, &bool)| match (counted, most) {
        (false, _) => 0,
        (true, 0) => SCORE_MAX,
        (true, most) => SCORE_MAX * (most + least - score) / most,
    };
    Some(raw.iter().zip(&counted).map(normal).collect())
}
