//! Looks at a local cluster: its processes, its API servers, and what those tell.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use kontiki_api::resources::{NODES, PODS};
use kontiki_client::{Client, ListParams};
use serde::Deserialize;

use super::{
    diagnosis::{NodeState, Observed, PodTrouble, Process, Seen, Told},
    forwarder::{node_ports, probe::Probe},
    link,
    paths::Paths,
    provision, supervisor, trouble,
};
use crate::shape::{API_PORT, Node, Role};

/// How long the API may take to tell.
const DEADLINE: Duration = Duration::from_secs(5);
/// Conditions of a node that are good when they are false.
const PRESSURES: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];

/// Looks at all of it.
pub fn observe(cluster: &str) -> Result<Observed> {
    let paths = Paths::new(cluster);
    let shape =
        provision::read_shape(&paths).with_context(|| format!("there is no cluster {cluster}; `kontiki up` starts one"))?;
    let supervised = supervisor::running(&paths)?.is_some();
    let processes: Vec<(Node, Process)> = shape.nodes().into_iter().map(|node| (node.clone(), process(&paths, &node))).collect();
    let alone = |(node, process)| Seen { node, process, api_ready: false };
    if !link::is_pinned(&paths.link()) {
        return Ok(Observed {
            name: cluster.to_owned(),
            supervised,
            nodes: processes.into_iter().map(alone).collect(),
            told: None,
        });
    }
    let authority = std::fs::read_to_string(paths.pki().join("ca.crt")).context("read the cluster's authority")?;
    let probe = Probe::new(&authority)?;
    let name = cluster.to_owned();
    link::inside(&paths.link(), async move |_| {
        let asks = processes.into_iter().map(async |(node, process)| {
            let asked = node.role == Role::Server && process == Process::Running;
            let api_ready = asked && probe.is_ready(SocketAddr::from((node.address, API_PORT))).await;
            Seen { node, process, api_ready }
        });
        let nodes: Vec<Seen> = futures::future::join_all(asks).await;
        // One that stands still would be waited for.
        let ready = nodes.iter().filter(|seen| seen.api_ready).map(|seen| seen.node.api_server()).collect::<Vec<_>>();
        let told = if ready.is_empty() {
            None
        } else {
            let client = node_ports::client_of(&paths, ready)?;
            tokio::time::timeout(DEADLINE, ask(&client)).await.ok().and_then(Result::ok)
        };
        Ok(Observed { name, supervised, nodes, told })
    })
}

fn process(paths: &Paths, node: &Node) -> Process {
    match trouble::running(paths, node) {
        _ if trouble::is_stopped(paths, node) => Process::Stopped,
        None => Process::Down,
        Some(init) if trouble::stands_still(init) => Process::Paused,
        Some(_) => Process::Running,
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
    #[serde(rename = "ownerReferences")]
    owners: Vec<Owner>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Owner {
    controller: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    unschedulable: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: String,
    reason: String,
    message: String,
    conditions: Vec<Condition>,
    init_container_statuses: Vec<ContainerStatus>,
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    state: ContainerState,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Waiting>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
    message: String,
}

async fn ask(client: &Client) -> Result<Told, kontiki_client::Error> {
    let parameters = ListParams::default();
    let nodes = client.list::<Object>(NODES, "", &parameters).await?;
    let pods = client.list::<Object>(PODS, "", &parameters).await?;
    let running = pods.items.iter().filter(|pod| pod.status.phase == "Running").count();
    let unready = pods.items.iter().filter(|pod| is_unready(&pod.status)).count();
    let trouble = |pod: &Object| {
        trouble_of(pod).map(|reason| PodTrouble { name: format!("{}/{}", pod.metadata.namespace, pod.metadata.name), reason })
    };
    Ok(Told {
        nodes: nodes.items.iter().map(node_state).collect(),
        running,
        unready,
        troubles: pods.items.iter().filter_map(trouble).collect(),
    })
}

fn node_state(node: &Object) -> NodeState {
    let conditions = &node.status.conditions;
    let ready = conditions.iter().find(|condition| condition.r#type == "Ready");
    let unready =
        ready.filter(|ready| ready.status != "True").map(|ready| format!("NotReady, {}: {}", ready.reason, ready.message));
    let pressure = |condition: &&Condition| condition.status == "True" && PRESSURES.contains(&condition.r#type.as_str());
    let pressures = conditions.iter().filter(pressure).map(|condition| format!("{}: {}", condition.r#type, condition.message));
    NodeState {
        name: node.metadata.name.clone(),
        ready: ready.is_some_and(|ready| ready.status == "True"),
        complaints: unready.into_iter().chain(pressures).collect(),
        cordoned: node.spec.unschedulable,
    }
}

/// Whether a pod is still to come, or does not do its work.
fn is_unready(status: &Status) -> bool {
    let is_ready = status.conditions.iter().any(|condition| condition.r#type == "Ready" && condition.status == "True");
    !is_ready && !matches!(status.phase.as_str(), "Succeeded" | "Failed")
}

/// The reason of a pod that ended in order with its node, as the kubelet's graceful shutdown writes it.
const ENDED_WITH_ITS_NODE: &str = "Terminated";

/// Why a pod is not well, if it is not. One that is only being started is, and so is one that ended with its node when a
/// controller has put another in its place: it stays to be read until the garbage collector takes it.
fn trouble_of(pod: &Object) -> Option<String> {
    let status = &pod.status;
    let say = |reason: &str, message: &str| if message.is_empty() { reason.to_owned() } else { format!("{reason}: {message}") };
    if status.phase == "Failed" {
        let is_replaced = status.reason == ENDED_WITH_ITS_NODE && pod.metadata.owners.iter().any(|owner| owner.controller);
        return (!is_replaced).then(|| say(if status.reason.is_empty() { "Failed" } else { &status.reason }, &status.message));
    }
    let placed = status.conditions.iter().find(|condition| condition.r#type == "PodScheduled" && condition.status == "False");
    if let Some(placed) = placed {
        return Some(say(&placed.reason, &placed.message));
    }
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses);
    let waiting = containers.filter_map(|container| container.state.waiting.as_ref());
    let mut stuck = waiting.filter(|waiting| !matches!(waiting.reason.as_str(), "" | "ContainerCreating" | "PodInitializing"));
    stuck.next().map(|waiting| say(&waiting.reason, &waiting.message))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn trouble(status: serde_json::Value) -> Option<String> {
        trouble_of(&serde_json::from_value(json!({ "status": status })).unwrap())
    }

    #[test]
    fn a_pod_that_ended_with_its_node_is_replaced_by_its_controller() {
        let ended = |owners: serde_json::Value, reason: &str| {
            let pod = json!({ "metadata": { "ownerReferences": owners }, "status": { "phase": "Failed", "reason": reason } });
            trouble_of(&serde_json::from_value(pod).unwrap())
        };
        let owned = json!([{ "kind": "ReplicaSet", "name": "web", "controller": true }]);
        assert_eq!(ended(owned.clone(), "Terminated"), None);
        assert_eq!(ended(owned, "Evicted").unwrap(), "Evicted");
        assert_eq!(ended(json!([]), "Terminated").unwrap(), "Terminated");
    }

    #[test]
    fn only_pods_that_are_stuck_are_in_trouble() {
        assert_eq!(trouble(json!({ "phase": "Running", "containerStatuses": [{ "state": { "running": {} } }] })), None);
        assert_eq!(
            trouble(
                json!({ "phase": "Pending", "containerStatuses": [{ "state": { "waiting": { "reason": "ContainerCreating" } } }] })
            ),
            None
        );
        let waiting = json!({ "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } } });
        assert_eq!(
            trouble(json!({ "phase": "Running", "containerStatuses": [waiting] })).unwrap(),
            "CrashLoopBackOff: back-off 10s"
        );
        let unplaced =
            json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available" });
        assert_eq!(
            trouble(json!({ "phase": "Pending", "conditions": [unplaced] })).unwrap(),
            "Unschedulable: 0/2 nodes are available"
        );
        assert_eq!(trouble(json!({ "phase": "Failed", "reason": "Evicted" })).unwrap(), "Evicted");
    }

    #[test]
    fn pods_that_have_ended_are_not_waited_for() {
        let ready = |status: &str| json!([{ "type": "Ready", "status": status }]);
        for (status, unready) in [
            (json!({ "phase": "Running", "conditions": ready("True") }), false),
            (json!({ "phase": "Running", "conditions": ready("False") }), true),
            (json!({ "phase": "Pending" }), true),
            (json!({ "phase": "Succeeded", "conditions": ready("False") }), false),
        ] {
            assert_eq!(is_unready(&serde_json::from_value(status.clone()).unwrap()), unready, "{status}");
        }
    }

    #[test]
    fn a_node_tells_what_is_not_as_it_should_be() {
        let conditions = json!([
            { "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status." },
            { "type": "DiskPressure", "status": "True", "message": "full" }, { "type": "PIDPressure", "status": "False" },
        ]);
        let node =
            serde_json::from_value(json!({ "metadata": { "name": "a" }, "status": { "conditions": conditions } })).unwrap();
        let state = node_state(&node);
        assert!(!state.ready && !state.cordoned);
        assert_eq!(state.complaints, ["NotReady, NodeStatusUnknown: Kubelet stopped posting node status.", "DiskPressure: full"]);
    }
}
