//! Resource quotas: what their namespaces use, counted from what is there.
//!
//! Admission charges what it admits; this controller counts again: when a quota changes, and every few seconds while
//! there is one, so that what was deleted, has ended or was charged and never stored is given back. The quota is read
//! before the objects and written with its version, so that a charge in between makes it count again.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use kontiki_api::{
    quota::{self, Evaluator, List},
    registry,
    resources::RESOURCE_QUOTAS,
};
use kontiki_client::{
    Client, Error,
    queue::WorkQueue,
    reflector::{ObjectKey, Reflector, ReflectorOptions},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// How often a quota is counted again.
const RESYNC: Duration = Duration::from_secs(5);
/// Resources that quotas bound under names of their own, and what is counted for them.
const NAMED: [(&str, &str); 4] =
    [("", "pods"), ("", "services"), ("", "persistentvolumeclaims"), ("resource.k8s.io", "resourceclaims")];

/// How it begins with the others.
pub fn start(
    context: &std::sync::Arc<crate::context::Context>,
    cancel: CancellationToken,
) -> futures::future::BoxFuture<'static, ()> {
    Box::pin(run(context.options.client.clone(), cancel))
}

/// Counts until `cancel`.
async fn run(client: Client, cancel: CancellationToken) {
    let queue = std::sync::Arc::new(WorkQueue::new("resource_quota"));
    let changed = std::sync::Arc::clone(&queue);
    let on_change = move |change: &kontiki_client::reflector::Change<Value>| {
        if change.new.as_ref().is_some_and(|quota| quota["spec"].get("hard") != quota["status"].get("hard")) {
            changed.add(change.key.clone());
        } else if change.old.is_none() {
            changed.add_after(change.key.clone(), RESYNC);
        }
    };
    let quotas = Reflector::start(client.clone(), RESOURCE_QUOTAS, ReflectorOptions::default(), on_change, cancel.clone());
    quotas.synced().await;
    let reconcile = move |key: ObjectKey| {
        let (client, known) = (client.clone(), quotas.get(&key.namespace, &key.name).is_some());
        async move { if known { reconcile(&client, &key).await } else { Ok(None) } }
    };
    crate::run::run(queue, "resource_quota", cancel, reconcile).await;
}

async fn reconcile(client: &Client, key: &ObjectKey) -> Result<Option<Duration>, Error> {
    let mut quota: Value = match client.get(RESOURCE_QUOTAS, &key.namespace, &key.name).await {
        Err(error) if error.is_not_found() => return Ok(None),
        found => found?,
    };
    let hard = List::parse(quota.pointer("/spec/hard"));
    let counted = counted(&hard);
    let mut total = List::default();
    for (group, plural) in &counted {
        let evaluator = Evaluator { group, plural };
        let now = Timestamp::now();
        for object in objects(client, group, plural, &key.namespace).await? {
            total.add_all(&quota::object_usage(evaluator, &object, &quota, now));
        }
    }
    let measured = |name: &str| counted.iter().any(|(group, plural)| Evaluator { group, plural }.measures(name));
    if let Some(status) = quota::quota_status(&quota, &total, measured) {
        quota["status"] = status;
        client.update_status::<Value>(RESOURCE_QUOTAS, &key.namespace, &key.name, &quota).await?;
    }
    Ok(Some(RESYNC))
}

/// Resources, as group and plural, whose objects have to be counted for these bounds.
fn counted(hard: &List) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for name in hard.0.keys() {
        for (group, plural) in NAMED {
            if (Evaluator { group, plural }).measures(name) {
                found.insert((group.to_owned(), plural.to_owned()));
            }
        }
        let path = name.strip_prefix("count/").unwrap_or(name);
        let (plural, group) = path.split_once('.').unwrap_or((path, ""));
        if (Evaluator { group, plural }).measures(name) {
            found.insert((group.to_owned(), plural.to_owned()));
        }
    }
    found
}

/// The objects of a namespace; none of a resource that nobody serves.
async fn objects(client: &Client, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, Error> {
    let Some(prefix) = prefix(client, group, plural).await? else { return Ok(Vec::new()) };
    let path = format!("{prefix}/namespaces/{namespace}/{plural}");
    match client.request(Method::GET, path, "", Bytes::new()).await {
        Ok(body) => {
            let list: Value = serde_json::from_slice(&body).unwrap_or_default();
            Ok(list["items"].as_array().cloned().unwrap_or_default())
        }
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Path of a resource's group and version: of the registry, or as the server says for groups that came later.
async fn prefix(client: &Client, group: &str, plural: &str) -> Result<Option<String>, Error> {
    let known = registry::all().iter().find(|resource| resource.key.group == group && resource.key.plural == plural);
    if let Some(resource) = known {
        return Ok(Some(match group {
            "" => format!("/api/{}", resource.key.version),
            group => format!("/apis/{group}/{}", resource.key.version),
        }));
    }
    match client.request(Method::GET, format!("/apis/{group}"), "", Bytes::new()).await {
        Ok(body) => {
            let document: Value = serde_json::from_slice(&body).unwrap_or_default();
            let version = document["preferredVersion"]["groupVersion"].as_str();
            Ok(version.map(|version| format!("/apis/{version}")))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bounds_say_what_has_to_be_counted() {
        let hard = json!({
            "requests.cpu": "1", "services.nodeports": "2", "count/deployments.apps": "3", "secrets": "4",
            "gold.storageclass.storage.k8s.io/requests.storage": "5Gi", "count/pods": "6", "nothing": "7",
        });
        let found = counted(&List::parse(Some(&hard)));
        let found: Vec<String> = found.iter().map(|(group, plural)| format!("{group}/{plural}")).collect();
        assert_eq!(found, ["/persistentvolumeclaims", "/pods", "/secrets", "/services", "apps/deployments"]);
    }
}
