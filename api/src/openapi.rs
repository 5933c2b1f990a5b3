//! OpenAPI v3 documents of a group version, made from the registry and the schema table.
//!
//! What clients read in them: types and fields (explain), the group-version-kind of each type, how
//! lists merge, and that writes take `fieldValidation`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::{
    registry::{self, Resource},
    schema::{self, Field, Scalar, Shape, Type},
};

/// The document of a group version; `None` if it is not served.
#[must_use]
pub fn document(group: &str, version: &str) -> Option<Value> {
    let served: Vec<_> = registry::all().iter().filter(|item| item.key.group == group && item.key.version == version).collect();
    if served.is_empty() {
        return None;
    }
    let mut paths = Map::new();
    let mut wanted: Vec<&'static str> = Vec::new();
    for resource in served {
        add_paths(&mut paths, resource);
        wanted.extend(resource.type_().map(|type_| type_.name));
        wanted.extend(resource.subresources.iter().filter_map(|part| part.type_(&resource.key)).map(|type_| type_.name));
    }
    wanted.push("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
    Some(json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "v1.36.2" },
        "paths": paths,
        "components": { "schemas": schemas(wanted) },
    }))
}

fn add_paths(paths: &mut Map<String, Value>, resource: &Resource) {
    let namespace = if resource.key.namespaced { "{namespace}" } else { "" };
    let collection = resource.key.path(namespace, "");
    let object = resource.key.path(namespace, "{name}");
    let of = |verbs: &[(&str, &str)]| -> Map<String, Value> {
        let served = verbs.iter().filter(|(verb, _)| resource.verbs.contains(verb));
        served.map(|(verb, method)| ((*method).to_owned(), operation(resource, verb))).collect()
    };
    let main = of(&[("list", "get"), ("create", "post"), ("deletecollection", "delete")]);
    let single = of(&[("get", "get"), ("update", "put"), ("patch", "patch"), ("delete", "delete")]);
    for (path, operations) in [(collection, main), (object, single)] {
        if !operations.is_empty() {
            paths.insert(path, Value::Object(operations));
        }
    }
}

fn operation(resource: &Resource, verb: &str) -> Value {
    let parameter = |name: &str| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } });
    let names: &[&str] = match verb {
        "create" | "update" | "patch" => &["dryRun", "fieldManager", "fieldValidation"],
        "delete" => &["dryRun", "gracePeriodSeconds", "propagationPolicy"],
        "list" => &["continue", "fieldSelector", "labelSelector", "limit", "resourceVersion", "resourceVersionMatch", "watch"],
        _ => &[],
    };
    let action = match verb {
        "create" => "post",
        "update" => "put",
        other => other,
    };
    json!({
        "parameters": names.iter().map(|name| parameter(name)).collect::<Vec<_>>(),
        "responses": { "200": { "description": "OK" } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": group_version_kind(resource),
    })
}

fn group_version_kind(resource: &Resource) -> Value {
    json!({ "group": resource.key.group, "version": resource.key.version, "kind": resource.key.kind })
}

/// The wanted types and all that they refer to.
fn schemas(mut wanted: Vec<&'static str>) -> Map<String, Value> {
    let (mut seen, mut found) = (BTreeSet::new(), Map::new());
    while let Some(name) = wanted.pop() {
        if !seen.insert(name) {
            continue;
        }
        let Some(type_) = schema::find(name) else { continue };
        type_.fields.iter().for_each(|field| collect(&field.shape, &mut wanted));
        found.insert(name.to_owned(), schema_of(type_));
    }
    found
}

fn collect(shape: &Shape, wanted: &mut Vec<&'static str>) {
    match shape {
        Shape::Object(name) => wanted.push(name),
        Shape::List(item) | Shape::Map(item) => collect(item, wanted),
        Shape::Scalar(_) | Shape::Any => {}
    }
}

fn schema_of(type_: &Type) -> Value {
    let properties: Map<_, _> = type_.fields.iter().map(|field| (field.name.to_owned(), property(field))).collect();
    let mut schema = json!({ "type": "object", "properties": properties });
    let required: Vec<_> = type_.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !type_.map_type.is_empty() {
        schema["x-kubernetes-map-type"] = json!(type_.map_type);
    }
    let kinds = registry::all().iter().filter(|resource| resource.type_().is_some_and(|own| own.name == type_.name));
    let kinds: Vec<_> = kinds.map(group_version_kind).collect();
    if !kinds.is_empty() {
        schema["x-kubernetes-group-version-kind"] = json!(kinds);
    }
    schema
}

fn property(field: &Field) -> Value {
    let mut property = shape_of(&field.shape);
    let lists = [
        ("x-kubernetes-patch-merge-key", field.merge_key.unwrap_or_default()),
        ("x-kubernetes-patch-strategy", field.patch_strategy),
        ("x-kubernetes-list-type", field.list_type),
        ("x-kubernetes-map-type", field.map_type),
    ];
    for (name, value) in lists.into_iter().filter(|(_, value)| !value.is_empty()) {
        property[name] = json!(value);
    }
    if !field.list_keys.is_empty() {
        property["x-kubernetes-list-map-keys"] = json!(field.list_keys);
    }
    property
}

fn shape_of(shape: &Shape) -> Value {
    match shape {
        Shape::Object(name) => json!({ "allOf": [{ "$ref": format!("#/components/schemas/{name}") }] }),
        Shape::List(item) => json!({ "type": "array", "items": shape_of(item) }),
        Shape::Map(item) => json!({ "type": "object", "additionalProperties": shape_of(item) }),
        Shape::Any => json!({ "type": "object" }),
        Shape::Scalar(scalar) => match scalar {
            Scalar::String => json!({ "type": "string" }),
            Scalar::Bytes => json!({ "type": "string", "format": "byte" }),
            Scalar::Time | Scalar::MicroTime => json!({ "type": "string", "format": "date-time" }),
            Scalar::Int32 => json!({ "type": "integer", "format": "int32" }),
            Scalar::Int64 => json!({ "type": "integer", "format": "int64" }),
            Scalar::Double => json!({ "type": "number", "format": "double" }),
            Scalar::Boolean => json!({ "type": "boolean" }),
            Scalar::IntOrString => json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] }),
            Scalar::Quantity => json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_reference_leads_to_a_type_and_writes_take_field_validation() {
        for (group, version) in registry::group_versions() {
            let document = document(group, version).unwrap();
            let schemas = document["components"]["schemas"].as_object().unwrap();
            for name in document.to_string().split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(schemas.contains_key(name), "{name}");
            }
        }
        let apps = document("apps", "v1").unwrap();
        let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert!(patch["parameters"].as_array().unwrap().iter().any(|parameter| parameter["name"] == "fieldValidation"));
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        assert!(document("nothing", "v1").is_none());
    }
}
