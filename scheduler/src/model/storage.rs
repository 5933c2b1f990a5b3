//! Volumes, claims and classes as the scheduler sees them.
//!
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/>

use std::collections::BTreeMap;

use kontiki_api::{quantity::Quantity, selector::LabelSelector};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Labels, Meta,
    affinity::{NodeAffinity, NodeTerm},
};

/// Says that a claim and its volume know each other.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Names the node that a volume is to be made for.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The field `storageClassName` as it was once written.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// A claim.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Value")]
pub struct Claim {
    /// What all objects have.
    pub metadata: Meta,
    /// Volume that it has; empty while it has none.
    pub volume_name: String,
    /// Class; empty for none.
    pub class: String,
    /// Access modes.
    pub access_modes: Vec<String>,
    /// Bytes.
    pub size: i64,
    /// Which volumes may be taken.
    pub selector: LabelSelector,
    /// `Block` or `Filesystem`.
    pub mode: String,
    /// Phase.
    pub phase: String,
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts(value: &Value, pointer: &str) -> Vec<String> {
    let list = value.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn size(value: &Value, pointer: &str) -> i64 {
    text(value, pointer).parse::<Quantity>().map_or(0, Quantity::whole)
}

fn meta(value: &Value) -> Meta {
    serde_json::from_value(value["metadata"].clone()).unwrap_or_default()
}

fn class(value: &Value, metadata: &Meta) -> String {
    metadata.annotations.get(CLASS).cloned().unwrap_or_else(|| text(value, "/spec/storageClassName"))
}

fn mode(value: &Value) -> String {
    if value.pointer("/spec/volumeMode").is_some_and(|mode| mode == "Block") { "Block".into() } else { "Filesystem".into() }
}

impl From<Value> for Claim {
    fn from(value: Value) -> Self {
        let metadata = meta(&value);
        Self {
            volume_name: text(&value, "/spec/volumeName"),
            class: class(&value, &metadata),
            access_modes: texts(&value, "/spec/accessModes"),
            size: size(&value, "/spec/resources/requests/storage"),
            selector: LabelSelector::from_value(value.pointer("/spec/selector").unwrap_or(&Value::Null)),
            mode: mode(&value),
            phase: text(&value, "/status/phase"),
            metadata,
        }
    }
}

impl Claim {
    /// Whether it has its volume for good.
    pub fn is_bound(&self) -> bool {
        !self.volume_name.is_empty() && self.metadata.annotations.contains_key(BIND_COMPLETED)
    }

    /// Whether one pod alone may use it.
    pub fn is_for_one_pod(&self) -> bool {
        self.access_modes.iter().any(|mode| mode == "ReadWriteOncePod")
    }
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Value")]
pub struct Volume {
    /// What all objects have.
    pub metadata: Meta,
    /// Nodes that reach it.
    pub node_affinity: Option<Vec<NodeTerm>>,
    /// Class; empty for none.
    pub class: String,
    /// Access modes.
    pub access_modes: Vec<String>,
    /// Bytes.
    pub size: i64,
    /// `Block` or `Filesystem`.
    pub mode: String,
    /// Whose it is: namespace, name, UID.
    pub claim: Option<(String, String, String)>,
    /// Phase.
    pub phase: String,
    /// CSI driver and the volume's handle there.
    pub csi: Option<(String, String)>,
    /// Version that it was seen at.
    pub resource_version: String,
}

impl From<Value> for Volume {
    fn from(value: Value) -> Self {
        let metadata = meta(&value);
        let claim = value.pointer("/spec/claimRef").filter(|claim| claim.is_object());
        let csi = value.pointer("/spec/csi").filter(|csi| csi.is_object());
        Self {
            node_affinity: value.pointer("/spec/nodeAffinity/required").and_then(NodeAffinity::terms),
            class: class(&value, &metadata),
            access_modes: texts(&value, "/spec/accessModes"),
            size: size(&value, "/spec/capacity/storage"),
            mode: mode(&value),
            claim: claim.map(|claim| (text(claim, "/namespace"), text(claim, "/name"), text(claim, "/uid"))),
            phase: text(&value, "/status/phase"),
            resource_version: text(&value, "/metadata/resourceVersion"),
            csi: csi.map(|csi| (text(csi, "/driver"), text(csi, "/volumeHandle"))),
            metadata,
        }
    }
}

impl Volume {
    /// Whether a node reaches it.
    pub fn is_reached_from(&self, name: &str, labels: &Labels) -> bool {
        self.node_affinity.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }

    /// Whether it is this claim's.
    pub fn belongs_to(&self, claim: &Claim) -> bool {
        self.claim.as_ref().is_some_and(|(namespace, name, uid)| {
            *namespace == claim.metadata.namespace
                && *name == claim.metadata.name
                && (uid.is_empty() || *uid == claim.metadata.uid)
        })
    }
}

/// A class of volumes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StorageClass {
    /// What all objects have.
    pub metadata: Meta,
    /// Who makes its volumes.
    pub provisioner: String,
    /// `Immediate` or `WaitForFirstConsumer`.
    pub volume_binding_mode: String,
    /// Where its volumes may be made; everywhere where empty.
    #[serde(deserialize_with = "super::list")]
    pub allowed_topologies: Vec<TopologyTerm>,
}

/// Values that labels of a node must have.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopologyTerm {
    /// All must hold.
    #[serde(deserialize_with = "super::list")]
    pub match_label_expressions: Vec<TopologyRequirement>,
}

/// Values that one label must have.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TopologyRequirement {
    /// Label.
    pub key: String,
    /// Values.
    pub values: Vec<String>,
}

impl StorageClass {
    /// Whether claims wait for a pod.
    pub fn waits(&self) -> bool {
        self.volume_binding_mode == "WaitForFirstConsumer"
    }

    /// Whether volumes can be made for a node with these labels.
    pub fn allows(&self, labels: &Labels) -> bool {
        let holds = |one: &TopologyRequirement| labels.get(&one.key).is_some_and(|value| one.values.contains(value));
        self.allowed_topologies.is_empty()
            || self.allowed_topologies.iter().any(|term| term.match_label_expressions.iter().all(holds))
    }
}

/// What a node's CSI drivers can take.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Value")]
pub struct CsiNode {
    /// What all objects have.
    pub metadata: Meta,
    /// Volumes by driver.
    pub limits: BTreeMap<String, i64>,
}

impl From<Value> for CsiNode {
    fn from(value: Value) -> Self {
        let drivers = value.pointer("/spec/drivers").and_then(Value::as_array).into_iter().flatten();
        let limit = |driver: &Value| Some((text(driver, "/name"), driver.pointer("/allocatable/count")?.as_i64()?));
        Self { limits: drivers.filter_map(limit).collect(), metadata: meta(&value) }
    }
}
