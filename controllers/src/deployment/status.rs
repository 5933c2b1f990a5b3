//! The status of a Deployment, which `kubectl rollout status` reads. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{rollback, rolling::Bounds};
use crate::model::{Condition, Workload, second};

/// A condition with its dates: unchanged where status and reason are.
fn dated(
    before: &[Condition],
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
    moved: bool,
) -> Condition {
    let now = Some(second(now));
    let old = before.iter().find(|condition| condition.r#type == kind);
    if let Some(old) = old.filter(|old| old.status == status && old.reason == reason && old.message == message && !moved) {
        return old.clone();
    }
    let since = old.filter(|old| old.status == status).map_or(now, |old| old.last_transition_time);
    Condition {
        r#type: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since,
        last_update_time: now,
        ..Condition::default()
    }
}

/// The status, and when the progress deadline passes.
pub fn build(
    deployment: &Workload,
    new: Option<&Workload>,
    sets: &[&Workload],
    bounds: Bounds,
    now: Timestamp,
) -> (Value, Option<Duration>) {
    let sum = |name: &str| sets.iter().map(|set| set.count(name)).sum::<i64>();
    let (replicas, ready, available) = (sum("replicas"), sum("readyReplicas"), sum("availableReplicas"));
    let wanted: i64 = sets.iter().map(|set| set.spec.replicas).sum();
    let updated = new.map_or(0, |new| new.count("replicas"));
    let optional = |count: i64| if count > 0 { json!(count) } else { Value::Null };
    let before = deployment.conditions();
    let least = bounds.replicas - bounds.unavailable;
    let mut found = vec![if available >= least {
        dated(&before, "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.".into(), now, false)
    } else {
        let message = "Deployment does not have minimum availability.".into();
        dated(&before, "Available", "False", "MinimumReplicasUnavailable", message, now, false)
    }];
    let was = |name: &str| deployment.status[name].as_i64().unwrap_or(0);
    let progressed = updated > was("updatedReplicas")
        || replicas - updated < was("replicas") - was("updatedReplicas")
        || ready > was("readyReplicas")
        || available > was("availableReplicas");
    let complete = updated == bounds.replicas && replicas == bounds.replicas && available == bounds.replicas;
    let (progress, again) = progress(deployment, new, &before, complete, progressed, now);
    found.extend(progress);
    // A ReplicaSet that cannot make its pods is why the Deployment has too few.
    let failing = new.into_iter().chain(sets.iter().copied()).find_map(|set| {
        set.conditions().into_iter().find(|condition| condition.r#type == "ReplicaFailure" && condition.status == "True")
    });
    if let Some(failing) = failing {
        found.push(dated(&before, "ReplicaFailure", "True", &failing.reason, failing.message, now, false));
    }
    let own = ["Available", "Progressing", "ReplicaFailure"];
    let others = before.iter().filter(|condition| !own.contains(&condition.r#type.as_str()));
    // A rollout that went well after one that did not is the news.
    let over = complete && new.is_some_and(|new| !rollback::is_good(new));
    found.extend(others.filter(|condition| !(over && condition.r#type == rollback::CONDITION)).cloned());
    let status = json!({
        "observedGeneration": deployment.metadata.generation,
        "replicas": optional(replicas),
        "updatedReplicas": optional(updated),
        "readyReplicas": optional(ready),
        "availableReplicas": optional(available),
        "unavailableReplicas": optional((wanted - available).max(0)),
        "terminatingReplicas": sum("terminatingReplicas"),
        "conditions": found,
    });
    (status, again)
}

fn progress(
    deployment: &Workload,
    new: Option<&Workload>,
    before: &[Condition],
    complete: bool,
    progressed: bool,
    now: Timestamp,
) -> (Option<Condition>, Option<Duration>) {
    let Some(deadline) = deployment.spec.progress_deadline_seconds.filter(|deadline| *deadline < i64::from(i32::MAX)) else {
        return (None, None);
    };
    let old = before.iter().find(|condition| condition.r#type == "Progressing");
    let what = new.map_or_else(
        || format!("Deployment \"{}\"", deployment.metadata.name),
        |new| format!("ReplicaSet \"{}\"", new.metadata.name),
    );
    let make = |status, reason, message, moved| Some(dated(before, "Progressing", status, reason, message, now, moved));
    if complete {
        return (make("True", "NewReplicaSetAvailable", format!("{what} has successfully progressed."), false), None);
    }
    if deployment.spec.paused {
        // A rollout that has failed stays one that has.
        if old.is_some_and(|old| old.reason == "ProgressDeadlineExceeded") {
            return (old.cloned(), None);
        }
        return (make("Unknown", "DeploymentPaused", "Deployment is paused".into(), false), None);
    }
    if old.is_some_and(|old| old.reason == "DeploymentPaused") {
        return (make("Unknown", "DeploymentResumed", "Deployment is resumed".into(), false), within(deadline));
    }
    let done = old.is_some_and(|old| old.reason == "NewReplicaSetAvailable");
    let same_rollout = new.is_some_and(|new| old.is_some_and(|old| old.message.contains(&format!("\"{}\"", new.metadata.name))));
    if done && same_rollout {
        // Pods that come and go after a rollout are no new rollout.
        return (old.cloned(), None);
    }
    if old.is_none() || (done && !same_rollout) {
        let (reason, words) = match new {
            // One that was there before was found, not made.
            Some(new) if new.metadata.annotations.contains_key(super::REVISION_HISTORY) => {
                ("FoundNewReplicaSet", format!("Found new replica set \"{}\"", new.metadata.name))
            }
            Some(new) => ("NewReplicaSetCreated", format!("Created new replica set \"{}\"", new.metadata.name)),
            None => ("ReplicaSetUpdated", format!("{what} is progressing.")),
        };
        return (make("True", reason, words, true), within(deadline));
    }
    if progressed {
        return (make("True", "ReplicaSetUpdated", format!("{what} is progressing."), true), within(deadline));
    }
    let since = old.and_then(|old| old.last_update_time).unwrap_or(now);
    let left = since.as_second() + deadline - now.as_second();
    if left <= 0 {
        return (make("False", "ProgressDeadlineExceeded", format!("{what} has timed out progressing."), false), None);
    }
    (old.cloned(), u64::try_from(left).ok().map(|left| Duration::from_secs(left + 1)))
}

fn within(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn deployment(status: Value) -> Workload {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "generation": 2},
            "spec": {"replicas": 3, "progressDeadlineSeconds": 600}, "status": status,
        }))
        .unwrap()
    }

    fn set(replicas: i64, available: i64) -> Workload {
        let status = json!({"replicas": replicas, "readyReplicas": available, "availableReplicas": available});
        serde_json::from_value(json!({"metadata": {"name": "web-x"}, "spec": {"replicas": 3}, "status": status})).unwrap()
    }

    const BOUNDS: Bounds = Bounds { replicas: 3, surge: 1, unavailable: 0 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_rollout_from_beginning_to_end() {
        let new = set(3, 1);
        let (status, _) = build(&deployment(Value::Null), Some(&new), &[&new], BOUNDS, at(10));
        assert_eq!(
            (status["conditions"][0]["status"].as_str(), status["unavailableReplicas"].as_i64()),
            (Some("False"), Some(2))
        );
        assert_eq!(status["conditions"][1]["reason"], "NewReplicaSetCreated");
        let new = set(3, 3);
        let (status, _) = build(&deployment(status), Some(&new), &[&new], BOUNDS, at(11));
        assert_eq!(status["conditions"][1]["message"], "ReplicaSet \"web-x\" has successfully progressed.");
        assert_eq!(status["observedGeneration"], 2);
        let (again, _) = build(&deployment(status.clone()), Some(&new), &[&new], BOUNDS, at(99));
        assert!(!crate::written::differs(&status, &again), "nothing changes by itself");
    }

    #[test]
    fn a_pause_is_told_and_a_deadline_waits_for_it() {
        let new = set(3, 0);
        let (status, _) = build(&deployment(Value::Null), Some(&new), &[&new], BOUNDS, at(0));
        let mut paused = deployment(status);
        paused.spec.paused = true;
        let (status, again) = build(&paused, Some(&new), &[&new], BOUNDS, at(601));
        assert_eq!((&status["conditions"][1]["reason"], again), (&json!("DeploymentPaused"), None));
        let (status, again) = build(&deployment(status), Some(&new), &[&new], BOUNDS, at(700));
        assert_eq!((&status["conditions"][1]["reason"], again), (&json!("DeploymentResumed"), Some(Duration::from_secs(600))));
    }

    #[test]
    fn a_set_that_cannot_make_pods_is_told() {
        let mut new = set(0, 0);
        new.status["conditions"] =
            json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}]);
        let (status, _) = build(&deployment(Value::Null), Some(&new), &[&new], BOUNDS, at(0));
        assert_eq!(
            (&status["conditions"][2]["type"], &status["conditions"][2]["message"]),
            (&json!("ReplicaFailure"), &json!("quota"))
        );
    }

    #[test]
    fn a_rollout_that_stands_still_misses_its_deadline() {
        let new = set(3, 0);
        let (status, again) = build(&deployment(Value::Null), Some(&new), &[&new], BOUNDS, at(0));
        assert_eq!(again, Some(Duration::from_secs(600)));
        let (status, again) = build(&deployment(status), Some(&new), &[&new], BOUNDS, at(100));
        assert_eq!(again, Some(Duration::from_secs(501)));
        let (status, _) = build(&deployment(status), Some(&new), &[&new], BOUNDS, at(601));
        assert_eq!(status["conditions"][1]["reason"], "ProgressDeadlineExceeded");
        assert_eq!(status["conditions"][1]["status"], "False");
    }
}
