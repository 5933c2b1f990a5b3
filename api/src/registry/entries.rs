//! The facts of each built-in resource: short names, categories, verbs, subresources.
//!
//! One entry a resource, in no particular order; the registry sorts them. A test compares every
//! entry with v1.36's discovery documents, in both directions.

use super::Subresource;
use super::reviews;
use crate::resources::{self as r, ResourceKey};

/// What discovery says of a resource beside its key.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) key: ResourceKey,
    pub(super) short_names: &'static [&'static str],
    pub(super) categories: &'static [&'static str],
    pub(super) verbs: &'static [&'static str],
    pub(super) subresources: &'static [Subresource],
}

const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
const PART_VERBS: &[&str] = &["get", "patch", "update"];
const CONNECT: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

const fn part(name: &'static str, kind: &'static str, verbs: &'static [&'static str]) -> Subresource {
    Subresource { name, kind, group_version: None, verbs }
}

const fn status(kind: &'static str) -> Subresource {
    part("status", kind, PART_VERBS)
}

const fn foreign(
    name: &'static str,
    kind: &'static str,
    group_version: (&'static str, &'static str),
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource { name, kind, group_version: Some(group_version), verbs }
}

const SCALE: Subresource = foreign("scale", "Scale", ("autoscaling", "v1"), PART_VERBS);

/// An entry without short names, categories and subresources.
const fn plain(key: ResourceKey) -> Entry {
    Entry { key, short_names: &[], categories: &[], verbs: ALL_VERBS, subresources: &[] }
}

impl Entry {
    const fn short(self, short_names: &'static [&'static str]) -> Self {
        Self { short_names, ..self }
    }

    const fn of(self, categories: &'static [&'static str]) -> Self {
        Self { categories, ..self }
    }

    const fn parts(self, subresources: &'static [Subresource]) -> Self {
        Self { subresources, ..self }
    }

    const fn verbs(self, verbs: &'static [&'static str]) -> Self {
        Self { verbs, ..self }
    }
}

const ALL: &[&str] = &["all"];
const EXTENSIONS: &[&str] = &["api-extensions"];

/// Resources whose objects are kept, and component statuses, which are made when they are asked for.
pub(super) const ENTRIES: &[Entry] = &[
    plain(r::COMPONENT_STATUSES).short(&["cs"]).verbs(&["get", "list"]),
    plain(r::CONFIG_MAPS).short(&["cm"]),
    plain(r::ENDPOINTS).short(&["ep"]),
    plain(r::EVENTS).short(&["ev"]),
    plain(r::LIMIT_RANGES).short(&["limits"]),
    plain(r::NAMESPACES)
        .short(&["ns"])
        .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
        .parts(&[part("finalize", "Namespace", &["update"]), status("Namespace")]),
    plain(r::NODES).short(&["no"]).parts(&[part("proxy", "NodeProxyOptions", PROXY), status("Node")]),
    plain(r::PERSISTENT_VOLUME_CLAIMS).short(&["pvc"]).parts(&[status("PersistentVolumeClaim")]),
    plain(r::PERSISTENT_VOLUMES).short(&["pv"]).parts(&[status("PersistentVolume")]),
    plain(r::PODS).short(&["po"]).of(ALL).parts(&[
        part("attach", "PodAttachOptions", CONNECT),
        part("binding", "Binding", CREATE),
        part("ephemeralcontainers", "Pod", PART_VERBS),
        foreign("eviction", "Eviction", ("policy", "v1"), CREATE),
        part("exec", "PodExecOptions", CONNECT),
        part("log", "Pod", &["get"]),
        part("portforward", "PodPortForwardOptions", CONNECT),
        part("proxy", "PodProxyOptions", PROXY),
        part("resize", "Pod", PART_VERBS),
        status("Pod"),
    ]),
    plain(r::POD_TEMPLATES),
    plain(r::REPLICATION_CONTROLLERS).short(&["rc"]).of(ALL).parts(&[SCALE, status("ReplicationController")]),
    plain(r::RESOURCE_QUOTAS).short(&["quota"]).parts(&[status("ResourceQuota")]),
    plain(r::SECRETS),
    plain(r::SERVICE_ACCOUNTS).short(&["sa"]).parts(&[foreign("token", "TokenRequest", ("authentication.k8s.io", "v1"), CREATE)]),
    plain(r::SERVICES).short(&["svc"]).of(ALL).parts(&[part("proxy", "ServiceProxyOptions", PROXY), status("Service")]),
    plain(r::API_SERVICES).of(EXTENSIONS).parts(&[status("APIService")]),
    plain(r::CONTROLLER_REVISIONS),
    plain(r::DAEMON_SETS).short(&["ds"]).of(ALL).parts(&[status("DaemonSet")]),
    plain(r::DEPLOYMENTS).short(&["deploy"]).of(ALL).parts(&[SCALE, status("Deployment")]),
    plain(r::REPLICA_SETS).short(&["rs"]).of(ALL).parts(&[SCALE, status("ReplicaSet")]),
    plain(r::STATEFUL_SETS).short(&["sts"]).of(ALL).parts(&[SCALE, status("StatefulSet")]),
    plain(r::EVENTS_V1).short(&["ev"]),
    plain(r::HORIZONTAL_POD_AUTOSCALERS).short(&["hpa"]).of(ALL).parts(&[status("HorizontalPodAutoscaler")]),
    plain(r::HORIZONTAL_POD_AUTOSCALERS_V1).short(&["hpa"]).of(ALL).parts(&[status("HorizontalPodAutoscaler")]),
    plain(r::CRON_JOBS).short(&["cj"]).of(ALL).parts(&[status("CronJob")]),
    plain(r::JOBS).of(ALL).parts(&[status("Job")]),
    plain(r::CERTIFICATE_SIGNING_REQUESTS)
        .short(&["csr"])
        .parts(&[part("approval", "CertificateSigningRequest", PART_VERBS), status("CertificateSigningRequest")]),
    plain(r::INGRESS_CLASSES),
    plain(r::INGRESSES).short(&["ing"]).parts(&[status("Ingress")]),
    plain(r::IP_ADDRESSES).short(&["ip"]),
    plain(r::NETWORK_POLICIES).short(&["netpol"]),
    plain(r::SERVICE_CIDRS).parts(&[status("ServiceCIDR")]),
    plain(r::POD_DISRUPTION_BUDGETS).short(&["pdb"]).parts(&[status("PodDisruptionBudget")]),
    plain(r::ROLES),
    plain(r::ROLE_BINDINGS),
    plain(r::CLUSTER_ROLES),
    plain(r::CLUSTER_ROLE_BINDINGS),
    plain(r::CSI_DRIVERS),
    plain(r::CSI_NODES),
    plain(r::CSI_STORAGE_CAPACITIES),
    plain(r::STORAGE_CLASSES).short(&["sc"]),
    plain(r::VOLUME_ATTACHMENTS).parts(&[status("VolumeAttachment")]),
    plain(r::VOLUME_ATTRIBUTES_CLASSES).short(&["vac"]),
    plain(r::MUTATING_ADMISSION_POLICIES).of(EXTENSIONS),
    plain(r::MUTATING_ADMISSION_POLICY_BINDINGS).of(EXTENSIONS),
    plain(r::MUTATING_WEBHOOK_CONFIGURATIONS).of(EXTENSIONS),
    plain(r::VALIDATING_ADMISSION_POLICIES).of(EXTENSIONS).parts(&[status("ValidatingAdmissionPolicy")]),
    plain(r::VALIDATING_ADMISSION_POLICY_BINDINGS).of(EXTENSIONS),
    plain(r::VALIDATING_WEBHOOK_CONFIGURATIONS).of(EXTENSIONS),
    plain(r::CUSTOM_RESOURCE_DEFINITIONS).short(&["crd", "crds"]).of(EXTENSIONS).parts(&[status("CustomResourceDefinition")]),
    plain(r::PRIORITY_CLASSES).short(&["pc"]),
    plain(r::LEASES),
    plain(r::RUNTIME_CLASSES),
    plain(r::ENDPOINT_SLICES),
    plain(r::DEVICE_CLASSES),
    plain(r::RESOURCE_CLAIMS).parts(&[status("ResourceClaim")]),
    plain(r::RESOURCE_CLAIM_TEMPLATES),
    plain(r::RESOURCE_SLICES),
    plain(r::FLOW_SCHEMAS).parts(&[status("FlowSchema")]),
    plain(r::PRIORITY_LEVEL_CONFIGURATIONS).parts(&[status("PriorityLevelConfiguration")]),
    review(reviews::SELF_SUBJECT_REVIEWS),
    review(reviews::TOKEN_REVIEWS),
    review(reviews::LOCAL_SUBJECT_ACCESS_REVIEWS),
    review(reviews::SELF_SUBJECT_ACCESS_REVIEWS),
    review(reviews::SELF_SUBJECT_RULES_REVIEWS),
    review(reviews::SUBJECT_ACCESS_REVIEWS),
    review(reviews::BINDINGS),
];

/// A resource that is created, answered and never stored.
const fn review(key: ResourceKey) -> Entry {
    plain(key).verbs(CREATE)
}
