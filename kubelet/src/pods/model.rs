//! What a worker knows of its pod beside the API's object, and small questions about that object.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, EphemeralContainer, Pod, ResourceRequirements};
use kontiki_client::events::ObjectReference;

use super::resize::Allocation;
use crate::{
    probes::Verdicts,
    runtime::{Container, ContainerState, Sandbox},
    static_pods::{HASH, MIRROR, annotation},
};

/// What the runtime has of a pod.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Its sandboxes, oldest first.
    pub sandboxes: Vec<Sandbox>,
    /// Its containers.
    pub containers: Vec<Container>,
}

impl Memory {
    /// Takes note of the runs that are there.
    pub fn count_runs(&mut self, observed: &Observed) {
        for container in observed.containers.iter().filter(|container| container.state != ContainerState::Created) {
            let next = self.next_attempts.entry(container.name.clone()).or_insert(0);
            *next = (*next).max(container.attempt + 1);
        }
    }

    /// Takes over the runs that the API knows of.
    pub fn count_known(&mut self, pod: &Pod) {
        for spec in containers(pod).iter().chain(init_containers(pod)) {
            if let Some(restarts) = known_restarts(pod, &spec.name) {
                self.next_attempts.insert(spec.name.clone(), restarts + 1);
            }
        }
    }
}

impl Observed {
    /// The newest container of that name.
    pub fn newest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().filter(|container| container.name == name).max_by_key(|container| container.attempt)
    }

    /// The one before the newest.
    pub fn before_newest(&self, name: &str) -> Option<&Container> {
        let newest = self.newest(name)?.attempt;
        let older = self.containers.iter().filter(|container| container.name == name && container.attempt < newest);
        older.max_by_key(|container| container.attempt)
    }
}

/// A start that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Kubernetes' word, such as `ErrImagePull`.
    pub reason: String,
    /// For the user.
    pub message: String,
    /// Not again before.
    pub retry_at: Timestamp,
    /// How often it failed in a row.
    pub times: u32,
    /// What the status says while the next attempt waits.
    pub waiting: (String, String),
}

/// Why a pod is over although its containers may not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Kubernetes' word, such as `DeadlineExceeded`.
    pub reason: String,
    /// For the user.
    pub message: String,
    /// Whether the node never took it.
    pub refused: bool,
    /// How long its containers may take, where that is not the pod's own choice.
    pub grace: Option<Duration>,
    /// Whether the node ended it for the node's sake: controllers may count such an end otherwise than a failure.
    pub is_disruption: bool,
}

/// What a worker remembers from look to look.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Starts that failed, by container; the sandbox's under the empty name.
    pub failures: BTreeMap<String, Failure>,
    /// Restarts since the last long run, by container.
    pub restarts: BTreeMap<String, u32>,
    /// Number of each container's next run: what the API knew when the worker began, and what was seen since. A
    /// node that was switched off has lost its containers, not their count.
    pub next_attempts: BTreeMap<String, u32>,
    /// What probes found, by container identifier.
    pub verdicts: BTreeMap<String, Verdicts>,
    /// Set when the kubelet itself ended the pod.
    pub ended: Option<Ended>,
    /// Messages that containers left, by identifier.
    pub messages: BTreeMap<String, String>,
    /// When the pod was first seen here.
    pub start_time: Option<Timestamp>,
    /// What the pod was given.
    pub allocation: Allocation,
    /// What each running container's group has, by container identifier.
    pub actuated: BTreeMap<String, ResourceRequirements>,
}

/// `name_namespace(uid)`, as events and messages name a pod.
pub fn describe(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// The pod, or one of its containers, as events refer to it.
pub fn reference(pod: &Pod, spec: Option<&ContainerSpec>) -> ObjectReference {
    let part = spec.map(|spec| format!("spec.{}{{{}}}", list_of(pod, &spec.name), spec.name));
    ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: namespace(pod).to_owned(),
        name: name(pod).to_owned(),
        uid: uid(pod).to_owned(),
        field_path: part.unwrap_or_default(),
    }
}

/// Name of the pod.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Namespace of the pod.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// UID of the pod.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// Containers that run until the pod ends.
pub fn containers(pod: &Pod) -> &[ContainerSpec] {
    pod.spec.as_ref().map_or(&[], |spec| &spec.containers)
}

/// Containers that come before them.
pub fn init_containers(pod: &Pod) -> &[ContainerSpec] {
    pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
}

/// Whether an init container goes on beside the others.
pub fn is_sidecar(container: &ContainerSpec) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Containers that were added to look into the pod.
pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or_default()
}

/// One of them as a container like any other: it has the same fields but for the target.
pub fn as_container(ephemeral: &EphemeralContainer) -> ContainerSpec {
    let fields = serde_json::to_value(ephemeral).unwrap_or_default();
    serde_json::from_value(fields).unwrap_or_default()
}

/// Any container by name.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, ContainerSpec>> {
    let lasting = containers(pod).iter().chain(init_containers(pod)).find(|container| container.name == name);
    let ephemeral = || ephemeral_containers(pod).iter().find(|container| container.name == name);
    lasting.map(Cow::Borrowed).or_else(|| ephemeral().map(|container| Cow::Owned(as_container(container))))
}

/// The list of the specification that a container is in.
pub fn list_of(pod: &Pod, name: &str) -> &'static str {
    if init_containers(pod).iter().any(|container| container.name == name) {
        "initContainers"
    } else if ephemeral_containers(pod).iter().any(|container| container.name == name) {
        "ephemeralContainers"
    } else {
        "containers"
    }
}

/// `Always`, `OnFailure` or `Never`.
pub fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
}

/// Whether the pod shares the node's network.
pub fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

/// Whether the pod comes from a file on the node.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, HASH).is_some() && annotation(pod, MIRROR).is_none()
}

/// Whether somebody deleted the pod.
pub fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Seconds that the containers get to end.
pub fn grace_seconds(pod: &Pod) -> i64 {
    let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    pod.metadata.deletion_grace_period_seconds.or(own).unwrap_or(30)
}

/// Phase in the API.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Restarts that the API knows of a container that has run.
pub fn known_restarts(pod: &Pod, container: &str) -> Option<u32> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let found = all.into_iter().find(|status| status.name == container)?;
    found.container_id.as_deref().filter(|id| !id.is_empty())?;
    u32::try_from(found.restart_count).ok()
}
