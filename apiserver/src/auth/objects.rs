//! Read access to objects, as authentication and admission need it.

use async_trait::async_trait;
use kontiki_api::{object::meta, registry, resources::ResourceKey, status::Status};
use serde_json::Value;

use crate::storage::{Guard, Outcome, Storage, keys};

/// Where objects are looked up: the watch cache, with the store behind it.
#[async_trait]
pub trait Objects: Send + Sync {
    /// The object as this server's cache has it, which may be a little old.
    fn cached(&self, key: &ResourceKey, namespace: &str, name: &str) -> Option<Value>;

    /// The object as the store has it now.
    async fn fresh(&self, key: &ResourceKey, namespace: &str, name: &str) -> Result<Option<Value>, Status>;

    /// Labels an object; one that is another by now is left alone.
    async fn label(&self, key: &ResourceKey, object: &Value, label: (&str, &str)) -> Result<(), Status>;
}

/// Objects for authentication: the cache, with the store behind it.
pub struct StoredObjects {
    /// Where they are.
    pub storage: Storage,
}

#[async_trait]
impl Objects for StoredObjects {
    fn cached(&self, key: &ResourceKey, namespace: &str, name: &str) -> Option<Value> {
        let resource = registry::of(key)?;
        let cache = self.storage.caches.of(resource)?;
        cache.get(&keys::object(resource, namespace, name)).map(|object| object.encoded.value())
    }

    async fn fresh(&self, key: &ResourceKey, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
        let resource = registry::of(key).ok_or_else(Status::no_such_path)?;
        match self.storage.get(resource, namespace, name).await {
            Ok(object) => Ok(Some(object.encoded.value())),
            Err(status) if status.code == 404 => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn label(&self, key: &ResourceKey, object: &Value, (label, value): (&str, &str)) -> Result<(), Status> {
        let resource = registry::of(key).ok_or_else(Status::no_such_path)?;
        let uid = meta::uid(object);
        let change = |mut found: Value| {
            if meta::uid(&found) == uid {
                let mut labels = meta::get(&found, "labels").and_then(Value::as_object).cloned().unwrap_or_default();
                labels.insert(label.to_owned(), value.into());
                meta::set(&mut found, "labels", labels);
            }
            Ok(Outcome::Store(found, Guard::default()))
        };
        self.storage.change(resource, meta::namespace(object), meta::name(object), change).await.map(drop)
    }
}
