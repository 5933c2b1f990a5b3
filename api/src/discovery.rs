//! Discovery: which groups, versions and resources there are.
//!
//! Made from the registry, in the legacy form (a document for each group and version) and in the
//! aggregated one (two documents for everything), which clients since 1.26 ask for.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::registry::{self, Resource, Subresource};

/// What is served, in the order of discovery: see [`registry::with_custom`].
pub type Served<'a> = &'a [&'static Resource];

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
pub fn api_group_list(served: Served<'_>) -> Value {
    let groups = group_names(served).into_iter().filter(|group| !group.is_empty());
    let groups: Value = groups.map(|group| group_entry(served, group)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/GROUP`; `None` for a group that is not served.
#[must_use]
pub fn api_group(served: Served<'_>, group: &str) -> Option<Value> {
    let known = group_names(served).into_iter().find(|known| *known == group && !known.is_empty())?;
    let mut document = group_entry(served, known);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    Some(document)
}

/// `/api/v1` and `/apis/GROUP/VERSION`; `None` for a group version that is not served.
#[must_use]
pub fn api_resource_list(served: Served<'_>, group: &str, version: &str) -> Option<Value> {
    let mut resources: Vec<Value> = Vec::new();
    for resource in resources_of(served, group, version) {
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
pub fn aggregated(served: Served<'_>, core: bool, form: &str) -> Value {
    let groups = group_names(served).into_iter().filter(|group| group.is_empty() == core);
    let items: Value = groups.map(|group| aggregated_group(served, group)).collect();
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
fn group_names(served: Served<'_>) -> Vec<&'static str> {
    let mut groups: Vec<_> = registry::group_versions_of(served).into_iter().map(|(group, _)| group).collect();
    groups.dedup();
    groups
}

fn versions_of(served: Served<'_>, group: &str) -> impl Iterator<Item = &'static str> {
    registry::group_versions_of(served).into_iter().filter(move |(known, _)| *known == group).map(|(_, version)| version)
}

fn resources_of<'a>(served: Served<'a>, group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Resource> + 'a {
    served.iter().copied().filter(move |resource| resource.key.group == group && resource.key.version == version)
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn group_entry(served: Served<'_>, group: &'static str) -> Value {
    let entry = |version: &str| json!({ "groupVersion": group_version(group, version), "version": version });
    let versions: Vec<Value> = versions_of(served, group).map(entry).collect();
    json!({ "name": group, "versions": versions, "preferredVersion": versions.first() })
}

fn put_words(entry: &mut Value, field: &str, words: &[&str]) {
    if !words.is_empty() {
        entry[field] = words.into();
    }
}

/// Tells clients whether two servers store a resource in the same version.
fn storage_version_hash(resource: &Resource) -> String {
    let key = resource.stored_as;
    BASE64_STANDARD.encode(&Sha256::digest(format!("{}/{}/{}", key.group, key.version, key.kind))[..8])
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
    if resource.is_stored() {
        entry["storageVersionHash"] = storage_version_hash(resource).into();
    }
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

fn aggregated_group(served: Served<'_>, group: &'static str) -> Value {
    let version_entry = |version: &'static str| {
        let resources: Value = resources_of(served, group, version).map(aggregated_resource).collect();
        json!({ "version": version, "freshness": "Current", "resources": resources })
    };
    let versions: Value = versions_of(served, group).map(version_entry).collect();
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

    fn is_stable(version: &Value) -> bool {
        version["version"].as_str().is_some_and(|version| !version.contains("alpha") && !version.contains("beta"))
    }

    fn sorted(mut list: Value, key: &str) -> Value {
        if let Some(list) = list.as_array_mut() {
            list.sort_by_key(|entry| entry[key].to_string());
        }
        list
    }

    #[test]
    fn documents_are_those_of_kubernetes() {
        for (group, version) in registry::group_versions() {
            let mut ours = api_resource_list(&registry::with_custom(&[]), group, version).unwrap();
            let file = match group {
                "" => "api__v1.json".to_owned(),
                group => format!("apis__{group}__{version}.json"),
            };
            let Some(mut theirs) = reference::discovery(&file) else { return };
            for document in [&mut ours, &mut theirs] {
                document["resources"] = sorted(document["resources"].take(), "name");
                for entry in document["resources"].as_array_mut().unwrap() {
                    // v1.36 still stores these as v1beta1, which we do not serve.
                    let name = entry["name"].as_str().unwrap();
                    if name.starts_with("mutatingadmissionpolic") || name == "customresourcedefinitions" {
                        entry.as_object_mut().unwrap().remove("storageVersionHash");
                    }
                }
            }
            assert_eq!(ours, theirs);
            if !group.is_empty() {
                let mut theirs = reference::discovery(&format!("apis__{group}.json")).unwrap();
                theirs["versions"].as_array_mut().unwrap().retain(is_stable);
                assert_eq!(api_group(&registry::with_custom(&[]), group), Some(theirs));
            }
        }
    }

    #[test]
    fn the_aggregated_form_is_that_of_kubernetes() {
        let ours = aggregated(&registry::with_custom(&[]), false, "v2");
        let Some(mut theirs) = reference::discovery("aggregated_v2.json") else { return };
        let groups = theirs["items"].as_array_mut().unwrap();
        for group in groups.iter_mut() {
            group["versions"].as_array_mut().unwrap().retain(is_stable);
        }
        groups.retain(|group| group["versions"] != json!([]));
        let in_order = |mut document: Value| {
            for group in document["items"].as_array_mut().unwrap() {
                for version in group["versions"].as_array_mut().unwrap() {
                    version["resources"] = sorted(version["resources"].take(), "resource");
                    for resource in version["resources"].as_array_mut().unwrap() {
                        if resource.get("subresources").is_some() {
                            resource["subresources"] = sorted(resource["subresources"].take(), "subresource");
                        }
                    }
                }
            }
            document
        };
        let (ours, theirs) = (in_order(ours), in_order(theirs));
        for (ours, theirs) in ours["items"].as_array().unwrap().iter().zip(theirs["items"].as_array().unwrap()) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours, theirs);
    }

    #[test]
    fn every_group_is_listed_once_and_core_apart() {
        let groups = api_group_list(&registry::with_custom(&[]));
        let names: Vec<_> = groups["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
        let mut distinct = names.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len());
        assert!(!names.contains(&""));
        assert_eq!(aggregated(&registry::with_custom(&[]), true, "v2")["items"].as_array().unwrap().len(), 1);
        assert!(
            api_group(&registry::with_custom(&[]), "").is_none()
                && api_group(&registry::with_custom(&[]), "x").is_none()
                && api_resource_list(&registry::with_custom(&[]), "apps", "v2").is_none()
        );
        assert_eq!(etag(b"").len(), 130);
    }
}
