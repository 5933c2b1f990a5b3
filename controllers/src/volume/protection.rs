//! Claims and volumes that are in use stay until they are not; and claims are made for pods that ask for their own.
//!
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection>

use std::sync::Arc;

use futures::future::BoxFuture;
use kontiki_api::resources::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, ResourceKey};
use kontiki_client::{Error, Patch, events::EventType, reflector::ObjectKey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    model::{Meta, Pod},
    pod_control::Owner,
    run::{self, Reconciled, gone},
};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

/// The finalizers that an object ought to have; `None` where it has them.
pub fn protect(meta: &Meta, finalizer: &str, in_use: bool) -> Option<Vec<String>> {
    let has = meta.has_finalizer(finalizer);
    let mut finalizers = meta.finalizers.clone();
    if !meta.is_deleted() && !has {
        finalizers.push(finalizer.to_owned());
        return Some(finalizers);
    }
    (meta.is_deleted() && has && !in_use).then(|| {
        finalizers.retain(|name| name != finalizer);
        finalizers
    })
}

/// Begins to protect claims.
pub fn start_claims(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("pvc_protection");
    run::tell_own(&context.claims, &queue);
    let add = Arc::clone(&queue);
    context.pods.on_version(move |pod| pod.claims().for_each(|claim| add.add(claim)));
    run::controller(context, &queue, "pvc_protection", cancel, |context, key| async move {
        let Some(claim) = context.claims.get(&key.namespace, &key.name) else { return Ok(None) };
        // A pod without a node is not started with a claim that is going.
        let in_use = context.pods_with(&claim.metadata).iter().any(|pod| !pod.spec.node_name.is_empty());
        write(&context, PERSISTENT_VOLUME_CLAIMS, &claim.metadata, protect(&claim.metadata, CLAIM, in_use)).await.map(|()| None)
    })
}

/// Begins to protect volumes.
pub fn start_volumes(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("pv_protection");
    run::tell_own(&context.volumes, &queue);
    run::controller(context, &queue, "pv_protection", cancel, |context, key| async move {
        let Some(volume) = context.volumes.get("", &key.name) else { return Ok(None) };
        let in_use = volume.status["phase"] == "Bound";
        write(&context, PERSISTENT_VOLUMES, &volume.metadata, protect(&volume.metadata, VOLUME, in_use)).await.map(|()| None)
    })
}

async fn write(context: &Context, key: ResourceKey, meta: &Meta, finalizers: Option<Vec<String>>) -> Result<(), Error> {
    let Some(finalizers) = finalizers else { return Ok(()) };
    let patch = Patch::Merge(json!({ "metadata": { "resourceVersion": meta.resource_version, "finalizers": finalizers } }));
    gone(context.client().patch::<Value>(key, &meta.namespace, &meta.name, None, patch).await.map(drop))
}

/// Begins to make claims for pods that ask for their own.
pub fn start_ephemeral(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("ephemeral_volume");
    let add = Arc::clone(&queue);
    context.pods.on_change(move |change| {
        let asking = |pod: &&Arc<Pod>| pod.spec.volumes.iter().any(|volume| volume.ephemeral.is_some());
        change.new.iter().filter(asking).for_each(|pod| add.add(pod.metadata.key()));
    });
    run::controller(context, &queue, "ephemeral_volume", cancel, reconcile_ephemeral)
}

async fn reconcile_ephemeral(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let Some(pod) = context.pods.get(&key.namespace, &key.name).filter(|pod| !pod.metadata.is_deleted()) else { return Ok(None) };
    let owner = Owner { key: PODS, meta: &pod.metadata };
    let asked = pod.spec.volumes.iter().filter_map(|volume| Some((volume, &volume.ephemeral.as_ref()?.volume_claim_template)));
    for (volume, template) in asked {
        let name = format!("{}-{}", key.name, volume.name);
        if let Some(claim) = context.claims.get(&key.namespace, &name) {
            if !claim.metadata.is_controlled_by(&pod.metadata.uid) {
                let words = format!("PVC {name:?} was not created for the pod");
                context.recorder.event(&owner.reference(), EventType::Warning, "FailedBinding", words);
            }
            continue;
        }
        let body = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": name, "labels": template["metadata"]["labels"], "annotations": template["metadata"]["annotations"],
                "ownerReferences": [owner.controller()],
            },
            "spec": template["spec"],
        });
        match context.client().create::<Value>(PERSISTENT_VOLUME_CLAIMS, &key.namespace, &body).await {
            Err(error) if !error.is_already_exists() && !error.is_namespace_terminating() => return Err(error),
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays() {
        let mut meta = Meta::default();
        assert_eq!(protect(&meta, CLAIM, false), Some(vec![CLAIM.to_owned()]));
        meta.finalizers = vec!["other".to_owned(), CLAIM.to_owned()];
        assert_eq!(protect(&meta, CLAIM, false), None);
        meta.deletion_timestamp = Some(jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(protect(&meta, CLAIM, true), None);
        assert_eq!(protect(&meta, CLAIM, false), Some(vec!["other".to_owned()]));
    }
}
