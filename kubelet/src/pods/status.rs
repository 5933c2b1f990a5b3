//! The status of a pod. Pure: the pod, what the runtime has, what the worker remembers, what it plans.
//!
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase>

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod, VolumeMount};
use serde_json::{Value, json};

use super::{
    config,
    model::{self, Memory, Observed, is_sidecar},
    plan, resize,
};
use crate::runtime::{Container, ContainerState, SandboxState};

/// Conditions that the kubelet owns; others are somebody else's and stay.
const CONDITIONS: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
];

/// Condition of a pod that somebody ended for another's sake; it is the kubelet's only where that is the kubelet.
const DISRUPTION: &str = "DisruptionTarget";

/// What a status is made from.
pub struct Input<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What the runtime has.
    pub observed: &'a Observed,
    /// What the worker remembers.
    pub memory: &'a Memory,
    /// Why containers wait: reason and message by name.
    pub waiting: &'a BTreeMap<String, (String, String)>,
    /// Address of the node.
    pub node_ip: IpAddr,
    /// Now.
    pub now: Timestamp,
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn time_of(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).map(time).unwrap_or_default()
}

impl Input<'_> {
    fn newest(&self, name: &str) -> Option<&Container> {
        self.observed.newest(name)
    }

    fn is_started(&self, spec: &ContainerSpec) -> bool {
        self.newest(&spec.name).is_some_and(|newest| {
            let verdict = self.memory.verdicts.get(&newest.id).and_then(|verdicts| verdicts.started);
            newest.state == ContainerState::Running && (spec.startup_probe.is_none() || verdict == Some(true))
        })
    }

    fn is_ready(&self, spec: &ContainerSpec) -> bool {
        let verdict =
            self.newest(&spec.name).and_then(|newest| self.memory.verdicts.get(&newest.id)).and_then(|found| found.ready);
        self.is_started(spec) && (spec.readiness_probe.is_none() || verdict == Some(true))
    }

    fn has_succeeded(&self, spec: &ContainerSpec) -> bool {
        self.newest(&spec.name).is_some_and(|newest| newest.state == ContainerState::Exited && newest.exit_code == 0)
    }

    fn is_initialized(&self) -> bool {
        let started = model::containers(self.pod).iter().any(|spec| self.newest(&spec.name).is_some());
        let done = |spec: &ContainerSpec| if is_sidecar(spec) { self.is_started(spec) } else { self.has_succeeded(spec) };
        started || model::init_containers(self.pod).iter().all(done)
    }

    /// `Pending`, `Running`, `Succeeded` or `Failed`.
    pub fn phase(&self) -> &'static str {
        match model::phase(self.pod) {
            "Failed" => return "Failed",
            "Succeeded" => return "Succeeded",
            _ => {}
        }
        let running = self.observed.containers.iter().any(|container| container.state == ContainerState::Running);
        if self.memory.ended.is_some() {
            return if running { "Running" } else { "Failed" };
        }
        if plan::is_over(self.pod, self.observed) && !running {
            let init_ok = model::init_containers(self.pod)
                .iter()
                .all(|spec| is_sidecar(spec) || self.newest(&spec.name).is_none_or(|n| n.exit_code == 0));
            let all = model::containers(self.pod).iter().all(|spec| self.has_succeeded(spec));
            return if all && init_ok { "Succeeded" } else { "Failed" };
        }
        let begun = |spec: &ContainerSpec| self.newest(&spec.name).is_some_and(|newest| newest.state != ContainerState::Created);
        if model::containers(self.pod).iter().all(begun) { "Running" } else { "Pending" }
    }

    fn container_status(&self, spec: &ContainerSpec, initial: &str) -> Value {
        let newest = self.newest(&spec.name).filter(|newest| newest.state != ContainerState::Created);
        let waiting = self.waiting.get(&spec.name);
        let (mut state, mut last) = (json!({ "waiting": { "reason": initial } }), json!({}));
        if let Some((reason, message)) = waiting {
            state = json!({ "waiting": { "reason": reason, "message": message } });
            last = newest.map_or(json!({}), |newest| self.terminated(newest));
        } else if let Some(newest) = newest {
            state = match newest.state {
                ContainerState::Running => json!({ "running": { "startedAt": time_of(newest.started_at) } }),
                _ => self.terminated(newest),
            };
            last = self.observed.before_newest(&spec.name).map_or(json!({}), |before| self.terminated(before));
        }
        let known = self.memory.next_attempts.get(&spec.name).map_or(0, |next| next.saturating_sub(1));
        let started = self.is_started(spec);
        let ephemeral = model::list_of(self.pod, &spec.name) == "ephemeralContainers";
        let finished_init = !is_sidecar(spec) && model::init_containers(self.pod).iter().any(|init| init.name == spec.name);
        let mut status = json!({
            "name": spec.name,
            "image": newest.map_or_else(|| spec.image.clone().unwrap_or_default(), |newest| image_name(spec, newest)),
            "imageID": newest.map_or("", |newest| newest.image_ref.as_str()),
            "ready": if finished_init { self.has_succeeded(spec) } else { !ephemeral && self.is_ready(spec) },
            "restartCount": newest.map_or(known, |newest| newest.attempt),
            "started": started,
            "state": state,
            "lastState": last,
        });
        if let Some(newest) = newest {
            status["containerID"] = json!(format!("kontiki://{}", newest.id));
        }
        if !ephemeral {
            self.resources(spec, newest, &mut status);
        }
        let mounts: Vec<_> = spec.volume_mounts.iter().flatten().map(volume_mount).collect();
        if !mounts.is_empty() {
            status["volumeMounts"] = json!(mounts);
        }
        status
    }

    /// What a container was given, and what its group has.
    fn resources(&self, spec: &ContainerSpec, newest: Option<&Container>, status: &mut Value) {
        let given = self.memory.allocation.containers.get(&spec.name).or(spec.resources.as_ref());
        let running = newest.filter(|newest| newest.state == ContainerState::Running);
        let has = running.and_then(|newest| self.memory.actuated.get(&newest.id)).or(given);
        if let Some(requests) = given.and_then(|given| given.requests.as_ref()).filter(|requests| !requests.is_empty()) {
            status["allocatedResources"] = json!(requests);
        }
        status["resources"] = has.map_or_else(|| json!({}), |has| json!(has));
    }

    /// What came of a wish for other resources.
    fn resize_conditions(&self) -> Vec<Value> {
        let mut conditions = Vec::new();
        if let Some(pending) = &self.memory.allocation.pending {
            let mut condition = self.condition("PodResizePending", Ok(()));
            condition["reason"] = json!(pending.reason);
            condition["message"] = json!(pending.message);
            conditions.push(condition);
        }
        let unfit = |container: &&Container| {
            let given = self.memory.allocation.containers.get(&container.name);
            let has = self.memory.actuated.get(&container.id);
            given.zip(has).is_some_and(|(given, has)| !resize::alike(given, has))
        };
        let running = self.observed.containers.iter().filter(|container| container.state == ContainerState::Running);
        if running.into_iter().any(|container| unfit(&container)) {
            conditions.push(self.condition("PodResizeInProgress", Ok(())));
        }
        conditions
    }

    fn terminated(&self, container: &Container) -> Value {
        let unknown = container.state == ContainerState::Unknown;
        let mut terminated = json!({
            "exitCode": if unknown { 137 } else { container.exit_code },
            "reason": if unknown { "ContainerStatusUnknown" } else { container.reason.as_str() },
            "containerID": format!("kontiki://{}", container.id),
            "startedAt": time_of(container.started_at),
            "finishedAt": time_of(container.finished_at),
        });
        let left = self.memory.messages.get(&container.id).filter(|message| !message.is_empty());
        let message = left.unwrap_or(&container.message);
        if unknown {
            terminated["message"] = json!("The container could not be located when the pod was terminated");
        } else if !message.is_empty() {
            terminated["message"] = json!(message);
        }
        json!({ "terminated": terminated })
    }

    fn condition(&self, kind: &str, wanted: Result<(), (&str, String)>) -> Value {
        let status = if wanted.is_ok() { "True" } else { "False" };
        let conditions = self.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let before = conditions.iter().find(|condition| condition.type_ == kind && condition.status == status);
        let since = before.and_then(|before| before.last_transition_time.as_ref()).map(|time| time.0);
        let mut condition = json!({
            "type": kind,
            "status": status,
            "lastProbeTime": null,
            "lastTransitionTime": time(since.unwrap_or(self.now)),
        });
        if let Some(generation) = self.pod.metadata.generation {
            condition["observedGeneration"] = json!(generation);
        }
        if let Err((reason, message)) = wanted {
            condition["reason"] = json!(reason);
            if !message.is_empty() {
                condition["message"] = json!(message);
            }
        }
        condition
    }

    fn conditions(&self, phase: &str) -> Vec<Value> {
        let sandbox = self.observed.sandboxes.iter().any(|sandbox| sandbox.state == SandboxState::Ready);
        let names = |list: Vec<&ContainerSpec>| {
            let names: Vec<_> = list.iter().map(|spec| spec.name.as_str()).collect();
            format!("[{}]", names.join(" "))
        };
        let unready: Vec<_> = model::containers(self.pod).iter().filter(|spec| !self.is_ready(spec)).collect();
        let ready = match phase {
            "Succeeded" => Err(("PodCompleted", String::new())),
            "Failed" => Err(("PodFailed", String::new())),
            _ if unready.is_empty() => Ok(()),
            _ => Err(("ContainersNotReady", format!("containers with unready status: {}", names(unready)))),
        };
        let initialized = if phase == "Succeeded" {
            Err(("PodCompleted", String::new()))
        } else if self.is_initialized() {
            Ok(())
        } else {
            let left = model::init_containers(self.pod).iter().filter(|spec| !self.has_succeeded(spec)).collect();
            Err(("ContainersNotInitialized", format!("containers with incomplete status: {}", names(left))))
        };
        let mut conditions = vec![
            self.condition("PodReadyToStartContainers", if sandbox { Ok(()) } else { Err(("", String::new())) }),
            self.condition("Initialized", initialized.clone()),
            self.condition("Ready", self.gates(ready.clone())),
            self.condition("ContainersReady", ready),
            self.condition("PodScheduled", Ok(())),
        ];
        // A completed pod's initialization did happen.
        if phase == "Succeeded" {
            conditions[1]["status"] = json!("True");
        }
        for condition in &mut conditions {
            if condition["reason"] == ""
                && let Some(fields) = condition.as_object_mut()
            {
                fields.remove("reason");
            }
        }
        conditions.extend(self.resize_conditions());
        let disruption = self.disruption();
        let others = self.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let own = |kind: &str| {
            CONDITIONS.contains(&kind) || (kind == DISRUPTION && (disruption.is_some() || model::is_static(self.pod)))
        };
        let others = others.iter().filter(|condition| !own(&condition.type_));
        conditions.extend(others.filter_map(|condition| serde_json::to_value(condition).ok()));
        conditions.extend(disruption);
        conditions
    }

    /// That the node ended the pod for its own sake.
    /// <https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions>
    fn disruption(&self) -> Option<Value> {
        let ended = self.memory.ended.as_ref().filter(|ended| ended.is_disruption)?;
        let mut condition = self.condition(DISRUPTION, Ok(()));
        condition["reason"] = json!("TerminationByKubelet");
        condition["message"] = json!(ended.message);
        Some(condition)
    }

    /// Readiness gates: conditions that somebody else sets.
    fn gates<'b>(&self, ready: Result<(), (&'b str, String)>) -> Result<(), (&'b str, String)> {
        ready?;
        let gates = self.pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
        let conditions = self.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let missing: Vec<String> = gates
            .iter()
            .filter_map(|gate| {
                let kind = &gate.condition_type;
                match conditions.iter().find(|condition| condition.type_ == *kind) {
                    None => Some(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist.")),
                    Some(condition) if condition.status != "True" => {
                        Some(format!("the status of pod readiness gate \"{kind}\" is not \"True\", but {}", condition.status))
                    }
                    Some(_) => None,
                }
            })
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(("ReadinessGatesNotReady", missing.join(", "))) }
    }

    /// The whole status.
    pub fn build(&self) -> Value {
        if let Some(refused) = self.memory.ended.as_ref().filter(|ended| ended.refused) {
            return json!({
                "phase": "Failed",
                "reason": refused.reason,
                "message": refused.message,
                "qosClass": config::qos_class(self.pod),
                "observedGeneration": self.pod.metadata.generation,
            });
        }
        let phase = self.phase();
        let has_init = !model::init_containers(self.pod).is_empty();
        let initial = if has_init && !self.is_initialized() { "PodInitializing" } else { "ContainerCreating" };
        let statuses = |specs: &[ContainerSpec], initial: &str| -> Vec<Value> {
            let mut list: Vec<_> = specs.iter().map(|spec| self.container_status(spec, initial)).collect();
            list.sort_by(|left, right| left["name"].as_str().cmp(&right["name"].as_str()));
            list
        };
        let mut status = json!({
            "phase": phase,
            "conditions": self.conditions(phase),
            "hostIP": self.node_ip,
            "hostIPs": [{ "ip": self.node_ip }],
            "qosClass": config::qos_class(self.pod),
            "containerStatuses": statuses(model::containers(self.pod), initial),
        });
        if has_init {
            let specs = model::init_containers(self.pod);
            // In their own order: it means something.
            status["initContainerStatuses"] = specs.iter().map(|spec| self.container_status(spec, "PodInitializing")).collect();
        }
        let ephemeral = model::ephemeral_containers(self.pod);
        if !ephemeral.is_empty() {
            let specs: Vec<_> = ephemeral.iter().map(model::as_container).collect();
            status["ephemeralContainerStatuses"] = statuses(&specs, "ContainerCreating").into();
        }
        if let Some(start) = self.memory.start_time {
            status["startTime"] = json!(time(start));
        }
        if let Some(generation) = self.pod.metadata.generation {
            status["observedGeneration"] = json!(generation);
        }
        if let Some(ended) = &self.memory.ended {
            status["reason"] = json!(ended.reason);
            status["message"] = json!(ended.message);
        } else if model::is_static(self.pod) {
            // It runs again after an end, which is then no longer true of it.
            status["reason"] = Value::Null;
            status["message"] = Value::Null;
        }
        let ips = self.ips();
        if let Some(first) = ips.first() {
            status["podIP"] = json!(first);
            status["podIPs"] = ips.iter().map(|ip| json!({ "ip": ip })).collect();
        }
        status
    }

    fn ips(&self) -> Vec<String> {
        if self.observed.sandboxes.is_empty() {
            return Vec::new();
        }
        if model::host_network(self.pod) {
            return vec![self.node_ip.to_string()];
        }
        let newest = self.observed.sandboxes.iter().max_by_key(|sandbox| sandbox.attempt);
        newest.map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    }
}

fn volume_mount(mount: &VolumeMount) -> Value {
    let mut status = json!({ "name": mount.name, "mountPath": mount.mount_path });
    if mount.read_only == Some(true) {
        status["readOnly"] = json!(true);
        let recursive = matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
        status["recursiveReadOnly"] = json!(if recursive { "Enabled" } else { "Disabled" });
    }
    status
}

/// The image's name as other runtimes report it: completed, with its tag.
fn image_name(spec: &ContainerSpec, container: &Container) -> String {
    let wanted = spec.image.as_deref().unwrap_or(&container.image);
    let reference = crate::images::name::parse(wanted).ok();
    reference.map_or_else(|| wanted.to_owned(), |reference| reference.whole())
}

#[cfg(test)]
mod tests;
