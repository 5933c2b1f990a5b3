//! What a write must satisfy beyond its kind's own rules, and what the server adds to it.
//!
//! In: a [`Request`], the object that is about to be stored and the one that is stored. Out: the object, completed, or a
//! refusal in Kubernetes' words. A [`Chain`] is plugins in Kubernetes' order; all of them may change the object first,
//! then all of them look at what will be stored. Invariant: both phases see the very object of the transaction that
//! commits it, so a change that is computed again is admitted again.
//!
//! A new plugin is one file that implements [`Plugin`] and one line in [`plugins`]. What decides in it is a pure function
//! of objects; what it looks up comes from the caches.
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>

mod certificates;
mod chain;
mod defaults;
mod limit_ranger;
pub mod lookup;
mod namespace;
mod node_restriction;
mod node_taint;
mod pod_security;
mod priority;
mod resource_quota;
mod role_grants;
mod runtime_class;
mod service_account;
mod storage;
mod tolerations;

pub use chain::{Chain, Operation, Plugin, Request};

use crate::{
    policy::{MutatingAdmissionPolicy, ValidatingAdmissionPolicy},
    webhook::{MutatingAdmissionWebhook, ValidatingAdmissionWebhook},
};

/// Every plugin, in the order of `AllOrderedPlugins` of kube-apiserver.
#[must_use]
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(namespace::NamespaceLifecycle),
        Box::new(limit_ranger::LimitRanger),
        Box::new(service_account::ServiceAccount),
        Box::new(node_restriction::NodeRestriction),
        Box::new(node_taint::TaintNodesByCondition),
        Box::new(pod_security::PodSecurity),
        Box::new(priority::Priority),
        Box::new(tolerations::DefaultTolerationSeconds),
        Box::new(storage::DefaultStorageClass),
        Box::new(storage::StorageObjectInUseProtection),
        Box::new(storage::PersistentVolumeClaimResize),
        Box::new(runtime_class::RuntimeClass),
        Box::new(certificates::CertificateRequester),
        Box::new(certificates::CertificateApproval),
        Box::new(certificates::CertificateSigning),
        Box::new(certificates::CertificateSubjectRestriction),
        Box::new(defaults::DefaultIngressClass),
        Box::new(role_grants::RoleGrants),
        Box::new(MutatingAdmissionPolicy),
        Box::new(MutatingAdmissionWebhook),
        Box::new(ValidatingAdmissionPolicy),
        Box::new(ValidatingAdmissionWebhook),
        // Quota comes last, so that nothing is charged that somebody else refuses.
        Box::new(resource_quota::ResourceQuota::default()),
    ]
}
