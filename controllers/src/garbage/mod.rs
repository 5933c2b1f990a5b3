//! Garbage collection: dependents go with their owners.
//!
//! In: owner references and finalizers of every kind that is served, custom ones included. Out: deletions, references
//! removed, and finalizers taken off once a foreground deletion or an orphaning is done. Decisions are in [`graph`].
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

pub mod graph;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use kontiki_api::resources::{API_SERVICES, CUSTOM_RESOURCE_DEFINITIONS, ResourceKey};
use kontiki_client::{DeleteOptions, Error, Patch, PropagationPolicy, events::EventType, reflector::ObjectKey};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::graph::{FOREGROUND, Graph, Node, ORPHAN, Owner, Verdict};
use crate::{
    context::Context,
    discovery::{self, Served},
    model::{Bare, Meta, Object, OwnerReference},
    pod_control::reference,
    run::{self, Queue, Reconciled, gone},
    shared::{Followed, Shared},
};

/// How often the kinds that others add are looked for.
const DISCOVERY: Duration = Duration::from_secs(30);
/// How long definitions are let settle before they are looked at.
const SETTLE: Duration = Duration::from_millis(500);
/// Without news everything is looked at again after this time.
const SWEEP: Duration = Duration::from_secs(60);

/// What is kept of an object that no controller follows: names, owners, finalizers.
#[derive(Clone, Debug, Default, Deserialize)]
struct Slim {
    #[serde(deserialize_with = "slim")]
    metadata: Meta,
}

fn slim<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Meta, D::Error> {
    let mut meta = Meta::deserialize(deserializer)?;
    (meta.labels, meta.annotations) = Default::default();
    Ok(meta)
}

impl Object for Slim {
    fn metadata(&self) -> &Meta {
        &self.metadata
    }
}

/// What follows a kind, until it is not served any more.
struct Follower {
    shared: Arc<Shared<Slim>>,
    token: CancellationToken,
}

struct Collector {
    context: Arc<Context>,
    graph: Mutex<Graph>,
    /// Kinds that are served, by group and kind.
    kinds: Mutex<HashMap<(String, String), ResourceKey>>,
    /// What follows kinds that no controller follows.
    followers: Mutex<HashMap<ResourceKey, Follower>>,
    queue: Queue,
    /// Definitions or API services have changed.
    news: Notify,
}

fn is_collected(served: &Served) -> bool {
    let key = served.key;
    // Events own nothing and nobody owns them; reviews are not kept at all.
    served.can("delete") && served.can("list") && served.can("watch") && key.kind != "Event"
}

/// Begins to collect.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let collector = Arc::new(Collector {
        context: Arc::clone(context),
        graph: Mutex::default(),
        kinds: Mutex::default(),
        followers: Mutex::default(),
        queue: run::queue("garbage_collector"),
        news: Notify::new(),
    });
    let own: Vec<_> = context.followed().into_iter().filter(|kind| kind.key().plural != "leases").collect();
    let known: Vec<_> = own.iter().map(|kind| kind.key()).collect();
    own.into_iter().for_each(|kind| collector.listen(kind));
    Box::pin(async move {
        let built_in: Vec<_> = discovery::built_in().into_iter().filter(is_collected).collect();
        collector.follow(&built_in, &known, &cancel);
        collector.synced().await;
        let reconcile = {
            let collector = Arc::clone(&collector);
            move |key: ObjectKey| {
                let collector = Arc::clone(&collector);
                async move { collector.reconcile(&key.name).await }
            }
        };
        tokio::select! {
            () = run::run(Arc::clone(&collector.queue), "garbage_collector", cancel.clone(), reconcile) => {}
            () = collector.discover(&cancel) => {}
            () = collector.sweep() => {}
            () = cancel.cancelled() => {}
        }
    })
}

impl Collector {
    fn listen(self: &Arc<Self>, kind: &dyn Followed) {
        let (collector, key) = (Arc::downgrade(self), kind.key());
        kind.on_meta(Box::new(move |old, new| {
            let Some(collector) = collector.upgrade() else { return };
            let mut touched = Vec::new();
            {
                let mut graph = collector.graph.lock();
                // The same name may come back as another object.
                if let Some(old) = old.filter(|old| new.is_none_or(|new| new.uid != old.uid)) {
                    touched.extend(graph.remove(&old.uid));
                }
                if let Some(new) = new {
                    touched.extend(graph.put(key, new));
                }
            }
            touched.into_iter().for_each(|uid| collector.queue.add(ObjectKey::new("", uid)));
            if [CUSTOM_RESOURCE_DEFINITIONS, API_SERVICES].contains(&key) {
                collector.news.notify_one();
            }
        }));
        self.kinds.lock().insert((key.group.to_owned(), key.kind.to_owned()), key);
    }

    /// Follows kinds that are not known yet; tells whether there were any.
    fn follow(self: &Arc<Self>, served: &[Served], known: &[ResourceKey], cancel: &CancellationToken) -> bool {
        let mut any = false;
        for kind in served.iter().map(|served| served.key).filter(|key| !known.contains(key)) {
            // A kind that is served in two versions is one kind.
            if self.kinds.lock().contains_key(&(kind.group.to_owned(), kind.kind.to_owned())) {
                continue;
            }
            let (shared, token) = (Arc::new(Shared::<Slim>::new(self.context.client(), kind)), cancel.child_token());
            self.listen(shared.as_ref());
            shared.start(token.clone());
            self.followers.lock().insert(kind, Follower { shared, token });
            any = true;
        }
        any
    }

    async fn synced(&self) {
        let followers: Vec<_> = self.followers.lock().values().map(|follower| Arc::clone(&follower.shared)).collect();
        futures::future::join_all(followers.iter().map(|shared| shared.synced())).await;
    }

    /// Looks for kinds that come and go.
    async fn discover(self: &Arc<Self>, cancel: &CancellationToken) {
        let mut before: Vec<ResourceKey> = Vec::new();
        loop {
            match discovery::added(self.context.client()).await {
                Ok(added) => {
                    let found: Vec<_> = added.served.iter().filter(|served| is_collected(served)).cloned().collect();
                    if self.follow(&found, &[], cancel) {
                        // Whose owner is of such a kind was left alone as long as nobody could say where it is.
                        self.look_again();
                    }
                    let mut now: Vec<_> = found.iter().map(|served| served.key).collect();
                    for key in before.into_iter().filter(|key| !now.contains(key)).collect::<Vec<_>>() {
                        // A server that is silent has not lost its objects.
                        if added.may_have(&key) { now.push(key) } else { self.forget(key) }
                    }
                    before = now;
                }
                Err(error) => tracing::debug!(%error, "kinds cannot be found out"),
            }
            let _ = tokio::time::timeout(DISCOVERY, self.news.notified()).await;
            // A definition changes several times before it is served.
            tokio::time::sleep(SETTLE).await;
        }
    }

    fn forget(&self, key: ResourceKey) {
        if let Some(follower) = self.followers.lock().remove(&key) {
            follower.token.cancel();
        }
        self.kinds.lock().remove(&(key.group.to_owned(), key.kind.to_owned()));
        self.graph.lock().remove_kind(key);
    }

    async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.look_again();
        }
    }

    fn look_again(&self) {
        let concerned = self.graph.lock().concerned();
        concerned.into_iter().for_each(|uid| self.queue.add(ObjectKey::new("", uid)));
    }

    fn node(&self, uid: &str) -> Option<Node> {
        self.graph.lock().get(uid).cloned()
    }

    async fn reconcile(&self, uid: &str) -> Reconciled {
        let Some(node) = self.node(uid) else { return Ok(None) };
        let mut owners = Vec::new();
        if !node.meta.is_deleted() {
            for owner in &node.meta.owner_references {
                owners.push(self.state_of(owner, &node).await?);
            }
        }
        let verdict = self.graph.lock().judge(uid, &owners);
        match verdict {
            Verdict::Keep => Ok(()),
            Verdict::Press(uids) => {
                uids.into_iter().for_each(|uid| self.queue.add(ObjectKey::new("", uid)));
                Ok(())
            }
            Verdict::Finish => self.release(&node, FOREGROUND).await,
            Verdict::Forget(uids) => self.forget_owners(&node, &uids).await,
            Verdict::Delete { foreground, unblock } => {
                if unblock {
                    return self.unblock(&node).await.map(|()| None);
                }
                self.delete(&node, foreground).await
            }
            Verdict::Orphan(uids) => {
                let dependents = uids.iter().filter_map(|uid| self.node(uid));
                let works: Vec<_> =
                    dependents.map(async |dependent| self.forget_owners(&dependent, &[uid.to_owned()]).await).collect();
                futures::future::join_all(works).await.into_iter().collect::<Result<(), Error>>()?;
                self.release(&node, ORPHAN).await
            }
        }?;
        Ok(None)
    }

    /// What is known of an owner; what the graph does not know, the API says.
    async fn state_of(&self, owner: &OwnerReference, dependent: &Node) -> Result<Owner, Error> {
        let known = self.graph.lock().owner(owner, &dependent.meta);
        if known != Owner::Unknown {
            return Ok(known);
        }
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = self.kinds.lock().get(&(group.to_owned(), owner.kind.clone())).copied();
        // A kind that is not served here may come back: its dependents are left alone.
        let Some(kind) = kind else { return Ok(Owner::Unknown) };
        if kind.namespaced && dependent.meta.namespace.is_empty() {
            let words = format!(
                "ownerRef [{}/{}, namespace: , name: {}, uid: {}] does not exist in namespace \"\"",
                owner.api_version, owner.kind, owner.name, owner.uid
            );
            let object = reference(&dependent.meta, dependent.key);
            self.context.recorder.event(&object, EventType::Warning, "OwnerRefInvalidNamespace", words);
            return Ok(Owner::Unknown);
        }
        let namespace = if kind.namespaced { dependent.meta.namespace.as_str() } else { "" };
        match self.context.client().get::<Bare>(kind, namespace, &owner.name).await {
            Ok(found) if found.metadata.uid == owner.uid => Ok(Owner::Solid),
            Ok(_) => Ok(Owner::Gone),
            Err(error) if error.is_not_found() => Ok(Owner::Gone),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, node: &Node, foreground: bool) -> Result<(), Error> {
        let how = match node {
            _ if foreground || node.meta.has_finalizer(FOREGROUND) => PropagationPolicy::Foreground,
            _ if node.meta.has_finalizer(ORPHAN) => PropagationPolicy::Orphan,
            _ => PropagationPolicy::Background,
        };
        let mut options = DeleteOptions { propagation_policy: Some(how), ..DeleteOptions::with_uid(&node.meta.uid) };
        // Its owners may have changed since.
        if let Some(conditions) = &mut options.preconditions {
            conditions.resource_version = Some(node.meta.resource_version.clone());
        }
        gone(self.context.client().delete(node.key, &node.meta.namespace, &node.meta.name, &options).await)
    }

    async fn patch(&self, node: &Node, mut metadata: Value) -> Result<(), Error> {
        let meta = &node.meta;
        metadata["uid"] = json!(meta.uid);
        metadata["resourceVersion"] = json!(meta.resource_version);
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        gone(self.context.client().patch::<Value>(node.key, &meta.namespace, &meta.name, None, patch).await.map(drop))
    }

    async fn release(&self, node: &Node, finalizer: &str) -> Result<(), Error> {
        let kept: Vec<_> = node.meta.finalizers.iter().filter(|name| *name != finalizer).collect();
        self.patch(node, json!({ "finalizers": kept })).await
    }

    async fn forget_owners(&self, node: &Node, uids: &[String]) -> Result<(), Error> {
        let kept: Vec<_> = node.meta.owner_references.iter().filter(|owner| !uids.contains(&owner.uid)).collect();
        self.patch(node, json!({ "ownerReferences": kept })).await
    }

    /// Breaks a circle: then its owners need not wait for it, and it is looked at again.
    async fn unblock(&self, node: &Node) -> Result<(), Error> {
        let mut owners = node.meta.owner_references.clone();
        owners.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false));
        if owners == node.meta.owner_references {
            return self.delete(node, true).await;
        }
        self.patch(node, json!({ "ownerReferences": owners })).await
    }
}
