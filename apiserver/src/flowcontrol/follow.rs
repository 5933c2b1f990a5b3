//! Keeps the gate up with the stored objects.

use std::sync::Arc;

use kontiki_api::{
    registry,
    resources::{FLOW_SCHEMAS, PRIORITY_LEVEL_CONFIGURATIONS},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Configuration, Gate};
use crate::cache::{Caches, ResourceCache};

/// Follows the watch cache until `cancel`. Until it is filled, and while it holds nothing, the defaults are in force.
pub fn start(caches: Arc<Caches>, gate: Arc<Gate>, cancel: CancellationToken) {
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = follow(&caches, &gate) => {}
        }
    });
}

async fn follow(caches: &Caches, gate: &Gate) {
    let keys = [PRIORITY_LEVEL_CONFIGURATIONS, FLOW_SCHEMAS];
    let followed: Vec<Arc<ResourceCache>> = keys.iter().filter_map(|key| caches.of(registry::of(key)?)).collect();
    let mut revision = caches.revision();
    let mut seen = Vec::new();
    while revision.changed().await.is_ok() {
        revision.borrow_and_update();
        let versions: Vec<_> = followed.iter().map(|cache| cache.version()).collect();
        if versions == seen {
            continue;
        }
        seen = versions;
        let objects: Vec<Value> = followed
            .iter()
            .flat_map(|cache| cache.snapshot().values().map(|object| object.encoded.value()).collect::<Vec<_>>())
            .collect();
        gate.configure(if objects.is_empty() { Configuration::default() } else { Configuration::of(&objects) });
    }
}
