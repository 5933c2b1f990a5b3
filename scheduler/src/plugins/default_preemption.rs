//! `DefaultPreemption`: which pods of lower priority go, so that a pod that fits nowhere fits somewhere.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>

use std::{cmp::Reverse, sync::Arc};

use super::{
    Refusal,
    global::Global,
    local::{Local, Subject},
};
use crate::{
    cluster::{Cluster, NodeInfo},
    cycle::message,
    model::Pod,
};

/// Name.
pub const NAME: &str = "DefaultPreemption";
/// Nodes on which victims are looked for, at least: that part of them in percent, and that many.
const CANDIDATES_LEAST: (usize, usize) = (10, 100);
/// Condition of a pod that has to go.
const DISRUPTION_TARGET: &str = "DisruptionTarget";
/// Reason of that condition where it is for another pod.
pub const REASON: &str = "PreemptionByScheduler";

/// Who goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Preemption {
    /// The node that gets room.
    pub node: String,
    /// The pods, the most important first.
    pub victims: Vec<Arc<Pod>>,
}

/// What came of the search.
pub enum Outcome {
    /// Somebody can go.
    Found(Preemption),
    /// The pod must not make others go, or waits for some already.
    NotEligible(String),
    /// It would help nowhere.
    Nothing(String),
}

/// Looks for victims. `turn` says where the search begins.
pub fn preempt(
    pod: &Arc<Pod>,
    subject: &Subject,
    cluster: &Cluster,
    global: &Global<'_>,
    refused: &[(&NodeInfo, &Local, Refusal)],
    turn: usize,
) -> Outcome {
    if let Some(why) = not_eligible(pod, cluster, refused) {
        return Outcome::NotEligible(why.to_owned());
    }
    let potential: Vec<_> = refused.iter().filter(|(_, _, refusal)| refusal.resolvable).collect();
    let most = (potential.len() * CANDIDATES_LEAST.0 / 100).max(CANDIDATES_LEAST.1);
    let (mut found, mut failed): (Vec<Candidate<'_>>, Vec<Vec<String>>) = (Vec::new(), Vec::new());
    for offset in 0..potential.len() {
        let (info, local, _) = potential[(turn + offset) % potential.len()];
        match victims(pod, subject, info, local, cluster, global) {
            Ok((victims, violations)) => found.push(Candidate { node: info.name(), victims, violations }),
            Err(reasons) => failed.push(reasons),
        }
        if found.len() >= most && found.iter().any(|candidate| candidate.violations == 0) {
            break;
        }
    }
    match found.into_iter().min_by_key(Candidate::cost) {
        Some(best) => Outcome::Found(Preemption { node: best.node.to_owned(), victims: best.victims }),
        None => Outcome::Nothing(message::no_preemption(cluster.len(), failed.iter().map(Vec::as_slice))),
    }
}

fn not_eligible(pod: &Pod, cluster: &Cluster, refused: &[(&NodeInfo, &Local, Refusal)]) -> Option<&'static str> {
    if pod.spec.never_preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = &pod.status.nominated_node_name;
    let hopeless = refused.iter().any(|(info, _, refusal)| info.name() == nominated && !refusal.resolvable);
    if nominated.is_empty() || hopeless {
        return None;
    }
    let leaves = |victim: &Arc<Pod>| {
        let condition = victim.condition(DISRUPTION_TARGET);
        victim.spec.priority < pod.spec.priority
            && victim.metadata.deletion_timestamp.is_some()
            && condition.is_some_and(|condition| condition.status == "True" && condition.reason == REASON)
    };
    let waits = cluster.node(nominated).is_some_and(|info| info.pods.iter().any(leaves));
    waits.then_some("not eligible due to a terminating pod on the nominated node.")
}

struct Candidate<'a> {
    node: &'a str,
    victims: Vec<Arc<Pod>>,
    violations: usize,
}

impl Candidate<'_> {
    /// The less the better: broken budgets, the highest priority, the sum of priorities, the number of pods; then
    /// rather those whose most important pod began last.
    fn cost(&self) -> impl Ord + use<> {
        let highest = self.victims.first().map_or(i64::MIN, |pod| pod.spec.priority);
        // Shifted so that every pod costs something, however low its priority.
        let sum: i64 = self.victims.iter().map(|pod| pod.spec.priority + (1 << 31)).sum();
        let important = self.victims.iter().filter(|pod| pod.spec.priority == highest);
        let earliest = important.filter_map(|pod| pod.started()).min();
        (self.violations, highest, sum, self.victims.len(), Reverse(earliest))
    }
}

/// Why a node will not do once its pods are those of `changed`.
pub fn refusal(
    subject: &Subject,
    info: &NodeInfo,
    changed: &NodeInfo,
    cluster: &Cluster,
    local: &Local,
    global: Option<&Global<'_>>,
) -> Option<Refusal> {
    let fresh = Local::of(subject, changed, cluster);
    if fresh.refusal.is_some() {
        return fresh.refusal;
    }
    let mut sums = global?.clone();
    sums.add(subject, info, local, -1);
    sums.add(subject, changed, &fresh, 1);
    sums.settle(subject);
    sums.check(subject, changed)
}

/// The fewest and least important pods that must go from a node, and how many budgets that breaks; or why nobody's
/// going would help.
fn victims(
    pod: &Arc<Pod>,
    subject: &Subject,
    info: &NodeInfo,
    local: &Local,
    cluster: &Cluster,
    global: &Global<'_>,
) -> Result<(Vec<Arc<Pod>>, usize), Vec<String>> {
    let (mut potential, others): (Vec<_>, Vec<_>) =
        info.pods.iter().cloned().partition(|other| other.spec.priority < pod.spec.priority);
    if potential.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".to_owned()]);
    }
    let mut changed = NodeInfo::new(Arc::clone(&info.node));
    others.into_iter().for_each(|other| changed.add(other));
    let nominated = cluster.nominated(info.name()).iter();
    let nominated = nominated.filter(|other| other.metadata.uid != pod.metadata.uid && other.spec.priority >= pod.spec.priority);
    nominated.for_each(|other| changed.add(Arc::clone(other)));
    let together = subject.looks_around() || !global.kept_out.is_empty();
    let global = together.then_some(global);
    let fits = |changed: &NodeInfo| refusal(subject, info, changed, cluster, local, global);
    if let Some(refusal) = fits(&changed) {
        return Err(refusal.reasons);
    }
    potential.sort_by_key(|victim| (Reverse(victim.spec.priority), victim.started()));
    let (violating, harmless) = by_budget(potential, cluster);
    let mut victims = Vec::new();
    let mut violations = 0;
    for (victim, violates) in
        violating.into_iter().map(|victim| (victim, true)).chain(harmless.into_iter().map(|victim| (victim, false)))
    {
        changed.add(Arc::clone(&victim));
        if fits(&changed).is_some() {
            changed.remove(&victim.metadata.uid);
            victims.push(victim);
            violations += usize::from(violates);
        }
    }
    victims.sort_by_key(|victim| (Reverse(victim.spec.priority), victim.started()));
    if victims.is_empty() {
        Err(vec!["No preemption victims found for incoming pod".to_owned()])
    } else {
        Ok((victims, violations))
    }
}

/// Pods whose going breaks a budget, and the others; in their order.
fn by_budget(pods: Vec<Arc<Pod>>, cluster: &Cluster) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let mut allowed: Vec<i64> = cluster.budgets.values().map(|budget| budget.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut violates = false;
        for (allowed, budget) in allowed.iter_mut().zip(cluster.budgets.values()) {
            if budget.protects(pod) {
                *allowed -= 1;
                violates |= *allowed < 0;
            }
        }
        violates
    })
}
