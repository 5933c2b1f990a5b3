//! One decision: the pod and the cluster in, a node or the reasons against all of them out. Pure, but for what it
//! remembers of earlier decisions to be fast: whoever decides twice on the same cluster decides alike.

pub mod message;
mod shapes;
#[cfg(test)]
pub(crate) mod tests;

use std::{collections::BTreeSet, sync::Arc};

use self::shapes::Shapes;
use crate::{
    cluster::{Cluster, NodeInfo},
    model::Pod,
    plugins::{
        self, Refusal,
        default_preemption::{self, Preemption},
        global::Global,
        inter_pod_affinity,
        local::{Local, Subject},
        node_affinity, normalized, pod_topology_spread, taint_toleration, volume_binding,
    },
};

/// Nodes below which all of them are looked at.
const SAMPLED_FROM: usize = 100;
/// Smallest part of the nodes, in percent, that is looked at.
const LEAST_PERCENT: usize = 5;

/// What was decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The pod goes to this node, once the plan for its volumes is done.
    Node {
        /// The node.
        name: String,
        /// What is to be done first.
        volumes: volume_binding::Plan,
    },
    /// It fits nowhere.
    Refused(Box<Refused>),
}

/// Why a pod fits nowhere, and what would help.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Kubernetes' message.
    pub message: String,
    /// Plugins that refused: news that concern one of them may help.
    pub plugins: BTreeSet<&'static str>,
    /// Pods that could make room.
    pub preemption: Option<Preemption>,
    /// Whether room that was made earlier is of no use.
    pub forgets_nomination: bool,
}

/// Decides; remembers what pods of one shape have in common.
#[derive(Default)]
pub struct Scheduler {
    shapes: Shapes,
    /// Where the next pod begins to look, so that all nodes are looked at equally often.
    start: usize,
    /// Makes equal nodes take turns.
    turn: usize,
}

/// Nodes that must fit before the search ends.
#[must_use]
pub fn wanted(nodes: usize) -> usize {
    if nodes < SAMPLED_FROM {
        return nodes;
    }
    let percent = 50_usize.saturating_sub(nodes / 125).max(LEAST_PERCENT);
    (nodes * percent / 100).max(SAMPLED_FROM)
}

impl Scheduler {
    /// Decides on a pod. The cluster's order of nodes must be fresh ([`Cluster::reorder`]).
    pub fn decide(&mut self, pod: &Arc<Pod>, cluster: &Cluster) -> Decision {
        if cluster.is_empty() {
            return Decision::Refused(Box::new(Refused {
                message: "no nodes available to schedule pods".to_owned(),
                plugins: BTreeSet::new(),
                preemption: None,
                forgets_nomination: false,
            }));
        }
        self.turn = self.turn.wrapping_add(1);
        if let Some(refusal) = volume_binding::before_filters(pod, cluster) {
            return Decision::Refused(Box::new(Refused {
                message: message::before_filters(cluster.len(), &refusal),
                plugins: BTreeSet::from([refusal.plugin]),
                preemption: None,
                forgets_nomination: false,
            }));
        }
        let names = pod.spec.node_affinity.names();
        let everything = cluster.nodes().any(|(_, info)| info.with_affinity > 0);
        let shape = self.shapes.of(pod, cluster);
        let together = everything || shape.subject.looks_around();
        let nodes: Vec<(usize, &NodeInfo)> = cluster.nodes().collect();
        if together {
            nodes.iter().for_each(|(slot, info)| shape.refresh(*slot, info, cluster));
        }
        let wanted = wanted(nodes.len());
        let mut fitting: Vec<usize> = Vec::with_capacity(wanted);
        let mut refusals: Vec<(usize, Refusal)> = Vec::new();
        let mut left_out = 0;
        let mut looked = 0;
        let start = self.start % nodes.len();
        let mut candidates = candidates(pod, &nodes, names.as_ref(), start, &mut left_out).into_iter().peekable();
        if !together {
            // Nodes are looked at as far as the search goes.
            while fitting.len() < wanted
                && let Some(index) = candidates.next()
            {
                looked += 1;
                let (slot, info) = nodes[index];
                shape.refresh(slot, info, cluster);
                match beside_nominated(pod, &shape.subject, info, cluster, shape.local(slot), None) {
                    None => fitting.push(index),
                    Some(refusal) => refusals.push((index, refusal)),
                }
            }
        }
        let shape = &*shape;
        let global = if together {
            Global::of(&shape.subject, nodes.iter().map(|(slot, info)| (*info, shape.local(*slot))))
        } else {
            Global::default()
        };
        while together
            && fitting.len() < wanted
            && let Some(index) = candidates.next()
        {
            looked += 1;
            let (slot, info) = nodes[index];
            match beside_nominated(pod, &shape.subject, info, cluster, shape.local(slot), Some(&global)) {
                None => fitting.push(index),
                Some(refusal) => refusals.push((index, refusal)),
            }
        }
        if fitting.is_empty() {
            let refused: Vec<_> =
                refusals.into_iter().map(|(index, refusal)| (nodes[index].1, shape.local(nodes[index].0), refusal)).collect();
            return Decision::Refused(Box::new(self::refuse(
                pod,
                &shape.subject,
                cluster,
                &global,
                &refused,
                left_out,
                self.turn,
            )));
        }
        self.start = (start + looked) % nodes.len();
        let known: Vec<(&NodeInfo, &Local)> =
            fitting.iter().map(|index| (nodes[*index].1, shape.local(nodes[*index].0))).collect();
        let nominated = known.iter().find(|(info, _)| info.name() == pod.status.nominated_node_name);
        let chosen = nominated.copied().unwrap_or_else(|| known[best(&totals(&shape.subject, &global, &known), self.turn)]);
        let volumes = if pod.spec.claims.is_empty() {
            volume_binding::Plan::default()
        } else {
            volume_binding::plan(pod, chosen.0, cluster).unwrap_or_default()
        };
        Decision::Node { name: chosen.0.name().to_owned(), volumes }
    }
}

/// Indexes of the nodes to look at, in order: the one that room was made on first, then around from `start`.
fn candidates(
    pod: &Pod,
    nodes: &[(usize, &NodeInfo)],
    names: Option<&BTreeSet<&str>>,
    start: usize,
    left_out: &mut usize,
) -> Vec<usize> {
    let nominated = &pod.status.nominated_node_name;
    let first = if nominated.is_empty() { None } else { nodes.iter().position(|(_, info)| info.name() == nominated) };
    let around = (0..nodes.len()).map(|offset| (start + offset) % nodes.len()).filter(|index| Some(*index) != first);
    let all: Vec<usize> = first.into_iter().chain(around).collect();
    let Some(names) = names else { return all };
    let kept: Vec<usize> = all.into_iter().filter(|index| names.contains(nodes[*index].1.name())).collect();
    *left_out = nodes.len() - kept.len();
    kept
}

/// Why a node will not do, even if every pod comes that room was made for there and that is as important.
fn beside_nominated(
    pod: &Pod,
    subject: &Subject,
    info: &NodeInfo,
    cluster: &Cluster,
    local: &Local,
    global: Option<&Global<'_>>,
) -> Option<Refusal> {
    let refused = local.refusal.clone().or_else(|| global.and_then(|global| global.check(subject, info)));
    let others = cluster.nominated(info.name());
    if refused.is_some() || others.is_empty() {
        return refused;
    }
    let mut crowded = info.clone();
    let before = |other: &&Arc<Pod>| other.metadata.uid != pod.metadata.uid && other.spec.priority >= pod.spec.priority;
    others.iter().filter(before).for_each(|other| crowded.add(Arc::clone(other)));
    default_preemption::refusal(subject, info, &crowded, cluster, local, global)
}

fn refuse(
    pod: &Arc<Pod>,
    subject: &Subject,
    cluster: &Cluster,
    global: &Global<'_>,
    refused: &[(&NodeInfo, &Local, Refusal)],
    left_out: usize,
    turn: usize,
) -> Refused {
    let mut plugins: BTreeSet<&'static str> = refused.iter().map(|(_, _, refusal)| refusal.plugin).collect();
    if left_out > 0 {
        plugins.insert(node_affinity::NAME);
    }
    let outcome = default_preemption::preempt(pod, subject, cluster, global, refused, turn);
    let reasons = refused.iter().map(|(_, _, refusal)| refusal);
    let (preemption, forgets_nomination, after) = match outcome {
        default_preemption::Outcome::Found(preemption) => (Some(preemption), false, None),
        default_preemption::Outcome::NotEligible(why) => (None, false, Some(why)),
        default_preemption::Outcome::Nothing(why) => (None, true, Some(why)),
    };
    let message = message::after_filters(cluster.len(), reasons, left_out, after.as_deref());
    Refused { message, plugins, preemption, forgets_nomination }
}

/// Weighted sums for the nodes that fit, in their order.
fn totals(subject: &Subject, global: &Global<'_>, fitting: &[(&NodeInfo, &Local)]) -> Vec<i64> {
    let mut totals: Vec<i64> = fitting.iter().map(|(_, local)| local.scores.settled).collect();
    if fitting.len() == 1 {
        return totals;
    }
    let mut add =
        |weight: i64, scores: Vec<i64>| totals.iter_mut().zip(scores).for_each(|(total, score)| *total += weight * score);
    let raw = |of: fn(&plugins::local::Scores) -> i64, reversed| {
        let mut scores: Vec<i64> = fitting.iter().map(|(_, local)| of(&local.scores)).collect();
        normalized(&mut scores, reversed);
        scores
    };
    add(taint_toleration::WEIGHT, raw(|scores| scores.taints, true));
    add(node_affinity::WEIGHT, raw(|scores| scores.affinity, false));
    if let Some(scores) = pod_topology_spread::scores(global, subject, fitting) {
        add(pod_topology_spread::WEIGHT, scores);
    }
    if let Some(scores) = inter_pod_affinity::scores(global, fitting) {
        add(inter_pod_affinity::WEIGHT, scores);
    }
    totals
}

/// The best; among equals the one whose turn it is.
fn best(totals: &[i64], turn: usize) -> usize {
    let highest = totals.iter().copied().max().unwrap_or(0);
    let equals: Vec<usize> = totals.iter().enumerate().filter(|(_, total)| **total == highest).map(|(index, _)| index).collect();
    equals[turn % equals.len()]
}
