//! Keeps the authorizers up with the watch cache.

use std::sync::Arc;

use kontiki_api::registry::{self, Resource};
use tokio_util::sync::CancellationToken;

use super::{Authorizer, index::Index, node::Graph};
use crate::cache::{CachedObject, Caches, Change, ResourceCache, Window};

/// Events that are taken at a time.
const BATCH: usize = 256;
/// What decisions are made of: group and plural.
const FOLLOWED: [(&str, &str); 8] = [
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("", "pods"),
    ("", "persistentvolumes"),
    ("storage.k8s.io", "volumeattachments"),
    ("resource.k8s.io", "resourceslices"),
];

/// Begins to follow; nobody may do anything until the cache is filled.
pub fn start(caches: Arc<Caches>, cancel: CancellationToken) -> Arc<Authorizer> {
    let authorizer = Arc::new(Authorizer::default());
    let kept = Arc::clone(&authorizer);
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = follow(&caches, &kept) => {}
        }
    });
    authorizer
}

async fn follow(caches: &Caches, authorizer: &Authorizer) {
    let mut revision = caches.revision();
    let resource = |(group, plural): &(&str, &str)| -> Option<&'static Resource> { registry::find(group, "v1", plural) };
    let followed: Vec<_> = FOLLOWED.iter().filter_map(|path| caches.of(resource(path)?)).collect();
    let mut windows: Option<Vec<Window>> = None;
    while revision.changed().await.is_ok() {
        let reached = *revision.borrow_and_update();
        if reached == 0 {
            continue;
        }
        windows = match windows.take() {
            Some(mut windows) => advance(&followed, &mut windows, authorizer).then_some(windows),
            None => None,
        }
        .or_else(|| Some(rebuild(&followed, authorizer)));
        authorizer.revision.send_replace(reached);
    }
}

/// Takes the events since last time; false if some have left the window.
fn advance(followed: &[Arc<ResourceCache>], windows: &mut [Window], authorizer: &Authorizer) -> bool {
    for (cache, window) in followed.iter().zip(windows) {
        loop {
            let Ok(events) = cache.read(window, BATCH) else { return false };
            if events.is_empty() {
                break;
            }
            for event in events {
                match &event.change {
                    Change::Put(object, _) => set(Target::Shared(authorizer), cache, object, true),
                    Change::Delete(object) => set(Target::Shared(authorizer), cache, object, false),
                }
            }
        }
    }
    true
}

fn rebuild(followed: &[Arc<ResourceCache>], authorizer: &Authorizer) -> Vec<Window> {
    let (mut roles, mut graph) = (Index::default(), Graph::default());
    let mut windows = Vec::new();
    for cache in followed {
        let (objects, window) = cache.snapshot_and_window();
        objects.values().for_each(|object| set(Target::Own(&mut roles, &mut graph), cache, object, true));
        windows.push(window);
    }
    *authorizer.roles.write() = roles;
    *authorizer.graph.write() = graph;
    windows
}

/// Where a change goes: to what others decide from, or to what will replace it.
enum Target<'a> {
    Shared(&'a Authorizer),
    Own(&'a mut Index, &'a mut Graph),
}

fn set(target: Target<'_>, cache: &ResourceCache, object: &CachedObject, there: bool) {
    let key = &cache.resource.key;
    let (namespace, name) = (&object.header.namespace, &object.header.name);
    if key.group != "rbac.authorization.k8s.io" {
        let value = there.then(|| object.encoded.value());
        match target {
            Target::Shared(authorizer) => authorizer.graph.write().set(key.plural, namespace, name, value.as_ref()),
            Target::Own(_, graph) => graph.set(key.plural, namespace, name, value.as_ref()),
        }
        return;
    }
    let bytes = there.then(|| object.encoded.bytes());
    let apply = |roles: &mut Index| match key.plural {
        "roles" | "clusterroles" => roles.set_role(namespace, name, bytes.as_deref()),
        _ => roles.set_binding(namespace, name, bytes.as_deref()),
    };
    match target {
        Target::Shared(authorizer) => apply(&mut authorizer.roles.write()),
        Target::Own(roles, _) => apply(roles),
    }
}
