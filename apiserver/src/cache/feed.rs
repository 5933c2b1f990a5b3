//! The one watch that feeds every cache.

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

use kontiki_api::{
    registry::{self, Resource},
    resources::CUSTOM_RESOURCE_DEFINITIONS,
};
use kontiki_proto::{etcdserverpb as pb, mvccpb};
use kontiki_store::{error::Error, kv::Kv};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    object::{ReadError, decode_object},
    resource::ResourceCache,
};
use crate::{custom::CustomResources, encryption::Encryption, storage::keys};

/// Wait before the feed begins anew after a failure.
const RETRY: Duration = Duration::from_millis(100);

/// The caches of all stored resources.
pub struct Caches {
    by_prefix: RwLock<BTreeMap<String, Arc<ResourceCache>>>,
    definitions: Option<Arc<ResourceCache>>,
    revision: watch::Sender<i64>,
    encryption: Encryption,
    /// The custom resources; each has a cache too.
    pub custom: CustomResources,
}

impl Caches {
    /// Cache of a resource.
    #[must_use]
    pub fn of(&self, resource: &Resource) -> Option<Arc<ResourceCache>> {
        self.by_prefix.read().get(&resource.prefix).cloned()
    }

    /// All caches.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<ResourceCache>> {
        self.by_prefix.read().values().cloned().collect()
    }

    /// The revision up to which every cache is complete; 0 before the first list. Changes wake.
    #[must_use]
    pub fn revision(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    /// The revision now.
    #[must_use]
    pub fn current_revision(&self) -> i64 {
        *self.revision.borrow()
    }

    fn cache_of_key(&self, key: &str) -> Option<Arc<ResourceCache>> {
        let by_prefix = self.by_prefix.read();
        let (prefix, cache) = by_prefix.range::<str, _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        key.starts_with(prefix.as_str()).then(|| Arc::clone(cache))
    }

    /// The resource whose objects have keys like this one.
    #[must_use]
    pub fn resource_of(&self, key: &str) -> Option<&'static Resource> {
        self.cache_of_key(key).map(|cache| cache.resource)
    }

    /// Makes caches for the resources that definitions have brought, as the store was at `revision`, and gives up those
    /// of resources that are gone.
    async fn follow_definitions(&self, kv: &dyn Kv, revision: i64) -> Result<(), Error> {
        let Some(definitions) = self.definitions.as_ref().filter(|definitions| !self.custom.is_current(definitions)) else {
            return Ok(());
        };
        let table = self.custom.rebuild(definitions);
        let wanted = table.by_prefix();
        self.by_prefix.write().retain(|prefix, cache| {
            let kept = cache.resource.strategy.custom().is_none() || wanted.contains_key(prefix.as_str());
            if !kept {
                cache.closed.cancel();
            }
            kept
        });
        for (prefix, resource) in wanted {
            if self.by_prefix.read().contains_key(prefix) {
                continue;
            }
            let cache = Arc::new(ResourceCache::new(resource, prefix.to_owned()));
            self.fill(kv, &cache, revision).await?;
            self.by_prefix.write().insert(prefix.to_owned(), cache);
        }
        Ok(())
    }

    fn put(&self, pair: &mvccpb::KeyValue) {
        let Ok(key) = std::str::from_utf8(&pair.key) else { return };
        let Some(cache) = self.cache_of_key(key) else { return };
        match decode_object(&self.encryption, cache.resource, key, &pair.value, pair.mod_revision) {
            Ok(object) => cache.put(object),
            Err(ReadError::Sealed(why)) => {
                tracing::error!(key, why, "a stored object cannot be decrypted");
                cache.put_unreadable(key, why, pair.mod_revision);
            }
            Err(ReadError::Malformed(error)) => tracing::error!(key, %error, "a stored object cannot be read; it is left out"),
        }
    }

    /// Another configuration may decrypt what could not be: reads again, as of the revision up to which all is known.
    async fn look_again(&self, kv: &dyn Kv) -> Result<(), Error> {
        for cache in self.all().into_iter().filter(|cache| cache.first_unreadable("").is_some()) {
            if let Err(error) = self.fill(kv, &cache, self.current_revision()).await {
                // That revision may be compacted: only a list brings the caches to one state again.
                self.revision.send_replace(0);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Reads one resource at a revision, 0 for the newest; returns which that was.
    async fn fill(&self, kv: &dyn Kv, cache: &ResourceCache, revision: i64) -> Result<i64, Error> {
        let request = pb::RangeRequest {
            key: bytes::Bytes::copy_from_slice(cache.prefix.as_bytes()),
            range_end: keys::range_end(&cache.prefix),
            revision,
            // This member has applied the revision that the first answer named.
            serializable: revision != 0,
            ..pb::RangeRequest::default()
        };
        let answer = kv.range(request).await?;
        let revision = if revision == 0 { answer.header.map_or(0, |header| header.revision) } else { revision };
        let (mut objects, mut unreadable) = (Vec::with_capacity(answer.kvs.len()), BTreeMap::new());
        for pair in answer.kvs {
            let Ok(key) = std::str::from_utf8(&pair.key) else { continue };
            match decode_object(&self.encryption, cache.resource, key, &pair.value, pair.mod_revision) {
                Ok(object) => objects.push(object),
                Err(ReadError::Sealed(why)) => {
                    tracing::error!(key, why, "a stored object cannot be decrypted");
                    unreadable.insert(key.into(), why);
                }
                Err(ReadError::Malformed(error)) => {
                    tracing::error!(key, %error, "a stored object cannot be read; it is left out");
                }
            }
        }
        cache.reset(objects, unreadable, revision);
        Ok(revision)
    }

    fn apply(&self, event: &mvccpb::Event) {
        let Some(pair) = &event.kv else { return };
        if event.r#type == mvccpb::event::EventType::Put as i32 {
            self.put(pair);
        } else if let Ok(key) = std::str::from_utf8(&pair.key)
            && let Some(cache) = self.cache_of_key(key)
        {
            cache.delete(key, pair.mod_revision);
        }
    }
}

/// Makes the caches and begins to feed them from the store.
pub fn start(kv: Arc<dyn Kv>, encryption: Encryption, cancel: CancellationToken) -> Arc<Caches> {
    let stored = registry::all().iter().filter(|resource| resource.is_stored() && resource.conversion.is_none());
    let cache =
        |resource: &'static Resource| (resource.prefix.clone(), Arc::new(ResourceCache::new(resource, resource.prefix.clone())));
    let by_prefix: BTreeMap<String, Arc<ResourceCache>> = stored.map(cache).collect();
    let definitions = registry::of(&CUSTOM_RESOURCE_DEFINITIONS).and_then(|key| by_prefix.get(&key.prefix)).cloned();
    let (by_prefix, custom) = (RwLock::new(by_prefix), CustomResources::default());
    let caches = Arc::new(Caches { by_prefix, definitions, revision: watch::channel(0).0, encryption, custom });
    let feed = Arc::clone(&caches);
    tokio::spawn(async move {
        loop {
            let result = tokio::select! {
                () = cancel.cancelled() => return,
                result = follow(&*kv, &feed) => result,
            };
            if let Err(error) = result {
                tracing::debug!(%error, "the watch cache begins anew");
            }
            tokio::time::sleep(RETRY).await;
        }
    });
    caches
}

async fn follow(kv: &dyn Kv, caches: &Caches) -> Result<(), Error> {
    let mut resume = caches.current_revision();
    if resume == 0 {
        resume = load(kv, caches).await?;
        caches.revision.send_replace(resume);
    }
    // All keys, not only objects: a read index counts every revision.
    let everything = pb::WatchCreateRequest {
        key: bytes::Bytes::from_static(b"\0"),
        range_end: bytes::Bytes::from_static(b"\0"),
        start_revision: resume + 1,
        progress_notify: true,
        ..pb::WatchCreateRequest::default()
    };
    let mut watch = kv.watch(everything).await?;
    let mut encryption = caches.encryption.changes();
    // What the configuration was when the caches were filled is not known; it costs nothing where all could be read.
    caches.look_again(kv).await?;
    loop {
        let response = tokio::select! {
            response = watch.recv() => response,
            () = encryption.next() => {
                caches.look_again(kv).await?;
                continue;
            }
        };
        let Some(response) = response else { return Ok(()) };
        if response.canceled {
            // History before the resume point is gone: begin with a list.
            caches.revision.send_replace(0);
            return Ok(());
        }
        for event in &response.events {
            caches.apply(event);
        }
        let reached = response.events.iter().filter_map(|event| event.kv.as_ref()).map(|pair| pair.mod_revision).max();
        // An answer without events is progress: everything up to its revision was sent.
        let reached = match (reached, response.header) {
            (Some(revision), _) => revision,
            (None, Some(header)) if !response.created => header.revision,
            _ => continue,
        };
        if let Err(error) = caches.follow_definitions(kv, reached).await {
            // The events up to here are taken in; only a list brings the caches to one state again.
            caches.revision.send_replace(0);
            return Err(error);
        }
        caches.revision.send_if_modified(|revision| {
            let forward = reached > *revision;
            *revision = reached.max(*revision);
            forward
        });
    }
}

/// Reads everything at one revision.
async fn load(kv: &dyn Kv, caches: &Caches) -> Result<i64, Error> {
    let mut revision = 0;
    for cache in caches.all() {
        revision = caches.fill(kv, &cache, revision).await?;
    }
    caches.follow_definitions(kv, revision).await?;
    Ok(revision)
}
