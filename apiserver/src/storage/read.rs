//! Reads: from the cache once it has caught up, from the store's history for the past.

use std::{ops::Bound, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use kontiki_api::{
    registry::Resource,
    selector::{FieldSelector, LabelSelector},
    status::Status,
};
use kontiki_proto::etcdserverpb as pb;
use serde::{Deserialize, Serialize};

use super::{Storage, keys, store_failure};
use crate::cache::{CachedObject, ResourceCache, decode_object};

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

#[derive(Serialize, Deserialize)]
struct Token {
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "rv")]
    revision: i64,
    start: String,
}

impl Storage {
    fn cache(&self, resource: &Resource) -> Result<&Arc<ResourceCache>, Status> {
        let missing = || Status::internal_error(format!("resource {} is not stored", resource.key.plural));
        self.caches.of(resource).ok_or_else(missing)
    }

    /// Waits until the cache has everything that any member has acknowledged.
    pub async fn catch_up(&self) -> Result<i64, Status> {
        let wait = tokio::time::timeout(CATCH_UP_DEADLINE, self.kv.read_index()).await;
        let revision = match wait {
            Ok(result) => result.map_err(|error| store_failure(&error))?,
            Err(_) => return Err(Status::service_unavailable("the store has no leader or does not answer")),
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
        self.get_cached(resource, namespace, name)
    }

    /// One object as the cache has it now.
    pub fn get_cached(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Arc<CachedObject>, Status> {
        let key = keys::object(resource, namespace, name);
        let missing = || Status::not_found(resource.key.group, resource.key.plural, name);
        self.cache(resource)?.get(&key).ok_or_else(missing)
    }

    /// One page of a list.
    pub async fn list(&self, resource: &'static Resource, options: &ListOptions) -> Result<Page, Status> {
        let prefix = keys::collection(resource, &options.namespace);
        if !options.continue_token.is_empty() {
            let token = decode_token(&options.continue_token)?;
            return self.list_history(resource, options, &prefix, &token.start, token.revision).await;
        }
        match options.version {
            VersionMatch::Exact(revision) => {
                if revision > self.caches.current_revision() {
                    self.wait_for(revision).await?;
                }
                return self.list_history(resource, options, &prefix, &prefix, revision).await;
            }
            VersionMatch::NotOlderThan(revision) => self.wait_for(revision.max(1)).await?,
            VersionMatch::Newest => {
                self.catch_up().await?;
            }
        }
        let revision = self.caches.current_revision();
        let snapshot = self.cache(resource)?.snapshot();
        // The snapshot may hold changes after `revision`; the list must be true at what it says.
        let newest = revision.max(snapshot.values().map(|object| object.revision).max().unwrap_or(0));
        let end = range_end_text(&prefix);
        let mut page = Page { revision: newest, ..Page::default() };
        let candidates =
            snapshot.range::<_, str>((Bound::Included(prefix.as_str()), Bound::Excluded(end.as_str()))).map(|(_, object)| object);
        for object in candidates.filter(|object| object.selected(resource, &options.labels, &options.fields)) {
            if options.limit > 0 && page.objects.len() == options.limit {
                page.remaining = Some(page.remaining.unwrap_or(0) + 1);
                continue;
            }
            page.objects.push(Arc::clone(object));
        }
        finish_page(&mut page);
        Ok(page)
    }

    /// A list at a revision of the past, from the store.
    async fn list_history(
        &self,
        resource: &'static Resource,
        options: &ListOptions,
        prefix: &str,
        start: &str,
        revision: i64,
    ) -> Result<Page, Status> {
        if !start.starts_with(prefix) {
            return Err(Status::bad_request("continue key is not valid: it belongs to another list"));
        }
        let request = pb::RangeRequest {
            key: Bytes::copy_from_slice(start.as_bytes()),
            range_end: keys::range_end(prefix),
            revision,
            ..pb::RangeRequest::default()
        };
        let answer = self.kv.range(request).await.map_err(|error| store_failure(&error))?;
        let mut page = Page { revision, ..Page::default() };
        for pair in answer.kvs {
            let key = String::from_utf8_lossy(&pair.key);
            let Ok(object) = decode_object(resource.stored(), &key, &pair.value, pair.mod_revision) else { continue };
            if !object.selected(resource, &options.labels, &options.fields) {
                continue;
            }
            if options.limit > 0 && page.objects.len() == options.limit {
                page.remaining = Some(page.remaining.unwrap_or(0) + 1);
            } else {
                page.objects.push(Arc::new(object));
            }
        }
        finish_page(&mut page);
        Ok(page)
    }
}

fn range_end_text(prefix: &str) -> String {
    String::from_utf8_lossy(&keys::range_end(prefix)).into_owned()
}

fn finish_page(page: &mut Page) {
    if page.remaining.is_some()
        && let Some(last) = page.objects.last()
    {
        let token = Token { version: "meta.k8s.io/v1".into(), revision: page.revision, start: format!("{}\0", last.key) };
        page.continue_token = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default());
    }
}

fn decode_token(text: &str) -> Result<Token, Status> {
    let wrong = |message: String| Status::bad_request(format!("continue key is not valid: {message}"));
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
}
