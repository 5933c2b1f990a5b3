//! From news to the cluster and the queue.

use std::{collections::HashMap, sync::Arc, time::Instant};

use kontiki_api::resources::{NODES, PODS, ResourceKey};
use kontiki_client::{Client, reflector::ObjectKey};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::inbox::Inbox;
use crate::{
    cluster::Cluster,
    hints::Event,
    model::{
        Node, Pod,
        storage::{Claim, CsiNode, StorageClass, Volume},
        workload::{DisruptionBudget, Namespace, Workload},
    },
    queue::Queue,
};

const fn key(group: &'static str, plural: &'static str, kind: &'static str, namespaced: bool) -> ResourceKey {
    ResourceKey { group, version: "v1", plural, kind, namespaced }
}

/// Everything that is followed.
pub struct Observed {
    pods: Inbox<Pod>,
    nodes: Inbox<Node>,
    namespaces: Inbox<Namespace>,
    claims: Inbox<Claim>,
    volumes: Inbox<Volume>,
    classes: Inbox<StorageClass>,
    csi_nodes: Inbox<CsiNode>,
    budgets: Inbox<DisruptionBudget>,
    workloads: Vec<(&'static str, Inbox<Workload>)>,
    known_pods: HashMap<ObjectKey, Arc<Pod>>,
}

impl Observed {
    /// Follows everything.
    pub fn open(client: &Client, notify: &Arc<Notify>, cancel: &CancellationToken) -> Self {
        let workloads = [
            key("", "services", "Service", true),
            key("", "replicationcontrollers", "ReplicationController", true),
            key("apps", "replicasets", "ReplicaSet", true),
            key("apps", "statefulsets", "StatefulSet", true),
        ];
        Self {
            pods: Inbox::open(client, PODS, notify, cancel),
            nodes: Inbox::open(client, NODES, notify, cancel),
            namespaces: Inbox::open(client, key("", "namespaces", "Namespace", false), notify, cancel),
            claims: Inbox::open(client, key("", "persistentvolumeclaims", "PersistentVolumeClaim", true), notify, cancel),
            volumes: Inbox::open(client, key("", "persistentvolumes", "PersistentVolume", false), notify, cancel),
            classes: Inbox::open(client, key("storage.k8s.io", "storageclasses", "StorageClass", false), notify, cancel),
            csi_nodes: Inbox::open(client, key("storage.k8s.io", "csinodes", "CSINode", false), notify, cancel),
            budgets: Inbox::open(client, key("policy", "poddisruptionbudgets", "PodDisruptionBudget", true), notify, cancel),
            workloads: workloads.into_iter().map(|key| (key.kind, Inbox::open(client, key, notify, cancel))).collect(),
            known_pods: HashMap::new(),
        }
    }

    /// Waits until what no decision can do without is there.
    pub async fn synced(&self) {
        tokio::join!(self.pods.synced(), self.nodes.synced(), self.namespaces.synced());
    }

    /// Brings cluster and queue up to date.
    pub fn apply(&mut self, cluster: &mut Cluster, queue: &mut Queue, schedulers: &[String], now: Instant) {
        let mut events = Vec::new();
        for (key, namespace) in self.namespaces.take() {
            cluster.set_namespace(&key.name, namespace.map(|namespace| namespace.metadata.labels.clone()));
            events.push(Event::Namespace);
        }
        for (kind, inbox) in &self.workloads {
            for (key, workload) in inbox.take() {
                cluster.set_workload(kind, &key.namespace, &key.name, workload);
            }
        }
        self.storage(cluster, &mut events);
        for (key, budget) in self.budgets.take() {
            let key = (key.namespace, key.name);
            match budget {
                Some(budget) => cluster.budgets.insert(key, budget),
                None => cluster.budgets.remove(&key),
            };
        }
        for (key, node) in self.nodes.take() {
            match node {
                Some(node) if cluster.node(&key.name).is_some_and(|info| is_same(&info.node, &node)) => {}
                Some(node) => {
                    cluster.set_node(Arc::clone(&node));
                    events.push(Event::Node(node));
                }
                None => cluster.remove_node(&key.name),
            }
        }
        let mut pods: Vec<_> = self.pods.take().into_iter().collect();
        pods.sort_by_key(|(_, pod)| pod.as_ref().map(|pod| (pod.metadata.creation_timestamp, pod.metadata.name.clone())));
        for (key, pod) in pods {
            let before = match &pod {
                Some(pod) => self.known_pods.insert(key, Arc::clone(pod)),
                None => self.known_pods.remove(&key),
            };
            change(before, pod, cluster, queue, schedulers, now, &mut events);
        }
        events.iter().for_each(|event| queue.event(event, now));
    }

    fn storage(&self, cluster: &mut Cluster, events: &mut Vec<Event>) {
        let mut changed = false;
        for (key, claim) in self.claims.take() {
            changed = true;
            let key = (key.namespace, key.name);
            match claim {
                Some(claim) => cluster.claims.insert(key, claim),
                None => cluster.claims.remove(&key),
            };
        }
        for (key, volume) in self.volumes.take() {
            changed = true;
            match volume {
                Some(volume) => cluster.volumes.insert(key.name, volume),
                None => cluster.volumes.remove(&key.name),
            };
        }
        for (key, class) in self.classes.take() {
            changed = true;
            match class {
                Some(class) => cluster.classes.insert(key.name, class),
                None => cluster.classes.remove(&key.name),
            };
        }
        let csi_nodes = self.csi_nodes.take();
        if !csi_nodes.is_empty() {
            events.push(Event::CsiNode);
        }
        changed |= !csi_nodes.is_empty();
        for (key, node) in csi_nodes {
            match node {
                Some(node) => cluster.csi_nodes.insert(key.name, node),
                None => cluster.csi_nodes.remove(&key.name),
            };
        }
        if changed {
            cluster.touch();
            events.push(Event::Storage);
        }
    }
}

/// Whether nothing is another that scheduling looks at: nodes report often, and mostly the same.
fn is_same(before: &Node, after: &Node) -> bool {
    before.spec == after.spec && before.status == after.status && before.metadata.labels == after.metadata.labels
}

/// What became of one pod.
fn change(
    before: Option<Arc<Pod>>,
    after: Option<Arc<Pod>>,
    cluster: &mut Cluster,
    queue: &mut Queue,
    schedulers: &[String],
    now: Instant,
    events: &mut Vec<Event>,
) {
    let replaced = |before: &&Arc<Pod>| after.as_ref().is_none_or(|after| after.metadata.uid != before.metadata.uid);
    if let Some(before) = before.as_ref().filter(replaced) {
        queue.remove(&before.metadata.uid);
        cluster.nominate(before, None);
        if cluster.displace(&before.metadata.uid).is_some() {
            events.push(Event::PodLeft(Arc::clone(before)));
        }
    }
    let Some(pod) = after else { return };
    let uid = &pod.metadata.uid;
    if pod.has_ended() || (pod.spec.node_name.is_empty() && pod.metadata.deletion_timestamp.is_some()) {
        queue.remove(uid);
        cluster.nominate(&pod, None);
        if cluster.displace(uid).is_some() {
            events.push(Event::PodLeft(pod));
        }
    } else if !pod.spec.node_name.is_empty() {
        queue.remove(uid);
        cluster.nominate(&pod, None);
        let known = cluster.place_of(uid) == Some(pod.spec.node_name.as_str());
        let same = before.as_ref().is_some_and(|before| {
            before.metadata.labels == pod.metadata.labels && before.spec.requests == pod.spec.requests && known
        });
        // Something else of it has changed, such as its readiness: nothing that anybody waits for.
        let going = pod.metadata.deletion_timestamp.is_some();
        let was_going = before.as_ref().is_some_and(|before| before.metadata.deletion_timestamp.is_some());
        let node = pod.spec.node_name.clone();
        if !same {
            events.push(Event::PodPlaced(Arc::clone(&pod)));
        }
        if !same || going != was_going || before.is_none_or(|before| before.status.start_time != pod.status.start_time) || going {
            cluster.place(pod, &node);
        }
    } else if pod.waits_for(schedulers) {
        let nominated = |pod: &Arc<Pod>| pod.status.nominated_node_name.clone();
        if before.as_ref().map(nominated).unwrap_or_default() != nominated(&pod) {
            let node = nominated(&pod);
            cluster.nominate(&pod, Some(node.as_str()).filter(|node| !node.is_empty()));
        }
        queue.set(&pod, now);
    }
}
