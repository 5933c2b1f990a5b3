//! Garbage collection: dependents go with their owners.
//!
//! In: owner references and finalizers of every kind, by reflectors that keep nothing else. Out: deletions, and
//! finalizers removed once a foreground deletion or an orphaning is done.
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

use std::{sync::Arc, time::Duration};

use kontiki_api::{registry, resources::ResourceKey};
use kontiki_client::{
    DeleteOptions, Error, Patch, PropagationPolicy,
    queue::WorkQueue,
    reflector::{Change, ObjectKey, Reflector, ReflectorOptions},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    model::{Bare, Meta, OwnerReference},
    run::run as work_off,
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Without news everything is looked at again after this time.
const SWEEP: Duration = Duration::from_secs(30);

/// One kind and its objects.
struct Kind {
    key: ResourceKey,
    objects: Reflector<Bare>,
}

/// An object by its kind.
type Found = (ResourceKey, Arc<Bare>);

struct Collector {
    context: Arc<Context>,
    kinds: Vec<Kind>,
}

/// What to do about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may stay.
    Keep,
    /// All its owners are gone.
    Delete(PropagationPolicy),
    /// Its own deletion waits for nothing more: this finalizer goes.
    Release(&'static str),
}

/// Decides about one object. `owners` says of each reference whether its owner is there, and is being deleted in
/// the foreground; `blocked` whether a dependent still holds up its own deletion.
pub fn judge(meta: &Meta, owners: &[(bool, bool)], blocked: bool) -> Verdict {
    let has = |name: &str| meta.finalizers.iter().any(|finalizer| finalizer == name);
    if meta.deletion_timestamp.is_some() {
        return if has(FOREGROUND) && !blocked { Verdict::Release(FOREGROUND) } else { Verdict::Keep };
    }
    if owners.is_empty() || owners.iter().any(|(there, foreground)| *there && !*foreground) {
        return Verdict::Keep;
    }
    let foreground = owners.iter().any(|(there, foreground)| *there && *foreground);
    Verdict::Delete(if foreground { PropagationPolicy::Foreground } else { PropagationPolicy::Background })
}

/// Collects until `cancel`.
pub async fn run(context: Arc<Context>, cancel: CancellationToken) {
    // Names of different kinds may be equal; the queue's key carries the kind before the namespace.
    let queue = Arc::new(WorkQueue::<ObjectKey>::new("garbage_collector"));
    let mut kinds = Vec::new();
    for resource in registry::all()
        .iter()
        .filter(|resource| resource.verbs.contains(&"delete") && resource.conversion.is_none() && resource.key.plural != "events")
    {
        let (key, queue) = (resource.key, Arc::clone(&queue));
        let on_change = move |change: &Change<Bare>| {
            for object in change.old.iter().chain(&change.new) {
                queue.add(encode(key, &object.metadata));
                for owner in &object.metadata.owner_references {
                    // Its owner may wait for it.
                    queue.add(ObjectKey::new(format!("owner/{}", object.metadata.namespace), owner.uid.clone()));
                }
            }
            if change.new.is_none()
                && let Some(gone) = &change.old
            {
                queue.add(ObjectKey::new("gone", gone.metadata.uid.clone()));
            }
        };
        let objects = Reflector::start(context.client().clone(), key, ReflectorOptions::default(), on_change, cancel.clone());
        kinds.push(Kind { key, objects });
    }
    let synced = futures::future::join_all(kinds.iter().map(|kind| kind.objects.synced()));
    tokio::select! {
        _ = synced => {}
        () = cancel.cancelled() => return,
    }
    let collector = Arc::new(Collector { context, kinds });
    let sweeper = {
        let (collector, queue) = (Arc::clone(&collector), Arc::clone(&queue));
        async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                for (key, object) in collector.all() {
                    let interesting = !object.metadata.owner_references.is_empty() || !object.metadata.finalizers.is_empty();
                    if interesting {
                        queue.add(encode(key, &object.metadata));
                    }
                }
            }
        }
    };
    let reconcile = move |key| {
        let collector = Arc::clone(&collector);
        async move { collector.reconcile(key).await }
    };
    tokio::select! {
        () = work_off(queue, "garbage_collector", cancel.clone(), reconcile) => {}
        () = sweeper => {}
        () = cancel.cancelled() => {}
    }
}

fn encode(key: ResourceKey, meta: &Meta) -> ObjectKey {
    ObjectKey::new(format!("{}/{}/{}", key.group, key.plural, meta.namespace), meta.name.clone())
}

impl Collector {
    fn all(&self) -> Vec<Found> {
        self.kinds.iter().flat_map(|kind| kind.objects.list().into_iter().map(|object| (kind.key, object))).collect()
    }

    fn with_uid(&self, uid: &str) -> Option<Found> {
        self.all().into_iter().find(|(_, object)| object.metadata.uid == uid)
    }

    fn dependents(&self, uid: &str) -> Vec<Found> {
        let depends = |found: &Found| found.1.metadata.owner_references.iter().any(|owner| owner.uid == uid);
        self.all().into_iter().filter(depends).collect()
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Option<Duration>, Error> {
        if *key.namespace == *"gone" {
            for (kind, object) in self.dependents(&key.name) {
                self.consider(kind, &object).await?;
            }
            return Ok(None);
        }
        if key.namespace.starts_with("owner/") {
            return match self.with_uid(&key.name) {
                Some((kind, object)) => self.consider(kind, &object).await.map(|()| None),
                None => Ok(None),
            };
        }
        let mut parts = key.namespace.splitn(3, '/');
        let (group, plural, namespace) =
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let kind = self.kinds.iter().find(|kind| kind.key.group == group && kind.key.plural == plural);
        let Some(kind) = kind else { return Ok(None) };
        match kind.objects.get(namespace, &key.name) {
            Some(object) => self.consider(kind.key, &object).await.map(|()| None),
            None => Ok(None),
        }
    }

    async fn consider(&self, kind: ResourceKey, object: &Bare) -> Result<(), Error> {
        let meta = &object.metadata;
        if meta.deletion_timestamp.is_some() && meta.finalizers.iter().any(|finalizer| finalizer == ORPHAN) {
            return self.orphan_dependents(kind, meta).await;
        }
        let mut owners = Vec::new();
        for owner in &meta.owner_references {
            owners.push(self.state_of(owner, meta).await?);
        }
        let blocked = meta.deletion_timestamp.is_some() && {
            let blocks = |found: &Found| {
                let references = &found.1.metadata.owner_references;
                references.iter().any(|owner| owner.uid == meta.uid && owner.block_owner_deletion == Some(true))
            };
            let dependents = self.dependents(&meta.uid);
            for (kind, dependent) in dependents.iter().filter(|found| found.1.metadata.deletion_timestamp.is_none()) {
                if meta.finalizers.iter().any(|finalizer| finalizer == FOREGROUND) {
                    self.delete(*kind, &dependent.metadata, PropagationPolicy::Foreground).await?;
                }
            }
            dependents.iter().any(blocks)
        };
        match judge(meta, &owners, blocked) {
            Verdict::Keep => Ok(()),
            Verdict::Delete(how) => self.delete(kind, meta, how).await,
            Verdict::Release(finalizer) => self.release(kind, meta, finalizer).await,
        }
    }

    /// Whether an owner is there, and is being deleted in the foreground. What no reflector knows is asked for.
    async fn state_of(&self, owner: &OwnerReference, dependent: &Meta) -> Result<(bool, bool), Error> {
        if let Some((_, found)) = self.with_uid(&owner.uid) {
            let foreground = found.metadata.finalizers.iter().any(|finalizer| finalizer == FOREGROUND);
            return Ok((true, found.metadata.deletion_timestamp.is_some() && foreground));
        }
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = self.kinds.iter().find(|kind| kind.key.group == group && kind.key.kind == owner.kind);
        // A kind that is not served here may be somebody else's: its objects are left alone.
        let Some(kind) = kind else { return Ok((true, false)) };
        let namespace = if kind.key.namespaced { dependent.namespace.as_str() } else { "" };
        match self.context.client().get::<Bare>(kind.key, namespace, &owner.name).await {
            Ok(found) => Ok((found.metadata.uid == owner.uid, false)),
            Err(error) if error.is_not_found() => Ok((false, false)),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, kind: ResourceKey, meta: &Meta, how: PropagationPolicy) -> Result<(), Error> {
        let options = DeleteOptions { propagation_policy: Some(how), ..DeleteOptions::with_uid(&meta.uid) };
        gone(self.context.client().delete(kind, &meta.namespace, &meta.name, &options).await)
    }

    async fn release(&self, kind: ResourceKey, meta: &Meta, finalizer: &str) -> Result<(), Error> {
        let kept: Vec<_> = meta.finalizers.iter().filter(|name| *name != finalizer).collect();
        let patch = json!({ "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": kept } });
        gone(self.context.client().patch::<Value>(kind, &meta.namespace, &meta.name, None, Patch::Merge(patch)).await.map(drop))
    }

    async fn orphan_dependents(&self, kind: ResourceKey, meta: &Meta) -> Result<(), Error> {
        for (dependent_kind, dependent) in self.dependents(&meta.uid) {
            let own = &dependent.metadata;
            let kept: Vec<_> = own.owner_references.iter().filter(|owner| owner.uid != meta.uid).collect();
            let patch =
                json!({ "metadata": { "uid": own.uid, "resourceVersion": own.resource_version, "ownerReferences": kept } });
            let patch = Patch::Merge(patch);
            gone(self.context.client().patch::<Value>(dependent_kind, &own.namespace, &own.name, None, patch).await.map(drop))?;
        }
        self.release(kind, meta, ORPHAN).await
    }
}

fn gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn who_goes_and_who_stays() {
        let free = Meta::default();
        let deleted =
            Meta { deletion_timestamp: Some(Timestamp::UNIX_EPOCH), finalizers: vec![FOREGROUND.to_owned()], ..Meta::default() };
        let background = Verdict::Delete(PropagationPolicy::Background);
        let cases = [
            (&free, vec![], false, Verdict::Keep),
            (&free, vec![(true, false)], false, Verdict::Keep),
            (&free, vec![(false, false)], false, background),
            (&free, vec![(false, false), (true, false)], false, Verdict::Keep),
            (&free, vec![(true, true)], false, Verdict::Delete(PropagationPolicy::Foreground)),
            (&deleted, vec![], true, Verdict::Keep),
            (&deleted, vec![], false, Verdict::Release(FOREGROUND)),
        ];
        for (meta, owners, blocked, wanted) in cases {
            assert_eq!(judge(meta, &owners, blocked), wanted, "{owners:?} {blocked}");
        }
    }
}
