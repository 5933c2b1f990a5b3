//! Resources of a pod that runs: what it was given, what it wishes for, what its groups have. Pure.
//!
//! A wish (`spec`) becomes an allocation when the node has room for it, and an allocation becomes limits in the
//! containers' groups, by writing them or, where the container wants it so, by a restart.
//! <https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/>

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container as ContainerSpec, ContainerStatus, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as QuantityText,
};
use kontiki_api::quantity::Quantity;

use super::model;

/// What a pod was given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allocation {
    /// By container; one that is not in here has what its specification says.
    pub containers: BTreeMap<String, ResourceRequirements>,
    /// Why a wish is not granted.
    pub pending: Option<Pending>,
}

/// A wish that is not granted: Kubernetes' word and a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// `Infeasible` or `Deferred`.
    pub reason: &'static str,
    /// For the user.
    pub message: String,
}

/// CPU in thousandths and bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of a CPU.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
}

/// The node's room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// All that pods may have.
    pub allocatable: Amount,
    /// What other pods have.
    pub used: Amount,
}

/// Everything that one pod requests.
pub fn requested(pod: &Pod) -> Amount {
    let spec = serde_json::to_value(&pod.spec).unwrap_or_default();
    let requests = kontiki_api::kinds::pod::resources::pod_requests(&spec);
    let amount = |name: &str| requests.get(name).copied().unwrap_or_default();
    Amount { cpu: amount("cpu").milli(), memory: amount("memory").whole() }
}

fn specs(pod: &Pod) -> impl Iterator<Item = &ContainerSpec> {
    model::containers(pod).iter().chain(model::init_containers(pod))
}

fn own(spec: &ContainerSpec) -> ResourceRequirements {
    spec.resources.clone().unwrap_or_default()
}

impl Allocation {
    /// What a pod was given before this kubelet came: its status tells.
    pub fn known(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let statuses = status
            .into_iter()
            .flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses).flatten());
        let given = |status: &ContainerStatus| {
            let requests = status.allocated_resources.clone().filter(|requests| !requests.is_empty());
            let limits = status.resources.as_ref().and_then(|resources| resources.limits.clone());
            let any = requests.is_some() || status.resources.is_some();
            any.then(|| (status.name.clone(), ResourceRequirements { requests, limits, ..ResourceRequirements::default() }))
        };
        Self { containers: statuses.filter_map(given).collect(), pending: None }
    }

    /// Grants the wish of a specification, if the node has room for it.
    pub fn grant(&self, pod: &Pod, room: &Room) -> Self {
        let wish: BTreeMap<_, _> = specs(pod).map(|spec| (spec.name.clone(), own(spec))).collect();
        let same = wish.iter().all(|(name, wanted)| self.containers.get(name).is_none_or(|given| alike(given, wanted)));
        if self.containers.is_empty() || same {
            return Self { containers: wish, pending: None };
        }
        let wanted = requested(pod);
        let before = requested(&self.apply(pod));
        let list = [
            ("cpu", wanted.cpu, before.cpu, room.used.cpu, room.allocatable.cpu),
            ("memory", wanted.memory, before.memory, room.used.memory, room.allocatable.memory),
        ];
        let refused = |reason, message| Self { containers: self.containers.clone(), pending: Some(Pending { reason, message }) };
        if let Some((name, wanted, .., all)) = list.iter().find(|(_, wanted, _, _, all)| wanted > all) {
            let message = format!("Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {all}");
            return refused("Infeasible", message);
        }
        // What grows must fit beside the others; what shrinks always does.
        let short = list.iter().find(|(_, wanted, before, used, all)| wanted > before && used + wanted > *all);
        if let Some((name, wanted, _, used, all)) = short {
            let message = format!("Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {all}");
            return refused("Deferred", message);
        }
        Self { containers: wish, pending: None }
    }

    /// The pod as it was given.
    pub fn apply(&self, pod: &Pod) -> Pod {
        let mut pod = pod.clone();
        let Some(spec) = pod.spec.as_mut() else { return pod };
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            if let Some(given) = self.containers.get(&container.name) {
                let claims = container.resources.as_ref().and_then(|resources| resources.claims.clone());
                container.resources = Some(ResourceRequirements { claims, ..given.clone() });
            }
        }
        pod
    }
}

fn amount(list: &Option<BTreeMap<String, QuantityText>>, name: &str) -> Option<Quantity> {
    list.as_ref()?.get(name)?.0.parse().ok()
}

fn differs(left: &ResourceRequirements, right: &ResourceRequirements, name: &str) -> bool {
    amount(&left.requests, name) != amount(&right.requests, name) || amount(&left.limits, name) != amount(&right.limits, name)
}

/// Whether two containers have the same CPU and memory, however it is written.
pub fn alike(left: &ResourceRequirements, right: &ResourceRequirements) -> bool {
    !differs(left, right, "cpu") && !differs(left, right, "memory")
}

/// Whether going from one to the other takes a restart, as the container's policies have it.
pub fn needs_restart(spec: &ContainerSpec, from: &ResourceRequirements, to: &ResourceRequirements) -> bool {
    let restarts = |name: &str| {
        let policies = spec.resize_policy.as_deref().unwrap_or_default();
        policies.iter().any(|policy| policy.resource_name == name && policy.restart_policy == "RestartContainer")
    };
    ["cpu", "memory"].iter().any(|name| differs(from, to, name) && restarts(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str, policy: &str) -> Pod {
        let container = json!({
            "name": "a", "resources": {"requests": {"cpu": cpu}},
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}],
        });
        serde_json::from_value(json!({"spec": {"containers": [container]}})).unwrap()
    }

    fn room(all: i64, used: i64) -> Room {
        Room { allocatable: Amount { cpu: all, memory: i64::MAX }, used: Amount { cpu: used, memory: 0 } }
    }

    #[test]
    fn a_wish_is_granted_where_there_is_room() {
        let first = Allocation::default().grant(&pod("500m", "NotRequired"), &room(1000, 0));
        assert_eq!(first.containers.len(), 1);
        let cases = [("800m", 1000, 100, None), ("1200m", 1000, 0, Some("Infeasible")), ("900m", 1000, 200, Some("Deferred"))];
        for (cpu, all, used, reason) in cases {
            let next = first.grant(&pod(cpu, "NotRequired"), &room(all, used));
            assert_eq!(next.pending.as_ref().map(|pending| pending.reason), reason, "{cpu}");
            assert_eq!(next.containers == first.containers, reason.is_some(), "{cpu}");
        }
        let less = first.grant(&pod("100m", "NotRequired"), &room(1000, 5000));
        assert_eq!(less.pending, None, "what shrinks always fits");
        assert_eq!(requested(&less.apply(&pod("9", "NotRequired"))).cpu, 100);
    }

    #[test]
    fn what_a_status_tells_was_given() {
        let mut running = pod("2", "NotRequired");
        running.status = serde_json::from_value(json!({"containerStatuses": [
            {"name": "a", "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "1"}}, "image": "", "imageID": "",
             "ready": true, "restartCount": 0},
        ]}))
        .unwrap();
        assert_eq!(requested(&Allocation::known(&running).apply(&running)).cpu, 1000);
    }

    #[test]
    fn policies_decide_on_restarts() {
        let resources = |cpu: &str| own(&model::containers(&pod(cpu, "NotRequired"))[0]);
        for (policy, to, wanted) in
            [("NotRequired", "2", false), ("RestartContainer", "2", true), ("RestartContainer", "1000m", false)]
        {
            let pod = pod("1", policy);
            assert_eq!(needs_restart(&model::containers(&pod)[0], &resources("1"), &resources(to)), wanted, "{policy} {to}");
        }
    }
}
