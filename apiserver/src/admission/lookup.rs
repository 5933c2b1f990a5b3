//! What plugins look up.

use std::ops::Bound;

use kontiki_api::{registry, resources::ResourceKey, status::Status};
use serde_json::Value;

use crate::{service::ApiServer, storage::keys};

/// An object: from the cache, and from the store where the cache has none.
pub async fn find(server: &ApiServer, key: &ResourceKey, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
    let resource = registry::of(key).ok_or_else(Status::no_such_path)?;
    if let Ok(cached) = server.storage.get_cached(resource, namespace, name) {
        return Ok(Some(cached.encoded.value()));
    }
    match server.storage.get(resource, namespace, name).await {
        Ok(found) => Ok(Some(found.encoded.value())),
        Err(status) if status.code == 404 => Ok(None),
        Err(status) => Err(status),
    }
}

/// The objects of a namespace, or of the cluster, as the cache has them.
pub fn list(server: &ApiServer, key: &ResourceKey, namespace: &str) -> Vec<Value> {
    let Some(resource) = registry::of(key) else { return Vec::new() };
    let Some(cache) = server.storage.caches.of(resource) else { return Vec::new() };
    let prefix = keys::collection(resource, namespace);
    let snapshot = cache.snapshot();
    let objects = snapshot
        .range::<_, str>((Bound::Included(prefix.as_str()), Bound::Unbounded))
        .take_while(|(own, _)| own.starts_with(&prefix));
    objects.map(|(_, object)| object.encoded.value()).collect()
}
