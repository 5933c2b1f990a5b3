//! Namespaces: one that is deleted is emptied, then let go.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/>

use std::{sync::Arc, time::Duration};

use http::Method;
use kontiki_api::{
    registry,
    resources::{NAMESPACES, PODS, ResourceKey},
};
use kontiki_client::{Error, List, ListParams, reflector::ObjectKey};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    model::{Bare, Meta},
    run::{self, Queue},
};

/// How soon a namespace that still holds something is looked at again.
const AGAIN: Duration = Duration::from_millis(500);

/// A Namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// What all objects have.
    pub metadata: Meta,
    /// Who must agree before it goes.
    pub spec: NamespaceSpec,
}

/// Finalizers of a Namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NamespaceSpec {
    /// Their names.
    pub finalizers: Vec<String>,
}

/// Reconciles until `cancel`.
pub async fn run(context: Arc<Context>, queue: Queue, cancel: CancellationToken) {
    let reconcile = move |key| reconcile(Arc::clone(&context), key);
    run::run(queue, "namespace", cancel, reconcile).await;
}

fn kinds() -> impl Iterator<Item = ResourceKey> {
    let deletable = |resource: &&registry::Resource| {
        resource.key.namespaced && resource.verbs.contains(&"deletecollection") && resource.conversion.is_none()
    };
    registry::all().iter().filter(deletable).map(|resource| resource.key)
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Option<Duration>, Error> {
    let name = &key.name;
    let Some(namespace) = context.namespaces.get("", name) else { return Ok(None) };
    if namespace.metadata.deletion_timestamp.is_none() || !namespace.spec.finalizers.iter().any(|one| one == "kubernetes") {
        return Ok(None);
    }
    let client = context.client();
    let mut left = 0;
    for kind in kinds() {
        let path = collection(kind, name);
        // Pods go at once to their nodes, which give them their time.
        client.request(Method::DELETE, path, "application/json", bytes::Bytes::new()).await?;
        let params = ListParams { limit: 1, ..ListParams::default() };
        let found: List<Bare> = client.list(kind, name, &params).await?;
        left += found.items.len();
    }
    if left > 0 {
        let pods = client.list::<Bare>(PODS, name, &ListParams::default()).await?.items.len();
        tracing::debug!(namespace = %name, left, pods, "waiting for the namespace to be empty");
        return Ok(Some(AGAIN));
    }
    let finalizers: Vec<_> = namespace.spec.finalizers.iter().filter(|one| *one != "kubernetes").collect();
    let body = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": name, "uid": namespace.metadata.uid },
        "spec": { "finalizers": finalizers },
    });
    match client.update_subresource::<Value>(NAMESPACES, "", name, "finalize", &body).await {
        Err(error) if error.is_not_found() => Ok(None),
        other => other.map(|_| None),
    }
}

fn collection(kind: ResourceKey, namespace: &str) -> String {
    let root = if kind.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}/{}", kind.group, kind.version) };
    format!("{root}/namespaces/{namespace}/{}", kind.plural)
}
