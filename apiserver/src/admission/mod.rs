//! What a write must satisfy beyond its kind's own rules, and what the server adds to it.
//!
//! In: an object on its way into the store. Out: the object, completed, or a refusal in Kubernetes' words. The
//! plugins are functions on objects; what they look up comes from the caches.
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>

mod namespace;
mod node;
mod pod;
mod service_account;

use kontiki_api::{
    registry::{self, Resource},
    resources::{NODES, PODS, ResourceKey},
    status::Status,
};
use serde_json::Value;

use crate::service::{ApiServer, Call};

/// What is being done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is created.
    Create,
    /// It is changed.
    Update,
    /// Its deletion is asked for.
    Delete,
}

/// Looks an object up: the cache first, then the store.
async fn find(server: &ApiServer, key: &ResourceKey, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
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

/// Admits a write, changing the object where a plugin adds something.
pub async fn admit(
    server: &ApiServer,
    call: &Call,
    resource: &'static Resource,
    operation: Operation,
    object: &mut Value,
    _old: Option<&Value>,
) -> Result<(), Status> {
    match operation {
        Operation::Create => {
            namespace::check_create(server, resource, object).await?;
            if resource.key == PODS {
                pod::complete(object)?;
                service_account::complete(server, object).await?;
            }
            if resource.key == NODES {
                node::taint(object);
            }
            node::restrict(&call.user, resource, object)
        }
        Operation::Delete => namespace::check_delete(resource, object),
        Operation::Update => Ok(()),
    }
}
