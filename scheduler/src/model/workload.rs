//! What owns, groups and protects pods, as the scheduler sees it.

use std::collections::BTreeMap;

use kontiki_api::selector::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

use super::{Meta, pod::Pod};

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// What all objects have.
    pub metadata: Meta,
}

/// A Service, ReplicaSet, ReplicationController or StatefulSet: something with a selector of pods.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Value")]
pub struct Workload {
    /// What all objects have.
    pub metadata: Meta,
    /// Its pods; `None` selects none.
    pub selector: Option<LabelSelector>,
}

fn meta(value: &Value) -> Meta {
    serde_json::from_value(value["metadata"].clone()).unwrap_or_default()
}

fn selector(value: &Value) -> Option<LabelSelector> {
    let selector = value.pointer("/spec/selector").filter(|selector| selector.is_object())?;
    Some(LabelSelector::from_value(selector)).filter(|selector| !selector.is_empty())
}

impl From<Value> for Workload {
    fn from(value: Value) -> Self {
        Self { metadata: meta(&value), selector: selector(&value) }
    }
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Value")]
pub struct DisruptionBudget {
    /// What all objects have.
    pub metadata: Meta,
    /// Its pods; `None` selects none.
    pub selector: Option<LabelSelector>,
    /// Pods that may go now.
    pub allowed: i64,
    /// Pods that are going already.
    pub disrupted: BTreeMap<String, Value>,
}

impl From<Value> for DisruptionBudget {
    fn from(value: Value) -> Self {
        let disrupted = value.pointer("/status/disruptedPods").cloned().unwrap_or_default();
        Self {
            metadata: meta(&value),
            selector: selector(&value),
            allowed: value.pointer("/status/disruptionsAllowed").and_then(Value::as_i64).unwrap_or(0),
            disrupted: serde_json::from_value(disrupted).unwrap_or_default(),
        }
    }
}

impl DisruptionBudget {
    /// Whether it protects a pod.
    pub fn protects(&self, pod: &Pod) -> bool {
        self.metadata.namespace == pod.metadata.namespace
            && self.selector.as_ref().is_some_and(|selector| selector.matches(&pod.metadata.labels))
            && !self.disrupted.contains_key(&pod.metadata.name)
    }
}
