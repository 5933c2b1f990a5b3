//! `NodeRestriction`: a node writes only what is its own: its Node, its Lease, its pods' statuses, tokens of its pods.
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>

mod node;
mod pod;

use async_trait::async_trait;
use kontiki_api::{
    object::text,
    resources::{NODES, PODS},
    status::Status,
};
use serde_json::Value;

use super::{Operation, Plugin, Request, lookup};
use crate::{auth::user, service::ApiServer};

/// Namespace of the nodes' leases.
const LEASES: &str = "kube-node-lease";

/// The plugin.
pub struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation != Operation::Connect && request.user.is_in(user::GROUP_NODES)
    }

    async fn mutate(&self, server: &ApiServer, request: &Request<'_>, object: &mut Value, old: &Value) -> Result<(), Status> {
        let Some(node) = user::node_name(request.user) else { return Ok(()) };
        if node.is_empty() {
            return Err(request.forbidden(format!("could not determine node from user {:?}", request.user.name)));
        }
        let pod = match bound_pod(request, object) {
            Some(name) => lookup::find(server, &PODS, request.namespace, name).await?,
            None => None,
        };
        let itself = match request.operation {
            Operation::Create if request.is(&PODS) => lookup::find(server, &NODES, "", node).await?,
            _ => None,
        };
        let facts = Facts { node, pod: pod.as_ref(), itself: itself.as_ref() };
        facts.check(request, object, old).map_err(|refusal| match refusal {
            Refusal::Forbidden(why) => request.forbidden(why),
            Refusal::NotFound(resource, name) => Status::not_found("", resource, &name),
        })
    }
}

/// The pod that a request of a node speaks of without being about the Pod object itself.
fn bound_pod<'a>(request: &'a Request<'_>, object: &'a Value) -> Option<&'a str> {
    match (request.resource.key.plural, request.subresource) {
        ("pods", "eviction") => Some(request.name),
        ("serviceaccounts", "token") => Some(text(object, "/spec/boundObjectRef/name")).filter(|name| !name.is_empty()),
        _ => None,
    }
}

/// What the decision needs beside the request.
struct Facts<'a> {
    node: &'a str,
    /// The pod that [`bound_pod`] names.
    pod: Option<&'a Value>,
    /// The node's own object.
    itself: Option<&'a Value>,
}

/// Why a node may not.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Forbidden(String),
    NotFound(&'static str, String),
}

fn forbid(why: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal::Forbidden(why.into()))
}

impl Facts<'_> {
    fn check(&self, request: &Request<'_>, object: &Value, old: &Value) -> Result<(), Refusal> {
        let node = self.node;
        let key = &request.resource.key;
        let part = request.subresource;
        match (key.group, key.plural) {
            ("", "pods") => self.check_pod(request, object, old),
            ("", "nodes") => node::check(node, request, object, old),
            ("", "persistentvolumeclaims") if part == "status" => self.check_claim_status(request, object, old),
            ("", "persistentvolumeclaims") => forbid("may only update PVC status"),
            ("", "serviceaccounts") if part == "token" => self.check_token(request, object),
            ("coordination.k8s.io", "leases") if request.namespace != LEASES => {
                forbid(format!("can only access leases in the {LEASES:?} system namespace"))
            }
            ("coordination.k8s.io", "leases") if request.name != node => {
                forbid("can only access node lease with the same name as the requesting node")
            }
            ("storage.k8s.io", "csinodes") if request.name != node => {
                forbid("can only access CSINode with the same name as the requesting node")
            }
            ("resource.k8s.io", "resourceslices") => self.check_slice(request, object, old),
            ("certificates.k8s.io", "certificatesigningrequests") => self.check_certificate(request, object),
            _ => Ok(()),
        }
    }

    fn check_slice(&self, request: &Request<'_>, object: &Value, old: &Value) -> Result<(), Refusal> {
        let (slice, verb) = match request.operation {
            Operation::Create => (object, "create"),
            Operation::Delete => (old, "delete"),
            Operation::Update | Operation::Connect => return Ok(()),
        };
        if text(slice, "/spec/nodeName") == self.node {
            return Ok(());
        }
        forbid(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
    }

    fn check_claim_status(&self, request: &Request<'_>, object: &Value, old: &Value) -> Result<(), Refusal> {
        if request.operation != Operation::Update {
            return forbid(format!("unexpected operation {:?}", request.operation.name()));
        }
        let rest = |claim: &Value| {
            let mut claim = claim.clone();
            for (holder, fields) in [
                ("metadata", &["resourceVersion", "managedFields"][..]),
                ("status", &["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"][..]),
            ] {
                if let Some(holder) = claim.get_mut(holder).and_then(Value::as_object_mut) {
                    holder.retain(|name, _| !fields.contains(&name.as_str()));
                }
            }
            claim
        };
        if rest(object) == rest(old) {
            return Ok(());
        }
        forbid(format!("node {:?} is not allowed to update fields other than status.quantity and status.conditions", self.node))
    }

    /// A node asks for tokens only on behalf of its pods.
    fn check_token(&self, request: &Request<'_>, object: &Value) -> Result<(), Refusal> {
        if request.operation != Operation::Create {
            return Ok(());
        }
        let reference = |field: &str| text(object, &format!("/spec/boundObjectRef/{field}"));
        if (reference("apiVersion"), reference("kind")) != ("v1", "Pod") || reference("name").is_empty() {
            return forbid("node requested token not bound to a pod");
        }
        if reference("uid").is_empty() {
            return forbid("node requested token with a pod binding without a uid");
        }
        let Some(pod) = self.pod else { return Err(Refusal::NotFound("pods", reference("name").to_owned())) };
        if reference("uid") != text(pod, "/metadata/uid") {
            return forbid(format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
                reference("uid")
            ));
        }
        if text(pod, "/spec/nodeName") != self.node {
            return forbid("node requested token bound to a pod scheduled on a different node");
        }
        Ok(())
    }

    /// A node asks for certificates only in its own name.
    fn check_certificate(&self, request: &Request<'_>, object: &Value) -> Result<(), Refusal> {
        let kubelets = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
        if request.operation != Operation::Create || !kubelets.contains(&text(object, "/spec/signerName")) {
            return Ok(());
        }
        let name = format!("system:node:{}", self.node);
        match crate::auth::signing_request::parse(text(object, "/spec/request")) {
            Ok(asked) if asked.common_name == name => Ok(()),
            Ok(_) => forbid(format!("can only create a node CSR with CN={name}")),
            Err(error) => forbid(format!("unable to parse csr: {error}")),
        }
    }
}

#[cfg(test)]
mod tests;
