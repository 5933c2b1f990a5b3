//! `NamespaceLifecycle`: nothing is created where there is no namespace or where one ends.

use async_trait::async_trait;
use kontiki_api::{object::meta, resources::NAMESPACES, status::Status};
use serde_json::Value;

use super::{Operation, Plugin, Request, lookup};
use crate::service::ApiServer;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// Reviews are answered about any namespace, one that ends included.
const REVIEWS: &str = "localsubjectaccessreviews";

/// The plugin.
pub struct NamespaceLifecycle;

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        match request.operation {
            Operation::Create => request.resource.key.namespaced && request.resource.key.plural != REVIEWS,
            Operation::Delete => request.is(&NAMESPACES),
            Operation::Update | Operation::Connect => false,
        }
    }

    async fn mutate(&self, server: &ApiServer, request: &Request<'_>, _: &mut Value, _: &Value) -> Result<(), Status> {
        if request.operation == Operation::Delete {
            return if IMMORTAL.contains(&request.name) {
                Err(request.forbidden("this namespace may not be deleted"))
            } else {
                Ok(())
            };
        }
        match lookup::find(server, &NAMESPACES, "", request.namespace).await? {
            None => Err(Status::not_found("", "namespaces", request.namespace)),
            Some(found) if meta::is_deleting(&found) => Err(ending(request)),
            Some(_) => Ok(()),
        }
    }
}

fn ending(request: &Request<'_>) -> Status {
    let namespace = request.namespace;
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let message = format!("namespace {namespace} is being terminated");
    request.forbidden(why).with_cause("NamespaceTerminating", message, "metadata.namespace")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::{Method, StatusCode};
    use serde_json::json;

    use crate::{auth::UserInfo, testing};

    #[tokio::test]
    async fn nothing_is_created_where_a_namespace_ends_or_is_missing() {
        let handle = testing::server().await;
        let user = UserInfo::apiserver();
        let create = async |namespace: &str| {
            let object = json!({"metadata": {"name": "x"}});
            let path = format!("/api/v1/namespaces/{namespace}/configmaps");
            testing::call(&handle, &user, Method::POST, &path, &object).await
        };
        assert_eq!(create("nowhere").await.1["message"], "namespaces \"nowhere\" not found");
        let namespace = json!({"metadata": {"name": "a", "finalizers": ["x.y/z"]}});
        testing::call(&handle, &user, Method::POST, "/api/v1/namespaces", &namespace).await;
        assert_eq!(create("a").await.0, StatusCode::CREATED);
        testing::call(&handle, &user, Method::DELETE, "/api/v1/namespaces/a", &json!(null)).await;
        let (code, body) = testing::eventually(async || {
            let object = json!({"metadata": {"generateName": "y-"}});
            let answer = testing::call(&handle, &user, Method::POST, "/api/v1/namespaces/a/configmaps", &object).await;
            (answer.0 == StatusCode::FORBIDDEN).then_some(answer)
        })
        .await;
        assert_eq!(code, StatusCode::FORBIDDEN, "{body}");
        assert_eq!(body["details"]["causes"][0]["reason"], "NamespaceTerminating");
        assert_eq!(body["details"]["causes"][0]["field"], "metadata.namespace");
        let (_, body) = testing::call(&handle, &user, Method::DELETE, "/api/v1/namespaces/default", &json!(null)).await;
        assert_eq!(body["message"], "namespaces \"default\" is forbidden: this namespace may not be deleted");
    }
}
