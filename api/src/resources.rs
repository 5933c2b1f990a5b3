//! Names of the built-in resources, as every component spells them.
//!
//! A [`ResourceKey`] is what a client needs to build a path: it knows nothing of strategies or
//! schemas, which live in the registry.

/// Where a resource is served: group, version, plural, and whether it lies in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version within the group, such as `v1`.
    pub version: &'static str,
    /// Lower-case plural that stands in paths, such as `pods`.
    pub plural: &'static str,
    /// Kind of one object, such as `Pod`.
    pub kind: &'static str,
    /// Whether objects lie in a namespace.
    pub namespaced: bool,
}

impl ResourceKey {
    const fn new(group: &'static str, plural: &'static str, kind: &'static str, namespaced: bool) -> Self {
        Self { group, version: "v1", plural, kind, namespaced }
    }

    /// `v1` or `group/v1`, as objects carry it in `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Path of a collection or object: `namespace` and `name` are left out where empty.
    #[must_use]
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        for part in [if namespace.is_empty() { "" } else { "namespaces" }, namespace, self.plural, name] {
            if !part.is_empty() {
                path.push('/');
                path.push_str(part);
            }
        }
        path
    }
}

macro_rules! resources {
    ($($name:ident = $group:literal $plural:literal $kind:literal $namespaced:literal;)*) => {
        $(#[doc = concat!("`", $plural, "` of group `", $group, "`.")]
        pub const $name: ResourceKey = ResourceKey::new($group, $plural, $kind, $namespaced);)*
        /// Every constant of this module.
        pub const ALL: &[ResourceKey] = &[$($name),*];
    };
}

resources! {
    NAMESPACES = "" "namespaces" "Namespace" false;
    NODES = "" "nodes" "Node" false;
    PODS = "" "pods" "Pod" true;
    SERVICES = "" "services" "Service" true;
    CONFIG_MAPS = "" "configmaps" "ConfigMap" true;
    SECRETS = "" "secrets" "Secret" true;
    SERVICE_ACCOUNTS = "" "serviceaccounts" "ServiceAccount" true;
    EVENTS = "" "events" "Event" true;
    ENDPOINT_SLICES = "discovery.k8s.io" "endpointslices" "EndpointSlice" true;
    LEASES = "coordination.k8s.io" "leases" "Lease" true;
    DEPLOYMENTS = "apps" "deployments" "Deployment" true;
    REPLICA_SETS = "apps" "replicasets" "ReplicaSet" true;
    ROLES = "rbac.authorization.k8s.io" "roles" "Role" true;
    ROLE_BINDINGS = "rbac.authorization.k8s.io" "rolebindings" "RoleBinding" true;
    CLUSTER_ROLES = "rbac.authorization.k8s.io" "clusterroles" "ClusterRole" false;
    CLUSTER_ROLE_BINDINGS = "rbac.authorization.k8s.io" "clusterrolebindings" "ClusterRoleBinding" false;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_group_and_scope() {
        assert_eq!(PODS.path("default", "web"), "/api/v1/namespaces/default/pods/web");
        assert_eq!(DEPLOYMENTS.path("", ""), "/apis/apps/v1/deployments");
        assert_eq!(NODES.path("", "a"), "/api/v1/nodes/a");
    }
}
