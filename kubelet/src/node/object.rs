//! The Node object, from what the machine has. Pure but for reading /proc and /etc once.

use std::{collections::BTreeMap, fs};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Options,
    health::{Health, Pressure},
    runtime::Image,
};

/// Version that the node reports: what it speaks.
pub const VERSION: &str = "v1.36.2+kontiki";
/// Images that a node's status lists at most, as Kubernetes' default.
const IMAGES_MAX: usize = 50;
/// Why a node without addresses for pods is not ready.
const NO_NETWORK: &str = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: the node has no pod addresses yet";

/// What is true of the node, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    network_ready: bool,
    health: Health,
    /// Status and time of its last change, by type.
    since: BTreeMap<String, (bool, String)>,
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Conditions {
    /// As a node has them.
    pub fn of(node: &Value) -> Self {
        let mut found = Self::default();
        for condition in node["status"]["conditions"].as_array().into_iter().flatten() {
            let (Some(kind), Some(at)) = (condition["type"].as_str(), condition["lastTransitionTime"].as_str()) else { continue };
            // What a controller said of a silent node is not what the node said of itself.
            if condition["status"] != "Unknown" {
                found.since.insert(kind.to_owned(), (condition["status"] == "True", at.to_owned()));
            }
        }
        found
    }

    /// Takes note of what is now.
    pub fn observe(&mut self, network_ready: bool, health: &Health, now: Timestamp) {
        self.network_ready = network_ready;
        self.health = health.clone();
        for (kind, state, ..) in self.all() {
            let before = self.since.get(kind).is_some_and(|(before, _)| *before == state);
            if !before {
                self.since.insert(kind.to_owned(), (state, time(now)));
            }
        }
    }

    /// Type, status, reason and message of each.
    fn all(&self) -> [(&'static str, bool, &'static str, &'static str); 4] {
        let pressure = |pressure: Pressure, well: (&'static str, &'static str), ill: (&'static str, &'static str)| {
            let is_ill = self.health.pressures.contains(&pressure);
            let (reason, message) = if is_ill { ill } else { well };
            (pressure.condition(), is_ill, reason, message)
        };
        let ready = match (self.health.shutting_down, self.network_ready) {
            (true, _) => ("Ready", false, "KubeletNotReady", "node is shutting down"),
            (false, true) => ("Ready", true, "KubeletReady", "kubelet is posting ready status"),
            (false, false) => ("Ready", false, "KubeletNotReady", NO_NETWORK),
        };
        [
            pressure(
                Pressure::Memory,
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ),
            pressure(
                Pressure::Disk,
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ),
            pressure(
                Pressure::Pid,
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ),
            ready,
        ]
    }

    fn list(&self, now: Option<Timestamp>) -> Vec<Value> {
        let condition = |(kind, state, reason, message): (&str, bool, &str, &str)| {
            let mut condition = json!({
                "type": kind, "status": if state { "True" } else { "False" }, "reason": reason, "message": message,
                "lastTransitionTime": self.since.get(kind).map(|(_, at)| at),
            });
            if let Some(now) = now {
                condition["lastHeartbeatTime"] = json!(time(now));
            }
            condition
        };
        self.all().into_iter().map(condition).collect()
    }
}

/// The object to register.
pub fn describe(options: &Options) -> Value {
    let mut labels: BTreeMap<String, String> = options.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", options.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    let taint = |(key, value, effect): &(String, String, String)| {
        let mut taint = json!({ "key": key, "effect": effect });
        if !value.is_empty() {
            taint["value"] = json!(value);
        }
        taint
    };
    let mut node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": options.node_name, "labels": labels },
        "spec": {},
    });
    if !options.taints.is_empty() {
        node["spec"]["taints"] = options.taints.iter().map(taint).collect();
    }
    node
}

/// The whole status. Without `now` it lacks what changes with time alone.
pub fn status(options: &Options, images: &[Image], conditions: &Conditions, now: Option<Timestamp>) -> Value {
    let capacity = &options.capacity;
    let cpu = if capacity.cpu_millis.is_multiple_of(1000) {
        (capacity.cpu_millis / 1000).to_string()
    } else {
        format!("{}m", capacity.cpu_millis)
    };
    let amounts = json!({
        "cpu": cpu,
        "memory": format!("{}Ki", capacity.memory_bytes / 1024),
        "ephemeral-storage": format!("{}Ki", capacity.ephemeral_storage_bytes / 1024),
        "pods": capacity.pods.to_string(),
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
    });
    let mut listed: Vec<&Image> = images.iter().collect();
    listed.sort_by_key(|image| std::cmp::Reverse(image.size));
    let image = |image: &&Image| {
        let names: Vec<_> = image.repo_digests.iter().chain(&image.repo_tags).collect();
        json!({ "names": names, "sizeBytes": image.size })
    };
    json!({
        "addresses": [
            { "type": "InternalIP", "address": options.node_ip },
            { "type": "Hostname", "address": options.node_name },
        ],
        "capacity": amounts,
        "allocatable": amounts,
        "conditions": conditions.list(now),
        "daemonEndpoints": { "kubeletEndpoint": { "Port": options.listen.port() } },
        "images": listed.iter().take(IMAGES_MAX).map(image).collect::<Vec<_>>(),
        "nodeInfo": node_info(options),
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn node_info(options: &Options) -> Value {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let system = read("/etc/os-release");
    let name = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"').to_owned();
    json!({
        "machineID": read("/etc/machine-id"),
        "systemUUID": read("/sys/class/dmi/id/product_uuid"),
        "bootID": read("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": read("/proc/sys/kernel/osrelease"),
        "osImage": name,
        "containerRuntimeVersion": options.runtime.version(),
        "kubeletVersion": VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": architecture(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_is_dated_when_it_happens() {
        let at = |second: i64| Timestamp::from_second(second).unwrap_or_default();
        let mut conditions = Conditions::default();
        let mut health = Health::default();
        conditions.observe(false, &health, at(1));
        conditions.observe(true, &health, at(5));
        conditions.observe(true, &health, at(9));
        let list = conditions.list(Some(at(9)));
        assert_eq!(list[3]["status"], "True");
        assert_eq!(list[3]["lastTransitionTime"], "1970-01-01T00:00:05Z");
        assert_eq!(list[3]["lastHeartbeatTime"], "1970-01-01T00:00:09Z");
        assert_eq!(list[0]["lastTransitionTime"], "1970-01-01T00:00:01Z");
        health.pressures.insert(Pressure::Disk);
        health.shutting_down = true;
        conditions.observe(true, &health, at(20));
        let list = conditions.list(None);
        assert_eq!((list[1]["status"].as_str(), list[1]["reason"].as_str()), (Some("True"), Some("KubeletHasDiskPressure")));
        assert_eq!((list[3]["status"].as_str(), list[3]["message"].as_str()), (Some("False"), Some("node is shutting down")));
        assert_eq!(list[3]["lastTransitionTime"], "1970-01-01T00:00:20Z");
    }

    #[test]
    fn what_a_controller_said_of_a_dead_node_is_a_transition() {
        let node = json!({"status": {"conditions": [
            {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "DiskPressure", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]}});
        let mut conditions = Conditions::of(&node);
        conditions.observe(true, &Health::default(), Timestamp::UNIX_EPOCH);
        let list = conditions.list(None);
        assert_eq!(list[3]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        assert_eq!(list[1]["lastTransitionTime"], "2026-01-01T00:00:00Z");
    }
}
