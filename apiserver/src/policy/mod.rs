//! Admission policies: rules in CEL that the server evaluates itself.
//!
//! In: policies and their bindings as the cache has them, a request. Out: the object as mutating policies changed it,
//! or a refusal in kube-apiserver's words. `select` finds what applies, `expression` evaluates; both are pure.
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>

mod expression;
mod mutating;
mod select;
pub mod status;
mod validating;

pub use mutating::MutatingAdmissionPolicy;
pub use validating::ValidatingAdmissionPolicy;
