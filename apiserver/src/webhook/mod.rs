//! Admission webhooks: servers of others that are asked before an object is stored.
//!
//! In: the configurations as the cache has them, a request. Out: the object as the webhooks changed it, or a refusal in
//! kube-apiserver's words. `matching` and `review` decide and are pure; `dispatch` calls.
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>

pub mod conditions;
mod dispatch;
pub mod matching;
mod review;
#[cfg(test)]
mod tests;

pub use dispatch::{MutatingAdmissionWebhook, ValidatingAdmissionWebhook, in_version, namespace_of, versions};
