//! What the scheduler looks at of pods and nodes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kontiki_api::{
    kinds::pod::resources::{Amounts, pod_requests},
    quantity::Quantity,
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Labels.
pub type Labels = BTreeMap<String, String>;

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
    /// When it was created.
    pub creation_timestamp: Option<Timestamp>,
    /// When it is to be gone.
    pub deletion_timestamp: Option<Timestamp>,
    /// Owners, of which the managing one matters.
    pub owner_references: Vec<Owner>,
}

/// An owner.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// UID.
    pub uid: String,
    /// Whether it manages the object.
    pub controller: bool,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    #[serde(deserialize_with = "spec")]
    pub spec: PodSpec,
    /// What is.
    pub status: PodStatus,
}

/// What was asked for, with requests added up once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSpec {
    /// Node.
    pub node_name: String,
    /// Who schedules it.
    pub scheduler_name: String,
    /// The higher, the sooner.
    pub priority: i64,
    /// Whether something holds it back.
    pub gated: bool,
    /// Labels that the node must have.
    pub node_selector: Labels,
    /// Affinities, as written.
    pub affinity: Value,
    /// Tolerations.
    pub tolerations: Vec<Toleration>,
    /// What it asks for.
    pub requests: Amounts,
    /// Ports on the node: protocol, address, number.
    pub host_ports: Vec<(String, String, u64)>,
}

fn spec<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PodSpec, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let list = |name: &str| value[name].as_array().into_iter().flatten();
    let ports = list("containers")
        .chain(list("initContainers"))
        .flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let port = |port: &Value| {
        let number = port["hostPort"].as_u64().filter(|number| *number > 0)?;
        let address = port["hostIP"].as_str().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0").to_owned();
        Some((port["protocol"].as_str().unwrap_or("TCP").to_owned(), address, number))
    };
    Ok(PodSpec {
        node_name: text("nodeName"),
        scheduler_name: text("schedulerName"),
        priority: value["priority"].as_i64().unwrap_or(0),
        gated: list("schedulingGates").next().is_some(),
        node_selector: serde_json::from_value(value["nodeSelector"].clone()).unwrap_or_default(),
        affinity: value["affinity"].clone(),
        tolerations: serde_json::from_value(value["tolerations"].clone()).unwrap_or_default(),
        requests: pod_requests(&value),
        host_ports: ports.filter_map(port).collect(),
    })
}

/// What a pod is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodStatus {
    /// Phase.
    pub phase: String,
    /// Conditions, as written.
    pub conditions: Vec<Value>,
}

impl Pod {
    /// Whether it waits for this scheduler.
    pub fn waits(&self) -> bool {
        let ours = matches!(self.spec.scheduler_name.as_str(), "" | "default-scheduler");
        ours && self.spec.node_name.is_empty()
            && !self.spec.gated
            && self.metadata.deletion_timestamp.is_none()
            && !self.has_ended()
    }

    /// Whether it takes nothing of its node any more.
    pub fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// The owner that manages it.
    pub fn controller(&self) -> Option<&str> {
        self.metadata.owner_references.iter().find(|owner| owner.controller).map(|owner| owner.uid.as_str())
    }
}

/// A toleration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Toleration {
    /// Key; all where empty.
    pub key: String,
    /// `Equal` or `Exists`.
    pub operator: String,
    /// Value.
    pub value: String,
    /// Effect; all where empty.
    pub effect: String,
}

/// A taint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
    /// Effect.
    pub effect: String,
}

impl Toleration {
    /// Whether it tolerates a taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && (self.operator == "Exists" || self.value == taint.value)
    }
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: NodeSpec,
    /// What is.
    pub status: NodeStatus,
}

/// What was asked for of a node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Whether an administrator closed it.
    pub unschedulable: bool,
    /// Taints.
    pub taints: Vec<Taint>,
}

/// What a node has.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// What pods may take.
    #[serde(deserialize_with = "amounts")]
    pub allocatable: Amounts,
}

fn amounts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Amounts, D::Error> {
    let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
    Ok(texts.into_iter().filter_map(|(name, text)| Some((name, text.parse::<Quantity>().ok()?))).collect())
}
