//! How long a Job waits after failures. Pure.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    Job,
    policy::{Verdict, judge},
};
use crate::model::Pod;

/// First and longest wait.
const WAIT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// Annotations that count the failures of an index: those that count, and those that a policy ignores.
pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// See [`INDEX_FAILURES`].
pub const INDEX_IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// Failures since the last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    count: i64,
    last: Option<Timestamp>,
}

impl Failures {
    /// These, and pods that ended since.
    pub fn after(self, succeeded: &[&Arc<Pod>], failed: &[&Arc<Pod>]) -> Self {
        let success = succeeded.iter().map(|pod| pod.finished_at()).max();
        let late = failed.iter().map(|pod| pod.finished_at()).filter(|at| success.is_none_or(|success| *at > success));
        let (count, last) = late.fold((0, None), |(count, last), at| (count + 1, last.max(Some(at))));
        match success {
            Some(_) => Self { count, last },
            None => Self { count: self.count + count, last: last.or(self.last) },
        }
    }

    /// How long nothing is to be started yet.
    pub fn wait(&self, now: Timestamp) -> Option<Duration> {
        left(self.count, self.last?, now)
    }
}

fn left(count: i64, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let doublings = u32::try_from(count - 1).ok()?.min(20);
    let wait = SignedDuration::try_from(WAIT.0.saturating_mul(1 << doublings).min(WAIT.1)).ok()?;
    Duration::try_from(wait - now.duration_since(last)).ok().filter(|left| !left.is_zero())
}

/// Failures of a pod's index before it: those that count, and those that do not.
pub fn index_failures(pod: &Pod) -> (i64, i64) {
    let number = |name: &str| pod.metadata.annotation(name).parse::<i64>().ok().filter(|number| *number >= 0).unwrap_or(0);
    (number(INDEX_FAILURES), number(INDEX_IGNORED_FAILURES))
}

/// All failures of a pod's index before it.
pub fn all_index_failures(pod: &Pod) -> i64 {
    let (counted, ignored) = index_failures(pod);
    counted + ignored
}

/// Failures of an index after a failed pod, for the next one to carry.
pub fn inherited(job: &Job, pod: &Pod) -> (i64, i64) {
    let (counted, ignored) = index_failures(pod);
    match judge(job.spec.pod_failure_policy.as_ref(), pod) {
        Verdict::Ignore => (counted, ignored + 1),
        _ => (counted + 1, ignored),
    }
}

/// How long the index of a failed pod is left vacant yet.
pub fn index_wait(pod: &Pod, now: Timestamp) -> Option<Duration> {
    left(all_index_failures(pod) + 1, pod.finished_at(), now)
}
