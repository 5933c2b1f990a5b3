//! What a pod is to a Service: an endpoint with addresses, ports, conditions and hints. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Service, ServicePort, arrange::Group};
use crate::{model::Pod, node_lifecycle::Node};

/// Label of a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// How to find a pod's node.
pub type Nodes<'a> = &'a dyn Fn(&str) -> Option<Arc<Node>>;

/// Number of a port at one pod; a name is looked up among its containers' ports.
pub fn target(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        Value::String(name) => {
            let beside = pod.spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
            let ports = pod.spec.containers.iter().chain(beside).flat_map(|container| &container.ports);
            let protocol = |own: &str| if own.is_empty() { "TCP".to_owned() } else { own.to_owned() };
            let mut named = ports.filter(|own| own.name == *name && protocol(&own.protocol) == protocol(&port.protocol));
            named.next().map(|own| own.container_port)
        }
        Value::Number(number) => {
            number.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0).or(Some(port.port))
        }
        _ => Some(port.port),
    }
}

/// `IPv4` or `IPv6`.
pub fn address_type(address: &str) -> &'static str {
    if address.contains(':') { "IPv6" } else { "IPv4" }
}

/// Whether a pod may be an endpoint at all.
pub fn counts(pod: &Pod) -> bool {
    !pod.has_ended() && pod.status.pod_ips.iter().any(|ip| !ip.ip.is_empty())
}

/// A pod, as an endpoint names it.
pub fn target_reference(pod: &Pod) -> Value {
    let meta = &pod.metadata;
    json!({ "kind": "Pod", "namespace": meta.namespace, "name": meta.name, "uid": meta.uid })
}

fn endpoint(service: &Service, pod: &Pod, family: &str, nodes: Nodes<'_>) -> Option<Value> {
    let addresses = pod.status.pod_ips.iter().map(|ip| ip.ip.as_str()).filter(|ip| !ip.is_empty() && address_type(ip) == family);
    let addresses: Vec<_> = addresses.collect();
    if addresses.is_empty() {
        return None;
    }
    let (serving, terminating) = (pod.is_ready(), pod.metadata.is_deleted());
    let ready = service.spec.publish_not_ready_addresses || (serving && !terminating);
    let mut endpoint = json!({
        "addresses": addresses,
        "conditions": { "ready": ready, "serving": serving || service.spec.publish_not_ready_addresses, "terminating": terminating },
        "targetRef": target_reference(pod),
    });
    let node = &pod.spec.node_name;
    if !node.is_empty() {
        endpoint["nodeName"] = json!(node);
    }
    let zone = nodes(node).map(|node| node.metadata.label(ZONE).to_owned()).filter(|zone| !zone.is_empty());
    if let Some(zone) = &zone {
        endpoint["zone"] = json!(zone);
    }
    if !pod.spec.hostname.is_empty() && pod.spec.subdomain == service.metadata.name {
        endpoint["hostname"] = json!(pod.spec.hostname);
    }
    let distribution = service.spec.traffic_distribution.as_str();
    let zones = zone.filter(|_| ready && ["PreferClose", "PreferSameZone", "PreferSameNode"].contains(&distribution));
    if let Some(zone) = zones {
        endpoint["hints"]["forZones"] = json!([{ "name": zone }]);
    }
    if ready && distribution == "PreferSameNode" && !node.is_empty() {
        endpoint["hints"]["forNodes"] = json!([{ "name": node }]);
    }
    Some(endpoint)
}

/// Address types of a Service's slices.
fn families(service: &Service) -> Vec<&str> {
    if service.spec.ip_families.is_empty() {
        let own = &service.spec.cluster_ip;
        return vec![if own.is_empty() || own == "None" { "IPv4" } else { address_type(own) }];
    }
    service.spec.ip_families.iter().map(String::as_str).collect()
}

/// The endpoints that a Service needs, those with the same ports together. `pods` are those of its namespace.
pub fn wanted(service: &Service, pods: &[Arc<Pod>], nodes: Nodes<'_>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for family in families(service) {
        let before = groups.len();
        for pod in pods.iter().filter(|pod| service.selects(&pod.metadata.labels) && counts(pod)) {
            let Some(endpoint) = endpoint(service, pod, family, nodes) else { continue };
            let ports: Value = service.spec.ports.iter().filter_map(|port| slice_port(port, pod)).collect();
            match groups[before..].iter_mut().find(|group| group.ports == ports) {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group { address_type: family.to_owned(), ports, endpoints: vec![endpoint] }),
            }
        }
        if groups.len() == before {
            // A Service without pods has an empty slice, so that others see that it was looked at.
            groups.push(Group { address_type: family.to_owned(), ports: json!([]), endpoints: Vec::new() });
        }
    }
    groups
}

fn slice_port(port: &ServicePort, pod: &Pod) -> Option<Value> {
    let mut one = json!({ "name": port.name, "protocol": port.protocol, "port": target(port, pod)? });
    if let Some(protocol) = &port.app_protocol {
        one["appProtocol"] = json!(protocol);
    }
    Some(one)
}

/// When what the endpoints say last changed at its source.
pub fn triggered(service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
    let own = pods.iter().filter(|pod| service.selects(&pod.metadata.labels));
    let changes = own.filter_map(|pod| pod.condition("Ready").and_then(|ready| ready.last_transition_time));
    changes.chain(service.metadata.creation_timestamp).max()
}
