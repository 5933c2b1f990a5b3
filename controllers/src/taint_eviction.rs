//! Pods leave nodes whose taints drive them away, each after the time that it tolerates them.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions>

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use kontiki_api::resources::PODS;
use kontiki_client::{DeleteOptions, events::EventType, reflector::ObjectKey};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    disruption_target,
    model::Toleration,
    pod_control::reference,
    run::{self, Reconciled, gone},
    taints::{NO_EXECUTE, Stay, Taint, stay},
};

/// Since when each pod is being driven away, by UID.
type Since = Arc<Mutex<HashMap<String, Timestamp>>>;

/// How long a pod may stay yet: `None` for ever. `since` is when it was first seen on such a node.
pub fn left(taints: &[Taint], tolerations: &[Toleration], since: Timestamp, now: Timestamp) -> Option<Duration> {
    match stay(taints, tolerations) {
        Stay::Forever => None,
        Stay::No => Some(Duration::ZERO),
        Stay::For(time) => {
            let passed = now.duration_since(since).max(SignedDuration::ZERO);
            Some(Duration::try_from(time - passed).unwrap_or_default())
        }
    }
}

/// When the taints began to drive pods away, if they say so.
fn began(taints: &[Taint], now: Timestamp) -> Timestamp {
    let driving = taints.iter().filter(|taint| taint.effect == NO_EXECUTE);
    driving.filter_map(|taint| taint.time_added).max().map_or(now, |added| added.min(now))
}

/// Begins to let pods go.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("taint_eviction");
    let add = Arc::clone(&queue);
    context.pods.on_change(move |change| {
        let placed = |pod: &crate::model::Pod| !pod.spec.node_name.is_empty();
        let fresh = change.new.as_ref().filter(|pod| placed(pod));
        let known =
            change.old.as_ref().is_some_and(|old| placed(old) && change.new.as_ref().is_some_and(|new| new.spec == old.spec));
        match fresh {
            Some(pod) if !known => add.add(pod.metadata.key()),
            Some(_) => {}
            None => add.add(change.key.clone()),
        }
    });
    let (all, add) = (Arc::clone(context), Arc::clone(&queue));
    context.nodes.on_change(move |change| {
        let taints = |node: Option<&Arc<crate::node_lifecycle::Node>>| {
            let taints = node.into_iter().flat_map(|node| &node.spec.taints);
            taints.filter(|taint| taint.effect == NO_EXECUTE).cloned().collect::<Vec<_>>()
        };
        if taints(change.old.as_ref()) != taints(change.new.as_ref()) {
            all.pods_on(&change.key.name).iter().for_each(|pod| add.add(pod.metadata.key()));
        }
    });
    let (context, since) = (Arc::clone(context), Since::default());
    Box::pin(async move {
        run::run(queue, "taint_eviction", cancel, move |key| reconcile(Arc::clone(&context), Arc::clone(&since), key)).await;
    })
}

async fn reconcile(context: Arc<Context>, since: Since, key: ObjectKey) -> Reconciled {
    let Some(pod) = context.pods.get(&key.namespace, &key.name).filter(|pod| !pod.metadata.is_deleted()) else {
        // UIDs of pods that are gone say nothing any more.
        let mut since = since.lock();
        let now = Timestamp::now();
        since.retain(|_, at| now.duration_since(*at) < SignedDuration::from_hours(24));
        return Ok(None);
    };
    let Some(node) = context.nodes.get("", &pod.spec.node_name) else { return Ok(None) };
    let (meta, now) = (&pod.metadata, Timestamp::now());
    let taints = &node.spec.taints;
    let object = reference(meta, PODS);
    let tell = |what: &str| {
        let message = format!("{what} {}/{}", meta.namespace, meta.name);
        context.recorder.event(&object, EventType::Normal, "TaintManagerEviction", message);
    };
    let began = *since.lock().entry(meta.uid.clone()).or_insert_with(|| began(taints, now));
    match left(taints, &pod.spec.tolerations, began, now) {
        None => {
            since.lock().remove(&meta.uid);
            // Only what was to go can be told that it stays.
            let waited =
                taints.iter().all(|taint| taint.effect != NO_EXECUTE) && now.duration_since(began) > SignedDuration::ZERO;
            if waited {
                tell("Cancelling deletion of Pod");
            }
            Ok(None)
        }
        Some(left) if left.is_zero() => {
            tell("Marking for deletion Pod");
            let message = "Taint manager: deleting due to NoExecute taint";
            disruption_target::mark(&context, &pod, "DeletionByTaintManager", message, false).await?;
            gone(context.client().delete(PODS, &key.namespace, &key.name, &DeleteOptions::with_uid(&meta.uid)).await)?;
            since.lock().remove(&meta.uid);
            Ok(None)
        }
        left => Ok(left),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pods_leave_after_the_time_that_they_tolerate() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let taint = |added| Taint { time_added: added, ..Taint::new("k", NO_EXECUTE) };
        let timed = [Toleration { toleration_seconds: Some(300), ..Toleration::exists("k", NO_EXECUTE) }];
        let taints = [taint(Some(at(100)))];
        assert_eq!(began(&taints, at(150)), at(100));
        assert_eq!(began(&[taint(None)], at(150)), at(150));
        assert_eq!(left(&taints, &[], at(100), at(100)), Some(Duration::ZERO));
        assert_eq!(left(&taints, &timed, at(100), at(150)), Some(Duration::from_secs(250)));
        assert_eq!(left(&taints, &timed, at(100), at(401)), Some(Duration::ZERO));
        assert_eq!(left(&taints, &[Toleration::exists("", "")], at(100), at(150)), None);
        assert_eq!(left(&[], &[], at(100), at(150)), None);
    }
}
