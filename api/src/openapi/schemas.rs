//! Types of the schema table as JSON schemas.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::describe;
use crate::custom::openapi;
use crate::registry::{self, Resource};
use crate::schema::{self, Field, Scalar, Shape, Type};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Which version of OpenAPI is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Swagger 2.0.
    V2,
    /// OpenAPI 3.0.
    V3,
}

impl Style {
    /// A reference to a type.
    pub(super) fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({ "$ref": format!("#/definitions/{name}") }),
            Self::V3 => json!({ "$ref": format!("#/components/schemas/{name}") }),
        }
    }

    /// A reference that other keywords may stand beside: version 3 ignores those beside `$ref`.
    fn extensible_reference(self, name: &str) -> Value {
        match self {
            Self::V2 => self.reference(name),
            Self::V3 => json!({ "allOf": [self.reference(name)] }),
        }
    }
}

/// Name of a list's type.
pub(super) fn list_type_name(resource: &Resource) -> String {
    if resource.strategy.custom().is_some() {
        return openapi::type_name(resource.key.group, resource.key.version, &resource.list_kind());
    }
    schema::type_name(resource.key.group, resource.key.version, &resource.list_kind())
}

/// Name of the type of a resource's objects.
pub(super) fn type_name(resource: &Resource) -> Option<String> {
    if resource.strategy.custom().is_some() {
        return Some(openapi::type_name(resource.key.group, resource.key.version, resource.key.kind));
    }
    resource.type_().map(|type_| type_.name.to_owned())
}

/// Name of a type that all groups share.
pub(super) fn meta_type_name(kind: &str) -> String {
    format!("{META}.{kind}")
}

/// Types that these resources send and receive, and all that they refer to.
pub(super) fn of(resources: &[&Resource], style: Style) -> Map<String, Value> {
    let mut kinds: Vec<(&'static Type, Value)> = Vec::new();
    let mut schemas = Map::new();
    for resource in resources {
        let key = resource.key;
        let own = (key.group, key.version);
        kinds.extend(resource.type_().map(|type_| (type_, group_version_kind(own, key.kind))));
        if let (Some(served), Some(name)) = (resource.strategy.custom(), type_name(resource)) {
            let metadata = style.extensible_reference(&meta_type_name("ObjectMeta"));
            schemas.insert(name, openapi::schema(&served, &metadata, style == Style::V2));
        }
        for part in resource.subresources {
            let kind = group_version_kind(part.group_version.unwrap_or(own), part.kind);
            kinds.extend(part.type_(&key).map(|type_| (type_, kind)));
        }
        if resource.verbs.contains(&"list") {
            schemas.insert(list_type_name(resource), list_schema(resource, style));
        }
        if resource.verbs.contains(&"delete") {
            kinds.extend(deletion_kinds(own));
        }
    }
    let mut wanted: Vec<&'static str> = kinds.iter().map(|(type_, _)| type_.name).collect();
    if !schemas.is_empty() {
        let shared = ["ListMeta", "ObjectMeta"].map(|kind| schema::find(&meta_type_name(kind)));
        wanted.extend(shared.into_iter().flatten().map(|type_| type_.name));
    }
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if !seen.insert(name) {
            continue;
        }
        let Some(type_) = schema::find(name) else { continue };
        for field in &type_.fields {
            collect(&field.shape, field.any, style, &mut wanted, &mut schemas);
        }
        let mut schema = type_schema(type_, style);
        let mut group_version_kinds: Vec<&Value> =
            kinds.iter().filter(|(known, _)| known.name == name).map(|(_, kind)| kind).collect();
        group_version_kinds.dedup();
        let elsewhere = BY_TYPE.get(name);
        if group_version_kinds.is_empty() {
            group_version_kinds.extend(elsewhere);
        }
        if !group_version_kinds.is_empty() {
            schema["x-kubernetes-group-version-kind"] = json!(group_version_kinds);
        }
        schemas.insert(name.to_owned(), schema);
    }
    schemas
}

/// Kinds of types that have paths of their own: other types may refer to them from everywhere.
static BY_TYPE: LazyLock<HashMap<&'static str, Value>> = LazyLock::new(|| {
    let kind = |resource: &'static Resource| {
        let key = resource.key;
        Some((resource.type_()?.name, group_version_kind((key.group, key.version), key.kind)))
    };
    registry::all().iter().filter_map(kind).collect()
});

/// Kinds that a deletion sends and receives.
fn deletion_kinds(own: (&str, &str)) -> Vec<(&'static Type, Value)> {
    let status = schema::find(&meta_type_name("Status")).map(|type_| (type_, group_version_kind(("", "v1"), "Status")));
    let options = schema::find(&meta_type_name("DeleteOptions"));
    let options = options.map(|type_| (type_, group_version_kind(own, "DeleteOptions")));
    status.into_iter().chain(options).collect()
}

pub(super) fn group_version_kind((group, version): (&str, &str), kind: &str) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}

/// Types that a shape refers to; those without fields are described at once.
fn collect(shape: &Shape, any: &str, style: Style, wanted: &mut Vec<&'static str>, schemas: &mut Map<String, Value>) {
    match shape {
        Shape::Object(name) => wanted.push(name),
        Shape::List(item) | Shape::Map(item) => collect(item, any, style, wanted, schemas),
        Shape::Scalar(_) | Shape::Any => {
            if let Some((name, schema)) = opaque(shape, any, style) {
                schemas.entry(name).or_insert(schema);
            }
        }
    }
}

/// Types without fields that have a name of their own; `any` is the name of one that may hold anything.
fn opaque(shape: &Shape, any: &str, style: Style) -> Option<(String, Value)> {
    let either = |format: Option<&str>, types: [&str; 2]| {
        let mut schema = match style {
            Style::V3 => json!({ "oneOf": types.map(|type_| json!({ "type": type_ })) }),
            // Version 2 has no alternatives; there both are text.
            Style::V2 => json!({ "type": "string" }),
        };
        if let Some(format) = format {
            schema["format"] = format.into();
        }
        schema
    };
    Some(match shape {
        // Parts of JSON schemas may be of any type, extensions are objects.
        Shape::Any if any.contains(".apiextensions.") => (any.to_owned(), json!({})),
        Shape::Any => (any.to_owned(), json!({ "type": "object" })),
        Shape::Scalar(Scalar::Time) => (meta_type_name("Time"), json!({ "type": "string", "format": "date-time" })),
        Shape::Scalar(Scalar::MicroTime) => (meta_type_name("MicroTime"), json!({ "type": "string", "format": "date-time" })),
        Shape::Scalar(Scalar::Quantity) => {
            ("io.k8s.apimachinery.pkg.api.resource.Quantity".to_owned(), either(None, ["string", "number"]))
        }
        Shape::Scalar(Scalar::IntOrString) => {
            ("io.k8s.apimachinery.pkg.util.intstr.IntOrString".to_owned(), either(Some("int-or-string"), ["integer", "string"]))
        }
        _ => return None,
    })
}

fn type_schema(type_: &Type, style: Style) -> Value {
    let mut schema = json!({ "type": "object" });
    if let Some(text) = describe::type_(type_) {
        schema["description"] = text.into();
    }
    if !type_.fields.is_empty() {
        let properties: Map<_, _> =
            type_.fields.iter().map(|field| (field.name.to_owned(), property(type_, field, style))).collect();
        schema["properties"] = Value::Object(properties);
    }
    let required: Vec<_> = type_.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !type_.map_type.is_empty() {
        schema["x-kubernetes-map-type"] = type_.map_type.into();
    }
    schema
}

fn property(type_: &Type, field: &Field, style: Style) -> Value {
    let mut property = shape_schema(&field.shape, field.any, style, true);
    if let Some(text) = describe::field(type_, field) {
        property["description"] = text.into();
    }
    let extensions = [
        ("x-kubernetes-patch-merge-key", field.merge_key.unwrap_or_default()),
        ("x-kubernetes-patch-strategy", field.patch_strategy),
        ("x-kubernetes-list-type", field.list_type),
        ("x-kubernetes-map-type", field.map_type),
    ];
    for (name, value) in extensions.into_iter().filter(|(_, value)| !value.is_empty()) {
        property[name] = value.into();
    }
    if !field.list_keys.is_empty() {
        property["x-kubernetes-list-map-keys"] = json!(field.list_keys);
    }
    if let Ok(default) = serde_json::from_str::<Value>(field.default) {
        property["default"] = default;
    }
    property
}

/// `extended`: other keywords follow.
fn shape_schema(shape: &Shape, any: &str, style: Style, extended: bool) -> Value {
    let reference = |name: &str| if extended { style.extensible_reference(name) } else { style.reference(name) };
    if let Some((name, _)) = opaque(shape, any, style) {
        return reference(&name);
    }
    match shape {
        Shape::Object(name) => reference(name),
        Shape::List(item) => json!({ "type": "array", "items": shape_schema(item, any, style, false) }),
        Shape::Map(item) => json!({ "type": "object", "additionalProperties": shape_schema(item, any, style, false) }),
        Shape::Any => json!({ "type": "object" }),
        Shape::Scalar(scalar) => match scalar {
            Scalar::Bytes => json!({ "type": "string", "format": "byte" }),
            Scalar::Int32 => json!({ "type": "integer", "format": "int32" }),
            Scalar::Int64 => json!({ "type": "integer", "format": "int64" }),
            Scalar::Double => json!({ "type": "number", "format": "double" }),
            Scalar::Boolean => json!({ "type": "boolean" }),
            _ => json!({ "type": "string" }),
        },
    }
}

fn list_schema(resource: &Resource, style: Style) -> Value {
    let key = resource.key;
    let item = style.reference(&type_name(resource).unwrap_or_default());
    json!({
        "type": "object",
        "description": format!("List of objects of kind {}.", key.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string", "description": describe::API_VERSION },
            "kind": { "type": "string", "description": describe::KIND },
            "metadata": style.extensible_reference(&meta_type_name("ListMeta")),
            "items": { "type": "array", "items": item, "description": "The objects." },
        },
        "x-kubernetes-group-version-kind": [group_version_kind((key.group, key.version), &resource.list_kind())],
    })
}
