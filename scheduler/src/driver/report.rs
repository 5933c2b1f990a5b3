//! What a pod that fits nowhere is told, and what becomes of pods that go for it.

use std::sync::Arc;

use jiff::Timestamp;
use kontiki_api::resources::PODS;
use kontiki_client::{
    Client, DeleteOptions, Error, Patch,
    events::{EventType, ObjectReference, Recorder},
};
use serde_json::{Value, json};

use crate::{
    model::Pod,
    plugins::default_preemption::{self, Preemption},
};

/// The pod as events name it.
pub fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        field_path: String::new(),
    }
}

fn time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The status of a pod that fits nowhere, as a patch; `None` where it says so already. `nominated` is the node that
/// room is made on: `Some(None)` takes an earlier one back.
#[must_use]
pub fn unschedulable(pod: &Pod, message: &str, nominated: Option<Option<&str>>, now: Timestamp) -> Option<Value> {
    let before = pod.condition("PodScheduled").filter(|condition| condition.status == "False");
    let told = before.is_some_and(|condition| condition.reason == "Unschedulable" && condition.message == message);
    let nominated = nominated.filter(|node| node.unwrap_or_default() != pod.status.nominated_node_name);
    if told && nominated.is_none() {
        return None;
    }
    let since = before.and_then(|condition| condition.last_transition_time.clone()).unwrap_or_else(|| time(now));
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastProbeTime": null, "lastTransitionTime": since,
    });
    let mut patch = json!({ "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [condition] } });
    if let Some(node) = nominated {
        patch["status"]["nominatedNodeName"] = json!(node);
    }
    Some(patch)
}

/// Writes a status; a pod that is gone or is somebody else by now needs none.
pub async fn write(client: &Client, pod: &Pod, patch: Value) {
    if let Err(error) = patch_status(client, pod, patch).await
        && !error.is_not_found()
        && !error.is_conflict()
    {
        tracing::warn!(pod = pod.metadata.name, namespace = pod.metadata.namespace, %error, "cannot write the pod's status");
    }
}

async fn patch_status(client: &Client, pod: &Pod, patch: Value) -> Result<(), Error> {
    let meta = &pod.metadata;
    client.patch::<Value>(PODS, &meta.namespace, &meta.name, Some("status"), Patch::Strategic(patch)).await.map(drop)
}

/// Makes room: tells each victim why, and deletes it with the grace that it has.
pub async fn make_room(client: &Client, recorder: &Recorder, preemptor: &Arc<Pod>, preemption: &Preemption) {
    let scheduler = scheduler_of(preemptor);
    let evict = async |victim: &Arc<Pod>| {
        let meta = &victim.metadata;
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": default_preemption::REASON,
            "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": time(Timestamp::now()),
        });
        let patch = json!({ "metadata": { "uid": meta.uid }, "status": { "conditions": [condition] } });
        patch_status(client, victim, patch).await?;
        client.delete(PODS, &meta.namespace, &meta.name, &DeleteOptions::with_uid(&meta.uid)).await
    };
    for victim in preemption.victims.iter().filter(|victim| victim.metadata.deletion_timestamp.is_none()) {
        match evict(victim).await {
            Ok(()) => {
                let message = format!("Preempted by pod {} on node {}", preemptor.metadata.uid, preemption.node);
                recorder.event(&reference(victim), EventType::Normal, "Preempted", message);
            }
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => tracing::warn!(pod = victim.metadata.name, %error, "cannot evict a pod for one of higher priority"),
        }
    }
}

/// Name of the scheduler that a pod asks for.
#[must_use]
pub fn scheduler_of(pod: &Pod) -> &str {
    if pod.spec.scheduler_name.is_empty() { "default-scheduler" } else { &pod.spec.scheduler_name }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::cycle::tests::pod;

    #[test]
    fn a_pod_is_told_once_and_since_when() {
        let fresh = pod("p", json!({}), json!({}));
        let patch = unschedulable(&fresh, "no", Some(Some("n")), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(patch["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        assert_eq!(patch["status"]["nominatedNodeName"], "n");
        let mut told = (*fresh).clone();
        told.status.conditions = serde_json::from_value(json!([{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no", "lastTransitionTime": "then",
        }]))
        .unwrap();
        assert_eq!(unschedulable(&told, "no", None, Timestamp::UNIX_EPOCH), None);
        assert_eq!(unschedulable(&told, "no", Some(None), Timestamp::UNIX_EPOCH), None);
        let other = unschedulable(&told, "other", None, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(other["status"]["conditions"][0]["lastTransitionTime"], "then");
        told.status.nominated_node_name = "n".into();
        let taken_back = unschedulable(&told, "no", Some(None), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(taken_back["status"].get("nominatedNodeName"), Some(&Value::Null));
    }
}
