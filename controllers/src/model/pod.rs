//! What the controllers look at of a pod.

use jiff::{SignedDuration, Timestamp};
use kontiki_client::reflector::ObjectKey;
use serde::Deserialize;

use super::{Condition, Meta};

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: PodSpec,
    /// What is.
    pub status: PodStatus,
}

/// What was asked for of a pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Node.
    pub node_name: String,
    /// Own host name.
    pub hostname: String,
    /// Service that gives the host name a domain.
    pub subdomain: String,
    /// `Always`, `OnFailure` or `Never`.
    pub restart_policy: String,
    /// Containers.
    pub containers: Vec<Container>,
    /// Containers that run before, or beside them.
    pub init_containers: Vec<Container>,
    /// Tolerations.
    pub tolerations: Vec<Toleration>,
    /// Volumes, for their claims.
    pub volumes: Vec<Volume>,
    /// Affinity, for the node that a DaemonSet names there.
    affinity: Option<Box<Affinity>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Affinity {
    node_affinity: Option<NodeAffinity>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeAffinity {
    required_during_scheduling_ignored_during_execution: Option<Terms>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Terms {
    node_selector_terms: Vec<Term>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Term {
    match_fields: Vec<super::selector::Requirement>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// Name.
    pub name: String,
    /// Ports.
    pub ports: Vec<ContainerPort>,
    /// `Always` makes an init container one that runs beside the others.
    pub restart_policy: String,
    /// What it asks for.
    pub resources: Resources,
}

/// What a container asks for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Quantities by resource.
    pub requests: super::Labels,
}

/// A port of a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerPort {
    /// Name.
    pub name: String,
    /// Number.
    pub container_port: u16,
    /// Protocol; `TCP` where empty.
    pub protocol: String,
}

/// A toleration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Toleration {
    /// Key; all where empty.
    pub key: String,
    /// `Equal` or `Exists`.
    pub operator: String,
    /// Value.
    pub value: String,
    /// Effect; all where empty.
    pub effect: String,
    /// How long; for ever where absent.
    pub toleration_seconds: Option<i64>,
}

/// A volume, of which only its claim matters.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Volume {
    /// Name.
    pub name: String,
    /// Its claim.
    pub persistent_volume_claim: Option<ClaimSource>,
    /// A claim that is made for the pod.
    pub ephemeral: Option<EphemeralSource>,
}

/// A claim that a volume names.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimSource {
    /// Name.
    pub claim_name: String,
}

/// A claim that is made for a pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EphemeralSource {
    /// What it is made from.
    pub volume_claim_template: serde_json::Value,
}

/// What a pod is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// Phase.
    pub phase: String,
    /// One word about the phase.
    pub reason: String,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// Addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
    /// When the node took it.
    pub start_time: Option<Timestamp>,
    /// How its containers are.
    pub container_statuses: Vec<ContainerStatus>,
    /// How its init containers are.
    pub init_container_statuses: Vec<ContainerStatus>,
}

/// An address.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// How a container is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Name.
    pub name: String,
    /// How often it was started again.
    pub restart_count: i64,
    /// Its state.
    pub state: ContainerState,
}

/// A container's state.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// It has ended.
    pub terminated: Option<Terminated>,
    /// It waits.
    pub waiting: Option<Waiting>,
}

/// How a container has ended.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Terminated {
    /// Exit code.
    pub exit_code: i64,
    /// When.
    pub finished_at: Option<Timestamp>,
}

/// Why a container waits.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// One word.
    pub reason: String,
}

impl Pod {
    /// A condition.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.r#type == kind)
    }

    /// Since when the pod is ready, if it is.
    pub fn ready_since(&self) -> Option<Timestamp> {
        let ready = self.condition("Ready")?;
        (ready.status == "True").then(|| ready.last_transition_time.unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        self.ready_since().is_some()
    }

    /// Whether it has ended for good.
    pub fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Whether it counts as a replica.
    pub fn is_active(&self) -> bool {
        !self.has_ended() && !self.metadata.is_deleted()
    }

    /// Whether it has been ready for so many seconds.
    pub fn is_available(&self, min_ready_seconds: i64, now: Timestamp) -> bool {
        self.ready_since().is_some_and(|since| now.as_second() - since.as_second() >= min_ready_seconds)
    }

    /// Seconds until it has been ready for so long, if it is ready and time alone is missing.
    pub fn available_in(&self, min_ready_seconds: i64, now: Timestamp) -> Option<u64> {
        let left = self.ready_since()?.as_second() + min_ready_seconds - now.as_second();
        u64::try_from(left).ok().filter(|left| *left > 0)
    }

    /// The node that it runs on, or that its DaemonSet chose for it.
    pub fn target_node(&self) -> &str {
        if !self.spec.node_name.is_empty() {
            return &self.spec.node_name;
        }
        let affinity = self.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let terms = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        let fields = terms.into_iter().flat_map(|terms| &terms.node_selector_terms).flat_map(|term| &term.match_fields);
        let mut names = fields.filter(|field| field.key == "metadata.name" && field.operator == "In" && field.values.len() == 1);
        names.next().map_or("", |field| &field.values[0])
    }

    /// Claims that it uses, those made for it included.
    pub fn claims(&self) -> impl Iterator<Item = ObjectKey> {
        let name = |volume: &Volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some(claim.claim_name.clone()),
            (None, Some(_)) => Some(format!("{}-{}", self.metadata.name, volume.name)),
            (None, None) => None,
        };
        self.spec.volumes.iter().filter_map(name).map(|name| ObjectKey::new(self.metadata.namespace.clone(), name))
    }

    /// When it ended: by its containers, else by its Ready condition, its deletion, its creation.
    pub fn finished_at(&self) -> Timestamp {
        let beside = self.spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
        let beside: Vec<_> = beside.map(|container| &container.name).collect();
        let init = self.status.init_container_statuses.iter().filter(|status| beside.contains(&&status.name));
        let ends = self.status.container_statuses.iter().chain(init).map(|status| {
            let ended = status.state.terminated.as_ref();
            ended.and_then(|ended| ended.finished_at)
        });
        let latest = ends.collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max());
        let unready = || {
            let ready = self.condition("Ready").filter(|ready| ready.status == "False")?;
            ready.last_transition_time
        };
        let deleted = || {
            let grace = SignedDuration::from_secs(self.metadata.deletion_grace_period_seconds.unwrap_or(0));
            self.metadata.deletion_timestamp.and_then(|at| at.checked_sub(grace).ok())
        };
        latest.or_else(unready).or_else(deleted).or(self.metadata.creation_timestamp).unwrap_or_default()
    }

    /// How often its containers were started again.
    pub fn restarts(&self) -> i64 {
        let statuses = self.status.init_container_statuses.iter().chain(&self.status.container_statuses);
        statuses.map(|status| status.restart_count).sum()
    }
}
