//! Kinds of the group `policy`.

mod pod_disruption_budget;

pub use pod_disruption_budget::POD_DISRUPTION_BUDGET;
