//! Scores: which of the nodes that fit is best. Pure; each between 0 and 100 after normalization.

use std::collections::BTreeMap;

use crate::{filters::term_matches, model::Pod, snapshot::NodeInfo};

/// The highest score of a plugin.
const MAX: i64 = 100;
/// What a container without requests counts as: a tenth of a CPU, 200 MB.
const DEFAULTS: [(&str, i64); 2] = [("cpu", 100), ("memory", 200 * 1024 * 1024 * 1000)];

/// Weighted sums for the nodes that fit, in their order.
pub fn totals(pod: &Pod, fitting: &[&NodeInfo]) -> Vec<i64> {
    let plugins: [(i64, Vec<i64>); 5] = [
        (1, fitting.iter().map(|info| least_allocated(pod, info)).collect()),
        (1, fitting.iter().map(|info| balanced(pod, info)).collect()),
        (3, reversed(fitting.iter().map(|info| soft_taints(pod, info)).collect())),
        (2, normalized(fitting.iter().map(|info| preferences(pod, info)).collect())),
        (2, reversed(fitting.iter().map(|info| siblings(pod, info)).collect())),
    ];
    (0..fitting.len()).map(|index| plugins.iter().map(|(weight, scores)| weight * scores[index]).sum()).collect()
}

/// Parts of the node, in thousandths, that are taken once the pod is there.
fn fractions(pod: &Pod, info: &NodeInfo) -> Vec<i64> {
    let fraction = |(name, default): (&str, i64)| {
        let (all, taken) = info.amounts(name);
        let own = pod.spec.requests.get(name).map_or(default, |own| own.milli());
        let all = i128::from(all.milli().max(1));
        i64::try_from((i128::from(taken.milli()) + i128::from(own)) * 1000 / all).unwrap_or(1000).min(1000)
    };
    DEFAULTS.into_iter().map(fraction).collect()
}

/// `NodeResourcesFit`: the emptier the better.
fn least_allocated(pod: &Pod, info: &NodeInfo) -> i64 {
    let fractions = fractions(pod, info);
    fractions.iter().map(|taken| (1000 - taken) * MAX / 1000).sum::<i64>() / i64::try_from(fractions.len()).unwrap_or(1)
}

/// `NodeResourcesBalancedAllocation`: the more evenly resources are taken the better.
fn balanced(pod: &Pod, info: &NodeInfo) -> i64 {
    let fractions = fractions(pod, info);
    let difference = (fractions[0] - fractions[1]).abs() / 2;
    (1000 - difference) * MAX / 1000
}

/// `TaintToleration`: soft taints that the pod does not tolerate.
fn soft_taints(pod: &Pod, info: &NodeInfo) -> i64 {
    let soft = info.node.spec.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    let untolerated = soft.filter(|taint| !pod.spec.tolerations.iter().any(|toleration| toleration.tolerates(taint)));
    i64::try_from(untolerated.count()).unwrap_or(i64::MAX)
}

/// `NodeAffinity`: weights of the preferences that the node meets.
fn preferences(pod: &Pod, info: &NodeInfo) -> i64 {
    let preferred = &pod.spec.affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
    let met = preferred.as_array().into_iter().flatten().filter(|one| term_matches(&one["preference"], &info.node));
    met.filter_map(|one| one["weight"].as_i64()).sum()
}

/// `PodTopologySpread` by its defaults: pods of the same owner that are on the node already.
fn siblings(pod: &Pod, info: &NodeInfo) -> i64 {
    let Some(owner) = pod.controller() else { return 0 };
    i64::try_from(info.pods.iter().filter(|other| other.controller() == Some(owner)).count()).unwrap_or(i64::MAX)
}

fn normalized(scores: Vec<i64>) -> Vec<i64> {
    let highest = scores.iter().copied().max().unwrap_or(0);
    if highest == 0 { scores } else { scores.into_iter().map(|score| score * MAX / highest).collect() }
}

fn reversed(scores: Vec<i64>) -> Vec<i64> {
    normalized(scores).into_iter().map(|score| MAX - score).collect()
}

/// The best; among equals the one that comes first in a circle from `turn`, so that they take turns.
pub fn best(totals: &[i64], turn: usize) -> Option<usize> {
    let highest = totals.iter().max()?;
    let equals: BTreeMap<usize, usize> =
        totals.iter().enumerate().filter(|(_, total)| *total == highest).map(|(index, _)| index).enumerate().collect();
    equals.get(&(turn % equals.len())).copied()
}
