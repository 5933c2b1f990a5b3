//! Whether a node is silent, and which conditions and taints follow. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Lease, Node};
use crate::{
    model::{Condition, second},
    taints::{NO_EXECUTE, NO_SCHEDULE, Taint},
};

/// Taint of a node that says that it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Taint of a node that says nothing.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Taint of a node that takes no pods.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions of a node that nobody keeps up when it is silent.
const KEPT_BY_KUBELET: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Conditions that keep pods away, and their taints.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// A node's last sign of life. Its own clock may be wrong: what counts is when a new sign was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    renewed: Option<Timestamp>,
    heartbeat: Option<Timestamp>,
    seen_at: Timestamp,
}

impl Sign {
    /// The sign after a look at the node and its Lease.
    pub fn after(before: Option<Self>, node: &Node, lease: Option<&Lease>, now: Timestamp) -> Self {
        let renewed = lease.and_then(|lease| lease.spec.renew_time);
        let heartbeat = node.condition("Ready").and_then(|ready| ready.last_heartbeat_time);
        match before {
            Some(before) if before.renewed == renewed && before.heartbeat == heartbeat => before,
            _ => Self { renewed, heartbeat, seen_at: now },
        }
    }

    /// How long the node may still be silent; `None` if it has been for too long.
    pub fn patience(&self, grace: Duration, now: Timestamp) -> Option<Duration> {
        let grace = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
        let left = grace.checked_sub(now.duration_since(self.seen_at))?;
        Duration::try_from(left).ok().filter(|left| !left.is_zero())
    }
}

/// Conditions of a silent node; `None` where they say so already.
pub fn unknown(node: &Node, now: Timestamp) -> Option<Vec<Condition>> {
    let mut conditions = node.status.conditions.clone();
    for kind in KEPT_BY_KUBELET {
        match conditions.iter_mut().find(|condition| condition.r#type == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".to_owned();
                condition.reason = "NodeStatusUnknown".to_owned();
                condition.message = "Kubelet stopped posting node status.".to_owned();
                condition.last_transition_time = Some(second(now));
            }
            None => conditions.push(Condition {
                r#type: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: "NodeStatusNeverUpdated".to_owned(),
                message: "Kubelet never posted node status.".to_owned(),
                last_heartbeat_time: node.metadata.creation_timestamp,
                last_transition_time: Some(second(now)),
                ..Condition::default()
            }),
        }
    }
    (conditions != node.status.conditions).then_some(conditions)
}

/// The taints that a node ought to have, in place of those that are ours; `None` where it has them. `drive_away` says
/// whether the node may be given a taint that drives pods away; one that it has stays while its reason does.
pub fn taints(node: &Node, drive_away: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let ready = node.condition("Ready").map_or("Unknown", |ready| ready.status.as_str());
    let unready = match ready {
        "True" => None,
        "Unknown" => Some(UNREACHABLE),
        _ => Some(NOT_READY),
    };
    let mut wanted: Vec<Taint> = unready.map(|key| Taint::new(key, NO_SCHEDULE)).into_iter().collect();
    for (kind, key) in PRESSURES {
        if node.condition(kind).is_some_and(|condition| condition.status == "True") {
            wanted.push(Taint::new(key, NO_SCHEDULE));
        }
    }
    if node.spec.unschedulable {
        wanted.push(Taint::new(UNSCHEDULABLE, NO_SCHEDULE));
    }
    if let Some(key) = unready {
        let has = node
            .spec
            .taints
            .iter()
            .any(|taint| taint.effect == NO_EXECUTE && [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()));
        if drive_away || has {
            wanted.push(Taint::new(key, NO_EXECUTE));
        }
    }
    let ours = |taint: &Taint| {
        let pressure = PRESSURES.iter().any(|(_, key)| taint.key == *key);
        let unready = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
        (taint.effect == NO_SCHEDULE && (pressure || unready || taint.key == UNSCHEDULABLE))
            || (taint.effect == NO_EXECUTE && unready)
    };
    let mut taints: Vec<_> = node.spec.taints.iter().filter(|taint| !ours(taint)).cloned().collect();
    for taint in wanted {
        let known = node.spec.taints.iter().find(|known| known.is_like(&taint)).cloned();
        taints.push(known.unwrap_or(Taint { time_added: Some(second(now)), ..taint }));
    }
    let same = taints.len() == node.spec.taints.len() && taints.iter().all(|taint| node.spec.taints.contains(taint));
    (!same).then_some(taints)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn node(ready: &str, spec: Value) -> Node {
        let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
        serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": spec, "status": status})).unwrap()
    }

    fn keys(taints: Option<Vec<Taint>>) -> Vec<String> {
        taints.unwrap().into_iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
    }

    #[test]
    fn a_node_is_silent_when_no_new_sign_was_seen() {
        let lease = |second| Lease { spec: super::super::LeaseSpec { renew_time: Some(at(second)) }, ..Lease::default() };
        let node = node("True", json!({}));
        let grace = Duration::from_secs(50);
        let first = Sign::after(None, &node, Some(&lease(5)), at(100));
        assert_eq!(first.patience(grace, at(110)), Some(Duration::from_secs(40)), "its clock may be wrong");
        let same = Sign::after(Some(first), &node, Some(&lease(5)), at(140));
        assert_eq!(same.patience(grace, at(150)), None);
        assert!(Sign::after(Some(same), &node, Some(&lease(15)), at(150)).patience(grace, at(150)).is_some());
    }

    #[test]
    fn a_silent_node_is_unknown_in_all_that_it_keeps() {
        let conditions = unknown(&node("True", json!({})), at(1)).unwrap();
        let reasons: Vec<_> = conditions.iter().map(|condition| condition.reason.as_str()).collect();
        assert_eq!(reasons, ["NodeStatusUnknown", "NodeStatusNeverUpdated", "NodeStatusNeverUpdated", "NodeStatusNeverUpdated"]);
        let mut silent = node("Unknown", json!({}));
        silent.status.conditions = conditions;
        assert_eq!(unknown(&silent, at(9)), None);
    }

    #[test]
    fn taints_follow_conditions() {
        let unreachable = ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"];
        assert_eq!(keys(taints(&node("Unknown", json!({})), true, at(1))), unreachable);
        assert_eq!(keys(taints(&node("Unknown", json!({})), false, at(1))), unreachable[..1]);
        let cordoned = node("True", json!({"unschedulable": true}));
        assert_eq!(keys(taints(&cordoned, true, at(1))), ["node.kubernetes.io/unschedulable:NoSchedule"]);
        let mut full = node("True", json!({}));
        full.status.conditions.push(Condition { r#type: "DiskPressure".into(), status: "True".into(), ..Condition::default() });
        assert_eq!(keys(taints(&full, true, at(1))), ["node.kubernetes.io/disk-pressure:NoSchedule"]);
    }

    #[test]
    fn a_node_that_is_back_loses_our_taints_alone() {
        let mine = json!([{"key": NOT_READY, "effect": "NoSchedule"}, {"key": "gpu", "effect": "NoSchedule"}]);
        assert_eq!(keys(taints(&node("True", json!({"taints": mine})), true, at(1))), ["gpu:NoSchedule"]);
        assert_eq!(taints(&node("True", json!({"taints": [{"key": "gpu", "effect": "NoExecute"}]})), true, at(1)), None);
        let old = json!([{"key": NOT_READY, "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoExecute"}]);
        assert_eq!(keys(taints(&node("Unknown", json!({"taints": old})), false, at(1))), unreachable_pair());
    }

    fn unreachable_pair() -> [&'static str; 2] {
        ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]
    }
}
