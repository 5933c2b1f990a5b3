//! Aggregated ClusterRoles: their rules are those of the roles that they select, written down for people and clients to
//! read. What users may do follows from the selectors themselves, at once.

use std::{sync::Arc, time::Duration};

use kontiki_api::{resources::CLUSTER_ROLES, selector::LabelSelector};
use kontiki_client::{
    Client, Error, Patch,
    queue::WorkQueue,
    reflector::{Change, ObjectKey, Reflector, ReflectorOptions},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::model::Meta;

/// A ClusterRole.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClusterRole {
    metadata: Meta,
    rules: Option<Vec<Value>>,
    aggregation_rule: Option<AggregationRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AggregationRule {
    cluster_role_selectors: Vec<Value>,
}

/// How it begins with the others.
pub fn start(
    context: &std::sync::Arc<crate::context::Context>,
    cancel: CancellationToken,
) -> futures::future::BoxFuture<'static, ()> {
    Box::pin(run(context.options.client.clone(), cancel))
}

/// Writes rules until `cancel`.
async fn run(client: Client, cancel: CancellationToken) {
    let queue = Arc::new(WorkQueue::new("clusterrole_aggregation"));
    let changed = Arc::clone(&queue);
    // Which roles select one another is seen when they are all there: one key stands for the whole work.
    let on_change = move |_: &Change<ClusterRole>| changed.add(ObjectKey::new("", ""));
    let roles = Reflector::start(client.clone(), CLUSTER_ROLES, ReflectorOptions::default(), on_change, cancel.clone());
    roles.synced().await;
    let reconcile = move |_: ObjectKey| {
        let (client, roles) = (client.clone(), roles.list());
        async move { reconcile(&client, &roles).await }
    };
    crate::run::run(queue, "clusterrole_aggregation", cancel, reconcile).await;
}

async fn reconcile(client: &Client, roles: &[Arc<ClusterRole>]) -> Result<Option<Duration>, Error> {
    for (name, rules) in plan(roles) {
        let patch = Patch::Merge(json!({ "rules": rules }));
        client.patch::<Value>(CLUSTER_ROLES, "", &name, None, patch).await?;
    }
    Ok(None)
}

/// Roles whose rules are not what they select, and what these should be.
fn plan(roles: &[Arc<ClusterRole>]) -> Vec<(String, Vec<Value>)> {
    let mut sorted: Vec<&Arc<ClusterRole>> = roles.iter().collect();
    sorted.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    let mut changes = Vec::new();
    for role in &sorted {
        let Some(aggregation) = &role.aggregation_rule else { continue };
        let selectors: Vec<LabelSelector> = aggregation.cluster_role_selectors.iter().map(LabelSelector::from_value).collect();
        let mut rules: Vec<Value> = Vec::new();
        let selected = sorted.iter().filter(|other| {
            other.metadata.name != role.metadata.name && selectors.iter().any(|selector| selector.matches(&other.metadata.labels))
        });
        for rule in selected.flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        if role.rules.as_deref().unwrap_or_default() != rules {
            changes.push((role.metadata.name.clone(), rules));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_role_gets_the_rules_of_those_that_it_selects_once() {
        let role = |value: Value| Arc::new(serde_json::from_value::<ClusterRole>(value).unwrap());
        let (get, list) = (json!({"verbs": ["get"]}), json!({"verbs": ["list"]}));
        let part = |name: &str, rules: Value| role(json!({"metadata": {"name": name, "labels": {"to": "view"}}, "rules": rules}));
        let view = |rules: Value| {
            let selectors = json!({"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]});
            role(json!({"metadata": {"name": "view"}, "aggregationRule": selectors, "rules": rules}))
        };
        let parts = [part("b", json!([list, get])), part("a", json!([get]))];
        let all = [parts[0].clone(), view(Value::Null), parts[1].clone()];
        assert_eq!(plan(&all), [("view".to_owned(), vec![get.clone(), list.clone()])]);
        assert_eq!(plan(&[parts[0].clone(), view(json!([get, list])), parts[1].clone()]), []);
    }
}
