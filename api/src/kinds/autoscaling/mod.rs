//! Kinds of the group `autoscaling`.

mod horizontal_pod_autoscaler;
mod metrics;

pub use horizontal_pod_autoscaler::{HORIZONTAL_POD_AUTOSCALER, HORIZONTAL_POD_AUTOSCALER_V1};
