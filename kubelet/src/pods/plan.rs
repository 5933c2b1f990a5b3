//! What to do next for a pod. Pure: the pod, what the runtime has, what the worker remembers, the time.
//!
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod};

use super::{
    back_off,
    model::{self, Memory, Observed, is_sidecar},
    resize,
};
use crate::runtime::{Container, ContainerState, Sandbox, SandboxState};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a sandbox.
    RunSandbox {
        /// Which one it is.
        attempt: u32,
    },
    /// Kill what runs in a sandbox.
    StopSandbox {
        /// Sandbox.
        id: String,
    },
    /// Remove a stopped sandbox with its containers.
    RemoveSandbox {
        /// Sandbox.
        id: String,
    },
    /// Make and start a container.
    Start {
        /// Sandbox.
        sandbox: String,
        /// Name.
        container: String,
        /// Restarts before it.
        attempt: u32,
    },
    /// End a container.
    Stop {
        /// Container.
        id: String,
        /// Name.
        container: String,
        /// How long it may take.
        grace: Duration,
        /// For the event; empty for the usual words.
        message: String,
    },
    /// Remove a container that has ended.
    Remove {
        /// Container.
        id: String,
    },
    /// Give the pod's group and those of running containers the limits that they were promised.
    Resize {
        /// Containers: identifier and name.
        containers: Vec<(String, String)>,
    },
}

/// What to do, and when to look again at the latest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order; stops may go together.
    pub actions: Vec<Action>,
    /// When something that waits is due.
    pub wake: Option<Timestamp>,
    /// Why containers wait: reason and message by name.
    pub waiting: BTreeMap<String, (String, String)>,
    /// Nothing of the pod is left on the node.
    pub gone: bool,
    /// Containers whose groups want other limits.
    resized: Vec<(String, String)>,
}

impl Plan {
    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// Decides. `removed` says that the API no longer has the pod.
pub fn plan(pod: &Pod, removed: bool, observed: &Observed, memory: &Memory, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if removed || model::is_deleted(pod) {
        take_down(pod, removed, observed, memory, &mut plan);
    } else if memory.ended.is_some() || is_over(pod, observed) {
        end(pod, observed, memory, &mut plan);
    } else {
        run(pod, observed, memory, now, &mut plan);
    }
    plan
}

/// Whether the containers have done all that they will do.
pub fn is_over(pod: &Pod, observed: &Observed) -> bool {
    if matches!(model::phase(pod), "Succeeded" | "Failed") {
        return true;
    }
    let done = |container: &ContainerSpec| {
        let newest = observed.newest(&container.name);
        newest.is_some_and(|newest| has_ended(newest) && !restarts(pod, container, newest))
    };
    let init_failed = model::init_containers(pod).iter().any(|container| {
        let newest = observed.newest(&container.name);
        let failed = |newest: &Container| has_ended(newest) && newest.exit_code != 0 && !restarts(pod, container, newest);
        !is_sidecar(container) && newest.is_some_and(failed)
    });
    init_failed || model::containers(pod).iter().all(done)
}

fn has_ended(container: &Container) -> bool {
    matches!(container.state, ContainerState::Exited | ContainerState::Unknown)
}

/// Whether a container that ended so is started again: by its own rules, its own policy, the pod's policy.
/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-restart-rules>
fn restarts(pod: &Pod, spec: &ContainerSpec, container: &Container) -> bool {
    let rules = spec.restart_policy_rules.as_deref().unwrap_or_default();
    let matches = rules.iter().filter_map(|rule| rule.exit_codes.as_ref()).any(|codes| {
        let listed = codes.values.as_deref().unwrap_or_default().contains(&container.exit_code);
        if codes.operator == "NotIn" { !listed } else { listed }
    });
    if matches && container.state == ContainerState::Exited {
        return true;
    }
    match spec.restart_policy.as_deref().unwrap_or_else(|| model::restart_policy(pod)) {
        "Always" => true,
        "OnFailure" => container.exit_code != 0 || container.state == ContainerState::Unknown,
        _ => false,
    }
}

fn stop(container: &Container, grace: Duration, message: String) -> Action {
    Action::Stop { id: container.id.clone(), container: container.name.clone(), grace, message }
}

fn grace(pod: &Pod) -> Duration {
    Duration::from_secs(u64::try_from(model::grace_seconds(pod)).unwrap_or(0))
}

/// The time that the pod asks for, or less where the node has less.
fn last_grace(pod: &Pod, memory: &Memory) -> Duration {
    let given = memory.ended.as_ref().and_then(|ended| ended.grace);
    given.map_or_else(|| grace(pod), |given| given.min(grace(pod)))
}

/// Stops what runs; says whether anything does. Sidecars go after the others, in reverse order.
fn stop_all(pod: &Pod, observed: &Observed, grace: Duration, plan: &mut Plan) -> bool {
    let running: Vec<_> = observed.containers.iter().filter(|container| container.state == ContainerState::Running).collect();
    let sidecar =
        |container: &&&Container| model::init_containers(pod).iter().any(|spec| spec.name == container.name && is_sidecar(spec));
    let others: Vec<_> = running.iter().filter(|container| !sidecar(container)).collect();
    if others.is_empty() {
        let order = |container: &&Container| model::init_containers(pod).iter().position(|spec| spec.name == container.name);
        plan.actions.extend(running.iter().max_by_key(|container| order(container)).map(|last| stop(last, grace, String::new())));
    } else {
        plan.actions.extend(others.iter().map(|container| stop(container, grace, String::new())));
    }
    !running.is_empty()
}

/// The pod is deleted: everything goes.
fn take_down(pod: &Pod, removed: bool, observed: &Observed, memory: &Memory, plan: &mut Plan) {
    // A pod that vanished from the API without ceremony was deleted by force. One whose file went ends in order.
    let grace = if removed && !model::is_deleted(pod) && !model::is_static(pod) {
        Duration::from_secs(1)
    } else {
        last_grace(pod, memory)
    };
    if stop_all(pod, observed, grace, plan) {
        return;
    }
    for sandbox in &observed.sandboxes {
        if sandbox.state == SandboxState::Ready {
            plan.actions.push(Action::StopSandbox { id: sandbox.id.clone() });
        } else {
            plan.actions.push(Action::RemoveSandbox { id: sandbox.id.clone() });
        }
    }
    plan.gone = observed.sandboxes.is_empty();
}

/// The pod is over: nothing runs any more, logs stay.
fn end(pod: &Pod, observed: &Observed, memory: &Memory, plan: &mut Plan) {
    if stop_all(pod, observed, last_grace(pod, memory), plan) {
        return;
    }
    let ready = observed.sandboxes.iter().filter(|sandbox| sandbox.state == SandboxState::Ready);
    plan.actions.extend(ready.map(|sandbox| Action::StopSandbox { id: sandbox.id.clone() }));
}

fn run(pod: &Pod, observed: &Observed, memory: &Memory, now: Timestamp, plan: &mut Plan) {
    let newest = observed.sandboxes.iter().max_by_key(|sandbox| sandbox.attempt);
    let Some(sandbox) = newest.filter(|sandbox| sandbox.state == SandboxState::Ready) else {
        replace_sandbox(newest, observed, memory, now, plan);
        return;
    };
    remove_old(pod, observed, plan);
    if let Some(at) = deadline(pod, memory) {
        plan.wake_at(at);
    }
    for ephemeral in model::ephemeral_containers(pod) {
        // Started once, whatever becomes of it.
        if observed.newest(&ephemeral.name).is_none_or(|newest| newest.state == ContainerState::Created) {
            begin(pod, &model::as_container(ephemeral), sandbox, observed, memory, now, plan);
        }
    }
    if start_init(pod, sandbox, observed, memory, now, plan) {
        for container in model::containers(pod) {
            keep(pod, container, sandbox, observed, memory, now, plan);
        }
    }
    let containers = std::mem::take(&mut plan.resized);
    if !containers.is_empty() {
        plan.actions.push(Action::Resize { containers });
    }
}

/// When `activeDeadlineSeconds` are over.
pub fn deadline(pod: &Pod, memory: &Memory) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    memory.start_time?.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
}

fn replace_sandbox(newest: Option<&Sandbox>, observed: &Observed, memory: &Memory, now: Timestamp, plan: &mut Plan) {
    for sandbox in observed.sandboxes.iter() {
        // What a dead shim left behind must not meet its successor.
        plan.actions.push(Action::StopSandbox { id: sandbox.id.clone() });
    }
    if let Some(failure) = memory.failures.get("").filter(|failure| failure.retry_at > now) {
        plan.wake_at(failure.retry_at);
        return;
    }
    plan.actions.push(Action::RunSandbox { attempt: newest.map_or(0, |sandbox| sandbox.attempt + 1) });
    // The last one is kept for its containers' states and logs.
    let old = observed.sandboxes.iter().filter(|sandbox| newest.is_some_and(|newest| sandbox.id != newest.id));
    plan.actions.extend(old.map(|sandbox| Action::RemoveSandbox { id: sandbox.id.clone() }));
}

/// Containers before the last two of a name are of no use.
fn remove_old(pod: &Pod, observed: &Observed, plan: &mut Plan) {
    for spec in model::containers(pod).iter().chain(model::init_containers(pod)) {
        let mut same: Vec<_> = observed.containers.iter().filter(|container| container.name == spec.name).collect();
        same.sort_by_key(|container| std::cmp::Reverse(container.attempt));
        let old = same.into_iter().skip(2).filter(|container| has_ended(container));
        plan.actions.extend(old.map(|container| Action::Remove { id: container.id.clone() }));
    }
}

/// Brings the init containers on; says whether the others may start.
fn start_init(pod: &Pod, sandbox: &Sandbox, observed: &Observed, memory: &Memory, now: Timestamp, plan: &mut Plan) -> bool {
    let here = |name: &str| observed.newest(name).filter(|container| container.sandbox_id == sandbox.id);
    // Their containers may be gone; that the others were started proves that they were done.
    let done_before = model::containers(pod).iter().any(|container| here(&container.name).is_some());
    for spec in model::init_containers(pod) {
        let newest = here(&spec.name);
        if is_sidecar(spec) {
            keep(pod, spec, sandbox, observed, memory, now, plan);
            let started = newest.is_some_and(|newest| {
                newest.state == ContainerState::Running
                    && (spec.startup_probe.is_none() || verdicts(memory, newest).started == Some(true))
            });
            if !started && !done_before {
                return false;
            }
            continue;
        }
        if done_before {
            continue;
        }
        match newest {
            Some(newest) if has_ended(newest) && newest.exit_code == 0 => {}
            Some(newest) if newest.state == ContainerState::Running => return false,
            _ => {
                begin(pod, spec, sandbox, observed, memory, now, plan);
                return false;
            }
        }
    }
    true
}

fn verdicts(memory: &Memory, container: &Container) -> crate::probes::Verdicts {
    memory.verdicts.get(&container.id).copied().unwrap_or_default()
}

/// Keeps a container running as its policy has it.
fn keep(
    pod: &Pod,
    spec: &ContainerSpec,
    sandbox: &Sandbox,
    observed: &Observed,
    memory: &Memory,
    now: Timestamp,
    plan: &mut Plan,
) {
    let newest = observed.newest(&spec.name).filter(|container| container.sandbox_id == sandbox.id);
    match newest {
        Some(newest) if newest.state == ContainerState::Running => {
            let found = verdicts(memory, newest);
            let failed = match (found.live, found.started) {
                (Some(false), _) => Some(("liveness", &spec.liveness_probe)),
                (_, Some(false)) => Some(("startup", &spec.startup_probe)),
                _ => None,
            };
            if let Some((kind, probe)) = failed {
                let again = is_sidecar(spec) || model::restart_policy(pod) != "Never";
                let tail = if again { ", will be restarted" } else { "" };
                let message = format!("Container {} failed {kind} probe{tail}", spec.name);
                let own = probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds);
                let seconds = own.unwrap_or_else(|| model::grace_seconds(pod));
                plan.actions.push(stop(newest, Duration::from_secs(u64::try_from(seconds).unwrap_or(0)), message));
            } else {
                fit(pod, spec, newest, memory, plan);
            }
        }
        Some(newest) if has_ended(newest) && !is_sidecar(spec) && !restarts(pod, spec, newest) => {}
        _ => begin(pod, spec, sandbox, observed, memory, now, plan),
    }
}

/// Makes a running container's limits those that it was given.
fn fit(pod: &Pod, spec: &ContainerSpec, newest: &Container, memory: &Memory, plan: &mut Plan) {
    let wanted = spec.resources.clone().unwrap_or_default();
    let Some(has) = memory.actuated.get(&newest.id).filter(|has| !resize::alike(has, &wanted)) else { return };
    if resize::needs_restart(spec, has, &wanted) {
        let message = format!("Container {} resize requires restart", spec.name);
        plan.actions.push(stop(newest, grace(pod), message));
    } else {
        plan.resized.push((newest.id.clone(), spec.name.clone()));
    }
}

/// Starts a container, now or when its wait is over.
fn begin(
    pod: &Pod,
    spec: &ContainerSpec,
    sandbox: &Sandbox,
    observed: &Observed,
    memory: &Memory,
    now: Timestamp,
    plan: &mut Plan,
) {
    let name = &spec.name;
    if let Some(failure) = memory.failures.get(name).filter(|failure| failure.retry_at > now) {
        plan.waiting.insert(name.clone(), failure.waiting.clone());
        plan.wake_at(failure.retry_at);
        return;
    }
    let newest = observed.newest(name);
    if let Some(newest) = newest.filter(|newest| has_ended(newest) && newest.sandbox_id == sandbox.id) {
        let wait = back_off::after(memory.restarts.get(name).copied().unwrap_or(0));
        let ended = Timestamp::from_nanosecond(i128::from(newest.finished_at)).unwrap_or(now);
        let due = ended.checked_add(wait).unwrap_or(now);
        if due > now {
            let message =
                format!("back-off {} restarting failed container={name} pod={}", back_off::in_words(wait), model::describe(pod));
            plan.waiting.insert(name.clone(), ("CrashLoopBackOff".to_owned(), message));
            plan.wake_at(due);
            return;
        }
    }
    if let Some(unstarted) = newest.filter(|newest| newest.state == ContainerState::Created) {
        // A kubelet before this one ended between making and starting it.
        plan.actions.push(Action::Remove { id: unstarted.id.clone() });
    }
    let seen = newest.filter(|newest| newest.state != ContainerState::Created).map(|newest| newest.attempt + 1);
    let attempt = seen.max(memory.next_attempts.get(name).copied()).unwrap_or(0);
    plan.actions.push(Action::Start { sandbox: sandbox.id.clone(), container: name.clone(), attempt });
}

#[cfg(test)]
mod tests;
