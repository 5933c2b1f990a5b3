//! `Table`: lists as kubectl prints them, columns and cells made on the server.
//!
//! In: decoded objects, the time, how much of each object a row carries. Out: a `Table` of
//! `meta.k8s.io`. Columns and cells are the kind's strategy's; everything else is the same for all.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::registry::Resource;

/// How much of an object a row carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter `includeObject`; `None` for a word it does not know.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// Columns, as the field `columnDefinitions` holds them.
#[must_use]
pub fn column_definitions(resource: &Resource) -> Value {
    if let Some(served) = resource.strategy.custom() {
        return served.column_definitions();
    }
    let definitions = resource.stored().strategy.columns().iter().map(|column| {
        json!({
            "name": column.name,
            "type": column.type_,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    });
    definitions.collect()
}

/// One row. `group_version` is `meta.k8s.io/v1` or another version that the client asked for.
#[must_use]
pub fn row(resource: &Resource, object: &Value, now: Timestamp, include: IncludeObject, group_version: &str) -> Value {
    let object_of_row = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => partial_object_metadata(object, group_version),
        IncludeObject::Object => resource.to_served(object.clone()),
    };
    json!({ "cells": resource.stored().strategy.cells(object, now), "object": object_of_row })
}

/// A whole table. `metadata` is the list's. In a watch, only the first event's table has columns.
#[must_use]
pub fn table<'a>(
    resource: &Resource,
    group_version: &str,
    metadata: Map<String, Value>,
    items: impl Iterator<Item = &'a Value>,
    now: Timestamp,
    include: IncludeObject,
) -> Value {
    let rows: Value = items.map(|object| row(resource, object, now, include, group_version)).collect();
    json!({
        "kind": "Table",
        "apiVersion": group_version,
        "metadata": metadata,
        "columnDefinitions": column_definitions(resource),
        "rows": rows,
    })
}

/// An object without anything but its metadata.
#[must_use]
pub fn partial_object_metadata(object: &Value, group_version: &str) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": group_version, "metadata": object["metadata"] })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{registry, resources};

    #[test]
    fn rows_have_a_cell_for_each_column() {
        let object = json!({"kind": "X", "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}});
        let now: Timestamp = "2026-01-01T00:05:12Z".parse().unwrap();
        for resource in registry::all().iter().filter(|resource| resource.is_stored()) {
            let row = row(resource, &object, now, IncludeObject::None, "meta.k8s.io/v1");
            assert_eq!(row["cells"].as_array().unwrap().len(), resource.stored().strategy.columns().len(), "{resource:?}");
            assert_eq!(row["object"], Value::Null);
        }
    }

    #[test]
    fn tables_carry_metadata_unless_told_otherwise() {
        let pods = registry::of(&resources::PODS).unwrap();
        let pod = json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": {}, "status": {}});
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".into(), "7".into());
        let include = IncludeObject::parse("").unwrap();
        let table = table(pods, "meta.k8s.io/v1", metadata, [&pod].into_iter(), Timestamp::UNIX_EPOCH, include);
        assert_eq!(table["kind"], "Table");
        assert_eq!(table["metadata"]["resourceVersion"], "7");
        assert_eq!(table["columnDefinitions"][0]["format"], "name");
        assert_eq!(
            table["rows"][0]["object"],
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "a"}})
        );
        assert_eq!(IncludeObject::parse("All"), None);
    }
}
