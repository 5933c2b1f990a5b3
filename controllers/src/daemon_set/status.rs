//! The status of a DaemonSet. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::plan::Observed;
use crate::revisions::REVISION_HASH;

/// Numbers of the status.
const COUNTS: [&str; 7] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
];

/// The status that the pods amount to, and when it may change by time alone.
pub fn status(seen: &Observed<'_>, collisions: i64, now: Timestamp) -> (Value, Option<Duration>) {
    let (mut current, mut misplaced, mut desired, mut ready, mut updated, mut available) = (0, 0, 0, 0, 0, 0);
    let mut again = None;
    for (node, suits) in seen.nodes {
        let pods = seen.pods.get(node).map_or(&[][..], Vec::as_slice);
        // The oldest speaks for the node.
        let first = pods.iter().min_by_key(|pod| (pod.spec.node_name.is_empty(), pod.metadata.creation_timestamp));
        if !suits.start {
            misplaced += i64::from(first.is_some());
            continue;
        }
        desired += 1;
        let Some(pod) = first else { continue };
        current += 1;
        ready += i64::from(pod.is_ready());
        let seconds = seen.set.spec.min_ready_seconds;
        available += i64::from(pod.is_available(seconds, now));
        again = again.into_iter().chain(pod.available_in(seconds, now)).min();
        updated += i64::from(pod.metadata.label(REVISION_HASH) == seen.hash);
    }
    let counts = [current, misplaced, desired, ready, updated, available, desired - available];
    let mut status = json!({ "observedGeneration": seen.set.metadata.generation });
    for (name, count) in COUNTS.into_iter().zip(counts) {
        // The first four are always written, the others where they are something.
        let always = ["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"].contains(&name);
        status[name] = if always || count > 0 { json!(count) } else { Value::Null };
    }
    status["collisionCount"] = if collisions > 0 { json!(collisions) } else { Value::Null };
    (status, again.map(Duration::from_secs))
}

/// Whether there is anything to write.
pub fn differs(have: &Value, want: &Value) -> bool {
    let names = COUNTS.into_iter().chain(["observedGeneration", "collisionCount"]);
    let number = |status: &Value, name: &str| status[name].as_i64().unwrap_or(0);
    let absent = have.get("desiredNumberScheduled").is_none();
    absent || names.into_iter().any(|name| number(have, name) != number(want, name))
}
