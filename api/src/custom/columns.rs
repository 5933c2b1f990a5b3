//! Printer columns of custom resources.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#additional-printer-columns>

use jiff::Timestamp;
use serde_json::{Value, json};

use super::definition::{Column, Version};
use crate::{duration, object::meta};

/// The field `columnDefinitions` of a table.
#[must_use]
pub fn definitions(version: &Version) -> Value {
    let name = json!({
        "name": "Name", "type": "string", "format": "name", "priority": 0,
        "description": "Name of the object, unique within its namespace and kind.",
    });
    let entry = |column: &Column| {
        let description = if column.description.is_empty() {
            format!("Custom resource definition column (in JSONPath format): {}", column.name)
        } else {
            column.description.clone()
        };
        json!({
            "name": column.name, "type": column.type_, "format": column.format,
            "description": description, "priority": column.priority,
        })
    };
    std::iter::once(name).chain(version.columns.iter().map(entry)).collect()
}

/// The cells of a row.
#[must_use]
pub fn cells(version: &Version, object: &Value, now: Timestamp) -> Vec<Value> {
    let name = json!(meta::name(object));
    std::iter::once(name).chain(version.columns.iter().map(|column| cell(column, object, now))).collect()
}

fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    let Some(value) = column.path.as_ref().and_then(|path| path.find(object).into_iter().next()) else { return Value::Null };
    match column.type_.as_str() {
        "string" => match value {
            Value::String(text) => json!(text),
            Value::Null => json!(""),
            other => json!(other.to_string()),
        },
        "integer" => match value {
            Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)).into(),
            Value::String(text) => text.parse::<i64>().ok().into(),
            _ => Value::Null,
        },
        "number" => match value {
            Value::Number(_) => value.clone(),
            Value::String(text) => text.parse::<f64>().ok().into(),
            _ => Value::Null,
        },
        "boolean" => match value {
            Value::Bool(_) => value.clone(),
            Value::String(text) => text.parse::<bool>().ok().into(),
            _ => Value::Null,
        },
        "date" => value.as_str().map_or(Value::Null, |time| json!(duration::since(time, now))),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::custom::definition::Definition;

    #[test]
    fn cells_are_what_the_paths_lead_to() {
        let definition = Definition::parse(&json!({"spec": {"group": "g", "names": {"kind": "K"}, "versions": [{"name": "v1",
            "additionalPrinterColumns": [
                {"name": "Spec", "type": "string", "jsonPath": ".spec.cron"},
                {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
                {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                {"name": "Map", "type": "string", "jsonPath": ".spec.map"},
                {"name": "No", "type": "boolean", "jsonPath": ".spec.none"}]},
            {"name": "v2"}]}}));
        let object = json!({"metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"cron": "* *", "replicas": 2, "map": {"a": 1}}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let now = "2026-01-01T00:00:05Z".parse().unwrap();
        let version = definition.version("v1").unwrap();
        assert_eq!(
            cells(version, &object, now),
            [json!("x"), json!("* *"), json!(2), json!("True"), json!("5s"), json!("{\"a\":1}"), Value::Null]
        );
        assert_eq!(definitions(version).as_array().unwrap().len(), 7);
        assert_eq!(cells(definition.version("v2").unwrap(), &object, now), [json!("x"), json!("5s")]);
    }
}
