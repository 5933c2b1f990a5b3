//! Nodes that fall silent: their conditions become Unknown, they are tainted, and pods leave them in time.
//!
//! <https://kubernetes.io/docs/concepts/architecture/nodes/#node-controller>

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kontiki_api::resources::{NODES, PODS};
use kontiki_client::{DeleteOptions, Error, Patch, events::EventType, reflector::ObjectKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    model::{Condition, Meta, Pod, Toleration},
    replica_set::reference,
    run::{self, Queue},
};

/// A node that has not renewed its Lease for this long is silent.
const GRACE_SECONDS: i64 = 40;
/// How often a node is looked at without news.
const LOOK: Duration = Duration::from_secs(5);
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: NodeSpec,
    /// What is.
    pub status: NodeStatus,
}

/// What was asked for of a node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Its part of the pod network.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    /// Taints.
    pub taints: Vec<Taint>,
}

/// A taint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Effect.
    pub effect: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_added: Option<Timestamp>,
}

/// What a node is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// A node's Lease.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// What all objects have.
    pub metadata: Meta,
    /// When it was renewed.
    pub spec: LeaseSpec,
}

/// When a Lease was renewed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LeaseSpec {
    /// The time.
    pub renew_time: Option<Timestamp>,
}

/// What to do for a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Conditions to write.
    pub conditions: Option<Vec<Condition>>,
    /// Taints to write.
    pub taints: Option<Vec<Taint>>,
    /// Whether its pods are not ready any more.
    pub silent: bool,
}

fn is_ours(taint: &Taint) -> bool {
    taint.key == NOT_READY || taint.key == UNREACHABLE
}

/// Decides.
pub fn plan(node: &Node, lease: Option<&Lease>, now: Timestamp) -> Plan {
    let renewed = lease.and_then(|lease| lease.spec.renew_time).or(node.metadata.creation_timestamp).unwrap_or(now);
    let silent = now.as_second() - renewed.as_second() > GRACE_SECONDS;
    let ready = node.status.conditions.iter().find(|condition| condition.r#type == "Ready");
    let state = if silent { "Unknown" } else { ready.map_or("False", |ready| ready.status.as_str()) };
    let mut plan = Plan { silent: state == "Unknown", ..Plan::default() };
    if silent && ready.is_none_or(|ready| ready.status != "Unknown") {
        let mut conditions = node.status.conditions.clone();
        for condition in conditions.iter_mut().filter(|condition| condition.status != "Unknown") {
            condition.status = "Unknown".to_owned();
            condition.reason = "NodeStatusUnknown".to_owned();
            condition.message = "Kubelet stopped posting node status.".to_owned();
            condition.last_transition_time = Timestamp::from_second(now.as_second()).ok();
        }
        plan.conditions = Some(conditions);
    }
    let key = match state {
        "True" => None,
        "Unknown" => Some(UNREACHABLE),
        _ => Some(NOT_READY),
    };
    let others = node.spec.taints.iter().filter(|taint| !is_ours(taint)).cloned();
    let mut taints: Vec<Taint> = others.collect();
    for effect in key.map(|_| ["NoSchedule", "NoExecute"]).into_iter().flatten() {
        let key = key.unwrap_or_default();
        let known = node.spec.taints.iter().find(|taint| taint.key == key && taint.effect == effect);
        let added = (effect == "NoExecute").then(|| Timestamp::from_second(now.as_second()).unwrap_or(now));
        let fresh = Taint { key: key.to_owned(), value: String::new(), effect: effect.to_owned(), time_added: added };
        taints.push(known.cloned().unwrap_or(fresh));
    }
    let same = taints.len() == node.spec.taints.len() && taints.iter().all(|taint| node.spec.taints.contains(taint));
    plan.taints = (!same).then_some(taints);
    plan
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    (toleration.effect.is_empty() || toleration.effect == taint.effect)
        && (toleration.key.is_empty() || toleration.key == taint.key)
        && (toleration.operator == "Exists" || toleration.value == taint.value)
}

/// When a pod has to leave a node with these taints: at once, at a time, or never.
pub fn leaves_at(pod: &Pod, taints: &[Taint]) -> Option<Timestamp> {
    let mut leaves: Option<Timestamp> = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let tolerating: Vec<_> = pod.spec.tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
        let added = taint.time_added.unwrap_or(Timestamp::UNIX_EPOCH);
        let due = if tolerating.is_empty() {
            Some(added)
        } else {
            let shortest = tolerating.iter().filter_map(|toleration| toleration.toleration_seconds).min();
            shortest.and_then(|seconds| added.checked_add(jiff::SignedDuration::from_secs(seconds.max(0))).ok())
        };
        leaves = match (leaves, due) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    leaves
}

/// Reconciles until `cancel`.
pub async fn run(context: Arc<Context>, queue: Queue, cancel: CancellationToken) {
    let reconcile = move |key| reconcile(Arc::clone(&context), key);
    run::run(queue, "node_lifecycle", cancel, reconcile).await;
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Option<Duration>, Error> {
    let Some(node) = context.nodes.get("", &key.name) else { return Ok(None) };
    let now = Timestamp::now();
    let lease = context.leases.get("kube-node-lease", &key.name);
    let plan = plan(&node, lease.as_deref(), now);
    let client = context.client();
    if let Some(conditions) = &plan.conditions {
        let patch =
            json!({ "metadata": { "resourceVersion": node.metadata.resource_version }, "status": { "conditions": conditions } });
        client.patch::<Value>(NODES, "", &key.name, Some("status"), Patch::Merge(patch)).await?;
        let message = format!("Node {} status is now: NodeNotReady", key.name);
        context.recorder.event(&reference(&node.metadata, "v1", "Node"), EventType::Normal, "NodeNotReady", message);
        // The next look sees the new version.
        return Ok(Some(Duration::from_millis(50)));
    }
    if let Some(taints) = &plan.taints {
        let patch = json!({ "metadata": { "resourceVersion": node.metadata.resource_version }, "spec": { "taints": taints } });
        client.patch::<Value>(NODES, "", &key.name, None, Patch::Merge(patch)).await?;
        return Ok(Some(Duration::from_millis(50)));
    }
    let pods = context.pods.list();
    for pod in pods.iter().filter(|pod| pod.spec.node_name == *key.name) {
        if plan.silent && pod.ready_since().is_some() {
            not_ready(&context, pod, now).await?;
        }
        if pod.metadata.deletion_timestamp.is_none() && leaves_at(pod, &node.spec.taints).is_some_and(|at| at <= now) {
            evict(&context, pod).await?;
        }
    }
    Ok(Some(LOOK))
}

async fn not_ready(context: &Context, pod: &Pod, now: Timestamp) -> Result<(), Error> {
    let mut conditions = pod.status.conditions.clone();
    for condition in conditions.iter_mut().filter(|condition| condition.r#type == "Ready") {
        condition.status = "False".to_owned();
        condition.last_transition_time = Timestamp::from_second(now.as_second()).ok();
    }
    let meta = &pod.metadata;
    let patch = json!({ "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version }, "status": { "conditions": conditions } });
    gone(context.client().patch::<Value>(PODS, &meta.namespace, &meta.name, Some("status"), Patch::Merge(patch)).await.map(drop))
}

async fn evict(context: &Context, pod: &Pod) -> Result<(), Error> {
    let meta = &pod.metadata;
    let object = reference(meta, "v1", "Pod");
    let message = format!("Marking for deletion Pod {}/{}", meta.namespace, meta.name);
    context.recorder.event(&object, EventType::Normal, "TaintManagerEviction", message);
    gone(context.client().delete(PODS, &meta.namespace, &meta.name, &DeleteOptions::with_uid(&meta.uid)).await)
}

fn gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn node(ready: &str, taints: Vec<Taint>) -> Node {
        let ready = Condition { r#type: "Ready".into(), status: ready.into(), ..Condition::default() };
        Node {
            spec: NodeSpec { taints, ..NodeSpec::default() },
            status: NodeStatus { conditions: vec![ready] },
            ..Node::default()
        }
    }

    fn lease(second: i64) -> Lease {
        Lease { spec: LeaseSpec { renew_time: Some(at(second)) }, ..Lease::default() }
    }

    #[test]
    fn a_silent_node_becomes_unknown_and_tainted() {
        let plan = plan(&node("True", vec![]), Some(&lease(0)), at(41));
        assert_eq!(plan.conditions.unwrap()[0].reason, "NodeStatusUnknown");
        let keys: Vec<_> = plan.taints.unwrap().into_iter().map(|taint| (taint.key, taint.effect)).collect();
        assert_eq!(keys, [(UNREACHABLE.to_owned(), "NoSchedule".to_owned()), (UNREACHABLE.to_owned(), "NoExecute".to_owned())]);
    }

    #[test]
    fn a_node_that_is_back_loses_our_taints_alone() {
        let own = Taint { key: NOT_READY.into(), effect: "NoSchedule".into(), ..Taint::default() };
        let users = Taint { key: "gpu".into(), effect: "NoSchedule".into(), ..Taint::default() };
        let found = plan(&node("True", vec![own, users.clone()]), Some(&lease(40)), at(41));
        assert_eq!(found.taints, Some(vec![users.clone()]));
        assert_eq!(plan(&node("True", vec![users]), Some(&lease(40)), at(41)), Plan::default());
    }

    #[test]
    fn pods_leave_after_the_time_that_they_tolerate() {
        let taint = Taint { key: UNREACHABLE.into(), effect: "NoExecute".into(), time_added: Some(at(100)), ..Taint::default() };
        let pod = |tolerations: Value| -> Pod { serde_json::from_value(json!({"spec": {"tolerations": tolerations}})).unwrap() };
        let taints = [taint];
        assert_eq!(leaves_at(&pod(json!([])), &taints), Some(at(100)));
        let timed = json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
        assert_eq!(leaves_at(&pod(timed), &taints), Some(at(400)));
        assert_eq!(leaves_at(&pod(json!([{"operator": "Exists"}])), &taints), None);
    }
}
