//! EndpointSlices: where the pods of a Service are.
//!
//! <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>

use std::{sync::Arc, time::Duration};

use kontiki_api::resources::ENDPOINT_SLICES;
use kontiki_client::{DeleteOptions, Error, reflector::ObjectKey};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    model::{Labels, Meta, Pod},
    replica_set::owner,
    run::{self, Queue},
};

/// Label that names a slice's Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Endpoints of one slice.
const ENDPOINTS_MAX: usize = 100;

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: ServiceSpec,
}

/// What was asked for of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Which pods; none where empty.
    pub selector: Labels,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Address; `None` for a headless Service.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// Type.
    pub r#type: String,
    /// Whether pods that are not ready are published too.
    pub publish_not_ready_addresses: bool,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    /// Name.
    pub name: String,
    /// Protocol.
    pub protocol: String,
    /// Number.
    pub port: u16,
    /// Number or name at the pod.
    pub target_port: Value,
    /// Protocol of the application.
    pub app_protocol: Option<String>,
}

impl Service {
    /// Whether a pod with these labels belongs to it.
    pub fn selects(&self, labels: &Labels) -> bool {
        let selector = &self.spec.selector;
        !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Slice {
    /// What all objects have.
    pub metadata: Meta,
    /// Endpoints.
    pub endpoints: Value,
    /// Ports.
    pub ports: Value,
}

/// Number of a port at one pod; a name is looked up among its containers' ports.
fn target(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        Value::String(name) => {
            let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
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

fn endpoint(service: &Service, pod: &Pod) -> Value {
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let serving = pod.ready_since().is_some() || service.spec.publish_not_ready_addresses;
    let mut endpoint = json!({
        "addresses": [pod.status.pod_ips[0].ip],
        "conditions": { "ready": serving && !terminating, "serving": serving, "terminating": terminating },
        "nodeName": pod.spec.node_name,
        "targetRef": { "kind": "Pod", "namespace": pod.metadata.namespace, "name": pod.metadata.name, "uid": pod.metadata.uid },
    });
    if service.spec.publish_not_ready_addresses {
        endpoint["conditions"]["ready"] = json!(true);
    }
    if !pod.spec.hostname.is_empty() && pod.spec.subdomain == service.metadata.name {
        endpoint["hostname"] = json!(pod.spec.hostname);
    }
    endpoint
}

/// Endpoints and ports of the slices that a Service needs; pods whose named ports differ have slices of their own.
pub fn wanted(service: &Service, pods: &[Arc<Pod>]) -> Vec<(Value, Value)> {
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    let mut pods: Vec<_> = pods
        .iter()
        .filter(|pod| pod.metadata.namespace == service.metadata.namespace && service.selects(&pod.metadata.labels))
        .filter(|pod| !pod.has_ended() && pod.status.pod_ips.first().is_some_and(|ip| !ip.ip.is_empty()))
        .collect();
    pods.sort_by(|left, right| left.metadata.name.cmp(&right.metadata.name));
    for pod in pods {
        let port = |port: &ServicePort| {
            let number = target(port, pod)?;
            let mut one = json!({ "name": port.name, "protocol": port.protocol, "port": number });
            if let Some(protocol) = &port.app_protocol {
                one["appProtocol"] = json!(protocol);
            }
            Some(one)
        };
        let ports: Value = service.spec.ports.iter().filter_map(port).collect();
        let entry = endpoint(service, pod);
        match groups.iter_mut().find(|(known, _)| *known == ports) {
            Some((_, endpoints)) => endpoints.push(entry),
            None => groups.push((ports, vec![entry])),
        }
    }
    let cut = |(ports, endpoints): (Value, Vec<Value>)| {
        endpoints.chunks(ENDPOINTS_MAX).map(|chunk| (json!(chunk), ports.clone())).collect::<Vec<_>>()
    };
    let slices: Vec<_> = groups.into_iter().flat_map(cut).collect();
    // A Service without pods has an empty slice, so that others see that it was looked at.
    if slices.is_empty() { vec![(json!([]), json!([]))] } else { slices }
}

fn labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone();
    labels.insert(SERVICE_NAME.to_owned(), service.metadata.name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if service.spec.cluster_ip == "None" {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels
}

/// Reconciles until `cancel`.
pub async fn run(context: Arc<Context>, queue: Queue, cancel: CancellationToken) {
    let reconcile = move |key| reconcile(Arc::clone(&context), key);
    run::run(queue, "endpoint_slice", cancel, reconcile).await;
}

fn ours(slice: &Slice, key: &ObjectKey) -> bool {
    let label = |name: &str| slice.metadata.labels.get(name).map(String::as_str);
    *slice.metadata.namespace == *key.namespace && label(SERVICE_NAME) == Some(&key.name) && label(MANAGED_BY) == Some(MANAGER)
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Option<Duration>, Error> {
    let mut have: Vec<_> = context.endpoint_slices.list().into_iter().filter(|slice| ours(slice, &key)).collect();
    have.sort_by(|left, right| left.metadata.name.cmp(&right.metadata.name));
    let service = context.services.get(&key.namespace, &key.name);
    let service = service.filter(|service| {
        let spec = &service.spec;
        service.metadata.deletion_timestamp.is_none() && !spec.selector.is_empty() && spec.r#type != "ExternalName"
    });
    let mut wanted = service.as_ref().map_or_else(Vec::new, |service| wanted(service, &context.pods.list()));
    let client = context.client();
    if let Some(service) = &service {
        let labels = labels(service);
        // Slices that are right already stay; the others are rewritten before new ones are made.
        have.retain(|slice| {
            let right = wanted.iter().position(|(endpoints, ports)| {
                same(&slice.endpoints, endpoints) && same(&slice.ports, ports) && slice.metadata.labels == labels
            });
            right.map(|index| wanted.remove(index)).is_none()
        });
        for (endpoints, ports) in wanted {
            let mut body = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "labels": labels,
                    "ownerReferences": [owner(&service.metadata, "v1", "Service")],
                },
                "addressType": "IPv4",
                "endpoints": endpoints,
                "ports": ports,
            });
            if let Some(old) = have.pop() {
                body["metadata"]["name"] = json!(old.metadata.name);
                body["metadata"]["resourceVersion"] = json!(old.metadata.resource_version);
                client.update::<Value>(ENDPOINT_SLICES, &key.namespace, &old.metadata.name, &body).await?;
            } else {
                body["metadata"]["generateName"] = json!(format!("{}-", key.name));
                let made: Value = client.create(ENDPOINT_SLICES, &key.namespace, &body).await?;
                let name = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                seen(&context, &key, &name).await;
            }
        }
    }
    for slice in have {
        let options = DeleteOptions::with_uid(&slice.metadata.uid);
        match client.delete(ENDPOINT_SLICES, &key.namespace, &slice.metadata.name, &options).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(None)
}

/// Waits until the reflector shows a slice that was made, so that it is not made again.
async fn seen(context: &Context, key: &ObjectKey, name: &str) {
    let shown = async {
        while context.endpoint_slices.get(&key.namespace, name).is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), shown).await;
}

/// Lists are equal although one is absent where the other is empty.
fn same(left: &Value, right: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    list(left) == list(right)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "http"}]},
        }))
        .unwrap()
    }

    fn pod(name: &str, port: u16, ready: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "n", "labels": {"app": "web"}},
                "spec": {"nodeName": "x", "containers": [{"ports": [{"name": "http", "containerPort": port}]}]},
                "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn endpoints_are_ready_as_their_pods_are() {
        let slices = wanted(&service(), &[pod("a", 8080, "True"), pod("b", 8080, "False")]);
        assert_eq!(slices.len(), 1);
        let (endpoints, ports) = &slices[0];
        assert_eq!(ports[0]["port"], 8080);
        assert_eq!(
            (endpoints[0]["conditions"]["ready"].as_bool(), endpoints[1]["conditions"]["ready"].as_bool()),
            (Some(true), Some(false))
        );
    }

    #[test]
    fn different_named_ports_have_different_slices() {
        assert_eq!(wanted(&service(), &[pod("a", 8080, "True"), pod("b", 9090, "True")]).len(), 2);
    }

    #[test]
    fn a_hundred_to_a_slice_and_an_empty_one_for_none() {
        let pods: Vec<_> = (0..101).map(|number| pod(&format!("p{number}"), 80, "True")).collect();
        assert_eq!(wanted(&service(), &pods).len(), 2);
        assert_eq!(wanted(&service(), &[]), [(json!([]), json!([]))]);
    }
}
