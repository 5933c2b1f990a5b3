//! A pod as the scheduler sees it.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use jiff::Timestamp;
use kontiki_api::kinds::pod::resources::{Amounts, pod_requests, pod_requests_or};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Labels, Meta, Node,
    affinity::{NodeAffinity, PodAffinity, SpreadConstraint},
    node::Taint,
};

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Raw")]
pub struct Pod {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: PodSpec,
    /// What is.
    pub status: PodStatus,
    /// Pods of one shape fit and score alike everywhere.
    pub shape: Shape,
}

/// A digest of all that scheduling depends on.
pub type Shape = u128;

#[derive(Deserialize)]
struct Raw {
    metadata: Meta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: PodStatus,
}

/// Amounts of the resources that nearly every pod asks for, and of others by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Thousandths of a CPU.
    pub milli_cpu: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of the node's own disk.
    pub ephemeral_storage: i64,
    /// Extended resources, huge pages.
    pub others: BTreeMap<String, i64>,
}

impl From<&Amounts> for Requests {
    fn from(amounts: &Amounts) -> Self {
        let mut requests = Self::default();
        for (name, amount) in amounts {
            match name.as_str() {
                "cpu" => requests.milli_cpu = amount.milli(),
                "memory" => requests.memory = amount.whole(),
                "ephemeral-storage" => requests.ephemeral_storage = amount.whole(),
                "pods" => {}
                _ if amount.is_zero() => {}
                _ => {
                    requests.others.insert(name.clone(), amount.whole());
                }
            }
        }
        requests
    }
}

impl Requests {
    /// Adds, or with `sign` -1 takes away.
    pub fn add(&mut self, other: &Self, sign: i64) {
        self.milli_cpu += sign * other.milli_cpu;
        self.memory += sign * other.memory;
        self.ephemeral_storage += sign * other.ephemeral_storage;
        for (name, amount) in &other.others {
            *self.others.entry(name.clone()).or_default() += sign * amount;
        }
    }
}

/// A port on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Protocol.
    pub protocol: String,
    /// Address; `0.0.0.0` for all.
    pub address: String,
    /// Number.
    pub number: u64,
}

impl HostPort {
    /// Whether both cannot be had at once.
    pub fn meets(&self, other: &Self) -> bool {
        const ALL: &str = "0.0.0.0";
        let everywhere = self.address == ALL || other.address == ALL;
        self.number == other.number && self.protocol == other.protocol && (everywhere || self.address == other.address)
    }
}

/// A disk that a pod names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What it is, such as `gcePersistentDisk/pd`.
    pub name: String,
    /// Whether it is only read.
    pub read_only: bool,
    /// Whether even readers exclude each other.
    pub exclusive: bool,
}

/// What was asked for, parsed and added up once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSpec {
    /// Node.
    pub node_name: String,
    /// Who schedules it.
    pub scheduler_name: String,
    /// The higher, the sooner.
    pub priority: i64,
    /// Whether it makes others go.
    pub never_preempts: bool,
    /// Whether something holds it back.
    pub gated: bool,
    /// Labels that the node must have.
    pub node_selector: Labels,
    /// Affinity to nodes.
    pub node_affinity: NodeAffinity,
    /// Affinity to pods.
    pub pod_affinity: PodAffinity,
    /// Aversion to pods.
    pub pod_anti_affinity: PodAffinity,
    /// How it is spread.
    pub spread: Vec<SpreadConstraint>,
    /// Tolerations.
    pub tolerations: Vec<Toleration>,
    /// What it asks for.
    pub requests: Requests,
    /// CPU and memory that it counts as in scores, where containers without requests count for something.
    pub score_requests: (i64, i64),
    /// Ports on the node.
    pub host_ports: Vec<HostPort>,
    /// Images of its containers and volumes.
    pub images: Vec<String>,
    /// Number of its containers, init containers included.
    pub containers: usize,
    /// Names of its claims.
    pub claims: Vec<String>,
    /// Disks.
    pub disks: Vec<Disk>,
}

/// What a pod is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// Phase.
    pub phase: String,
    /// Conditions.
    #[serde(deserialize_with = "super::list")]
    pub conditions: Vec<Condition>,
    /// Node that was made room on.
    pub nominated_node_name: String,
    /// When it began.
    pub start_time: Option<Timestamp>,
    /// Containers, for what the node has given them.
    #[serde(deserialize_with = "super::list")]
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    allocated_resources: Option<BTreeMap<String, String>>,
}

/// A condition.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// Type.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Reason.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// Since when.
    pub last_transition_time: Option<String>,
}

/// A toleration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Toleration {
    /// Key; all where empty.
    pub key: String,
    /// `Equal` or `Exists`.
    pub operator: String,
    /// Value.
    pub value: String,
    /// Effect; all where empty.
    pub effect: String,
}

impl Toleration {
    /// Whether it tolerates a taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && (self.operator == "Exists" || self.value == taint.value)
    }
}

impl From<Raw> for Pod {
    fn from(raw: Raw) -> Self {
        let Raw { metadata, mut spec, mut status } = raw;
        let shape = shape(&metadata, &spec);
        raise_to_allocated(&mut spec, &std::mem::take(&mut status.container_statuses));
        Self { spec: parse(&spec, &metadata), metadata, status, shape }
    }
}

/// A pod that is being resized counts with the more of what it asks for and what it was given.
fn raise_to_allocated(spec: &mut Value, statuses: &[ContainerStatus]) {
    for container in spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
        let own = statuses.iter().find(|status| container["name"] == status.name.as_str());
        for (name, given) in own.and_then(|status| status.allocated_resources.as_ref()).into_iter().flatten() {
            let amount = |text: &str| text.parse::<kontiki_api::quantity::Quantity>().unwrap_or_default();
            let asked = container["resources"]["requests"][name].as_str().map(amount);
            if asked.is_some_and(|asked| amount(given) > asked) {
                container["resources"]["requests"][name] = json!(given);
            }
        }
    }
}

/// Two hashes with keys of this process: nobody can make two shapes meet on purpose, and chance will not.
static KEYS: LazyLock<(RandomState, RandomState)> = LazyLock::new(Default::default);

fn shape(metadata: &Meta, spec: &Value) -> Shape {
    let mut relevant = serde_json::Map::new();
    for (field, value) in spec.as_object().into_iter().flatten() {
        let value = match field.as_str() {
            "affinity" | "nodeSelector" | "tolerations" | "topologySpreadConstraints" | "overhead" | "resources" | "priority" => {
                value.clone()
            }
            "containers" | "initContainers" => {
                let of = |container: &Value| {
                    json!([
                        container["resources"]["requests"],
                        container["restartPolicy"],
                        container["image"],
                        container["ports"]
                    ])
                };
                value.as_array().into_iter().flatten().map(of).collect()
            }
            // Names of volumes for tokens differ from pod to pod and mean nothing here.
            "volumes" => value.as_array().into_iter().flatten().filter(|volume| is_relevant(volume)).cloned().collect(),
            _ => continue,
        };
        relevant.insert(field.clone(), value);
    }
    let controller = metadata.controller().map(|owner| owner.uid.as_str());
    let volumes = || spec["volumes"].as_array().into_iter().flatten();
    // Claims that are made for one pod carry its name.
    let name = volumes().any(|volume| volume.get("ephemeral").is_some()).then_some(&metadata.name);
    let text = json!([metadata.namespace, metadata.labels, controller, name, relevant]).to_string();
    (u128::from(KEYS.0.hash_one(&text)) << 64) | u128::from(KEYS.1.hash_one(&text))
}

fn is_relevant(volume: &Value) -> bool {
    let harmless = ["projected", "emptyDir", "configMap", "secret", "downwardAPI", "hostPath"];
    !harmless.iter().any(|kind| volume.get(*kind).is_some())
}

/// What a container without requests counts as: a tenth of a CPU, 200 MB.
static SCORE_DEFAULTS: LazyLock<Amounts> = LazyLock::new(|| {
    let quantity = kontiki_api::quantity::Quantity::from_milli(100);
    let memory = kontiki_api::quantity::Quantity::from_whole(200 << 20);
    Amounts::from([("cpu".to_owned(), quantity), ("memory".to_owned(), memory)])
});

fn parse(spec: &Value, metadata: &Meta) -> PodSpec {
    let text = |name: &str| spec[name].as_str().unwrap_or_default().to_owned();
    let list = |name: &str| spec[name].as_array().into_iter().flatten();
    let namespace = &metadata.namespace;
    let sidecars = list("initContainers").filter(|container| container["restartPolicy"] == "Always");
    let ports = list("containers").chain(sidecars).flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let images = list("containers").chain(list("initContainers")).filter_map(|container| container["image"].as_str());
    let volumes = || list("volumes");
    let scored = Requests::from(&pod_requests_or(spec, &SCORE_DEFAULTS));
    PodSpec {
        node_name: text("nodeName"),
        scheduler_name: text("schedulerName"),
        priority: spec["priority"].as_i64().unwrap_or(0),
        never_preempts: spec["preemptionPolicy"] == "Never",
        gated: list("schedulingGates").next().is_some(),
        node_selector: serde_json::from_value(spec["nodeSelector"].clone()).unwrap_or_default(),
        node_affinity: NodeAffinity::parse(&spec["affinity"]["nodeAffinity"]),
        pod_affinity: PodAffinity::parse(&spec["affinity"]["podAffinity"], namespace),
        pod_anti_affinity: PodAffinity::parse(&spec["affinity"]["podAntiAffinity"], namespace),
        spread: list("topologySpreadConstraints").map(|one| SpreadConstraint::parse(one, &metadata.labels)).collect(),
        tolerations: serde_json::from_value(spec["tolerations"].clone()).unwrap_or_default(),
        requests: Requests::from(&pod_requests(spec)),
        score_requests: (scored.milli_cpu, scored.memory),
        host_ports: ports.filter_map(host_port).collect(),
        images: images.chain(volumes().filter_map(|volume| volume["image"]["reference"].as_str())).map(str::to_owned).collect(),
        containers: list("containers").count() + list("initContainers").count(),
        claims: volumes().filter_map(|volume| claim(volume, &metadata.name)).collect(),
        disks: volumes().filter_map(disk).collect(),
    }
}

fn host_port(port: &Value) -> Option<HostPort> {
    let number = port["hostPort"].as_u64().filter(|number| *number > 0)?;
    let address = port["hostIP"].as_str().filter(|address| !address.is_empty()).unwrap_or("0.0.0.0").to_owned();
    Some(HostPort { protocol: port["protocol"].as_str().unwrap_or("TCP").to_owned(), address, number })
}

/// The claim of a volume: its own, or the one that is made for the pod alone.
fn claim(volume: &Value, pod: &str) -> Option<String> {
    if volume.get("ephemeral").is_some() {
        return Some(format!("{pod}-{}", volume["name"].as_str()?));
    }
    volume.pointer("/persistentVolumeClaim/claimName")?.as_str().map(str::to_owned)
}

fn disk(volume: &Value) -> Option<Disk> {
    let read_only = |source: &Value| source["readOnly"] == true;
    let disk = |kind: &str, parts: &[&str], exclusive| {
        let source = volume.get(kind)?;
        let parts: Vec<String> = parts.iter().map(|part| source[*part].to_string()).collect();
        Some(Disk { name: format!("{kind}/{}", parts.join("/")), read_only: read_only(source), exclusive })
    };
    disk("gcePersistentDisk", &["pdName"], false)
        .or_else(|| disk("awsElasticBlockStore", &["volumeID"], true))
        .or_else(|| disk("iscsi", &["iqn"], false))
        .or_else(|| disk("rbd", &["monitors", "pool", "image"], false))
}

impl Pod {
    /// Whether it waits for one of these schedulers.
    pub fn waits_for(&self, schedulers: &[String]) -> bool {
        let name = if self.spec.scheduler_name.is_empty() { "default-scheduler" } else { &self.spec.scheduler_name };
        schedulers.iter().any(|own| own == name)
            && self.spec.node_name.is_empty()
            && self.metadata.deletion_timestamp.is_none()
            && !self.has_ended()
    }

    /// Whether it takes nothing of its node any more.
    pub fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Whether it has something to say about other pods.
    pub fn has_pod_affinity(&self) -> bool {
        !self.spec.pod_affinity.is_empty() || !self.spec.pod_anti_affinity.is_empty()
    }

    /// Whether its node selector and required node affinity allow a node.
    pub fn selects(&self, node: &Node) -> bool {
        let labels = &node.metadata.labels;
        self.spec.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.spec.node_affinity.allows(&node.metadata.name, labels)
    }

    /// The first taint that keeps it from a node.
    pub fn untolerated<'a>(&self, node: &'a Node) -> Option<&'a Taint> {
        let hard = node.spec.taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
        hard.into_iter().find(|taint| !self.tolerates(taint))
    }

    /// Whether it tolerates a taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.spec.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }

    /// A condition by its type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.r#type == kind)
    }

    /// Since when it counts as running.
    pub fn started(&self) -> Option<Timestamp> {
        self.status.start_time.or(self.metadata.creation_timestamp)
    }
}
