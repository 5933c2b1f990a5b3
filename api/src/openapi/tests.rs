//! Rendered documents compared with those of a v1.36 server.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::reference;

/// Removes what we write in our own words or not at all, and writes what means the same alike.
fn normalize(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("description");
            members.remove("x-kubernetes-unions");
            // Zero values of Go's types are no defaults that a user could see.
            members.retain(|name, value| name != "default" || (*value != json!({}) && *value != json!("")));
            members.values_mut().for_each(normalize);
            if let Some(Value::Array(required)) = members.get_mut("required") {
                required.sort_by_key(ToString::to_string);
            }
            if let (1, Some([one])) = (members.len(), members.get("allOf").and_then(Value::as_array).map(Vec::as_slice)) {
                *value = one.clone();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalize),
        _ => {}
    }
}

fn file(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api__{version}_openapi.json") } else { format!("apis__{group}__{version}_openapi.json") }
}

/// Aim: field by field, our types are those of v1.36. Method: what we render against its documents.
#[test]
fn types_are_those_of_kubernetes() {
    let mut differences: Vec<String> = Vec::new();
    for (group, version) in registry::group_versions() {
        let Some(theirs) = reference::openapi(&file(group, version)) else { return };
        let ours = document(&[], group, version).unwrap();
        for (name, schema) in ours["components"]["schemas"].as_object().unwrap() {
            let (mut ours, mut theirs) = (schema.clone(), theirs["components"]["schemas"][name].clone());
            assert!(theirs.is_object(), "{name}");
            normalize(&mut ours);
            normalize(&mut theirs);
            if name.ends_with(".DeleteOptions") {
                // One group's document lists the kind of all groups, ours only its own.
                theirs["x-kubernetes-group-version-kind"] = ours["x-kubernetes-group-version-kind"].clone();
            }
            if ours != theirs {
                differences.push(format!("{name}\n  ours   {ours}\n  theirs {theirs}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn operations_are_those_of_kubernetes() {
    for (group, version) in registry::group_versions() {
        let Some(theirs) = reference::openapi(&file(group, version)) else { return };
        let ours = document(&[], group, version).unwrap();
        for (path, item) in ours["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(method, _)| *method != "parameters") {
                let theirs_item = &theirs["paths"][path];
                let theirs = &theirs_item[method];
                for field in ["operationId", "x-kubernetes-action", "x-kubernetes-group-version-kind", "tags"] {
                    assert_eq!(operation[field], theirs[field], "{method} {path} {field}");
                }
                let known: Vec<&Value> = [theirs, theirs_item]
                    .into_iter()
                    .flat_map(|place| place["parameters"].as_array().into_iter().flatten())
                    .collect();
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    let same = known.iter().find(|other| other["name"] == parameter["name"] && other["in"] == parameter["in"]);
                    let same = same.unwrap_or_else(|| panic!("{method} {path} {parameter}"));
                    assert_eq!((&parameter["schema"], &parameter["in"]), (&same["schema"], &same["in"]), "{path} {parameter}");
                }
            }
        }
    }
}

/// Paths of theirs that we do not describe, each with its reason.
const ABSENT: [(&str, &str); 1] = [("/watch/", "deprecated since 1.5: lists take the parameter watch")];

#[test]
fn every_path_and_method_of_kubernetes_is_ours() {
    for (group, version) in registry::group_versions() {
        let Some(theirs) = reference::openapi(&file(group, version)) else { return };
        let ours = document(&[], group, version).unwrap();
        for (path, item) in theirs["paths"].as_object().unwrap() {
            // With a slash at the end it is the group version's own discovery document.
            if path.ends_with('/') || ABSENT.iter().any(|(part, _)| path.contains(part)) {
                continue;
            }
            let methods = |item: &Value| -> Vec<String> {
                let mut methods: Vec<_> = item.as_object().into_iter().flatten().map(|(method, _)| method.clone()).collect();
                methods.retain(|method| method != "parameters");
                methods.sort();
                methods
            };
            assert_eq!(methods(&ours["paths"][path]), methods(item), "{path}");
        }
    }
}

fn references(document: &Value, prefix: &str, schemas: &Value) {
    let text = document.to_string();
    let names = text.split(prefix).skip(1).filter_map(|rest| rest.split('"').next());
    for name in names {
        assert!(schemas.get(name).is_some(), "{name}");
    }
}

#[test]
fn every_reference_leads_to_a_type() {
    for (group, version) in registry::group_versions() {
        let document = document(&[], group, version).unwrap();
        references(&document, "#/components/schemas/", &document["components"]["schemas"]);
    }
    let document = document_v2(&[]);
    references(&document, "#/definitions/", &document["definitions"]);
    assert!(super::document(&[], "nothing", "v1").is_none());
}

#[test]
fn clients_learn_that_writes_take_field_validation() {
    let apps = document(&[], "apps", "v1").unwrap();
    let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert!(patch["parameters"].as_array().unwrap().iter().any(|parameter| parameter["name"] == "fieldValidation"));
    let v2 = document_v2(&[]);
    let patch = &v2["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert!(patch["parameters"].as_array().unwrap().iter().any(|parameter| parameter["name"] == "fieldValidation"));
}

#[test]
fn the_index_leads_to_every_document() {
    let index = index(&[]);
    let paths = index["paths"].as_object().unwrap();
    assert_eq!(paths.len(), registry::group_versions().len());
    assert!(paths["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().starts_with("/openapi/v3/apis/apps/v1?hash="));
}
