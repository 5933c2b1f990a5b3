//! Pods that nobody else would remove: of nodes that are gone or out of service, never placed, or ended long ago.
//!
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-garbage-collection>

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use kontiki_api::resources::{NODES, PODS};
use kontiki_client::{DeleteOptions, Error};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    disruption_target,
    model::{Bare, Pod},
    node_lifecycle::Node,
    run::gone,
};

/// How often.
const EVERY: Duration = Duration::from_secs(20);
/// Ended pods that are kept.
const ENDED_MAX: usize = 12_500;
/// How long a node has to be gone.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);
/// Taint of a node that an operator knows to be down.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Why a pod goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its node is gone.
    NodeGone,
    /// Its node is out of service, and it is being deleted.
    OutOfService,
    /// It was never placed, and is being deleted.
    NeverPlaced,
    /// It ended, and so many have since.
    Ended,
}

/// Decides. `is_gone` says of a node that it has been gone for long enough.
pub fn plan(
    pods: &[Arc<Pod>],
    node: impl Fn(&str) -> Option<Arc<Node>>,
    is_gone: impl Fn(&str) -> bool,
) -> Vec<(Arc<Pod>, Reason)> {
    let mut plan = Vec::new();
    let mut ended = Vec::new();
    for pod in pods {
        let on = &pod.spec.node_name;
        let out_of_service = || {
            node(on).is_some_and(|node| {
                let unready = node.condition("Ready").is_none_or(|ready| ready.status != "True");
                unready && node.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
            })
        };
        let deleted = pod.metadata.is_deleted();
        let reason = if !on.is_empty() && is_gone(on) {
            Some(Reason::NodeGone)
        } else if on.is_empty() {
            deleted.then_some(Reason::NeverPlaced)
        } else {
            (deleted && out_of_service()).then_some(Reason::OutOfService)
        };
        match reason {
            Some(reason) => plan.push((Arc::clone(pod), reason)),
            None if pod.has_ended() => ended.push(Arc::clone(pod)),
            None => {}
        }
    }
    let surplus = ended.len().saturating_sub(ENDED_MAX);
    // Those that the node threw out first, then the oldest.
    ended.sort_by_key(|pod| (pod.status.reason != "Evicted", pod.metadata.creation_timestamp, pod.metadata.name.clone()));
    plan.extend(ended.into_iter().take(surplus).map(|pod| (pod, Reason::Ended)));
    plan
}

/// Begins to collect pods.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let context = Arc::clone(context);
    Box::pin(async move {
        let mut missing = HashMap::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = cancel.cancelled() => return,
            }
            let pods = context.pods.list();
            let now = Timestamp::now();
            note(
                &mut missing,
                pods.iter().map(|pod| pod.spec.node_name.as_str()),
                |name| context.nodes.get("", name).is_some(),
                now,
            );
            let is_gone = |name: &str| missing.get(name).is_some_and(|since| now.duration_since(*since) >= QUARANTINE);
            for (pod, reason) in plan(&pods, |name| context.nodes.get("", name), is_gone) {
                if let Err(error) = remove(&context, &pod, reason).await {
                    tracing::debug!(pod = pod.metadata.name, %error, "cannot collect a pod");
                }
            }
        }
    })
}

/// Notes since when nodes of pods are missing.
fn note<'a>(
    missing: &mut HashMap<String, Timestamp>,
    named: impl Iterator<Item = &'a str>,
    exists: impl Fn(&str) -> bool,
    now: Timestamp,
) {
    missing.retain(|name, _| !exists(name));
    for name in named.filter(|name| !name.is_empty() && !exists(name)) {
        missing.entry(name.to_owned()).or_insert(now);
    }
}

async fn remove(context: &Context, pod: &Pod, reason: Reason) -> Result<(), Error> {
    let meta = &pod.metadata;
    match reason {
        Reason::NodeGone => {
            // The picture may lack what is there.
            match context.client().get::<Bare>(NODES, "", &pod.spec.node_name).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
            disruption_target::mark(context, pod, "DeletionByPodGC", "PodGC: node no longer exists", true).await?;
        }
        Reason::OutOfService => {
            disruption_target::mark(context, pod, "DeletionByPodGC", "PodGC: node is out-of-service", true).await?;
        }
        Reason::NeverPlaced | Reason::Ended => {}
    }
    let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::with_uid(&meta.uid) };
    gone(context.client().delete(PODS, &meta.namespace, &meta.name, &options).await)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn pod(node: &str, phase: &str, deleted: bool) -> Arc<Pod> {
        let deleted = deleted.then_some("2026-01-01T00:00:00Z");
        let pod = json!({"metadata": {"deletionTimestamp": deleted}, "spec": {"nodeName": node}, "status": {"phase": phase}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn what_nobody_else_removes_goes() {
        let node = |name: &str| -> Option<Arc<Node>> {
            let taints: Value = if name == "out" { json!([{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]) } else { json!([]) };
            let node = json!({"spec": {"taints": taints}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
            (name != "gone").then(|| Arc::new(serde_json::from_value(node).unwrap()))
        };
        let cases = [
            (pod("here", "Running", false), None),
            (pod("here", "Running", true), None),
            (pod("gone", "Running", false), Some(Reason::NodeGone)),
            (pod("out", "Running", false), None),
            (pod("out", "Running", true), Some(Reason::OutOfService)),
            (pod("", "Pending", false), None),
            (pod("", "Pending", true), Some(Reason::NeverPlaced)),
            (pod("here", "Failed", false), None),
        ];
        for (pod, wanted) in cases {
            let found = plan(&[Arc::clone(&pod)], node, |name| name == "gone").first().map(|(_, reason)| *reason);
            assert_eq!(found, wanted, "{pod:?}");
        }
        let many = vec![pod("here", "Succeeded", false); ENDED_MAX + 2];
        assert_eq!(plan(&many, node, |_| false).len(), 2);
    }

    #[test]
    fn a_node_is_gone_only_after_a_while() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut missing = HashMap::new();
        note(&mut missing, ["a", "b", ""].into_iter(), |name| name == "b", at(0));
        note(&mut missing, ["a", "b"].into_iter(), |name| name == "b", at(50));
        assert_eq!(missing, HashMap::from([("a".to_owned(), at(0))]));
        note(&mut missing, ["a"].into_iter(), |_| true, at(60));
        assert!(missing.is_empty(), "it is back");
    }
}
