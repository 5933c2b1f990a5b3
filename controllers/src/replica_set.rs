//! ReplicaSets and ReplicationControllers: as many pods as were asked for.
//!
//! In: the set and the pods near it. Out: pods created and deleted, and the status.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/>

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kontiki_api::resources::{PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, ResourceKey};
use kontiki_client::Patch;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::{self, Context},
    model::{Condition, Meta, Pod, Workload},
    pod_control::{self, BURST_MAX, Owner, by_dispensability, claim, from_template, template_labels},
    run::{self, Reconciled},
};

/// What to do for a set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Pods to create.
    pub create: usize,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
}

/// Decides. `own` are the pods that belong to the set; `related` those of sets with the same owner, which spread best
/// when the most crowded nodes lose theirs first.
pub fn plan(set: &Workload, own: &[Arc<Pod>], related: &[Arc<Pod>]) -> Plan {
    if set.metadata.is_deleted() {
        return Plan::default();
    }
    let mut active: Vec<_> = own.iter().filter(|pod| pod.is_active()).cloned().collect();
    let wanted = usize::try_from(set.spec.replicas).unwrap_or(0);
    let surplus = active.len().saturating_sub(wanted).min(BURST_MAX);
    let create = wanted.saturating_sub(active.len()).min(BURST_MAX);
    if surplus > 0 && surplus < active.len() {
        let mut crowds = HashMap::<&str, usize>::new();
        for pod in related.iter().filter(|pod| pod.is_active()) {
            *crowds.entry(&pod.spec.node_name).or_default() += 1;
        }
        by_dispensability(&mut active, |pod| crowds.get(pod.spec.node_name.as_str()).copied().unwrap_or(0));
    }
    active.truncate(surplus);
    Plan { create, delete: active }
}

/// Numbers of a status that are absent when they are nothing.
const COUNTS: [&str; 4] = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas", "terminatingReplicas"];

/// The status that the pods amount to, and when it may change by time alone. `failure` is why the last work failed.
pub fn status(set: &Workload, own: &[Arc<Pod>], failure: Option<(&str, String)>, now: Timestamp) -> (Value, Option<Duration>) {
    let (active, ending): (Vec<_>, Vec<_>) = own.iter().filter(|pod| !pod.has_ended()).partition(|pod| pod.is_active());
    let template = template_labels(&set.spec.template);
    let fully = |pod: &&&Arc<Pod>| template.iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value));
    let seconds = set.spec.min_ready_seconds;
    let again = active.iter().filter_map(|pod| pod.available_in(seconds, now)).min().map(Duration::from_secs);
    let mut conditions = set.conditions();
    match failure {
        Some((reason, message)) => Condition::set(&mut conditions, "ReplicaFailure", "True", reason, message, now),
        None => conditions.retain(|condition| condition.r#type != "ReplicaFailure"),
    }
    let counts = [
        active.iter().filter(fully).count(),
        active.iter().filter(|pod| pod.is_ready()).count(),
        active.iter().filter(|pod| pod.is_available(seconds, now)).count(),
        ending.len(),
    ];
    let mut status = json!({ "replicas": active.len(), "observedGeneration": set.metadata.generation });
    for (name, count) in COUNTS.into_iter().zip(counts) {
        status[name] = if count > 0 { json!(count) } else { Value::Null };
    }
    status["conditions"] = if conditions.is_empty() { Value::Null } else { json!(conditions) };
    (status, again)
}

/// Whether there is anything to write.
fn differs(set: &Workload, want: &Value) -> bool {
    let names = COUNTS.into_iter().chain(["replicas", "observedGeneration"]);
    let mut numbers = names.map(|name| set.count(name) != want[name].as_i64().unwrap_or(0));
    numbers.any(|differs| differs) || set.conditions() != crate::model::conditions(want)
}

/// Begins to look after ReplicaSets.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("replicaset");
    run::tell_own(&context.replica_sets, &queue);
    let adopting = Arc::clone(context);
    run::tell_owner(&context.pods, &queue, "ReplicaSet", move |pod| {
        let sets = adopting.replica_sets.in_namespace(&pod.namespace);
        sets.iter().filter(|set| set.selects(&pod.labels)).map(|set| set.metadata.key()).collect()
    });
    run::controller(context, &queue, "replicaset", cancel, |context, key| async move {
        match context.replica_sets.get(&key.namespace, &key.name) {
            Some(set) => reconcile(&context, REPLICA_SETS, &set).await,
            None => Ok(None),
        }
    })
}

/// Begins to look after ReplicationControllers.
pub fn start_replication(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("replicationmanager");
    run::tell_own(&context.replication_controllers, &queue);
    let adopting = Arc::clone(context);
    run::tell_owner(&context.pods, &queue, "ReplicationController", move |pod| {
        let all = adopting.replication_controllers.in_namespace(&pod.namespace);
        all.iter().filter(|one| one.0.selects(&pod.labels)).map(|one| one.0.metadata.key()).collect()
    });
    run::controller(context, &queue, "replicationmanager", cancel, |context, key| async move {
        match context.replication_controllers.get(&key.namespace, &key.name) {
            Some(found) => reconcile(&context, REPLICATION_CONTROLLERS, &found.0).await,
            None => Ok(None),
        }
    })
}

async fn reconcile(context: &Context, key: ResourceKey, set: &Workload) -> Reconciled {
    let meta = &set.metadata;
    let owner = Owner { key, meta };
    let mut near = context::near(&context.pods, meta);
    // What has ended is neither counted nor adopted.
    near.retain(|pod| !pod.has_ended());
    let claim = claim(meta, near, |pod: &Pod| set.selects(&pod.metadata.labels));
    let own = pod_control::enact(context, owner, PODS, claim, &[]).await?;
    let plan = plan(set, &own, &related(context, meta));
    let pods = vec![from_template(&set.spec.template, owner); plan.create];
    let (_, created) = pod_control::create_all(context, owner, &pods).await;
    let deleted = pod_control::delete_all(context, owner, &plan.delete).await;
    let failure = match (&created, &deleted) {
        (Err(error), _) => Some(("FailedCreate", error.to_string())),
        (Ok(()), Err(error)) => Some(("FailedDelete", error.to_string())),
        (Ok(()), Ok(())) => None,
    };
    let (status, again) = status(set, &context::owned(&context.pods, meta), failure, Timestamp::now());
    if differs(set, &status) {
        let patch = json!({ "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version }, "status": status });
        let written = context.client().patch::<Value>(key, &meta.namespace, &meta.name, Some("status"), Patch::Merge(patch));
        run::gone(written.await.map(drop))?;
    }
    match created {
        Err(error) if error.is_namespace_terminating() => Ok(again),
        created => created.and(deleted).map(|()| again),
    }
}

/// Pods of the sets that belong to the same owner.
fn related(context: &Context, meta: &Meta) -> Vec<Arc<Pod>> {
    let Some(owner) = meta.controller() else { return context::owned(&context.pods, meta) };
    let owner = Meta { uid: owner.uid.clone(), ..Meta::default() };
    let sets = context::owned(&context.replica_sets, &owner);
    sets.iter().flat_map(|set| context::owned(&context.pods, &set.metadata)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(replicas: i64) -> Workload {
        serde_json::from_value(json!({
            "metadata": {"name": "rs", "namespace": "n", "uid": "set"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}}},
        }))
        .unwrap()
    }

    fn pod(name: &str, extra: Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {
                "name": name, "namespace": "n", "uid": name, "labels": {"app": "web"},
                "ownerReferences": [{"uid": "set", "controller": true}],
            },
            "status": {"phase": "Running"},
        });
        for (key, value) in extra.as_object().unwrap() {
            for (inner, value) in value.as_object().unwrap() {
                pod[key][inner] = value.clone();
            }
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn ready() -> Value {
        json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|pod| pod.metadata.name.as_str()).collect()
    }

    #[test]
    fn missing_pods_are_created_and_the_right_ones_deleted() {
        assert_eq!(plan(&set(3), &[pod("a", json!({}))], &[]).create, 2);
        let pods = [
            pod("ready", json!({"spec": {"nodeName": "x"}, "status": {"conditions": ready()}})),
            pod("unready", json!({"spec": {"nodeName": "x"}})),
            pod("unassigned", json!({"status": {"phase": "Pending"}})),
        ];
        assert_eq!(names(&plan(&set(1), &pods, &[]).delete), ["unassigned", "unready"]);
        let on = |name: &str, node: &str| pod(name, json!({"spec": {"nodeName": node}, "status": {"conditions": ready()}}));
        let pods = [on("a", "x"), on("b", "y"), on("c", "y")];
        assert_eq!(names(&plan(&set(2), &pods, &pods).delete), ["b"], "the crowded node loses one");
    }

    #[test]
    fn pods_that_end_do_not_count() {
        let pods = [
            pod("failed", json!({"status": {"phase": "Failed"}})),
            pod("deleted", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
        ];
        assert_eq!(plan(&set(1), &pods, &[]).create, 1);
    }

    #[test]
    fn a_pod_is_available_only_after_its_time() {
        let mut set = set(1);
        set.spec.min_ready_seconds = 10;
        let pods = [pod("a", json!({"status": {"conditions": ready()}}))];
        let (found, again) = status(&set, &pods, None, "2026-01-01T00:00:04Z".parse().unwrap());
        assert_eq!((found["readyReplicas"].as_i64(), found["availableReplicas"].as_i64()), (Some(1), None));
        assert_eq!(again, Some(Duration::from_secs(6)));
        let (found, again) = status(&set, &pods, None, "2026-01-01T00:00:10Z".parse().unwrap());
        assert_eq!((found["availableReplicas"].as_i64(), again), (Some(1), None));
    }

    #[test]
    fn a_failure_is_a_condition_until_it_is_over() {
        let mut set = set(1);
        set.status = json!({"conditions": [{"type": "Mine", "status": "True"}]});
        let now = Timestamp::UNIX_EPOCH;
        let (failed, _) = status(&set, &[], Some(("FailedCreate", "exceeded quota".to_owned())), now);
        assert_eq!(failed["conditions"][1]["reason"], "FailedCreate");
        set.status = failed;
        let (well, _) = status(&set, &[], None, now);
        assert_eq!(well["conditions"], json!([{"type": "Mine", "status": "True"}]), "others' conditions stay");
        assert!(differs(&set, &well));
    }
}
