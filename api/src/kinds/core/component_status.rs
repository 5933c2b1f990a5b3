//! ComponentStatus.

use serde_json::{Value, json};

use crate::kinds::{
    common::{NAME, column, items, name},
    kind::Kind,
};
use crate::object::text;

/// ComponentStatus.
pub static COMPONENT_STATUS: Kind = Kind {
    columns: &[
        NAME,
        column("Status", "string", 0, "Whether the component is healthy."),
        column("Message", "string", 0, "What a healthy component says."),
        column("Error", "string", 0, "What is wrong with it."),
    ],
    cells: |object, _now| {
        let healthy = items(object, "/conditions").find(|condition| condition["type"] == "Healthy");
        let condition = healthy.unwrap_or(&Value::Null);
        let status = if condition["status"] == "True" { "Healthy" } else { "Unhealthy" };
        vec![name(object), json!(status), json!(text(condition, "/message")), json!(text(condition, "/error"))]
    },
    ..Kind::NEW
};
