//! Workloads whose pods are alike: ReplicaSets, ReplicationControllers, Deployments.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{Condition, Meta, Object, Selector};

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
    /// Which pods; none where absent.
    pub selector: Option<Selector>,
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

impl Workload {
    /// A number of the status; 0 where absent.
    pub fn count(&self, name: &str) -> i64 {
        self.status[name].as_i64().unwrap_or(0)
    }

    /// Conditions of the status.
    pub fn conditions(&self) -> Vec<Condition> {
        conditions(&self.status)
    }

    /// Whether the selector selects these labels.
    pub fn selects(&self, labels: &super::Labels) -> bool {
        self.spec.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }
}

/// Conditions of a status.
pub fn conditions(status: &Value) -> Vec<Condition> {
    let list = status["conditions"].as_array().into_iter().flatten();
    list.filter_map(|condition| Condition::deserialize(condition).ok()).collect()
}

/// A ReplicationController: a ReplicaSet whose selector is a plain map of labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicationController(pub Workload);

impl<'de> Deserialize<'de> for ReplicationController {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Some(labels) = value.pointer_mut("/spec/selector").filter(|labels| labels.is_object()) {
            *labels = json!({ "matchLabels": labels.take() });
        }
        Workload::deserialize(value).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Object for ReplicationController {
    fn metadata(&self) -> &Meta {
        &self.0.metadata
    }
}

impl Condition {
    /// Puts a condition into a list, in place of the one of its type. Its transition is dated now, or stays where the
    /// status does.
    pub fn set(list: &mut Vec<Self>, kind: &str, status: &str, reason: &str, message: impl Into<String>, now: Timestamp) {
        let message = message.into();
        match list.iter_mut().find(|condition| condition.r#type == kind) {
            Some(old) => {
                if old.status != status {
                    old.last_transition_time = Some(super::second(now));
                }
                (old.status, old.reason, old.message) = (status.to_owned(), reason.to_owned(), message);
            }
            None => list.push(Self {
                r#type: kind.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message,
                last_transition_time: Some(super::second(now)),
                ..Self::default()
            }),
        }
    }

    /// Whether the list says that a condition holds.
    pub fn is_true(list: &[Self], kind: &str) -> bool {
        list.iter().any(|condition| condition.r#type == kind && condition.status == "True")
    }
}
