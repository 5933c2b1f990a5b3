//! Event.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::common::{NAME, column, name};
use crate::{
    duration,
    field::FieldError,
    object::text,
    strategy::{Column, Strategy},
};

const COLUMNS: &[Column] = &[
    column("Last Seen", "string", 0, "Time since it happened last."),
    column("Type", "string", 0, "Normal or Warning."),
    column("Reason", "string", 0, "What happened, in one word."),
    column("Object", "string", 0, "What it happened to."),
    column("Subobject", "string", 1, "Which part of it."),
    column("Source", "string", 1, "Who saw it."),
    column("Message", "string", 0, "What happened."),
    column("First Seen", "string", 1, "Time since it happened first."),
    column("Count", "string", 1, "How often it happened."),
    Column { priority: 1, ..NAME },
];

/// Event.
pub struct EventStrategy;

impl Strategy for EventStrategy {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let (namespace, involved) = (text(object, "/metadata/namespace"), text(object, "/involvedObject/namespace"));
        let expected = if involved.is_empty() { "default" } else { involved };
        if namespace != expected && !(involved.is_empty() && namespace == "kube-system") {
            return vec![FieldError::invalid("involvedObject.namespace", &json!(involved), "does not match event.namespace")];
        }
        Vec::new()
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    }

    fn field_value(&self, object: &Value, path: &str) -> String {
        match path {
            // As events.k8s.io writes it, an event has no source but a controller that reports it.
            "source" => [text(object, "/source/component"), text(object, "/reportingComponent")]
                .into_iter()
                .find(|component| !component.is_empty())
                .unwrap_or_default()
                .to_owned(),
            _ => text(object, &format!("/{}", path.replace('.', "/"))).to_owned(),
        }
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let seen = |field: &str| {
            let time = [field, "/eventTime", "/metadata/creationTimestamp"].map(|field| text(object, field));
            duration::since(time.into_iter().find(|time| !time.is_empty()).unwrap_or_default(), now)
        };
        let involved =
            format!("{}/{}", text(object, "/involvedObject/kind").to_lowercase(), text(object, "/involvedObject/name"));
        let source = [text(object, "/source/component"), text(object, "/source/host")];
        let source = source.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        vec![
            json!(seen("/lastTimestamp")),
            json!(text(object, "/type")),
            json!(text(object, "/reason")),
            json!(involved),
            json!(text(object, "/involvedObject/fieldPath")),
            json!(source),
            json!(text(object, "/message").trim()),
            json!(seen("/firstTimestamp")),
            json!(object["count"].as_i64().unwrap_or(1)),
            name(object),
        ]
    }
}
