//! Who goes first, and what it is told. Pure.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#pod-selection-for-kubelet-eviction>

use std::{cmp::Reverse, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use kontiki_api::quantity::Quantity;

use super::thresholds::{Shortage, Signal};
use crate::pods::model;

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUse {
    /// Its name.
    pub name: String,
    /// Bytes of memory that cannot simply be dropped.
    pub memory: u64,
    /// Bytes that it has written over its image and to its log.
    pub disk: u64,
}

/// What a pod uses.
#[derive(Clone, Debug, Default)]
pub struct PodUse {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Bytes of memory that cannot simply be dropped.
    pub memory: u64,
    /// Bytes and inodes of what its containers, logs and folders have written.
    pub disk: (u64, u64),
    /// Processes.
    pub processes: u64,
    /// Each container's part.
    pub containers: Vec<ContainerUse>,
    /// Bytes in each of its empty folders, by volume.
    pub empty_dirs: Vec<(String, u64)>,
}

fn requested(pod: &Pod, resource: &str) -> u64 {
    let spec = serde_json::to_value(&pod.spec).unwrap_or_default();
    let requests = kontiki_api::kinds::pod::resources::pod_requests(&spec);
    requests.get(resource).and_then(|amount| u64::try_from(amount.whole()).ok()).unwrap_or(0)
}

/// Puts those who go first in front: who uses more than it asked for, who matters less, who uses most beyond its request.
pub fn rank(pods: &mut [PodUse], signal: Signal) {
    pods.sort_by_cached_key(|one| {
        let priority = one.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        let resource = signal.resource();
        let used = match signal {
            Signal::Memory => one.memory,
            Signal::NodeFs | Signal::ImageFs => one.disk.0,
            Signal::NodeFsInodes | Signal::ImageFsInodes => one.disk.1,
            Signal::Pid => one.processes,
        };
        let request = requested(&one.pod, resource);
        // Nobody asks for processes, so nobody has more of them than it asked for.
        let exceeds = signal != Signal::Pid && used > request;
        (Reverse(exceeds), priority, Reverse(i128::from(used) - i128::from(request)))
    });
}

/// Whether a pod may not be evicted whatever happens: the system's own.
pub fn is_critical(pod: &Pod) -> bool {
    const CRITICAL_PRIORITY: i32 = 2_000_000_000;
    model::is_static(pod)
        || pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= CRITICAL_PRIORITY)
}

fn bytes(amount: u64) -> String {
    Quantity::from_whole(i64::try_from(amount).unwrap_or(i64::MAX)).to_binary()
}

/// Why a pod was evicted, in Kubernetes' words.
pub fn message(shortage: &Shortage, one: &PodUse) -> String {
    let resource = shortage.signal.resource();
    let written = |amount| match shortage.signal {
        Signal::NodeFsInodes | Signal::ImageFsInodes | Signal::Pid => format!("{amount}"),
        _ => bytes(amount),
    };
    let (least, available) = (written(shortage.least), written(shortage.available));
    let mut message = format!("The node was low on resource: {resource}. Threshold quantity: {least}, available: {available}. ");
    for container in &one.containers {
        let used = match shortage.signal {
            Signal::Memory => container.memory,
            Signal::NodeFs | Signal::ImageFs => container.disk,
            _ => continue,
        };
        let spec = model::container(&one.pod, &container.name);
        let requests = spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
        let request = requests.and_then(|requests| requests.get(resource)).map_or("0", |request| request.0.as_str());
        let least = request.parse::<Quantity>().ok().and_then(|request| u64::try_from(request.whole()).ok()).unwrap_or(0);
        if used > least {
            message += &format!(
                "Container {} was using {}, request is {request}, has larger consumption of {resource}. ",
                container.name,
                bytes(used)
            );
        }
    }
    message
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn one(name: &str, priority: i32, request: &str, memory: u64) -> PodUse {
        let resources = json!({"requests": {"memory": request, "ephemeral-storage": request}});
        let spec = json!({"priority": priority, "containers": [{"name": "c", "resources": resources}]});
        let pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        let containers = vec![ContainerUse { name: "c".into(), memory, disk: memory }];
        PodUse { pod: Arc::new(pod), memory, disk: (memory, 0), processes: memory, containers, ..PodUse::default() }
    }

    fn order(mut pods: Vec<PodUse>, signal: Signal) -> Vec<String> {
        rank(&mut pods, signal);
        pods.iter().map(|one| model::name(&one.pod).to_owned()).collect()
    }

    #[test]
    fn who_goes_first() {
        let pods = || {
            vec![
                one("within", 0, "200", 100),
                one("above-important", 10, "10", 1000),
                one("above", 0, "10", 20),
                one("far-above", 0, "10", 500),
                one("unimportant-within", -5, "200", 199),
            ]
        };
        for signal in [Signal::Memory, Signal::NodeFs] {
            let wanted = ["far-above", "above", "above-important", "unimportant-within", "within"];
            assert_eq!(order(pods(), signal), wanted, "{signal:?}");
        }
        assert_eq!(order(pods(), Signal::Pid), ["unimportant-within", "far-above", "within", "above", "above-important"]);
    }

    #[test]
    fn what_the_evicted_are_told() {
        let shortage = |signal| Shortage { signal, least: 100 << 20, available: 52_429_000 };
        let told = message(&shortage(Signal::Memory), &one("a", 0, "1Mi", 3 << 20));
        let wanted = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 52429000. \
                      Container c was using 3Mi, request is 1Mi, has larger consumption of memory. ";
        assert_eq!(told, wanted);
        assert!(!message(&shortage(Signal::NodeFs), &one("a", 0, "4Mi", 3 << 20)).contains("Container"));
        assert!(message(&shortage(Signal::Pid), &one("a", 0, "0", 1)).starts_with("The node was low on resource: pids. "));
    }

    #[test]
    fn the_systems_own_stay() {
        assert!(is_critical(&one("a", 2_000_000_000, "0", 0).pod));
        assert!(!is_critical(&one("a", 1_000_000_000, "0", 0).pod));
        let of_file = json!({"metadata": {"annotations": {"kubernetes.io/config.hash": "x"}}});
        assert!(is_critical(&serde_json::from_value(of_file).unwrap()));
    }
}
