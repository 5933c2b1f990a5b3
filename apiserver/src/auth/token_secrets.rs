//! Keeps Secrets of tokens filled. Every server does, by optimistic changes: the first one wins.

use std::sync::Arc;

use kontiki_api::{
    object::meta,
    registry::{self, Resource},
    resources::{CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    keys::Keys,
    legacy::{self, Filling},
};
use crate::{
    cache::{CachedObject, Change},
    storage::{Guard, Outcome, Storage},
};

/// Events that are taken at a time.
const BATCH: usize = 256;
/// Where every namespace has the certificate of the API's authority.
const ROOT_CA: &str = "kube-root-ca.crt";

/// Fills until `cancel`.
pub fn start(storage: Storage, keys: Arc<Keys>, cancel: CancellationToken) {
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = follow(&storage, &keys) => {}
        }
    });
}

async fn follow(storage: &Storage, keys: &Keys) {
    let Some(resource) = registry::of(&SECRETS) else { return };
    let Some(cache) = storage.caches.of(resource) else { return };
    let mut revision = storage.caches.revision();
    let mut window = None;
    while revision.changed().await.is_ok() {
        if *revision.borrow_and_update() == 0 {
            continue;
        }
        let events = match &mut window {
            Some(window) => cache.read(window, BATCH).ok(),
            None => None,
        };
        let changed: Vec<Arc<CachedObject>> = match events {
            Some(events) => {
                let put = |change: &Change| match change {
                    Change::Put(object, _) => Some(Arc::clone(object)),
                    Change::Delete(_) => None,
                };
                events.iter().filter_map(|event| put(&event.change)).collect()
            }
            None => {
                let (objects, position) = cache.snapshot_and_window();
                window = Some(position);
                objects.values().cloned().collect()
            }
        };
        for object in changed.iter().filter(|object| object.fields.iter().any(|field| field == legacy::SECRET_TYPE)) {
            fill(storage, keys, resource, &object.encoded.value()).await;
        }
    }
}

async fn fill(storage: &Storage, keys: &Keys, resource: &'static Resource, secret: &Value) {
    let (namespace, name) = (meta::namespace(secret), meta::name(secret));
    let find = async |key, name: &str| -> Option<Value> {
        let resource = registry::of(key)?;
        storage.get(resource, namespace, name).await.ok().map(|found| found.encoded.value())
    };
    let account = find(&SERVICE_ACCOUNTS, legacy::account_of(secret)).await;
    let authority = find(&CONFIG_MAPS, ROOT_CA).await;
    let authority = authority.as_ref().map_or("", |map| map["data"]["ca.crt"].as_str().unwrap_or_default());
    let change = |secret: Value| {
        let sign = |claims: &legacy::LegacyClaims| keys.sign_legacy(claims).ok();
        Ok(match legacy::fill(&secret, account.as_ref(), authority, sign) {
            Filling::Nothing => Outcome::Store(secret, Guard::default()),
            Filling::Remove => Outcome::Remove(Guard::default()),
            Filling::Store(filled) => Outcome::Store(filled, Guard::default()),
        })
    };
    let missing = legacy::fill(secret, account.as_ref(), authority, |_| Some(String::new())) != Filling::Nothing;
    if missing && let Err(status) = storage.change(resource, namespace, name, change).await {
        tracing::debug!(namespace, name, %status, "a Secret has no token yet");
    }
}
