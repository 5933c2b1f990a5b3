//! Decisions on small clusters, as text; and what must hold on any cluster.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::{HOSTNAME, Node, ZONE};

/// A node that has these amounts beside the usual ones; `extra` has labels, taints, unschedulable, images.
pub(crate) fn node(name: &str, amounts: Value, extra: Value) -> Arc<Node> {
    let mut allocatable = json!({"cpu": "2", "memory": "4Gi", "pods": "110"});
    for (key, value) in amounts.as_object().unwrap() {
        allocatable[key] = value.clone();
    }
    let mut labels = json!({HOSTNAME: name});
    for (key, value) in extra["labels"].as_object().into_iter().flatten() {
        labels[key] = value.clone();
    }
    let spec = json!({"taints": extra["taints"], "unschedulable": extra["unschedulable"] == true});
    let status = json!({"allocatable": allocatable, "images": extra["images"]});
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status})).unwrap(),
    )
}

/// A pod with these requests and further fields of its spec; `labels`, `nominated` and `owner` go where they belong.
pub(crate) fn pod(name: &str, requests: Value, extra: Value) -> Arc<Pod> {
    let mut spec = json!({"containers": [{"name": "c", "resources": {"requests": requests}}]});
    let mut metadata = json!({"name": name, "namespace": "n", "uid": name});
    let mut status = json!({});
    for (key, value) in extra.as_object().unwrap() {
        match key.as_str() {
            "labels" => metadata["labels"] = value.clone(),
            "owner" => {
                metadata["ownerReferences"] = json!([{"kind": "ReplicaSet", "name": value, "uid": value, "controller": true}]);
            }
            "deleted" => metadata["deletionTimestamp"] = value.clone(),
            "nominated" => status["nominatedNodeName"] = value.clone(),
            "conditions" => status["conditions"] = value.clone(),
            "started" => status["startTime"] = value.clone(),
            _ => spec[key] = value.clone(),
        }
    }
    Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap())
}

pub(crate) fn cluster(nodes: impl IntoIterator<Item = Arc<Node>>) -> Cluster {
    let mut cluster = Cluster::default();
    nodes.into_iter().for_each(|node| cluster.set_node(node));
    cluster.reorder();
    cluster
}

fn plain(names: &[&str]) -> Cluster {
    cluster(names.iter().map(|name| node(name, json!({}), json!({}))))
}

fn decide(cluster: &Cluster, pod: &Arc<Pod>) -> Decision {
    Scheduler::default().decide(pod, cluster)
}

/// The node's name, or the message.
fn outcome(cluster: &Cluster, pod: &Arc<Pod>) -> String {
    match decide(cluster, pod) {
        Decision::Node { name, .. } => name,
        Decision::Refused(refused) => refused.message,
    }
}

fn refused(cluster: &Cluster, pod: &Arc<Pod>) -> Refused {
    match decide(cluster, pod) {
        Decision::Refused(refused) => *refused,
        Decision::Node { name, .. } => panic!("it goes to {name}"),
    }
}

fn control_plane() -> Value {
    json!({"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]})
}

#[test]
fn a_pod_that_fits_nowhere_is_told_so_in_kubernetes_words() {
    let all = cluster([
        node("a", json!({}), json!({})),
        node("b", json!({}), json!({})),
        node("s", json!({}), control_plane()),
        node("u", json!({}), json!({"unschedulable": true})),
    ]);
    assert_eq!(
        outcome(&all, &pod("p", json!({"cpu": "3", "x/y": "1"}), json!({}))),
        "0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 2 Insufficient cpu, 2 Insufficient x/y. \
         no new claims to deallocate, preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."
    );
    assert_eq!(outcome(&Cluster::default(), &pod("p", json!({}), json!({}))), "no nodes available to schedule pods");
    let mut full = plain(&["a"]);
    full.place(pod("other", json!({"cpu": "2"}), json!({})), "a");
    assert_eq!(
        outcome(&full, &pod("p", json!({"cpu": "1"}), json!({}))),
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: \
         0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    let never = json!({"preemptionPolicy": "Never", "priority": 10});
    assert!(
        outcome(&full, &pod("p", json!({"cpu": "1"}), never))
            .ends_with("preemption: not eligible due to preemptionPolicy=Never.")
    );
}

#[test]
fn selectors_and_affinity_choose() {
    let all = plain(&["a", "b"]);
    assert_eq!(outcome(&all, &pod("p", json!({}), json!({"nodeSelector": {HOSTNAME: "b"}}))), "b");
    let required = |term: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}});
    let not_a = required(json!({"matchExpressions": [{"key": HOSTNAME, "operator": "NotIn", "values": ["a"]}]}));
    assert_eq!(outcome(&all, &pod("p", json!({}), not_a)), "b");
    let field = |name: &str| required(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}));
    assert_eq!(outcome(&all, &pod("p", json!({}), field("a"))), "a");
    assert!(
        outcome(&all, &pod("p", json!({"cpu": "3"}), field("a")))
            .starts_with("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity].")
    );
    let wish = json!({"weight": 1, "preference": {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": ["b"]}]}});
    let wish = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}});
    assert_eq!(outcome(&all, &pod("p", json!({}), wish)), "b");
    let nowhere = outcome(&all, &pod("p", json!({}), json!({"nodeSelector": {"x": "y"}})));
    assert!(nowhere.contains("2 node(s) didn't match Pod's node affinity/selector"), "{nowhere}");
}

#[test]
fn soft_taints_and_images_weigh() {
    let soft = json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]});
    let all = cluster([node("a", json!({}), soft), node("b", json!({}), json!({}))]);
    assert_eq!(outcome(&all, &pod("p", json!({}), json!({}))), "b");
    let images = json!({"images": [{"names": ["nginx:latest"], "sizeBytes": 900 << 20}]});
    let all = cluster([node("a", json!({}), json!({})), node("b", json!({}), images)]);
    let container = json!([{"name": "c", "image": "nginx", "resources": {}}]);
    assert_eq!(outcome(&all, &pod("p", json!({}), json!({"containers": container}))), "b");
}

#[test]
fn ports_meet_by_number_protocol_and_address() {
    let port = |protocol: &str, address: &str| {
        let port = json!({"containerPort": 80, "hostPort": 8080, "protocol": protocol, "hostIP": address});
        json!({"containers": [{"name": "c", "ports": [port]}]})
    };
    for (own, free) in
        [(port("TCP", ""), false), (port("UDP", ""), true), (port("TCP", "127.0.0.1"), false), (port("TCP", "127.0.0.2"), true)]
    {
        let mut one = plain(&["a"]);
        one.place(pod("other", json!({}), port("TCP", "127.0.0.1")), "a");
        let found = outcome(&one, &pod("p", json!({}), own.clone()));
        assert_eq!(found == "a", free, "{own} {found}");
        assert!(free || found.contains("1 node(s) didn't have free ports for the requested pod ports"), "{found}");
    }
}

fn near(kind: &str, term: Value) -> Value {
    json!({"labels": {"app": "x"}, "affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
}

#[test]
fn pods_are_near_or_away_in_both_directions() {
    let term = json!({"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": HOSTNAME});
    let mut all = plain(&["a", "b"]);
    let together = pod("first", json!({}), near("podAffinity", term.clone()));
    let first = outcome(&all, &together);
    assert!(first == "a" || first == "b", "the first of a group goes anywhere: {first}");
    all.place(together, "b");
    assert_eq!(outcome(&all, &pod("second", json!({}), near("podAffinity", term.clone()))), "b");
    let alone = pod("alone", json!({}), near("podAntiAffinity", term.clone()));
    assert_eq!(outcome(&all, &alone), "a");
    all.place(alone, "a");
    let found = outcome(&all, &pod("plain", json!({}), json!({"labels": {"app": "x"}})));
    assert_eq!(found, "b", "a pod that says nothing is kept away too");
    all.place(pod("alone-2", json!({}), near("podAntiAffinity", term)), "b");
    let found = outcome(&all, &pod("plain", json!({}), json!({"labels": {"app": "x"}})));
    assert!(found.starts_with("0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules."), "{found}");
    let lonely = json!({"labelSelector": {"matchLabels": {"app": "nobody"}}, "topologyKey": HOSTNAME});
    let found = outcome(&all, &pod("lonely", json!({}), near("podAffinity", lonely)));
    assert!(found.starts_with("0/2 nodes are available: 2 node(s) didn't match pod affinity rules."), "{found}");
}

#[test]
fn namespaces_are_chosen_by_their_labels() {
    let term = json!({
        "labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": HOSTNAME, "namespaceSelector": {"matchLabels": {"team": "t"}},
    });
    let mut all = plain(&["a", "b"]);
    let mut other = (*pod("other", json!({}), json!({"labels": {"app": "x"}}))).clone();
    other.metadata.namespace = "elsewhere".into();
    all.place(Arc::new(other), "b");
    let wants = pod("p", json!({}), near("podAntiAffinity", term));
    all.set_namespace("elsewhere", Some(BTreeMap::from([("team".to_owned(), "t".to_owned())])));
    assert_eq!(outcome(&all, &wants), "a");
    all.set_namespace("elsewhere", Some(BTreeMap::new()));
    all.place(pod("big", json!({"cpu": "2"}), json!({})), "a");
    assert_eq!(outcome(&all, &pod("q", json!({"cpu": "1"}), json!({}))), "b");
}

fn zones() -> Cluster {
    let zoned = |name: &str, zone: &str| node(name, json!({}), json!({"labels": {ZONE: zone}}));
    cluster([zoned("a1", "a"), zoned("a2", "a"), zoned("b1", "b")])
}

fn spread(extra: Value) -> Value {
    let mut constraint = json!({
        "maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "x"}},
    });
    for (key, value) in extra.as_object().unwrap() {
        constraint[key] = value.clone();
    }
    json!({"labels": {"app": "x"}, "topologySpreadConstraints": [constraint]})
}

#[test]
fn pods_are_spread_over_domains() {
    let mut all = zones();
    all.place(pod("1", json!({}), spread(json!({}))), "a1");
    assert_eq!(outcome(&all, &pod("2", json!({}), spread(json!({})))), "b1");
    let third = outcome(&all, &pod("3", json!({}), spread(json!({"minDomains": 3}))));
    assert_eq!(third, "b1", "an empty domain is within the skew even where more domains are wanted");
    all.place(pod("2", json!({}), spread(json!({}))), "b1");
    let third = outcome(&all, &pod("3", json!({}), spread(json!({"minDomains": 3}))));
    assert!(third.starts_with("0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints."), "{third}");
    let unlabelled = plain(&["a"]);
    let found = outcome(&unlabelled, &pod("3", json!({}), spread(json!({}))));
    assert!(found.contains("1 node(s) didn't match pod topology spread constraints (missing required label)"), "{found}");
    assert_eq!(outcome(&unlabelled, &pod("3", json!({}), spread(json!({"whenUnsatisfiable": "ScheduleAnyway"})))), "a");
}

#[test]
fn what_a_policy_leaves_out_is_no_domain() {
    let zoned = |name: &str, zone: &str, extra: Value| {
        let mut all = json!({"labels": {ZONE: zone}});
        all["taints"] = extra["taints"].clone();
        node(name, json!({}), all)
    };
    let mut all = cluster([zoned("a", "a", json!({})), zoned("b", "b", control_plane())]);
    all.place(pod("1", json!({}), spread(json!({}))), "a");
    assert!(outcome(&all, &pod("2", json!({}), spread(json!({})))).starts_with("0/2"), "zone b is empty and closed");
    assert_eq!(outcome(&all, &pod("2", json!({}), spread(json!({"nodeTaintsPolicy": "Honor"})))), "a");
}

#[test]
fn replicas_spread_over_nodes() {
    let mut all = plain(&["a", "b", "c"]);
    let set = json!({"metadata": {"name": "set", "namespace": "n"}, "spec": {"selector": {"matchLabels": {"app": "x"}}}});
    all.set_workload("ReplicaSet", "n", "set", Some(Arc::new(serde_json::from_value(set).unwrap())));
    let mut scheduler = Scheduler::default();
    for number in 0..6 {
        let next = pod(&number.to_string(), json!({"cpu": "100m"}), json!({"labels": {"app": "x"}, "owner": "set"}));
        let Decision::Node { name, .. } = scheduler.decide(&next, &all) else { panic!("there is room") };
        all.place(next, &name);
    }
    assert_eq!(all.nodes().map(|(_, info)| info.pods.len()).collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn the_least_important_go_for_the_more_important() {
    let mut all = plain(&["a", "b"]);
    let victim = |name: &str, cpu: &str, priority: i64| {
        pod(name, json!({"cpu": cpu}), json!({"priority": priority, "labels": {"app": name}}))
    };
    all.place(victim("low", "1", 1), "a");
    all.place(victim("lower", "1", 0), "a");
    all.place(victim("high", "2", 5), "b");
    let wants = pod("p", json!({"cpu": "1"}), json!({"priority": 10}));
    let found = refused(&all, &wants);
    assert_eq!(found.message, "0/2 nodes are available: 2 Insufficient cpu.");
    let preemption = found.preemption.unwrap();
    assert_eq!(
        (preemption.node.as_str(), preemption.victims[0].metadata.name.as_str(), preemption.victims.len()),
        ("a", "lower", 1)
    );
    let budget = json!({
        "metadata": {"name": "b", "namespace": "n"}, "spec": {"selector": {"matchLabels": {"app": "lower"}}},
        "status": {"disruptionsAllowed": 0},
    });
    all.budgets.insert(("n".into(), "b".into()), Arc::new(serde_json::from_value(budget).unwrap()));
    let preemption = refused(&all, &wants).preemption.unwrap();
    assert_eq!(preemption.victims[0].metadata.name, "low", "the budget protects the lower one");
    let weak = refused(&all, &pod("weak", json!({"cpu": "1"}), json!({})));
    assert_eq!(weak.preemption, None);
}

#[test]
fn room_that_was_made_is_kept_for_whom_it_was_made() {
    let mut all = plain(&["a"]);
    all.place(pod("half", json!({"cpu": "1"}), json!({})), "a");
    let waits = pod("waits", json!({"cpu": "1"}), json!({"priority": 10, "nominated": "a"}));
    all.nominate(&waits, Some("a"));
    assert!(outcome(&all, &pod("other", json!({"cpu": "1"}), json!({}))).contains("1 Insufficient cpu"));
    assert_eq!(outcome(&all, &pod("higher", json!({"cpu": "1"}), json!({"priority": 11}))), "a");
    assert_eq!(outcome(&all, &waits), "a");
    let condition = json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]);
    all.place(pod("going", json!({"cpu": "1"}), json!({"deleted": "2024-01-01T00:00:00Z", "conditions": condition})), "a");
    let found = refused(&all, &waits);
    assert!(
        found.message.ends_with("preemption: not eligible due to a terminating pod on the nominated node."),
        "{}",
        found.message
    );
    assert!(!found.forgets_nomination);
}

#[test]
fn nodes_are_sampled_as_kubernetes_does() {
    for (nodes, looked) in [(5, 5), (99, 99), (100, 100), (1000, 420), (5000, 500), (10_000, 500)] {
        assert_eq!(wanted(nodes), looked, "{nodes}");
    }
}

proptest! {
    /// Whatever comes, no node gets more than it has, and what is remembered decides like what is computed anew.
    #[test]
    fn no_node_ever_gets_more_than_it_has(
        sizes in proptest::collection::vec((1_i64..900, 0_u8..4), 1..40),
        gone in proptest::collection::vec(0_usize..40, 0..10),
    ) {
        let mut all = cluster([node("a", json!({}), json!({})), node("b", json!({}), json!({})), node("s", json!({}), control_plane())]);
        let mut scheduler = Scheduler::default();
        for (number, (size, kind)) in sizes.iter().enumerate() {
            let term = json!({"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": HOSTNAME});
            let extra = match kind {
                0 => near("podAntiAffinity", term),
                1 => near("podAffinity", term),
                2 => json!({"labels": {"app": "x"}, "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": "Honor",
                     "labelSelector": {"matchLabels": {"app": "x"}}},
                ]}),
                _ => json!({"labels": {"app": "y"}}),
            };
            let next = pod(&number.to_string(), json!({"cpu": format!("{size}m")}), extra);
            let decision = scheduler.decide(&next, &all);
            let anew = Scheduler { start: scheduler.start, turn: scheduler.turn - 1, ..Scheduler::default() }.decide(&next, &all);
            match (&decision, anew) {
                (Decision::Node { name, .. }, Decision::Node { .. }) => {
                    prop_assert!(name != "s");
                    all.place(Arc::clone(&next), name);
                }
                (Decision::Refused(one), Decision::Refused(other)) => prop_assert_eq!(&one.message, &other.message),
                (one, other) => prop_assert!(false, "remembered {one:?}, anew {other:?}"),
            }
            if gone.contains(&number) {
                all.displace(&(number / 2).to_string());
            }
            for (_, info) in all.nodes() {
                prop_assert!(info.requested.milli_cpu <= info.node.status.allocatable.amounts.milli_cpu);
            }
            if *kind == 2 && matches!(decision, Decision::Node { .. }) && gone.is_empty() {
                let count = |(_, info): (usize, &NodeInfo)| {
                    (info.name() != "s").then(|| info.pods.iter().filter(|pod| pod.metadata.labels.get("app").is_some_and(|app| app == "x")).count())
                };
                let counts: Vec<usize> = all.nodes().filter_map(count).collect();
                let chosen = all.node(all.place_of(&next.metadata.uid).unwrap()).unwrap();
                let own = chosen.pods.iter().filter(|pod| pod.metadata.labels.get("app").is_some_and(|app| app == "x")).count();
                prop_assert!(own - counts.iter().min().unwrap() <= 1, "the skew is kept");
            }
        }
    }
}
