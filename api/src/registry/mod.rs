//! Every resource that the API serves: one entry each.
//!
//! Discovery, OpenAPI, the router, the gRPC service and tables are all made from this list. A new
//! kind is one line here, its strategy in `kinds/`, and its types in the schema table. Verbs, short
//! names and categories are v1.36's; a test compares them with its discovery documents.

use std::fmt;
use std::sync::LazyLock;

use crate::kinds;
use crate::resources::{self, ResourceKey};
use crate::schema::{self, Type};
use crate::strategy::Strategy;

pub mod reviews;

/// One resource.
pub struct Resource {
    /// Group, version, plural, kind and scope.
    pub key: ResourceKey,
    /// Lower-case singular, such as `pod`.
    pub singular: &'static str,
    /// Abbreviations that kubectl accepts.
    pub short_names: &'static [&'static str],
    /// Groups of resources that kubectl accepts, such as `all`.
    pub categories: &'static [&'static str],
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
    /// Subresources, sorted by name.
    pub subresources: &'static [Subresource],
    /// Behaviour of the kind.
    pub strategy: &'static dyn Strategy,
}

impl fmt::Debug for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.qualified())
    }
}

/// A part of an object, or an action on it, with a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Last segment of the path, such as `status`.
    pub name: &'static str,
    /// Kind of what is sent and received.
    pub kind: &'static str,
    /// Group and version of that kind where they are not the resource's own.
    pub group_version: Option<(&'static str, &'static str)>,
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
}

const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const NAMESPACE_VERBS: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
const PART_VERBS: &[&str] = &["get", "patch", "update"];

const fn part(name: &'static str, kind: &'static str, verbs: &'static [&'static str]) -> Subresource {
    Subresource { name, kind, group_version: None, verbs }
}

const SCALE: Subresource =
    Subresource { name: "scale", kind: "Scale", group_version: Some(("autoscaling", "v1")), verbs: PART_VERBS };
const TOKEN: Subresource =
    Subresource { name: "token", kind: "TokenRequest", group_version: Some(("authentication.k8s.io", "v1")), verbs: CREATE };

const NAMESPACE_PARTS: &[Subresource] = &[part("finalize", "Namespace", &["update"]), part("status", "Namespace", PART_VERBS)];
const NODE_PARTS: &[Subresource] = &[part("status", "Node", PART_VERBS)];
const POD_PARTS: &[Subresource] = &[
    part("binding", "Binding", CREATE),
    part("exec", "PodExecOptions", &["create", "get"]),
    part("log", "Pod", &["get"]),
    part("status", "Pod", PART_VERBS),
];
const SERVICE_PARTS: &[Subresource] = &[part("status", "Service", PART_VERBS)];
const SERVICE_ACCOUNT_PARTS: &[Subresource] = &[TOKEN];
const DEPLOYMENT_PARTS: &[Subresource] = &[SCALE, part("status", "Deployment", PART_VERBS)];
const REPLICA_SET_PARTS: &[Subresource] = &[SCALE, part("status", "ReplicaSet", PART_VERBS)];

type Names = (&'static [&'static str], &'static [&'static str]);

/// Short names and categories, verbs, subresources.
fn facts(key: ResourceKey) -> (Names, &'static [&'static str], &'static [Subresource]) {
    const ALL: &[&str] = &["all"];
    match key {
        resources::NAMESPACES => ((&["ns"], &[]), NAMESPACE_VERBS, NAMESPACE_PARTS),
        resources::NODES => ((&["no"], &[]), ALL_VERBS, NODE_PARTS),
        resources::PODS => ((&["po"], ALL), ALL_VERBS, POD_PARTS),
        resources::SERVICES => ((&["svc"], ALL), ALL_VERBS, SERVICE_PARTS),
        resources::CONFIG_MAPS => ((&["cm"], &[]), ALL_VERBS, &[]),
        resources::SERVICE_ACCOUNTS => ((&["sa"], &[]), ALL_VERBS, SERVICE_ACCOUNT_PARTS),
        resources::EVENTS => ((&["ev"], &[]), ALL_VERBS, &[]),
        resources::DEPLOYMENTS => ((&["deploy"], ALL), ALL_VERBS, DEPLOYMENT_PARTS),
        resources::REPLICA_SETS => ((&["rs"], ALL), ALL_VERBS, REPLICA_SET_PARTS),
        _ => ((&[], &[]), ALL_VERBS, &[]),
    }
}

static RESOURCES: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    let stored = resources::ALL.iter().map(|key| {
        let ((short_names, categories), verbs, subresources) = facts(*key);
        let strategy = kinds::strategy(key);
        Resource { key: *key, singular: singular(key), short_names, categories, verbs, subresources, strategy }
    });
    let reviews = reviews::ALL.iter().map(|key| Resource {
        key: *key,
        singular: singular(key),
        short_names: &[],
        categories: &[],
        verbs: CREATE,
        subresources: &[],
        strategy: &reviews::Review,
    });
    let mut resources: Vec<Resource> = stored.chain(reviews).collect();
    resources.sort_by_key(|resource| (group_priority(resource.key.group), resource.key.plural));
    resources
});

/// The table lives as long as the process, and so may its text.
fn singular(key: &ResourceKey) -> &'static str {
    key.kind.to_lowercase().leak()
}

/// Order in which discovery names the groups; clients resolve a short name to the first that has it.
fn group_priority(group: &str) -> (usize, &str) {
    const ORDER: [&str; 7] = [
        "",
        "apps",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "rbac.authorization.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
    ];
    (ORDER.iter().position(|known| *known == group).unwrap_or(ORDER.len()), group)
}

/// Every resource, groups in the order of discovery, resources by name.
#[must_use]
pub fn all() -> &'static [Resource] {
    &RESOURCES
}

/// The resource that a path names.
#[must_use]
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    all().iter().find(|resource| resource.key.plural == plural && resource.key.group == group && resource.key.version == version)
}

/// The resource whose objects are of this kind.
#[must_use]
pub fn find_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    all().iter().find(|resource| resource.key.kind == kind && resource.key.group == group && resource.key.version == version)
}

/// The resource with this key.
#[must_use]
pub fn of(key: &ResourceKey) -> Option<&'static Resource> {
    find(key.group, key.version, key.plural)
}

/// Group versions in the order of discovery.
#[must_use]
pub fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut list: Vec<_> = all().iter().map(|resource| (resource.key.group, resource.key.version)).collect();
    list.dedup();
    list
}

impl Resource {
    /// Whether objects are kept; reviews are answered and forgotten.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.verbs.contains(&"get")
    }

    /// `pods` or `deployments.apps`.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.key.group.is_empty() { self.key.plural.to_owned() } else { format!("{}.{}", self.key.plural, self.key.group) }
    }

    /// Kind of a list of objects.
    #[must_use]
    pub fn list_kind(&self) -> String {
        format!("{}List", self.key.kind)
    }

    /// A subresource by its name.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|part| part.name == name)
    }

    /// Type of the objects in the schema table.
    #[must_use]
    pub fn type_(&self) -> Option<&'static Type> {
        schema::of(&self.key)
    }
}

impl Subresource {
    /// Type of what is sent and received; `None` for a kind that the schema does not describe.
    #[must_use]
    pub fn type_(&self, resource: &ResourceKey) -> Option<&'static Type> {
        let (group, version) = self.group_version.unwrap_or((resource.group, resource.version));
        schema::find(&schema::type_name(group, version, self.kind))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reference;
    use serde_json::Value;

    #[test]
    fn entries_are_found_by_path_and_by_kind() {
        for resource in all() {
            assert_eq!(of(&resource.key).unwrap().key, resource.key);
            assert_eq!(find_kind(&resource.key.api_version(), resource.key.kind).unwrap().key, resource.key);
        }
        assert!(find("apps", "v1", "pods").is_none());
    }

    /// Aim: kubectl finds what it finds on a real v1.36 server. Method: our entries, one by one,
    /// against its discovery documents.
    #[test]
    fn entries_are_those_of_kubernetes() {
        for resource in all() {
            let file = match resource.key.group {
                "" => "api__v1.json".to_owned(),
                group => format!("apis__{group}__{}.json", resource.key.version),
            };
            let Some(document) = reference::discovery(&file) else { return };
            let entry = |name: &str| -> Value {
                let list = document["resources"].as_array().unwrap();
                list.iter().find(|entry| entry["name"] == name).unwrap_or(&Value::Null).clone()
            };
            let words = |entry: &Value, field: &str| -> Vec<String> {
                serde_json::from_value(entry.get(field).cloned().unwrap_or_else(|| Value::Array(vec![]))).unwrap()
            };
            let found = entry(resource.key.plural);
            assert_eq!(found["kind"], resource.key.kind, "{resource:?}");
            assert_eq!(found["namespaced"], resource.key.namespaced, "{resource:?}");
            assert_eq!(found["singularName"], resource.singular, "{resource:?}");
            assert_eq!(words(&found, "verbs"), resource.verbs, "{resource:?}");
            assert_eq!(words(&found, "shortNames"), resource.short_names, "{resource:?}");
            assert_eq!(words(&found, "categories"), resource.categories, "{resource:?}");
            for part in resource.subresources {
                let found = entry(&format!("{}/{}", resource.key.plural, part.name));
                assert_eq!(found["kind"], part.kind, "{resource:?} {part:?}");
                assert_eq!(words(&found, "verbs"), part.verbs, "{resource:?} {part:?}");
                let (group, version) = part.group_version.unwrap_or_default();
                assert_eq!(found["group"].as_str().unwrap_or_default(), group, "{resource:?} {part:?}");
                assert_eq!(found["version"].as_str().unwrap_or_default(), version, "{resource:?} {part:?}");
            }
        }
    }
}
