//! Endpoints of Services as tables.
#![allow(clippy::unwrap_used)]

use super::{endpoint::wanted, *};
use crate::node_lifecycle::Node;

fn service(extra: Value) -> Service {
    let mut spec =
        json!({"selector": {"app": "web"}, "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "http"}]});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n", "labels": {"a": "b"}}, "spec": spec})).unwrap()
}

fn pod(name: &str, port: u16, ready: &str) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "x", "containers": [{"ports": [{"name": "http", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap(),
    )
}

fn node(_: &str) -> Option<Arc<Node>> {
    Some(Arc::new(serde_json::from_value(json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "z"}}})).unwrap()))
}

#[test]
fn endpoints_are_ready_as_their_pods_are() {
    let mut ending = (*pod("c", 8080, "True")).clone();
    ending.metadata.deletion_timestamp = Some(jiff::Timestamp::UNIX_EPOCH);
    let pods = [pod("a", 8080, "True"), pod("b", 8080, "False"), Arc::new(ending)];
    let groups = wanted(&service(json!({})), &pods, &node);
    assert_eq!((groups.len(), &groups[0].ports[0]["port"]), (1, &json!(8080)));
    let show = |endpoint: &Value| {
        let conditions = &endpoint["conditions"];
        (conditions["ready"] == true, conditions["serving"] == true, conditions["terminating"] == true)
    };
    let shown: Vec<_> = groups[0].endpoints.iter().map(show).collect();
    assert_eq!(shown, [(true, true, false), (false, false, false), (false, true, true)]);
    let published = wanted(&service(json!({"publishNotReadyAddresses": true})), &pods, &node);
    assert!(published[0].endpoints.iter().all(|endpoint| endpoint["conditions"]["ready"] == true));
}

#[test]
fn ports_families_and_absence_make_groups() {
    let (a, b) = (pod("a", 8080, "True"), pod("b", 9090, "True"));
    assert_eq!(wanted(&service(json!({})), &[Arc::clone(&a), b], &node).len(), 2, "different named ports");
    let dual = wanted(&service(json!({"ipFamilies": ["IPv4", "IPv6"]})), &[Arc::clone(&a)], &node);
    let addresses: Vec<_> = dual.iter().map(|group| (group.address_type.as_str(), &group.endpoints[0]["addresses"][0])).collect();
    assert_eq!(addresses, [("IPv4", &json!("10.0.0.1")), ("IPv6", &json!("fd00::1"))]);
    let none = wanted(&service(json!({})), &[], &node);
    assert_eq!((none.len(), none[0].endpoints.len(), &none[0].ports), (1, 0, &json!([])));
}

#[test]
fn preferences_become_hints() {
    let hints = |distribution: &str| {
        let groups = wanted(&service(json!({"trafficDistribution": distribution})), &[pod("a", 80, "True")], &node);
        groups[0].endpoints[0]["hints"].clone()
    };
    assert_eq!(hints(""), Value::Null);
    assert_eq!(hints("PreferClose"), json!({"forZones": [{"name": "z"}]}));
    assert_eq!(hints("PreferSameNode"), json!({"forZones": [{"name": "z"}], "forNodes": [{"name": "x"}]}));
}

#[test]
fn slices_of_headless_services_say_so() {
    assert!(!labels(&service(json!({}))).contains_key(HEADLESS));
    assert_eq!(
        labels(&service(json!({"clusterIP": "None"}))),
        Labels::from([("a".into(), "b".into()), (HEADLESS.into(), String::new())])
    );
}
