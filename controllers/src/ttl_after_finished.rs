//! Finished Jobs that asked for it are deleted after their time.
//!
//! <https://kubernetes.io/docs/concepts/workloads/controllers/ttlafterfinished/>

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use kontiki_api::resources::JOBS;
use kontiki_client::{DeleteOptions, PropagationPolicy, reflector::ObjectKey};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    job::Job,
    run::{self, Reconciled, gone},
};

/// How long a Job may stay yet; `None` where that is not limited.
pub fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    let ended = job.ended().filter(|_| !job.metadata.is_deleted())?.last_transition_time?;
    let stay = SignedDuration::from_secs(job.spec.ttl_seconds_after_finished?);
    let left = ended.checked_add(stay).ok()?.duration_since(now);
    Some(Duration::try_from(left).unwrap_or_default())
}

/// Begins to delete Jobs whose time has passed.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("ttl_after_finished");
    let add = Arc::clone(&queue);
    context.jobs.on_change(move |change| {
        let concerned = change.new.iter().filter(|job| job.spec.ttl_seconds_after_finished.is_some());
        concerned.for_each(|job| add.add(job.metadata.key()));
    });
    run::controller(context, &queue, "ttl_after_finished", cancel, reconcile)
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let Some(job) = context.jobs.get(&key.namespace, &key.name) else { return Ok(None) };
    match left(&job, Timestamp::now()) {
        Some(left) if left.is_zero() => {
            // Somebody may have prolonged its stay: only the version that was judged is deleted.
            let mut options = DeleteOptions {
                propagation_policy: Some(PropagationPolicy::Foreground),
                ..DeleteOptions::with_uid(&job.metadata.uid)
            };
            if let Some(conditions) = &mut options.preconditions {
                conditions.resource_version = Some(job.metadata.resource_version.clone());
            }
            gone(context.client().delete(JOBS, &key.namespace, &key.name, &options).await).map(|()| None)
        }
        left => Ok(left),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_has_ended_has_a_time_left() {
        let job = |conditions, ttl: Option<i64>| -> Job {
            serde_json::from_value(json!({"spec": {"ttlSecondsAfterFinished": ttl}, "status": {"conditions": conditions}}))
                .unwrap()
        };
        let done = json!([{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let now = "2026-01-01T00:00:10Z".parse().unwrap();
        assert_eq!(left(&job(done.clone(), Some(30)), now), Some(Duration::from_secs(20)));
        assert_eq!(left(&job(done.clone(), Some(5)), now), Some(Duration::ZERO));
        assert_eq!(left(&job(done, None), now), None);
        assert_eq!(left(&job(json!([]), Some(5)), now), None);
    }
}
