//! PodDisruptionBudgets: how many of an application's pods may be taken away now.
//!
//! In: budgets, their pods, the workloads of these. Out: the budgets' status, from which evictions are granted.
//! <https://kubernetes.io/docs/tasks/run-application/configure-pdb/>

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use kontiki_api::resources::{POD_DISRUPTION_BUDGETS, PODS};
use kontiki_client::{events::EventType, reflector::ObjectKey};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    model::{Condition, Meta, Pod, Selector, conditions, objects, part},
    pod_control::reference,
    run::{self, Reconciled},
    written::write_status,
};

/// A pod whose eviction was granted and which is still there after this time was not evicted.
const EVICTION_DEADLINE: SignedDuration = SignedDuration::from_mins(2);

/// A PodDisruptionBudget.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodDisruptionBudget {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: BudgetSpec,
    /// What is.
    pub status: Value,
}

/// What was asked for of a budget.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BudgetSpec {
    /// Pods that must be left.
    pub min_available: Value,
    /// Pods that may be missing.
    pub max_unavailable: Value,
    /// Which pods; none where absent.
    pub selector: Option<Selector>,
}

objects!(PodDisruptionBudget);

/// What the budgets' numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    expected: i64,
    healthy: i64,
}

/// UID and replicas of a pod's workload; `None` for a pod that nobody manages.
type Scale = Result<Option<(String, i64)>, String>;

/// The number of pods that there ought to be and of those that have to be healthy. `scale` is the number of replicas
/// of a pod's workload, by the workload's UID.
fn wanted(spec: &BudgetSpec, pods: &[Arc<Pod>], scale: &dyn Fn(&Pod) -> Scale) -> Result<Wanted, String> {
    if let Some(healthy) = spec.min_available.as_i64() {
        return Ok(Wanted { expected: i64::try_from(pods.len()).unwrap_or(i64::MAX), healthy });
    }
    let mut scales = BTreeMap::new();
    for pod in pods {
        scales.extend(scale(pod)?);
    }
    let expected: i64 = scales.values().sum();
    let healthy = if spec.max_unavailable.is_null() {
        part(&spec.min_available, expected, true, 0)
    } else {
        (expected - part(&spec.max_unavailable, expected, true, 0)).max(0)
    };
    Ok(Wanted { expected, healthy })
}

/// Pods whose eviction was granted and which have not begun to go; those that never will; when to look again.
fn granted(status: &Value, pods: &[Arc<Pod>], now: Timestamp) -> (BTreeMap<String, Timestamp>, Vec<Arc<Pod>>, Option<Duration>) {
    let (mut kept, mut late, mut again) = (BTreeMap::new(), Vec::new(), None);
    let listed = status["disruptedPods"].as_object().into_iter().flatten();
    for (name, at) in listed.filter_map(|(name, at)| Some((name, at.as_str()?.parse::<Timestamp>().ok()?))) {
        let Some(pod) = pods.iter().find(|pod| pod.metadata.name == *name && !pod.metadata.is_deleted()) else { continue };
        let left = EVICTION_DEADLINE - now.duration_since(at);
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => {
                kept.insert(name.clone(), at);
                again = run::sooner(again, Some(left));
            }
            _ => late.push(Arc::clone(pod)),
        }
    }
    (kept, late, again)
}

/// The status of a budget over its pods.
fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    wanted: Wanted,
    granted: &BTreeMap<String, Timestamp>,
    now: Timestamp,
) -> Value {
    let healthy = |pod: &&Arc<Pod>| !pod.metadata.is_deleted() && !granted.contains_key(&pod.metadata.name) && pod.is_ready();
    let current = i64::try_from(pods.iter().filter(healthy).count()).unwrap_or(i64::MAX);
    let allowed = if wanted.expected > 0 { (current - wanted.healthy).max(0) } else { 0 };
    let mut found = conditions(&budget.status);
    let (value, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    Condition::set(&mut found, "DisruptionAllowed", value, reason, "", now);
    observe(&mut found, budget.metadata.generation);
    let before = budget.status["disruptedPods"].as_object().into_iter().flatten();
    let mut disrupted: Map<String, Value> = before.map(|(name, _)| (name.clone(), Value::Null)).collect();
    disrupted.extend(granted.iter().map(|(name, at)| (name.clone(), json!(at))));
    json!({
        "observedGeneration": budget.metadata.generation,
        "currentHealthy": current,
        "desiredHealthy": wanted.healthy,
        "expectedPods": wanted.expected,
        "disruptionsAllowed": allowed,
        "disruptedPods": disrupted,
        "conditions": found,
    })
}

fn observe(conditions: &mut [Condition], generation: i64) {
    let own = conditions.iter_mut().filter(|condition| condition.r#type == "DisruptionAllowed");
    own.for_each(|condition| condition.observed_generation = Some(generation));
}

/// Begins to look after budgets.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("disruption");
    run::tell_own(&context.budgets, &queue);
    let (all, add) = (Arc::clone(context), Arc::clone(&queue));
    context.pods.on_change(move |change| {
        let told = |pod: &Pod| {
            (pod.metadata.labels.clone(), pod.metadata.is_deleted(), pod.is_ready(), pod.metadata.controller().cloned())
        };
        if change.old.as_deref().map(told) == change.new.as_deref().map(told) {
            return;
        }
        let budgets = all.budgets.in_namespace(&change.key.namespace);
        for pod in change.old.iter().chain(&change.new) {
            budgets.iter().filter(|budget| selects(budget, &pod.metadata)).for_each(|budget| add.add(budget.metadata.key()));
        }
    });
    // The size of a workload counts too, and there are few budgets in a namespace.
    let wake = |context: &Arc<Context>| {
        let (all, add) = (Arc::clone(context), Arc::clone(&queue));
        move |namespace: &str| all.budgets.in_namespace(namespace).iter().for_each(|budget| add.add(budget.metadata.key()))
    };
    let (sets, deployments, stateful, controllers) = (wake(context), wake(context), wake(context), wake(context));
    let resized = |old: Option<i64>, new: Option<i64>| old != new;
    context.replica_sets.on_change(move |change| {
        if resized(change.old.as_ref().map(|set| set.spec.replicas), change.new.as_ref().map(|set| set.spec.replicas)) {
            sets(&change.key.namespace);
        }
    });
    context.deployments.on_change(move |change| {
        if resized(change.old.as_ref().map(|one| one.spec.replicas), change.new.as_ref().map(|one| one.spec.replicas)) {
            deployments(&change.key.namespace);
        }
    });
    context.stateful_sets.on_change(move |change| {
        if resized(change.old.as_ref().map(|set| set.spec.replicas), change.new.as_ref().map(|set| set.spec.replicas)) {
            stateful(&change.key.namespace);
        }
    });
    context.replication_controllers.on_change(move |change| {
        if resized(change.old.as_ref().map(|one| one.0.spec.replicas), change.new.as_ref().map(|one| one.0.spec.replicas)) {
            controllers(&change.key.namespace);
        }
    });
    run::controller(context, &queue, "disruption", cancel, reconcile)
}

fn selects(budget: &PodDisruptionBudget, pod: &Meta) -> bool {
    budget.spec.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
}

fn scale(context: &Context, pod: &Pod) -> Scale {
    let Some(owner) = pod.metadata.controller() else { return Ok(None) };
    let namespace = &pod.metadata.namespace;
    let found = match owner.kind.as_str() {
        "ReplicaSet" => context.replica_sets.get(namespace, &owner.name).map(|set| {
            let above = set.metadata.controller().filter(|owner| owner.kind == "Deployment");
            let above = above
                .and_then(|owner| context.deployments.get(namespace, &owner.name).filter(|one| one.metadata.uid == owner.uid));
            above.map_or_else(
                || (set.metadata.uid.clone(), set.spec.replicas),
                |one| (one.metadata.uid.clone(), one.spec.replicas),
            )
        }),
        "ReplicationController" => {
            let found = context.replication_controllers.get(namespace, &owner.name);
            found.map(|one| (one.0.metadata.uid.clone(), one.0.spec.replicas))
        }
        "StatefulSet" => {
            let found = context.stateful_sets.get(namespace, &owner.name);
            found.map(|set| (set.metadata.uid.clone(), set.spec.replicas))
        }
        kind => return Err(format!("{kind}.{} does not implement the scale subresource", owner.api_version)),
    };
    Ok(found)
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let Some(budget) = context.budgets.get(&key.namespace, &key.name).filter(|budget| !budget.metadata.is_deleted()) else {
        return Ok(None);
    };
    let now = Timestamp::now();
    let mut pods = context.pods.in_namespace(&key.namespace);
    pods.retain(|pod| selects(&budget, &pod.metadata));
    let object = reference(&budget.metadata, POD_DISRUPTION_BUDGETS);
    if pods.is_empty() && budget.status.get("expectedPods").is_none() {
        context.recorder.event(&object, EventType::Normal, "NoPods", "No matching pods found");
    }
    let (kept, late, again) = granted(&budget.status, &pods, now);
    for pod in late {
        let words = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
        context.recorder.event(&reference(&pod.metadata, PODS), EventType::Warning, "NotDeleted", words);
    }
    let want = match wanted(&budget.spec, &pods, &|pod| scale(&context, pod)) {
        Ok(wanted) => status(&budget, &pods, wanted, &kept, now),
        Err(error) => {
            let words = format!("Failed to calculate the number of expected pods: {error}");
            context.recorder.event(&object, EventType::Warning, "CalculateExpectedPodCountFailed", words);
            let mut found = conditions(&budget.status);
            Condition::set(&mut found, "DisruptionAllowed", "False", "SyncFailed", error, now);
            observe(&mut found, budget.metadata.generation);
            json!({ "disruptionsAllowed": 0, "observedGeneration": budget.metadata.generation, "conditions": found })
        }
    };
    write_status(&context, POD_DISRUPTION_BUDGETS, &budget.metadata, &budget.status, &want).await?;
    Ok(again)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status})).unwrap()
    }

    fn pods(healthy: usize, others: usize) -> Vec<Arc<Pod>> {
        let pod = |(number, ready): (usize, bool)| {
            let ready = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": format!("p{number}")}, "status": {"conditions": ready}}))
                    .unwrap(),
            )
        };
        (0..healthy + others).map(|number| (number, number < healthy)).map(pod).collect()
    }

    fn decide(spec: Value, healthy: usize, others: usize, replicas: i64) -> (i64, i64, i64, i64) {
        let (budget, pods) = (budget(spec, json!({})), pods(healthy, others));
        let wanted = wanted(&budget.spec, &pods, &|_| Ok(Some(("w".to_owned(), replicas)))).unwrap();
        let status = status(&budget, &pods, wanted, &BTreeMap::new(), Timestamp::UNIX_EPOCH);
        let number = |name: &str| status[name].as_i64().unwrap();
        (number("expectedPods"), number("desiredHealthy"), number("currentHealthy"), number("disruptionsAllowed"))
    }

    #[test]
    fn as_many_may_go_as_the_budget_leaves() {
        let cases = [
            (json!({"minAvailable": 2}), (3, 0, 3), (3, 2, 3, 1)),
            (json!({"minAvailable": 2}), (1, 1, 2), (2, 2, 1, 0)),
            (json!({"minAvailable": "50%"}), (3, 0, 3), (3, 2, 3, 1)),
            (json!({"maxUnavailable": 1}), (3, 0, 3), (3, 2, 3, 1)),
            (json!({"maxUnavailable": 1}), (2, 1, 3), (3, 2, 2, 0)),
            (json!({"maxUnavailable": "30%"}), (10, 0, 10), (10, 7, 10, 3)),
            (json!({"maxUnavailable": 5}), (3, 0, 3), (3, 0, 3, 3)),
            (json!({"minAvailable": 0}), (0, 0, 0), (0, 0, 0, 0)),
        ];
        for (spec, (healthy, others, replicas), found) in cases {
            assert_eq!(decide(spec.clone(), healthy, others, replicas), found, "{spec}");
        }
    }

    #[test]
    fn granted_evictions_count_until_they_are_late() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let budget = budget(json!({"minAvailable": 1}), json!({"disruptedPods": {"p0": at(100), "p1": at(0), "gone": at(100)}}));
        let pods = pods(3, 0);
        let (kept, late, again) = granted(&budget.status, &pods, at(130));
        assert_eq!((kept.len(), late[0].metadata.name.as_str(), again), (1, "p1", Some(Duration::from_secs(90))));
        let found = status(&budget, &pods, Wanted { expected: 3, healthy: 1 }, &kept, at(130));
        assert_eq!((&found["currentHealthy"], &found["disruptionsAllowed"]), (&json!(2), &json!(1)));
        assert_eq!(found["disruptedPods"], json!({"p0": at(100), "p1": null, "gone": null}));
        assert_eq!(
            (&found["conditions"][0]["reason"], &found["conditions"][0]["observedGeneration"]),
            (&json!("SufficientPods"), &json!(3))
        );
    }

    #[test]
    fn a_workload_without_a_size_cannot_be_counted() {
        let spec = budget(json!({"maxUnavailable": 1}), json!({})).spec;
        assert!(wanted(&spec, &pods(1, 0), &|_| Err("no".to_owned())).is_err());
        assert_eq!(wanted(&spec, &pods(1, 0), &|_| Ok(None)).unwrap().expected, 0, "nobody manages it");
    }
}
