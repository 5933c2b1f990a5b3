//! What a server elsewhere says of a group version: read from it, and made into the form that this server merges.

use std::sync::Arc;

use bytes::Bytes;
use rustls::ClientConfig;
use serde_json::{Map, Value, json};

use super::{Documents, check};
use crate::outbound::Target;

/// Aggregated discovery, as it is asked for.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// Reads the documents of a group version from an address that answers. `list` is the group version's own document.
pub async fn read(
    address: &str,
    target: &Target,
    tls: &Arc<ClientConfig>,
    (group, version): (&str, &str),
    list: &Bytes,
    before: &Documents,
) -> Documents {
    let ask = async |path: &str, accept: &str| {
        let answer = check::ask(address, target, Arc::clone(tls), path, accept).await.ok()?;
        (answer.code == 200).then_some(answer)
    };
    let (aggregated, v3, v2) =
        tokio::join!(ask("/apis", AGGREGATED), ask("/openapi/v3", "application/json"), ask("/openapi/v2", "application/json"),);
    let parse = |body: &Bytes| serde_json::from_slice::<Value>(body).ok();
    let is_aggregated = |answer: &crate::outbound::Answer| {
        let media = answer.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        media.is_some_and(|media| media.contains("as=APIGroupDiscoveryList"))
    };
    let aggregated = aggregated.filter(is_aggregated).and_then(|answer| parse(&answer.body));
    let resources = aggregated
        .and_then(|document| of_aggregated(&document, group, version))
        .or_else(|| parse(list).map(|document| of_legacy(&document)));
    let path = format!("apis/{group}/{version}");
    Documents {
        is_current: resources.is_some(),
        resources: resources.or_else(|| before.resources.clone()),
        openapi_v2: v2.and_then(|answer| parse(&answer.body)).map(|document| part_of_v2(&document, &path)),
        openapi_v3: v3
            .and_then(|answer| parse(&answer.body))
            .and_then(|index| index["paths"][&path]["serverRelativeURL"].as_str().map(str::to_owned)),
    }
}

/// The resources of a group version in an aggregated document.
fn of_aggregated(document: &Value, group: &str, version: &str) -> Option<Value> {
    let groups = document["items"].as_array()?;
    let own = groups.iter().find(|one| one["metadata"]["name"] == group)?;
    let own = own["versions"].as_array()?.iter().find(|one| one["version"] == version)?;
    let mut resources = own["resources"].as_array().cloned().unwrap_or_default();
    for resource in &mut resources {
        complete(resource);
        resource["subresources"].as_array_mut().into_iter().flatten().for_each(complete);
        if resource["subresources"].is_null() {
            resource.as_object_mut().map(|members| members.remove("subresources"));
        }
    }
    Some(Value::Array(resources))
}

/// Some clients cannot bear a missing kind.
fn complete(entry: &mut Value) {
    if entry.is_object() && !entry["responseKind"].is_object() {
        entry["responseKind"] = json!({ "group": "", "version": "", "kind": "" });
    }
}

/// The same, made of an APIResourceList: subresources stand beneath their resource.
fn of_legacy(document: &Value) -> Value {
    let mut resources: Vec<Value> = Vec::new();
    let entries = document["resources"].as_array().into_iter().flatten();
    for entry in entries {
        let name = entry["name"].as_str().unwrap_or_default();
        let kind = json!({
            "group": entry["group"].as_str().unwrap_or_default(),
            "version": entry["version"].as_str().unwrap_or_default(),
            "kind": entry["kind"],
        });
        let verbs = entry["verbs"].clone();
        let scope = if entry["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let Some((resource, part)) = name.split_once('/') else {
            let mut own = json!({
                "resource": name, "responseKind": kind, "scope": scope, "singularResource": entry["singularName"], "verbs": verbs,
            });
            for words in ["shortNames", "categories"] {
                if entry[words].is_array() {
                    own[words] = entry[words].clone();
                }
            }
            resources.push(own);
            continue;
        };
        let part = json!({ "subresource": part, "responseKind": kind, "verbs": verbs });
        let known = resources.iter_mut().find(|one| one["resource"] == resource);
        match known.map(|one| &mut one["subresources"]) {
            Some(Value::Array(parts)) => parts.push(part),
            Some(none) => *none = json!([part]),
            // A part without its resource.
            None => resources.push(json!({ "resource": resource, "scope": scope, "subresources": [part] })),
        }
    }
    Value::Array(resources)
}

/// What belongs to a group version: its paths, and the definitions that they lead to.
fn part_of_v2(document: &Value, path: &str) -> Value {
    let prefix = format!("/{path}/");
    let paths = document["paths"].as_object().into_iter().flatten();
    let own: Map<String, Value> = paths
        .filter(|(known, _)| known.starts_with(&prefix) || format!("{known}/") == prefix)
        .map(|(known, item)| (known.clone(), item.clone()))
        .collect();
    let mut definitions = Map::new();
    let mut wanted = Vec::new();
    references(&Value::Object(own.clone()), &mut wanted);
    while let Some(name) = wanted.pop() {
        if let Some(definition) = document["definitions"].get(&name).filter(|_| !definitions.contains_key(&name)) {
            references(definition, &mut wanted);
            definitions.insert(name, definition.clone());
        }
    }
    json!({ "paths": own, "definitions": definitions })
}

/// Names of definitions that a value leads to.
pub fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str().and_then(|text| text.strip_prefix("#/definitions/")) {
                    Some(target) if name == "$ref" => found.push(target.to_owned()),
                    _ => references(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_forms_of_discovery_say_the_same() {
        let legacy = json!({ "resources": [
            { "name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"], "shortNames": ["fl"] },
            { "name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["patch"] },
        ]});
        let kind = json!({ "group": "", "version": "", "kind": "Flunder" });
        let wanted = json!([{
            "resource": "flunders", "responseKind": kind, "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get"],
            "shortNames": ["fl"], "subresources": [{ "subresource": "status", "responseKind": kind, "verbs": ["patch"] }],
        }]);
        assert_eq!(of_legacy(&legacy), wanted);
        let aggregated =
            json!({ "items": [{ "metadata": { "name": "g" }, "versions": [{ "version": "v1", "resources": wanted }] }] });
        assert_eq!(of_aggregated(&aggregated, "g", "v1"), Some(wanted));
        assert_eq!(of_aggregated(&aggregated, "g", "v2"), None);
    }

    #[test]
    fn a_part_of_openapi_has_all_that_it_leads_to() {
        let document = json!({
            "paths": {
                "/apis/g/v1/": { "get": { "schema": { "$ref": "#/definitions/A" } } },
                "/apis/other/v1/": { "get": { "schema": { "$ref": "#/definitions/C" } } },
            },
            "definitions": { "A": { "items": [{ "$ref": "#/definitions/B" }] }, "B": { "a": { "$ref": "#/definitions/A" } }, "C": {} },
        });
        let part = part_of_v2(&document, "apis/g/v1");
        assert_eq!(part["paths"].as_object().unwrap().len(), 1);
        assert_eq!(part["definitions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["A", "B"]);
    }
}
