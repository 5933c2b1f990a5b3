//! Reads: from the cache once it has caught up, from the store's history for the past.

use std::{ops::Bound, sync::Arc, time::Duration};

use bytes::Bytes;
use kontiki_api::{
    registry::Resource,
    selector::{FieldSelector, LabelSelector},
    status::Status,
};
use kontiki_proto::etcdserverpb as pb;
use kontiki_store::error::Error as StoreError;

use super::{Storage, continue_token, keys, store_failure};
use crate::cache::{CachedObject, ReadError, ResourceCache, Snapshot, decode_object};

/// How long a read waits for this member to catch up.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(3);

/// How `resourceVersion` of a list is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VersionMatch {
    /// The newest state.
    #[default]
    Newest,
    /// Whatever the cache has, at least this.
    NotOlderThan(i64),
    /// Exactly this.
    Exact(i64),
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Namespace; empty for all.
    pub namespace: String,
    /// Labels.
    pub labels: LabelSelector,
    /// Fields.
    pub fields: FieldSelector,
    /// Most objects; 0 for all.
    pub limit: usize,
    /// Continues a list.
    pub continue_token: String,
    /// At which version.
    pub version: VersionMatch,
}

/// One page of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// Objects in the order of their keys.
    pub objects: Vec<Arc<CachedObject>>,
    /// Version at which the list is true.
    pub revision: i64,
    /// Token of the next page; empty on the last.
    pub continue_token: String,
    /// Number of objects after this page, where it is known.
    pub remaining: Option<usize>,
}

/// Message to one whose continue token is older than what history is left.
const INCONSISTENT_CONTINUE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
/// Objects that are read from history at a time while a selector looks for its own.
const HISTORY_CHUNK: usize = 500;

impl Storage {
    fn cache(&self, resource: &Resource) -> Result<Arc<ResourceCache>, Status> {
        let missing = || Status::internal_error(format!("resource {} is not stored", resource.key.plural));
        self.caches.of(resource).ok_or_else(missing)
    }

    /// Waits until the cache has everything that any member has acknowledged.
    pub async fn catch_up(&self) -> Result<i64, Status> {
        let unreachable = || Status::service_unavailable("the store has no leader or does not answer");
        let mut cut_off = self.cut_off.clone();
        let revision = tokio::select! {
            result = tokio::time::timeout(CATCH_UP_DEADLINE, self.kv.read_index()) => {
                result.map_err(|_| unreachable())?.map_err(|error| store_failure(&error))?
            }
            _ = cut_off.wait_for(|cut_off| *cut_off) => return Err(unreachable()),
        };
        self.wait_for(revision).await?;
        Ok(revision)
    }

    /// Waits until the cache has reached a revision.
    pub async fn wait_for(&self, revision: i64) -> Result<(), Status> {
        let mut seen = self.caches.revision();
        let wait = tokio::time::timeout(CATCH_UP_DEADLINE, seen.wait_for(|seen| *seen >= revision)).await;
        match wait {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Status::resource_version_too_large(revision, self.caches.current_revision())),
        }
    }

    /// One object in its newest state.
    pub async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Arc<CachedObject>, Status> {
        self.catch_up().await?;
        let object = self.get_cached(resource, namespace, name)?;
        self.serve_one(resource, object).await
    }

    /// One object as the cache has it now.
    pub fn get_cached(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Arc<CachedObject>, Status> {
        let key = keys::object(resource, namespace, name);
        let cache = self.cache(resource)?;
        cache.get(&key).ok_or_else(|| match cache.unreadable(&key) {
            Some(why) => Status::internal_error(why),
            None => Status::not_found(resource.key.group, resource.key.plural, name),
        })
    }

    /// Refuses what would have to show objects that this server cannot read.
    pub fn all_readable(&self, resource: &Resource, prefix: &str) -> Result<(), Status> {
        match self.cache(resource)?.first_unreadable(prefix) {
            Some((key, why)) => Err(unreadable(&key, &why)),
            None => Ok(()),
        }
    }

    /// One page of a list.
    pub async fn list(&self, resource: &'static Resource, options: &ListOptions) -> Result<Page, Status> {
        if resource.strategy.custom().is_some() && options.fields.looks_inside() {
            return self.list_converted(resource, options).await;
        }
        let mut page = self.list_stored(resource, options).await?;
        page.objects = self.serve_all(resource, page.objects).await?;
        Ok(page)
    }

    /// A list whose selector names fields of the served version, which the stored one may not have: all of it, as a
    /// page may take more objects than it shows.
    async fn list_converted(&self, resource: &'static Resource, options: &ListOptions) -> Result<Page, Status> {
        let wider = ListOptions { fields: FieldSelector::default(), limit: 0, ..options.clone() };
        let mut page = self.list_stored(resource, &wider).await?;
        page.objects = self.serve_all(resource, page.objects).await?;
        page.objects.retain(|object| object.selected(resource, &options.labels, &options.fields));
        Ok(page)
    }

    async fn list_stored(&self, resource: &'static Resource, options: &ListOptions) -> Result<Page, Status> {
        let prefix = keys::collection(resource, &options.namespace);
        let mut start = prefix.clone();
        let mut version = options.version;
        if !options.continue_token.is_empty() {
            let token = continue_token::decode(&options.continue_token, &prefix)?;
            start = token.start;
            version = token.revision.map_or(VersionMatch::Newest, VersionMatch::Exact);
        }
        match version {
            VersionMatch::Exact(revision) => {
                if revision > self.caches.current_revision() {
                    self.wait_for(revision).await?;
                }
                let cache = self.cache(resource)?;
                // A token expires as history does, also where nothing has changed since.
                let known = if options.continue_token.is_empty() {
                    cache.snapshot_at(revision, self.caches.current_revision())
                } else {
                    cache.kept(revision)
                };
                if let Some(snapshot) = known {
                    self.all_readable(resource, &prefix)?;
                    return Ok(self.page(resource, options, &prefix, &start, &snapshot, revision));
                }
                return self.list_history(resource, options, &prefix, &start, revision).await;
            }
            VersionMatch::NotOlderThan(revision) => self.wait_for(revision.max(1)).await?,
            VersionMatch::Newest => {
                self.catch_up().await?;
            }
        }
        self.all_readable(resource, &prefix)?;
        let revision = self.caches.current_revision();
        // The snapshot may hold changes after `revision`; the list must be true at what it says.
        let (snapshot, last) = self.cache(resource)?.snapshot_and_revision();
        Ok(self.page(resource, options, &prefix, &start, &snapshot, revision.max(last)))
    }

    /// A page of a snapshot; a snapshot that has further pages is kept for them.
    fn page(
        &self,
        resource: &'static Resource,
        options: &ListOptions,
        prefix: &str,
        start: &str,
        snapshot: &Snapshot,
        revision: i64,
    ) -> Page {
        let end = range_end_text(prefix);
        let mut page = Page { revision, ..Page::default() };
        let range = (Bound::Included(start), Bound::Excluded(end.as_str()));
        let unselected = options.labels.is_empty() && options.fields.terms.is_empty();
        let mut more = 0;
        for (_, object) in snapshot.range::<_, str>(range) {
            if !unselected && !object.selected(resource, &options.labels, &options.fields) {
                continue;
            }
            if options.limit > 0 && page.objects.len() == options.limit {
                more += 1;
                if !unselected {
                    break;
                }
            } else {
                page.objects.push(Arc::clone(object));
            }
        }
        if more > 0 {
            if let Some(cache) = self.caches.of(resource) {
                cache.keep(revision, snapshot);
            }
            page.finish(prefix, unselected.then_some(more));
        }
        page
    }

    /// A list at a revision of the past, from the store, which reads no more than the page needs.
    async fn list_history(
        &self,
        resource: &'static Resource,
        options: &ListOptions,
        prefix: &str,
        start: &str,
        revision: i64,
    ) -> Result<Page, Status> {
        let unselected = options.labels.is_empty() && options.fields.terms.is_empty();
        let mut page = Page { revision, ..Page::default() };
        let mut from = start.to_owned();
        loop {
            let wanted = if unselected { options.limit - page.objects.len().min(options.limit) } else { HISTORY_CHUNK };
            let request = pb::RangeRequest {
                key: Bytes::copy_from_slice(from.as_bytes()),
                range_end: keys::range_end(prefix),
                revision,
                limit: if options.limit == 0 { 0 } else { i64::try_from(wanted).unwrap_or(i64::MAX) },
                ..pb::RangeRequest::default()
            };
            let answer = match self.kv.range(request).await {
                Ok(answer) => answer,
                Err(error) => return Err(history_failure(&error, options, prefix, &from)),
            };
            let read = i64::try_from(answer.kvs.len()).unwrap_or(i64::MAX);
            for pair in &answer.kvs {
                let key = String::from_utf8_lossy(&pair.key);
                let decoded = decode_object(&self.encryption, resource.stored(), &key, &pair.value, pair.mod_revision);
                let object = match decoded {
                    Ok(object) => object,
                    Err(ReadError::Sealed(why)) => return Err(unreadable(&key, &why)),
                    Err(ReadError::Malformed(_)) => continue,
                };
                if !object.selected(resource, &options.labels, &options.fields) {
                    continue;
                }
                if options.limit > 0 && page.objects.len() == options.limit {
                    page.finish(prefix, None);
                    return Ok(page);
                }
                page.objects.push(Arc::new(object));
            }
            match answer.kvs.last() {
                Some(last) if answer.more => from = format!("{}\0", String::from_utf8_lossy(&last.key)),
                _ => return Ok(page),
            }
            if unselected {
                page.finish(prefix, usize::try_from(answer.count - read).ok());
                return Ok(page);
            }
        }
    }
}

/// What a list says of an object that this server cannot read.
fn unreadable(key: &str, why: &str) -> Status {
    Status::internal_error(format!("unable to transform key {key:?}: {why}"))
}

/// Why the past cannot be read: when it is compacted, the rest of a list can still be had as it is now.
fn history_failure(error: &StoreError, options: &ListOptions, prefix: &str, from: &str) -> Status {
    let status = store_failure(error);
    if status.code != 410 || options.continue_token.is_empty() {
        return status;
    }
    let mut status = Status::expired(INCONSISTENT_CONTINUE);
    status.metadata = serde_json::json!({ "continue": continue_token::encode(prefix, from, None) });
    status
}

impl Page {
    /// Says that there is more after the page's last object.
    fn finish(&mut self, prefix: &str, remaining: Option<usize>) {
        if let Some(last) = self.objects.last() {
            self.continue_token = continue_token::encode(prefix, &format!("{}\0", last.key), Some(self.revision));
            self.remaining = remaining;
        }
    }
}

fn range_end_text(prefix: &str) -> String {
    String::from_utf8_lossy(&keys::range_end(prefix)).into_owned()
}
