//! `InterPodAffinity`: near to some pods, away from others, in both directions.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity>

use super::{
    Refusal, SCORE_MAX,
    global::Global,
    local::{Local, Subject},
};
use crate::{
    cluster::{Cluster, NodeInfo},
    model::{Pod, affinity::PodTerm},
};

/// Name.
pub const NAME: &str = "InterPodAffinity";
/// Weight of the score.
pub const WEIGHT: i64 = 2;
/// What a required affinity of a pod that runs already counts in the score of one that it is about.
const REQUIRED_WEIGHT: i64 = 1;

/// Looks at the pods of a node: those that the pod is about, and those that are about the pod.
pub fn look(pod: &Pod, info: &NodeInfo, cluster: &Cluster, local: &mut Local) {
    let (near, away) = (&pod.spec.pod_affinity, &pod.spec.pod_anti_affinity);
    local.anti = vec![0; away.required.len()];
    let selective = pod.has_pod_affinity();
    if !selective && info.with_affinity == 0 {
        return;
    }
    let meets = |term: &PodTerm, other: &Pod| term.matches(other, |namespace| cluster.namespace(namespace));
    for other in &info.pods {
        if selective {
            if !near.required.is_empty() && near.required.iter().all(|term| meets(term, other)) {
                local.affinity += 1;
            }
            for (count, term) in local.anti.iter_mut().zip(&away.required) {
                *count += i64::from(meets(term, other));
            }
            for (weight, term) in near.preferred.iter().filter(|(_, term)| meets(term, other)) {
                add(&mut local.wishes, &term.topology_key, *weight);
            }
            for (weight, term) in away.preferred.iter().filter(|(_, term)| meets(term, other)) {
                add(&mut local.wishes, &term.topology_key, -weight);
            }
        }
        if other.has_pod_affinity() {
            let (near, away) = (&other.spec.pod_affinity, &other.spec.pod_anti_affinity);
            for term in away.required.iter().filter(|term| meets(term, pod)) {
                add(&mut local.kept_out, &term.topology_key, 1);
            }
            for term in near.required.iter().filter(|term| meets(term, pod)) {
                add(&mut local.wishes, &term.topology_key, REQUIRED_WEIGHT);
            }
            for (weight, term) in near.preferred.iter().filter(|(_, term)| meets(term, pod)) {
                add(&mut local.wishes, &term.topology_key, *weight);
            }
            for (weight, term) in away.preferred.iter().filter(|(_, term)| meets(term, pod)) {
                add(&mut local.wishes, &term.topology_key, -weight);
            }
        }
    }
}

fn add(sums: &mut Vec<(String, i64)>, key: &str, amount: i64) {
    match sums.iter_mut().find(|(known, _)| known == key) {
        Some((_, sum)) => *sum += amount,
        None => sums.push((key.to_owned(), amount)),
    }
}

/// Refuses nodes whose domains the pod must not enter, or that lack what it must be near to.
pub fn check(global: &Global<'_>, subject: &Subject, info: &NodeInfo) -> Option<Refusal> {
    let labels = &info.node.metadata.labels;
    let spec = &subject.pod.spec;
    let near = global.affinity.iter().zip(&spec.pod_affinity.required).all(|(sums, term)| {
        labels.get(&term.topology_key).is_some_and(|value| sums.get(value.as_str()).is_some_and(|count| *count > 0))
    });
    if !near && !is_first(global, subject, info) {
        return Some(Refusal::unresolvable(NAME, "node(s) didn't match pod affinity rules"));
    }
    let met = global.anti.iter().zip(&spec.pod_anti_affinity.required).any(|(sums, term)| {
        labels.get(&term.topology_key).is_some_and(|value| sums.get(value.as_str()).is_some_and(|count| *count > 0))
    });
    if met {
        return Some(Refusal::resolvable(NAME, "node(s) didn't match pod anti-affinity rules"));
    }
    let kept_out = global
        .kept_out
        .iter()
        .any(|(key, sums)| labels.get(*key).is_some_and(|value| sums.get(value.as_str()).is_some_and(|count| *count > 0)));
    kept_out.then(|| Refusal::resolvable(NAME, "node(s) didn't satisfy existing pods anti-affinity rules"))
}

/// The first of a group of pods that want to be together may go anywhere.
fn is_first(global: &Global<'_>, subject: &Subject, info: &NodeInfo) -> bool {
    let labels = &info.node.metadata.labels;
    let mut terms = subject.pod.spec.pod_affinity.required.iter();
    global.affinity_anywhere == 0 && subject.meets_itself && terms.all(|term| labels.contains_key(&term.topology_key))
}

/// Scores of nodes that fit: wishes that their domains meet.
pub fn scores(global: &Global<'_>, fitting: &[(&NodeInfo, &Local)]) -> Option<Vec<i64>> {
    if global.wishes.is_empty() {
        return None;
    }
    let raw = |(info, _): &(&NodeInfo, &Local)| -> i64 {
        let labels = &info.node.metadata.labels;
        let of = |(key, sums): (&&str, &ahash::AHashMap<&str, i64>)| sums.get(labels.get(*key)?.as_str()).copied();
        global.wishes.iter().filter_map(of).sum()
    };
    let mut raw: Vec<i64> = fitting.iter().map(raw).collect();
    let (least, most) = (raw.iter().copied().min().unwrap_or(0), raw.iter().copied().max().unwrap_or(0));
    for score in &mut raw {
        *score = if most == least { 0 } else { SCORE_MAX * (*score - least) / (most - least) };
    }
    Some(raw)
}
