//! The Node authorizer: a node reads what its pods name, and nothing else.
//!
//! In: the [`Graph`] of what each node's pods refer to, and a request of a node. Out: allowed, or why not, in Kubernetes'
//! words. What is not subdivided by object is allowed by the rules of the role `system:node`, which nobody is bound to.
//! <https://kubernetes.io/docs/reference/access-authn-authz/node/>

mod graph;
mod references;

use super::{Attributes, Decision, rules::PolicyRule};
pub use graph::{Graph, Kind};

/// Namespace of the nodes' leases.
const LEASES: &str = "kube-node-lease";

/// Whether a node may do what it asks for. `rules` are those of the role `system:node`.
#[must_use]
pub fn authorize(graph: &Graph, rules: &[&PolicyRule], node: &str, request: &Attributes) -> Decision {
    match judge(graph, rules, node, request) {
        Ok(()) => Decision::Allowed(String::new()),
        Err(reason) => Decision::Denied(reason),
    }
}

fn judge(graph: &Graph, rules: &[&PolicyRule], node: &str, request: &Attributes) -> Result<(), String> {
    let related = |kind| is_related(graph, node, kind, request);
    match (request.group.as_str(), request.resource.as_str()) {
        ("", "secrets") => read_object(request).and_then(|()| related(Kind::Secret)),
        ("", "configmaps") => read_object(request).and_then(|()| related(Kind::ConfigMap)),
        ("", "persistentvolumeclaims") if request.subresource == "status" => match request.verb.as_str() {
            "update" | "patch" => related(Kind::PersistentVolumeClaim),
            _ => deny("can only get/update/patch this type"),
        },
        ("", "persistentvolumeclaims") => get_object(request).and_then(|()| related(Kind::PersistentVolumeClaim)),
        ("", "persistentvolumes") => get_object(request).and_then(|()| related(Kind::PersistentVolume)),
        ("resource.k8s.io", "resourceclaims") => get_object(request).and_then(|()| related(Kind::ResourceClaim)),
        ("storage.k8s.io", "volumeattachments") => get_object(request).and_then(|()| related(Kind::VolumeAttachment)),
        ("", "serviceaccounts") => service_account(graph, node, request),
        ("coordination.k8s.io", "leases") => lease(node, request),
        ("storage.k8s.io", "csinodes") => csi_node(node, request),
        ("resource.k8s.io", "resourceslices") => resource_slice(graph, node, request),
        ("", "nodes") => own_node(node, request),
        ("", "pods") => pod(graph, node, request),
        _ if rules.iter().any(|rule| rule.allows(request)) => Ok(()),
        _ => deny(""),
    }
}

fn deny(why: impl Into<String>) -> Result<(), String> {
    Err(why.into())
}

fn is_related(graph: &Graph, node: &str, kind: Kind, request: &Attributes) -> Result<(), String> {
    if request.name.is_empty() {
        return deny("No Object name found");
    }
    if graph.leads_to(node, kind, &request.namespace, &request.name) {
        return Ok(());
    }
    deny(format!("no relationship found between node '{node}' and this object"))
}

fn get_object(request: &Attributes) -> Result<(), String> {
    match (request.verb.as_str(), request.subresource.as_str()) {
        ("get", "") => Ok(()),
        ("get", _) => deny("cannot get subresource"),
        _ => deny("can only get individual resources of this type"),
    }
}

fn read_object(request: &Attributes) -> Result<(), String> {
    match (request.verb.as_str(), request.subresource.as_str()) {
        ("get" | "list" | "watch", "") if request.namespace.is_empty() => deny("can only read namespaced object of this type"),
        ("get" | "list" | "watch", "") => Ok(()),
        ("get" | "list" | "watch", _) => deny("cannot read subresource"),
        _ => deny("can only read resources of this type"),
    }
}

fn service_account(graph: &Graph, node: &str, request: &Attributes) -> Result<(), String> {
    match (request.verb.as_str(), request.subresource.as_str()) {
        ("get", "") => read_object(request)?,
        ("create", _) if request.name.is_empty() => return deny("can only create tokens for individual service accounts"),
        ("create", "token") => {}
        ("create", _) => return deny("can only create token subresource of serviceaccount"),
        _ => return deny("can only create tokens for individual service accounts"),
    }
    is_related(graph, node, Kind::ServiceAccount, request)
}

fn lease(node: &str, request: &Attributes) -> Result<(), String> {
    let verb = request.verb.as_str();
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        return deny("can only get, create, update, patch, or delete a node lease");
    }
    if request.namespace != LEASES {
        return deny(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    // The name of what is created is known to admission alone.
    if verb != "create" && request.name != node {
        return deny("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn csi_node(node: &str, request: &Attributes) -> Result<(), String> {
    let verb = request.verb.as_str();
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        return deny("can only get, create, update, patch, or delete a CSINode");
    }
    if !request.subresource.is_empty() {
        return deny("cannot authorize CSINode subresources");
    }
    if verb != "create" && request.name != node {
        return deny("can only access CSINode with the same name as the requesting node");
    }
    Ok(())
}

fn resource_slice(graph: &Graph, node: &str, request: &Attributes) -> Result<(), String> {
    if !request.subresource.is_empty() {
        return deny("cannot authorize ResourceSlice subresources");
    }
    match request.verb.as_str() {
        "create" => Ok(()),
        "get" | "update" | "patch" | "delete" => is_related(graph, node, Kind::ResourceSlice, request),
        "watch" | "list" | "deletecollection" if request.fields.required("spec.nodeName") == Some(node) => Ok(()),
        "watch" | "list" | "deletecollection" => {
            deny("can only list/watch/deletecollection resourceslices with nodeName field selector")
        }
        _ => deny(
            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
        ),
    }
}

fn own_node(node: &str, request: &Attributes) -> Result<(), String> {
    match (request.subresource.as_str(), request.verb.as_str()) {
        // Which Node it writes is for the NodeRestriction plugin to see.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") if request.name == node => Ok(()),
        ("", "get" | "list" | "watch") if request.name.is_empty() => {
            deny(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => deny(format!("node '{node}' cannot read '{}', only its own Node object", request.name)),
        _ => deny(""),
    }
}

fn pod(graph: &Graph, node: &str, request: &Attributes) -> Result<(), String> {
    match (request.subresource.as_str(), request.verb.as_str()) {
        ("", "get") => is_related(graph, node, Kind::Pod, request),
        ("", "list" | "watch") if request.fields.required("spec.nodeName") == Some(node) => Ok(()),
        ("", "list" | "watch") if !request.name.is_empty() => is_related(graph, node, Kind::Pod, request),
        ("", "list" | "watch") => deny("can only list/watch pods with spec.nodeName field selector"),
        // Whose pods these are is for the NodeRestriction plugin to see.
        ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
        _ => deny(""),
    }
}

#[cfg(test)]
mod tests;
