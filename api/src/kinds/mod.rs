//! What is particular about each kind: one file a kind, listed here and nowhere else.
//!
//! In: decoded objects. Out: defaults, field errors, table rows. Facts and words are v1.36's.

mod admissionregistration;
pub mod apiregistration;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
pub mod check;
mod common;
mod config_map;
mod core;
mod custom_resource_definition;
mod deployment;
mod endpoint_slice;
mod event;
mod flowcontrol;
pub mod kind;
mod lease;
mod namespace;
mod networking;
mod node;
pub mod pod;
mod policy;
mod rbac;
mod replica_set;
mod resource;
mod review;
mod runtime_class;
mod scheduling;
mod secret;
mod service;
mod service_account;
mod storage;
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
        "CustomResourceDefinition" => &custom_resource_definition::CUSTOM_RESOURCE_DEFINITION,
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
        "APIService" => &apiregistration::API_SERVICE,
        "CertificateSigningRequest" => &certificates::CERTIFICATE_SIGNING_REQUEST,
        "CSIDriver" => &storage::CSI_DRIVER,
        "CSINode" => &storage::CSI_NODE,
        "CSIStorageCapacity" => &storage::CSI_STORAGE_CAPACITY,
        "DeviceClass" => &resource::DEVICE_CLASS,
        "FlowSchema" => &flowcontrol::FLOW_SCHEMA,
        "HorizontalPodAutoscaler" if key.version == "v1" => &autoscaling::HORIZONTAL_POD_AUTOSCALER_V1,
        "HorizontalPodAutoscaler" => &autoscaling::HORIZONTAL_POD_AUTOSCALER,
        "Ingress" => &networking::INGRESS,
        "IngressClass" => &networking::INGRESS_CLASS,
        "IPAddress" => &networking::IP_ADDRESS,
        "MutatingAdmissionPolicy" => &admissionregistration::MUTATING_ADMISSION_POLICY,
        "MutatingAdmissionPolicyBinding" => &admissionregistration::MUTATING_ADMISSION_POLICY_BINDING,
        "MutatingWebhookConfiguration" => &admissionregistration::MUTATING_WEBHOOK_CONFIGURATION,
        "NetworkPolicy" => &networking::NETWORK_POLICY,
        "PodDisruptionBudget" => &policy::POD_DISRUPTION_BUDGET,
        "PriorityClass" => &scheduling::PRIORITY_CLASS,
        "PriorityLevelConfiguration" => &flowcontrol::PRIORITY_LEVEL_CONFIGURATION,
        "ResourceClaim" => &resource::RESOURCE_CLAIM,
        "ResourceClaimTemplate" => &resource::RESOURCE_CLAIM_TEMPLATE,
        "ResourceSlice" => &resource::RESOURCE_SLICE,
        "RuntimeClass" => &runtime_class::RUNTIME_CLASS,
        "ServiceCIDR" => &networking::SERVICE_CIDR,
        "StorageClass" => &storage::STORAGE_CLASS,
        "ValidatingAdmissionPolicy" => &admissionregistration::VALIDATING_ADMISSION_POLICY,
        "ValidatingAdmissionPolicyBinding" => &admissionregistration::VALIDATING_ADMISSION_POLICY_BINDING,
        "ValidatingWebhookConfiguration" => &admissionregistration::VALIDATING_WEBHOOK_CONFIGURATION,
        "VolumeAttachment" => &storage::VOLUME_ATTACHMENT,
        "VolumeAttributesClass" => &storage::VOLUME_ATTRIBUTES_CLASS,
        _ => &review::ReviewStrategy,
    }
}
