//! Binds claims to volumes and keeps both their phases.
//!
//! In: claims, volumes, classes. Out: both bound, and events that say what a claim waits for.
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/>

use std::sync::Arc;

use futures::future::BoxFuture;
use kontiki_api::resources::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use kontiki_client::{Error, Patch, events::EventType, reflector::ObjectKey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Claim, Volume,
    binding::{BIND_COMPLETED, BOUND_BY_CONTROLLER, ClaimStep, VolumeStep, claim_step, volume_step},
};
use crate::{
    context::Context,
    pod_control::reference,
    run::{self, Reconciled, gone, seen},
    written::write_status,
};

/// Annotations that tell a provisioner of a claim that waits for it.
const PROVISIONER: [&str; 2] = ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];

/// Begins to bind claims.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("persistentvolume_binder");
    run::tell_own(&context.claims, &queue);
    let (all, add) = (Arc::clone(context), Arc::clone(&queue));
    // A volume may be what any claim that waits was waiting for.
    context.volumes.on_version(move |volume| match &volume.spec.claim_ref {
        Some(claim) => add.add(ObjectKey::new(claim.namespace.clone(), claim.name.clone())),
        None => {
            let waiting = all.claims.list().into_iter().filter(|claim| !claim.metadata.annotations.contains_key(BIND_COMPLETED));
            waiting.for_each(|claim| add.add(claim.metadata.key()));
        }
    });
    let (all, add) = (Arc::clone(context), Arc::clone(&queue));
    context.storage_classes.on_version(move |class| {
        let claims = all.claims.list();
        let concerned = claims.iter().filter(|claim| claim.spec.storage_class_name.as_ref() == Some(&class.metadata.name));
        concerned.for_each(|claim| add.add(claim.metadata.key()));
    });
    run::controller(context, &queue, "persistentvolume_binder", cancel, reconcile_claim)
}

/// Begins to keep volumes' phases.
pub fn start_volumes(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("persistentvolume_phase");
    run::tell_own(&context.volumes, &queue);
    let (all, add) = (Arc::clone(context), Arc::clone(&queue));
    context.claims.on_version(move |claim| {
        let meta = &claim.metadata;
        if !claim.spec.volume_name.is_empty() {
            add.add(ObjectKey::new("", claim.spec.volume_name.clone()));
        }
        let named = |volume: &&Arc<Volume>| {
            volume.spec.claim_ref.as_ref().is_some_and(|one| one.name == meta.name && one.namespace == meta.namespace)
        };
        all.volumes.list().iter().filter(named).for_each(|volume| add.add(volume.metadata.key()));
    });
    run::controller(context, &queue, "persistentvolume_phase", cancel, reconcile_volume)
}

async fn reconcile_claim(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let Some(claim) = context.claims.get(&key.namespace, &key.name) else { return Ok(None) };
    let class = claim.spec.storage_class_name.as_deref().and_then(|name| context.storage_classes.get("", name));
    let step = claim_step(&claim, &context.volumes.list(), class.as_deref());
    let tell = |type_, reason: &str, message: String| {
        context.recorder.event(&reference(&claim.metadata, PERSISTENT_VOLUME_CLAIMS), type_, reason, message);
    };
    match step {
        ClaimStep::Wait => pending(&context, &claim).await?,
        ClaimStep::Bind(name) => {
            if let Some(volume) = context.volumes.get("", &name) {
                bind(&context, &claim, &volume).await?;
            }
        }
        ClaimStep::Pending(reason, message) => {
            pending(&context, &claim).await?;
            tell(EventType::Normal, reason, message);
        }
        ClaimStep::Warn(reason, message) => {
            pending(&context, &claim).await?;
            tell(EventType::Warning, reason, message);
        }
        ClaimStep::Provision(provisioner) => {
            pending(&context, &claim).await?;
            let known = PROVISIONER.iter().all(|name| claim.metadata.annotation(name) == provisioner);
            if !known {
                let annotations: Value = PROVISIONER
                    .iter()
                    .map(|name| ((*name).to_owned(), json!(provisioner)))
                    .collect::<serde_json::Map<_, _>>()
                    .into();
                let patch = Patch::Merge(json!({ "metadata": { "uid": claim.metadata.uid, "annotations": annotations } }));
                gone(
                    context
                        .client()
                        .patch::<Value>(PERSISTENT_VOLUME_CLAIMS, &key.namespace, &key.name, None, patch)
                        .await
                        .map(drop),
                )?;
            }
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
            );
            tell(EventType::Normal, "ExternalProvisioning", message);
        }
        ClaimStep::Lost(reason, message) => {
            if claim.status["phase"] != "Lost" {
                let want = json!({ "phase": "Lost" });
                write_status(&context, PERSISTENT_VOLUME_CLAIMS, &claim.metadata, &claim.status, &want).await?;
                tell(EventType::Warning, reason, message.to_owned());
            }
        }
    }
    Ok(None)
}

async fn pending(context: &Context, claim: &Claim) -> Result<(), Error> {
    let want = json!({ "phase": "Pending" });
    write_status(context, PERSISTENT_VOLUME_CLAIMS, &claim.metadata, &claim.status, &want).await.map(drop)
}

/// The volume first, so that two claims never get the same one; then the claim.
async fn bind(context: &Context, claim: &Claim, volume: &Volume) -> Result<(), Error> {
    let (client, meta) = (context.client(), &claim.metadata);
    let name = &volume.metadata.name;
    let held = volume.spec.claim_ref.as_ref();
    if held.is_none_or(|held| held.uid != meta.uid) {
        let claim_ref = json!({
            "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": meta.namespace, "name": meta.name,
            "uid": meta.uid, "resourceVersion": meta.resource_version,
        });
        let mut patch =
            json!({ "metadata": { "resourceVersion": volume.metadata.resource_version }, "spec": { "claimRef": claim_ref } });
        if held.is_none() {
            patch["metadata"]["annotations"] = json!({ BOUND_BY_CONTROLLER: "yes" });
        }
        let bound: Volume = client.patch(PERSISTENT_VOLUMES, "", name, None, Patch::Merge(patch)).await?;
        let version = bound.metadata.resource_version;
        let shown = |now: &Volume| {
            now.metadata.resource_version == version || now.spec.claim_ref.as_ref().is_some_and(|held| held.uid == meta.uid)
        };
        seen(|| context.volumes.get("", name).is_none_or(|now| shown(&now))).await;
    }
    let mut fresh = claim.clone();
    if claim.spec.volume_name != *name || !meta.annotations.contains_key(BIND_COMPLETED) {
        let mut patch = json!({
            "metadata": { "resourceVersion": meta.resource_version, "annotations": { BIND_COMPLETED: "yes" } },
            "spec": { "volumeName": name },
        });
        if claim.spec.volume_name.is_empty() {
            patch["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
        }
        fresh = client.patch(PERSISTENT_VOLUME_CLAIMS, &meta.namespace, &meta.name, None, Patch::Merge(patch)).await?;
    }
    let mut want = json!({ "phase": "Bound", "accessModes": volume.spec.access_modes });
    if fresh.status["phase"] != "Bound" {
        want["capacity"] = volume.spec.capacity.clone();
    }
    write_status(context, PERSISTENT_VOLUME_CLAIMS, &fresh.metadata, &fresh.status, &want).await.map(drop)
}

async fn reconcile_volume(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let Some(volume) = context.volumes.get("", &key.name) else { return Ok(None) };
    let claim = match &volume.spec.claim_ref {
        // The picture of a claim may be younger or older than the volume's: what seems gone is asked for.
        Some(held) if !held.uid.is_empty() => match context.claims.get(&held.namespace, &held.name) {
            Some(claim) if claim.metadata.uid == held.uid => Some(claim),
            _ => match context.client().get::<Claim>(PERSISTENT_VOLUME_CLAIMS, &held.namespace, &held.name).await {
                Ok(claim) => Some(Arc::new(claim)),
                Err(error) => gone(Err(error)).map(|()| None)?,
            },
        },
        _ => None,
    };
    match volume_step(&volume, claim.as_deref()) {
        VolumeStep::Keep => {}
        VolumeStep::Phase(phase, why) => {
            let message = why.as_ref().map(|(_, message)| message.clone());
            let want = json!({ "phase": phase, "message": message, "reason": why.as_ref().map(|(reason, _)| *reason) });
            write_status(&context, PERSISTENT_VOLUMES, &volume.metadata, &volume.status, &want).await?;
            if let Some((reason, message)) = why {
                context.recorder.event(&reference(&volume.metadata, PERSISTENT_VOLUMES), EventType::Warning, reason, message);
            }
        }
        VolumeStep::Unbind => {
            let patch = json!({
                "metadata": { "resourceVersion": volume.metadata.resource_version, "annotations": { BOUND_BY_CONTROLLER: null } },
                "spec": { "claimRef": null },
            });
            gone(context.client().patch::<Value>(PERSISTENT_VOLUMES, "", &key.name, None, Patch::Merge(patch)).await.map(drop))?;
        }
    }
    Ok(None)
}
