//! Which claim gets which volume, and what becomes of either. Pure.
//!
//! Invariant: a volume is bound to one claim, both say so, and the volume says so first.

use kontiki_api::quantity::Quantity;
use serde_json::Value;

use super::{Claim, StorageClass, Volume};

/// Annotation of a claim that has its volume for good.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Annotation of what was bound by a controller and not by hand.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Annotation of a claim whose pod has a node already.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Provisioner of classes for which nobody makes volumes.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What to do about a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimStep {
    /// It has what it needs, or waits for somebody else.
    Wait,
    /// It gets the volume of this name.
    Bind(String),
    /// It waits, which is told: reason and message.
    Pending(&'static str, String),
    /// It waits, which is a warning: reason and message.
    Warn(&'static str, String),
    /// It waits for this provisioner.
    Provision(String),
    /// Its volume is gone: reason and message.
    Lost(&'static str, &'static str),
}

/// What to do about a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeStep {
    /// It is as it ought to be.
    Keep,
    /// It gets this phase; a failure says why.
    Phase(&'static str, Option<(&'static str, String)>),
    /// It was bound for a claim that has another one: it is free again.
    Unbind,
}

fn quantity(value: &Value) -> Option<Quantity> {
    value["storage"].as_str()?.parse().ok()
}

fn mode(mode: &str) -> &str {
    if mode.is_empty() { "Filesystem" } else { mode }
}

/// Whether a volume is kept for that claim, by its UID where the volume names one.
fn is_for(volume: &Volume, claim: &Claim) -> bool {
    volume.spec.claim_ref.as_ref().is_some_and(|reference| {
        let named = reference.name == claim.metadata.name && reference.namespace == claim.metadata.namespace;
        named && (reference.uid.is_empty() || reference.uid == claim.metadata.uid)
    })
}

/// Whether a volume has what a claim asks for.
fn satisfies(volume: &Volume, claim: &Claim) -> bool {
    let (have, want) = (quantity(&volume.spec.capacity), quantity(&claim.spec.resources["requests"]));
    let modes = claim.spec.access_modes.iter().all(|mode| volume.spec.access_modes.contains(mode));
    let class = volume.spec.storage_class_name == claim.spec.storage_class_name.as_deref().unwrap_or_default();
    let attributes = volume.spec.volume_attributes_class_name == claim.spec.volume_attributes_class_name;
    have >= want && modes && class && attributes && mode(&volume.spec.volume_mode) == mode(&claim.spec.volume_mode)
}

/// The volume that fits best: one that is kept for the claim, else the smallest.
fn best<'a>(claim: &Claim, volumes: impl Iterator<Item = &'a Volume>) -> Option<&'a Volume> {
    let selected =
        |volume: &&Volume| claim.spec.selector.as_ref().is_none_or(|selector| selector.matches(&volume.metadata.labels));
    let free = |volume: &&Volume| {
        let kept = is_for(volume, claim);
        let available = volume.spec.claim_ref.is_none() && volume.status["phase"] == "Available" && selected(volume);
        !volume.metadata.is_deleted() && (kept || available) && satisfies(volume, claim)
    };
    volumes
        .filter(free)
        .min_by_key(|volume| (!is_for(volume, claim), quantity(&volume.spec.capacity), volume.metadata.name.clone()))
}

/// Decides about a claim. `class` is its class, if that exists.
pub fn claim_step(claim: &Claim, volumes: &[std::sync::Arc<Volume>], class: Option<&StorageClass>) -> ClaimStep {
    let named = || volumes.iter().find(|volume| volume.metadata.name == claim.spec.volume_name);
    if claim.metadata.annotations.contains_key(BIND_COMPLETED) {
        if claim.spec.volume_name.is_empty() {
            let words = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
            return ClaimStep::Lost("ClaimLost", words);
        }
        return match named() {
            None => ClaimStep::Lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
            Some(volume) if volume.spec.claim_ref.is_none() || is_for(volume, claim) => {
                ClaimStep::Bind(volume.metadata.name.clone())
            }
            Some(_) => ClaimStep::Lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly"),
        };
    }
    if !claim.spec.volume_name.is_empty() {
        return match named() {
            Some(volume) if is_for(volume, claim) => ClaimStep::Bind(volume.metadata.name.clone()),
            Some(volume) if volume.spec.claim_ref.is_none() && satisfies(volume, claim) => {
                ClaimStep::Bind(volume.metadata.name.clone())
            }
            Some(volume) if volume.spec.claim_ref.is_none() => {
                let words =
                    format!("Cannot bind to requested volume {:?}: it does not have what was asked for", volume.metadata.name);
                ClaimStep::Warn("VolumeMismatch", words)
            }
            _ => ClaimStep::Wait,
        };
    }
    let name = claim.spec.storage_class_name.as_deref().unwrap_or_default();
    let late = class.is_some_and(|class| class.volume_binding_mode == "WaitForFirstConsumer");
    let waits = late && !claim.metadata.annotations.contains_key(SELECTED_NODE);
    let found = best(claim, volumes.iter().map(AsRef::as_ref));
    // Who waits for its pod is bound only to what the scheduler has kept for it.
    if let Some(volume) = found.filter(|volume| !late || is_for(volume, claim)) {
        return ClaimStep::Bind(volume.metadata.name.clone());
    }
    if waits {
        let words = "waiting for first consumer to be created before binding";
        return ClaimStep::Pending("WaitForFirstConsumer", words.to_owned());
    }
    if name.is_empty() {
        let words = "no persistent volumes available for this claim and no storage class is set";
        return ClaimStep::Pending("FailedBinding", words.to_owned());
    }
    match class {
        None => ClaimStep::Warn("ProvisioningFailed", format!("storageclass.storage.k8s.io {name:?} not found")),
        Some(class) if class.provisioner == NO_PROVISIONER => {
            ClaimStep::Warn("ProvisioningFailed", "no volume plugin matched name: kubernetes.io/no-provisioner".to_owned())
        }
        Some(class) => ClaimStep::Provision(class.provisioner.clone()),
    }
}

/// Decides about a volume. `claim` is what its reference names now, whatever its UID.
pub fn volume_step(volume: &Volume, claim: Option<&Claim>) -> VolumeStep {
    let phase = volume.status["phase"].as_str().unwrap_or_default();
    let to = |wanted: &'static str| if phase == wanted { VolumeStep::Keep } else { VolumeStep::Phase(wanted, None) };
    let Some(reference) = volume.spec.claim_ref.as_ref().filter(|reference| !reference.uid.is_empty()) else {
        return to("Available");
    };
    match claim.filter(|claim| claim.metadata.uid == reference.uid) {
        Some(claim) if claim.spec.volume_name == volume.metadata.name => to("Bound"),
        // The claim's own turn binds it.
        Some(claim) if claim.spec.volume_name.is_empty() => VolumeStep::Keep,
        Some(_) if volume.metadata.annotations.contains_key(BOUND_BY_CONTROLLER) => VolumeStep::Unbind,
        Some(_) => VolumeStep::Keep,
        None if phase == "Failed" => VolumeStep::Keep,
        None => match volume.spec.persistent_volume_reclaim_policy.as_str() {
            _ if phase != "Released" => VolumeStep::Phase("Released", None),
            "Recycle" => {
                let words = "no volume plugin matched: recycling is not supported".to_owned();
                VolumeStep::Phase("Failed", Some(("VolumeFailedRecycle", words)))
            }
            // Whoever made it deletes it.
            "Delete" if volume.metadata.annotations.contains_key("pv.kubernetes.io/provisioned-by") => VolumeStep::Keep,
            "Delete" => {
                let words = format!(
                    "error getting deleter volume plugin for volume {:?}: no volume plugin matched",
                    volume.metadata.name
                );
                VolumeStep::Phase("Failed", Some(("VolumeFailedDelete", words)))
            }
            _ => VolumeStep::Keep,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn volume(name: &str, size: &str, reference: Value) -> Arc<Volume> {
        let spec = json!({
            "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "claimRef": reference, "storageClassName": "fast",
            "persistentVolumeReclaimPolicy": "Retain",
        });
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}})).unwrap(),
        )
    }

    fn claim(extra: Value, annotations: Value) -> Claim {
        let mut spec =
            json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}});
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let meta = json!({"name": "c", "namespace": "n", "uid": "u", "annotations": annotations});
        serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
    }

    fn class(mode: &str, provisioner: &str) -> StorageClass {
        StorageClass { volume_binding_mode: mode.into(), provisioner: provisioner.into(), ..StorageClass::default() }
    }

    fn reference(uid: &str) -> Value {
        json!({"namespace": "n", "name": "c", "uid": uid})
    }

    #[test]
    fn a_claim_gets_the_smallest_volume_that_fits() {
        let volumes = [volume("small", "1Gi", Value::Null), volume("big", "9Gi", Value::Null), volume("fit", "2Gi", Value::Null)];
        let bind = |name: &str| ClaimStep::Bind(name.to_owned());
        let immediate = class("Immediate", "example.com/disk");
        let step = |claim: &Claim, volumes: &[Arc<Volume>]| claim_step(claim, volumes, Some(&immediate));
        let plain = claim(json!({}), json!({}));
        assert_eq!(step(&plain, &volumes), bind("fit"));
        assert_eq!(step(&plain, &volumes[..2]), bind("big"));
        assert_eq!(step(&plain, &volumes[..1]), ClaimStep::Provision("example.com/disk".to_owned()));
        assert_eq!(
            step(&claim(json!({"accessModes": ["ReadWriteMany"]}), json!({})), &volumes),
            ClaimStep::Provision("example.com/disk".to_owned())
        );
        assert_eq!(step(&claim(json!({"volumeName": "big"}), json!({})), &volumes), bind("big"));
        let kept = [volume("fit", "2Gi", Value::Null), volume("kept", "9Gi", reference(""))];
        assert_eq!(step(&plain, &kept), bind("kept"), "what is kept for it comes first");
        assert_eq!(step(&plain, &[volume("other", "2Gi", reference("x"))]), ClaimStep::Provision("example.com/disk".to_owned()));
    }

    #[test]
    fn who_waits_for_a_pod_is_not_bound_before() {
        let late = class("WaitForFirstConsumer", "kubernetes.io/no-provisioner");
        let plain = claim(json!({}), json!({}));
        let waiting = claim_step(&plain, &[volume("fit", "2Gi", Value::Null)], Some(&late));
        assert!(matches!(waiting, ClaimStep::Pending("WaitForFirstConsumer", _)));
        assert_eq!(claim_step(&plain, &[volume("fit", "2Gi", reference("u"))], Some(&late)), ClaimStep::Bind("fit".to_owned()));
        let chosen = claim(json!({}), json!({SELECTED_NODE: "x"}));
        assert!(matches!(claim_step(&chosen, &[], Some(&late)), ClaimStep::Warn("ProvisioningFailed", _)));
        let none = claim(json!({"storageClassName": ""}), json!({}));
        assert!(matches!(claim_step(&none, &[], None), ClaimStep::Pending("FailedBinding", _)));
        assert!(matches!(claim_step(&plain, &[], None), ClaimStep::Warn("ProvisioningFailed", _)));
    }

    #[test]
    fn a_bound_claim_that_loses_its_volume_is_lost() {
        let bound = claim(json!({"volumeName": "v"}), json!({BIND_COMPLETED: "yes"}));
        assert!(matches!(claim_step(&bound, &[], None), ClaimStep::Lost("ClaimLost", _)));
        assert_eq!(claim_step(&bound, &[volume("v", "2Gi", reference("u"))], None), ClaimStep::Bind("v".to_owned()));
        assert!(matches!(claim_step(&bound, &[volume("v", "2Gi", reference("x"))], None), ClaimStep::Lost("ClaimMisbound", _)));
    }

    #[test]
    fn a_volumes_phase_follows_its_claim() {
        let bound = claim(json!({"volumeName": "v"}), json!({}));
        let elsewhere = claim(json!({"volumeName": "w"}), json!({}));
        let (free, kept, taken) =
            (volume("v", "1Gi", Value::Null), volume("v", "1Gi", reference("")), volume("v", "1Gi", reference("u")));
        let phase = |phase| VolumeStep::Phase(phase, None);
        assert_eq!(volume_step(&free, None), VolumeStep::Keep);
        assert_eq!(volume_step(&kept, Some(&bound)), VolumeStep::Keep);
        assert_eq!(volume_step(&taken, Some(&bound)), phase("Bound"));
        assert_eq!(volume_step(&taken, None), phase("Released"));
        assert_eq!(volume_step(&taken, Some(&claim(json!({}), json!({})))), VolumeStep::Keep);
        let mut ours = (*taken).clone();
        ours.metadata.annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        assert_eq!(volume_step(&ours, Some(&elsewhere)), VolumeStep::Unbind);
        let mut released = (*taken).clone();
        released.status = json!({"phase": "Released"});
        assert_eq!(volume_step(&released, None), VolumeStep::Keep);
        released.spec.persistent_volume_reclaim_policy = "Delete".to_owned();
        assert!(matches!(volume_step(&released, None), VolumeStep::Phase("Failed", Some(("VolumeFailedDelete", _)))));
    }
}
