//! What the scheduler looks at of the API's objects: projections, parsed once per change.

pub mod affinity;
pub mod node;
pub mod pod;
pub mod storage;
pub mod workload;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

pub use self::{node::Node, pod::Pod};

/// Labels.
pub type Labels = BTreeMap<String, String>;

/// Label that names a node's host.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// Label that names a node's zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// What all objects have.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// UID.
    pub uid: String,
    /// Labels.
    pub labels: Labels,
    /// Annotations that the scheduler knows; others are dropped.
    #[serde(deserialize_with = "known_annotations")]
    pub annotations: Labels,
    /// When it was created.
    pub creation_timestamp: Option<Timestamp>,
    /// When it is to be gone.
    pub deletion_timestamp: Option<Timestamp>,
    /// Owners, of which the managing one matters.
    pub owner_references: Vec<Owner>,
}

/// Annotations of volumes and claims; applied configurations and other long ones stay out of memory.
fn known_annotations<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
    let mut all = Option::<Labels>::deserialize(deserializer)?.unwrap_or_default();
    all.retain(|key, _| key.starts_with("pv.kubernetes.io/") || key.starts_with("volume."));
    Ok(all)
}

/// An owner.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Owner {
    /// API version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Whether it manages the object.
    pub controller: bool,
}

impl Meta {
    /// The owner that manages the object.
    pub fn controller(&self) -> Option<&Owner> {
        self.owner_references.iter().find(|owner| owner.controller)
    }
}

/// Null is an empty list.
pub(crate) fn list<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}
