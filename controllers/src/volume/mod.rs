//! Volumes, the claims on them, and classes of storage.
//!
//! In: volumes, claims, classes, pods. Out: claims bound to volumes, and both kept while they are in use. Which gets
//! which is decided in [`binding`], deeds are in [`binder`]; [`protection`] keeps what is used.

pub mod binder;
pub mod binding;
pub mod protection;

use serde::Deserialize;
use serde_json::Value;

use crate::model::{Meta, Selector, objects};

/// A PersistentVolume.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: VolumeSpec,
    /// What is.
    pub status: Value,
}

/// What was asked for of a volume.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VolumeSpec {
    /// Quantities.
    pub capacity: Value,
    /// Ways in which it may be mounted.
    pub access_modes: Vec<String>,
    /// The claim that has it.
    pub claim_ref: Option<ClaimReference>,
    /// What becomes of it when it is released.
    pub persistent_volume_reclaim_policy: String,
    /// Class.
    pub storage_class_name: String,
    /// `Filesystem` or `Block`.
    pub volume_mode: String,
    /// Where it can be used.
    pub node_affinity: Value,
    /// Its attributes' class.
    pub volume_attributes_class_name: Option<String>,
}

/// The claim that has a volume.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClaimReference {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID; empty where it was reserved before the claim was there.
    pub uid: String,
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: ClaimSpec,
    /// What is.
    pub status: Value,
}

/// What was asked for of a claim.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimSpec {
    /// Ways in which it is to be mounted.
    pub access_modes: Vec<String>,
    /// Which volumes; all where absent.
    pub selector: Option<Selector>,
    /// Quantities.
    pub resources: Value,
    /// The volume that it has.
    pub volume_name: String,
    /// Class; empty for none.
    pub storage_class_name: Option<String>,
    /// `Filesystem` or `Block`.
    pub volume_mode: String,
    /// Its attributes' class.
    pub volume_attributes_class_name: Option<String>,
}

/// A StorageClass.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StorageClass {
    /// What all objects have.
    pub metadata: Meta,
    /// Who makes volumes.
    pub provisioner: String,
    /// When: `Immediate` or `WaitForFirstConsumer`.
    pub volume_binding_mode: String,
    /// What becomes of volumes that are released.
    pub reclaim_policy: String,
}

objects!(Volume, Claim, StorageClass);
