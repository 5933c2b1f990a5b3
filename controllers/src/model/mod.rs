//! What the controllers look at of each kind: projections, decoded once per change for all of them.

mod pod;
mod selector;
mod workload;

use std::collections::BTreeMap;

use jiff::Timestamp;
use kontiki_client::reflector::ObjectKey;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub use self::{
    pod::{Container, ContainerStatus, Pod, PodIp, PodSpec, PodStatus, Terminated, Toleration, Volume},
    selector::{Requirement, Selector},
    workload::{ReplicationController, Workload, WorkloadSpec, conditions},
};

/// Labels.
pub type Labels = BTreeMap<String, String>;

/// Who an object belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference {
    /// Group and version of the owner.
    pub api_version: String,
    /// Kind of the owner.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// UID of the owner.
    pub uid: String,
    /// Whether it is the one that manages the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether its foreground deletion waits for the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

/// What all objects have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// UID.
    pub uid: String,
    /// Generation of the specification.
    pub generation: i64,
    /// Version.
    pub resource_version: String,
    /// When it was created.
    pub creation_timestamp: Option<Timestamp>,
    /// When it is to be gone.
    pub deletion_timestamp: Option<Timestamp>,
    /// Seconds that it may take to go.
    pub deletion_grace_period_seconds: Option<i64>,
    /// Labels.
    pub labels: Labels,
    /// Annotations, without what kubectl remembers for itself.
    #[serde(deserialize_with = "annotations")]
    pub annotations: Labels,
    /// Who must agree before it goes.
    pub finalizers: Vec<String>,
    /// Who it belongs to.
    pub owner_references: Vec<OwnerReference>,
}

fn annotations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
    let mut annotations = Option::<Labels>::deserialize(deserializer)?.unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    Ok(annotations)
}

/// A whole second, as the API keeps times.
pub fn second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// A number, or a percentage of `total` rounded up or down.
pub fn part(value: &Value, total: i64, up: bool, default: i64) -> i64 {
    if let Some(number) = value.as_i64() {
        return number;
    }
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|text| text.parse::<i64>().ok());
    percent.map_or(default, |percent| if up { (percent * total + 99) / 100 } else { percent * total / 100 })
}

/// What has metadata.
pub trait Object: Send + Sync + 'static {
    /// What all objects have.
    fn metadata(&self) -> &Meta;
}

macro_rules! objects {
    ($($kind:ty),* $(,)?) => {
        $(impl $crate::model::Object for $kind {
            fn metadata(&self) -> &$crate::model::Meta {
                &self.metadata
            }
        })*
    };
}
pub(crate) use objects;

objects!(Bare, Pod, Workload);

impl Meta {
    /// Namespace and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(self.namespace.clone(), self.name.clone())
    }

    /// The owner that manages the object.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller == Some(true))
    }

    /// Whether somebody asked for its deletion.
    pub fn is_deleted(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// Whether a finalizer of that name holds it.
    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == name)
    }

    /// A label; empty where it has none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// An annotation; empty where it has none.
    pub fn annotation(&self, name: &str) -> &str {
        self.annotations.get(name).map_or("", String::as_str)
    }

    /// Whether it is managed by the object of that UID.
    pub fn is_controlled_by(&self, uid: &str) -> bool {
        self.controller().is_some_and(|owner| owner.uid == uid)
    }
}

/// An object of which only what all objects have matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Bare {
    /// What all objects have.
    pub metadata: Meta,
}

/// A condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// Which one.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// When the status last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Timestamp>,
    /// When it was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Timestamp>,
    /// When the object's owner last said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<Timestamp>,
    /// When it was last tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<Timestamp>,
    /// Generation that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}
