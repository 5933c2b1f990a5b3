//! Where a resource's objects lie in the store, and in which of its versions.
//!
//! Several served resources can be one stored object: events of the core group and of
//! `events.k8s.io`, autoscalers of v1 and v2. The store, the cache, validation and columns know the
//! stored one only; the others differ in how they are decoded, defaulted and shown. Prefixes are
//! kube-apiserver's, so that a cluster can move here and back.

use crate::conversion::{self, Conversion};
use crate::resources::{self, ResourceKey};

/// What a served resource is in the store.
pub(super) struct Stored {
    /// The resource as it is stored.
    pub(super) key: ResourceKey,
    /// Between the two; `None` where they are the same.
    pub(super) conversion: Option<&'static dyn Conversion>,
}

/// What a served resource is in the store.
pub(super) fn of(key: &ResourceKey) -> Stored {
    match *key {
        resources::EVENTS_V1 => Stored { key: resources::EVENTS, conversion: Some(&conversion::event::EventConversion) },
        resources::HORIZONTAL_POD_AUTOSCALERS_V1 => {
            Stored { key: resources::HORIZONTAL_POD_AUTOSCALERS, conversion: Some(&conversion::autoscaler::AutoscalerConversion) }
        }
        key => Stored { key, conversion: None },
    }
}

/// Prefix of a stored resource's keys, between slashes.
pub(super) fn prefix(key: &ResourceKey) -> String {
    let name = match (key.group, key.plural) {
        ("", "replicationcontrollers") => "controllers",
        ("", "endpoints") => "services/endpoints",
        ("", "nodes") => "minions",
        ("", "services") => "services/specs",
        ("networking.k8s.io", "ingresses") => "ingress",
        // Servers of their own within kube-apiserver, which write the group into their keys.
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", plural) => return format!("/registry/{}/{plural}/", key.group),
        (_, plural) => plural,
    };
    format!("/registry/{name}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kube_apiservers() {
        for (key, wanted) in [
            (resources::PODS, "/registry/pods/"),
            (resources::NODES, "/registry/minions/"),
            (resources::SERVICES, "/registry/services/specs/"),
            (resources::ENDPOINTS, "/registry/services/endpoints/"),
            (resources::REPLICATION_CONTROLLERS, "/registry/controllers/"),
            (resources::INGRESSES, "/registry/ingress/"),
            (resources::CUSTOM_RESOURCE_DEFINITIONS, "/registry/apiextensions.k8s.io/customresourcedefinitions/"),
            (resources::API_SERVICES, "/registry/apiregistration.k8s.io/apiservices/"),
        ] {
            assert_eq!(prefix(&key), wanted);
        }
    }
}
