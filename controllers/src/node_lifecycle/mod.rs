//! Nodes that fall silent: their conditions become Unknown, they are tainted, and their pods are not ready any more.
//!
//! In: nodes, their Leases, their pods. Out: conditions, taints, and pods out of their Services. Conditions and taints
//! are decided in [`health`], the pace in [`zones`]; pods leave by the taints ([`crate::taint_eviction`]).
//! <https://kubernetes.io/docs/concepts/architecture/nodes/#node-controller>

pub mod health;
pub mod zones;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kontiki_api::resources::{NODES, PODS};
use kontiki_client::{Error, Patch, events::EventType, reflector::ObjectKey};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::{health::Sign, zones::Pacer};
use crate::{
    context::Context,
    model::{Condition, Meta, Pod, objects, second},
    pod_control::reference,
    run::{self, Reconciled, gone},
    taints::Taint,
};

/// How often a node is looked at without news.
const LOOK: Duration = Duration::from_secs(5);
/// How soon after something was written.
const SOON: Duration = Duration::from_millis(50);

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
    /// Whether it takes no pods.
    pub unschedulable: bool,
}

/// What a node is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Conditions.
    pub conditions: Vec<Condition>,
}

impl Node {
    /// A condition.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.r#type == kind)
    }
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

objects!(Node, Lease);

/// What is remembered of nodes.
#[derive(Default)]
struct Memory {
    signs: Mutex<HashMap<String, Sign>>,
    pacer: Mutex<Pacer>,
}

/// Begins to look after nodes.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("node_lifecycle");
    run::tell_own(&context.nodes, &queue);
    let add = Arc::clone(&queue);
    context.leases.on_version(move |lease| add.add(ObjectKey::new("", lease.metadata.name.clone())));
    let (context, memory) = (Arc::clone(context), Arc::new(Memory::default()));
    Box::pin(async move {
        run::run(queue, "node_lifecycle", cancel, move |key| reconcile(Arc::clone(&context), Arc::clone(&memory), key)).await;
    })
}

async fn reconcile(context: Arc<Context>, memory: Arc<Memory>, key: ObjectKey) -> Reconciled {
    let Some(node) = context.nodes.get("", &key.name) else {
        memory.signs.lock().remove(&key.name);
        return Ok(None);
    };
    let now = Timestamp::now();
    let lease = context.leases.get("kube-node-lease", &key.name);
    let sign = {
        let mut signs = memory.signs.lock();
        let sign = Sign::after(signs.remove(&key.name), &node, lease.as_deref(), now);
        signs.insert(key.name.clone(), sign.clone());
        sign
    };
    let patience = sign.patience(context.options.node_monitor_grace_period, now);
    let client = context.client();
    if let Some(conditions) = patience.is_none().then(|| health::unknown(&node, now)).flatten() {
        let version = &node.metadata.resource_version;
        let patch = json!({ "metadata": { "resourceVersion": version }, "status": { "conditions": conditions } });
        client.patch::<Value>(NODES, "", &key.name, Some("status"), Patch::Merge(patch)).await?;
        let message = format!("Node {} status is now: NodeNotReady", key.name);
        context.recorder.event(&reference(&node.metadata, NODES), EventType::Normal, "NodeNotReady", message);
        return Ok(Some(SOON));
    }
    let unready = node.condition("Ready").is_none_or(|ready| ready.status != "True");
    let tainted = node.spec.taints.iter().any(|taint| {
        taint.effect == crate::taints::NO_EXECUTE && (taint.key == health::NOT_READY || taint.key == health::UNREACHABLE)
    });
    let may = || {
        let nodes = context.nodes.list();
        memory.pacer.lock().permit(&node, nodes.iter().map(AsRef::as_ref), now)
    };
    let drive_away = unready && !tainted && may();
    if let Some(taints) = health::taints(&node, drive_away, now) {
        let version = &node.metadata.resource_version;
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "taints": taints } });
        client.patch::<Value>(NODES, "", &key.name, None, Patch::Merge(patch)).await?;
        return Ok(Some(SOON));
    }
    if node.condition("Ready").is_some_and(|ready| ready.status == "Unknown") {
        for pod in context.pods_on(&key.name).iter().filter(|pod| pod.is_ready()) {
            not_ready(&context, pod, now).await?;
        }
    }
    Ok(Some(patience.map_or(LOOK, |patience| patience.min(LOOK))))
}

/// A pod whose node is silent is not ready: no Service leads there any more.
async fn not_ready(context: &Context, pod: &Pod, now: Timestamp) -> Result<(), Error> {
    let mut conditions = pod.status.conditions.clone();
    for condition in conditions.iter_mut().filter(|condition| condition.r#type == "Ready") {
        condition.status = "False".to_owned();
        condition.last_transition_time = Some(second(now));
    }
    let meta = &pod.metadata;
    let patch = json!({ "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version }, "status": { "conditions": conditions } });
    gone(
        context.client().patch::<Value>(PODS, &meta.namespace, &meta.name, Some("status"), Patch::Merge(patch)).await.map(drop),
    )?;
    context.recorder.event(&reference(meta, PODS), EventType::Warning, "NodeNotReady", "Node is not ready");
    Ok(())
}
