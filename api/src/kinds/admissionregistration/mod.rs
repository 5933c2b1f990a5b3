//! Kinds of the group `admissionregistration.k8s.io`: webhooks, and policies with their bindings.

mod matching;
mod policy;
mod webhook;

pub use policy::{
    MUTATING_ADMISSION_POLICY, MUTATING_ADMISSION_POLICY_BINDING, VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
};
pub use webhook::{MUTATING_WEBHOOK_CONFIGURATION, VALIDATING_WEBHOOK_CONFIGURATION};
