//! One decision: the pod and the cluster in, a node or the reasons against all of them out. Pure.

use std::collections::BTreeMap;

use crate::{
    filters::{FILTERS, Refusal},
    model::Pod,
    scores,
    snapshot::Snapshot,
};

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The pod goes to this node.
    Node(String),
    /// It fits nowhere; the message is Kubernetes'.
    Unschedulable(String),
}

/// Decides. `turn` makes equal nodes take turns.
pub fn decide(pod: &Pod, snapshot: &Snapshot, turn: usize) -> Decision {
    if snapshot.nodes.is_empty() {
        return Decision::Unschedulable("no nodes available to schedule pods".to_owned());
    }
    let mut fitting = Vec::new();
    let mut refusals = Vec::new();
    for info in &snapshot.nodes {
        match FILTERS.iter().find_map(|(_, filter)| filter(pod, info)) {
            None => fitting.push(info),
            Some(refusal) => refusals.push(refusal),
        }
    }
    match scores::best(&scores::totals(pod, &fitting), turn) {
        Some(best) => Decision::Node(fitting[best].node.metadata.name.clone()),
        None => Decision::Unschedulable(message(snapshot.nodes.len(), &refusals)),
    }
}

fn counted<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    reasons.for_each(|reason| *counts.entry(reason).or_default() += 1);
    let mut parts: Vec<_> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort();
    parts.join(", ")
}

/// The words of a `FailedScheduling` event.
fn message(nodes: usize, refusals: &[Refusal]) -> String {
    let reasons = counted(refusals.iter().flat_map(|refusal| refusal.reasons.iter().map(String::as_str)));
    let preemption = counted(refusals.iter().map(|refusal| {
        if refusal.resolvable {
            "No preemption victims found for incoming pod"
        } else {
            "Preemption is not helpful for scheduling"
        }
    }));
    format!(
        "0/{nodes} nodes are available: {reasons}. no new claims to deallocate, preemption: 0/{nodes} nodes are available: {preemption}."
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::Node,
        snapshot::{add, snapshot},
    };

    fn node(name: &str, extra: Value) -> Arc<Node> {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {}, "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"}},
        });
        for (key, value) in extra.as_object().unwrap() {
            node["spec"][key] = value.clone();
        }
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn pod(cpu: &str, extra: Value) -> Pod {
        let mut spec = json!({"containers": [{"resources": {"requests": {"cpu": cpu}}}]});
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let metadata = json!({"name": "p", "uid": cpu, "ownerReferences": [{"uid": "set", "controller": true}]});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn control_plane() -> Value {
        json!({"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]})
    }

    #[test]
    fn a_pod_that_fits_nowhere_is_told_so_in_kubernetes_words() {
        let nodes = vec![node("a", json!({})), node("b", json!({})), node("s", control_plane())];
        let found = decide(&pod("3", json!({})), &snapshot(nodes, &[], &BTreeMap::new()), 0);
        let wanted = "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. no new claims to deallocate, \
                      preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
        assert_eq!(found, Decision::Unschedulable(wanted.to_owned()));
        let none = decide(&pod("1", json!({})), &Snapshot::default(), 0);
        assert_eq!(none, Decision::Unschedulable("no nodes available to schedule pods".to_owned()));
    }

    #[test]
    fn selectors_and_affinity_choose() {
        let all = || snapshot(vec![node("a", json!({})), node("b", json!({}))], &[], &BTreeMap::new());
        let by_selector = pod("1", json!({"nodeSelector": {"kubernetes.io/hostname": "b"}}));
        assert_eq!(decide(&by_selector, &all(), 0), Decision::Node("b".into()));
        let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["a"]}]});
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
        assert_eq!(decide(&pod("1", json!({"affinity": affinity})), &all(), 0), Decision::Node("b".into()));
        let nowhere = pod("1", json!({"nodeSelector": {"x": "y"}}));
        assert!(
            matches!(decide(&nowhere, &all(), 0), Decision::Unschedulable(text) if text.contains("2 node(s) didn't match Pod's node affinity/selector"))
        );
    }

    #[test]
    fn replicas_spread_over_nodes() {
        let mut cluster = snapshot(vec![node("a", json!({})), node("b", json!({}))], &[], &BTreeMap::new());
        for _ in 0..4 {
            let next = pod("500m", json!({}));
            let Decision::Node(name) = decide(&next, &cluster, 0) else { panic!("there is room") };
            let info = cluster.nodes.iter_mut().find(|info| info.node.metadata.name == name).unwrap();
            add(info, Arc::new(next));
        }
        assert_eq!(cluster.nodes.iter().map(|info| info.pods.len()).collect::<Vec<_>>(), [2, 2]);
    }

    proptest! {
        #[test]
        fn no_node_ever_gets_more_than_it_has(sizes in proptest::collection::vec(1_i64..900, 1..40), turn in 0_usize..7) {
            let mut cluster = snapshot(vec![node("a", json!({})), node("b", json!({})), node("s", control_plane())], &[], &BTreeMap::new());
            for size in sizes {
                let next = pod(&format!("{size}m"), json!({}));
                if let Decision::Node(name) = decide(&next, &cluster, turn) {
                    let info = cluster.nodes.iter_mut().find(|info| info.node.metadata.name == name).unwrap();
                    add(info, Arc::new(next));
                    let (all, taken) = info.amounts("cpu");
                    prop_assert!(taken <= all);
                    prop_assert!(name != "s");
                }
            }
        }
    }
}
