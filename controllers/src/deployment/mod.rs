//! Deployments: a ReplicaSet for each template, the new one grown as the old ones shrink.
//!
//! In: the Deployment, its ReplicaSets, their pods. Out: ReplicaSets created, scaled and deleted, and the status.
//! The arithmetic is in [`rolling`], the conditions in [`status`], the deeds in [`rollout`]; [`rollback`] undoes a
//! rollout that failed, for those who ask for it.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/>

pub mod rollback;
pub mod rolling;
mod rollout;
pub mod status;
pub mod template;

use std::sync::Arc;

use futures::future::BoxFuture;
use kontiki_api::resources::{DEPLOYMENTS, REPLICA_SETS};
use kontiki_client::{events::EventType, reflector::ObjectKey};
use tokio_util::sync::CancellationToken;

use self::{rolling::Member, rollout::Rollout};
use crate::{
    context::{self, Context},
    model::{Selector, Workload},
    pod_control::{self, Owner},
    run::{self, Reconciled},
};

/// Number of a rollout, on Deployments and ReplicaSets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Numbers that a ReplicaSet had before.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Replicas of the Deployment when a ReplicaSet was last scaled.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// Those with the surge.
pub const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
/// Label that tells the templates of a Deployment apart.
pub const HASH: &str = "pod-template-hash";

/// Begins to look after Deployments.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("deployment");
    run::tell_own(&context.deployments, &queue);
    let adopting = Arc::clone(context);
    run::tell_owner(&context.replica_sets, &queue, "Deployment", move |set| {
        let deployments = adopting.deployments.in_namespace(&set.namespace);
        deployments.iter().filter(|one| one.selects(&set.labels)).map(|one| one.metadata.key()).collect()
    });
    // Who recreates waits for pods to go; who rolls back looks at how they are.
    let (all, add) = (Arc::clone(context), Arc::clone(&queue));
    context.pods.on_change(move |change| {
        let Some(pod) = change.new.as_ref().or(change.old.as_ref()) else { return };
        let Some(owner) = pod.metadata.controller().filter(|owner| owner.kind == "ReplicaSet") else { return };
        let gone = change.new.is_none() || pod.has_ended();
        let crashes = pod.restarts() > 0;
        if let Some(set) = all.replica_sets.get(&change.key.namespace, &owner.name).filter(|_| gone || crashes)
            && let Some(above) = set.metadata.controller()
        {
            add.add(ObjectKey::new(change.key.namespace.clone(), above.name.clone()));
        }
    });
    run::controller(context, &queue, "deployment", cancel, reconcile)
}

fn revision(set: &Workload) -> i64 {
    set.metadata.annotation(REVISION).parse().unwrap_or(0)
}

fn member(set: &Workload) -> Member {
    let most = set.metadata.annotation(MAXIMUM).parse().unwrap_or(0);
    Member { replicas: set.spec.replicas, available: set.count("availableReplicas"), most }
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let Some(deployment) = context.deployments.get(&key.namespace, &key.name) else { return Ok(None) };
    let owner = Owner { key: DEPLOYMENTS, meta: &deployment.metadata };
    if deployment.spec.selector.as_ref().is_none_or(Selector::is_empty) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        context.recorder.event(&owner.reference(), EventType::Warning, "SelectingAll", message);
        return Ok(None);
    }
    let near = context::near(&context.replica_sets, &deployment.metadata);
    let claim = pod_control::claim(&deployment.metadata, near, |set: &Workload| deployment.selects(&set.metadata.labels));
    let mut sets = pod_control::enact(&context, owner, REPLICA_SETS, claim, &[]).await?;
    sets.sort_by_key(|set| (set.metadata.creation_timestamp, set.metadata.name.clone()));
    // The oldest of those with the same template is the one.
    let new = sets.iter().position(|set| template::same(&set.spec.template, &deployment.spec.template));
    let new = new.map(|index| sets.remove(index));
    let mut rollout = Rollout { context: &context, deployment: &deployment, new, old: sets };
    if deployment.metadata.is_deleted() {
        return rollout.report().await;
    }
    match rollout.roll().await {
        Err(error) if error.is_namespace_terminating() => return Ok(None),
        rolled => rolled?,
    }
    let again = rollout.report().await?;
    rollout.undo().await?;
    rollout.forget_old().await?;
    Ok(again)
}
