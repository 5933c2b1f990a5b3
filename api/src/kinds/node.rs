//! Node.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    common::{AGE, NAME, age, column, items, joined, keep, name},
    validate,
};
use crate::{
    field::FieldError,
    object::text,
    strategy::{Column, Strategy},
};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", 0, "Whether the node is ready and takes pods."),
    column("Roles", "string", 0, "What the node is for."),
    AGE,
    column("Version", "string", 0, "Version of the kubelet."),
    column("Internal-IP", "string", 1, "Address within the cluster."),
    column("External-IP", "string", 1, "Address outside the cluster."),
    column("OS-Image", "string", 1, "Operating system."),
    column("Kernel-Version", "string", 1, "Version of the kernel."),
    column("Container-Runtime", "string", 1, "What runs containers."),
];

/// Node.
pub struct NodeStrategy;

impl Strategy for NodeStrategy {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (index, taint) in items(object, "/spec/taints").enumerate() {
            let path = format!("spec.taints[{index}]");
            let key = text(taint, "/key");
            let wrong = |reason| FieldError::invalid(format!("{path}.key"), &json!(key), reason);
            errors.extend(crate::names::qualified_name(key).into_iter().map(wrong));
            let effect = text(taint, "/effect");
            let supported = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
            if !supported.contains(&effect) {
                errors.push(FieldError::not_supported(format!("{path}.effect"), &json!(effect), supported));
            }
        }
        errors
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        for pointer in ["/spec/podCIDR", "/spec/podCIDRs", "/spec/providerID"] {
            if old.pointer(pointer).is_some_and(|value| value != "" && Some(value) != new.pointer(pointer)) {
                let detail = "node updates may not change it once it is set";
                errors.push(FieldError::forbidden(validate::path(pointer), detail));
            }
        }
        errors
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn field_value(&self, object: &Value, _path: &str) -> String {
        object.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or(false).to_string()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let none = |value: &str| json!(if value.is_empty() { "<none>" } else { value });
        let unknown = |value: &str| json!(if value.is_empty() { "<unknown>" } else { value });
        let address = |kind: &str| {
            let found = items(object, "/status/addresses").find(|address| address["type"] == kind);
            none(found.map(|address| text(address, "/address")).unwrap_or_default())
        };
        vec![
            name(object),
            json!(status(object)),
            json!(roles(object)),
            age(object, now),
            json!(text(object, "/status/nodeInfo/kubeletVersion")),
            address("InternalIP"),
            address("ExternalIP"),
            unknown(text(object, "/status/nodeInfo/osImage")),
            unknown(text(object, "/status/nodeInfo/kernelVersion")),
            unknown(text(object, "/status/nodeInfo/containerRuntimeVersion")),
        ]
    }
}

fn status(object: &Value) -> String {
    let ready = items(object, "/status/conditions").find(|condition| condition["type"] == "Ready");
    let mut status = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object.pointer("/spec/unschedulable") == Some(&json!(true)) {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(object: &Value) -> String {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    joined(labels.filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) => Some(role.to_owned()),
        None if key == "kubernetes.io/role" => value.as_str().map(str::to_owned),
        None => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cordoned_control_plane_shows_as_such() {
        let node = json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(status(&node), "Ready,SchedulingDisabled");
        assert_eq!(roles(&node), "control-plane");
    }
}
