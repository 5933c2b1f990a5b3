//! The Node object, from what the machine has. Pure but for reading /proc and /etc once.

use std::{collections::BTreeMap, fs};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{Options, runtime::Image};

/// Version that the node reports: what it speaks.
pub const VERSION: &str = "v1.36.2+kontiki";
/// Images that a node's status lists at most, as Kubernetes' default.
const IMAGES_MAX: usize = 50;

/// When the conditions last changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    ready: bool,
    transitions: BTreeMap<String, String>,
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
            found.transitions.insert(kind.to_owned(), at.to_owned());
            if kind == "Ready" {
                found.ready = condition["status"] == "True";
                if condition["status"] == "Unknown" {
                    found.transitions.remove(kind);
                }
            }
        }
        found
    }

    /// Takes note of what is now.
    pub fn observe(&mut self, ready: bool, now: Timestamp) {
        if self.ready != ready {
            self.transitions.remove("Ready");
        }
        self.ready = ready;
        for kind in ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"] {
            self.transitions.entry(kind.to_owned()).or_insert_with(|| time(now));
        }
    }

    fn list(&self, now: Option<Timestamp>) -> Vec<Value> {
        let mut conditions = vec![
            ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ];
        conditions.push(if self.ready {
            ("Ready", "True", "KubeletReady", "kubelet is posting ready status")
        } else {
            (
                "Ready",
                "False",
                "KubeletNotReady",
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: the node has no pod addresses yet",
            )
        });
        let condition = |(kind, state, reason, message): (&str, &str, &str, &str)| {
            let mut condition = json!({
                "type": kind, "status": state, "reason": reason, "message": message,
                "lastTransitionTime": self.transitions.get(kind),
            });
            if let Some(now) = now {
                condition["lastHeartbeatTime"] = json!(time(now));
            }
            condition
        };
        conditions.into_iter().map(condition).collect()
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
        conditions.observe(false, at(1));
        conditions.observe(true, at(5));
        conditions.observe(true, at(9));
        let list = conditions.list(Some(at(9)));
        assert_eq!(list[3]["status"], "True");
        assert_eq!(list[3]["lastTransitionTime"], "1970-01-01T00:00:05Z");
        assert_eq!(list[3]["lastHeartbeatTime"], "1970-01-01T00:00:09Z");
        assert_eq!(list[0]["lastTransitionTime"], "1970-01-01T00:00:01Z");
    }

    #[test]
    fn what_a_controller_said_of_a_dead_node_is_a_transition() {
        let node = json!({"status": {"conditions": [
            {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "DiskPressure", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]}});
        let mut conditions = Conditions::of(&node);
        conditions.observe(true, Timestamp::UNIX_EPOCH);
        let list = conditions.list(None);
        assert_eq!(list[3]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        assert_eq!(list[1]["lastTransitionTime"], "2026-01-01T00:00:00Z");
    }
}
