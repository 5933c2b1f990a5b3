//! Which news may help which pod that fitted nowhere. Pure.
//!
//! A pod is tried again only when something happens that can lift what a plugin refused it for: a cluster with
//! thousands of pods that wait for room does not look at them whenever a pod's status changes.

use std::sync::Arc;

use crate::{
    model::{Node, Pod},
    plugins::{
        inter_pod_affinity, node_affinity, node_name, node_ports, node_resources_fit, node_unschedulable, node_volume_limits,
        pod_topology_spread, taint_toleration, volume_binding, volume_restrictions, volume_zone,
    },
};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A node is there, or is another in what scheduling looks at.
    Node(Arc<Node>),
    /// A pod has left its node.
    PodLeft(Arc<Pod>),
    /// A pod has come to a node, or has other labels there.
    PodPlaced(Arc<Pod>),
    /// A claim, volume or class is another.
    Storage,
    /// A node's CSI drivers are others.
    CsiNode,
    /// A namespace has other labels.
    Namespace,
}

impl Event {
    /// Name for the metric `scheduler_queue_incoming_pods_total`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Node(_) => "NodeUpdate",
            Self::PodLeft(_) => "AssignedPodDelete",
            Self::PodPlaced(_) => "AssignedPodAdd",
            Self::Storage => "PvcUpdate",
            Self::CsiNode => "CSINodeUpdate",
            Self::Namespace => "NamespaceUpdate",
        }
    }
}

/// Whether an event may help a pod that these plugins refused; a pod that no plugin refused waits for nodes.
pub fn helps<'a>(event: &Event, pod: &Pod, mut plugins: impl Iterator<Item = &'a &'static str>) -> bool {
    let mut any = false;
    let helped = plugins.any(|plugin| {
        any = true;
        helps_with(event, pod, plugin)
    });
    helped || (!any && matches!(event, Event::Node(_)))
}

fn helps_with(event: &Event, pod: &Pod, plugin: &str) -> bool {
    match (plugin, event) {
        (node_affinity::NAME, Event::Node(node)) => pod.selects(node),
        (taint_toleration::NAME, Event::Node(node)) => pod.untolerated(node).is_none(),
        (node_unschedulable::NAME, Event::Node(node)) => !node.spec.unschedulable,
        (node_name::NAME, Event::Node(_)) => true,
        (node_resources_fit::NAME, Event::Node(node)) => has_enough(pod, node),
        (node_resources_fit::NAME | node_volume_limits::NAME, Event::PodLeft(_)) => true,
        (node_ports::NAME, Event::PodLeft(other)) => !other.spec.host_ports.is_empty(),
        (node_ports::NAME | node_volume_limits::NAME, Event::Node(_)) => true,
        (node_volume_limits::NAME, Event::CsiNode | Event::Storage) => true,
        (volume_restrictions::NAME, Event::PodLeft(other)) => !other.spec.claims.is_empty() || !other.spec.disks.is_empty(),
        (volume_restrictions::NAME, Event::Node(_) | Event::Storage) => true,
        (volume_binding::NAME | volume_zone::NAME, Event::Node(_) | Event::Storage) => true,
        (pod_topology_spread::NAME, Event::Node(_)) => true,
        (pod_topology_spread::NAME, Event::PodLeft(other) | Event::PodPlaced(other)) => {
            let counts = |selector: &kontiki_api::selector::LabelSelector| selector.matches(&other.metadata.labels);
            other.metadata.namespace == pod.metadata.namespace && pod.spec.spread.iter().any(|one| counts(&one.selector))
        }
        (inter_pod_affinity::NAME, Event::Storage | Event::CsiNode) => false,
        (inter_pod_affinity::NAME, _) => true,
        _ => false,
    }
}

/// Whether the node, were it empty, had what the pod asks for.
fn has_enough(pod: &Pod, node: &Node) -> bool {
    let (wanted, all) = (&pod.spec.requests, &node.status.allocatable.amounts);
    node.status.allocatable.pods > 0
        && wanted.milli_cpu <= all.milli_cpu
        && wanted.memory <= all.memory
        && wanted.ephemeral_storage <= all.ephemeral_storage
        && wanted.others.iter().all(|(name, amount)| all.others.get(name).is_some_and(|all| amount <= all))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::cycle::tests::{node, pod};

    #[test]
    fn only_news_that_can_help_wakes_a_pod() {
        let waiting = pod("p", json!({"cpu": "1"}), json!({"nodeSelector": {"disk": "ssd"}}));
        let small = Event::Node(node("small", json!({"cpu": "500m"}), json!({})));
        let large = Event::Node(node("large", json!({"cpu": "4"}), json!({})));
        let left = Event::PodLeft(pod("other", json!({}), json!({})));
        let check = |event: &Event, plugin: &'static str, wanted: bool| {
            assert_eq!(helps(event, &waiting, [&plugin].into_iter()), wanted, "{plugin} {}", event.name());
        };
        check(&small, node_resources_fit::NAME, false);
        check(&large, node_resources_fit::NAME, true);
        check(&left, node_resources_fit::NAME, true);
        check(&large, node_affinity::NAME, false);
        check(&left, node_affinity::NAME, false);
        check(&left, node_ports::NAME, false);
        check(&Event::Storage, volume_binding::NAME, true);
        check(&Event::Storage, node_resources_fit::NAME, false);
        assert!(helps(&small, &waiting, [].into_iter()), "there were no nodes at all");
    }
}
