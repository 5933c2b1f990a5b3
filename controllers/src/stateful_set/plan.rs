//! Which of a StatefulSet's pods come and go, and in which order. Pure.
//!
//! Invariant: where pods are managed in order, nothing happens to one before all below it are available, and one goes
//! only after all above it have gone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{StatefulSet, claims};
use crate::{
    model::{Pod, part},
    revisions::REVISION_HASH,
};

/// Label that names a pod.
pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The pod of an ordinal comes, its claims first, from the template of a revision.
    Create(i64, String),
    /// A pod goes.
    Delete(Arc<Pod>),
    /// Claims that a pod waits for are made.
    Claims(Arc<Pod>),
    /// A pod's name label, or the owners of its claims, are put right.
    Repair(Arc<Pod>),
}

/// What to do, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The steps.
    pub actions: Vec<Action>,
    /// When to look again without news.
    pub again: Option<Duration>,
}

/// What the decisions are about.
pub struct Observed<'a> {
    /// The set.
    pub set: &'a StatefulSet,
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// Name of the revision that pods come from.
    pub current: &'a str,
    /// Name of the revision that they go to.
    pub update: &'a str,
    /// The claims of the namespace.
    pub claims: claims::Claims<'a>,
    /// The time.
    pub now: Timestamp,
}

/// The ordinal in the name of a set's pod; `None` for one that is not its pod.
pub fn ordinal(set: &str, pod: &str) -> Option<i64> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let sound = digits.bytes().all(|digit| digit.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if sound { digits.parse().ok() } else { None }
}

/// How a pod is, in the words of the plan.
struct Health {
    ending: bool,
    available: bool,
}

impl Observed<'_> {
    fn health(&self, pod: &Pod) -> Health {
        Health {
            ending: pod.metadata.is_deleted(),
            available: pod.status.phase == "Running" && pod.is_available(self.set.spec.min_ready_seconds, self.now),
        }
    }

    fn is_unavailable(&self, pod: Option<&Arc<Pod>>) -> bool {
        pod.is_none_or(|pod| {
            let health = self.health(pod);
            health.ending || !health.available
        })
    }

    /// The revision that a pod which does not exist is made from.
    fn revision_of(&self, ordinal: i64) -> &str {
        let spec = &self.set.spec;
        let rolling = &spec.update_strategy["rollingUpdate"];
        let from_start = ordinal - spec.start();
        let old = if rolling.is_object() {
            from_start < rolling["partition"].as_i64().unwrap_or(0)
        } else {
            spec.update_strategy["type"] == "RollingUpdate"
                && from_start < self.set.status["currentReplicas"].as_i64().unwrap_or(0)
        };
        if old { self.current } else { self.update }
    }
}

/// Decides.
pub fn plan(seen: &Observed<'_>) -> Plan {
    let set = seen.set;
    let mut plan = Plan::default();
    if set.metadata.is_deleted() {
        return plan;
    }
    let (start, end) = (set.spec.start(), set.spec.start() + set.spec.replicas);
    let mut wanted: BTreeMap<i64, Option<Arc<Pod>>> = (start..end).map(|number| (number, None)).collect();
    let mut condemned = BTreeMap::new();
    for pod in seen.pods {
        let Some(number) = ordinal(&set.metadata.name, &pod.metadata.name) else { continue };
        match wanted.get_mut(&number) {
            Some(place) => *place = Some(Arc::clone(pod)),
            None => drop(condemned.insert(number, Arc::clone(pod))),
        }
    }
    plan.again =
        seen.pods.iter().filter_map(|pod| pod.available_in(set.spec.min_ready_seconds, seen.now)).min().map(Duration::from_secs);
    let ordered = set.spec.pod_management_policy != "Parallel";
    for (number, pod) in &wanted {
        if keep(seen, &mut plan, *number, pod.as_ref()) && ordered {
            return plan;
        }
    }
    let wrong = condemned.iter().rev().filter(|(number, pod)| claims::is_wrong(set, pod, **number, seen.claims));
    plan.actions.extend(wrong.map(|(_, pod)| Action::Repair(Arc::clone(pod))));
    if reduce(seen, &mut plan, &wanted, &condemned, ordered) && ordered {
        return plan;
    }
    if set.spec.update_strategy["type"] != "OnDelete" {
        update(seen, &mut plan, &wanted);
    }
    plan
}

/// Sees to one ordinal; says whether those above it have to wait, if pods are managed in order.
fn keep(seen: &Observed<'_>, plan: &mut Plan, number: i64, pod: Option<&Arc<Pod>>) -> bool {
    let Some(pod) = pod else {
        if claims::hold_up(seen.set, number, seen.claims) {
            plan.again = Some(Duration::from_secs(1));
        } else {
            plan.actions.push(Action::Create(number, seen.revision_of(number).to_owned()));
        }
        return true;
    };
    let health = seen.health(pod);
    if pod.has_ended() {
        if !health.ending {
            plan.actions.push(Action::Delete(Arc::clone(pod)));
        }
        return true;
    }
    if pod.status.phase == "Pending" && claims::are_missing(seen.set, number, seen.claims) {
        plan.actions.push(Action::Claims(Arc::clone(pod)));
    }
    if health.ending || !health.available {
        return true;
    }
    let named = pod.metadata.label(POD_NAME) == pod.metadata.name;
    if !named || claims::is_wrong(seen.set, pod, number, seen.claims) {
        plan.actions.push(Action::Repair(Arc::clone(pod)));
    }
    false
}

/// Takes away what is beyond the replicas, the highest first; says whether there was anything.
fn reduce(
    seen: &Observed<'_>,
    plan: &mut Plan,
    wanted: &BTreeMap<i64, Option<Arc<Pod>>>,
    condemned: &BTreeMap<i64, Arc<Pod>>,
    ordered: bool,
) -> bool {
    let ill = |pod: &Option<&Arc<Pod>>| seen.is_unavailable(*pod);
    let all = wanted.values().map(Option::as_ref).chain(condemned.values().map(Some));
    let first_ill = all.into_iter().find(ill).flatten().map(|pod| &pod.metadata.name);
    for pod in condemned.values().rev() {
        if seen.health(pod).ending {
            if ordered {
                return true;
            }
            continue;
        }
        let waits = ordered && seen.is_unavailable(Some(pod)) && first_ill != Some(&pod.metadata.name);
        if !waits {
            plan.actions.push(Action::Delete(Arc::clone(pod)));
        }
        if ordered {
            return true;
        }
    }
    false
}

/// Takes away pods of other revisions, the highest first, as many as may be missing.
fn update(seen: &Observed<'_>, plan: &mut Plan, wanted: &BTreeMap<i64, Option<Arc<Pod>>>) {
    let rolling = &seen.set.spec.update_strategy["rollingUpdate"];
    let allowed = part(&rolling["maxUnavailable"], seen.set.spec.replicas, false, 1).max(1);
    let missing = wanted.values().filter(|pod| seen.is_unavailable(pod.as_ref())).count();
    let room = usize::try_from(allowed).unwrap_or(usize::MAX).saturating_sub(missing);
    let from = seen.set.spec.start() + rolling["partition"].as_i64().unwrap_or(0);
    let old = |pod: &&Arc<Pod>| pod.metadata.label(REVISION_HASH) != seen.update && !pod.metadata.is_deleted();
    let candidates = wanted.range(from..).rev().filter_map(|(_, pod)| pod.as_ref()).filter(old);
    plan.actions.extend(candidates.take(room).map(|pod| Action::Delete(Arc::clone(pod))));
}
