//! Resource quotas: what an object uses, which quotas it falls under, whether it fits.
//!
//! In: objects and quotas as JSON. Out: usages and refusals in Kubernetes' words. Pure; the API server's admission and
//! the quota controller share it, so that both count the same.
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

mod check;
mod list;
mod scope;
mod usage;

pub use check::{Change, admit, matches, object_usage, quota_status};
pub use list::{Amount, List};
pub use usage::{Evaluator, is_charged};
