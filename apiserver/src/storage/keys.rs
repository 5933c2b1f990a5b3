//! Keys in the store, laid out as kube-apiserver's, so that a cluster can move here and back.

use bytes::Bytes;
use kontiki_api::registry::Resource;

/// Key of one object.
#[must_use]
pub fn object(resource: &Resource, namespace: &str, name: &str) -> String {
    let prefix = &resource.prefix;
    if resource.key.namespaced { format!("{prefix}{namespace}/{name}") } else { format!("{prefix}{name}") }
}

/// Prefix of the keys in a namespace, or of all where it is empty.
#[must_use]
pub fn collection(resource: &Resource, namespace: &str) -> String {
    let prefix = &resource.prefix;
    if namespace.is_empty() || !resource.key.namespaced { prefix.clone() } else { format!("{prefix}{namespace}/") }
}

/// The first key after all that begin with `prefix`.
#[must_use]
pub fn range_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Bytes::from(end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kontiki_api::{
        registry,
        resources::{EVENTS, EVENTS_V1, NODES, PODS, ResourceKey},
    };

    #[test]
    fn keys_are_kube_apiservers() {
        let key = |key: &ResourceKey, namespace| object(registry::of(key).unwrap(), namespace, "x");
        assert_eq!(key(&PODS, "default"), "/registry/pods/default/x");
        assert_eq!(key(&NODES, ""), "/registry/minions/x");
        assert_eq!(key(&EVENTS_V1, "a"), key(&EVENTS, "a"));
        assert_eq!(range_end("/registry/pods/"), "/registry/pods0");
    }
}
