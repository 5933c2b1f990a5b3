//! Keys in the store, laid out as kube-apiserver's, so that a cluster can move here and back.

use bytes::Bytes;
use kontiki_api::resources::ResourceKey;

/// Prefix of all keys.
pub const ROOT: &str = "/registry/";

/// Prefix of a resource's keys, with a slash at the end.
#[must_use]
pub fn prefix(key: &ResourceKey) -> String {
    let name = match (key.group, key.plural) {
        ("", "nodes") => "minions",
        ("", "services") => "services/specs",
        (_, plural) => plural,
    };
    format!("{ROOT}{name}/")
}

/// Key of one object.
#[must_use]
pub fn object(key: &ResourceKey, namespace: &str, name: &str) -> String {
    if key.namespaced { format!("{}{namespace}/{name}", prefix(key)) } else { format!("{}{name}", prefix(key)) }
}

/// Prefix of the keys in a namespace, or of all where it is empty.
#[must_use]
pub fn collection(key: &ResourceKey, namespace: &str) -> String {
    if namespace.is_empty() || !key.namespaced { prefix(key) } else { format!("{}{namespace}/", prefix(key)) }
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
    use super::*;
    use kontiki_api::resources::{NODES, PODS, SERVICES};

    #[test]
    fn keys_are_kube_apiservers() {
        assert_eq!(object(&PODS, "default", "x"), "/registry/pods/default/x");
        assert_eq!(object(&NODES, "", "x"), "/registry/minions/x");
        assert_eq!(object(&SERVICES, "a", "x"), "/registry/services/specs/a/x");
        assert_eq!(range_end("/registry/pods/"), "/registry/pods0");
    }
}
