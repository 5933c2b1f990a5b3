//! Which resources an entry of the configuration names, and what it may not name.

use std::fmt;

use kontiki_api::field::FieldError;
use serde_json::json;

/// A resource of a group; `*` stands for every one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupResource {
    /// Group; empty for the core's.
    pub group: String,
    /// Plural.
    pub resource: String,
}

impl GroupResource {
    /// Reads `deployments.apps`, `*.apps`, `*.` or `*.*`.
    pub fn parse(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self { group: group.to_owned(), resource: resource.to_owned() }
    }

    /// Every resource of a group.
    pub fn all_of(group: &str) -> Self {
        Self { group: group.to_owned(), resource: "*".to_owned() }
    }

    /// Every resource.
    pub fn all() -> Self {
        Self::all_of("*")
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.group.as_str(), self.resource.as_str()) {
            ("", "*") => formatter.write_str("*."),
            ("", resource) => formatter.write_str(resource),
            (group, resource) => write!(formatter, "{resource}.{group}"),
        }
    }
}

/// One list may name a resource once, and no wildcard beside what it covers.
pub fn check_overlaps(path: &str, names: &[String]) -> Vec<FieldError> {
    let resources: Vec<GroupResource> = names.iter().map(|name| GroupResource::parse(name)).collect();
    let (mut twice, mut covered) = (false, false);
    for (index, one) in resources.iter().enumerate() {
        for (_, other) in resources.iter().enumerate().filter(|(position, _)| *position != index) {
            if one == other {
                twice = true;
            } else if *one == GroupResource::all() || one.group == other.group && one.resource == "*" {
                covered = true;
            }
        }
    }
    let refuse = |detail: &str| FieldError::invalid(path, &json!(names), detail);
    let twice = twice.then(|| refuse("the same resource cannot be specified multiple times"));
    let covered = covered.then(|| {
        refuse("using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked")
    });
    twice.into_iter().chain(covered).collect()
}

/// What can be named.
pub fn check_names(path: &str, names: &[String]) -> Vec<FieldError> {
    let check = |(index, name): (usize, &String)| {
        let detail = problem(name)?;
        Some(FieldError::invalid(format!("{path}[{index}]"), &json!(name), detail))
    };
    names.iter().enumerate().filter_map(check).collect()
}

fn problem(name: &str) -> Option<&'static str> {
    if name.to_lowercase() != name {
        return Some("resource name should not contain capital letters");
    }
    let GroupResource { group, resource } = GroupResource::parse(name);
    match (name, group.as_str()) {
        ("*", _) => Some("use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"),
        ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", _) => {
            Some("resources which do not have REST API/s cannot be encrypted")
        }
        (_, "events.k8s.io") => Some(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
        ),
        (_, "extensions") => Some("'extensions' group has been removed and cannot be used for encryption"),
        (_, "*") if resource != "*" => Some("encrypting the same resource across groups is not supported"),
        _ => None,
    }
}
