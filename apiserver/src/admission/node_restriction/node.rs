//! What a node may write of its own Node object: not its taints, not its owners, and of Kubernetes' labels only those
//! that kubelets set.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Refusal, forbid};
use crate::admission::{Operation, Request};

const KUBELET_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const KUBELET_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESTRICTED_NAMESPACE: &str = "node-restriction.kubernetes.io";

pub fn check(node: &str, request: &Request<'_>, object: &Value, old: &Value) -> Result<(), Refusal> {
    if request.name != node {
        return forbid(format!("node {node:?} is not allowed to modify node {:?}", request.name));
    }
    let changed = |pointer: &str| {
        let read = |value: &Value| value.pointer(pointer).filter(|value| !value.is_null()).cloned();
        let empty = |value: &Option<Value>| value.as_ref().is_none_or(|value| value.as_array().is_some_and(Vec::is_empty));
        let (new, old) = (read(object), read(old));
        new != old && !(empty(&new) && empty(&old))
    };
    let source = object.pointer("/spec/configSource").is_some_and(|source| !source.is_null());
    let labels = forbidden_labels(object, old);
    let list = || labels.iter().copied().collect::<Vec<_>>().join(", ");
    match request.operation {
        Operation::Create if source => forbid(format!("node {node:?} is not allowed to create pods with a non-nil configSource")),
        Operation::Create if !labels.is_empty() => {
            forbid(format!("node {node:?} is not allowed to set the following labels: {}", list()))
        }
        Operation::Update if source && changed("/spec/configSource") => {
            forbid(format!("node {node:?} is not allowed to update configSource to a new non-nil configSource"))
        }
        Operation::Update if changed("/spec/taints") => forbid(format!("node {node:?} is not allowed to modify taints")),
        Operation::Update if changed("/metadata/ownerReferences") => {
            forbid(format!("node {node:?} is not allowed to modify ownerReferences"))
        }
        Operation::Update if !labels.is_empty() => forbid(format!("is not allowed to modify labels: {}", list())),
        _ => Ok(()),
    }
}

/// Labels that differ and that a node may not set or take away.
fn forbidden_labels<'a>(new: &'a Value, old: &'a Value) -> BTreeSet<&'a str> {
    let labels = |object: &'a Value| object.pointer("/metadata/labels").and_then(Value::as_object);
    let (new, old) = (labels(new), labels(old));
    let names = new.into_iter().chain(old).flat_map(serde_json::Map::keys);
    let value = |labels: Option<&'a serde_json::Map<String, Value>>, name: &str| labels.and_then(|labels| labels.get(name));
    names.filter(|name| value(new, name) != value(old, name)).map(String::as_str).filter(|name| is_forbidden(name)).collect()
}

fn is_forbidden(label: &str) -> bool {
    let Some((namespace, _)) = label.split_once('/') else { return false };
    let within = |domain: &str| namespace == domain || namespace.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    let kubelets = KUBELET_LABELS.contains(&label) || KUBELET_NAMESPACES.into_iter().any(within);
    within(RESTRICTED_NAMESPACE) || (within("kubernetes.io") || within("k8s.io")) && !kubelets
}
