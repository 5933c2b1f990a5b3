//! What a definition goes through: its names are accepted, it is established, and when it goes its objects go first.
//!
//! Every server does this; a change that another has made already changes nothing. In: the definitions as the cache has
//! them, again whenever they or the objects of one that is going have changed. Out: conditions, deletions.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use jiff::Timestamp;
use kontiki_api::{
    custom::{
        definition::{CLEANUP_FINALIZER, Definition, Names},
        names::{Taken, reconcile},
    },
    object::{meta, set_condition},
    registry::{self, Resource},
    resources::CUSTOM_RESOURCE_DEFINITIONS,
    status::Status,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::UserInfo,
    service::Handle,
    storage::{Guard, Outcome},
};

/// Wait before what failed or waits for others is looked at again.
const RETRY: Duration = Duration::from_millis(500);
/// Objects that are deleted in one pass.
const DELETIONS_MAX: usize = 500;

/// Follows the definitions until `cancel`.
pub async fn run(handle: Handle, cancel: CancellationToken) {
    let Some(resource) = registry::of(&CUSTOM_RESOURCE_DEFINITIONS) else { return };
    let Some(cache) = handle.server().storage.caches.of(resource) else { return };
    let mut revision = handle.server().storage.caches.revision();
    let mut seen = None;
    let mut unfinished = false;
    loop {
        let changes = cache.version();
        if unfinished || seen != Some(changes) {
            seen = Some(changes);
            let definitions: Vec<Value> = cache.snapshot().values().map(|object| object.encoded.value()).collect();
            unfinished = !pass(&handle, resource, &definitions).await;
        }
        let retry = RETRY.mul_f64(rand::random_range(0.5..1.5));
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = revision.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(retry), if unfinished => {}
        }
        if unfinished {
            // Objects that go one by one make many revisions; one look at a time is enough.
            tokio::time::sleep(RETRY / 10).await;
        }
    }
}

/// One look at all definitions; whether nothing is left to do.
async fn pass(handle: &Handle, resource: &'static Resource, definitions: &[Value]) -> bool {
    let mut done = true;
    for definition in definitions {
        let worked = if meta::is_deleting(definition) {
            finish(handle, resource, definition).await
        } else {
            accept(handle, resource, definition, definitions).await.map(|()| true)
        };
        match worked {
            Ok(finished) => done &= finished,
            Err(status) if status.code == 404 => {}
            Err(status) => {
                tracing::debug!(definition = meta::name(definition), %status, "a definition waits");
                done = false;
            }
        }
    }
    done
}

/// Names that the other definitions of a group have.
fn taken(definition: &Value, all: &[Value]) -> Taken {
    let mut taken = Taken::default();
    for other in all {
        if other["spec"]["group"] == definition["spec"]["group"] && meta::uid(other) != meta::uid(definition) {
            taken.add(&Names::parse(&other["status"]["acceptedNames"]));
        }
    }
    taken
}

async fn accept(handle: &Handle, resource: &'static Resource, definition: &Value, all: &[Value]) -> Result<(), Status> {
    let (taken, now) = (taken(definition, all), Timestamp::now());
    if reconcile(definition, &taken, now) == *definition {
        return Ok(());
    }
    let storage = &handle.server().storage;
    let change = |current: Value| {
        let next = if meta::is_deleting(&current) { current } else { reconcile(&current, &taken, now) };
        Ok(Outcome::Store(next, Guard::default()))
    };
    storage.change(resource, "", meta::name(definition), change).await.map(|_| ())
}

/// Deletes the objects of a definition that is going, then lets it go; whether it is gone.
async fn finish(handle: &Handle, resource: &'static Resource, definition: &Value) -> Result<bool, Status> {
    if !meta::finalizers(definition).any(|name| name == CLEANUP_FINALIZER) {
        return Ok(true);
    }
    let storage = &handle.server().storage;
    let table = storage.caches.custom.table();
    let prefix = prefix_of(definition);
    if let Some(custom) = table.resources.iter().find(|resource| resource.prefix == prefix) {
        let objects = storage.caches.of(custom).map(|cache| cache.snapshot()).unwrap_or_default();
        for object in objects.values().filter(|object| object.header.deletion_timestamp.is_none()).take(DELETIONS_MAX) {
            let path = custom.key.path(&object.header.namespace, &object.header.name);
            let request = Request::builder().method(Method::DELETE).uri(path).body(Bytes::new());
            let request = request.map_err(|error| Status::internal_error(error.to_string()))?;
            handle.call(UserInfo::apiserver(), request).await;
        }
        storage.catch_up().await?;
        if storage.caches.of(custom).is_some_and(|cache| !cache.snapshot().is_empty()) {
            return Ok(false);
        }
    }
    let now = Timestamp::now();
    let change = |mut current: Value| {
        if !meta::is_deleting(&current) {
            return Ok(Outcome::Store(current, Guard::default()));
        }
        let kept: Vec<Value> = meta::finalizers(&current).filter(|name| *name != CLEANUP_FINALIZER).map(Value::from).collect();
        if kept.is_empty() {
            return Ok(Outcome::Remove(Guard::default()));
        }
        meta::set(&mut current, "finalizers", kept);
        let message = "removed all instances";
        set_condition(&mut current, "Terminating", "False", "InstanceDeletionCompleted", message, now);
        Ok(Outcome::Store(current, Guard::default()))
    };
    storage.change(resource, "", meta::name(definition), change).await.map(|_| true)
}

fn prefix_of(definition: &Value) -> String {
    let definition = Definition::parse(definition);
    format!("/registry/{}/{}/", definition.group, definition.names.plural)
}
