//! Keeps the index of roles and bindings up with the watch cache.

use std::sync::Arc;

use kontiki_api::{
    registry,
    resources::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, ResourceKey},
};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use super::Index;
use crate::cache::{CachedObject, Caches, Change, ResourceCache, Window};

/// Events that are taken at a time.
const BATCH: usize = 256;
const FOLLOWED: [ResourceKey; 4] = [ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS];

/// Begins to follow; the index is empty, and allows nothing, until the cache is filled.
pub fn start(caches: Arc<Caches>, cancel: CancellationToken) -> Arc<RwLock<Index>> {
    let index = Arc::new(RwLock::new(Index::default()));
    let kept = Arc::clone(&index);
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = follow(&caches, &kept) => {}
        }
    });
    index
}

async fn follow(caches: &Caches, index: &RwLock<Index>) {
    let mut revision = caches.revision();
    let followed: Vec<_> = FOLLOWED.iter().filter_map(|key| caches.of(registry::of(key)?)).collect();
    let mut windows: Option<Vec<Window>> = None;
    while revision.changed().await.is_ok() {
        if *revision.borrow_and_update() == 0 {
            continue;
        }
        windows = match windows.take() {
            Some(mut windows) => advance(&followed, &mut windows, index).then_some(windows),
            None => None,
        }
        .or_else(|| Some(rebuild(&followed, index)));
    }
}

/// Takes the events since last time; false if some have left the window.
fn advance(followed: &[&Arc<ResourceCache>], windows: &mut [Window], index: &RwLock<Index>) -> bool {
    for (cache, window) in followed.iter().zip(windows) {
        loop {
            let Ok(events) = cache.read(window, BATCH) else { return false };
            if events.is_empty() {
                break;
            }
            let mut index = index.write();
            for event in events {
                match &event.change {
                    Change::Put(object, _) => set(&mut index, cache, object, true),
                    Change::Delete(object) => set(&mut index, cache, object, false),
                }
            }
        }
    }
    true
}

fn rebuild(followed: &[&Arc<ResourceCache>], index: &RwLock<Index>) -> Vec<Window> {
    let mut fresh = Index::default();
    let mut windows = Vec::new();
    for cache in followed {
        let (objects, window) = cache.snapshot_and_window();
        objects.values().for_each(|object| set(&mut fresh, cache, object, true));
        windows.push(window);
    }
    *index.write() = fresh;
    windows
}

fn set(index: &mut Index, cache: &ResourceCache, object: &CachedObject, there: bool) {
    let bytes = there.then(|| object.encoded.bytes());
    let (namespace, name) = (&object.header.namespace, &object.header.name);
    if matches!(cache.resource.key, ROLES | CLUSTER_ROLES) {
        index.set_role(namespace, name, bytes.as_deref());
    } else {
        index.set_binding(namespace, name, bytes.as_deref());
    }
}
