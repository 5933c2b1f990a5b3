//! What a cluster has from its first moment: the system namespaces, the default roles, the Services of the
//! API and of DNS.
//!
//! In: a started API server. Out: objects, written through the same path as any client's. Every
//! server tries; what another one has made already is left as it is.

mod endpoints;
mod roles;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use kontiki_api::resources::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, NAMESPACES, ResourceKey, SERVICES};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{addresses::ServiceNetwork, auth::UserInfo, service::Handle};

/// Wait before what failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
const NAMESPACE_NAMES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates what is missing, again and again until all of it is there, then marks the server ready;
/// afterwards keeps the endpoints of the API true.
pub async fn run(handle: Handle, cancel: CancellationToken) {
    let options = &handle.server().options;
    for (key, object) in objects(options.service_network, options.advertise.port()) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                made = create(&handle, &key, &object) => match made {
                    Ok(()) => break,
                    Err(message) => tracing::debug!(object = %object["metadata"]["name"], message, "bootstrap"),
                },
            }
            tokio::time::sleep(RETRY.mul_f64(rand::random_range(0.5..1.5))).await;
        }
    }
    handle.set_bootstrapped();
    endpoints::run(handle, cancel).await;
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

async fn create(handle: &Handle, key: &ResourceKey, object: &Value) -> Result<(), String> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    if ask(handle, Method::GET, &key.path(namespace, name), Bytes::new()).await?.0 == 200 {
        return Ok(());
    }
    exists(ask(handle, Method::POST, &key.path(namespace, ""), Bytes::from(object.to_string())).await?)
}

/// Everything that is created, in order.
fn objects(network: ServiceNetwork, api_port: u16) -> Vec<(ResourceKey, Value)> {
    let namespace = |name: &&str| {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        (NAMESPACES, object)
    };
    let mut objects: Vec<_> = NAMESPACE_NAMES.iter().map(namespace).collect();
    for role in roles::all() {
        let name = role.name;
        let metadata = json!({
            "name": name,
            "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
            "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "true" },
        });
        let version = "rbac.authorization.k8s.io/v1";
        let object = json!({ "apiVersion": version, "kind": "ClusterRole", "metadata": metadata, "rules": role.rules });
        objects.push((CLUSTER_ROLES, object));
        let subject = |kind: &'static str| move |name: &&str| json!({ "kind": kind, "apiGroup": "rbac.authorization.k8s.io", "name": name });
        let subjects: Vec<Value> =
            role.groups.iter().map(subject("Group")).chain(role.users.iter().map(subject("User"))).collect();
        if subjects.is_empty() {
            continue;
        }
        let reference = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name });
        let binding = json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": metadata, "roleRef": reference, "subjects": subjects,
        });
        objects.push((CLUSTER_ROLE_BINDINGS, binding));
    }
    objects.extend(services(network, api_port));
    objects
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
