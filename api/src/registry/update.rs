//! What an update may leave out, and what a deletion answers with: small facts of the kinds' storage.

use super::Resource;

/// Kinds of which an update creates an object that is not there.
const CREATED: [&str; 10] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "Endpoints",
    "Event",
    "Lease",
    "LimitRange",
    "Role",
    "RoleBinding",
    "RuntimeClass",
    "Service",
];
/// Kinds whose updates must say which version they change.
const VERSIONED: [&str; 15] = [
    "APIService",
    "CSIDriver",
    "CSINode",
    "CSIStorageCapacity",
    "CustomResourceDefinition",
    "Lease",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "PodDisruptionBudget",
    "RuntimeClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeAttachment",
];

/// Kinds of which a deletion shows the object that went, not only that it went.
const SHOWN_DELETED: [&str; 17] = [
    "CSIDriver",
    "CSINode",
    "DeviceClass",
    "Namespace",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodTemplate",
    "ResourceClaim",
    "ResourceClaimTemplate",
    "ResourceQuota",
    "ResourceSlice",
    "Service",
    "ServiceAccount",
    "StorageClass",
    "VolumeAttachment",
    "VolumeAttributesClass",
];

impl Resource {
    /// Whether a deletion answers with the object that went.
    #[must_use]
    pub fn shows_deleted(&self) -> bool {
        SHOWN_DELETED.contains(&self.key.kind)
    }

    /// Whether an update of an object that does not exist creates it.
    #[must_use]
    pub fn is_created_by_update(&self) -> bool {
        CREATED.contains(&self.key.kind)
    }

    /// Whether an update must name the version that it changes.
    #[must_use]
    pub fn needs_version(&self) -> bool {
        VERSIONED.contains(&self.key.kind)
    }
}
