//! Services on their way in: the ports that they get, and what they are told of those that they do not.

use super::*;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec })
}

fn node_port(port: Option<u64>) -> Value {
    let mut entry = json!({ "port": 80 });
    if let Some(port) = port {
        entry["nodePort"] = json!(port);
    }
    json!({ "type": "NodePort", "ports": [entry] })
}

#[tokio::test]
async fn who_asks_for_a_taken_port_is_told_and_who_does_not_gets_another() {
    let handle = testing::server().await;
    let first = post(&handle, SERVICES, &service("a", node_port(Some(30_080)))).await.json();
    assert_eq!(first["spec"]["ports"][0]["nodePort"], 30_080);
    let refused = post(&handle, SERVICES, &service("b", node_port(Some(30_080)))).await;
    let wanted = "Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated";
    assert_eq!((refused.code.as_u16(), refused.json()["message"].as_str()), (422, Some(wanted)));
    let other = post(&handle, SERVICES, &service("b", node_port(None))).await.json();
    assert_ne!(other["spec"]["ports"][0]["nodePort"], 30_080);
    // An update asks for what it names, too.
    let mut moved = other.clone();
    moved["spec"]["ports"][0]["nodePort"] = json!(30_080);
    let media = [("content-type", "application/json")];
    let refused = testing::send(&handle, Method::PUT, &format!("{SERVICES}/b"), &media, moved.to_string()).await;
    assert_eq!((refused.code.as_u16(), refused.json()["message"].as_str()), (422, Some(wanted)));
    let address = first["spec"]["clusterIP"].as_str().unwrap();
    let mut same = service("c", node_port(None));
    same["spec"]["clusterIP"] = json!(address);
    let refused = post(&handle, SERVICES, &same).await.json();
    let wanted = format!(
        "Service \"c\" is invalid: spec.clusterIPs: Invalid value: [\"{address}\"]: failed to allocate IP {address}: provided IP is already allocated"
    );
    assert_eq!(refused["message"], wanted);
    // What is given back can be had again.
    testing::send(&handle, Method::DELETE, &format!("{SERVICES}/a"), &[], "").await;
    assert_eq!(post(&handle, SERVICES, &service("d", node_port(Some(30_080)))).await.code, StatusCode::CREATED);
}

#[tokio::test]
async fn a_balancer_keeps_its_port_for_health_checks_while_it_needs_one() {
    let handle = testing::server().await;
    let spec = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{ "port": 80 }] });
    let created = post(&handle, SERVICES, &service("a", spec.clone())).await.json();
    let port = created["spec"]["healthCheckNodePort"].as_u64().unwrap();
    assert!((30_000..=32_767).contains(&port), "{created}");
    let media = [("content-type", "application/merge-patch+json")];
    let patch =
        async |patch: Value| testing::send(&handle, Method::PATCH, &format!("{SERVICES}/a"), &media, patch.to_string()).await;
    let kept = patch(json!({"spec": {"healthCheckNodePort": null}})).await.json();
    assert_eq!(kept["spec"]["healthCheckNodePort"], port);
    let changed = patch(json!({"spec": {"healthCheckNodePort": 30_001}})).await.json();
    assert_eq!(changed["message"], "Service \"a\" is invalid: spec.healthCheckNodePort: Forbidden: field is immutable");
    let cluster = patch(json!({"spec": {"externalTrafficPolicy": "Cluster"}})).await.json();
    assert_eq!(cluster["spec"].get("healthCheckNodePort"), None, "{cluster}");
    let asked = |name: &str| service(name, json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": port }] }));
    assert_eq!(post(&handle, SERVICES, &asked("b")).await.code, StatusCode::CREATED, "it was given back");
}
