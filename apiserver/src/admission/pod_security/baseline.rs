//! The checks of the level `baseline`: nothing that is known to reach the node.
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline>

use std::collections::BTreeSet;

use kontiki_api::object::text;
use serde_json::Value;

use super::pod::{Finding, Pod, counted, finding, plural, quoted, sorted};

const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
    "NET_RAW",
];
/// Names, and the minor version that let them in.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];
const SELINUX_TYPES: [&str; 4] = ["", "container_t", "container_init_t", "container_kvm_t"];

fn texts<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

pub fn app_armor(pod: &Pod<'_>) -> Option<Finding> {
    let allowed = |profile: &Value| matches!(text(profile, "/type"), "RuntimeDefault" | "Localhost");
    let annotation = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let marked = pod
        .annotations
        .iter()
        .filter(|(key, value)| key.starts_with("container.apparmor.security.beta.kubernetes.io/") && !annotation(value));
    let mut marked: Vec<String> = marked.map(|(key, value)| format!("{key}={value:?}")).collect();
    marked.sort();
    let mut setters: Vec<String> = pod.setters("appArmorProfile", |profile| !allowed(profile)).into_iter().collect();
    if !marked.is_empty() {
        setters.push(plural("annotation", marked.len()));
    }
    if setters.is_empty() {
        return None;
    }
    let types = pod.said("appArmorProfile").filter(|profile| !allowed(profile)).map(|profile| text(profile, "/type"));
    let values: Vec<String> = sorted(types).into_iter().map(str::to_owned).chain(marked).collect();
    let detail = format!("{} must not set AppArmor profile type to {}", setters.join(" and "), quoted(&values));
    finding(&plural("forbidden AppArmor profile", values.len()), detail)
}

pub fn capabilities(pod: &Pod<'_>) -> Option<Finding> {
    let added = |container: &'_ Value| -> Vec<String> {
        let added = texts(container, "/securityContext/capabilities/add");
        added.filter(|name| !CAPABILITIES.contains(name)).map(str::to_owned).collect()
    };
    let containers = pod.containers_where(|container| !added(container).is_empty());
    if containers.is_empty() {
        return None;
    }
    let names: BTreeSet<String> = pod.containers.iter().flat_map(|container| added(container)).collect();
    let detail =
        format!("{} must not include {} in securityContext.capabilities.add", counted("container", &containers), quoted(&names));
    finding("non-default capabilities", detail)
}

pub fn host_namespaces(pod: &Pod<'_>) -> Option<Finding> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| pod.spec[*field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    if shared.is_empty() { None } else { finding("host namespaces", shared.join(", ")) }
}

pub fn host_paths(pod: &Pod<'_>) -> Option<Finding> {
    let volumes = pod.spec["volumes"].as_array().into_iter().flatten();
    let bad = volumes.filter(|volume| volume.get("hostPath").is_some_and(|path| !path.is_null()));
    let names: Vec<&str> = bad.map(|volume| text(volume, "/name")).collect();
    if names.is_empty() { None } else { finding("hostPath volumes", counted("volume", &names)) }
}

pub fn host_ports(pod: &Pod<'_>) -> Option<Finding> {
    let ports = |container: &Value| -> Vec<String> {
        let ports = container["ports"].as_array().into_iter().flatten();
        ports.filter_map(|port| port["hostPort"].as_u64()).filter(|port| *port != 0).map(|port| port.to_string()).collect()
    };
    let containers = pod.containers_where(|container| !ports(container).is_empty());
    if containers.is_empty() {
        return None;
    }
    let used: BTreeSet<String> = pod.containers.iter().flat_map(|container| ports(container)).collect();
    let verb = if containers.len() == 1 { "uses" } else { "use" };
    let list = used.iter().cloned().collect::<Vec<_>>().join(", ");
    finding("hostPort", format!("{} {verb} {} {list}", counted("container", &containers), plural("hostPort", used.len())))
}

pub fn probe_hosts(pod: &Pod<'_>) -> Option<Finding> {
    const HANDLERS: [&str; 5] =
        ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
    let hosts = |container: &Value| -> Vec<String> {
        let pointers = HANDLERS.iter().flat_map(|handler| ["httpGet", "tcpSocket"].map(|kind| format!("{handler}/{kind}/host")));
        pointers.map(|pointer| text(container, &pointer).to_owned()).filter(|host| !host.is_empty()).collect()
    };
    let mut containers = pod.containers_where(|container| !hosts(container).is_empty());
    if containers.is_empty() {
        return None;
    }
    containers.sort_unstable();
    containers.dedup();
    let found: BTreeSet<String> = pod.containers.iter().flat_map(|container| hosts(container)).collect();
    let verb = if containers.len() == 1 { "uses" } else { "use" };
    let noun = plural("probe or lifecycle host", found.len());
    finding("probe or lifecycle host", format!("{} {verb} {noun} {}", counted("container", &containers), quoted(&found)))
}

pub fn privileged(pod: &Pod<'_>) -> Option<Finding> {
    let containers = pod.containers_where(|container| container["securityContext"]["privileged"] == true);
    if containers.is_empty() {
        return None;
    }
    finding("privileged", format!("{} must not set securityContext.privileged=true", counted("container", &containers)))
}

pub fn proc_mount(pod: &Pod<'_>) -> Option<Finding> {
    let mount = |container: &Value| text(container, "/securityContext/procMount").to_owned();
    let bad = |mount: &str| !mount.is_empty() && mount != "Default";
    let containers = pod.containers_where(|container| bad(&mount(container)));
    if containers.is_empty() {
        return None;
    }
    let mounts: BTreeSet<String> = pod.containers.iter().map(|container| mount(container)).filter(|mount| bad(mount)).collect();
    let detail = format!("{} must not set securityContext.procMount to {}", counted("container", &containers), quoted(&mounts));
    finding("procMount", detail)
}

/// `engine`: the type of container engines is let in.
pub fn selinux(pod: &Pod<'_>, engine: bool) -> Option<Finding> {
    let bad_type = |options: &Value| {
        let own = text(options, "/type");
        !(SELINUX_TYPES.contains(&own) || engine && own == "container_engine_t")
    };
    let sets = |options: &Value, field: &str| !text(options, field).is_empty();
    let bad = |options: &Value| bad_type(options) || sets(options, "/user") || sets(options, "/role");
    let setters = pod.setters("seLinuxOptions", bad)?;
    let said = || pod.said("seLinuxOptions");
    let types = sorted(said().filter(|options| bad_type(options)).map(|options| text(options, "/type")));
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", types.len()), quoted(&types)));
    }
    if said().any(|options| sets(options, "/user")) {
        data.push("user may not be set".to_owned());
    }
    if said().any(|options| sets(options, "/role")) {
        data.push("role may not be set".to_owned());
    }
    finding("seLinuxOptions", format!("{setters} set forbidden securityContext.seLinuxOptions: {}", data.join("; ")))
}

pub fn seccomp_annotations(pod: &Pod<'_>) -> Option<Finding> {
    let allowed = |value: &str| matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
    let ours = |key: &str| {
        key == "seccomp.security.alpha.kubernetes.io/pod" || key.starts_with("container.seccomp.security.alpha.kubernetes.io/")
    };
    let bad = pod.annotations.iter().filter(|(key, value)| ours(key) && !allowed(value));
    let mut bad: Vec<String> = bad.map(|(key, value)| format!("{key}={value:?}")).collect();
    bad.sort();
    if bad.is_empty() {
        return None;
    }
    finding("seccompProfile", format!("forbidden {} {}", plural("annotation", bad.len()), bad.join(", ")))
}

/// Whether a profile is one of those that confine.
pub fn confines(profile: &Value) -> bool {
    matches!(text(profile, "/type"), "RuntimeDefault" | "Localhost")
}

pub fn seccomp(pod: &Pod<'_>) -> Option<Finding> {
    let setters = pod.setters("seccompProfile", |profile| !confines(profile))?;
    let types = pod.said("seccompProfile").filter(|profile| !confines(profile)).map(|profile| text(profile, "/type"));
    let detail = format!("{setters} must not set securityContext.seccompProfile.type to {}", quoted(sorted(types)));
    finding("seccompProfile", detail)
}

pub fn sysctls(pod: &Pod<'_>, has: impl Fn(u32) -> bool) -> Option<Finding> {
    let allowed = |name: &str| SYSCTLS.iter().any(|(known, minor)| *known == name && has(*minor));
    let set = pod.spec.pointer("/securityContext/sysctls").and_then(Value::as_array).into_iter().flatten();
    let bad: Vec<&str> = set.map(|sysctl| text(sysctl, "/name")).filter(|name| !allowed(name)).collect();
    if bad.is_empty() { None } else { finding("forbidden sysctls", bad.join(", ")) }
}

pub fn host_process(pod: &Pod<'_>) -> Option<Finding> {
    let setters = pod.setters("windowsOptions", |options| options["hostProcess"] == true)?;
    finding("hostProcess", format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"))
}
