//! Tells in a ValidatingAdmissionPolicy's status how its expressions fare with the kinds that they are about.
//!
//! Every server does this; what they find is the same, and once it is written nobody writes it again.

use std::{sync::Arc, time::Duration};

use kontiki_api::{
    expressions::typecheck,
    object::meta,
    registry::{self, Resource},
    resources::VALIDATING_ADMISSION_POLICIES,
    status::Status,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    service::ApiServer,
    storage::{Guard, Outcome},
};

/// Wait before what failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Follows the policies until `cancel`.
pub async fn run(server: Arc<ApiServer>, cancel: CancellationToken) {
    let Some(resource) = registry::of(&VALIDATING_ADMISSION_POLICIES) else { return };
    let Some(cache) = server.storage.caches.of(resource) else { return };
    let mut revision = server.storage.caches.revision();
    let (mut seen, mut unfinished) = (None, false);
    loop {
        let changes = cache.version();
        if unfinished || seen != Some(changes) {
            seen = Some(changes);
            unfinished = false;
            let policies: Vec<Value> = cache.snapshot().values().map(|object| object.encoded.value()).collect();
            for policy in policies.iter().filter(|policy| is_due(policy)) {
                if let Err(status) = tell(&server, resource, policy).await {
                    tracing::debug!(policy = meta::name(policy), %status, "the status of a policy waits");
                    unfinished |= status.code != 404;
                }
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = revision.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY.mul_f64(rand::random_range(0.5..1.5))), if unfinished => {}
        }
    }
}

/// Whether a policy has changed since its status was written.
fn is_due(policy: &Value) -> bool {
    policy["status"]["observedGeneration"].as_i64().unwrap_or_default() < meta::generation(policy)
}

async fn tell(server: &ApiServer, resource: &'static Resource, policy: &Value) -> Result<(), Status> {
    let table = server.storage.caches.custom.table();
    let served = registry::with_custom(&table.resources);
    let change = |mut current: Value| {
        if is_due(&current) {
            let found = typecheck::status(&current, &served);
            for field in ["observedGeneration", "typeChecking"] {
                current["status"][field] = found[field].clone();
            }
        }
        Ok(Outcome::Store(current, Guard::default()))
    };
    server.storage.change(resource, "", meta::name(policy), change).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::{
        auth::UserInfo,
        testing::{call, eventually, server},
    };

    #[tokio::test]
    async fn a_policy_is_told_what_its_expressions_name_wrongly() {
        let handle = server().await;
        let path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
        let rule =
            json!({ "operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"] });
        let spec = json!({ "matchConstraints": { "resourceRules": [rule] }, "validations": [{ "expression": "object.spec.nothing == 1" }] });
        let policy = json!({ "metadata": { "name": "p" }, "spec": spec });
        let (code, body) = call(&handle, &UserInfo::apiserver(), Method::POST, path, &policy).await;
        assert_eq!(code, 201, "{body}");
        let path = format!("{path}/p");
        let observed = async |generation: i64| {
            eventually(async || {
                let (_, policy) = call(&handle, &UserInfo::apiserver(), Method::GET, &path, &Value::Null).await;
                (policy["status"]["observedGeneration"] == generation).then(|| policy["status"].clone())
            })
            .await
        };
        let status = observed(1).await;
        let warning = &status["typeChecking"]["expressionWarnings"][0];
        assert_eq!(warning["fieldRef"], "spec.validations[0].expression");
        assert!(warning["warning"].as_str().unwrap().contains("undefined field 'nothing'"), "{status}");
        let patch = json!({ "spec": { "validations": [{ "expression": "object.spec.replicas == 1" }] } });
        call(&handle, &UserInfo::apiserver(), Method::PATCH, &path, &patch).await;
        assert_eq!(observed(2).await["typeChecking"], json!({}));
    }
}
