//! `NamespaceLifecycle`: nothing is created where there is no namespace or where one ends.

use kontiki_api::{object::meta, registry::Resource, resources::NAMESPACES, status::Status};
use serde_json::Value;

use crate::service::ApiServer;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Refuses an object whose namespace is missing or ends.
pub async fn check_create(server: &ApiServer, resource: &Resource, object: &Value) -> Result<(), Status> {
    if !resource.key.namespaced {
        return Ok(());
    }
    let namespace = meta::namespace(object);
    match super::find(server, &NAMESPACES, "", namespace).await? {
        None => Err(Status::not_found("", "namespaces", namespace)),
        Some(found) if meta::is_deleting(&found) => Err(ending(resource, meta::name(object), namespace)),
        Some(_) => Ok(()),
    }
}

fn ending(resource: &Resource, name: &str, namespace: &str) -> Status {
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let status = Status::forbidden(resource.key.group, resource.key.plural, name, &why);
    status.with_cause("NamespaceTerminating", format!("namespace {namespace} is being terminated"), "metadata.namespace")
}

/// Refuses to delete what the cluster cannot be without.
pub fn check_delete(resource: &Resource, object: &Value) -> Result<(), Status> {
    let name = meta::name(object);
    if resource.key == NAMESPACES && IMMORTAL.contains(&name) {
        return Err(Status::forbidden("", "namespaces", name, "this namespace may not be deleted"));
    }
    Ok(())
}
