//! Which of a DaemonSet's pods come and go. Pure.
//!
//! [`manage`] keeps one pod on each node that suits; when it has nothing to do, [`roll`] replaces old pods.
//! Invariant: no more pods are unavailable, or surplus, than the update strategy allows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{DaemonSet, placement::Suits};
use crate::{
    model::{Pod, part},
    revisions::REVISION_HASH,
};

/// Pods by the node that they are for.
pub type ByNode = BTreeMap<String, Vec<Arc<Pod>>>;

/// The new and the old pod of a node, as far as there are any.
type Pair<'p> = (Option<&'p Arc<Pod>>, Option<&'p Arc<Pod>>);

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Nodes that get a pod.
    pub create: Vec<String>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Pods among them that have ended by themselves.
    pub ended: Vec<Arc<Pod>>,
    /// When to look again without news.
    pub again: Option<Duration>,
}

/// What the decisions are about.
pub struct Observed<'a> {
    /// The set.
    pub set: &'a DaemonSet,
    /// Every node and whether it suits.
    pub nodes: &'a BTreeMap<String, Suits>,
    /// The set's pods.
    pub pods: &'a ByNode,
    /// Hash of the present template's revision.
    pub hash: &'a str,
}

impl Observed<'_> {
    fn wanted(&self) -> i64 {
        i64::try_from(self.nodes.values().filter(|suits| suits.start).count()).unwrap_or(i64::MAX)
    }

    /// Pods beyond one a node, and pods that may be missing.
    fn bounds(&self) -> (i64, i64) {
        let rolling = &self.set.spec.update_strategy["rollingUpdate"];
        let wanted = self.wanted();
        let surge = part(&rolling["maxSurge"], wanted, true, 0);
        let unavailable = part(&rolling["maxUnavailable"], wanted, true, 1);
        // With neither nothing would ever move.
        (surge, if surge == 0 && unavailable == 0 { 1 } else { unavailable })
    }

    fn surges(&self) -> bool {
        self.set.spec.update_strategy["type"] == "RollingUpdate" && self.bounds().0 > 0
    }

    fn is_new(&self, pod: &Pod) -> bool {
        pod.metadata.label(REVISION_HASH) == self.hash
    }

    fn is_available(&self, pod: &Pod, now: Timestamp) -> bool {
        pod.is_available(self.set.spec.min_ready_seconds, now)
    }

    /// The only new and the only old pod of a node that do not end; `None` where there are more of either.
    fn pair<'p>(&self, pods: &'p [Arc<Pod>]) -> Option<Pair<'p>> {
        let living = pods.iter().filter(|pod| !pod.metadata.is_deleted());
        let (new, old): (Vec<_>, Vec<_>) = living.partition(|pod| self.is_new(pod));
        (new.len() <= 1 && old.len() <= 1).then(|| (new.first().copied(), old.first().copied()))
    }
}

/// Oldest first, those on their node before those that wait.
fn by_age(pods: &mut [Arc<Pod>]) {
    pods.sort_by_key(|pod| (pod.spec.node_name.is_empty(), pod.metadata.creation_timestamp, pod.metadata.name.clone()));
}

/// One pod on each node that suits, none elsewhere. `patience` says how long a failed pod of a node is left as it is.
pub fn manage(seen: &Observed<'_>, now: Timestamp, patience: impl Fn(&str) -> Option<Duration>) -> Plan {
    let mut plan = Plan::default();
    for (node, suits) in seen.nodes {
        let Some(pods) = seen.pods.get(node) else {
            if suits.start {
                plan.create.push(node.clone());
            }
            continue;
        };
        let mut living: Vec<_> = pods.iter().filter(|pod| !pod.metadata.is_deleted()).cloned().collect();
        if !suits.stay {
            plan.delete.append(&mut living);
            continue;
        }
        living.retain(|pod| {
            if !pod.has_ended() {
                return true;
            }
            match patience(node).filter(|_| pod.status.phase == "Failed") {
                Some(wait) => plan.again = crate::run::sooner(plan.again, Some(wait)),
                None => {
                    plan.ended.push(Arc::clone(pod));
                    plan.delete.push(Arc::clone(pod));
                }
            }
            false
        });
        by_age(&mut living);
        if !seen.surges() {
            plan.delete.extend(living.into_iter().skip(1));
        } else if living.is_empty() && suits.start && pods.iter().all(|pod| pod.metadata.is_deleted()) {
            plan.create.push(node.clone());
        } else {
            plan.delete.extend(superfluous(seen, living, now));
        }
    }
    // What waits for a node that is gone would wait for ever.
    let lost = seen.pods.iter().filter(|(node, _)| !seen.nodes.contains_key(*node)).flat_map(|(_, pods)| pods);
    let lost = lost.filter(|pod| pod.spec.node_name.is_empty() && !pod.metadata.is_deleted());
    plan.delete.extend(lost.cloned());
    plan
}

/// Where pods surge, a node keeps its oldest new one and, until that is available, its oldest old one that is ready.
fn superfluous(seen: &Observed<'_>, living: Vec<Arc<Pod>>, now: Timestamp) -> Vec<Arc<Pod>> {
    if living.len() <= 1 {
        return Vec::new();
    }
    let (new, old): (Vec<_>, Vec<_>) = living.into_iter().partition(|pod| seen.is_new(pod));
    let mut gone: Vec<_> = new.iter().skip(1).chain(old.iter().skip(1)).cloned().collect();
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && (!old.is_ready() || seen.is_available(new, now))
    {
        gone.push(Arc::clone(old));
    }
    gone
}

/// Replaces pods of old templates within the bounds of the strategy.
pub fn roll(seen: &Observed<'_>, now: Timestamp) -> Plan {
    if seen.set.spec.update_strategy["type"] != "RollingUpdate" {
        return Plan::default();
    }
    let (surge, unavailable) = seen.bounds();
    if surge == 0 { replace(seen, unavailable, now) } else { surge_over(seen, surge, now) }
}

fn nodes_with_pods<'a>(seen: &'a Observed<'_>) -> impl Iterator<Item = (&'a String, &'a [Arc<Pod>])> {
    let empty = seen.nodes.iter().filter(|(node, suits)| suits.start && !seen.pods.contains_key(*node));
    let none: &[Arc<Pod>] = &[];
    seen.pods.iter().map(|(node, pods)| (node, pods.as_slice())).chain(empty.map(move |(node, _)| (node, none)))
}

/// Deletes old pods: all that do not work anyway, and of those that do as many as may be missing.
fn replace(seen: &Observed<'_>, allowed: i64, now: Timestamp) -> Plan {
    let (mut missing, mut broken, mut candidates) = (0, Vec::new(), Vec::new());
    for (_, pods) in nodes_with_pods(seen) {
        match seen.pair(pods) {
            Some((Some(new), None)) => missing += i64::from(!seen.is_available(new, now)),
            Some((None, Some(old))) if seen.is_available(old, now) => candidates.push(Arc::clone(old)),
            Some((None, Some(old))) => {
                broken.push(Arc::clone(old));
                missing += 1;
            }
            _ => missing += 1,
        }
    }
    let room = usize::try_from(allowed - missing).unwrap_or(0);
    broken.extend(candidates.into_iter().take(room));
    Plan { delete: broken, ..Plan::default() }
}

/// Creates new pods beside old ones, and deletes an old one once its successor is available.
fn surge_over(seen: &Observed<'_>, allowed: i64, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let (mut surging, mut available) = (0, 0_i64);
    let (mut candidates, mut unwanted) = (Vec::new(), Vec::new());
    for (node, pods) in nodes_with_pods(seen) {
        let Some((new, old)) = seen.pair(pods) else {
            surging += 1;
            continue;
        };
        available += i64::from(old.or(new).is_some_and(|pod| seen.is_available(pod, now)));
        let suits = seen.nodes.get(node).is_some_and(|suits| suits.start);
        match (new, old) {
            (_, None) => {}
            (None, Some(old)) => match (seen.is_available(old, now), suits) {
                (false, false) => plan.delete.push(Arc::clone(old)),
                (false, true) => plan.create.push(node.clone()),
                (true, false) => unwanted.push(Arc::clone(old)),
                (true, true) => candidates.push(node.clone()),
            },
            (Some(new), Some(old)) if seen.is_available(new, now) => plan.delete.push(Arc::clone(old)),
            (Some(_), Some(_)) => surging += 1,
        }
    }
    // Who surges wants all of its pods all the time: one on a node that no longer suits goes when another has come.
    let spare = usize::try_from(available - seen.wanted()).unwrap_or(0);
    plan.delete.extend(unwanted.into_iter().take(spare));
    let room = usize::try_from(allowed - surging).unwrap_or(0);
    plan.create.extend(candidates.into_iter().take(room));
    plan
}
