//! Carrying out what was decided for a Job.

use std::{collections::HashMap, sync::Arc};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kontiki_api::resources::{JOBS, PODS};
use kontiki_client::{Error, Patch, events::EventType, reflector::ObjectKey};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    COMPLETION_INDEX, Job, JobStatus, TRACKING,
    backoff::{Failures, INDEX_FAILURES, INDEX_IGNORED_FAILURES},
    plan::{self, Plan, Seat},
};
use crate::{
    context::{self, Context},
    model::Pod,
    pod_control::{self, Owner, from_template},
    run::{self, Reconciled, gone, seen},
    written::write_status,
};

/// Longest prefix from which the server makes a name.
const PREFIX_MAX: usize = 58;

/// What is remembered of Jobs between looks: their failures, which only delay.
type Memory = Arc<Mutex<HashMap<ObjectKey, Failures>>>;

pub(super) fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("job");
    run::tell_own(&context.jobs, &queue);
    let adopting = Arc::clone(context);
    run::tell_owner(&context.pods, &queue, "Job", move |pod| {
        let jobs = adopting.jobs.in_namespace(&pod.namespace);
        let selects = |job: &&Arc<Job>| job.spec.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels));
        jobs.iter().filter(selects).map(|job| job.metadata.key()).collect()
    });
    let (context, memory) = (Arc::clone(context), Memory::default());
    Box::pin(async move {
        run::run(queue, "job", cancel, move |key| reconcile(Arc::clone(&context), Arc::clone(&memory), key)).await;
    })
}

async fn reconcile(context: Arc<Context>, memory: Memory, key: ObjectKey) -> Reconciled {
    let job = context.jobs.get(&key.namespace, &key.name).filter(|job| job.ended().is_none() && !job.is_foreign());
    let Some((job, selector)) = job.as_ref().and_then(|job| Some((job, job.spec.selector.as_ref()?))) else {
        memory.lock().remove(&key);
        return Ok(None);
    };
    let owner = Owner { key: JOBS, meta: &job.metadata };
    let claim = pod_control::claim(&job.metadata, context::near(&context.pods, &job.metadata), |pod: &Pod| {
        selector.matches(&pod.metadata.labels)
    });
    let adopted = !claim.adopt.is_empty();
    let pods = pod_control::enact(&context, owner, PODS, claim, &[TRACKING]).await?;
    if adopted {
        // The next look sees them with their finalizers.
        return Ok(Some(std::time::Duration::from_millis(20)));
    }
    let failures = memory.lock().get(&key).copied().unwrap_or_default();
    let plan = plan::plan(job, &pods, failures, Timestamp::now());
    let (made, managed) = manage(&context, job, owner, &plan).await;
    let mut status = plan.status.clone();
    status.active -= i64::try_from(plan.create.len() - made).unwrap_or(0);
    let have = serde_json::to_value(&job.status).unwrap_or_default();
    let mut version = write(&context, job, &have, &status, &job.metadata.resource_version).await?;
    memory.lock().insert(key.clone(), plan.failures);
    if let Some(suspended) = plan.turned {
        let (reason, message) = if suspended { ("Suspended", "Job suspended") } else { ("Resumed", "Job resumed") };
        context.recorder.event(&owner.reference(), EventType::Normal, reason, message);
    }
    let released = release(&context, &plan.release).await;
    let before = status.clone();
    let is_tracked = |uid: &str| pods.iter().any(|pod| pod.metadata.uid == *uid) && !released.iter().any(|one| one == uid);
    plan::settle(&mut status, is_tracked);
    let all_released = released.len() == plan.release.len();
    let ended =
        managed.is_ok() && all_released && plan.end.as_ref().is_some_and(|end| plan::finish(&mut status, end, Timestamp::now()));
    if status != before {
        let have = serde_json::to_value(&before).unwrap_or_default();
        version = write(&context, job, &have, &status, &version).await?;
    }
    if ended {
        tell_end(&context, job, owner, &plan, &status);
        memory.lock().remove(&key);
    }
    // A look at an older status would count pods again.
    let number = |version: &str| version.parse::<u64>().unwrap_or(0);
    let caught_up =
        |now: &Job| now.metadata.uid != job.metadata.uid || number(&now.metadata.resource_version) >= number(&version);
    seen(|| context.jobs.get(&key.namespace, &key.name).is_none_or(|now| caught_up(&now))).await;
    managed?;
    Ok(if all_released { plan.again } else { Some(std::time::Duration::from_secs(1)) })
}

async fn write(context: &Context, job: &Job, have: &Value, status: &JobStatus, version: &str) -> Result<String, Error> {
    let mut want = serde_json::to_value(status).unwrap_or_default();
    // Numbers that may be absent are absent when they are nothing; the others say 0.
    for (name, value) in want.as_object_mut().into_iter().flatten() {
        let kept = matches!(name.as_str(), "ready" | "terminating" | "uncountedTerminatedPods");
        let nothing = *value == 0 || *value == "" || value.as_array().is_some_and(Vec::is_empty);
        if nothing && !kept {
            *value = Value::Null;
        }
    }
    for (_, list) in want["uncountedTerminatedPods"].as_object_mut().into_iter().flatten() {
        if list.as_array().is_some_and(Vec::is_empty) {
            *list = Value::Null;
        }
    }
    let meta = crate::model::Meta { resource_version: version.to_owned(), ..job.metadata.clone() };
    let written = write_status(context, JOBS, &meta, have, &want).await?;
    let fresh = written.and_then(|object| Some(object["metadata"]["resourceVersion"].as_str()?.to_owned()));
    Ok(fresh.unwrap_or_else(|| version.to_owned()))
}

fn tell_end(context: &Context, job: &Job, owner: Owner<'_>, plan: &Plan, status: &JobStatus) {
    let Some(end) = &plan.end else { return };
    let object = owner.reference();
    if !end.success {
        context.recorder.event(&object, EventType::Warning, &end.reason, end.message.clone());
        return;
    }
    if job.spec.completions.is_some_and(|completions| status.succeeded > completions) {
        let message = "Too many succeeded pods running after completion count reached";
        context.recorder.event(&object, EventType::Warning, "TooManySucceededPods", message);
    }
    context.recorder.event(&object, EventType::Normal, "Completed", "Job completed");
}

/// Creates and deletes; says how many pods came to be.
async fn manage(context: &Context, job: &Job, owner: Owner<'_>, plan: &Plan) -> (usize, Result<(), Error>) {
    let deleted = pod_control::delete_all(context, owner, &plan.delete).await;
    let released = release(context, &plan.remove).await;
    let removable: Vec<_> = plan.remove.iter().filter(|pod| released.contains(&pod.metadata.uid)).cloned().collect();
    let removed = pod_control::delete_all(context, owner, &removable).await;
    let pods: Vec<_> = plan.create.iter().map(|seat| body(job, owner, *seat)).collect();
    let (made, created) = pod_control::create_all(context, owner, &pods).await;
    let created = match created {
        Err(error) if error.is_namespace_terminating() => Ok(()),
        created => created,
    };
    (made, deleted.and(removed).and(created))
}

/// A pod of the Job.
pub(super) fn body(job: &Job, owner: Owner<'_>, seat: Seat) -> Value {
    let mut pod = from_template(&job.spec.template, owner);
    let mut finalizers = pod["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == TRACKING) {
        finalizers.push(json!(TRACKING));
    }
    pod["metadata"]["finalizers"] = json!(finalizers);
    let Some(index) = seat.index else { return pod };
    let suffix = format!("-{index}-");
    let prefix: String = job.metadata.name.chars().take(PREFIX_MAX - suffix.len()).collect();
    pod["metadata"]["generateName"] = json!(format!("{prefix}{suffix}"));
    pod["metadata"]["labels"][COMPLETION_INDEX] = json!(index.to_string());
    pod["metadata"]["annotations"][COMPLETION_INDEX] = json!(index.to_string());
    if let Some((counted, ignored)) = seat.failures {
        pod["metadata"]["annotations"][INDEX_FAILURES] = json!(counted.to_string());
        if ignored > 0 {
            pod["metadata"]["annotations"][INDEX_IGNORED_FAILURES] = json!(ignored.to_string());
        }
    }
    pod["spec"]["hostname"] = json!(format!("{}-{index}", job.metadata.name));
    let variable = json!({
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": format!("metadata.labels['{COMPLETION_INDEX}']") } },
    });
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let named = |one: &Value| one["name"] == "JOB_COMPLETION_INDEX";
            if container["env"].as_array().is_some_and(|env| env.iter().any(named)) {
                continue;
            }
            match container["env"].as_array_mut() {
                Some(env) => env.push(variable.clone()),
                None => container["env"] = json!([variable]),
            }
        }
    }
    pod
}

/// Takes the finalizer off pods; returns the UIDs of those that are known not to have it any more.
async fn release(context: &Context, pods: &[Arc<Pod>]) -> Vec<String> {
    let one = async |pod: &Arc<Pod>| {
        let meta = &pod.metadata;
        let patch =
            Patch::Strategic(json!({ "metadata": { "uid": meta.uid, "$deleteFromPrimitiveList/finalizers": [TRACKING] } }));
        let done = context.client().patch::<Value>(PODS, &meta.namespace, &meta.name, None, patch).await;
        if let Err(error) = &done
            && !error.is_not_found()
        {
            tracing::debug!(pod = meta.name, %error, "the finalizer stays for now");
            return None;
        }
        let free = |now: &Pod| now.metadata.uid != meta.uid || !now.metadata.has_finalizer(TRACKING);
        let shown = || context.pods.get(&meta.namespace, &meta.name).is_none_or(|now| free(&now));
        seen(shown).await;
        shown().then(|| meta.uid.clone())
    };
    futures::future::join_all(pods.iter().map(one)).await.into_iter().flatten().collect()
}

pub(super) fn start_orphans(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("job_orphan_pods");
    let add = Arc::clone(&queue);
    context.pods.on_change(move |change| {
        let tracked = change.new.iter().filter(|pod| pod.metadata.has_finalizer(TRACKING));
        tracked.for_each(|pod| add.add(pod.metadata.key()));
    });
    let (all, add) = (Arc::clone(context), Arc::clone(&queue));
    context.jobs.on_change(move |change| {
        let Some(job) = change.old.as_ref().or(change.new.as_ref()) else { return };
        if change.new.as_ref().is_none_or(|job| job.ended().is_some()) {
            context::owned(&all.pods, &job.metadata).iter().for_each(|pod| add.add(pod.metadata.key()));
        }
    });
    run::controller(context, &queue, "job_orphan_pods", cancel, reconcile_orphan)
}

/// Nobody counts a pod whose Job is gone, has ended, or has let it go.
async fn reconcile_orphan(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let Some(pod) = context.pods.get(&key.namespace, &key.name) else { return Ok(None) };
    if !pod.metadata.has_finalizer(TRACKING) {
        return Ok(None);
    }
    if let Some(owner) = pod.metadata.controller() {
        if owner.kind != "Job" {
            return Ok(None);
        }
        let job = match context.jobs.get(&key.namespace, &owner.name) {
            Some(job) => Some(job),
            None => match context.client().get::<Job>(JOBS, &key.namespace, &owner.name).await {
                Ok(job) => Some(Arc::new(job)),
                Err(error) => gone(Err(error)).map(|()| None)?,
            },
        };
        if job.is_some_and(|job| job.metadata.uid == owner.uid && (job.ended().is_none() || job.is_foreign())) {
            return Ok(None);
        }
    }
    release(&context, &[pod]).await;
    Ok(None)
}
