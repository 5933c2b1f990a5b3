//! Deployments: a ReplicaSet for each template, the new one grown as the old ones shrink.
//!
//! In: the Deployment, its ReplicaSets, their pods. Out: ReplicaSets created, scaled and deleted, and the status.
//! The arithmetic is in [`rolling`], the conditions in [`status`].
//! <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/>

pub mod rolling;
pub mod status;
pub mod template;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kontiki_api::resources::{DEPLOYMENTS, REPLICA_SETS};
use kontiki_client::{DeleteOptions, Error, Patch, events::EventType, reflector::ObjectKey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::rolling::{Bounds, Member};
use crate::{
    context::Context,
    model::Workload,
    replica_set::{owner, reference},
    run::{self, Queue},
};

/// Number of a rollout, on Deployments and ReplicaSets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Replicas of the Deployment when a ReplicaSet was last scaled.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// Those with the surge.
pub const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
/// Label that tells the templates of a Deployment apart.
pub const HASH: &str = "pod-template-hash";

/// Reconciles until `cancel`.
pub async fn run(context: Arc<Context>, queue: Queue, cancel: CancellationToken) {
    let reconcile = move |key| reconcile(Arc::clone(&context), key);
    run::run(queue, "deployment", cancel, reconcile).await;
}

/// One Deployment and what belongs to it.
struct Rollout {
    context: Arc<Context>,
    deployment: Arc<Workload>,
    /// The ReplicaSet of the present template.
    new: Option<Arc<Workload>>,
    /// The others, oldest first.
    old: Vec<Arc<Workload>>,
}

fn count(set: &Workload, name: &str) -> i64 {
    set.status[name].as_i64().unwrap_or(0)
}

fn revision(set: &Workload) -> i64 {
    set.metadata.annotations.get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn member(set: &Workload) -> Member {
    Member { replicas: set.spec.replicas, available: count(set, "availableReplicas") }
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Option<Duration>, Error> {
    let Some(deployment) = context.deployments.get(&key.namespace, &key.name) else { return Ok(None) };
    if deployment.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let mut sets: Vec<_> = context.replica_sets.list();
    sets.retain(|set| set.metadata.is_controlled_by(&deployment.metadata.uid) && set.metadata.deletion_timestamp.is_none());
    sets.sort_by_key(|set| (set.metadata.creation_timestamp, set.metadata.name.clone()));
    let new = sets.iter().position(|set| template::same(&set.spec.template, &deployment.spec.template));
    let new = new.map(|index| sets.remove(index));
    let mut rollout = Rollout { context, deployment, new, old: sets };
    rollout.roll().await?;
    let again = rollout.report().await?;
    rollout.forget_old().await?;
    Ok(again)
}

impl Rollout {
    async fn roll(&mut self) -> Result<(), Error> {
        let bounds = self.bounds();
        if self.deployment.spec.paused {
            return self.scale_in_proportion(bounds).await;
        }
        if self.is_scaled(bounds) {
            return self.scale_in_proportion(bounds).await;
        }
        if self.deployment.spec.strategy["type"] == "Recreate" {
            return self.recreate().await;
        }
        self.ensure_new(bounds).await?;
        let Some(new) = self.new.clone() else { return Ok(()) };
        let old: Vec<_> = self.old.iter().map(|set| member(set)).collect();
        let grown = rolling::new_replicas(bounds, member(&new), &old);
        if grown != new.spec.replicas {
            return self.scale(&new, grown, bounds).await;
        }
        for (set, replicas) in self.old.clone().iter().zip(rolling::old_replicas(bounds, member(&new), &old)) {
            if replicas != set.spec.replicas {
                self.scale(set, replicas, bounds).await?;
            }
        }
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        Bounds::of(&self.deployment.spec)
    }

    /// Whether only the number of replicas has changed since the sets were last scaled.
    fn is_scaled(&self, bounds: Bounds) -> bool {
        let active = self.old.iter().chain(&self.new).filter(|set| set.spec.replicas > 0);
        active.into_iter().any(|set| {
            let desired = set.metadata.annotations.get(DESIRED).and_then(|text| text.parse::<i64>().ok());
            desired.is_some_and(|desired| desired != bounds.replicas)
        })
    }

    async fn scale_in_proportion(&mut self, bounds: Bounds) -> Result<(), Error> {
        let sets: Vec<_> = self.old.iter().chain(&self.new).cloned().collect();
        let newest = self.new.is_some().then(|| sets.len() - 1);
        let members: Vec<_> = sets.iter().map(|set| member(set)).collect();
        for (set, replicas) in sets.iter().zip(rolling::proportional(bounds, &members, newest)) {
            let desired = set.metadata.annotations.get(DESIRED).and_then(|text| text.parse::<i64>().ok());
            if replicas != set.spec.replicas || (set.spec.replicas > 0 && desired != Some(bounds.replicas)) {
                self.scale(set, replicas, bounds).await?;
            }
        }
        Ok(())
    }

    /// All old pods go before the first new one comes.
    async fn recreate(&mut self) -> Result<(), Error> {
        let bounds = self.bounds();
        let mut shrunk = false;
        for set in self.old.clone().iter().filter(|set| set.spec.replicas > 0) {
            self.scale(set, 0, bounds).await?;
            shrunk = true;
        }
        let alive = |uid: &String| {
            let pods = self.context.pods.list();
            pods.iter().any(|pod| pod.metadata.is_controlled_by(uid) && !pod.has_ended())
        };
        if shrunk || self.old.iter().any(|set| alive(&set.metadata.uid)) {
            return Ok(());
        }
        self.ensure_new(bounds).await?;
        match self.new.clone() {
            Some(new) if new.spec.replicas != bounds.replicas => self.scale(&new, bounds.replicas, bounds).await,
            _ => Ok(()),
        }
    }

    /// The ReplicaSet of the present template, with the highest revision.
    async fn ensure_new(&mut self, bounds: Bounds) -> Result<(), Error> {
        let next = self.old.iter().map(|set| revision(set)).max().unwrap_or(0) + 1;
        if let Some(new) = &self.new {
            if revision(new) < next {
                let patch = json!({ "metadata": { "annotations": { REVISION: next.to_string() } } });
                self.patch_set(&new.clone(), patch).await?;
            }
            return self.note_revision(next.max(self.new.as_ref().map_or(0, |new| revision(new)))).await;
        }
        let meta = &self.deployment.metadata;
        let old: Vec<_> = self.old.iter().map(|set| member(set)).collect();
        let replicas = rolling::new_replicas(bounds, Member::default(), &old);
        let collisions = self.deployment.status["collisionCount"].as_i64().unwrap_or(0);
        let hash = template::hash(&self.deployment.spec.template, collisions);
        let body = template::replica_set(&self.deployment, &hash, replicas, next, bounds, owner(meta, "apps/v1", "Deployment"));
        let name = format!("{}-{hash}", meta.name);
        match self.context.client().create::<Workload>(REPLICA_SETS, &meta.namespace, &body).await {
            Ok(created) => {
                self.new = Some(Arc::new(created));
                self.tell(format!("Scaled up replica set {name} from 0 to {replicas}"));
                self.note_revision(next).await
            }
            Err(error) if error.is_already_exists() => {
                let found: Workload = self.context.client().get(REPLICA_SETS, &meta.namespace, &name).await?;
                let ours = found.metadata.is_controlled_by(&meta.uid);
                if !(ours && template::same(&found.spec.template, &self.deployment.spec.template)) {
                    // Another template has the same hash: the next attempt takes another one.
                    let patch = json!({ "status": { "collisionCount": collisions + 1 } });
                    self.patch_status(patch).await?;
                }
                // Or the reflector has not seen it yet.
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn note_revision(&self, number: i64) -> Result<(), Error> {
        let meta = &self.deployment.metadata;
        if meta.annotations.get(REVISION).is_some_and(|text| *text == number.to_string()) {
            return Ok(());
        }
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { REVISION: number.to_string() } } }));
        self.context.client().patch::<Value>(DEPLOYMENTS, &meta.namespace, &meta.name, None, patch).await.map(drop)
    }

    async fn patch_set(&self, set: &Workload, patch: Value) -> Result<(), Error> {
        let meta = &set.metadata;
        self.context.client().patch::<Value>(REPLICA_SETS, &meta.namespace, &meta.name, None, Patch::Merge(patch)).await.map(drop)
    }

    async fn patch_status(&self, patch: Value) -> Result<(), Error> {
        let meta = &self.deployment.metadata;
        let patch = Patch::Merge(patch);
        self.context.client().patch::<Value>(DEPLOYMENTS, &meta.namespace, &meta.name, Some("status"), patch).await.map(drop)
    }

    async fn scale(&mut self, set: &Arc<Workload>, replicas: i64, bounds: Bounds) -> Result<(), Error> {
        let before = set.spec.replicas;
        let patch = json!({
            "metadata": {
                "resourceVersion": set.metadata.resource_version,
                "annotations": { DESIRED: bounds.replicas.to_string(), MAXIMUM: (bounds.replicas + bounds.surge).to_string() },
            },
            "spec": { "replicas": replicas },
        });
        self.patch_set(set, patch).await?;
        if replicas != before {
            let direction = if replicas > before { "up" } else { "down" };
            self.tell(format!("Scaled {direction} replica set {} from {before} to {replicas}", set.metadata.name));
        }
        Ok(())
    }

    fn tell(&self, message: String) {
        let object = reference(&self.deployment.metadata, "apps/v1", "Deployment");
        self.context.recorder.event(&object, EventType::Normal, "ScalingReplicaSet", message);
    }

    /// Writes the status where it differs; says when it may change by time alone.
    async fn report(&self) -> Result<Option<Duration>, Error> {
        let sets: Vec<_> = self.old.iter().chain(&self.new).map(AsRef::as_ref).collect();
        let (status, again) = status::build(&self.deployment, self.new.as_deref(), &sets, self.bounds(), Timestamp::now());
        if status::differs(&self.deployment.status, &status) {
            let meta = &self.deployment.metadata;
            let patch = json!({ "metadata": { "resourceVersion": meta.resource_version }, "status": status });
            self.patch_status(patch).await?;
        }
        Ok(again)
    }

    /// Deletes the oldest ReplicaSets that nobody can want to go back to.
    async fn forget_old(&self) -> Result<(), Error> {
        let Some(limit) = self.deployment.spec.revision_history_limit else { return Ok(()) };
        let complete = self.new.as_ref().is_some_and(|new| member(new).available >= self.deployment.spec.replicas);
        if !complete {
            return Ok(());
        }
        let empty = |set: &&Arc<Workload>| set.spec.replicas == 0 && count(set, "replicas") == 0;
        let mut old: Vec<_> = self.old.iter().filter(empty).collect();
        old.sort_by_key(|set| revision(set));
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        for set in old.into_iter().take(surplus) {
            let meta = &set.metadata;
            let options = DeleteOptions::with_uid(&meta.uid);
            match self.context.client().delete(REPLICA_SETS, &meta.namespace, &meta.name, &options).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
