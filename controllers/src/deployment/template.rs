//! Templates: when two are the same, what they are called by, and the ReplicaSet of one. Pure.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{DESIRED, HASH, MAXIMUM, REVISION, rolling::Bounds};
use crate::model::{Labels, Meta, Workload};

/// Letters of a hash: no vowels, so that no word is spelt by chance.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters of a hash in a name.
const LENGTH: usize = 10;

fn bare(template: &Value) -> Value {
    let mut bare = template.clone();
    if let Some(labels) = bare.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    if let Some(metadata) = bare["metadata"].as_object_mut() {
        metadata.retain(|key, value| {
            key != "creationTimestamp" && !(value.is_object() && value.as_object().is_some_and(serde_json::Map::is_empty))
        });
    }
    bare
}

/// Whether two templates make the same pods.
pub fn same(left: &Value, right: &Value) -> bool {
    bare(left) == bare(right)
}

/// What a template is called by; `collisions` chooses another name for the same one.
pub fn hash(template: &Value, collisions: i64) -> String {
    let mut hasher = Sha256::new();
    // Objects keep their keys in order, so equal templates are equal text.
    hasher.update(bare(template).to_string());
    if collisions > 0 {
        hasher.update(collisions.to_le_bytes());
    }
    let digest = hasher.finalize();
    digest.iter().take(LENGTH).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// Annotations of a Deployment that its ReplicaSets have too: not those that say how far either of them is.
pub fn handed_on(meta: &Meta) -> Labels {
    let mut annotations = meta.annotations.clone();
    annotations.retain(|key, _| !key.starts_with("deployment.kubernetes.io/") && !key.starts_with("kontiki.io/"));
    annotations
}

/// The ReplicaSet of a Deployment's present template.
pub fn replica_set(deployment: &Workload, hash: &str, replicas: i64, revision: i64, bounds: Bounds, owner: Value) -> Value {
    let meta = &deployment.metadata;
    let mut template = deployment.spec.template.clone();
    template["metadata"]["labels"][HASH] = json!(hash);
    let mut selector = deployment.spec.selector.clone().unwrap_or_default();
    selector.match_labels.insert(HASH.to_owned(), hash.to_owned());
    let mut annotations = handed_on(meta);
    annotations.insert(REVISION.to_owned(), revision.to_string());
    annotations.insert(DESIRED.to_owned(), bounds.replicas.to_string());
    annotations.insert(MAXIMUM.to_owned(), (bounds.replicas + bounds.surge).to_string());
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{}-{hash}", meta.name),
            "labels": template["metadata"]["labels"],
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment.spec.min_ready_seconds,
            "selector": selector,
            "template": template,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_label_makes_no_difference() {
        let own = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": []}});
        let hashed =
            json!({"metadata": {"labels": {"app": "a", HASH: "x"}, "creationTimestamp": null}, "spec": {"containers": []}});
        assert!(same(&own, &hashed));
        assert_eq!(hash(&own, 0), hash(&hashed, 0));
        assert_ne!(hash(&own, 0), hash(&own, 1));
        assert!(!same(&own, &json!({"metadata": {"labels": {"app": "b"}}, "spec": {"containers": []}})));
    }
}
