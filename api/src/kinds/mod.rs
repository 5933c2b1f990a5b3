//! What is particular about each kind: one file a kind, listed here and nowhere else.
//!
//! In: decoded objects. Out: defaults, field errors, table rows. Facts and words are v1.36's.

mod apps;
mod batch;
pub mod check;
mod common;
mod config_map;
mod core;
mod deployment;
mod endpoint_slice;
mod event;
pub mod kind;
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
use kind::Kind;

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
        "Event" if key.group == "events.k8s.io" => &Kind::NEW,
        "Event" => &event::EventStrategy,
        "EndpointSlice" => &endpoint_slice::EndpointSliceStrategy,
        "Lease" => &lease::LeaseStrategy,
        "Deployment" => &deployment::DeploymentStrategy,
        "ReplicaSet" => &replica_set::ReplicaSetStrategy,
        "Role" => &rbac::ROLE,
        "ClusterRole" => &rbac::CLUSTER_ROLE,
        "RoleBinding" => &rbac::ROLE_BINDING,
        "ClusterRoleBinding" => &rbac::CLUSTER_ROLE_BINDING,
        "Endpoints" => &core::ENDPOINTS,
        "LimitRange" => &core::LIMIT_RANGE,
        "PersistentVolume" => &core::PERSISTENT_VOLUME,
        "PersistentVolumeClaim" => &core::PERSISTENT_VOLUME_CLAIM,
        "PodTemplate" => &core::POD_TEMPLATE,
        "ReplicationController" => &core::REPLICATION_CONTROLLER,
        "ResourceQuota" => &core::RESOURCE_QUOTA,
        "ComponentStatus" => &core::COMPONENT_STATUS,
        "ControllerRevision" => &apps::CONTROLLER_REVISION,
        "DaemonSet" => &apps::DAEMON_SET,
        "StatefulSet" => &apps::STATEFUL_SET,
        "Job" => &batch::JOB,
        "CronJob" => &batch::CRON_JOB,
        "Ingress"
        | "PodDisruptionBudget"
        | "FlowSchema"
        | "PriorityLevelConfiguration"
        | "CustomResourceDefinition"
        | "ValidatingAdmissionPolicy" => &Kind::COUNTED_WITH_STATUS,
        "HorizontalPodAutoscaler"
        | "ServiceCIDR"
        | "CertificateSigningRequest"
        | "VolumeAttachment"
        | "APIService"
        | "ResourceClaim" => &Kind::WITH_STATUS,
        "NetworkPolicy"
        | "IngressClass"
        | "PriorityClass"
        | "MutatingAdmissionPolicy"
        | "MutatingAdmissionPolicyBinding"
        | "ValidatingAdmissionPolicyBinding"
        | "MutatingWebhookConfiguration"
        | "ValidatingWebhookConfiguration"
        | "DeviceClass"
        | "ResourceSlice"
        | "CSIDriver" => &Kind::COUNTED,
        "IPAddress"
        | "CSINode"
        | "CSIStorageCapacity"
        | "StorageClass"
        | "VolumeAttributesClass"
        | "RuntimeClass"
        | "ResourceClaimTemplate" => &Kind::NEW,
        _ => &review::ReviewStrategy,
    }
}
