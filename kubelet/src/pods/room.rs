//! What the node has for a pod: whether it is taken at all, what it is given, which objects it follows.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kontiki_client::events::EventType;

use super::{
    admission,
    model::{self, Ended, Failure, Observed},
    resize::{self, Allocation, Amount, Room},
    worker::{Worker, start_time},
};
use crate::{runtime::ContainerState, volumes};

impl Worker {
    /// Looks once whether the node takes the pod; one that has run here before is taken.
    pub(super) async fn admit(&self, pod: &Pod) {
        let observed = self.observe(model::uid(pod)).await;
        let known = start_time(pod).is_some() || !observed.sandboxes.is_empty();
        if known || model::is_deleted(pod) || model::phase(pod) != "Pending" {
            return;
        }
        let others = self.others(pod);
        let unwell = admission::refuse_for_health(pod, &self.health.now());
        let refused = || admission::refuse(pod, &self.room(&others), &others, self.options.capacity.pods);
        if let Some(refused) = unwell.or_else(refused) {
            self.event(pod, EventType::Warning, &refused.reason, &refused.message);
            let message = format!("Pod was rejected: {}", refused.message);
            self.memory.lock().ended = Some(Ended { message, ..refused });
        }
    }

    /// Other pods of the node that have not ended.
    fn others(&self, pod: &Pod) -> Vec<Arc<Pod>> {
        let active =
            |other: &Arc<Pod>| model::uid(other) != model::uid(pod) && !matches!(model::phase(other), "Succeeded" | "Failed");
        self.pods.list().into_iter().filter(active).collect()
    }

    fn room(&self, others: &[Arc<Pod>]) -> Room {
        let capacity = &self.options.capacity;
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let add = |sum: Amount, pod: &Arc<Pod>| {
            let own = resize::requested(pod);
            Amount { cpu: sum.cpu.saturating_add(own.cpu), memory: sum.memory.saturating_add(own.memory) }
        };
        let allocatable = Amount { cpu: whole(capacity.cpu_millis), memory: whole(capacity.memory_bytes) };
        Room { allocatable, used: others.iter().fold(Amount::default(), add) }
    }

    /// Follows the objects that the pod refers to.
    pub(super) fn follow(&self, pod: &Pod) {
        self.objects.follow(model::uid(pod), &volumes::objects::references(pod), &self.user);
    }

    /// What failed for want of something may be tried again at once.
    pub(super) fn forgive(&self) {
        let missing = |failure: &Failure| matches!(failure.reason.as_str(), "CreateContainerConfigError" | "ContainerCreating");
        self.memory.lock().failures.retain(|_, failure| !missing(failure));
    }

    /// Grants what the pod wishes for, as far as there is room; what it has is what it is run with.
    pub(super) fn allocate(&self, pod: &Pod, observed: &Observed) -> Pod {
        let room = self.room(&self.others(pod));
        let mut memory = self.memory.lock();
        let next = memory.allocation.grant(pod, &room);
        if next.pending != memory.allocation.pending
            && let Some(pending) = &next.pending
        {
            let reason = if pending.reason == "Infeasible" { "ResizeInfeasible" } else { "ResizeDeferred" };
            self.event(pod, EventType::Warning, reason, &pending.message);
        }
        memory.allocation = next;
        let given = memory.allocation.apply(pod);
        memory.actuated.retain(|id, _| observed.containers.iter().any(|container| container.id == *id));
        for container in observed.containers.iter().filter(|container| container.state == ContainerState::Running) {
            if !memory.actuated.contains_key(&container.id)
                && let Some(spec) = model::container(&given, &container.name)
            {
                // Started by the kubelet before this one, with what the status told.
                let resources = Allocation::known(pod).containers.remove(&container.name);
                let own = resources.or_else(|| spec.resources.clone()).unwrap_or_default();
                memory.actuated.insert(container.id.clone(), own);
            }
        }
        given
    }
}
