//! What a cluster has from its first moment: the system namespaces, the default roles, the Services of the
//! API and of DNS.
//!
//! In: a started API server. Out: objects, written through the same path as any client's. Every
//! server tries; what another one has made already is left as it is, and roles get back what they lack.

mod endpoints;
mod roles;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request};
use http_body_util::BodyExt;
use kontiki_api::resources::{CONFIG_MAPS, NAMESPACES, PRIORITY_CLASSES, ResourceKey, SERVICE_CIDRS, SERVICES};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::{ServiceNetwork, repair},
    aggregation,
    auth::{UserInfo, token_tracking},
    flowcontrol,
    service::{Handle, Options},
};

/// Wait before what failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// Objects that are written at the same time; they share an entry of the store's log.
const AT_ONCE: usize = 32;
const NAMESPACE_NAMES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates what is missing and mends what was changed, again and again until all of it is there, then marks the server
/// ready; afterwards keeps true what a server keeps of itself: the endpoints of the API, the node ports that are taken, and
/// since when the use of tokens is written down.
pub async fn run(handle: Handle, cancel: CancellationToken) {
    let options = &handle.server().options;
    for step in steps(options) {
        let made = futures::stream::iter(step).for_each_concurrent(AT_ONCE, |(key, object)| {
            let (handle, cancel) = (&handle, &cancel);
            async move { ensure_until_done(handle, &key, &object, cancel).await }
        });
        made.await;
        if cancel.is_cancelled() {
            return;
        }
    }
    handle.set_bootstrapped();
    let node_ports = repair::Metrics::default();
    node_ports.register(&mut handle.server().metrics.lock());
    tokio::join!(
        endpoints::run(handle.clone(), cancel.clone()),
        repair::run(handle.clone(), node_ports, cancel.clone()),
        token_tracking::run(handle.clone(), cancel.clone()),
    );
}

async fn ensure_until_done(handle: &Handle, key: &ResourceKey, object: &Value, cancel: &CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            made = ensure(handle, key, object) => match made {
                Ok(()) => return,
                Err(message) => tracing::debug!(object = %object["metadata"]["name"], message, "bootstrap"),
            },
        }
        tokio::time::sleep(RETRY.mul_f64(rand::random_range(0.5..1.5))).await;
    }
}

/// Asks as the API server itself; status and body of the answer.
async fn ask(handle: &Handle, method: Method, path: &str, body: Bytes) -> Result<(u16, Value), String> {
    let request = Request::builder().method(method).uri(path).body(body).map_err(|error| error.to_string())?;
    let response = handle.call(UserInfo::apiserver(), request).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// Whether what was written is there now; another server may have been faster.
fn exists((status, answer): (u16, Value)) -> Result<(), String> {
    if matches!(status, 200 | 201 | 409) { Ok(()) } else { Err(answer["message"].to_string()) }
}

/// Makes an object what it must be at least.
async fn ensure(handle: &Handle, key: &ResourceKey, object: &Value) -> Result<(), String> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let path = key.path(namespace, name);
    let (status, found) = ask(handle, Method::GET, &path, Bytes::new()).await?;
    if status != 200 {
        return exists(ask(handle, Method::POST, &key.path(namespace, ""), Bytes::from(object.to_string())).await?);
    }
    let mended = match *key {
        CONFIG_MAPS => aggregation::reconciled(&found, object),
        _ if key.group == "rbac.authorization.k8s.io" => roles::reconciled(&found, object),
        _ => None,
    };
    match mended {
        // A conflict means that somebody else changes it now: it is looked at again.
        Some(mended) => match ask(handle, Method::PUT, &path, Bytes::from(mended.to_string())).await? {
            (200, _) => Ok(()),
            (_, answer) => Err(answer["message"].to_string()),
        },
        None => Ok(()),
    }
}

/// Everything that is created: steps in order, the objects of a step at once.
fn steps(options: &Options) -> [Vec<(ResourceKey, Value)>; 2] {
    let network = options.service_network;
    let namespace = |name: &&str| {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        (NAMESPACES, object)
    };
    let mut objects = roles::all();
    objects.push(service_cidr(network));
    objects.extend(services(network, options.advertise.port()));
    objects.push(options.trust.config_map());
    objects.extend(flowcontrol::objects());
    objects.extend(PRIORITY_CLASSES_OF_SYSTEM.map(priority_class));
    [NAMESPACE_NAMES.iter().map(namespace).collect(), objects]
}

/// What no cluster can be without, and what no node can.
const PRIORITY_CLASSES_OF_SYSTEM: [(&str, i64, &str); 2] = [
    ("system-node-critical", 2_000_001_000, "Used for system critical pods that must not be moved from their current node."),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

fn priority_class((name, value, description): (&str, i64, &str)) -> (ResourceKey, Value) {
    let object = json!({
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": { "name": name },
        "value": value,
        "description": description,
    });
    (PRIORITY_CLASSES, object)
}

/// The network of Services as an object.
fn service_cidr(network: ServiceNetwork) -> (ResourceKey, Value) {
    let object = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": { "name": "kubernetes" },
        "spec": { "cidrs": [network.to_string()] },
    });
    (SERVICE_CIDRS, object)
}

/// The Services that every cluster has: the API at the first address of the network, DNS at the tenth.
fn services(network: ServiceNetwork, api_port: u16) -> [(ResourceKey, Value); 2] {
    let service = |name: &str, namespace: &str, labels: Value, spec: Value| {
        let metadata = json!({ "name": name, "namespace": namespace, "labels": labels });
        (SERVICES, json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec }))
    };
    [
        service(
            "kubernetes",
            "default",
            json!({ "component": "apiserver", "provider": "kubernetes" }),
            json!({
                "clusterIP": network.address(1),
                "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": api_port }],
            }),
        ),
        service(
            "kube-dns",
            "kube-system",
            json!({ "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS" }),
            json!({
                "clusterIP": network.address(10),
                "ports": [
                    { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53 },
                    { "name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53 },
                ],
            }),
        ),
    ]
}
