//! What the controllers look at of each kind: projections, decoded once per change for all of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kontiki_client::reflector::ObjectKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// Who must agree before it goes.
    pub finalizers: Vec<String>,
    /// Who it belongs to.
    pub owner_references: Vec<OwnerReference>,
}

impl Meta {
    /// Namespace and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(self.namespace.clone(), self.name.clone())
    }

    /// The owner that manages the object.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller == Some(true))
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
    /// One word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: PodSpec,
    /// What is.
    pub status: PodStatus,
}

/// What was asked for of a pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Node.
    pub node_name: String,
    /// Own host name.
    pub hostname: String,
    /// Service that gives the host name a domain.
    pub subdomain: String,
    /// Containers, for the names of their ports.
    pub containers: Vec<PodContainer>,
    /// Tolerations.
    pub tolerations: Vec<Toleration>,
}

/// A container's ports.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodContainer {
    /// Ports.
    pub ports: Vec<ContainerPort>,
}

/// A named port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerPort {
    /// Name.
    pub name: String,
    /// Number.
    pub container_port: u16,
    /// Protocol; `TCP` where empty.
    pub protocol: String,
}

/// A toleration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Toleration {
    /// Key; all where empty.
    pub key: String,
    /// `Equal` or `Exists`.
    pub operator: String,
    /// Value.
    pub value: String,
    /// Effect; all where empty.
    pub effect: String,
    /// How long; for ever where absent.
    pub toleration_seconds: Option<i64>,
}

/// What a pod is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// Phase.
    pub phase: String,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// Addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
}

/// An address.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

impl Pod {
    /// Since when the pod is ready, if it is.
    pub fn ready_since(&self) -> Option<Timestamp> {
        let ready = self.status.conditions.iter().find(|condition| condition.r#type == "Ready")?;
        (ready.status == "True").then(|| ready.last_transition_time.unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// Whether it has ended for good.
    pub fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Whether it counts as a replica.
    pub fn is_active(&self) -> bool {
        !self.has_ended() && self.metadata.deletion_timestamp.is_none()
    }

    /// Whether it has been ready for so many seconds.
    pub fn is_available(&self, min_ready_seconds: i64, now: Timestamp) -> bool {
        self.ready_since().is_some_and(|since| now.as_second() - since.as_second() >= min_ready_seconds)
    }
}

/// A workload's specification and status, whole: its template is handed on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: WorkloadSpec,
    /// What is.
    pub status: Value,
}

/// What was asked for of a ReplicaSet or Deployment.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// Number of pods.
    pub replicas: i64,
    /// Which pods.
    pub selector: Value,
    /// What a pod is made from.
    pub template: Value,
    /// Seconds until a ready pod counts as available.
    pub min_ready_seconds: i64,
    /// How a new template replaces the old one.
    pub strategy: Value,
    /// Old ReplicaSets that are kept.
    pub revision_history_limit: Option<i64>,
    /// Seconds within which a rollout must make progress.
    pub progress_deadline_seconds: Option<i64>,
    /// Whether the rollout rests.
    pub paused: bool,
}

/// Whether a label selector in its JSON form matches labels. One that cannot be parsed matches nothing.
pub fn matches(selector: &Value, labels: &Labels) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let equal = equal.into_iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str());
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    let holds = |expression: &Value| {
        let found = expression["key"].as_str().and_then(|key| labels.get(key));
        let within = || {
            let values = expression["values"].as_array().into_iter().flatten();
            values.filter_map(Value::as_str).any(|value| found.is_some_and(|found| found == value))
        };
        match expression["operator"].as_str() {
            Some("In") => within(),
            Some("NotIn") => !within(),
            Some("Exists") => found.is_some(),
            Some("DoesNotExist") => found.is_none(),
            _ => false,
        }
    };
    equal && expressions.into_iter().all(holds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_match_as_documented() {
        let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
        let cases = [
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "x"]}]}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}), false),
            (json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), true),
            (json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}), false),
            (json!({}), true),
        ];
        for (selector, wanted) in cases {
            assert_eq!(matches(&selector, &labels), wanted, "{selector}");
        }
    }
}
