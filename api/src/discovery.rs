//! Discovery: which groups, versions and resources there are.
//!
//! Made from the registry, in the legacy form (a document for each group and version) and in the
//! aggregated one (two documents for everything), which clients since 1.26 ask for.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

use crate::registry::{self, Resource, Subresource};

/// Versions of the aggregated form.
pub const AGGREGATED_VERSIONS: [&str; 2] = ["v2", "v2beta1"];

/// `/api`: versions of the core group. `address` is where clients reach this server.
#[must_use]
pub fn api_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
    })
}

/// `/apis`: every group but the core group.
#[must_use]
pub fn api_group_list() -> Value {
    let groups: Value = group_names().into_iter().filter(|group| !group.is_empty()).map(group_entry).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/GROUP`; `None` for a group that is not served.
#[must_use]
pub fn api_group(group: &str) -> Option<Value> {
    let known = group_names().into_iter().find(|known| *known == group && !known.is_empty())?;
    let mut document = group_entry(known);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    Some(document)
}

/// `/api/v1` and `/apis/GROUP/VERSION`; `None` for a group version that is not served.
#[must_use]
pub fn api_resource_list(group: &str, version: &str) -> Option<Value> {
    let mut resources: Vec<Value> = Vec::new();
    for resource in resources_of(group, version) {
        resources.push(resource_entry(resource));
        resources.extend(resource.subresources.iter().map(|part| subresource_entry(resource, part)));
    }
    if resources.is_empty() {
        return None;
    }
    let mut document = json!({
        "kind": "APIResourceList",
        "groupVersion": group_version(group, version),
        "resources": resources,
    });
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    Some(document)
}

/// `/api` (`core`) or `/apis` in the aggregated form, in one of [`AGGREGATED_VERSIONS`].
#[must_use]
pub fn aggregated(core: bool, form: &str) -> Value {
    let groups = group_names().into_iter().filter(|group| group.is_empty() == core);
    let items: Value = groups.map(aggregated_group).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{form}"),
        "metadata": {},
        "items": items,
    })
}

/// `ETag` of a document: clients send it back in `If-None-Match` and get 304 if nothing changed.
#[must_use]
pub fn etag(document: &[u8]) -> String {
    let digits: String = Sha512::digest(document).iter().map(|byte| format!("{byte:02X}")).collect();
    format!("\"{digits}\"")
}

/// Groups in the order of discovery.
fn group_names() -> Vec<&'static str> {
    let mut groups: Vec<_> = registry::group_versions().into_iter().map(|(group, _)| group).collect();
    groups.dedup();
    groups
}

fn versions_of(group: &str) -> impl Iterator<Item = &'static str> {
    registry::group_versions().into_iter().filter(move |(known, _)| *known == group).map(|(_, version)| version)
}

fn resources_of(group: &str, version: &str) -> impl Iterator<Item = &'static Resource> {
    registry::all().iter().filter(move |resource| resource.key.group == group && resource.key.version == version)
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn group_entry(group: &'static str) -> Value {
    let entry = |version: &str| json!({ "groupVersion": group_version(group, version), "version": version });
    let versions: Vec<Value> = versions_of(group).map(entry).collect();
    json!({ "name": group, "versions": versions, "preferredVersion": versions.first() })
}

fn put_words(entry: &mut Value, field: &str, words: &[&str]) {
    if !words.is_empty() {
        entry[field] = words.into();
    }
}

fn resource_entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.key.plural,
        "singularName": resource.singular,
        "namespaced": resource.key.namespaced,
        "kind": resource.key.kind,
        "verbs": resource.verbs,
    });
    put_words(&mut entry, "shortNames", resource.short_names);
    put_words(&mut entry, "categories", resource.categories);
    entry
}

fn subresource_entry(resource: &Resource, part: &Subresource) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", resource.key.plural, part.name),
        "singularName": "",
        "namespaced": resource.key.namespaced,
        "kind": part.kind,
        "verbs": part.verbs,
    });
    if let Some((group, version)) = part.group_version {
        entry["group"] = group.into();
        entry["version"] = version.into();
    }
    entry
}

fn aggregated_group(group: &'static str) -> Value {
    let version_entry = |version: &'static str| {
        let resources: Value = resources_of(group, version).map(aggregated_resource).collect();
        json!({ "version": version, "freshness": "Current", "resources": resources })
    };
    let versions: Value = versions_of(group).map(version_entry).collect();
    let mut metadata = Map::new();
    if !group.is_empty() {
        metadata.insert("name".to_owned(), group.into());
    }
    json!({ "metadata": metadata, "versions": versions })
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = |kind: &str, (group, version): (&str, &str)| json!({ "group": group, "version": version, "kind": kind });
    let mut entry = json!({
        "resource": resource.key.plural,
        "responseKind": kind(resource.key.kind, ("", "")),
        "scope": if resource.key.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    put_words(&mut entry, "shortNames", resource.short_names);
    put_words(&mut entry, "categories", resource.categories);
    if !resource.subresources.is_empty() {
        let parts = resource.subresources.iter().map(|part| {
            json!({
                "subresource": part.name,
                "responseKind": kind(part.kind, part.group_version.unwrap_or_default()),
                "verbs": part.verbs,
            })
        });
        entry["subresources"] = parts.collect();
    }
    entry
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reference;

    /// Each of our entries that the reference has too, and the reference's.
    fn check_subset(ours: &Value, theirs: &Value, key: &str, ignored: &[&str]) {
        for entry in ours.as_array().unwrap() {
            let list = theirs.as_array().unwrap();
            let mut found = list.iter().find(|other| other[key] == entry[key]).unwrap_or_else(|| panic!("{entry}")).clone();
            found.as_object_mut().unwrap().retain(|name, _| !ignored.contains(&name.as_str()));
            let mut entry = entry.clone();
            entry.as_object_mut().unwrap().retain(|name, _| !ignored.contains(&name.as_str()));
            assert_eq!(entry, found);
        }
    }

    #[test]
    fn documents_are_those_of_kubernetes() {
        for (group, version) in registry::group_versions() {
            let ours = api_resource_list(group, version).unwrap();
            let file = match group {
                "" => "api__v1.json".to_owned(),
                group => format!("apis__{group}__{version}.json"),
            };
            let Some(mut theirs) = reference::discovery(&file) else { return };
            check_subset(&ours["resources"], &theirs["resources"], "name", &["storageVersionHash"]);
            let mut ours = ours.clone();
            for document in [&mut ours, &mut theirs] {
                document.as_object_mut().unwrap().remove("resources");
            }
            assert_eq!(ours, theirs);
            if !group.is_empty() {
                let mut theirs = reference::discovery(&format!("apis__{group}.json")).unwrap();
                let served = |entry: &Value| versions_of(group).any(|version| entry["version"] == version);
                theirs["versions"].as_array_mut().unwrap().retain(served);
                assert_eq!(api_group(group), Some(theirs));
            }
        }
    }

    #[test]
    fn the_aggregated_form_is_that_of_kubernetes() {
        let ours = aggregated(false, "v2");
        let Some(theirs) = reference::discovery("aggregated_v2.json") else { return };
        assert_eq!((&ours["kind"], &ours["apiVersion"]), (&theirs["kind"], &theirs["apiVersion"]));
        for group in ours["items"].as_array().unwrap() {
            let list = theirs["items"].as_array().unwrap();
            let theirs = list.iter().find(|other| other["metadata"]["name"] == group["metadata"]["name"]).unwrap();
            let (ours, theirs) = (&group["versions"][0], &theirs["versions"][0]);
            assert_eq!((&ours["version"], &ours["freshness"]), (&theirs["version"], &theirs["freshness"]));
            for resource in ours["resources"].as_array().unwrap() {
                let list = theirs["resources"].as_array().unwrap();
                let theirs = list.iter().find(|other| other["resource"] == resource["resource"]).unwrap();
                assert_eq!(resource, theirs);
            }
        }
    }

    #[test]
    fn every_group_is_listed_once_and_core_apart() {
        let groups = api_group_list();
        let names: Vec<_> = groups["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
        let mut distinct = names.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len());
        assert!(!names.contains(&""));
        assert_eq!(aggregated(true, "v2")["items"].as_array().unwrap().len(), 1);
        assert!(api_group("").is_none() && api_group("x").is_none() && api_resource_list("apps", "v2").is_none());
        assert_eq!(etag(b"").len(), 130);
    }
}
