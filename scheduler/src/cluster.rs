//! The cluster as the scheduler knows it, kept up to date change by change: the snapshot that decisions are made on.
//!
//! A node's generation rises with every change to it or its pods, so that whatever was computed for a node is good
//! for as long as the generation is the same. Invariant: a pod is on at most one node.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ahash::AHashMap;

use crate::model::{
    Labels, Node, Pod, ZONE,
    pod::Requests,
    storage::{Claim, CsiNode, StorageClass, Volume},
    workload::{DisruptionBudget, Workload},
};

/// A node and its pods.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The node.
    pub node: Arc<Node>,
    /// Its pods, those included whose binding is on its way.
    pub pods: Vec<Arc<Pod>>,
    /// How many of them have something to say about other pods.
    pub with_affinity: usize,
    /// How many of them have ports on the node.
    pub with_ports: usize,
    /// What they ask for together.
    pub requested: Requests,
    /// CPU and memory that they count as in scores.
    pub scored: (i64, i64),
    /// Rises with every change.
    pub generation: u64,
}

impl NodeInfo {
    /// A node without pods.
    pub fn new(node: Arc<Node>) -> Self {
        let requested = Requests::default();
        Self { node, pods: Vec::new(), with_affinity: 0, with_ports: 0, requested, scored: (0, 0), generation: 0 }
    }

    fn count(&mut self, pod: &Pod, sign: i64) {
        self.requested.add(&pod.spec.requests, sign);
        self.scored.0 += sign * pod.spec.score_requests.0;
        self.scored.1 += sign * pod.spec.score_requests.1;
        let one = |number: usize, is: bool| number.saturating_add_signed(if is { sign as isize } else { 0 });
        self.with_affinity = one(self.with_affinity, pod.has_pod_affinity());
        self.with_ports = one(self.with_ports, !pod.spec.host_ports.is_empty());
    }

    /// Puts a pod there.
    pub fn add(&mut self, pod: Arc<Pod>) {
        self.count(&pod, 1);
        self.pods.push(pod);
    }

    /// Takes a pod away.
    pub fn remove(&mut self, uid: &str) {
        if let Some(at) = self.pods.iter().position(|pod| pod.metadata.uid == uid) {
            let pod = self.pods.swap_remove(at);
            self.count(&pod, -1);
        }
    }

    /// Name of the node.
    pub fn name(&self) -> &str {
        &self.node.metadata.name
    }
}

/// Selectors of what owns and groups pods, by kind, namespace and name.
type Workloads = HashMap<(&'static str, String), BTreeMap<String, Arc<Workload>>>;

/// A volume that was taken as a claim's.
#[derive(Clone, Debug)]
pub struct Promise {
    before: Arc<Volume>,
    promised: Arc<Volume>,
}

/// Everything that decisions are made on.
#[derive(Default)]
pub struct Cluster {
    slots: Vec<Option<NodeInfo>>,
    by_name: AHashMap<String, usize>,
    order: Vec<usize>,
    order_is_stale: bool,
    /// Where each pod is, by UID.
    places: AHashMap<String, String>,
    /// Pods of nodes that are not known yet.
    homeless: HashMap<String, Vec<Arc<Pod>>>,
    generation: u64,
    /// Bytes of each image, and on how many nodes it lies.
    images: HashMap<String, (i64, usize)>,
    /// Pods that wait for room that was made for them, by node.
    nominated: HashMap<String, Vec<Arc<Pod>>>,
    /// Labels of namespaces.
    namespaces: HashMap<String, Labels>,
    /// Claims, by namespace and name.
    pub claims: HashMap<(String, String), Arc<Claim>>,
    /// Volumes.
    pub volumes: BTreeMap<String, Arc<Volume>>,
    /// Classes of volumes.
    pub classes: HashMap<String, Arc<StorageClass>>,
    /// What CSI drivers of nodes take.
    pub csi_nodes: HashMap<String, Arc<CsiNode>>,
    /// Budgets, by namespace and name.
    pub budgets: BTreeMap<(String, String), Arc<DisruptionBudget>>,
    workloads: Workloads,
    /// Rises when something changes that is no node and no pod.
    surroundings: u64,
}

impl Cluster {
    /// Nodes in the order in which they are looked at: zones take turns.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (usize, &NodeInfo)> {
        self.order
            .iter()
            .map(|slot| (*slot, self.slots[*slot].as_ref().unwrap_or_else(|| unreachable!("ordered slots are filled"))))
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Slots that nodes may have: an upper bound of the numbers that [`Cluster::nodes`] gives.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.slots[*self.by_name.get(name)?].as_ref()
    }

    /// Generation of what is neither node nor pod.
    pub fn surroundings(&self) -> u64 {
        self.surroundings
    }

    /// Says that something changed that is neither node nor pod.
    pub fn touch(&mut self) {
        self.surroundings += 1;
    }

    /// Labels of a namespace.
    pub fn namespace(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name)
    }

    /// Bytes of an image, and on how many nodes it lies.
    pub fn image(&self, name: &str) -> Option<(i64, usize)> {
        self.images.get(name).copied()
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut NodeInfo)) {
        self.generation += 1;
        let generation = self.generation;
        if let Some(info) = self.by_name.get(name).and_then(|slot| self.slots[*slot].as_mut()) {
            change(info);
            info.generation = generation;
        }
    }

    /// A node as it is now.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone();
        self.count_images(&name, -1);
        if let Some(before) = self.node(&name) {
            self.order_is_stale |= before.node.metadata.labels.get(ZONE) != node.metadata.labels.get(ZONE);
            self.change(&name, |info| info.node = node);
        } else {
            let mut info = NodeInfo::new(node);
            self.homeless.remove(&name).into_iter().flatten().for_each(|pod| info.add(pod));
            let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
            if slot == self.slots.len() {
                self.slots.push(None);
            }
            self.generation += 1;
            info.generation = self.generation;
            self.slots[slot] = Some(info);
            self.by_name.insert(name.clone(), slot);
            self.order_is_stale = true;
        }
        self.count_images(&name, 1);
    }

    /// A node that is gone; its pods stay known, in case that it comes back.
    pub fn remove_node(&mut self, name: &str) {
        self.count_images(name, -1);
        let Some(slot) = self.by_name.remove(name) else { return };
        if let Some(info) = self.slots[slot].take() {
            self.homeless.insert(name.to_owned(), info.pods);
        }
        self.order_is_stale = true;
        self.reorder();
    }

    fn count_images(&mut self, node: &str, sign: isize) {
        let Some(info) = self.by_name.get(node).and_then(|slot| self.slots[*slot].as_ref()) else { return };
        for image in &info.node.status.images {
            for name in &image.names {
                let entry = self.images.entry(name.clone()).or_insert((image.size_bytes, 0));
                entry.1 = entry.1.saturating_add_signed(sign);
                if sign > 0 {
                    entry.0 = image.size_bytes;
                }
                if entry.1 == 0 {
                    self.images.remove(name);
                }
            }
        }
    }

    /// Orders nodes anew if their set or zones have changed.
    pub fn reorder(&mut self) {
        if !std::mem::take(&mut self.order_is_stale) {
            return;
        }
        let mut zones: BTreeMap<&str, Vec<(&str, usize)>> = BTreeMap::new();
        for (slot, info) in self.slots.iter().enumerate().filter_map(|(slot, info)| Some((slot, info.as_ref()?))) {
            let zone = info.node.metadata.labels.get(ZONE).map_or("", String::as_str);
            zones.entry(zone).or_default().push((info.name(), slot));
        }
        zones.values_mut().for_each(|nodes| nodes.sort_unstable());
        let longest = zones.values().map(Vec::len).max().unwrap_or(0);
        self.order = (0..longest)
            .flat_map(|index| zones.values().filter_map(move |nodes| nodes.get(index)).map(|(_, slot)| *slot))
            .collect();
    }

    /// Puts a pod on a node, wherever it was before.
    pub fn place(&mut self, pod: Arc<Pod>, node: &str) {
        let uid = pod.metadata.uid.clone();
        self.displace(&uid);
        if self.by_name.contains_key(node) {
            self.change(node, |info| info.add(pod));
        } else {
            self.homeless.entry(node.to_owned()).or_default().push(pod);
        }
        self.places.insert(uid, node.to_owned());
    }

    /// Takes a pod off its node; says which it was.
    pub fn displace(&mut self, uid: &str) -> Option<String> {
        let node = self.places.remove(uid)?;
        if self.by_name.contains_key(&node) {
            self.change(&node, |info| info.remove(uid));
        } else if let Some(pods) = self.homeless.get_mut(&node) {
            pods.retain(|pod| pod.metadata.uid != uid);
            if pods.is_empty() {
                self.homeless.remove(&node);
            }
        }
        Some(node)
    }

    /// The node that a pod is on.
    pub fn place_of(&self, uid: &str) -> Option<&str> {
        self.places.get(uid).map(String::as_str)
    }

    /// Remembers that room was made for a pod on a node, or that none is any more.
    pub fn nominate(&mut self, pod: &Arc<Pod>, node: Option<&str>) {
        let uid = &pod.metadata.uid;
        self.nominated.retain(|_, pods| {
            pods.retain(|other| other.metadata.uid != *uid);
            !pods.is_empty()
        });
        if let Some(node) = node {
            self.nominated.entry(node.to_owned()).or_default().push(Arc::clone(pod));
        }
    }

    /// Pods that room was made for on a node.
    pub fn nominated(&self, node: &str) -> &[Arc<Pod>] {
        self.nominated.get(node).map_or(&[], Vec::as_slice)
    }

    /// A namespace's labels as they are now; `None` if it is gone.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        let before = match labels {
            Some(labels) => {
                let same = self.namespaces.get(name) == Some(&labels);
                self.namespaces.insert(name.to_owned(), labels);
                same
            }
            None => self.namespaces.remove(name).is_none(),
        };
        if !before {
            self.touch();
        }
    }

    /// A workload as it is now; `None` if it is gone.
    pub fn set_workload(&mut self, kind: &'static str, namespace: &str, name: &str, workload: Option<Arc<Workload>>) {
        let of_namespace = self.workloads.entry((kind, namespace.to_owned())).or_default();
        let before = of_namespace.get(name).and_then(|workload| workload.selector.clone());
        let after = workload.as_ref().and_then(|workload| workload.selector.clone());
        match workload {
            Some(workload) => of_namespace.insert(name.to_owned(), workload),
            None => of_namespace.remove(name),
        };
        if before != after {
            self.touch();
        }
    }

    /// Workloads of a kind in a namespace.
    pub fn workloads(&self, kind: &'static str, namespace: &str) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.get(&(kind, namespace.to_owned())).into_iter().flat_map(BTreeMap::values)
    }

    /// Takes a volume as a claim's, until the API says otherwise or the promise is taken back.
    pub fn promise(&mut self, volume: &Arc<Volume>, claim: &Claim) -> Promise {
        let meta = &claim.metadata;
        let owner = (meta.namespace.clone(), meta.name.clone(), meta.uid.clone());
        let promised = Arc::new(Volume { claim: Some(owner), ..(**volume).clone() });
        self.volumes.insert(volume.metadata.name.clone(), Arc::clone(&promised));
        self.touch();
        Promise { before: Arc::clone(volume), promised }
    }

    /// Takes a promise back, unless the API has said something newer of the volume.
    pub fn take_back(&mut self, promise: &Promise) {
        let name = &promise.before.metadata.name;
        if self.volumes.get(name).is_some_and(|volume| Arc::ptr_eq(volume, &promise.promised)) {
            self.volumes.insert(name.clone(), Arc::clone(&promise.before));
            self.touch();
        }
    }

    /// A claim.
    pub fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<Claim>> {
        self.claims.get(&(namespace.to_owned(), name.to_owned()))
    }
}
