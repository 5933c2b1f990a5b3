//! Read access to objects, as authentication and admission need it.

use async_trait::async_trait;
use kontiki_api::{resources::ResourceKey, status::Status};
use serde_json::Value;

/// Where objects are looked up: the watch cache, with the store behind it.
#[async_trait]
pub trait Objects: Send + Sync {
    /// The object as this server's cache has it, which may be a little old.
    fn cached(&self, key: &ResourceKey, namespace: &str, name: &str) -> Option<Value>;

    /// The object as the store has it now.
    async fn fresh(&self, key: &ResourceKey, namespace: &str, name: &str) -> Result<Option<Value>, Status>;
}
