//! ReplicaSets: as many pods as were asked for.
//!
//! <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/>

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kontiki_api::resources::{PODS, REPLICA_SETS};
use kontiki_client::{
    DeleteOptions, Error, Patch,
    events::{EventType, ObjectReference},
    reflector::ObjectKey,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    model::{Meta, Pod, Workload, matches},
    run::{self, Queue},
};

/// Most pods created or deleted in one go.
const BURST_MAX: usize = 500;
/// How long the reflector may take to show what was created.
const SEEN_DEADLINE: Duration = Duration::from_secs(5);

/// What to do for a ReplicaSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Pods to create.
    pub create: usize,
    /// Names and UIDs of pods to delete.
    pub delete: Vec<(String, String)>,
    /// Names and UIDs of pods without an owner that match.
    pub adopt: Vec<(String, String)>,
    /// Names and UIDs of own pods that match no longer.
    pub release: Vec<(String, String)>,
}

fn identity(pod: &Pod) -> (String, String) {
    (pod.metadata.name.clone(), pod.metadata.uid.clone())
}

/// Decides. `pods` are all of the namespace.
pub fn plan(set: &Workload, pods: &[Arc<Pod>]) -> Plan {
    let uid = &set.metadata.uid;
    let deleted = set.metadata.deletion_timestamp.is_some();
    let selected = |pod: &&Arc<Pod>| matches(&set.spec.selector, &pod.metadata.labels);
    let own = |pod: &&Arc<Pod>| pod.metadata.is_controlled_by(uid);
    let mut plan = Plan {
        release: pods.iter().filter(own).filter(|pod| !selected(pod)).map(|pod| identity(pod)).collect(),
        ..Plan::default()
    };
    if deleted {
        return plan;
    }
    let orphan = |pod: &&Arc<Pod>| pod.metadata.controller().is_none() && pod.is_active();
    plan.adopt = pods.iter().filter(orphan).filter(selected).map(|pod| identity(pod)).collect();
    let mut active: Vec<_> = pods.iter().filter(own).filter(selected).filter(|pod| pod.is_active()).collect();
    let wanted = usize::try_from(set.spec.replicas).unwrap_or(0);
    let have = active.len() + plan.adopt.len();
    plan.create = wanted.saturating_sub(have).min(BURST_MAX);
    let surplus = have.saturating_sub(wanted).min(BURST_MAX).min(active.len());
    active.sort_by_key(|pod| rank(pod));
    plan.delete = active.into_iter().take(surplus).map(|pod| identity(pod)).collect();
    plan
}

/// The lower, the sooner a pod is deleted: unassigned before assigned, pending before running, unready before
/// ready, recently ready before long ready, new before old.
fn rank(pod: &Pod) -> (bool, u8, bool, std::cmp::Reverse<Timestamp>, std::cmp::Reverse<Timestamp>, String) {
    let phase = match pod.status.phase.as_str() {
        "Running" => 2,
        "Pending" | "" => 0,
        _ => 1,
    };
    let ready = pod.ready_since();
    let created = pod.metadata.creation_timestamp.unwrap_or_default();
    (
        !pod.spec.node_name.is_empty(),
        phase,
        ready.is_some(),
        std::cmp::Reverse(ready.unwrap_or_default()),
        std::cmp::Reverse(created),
        pod.metadata.name.clone(),
    )
}

/// The status that the pods amount to, and when it may change by time alone.
pub fn status(set: &Workload, pods: &[Arc<Pod>], now: Timestamp) -> (Value, Option<Duration>) {
    let own = pods.iter().filter(|pod| pod.metadata.is_controlled_by(&set.metadata.uid));
    let (own, ending): (Vec<_>, Vec<_>) = own.filter(|pod| !pod.has_ended()).partition(|pod| pod.is_active());
    let template = &set.spec.template["metadata"]["labels"];
    let fully = |pod: &&&Arc<Pod>| {
        let labels = template.as_object().into_iter().flatten();
        labels.into_iter().all(|(key, value)| pod.metadata.labels.get(key).map(String::as_str) == value.as_str())
    };
    let seconds = set.spec.min_ready_seconds;
    let ready = own.iter().filter(|pod| pod.ready_since().is_some()).count();
    let available = own.iter().filter(|pod| pod.is_available(seconds, now)).count();
    let due = own.iter().filter_map(|pod| pod.ready_since()).map(|since| since.as_second() + seconds - now.as_second());
    let again = due.filter(|left| *left > 0).min().and_then(|left| u64::try_from(left).ok()).map(Duration::from_secs);
    let mut status = json!({
        "replicas": own.len(),
        "observedGeneration": set.metadata.generation,
    });
    let counts = [
        ("fullyLabeledReplicas", own.iter().filter(fully).count()),
        ("readyReplicas", ready),
        ("availableReplicas", available),
        ("terminatingReplicas", ending.len()),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        status[name] = json!(count);
    }
    (status, again)
}

/// Reconciles until `cancel`.
pub async fn run(context: Arc<Context>, queue: Queue, cancel: CancellationToken) {
    let reconcile = move |key| reconcile(Arc::clone(&context), key);
    run::run(queue, "replicaset", cancel, reconcile).await;
}

pub(crate) fn reference(meta: &Meta, api_version: &str, kind: &str) -> ObjectReference {
    ObjectReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        field_path: String::new(),
    }
}

pub(crate) fn owner(meta: &Meta, api_version: &str, kind: &str) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind, "name": meta.name, "uid": meta.uid,
        "controller": true, "blockOwnerDeletion": true,
    })
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Option<Duration>, Error> {
    let Some(set) = context.replica_sets.get(&key.namespace, &key.name) else { return Ok(None) };
    let pods = in_namespace(&context, &key.namespace);
    let plan = plan(&set, &pods);
    let acted = act(&context, &set, &plan).await;
    let (status, again) = status(&set, &in_namespace(&context, &key.namespace), Timestamp::now());
    if differs(&set.status, &status) {
        let body = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": { "resourceVersion": set.metadata.resource_version },
            "status": full(&status),
        });
        context.client().patch::<Value>(REPLICA_SETS, &key.namespace, &key.name, Some("status"), Patch::Merge(body)).await?;
    }
    acted?;
    Ok(again)
}

/// With null for what is not there, so that a merge removes it.
fn full(status: &Value) -> Value {
    let mut whole = status.clone();
    for name in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas", "terminatingReplicas"] {
        if whole.get(name).is_none() {
            whole[name] = Value::Null;
        }
    }
    whole
}

fn differs(have: &Value, want: &Value) -> bool {
    let names =
        ["replicas", "observedGeneration", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "terminatingReplicas"];
    names.iter().any(|name| have[*name].as_i64().unwrap_or(0) != want[*name].as_i64().unwrap_or(0))
}

fn in_namespace(context: &Context, namespace: &str) -> Vec<Arc<Pod>> {
    context.pods.list().into_iter().filter(|pod| pod.metadata.namespace == namespace).collect()
}

async fn act(context: &Context, set: &Workload, plan: &Plan) -> Result<(), Error> {
    let namespace = &set.metadata.namespace;
    let client = context.client();
    for (name, uid) in &plan.release {
        let patch = json!({ "metadata": { "uid": uid, "ownerReferences": [{ "$patch": "delete", "uid": set.metadata.uid }] } });
        client.patch::<Value>(PODS, namespace, name, None, Patch::Strategic(patch)).await?;
    }
    for (name, uid) in &plan.adopt {
        let owner = owner(&set.metadata, "apps/v1", "ReplicaSet");
        let patch = json!({ "metadata": { "uid": uid, "ownerReferences": [owner] } });
        client.patch::<Value>(PODS, namespace, name, None, Patch::Strategic(patch)).await?;
    }
    create(context, set, plan.create).await?;
    let object = reference(&set.metadata, "apps/v1", "ReplicaSet");
    let deletes = plan.delete.iter().map(async |(name, uid)| {
        client.delete(PODS, namespace, name, &DeleteOptions::with_uid(uid)).await?;
        context.recorder.event(&object, EventType::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"));
        wait(|| context.pods.get(namespace, name).is_none_or(|pod| !pod.is_active() || pod.metadata.uid != *uid)).await;
        Ok::<_, Error>(())
    });
    let results = futures::future::join_all(deletes).await;
    results.into_iter().filter(|result| result.as_ref().err().is_none_or(|error| !error.is_not_found())).collect()
}

/// In batches that double, so that a mistake that concerns all is made only once.
async fn create(context: &Context, set: &Workload, count: usize) -> Result<(), Error> {
    let (mut left, mut batch) = (count, 1);
    while left > 0 {
        let size = batch.min(left);
        let created = futures::future::join_all((0..size).map(|_| create_one(context, set))).await;
        created.into_iter().collect::<Result<(), Error>>()?;
        left -= size;
        batch *= 2;
    }
    Ok(())
}

async fn create_one(context: &Context, set: &Workload) -> Result<(), Error> {
    let namespace = &set.metadata.namespace;
    let object = reference(&set.metadata, "apps/v1", "ReplicaSet");
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": format!("{}-", set.metadata.name),
            "ownerReferences": [owner(&set.metadata, "apps/v1", "ReplicaSet")],
        },
        "spec": set.spec.template["spec"],
    });
    for field in ["labels", "annotations", "finalizers"] {
        let value = &set.spec.template["metadata"][field];
        if !value.is_null() {
            pod["metadata"][field] = value.clone();
        }
    }
    match context.client().create::<Value>(PODS, namespace, &pod).await {
        Ok(made) => {
            let name = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            context.recorder.event(&object, EventType::Normal, "SuccessfulCreate", format!("Created pod: {name}"));
            // Else the next look would not see it and create another one.
            wait(|| context.pods.get(namespace, &name).is_some()).await;
            Ok(())
        }
        Err(error) => {
            if !error.is_namespace_terminating() {
                context.recorder.event(&object, EventType::Warning, "FailedCreate", format!("Error creating: {error}"));
            }
            Err(error)
        }
    }
}

/// Waits until the reflector shows what was done, at most a while: what it then lacks is seen as it is.
async fn wait(seen: impl Fn() -> bool) {
    let shown = async {
        while !seen() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let _ = tokio::time::timeout(SEEN_DEADLINE, shown).await;
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

    #[test]
    fn missing_pods_are_created_and_the_right_ones_deleted() {
        assert_eq!(plan(&set(3), &[pod("a", json!({}))]).create, 2);
        let pods = [
            pod("ready", json!({"spec": {"nodeName": "x"}, "status": {"conditions": ready()}})),
            pod("unready", json!({"spec": {"nodeName": "x"}})),
            pod("unassigned", json!({"status": {"phase": "Pending"}})),
        ];
        let names: Vec<_> = plan(&set(1), &pods).delete.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["unassigned", "unready"]);
    }

    #[test]
    fn pods_that_end_do_not_count() {
        let pods = [
            pod("failed", json!({"status": {"phase": "Failed"}})),
            pod("deleted", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
        ];
        assert_eq!(plan(&set(1), &pods).create, 1);
    }

    #[test]
    fn orphans_are_adopted_and_strangers_released() {
        let pods = [
            pod("orphan", json!({"metadata": {"ownerReferences": []}})),
            pod("relabelled", json!({"metadata": {"labels": {"app": "other"}}})),
        ];
        let plan = plan(&set(1), &pods);
        assert_eq!((plan.adopt[0].0.as_str(), plan.release[0].0.as_str(), plan.create), ("orphan", "relabelled", 0));
    }

    #[test]
    fn a_pod_is_available_only_after_its_time() {
        let mut set = set(1);
        set.spec.min_ready_seconds = 10;
        let pods = [pod("a", json!({"status": {"conditions": ready()}}))];
        let (found, again) = status(&set, &pods, "2026-01-01T00:00:04Z".parse().unwrap());
        assert_eq!((found["readyReplicas"].as_i64(), found.get("availableReplicas")), (Some(1), None));
        assert_eq!(again, Some(Duration::from_secs(6)));
        let (found, again) = status(&set, &pods, "2026-01-01T00:00:10Z".parse().unwrap());
        assert_eq!((found["availableReplicas"].as_i64(), again), (Some(1), None));
    }
}
