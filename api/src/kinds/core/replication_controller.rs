//! ReplicationController.

use serde_json::{Value, json};

use crate::kinds::{
    check::{At, selects},
    common::{AGE, NAME, age, column, default, map_of, map_text, name},
    deployment::template_cells,
    kind::{Errors, Kind},
    pod::{set_template_defaults, validate_lasting_template},
};

/// ReplicationController.
pub static REPLICATION_CONTROLLER: Kind = Kind {
    defaults: |object| {
        if let Some(template) = object.pointer_mut("/spec/template").filter(|template| !template.is_null()) {
            set_template_defaults(template);
        }
        let labels = object.pointer("/spec/template/metadata/labels").filter(|labels| labels.is_object()).cloned();
        let Some(spec) = map_of(object, "spec") else { return };
        default(spec, "replicas", 1);
        let Some(labels) = labels else { return };
        default(spec, "selector", labels.clone());
        if let Some(metadata) = map_of(object, "metadata") {
            default(metadata, "labels", labels);
        }
    },
    create: |object, _now| object["status"] = json!({"replicas": 0}),
    validate: check,
    fields: &["status.replicas"],
    field_value: |object, _path| object["status"]["replicas"].as_i64().unwrap_or(0).to_string(),
    columns: &[
        NAME,
        column("Desired", "integer", 0, "Pods that are wanted."),
        column("Current", "integer", 0, "Pods that are there."),
        column("Ready", "integer", 0, "Pods that are ready."),
        AGE,
        column("Containers", "string", 1, "Names of the template's containers."),
        column("Images", "string", 1, "Images of the template's containers."),
        column("Selector", "string", 1, "Labels of its pods."),
    ],
    cells: |object, now| {
        let number = |pointer: &str| json!(object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0));
        let [containers, images, _] = template_cells(object);
        let selector = json!(map_text(object.pointer("/spec/selector")));
        vec![
            name(object),
            number("/spec/replicas"),
            number("/status/replicas"),
            number("/status/readyReplicas"),
            age(object, now),
            containers,
            images,
            selector,
        ]
    },
    ..Kind::COUNTED_WITH_STATUS
};

fn check(object: &Value, errors: &mut Errors) {
    let spec = At::root(object).get("spec");
    spec.get("minReadySeconds").not_negative(errors);
    let selector = spec.get("selector");
    if selector.is_empty() {
        selector.required("", errors);
    }
    spec.get("replicas").not_negative(errors);
    let template = spec.get("template");
    if template.is_absent() {
        return template.required("", errors);
    }
    let labels = template.get("metadata.labels");
    if !selector.is_empty() && !selects(&json!({ "matchLabels": selector.value }), labels.value) {
        labels.invalid("`selector` does not match template `labels`", errors);
    }
    errors.extend(validate_lasting_template(template.value, &template.path, "ReplicationController"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn selector_and_labels_come_from_the_template() {
        let mut object = json!({"metadata": {"name": "a"}, "spec": {"template": {"metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": "a", "image": "a:1"}]}}}});
        REPLICATION_CONTROLLER.set_defaults(&mut object);
        assert_eq!((&object["spec"]["selector"], &object["metadata"]["labels"]), (&json!({"app": "x"}), &json!({"app": "x"})));
        assert_eq!(object["spec"]["replicas"], 1);
        assert_eq!(REPLICATION_CONTROLLER.validate(&object), vec![]);
        object["spec"]["selector"] = json!({"app": "y"});
        assert_eq!(REPLICATION_CONTROLLER.validate(&object)[0].field, "spec.template.metadata.labels");
    }
}
