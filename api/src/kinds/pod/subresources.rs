//! Parts of a pod with a path of their own: `ephemeralcontainers`, to look into a pod that runs, and `resize`, to give
//! it more or less.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    resources::{amounts, qos_class},
    validation,
};
use crate::{
    field::{ErrorType, FieldError},
    kinds::common::items,
};

const EPHEMERAL: &str = "ephemeralcontainers";
const RESIZE: &str = "resize";

/// Takes over what the part is about and keeps all the rest.
pub fn prepare(part: &str, new: &mut Value, old: &Value) {
    let sent = new.clone();
    let metadata = &sent["metadata"];
    *new = old.clone();
    for field in ["managedFields", "resourceVersion"] {
        if let Some(value) = metadata.get(field) {
            new["metadata"][field] = value.clone();
        }
    }
    match part {
        EPHEMERAL => match sent.pointer("/spec/ephemeralContainers") {
            Some(containers) => new["spec"]["ephemeralContainers"] = containers.clone(),
            None => {
                if let Some(spec) = new["spec"].as_object_mut() {
                    spec.remove("ephemeralContainers");
                }
            }
        },
        RESIZE if same_containers(&sent, old) => {
            for list in ["containers", "initContainers"] {
                let sent = items(&sent["spec"], &format!("/{list}")).cloned().collect::<Vec<_>>();
                for (index, container) in sent.iter().enumerate() {
                    for field in ["resources", "resizePolicy"] {
                        if let Some(value) = container.get(field) {
                            new["spec"][list][index][field] = value.clone();
                        }
                    }
                }
            }
        }
        // Validation tells what is wrong with it.
        _ => new["spec"] = sent["spec"].clone(),
    }
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    items(&pod["spec"], &format!("/{list}")).map(|container| container["name"].as_str().unwrap_or_default().to_owned()).collect()
}

fn same_containers(new: &Value, old: &Value) -> bool {
    ["containers", "initContainers"].iter().all(|list| names(new, list) == names(old, list))
}

/// Errors that refuse an update of a part.
pub fn validate(part: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    match part {
        EPHEMERAL => validate_ephemeral(new, old),
        RESIZE => validate_resize(new, old),
        _ => Vec::new(),
    }
}

fn validate_ephemeral(new: &Value, old: &Value) -> Vec<FieldError> {
    const PATH: &str = "spec.ephemeralContainers";
    let mut errors = Vec::new();
    let mut seen: BTreeSet<String> = ["containers", "initContainers"].iter().flat_map(|list| names(old, list)).collect();
    for (index, container) in items(&new["spec"], "/ephemeralContainers").enumerate() {
        let path = format!("{PATH}[{index}]");
        let text = |field: &str| container[field].as_str().unwrap_or_default().to_owned();
        if text("name").is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !seen.insert(text("name")) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &container["name"]));
        }
        if text("image").is_empty() {
            errors.push(FieldError::required(format!("{path}.image"), ""));
        }
        let target = text("targetContainerName");
        if !target.is_empty() && !names(old, "containers").contains(&target) && !names(old, "initContainers").contains(&target) {
            let field = format!("{path}.targetContainerName");
            errors.push(FieldError { type_: ErrorType::NotFound, ..FieldError::invalid(field, &json!(target), "") });
        }
        for field in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            if container.get(field).is_some_and(|value| !value.is_null() && *value != json!([])) {
                let detail = "cannot be set for an Ephemeral Container";
                errors.push(FieldError::forbidden(format!("{path}.{field}"), detail));
            }
        }
    }
    for before in items(&old["spec"], "/ephemeralContainers") {
        let name = before["name"].as_str().unwrap_or_default();
        match items(&new["spec"], "/ephemeralContainers").find(|container| container["name"] == name) {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(FieldError::forbidden(PATH, detail));
            }
            Some(after) if after != before => {
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n");
                errors.push(FieldError::forbidden(PATH, detail));
            }
            Some(_) => {}
        }
    }
    errors
}

fn validate_resize(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validation::validate_spec(&new["spec"], "spec");
    if qos_class(&new["spec"]) != qos_class(&old["spec"]) {
        let class = json!(qos_class(&new["spec"]));
        errors.push(FieldError::invalid("spec", &class, "Pod QOS Class may not change as a result of resizing"));
    }
    for list in ["containers", "initContainers"] {
        let path = format!("spec.{list}");
        if names(new, list).len() != names(old, list).len() {
            errors.push(FieldError::forbidden(path, format!("{list} may not be added or removed on resize")));
            return errors;
        }
        let pointer = format!("/{list}");
        for (index, (after, before)) in items(&new["spec"], &pointer).zip(items(&old["spec"], &pointer)).enumerate() {
            validate_container(list, &format!("{path}[{index}]"), after, before, &mut errors);
        }
    }
    errors
}

fn validate_container(list: &str, path: &str, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if new["resources"] == old["resources"] && new.get("resizePolicy") == old.get("resizePolicy") {
        return;
    }
    if list == "initContainers" && old["restartPolicy"] != "Always" {
        errors.push(FieldError::forbidden("spec", "resources for non-sidecar init containers are immutable"));
        return;
    }
    for field in ["requests", "limits"] {
        let (after, before) = (amounts(new, field), amounts(old, field));
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            let detail = format!("resource {field} cannot be removed");
            if matches!(name.as_str(), "cpu" | "memory") {
                errors.push(FieldError::forbidden(format!("{path}.resources.{field}"), detail));
            }
        }
        let others = |amounts: &super::resources::Amounts| {
            let mut amounts = amounts.clone();
            amounts.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
            amounts
        };
        if others(&after) != others(&before) {
            errors.push(FieldError::forbidden("spec", "only cpu and memory resources are mutable"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: &Value) -> Value {
        json!({
            "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"restartPolicy": "Always", "dnsPolicy": "Default", "containers": [
                {"name": "a", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File", "resources": resources},
            ]},
            "status": {"phase": "Running"},
        })
    }

    fn details(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::message).collect()
    }

    #[test]
    fn a_resize_changes_resources_and_nothing_else() {
        let old = pod(&json!({"requests": {"cpu": "1"}}));
        let mut new = pod(&json!({"requests": {"cpu": "2"}}));
        new["metadata"]["labels"] = json!({});
        new["spec"]["containers"][0]["image"] = json!("other");
        new["status"] = json!({});
        prepare(RESIZE, &mut new, &old);
        assert_eq!(new["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
        assert_eq!(
            (&new["spec"]["containers"][0]["image"], &new["status"], &new["metadata"]),
            (&json!("i"), &old["status"], &old["metadata"])
        );
        assert_eq!(details(&validate(RESIZE, &new, &old)), Vec::<String>::new());
    }

    #[test]
    fn a_resize_keeps_the_class_and_takes_nothing_away() {
        let old = pod(&json!({"requests": {"cpu": "1"}}));
        let none = details(&validate(RESIZE, &pod(&json!({})), &old));
        assert!(none.iter().any(|error| error.contains("Pod QOS Class may not change as a result of resizing")), "{none:?}");
        assert!(none.iter().any(|error| error.contains("resource requests cannot be removed")), "{none:?}");
        let other = details(&validate(RESIZE, &pod(&json!({"requests": {"cpu": "1", "example.com/x": "1"}})), &old));
        assert!(other.iter().any(|error| error.contains("only cpu and memory resources are mutable")), "{other:?}");
    }

    #[test]
    fn ephemeral_containers_are_added_and_stay() {
        let mut old = pod(&json!({}));
        let mut new = old.clone();
        new["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "i"}]);
        new["spec"]["hostNetwork"] = json!(true);
        prepare(EPHEMERAL, &mut new, &old);
        assert_eq!((new["spec"].get("hostNetwork"), validate(EPHEMERAL, &new, &old).len()), (None, 0));
        old.clone_from(&new);
        new["spec"]["ephemeralContainers"][0]["image"] = json!("j");
        assert_eq!(validate(EPHEMERAL, &new, &old).len(), 1);
        new["spec"]["ephemeralContainers"] = json!([{"name": "a", "image": "i"}, {"name": "e"}]);
        let found = details(&validate(EPHEMERAL, &new, &old));
        assert_eq!(found.len(), 3, "{found:?}");
    }
}
