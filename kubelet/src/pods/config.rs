//! From a pod's specification to what the runtime is asked for. Pure.

use std::{collections::BTreeMap, path::PathBuf};

use k8s_openapi::{
    api::core::v1::{Container as ContainerSpec, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as QuantityText,
};
use kontiki_api::quantity::Quantity;

use super::model;
use crate::{
    Options,
    runtime::{ContainerConfig, Mount, Resources, SandboxConfig},
};

/// Length of a scheduling period, in microseconds.
const CPU_PERIOD: u64 = 100_000;
/// Longest search list that resolvers take, in names.
const SEARCH_MAX: usize = 32;

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

/// Host name inside the pod.
pub fn hostname(options: &Options, pod: &Pod) -> String {
    if model::host_network(pod) {
        return options.node_name.clone();
    }
    let own = pod.spec.as_ref().and_then(|spec| spec.hostname.clone()).filter(|name| !name.is_empty());
    let mut name = own.unwrap_or_else(|| model::name(pod).to_owned());
    // Longer ones the kernel refuses.
    name.truncate(63);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// `/etc/resolv.conf`, by the pod's DNS policy.
/// <https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-dns-policy>
pub fn resolv_conf(options: &Options, pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let mut policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    if policy == "ClusterFirst" && model::host_network(pod) {
        policy = "Default";
    }
    let (mut servers, mut searches, mut settings) = (Vec::new(), Vec::new(), Vec::new());
    match (policy, options.cluster_dns) {
        ("None", _) => {}
        ("ClusterFirst" | "ClusterFirstWithHostNet", Some(dns)) => {
            let domain = &options.cluster_domain;
            servers.push(dns.to_string());
            searches.extend([format!("{}.svc.{domain}", model::namespace(pod)), format!("svc.{domain}"), domain.clone()]);
            searches.extend(words(&options.node_resolv_conf, "search"));
            settings.push("ndots:5".to_owned());
        }
        _ => {
            servers.extend(words(&options.node_resolv_conf, "nameserver"));
            searches.extend(words(&options.node_resolv_conf, "search"));
            settings.extend(words(&options.node_resolv_conf, "options"));
        }
    }
    if let Some(own) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        servers.extend(own.nameservers.clone().unwrap_or_default());
        searches.extend(own.searches.clone().unwrap_or_default());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            settings.retain(|known| known.split(':').next() != Some(name.as_str()));
            settings.push(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    let mut seen = Vec::new();
    searches.retain(|name| {
        !seen.contains(name) && {
            seen.push(name.clone());
            true
        }
    });
    searches.truncate(SEARCH_MAX);
    let mut text = String::new();
    if !searches.is_empty() {
        text += &format!("search {}\n", searches.join(" "));
    }
    servers.iter().for_each(|server| text += &format!("nameserver {server}\n"));
    if !settings.is_empty() {
        text += &format!("options {}\n", settings.join(" "));
    }
    text
}

fn words(resolv_conf: &str, keyword: &str) -> Vec<String> {
    let lines = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix(keyword));
    let lines = lines.filter(|rest| rest.starts_with([' ', '\t']));
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// `/etc/hosts` of a pod with an address of its own.
pub fn hosts(options: &Options, pod: &Pod, address: &str) -> String {
    let mut text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                    fe00::\tip6-localnet\nfe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
        .to_owned();
    let hostname = hostname(options, pod);
    let subdomain = pod.spec.as_ref().and_then(|spec| spec.subdomain.as_deref()).filter(|name| !name.is_empty());
    match subdomain {
        Some(subdomain) => {
            let full = format!("{hostname}.{subdomain}.{}.svc.{}", model::namespace(pod), options.cluster_domain);
            text += &format!("{address}\t{full}\t{hostname}\n");
        }
        None => text += &format!("{address}\t{hostname}\n"),
    }
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
    }
    for alias in aliases {
        text += &format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
    }
    text
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
        hostname: hostname(options, pod),
        host_network: model::host_network(pod),
        resolv_conf: resolv_conf(options, pod),
        log_directory: log_directory(options, pod),
        cgroup_parent: cgroup(pod),
        sysctls: sysctls.iter().map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
        resources: pod_resources(pod),
    }
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
fn pod_resources(pod: &Pod) -> Resources {
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
    fn a_pod_without_requests_goes_first() {
        let pod = pod(json!({}));
        let found = resources(&pod, None, 1 << 30);
        assert_eq!((found.cpu_shares, found.cpu_quota, found.oom_score_adj), (Some(2), None, Some(1000)));
        assert_eq!(cgroup(&pod), "kubepods/besteffort/podu");
    }
}
