//! From a pod's specification to what the runtime is asked for. Pure.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use k8s_openapi::{
    api::core::v1::{Container as ContainerSpec, ContainerPort, Pod, ResourceRequirements, SeccompProfile},
    apimachinery::pkg::api::resource::Quantity as QuantityText,
};
use kontiki_api::quantity::Quantity;

use super::{model, names};
use crate::{
    Options,
    network::host_ports::HostPort,
    runtime::{ContainerConfig, Mount, Processes, Resources, SandboxConfig, Seccomp},
};

/// Length of a scheduling period, in microseconds.
const CPU_PERIOD: u64 = 100_000;
/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: &Pod) -> &'static str {
    let spec = serde_json::to_value(&pod.spec).unwrap_or_default();
    kontiki_api::kinds::pod::resources::qos_class(&spec)
}

/// Group of a pod, below the node's own.
pub fn cgroup(pod: &Pod) -> String {
    let tier = match qos_class(pod) {
        "Burstable" => "kubepods/burstable",
        "BestEffort" => "kubepods/besteffort",
        _ => "kubepods",
    };
    format!("{tier}/pod{}", model::uid(pod))
}

/// Folder of a pod's logs.
pub fn log_directory(options: &Options, pod: &Pod) -> PathBuf {
    options.logs.join(format!("{}_{}_{}", model::namespace(pod), model::name(pod), model::uid(pod)))
}

/// The sandbox to make.
pub fn sandbox(options: &Options, pod: &Pod, attempt: u32) -> SandboxConfig {
    let security = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let sysctls = security.and_then(|security| security.sysctls.as_deref()).unwrap_or_default();
    SandboxConfig {
        pod_uid: model::uid(pod).to_owned(),
        pod_name: model::name(pod).to_owned(),
        pod_namespace: model::namespace(pod).to_owned(),
        attempt,
        hostname: names::kernel_hostname(options, pod),
        host_network: model::host_network(pod),
        resolv_conf: names::resolv_conf(options, pod),
        log_directory: log_directory(options, pod),
        cgroup_parent: cgroup(pod),
        sysctls: sysctls.iter().map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
        resources: pod_resources(pod),
        host_ipc: pod.spec.as_ref().and_then(|spec| spec.host_ipc).unwrap_or(false),
        share_processes: processes(pod) == Processes::Pod,
        host_ports: host_ports(pod),
    }
}

/// Ports of the node that lead to a pod with an address of its own.
fn host_ports(pod: &Pod) -> Vec<HostPort> {
    if model::host_network(pod) {
        return Vec::new();
    }
    let all = model::containers(pod).iter().chain(model::init_containers(pod).iter().filter(|init| model::is_sidecar(init)));
    let ports = all.flat_map(|container| container.ports.iter().flatten());
    let number = |port: i32| u16::try_from(port).ok().filter(|port| *port > 0);
    let one = |port: &ContainerPort| {
        let address = port.host_ip.as_deref().and_then(|address| address.parse::<std::net::Ipv4Addr>().ok());
        Some(HostPort {
            protocol: port.protocol.as_deref().unwrap_or("TCP").to_lowercase(),
            address: address.filter(|address| !address.is_unspecified()),
            host_port: port.host_port.and_then(number)?,
            pod_port: number(port.container_port)?,
        })
    };
    ports.filter_map(one).collect()
}

/// Whose processes the containers of a pod see.
pub fn processes(pod: &Pod) -> Processes {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_pid).unwrap_or(false) {
        return Processes::Node;
    }
    if spec.and_then(|spec| spec.share_process_namespace).unwrap_or(false) { Processes::Pod } else { Processes::Own }
}

fn amount(list: &Option<BTreeMap<String, QuantityText>>, name: &str) -> Option<Quantity> {
    list.as_ref()?.get(name)?.0.parse().ok()
}

fn shares(request: Option<Quantity>) -> u64 {
    request.map_or(2, |request| (u64::try_from(request.milli()).unwrap_or(0) * 1024 / 1000).clamp(2, 262_144))
}

fn quota(limit: Quantity) -> i64 {
    // A thousandth of a CPU is a thousandth of the period; the kernel takes no less than a millisecond.
    (limit.milli() * i64::try_from(CPU_PERIOD).unwrap_or(0) / 1000).max(1000)
}

/// Limits of the pod's group: the sum of its containers', where each has one.
pub fn pod_resources(pod: &Pod) -> Resources {
    let spec = serde_json::to_value(&pod.spec).unwrap_or_default();
    let requests = kontiki_api::kinds::pod::resources::pod_requests(&spec);
    let limits = kontiki_api::kinds::pod::resources::pod_limits(&spec);
    let limited = |name: &str| {
        let all = model::containers(pod).iter().chain(model::init_containers(pod));
        all.into_iter().all(|container| container.resources.as_ref().is_some_and(|own| amount(&own.limits, name).is_some()))
    };
    Resources {
        cpu_shares: Some(shares(requests.get("cpu").copied())),
        cpu_quota: limits.get("cpu").filter(|_| limited("cpu")).map(|limit| quota(*limit)),
        cpu_period: limits.get("cpu").filter(|_| limited("cpu")).map(|_| CPU_PERIOD),
        memory_limit: limits.get("memory").filter(|_| limited("memory")).map(|limit| limit.whole()),
        oom_score_adj: None,
        pids_limit: None,
    }
}

/// Limits of a container.
pub fn resources(pod: &Pod, requirements: Option<&ResourceRequirements>, memory_capacity: u64) -> Resources {
    let empty = ResourceRequirements::default();
    let own = requirements.unwrap_or(&empty);
    let cpu_limit = amount(&own.limits, "cpu");
    Resources {
        cpu_shares: Some(shares(amount(&own.requests, "cpu").or(cpu_limit))),
        cpu_quota: cpu_limit.map(quota),
        cpu_period: cpu_limit.map(|_| CPU_PERIOD),
        memory_limit: amount(&own.limits, "memory").map(|limit| limit.whole()),
        oom_score_adj: Some(oom_score(qos_class(pod), amount(&own.requests, "memory"), memory_capacity)),
        pids_limit: None,
    }
}

/// <https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#node-out-of-memory-behavior>
fn oom_score(class: &str, request: Option<Quantity>, memory_capacity: u64) -> i32 {
    match class {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request = request.and_then(|request| u64::try_from(request.whole()).ok()).unwrap_or(0);
            let part = 1000 * u128::from(request) / u128::from(memory_capacity.max(1));
            1000 - i32::try_from(part).unwrap_or(1000).clamp(1, 998)
        }
    }
}

/// The parts of a container that come from elsewhere than its specification.
pub struct Parts {
    /// Image, as the runtime named it.
    pub image: String,
    /// Environment.
    pub environment: Vec<(String, String)>,
    /// Files and folders.
    pub mounts: Vec<Mount>,
    /// Restarts before it.
    pub attempt: u32,
    /// Memory of the node, bytes.
    pub memory_capacity: u64,
    /// Whose processes it sees.
    pub processes: Processes,
    /// Which system calls it is refused.
    pub seccomp: Seccomp,
}

/// Which system calls a container is refused: its own choice, else the pod's, else the node's.
pub fn seccomp(options: &Options, pod: &Pod, spec: &ContainerSpec) -> Seccomp {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = spec.security_context.as_ref().and_then(|own| own.seccomp_profile.as_ref());
    let profile = own.or_else(|| of_pod.and_then(|own| own.seccomp_profile.as_ref()));
    seccomp_of(profile, options.configuration.seccomp_default, &options.root.join("seccomp"))
}

fn seccomp_of(profile: Option<&SeccompProfile>, by_default: bool, folder: &Path) -> Seccomp {
    match profile.map(|profile| (profile.type_.as_str(), profile.localhost_profile.as_deref())) {
        Some(("RuntimeDefault", _)) => Seccomp::RuntimeDefault,
        Some(("Localhost", Some(name))) => Seccomp::Localhost(folder.join(name)),
        None if by_default => Seccomp::RuntimeDefault,
        _ => Seccomp::Unconfined,
    }
}

/// Why a container may not run although its image is there: it would be root and says that it must not.
pub fn root_refusal(pod: &Pod, spec: &ContainerSpec, image_user: &str) -> Option<String> {
    let security = spec.security_context.as_ref();
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let non_root = security.and_then(|own| own.run_as_non_root).or(of_pod.and_then(|own| own.run_as_non_root));
    if non_root != Some(true) {
        return None;
    }
    let place = format!("(pod: {:?}, container: {})", model::describe(pod), spec.name);
    match security.and_then(|own| own.run_as_user).or(of_pod.and_then(|own| own.run_as_user)) {
        Some(0) => return Some(format!("container's runAsUser breaks non-root policy {place}")),
        Some(_) => return None,
        None => {}
    }
    let user = image_user.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        Ok(0) => Some(format!("container has runAsNonRoot and image will run as root {place}")),
        Ok(_) => None,
        Err(_) if user.is_empty() => Some(format!("container has runAsNonRoot and image will run as root {place}")),
        Err(_) => {
            let words = format!("container has runAsNonRoot and image has non-numeric user ({user})");
            Some(format!("{words}, cannot verify user is non-root {place}"))
        }
    }
}

/// The container to make.
pub fn container(pod: &Pod, spec: &ContainerSpec, parts: Parts) -> ContainerConfig {
    let security = spec.security_context.clone().unwrap_or_default();
    let pod_security = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let capabilities = security.capabilities.unwrap_or_default();
    let expand = |words: &Option<Vec<String>>| -> Vec<String> {
        words.iter().flatten().map(|word| super::environment::expand(word, &parts.environment)).collect()
    };
    let labels = [
        ("io.kubernetes.pod.name", model::name(pod)),
        ("io.kubernetes.pod.namespace", model::namespace(pod)),
        ("io.kubernetes.pod.uid", model::uid(pod)),
        ("io.kubernetes.container.name", &spec.name),
    ];
    let stop_signal = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone());
    let mut supplemental_groups = pod_security.supplemental_groups.unwrap_or_default();
    supplemental_groups.extend(pod_security.fs_group);
    ContainerConfig {
        name: spec.name.clone(),
        attempt: parts.attempt,
        command: expand(&spec.command),
        args: expand(&spec.args),
        working_dir: spec.working_dir.clone().unwrap_or_default(),
        labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        log_path: PathBuf::from(&spec.name).join(format!("{}.log", parts.attempt)),
        resources: resources(pod, spec.resources.as_ref(), parts.memory_capacity),
        run_as_user: security.run_as_user.or(pod_security.run_as_user),
        run_as_group: security.run_as_group.or(pod_security.run_as_group),
        supplemental_groups,
        privileged: security.privileged.unwrap_or(false),
        capabilities_add: capabilities.add.unwrap_or_default(),
        capabilities_drop: capabilities.drop.unwrap_or_default(),
        read_only_root_filesystem: security.read_only_root_filesystem.unwrap_or(false),
        allow_privilege_escalation: security.allow_privilege_escalation.unwrap_or(true),
        tty: spec.tty.unwrap_or(false),
        stdin: spec.stdin.unwrap_or(false),
        stdin_once: spec.stdin_once.unwrap_or(false),
        processes: parts.processes,
        unmasked_proc: security.proc_mount.as_deref() == Some("Unmasked"),
        merge_image_groups: pod_security.supplemental_groups_policy.as_deref() != Some("Strict"),
        seccomp: parts.seccomp,
        stop_signal: stop_signal.unwrap_or_default(),
        image: parts.image,
        env: parts.environment,
        mounts: parts.mounts,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn pod(resources: serde_json::Value) -> Pod {
        let spec = json!({"containers": [{"name": "a", "resources": resources}]});
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap()
    }

    #[test]
    fn limits_in_the_kernels_terms() {
        let pod = pod(json!({"requests": {"cpu": "250m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}));
        let own = model::containers(&pod)[0].resources.as_ref();
        let found = resources(&pod, own, 1 << 30);
        assert_eq!((found.cpu_shares, found.cpu_quota, found.memory_limit), (Some(256), Some(50_000), Some(128 << 20)));
        assert_eq!(found.oom_score_adj, Some(1000 - 62));
        assert_eq!(cgroup(&pod), "kubepods/burstable/podu");
        assert_eq!(pod_resources(&pod).cpu_quota, Some(50_000));
    }

    #[test]
    fn who_may_not_be_root_is_not() {
        let pod = |security: serde_json::Value| -> Pod {
            let spec = json!({"containers": [{"name": "a", "securityContext": security}]});
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap()
        };
        let refusal = |security, user: &str| {
            let pod = pod(security);
            root_refusal(&pod, &model::containers(&pod)[0], user)
        };
        let must_not = json!({"runAsNonRoot": true});
        assert_eq!(refusal(json!({}), ""), None);
        assert_eq!(refusal(must_not.clone(), "1000:0"), None);
        let wanted = "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: a)";
        assert_eq!(refusal(must_not.clone(), "").as_deref(), Some(wanted));
        assert!(refusal(must_not, "nginx").unwrap().contains("non-numeric user (nginx), cannot verify"));
        assert!(refusal(json!({"runAsNonRoot": true, "runAsUser": 0}), "5").unwrap().starts_with("container's runAsUser breaks"));
    }

    #[test]
    fn profiles_lie_in_a_folder_of_the_kubelets() {
        let of = |profile: Option<(&str, &str)>, by_default| {
            let profile = profile.map(|(kind, name)| SeccompProfile {
                type_: kind.to_owned(),
                localhost_profile: Some(name.to_owned()).filter(|name| !name.is_empty()),
            });
            seccomp_of(profile.as_ref(), by_default, Path::new("/k/seccomp"))
        };
        assert_eq!(of(Some(("Localhost", "a/b.json")), false), Seccomp::Localhost("/k/seccomp/a/b.json".into()));
        assert_eq!(of(Some(("RuntimeDefault", "")), false), Seccomp::RuntimeDefault);
        assert_eq!(of(Some(("Unconfined", "")), true), Seccomp::Unconfined);
        assert_eq!((of(None, false), of(None, true)), (Seccomp::Unconfined, Seccomp::RuntimeDefault));
    }

    #[test]
    fn a_pod_without_requests_goes_first() {
        let pod = pod(json!({}));
        let found = resources(&pod, None, 1 << 30);
        assert_eq!((found.cpu_shares, found.cpu_quota, found.oom_score_adj), (Some(2), None, Some(1000)));
        assert_eq!(cgroup(&pod), "kubepods/besteffort/podu");
    }
}
