//! What a cluster has from its first moment: the system namespaces and the roles that let clients
//! find out what they talk to.
//!
//! In: a started API server. Out: objects, written through the same path as any client's. Every
//! server tries; what another one has made already is left as it is.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use kontiki_api::resources::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, NAMESPACES, ResourceKey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{auth::UserInfo, service::Handle};

/// Wait before what failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
const NAMESPACE_NAMES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates what is missing, again and again until all of it is there, then marks the server ready.
pub async fn run(handle: Handle, cancel: CancellationToken) {
    for (key, object) in objects() {
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
}

async fn create(handle: &Handle, key: &ResourceKey, object: &Value) -> Result<(), String> {
    let request = Request::builder().method(Method::POST).uri(key.path("", ""));
    let request = request.body(Bytes::from(object.to_string())).map_err(|error| error.to_string())?;
    let response = handle.call(UserInfo::apiserver(), request).await;
    if matches!(response.status(), StatusCode::CREATED | StatusCode::CONFLICT) {
        return Ok(());
    }
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    Err(String::from_utf8_lossy(&body).into_owned())
}

/// Everything that is created, in order.
fn objects() -> Vec<(ResourceKey, Value)> {
    let namespace = |name: &&str| {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        (NAMESPACES, object)
    };
    let mut objects: Vec<_> = NAMESPACE_NAMES.iter().map(namespace).collect();
    for (name, rules, groups) in roles() {
        let metadata = json!({
            "name": name,
            "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
            "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "true" },
        });
        let version = "rbac.authorization.k8s.io/v1";
        objects
            .push((CLUSTER_ROLES, json!({ "apiVersion": version, "kind": "ClusterRole", "metadata": metadata, "rules": rules })));
        if groups.is_empty() {
            continue;
        }
        let subject = |group: &&str| json!({ "kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group });
        let subjects: Value = groups.iter().map(subject).collect();
        let reference = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name });
        let binding = json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": metadata, "roleRef": reference, "subjects": subjects,
        });
        objects.push((CLUSTER_ROLE_BINDINGS, binding));
    }
    objects
}

/// Name, rules and groups of each role, as v1.36 has them.
/// <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>
fn roles() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let paths = |paths: &[&str]| json!([{ "nonResourceURLs": paths, "verbs": ["get"] }]);
    let reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
    vec![
        (
            "cluster-admin",
            json!([
                { "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] },
                { "nonResourceURLs": ["*"], "verbs": ["*"] },
            ]),
            &["system:masters"],
        ),
        (
            "system:discovery",
            paths(&[
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            ]),
            &["system:authenticated"],
        ),
        (
            "system:basic-user",
            json!([
                { "apiGroups": ["authorization.k8s.io"], "resources": reviews, "verbs": ["create"] },
                { "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"] },
            ]),
            &["system:authenticated"],
        ),
        (
            "system:public-info-viewer",
            paths(&["/healthz", "/livez", "/readyz", "/version", "/version/"]),
            &["system:authenticated", "system:unauthenticated"],
        ),
    ]
}
