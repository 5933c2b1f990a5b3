//! Jobs: pods that run to completion, each of which counts once.
//!
//! In: the Job and the pods near it. Out: pods created and deleted, finalizers taken off, and the status. What comes
//! and goes is decided in [`plan`], policies are in [`policy`], waits in [`backoff`], deeds in [`act`].
//! <https://kubernetes.io/docs/concepts/workloads/controllers/job/>

mod act;
pub mod backoff;
pub mod indexes;
pub mod plan;
pub mod policy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::policy::{FailurePolicy, SuccessPolicy};
use crate::{
    context::Context,
    model::{Condition, Meta, Selector, objects},
};

/// Finalizer of pods that have not been counted.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label of a pod's completion index.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Who manages Jobs that name nobody else.
const MANAGER: &str = "kubernetes.io/job-controller";

/// A Job.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Job {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: JobSpec,
    /// What is.
    pub status: JobStatus,
}

/// What was asked for of a Job.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct JobSpec {
    /// Pods at the same time.
    pub parallelism: i64,
    /// Pods that have to succeed; one where absent, which then speaks for all.
    pub completions: Option<i64>,
    /// Seconds that it may be active.
    pub active_deadline_seconds: Option<i64>,
    /// What to do about failures.
    pub pod_failure_policy: Option<FailurePolicy>,
    /// When it is done early.
    pub success_policy: Option<SuccessPolicy>,
    /// Failures that are accepted.
    pub backoff_limit: i64,
    /// Those of each index.
    pub backoff_limit_per_index: Option<i64>,
    /// Indexes that may fail.
    pub max_failed_indexes: Option<i64>,
    /// Which pods; none where absent.
    pub selector: Option<Selector>,
    /// What a pod is made from.
    pub template: Value,
    /// Seconds after its end when it is deleted.
    pub ttl_seconds_after_finished: Option<i64>,
    /// `NonIndexed` or `Indexed`.
    pub completion_mode: String,
    /// Whether it rests.
    pub suspend: bool,
    /// `TerminatingOrFailed` or `Failed`.
    pub pod_replacement_policy: String,
    /// Who manages it.
    pub managed_by: String,
}

impl Default for JobSpec {
    fn default() -> Self {
        Self {
            parallelism: 1,
            completions: None,
            active_deadline_seconds: None,
            pod_failure_policy: None,
            success_policy: None,
            backoff_limit: 6,
            backoff_limit_per_index: None,
            max_failed_indexes: None,
            selector: None,
            template: Value::Null,
            ttl_seconds_after_finished: None,
            completion_mode: String::new(),
            suspend: false,
            pod_replacement_policy: String::new(),
            managed_by: String::new(),
        }
    }
}

impl JobSpec {
    /// Whether its pods have numbers.
    pub fn is_indexed(&self) -> bool {
        self.completion_mode == "Indexed"
    }

    /// Whether a pod is replaced only once it has ended.
    pub fn replaces_only_failed(&self) -> bool {
        self.pod_replacement_policy == "Failed" || self.pod_failure_policy.is_some()
    }
}

/// What a Job is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct JobStatus {
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// When it began.
    pub start_time: Option<Timestamp>,
    /// When it was complete.
    pub completion_time: Option<Timestamp>,
    /// Pods that have not ended.
    pub active: i64,
    /// Pods that succeeded.
    pub succeeded: i64,
    /// Pods that failed.
    pub failed: i64,
    /// Pods that are being deleted.
    pub terminating: Option<i64>,
    /// Indexes that succeeded.
    pub completed_indexes: String,
    /// Indexes that failed for good.
    pub failed_indexes: Option<String>,
    /// Pods that ended and are not in the numbers yet.
    pub uncounted_terminated_pods: Uncounted,
    /// Pods that are ready.
    pub ready: Option<i64>,
}

/// UIDs of pods that ended and are not in the numbers yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Uncounted {
    /// Those that succeeded.
    pub succeeded: Vec<String>,
    /// Those that failed.
    pub failed: Vec<String>,
}

objects!(Job);

impl Job {
    /// Whether it has ended, and how: `Complete` or `Failed`.
    pub fn ended(&self) -> Option<&Condition> {
        let ends =
            |condition: &&Condition| matches!(condition.r#type.as_str(), "Complete" | "Failed") && condition.status == "True";
        self.status.conditions.iter().find(ends)
    }

    /// Whether it is somebody else's.
    pub fn is_foreign(&self) -> bool {
        !self.spec.managed_by.is_empty() && self.spec.managed_by != MANAGER
    }
}

/// Begins to look after Jobs.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    act::start(context, cancel)
}

/// Begins to take finalizers off pods whose Jobs are gone or have ended.
pub fn start_orphans(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    act::start_orphans(context, cancel)
}
