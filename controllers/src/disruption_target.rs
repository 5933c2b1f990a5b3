//! The condition of a pod that is deleted for a reason of the cluster's, which Jobs' failure policies look at.

use jiff::Timestamp;
use kontiki_api::resources::PODS;
use kontiki_client::{Error, Patch};
use serde_json::{Value, json};

use crate::{
    context::Context,
    model::{Condition, Pod},
    run::gone,
};

/// Notes why a pod is going; `failed` says whether nobody else will ever say that it has ended.
pub async fn mark(context: &Context, pod: &Pod, reason: &str, message: &str, failed: bool) -> Result<(), Error> {
    let mut conditions = pod.status.conditions.clone();
    Condition::set(&mut conditions, "DisruptionTarget", "True", reason, message, Timestamp::now());
    let ends = failed && !pod.has_ended();
    if conditions == pod.status.conditions && !ends {
        return Ok(());
    }
    let meta = &pod.metadata;
    let mut status = json!({ "conditions": conditions });
    if ends {
        status["phase"] = json!("Failed");
    }
    let patch = json!({ "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version }, "status": status });
    gone(context.client().patch::<Value>(PODS, &meta.namespace, &meta.name, Some("status"), Patch::Merge(patch)).await.map(drop))
}
