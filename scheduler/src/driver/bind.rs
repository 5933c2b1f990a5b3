//! Binding: volumes first, then the pod's node; each its own transaction, many at once.

use std::{sync::Arc, time::Duration};

use kontiki_api::resources::{PODS, ResourceKey};
use kontiki_client::{Client, Error, Patch};
use serde_json::{Value, json};

use crate::{
    model::{
        Pod,
        storage::{Claim, SELECTED_NODE, Volume},
    },
    plugins::volume_binding::Plan,
};

/// How long a pod waits for its volumes.
const VOLUMES_DEADLINE: Duration = Duration::from_secs(600);
/// First and longest wait between two looks at claims.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

const CLAIMS: ResourceKey =
    ResourceKey { group: "", version: "v1", plural: "persistentvolumeclaims", kind: "PersistentVolumeClaim", namespaced: true };
const VOLUMES: ResourceKey =
    ResourceKey { group: "", version: "v1", plural: "persistentvolumes", kind: "PersistentVolume", namespaced: false };

/// Why a pod was not bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A request failed.
    #[error(transparent)]
    Api(#[from] Error),
    /// A claim has lost the node that its volume was to be made for.
    #[error("provisioning failed for PVC \"{0}\"")]
    Provisioning(String),
    /// Volumes did not come in time.
    #[error("timed out waiting for the condition")]
    Volumes,
}

impl BindError {
    /// Whether the pod is bound or gone already.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Api(error) if error.is_conflict() || error.is_not_found())
    }
}

/// Does what a plan for volumes says, and waits for it.
pub async fn volumes(client: &Client, node: &str, plan: &Plan) -> Result<(), BindError> {
    for (claim, volume) in &plan.bind {
        promise(client, claim, volume).await?;
    }
    for claim in &plan.provision {
        let meta = &claim.metadata;
        let patch = json!({ "metadata": { "uid": meta.uid, "annotations": { SELECTED_NODE: node } } });
        client.patch::<Value>(CLAIMS, &meta.namespace, &meta.name, None, Patch::Merge(patch)).await?;
    }
    let claims: Vec<&Claim> =
        plan.bind.iter().map(|(claim, _)| &**claim).chain(plan.provision.iter().map(|claim| &**claim)).collect();
    let wait = async {
        for claim in claims {
            bound(client, claim, node, plan).await?;
        }
        Ok(())
    };
    tokio::time::timeout(VOLUMES_DEADLINE, wait).await.unwrap_or(Err(BindError::Volumes))
}

/// Promises a volume to a claim; the volume controller completes it.
async fn promise(client: &Client, claim: &Claim, volume: &Volume) -> Result<(), BindError> {
    let meta = &claim.metadata;
    let mut patch = json!({
        "metadata": { "uid": volume.metadata.uid, "resourceVersion": volume.resource_version },
        "spec": { "claimRef": {
            "apiVersion": "v1", "kind": CLAIMS.kind, "namespace": meta.namespace, "name": meta.name, "uid": meta.uid,
        } },
    });
    if !volume.belongs_to(claim) {
        patch["metadata"]["annotations"] = json!({ "pv.kubernetes.io/bound-by-controller": "yes" });
    }
    client.patch::<Value>(VOLUMES, "", &volume.metadata.name, None, Patch::Merge(patch)).await?;
    Ok(())
}

async fn bound(client: &Client, claim: &Claim, node: &str, plan: &Plan) -> Result<(), BindError> {
    let (namespace, name) = (&claim.metadata.namespace, &claim.metadata.name);
    let provisioned = plan.provision.iter().any(|other| other.metadata.uid == claim.metadata.uid);
    let mut wait = LOOKS.0;
    loop {
        let now: Claim = client.get(CLAIMS, namespace, name).await?;
        if now.is_bound() {
            return Ok(());
        }
        // Whoever makes volumes takes the node's name away to say that it cannot be done there.
        if provisioned && now.metadata.annotations.get(SELECTED_NODE).map(String::as_str) != Some(node) {
            return Err(BindError::Provisioning(format!("{namespace}/{name}")));
        }
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
        wait = (wait * 2).min(LOOKS.1);
    }
}

/// Gives a pod its node.
pub async fn pod(client: &Client, pod: &Arc<Pod>, node: &str) -> Result<(), BindError> {
    let meta = &pod.metadata;
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": { "name": meta.name, "namespace": meta.namespace, "uid": meta.uid },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    client.create_subresource::<Value>(PODS, &meta.namespace, &meta.name, "binding", &binding).await?;
    Ok(())
}
