//! CronJobs: a Job each time that a schedule comes round.
//!
//! In: the CronJob and its Jobs. Out: Jobs created and deleted, and the status. When is in [`schedule`], what in [`plan`].
//! <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/>

pub mod plan;
pub mod schedule;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::{Timestamp, tz::TimeZone};
use kontiki_api::resources::{CRON_JOBS, JOBS};
use kontiki_client::{
    DeleteOptions, Error, PropagationPolicy,
    events::{EventType, ObjectReference},
    reflector::ObjectKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::plan::job_name;
use crate::{
    context::{self, Context},
    job::Job,
    model::{Meta, objects},
    pod_control::{Owner, reference},
    run::{self, Reconciled, gone, seen},
    written::write_status,
};

/// Annotation of the time for which a Job was started.
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// A CronJob.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CronJob {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: CronJobSpec,
    /// What is.
    pub status: CronJobStatus,
}

/// What was asked for of a CronJob.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CronJobSpec {
    /// When.
    pub schedule: String,
    /// By which clock.
    pub time_zone: Option<String>,
    /// Seconds after which a start is missed.
    pub starting_deadline_seconds: Option<i64>,
    /// `Allow`, `Forbid` or `Replace`.
    pub concurrency_policy: String,
    /// Whether it rests.
    pub suspend: bool,
    /// What a Job is made from.
    pub job_template: Value,
    /// Jobs that are kept after they succeeded.
    pub successful_jobs_history_limit: Option<i64>,
    /// Jobs that are kept after they failed.
    pub failed_jobs_history_limit: Option<i64>,
}

/// What a CronJob is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CronJobStatus {
    /// Jobs that run.
    pub active: Vec<Active>,
    /// The last time for which one was started.
    pub last_schedule_time: Option<Timestamp>,
    /// When one last succeeded.
    pub last_successful_time: Option<Timestamp>,
}

/// A Job that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Active {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// API version.
    pub api_version: String,
    /// Version when it was listed.
    pub resource_version: String,
}

objects!(CronJob);

/// Begins to look after CronJobs.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("cronjob");
    run::tell_own(&context.cron_jobs, &queue);
    run::tell_owner(&context.jobs, &queue, "CronJob", |_| Vec::new());
    run::controller(context, &queue, "cronjob", cancel, reconcile)
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let Some(cron_job) = context.cron_jobs.get(&key.namespace, &key.name) else { return Ok(None) };
    let owner = Owner { key: CRON_JOBS, meta: &cron_job.metadata };
    let object = owner.reference();
    let jobs = context::owned(&context.jobs, &cron_job.metadata);
    let plan = plan::plan(&cron_job, &jobs, Timestamp::now());
    for (type_, reason, message) in &plan.tales {
        context.recorder.event(&object, *type_, reason, message.clone());
    }
    let mut status = plan.status;
    for job in plan.forget.iter().chain(&plan.replace) {
        delete(&context, &object, job).await?;
        status.active.retain(|active| active.uid != job.metadata.uid);
    }
    let started = match plan.start {
        Some(at) => start_job(&context, &cron_job, owner, at).await,
        None => Ok(None),
    };
    if let (Ok(Some(active)), Some(at)) = (&started, plan.start) {
        status.active.push(active.clone());
        status.last_schedule_time = Some(at);
    }
    let have = serde_json::to_value(&cron_job.status).unwrap_or_default();
    let want = serde_json::to_value(&status).unwrap_or_default();
    write_status(&context, CRON_JOBS, &cron_job.metadata, &have, &want).await?;
    match started {
        Err(error) if error.is_namespace_terminating() => Ok(None),
        started => started.map(|_| plan.again),
    }
}

async fn delete(context: &Context, object: &ObjectReference, job: &Job) -> Result<(), Error> {
    let meta = &job.metadata;
    let options = DeleteOptions { propagation_policy: Some(PropagationPolicy::Background), ..DeleteOptions::with_uid(&meta.uid) };
    match gone(context.client().delete(JOBS, &meta.namespace, &meta.name, &options).await) {
        Ok(()) => {
            context.recorder.event(object, EventType::Normal, "SuccessfulDelete", format!("Deleted job {}", meta.name));
            let goes = |now: &Job| now.metadata.is_deleted() || now.metadata.uid != meta.uid;
            seen(|| context.jobs.get(&meta.namespace, &meta.name).is_none_or(|now| goes(&now))).await;
            Ok(())
        }
        Err(error) => {
            context.recorder.event(object, EventType::Warning, "FailedDelete", format!("Deleted job: {error}"));
            Err(error)
        }
    }
}

/// The Job for a time.
fn body(cron_job: &CronJob, owner: Owner<'_>, at: Timestamp) -> Value {
    let template = &cron_job.spec.job_template;
    let zone = cron_job.spec.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
    let local = at.to_zoned(zone);
    let offset = if local.offset().is_zero() { "Z".to_owned() } else { local.strftime("%:z").to_string() };
    let mut metadata = json!({
        "name": job_name(&cron_job.metadata.name, at),
        "labels": template["metadata"]["labels"],
        "annotations": template["metadata"]["annotations"],
        "ownerReferences": [owner.controller()],
    });
    metadata["annotations"][SCHEDULED_AT] = json!(format!("{}{offset}", local.strftime("%Y-%m-%dT%H:%M:%S")));
    json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"] })
}

/// Starts the Job of a time; `None` where it is listed already, or is somebody else's.
async fn start_job(context: &Context, cron_job: &CronJob, owner: Owner<'_>, at: Timestamp) -> Result<Option<Active>, Error> {
    let (client, namespace) = (context.client(), &cron_job.metadata.namespace);
    let object = owner.reference();
    let job: Job = match client.create(JOBS, namespace, &body(cron_job, owner, at)).await {
        Ok(job) => {
            let job: Job = job;
            context.recorder.event(&object, EventType::Normal, "SuccessfulCreate", format!("Created job {}", job.metadata.name));
            job
        }
        Err(error) if error.is_already_exists() => {
            let job: Job = client.get(JOBS, namespace, &job_name(&cron_job.metadata.name, at)).await?;
            let listed = cron_job.status.active.iter().any(|active| active.uid == job.metadata.uid);
            if listed || !job.metadata.is_controlled_by(&cron_job.metadata.uid) {
                return Ok(None);
            }
            job
        }
        Err(error) => {
            if !error.is_namespace_terminating() {
                context.recorder.event(&object, EventType::Warning, "FailedCreate", format!("Error creating job: {error}"));
            }
            return Err(error);
        }
    };
    seen(|| context.jobs.get(namespace, &job.metadata.name).is_some()).await;
    let reference = reference(&job.metadata, JOBS);
    Ok(Some(Active {
        kind: reference.kind,
        namespace: reference.namespace,
        name: reference.name,
        uid: reference.uid,
        api_version: reference.api_version,
        resource_version: job.metadata.resource_version,
    }))
}
