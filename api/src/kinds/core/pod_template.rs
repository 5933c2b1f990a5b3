//! PodTemplate.

use serde_json::json;

use crate::kinds::{
    common::{NAME, column, items, joined, map_text, name},
    kind::Kind,
    pod::{set_template_defaults, validate_template},
};
use crate::object::text;

/// PodTemplate.
pub static POD_TEMPLATE: Kind = Kind {
    defaults: |object| {
        if let Some(template) = object.get_mut("template") {
            set_template_defaults(template);
        }
    },
    validate: |object, errors| errors.extend(validate_template(&object["template"], "template")),
    columns: &[
        NAME,
        column("Containers", "string", 0, "Names of the template's containers."),
        column("Images", "string", 0, "Images of the template's containers."),
        column("Pod Labels", "string", 0, "Labels of its pods."),
    ],
    cells: |object, _now| {
        let containers =
            |field: &str| joined(items(object, "/template/spec/containers").map(|container| text(container, field).to_owned()));
        let labels = map_text(object.pointer("/template/metadata/labels"));
        vec![name(object), json!(containers("/name")), json!(containers("/image")), json!(labels)]
    },
    ..Kind::COUNTED
};
