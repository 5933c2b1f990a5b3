//! What is particular about each kind: one file a kind, listed here and nowhere else.
//!
//! In: decoded objects. Out: defaults, field errors, table rows. Facts and words are v1.36's.

mod common;
mod config_map;
mod deployment;
mod endpoint_slice;
mod event;
mod lease;
mod namespace;
mod node;
pub mod pod;
mod rbac;
mod replica_set;
mod review;
mod secret;
mod service;
mod service_account;
pub mod validate;

pub(crate) use common::keep;

use crate::{resources::ResourceKey, strategy::Strategy};

/// Strategy of a resource's kind.
#[must_use]
pub fn strategy(key: &ResourceKey) -> &'static dyn Strategy {
    match key.kind {
        "Namespace" => &namespace::NamespaceStrategy,
        "Node" => &node::NodeStrategy,
        "Pod" => &pod::PodStrategy,
        "Service" => &service::ServiceStrategy,
        "ConfigMap" => &config_map::ConfigMapStrategy,
        "Secret" => &secret::SecretStrategy,
        "ServiceAccount" => &service_account::ServiceAccountStrategy,
        "Event" => &event::EventStrategy,
        "EndpointSlice" => &endpoint_slice::EndpointSliceStrategy,
        "Lease" => &lease::LeaseStrategy,
        "Deployment" => &deployment::DeploymentStrategy,
        "ReplicaSet" => &replica_set::ReplicaSetStrategy,
        "Role" => &rbac::ROLE,
        "ClusterRole" => &rbac::CLUSTER_ROLE,
        "RoleBinding" => &rbac::ROLE_BINDING,
        "ClusterRoleBinding" => &rbac::CLUSTER_ROLE_BINDING,
        _ => &review::ReviewStrategy,
    }
}
