//! The status of a StatefulSet. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::StatefulSet;
use crate::{model::Pod, revisions::REVISION_HASH};

/// The status that the pods amount to.
pub fn status<'a>(
    set: &StatefulSet,
    pods: impl Iterator<Item = &'a Pod>,
    (current, update): (&str, &str),
    collisions: i64,
    now: Timestamp,
) -> Value {
    let (mut replicas, mut ready, mut available, mut old, mut new) = (0, 0, 0, 0, 0);
    for pod in pods {
        replicas += 1;
        if pod.status.phase == "Running" && pod.is_ready() {
            ready += 1;
            available += i64::from(pod.is_available(set.spec.min_ready_seconds, now));
        }
        if !pod.metadata.is_deleted() {
            let revision = pod.metadata.label(REVISION_HASH);
            old += i64::from(revision == current);
            new += i64::from(revision == update);
        }
    }
    let wanted = set.spec.replicas;
    let rolling = set.spec.update_strategy["type"] == "RollingUpdate";
    let complete = rolling && new == wanted && ready == wanted && replicas == wanted;
    let (current, old) = if complete { (update, new) } else { (current, old) };
    let optional = |count: i64| if count > 0 { json!(count) } else { Value::Null };
    json!({
        "observedGeneration": set.metadata.generation,
        "replicas": replicas,
        "readyReplicas": optional(ready),
        "availableReplicas": available,
        "currentReplicas": optional(old),
        "updatedReplicas": optional(new),
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": collisions,
    })
}

/// Whether there is anything to write.
pub fn differs(have: &Value, want: &Value) -> bool {
    let Some(fields) = want.as_object() else { return true };
    let absent = |value: &Value| value.is_null() || *value == 0;
    fields.iter().any(|(name, value)| have[name] != *value && !(absent(&have[name]) && absent(value)))
}
