//! Whether the objects that a token is bound to still stand.

use jiff::{SignedDuration, Timestamp};
use kontiki_api::{
    resources::{self, ResourceKey},
    status::Status,
};
use serde_json::Value;

use super::{
    Objects,
    claims::{Bound, Reference},
};

/// Time for which a token outlives the deletion of what it is bound to: a pod that ends may still
/// have something to say.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// The objects that a token needs: resource, namespace, reference. A pod stands for its node.
fn needed(bound: &Bound) -> Vec<(ResourceKey, &str, &Reference)> {
    let namespace = bound.namespace.as_str();
    let mut needed = vec![(resources::SERVICE_ACCOUNTS, namespace, &bound.serviceaccount)];
    needed.extend(bound.secret.iter().map(|secret| (resources::SECRETS, namespace, secret)));
    match (&bound.pod, &bound.node) {
        (Some(pod), _) => needed.push((resources::PODS, namespace, pod)),
        (None, Some(node)) => needed.push((resources::NODES, "", node)),
        (None, None) => {}
    }
    needed
}

/// Whether an object is the one referred to, and not long deleted.
#[must_use]
pub fn stands(reference: &Reference, object: Option<&Value>, now: Timestamp) -> bool {
    let Some(metadata) = object.map(|object| &object["metadata"]) else { return false };
    let deleted = metadata["deletionTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    metadata["uid"].as_str() == Some(reference.uid.as_str()) && deleted.is_none_or(|deleted| deleted + GRACE >= now)
}

/// Looks every needed object up: in the cache first, and in the store where the cache says no,
/// because another server may have created the object a moment ago.
pub async fn check(bound: &Bound, objects: &dyn Objects, now: Timestamp) -> Result<bool, Status> {
    for (key, namespace, reference) in needed(bound) {
        if stands(reference, objects.cached(&key, namespace, &reference.name).as_ref(), now) {
            continue;
        }
        let fresh = objects.fresh(&key, namespace, &reference.name).await?;
        if !stands(reference, fresh.as_ref(), now) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_namesake_is_another_object() {
        let reference = Reference { name: "x".into(), uid: "1".into() };
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let cases = [
            (None, false),
            (Some(json!({"metadata": {"uid": "1"}})), true),
            (Some(json!({"metadata": {"uid": "2"}})), false),
            (Some(json!({"metadata": {}})), false),
            (Some(json!({"metadata": {"uid": "1", "deletionTimestamp": "2026-01-01T00:09:30Z"}})), true),
            (Some(json!({"metadata": {"uid": "1", "deletionTimestamp": "2026-01-01T00:08:59Z"}})), false),
        ];
        for (object, expected) in cases {
            assert_eq!(stands(&reference, object.as_ref(), now), expected, "{object:?}");
        }
    }

    #[test]
    fn a_pod_stands_for_its_node() {
        let reference = || Some(Reference::default());
        let plurals = |bound: &Bound| needed(bound).iter().map(|(key, ..)| key.plural).collect::<Vec<_>>();
        assert_eq!(plurals(&Bound { pod: reference(), node: reference(), ..Bound::default() }), ["serviceaccounts", "pods"]);
        assert_eq!(plurals(&Bound { node: reference(), ..Bound::default() }), ["serviceaccounts", "nodes"]);
    }
}
