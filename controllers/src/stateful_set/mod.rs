//! StatefulSets: pods with names and claims that last.
//!
//! In: the set, the pods near it, its claims, the revisions of its template. Out: claims and pods created, pods
//! deleted, the history kept, and the status. What comes and goes is decided in [`plan`].
//! <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/>

pub mod claims;
pub mod plan;
pub mod status;
#[cfg(test)]
mod tests;

use std::{fmt::Display, sync::Arc};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kontiki_api::resources::{PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS};
use kontiki_client::{DeleteOptions, Error, Patch, events::EventType, reflector::ObjectKey};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::plan::{Action, Observed, POD_NAME};
use crate::{
    context::{self, Context},
    model::{Meta, Pod, Selector, objects},
    pod_control::{self, Owner, from_template},
    revisions::{self, History, REVISION_HASH},
    run::{self, Reconciled, gone, seen},
};

/// Label of a revision's hash.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// Label of a pod's ordinal.
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// A StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct StatefulSet {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: StatefulSetSpec,
    /// What is.
    pub status: Value,
}

/// What was asked for of a StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatefulSetSpec {
    /// Number of pods.
    pub replicas: i64,
    /// Which pods; none where absent.
    pub selector: Option<Selector>,
    /// What a pod is made from.
    pub template: Value,
    /// What its claims are made from.
    pub volume_claim_templates: Vec<Value>,
    /// Service that gives the pods their names.
    pub service_name: String,
    /// `OrderedReady` or `Parallel`.
    pub pod_management_policy: String,
    /// How a new template replaces the old one.
    pub update_strategy: Value,
    /// Old revisions that are kept.
    pub revision_history_limit: Option<i64>,
    /// Seconds until a ready pod counts as available.
    pub min_ready_seconds: i64,
    /// What becomes of claims.
    pub persistent_volume_claim_retention_policy: Value,
    /// Where numbers begin.
    pub ordinals: Value,
}

impl StatefulSetSpec {
    /// The first ordinal.
    pub fn start(&self) -> i64 {
        self.ordinals["start"].as_i64().unwrap_or(0)
    }

    /// `Retain` or `Delete` for `whenDeleted` or `whenScaled`.
    pub fn retention(&self, when: &str) -> &str {
        self.persistent_volume_claim_retention_policy[when].as_str().unwrap_or("Retain")
    }
}

objects!(StatefulSet);

/// Begins to look after StatefulSets.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("statefulset");
    run::tell_own(&context.stateful_sets, &queue);
    let adopting = Arc::clone(context);
    run::tell_owner(&context.pods, &queue, "StatefulSet", move |pod| {
        let sets = adopting.stateful_sets.in_namespace(&pod.namespace);
        sets.iter().filter(|set| is_member(set, pod)).map(|set| set.metadata.key()).collect()
    });
    run::controller(context, &queue, "statefulset", cancel, reconcile)
}

fn is_member(set: &StatefulSet, pod: &Meta) -> bool {
    let selected = set.spec.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels));
    selected && plan::ordinal(&set.metadata.name, &pod.name).is_some()
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let Some(set) = context.stateful_sets.get(&key.namespace, &key.name) else { return Ok(None) };
    let Some(selector) = &set.spec.selector else { return Ok(None) };
    let meta = &set.metadata;
    let owner = Owner { key: STATEFUL_SETS, meta };
    let claim = pod_control::claim(meta, context::near(&context.pods, meta), |pod: &Pod| is_member(&set, &pod.metadata));
    let pods = pod_control::enact(&context, owner, PODS, claim, &[]).await?;
    let collisions = set.status["collisionCount"].as_i64().unwrap_or(0);
    let history = revisions::sync(&context, owner, selector, &set.spec.template, collisions, HASH_LABEL).await?;
    let update = history.update.metadata.name.clone();
    let current = set.status["currentRevision"].as_str().and_then(|name| history.named(name));
    let current = current.map_or_else(|| update.clone(), |revision| revision.metadata.name.clone());
    let claims = |name: &str| context.claims.get(&key.namespace, name);
    let now = Timestamp::now();
    let observed = Observed { set: &set, pods: &pods, current: &current, update: &update, claims: &claims, now };
    let plan = plan::plan(&observed);
    let acted = act(&context, &set, owner, &history, plan.actions).await;
    let pods = context::owned(&context.pods, meta);
    let counted = pods.iter().map(AsRef::as_ref);
    let status = status::status(&set, counted, (&current, &update), history.collisions, Timestamp::now());
    let complete = status["currentRevision"] == update;
    if status::differs(&set.status, &status) {
        let patch = json!({ "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version }, "status": status });
        let written =
            context.client().patch::<Value>(STATEFUL_SETS, &key.namespace, &key.name, Some("status"), Patch::Merge(patch));
        gone(written.await.map(drop))?;
    }
    match acted {
        Err(error) if error.is_namespace_terminating() => return Ok(None),
        acted => acted?,
    }
    let live = |one: &revisions::ControllerRevision| {
        let name = &one.metadata.name;
        *name == update || (!complete && *name == current) || pods.iter().any(|pod| pod.metadata.label(REVISION_HASH) == name)
    };
    revisions::truncate(&context, &history, live, set.spec.revision_history_limit.unwrap_or(10)).await?;
    Ok(plan.again)
}

async fn act(
    context: &Context,
    set: &StatefulSet,
    owner: Owner<'_>,
    history: &History,
    actions: Vec<Action>,
) -> Result<(), Error> {
    if set.spec.pod_management_policy == "Parallel" {
        let steps = actions.into_iter().map(|action| step(context, set, owner, history, action));
        return futures::future::join_all(steps).await.into_iter().collect();
    }
    for action in actions {
        step(context, set, owner, history, action).await?;
    }
    Ok(())
}

async fn step(context: &Context, set: &StatefulSet, owner: Owner<'_>, history: &History, action: Action) -> Result<(), Error> {
    match action {
        Action::Create(number, revision) => {
            let template = history.named(&revision).unwrap_or(&history.update).template();
            create(context, set, owner, number, &revision, &template).await
        }
        Action::Delete(pod) => delete(context, set, owner, &pod).await,
        Action::Claims(pod) => {
            let Some(number) = plan::ordinal(&set.metadata.name, &pod.metadata.name) else { return Ok(()) };
            ensure_claims(context, set, owner, number).await
        }
        Action::Repair(pod) => repair(context, set, &pod).await,
    }
}

/// The pod of an ordinal, whole.
fn body(set: &StatefulSet, owner: Owner<'_>, number: i64, revision: &str, template: &Value) -> Value {
    let name = format!("{}-{number}", set.metadata.name);
    let mut pod = from_template(template, owner);
    if let Some(meta) = pod["metadata"].as_object_mut() {
        meta.remove("generateName");
    }
    let labels = [(POD_NAME, name.clone()), (POD_INDEX, number.to_string()), (REVISION_HASH, revision.to_owned())];
    for (label, value) in labels {
        pod["metadata"]["labels"][label] = json!(value);
    }
    pod["metadata"]["name"] = json!(name);
    pod["spec"]["hostname"] = json!(name);
    if !set.spec.service_name.is_empty() {
        pod["spec"]["subdomain"] = json!(set.spec.service_name);
    }
    claims::mount(set, number, &mut pod);
    pod
}

fn tell(context: &Context, owner: Owner<'_>, verb: &str, what: &str, failure: Option<&dyn Display>) {
    let set = &owner.meta.name;
    let (type_, reason, message) = match failure {
        None => (EventType::Normal, format!("Successful{verb}"), format!("{verb} {what} in StatefulSet {set} successful")),
        Some(error) => {
            let message = format!("{verb} {what} in StatefulSet {set} failed error: {error}");
            (EventType::Warning, format!("Failed{verb}"), message)
        }
    };
    context.recorder.event(&owner.reference(), type_, &reason, message);
}

async fn create(
    context: &Context,
    set: &StatefulSet,
    owner: Owner<'_>,
    number: i64,
    revision: &str,
    template: &Value,
) -> Result<(), Error> {
    ensure_claims(context, set, owner, number).await?;
    let namespace = &set.metadata.namespace;
    let pod = body(set, owner, number, revision, template);
    let name = format!("{}-{number}", set.metadata.name);
    match context.client().create::<Pod>(PODS, namespace, &pod).await {
        Ok(made) => {
            tell(context, owner, "Create", &format!("Pod {name}"), None);
            seen(|| context.pods.get(namespace, &name).is_some()).await;
            repair(context, set, &made).await
        }
        Err(error) => {
            if !error.is_already_exists() && !error.is_namespace_terminating() {
                tell(context, owner, "Create", &format!("Pod {name}"), Some(&error));
            }
            Err(error)
        }
    }
}

async fn delete(context: &Context, set: &StatefulSet, owner: Owner<'_>, pod: &Pod) -> Result<(), Error> {
    let meta = &pod.metadata;
    let what = format!("Pod {}", meta.name);
    match gone(context.client().delete(PODS, &meta.namespace, &meta.name, &DeleteOptions::with_uid(&meta.uid)).await) {
        Ok(()) => tell(context, owner, "Delete", &what, None),
        Err(error) => {
            tell(context, owner, "Delete", &what, Some(&error));
            return Err(error);
        }
    }
    let namespace = &set.metadata.namespace;
    let goes = |now: &Pod| now.metadata.is_deleted() || now.metadata.uid != meta.uid;
    seen(|| context.pods.get(namespace, &meta.name).is_none_or(|now| goes(&now))).await;
    Ok(())
}

async fn ensure_claims(context: &Context, set: &StatefulSet, owner: Owner<'_>, number: i64) -> Result<(), Error> {
    let namespace = &set.metadata.namespace;
    for (name, body) in claims::bodies(set, number) {
        if context.claims.get(namespace, &name).is_some() {
            continue;
        }
        let what = format!("Claim {name} Pod {}-{number}", set.metadata.name);
        match context.client().create::<Value>(PERSISTENT_VOLUME_CLAIMS, namespace, &body).await {
            Ok(_) => {
                let message = format!("Create {what} in StatefulSet {} success", set.metadata.name);
                context.recorder.event(&owner.reference(), EventType::Normal, "SuccessfulCreate", message);
                seen(|| context.claims.get(namespace, &name).is_some()).await;
            }
            Err(error) if error.is_already_exists() => {}
            Err(error) => {
                tell(context, owner, "Create", &format!("Claim {name} for Pod {}-{number}", set.metadata.name), Some(&error));
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Puts a pod's labels and the owners of its claims right.
async fn repair(context: &Context, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
    let (client, meta) = (context.client(), &pod.metadata);
    let Some(number) = plan::ordinal(&set.metadata.name, &meta.name) else { return Ok(()) };
    if meta.label(POD_NAME) != meta.name {
        let labels = json!({ POD_NAME: meta.name, POD_INDEX: number.to_string() });
        let patch = Patch::Merge(json!({ "metadata": { "uid": meta.uid, "labels": labels } }));
        gone(client.patch::<Value>(PODS, &meta.namespace, &meta.name, None, patch).await.map(drop))?;
    }
    for (name, _) in claims::names(set, number) {
        let Some(claim) = context.claims.get(&meta.namespace, &name) else { continue };
        let Some(owners) = claims::owners(set, pod, &claim.metadata) else { continue };
        let version = &claim.metadata.resource_version;
        let patch = Patch::Merge(json!({ "metadata": { "resourceVersion": version, "ownerReferences": owners } }));
        gone(client.patch::<Value>(PERSISTENT_VOLUME_CLAIMS, &meta.namespace, &name, None, patch).await.map(drop))?;
    }
    Ok(())
}
