//! One line about a pod, as `kubectl get pods` shows it.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    duration,
    kinds::common::{AGE, NAME, age, column, items, name},
    object::text,
    strategy::Column,
};

pub const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", 0, "Containers that are ready, of all."),
    column("Status", "string", 0, "Where the pod is in its life."),
    column("Restarts", "string", 0, "How often containers were restarted."),
    AGE,
    column("IP", "string", 1, "Address of the pod."),
    column("Node", "string", 1, "Node that it runs on."),
    column("Nominated Node", "string", 1, "Node that is being cleared for it."),
    column("Readiness Gates", "string", 1, "Gates that are open, of all."),
];

pub fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let none = |value: &str| json!(if value.is_empty() { "<none>" } else { value });
    let statuses: Vec<_> = items(pod, "/status/containerStatuses").collect();
    let ready = statuses.iter().filter(|status| status["ready"] == true).count();
    let restartable = items(pod, "/spec/initContainers").filter(|container| container["restartPolicy"] == "Always").count();
    vec![
        name(pod),
        json!(format!("{ready}/{}", items(pod, "/spec/containers").count() + restartable)),
        json!(status(pod)),
        json!(restarts(pod, now)),
        age(pod, now),
        none(text(pod, "/status/podIP")),
        none(text(pod, "/spec/nodeName")),
        none(text(pod, "/status/nominatedNodeName")),
        json!("<none>"),
    ]
}

/// The pod's phase, or what a container is waiting for or ended with.
fn status(pod: &Value) -> String {
    let mut reason = [text(pod, "/status/reason"), text(pod, "/status/phase")]
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_default()
        .to_owned();
    let conditions = || items(pod, "/status/conditions");
    if conditions().any(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated") {
        reason = "SchedulingGated".into();
    }
    let initializing = initializing(pod);
    if let Some(text) = &initializing {
        reason.clone_from(text);
    } else {
        let mut running = false;
        for status in items(pod, "/status/containerStatuses").collect::<Vec<_>>().into_iter().rev() {
            let (waiting, terminated) = (text(status, "/state/waiting/reason"), text(status, "/state/terminated/reason"));
            if !waiting.is_empty() {
                reason = waiting.to_owned();
            } else if status.pointer("/state/terminated").is_some() {
                reason = terminated_text(status, terminated);
            } else if status["ready"] == true && status.pointer("/state/running").is_some() {
                running = true;
            }
        }
        if reason == "Completed" && running {
            let ready = conditions().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            reason = if ready { "Running" } else { "NotReady" }.into();
        }
    }
    let deleting = pod.pointer("/metadata/deletionTimestamp").is_some();
    match text(pod, "/status/reason") {
        "NodeLost" if deleting => "Unknown".into(),
        _ if deleting && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") => "Terminating".into(),
        _ => reason,
    }
}

fn terminated_text(status: &Value, reason: &str) -> String {
    let number = |field: &str| status.pointer(&format!("/state/terminated/{field}")).and_then(Value::as_i64).unwrap_or(0);
    match (reason.is_empty(), number("signal")) {
        (false, _) => reason.to_owned(),
        (true, 0) => format!("ExitCode:{}", number("exitCode")),
        (true, signal) => format!("Signal:{signal}"),
    }
}

fn initializing(pod: &Value) -> Option<String> {
    let total = items(pod, "/spec/initContainers").count();
    for (index, status) in items(pod, "/status/initContainerStatuses").enumerate() {
        let terminated = status.pointer("/state/terminated");
        if terminated.is_some_and(|state| state["exitCode"] == 0)
            || status["started"] == true && status.pointer("/state/running").is_some()
        {
            continue;
        }
        let waiting = text(status, "/state/waiting/reason");
        return Some(match terminated {
            Some(_) => format!("Init:{}", terminated_text(status, text(status, "/state/terminated/reason"))),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{index}/{total}"),
        });
    }
    None
}

fn restarts(pod: &Value, now: Timestamp) -> String {
    let statuses = || items(pod, "/status/containerStatuses");
    let count: i64 = statuses().filter_map(|status| status["restartCount"].as_i64()).sum();
    let last = statuses().map(|status| text(status, "/lastState/terminated/finishedAt")).max().unwrap_or_default();
    if count == 0 || last.is_empty() {
        return count.to_string();
    }
    format!("{count} ({} ago)", duration::since(last, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_column_says_what_the_pod_waits_for() {
        let waiting =
            |reason: &str| json!({"containerStatuses": [{"state": {"waiting": {"reason": reason}}}], "phase": "Pending"});
        for (pod, expected) in [
            (json!({"status": {"phase": "Pending"}}), "Pending"),
            (json!({"status": waiting("ImagePullBackOff")}), "ImagePullBackOff"),
            (json!({"status": waiting("CrashLoopBackOff"), "metadata": {"deletionTimestamp": "x"}}), "Terminating"),
            (
                json!({"status": {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}}),
                "Completed",
            ),
            (
                json!({"spec": {"initContainers": [{}, {}]}, "status": {"phase": "Pending", "initContainerStatuses": [
                    {"state": {"terminated": {"exitCode": 0}}}, {"state": {"running": {}}}]}}),
                "Init:1/2",
            ),
        ] {
            assert_eq!(status(&pod), expected, "{pod}");
        }
    }

    #[test]
    fn restarts_tell_when_the_last_one_was() {
        let now = "2026-01-01T00:05:00Z".parse().unwrap_or_default();
        let pod = json!({"status": {"containerStatuses": [{"restartCount": 2, "lastState": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z"}}}]}});
        assert_eq!(restarts(&pod, now), "2 (5m ago)");
    }
}
