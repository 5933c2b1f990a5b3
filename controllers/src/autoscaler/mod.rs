//! HorizontalPodAutoscalers: as many replicas as the pods' usage calls for.
//!
//! In: the autoscaler, the scale of its target, the usage of its pods from `metrics.k8s.io`. Out: the target scaled, and
//! the status. What usage calls for is in [`usage`], how fast it is followed in [`behavior`], deeds in [`act`].
//! <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/>

mod act;
pub mod behavior;
pub mod usage;

use std::sync::Arc;

use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::behavior::Behavior;
use crate::{
    context::Context,
    model::{Meta, objects},
};

/// A HorizontalPodAutoscaler.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HorizontalPodAutoscaler {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: AutoscalerSpec,
    /// What is.
    pub status: Value,
}

/// What was asked for of an autoscaler.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AutoscalerSpec {
    /// What is scaled.
    pub scale_target_ref: TargetReference,
    /// Fewest replicas; one where absent.
    pub min_replicas: Option<i64>,
    /// Most replicas.
    pub max_replicas: i64,
    /// What is looked at.
    pub metrics: Vec<Metric>,
    /// How fast.
    pub behavior: Option<Behavior>,
}

/// What is scaled.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TargetReference {
    /// API version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metric {
    /// `Resource`, `ContainerResource`, or one that needs an adapter.
    pub r#type: String,
    /// A resource of whole pods.
    pub resource: Option<ResourceMetric>,
    /// A resource of one container of each pod.
    pub container_resource: Option<ResourceMetric>,
}

/// A resource and what is aimed at.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ResourceMetric {
    /// Its name.
    pub name: String,
    /// The container.
    pub container: String,
    /// What is aimed at.
    pub target: MetricTarget,
}

/// What is aimed at.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetricTarget {
    /// Hundredths of what the pods ask for.
    pub average_utilization: Option<i64>,
    /// A quantity for each pod.
    pub average_value: Option<String>,
}

objects!(HorizontalPodAutoscaler);

/// Begins to scale.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    act::start(context, cancel)
}
