//! A DaemonSet's plans and status as tables.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::{placement::Suits, plan::*, status::status, *};

const READY: &str = "2026-01-01T00:00:00Z";

fn set(strategy: Value) -> DaemonSet {
    serde_json::from_value(json!({"metadata": {"name": "ds", "uid": "ds"}, "spec": {"updateStrategy": strategy}})).unwrap()
}

fn rolling(rolling: Value) -> DaemonSet {
    set(json!({"type": "RollingUpdate", "rollingUpdate": rolling}))
}

/// `name@node:hash` and marks: `+` ready, `!` failed, `-` being deleted, `?` not bound yet.
fn pod(text: &str) -> Arc<Pod> {
    let (name, rest) = text.split_once('@').unwrap();
    let marks = rest.trim_start_matches(|letter: char| letter.is_alphanumeric() || letter == ':');
    let (node, hash) = rest[..rest.len() - marks.len()].split_once(':').unwrap();
    let has = |mark: char| marks.contains(mark);
    let mut pod = json!({
        "metadata": {"name": name, "uid": name, "labels": {REVISION_HASH: hash}},
        "spec": {"nodeName": node},
        "status": {
            "phase": if has('!') { "Failed" } else { "Running" },
            "conditions": [{"type": "Ready", "status": if has('+') { "True" } else { "False" }, "lastTransitionTime": READY}],
        },
    });
    if has('-') {
        pod["metadata"]["deletionTimestamp"] = json!(READY);
    }
    if has('?') {
        placement::aim(&mut pod, node);
        pod["spec"]["nodeName"] = json!("");
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn nodes(names: &str) -> BTreeMap<String, Suits> {
    let suits = |name: &str| match name.strip_suffix('x') {
        Some(name) => (name.to_owned(), Suits { start: false, stay: false }),
        None => (name.to_owned(), Suits { start: true, stay: true }),
    };
    names.split(' ').map(suits).collect()
}

fn pods(texts: &str) -> ByNode {
    by_node(texts.split(' ').filter(|text| !text.is_empty()).map(pod).collect())
}

fn now() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().unwrap()
}

fn show(plan: &Plan) -> String {
    let delete: Vec<_> = plan.delete.iter().map(|pod| pod.metadata.name.as_str()).collect();
    format!("+{} -{}", plan.create.join(","), delete.join(","))
}

#[test]
fn each_node_that_suits_has_one_pod() {
    let cases = [
        ("a b", "", "+a,b -"),
        ("a b", "p@a:1+", "+b -"),
        ("a bx", "p@a:1+ q@b:1+", "+ -q"),
        ("a", "p@a:1+ q@a:1+", "+ -q"),
        ("a", "p@a:1!", "+ -p"),
        ("a", "p@a:1-", "+ -"),
        ("a", "p@a:1+ q@z:1?", "+ -q"),
        ("a", "p@a:1+ q@z:1", "+ -"),
    ];
    for (names, existing, wanted) in cases {
        let (set, nodes, pods) = (rolling(json!({})), nodes(names), pods(existing));
        let seen = Observed { set: &set, nodes: &nodes, pods: &pods, hash: "1" };
        assert_eq!(show(&manage(&seen, now(), |_| None)), wanted, "{names} | {existing}");
    }
}

#[test]
fn a_failed_pod_is_left_for_a_while_when_it_fails_again() {
    let (set, nodes, pods) = (rolling(json!({})), nodes("a"), pods("p@a:1!"));
    let seen = Observed { set: &set, nodes: &nodes, pods: &pods, hash: "1" };
    let plan = manage(&seen, now(), |_| Some(Duration::from_secs(4)));
    assert_eq!((show(&plan), plan.again), ("+ -".to_owned(), Some(Duration::from_secs(4))));
    let failures = Failures::default();
    assert_eq!(failures.patience("ds", "a", now()), None);
    failures.note("ds", "a", now());
    failures.note("ds", "a", now());
    assert_eq!(failures.patience("ds", "a", now()), Some(Duration::from_secs(2)));
}

#[test]
fn updates_stay_within_their_bounds() {
    let one = json!({"maxUnavailable": 1});
    let surge = json!({"maxSurge": 1, "maxUnavailable": 0});
    let cases = [
        (&one, "a b c", "p@a:0+ q@b:0+ r@c:0+", "+ -p"),
        (&one, "a b c", "p@a:1 q@b:0+ r@c:0+", "+ -"),
        (&one, "a b c", "p@a:1+ q@b:0+ r@c:0+", "+ -q"),
        (&one, "a b", "p@a:0 q@b:0+", "+ -p"),
        (&one, "a b", "p@a:1- q@b:0+", "+ -"),
        (&surge, "a b", "p@a:0+ q@b:0+", "+a -"),
        (&surge, "a b", "p@a:0+ n@a:1 q@b:0+", "+ -"),
        (&surge, "a b", "p@a:0+ n@a:1+ q@b:0+", "+b -p"),
        (&surge, "a b", "p@a:0 q@b:0+", "+a,b -"),
    ];
    for (strategy, names, existing, wanted) in cases {
        let (set, nodes, pods) = (rolling(strategy.clone()), nodes(names), pods(existing));
        let seen = Observed { set: &set, nodes: &nodes, pods: &pods, hash: "1" };
        assert_eq!(show(&roll(&seen, now())), wanted, "{strategy} {names} | {existing}");
    }
    let (set, nodes, pods) = (set(json!({"type": "OnDelete"})), nodes("a"), pods("p@a:0+"));
    assert_eq!(show(&roll(&Observed { set: &set, nodes: &nodes, pods: &pods, hash: "1" }, now())), "+ -");
}

#[test]
fn the_status_counts_nodes() {
    let (set, nodes, pods) = (rolling(json!({})), nodes("a b c dx"), pods("p@a:1+ q@b:0 r@d:1+"));
    let (found, _) = status(&Observed { set: &set, nodes: &nodes, pods: &pods, hash: "1" }, 0, now());
    let count = |name: &str| found[name].as_i64();
    assert_eq!((count("desiredNumberScheduled"), count("currentNumberScheduled")), (Some(3), Some(2)));
    assert_eq!((count("numberMisscheduled"), count("numberReady")), (Some(1), Some(1)));
    assert_eq!((count("updatedNumberScheduled"), count("numberUnavailable")), (Some(1), Some(2)));
    assert!(status::differs(&Value::Null, &found) && !status::differs(&found, &found));
}
