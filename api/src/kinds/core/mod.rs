//! Kinds of the core group.

mod component_status;
mod endpoints;
mod limit_range;
mod persistent_volume;
pub mod persistent_volume_claim;
mod pod_template;
mod quota_scopes;
mod replication_controller;
mod resource_quota;

pub use component_status::COMPONENT_STATUS;
pub use endpoints::{ENDPOINTS, check_address as check_endpoint_address};
pub use limit_range::LIMIT_RANGE;
pub use persistent_volume::PERSISTENT_VOLUME;
pub use persistent_volume_claim::PERSISTENT_VOLUME_CLAIM;
pub use pod_template::POD_TEMPLATE;
pub use replication_controller::REPLICATION_CONTROLLER;
pub use resource_quota::RESOURCE_QUOTA;
