//! Every resource that the API serves: one entry each.
//!
//! Discovery, OpenAPI, the router, the gRPC service and tables are all made from this list. A new
//! kind is one line here, its strategy in `kinds/`, and its types in the schema table. Verbs, short
//! names and categories are v1.36's; a test compares them with its discovery documents.

use std::sync::LazyLock;

use crate::resources::{self, ResourceKey};
use crate::schema::{self, Type};
use crate::strategy::Strategy;

/// One resource.
pub struct Resource {
    /// Group, version, plural, kind and scope.
    pub key: ResourceKey,
    /// Lower-case singular, such as `pod`.
    pub singular: String,
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
    /// Whether objects are stored; the others are questions that the API server answers.
    pub stored: bool,
}

/// A part of an object, or an action on it, with a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Last segment of the path, such as `status`.
    pub name: &'static str,
    /// Group of the kind where it is not the resource's own.
    pub group: Option<&'static str>,
    /// Kind of what is sent and received.
    pub kind: &'static str,
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
}

const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const NAMESPACE_VERBS: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
const PART_VERBS: &[&str] = &["get", "patch", "update"];

const fn part(name: &'static str, kind: &'static str, verbs: &'static [&'static str]) -> Subresource {
    Subresource { name, group: None, kind, verbs }
}

const fn scale() -> Subresource {
    Subresource { name: "scale", group: Some("autoscaling"), kind: "Scale", verbs: PART_VERBS }
}

const NAMESPACE_PARTS: &[Subresource] =
    &[part("finalize", "Namespace", &["update"]), part("status", "Namespace", PART_VERBS)];
const NODE_PARTS: &[Subresource] = &[part("status", "Node", PART_VERBS)];
const POD_PARTS: &[Subresource] = &[
    part("binding", "Binding", CREATE),
    part("exec", "PodExecOptions", &["create", "get"]),
    part("log", "Pod", &["get"]),
    part("status", "Pod", PART_VERBS),
];
const SERVICE_PARTS: &[Subresource] = &[part("status", "Service", PART_VERBS)];
const SERVICE_ACCOUNT_PARTS: &[Subresource] =
    &[Subresource { name: "token", group: Some("authentication.k8s.io"), kind: "TokenRequest", verbs: CREATE }];
const DEPLOYMENT_PARTS: &[Subresource] = &[scale(), part("status", "Deployment", PART_VERBS)];
const REPLICA_SET_PARTS: &[Subresource] = &[scale(), part("status", "ReplicaSet", PART_VERBS)];

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
        let strategy: &'static dyn Strategy = &permissive::Permissive;
        let singular = key.kind.to_lowercase();
        Resource { key: *key, singular, short_names, categories, verbs, subresources, strategy, stored: true }
    });
    let questions = questions::ALL.iter().map(|key| Resource {
        key: *key,
        singular: key.kind.to_lowercase(),
        short_names: &[],
        categories: &[],
        verbs: CREATE,
        subresources: &[],
        strategy: &questions::Question,
        stored: false,
    });
    let mut resources: Vec<Resource> = stored.chain(questions).collect();
    resources.sort_by_key(|resource| (group_priority(resource.key.group), resource.key.plural));
    resources
});

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
    all().iter().find(|resource| {
        resource.key.plural == plural && resource.key.group == group && resource.key.version == version
    })
}

/// The resource whose objects are of this kind.
#[must_use]
pub fn find_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    all().iter().find(|resource| {
        resource.key.kind == kind && resource.key.group == group && resource.key.version == version
    })
}

/// Group versions in the order of discovery.
#[must_use]
pub fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut list: Vec<_> = all().iter().map(|resource| (resource.key.group, resource.key.version)).collect();
    list.dedup();
    list
}

impl Resource {
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
    /// Version of the kind where it is not the resource's own.
    #[must_use]
    pub fn version(&self) -> Option<&'static str> {
        self.group.map(|_| "v1")
    }

    /// Type of what is sent and received; `None` for a kind that the schema does not describe.
    #[must_use]
    pub fn type_(&self, resource: &ResourceKey) -> Option<&'static Type> {
        let group = self.group.unwrap_or(resource.group);
        schema::find(&schema::type_name(group, self.version().unwrap_or(resource.version), self.kind))
    }
}

/// Resources that are asked, not stored.
pub mod questions {
    use jiff::Timestamp;
    use serde_json::Value;

    use crate::field::FieldError;
    use crate::resources::ResourceKey;
    use crate::strategy::{Column, Strategy};

    const fn question(group: &'static str, plural: &'static str, kind: &'static str, namespaced: bool) -> ResourceKey {
        ResourceKey { group, version: "v1", plural, kind, namespaced }
    }

    const AUTHENTICATION: &str = "authentication.k8s.io";
    const AUTHORIZATION: &str = "authorization.k8s.io";

    /// Who am I.
    pub const SELF_SUBJECT_REVIEWS: ResourceKey =
        question(AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview", false);
    /// Whose token is this.
    pub const TOKEN_REVIEWS: ResourceKey = question(AUTHENTICATION, "tokenreviews", "TokenReview", false);
    /// May somebody do this in a namespace.
    pub const LOCAL_SUBJECT_ACCESS_REVIEWS: ResourceKey =
        question(AUTHORIZATION, "localsubjectaccessreviews", "LocalSubjectAccessReview", true);
    /// May I do this.
    pub const SELF_SUBJECT_ACCESS_REVIEWS: ResourceKey =
        question(AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview", false);
    /// What may I do in a namespace.
    pub const SELF_SUBJECT_RULES_REVIEWS: ResourceKey =
        question(AUTHORIZATION, "selfsubjectrulesreviews", "SelfSubjectRulesReview", false);
    /// May somebody do this.
    pub const SUBJECT_ACCESS_REVIEWS: ResourceKey =
        question(AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview", false);

    /// Every constant of this module.
    pub const ALL: &[ResourceKey] = &[
        SELF_SUBJECT_REVIEWS,
        TOKEN_REVIEWS,
        LOCAL_SUBJECT_ACCESS_REVIEWS,
        SELF_SUBJECT_ACCESS_REVIEWS,
        SELF_SUBJECT_RULES_REVIEWS,
        SUBJECT_ACCESS_REVIEWS,
    ];

    /// A question has nothing to default, and its answerer judges it.
    pub(super) struct Question;

    impl Strategy for Question {
        fn validate(&self, _object: &Value) -> Vec<FieldError> {
            Vec::new()
        }

        fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
            Vec::new()
        }

        fn columns(&self) -> &'static [Column] {
            &[]
        }

        fn cells(&self, _object: &Value, _now: Timestamp) -> Vec<Value> {
            Vec::new()
        }
    }
}

/// Stands in for the strategies of `kinds/`: nothing is defaulted, nothing refused.
mod permissive {
    use jiff::Timestamp;
    use serde_json::Value;

    use crate::field::FieldError;
    use crate::object::text;
    use crate::strategy::{Column, Strategy};

    pub(super) struct Permissive;

    impl Strategy for Permissive {
        fn validate(&self, _object: &Value) -> Vec<FieldError> {
            Vec::new()
        }

        fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
            Vec::new()
        }

        fn columns(&self) -> &'static [Column] {
            const NAME: Column =
                Column { name: "Name", type_: "string", format: "name", priority: 0, description: "Name of the object." };
            &[NAME]
        }

        fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
            vec![text(object, "/metadata/name").into()]
        }
    }
}
