//! HorizontalPodAutoscalers.

use serde::Deserialize;
use serde_json::Value;

use crate::model::{Meta, objects};

/// A HorizontalPodAutoscaler.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HorizontalPodAutoscaler {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: Value,
    /// What is.
    pub status: Value,
}

objects!(HorizontalPodAutoscaler);
