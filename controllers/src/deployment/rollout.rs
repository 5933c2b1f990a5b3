//! Carrying out a rollout: ReplicaSets made, found again, scaled and forgotten, and the status written.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kontiki_api::resources::{DEPLOYMENTS, REPLICA_SETS};
use kontiki_client::{DeleteOptions, Error, Patch, events::EventType};
use serde_json::{Value, json};

use super::{
    DESIRED, MAXIMUM, REVISION, REVISION_HISTORY, member, revision, rollback,
    rolling::{self, Bounds},
    status, template,
};
use crate::{
    context::{self, Context},
    model::Workload,
    pod_control::Owner,
    run::{gone, seen},
    written::write_status,
};

/// Longest list of earlier revisions that a ReplicaSet carries.
const HISTORY_MAX: usize = 2000;

/// One Deployment and what belongs to it.
pub struct Rollout<'a> {
    /// What the controllers share.
    pub context: &'a Context,
    /// The Deployment.
    pub deployment: &'a Workload,
    /// The ReplicaSet of the present template.
    pub new: Option<Arc<Workload>>,
    /// The others, oldest first.
    pub old: Vec<Arc<Workload>>,
}

fn desired(set: &Workload) -> Option<i64> {
    set.metadata.annotations.get(DESIRED).and_then(|text| text.parse().ok())
}

impl Rollout<'_> {
    fn bounds(&self) -> Bounds {
        Bounds::of(&self.deployment.spec)
    }

    fn owner(&self) -> Owner<'_> {
        Owner { key: DEPLOYMENTS, meta: &self.deployment.metadata }
    }

    /// Does what is next.
    pub async fn roll(&mut self) -> Result<(), Error> {
        let bounds = self.bounds();
        if self.deployment.spec.paused || self.is_scaled(bounds) {
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

    /// Whether only the number of replicas has changed since the sets were last scaled.
    fn is_scaled(&self, bounds: Bounds) -> bool {
        let mut active = self.old.iter().chain(&self.new).filter(|set| set.spec.replicas > 0);
        active.any(|set| desired(set).is_some_and(|desired| desired != bounds.replicas))
    }

    async fn scale_in_proportion(&mut self, bounds: Bounds) -> Result<(), Error> {
        let sets: Vec<_> = self.old.iter().chain(&self.new).cloned().collect();
        let active = sets.iter().filter(|set| set.spec.replicas > 0).count();
        if active > 1 && self.deployment.spec.strategy["type"] == "Recreate" {
            return Ok(());
        }
        let newest = self.new.is_some().then(|| sets.len() - 1);
        let members: Vec<_> = sets.iter().map(|set| member(set)).collect();
        for (set, replicas) in sets.iter().zip(rolling::proportional(bounds, &members, newest)) {
            if replicas != set.spec.replicas || (set.spec.replicas > 0 && desired(set) != Some(bounds.replicas)) {
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
        let alive = |set: &Arc<Workload>| context::owned(&self.context.pods, &set.metadata).iter().any(|pod| !pod.has_ended());
        if shrunk || self.old.iter().any(alive) {
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
        match self.new.clone() {
            Some(new) => self.renew(&new, next).await,
            None => self.make(next, bounds).await,
        }
    }

    /// Brings a ReplicaSet that is there up to date with the Deployment.
    async fn renew(&mut self, new: &Arc<Workload>, next: i64) -> Result<(), Error> {
        let own = &new.metadata.annotations;
        let mut annotations = template::handed_on(&self.deployment.metadata);
        let number = revision(new);
        if number < next {
            annotations.insert(REVISION.to_owned(), next.to_string());
            if number > 0 {
                let history = new.metadata.annotation(REVISION_HISTORY);
                let mut history = if history.is_empty() { number.to_string() } else { format!("{history},{number}") };
                while history.len() > HISTORY_MAX {
                    let Some((_, rest)) = history.split_once(',') else { break };
                    history = rest.to_owned();
                }
                annotations.insert(REVISION_HISTORY.to_owned(), history);
            }
        }
        annotations.retain(|name, value| own.get(name) != Some(value));
        let seconds = self.deployment.spec.min_ready_seconds;
        if !annotations.is_empty() || new.spec.min_ready_seconds != seconds {
            let patch = json!({ "metadata": { "annotations": annotations }, "spec": { "minReadySeconds": seconds } });
            self.new = Some(self.patch_set(new, patch).await?);
        }
        self.note_revision(next.max(number)).await
    }

    async fn make(&mut self, next: i64, bounds: Bounds) -> Result<(), Error> {
        let meta = &self.deployment.metadata;
        let old: Vec<_> = self.old.iter().map(|set| member(set)).collect();
        let replicas = rolling::new_replicas(bounds, rolling::Member::default(), &old);
        let collisions = self.deployment.count("collisionCount");
        let hash = template::hash(&self.deployment.spec.template, collisions);
        let body = template::replica_set(self.deployment, &hash, replicas, next, bounds, self.owner().controller());
        let name = format!("{}-{hash}", meta.name);
        match self.context.client().create::<Workload>(REPLICA_SETS, &meta.namespace, &body).await {
            Ok(created) => {
                self.new = Some(Arc::new(created));
                self.tell(format!("Scaled up replica set {name} from 0 to {replicas}"));
                seen(|| self.context.replica_sets.get(&meta.namespace, &name).is_some()).await;
                self.note_revision(next).await
            }
            Err(error) if error.is_already_exists() => {
                let found: Workload = self.context.client().get(REPLICA_SETS, &meta.namespace, &name).await?;
                let ours = found.metadata.is_controlled_by(&meta.uid);
                if !(ours && template::same(&found.spec.template, &self.deployment.spec.template)) {
                    // Another template has the same hash: the next attempt takes another one.
                    let want = json!({ "collisionCount": collisions + 1 });
                    write_status(self.context, DEPLOYMENTS, meta, &self.deployment.status, &want).await?;
                }
                // Or the reflector has not seen it yet.
                Err(error)
            }
            Err(error) => {
                if !error.is_namespace_terminating() {
                    let words = format!("Failed to create new replica set {name:?}: {error}");
                    self.context.recorder.event(&self.owner().reference(), EventType::Warning, "ReplicaSetCreateError", words);
                }
                Err(error)
            }
        }
    }

    async fn note_revision(&self, number: i64) -> Result<(), Error> {
        let meta = &self.deployment.metadata;
        if meta.annotation(REVISION) == number.to_string() {
            return Ok(());
        }
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { REVISION: number.to_string() } } }));
        self.context.client().patch::<Value>(DEPLOYMENTS, &meta.namespace, &meta.name, None, patch).await.map(drop)
    }

    /// Changes a ReplicaSet, and waits until the next look sees it.
    async fn patch_set(&self, set: &Workload, mut patch: Value) -> Result<Arc<Workload>, Error> {
        let meta = &set.metadata;
        patch["metadata"]["resourceVersion"] = json!(meta.resource_version);
        let patched = self.context.client().patch(REPLICA_SETS, &meta.namespace, &meta.name, None, Patch::Merge(patch)).await?;
        let moved = |now: &Workload| now.metadata.resource_version != meta.resource_version;
        seen(|| self.context.replica_sets.get(&meta.namespace, &meta.name).is_none_or(|now| moved(&now))).await;
        Ok(Arc::new(patched))
    }

    async fn scale(&mut self, set: &Arc<Workload>, replicas: i64, bounds: Bounds) -> Result<(), Error> {
        let before = set.spec.replicas;
        let annotations = json!({ DESIRED: bounds.replicas.to_string(), MAXIMUM: (bounds.replicas + bounds.surge).to_string() });
        let patch = json!({ "metadata": { "annotations": annotations }, "spec": { "replicas": replicas } });
        self.patch_set(set, patch).await?;
        if replicas != before {
            let direction = if replicas > before { "up" } else { "down" };
            self.tell(format!("Scaled {direction} replica set {} from {before} to {replicas}", set.metadata.name));
        }
        Ok(())
    }

    fn tell(&self, message: String) {
        self.context.recorder.event(&self.owner().reference(), EventType::Normal, "ScalingReplicaSet", message);
    }

    /// Writes the status where it differs; says when it may change by time alone.
    pub async fn report(&self) -> Result<Option<Duration>, Error> {
        let sets: Vec<_> = self.old.iter().chain(&self.new).map(AsRef::as_ref).collect();
        let (status, again) = status::build(self.deployment, self.new.as_deref(), &sets, self.bounds(), Timestamp::now());
        write_status(self.context, DEPLOYMENTS, &self.deployment.metadata, &self.deployment.status, &status).await?;
        Ok(again)
    }

    /// Goes back where the Deployment asked for it and its rollout failed.
    pub async fn undo(&self) -> Result<(), Error> {
        rollback::act(self.context, self.deployment, self.new.as_ref(), &self.old, self.bounds()).await
    }

    /// Deletes the oldest ReplicaSets that nobody can want to go back to.
    pub async fn forget_old(&self) -> Result<(), Error> {
        let Some(limit) = self.deployment.spec.revision_history_limit else { return Ok(()) };
        let complete = self.new.as_ref().is_some_and(|new| member(new).available >= self.deployment.spec.replicas);
        if !complete && !self.deployment.spec.paused {
            return Ok(());
        }
        let empty = |set: &&Arc<Workload>| set.spec.replicas == 0 && set.count("replicas") == 0 && !set.metadata.is_deleted();
        let mut old: Vec<_> = self.old.iter().filter(empty).collect();
        old.sort_by_key(|set| revision(set));
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        for set in old.into_iter().take(surplus) {
            let meta = &set.metadata;
            let options = DeleteOptions::with_uid(&meta.uid);
            gone(self.context.client().delete(REPLICA_SETS, &meta.namespace, &meta.name, &options).await)?;
        }
        Ok(())
    }
}
