//! Discovery with what others serve. Pure: a document that speaks of this server's own resources goes in, one that
//! speaks of all comes out, groups and versions by their priorities.

use std::cmp::Reverse;

use kontiki_api::{
    custom::versions,
    registry::priority::{self, Priority},
};
use serde_json::{Value, json};

use super::{Extension, Table};

impl Table {
    /// The priority of a group version, whoever serves it.
    fn priority_of(&self, group: &str, version: &str) -> Priority {
        self.find(group, version).map_or_else(|| priority::of_served(group, version), |extension| extension.priority)
    }
}

/// `/apis` in its legacy form.
#[must_use]
pub fn group_list(mut document: Value, table: &Table) -> Value {
    let groups = document["groups"].as_array_mut();
    if let Some(groups) = groups.filter(|_| !table.extensions.is_empty()) {
        add(groups, table, |group| group["name"].as_str().unwrap_or_default(), |name| json!({ "name": name }), legacy_version);
        for group in groups {
            group["preferredVersion"] = group["versions"][0].clone();
        }
    }
    document
}

/// `/apis/GROUP`, with what this server itself says of the group.
#[must_use]
pub fn group(own: Option<Value>, name: &str, table: &Table) -> Option<Value> {
    if table.extensions.iter().all(|extension| extension.group != name) {
        return own;
    }
    let list = group_list(json!({ "groups": own.into_iter().collect::<Vec<_>>() }), table);
    let mut found = list["groups"].as_array()?.iter().find(|group| group["name"] == name)?.clone();
    found["kind"] = "APIGroup".into();
    found["apiVersion"] = "v1".into();
    Some(found)
}

/// `/apis` in its aggregated form.
#[must_use]
pub fn aggregated(mut document: Value, table: &Table) -> Value {
    let items = document["items"].as_array_mut();
    if let Some(items) = items.filter(|_| !table.extensions.is_empty()) {
        let make = |name: &str| json!({ "metadata": { "name": name } });
        add(items, table, |group| group["metadata"]["name"].as_str().unwrap_or_default(), make, aggregated_version);
    }
    document
}

fn legacy_version(extension: &Extension) -> Value {
    json!({ "groupVersion": format!("{}/{}", extension.group, extension.version), "version": extension.version })
}

fn aggregated_version(extension: &Extension) -> Value {
    let documents = &extension.documents;
    let freshness = if documents.is_current { "Current" } else { "Stale" };
    let mut entry = json!({ "version": extension.version, "freshness": freshness });
    if let Some(resources) = &documents.resources {
        entry["resources"] = resources.clone();
    }
    entry
}

fn add(
    groups: &mut Vec<Value>,
    table: &Table,
    name: impl for<'a> Fn(&'a Value) -> &'a str,
    make: impl Fn(&str) -> Value,
    version: impl Fn(&Extension) -> Value,
) {
    for extension in &table.extensions {
        let position = groups.iter().position(|group| name(group) == extension.group).unwrap_or_else(|| {
            groups.push(make(&extension.group));
            groups.len() - 1
        });
        let Some(group) = groups.get_mut(position) else { continue };
        if !group["versions"].is_array() {
            group["versions"] = json!([]);
        }
        let Some(versions) = group["versions"].as_array_mut() else { continue };
        versions.retain(|known| known["version"] != extension.version);
        versions.push(version(extension));
        versions.sort_by_cached_key(|known| {
            let version = known["version"].as_str().unwrap_or_default();
            (Reverse(table.priority_of(&extension.group, version).1), versions::rank(version))
        });
    }
    groups.sort_by_cached_key(|group| {
        let group_name = name(group).to_owned();
        let versions = group["versions"].as_array().into_iter().flatten();
        let of = |known: &Value| {
            let version = known["version"].as_str().unwrap_or_default();
            (Reverse(table.priority_of(&group_name, version).0), format!("{version}.{group_name}"))
        };
        versions.map(of).min()
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use kontiki_api::{discovery, registry};

    use super::*;
    use crate::aggregation::{Backend, Documents};

    fn extension(group: &str, version: &str, priority: Priority, resources: Option<Value>) -> Extension {
        let documents = Documents { is_current: resources.is_some(), resources, ..Documents::default() };
        let (group, version) = (group.to_owned(), version.to_owned());
        Extension { group, version, priority, backend: Backend::Metrics, documents: Arc::new(documents) }
    }

    fn names(document: &Value, list: &str, pointer: &str) -> Vec<String> {
        let groups = document[list].as_array().unwrap().iter();
        groups.map(|group| group.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn own_groups_stand_as_they_stood() {
        let served = registry::with_custom(&[]);
        let own = discovery::api_group_list(&served);
        let table = Table::new(vec![extension("wardle.example.com", "v1alpha1", (2000, 200), None)]);
        let all = group_list(own.clone(), &table);
        let (own, mut all) = (names(&own, "groups", "/name"), names(&all, "groups", "/name"));
        assert_eq!(all.pop().unwrap(), "wardle.example.com");
        assert_eq!(all, own);
    }

    #[test]
    fn versions_and_groups_come_by_priority() {
        let resources = json!([{ "resource": "flunders" }]);
        let table = Table::new(vec![
            extension("b.example", "v1alpha1", (2000, 10), Some(resources.clone())),
            extension("b.example", "v1", (900, 10), None),
            extension("a.example", "v1", (2000, 10), None),
            extension("batch", "v9", (100, 99), None),
            extension("first.example", "v1", (19_000, 1), None),
        ]);
        let served = registry::with_custom(&[]);
        let all = group_list(discovery::api_group_list(&served), &table);
        let found = names(&all, "groups", "/name");
        assert_eq!(
            (found[0].as_str(), found[1].as_str(), found[2].as_str()),
            ("apiregistration.k8s.io", "first.example", "apps")
        );
        assert_eq!(&found[found.len() - 2..], ["a.example", "b.example"]);
        let batch = group(discovery::api_group(&served, "batch"), "batch", &table).unwrap();
        assert_eq!((&batch["preferredVersion"]["version"], &batch["kind"]), (&json!("v9"), &json!("APIGroup")));
        let all = aggregated(discovery::aggregated(&served, false, "v2"), &table);
        let last = all["items"].as_array().unwrap().last().unwrap();
        assert_eq!(last["versions"][0], json!({ "version": "v1", "freshness": "Stale" }));
        assert_eq!(last["versions"][1], json!({ "version": "v1alpha1", "freshness": "Current", "resources": resources }));
    }
}
