//! Names in a pod: its host name, `/etc/hosts`, `/etc/resolv.conf`. Pure.

use k8s_openapi::api::core::v1::Pod;

use super::model;
use crate::Options;

/// Longest search list that resolvers take, in names.
const SEARCH_MAX: usize = 32;

/// Host name inside the pod.
pub fn hostname(options: &Options, pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    if model::host_network(pod) {
        return options.node_name.clone();
    }
    if let Some(name) = spec.and_then(|spec| spec.hostname_override.clone()).filter(|name| !name.is_empty()) {
        return name;
    }
    let own = spec.and_then(|spec| spec.hostname.clone()).filter(|name| !name.is_empty());
    let mut name = own.unwrap_or_else(|| model::name(pod).to_owned());
    // Longer ones the kernel refuses.
    name.truncate(63);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// Name within the cluster's domain, of a pod that has one.
fn full_name(options: &Options, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if spec.hostname_override.as_ref().is_some_and(|name| !name.is_empty()) {
        return None;
    }
    let subdomain = spec.subdomain.as_deref().filter(|name| !name.is_empty())?;
    let namespace = model::namespace(pod);
    Some(format!("{}.{subdomain}.{namespace}.svc.{}", hostname(options, pod), options.cluster_domain))
}

/// What the kernel calls the pod: the full name where the pod wants it so.
pub fn kernel_hostname(options: &Options, pod: &Pod) -> String {
    let full = pod.spec.as_ref().and_then(|spec| spec.set_hostname_as_fqdn).unwrap_or(false);
    full_name(options, pod).filter(|_| full).unwrap_or_else(|| hostname(options, pod))
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

/// `/etc/hosts` of a pod; one on the node's network begins with the node's own.
pub fn hosts(options: &Options, pod: &Pod, address: &str, node_hosts: &str) -> String {
    let mut text = if model::host_network(pod) {
        format!("# Kubernetes-managed hosts file (host network).\n{node_hosts}")
    } else {
        let mut text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                        fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
            .to_owned();
        let hostname = hostname(options, pod);
        match full_name(options, pod) {
            Some(full) => text += &format!("{address}\t{full}\t{hostname}\n"),
            None => text += &format!("{address}\t{hostname}\n"),
        }
        text
    };
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
    }
    for alias in aliases {
        text += &format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
    }
    text
}
