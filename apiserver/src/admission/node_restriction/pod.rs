//! What a node may do with pods: report on its own, delete and evict its own, and show its static ones as mirrors.

use kontiki_api::object::{meta, text};
use serde_json::Value;

use super::{Facts, Refusal, forbid};
use crate::admission::{Operation, Request};

const MIRROR: &str = "kubernetes.io/config.mirror";

impl Facts<'_> {
    pub(super) fn check_pod(&self, request: &Request<'_>, object: &Value, old: &Value) -> Result<(), Refusal> {
        let node = self.node;
        let own = |pod: &Value| text(pod, "/spec/nodeName") == node;
        match (request.subresource, request.operation) {
            ("", Operation::Create) => self.check_mirror(object),
            ("", Operation::Delete) if own(old) => Ok(()),
            ("", Operation::Delete) => forbid(format!("node {node:?} can only delete pods with spec.nodeName set to itself")),
            ("", operation) => forbid(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                operation.name()
            )),
            ("status", Operation::Update) if own(old) => self.check_status(object, old),
            ("status", Operation::Update) => {
                forbid(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"))
            }
            ("eviction", Operation::Create) => match self.pod {
                Some(pod) if own(pod) => Ok(()),
                Some(_) => forbid(format!("node {node} can only evict pods with spec.nodeName set to itself")),
                None => Err(Refusal::NotFound("pods", request.name.to_owned())),
            },
            ("status" | "eviction", operation) => forbid(format!("unexpected operation {:?}", operation.name())),
            (part, _) => forbid(format!("unexpected pod subresource {part:?}, only 'status' and 'eviction' are allowed")),
        }
    }

    fn check_status(&self, object: &Value, old: &Value) -> Result<(), Refusal> {
        let labels =
            |pod: &Value| meta::get(pod, "labels").and_then(Value::as_object).filter(|labels| !labels.is_empty()).cloned();
        if labels(object) != labels(old) {
            return forbid(format!("node {:?} cannot update labels through pod status", self.node));
        }
        let list = |pod: &Value, pointer: &str| pod.pointer(pointer).filter(|value| !value.is_null()).cloned();
        if list(object, "/status/resourceClaimStatuses") != list(old, "/status/resourceClaimStatuses") {
            return forbid(format!("node {:?} cannot update resource claim statues", self.node));
        }
        let extended = "/status/extendedResourceClaimStatus";
        if list(object, extended) != list(old, extended) {
            return forbid(format!("node {:?} cannot update extended resource claim status", self.node));
        }
        Ok(())
    }

    fn check_mirror(&self, pod: &Value) -> Result<(), Refusal> {
        let node = self.node;
        if meta::annotation(pod, MIRROR).is_none() {
            return forbid(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
        }
        if text(pod, "/spec/nodeName") != node {
            return forbid(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
        }
        let owners = meta::get(pod, "ownerReferences").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let owner = match owners {
            [] => return forbid(format!("node {node:?} can only create pods with an owner reference set to itself")),
            [one] => one,
            _ => return forbid(format!("node {node:?} can only create pods with a single owner reference set to itself")),
        };
        if (text(owner, "/apiVersion"), text(owner, "/kind"), text(owner, "/name")) != ("v1", "Node", node) {
            return forbid(format!("node {node:?} can only create pods with an owner reference set to itself"));
        }
        if owner["controller"] != true {
            return forbid(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
        }
        if owner["blockOwnerDeletion"] == true {
            return forbid(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
        }
        let Some(itself) = self.itself else { return Err(Refusal::NotFound("nodes", node.to_owned())) };
        let (expected, found) = (text(owner, "/uid"), meta::uid(itself));
        if expected != found {
            return forbid(format!("node {node} UID mismatch: expected {expected} got {found}"));
        }
        match referenced(pod) {
            Some(what) => forbid(format!("node {node:?} can not create pods that reference {what}")),
            None => Ok(()),
        }
    }
}

/// What of the API a pod refers to, if anything.
fn referenced(pod: &Value) -> Option<&'static str> {
    let present = |value: &Value, field: &str| value.get(field).is_some_and(|value| !value.is_null());
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Some("serviceaccounts");
    }
    let items = |value: &Value, list: &str| value.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
    let spec = &pod["spec"];
    let containers: Vec<Value> =
        ["initContainers", "containers", "ephemeralContainers"].iter().flat_map(|list| items(spec, list)).collect();
    let environment = |field: &str, key: &str| {
        containers.iter().any(|container| {
            items(container, "env").iter().any(|entry| entry.get("valueFrom").is_some_and(|from| present(from, key)))
                || items(container, "envFrom").iter().any(|entry| present(entry, field))
        })
    };
    if !items(spec, "imagePullSecrets").is_empty() || environment("secretRef", "secretKeyRef") {
        return Some("secrets");
    }
    if environment("configMapRef", "configMapKeyRef") {
        return Some("configmaps");
    }
    if !items(spec, "resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    const VOLUMES: [(&str, &str); 7] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const SOURCES: [(&str, &str); 5] = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let found = |value: &Value, table: &[(&str, &'static str)]| {
        table.iter().find(|(field, _)| present(value, field)).map(|(_, what)| *what)
    };
    items(spec, "volumes").iter().find_map(|volume| {
        let sources = volume.get("projected").map(|projected| items(projected, "sources")).unwrap_or_default();
        found(volume, &VOLUMES).or_else(|| sources.iter().find_map(|source| found(source, &SOURCES)))
    })
}
