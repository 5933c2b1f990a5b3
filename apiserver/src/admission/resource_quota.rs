//! `ResourceQuota`: what a namespace's objects use together stays within its quotas.
//!
//! Usage is charged before the object is stored, by an optimistic change of the quota's status; the quota controller
//! counts again what was charged and never stored. Charges of one namespace wait for one another in this process, so that
//! only those of other servers race.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use kontiki_api::{
    object::meta,
    quota::{self, Change, Evaluator, List},
    registry,
    resources::RESOURCE_QUOTAS,
    status::Status,
};
use parking_lot::Mutex;
use serde_json::Value;

use super::{Operation, Plugin, Request, lookup};
use crate::{
    service::ApiServer,
    storage::{Guard, Outcome},
};

/// Resources that are never charged.
const FREE: [&str; 1] = ["events"];

/// The plugin.
#[derive(Default)]
pub struct ResourceQuota {
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        let key = &request.resource.key;
        if !key.namespaced || FREE.contains(&key.plural) || !request.resource.is_stored() {
            return false;
        }
        match (request.operation, key.plural, request.subresource) {
            (Operation::Create, _, "") => true,
            (Operation::Update, "pods", "" | "resize") | (Operation::Update, "services", "") => key.group.is_empty(),
            (Operation::Update, "persistentvolumeclaims", "" | "status") => key.group.is_empty(),
            (Operation::Update, "resourceclaims", "") => true,
            _ => false,
        }
    }

    async fn validate(&self, server: &ApiServer, request: &Request<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        let quotas = lookup::list(server, &RESOURCE_QUOTAS, request.namespace);
        if quotas.is_empty() || !is_worth_counting(request, object, old) {
            return Ok(());
        }
        let key = &request.resource.key;
        let evaluator = Evaluator { group: key.group, plural: key.plural };
        let change = Change { evaluator, object, old, is_status: request.subresource == "status" };
        let turn = self.turn(request.namespace);
        let waited = turn.lock().await;
        let mut charged: Vec<(String, List)> = Vec::new();
        for name in quotas.iter().map(meta::name) {
            match charge(server, request, &change, name).await {
                Ok(added) => charged.push((name.to_owned(), added)),
                Err(status) => {
                    for (name, added) in charged {
                        give_back(server, request, &name, &added).await;
                    }
                    return Err(status);
                }
            }
        }
        drop(waited);
        self.forget(request.namespace);
        Ok(())
    }
}

impl ResourceQuota {
    fn turn(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.turns.lock().entry(namespace.to_owned()).or_default())
    }

    /// Keeps no namespace that nobody waits for.
    fn forget(&self, namespace: &str) {
        let mut turns = self.turns.lock();
        if turns.get(namespace).is_some_and(|turn| Arc::strong_count(turn) <= 2) {
            turns.remove(namespace);
        }
    }
}

/// Whether a change can add to what is used: of a running pod only a change of its scope or a resize can.
fn is_worth_counting(request: &Request<'_>, object: &Value, old: &Value) -> bool {
    let deadline = |pod: &Value| pod.pointer("/spec/activeDeadlineSeconds").is_some_and(|value| !value.is_null());
    let pod_update = request.operation == Operation::Update && request.resource.key.plural == "pods";
    !pod_update || request.subresource == "resize" || deadline(object) != deadline(old)
}

/// Charges one quota; what was added.
async fn charge(server: &ApiServer, request: &Request<'_>, change: &Change<'_>, name: &str) -> Result<List, Status> {
    let resource = registry::of(&RESOURCE_QUOTAS).ok_or_else(Status::no_such_path)?;
    let mut transaction = match server.storage.begin(resource, request.namespace, name).await {
        // It has just been deleted and bounds nothing.
        Err(status) if status.code == 404 => return Ok(List::default()),
        begun => begun?,
    };
    loop {
        let quota = transaction.object();
        let decided = quota::admit(change, quota, Timestamp::now()).map_err(|why| request.forbidden(why));
        let (outcome, added) = match decided {
            Ok(added) if added.0.is_empty() || request.dry_run => (Ok(Outcome::Store(quota.clone(), Guard::default())), added),
            Ok(added) => (Ok(Outcome::Store(with_usage(quota, |used| used.add_all(&added)), Guard::default())), added),
            Err(status) => (Err(status), List::default()),
        };
        if outcome.is_ok() && added.0.is_empty() {
            return Ok(added);
        }
        if transaction.commit(outcome).await?.is_some() {
            return Ok(added);
        }
    }
}

/// Takes a charge back, because another quota refused; what fails here the controller mends.
async fn give_back(server: &ApiServer, request: &Request<'_>, name: &str, added: &List) {
    let Some(resource) = registry::of(&RESOURCE_QUOTAS) else { return };
    if added.0.is_empty() || request.dry_run {
        return;
    }
    let less = |quota: Value| Ok(Outcome::Store(with_usage(&quota, |used| used.take_away(added)), Guard::default()));
    if let Err(status) = server.storage.change(resource, request.namespace, name, less).await {
        tracing::debug!(name, %status, "a charge stays until the quota is counted again");
    }
}

fn with_usage(quota: &Value, change: impl FnOnce(&mut List)) -> Value {
    let mut used = List::parse(quota.pointer("/status/used"));
    change(&mut used);
    let mut quota = quota.clone();
    quota["status"]["used"] = used.to_value();
    quota
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::{Method, StatusCode};
    use serde_json::{Value, json};

    use crate::{auth::UserInfo, testing};

    #[tokio::test]
    async fn a_namespace_stays_within_its_quotas() {
        let handle = testing::server().await;
        let user = UserInfo::apiserver();
        let call = async |method: Method, path: &str, body: Value| {
            testing::call(&handle, &user, method, &format!("/api/v1/namespaces/default/{path}"), &body).await
        };
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/configmaps": "2"}}});
        call(Method::POST, "resourcequotas", quota).await;
        let map = |name: &str| json!({"metadata": {"name": name}});
        // Bounds are in force once the controller has taken them over, and unknown until it has counted.
        let hard = json!({"status": {"hard": {"count/configmaps": "2"}}});
        call(Method::PATCH, "resourcequotas/q/status", hard).await;
        let refused = testing::eventually(async || {
            let (code, body) = call(Method::POST, "configmaps?dryRun=All", map("a")).await;
            (code == StatusCode::FORBIDDEN).then_some(body)
        });
        let unknown = "configmaps \"a\" is forbidden: status unknown for quota: q, resources: count/configmaps";
        assert_eq!(refused.await["message"], unknown);
        let status = json!({"status": {"used": {"count/configmaps": "0"}}});
        call(Method::PATCH, "resourcequotas/q/status", status).await;
        let first = testing::eventually(async || {
            let (code, body) = call(Method::POST, "configmaps?dryRun=All", map("dry")).await;
            (code == StatusCode::CREATED).then_some(body)
        });
        first.await;
        for name in ["a", "b"] {
            let (code, body) = call(Method::POST, "configmaps", map(name)).await;
            assert_eq!(code, StatusCode::CREATED, "{body}");
        }
        let (_, body) = call(Method::POST, "configmaps", map("c")).await;
        assert_eq!(
            body["message"],
            "configmaps \"c\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=2, limited: count/configmaps=2"
        );
        let (_, quota) = call(Method::GET, "resourcequotas/q", json!(null)).await;
        assert_eq!(quota["status"]["used"]["count/configmaps"], "2");
    }
}
