//! Nobody grants what they do not hold: writes of roles and bindings. kube-apiserver checks it in the storage of these
//! kinds; here it is the last of the built-in plugins, so that it sees what will be stored.

use async_trait::async_trait;
use kontiki_api::status::Status;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::{authorization::escalation, service::ApiServer};

/// The plugin.
pub struct RoleGrants;

#[async_trait]
impl Plugin for RoleGrants {
    fn name(&self) -> &'static str {
        "RoleGrants"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update)
            && request.subresource.is_empty()
            && request.resource.key.group == "rbac.authorization.k8s.io"
    }

    async fn validate(&self, server: &ApiServer, request: &Request<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        let old = if old.is_null() { None } else { Some(old) };
        escalation::check(&server.authorizer.roles(), request.user, &request.resource.key, object, old)
    }
}
