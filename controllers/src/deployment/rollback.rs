//! Automatic rollback, for a Deployment that asks for it by an annotation: when its rollout fails, it goes back to the
//! last template with which it was whole. Pure but for [`act`].
//!
//! A ReplicaSet that once made the Deployment whole is marked as good. Only a rollout of one that is not good is ever
//! undone, and only to one that is: what was undone is not undone again, so nothing flaps. A person's edit makes a new
//! rollout, whatever was before; an edit that was not seen when the rollback was decided makes it fail.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use kontiki_api::resources::{DEPLOYMENTS, REPLICA_SETS};
use kontiki_client::{Error, Patch, events::EventType};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde_json::{Value, json};

use super::{HASH, revision, rolling::Bounds};
use crate::{
    context::{self, Context},
    model::{Condition, Pod, Workload},
    pod_control::Owner,
    run::gone,
};

/// Annotation by which a Deployment asks for it.
const ASKED: &str = "kontiki.io/rollback-on-failure";
/// Annotation of a ReplicaSet that once made its Deployment whole.
const GOOD: &str = "kontiki.io/good-revision";
/// Condition of a Deployment that was rolled back.
pub const CONDITION: &str = "RolledBack";
/// So often a container has to crash.
const RESTARTS: i64 = 3;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    reason: String,
}

static ROLLBACKS: LazyLock<Family<Labels, Counter>> = LazyLock::new(Family::default);

/// Makes the counter part of a process's `/metrics`.
pub fn register(registry: &mut Registry) {
    registry.register("kontiki_deployment_rollbacks", "Deployments that were rolled back by themselves", ROLLBACKS.clone());
}

/// Whether a ReplicaSet once made its Deployment whole.
pub fn is_good(set: &Workload) -> bool {
    set.metadata.annotation(GOOD) == "true"
}

/// What is due.
#[derive(Clone, Debug, PartialEq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// The present ReplicaSet is good from now on.
    Mark,
    /// Back to this ReplicaSet, for this reason in one word and in many.
    Back(Arc<Workload>, &'static str, String),
}

/// Decides. `pods` are those of the present ReplicaSet; `status` is the Deployment's as it is to be.
pub fn due(deployment: &Workload, new: Option<&Workload>, old: &[Arc<Workload>], pods: &[Arc<Pod>], bounds: Bounds) -> Due {
    let Some(new) = new.filter(|_| deployment.metadata.annotation(ASKED) == "true" && !deployment.spec.paused) else {
        return Due::Nothing;
    };
    if is_good(new) || deployment.count("observedGeneration") != deployment.metadata.generation {
        return Due::Nothing;
    }
    let whole = ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|name| deployment.count(name) == bounds.replicas);
    if whole && bounds.replicas > 0 {
        return Due::Mark;
    }
    let conditions = deployment.conditions();
    let late = conditions.iter().any(|condition| condition.reason == "ProgressDeadlineExceeded");
    let crashes = |pod: &&Arc<Pod>| {
        let statuses = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
        statuses.into_iter().any(|status| {
            let waits = status.state.waiting.as_ref().is_some_and(|waiting| waiting.reason == "CrashLoopBackOff");
            waits && status.restart_count >= RESTARTS
        })
    };
    let name = &new.metadata.name;
    let (reason, words) = if late {
        ("ProgressDeadlineExceeded", format!("replica set \"{name}\" missed its progress deadline"))
    } else if let Some(pod) = pods.iter().find(crashes) {
        ("CrashLoopBackOff", format!("pod \"{}\" of replica set \"{name}\" crashes again and again", pod.metadata.name))
    } else {
        return Due::Nothing;
    };
    match old.iter().filter(|set| is_good(set)).max_by_key(|set| revision(set)) {
        Some(good) => Due::Back(Arc::clone(good), reason, words),
        None => Due::Nothing,
    }
}

/// Does what is due for a Deployment.
pub async fn act(
    context: &Context,
    deployment: &Workload,
    new: Option<&Arc<Workload>>,
    old: &[Arc<Workload>],
    bounds: Bounds,
) -> Result<(), Error> {
    let pods = new.map(|new| context::owned(&context.pods, &new.metadata)).unwrap_or_default();
    match (due(deployment, new.map(AsRef::as_ref), old, &pods, bounds), new) {
        (Due::Mark, Some(new)) => {
            let meta = &new.metadata;
            let patch = Patch::Merge(json!({ "metadata": { "uid": meta.uid, "annotations": { GOOD: "true" } } }));
            gone(context.client().patch::<Value>(REPLICA_SETS, &meta.namespace, &meta.name, None, patch).await.map(drop))
        }
        (Due::Back(good, reason, words), Some(new)) => back(context, deployment, new, &good, reason, &words).await,
        _ => Ok(()),
    }
}

async fn back(
    context: &Context,
    deployment: &Workload,
    new: &Workload,
    good: &Workload,
    reason: &'static str,
    words: &str,
) -> Result<(), Error> {
    let meta = &deployment.metadata;
    let mut template = good.spec.template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    // Whoever edits at the same time wins: the version is that which was judged.
    let patch = json!([
        { "op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version },
        { "op": "replace", "path": "/spec/template", "value": template },
    ]);
    let client = context.client();
    let changed: Workload = match client.patch(DEPLOYMENTS, &meta.namespace, &meta.name, None, Patch::Json(patch)).await {
        Ok(changed) => changed,
        Err(error) => {
            tracing::debug!(deployment = meta.name, %error, "not rolled back: it has changed");
            return gone(Err(error));
        }
    };
    let message = format!("Rolled back from revision {} to revision {}: {words}", revision(new), revision(good));
    ROLLBACKS.get_or_create(&Labels { reason: reason.to_owned() }).inc();
    context.recorder.event(&Owner { key: DEPLOYMENTS, meta }.reference(), EventType::Warning, "RolledBack", message.clone());
    let mut conditions = changed.conditions();
    Condition::set(&mut conditions, CONDITION, "True", reason, message, Timestamp::now());
    let version = &changed.metadata.resource_version;
    let patch = Patch::Merge(json!({ "metadata": { "resourceVersion": version }, "status": { "conditions": conditions } }));
    gone(client.patch::<Value>(DEPLOYMENTS, &meta.namespace, &meta.name, Some("status"), patch).await.map(drop))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BOUNDS: Bounds = Bounds { replicas: 2, surge: 1, unavailable: 0 };

    fn deployment(asked: bool, reason: &str, available: i64) -> Workload {
        let status = json!({
            "observedGeneration": 4, "replicas": 2, "updatedReplicas": 2, "availableReplicas": available,
            "conditions": [{"type": "Progressing", "status": "True", "reason": reason}],
        });
        let annotations = json!({ASKED: asked.to_string()});
        serde_json::from_value(json!({"metadata": {"name": "web", "generation": 4, "annotations": annotations}, "spec": {"replicas": 2}, "status": status})).unwrap()
    }

    fn set(name: &str, number: i64, good: bool) -> Arc<Workload> {
        let annotations = json!({"deployment.kubernetes.io/revision": number.to_string(), GOOD: good.to_string()});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "annotations": annotations}})).unwrap())
    }

    fn crashing(restarts: i64) -> Vec<Arc<Pod>> {
        let status = json!({"restartCount": restarts, "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
        vec![Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [status]}})).unwrap(),
        )]
    }

    fn decide(deployment: &Workload, new: &Workload, old: &[Arc<Workload>], pods: &[Arc<Pod>]) -> String {
        match due(deployment, Some(new), old, pods, BOUNDS) {
            Due::Nothing => "nothing".into(),
            Due::Mark => "mark".into(),
            Due::Back(set, reason, _) => format!("{} {reason}", set.metadata.name),
        }
    }

    #[test]
    fn a_failed_rollout_goes_back_to_the_last_good_revision() {
        let (fresh, good) = (set("c", 3, false), set("c", 3, true));
        let old = [set("a", 1, true), set("b", 2, true), set("x", 9, false)];
        let (late, slow) = ("ProgressDeadlineExceeded", "ReplicaSetUpdated");
        let cases = [
            (deployment(true, late, 1), &fresh, &old[..], vec![], "b ProgressDeadlineExceeded"),
            (deployment(true, slow, 1), &fresh, &old[..], crashing(3), "b CrashLoopBackOff"),
            (deployment(true, slow, 1), &fresh, &old[..], crashing(2), "nothing"),
            (deployment(false, late, 1), &fresh, &old[..], vec![], "nothing"),
            (deployment(true, late, 1), &fresh, &[], vec![], "nothing"),
            (deployment(true, late, 1), &fresh, &old[2..], vec![], "nothing"),
            (deployment(true, slow, 2), &fresh, &old[..], vec![], "mark"),
        ];
        for (deployment, new, old, pods, wanted) in cases {
            assert_eq!(decide(&deployment, new, old, &pods), wanted);
        }
        // What was gone back to is not left again, whatever happens to it.
        assert_eq!(decide(&deployment(true, late, 0), &good, &old, &crashing(9)), "nothing");
    }

    #[test]
    fn an_edit_that_was_not_looked_at_yet_is_not_judged() {
        let mut edited = deployment(true, "ProgressDeadlineExceeded", 1);
        edited.metadata.generation = 5;
        assert_eq!(decide(&edited, &set("c", 3, false), &[set("a", 1, true)], &[]), "nothing");
        edited.metadata.generation = 4;
        edited.spec.paused = true;
        assert_eq!(decide(&edited, &set("c", 3, false), &[set("a", 1, true)], &[]), "nothing");
    }
}
