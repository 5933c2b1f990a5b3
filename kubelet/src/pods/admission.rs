//! Whether the node takes a pod that was bound to it. Pure.
//!
//! A pod is looked at once, before its first sandbox; one that is refused has failed.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerPort, Pod};

use super::{
    config,
    model::{self, Ended},
    resize::{self, Amount, Room},
};
use crate::{
    eviction::rank::is_critical,
    health::{Health, Pressure},
};

/// Kernel parameters that are a pod's own and harm nobody else.
/// <https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/#safe-and-unsafe-sysctls>
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn refusal(reason: &str, message: impl Into<String>) -> Option<Ended> {
    Some(Ended { reason: reason.to_owned(), message: message.into(), refused: true, ..Ended::default() })
}

/// Ports of the node that a pod takes.
fn host_ports(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.filter(|port| port.host_port.is_some_and(|number| number > 0))
}

/// Whether two containers cannot have their ports at the same time.
fn collide(one: &ContainerPort, other: &ContainerPort) -> bool {
    let protocol = |port: &ContainerPort| port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let every = |address: &Option<String>| matches!(address.as_deref(), None | Some("" | "0.0.0.0"));
    one.host_port == other.host_port
        && protocol(one) == protocol(other)
        && (every(&one.host_ip) || every(&other.host_ip) || one.host_ip == other.host_ip)
}

/// Why the node takes no pod at all now, or not this one.
pub fn refuse_for_health(pod: &Pod, health: &Health) -> Option<Ended> {
    if health.shutting_down {
        return refusal("NodeShutdown", "Pod was rejected as the node is shutting down.");
    }
    if health.pressures.is_empty() || is_critical(pod) {
        return None;
    }
    // Who asked for memory may have what it asked for; who asked for none would be the first to go.
    let only_memory = health.pressures.iter().eq([&Pressure::Memory]);
    if only_memory && (config::qos_class(pod) != "BestEffort" || tolerates(pod, "node.kubernetes.io/memory-pressure")) {
        return None;
    }
    let conditions: Vec<_> = health.pressures.iter().map(|pressure| pressure.condition()).collect();
    refusal("Evicted", format!("The node had condition: [{}]. ", conditions.join(" ")))
}

/// Whether a pod tolerates a taint without a value that keeps pods from being scheduled.
fn tolerates(pod: &Pod, taint: &str) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    tolerations.iter().any(|toleration| {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let exists = text(&toleration.operator) == "Exists";
        let fits = text(&toleration.key) == taint || (exists && text(&toleration.key).is_empty());
        let effect = text(&toleration.effect);
        fits && (exists || text(&toleration.value).is_empty()) && (effect.is_empty() || effect == "NoSchedule")
    })
}

/// Why the node does not take a pod, beside others that have not ended.
pub fn refuse(pod: &Pod, room: &Room, others: &[Arc<Pod>], pods_max: u64) -> Option<Ended> {
    let pods_here = u64::try_from(others.len()).unwrap_or(u64::MAX);
    let spec = pod.spec.as_ref()?;
    if let Some(system) = spec.os.as_ref().filter(|system| system.name != "linux") {
        let message = format!("Failed to admit pod as its OS field ({}) doesn't match node OS linux", system.name);
        return refusal("PodOSNotSupported", message);
    }
    let sysctls = spec.security_context.as_ref().and_then(|security| security.sysctls.as_deref()).unwrap_or_default();
    for sysctl in sysctls {
        let name = sysctl.name.replace('/', ".");
        let shared = (name.starts_with("net.") && model::host_network(pod))
            || (name.starts_with("kernel.") && spec.host_ipc == Some(true));
        if !SAFE_SYSCTLS.contains(&name.as_str()) || shared {
            return refusal("SysctlForbidden", format!("forbidden sysctl: {:?} not allowlisted", sysctl.name));
        }
    }
    if pods_here >= pods_max {
        let message = format!("Node didn't have enough resource: pods, requested: 1, used: {pods_here}, capacity: {pods_max}");
        return refusal("OutOfpods", message);
    }
    let Amount { cpu, memory } = resize::requested(pod);
    let list = [("cpu", cpu, room.used.cpu, room.allocatable.cpu), ("memory", memory, room.used.memory, room.allocatable.memory)];
    let scarce = list.into_iter().find(|(_, wanted, used, all)| *wanted > 0 && used + wanted > *all);
    let Some((name, wanted, used, all)) = scarce else {
        let taken = others.iter().flat_map(|other| host_ports(other));
        let taken: Vec<&ContainerPort> = taken.collect();
        let collides = host_ports(pod).any(|port| taken.iter().any(|other| collide(port, other)));
        let why = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return if collides { refusal("NodePorts", why) } else { None };
    };
    let message = format!("Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {all}");
    refusal(&format!("OutOf{name}"), message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_node_refuses() {
        let room = Room { allocatable: Amount { cpu: 1000, memory: 1 << 30 }, used: Amount { cpu: 600, memory: 0 } };
        let with = |sysctl: &str, cpu: &str, system: &str, host_network: bool| {
            let spec = json!({
                "os": {"name": system}, "hostNetwork": host_network,
                "securityContext": {"sysctls": [{"name": sysctl, "value": "1"}]},
                "containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}],
            });
            serde_json::from_value::<Pod>(json!({"spec": spec})).unwrap()
        };
        let safe = "kernel.shm_rmid_forced";
        let cases = [
            (with(safe, "400m", "linux", false), 5, None),
            (with("kernel/shm_rmid_forced", "400m", "linux", false), 5, None),
            (with("kernel.msgmax", "1m", "linux", false), 5, Some("SysctlForbidden")),
            (with("net.ipv4.tcp_syncookies", "1m", "linux", true), 5, Some("SysctlForbidden")),
            (with(safe, "401m", "linux", false), 5, Some("OutOfcpu")),
            (with(safe, "1m", "windows", false), 5, Some("PodOSNotSupported")),
            (with(safe, "1m", "linux", false), 110, Some("OutOfpods")),
        ];
        for (pod, here, wanted) in cases {
            let others: Vec<_> = (0..here).map(|_| Arc::new(Pod::default())).collect();
            assert_eq!(refuse(&pod, &room, &others, 110).map(|ended| ended.reason).as_deref(), wanted, "{:?}", pod.spec);
        }
    }

    #[test]
    fn a_node_under_pressure_takes_few_and_one_that_goes_down_none() {
        let pod = |spec: serde_json::Value| serde_json::from_value::<Pod>(json!({"spec": spec})).unwrap();
        let plain = pod(json!({"containers": [{"name": "a"}]}));
        let asking = pod(json!({"containers": [{"name": "a", "resources": {"requests": {"memory": "1Mi"}}}]}));
        let critical = pod(json!({"priority": 2_000_000_000, "containers": [{"name": "a"}]}));
        let tolerations = json!([{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]);
        let tolerating = pod(json!({"containers": [{"name": "a"}], "tolerations": tolerations}));
        let reason = |pod: &Pod, pressures: &[Pressure], shutting_down| {
            let health = Health { shutting_down, pressures: pressures.iter().copied().collect() };
            refuse_for_health(pod, &health).map(|ended| ended.reason)
        };
        let evicted = Some("Evicted".to_owned());
        for (pod, memory, disk) in
            [(&plain, &evicted, &evicted), (&asking, &None, &evicted), (&critical, &None, &None), (&tolerating, &None, &evicted)]
        {
            assert_eq!((&reason(pod, &[Pressure::Memory], false), &reason(pod, &[Pressure::Disk], false)), (memory, disk));
            assert_eq!(reason(pod, &[], false), None);
            assert_eq!(reason(pod, &[], true).as_deref(), Some("NodeShutdown"));
        }
        let both = Health { shutting_down: false, pressures: [Pressure::Disk, Pressure::Memory].into() };
        let told = refuse_for_health(&asking, &both).map(|ended| ended.message);
        assert_eq!(told.as_deref(), Some("The node had condition: [MemoryPressure DiskPressure]. "));
    }

    #[test]
    fn a_port_of_the_node_belongs_to_one_pod() {
        let with = |port: serde_json::Value| {
            let spec = json!({"containers": [{"name": "a", "ports": [port]}]});
            serde_json::from_value::<Pod>(json!({"spec": spec})).unwrap()
        };
        let room = Room { allocatable: Amount { cpu: 1000, memory: 1 << 30 }, used: Amount::default() };
        let others = [Arc::new(with(json!({"containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.1"})))];
        for (port, refused) in [
            (json!({"containerPort": 1, "hostPort": 8080}), true),
            (json!({"containerPort": 1, "hostPort": 8080, "hostIP": "10.0.0.2"}), false),
            (json!({"containerPort": 1, "hostPort": 8080, "protocol": "UDP"}), false),
            (json!({"containerPort": 8080}), false),
        ] {
            let reason = refuse(&with(port.clone()), &room, &others, 110).map(|ended| ended.reason);
            assert_eq!(reason.as_deref(), refused.then_some("NodePorts"), "{port}");
        }
    }
}
