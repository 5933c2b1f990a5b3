//! DaemonSets: one pod on each node that suits.
//!
//! In: the set, the nodes, the pods near it, the revisions of its template. Out: pods created and deleted, the
//! history kept, and the status. Where pods belong is in [`placement`], what comes and goes in [`plan`].
//! <https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/>

pub mod placement;
pub mod plan;
pub mod status;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use kontiki_api::resources::{DAEMON_SETS, PODS};
use kontiki_client::{Patch, events::EventType, reflector::ObjectKey};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::{
    placement::Placement,
    plan::{ByNode, Observed, Plan},
};
use crate::{
    context::{self, Context},
    model::{Meta, Pod, Selector, objects},
    node_lifecycle::Node,
    pod_control::{self, Owner, from_template},
    revisions::{self, REVISION_HASH},
    run::{self, Reconciled, sooner},
};

/// First and longest time for which a failed pod of a node is left as it is.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15 * 60));
/// What the API server notes of a template's generation.
const GENERATION: &str = "deprecated.daemonset.template.generation";

/// A DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DaemonSet {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: DaemonSetSpec,
    /// What is.
    pub status: Value,
}

/// What was asked for of a DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DaemonSetSpec {
    /// Which pods; none where absent.
    pub selector: Option<Selector>,
    /// What a pod is made from.
    pub template: Value,
    /// How a new template replaces the old one.
    pub update_strategy: Value,
    /// Seconds until a ready pod counts as available.
    pub min_ready_seconds: i64,
    /// Old revisions that are kept.
    pub revision_history_limit: Option<i64>,
}

objects!(DaemonSet);

/// When pods of a node failed, and how often in a row.
#[derive(Default)]
struct Failures(Mutex<HashMap<(String, String), (u32, Timestamp)>>);

impl Failures {
    /// How long the node's failed pod is left as it is.
    fn patience(&self, uid: &str, node: &str, now: Timestamp) -> Option<Duration> {
        let (count, at) = *self.0.lock().get(&(uid.to_owned(), node.to_owned()))?;
        let wait = PATIENCE.0.saturating_mul(1 << count.saturating_sub(1).min(20)).min(PATIENCE.1);
        let left = SignedDuration::try_from(wait).ok()?.checked_sub(now.duration_since(at))?;
        Duration::try_from(left).ok().filter(|left| !left.is_zero())
    }

    fn note(&self, uid: &str, node: &str, now: Timestamp) {
        let mut failures = self.0.lock();
        // What has been well for twice the longest time begins anew; so the map does not grow for ever.
        let old = SignedDuration::try_from(PATIENCE.1 * 2).unwrap_or_default();
        failures.retain(|_, (_, at)| now.duration_since(*at) < old);
        let entry = failures.entry((uid.to_owned(), node.to_owned())).or_insert((0, now));
        *entry = (entry.0.saturating_add(1), now);
    }
}

/// Begins to look after DaemonSets.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("daemonset");
    run::tell_own(&context.daemon_sets, &queue);
    let adopting = Arc::clone(context);
    run::tell_owner(&context.pods, &queue, "DaemonSet", move |pod| {
        let sets = adopting.daemon_sets.in_namespace(&pod.namespace);
        let selects = |set: &&Arc<DaemonSet>| set.spec.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels));
        sets.iter().filter(selects).map(|set| set.metadata.key()).collect()
    });
    let (all, wakes) = (Arc::clone(context), Arc::clone(&queue));
    context.nodes.on_change(move |change| {
        let matters = |node: &Node| (node.metadata.labels.clone(), node.spec.taints.clone());
        if change.old.as_deref().map(matters) != change.new.as_deref().map(matters) {
            all.daemon_sets.list().iter().for_each(|set| wakes.add(set.metadata.key()));
        }
    });
    let (context, failures) = (Arc::clone(context), Arc::new(Failures::default()));
    Box::pin(async move {
        run::run(queue, "daemonset", cancel, move |key| reconcile(Arc::clone(&context), Arc::clone(&failures), key)).await;
    })
}

fn by_node(pods: Vec<Arc<Pod>>) -> ByNode {
    let mut found = ByNode::new();
    // What has ended and is being deleted only waits for a finalizer.
    for pod in pods.into_iter().filter(|pod| !(pod.has_ended() && pod.metadata.is_deleted())) {
        let node = pod.target_node().to_owned();
        if !node.is_empty() {
            found.entry(node).or_default().push(pod);
        }
    }
    found
}

async fn reconcile(context: Arc<Context>, failures: Arc<Failures>, key: ObjectKey) -> Reconciled {
    let Some(set) = context.daemon_sets.get(&key.namespace, &key.name) else { return Ok(None) };
    let owner = Owner { key: DAEMON_SETS, meta: &set.metadata };
    let Some(selector) = set.spec.selector.as_ref().filter(|selector| !selector.is_empty()) else {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        context.recorder.event(&owner.reference(), EventType::Warning, "SelectingAll", message);
        return Ok(None);
    };
    if set.metadata.is_deleted() {
        return Ok(None);
    }
    let collisions = set.status["collisionCount"].as_i64().unwrap_or(0);
    let history = revisions::sync(&context, owner, selector, &set.spec.template, collisions, REVISION_HASH).await?;
    let hash = history.update.metadata.label(REVISION_HASH).to_owned();
    let selects = |pod: &Pod| selector.matches(&pod.metadata.labels);
    let claim = pod_control::claim(&set.metadata, context::near(&context.pods, &set.metadata), selects);
    let pods = by_node(pod_control::enact(&context, owner, PODS, claim, &[]).await?);
    let placement = Placement::of(&set.spec.template);
    let nodes = context.nodes.list().iter().map(|node| (node.metadata.name.clone(), placement.suits(node))).collect();
    let seen = Observed { set: &set, nodes: &nodes, pods: &pods, hash: &hash };
    let now = Timestamp::now();
    let uid = &set.metadata.uid;
    let mut plan = plan::manage(&seen, now, |node| failures.patience(uid, node, now));
    if plan.create.is_empty() && plan.delete.is_empty() {
        plan = Plan { again: plan.again, ..plan::roll(&seen, now) };
    }
    tell_ended(&context, owner, &plan);
    for pod in plan.ended.iter().filter(|pod| pod.status.phase == "Failed") {
        failures.note(uid, pod.target_node(), now);
    }
    let acted = act(&context, &set, owner, &plan, &hash).await;
    let pods = by_node(context::owned(&context.pods, &set.metadata));
    let (status, later) = status::status(&Observed { pods: &pods, ..seen }, history.collisions, Timestamp::now());
    if status::differs(&set.status, &status) {
        let meta = &set.metadata;
        let patch = json!({ "metadata": { "uid": uid, "resourceVersion": meta.resource_version }, "status": status });
        let written =
            context.client().patch::<Value>(DAEMON_SETS, &key.namespace, &key.name, Some("status"), Patch::Merge(patch));
        run::gone(written.await.map(drop))?;
    }
    acted?;
    let live: Vec<_> = pods.values().flatten().map(|pod| pod.metadata.label(REVISION_HASH).to_owned()).collect();
    let live = |one: &revisions::ControllerRevision| {
        let label = one.metadata.label(REVISION_HASH);
        label == hash || live.iter().any(|used| used == label)
    };
    revisions::truncate(&context, &history, live, set.spec.revision_history_limit.unwrap_or(10)).await?;
    Ok(sooner(plan.again, later))
}

fn tell_ended(context: &Context, owner: Owner<'_>, plan: &Plan) {
    for pod in &plan.ended {
        let (meta, node) = (&pod.metadata, pod.target_node());
        let (type_, reason, what, verb) = if pod.status.phase == "Failed" {
            (EventType::Warning, "FailedDaemonPod", "failed", "kill")
        } else {
            (EventType::Normal, "SucceededDaemonPod", "succeeded", "delete")
        };
        let message = format!("Found {what} daemon pod {}/{} on node {node}, will try to {verb} it", meta.namespace, meta.name);
        context.recorder.event(&owner.reference(), type_, reason, message);
    }
}

async fn act(context: &Context, set: &DaemonSet, owner: Owner<'_>, plan: &Plan, hash: &str) -> Result<(), kontiki_client::Error> {
    let pod = |node: &String| {
        let mut pod = from_template(&set.spec.template, owner);
        pod["metadata"]["labels"][REVISION_HASH] = json!(hash);
        let generation = set.metadata.annotation(GENERATION);
        if !generation.is_empty() {
            pod["metadata"]["labels"]["pod-template-generation"] = json!(generation);
        }
        placement::aim(&mut pod, node);
        pod
    };
    let pods: Vec<_> = plan.create.iter().take(pod_control::BURST_MAX).map(pod).collect();
    let (_, created) = pod_control::create_all(context, owner, &pods).await;
    let deleted = pod_control::delete_all(context, owner, &plan.delete).await;
    match created {
        // Nothing more will come to be there.
        Err(error) if error.is_namespace_terminating() => deleted,
        created => created.and(deleted),
    }
}
