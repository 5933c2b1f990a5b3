//! Every resource that the API serves: one entry each.
//!
//! Discovery, OpenAPI, the router, the gRPC service and tables are all made from this list. A new
//! kind is one line here, its strategy in `kinds/`, and its types in the schema table. Verbs, short
//! names and categories are v1.36's; a test compares them with its discovery documents.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use serde_json::Value;

use crate::conversion::Conversion;
use crate::decode::{self, Decoded, Expected, FieldValidation};
use crate::kinds;
use crate::patch::{self, PatchType, Patched};
use crate::resources::ResourceKey;
use crate::schema::{self, Type};
use crate::status::Status;
use crate::strategy::Strategy;

mod entries;
pub mod priority;
pub mod reviews;
mod stored;
mod update;
pub mod versions;

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
    /// Prefix of its objects' keys in the store, with a slash at the end.
    pub prefix: String,
    /// The resource as it is stored: itself, unless another version is.
    pub stored_as: ResourceKey,
    /// From and to what is stored, where that is another version.
    pub conversion: Option<&'static dyn Conversion>,
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

static RESOURCES: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    let mut resources: Vec<Resource> = entries::ENTRIES.iter().map(resource).collect();
    // The core group has documents of its own, which come first.
    let rank = |resource: &Resource| {
        let (key, (group, version)) = (resource.key, priority::of_served(resource.key.group, resource.key.version));
        (!key.group.is_empty(), Reverse(group), key.group, Reverse(version), key.plural)
    };
    resources.sort_by_key(rank);
    resources
});

fn resource(entry: &entries::Entry) -> Resource {
    let stored = stored::of(&entry.key);
    Resource {
        key: entry.key,
        singular: singular(&entry.key),
        short_names: entry.short_names,
        categories: entry.categories,
        verbs: entry.verbs,
        subresources: entry.subresources,
        strategy: kinds::strategy(&entry.key),
        prefix: stored::prefix(&stored.key),
        stored_as: stored.key,
        conversion: stored.conversion,
    }
}

/// Position of each resource by group, version and plural.
static BY_PATH: LazyLock<HashMap<(&'static str, &'static str, &'static str), usize>> = LazyLock::new(|| {
    let path = |(index, resource): (usize, &Resource)| ((resource.key.group, resource.key.version, resource.key.plural), index);
    all().iter().enumerate().map(path).collect()
});

/// The table lives as long as the process, and so may its text.
fn singular(key: &ResourceKey) -> &'static str {
    key.kind.to_lowercase().leak()
}

/// Every resource, groups in the order of discovery, resources by name.
#[must_use]
pub fn all() -> &'static [Resource] {
    &RESOURCES
}

/// Built-in resources, then those that definitions have added, in the order of discovery.
#[must_use]
pub fn with_custom(custom: &[&'static Resource]) -> Vec<&'static Resource> {
    all().iter().chain(custom.iter().copied()).collect()
}

/// The resource that a path names.
#[must_use]
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    let by_path: &HashMap<(&str, &str, &str), usize> = &BY_PATH;
    by_path.get(&(group, version, plural)).and_then(|index| all().get(*index))
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
    group_versions_of(&with_custom(&[]))
}

/// Group versions of a list, in its order.
#[must_use]
pub fn group_versions_of(resources: &[&'static Resource]) -> Vec<(&'static str, &'static str)> {
    let mut list: Vec<_> = resources.iter().map(|resource| (resource.key.group, resource.key.version)).collect();
    list.dedup();
    list
}

impl Resource {
    /// Decodes the body of a create or update.
    ///
    /// # Errors
    /// 400 BadRequest in the words of Kubernetes' decoder.
    pub fn decode(&self, body: &[u8], validation: FieldValidation) -> Result<Decoded, Status> {
        if let Some(served) = self.strategy.custom() {
            return served.decode(body, validation);
        }
        let expected = Expected::of(self).ok_or_else(|| Status::internal_error("the kind has no schema"))?;
        decode::decode(body, expected, validation)
    }

    /// Applies a patch to an object as it is served.
    ///
    /// # Errors
    /// 400, 415 or 422.
    pub fn patch(
        &self,
        patch_type: PatchType,
        object: &Value,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<Patched, Status> {
        if let Some(served) = self.strategy.custom() {
            return served.patch(patch_type, object, body, validation);
        }
        let type_ = self.type_().ok_or_else(|| Status::internal_error("the kind has no schema"))?;
        patch::apply(patch_type, object, body, type_, validation)
    }

    /// Takes out of an object what its kind does not know, after somebody else has changed it.
    ///
    /// # Errors
    /// It is no object of the kind.
    pub fn clean(&self, object: &mut Value) -> Result<(), Status> {
        if let Some(served) = self.strategy.custom() {
            return served.clean(object).map(|_| ());
        }
        let Some(type_) = self.type_() else { return Ok(()) };
        let (cleaned, findings) = decode::walk_value(object.take(), type_, decode::Dialect::Json);
        *object = cleaned;
        match findings.error {
            Some(error) => Err(Status::internal_error(error)),
            None => Ok(()),
        }
    }

    /// Whether objects are kept; reviews are answered and forgotten, component statuses made on request.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.verbs.contains(&"watch")
    }

    /// The resource as it is stored: what validation, columns and selectors know.
    #[must_use]
    pub fn stored(&self) -> &Self {
        if self.conversion.is_none() { self } else { of(&self.stored_as).unwrap_or(self) }
    }

    /// An object of this resource, defaulted, as it is stored.
    #[must_use]
    pub fn to_stored(&self, served: Value) -> Value {
        match self.conversion {
            Some(conversion) => conversion.to_stored(served),
            None => served,
        }
    }

    /// A stored object as this resource serves it.
    #[must_use]
    pub fn to_served(&self, stored: Value) -> Value {
        match self.conversion {
            Some(conversion) => conversion.to_served(stored),
            None => stored,
        }
    }

    /// The stored name of a field that a selector may name beside name and namespace; `None` if it may not.
    #[must_use]
    pub fn selectable_field(&self, path: &str) -> Option<String> {
        if let Some(served) = self.strategy.custom() {
            return served.version().selectable_fields.iter().find(|(known, _)| known == path).map(|(known, _)| known.clone());
        }
        let path = match self.conversion {
            Some(conversion) => conversion.stored_field(path)?,
            None => path,
        };
        self.stored().strategy.selectable_fields().iter().find(|known| **known == path).map(|known| (*known).to_owned())
    }

    /// `pods` or `deployments.apps`.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.key.group.is_empty() { self.key.plural.to_owned() } else { format!("{}.{}", self.key.plural, self.key.group) }
    }

    /// Kind of a list of objects.
    #[must_use]
    pub fn list_kind(&self) -> String {
        if let Some(served) = self.strategy.custom().filter(|served| !served.definition.names.list_kind.is_empty()) {
            return served.definition.names.list_kind.clone();
        }
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

    /// Paths of v1.36's stable groups that are not ours, each with its reason.
    const ABSENT: [(&str, &str); 0] = [];

    /// What a discovery document says of one resource or subresource, in one line.
    fn line(entry: &Value) -> String {
        let words = |field: &str| entry[field].as_array().map_or_else(String::new, |list| Value::from(list.clone()).to_string());
        let [name, kind, singular] = ["name", "kind", "singularName"].map(|field| entry[field].as_str().unwrap_or_default());
        let [group, version] = ["group", "version"].map(|field| entry[field].as_str().unwrap_or_default());
        let [verbs, short, categories] = ["verbs", "shortNames", "categories"].map(words);
        format!("{name} {kind} {singular} {} {group}/{version} {verbs} {short} {categories}", entry["namespaced"])
    }

    /// Aim: kubectl finds what it finds on a real v1.36 server. Method: both directions, our entries
    /// against its discovery documents of every stable version.
    #[test]
    fn entries_are_those_of_kubernetes() {
        for (group, version) in group_versions() {
            let file = if group.is_empty() { "api__v1.json".to_owned() } else { format!("apis__{group}__{version}.json") };
            let Some(theirs) = reference::discovery(&file) else { return };
            let ours = crate::discovery::api_resource_list(&with_custom(&[]), group, version).unwrap();
            let lines = |document: &Value| -> Vec<String> {
                let mut lines: Vec<_> = document["resources"].as_array().unwrap().iter().map(line).collect();
                lines.retain(|line| !ABSENT.iter().any(|(absent, _)| line.starts_with(&format!("{absent} "))));
                lines.sort();
                lines
            };
            assert_eq!(lines(&ours), lines(&theirs), "{group}/{version}");
        }
    }

    #[test]
    fn every_stable_group_version_is_served_in_the_order_of_kubernetes() {
        let Some(theirs) = reference::discovery("apis.json") else { return };
        let groups = theirs["groups"].as_array().unwrap().iter().flat_map(|group| {
            let name = group["name"].as_str().unwrap().to_owned();
            group["versions"].as_array().unwrap().iter().map(move |entry| (name.clone(), entry["version"].as_str().unwrap()))
        });
        let stable: Vec<(String, String)> = groups
            .filter(|(_, version)| !version.contains("alpha") && !version.contains("beta"))
            .map(|(group, version)| (group, version.to_owned()))
            .collect();
        let ours: Vec<_> =
            group_versions().into_iter().skip(1).map(|(group, version)| (group.to_owned(), version.to_owned())).collect();
        assert_eq!(ours, stable);
    }

    #[test]
    fn several_versions_are_one_stored_object() {
        let (new, old) = (find("events.k8s.io", "v1", "events").unwrap(), find("", "v1", "events").unwrap());
        assert_eq!((new.prefix.as_str(), new.stored().key), (old.prefix.as_str(), old.key));
        assert_eq!(new.selectable_field("regarding.kind"), Some("involvedObject.kind".to_owned()));
        assert_eq!((new.selectable_field("involvedObject.kind"), old.selectable_field("regarding.kind")), (None, None));
        let v1 = find("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        assert_eq!(v1.stored().key.version, "v2");
    }
}
